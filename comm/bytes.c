/* Raw bytes between the ranks of a group: for agreement, the loader, checkpoints and meters. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/work_priv.h"
#include "core/tensor/device_priv.h"

static fb_status gather(fb_group *g, const char *tag, const void *mine, size_t bytes, void *all,
                        bool even_off)
{
    fbi_task task = {.kind = FBI_KIND_BYTES,
                     .count = (int64_t)bytes,
                     .src = {mine},
                     .n_src = 1,
                     .dst = all,
                     .site = g->world->ctx->depth ? g->world->ctx->site : NULL,
                     .tag = tag,
                     .even_off = even_off};
    return fbi_work_run(g, &task);
}

fb_status fbi_group_gather(fb_group *g, const char *tag, const void *mine, size_t bytes, void *all)
{
    return gather(g, tag, mine, bytes, all, false);
}

fb_status fbi_group_all_gather_bytes(fb_group *g, const char *tag, const void *mine, size_t bytes,
                                     void **all, size_t *at)
{
    uint64_t size = bytes, most = 0;
    uint64_t *sizes = malloc((size_t)g->size * sizeof *sizes);
    char *padded = NULL, *wide = NULL;
    *all = NULL;
    if (!sizes)
        return fbi_fail(g->world->ctx, FB_E_NOMEM, "%s: no memory", tag);
    fb_status status = fbi_group_gather(g, tag, &size, sizeof size, sizes);
    at[0] = 0;
    for (int r = 0; r < g->size && !status; r++) {
        at[r + 1] = at[r] + (size_t)sizes[r];
        most = sizes[r] > most ? sizes[r] : most;
    }
    /* Everyone sends as much as the longest; exchanges of this kind are small. */
    if (!status) {
        *all = malloc(at[g->size] + 1);
        padded = calloc((size_t)most + 1, 1);
        wide = malloc((size_t)most * (size_t)g->size + 1);
        if (!*all || !padded || !wide)
            status = fbi_fail(g->world->ctx, FB_E_NOMEM, "%s: no memory for %zu bytes", tag,
                              at[g->size]);
    }
    if (!status) {
        if (bytes)
            memcpy(padded, mine, bytes);
        status = fbi_group_gather(g, tag, padded, (size_t)most, wide);
    }
    for (int r = 0; r < g->size && !status; r++)
        memcpy((char *)*all + at[r], wide + (size_t)r * (size_t)most, (size_t)sizes[r]);
    if (status) {
        free(*all);
        *all = NULL;
    }
    free(sizes);
    free(padded);
    free(wide);
    return status;
}

static fb_status broadcast(fb_group *g, const char *tag, void *data, size_t bytes, int root,
                           bool on_device)
{
    fbi_task task = {.kind = FBI_KIND_BROADCAST,
                     .dtype = FB_U8,
                     .count = (int64_t)bytes,
                     .src = {data},
                     .n_src = 1,
                     .dst = data,
                     .on_device = on_device,
                     .root = root,
                     .tag = tag,
                     .site = g->world->ctx->depth ? g->world->ctx->site : NULL};
    return fbi_work_run(g, &task);
}

fb_status fbi_group_broadcast(fb_group *g, const char *tag, void *data, size_t bytes, int root)
{
    return broadcast(g, tag, data, bytes, root, false);
}

fb_status fbi_group_broadcast_tensor(fb_group *g, const char *tag, fb_tensor *t, int root)
{
    size_t bytes = (size_t)t->numel * fb_dtype_size((fb_dtype)t->dtype);
    fbi_bump(t);
    return broadcast(g, tag, fbi_ptr(t), bytes, root, !t->ctx->backend->host_memory);
}

fb_status fbi_group_broadcast_bytes(fb_group *g, const char *tag, void **data, size_t *bytes,
                                    int root)
{
    uint64_t size = *bytes;
    fb_status status = fbi_group_broadcast(g, tag, &size, sizeof size, root);
    if (status)
        return status;
    bool receives = g->rank != root;
    if (receives) {
        *data = malloc((size_t)size + 1);
        *bytes = (size_t)size;
        if (!*data)
            return fbi_fail(g->world->ctx, FB_E_NOMEM, "%s: no memory for %llu bytes", tag,
                            (unsigned long long)size);
    }
    status = fbi_group_broadcast(g, tag, *data, (size_t)size, root);
    if (status && receives) {
        free(*data);
        *data = NULL;
    }
    return status;
}

fb_status fbi_group_leaf_gather(fb_group *g, const char *tag, const double *values, int n,
                                double *leaves)
{
    int rows = (g->shards + g->size - 1) / g->size;
    size_t each = (size_t)rows * (size_t)n;
    double *mine = calloc(each + 1, sizeof *mine);
    double *all = malloc(each * (size_t)g->size * sizeof *all + 1);
    fb_status status = FB_OK;
    if (!mine || !all)
        status = fbi_fail(g->world->ctx, FB_E_NOMEM, "%s: no memory", tag);
    if (!status) {
        memcpy(mine, values + (int64_t)g->first_leaf * n,
               (size_t)g->n_leaves * (size_t)n * sizeof *mine);
        status = fbi_group_gather(g, tag, mine, each * sizeof *mine, all);
    }
    for (int r = 0; r < g->size && !status; r++) {
        int first = fbi_first_leaf(g->shards, g->size, r);
        int count = fbi_first_leaf(g->shards, g->size, r + 1) - first;
        memcpy(leaves + (int64_t)first * n, all + (size_t)r * each,
               (size_t)count * (size_t)n * sizeof *leaves);
    }
    free(mine);
    free(all);
    return status;
}

fb_status fbi_group_leaf_sum(fb_group *g, const double *values, int n, double *total)
{
    const char *tag = "sum over leaves";
    double *leaves = malloc((size_t)g->shards * (size_t)n * sizeof *leaves + 1);
    if (!leaves)
        return fbi_fail(g->world->ctx, FB_E_NOMEM, "%s: no memory", tag);
    fb_status status = fbi_group_leaf_gather(g, tag, values, n, leaves);
    for (int i = 0; i < n && !status; i++)
        total[i] = fbi_tree_sum(leaves + i, g->shards, n);
    free(leaves);
    return status;
}

typedef struct outcome {
    int32_t status;
    char text[508];
} outcome;

fb_status fbi_group_agree(fb_group *g, const char *tag, fb_status mine)
{
    fb_context *ctx = g->world->ctx;
    outcome own = {.status = (int32_t)mine};
    outcome *all = malloc((size_t)g->size * sizeof *all);
    if (!all)
        return fbi_fail(ctx, FB_E_NOMEM, "%s: no memory", tag);
    if (mine)
        snprintf(own.text, sizeof own.text, "%.507s", fb_error_message(ctx));
    fb_status status = gather(g, tag, &own, sizeof own, all, true);
    for (int r = 0; r < g->size && !status; r++) {
        char who[96];
        if (all[r].status)
            status = fbi_fail(ctx, (fb_status)all[r].status, "%s: %s",
                              fbi_rank_text(g->world, g->ranks[r], who, sizeof who), all[r].text);
    }
    free(all);
    return mine ? mine : status;
}
