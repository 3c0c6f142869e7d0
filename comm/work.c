/* Works: made, pushed on, waited for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/device_priv.h"
#include "comm/link_priv.h"
#include "comm/mail_priv.h"
#include "comm/reduce_priv.h"
#include "comm/shm_priv.h"
#include "core/tensor/device_priv.h"

enum { MESSAGE_WORKS = 32 }; /* of a group in flight at once; tags tell 64 apart */

bool fbi_is_reduction(int kind)
{
    return kind == FBI_KIND_ALL_REDUCE || kind == FBI_KIND_REDUCE_SCATTER ||
           kind == FBI_KIND_GRADIENTS;
}

bool fbi_is_pair(int kind)
{
    return kind == FBI_KIND_SEND || kind == FBI_KIND_RECV;
}

/* Names of sites are looked up once: a collective has no time for it. */
static void name_site(fb_world *world, const void *site, char out[FBI_SITE_BYTES])
{
    if (world->ctx->label[0]) {
        snprintf(out, FBI_SITE_BYTES, "%.55s", world->ctx->label);
        return;
    }
    if (!site)
        return;
    fbi_site_name *name = &world->sites[((uintptr_t)site >> 2) % FBI_SITES];
    if (name->site != site) {
        char text[256];
        name->site = site;
        fbi_site_text(site, text, sizeof text);
        snprintf(name->text, sizeof name->text, "%.55s", text);
    }
    memcpy(out, name->text, FBI_SITE_BYTES);
}

static void sign(fb_work *w)
{
    fb_group *g = w->group;
    const fbi_task *t = &w->task;
    fbi_signature *s = &w->sig;
    *s = (fbi_signature){.seq = g->seq,
                         .count = t->count,
                         .kind = (int32_t)t->kind,
                         .op = (int32_t)t->op,
                         .dtype = (int32_t)t->dtype,
                         .root = t->root,
                         .group = g->id,
                         .shards = t->layout ? t->layout->shards : g->size};
    for (int i = 0; i < t->n_src; i++)
        if (t->src[i])
            s->present |= 1u << i;
    fb_shape shape = t->like ? fb_shape_of(t->like) : (fb_shape){1, {t->count}};
    s->ndim = shape.n;
    memcpy(s->dims, shape.d, sizeof s->dims);
    name_site(g->world, t->site, s->site);
    if (t->tag)
        snprintf(s->tag, sizeof s->tag, "%s", t->tag);
}

/* Room for a reduction's program, kept from work to work. */
static bool reserve(fb_work *w)
{
    const fbi_layout *l = w->task.layout;
    if (w->program_cap < 2 * l->n) {
        free(w->program);
        w->program = malloc((size_t)l->n * 2 * sizeof *w->program);
        w->program_cap = w->program ? 2 * l->n : 0;
    }
    if (w->operands_cap < l->n) {
        free(w->operands);
        w->operands = malloc((size_t)l->n * sizeof *w->operands);
        w->operands_cap = w->operands ? l->n : 0;
    }
    if (w->present_cap < l->ranks) {
        free(w->present);
        w->present = malloc((size_t)l->ranks * sizeof *w->present);
        w->present_cap = w->present ? l->ranks : 0;
    }
    return w->program && w->operands && w->present;
}

bool fbi_work_program(fb_work *w, const fbi_signature *(*of)(fb_work *, int))
{
    for (int r = 0; r < w->group->size; r++)
        w->present[r] = of ? of(w, r)->present : w->sig.present;
    w->program_n = fbi_layout_program(w->task.layout, w->present, w->program);
    return true;
}

void fbi_work_part(const fb_work *w, int r, int64_t *begin, int64_t *end)
{
    int64_t n = w->task.count;
    *begin = r * w->part < n ? r * w->part : n;
    *end = (r + 1) * w->part < n ? (r + 1) * w->part : n;
}

static fb_work *take_record(fb_world *world)
{
    fb_work *w = world->spare;
    if (w)
        world->spare = w->next;
    else
        w = calloc(1, sizeof *w);
    return w;
}

static void free_record(fb_work *w)
{
    fbi_mail_free(w->mail);
    free(w->program);
    free(w->operands);
    free(w->present);
    free(w);
}

/* Everything but the buffers that serve the next work. */
static void give_back(fb_work *w)
{
    fb_world *world = w->group->world;
    for (int i = 0; i < 2; i++)
        if (w->held[i])
            fbi_storage_unref(world->ctx, w->held[i]);
    fb_work clean = {.program = w->program,
                     .program_cap = w->program_cap,
                     .operands = w->operands,
                     .operands_cap = w->operands_cap,
                     .present = w->present,
                     .present_cap = w->present_cap,
                     .mail = w->mail,
                     .next = world->spare};
    *w = clean;
    world->spare = w;
}

