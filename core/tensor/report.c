/* What is said when memory runs out: how much was wanted by whom, who has it, what is free. */
#include <stdio.h>

#include "core/tensor/alloc_priv.h"
#include "core/tensor/device_priv.h"
#include "core/tensor/slab_priv.h"

/* Who keeps a storage alive; of several the first. */
typedef enum holder { OBJECTS, SCOPES, GRAPH, HOLDERS } holder;
static const char *const holder_names[HOLDERS] = {"of modules, gradients and optimizers",
                                                  "of open scopes", "for a backward"};

enum { LARGEST = 3 };

typedef struct held {
    holder now;
    size_t bytes[HOLDERS];
    const fb_tensor *largest[LARGEST]; /* a tensor of each of the largest storages, in order */
} held;

static holder holder_of(const fb_tensor *t)
{
    if ((t->flags & FBI_T_BORROWED) && !(t->flags & FBI_T_TWIN))
        return OBJECTS;
    return t->slot != FBI_NO_SLOT ? SCOPES : GRAPH;
}

static void unmark(fb_tensor *t, void *arg)
{
    (void)arg;
    if (t->storage)
        t->storage->counted = false;
}

static void note_size(held *h, const fb_tensor *t)
{
    for (int i = 0; i < LARGEST && t; i++) {
        const fb_tensor *other = h->largest[i];
        if (other && other->storage->bytes >= t->storage->bytes)
            continue;
        h->largest[i] = t;
        t = other;
    }
}

/* Views of one storage count once. */
static void count(fb_tensor *t, void *arg)
{
    held *h = arg;
    if (!t->storage || t->storage->counted || t->storage->release || holder_of(t) != h->now)
        return;
    t->storage->counted = true;
    h->bytes[h->now] += t->storage->bytes;
    note_size(h, t);
}

/* "1.50 GiB"; small numbers as they are. */
static const char *size_text(size_t bytes, char text[32])
{
    if (bytes >= (size_t)1 << 30)
        snprintf(text, 32, "%.2f GiB", (double)bytes / (1 << 30));
    else if (bytes >= (size_t)1 << 20)
        snprintf(text, 32, "%.1f MiB", (double)bytes / (1 << 20));
    else
        snprintf(text, 32, "%zu bytes", bytes);
    return text;
}

/* " (1.00 GiB of modules, gradients and optimizers, 3.20 GiB for a backward)" */
static void holders_text(const held *h, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < HOLDERS && used < size; i++) {
        char bytes[32];
        if (h->bytes[i])
            used += (size_t)snprintf(text + used, size - used, "%s%s %s", used ? ", " : " (",
                                     size_text(h->bytes[i], bytes), holder_names[i]);
    }
    if (used && used < size)
        snprintf(text + used, size - used, ")");
}

/* ", largest 12.27 GiB F32 [64, 1024, 50257], 1.50 GiB of several". */
static void largest_text(const held *h, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < LARGEST && h->largest[i] && used < size; i++) {
        const fb_tensor *t = h->largest[i];
        char bytes[32], shape[128];
        bool whole = (size_t)t->numel * fb_dtype_size(t->dtype) == t->storage->bytes;
        used += (size_t)snprintf(
            text + used, size - used, "%s %s %s %s", i ? "," : ", largest",
            size_text(t->storage->bytes, bytes), whole ? fb_dtype_name(t->dtype) : "in",
            whole ? fb_shape_text(fb_shape_of(t), shape, sizeof shape) : "several tensors");
    }
}

static void look(fb_context *ctx, held *h)
{
    fbi_slab_each_handle(ctx, unmark, NULL);
    for (h->now = OBJECTS; h->now < HOLDERS; h->now++)
        fbi_slab_each_handle(ctx, count, h);
}

/* ", 1.20 GiB of the card's 79.10 GiB free, 3.40 GiB used by other programs and libraries" */
static void card_text(fb_context *ctx, size_t reserved, char *text, size_t size)
{
    fbi_device_memory m = {0};
    char unused[32], total[32], others[32];
    text[0] = '\0';
    if (!ctx->backend->memory)
        return;
    ctx->backend->memory(ctx, &m);
    size_t used = m.total - m.unused;
    snprintf(text, size, ", %s of the card's %s free, %s used by other programs and libraries",
             size_text(m.unused, unused), size_text(m.total, total),
             size_text(used > reserved ? used - reserved : 0, others));
}

void fbi_out_of_memory(fb_context *ctx, size_t bytes, const fb_memory_stats *s)
{
    char card[160], holders[256], largest[320], doing[96] = "";
    char wanted[32], used[32], peak[32], cached[32];
    held h = {0};
    if (ctx->status != FB_OK)
        return; /* the first error stays */
    if (ctx->doing)
        snprintf(doing, sizeof doing, " by %s%s", ctx->doing,
                 ctx->in_backward ? " in a backward" : "");
    look(ctx, &h);
    holders_text(&h, holders, sizeof holders);
    largest_text(&h, largest, sizeof largest);
    card_text(ctx, s->reserved, card, sizeof card);
    fbi_fail(ctx, FB_E_NOMEM,
             "memory: %s wanted%s on %s: %s in tensors%s%s, peak %s, %s cached%s: use a smaller "
             "micro-batch, more ranks or fb_checkpoint_call",
             size_text(bytes, wanted), doing, ctx->device_name, size_text(s->in_use, used), holders,
             largest, size_text(s->peak, peak),
             size_text(s->reserved > s->in_use ? s->reserved - s->in_use : 0, cached), card);
}
