/* Stages of sums between devices: ranks are numbers of several digits, the lowest of which says
 * where in its node a rank is. Each stage adds up along one digit, from the lowest on; what it
 * leaves to a rank is the sum of a subtree, so that the next one goes on along the same tree. */
#include <assert.h>
#include <stdlib.h>

#include "comm/link_priv.h"

static bool add_stage(fbi_stages *s, const fbi_layout *whole, int radix)
{
    assert(s->n < FBI_LINK_STAGES);
    fbi_stage *t = &s->at[s->n];
    int stride = s->n ? t[-1].stride * t[-1].radix : 1;
    int most = radix * whole->most, rank = s->rank;
    *t = (fbi_stage){.radix = radix, .stride = stride, .digit = rank / stride % radix};
    t->pieces = stride > 1 ? radix : most < whole->n ? most : whole->n;
    t->layout = fbi_layout_part(whole, rank / (stride * radix) * (stride * radix), stride, radix);
    t->present = malloc((size_t)radix * sizeof *t->present);
    s->n++;
    return t->layout && t->present;
}

/* Of the `left` blocks of `stride` ranks at most `most` that make a block again; all if none do. */
static int radix_of(const fbi_layout *whole, int stride, int left, int most)
{
    for (int radix = most; radix > 1 && left > most; radix--)
        if (left % radix == 0 && fbi_layout_has_blocks(whole, stride * radix))
            return radix;
    return left;
}

fbi_stages *fbi_stages_new(const fbi_layout *whole, int rank, int block, int radix)
{
    fbi_stages *s = calloc(1, sizeof *s);
    int left = whole->ranks;
    if (!s)
        return NULL;
    s->ranks = whole->ranks;
    s->rank = rank;
    bool ok = true, all = block == 0 || (block > 1 && !fbi_layout_has_blocks(whole, block));
    int next = all ? left : block > 1 ? block : radix_of(whole, 1, left, radix);
    while (ok && left > 1) {
        ok = add_stage(s, whole, next);
        left /= next;
        next = radix_of(whole, whole->ranks / left, left, radix);
    }
    if (ok)
        return s;
    fbi_stages_free(s);
    return NULL;
}

void fbi_stages_free(fbi_stages *s)
{
    for (int i = 0; s && i < s->n; i++) {
        fbi_layout_free(s->at[i].layout);
        free(s->at[i].present);
    }
    free(s);
}

bool fbi_stages_open(fb_group *g)
{
    int block = fbi_staging_block(g);
    bool ok = true;
    for (int i = 0; i < 2 && ok; i++) {
        const fbi_layout *whole = i ? g->leaves : g->flat;
        g->stages[i] = fbi_stages_new(whole, g->rank, block, FBI_LINK_RADIX);
        ok = g->stages[i] != NULL;
    }
    return ok;
}

bool fbi_stages_serve(const fb_group *g)
{
    const fbi_stages *s = g->stages[1];
    return s && s->at[0].radix < s->ranks;
}

static uint32_t any_present(const uint32_t *present, int n)
{
    uint32_t any = 0;
    for (int i = 0; i < n; i++)
        any |= present[i];
    return any;
}

int fbi_stage_program(const fbi_stages *stages, int s, const uint32_t *present, int16_t *out)
{
    const fbi_stage *t = &stages->at[s];
    const uint32_t *at = present + stages->rank / (t->stride * t->radix) * (t->stride * t->radix);
    for (int e = 0; e < t->radix; e++)
        t->present[e] = t->stride == 1 ? at[e] : any_present(at + e * t->stride, t->stride) != 0;
    return fbi_layout_program(t->layout, t->present, out);
}

int fbi_stage_width(const fbi_stages *stages, int s)
{
    return stages->ranks / (stages->at[s].stride * stages->at[s].radix);
}

int fbi_stage_first(const fbi_stages *stages, int s, int e)
{
    int first = e * fbi_stage_width(stages, s);
    for (int i = 0; i < s; i++)
        first += stages->at[i].digit * fbi_stage_width(stages, i);
    return first;
}

int fbi_stages_owner(const fbi_stages *stages, int position)
{
    int rank = 0;
    for (int s = 0; s < stages->n; s++) {
        int width = fbi_stage_width(stages, s);
        rank += position / width * stages->at[s].stride;
        position %= width;
    }
    return rank;
}