static void link_work(fb_world *world, fb_work *w)
{
    fb_work **at = &world->flying;
    while (*at)
        at = &(*at)->next;
    w->next = NULL;
    *at = w;
}

static void unlink_work(fb_world *world, const fb_work *w)
{
    for (fb_work **at = &world->flying; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            return;
        }
}

/* A work of one rank: nothing to wait for. */
static void run_alone(fb_work *w)
{
    const fbi_task *t = &w->task;
    fb_context *ctx = w->group->world->ctx;
    size_t bytes = (size_t)t->count * w->size;
    bool reduces = fbi_is_reduction((int)t->kind);
    w->done = true;
    if (reduces)
        fbi_work_program(w, NULL);
    if (reduces && t->on_device)
        w->failed = fbi_combine(ctx, t->op, t->dtype, t->out_dtype, w->program, w->program_n,
                                t->src, t->dst, t->count) != FB_OK;
    else if (reduces)
        fbi_reduce(t->op, t->dtype, t->out_dtype, w->program, w->program_n, t->src, t->dst,
                   t->count);
    else if (t->dst && t->n_src && t->src[0] != t->dst && bytes && t->on_device)
        w->failed = ctx->backend->copy(ctx, t->dst, t->src[0], bytes) != FB_OK;
    else if (t->dst && t->n_src && t->src[0] != t->dst && bytes)
        memcpy(t->dst, t->src[0], bytes);
}

/* The oldest work of this group that must end before another one may begin. */
static fb_work *in_the_way(const fb_group *g)
{
    uint64_t most = g->shm ? FBI_CHANNELS : MESSAGE_WORKS;
    for (fb_work *w = g->world->flying; w; w = w->next)
        if (w->group == g && !w->done && !fbi_is_pair(w->task.kind) && w->sig.seq + most <= g->seq)
            return w;
    return NULL;
}

static bool work_ready(void *self)
{
    return ((fb_work *)self)->done;
}

int fbi_work_missing(const fb_work *w, int from)
{
    if (!w->begun)
        return -1; /* its data have not come from the device */
    if (w->inner)
        return fbi_work_missing(w->inner, from);
    /* Ranks of a group may be in any order: find the lowest rank of the world that is missing. */
    int best = -1;
    const fb_group *g = w->group;
    bool mail = w->mail_used;
    for (int r = 0; (r = mail ? fbi_mail_missing(w, r) : fbi_shm_missing(w, r)) >= 0; r++)
        if (g->ranks[r] >= from && (best < 0 || g->ranks[r] < best))
            best = g->ranks[r];
    return best;
}

static int work_missing(void *self, int from)
{
    return fbi_work_missing(self, from);
}

static atomic_uint *work_word(void *self, int rank, unsigned *value)
{
    const fb_work *w = self;
    if (w->inner)
        return work_word(w->inner, rank, value);
    if (w->mail_used || !w->begun)
        return NULL;
    for (int r = 0; r < w->group->size; r++)
        if (w->group->ranks[r] == rank)
            return fbi_shm_word(w, r, value);
    return NULL;
}

static fb_status wait_for(fb_work *w)
{
    fbi_waitable what = {work_ready, work_missing, work_word, &w->sig, w, false};
    if (w->done)
        return FB_OK;
    if (w->linked)
        return fbi_link_wait(w->group->world, work_ready, w);
    return fbi_wait(w->group->world, &what);
}

/* The outer work drives it from now on. */
fb_work *fbi_work_start_inner(fb_group *group, const fbi_task *task)
{
    fb_work *w = fbi_work_start(group, task);
    if (w)
        unlink_work(group->world, w);
    return w;
}

/* A work that will not be completed: its buffers may still be written to, so let go for good. */
static void abandon(fb_work *w)
{
    if (w->inner) {
        abandon(w->inner);
        give_back(w->inner);
        w->inner = NULL;
    }
    fbi_device_abandon(w);
    fbi_link_release(w);
    fbi_mail_abandon(w);
    w->mail = NULL;
    w->held[0] = w->held[1] = NULL;
}

bool fbi_works_use_messages(const fb_world *world)
{
    for (const fb_work *w = world->flying; w; w = w->next)
        if (!w->done && (w->mail_used || w->inner))
            return true;
    return false;
}

/* Works that nobody waits for any more, and whose signatures have all come by now. */
static void sweep(fb_world *world)
{
    fb_work *next;
    for (fb_work *w = world->flying; w; w = next) {
        next = w->next;
        if (w->detached && w->done) {
            unlink_work(world, w);
            give_back(w);
        }
    }
}

