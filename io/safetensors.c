/* Hugging Face's safetensors: 8 bytes of length, a JSON object of names, and the values.
 * https://github.com/huggingface/safetensors */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include <flambeau/core/nn/module.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/io/interchange.h>

#include "core/tensor/context_priv.h"
#include "io/load_priv.h"

enum { ALIGNED = 8, MOST_HEAD = 100 << 20, NAME_BYTES = 512, TEXT_BYTES = 1024 };

static const struct {
    const char *name;
    fb_dtype dtype;
} types[] = {{"F32", FB_F32}, {"F64", FB_F64},   {"F16", FB_F16}, {"BF16", FB_BF16},
             {"I64", FB_I64}, {"I32", FB_I32},   {"I16", FB_I16}, {"I8", FB_I8},
             {"U8", FB_U8},   {"BOOL", FB_BOOL}, {"U16", FB_U16}};
enum { N_TYPES = sizeof types / sizeof types[0] };

/* --- saving --- */

typedef struct saver {
    fb_context *ctx;
    const char *path;
    json_t *head;
    size_t at;
    FILE *file;
    bool good;
} saver;

static fb_status describe(const char *name, fb_tensor *t, void *user)
{
    saver *s = user;
    size_t bytes = (size_t)fb_numel(t) * fb_dtype_size(fb_dtype_of(t));
    json_t *shape = json_array();
    fb_shape sizes = fb_shape_of(t);
    for (int i = 0; i < sizes.n; i++)
        json_array_append_new(shape, json_integer(sizes.d[i]));
    const char *dtype = "";
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].dtype == fb_dtype_of(t))
            dtype = types[i].name;
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype, "shape", shape,
                              "data_offsets", (json_int_t)s->at, (json_int_t)(s->at + bytes));
    s->at += bytes;
    s->good = s->good && !json_object_set_new(s->head, name, entry);
    return FB_OK;
}

static fb_status write_values(const char *name, fb_tensor *t, void *user)
{
    saver *s = user;
    (void)name;
    size_t bytes = (size_t)fb_numel(t) * fb_dtype_size(fb_dtype_of(t));
    void *data = malloc(bytes + 1);
    if (!data)
        return fbi_fail(s->ctx, FB_E_NOMEM, "safetensors %s: no memory", s->path);
    fb_status st = fb_read(t, data, bytes);
    s->good = s->good && !st && fwrite(data, 1, bytes, s->file) == bytes;
    free(data);
    return st;
}

/* The head with blanks behind it, so that the values begin at a multiple of 8. */
static bool write_head(saver *s)
{
    char *text = json_dumps(s->head, JSON_COMPACT);
    if (!text)
        return false;
    size_t n = strlen(text), padded = (n + ALIGNED - 1) / ALIGNED * ALIGNED;
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)padded >> 8 * i);
    bool good = fwrite(length, 1, 8, s->file) == 8 && fwrite(text, 1, n, s->file) == n &&
                fprintf(s->file, "%*s", (int)(padded - n), "") == (int)(padded - n);
    free(text);
    return good;
}

fb_status fb_safetensors_save(fb_module *m, const char *path)
{
    fb_context *ctx = m ? fb_nn_context(m) : NULL;
    if (!ctx)
        return FB_E_ARG;
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx) || fb_nn_materialize(m))
        return fb_status_of(ctx);
    if (!path)
        return fbi_fail(ctx, FB_E_ARG, "safetensors: path is NULL");
    saver s = {.ctx = ctx, .path = path, .head = json_object(), .good = true};
    fb_nn_each_param(m, describe, &s);
    fb_nn_each_buffer(m, describe, &s);
    errno = 0;
    s.file = s.head ? fopen(path, "wb") : NULL;
    s.good = s.good && s.file && write_head(&s);
    if (s.good && !fb_nn_each_param(m, write_values, &s))
        fb_nn_each_buffer(m, write_values, &s);
    if (s.file)
        s.good = fclose(s.file) == 0 && s.good;
    json_decref(s.head);
    if (s.good)
        return FB_OK;
    return fbi_fail(ctx, FB_E_IO,
                    "safetensors %s: cannot write it: %s; is the folder there and not full?", path,
                    errno ? strerror(errno) : "no memory");
}

/* --- loading --- */

