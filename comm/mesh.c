#include "comm/mesh_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/group_priv.h"

struct fb_mesh {
    fb_world *world;
    int n, sizes[FB_MESH_AXES], coords[FB_MESH_AXES];
    char names[FB_MESH_AXES][FB_AXIS_NAME];
    fb_group *groups[FB_MESH_AXES];
    int *ranks; /* [place], the last axis running fastest */
};

enum { AXES_TEXT = FB_MESH_AXES * (FB_AXIS_NAME + 16) };

/* "data 4 x tensor 2" */
static const char *axes_text(const fb_mesh *m, char buf[AXES_TEXT])
{
    size_t at = 0;
    for (int i = 0; i < m->n; i++)
        at += (size_t)snprintf(buf + at, AXES_TEXT - at, m->sizes[i] ? "%s%s %d" : "%s%s",
                               i ? " x " : "", m->names[i], m->sizes[i]);
    return buf;
}

/* --- opening --- */

static fb_status take_axis(fb_mesh *m, const fb_axis *axis, int i)
{
    fb_context *ctx = m->world->ctx;
    if (!axis->name || !*axis->name || strlen(axis->name) >= FB_AXIS_NAME)
        return fbi_fail(ctx, FB_E_ARG,
                        "mesh_open: axis %d has %s name: give it one of 1 to %d bytes", i,
                        axis->name && *axis->name ? "too long a" : "no", FB_AXIS_NAME - 1);
    if (axis->size < 0)
        return fbi_fail(
            ctx, FB_E_ARG,
            "mesh_open: axis %s has size %d: give the number of its ranks, or 0 for what "
            "the other axes leave",
            axis->name, axis->size);
    for (int k = 0; k < i; k++) {
        if (strcmp(m->names[k], axis->name) == 0)
            return fbi_fail(ctx, FB_E_ARG, "mesh_open: two axes have the name %s", axis->name);
        if (!axis->size && !m->sizes[k])
            return fbi_fail(ctx, FB_E_ARG,
                            "mesh_open: axes %s and %s have size 0: one of them at most can take "
                            "what the others leave",
                            m->names[k], axis->name);
    }
    memcpy(m->names[i], axis->name, strlen(axis->name));
    m->sizes[i] = axis->size;
    m->n = i + 1;
    return FB_OK;
}

static fb_status take_axes(fb_mesh *m, const fb_axis *axes, int n)
{
    fb_world *world = m->world;
    char text[AXES_TEXT];
    if (!axes || n < 1 || n > FB_MESH_AXES)
        return fbi_fail(world->ctx, FB_E_ARG, "mesh_open: %d axes: a mesh has 1 to %d",
                        axes ? n : 0, FB_MESH_AXES);
    for (int i = 0; i < n; i++)
        if (take_axis(m, &axes[i], i))
            return FB_E_ARG;
    axes_text(m, text);
    if (fbi_mesh_fit(m->sizes, n, world->size))
        return FB_OK;
    return fbi_fail(
        world->ctx, FB_E_ARG,
        "mesh_open: %s does not divide the world's %d ranks: sizes must multiply to %d, "
        "or, where one axis takes what is left, to a divisor of it",
        text, world->size, world->size);
}

/* All ranks must have given the same axes, or groups would not match. */
static fb_status agree_on_axes(const fb_mesh *m)
{
    fb_world *world = m->world;
    char mine[AXES_TEXT] = "", *all = malloc((size_t)world->size * AXES_TEXT), who[96];
    if (!all)
        return fbi_fail(world->ctx, FB_E_NOMEM, "mesh_open: no memory for %d ranks", world->size);
    axes_text(m, mine);
    fb_status st = fbi_group_gather(world->all, "mesh", mine, sizeof mine, all);
    for (int r = world->size - 1; r > 0 && !st; r--)
        if (strcmp(all + (size_t)r * AXES_TEXT, all) != 0)
            st = fbi_fail(world->ctx, FB_E_COMM, "mesh_open: %s wants %s, rank 0 wants %s",
                          fbi_rank_text(world, r, who, sizeof who), all + (size_t)r * AXES_TEXT,
                          all);
    free(all);
    return st;
}