/* Data of a device set out: by the group's link, or to the host. */
static bool set_out(fb_work *w)
{
    if (fbi_link_serves(w) ? fbi_link_begin(w) : fbi_device_begin(w))
        return true;
    fbi_device_abandon(w);
    fbi_link_release(w);
    fbi_world_tell(w->group->world, &w->sig);
    return false;
}

static fb_work *start(fb_group *group, const fbi_task *task)
{
    fb_world *world = group->world;
    sweep(world);
    fb_work *w = take_record(world);
    if (!w) {
        fbi_fail(world->ctx, FB_E_NOMEM, "%s: no memory for a work",
                 fbi_kind_name((int)task->kind));
        return NULL;
    }
    w->group = group;
    w->task = *task;
    if (!w->task.layout)
        w->task.layout = group->flat;
    if (!w->task.out_dtype)
        w->task.out_dtype = task->dtype;
    w->size = task->kind == FBI_KIND_BYTES ? 1 : fb_dtype_size(task->dtype);
    w->out_size = task->kind == FBI_KIND_BYTES ? 1 : fb_dtype_size(w->task.out_dtype);
    bool pair = fbi_is_pair((int)task->kind);
    sign(w);
    uint32_t *pairs =
        task->kind == FBI_KIND_SEND ? group->sent : group->received; /* counted once it starts */
    if (pair)
        w->sig.seq = pairs[task->root];
    else
        group->seq++;
    fbi_page_enter(world->own, &w->sig);
    if ((world->ctx->off && !task->even_off) || fbi_world_check(world)) {
        fbi_world_tell(world, &w->sig);
        goto give_back;
    }
    if (fbi_is_reduction((int)task->kind) && !reserve(w)) {
        fbi_fail(world->ctx, FB_E_NOMEM, "%s: no memory", fbi_kind_name((int)task->kind));
        fbi_world_tell(world, &w->sig);
        goto give_back;
    }
    if (group->size == 1) {
        run_alone(w);
        link_work(world, w);
        return w;
    }
    for (fb_work *old; !pair && (old = in_the_way(group));)
        if (wait_for(old))
            goto give_back;
    if (task->on_device && !set_out(w))
        goto give_back;
    if (pair)
        pairs[task->root]++;
    link_work(world, w);
    fbi_work_advance(w);
    return w;

give_back:
    give_back(w);
    return NULL;
}

fb_work *fbi_work_start(fb_group *group, const fbi_task *task)
{
    fb_context *ctx = group->world->ctx;
    const char *before = fbi_doing_begin(ctx, FBI_SPAN_COLLECTIVE, fbi_kind_name((int)task->kind));
    fb_work *w = start(group, task);
    fbi_doing_end(ctx, before);
    return w;
}

static void begin(fb_work *w)
{
    if (w->event && !fbi_device_arrived(w))
        return;
    w->begun = true;
    if (w->group->shm && !fbi_is_pair((int)w->task.kind))
        fbi_shm_begin(w);
    else
        fbi_mail_begin(w);
    if (w->linked)
        fbi_link_advance(w);
}

void fbi_work_advance(fb_work *w)
{
    if (w->done)
        return;
    if (!w->begun)
        begin(w);
    else if (w->linked)
        fbi_link_advance(w);
    else if (w->mail_used)
        fbi_mail_advance(w);
    else
        fbi_shm_advance(w);
    if (w->done && w->pinned)
        fbi_device_end(w);
}

static fb_status wait_until_done(fb_work *w)
{
    fb_context *ctx = w->group->world->ctx;
    const char *before =
        fbi_doing_begin(ctx, FBI_SPAN_COLLECTIVE, fbi_kind_name((int)w->task.kind));
    fb_status status = w->linked ? fbi_link_finish(w) : wait_for(w);
    fbi_doing_end(ctx, before);
    return status;
}

fb_status fbi_work_finish(fb_work *w)
{
    if (!w)
        return FB_E_ARG;
    fb_world *world = w->group->world;
    fb_status status = wait_until_done(w);
    if (!status && w->failed)
        status = FB_E_COMM;
    if (!status && !w->done) { /* signatures are still on their way */
        w->detached = true;
        return FB_OK;
    }
    unlink_work(world, w);
    if (!w->done)
        abandon(w);
    give_back(w);
    return status;
}

fb_status fbi_work_run(fb_group *group, const fbi_task *task)
{
    fb_work *w = fbi_work_start(group, task);
    return w ? fbi_work_finish(w) : group->world->ctx->status;
}

void fbi_works_free(fb_world *world)
{
    fb_work *next;
    for (fb_work *w = world->flying; w; w = next) {
        next = w->next;
        abandon(w);
        free_record(w);
    }
    for (fb_work *w = world->spare; w; w = next) {
        next = w->next;
        free_record(w);
    }
    world->flying = world->spare = NULL;
    free(world->transfers);
    fbi_device_free(world);
}