/* An entry of the file under the name that the program has for it. */
typedef struct found {
    char name[NAME_BYTES];
    fb_dtype dtype;
    fb_shape shape;
    const char *data;
    bool used;
} found;

typedef struct loader {
    fb_context *ctx;
    const char *path;
    const fb_load_options *opts;
    const char *bytes; /* the file */
    size_t n, begin;   /* begin: of the values */
    found *entries;
    int64_t n_entries;
    fb_load_report report;
    char wrong[TEXT_BYTES]; /* what does not fit */
} loader;

static fb_status damaged(loader *l, const char *what, const char *name)
{
    return fbi_fail(l->ctx, FB_E_IO, "safetensors %s: %s%s%s: copy it again", l->path, what,
                    *name ? " of " : "", name);
}

/* Where a file's entry lies, and what it is. */
static fb_status read_entry(loader *l, const char *name, json_t *entry, found *f)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    json_t *shape = json_object_get(entry, "shape"), *at = json_object_get(entry, "data_offsets");
    json_int_t begin = json_integer_value(json_array_get(at, 0)),
               end = json_integer_value(json_array_get(at, 1));
    f->dtype = FB_DTYPE_DEFAULT;
    for (int i = 0; dtype && i < N_TYPES; i++)
        if (!strcmp(types[i].name, dtype))
            f->dtype = types[i].dtype;
    if (!dtype || !json_is_array(shape) || json_array_size(at) != 2)
        return damaged(l, "the description is damaged", name);
    if (!f->dtype)
        return fbi_fail(l->ctx, FB_E_DTYPE,
                        "safetensors %s: %s is of dtype %s, which no dtype here is", l->path, name,
                        dtype);
    if (json_array_size(shape) > FB_MAX_DIMS)
        return fbi_fail(l->ctx, FB_E_SHAPE,
                        "safetensors %s: %s has %zu dimensions; at most %d are possible", l->path,
                        name, json_array_size(shape), FB_MAX_DIMS);
    f->shape.n = (int)json_array_size(shape);
    for (int i = 0; i < f->shape.n; i++)
        f->shape.d[i] = json_is_integer(json_array_get(shape, (size_t)i))
                            ? json_integer_value(json_array_get(shape, (size_t)i))
                            : -1;
    int64_t count = fb_shape_numel(f->shape), bytes;
    for (int i = 0; i < f->shape.n; i++)
        count = f->shape.d[i] < 0 ? -1 : count;
    if (count < 0 || __builtin_mul_overflow(count, (int64_t)fb_dtype_size(f->dtype), &bytes) ||
        begin < 0 || end < begin || end - begin != bytes || (size_t)end > l->n - l->begin)
        return damaged(l, "shape and place do not fit the file", name);
    f->data = l->bytes + l->begin + begin;
    return FB_OK;
}

static fb_status read_entries(loader *l, json_t *head)
{
    const char *name;
    json_t *entry;
    l->entries = calloc(json_object_size(head) + 1, sizeof *l->entries);
    if (!l->entries)
        return fbi_fail(l->ctx, FB_E_NOMEM, "safetensors %s: no memory", l->path);
    json_object_foreach(head, name, entry)
    {
        found *f = &l->entries[l->n_entries];
        if (!strcmp(name, "__metadata__") ||
            !fbi_rename(l->opts->rename, name, f->name, sizeof f->name))
            continue;
        fb_status st = read_entry(l, name, entry, f);
        if (st)
            return st;
        l->n_entries++;
    }
    return FB_OK;
}

static fb_status read_head(loader *l)
{
    uint64_t length = 0;
    for (int i = 0; l->n >= 8 && i < 8; i++)
        length |= (uint64_t)(unsigned char)l->bytes[i] << 8 * i;
    if (l->n < 8 || length > l->n - 8 || length > MOST_HEAD)
        return damaged(l, "is no safetensors file, or is cut", "");
    l->begin = 8 + (size_t)length;
    json_t *head = json_loadb(l->bytes + 8, (size_t)length, JSON_REJECT_DUPLICATES, NULL);
    fb_status st =
        json_is_object(head) ? read_entries(l, head) : damaged(l, "its head is no JSON object", "");
    json_decref(head);
    return st;
}