static fb_status place(fb_mesh *m)
{
    fb_world *world = m->world;
    int *node = malloc((size_t)world->size * sizeof *node), at = 0;
    m->ranks = malloc((size_t)world->size * sizeof *m->ranks);
    for (int r = 0; node && r < world->size; r++)
        node[r] = world->peers[r].node;
    bool ok = node && m->ranks && fbi_mesh_place(node, world->size, m->sizes, m->n, m->ranks);
    free(node);
    if (!ok)
        return fbi_fail(world->ctx, FB_E_NOMEM, "mesh_open: no memory for %d ranks", world->size);
    while (m->ranks[at] != world->rank)
        at++;
    for (int i = m->n - 1; i >= 0; i--) {
        m->coords[i] = at % m->sizes[i];
        at /= m->sizes[i];
    }
    return FB_OK;
}

/* Ranks that have all coordinates but one in common; the number of the first of them's place. */
static int color_of(const fb_mesh *m, int axis)
{
    int at = 0;
    for (int i = 0; i < m->n; i++)
        at = at * m->sizes[i] + (i == axis ? 0 : m->coords[i]);
    return at;
}

static fb_status open_groups(fb_mesh *m)
{
    for (int i = 0; i < m->n; i++) {
        m->groups[i] =
            fbi_group_split(m->world->all, color_of(m, i), m->coords[i], m->world->shards);
        if (!m->groups[i])
            return fb_status_of(m->world->ctx);
    }
    return FB_OK;
}

static void free_mesh(void *object)
{
    fb_mesh *m = object;
    free(m->ranks);
    free(m);
}

FB_API FB_USE_RESULT fb_mesh *fb_mesh_open(fb_world *world, const fb_axis *axes, int n)
{
    if (!world)
        return NULL;
    FBI_ENTRY(world->ctx);
    fbi_enter(world->ctx);
    fb_mesh *m = calloc(1, sizeof *m);
    if (!m) {
        fbi_fail(world->ctx, FB_E_NOMEM, "mesh_open: no memory");
        return NULL;
    }
    m->world = world;
    if (!take_axes(m, axes, n) && !agree_on_axes(m) && !place(m) && !open_groups(m) &&
        !fbi_context_adopt(world->ctx, m, free_mesh))
        return m;
    free_mesh(m);
    return NULL;
}

FB_API fb_status fb_mesh_close(fb_mesh *mesh)
{
    if (!mesh)
        return FB_E_ARG;
    fbi_context_forget(mesh->world->ctx, mesh);
    free_mesh(mesh);
    return FB_OK;
}

/* --- what it answers --- */

/* The number of an axis; -1: there is none, which is an error. */
static int axis_of(const fb_mesh *m, const char *name, const char *caller)
{
    char text[AXES_TEXT];
    for (int i = 0; name && i < m->n; i++)
        if (strcmp(m->names[i], name) == 0)
            return i;
    fbi_fail(m->world->ctx, FB_E_ARG, "%s: no axis %s: the mesh is %s", caller,
             name ? name : "without a name", axes_text(m, text));
    return -1;
}

FB_API fb_group *fb_mesh_group(fb_mesh *mesh, const char *axis)
{
    if (!mesh)
        return NULL;
    FBI_ENTRY(mesh->world->ctx);
    int i = axis_of(mesh, axis, "mesh_group");
    return i < 0 ? NULL : mesh->groups[i];
}

FB_API int fb_mesh_coord(const fb_mesh *mesh, const char *axis)
{
    if (!mesh)
        return 0;
    FBI_ENTRY(mesh->world->ctx);
    int i = axis_of(mesh, axis, "mesh_coord");
    return i < 0 ? 0 : mesh->coords[i];
}

FB_API int fb_mesh_size(const fb_mesh *mesh, const char *axis)
{
    if (!mesh)
        return 1;
    FBI_ENTRY(mesh->world->ctx);
    int i = axis_of(mesh, axis, "mesh_size");
    return i < 0 ? 1 : mesh->sizes[i];
}

