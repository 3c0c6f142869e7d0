/* A loader's list of transforms as the stage that its threads run. */
#include <stdlib.h>
#include <string.h>

#include "io/loader_priv.h"
#include "io/transform_priv.h"

typedef struct transforms {
    fbi_stage base;
    fbi_pipeline *pipeline;
    fbi_fields fields;
    int64_t n; /* samples that are used */
} transforms;

static fb_status run(const fbi_stage *stage, const fbi_sample *s, char *text, size_t size)
{
    const transforms *t = (const transforms *)stage;
    const fbi_pipeline_job job = {.seed = s->seed,
                                  .epoch = s->epoch,
                                  .index = s->index,
                                  .draw = s->draw,
                                  .n = t->n,
                                  .in = s->in,
                                  .in_rows = s->in_rows,
                                  .out = s->out,
                                  .rows = s->rows,
                                  .scratch = s->scratch,
                                  .text = text,
                                  .size = size};
    return fbi_pipeline_run(t->pipeline, &job);
}

static void free_stage(fbi_stage *stage)
{
    fbi_pipeline_close(((transforms *)stage)->pipeline);
    free(stage);
}

/* A field as the loader knows them: rows of a shape, if it varies. */
static fb_dataset_field loader_field(const fbi_field *field)
{
    fb_dataset_field out = {.name = field->name,
                            .dtype = field->dtype,
                            .shape = field->shape,
                            .scale = field->scale,
                            .shift = field->shift,
                            .varies = field->varies};
    if (field->varies) {
        out.longest = field->shape.d[0];
        out.shape.n--;
        memmove(out.shape.d, out.shape.d + 1, (size_t)out.shape.n * sizeof out.shape.d[0]);
    }
    return out;
}

fbi_stage *fbi_stage_of_transforms(fb_dataset *ds, fb_transforms list, int64_t limit)
{
    transforms *t = calloc(1, sizeof *t);
    if (!t) {
        fbi_fail(ds->ctx, FB_E_NOMEM, "loader: no memory for its transforms");
        return NULL;
    }
    t->pipeline = fbi_pipeline_open(ds, list, &t->fields);
    if (!t->pipeline) {
        free(t);
        return NULL;
    }
    t->n = limit > 0 && limit < ds->size ? limit : ds->size;
    t->base = (fbi_stage){.n_fields = t->fields.n,
                          .scratch_bytes = fbi_pipeline_scratch(t->pipeline),
                          .hash = fbi_pipeline_hash(t->pipeline),
                          .sample = run,
                          .free = free_stage};
    for (int f = 0; f < t->fields.n; f++)
        t->base.fields[f] = loader_field(&t->fields.f[f]);
    return &t->base;
}
