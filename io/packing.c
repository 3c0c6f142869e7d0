/* Documents one behind the other as a stream of tokens, in windows of one length. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "comm/group_priv.h"
#include "io/dataset_priv.h"

enum { INPUT, TARGET, SEGMENT, POSITION, FIELDS, IGNORED = -100 };

typedef struct packing {
    fb_dataset *ds;
    int field;
    int64_t documents, length;
    bool shuffle, ends, separate, whole;
    int64_t end_token;
    uint64_t seed;
    fbi_order order; /* of documents, if shuffled */
    int64_t *starts; /* of the documents in the stream, and where it ends */
    int64_t windows;
    int64_t *begins; /* of windows in the stream, and where it ends; NULL: each `length` */
} packing;

static int64_t document_at(const packing *p, int64_t slot)
{
    return p->shuffle ? fbi_order_at(&p->order, slot) : slot;
}

/* The last document that begins at or before a token of the stream. */
static int64_t slot_of(const packing *p, int64_t token)
{
    int64_t low = 0, high = p->documents; /* starts of low <= token < starts of high */
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (p->starts[middle] <= token)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* --- a window --- */

/* What is made of a window: token, the document's slot, place in the stream. */
typedef struct stream {
    const packing *p;
    int64_t *tokens; /* of the part that was asked for */
    void *stored;    /* room for as many, of the stored dtype */
    char *text;
    size_t size;
} stream;

/* Tokens first .. first + n of a document, whose end may be the one that was added. */
static fb_status read_document(const stream *s, int64_t slot, int64_t first, int64_t n,
                               int64_t *out)
{
    const packing *p = s->p;
    int64_t has = p->starts[slot + 1] - p->starts[slot] - p->ends, index = document_at(p, slot);
    int64_t from_ds = first + n > has ? has - first : n;
    fb_status st = from_ds > 0 ? fbi_dataset_fetch_rows(p->ds, p->field, index, first, from_ds,
                                                        s->stored, s->text, s->size)
                               : FB_OK;
    if (st)
        return st;
    fbi_dataset_integers(p->ds->fields[p->field].dtype, s->stored, from_ds, out);
    if (from_ds < n)
        out[n - 1] = p->end_token;
    for (int64_t i = 0; i < from_ds; i++)
        if (out[i] < 0 || out[i] > INT32_MAX) {
            snprintf(s->text, s->size,
                     "dataset %s: sample %lld: token %lld is %lld: tokens are 0 to 2^31 - 1",
                     p->ds->path, (long long)index, (long long)(first + i), (long long)out[i]);
            return FB_E_IO;
        }
    return FB_OK;
}

/* Tokens of the stream from `at` to `end`. */
static fb_status read_stream(const stream *s, int64_t at, int64_t end)
{
    const packing *p = s->p;
    int64_t *out = s->tokens;
    fb_status st = FB_OK;
    for (int64_t slot = slot_of(p, at); !st && at < end; slot++) {
        int64_t stop = p->starts[slot + 1] < end ? p->starts[slot + 1] : end;
        if (stop > at)
            st = read_document(s, slot, at - p->starts[slot], stop - at, out);
        out += stop - at;
        at = stop;
    }
    return st;
}

/* Without borders: every token has one that follows. */
static void put_stream(const packing *p, const int64_t *tokens, int32_t *const *out)
{
    for (int64_t i = 0; i < p->length; i++) {
        out[INPUT][i] = (int32_t)tokens[i];
        out[TARGET][i] = (int32_t)tokens[i + 1];
    }
}

/* Tokens of the stream from `at` to `end`, with their documents; then padding. */
static void put_documents(const packing *p, const int64_t *tokens, int64_t at, int64_t end,
                          int32_t *const *out)
{
    int64_t slot = slot_of(p, at), begin = at;
    int32_t segment = 0;
    for (int64_t i = 0; i < p->length; i++, at++) {
        bool padding = at >= end;
        if (!padding && at >= p->starts[slot + 1]) {
            slot = slot_of(p, at);
            begin = at;
            segment++;
        }
        bool last = padding || at + 1 == p->starts[slot + 1];
        out[INPUT][i] = padding ? 0 : (int32_t)tokens[i];
        out[TARGET][i] = last ? IGNORED : (int32_t)tokens[i + 1];
        out[SEGMENT][i] = padding ? -1 : segment;
        out[POSITION][i] = padding ? 0 : (int32_t)(at - begin);
    }
}

static fb_status pack_fetch(fb_dataset *ds, int64_t index, void *const *out, int64_t *rows,
                            char *text, size_t size)
{
    (void)rows; /* no field varies */
    const packing *p = ds->parts;
    int64_t begin = p->begins ? p->begins[index] : index * p->length;
    int64_t total = p->starts[p->documents];
    int64_t end = p->begins ? p->begins[index + 1] : begin + p->length;
    end = end < total ? end : total;
    int64_t more = end < total ? end + 1 : end; /* the last target */
    int64_t *tokens = malloc((size_t)(p->length + 1) * 2 * sizeof *tokens);
    snprintf(text, size, "dataset %s: no memory for a window", ds->path);
    if (!tokens)
        return FB_E_NOMEM;
    const stream s = {p, tokens, tokens + p->length + 1, text, size};
    fb_status st = read_stream(&s, begin, more);
    int32_t *fields[FIELDS];
    for (int f = 0; f < ds->n_fields; f++)
        fields[f] = out[f];
    if (!st && p->separate)
        put_documents(p, tokens, begin, end, fields);
    else if (!st)
        put_stream(p, tokens, fields);
    free(tokens);
    return st;
}

static void pack_free(void *parts)
{
    packing *p = parts;
    free(p->starts);
    free(p->begins);
    free(p);
}

static fb_dataset *pack_part(const void *parts, int i)
{
    return i ? NULL : ((const packing *)parts)->ds;
}

static const fbi_dataset_view pack_view = {
    .fetch = pack_fetch, .free = pack_free, .part = pack_part};

double fb_dataset_padding(const fb_dataset *ds)
{
    if (!ds || ds->view != &pack_view)
        return 0;
    const packing *p = ds->parts;
    double room = (double)p->windows * (double)p->length;
    return p->separate ? 1 - (double)p->starts[p->documents] / room : 0;
}

/* --- making one --- */

static fb_status check_source(fb_dataset *ds, const char *name, int64_t length,
                              const fb_pack_options *o)
{
    if (ds->written)
        return fbi_fail(ds->ctx, FB_E_STATE,
                        "dataset (pack): %s was opened for writing: finish it, then open it",
                        ds->path);
    int f = fbi_dataset_field(ds, name);
    if (f < 0)
        return fbi_fail(ds->ctx, FB_E_NOT_FOUND, "dataset (pack): %s has no field %s", ds->path,
                        name);
    const fb_dataset_field *field = &ds->fields[f];
    if (!field->varies || fb_shape_numel(field->shape) != 1)
        return fbi_fail(ds->ctx, FB_E_ARG,
                        "dataset (pack): field %s of %s holds no documents of any length: one "
                        "number a row is needed, and a field that varies",
                        name, ds->path);
    if (field->dtype < FB_I32 || field->dtype == FB_BOOL)
        return fbi_fail(ds->ctx, FB_E_DTYPE,
                        "dataset (pack): field %s of %s is %s: tokens are integers", name, ds->path,
                        fb_dtype_name(field->dtype));
    if (length < 1 || length > INT32_MAX)
        return fbi_fail(ds->ctx, FB_E_ARG, "dataset (pack): windows of %lld tokens",
                        (long long)length);
    if (o->whole && !o->separate)
        return fbi_fail(ds->ctx, FB_E_ARG,
                        "dataset (pack): whole documents leave padding between them: set separate, "
                        "too");
    if (o->end_token != FB_ZERO_INT && (o->end_token < 0 || o->end_token > INT32_MAX))
        return fbi_fail(ds->ctx, FB_E_ARG,
                        "dataset (pack): end_token is %lld: tokens are 0 to 2^31 - 1",
                        (long long)o->end_token);
    return FB_OK;
}

/* Where documents begin in the stream. */
static bool set_starts(packing *p, const int32_t *lengths)
{
    p->starts = malloc((size_t)(p->documents + 1) * sizeof *p->starts);
    int64_t at = 0;
    for (int64_t slot = 0; p->starts && slot < p->documents; slot++) {
        p->starts[slot] = at;
        at += lengths[document_at(p, slot)] + p->ends;
    }
    if (p->starts)
        p->starts[p->documents] = at;
    return p->starts != NULL;
}

/* Windows that whole documents fill, next-fit; begins NULL: only count them. */
static int64_t fit_documents(const packing *p, int64_t *begins)
{
    int64_t n = 0, used = p->length; /* of the last window */
    for (int64_t slot = 0; slot < p->documents; slot++) {
        int64_t at = p->starts[slot], left = p->starts[slot + 1] - at;
        for (; left > 0 && (used == p->length || left > p->length - used); n++) {
            used = left < p->length ? left : p->length;
            if (begins)
                begins[n] = at;
            at += used;
            left -= used;
        }
        used += left;
    }
    return n;
}

static bool set_windows(packing *p)
{
    int64_t total = p->starts[p->documents];
    if (!p->whole) {
        p->windows = p->separate ? (total + p->length - 1) / p->length
                                 : (total > 0 ? (total - 1) / p->length : 0);
        return true;
    }
    p->windows = fit_documents(p, NULL);
    p->begins = malloc((size_t)(p->windows + 1) * sizeof *p->begins);
    if (!p->begins)
        return false;
    fit_documents(p, p->begins);
    p->begins[p->windows] = total;
    return true;
}

/* NULL: error is set. Collective over a group. */
static packing *packing_open(fb_dataset *ds, const char *name, int64_t length,
                             const fb_pack_options *o)
{
    int field = fbi_dataset_field(ds, name);
    int32_t *lengths = fbi_dataset_lengths(ds, o->group, field);
    packing *p = lengths ? calloc(1, sizeof *p) : NULL;
    if (p) {
        *p = (packing){.ds = ds,
                       .field = field,
                       .documents = ds->size,
                       .length = length,
                       .shuffle = o->shuffle,
                       .ends = o->end_token != 0,
                       .separate = o->separate,
                       .whole = o->whole,
                       .end_token = o->end_token == FB_ZERO_INT ? 0 : o->end_token,
                       .seed = o->seed ? o->seed : ds->ctx->seed};
        p->order = fbi_order_make(p->documents, p->seed, 0);
    }
    bool good = p && set_starts(p, lengths) && set_windows(p);
    if (lengths && !good)
        fbi_fail(ds->ctx, FB_E_NOMEM, "dataset (pack): no memory for %lld documents",
                 (long long)ds->size);
    free(lengths);
    if (good)
        return p;
    if (p)
        pack_free(p);
    return NULL;
}

static void set_identity(fb_dataset *ds, const packing *p)
{
    const int64_t what[] = {p->length,
                            p->shuffle,
                            p->ends,
                            p->separate,
                            p->whole,
                            p->end_token,
                            p->windows,
                            (int64_t)p->seed,
                            p->documents,
                            p->ds->selected,
                            p->starts[p->documents]};
    uint64_t id = XXH3_64bits(p->ds->id, sizeof p->ds->id);
    snprintf(ds->id, sizeof ds->id, "%016llx",
             (unsigned long long)XXH3_64bits_withSeed(what, sizeof what, id));
}

static fb_dataset *as_dataset(packing *p)
{
    static const char *const names[FIELDS] = {"input", "target", "segment", "position"};
    fb_dataset_field fields[FIELDS];
    for (int f = 0; f < FIELDS; f++)
        fields[f] = (fb_dataset_field){
            .name = names[f], .dtype = FB_I32, .shape = {.n = 1, .d = {p->length}}};
    fb_dataset *ds = fbi_dataset_new(p->ds->ctx, "(pack)", fields, p->separate ? FIELDS : SEGMENT);
    if (!ds) {
        pack_free(p);
        return NULL;
    }
    ds->view = &pack_view;
    ds->parts = p;
    ds->whole = true;
    ds->size = ds->total = p->windows;
    set_identity(ds, p);
    return ds;
}

fb_dataset *fb_dataset_pack(fb_dataset *ds, int64_t length, const fb_pack_options *opts)
{
    fb_pack_options o = opts ? *opts : (fb_pack_options){0};
    fb_context *ctx = ds ? ds->ctx : o.group ? fbi_group_context(o.group) : NULL;
    if (!ctx)
        return NULL;
    FBI_ENTRY(ctx);
    const char *name = o.field ? o.field : "input";
    fb_status st = !fbi_enter(ctx) ? fb_status_of(ctx)
                   : ds            ? check_source(ds, name, length, &o)
                                   : FB_E_ARG;
    if (st && !ds && fb_ok(ctx))
        fbi_fail(ctx, st, "dataset (pack): the dataset is NULL");
    if (o.group)
        st = fbi_group_agree(o.group, "dataset", st);
    packing *p = st ? NULL : packing_open(ds, name, length, &o);
    if (p && p->windows < 1) {
        fbi_fail(ctx, FB_E_ARG, "dataset (pack): %s has %lld tokens, too few for a window of %lld",
                 ds->path, (long long)p->starts[p->documents], (long long)length);
        pack_free(p);
        p = NULL;
    }
    return p ? as_dataset(p) : NULL;
}
