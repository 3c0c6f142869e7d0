#include "io/buckets_priv.h"

#include <stdlib.h>

#include "core/base/philox_priv.h"
#include "io/order_priv.h"

/* A sample of a window. */
typedef struct member {
    int64_t index;
    int32_t length;
    int32_t place; /* as drawn: equal lengths stay in that order */
} member;

struct fbi_buckets {
    int64_t batch, room; /* samples of a batch, of a whole window */
    bool shuffle;        /* batches of a window */
    uint64_t seed;
    int32_t *lengths; /* of all samples of the dataset */

    int64_t begin, n; /* window: first position, samples; n = 0: none */
    int64_t *drawn;   /* indices as drawn; then as they are dealt out */
    member *members;
};

fb_status fbi_buckets_check(const fb_dataset *ds, fb_loader_options *o)
{
    enum { MOST = 1 << 24 };
    if (o->pad_multiple && !o->pad_to_batch && !o->bucket_window)
        return fbi_fail(ds->ctx, FB_E_ARG,
                        "loader: pad_multiple %lld without pad_to_batch: samples are as long as "
                        "the dataset's longest",
                        (long long)o->pad_multiple);
    if (!o->bucket_window && !o->bucket_by)
        return FB_OK;
    if (!o->bucket_window)
        return fbi_fail(ds->ctx, FB_E_ARG,
                        "loader: bucket_by %s without bucket_window: say over how many batches "
                        "samples of like length are brought together",
                        o->bucket_by);
    for (int f = 0; f < ds->n_fields && !o->bucket_by; f++)
        if (ds->fields[f].varies)
            o->bucket_by = ds->names[f];
    int f = fbi_dataset_field(ds, o->bucket_by);
    if (f < 0 || !ds->fields[f].varies)
        return fbi_fail(ds->ctx, FB_E_ARG,
                        "loader: bucket_window: dataset %s has no field%s%s whose samples are of "
                        "different length",
                        ds->path, o->bucket_by ? " " : "", o->bucket_by ? o->bucket_by : "");
    if (o->bucket_window > MOST / o->global_batch)
        return fbi_fail(ds->ctx, FB_E_ARG,
                        "loader: bucket_window: %lld batches of %lld are more than %d samples",
                        (long long)o->bucket_window, (long long)o->global_batch, MOST);
    return FB_OK;
}

fbi_buckets *fbi_buckets_open(fb_group *group, fb_dataset *ds, const fb_loader_options *o)
{
    int32_t *lengths = fbi_dataset_lengths(ds, group, fbi_dataset_field(ds, o->bucket_by));
    if (!lengths)
        return NULL;
    fbi_buckets *b = calloc(1, sizeof *b);
    if (b) {
        b->batch = o->global_batch;
        b->room = o->global_batch * o->bucket_window;
        b->shuffle = o->shuffle || o->weights || o->weigh_by;
        b->seed = fbi_mix64(o->seed ^ UINT64_C(0x6275636b657473));
        b->lengths = lengths;
        b->drawn = malloc((size_t)b->room * sizeof *b->drawn);
        b->members = malloc((size_t)b->room * sizeof *b->members);
    } else {
        free(lengths);
    }
    if (b && b->drawn && b->members)
        return b;
    fbi_fail(ds->ctx, FB_E_NOMEM, "loader: no memory for windows of %lld samples",
             (long long)(o->global_batch * o->bucket_window));
    fbi_buckets_close(b);
    return NULL;
}

void fbi_buckets_close(fbi_buckets *b)
{
    if (!b)
        return;
    free(b->lengths);
    free(b->drawn);
    free(b->members);
    free(b);
}

void fbi_buckets_begin(fbi_buckets *b)
{
    b->n = 0;
}

int64_t *fbi_buckets_window(fbi_buckets *b, int64_t position, int64_t n, int64_t *begin,
                            int64_t *end)
{
    *begin = position / b->room * b->room;
    *end = n - *begin < b->room ? n : *begin + b->room;
    if (b->n && *begin == b->begin)
        return NULL;
    b->begin = *begin;
    b->n = *end - *begin;
    return b->drawn;
}

static int by_length(const void *x, const void *y)
{
    const member *a = x, *b = y;
    if (a->length != b->length)
        return a->length < b->length ? -1 : 1;
    return a->place < b->place ? -1 : a->place > b->place;
}

/* An uneven rest stays the last batch, of any length: with drop_last others are left out each time.
 */
void fbi_buckets_sort(fbi_buckets *b, int64_t epoch)
{
    for (int64_t i = 0; i < b->n; i++)
        b->members[i] = (member){b->drawn[i], b->lengths[b->drawn[i]], (int32_t)i};
    qsort(b->members, (size_t)b->n, sizeof *b->members, by_length);
    int64_t full = b->n / b->batch, rest = b->n % b->batch, odd = full;
    fbi_order order = {0};
    if (b->shuffle && full) {
        order = fbi_order_make(full, b->seed, epoch);
        order = fbi_order_part(&order, full, b->begin / b->room);
        odd = fbi_order_at(&order, 0); /* so many batches are shorter than the rest */
    }
    int64_t *out = b->drawn;
    for (int64_t k = 0; k < full; k++) {
        int64_t from = b->shuffle ? fbi_order_at(&order, k) : k;
        const member *first = b->members + from * b->batch + (from >= odd ? rest : 0);
        for (int64_t i = 0; i < b->batch; i++)
            *out++ = first[i].index;
    }
    for (int64_t i = 0; i < rest; i++)
        *out++ = b->members[odd * b->batch + i].index;
}

int64_t fbi_buckets_at(const fbi_buckets *b, int64_t position)
{
    return b->drawn[position - b->begin];
}
