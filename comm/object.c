#include <flambeau/comm/object.h>

#include <stdlib.h>
#include <string.h>

#include "comm/work_priv.h"

/* Up to here everyone sends as much as the longest, in one exchange. */
enum { TOGETHER = 64 * 1024 };

static bool make_room(fb_object *o, size_t bytes)
{
    *o = (fb_object){malloc(bytes + 1), bytes};
    if (!o->data)
        return false;
    ((char *)o->data)[bytes] = '\0';
    return true;
}

FB_API void fb_objects_free(fb_object *objects, int n)
{
    for (int i = 0; objects && i < n; i++) {
        free(objects[i].data);
        objects[i] = (fb_object){NULL, 0};
    }
}

/* Everyone's lengths. */
static fb_status gather_sizes(fb_group *g, size_t bytes, uint64_t **sizes)
{
    uint64_t mine = bytes;
    *sizes = malloc((size_t)g->size * sizeof **sizes);
    if (!*sizes)
        return fbi_fail(g->world->ctx, FB_E_NOMEM, "object_gather: no memory for %d ranks",
                        g->size);
    return fbi_group_gather(g, "object_gather", &mine, sizeof mine, *sizes);
}

/* Room for all of them, on every rank that needs it, or an error on all. */
static fb_status reserve(fb_group *g, const uint64_t *sizes, bool receives, fb_object *all)
{
    fb_status st = FB_OK;
    for (int r = 0; receives && r < g->size && !st; r++)
        if (!make_room(&all[r], (size_t)sizes[r]))
            st = fbi_fail(g->world->ctx, FB_E_NOMEM,
                          "object_gather: no memory for %llu bytes of rank %d",
                          (unsigned long long)sizes[r], r);
    return fbi_group_agree(g, "object_gather", st);
}

/* All at once, each padded to the longest. */
static fb_status exchange(fb_group *g, const void *data, size_t bytes, size_t most, bool receives,
                          fb_object *all)
{
    char *mine = calloc(most + 1, 1), *padded = malloc(most * (size_t)g->size + 1);
    fb_status st = mine && padded ? FB_OK
                                  : fbi_fail(g->world->ctx, FB_E_NOMEM,
                                             "object_gather: no memory for %zu bytes", most);
    if (!st && bytes)
        memcpy(mine, data, bytes);
    if (!st)
        st = fbi_group_gather(g, "object_gather", mine, most, padded);
    for (int r = 0; receives && r < g->size && !st; r++)
        memcpy(all[r].data, padded + (size_t)r * most, all[r].bytes);
    free(mine);
    free(padded);
    return st;
}

static fb_work *start_pair(fb_group *g, fbi_kind kind, void *data, size_t bytes, int other)
{
    fbi_task task = {.kind = kind,
                     .dtype = FB_U8,
                     .count = (int64_t)bytes,
                     .src = {data},
                     .n_src = 1,
                     .dst = data,
                     .root = other,
                     .site = g->world->ctx->site,
                     .tag = "object_gather"};
    return fbi_work_start(g, &task);
}

/* One after the other, as long as they are; to the root, or from each to all. */
static fb_status pass_on(fb_group *g, const void *data, size_t bytes, const uint64_t *sizes,
                         int root, fb_object *all)
{
    fb_status st = FB_OK;
    bool receives = root < 0 || root == g->rank;
    if (receives && bytes)
        memcpy(all[g->rank].data, data, bytes);
    for (int r = 0; r < g->size && !st; r++) {
        if (root < 0)
            st = fbi_group_broadcast(g, "object_gather", all[r].data, all[r].bytes, r);
        else if (r == root || !sizes[r] || (g->rank != r && !receives))
            continue;
        else
            st = fbi_work_finish(
                receives ? start_pair(g, FBI_KIND_RECV, all[r].data, all[r].bytes, r)
                         : start_pair(g, FBI_KIND_SEND, (void *)(uintptr_t)data, bytes, root));
    }
    return st;
}

static fb_status gather(fb_group *g, const void *data, size_t bytes, int root, fb_object *all)
{
    uint64_t *sizes = NULL, most = 0;
    bool receives = root < 0 || root == g->rank;
    fb_status st = gather_sizes(g, bytes, &sizes);
    for (int r = 0; r < g->size && !st; r++)
        most = sizes[r] > most ? sizes[r] : most;
    if (!st)
        st = reserve(g, sizes, receives, all);
    if (!st && most <= TOGETHER)
        st = exchange(g, data, bytes, (size_t)most, receives, all);
    else if (!st)
        st = pass_on(g, data, bytes, sizes, root, all);
    if (st && receives)
        fb_objects_free(all, g->size);
    free(sizes);
    return st;
}

FB_API fb_status fb_group_object_gather(fb_group *group, const void *data, size_t bytes, int root,
                                        fb_object *all)
{
    if (!group)
        return FB_E_ARG;
    fb_context *ctx = group->world->ctx;
    FBI_ENTRY(ctx);
    fbi_enter(ctx);
    if (root < -1 || root >= group->size)
        return fbi_fail(ctx, FB_E_ARG,
                        "object_gather: root is %d, the group has ranks 0 to %d, and -1 is each",
                        root, group->size - 1);
    if (bytes && !data)
        return fbi_fail(ctx, FB_E_ARG, "object_gather: %zu bytes at NULL", bytes);
    bool receives = root < 0 || root == group->rank;
    if (receives && !all)
        return fbi_fail(ctx, FB_E_ARG, "object_gather: all is NULL on a rank that gets the bytes");
    for (int r = 0; receives && r < group->size; r++)
        all[r] = (fb_object){NULL, 0};
    return gather(group, data, bytes, root, all);
}

FB_API fb_status fb_group_object_broadcast(fb_group *group, fb_object *object, int root)
{
    if (!group)
        return FB_E_ARG;
    fb_context *ctx = group->world->ctx;
    FBI_ENTRY(ctx);
    fbi_enter(ctx);
    if (root < 0 || root >= group->size)
        return fbi_fail(ctx, FB_E_ARG, "object_broadcast: root is %d, the group has ranks 0 to %d",
                        root, group->size - 1);
    if (!object || (group->rank == root && object->bytes && !object->data))
        return fbi_fail(ctx, FB_E_ARG, "object_broadcast: %s is NULL",
                        object ? "the root's data" : "object");
    bool receives = group->rank != root;
    uint64_t size = object->bytes;
    fb_status st = fbi_group_broadcast(group, "object_broadcast", &size, sizeof size, root);
    if (receives)
        *object = (fb_object){NULL, 0};
    if (st)
        return st;
    if (receives && !make_room(object, (size_t)size))
        st = fbi_fail(ctx, FB_E_NOMEM, "object_broadcast: no memory for %llu bytes",
                      (unsigned long long)size);
    st = fbi_group_agree(group, "object_broadcast", st);
    if (!st)
        st = fbi_group_broadcast(group, "object_broadcast", object->data, (size_t)size, root);
    if (st && receives)
        fb_objects_free(object, 1);
    return st;
}
