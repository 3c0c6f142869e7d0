#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The whole file, malloc'ed; NULL: errno says why. */
static unsigned char *read_file(FILE *f, size_t *n)
{
    size_t cap = 1 << 20;
    unsigned char *raw = malloc(cap);
    *n = 0;
    for (size_t got; raw && (got = fread(raw + *n, 1, cap - *n, f)) > 0;) {
        *n += got;
        if (*n < cap)
            continue;
        unsigned char *more = realloc(raw, cap *= 2);
        if (!more)
            free(raw);
        raw = more;
    }
    if (raw && ferror(f)) {
        free(raw);
        return NULL;
    }
    return raw;
}

/* Characters are numbered in the order of their codes. */
static void number(text *t, const unsigned char *raw)
{
    bool seen[256] = {false};
    int64_t id_of[256];
    for (int64_t i = 0; i < t->n; i++)
        seen[raw[i]] = true;
    for (int c = 0; c < 256; c++)
        if (seen[c]) {
            id_of[c] = t->vocab;
            t->chars[t->vocab++] = (unsigned char)c;
        }
    for (int64_t i = 0; i < t->n; i++)
        t->ids[i] = id_of[raw[i]];
}

bool text_read(const char *path, text *t)
{
    *t = (text){0};
    size_t n = 0;
    FILE *f = fopen(path, "rb");
    unsigned char *raw = f ? read_file(f, &n) : NULL;
    t->n = (int64_t)n;
    t->ids = raw ? malloc((n + 1) * sizeof *t->ids) : NULL;
    if (t->ids)
        number(t, raw);
    else
        fprintf(stderr, "chargpt: %s: %s\n", path, strerror(errno));
    free(raw);
    if (f)
        fclose(f);
    return t->ids != NULL;
}

void text_free(text *t)
{
    free(t->ids);
}

/* Called from the loader's thread: reads what nobody changes. */
static int read_window(void *user, int64_t index, void *const *out)
{
    const windows *w = user;
    const int64_t *at = w->text->ids + w->begin + index * w->stride;
    memcpy(out[0], at, (size_t)w->context * sizeof *at);
    memcpy(out[1], at + 1, (size_t)w->context * sizeof *at);
    return 0;
}

int64_t windows_count(const windows *w)
{
    return (w->end - w->begin - w->context - 1) / w->stride + 1;
}

fb_dataset *windows_open(fb_context *ctx, windows *w)
{
    fb_shape shape = FB_SHAPE(w->context);
    fb_dataset_field fields[] = {{.name = "input", .dtype = FB_I64, .shape = shape},
                                 {.name = "target", .dtype = FB_I64, .shape = shape}};
    return fb_dataset_custom(ctx, windows_count(w), fields, 2, read_window, w);
}