FB_API int fb_mesh_rank(const fb_mesh *mesh, const int *coords, int n)
{
    if (!mesh)
        return -1;
    fb_context *ctx = mesh->world->ctx;
    FBI_ENTRY(ctx);
    int at = 0;
    if (!coords || n != mesh->n) {
        fbi_fail(ctx, FB_E_ARG, "mesh_rank: %d coordinates: the mesh has %d axes", coords ? n : 0,
                 mesh->n);
        return -1;
    }
    for (int i = 0; i < n; i++) {
        if (coords[i] < 0 || coords[i] >= mesh->sizes[i]) {
            fbi_fail(ctx, FB_E_ARG, "mesh_rank: %s is %d: it lies between 0 and %d", mesh->names[i],
                     coords[i], mesh->sizes[i] - 1);
            return -1;
        }
        at = at * mesh->sizes[i] + coords[i];
    }
    return mesh->ranks[at];
}

/* --- the map --- */

typedef struct text {
    char *buf;
    size_t size, at; /* at: bytes needed so far */
} text;

static void say(text *t, const char *fmt, ...) FB_PRINTF(2, 3);
static void say(text *t, const char *fmt, ...)
{
    va_list args;
    bool room = t->at < t->size;
    va_start(args, fmt);
    int n = vsnprintf(room ? t->buf + t->at : NULL, room ? t->size - t->at : 0, fmt, args);
    va_end(args);
    t->at += n > 0 ? (size_t)n : 0;
}

/* Whether some group of the axis lies on several nodes. */
static bool crosses(const fb_mesh *m, int axis)
{
    int stride = 1;
    for (int i = axis + 1; i < m->n; i++)
        stride *= m->sizes[i];
    for (int p = 0; p < m->world->size; p++) {
        int first = p - p / stride % m->sizes[axis] * stride;
        if (m->world->peers[m->ranks[p]].node != m->world->peers[m->ranks[first]].node)
            return true;
    }
    return false;
}

static void say_node(text *t, const fb_world *world, int rank)
{
    say(t, "node %d (%s)", world->peers[rank].node, world->peers[rank].host);
}

/* Places [at, at + n): a group of the last axis. */
static void say_line(text *t, const fb_mesh *m, int at, int n)
{
    const fb_world *world = m->world;
    int stride = world->size;
    for (int i = 0; i < m->n - 1; i++) {
        stride /= m->sizes[i];
        say(t, "%s %d, ", m->names[i], at / stride % m->sizes[i]);
    }
    say(t, "%s 0-%d: ranks", m->names[m->n - 1], n - 1);
    for (int i = 0; i < n; i++) {
        int rank = m->ranks[at + i];
        bool last =
            i == n - 1 || world->peers[m->ranks[at + i + 1]].node != world->peers[rank].node;
        say(t, " %d", rank);
        if (last) {
            say(t, " on ");
            say_node(t, world, rank);
        }
        if (last && i < n - 1)
            say(t, ",");
    }
    say(t, "\n");
}

FB_API int64_t fb_mesh_to_string(const fb_mesh *mesh, char *buf, size_t size)
{
    if (!mesh)
        return 0;
    const fb_world *world = mesh->world;
    int last = mesh->sizes[mesh->n - 1];
    char axes[AXES_TEXT];
    text t = {buf, buf ? size : 0, 0};
    if (t.size)
        buf[0] = '\0';
    say(&t, "mesh %s: %d rank%s on %d node%s; ", axes_text(mesh, axes), world->size,
        world->size == 1 ? "" : "s", world->nodes, world->nodes == 1 ? "" : "s");
    const char *comma = "";
    for (int i = 0; i < mesh->n; i++, comma = ", ")
        say(&t, "%s%s %s", comma, mesh->names[i],
            crosses(mesh, i) ? "crosses nodes" : "within a node");
    say(&t, "\n");
    for (int at = 0; at < world->size; at += last)
        say_line(&t, mesh, at, last);
    return (int64_t)t.at;
}

FB_API fb_status fb_mesh_print(const fb_mesh *mesh)
{
    if (!mesh)
        return FB_E_ARG;
    if (mesh->world->rank)
        return FB_OK;
    size_t size = (size_t)fb_mesh_to_string(mesh, NULL, 0) + 1;
    char *map = malloc(size);
    if (!map)
        return fbi_fail(mesh->world->ctx, FB_E_NOMEM, "mesh_print: no memory for %zu bytes", size);
    fb_mesh_to_string(mesh, map, size);
    fputs(map, stdout);
    free(map);
    return FB_OK;
}