static found *find(loader *l, const char *name)
{
    for (int64_t i = 0; i < l->n_entries; i++)
        if (!strcmp(l->entries[i].name, name))
            return &l->entries[i];
    return NULL;
}

static void complain(loader *l, const char *format, const char *name, const char *a, const char *b)
{
    size_t used = strlen(l->wrong);
    snprintf(l->wrong + used, sizeof l->wrong - used, format, name, a, b);
}

/* A parameter or buffer: is there something for it, of its shape? */
static fb_status check_one(const char *name, fb_tensor *t, void *user)
{
    loader *l = user;
    found *f = find(l, name);
    char a[128], b[128];
    if (!f) {
        l->report.missing++;
        if (!fbi_load_allows(l->opts->allow_missing, name))
            complain(l, "; %s is not in the file%s%s", name, "", "");
        return FB_OK;
    }
    f->used = true;
    if (!fb_shape_equal(f->shape, fb_shape_of(t)))
        complain(l, "; %s is %s in the file, %s here", name, fb_shape_text(f->shape, a, sizeof a),
                 fb_shape_text(fb_shape_of(t), b, sizeof b));
    return FB_OK;
}

static fb_status check_all(loader *l, fb_module *m)
{
    fb_nn_each_param(m, check_one, l);
    fb_nn_each_buffer(m, check_one, l);
    for (int64_t i = 0; i < l->n_entries; i++) {
        if (l->entries[i].used)
            continue;
        l->report.unexpected++;
        if (!fbi_load_allows(l->opts->allow_unexpected, l->entries[i].name))
            complain(l, "; %s is in the file only%s%s", l->entries[i].name, "", "");
    }
    if (!*l->wrong)
        return FB_OK;
    return fbi_fail(l->ctx, FB_E_SHAPE, "safetensors %s: %s", l->path, l->wrong + 2);
}

static fb_status load_one(const char *name, fb_tensor *t, void *user)
{
    loader *l = user;
    const found *f = find(l, name);
    if (!f)
        return FB_OK;
    FB_SCOPE(l->ctx);
    fb_tensor *value = fb_from(l->ctx, f->dtype, f->shape, f->data);
    if (value && f->dtype != fb_dtype_of(t))
        value = fb_to(value, fb_dtype_of(t));
    size_t bytes = (size_t)fb_numel(t) * fb_dtype_size(fb_dtype_of(t));
    void *data = value ? malloc(bytes + 1) : NULL;
    if (value && !data)
        fbi_fail(l->ctx, FB_E_NOMEM, "safetensors %s: no memory for %s", l->path, name);
    fb_status st = data ? fb_read(value, data, bytes) : fb_status_of(l->ctx);
    st = st ? st : fb_write(t, data, bytes);
    free(data);
    l->report.loaded += !st;
    return st;
}

static fb_status load(loader *l, fb_module *m)
{
    fb_status st = read_head(l);
    st = st ? st : check_all(l, m);
    st = st ? st : fb_nn_each_param(m, load_one, l);
    st = st ? st : fb_nn_each_buffer(m, load_one, l);
    if (!st && l->opts->report)
        *l->opts->report = l->report;
    free(l->entries);
    return st;
}

fb_status fb_safetensors_load(fb_module *m, const char *path, const fb_load_options *opts)
{
    static const fb_load_options none = {0};
    fb_context *ctx = m ? fb_nn_context(m) : NULL;
    if (!ctx)
        return FB_E_ARG;
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx) || fb_nn_materialize(m))
        return fb_status_of(ctx);
    struct stat info;
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    bool good = fd >= 0 && !fstat(fd, &info);
    void *bytes = good && info.st_size
                      ? mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0)
                      : NULL;
    fb_status st;
    if (!good || bytes == MAP_FAILED) {
        st = fbi_fail(ctx, FB_E_NOT_FOUND, "safetensors %s: %s", path ? path : "(null)",
                      path ? strerror(errno) : "a path is needed");
    } else {
        st = load(&(loader){.ctx = ctx,
                            .path = path,
                            .opts = opts ? opts : &none,
                            .bytes = bytes,
                            .n = (size_t)info.st_size},
                  m);
        if (bytes)
            munmap(bytes, (size_t)info.st_size);
    }
    if (fd >= 0)
        close(fd);
    return st;
}
