/* Tensors as text, in PyTorch's format. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/tensor/access_priv.h"

enum { EDGE = 3, SUMMARY_ABOVE = 1000, LINE = 80, INDENT = 7 /* of "tensor(" */ };

typedef enum style { STYLE_INT, STYLE_BOOL, STYLE_WHOLE, STYLE_FIXED, STYLE_EXP } style;

typedef struct printer {
    const fb_tensor *t;
    const void *data; /* row-major, on the host */
    char *buf;
    size_t size;
    int64_t at; /* bytes so far, whether or not they fit */
    style style;
    int width;
    bool summary, whole; /* whole: no fraction seen */
    double low, high;    /* of the absolute values, zeros and non-finite ones left out */
} printer;

static void put(printer *p, const char *text)
{
    for (; *text; text++, p->at++)
        if ((size_t)p->at + 1 < p->size)
            p->buf[p->at] = *text;
}

static void put_spaces(printer *p, int n)
{
    while (n-- > 0)
        put(p, " ");
}

static int format(const printer *p, int64_t i, char *text, size_t size)
{
    fb_dtype dtype = (fb_dtype)p->t->dtype;
    if (p->style == STYLE_INT)
        return snprintf(text, size, "%lld", (long long)fbi_element_i64(dtype, p->data, i));
    if (p->style == STYLE_BOOL)
        return snprintf(text, size, fbi_element_i64(dtype, p->data, i) ? "True" : "False");
    double v = fbi_element_f64(dtype, p->data, i);
    if (isnan(v))
        return snprintf(text, size, "nan");
    if (p->style == STYLE_EXP)
        return snprintf(text, size, "%.4e", v);
    if (p->style == STYLE_FIXED)
        return snprintf(text, size, "%.4f", v);
    return snprintf(text, size, isfinite(v) ? "%.0f." : "%.0f", v);
}

/* --- which elements are shown --- */

typedef void (*element_fn)(printer *p, int64_t i);

static bool shortened(const printer *p, int dim)
{
    return p->summary && p->t->size[dim] > 2 * EDGE;
}

static void each(printer *p, int dim, int64_t base, element_fn fn)
{
    if (dim == p->t->ndim) {
        fn(p, base);
        return;
    }
    int64_t n = p->t->size[dim];
    for (int64_t i = 0; i < n; i++) {
        if (shortened(p, dim) && i == EDGE)
            i = n - EDGE;
        each(p, dim + 1, base * n + i, fn);
    }
}

static void see_value(printer *p, int64_t i)
{
    double v = fabs(fbi_element_f64((fb_dtype)p->t->dtype, p->data, i));
    if (!isfinite(v) || v == 0)
        return;
    p->low = fmin(p->low, v);
    p->high = fmax(p->high, v);
    p->whole &= v == ceil(v);
}

static void see_width(printer *p, int64_t i)
{
    char text[400];
    int n = format(p, i, text, sizeof text);
    double v = fbi_element_f64((fb_dtype)p->t->dtype, p->data, i);
    bool counts = p->style == STYLE_INT || p->style == STYLE_BOOL || (v != 0 && isfinite(v));
    if (counts && n > p->width)
        p->width = n;
}

static void choose_style(printer *p)
{
    p->width = 1;
    if (p->t->dtype == FB_BOOL) {
        p->style = STYLE_BOOL;
    } else if (!fb_dtype_is_float((fb_dtype)p->t->dtype)) {
        p->style = STYLE_INT;
    } else {
        p->low = INFINITY;
        p->whole = true;
        each(p, 0, 0, see_value);
        bool spread = p->high > 0 && (p->high / p->low > 1000 || p->high > 1e8);
        bool tiny = p->high > 0 && !p->whole && p->low < 1e-4;
        p->style = spread || tiny ? STYLE_EXP : p->whole ? STYLE_WHOLE : STYLE_FIXED;
    }
    each(p, 0, 0, see_width);
}

/* --- writing --- */

static void put_element(printer *p, int64_t i)
{
    char text[400];
    int n = format(p, i, text, sizeof text);
    put_spaces(p, p->width - n);
    put(p, text);
}

static void put_row(printer *p, int dim, int64_t base)
{
    int64_t n = p->t->size[dim];
    int per_line = (LINE - INDENT - dim) / (p->width + 2), on_line = 0;
    put(p, "[");
    for (int64_t i = 0; i < n; i++, on_line++) {
        if (on_line > 0)
            put(p, on_line % (per_line > 0 ? per_line : 1) ? ", " : ",\n");
        if (on_line > 0 && on_line % (per_line > 0 ? per_line : 1) == 0)
            put_spaces(p, INDENT + dim + 1);
        if (shortened(p, dim) && i == EDGE) {
            put(p, " ...");
            i = n - EDGE - 1;
            continue;
        }
        put_element(p, base * n + i);
    }
    put(p, "]");
}

static void put_block(printer *p, int dim, int64_t base)
{
    const fb_tensor *t = p->t;
    if (dim == t->ndim - 1) {
        put_row(p, dim, base);
        return;
    }
    put(p, "[");
    for (int64_t i = 0; i < t->size[dim]; i++) {
        if (i > 0) {
            put(p, ",");
            for (int lines = t->ndim - 1 - dim; lines > 0; lines--)
                put(p, "\n");
            put_spaces(p, INDENT + dim + 1);
        }
        if (shortened(p, dim) && i == EDGE) {
            put(p, "...");
            i = t->size[dim] - EDGE - 1;
            continue;
        }
        put_block(p, dim + 1, base * t->size[dim] + i);
    }
    put(p, "]");
}

static void put_tensor(printer *p)
{
    const fb_tensor *t = p->t;
    put(p, "tensor(");
    if (t->numel == 0) {
        put(p, "[], size=");
        put(p, fbi_text(t));
    } else {
        choose_style(p);
        if (t->ndim == 0)
            put_element(p, 0);
        else
            put_block(p, 0, 0);
    }
    if (t->dtype != FB_F32 && t->dtype != FB_I64 && t->dtype != FB_BOOL) {
        put(p, ", dtype=");
        put(p, fb_dtype_name((fb_dtype)t->dtype));
    }
    put(p, ")");
    if (p->size > 0)
        p->buf[(size_t)p->at < p->size ? (size_t)p->at : p->size - 1] = '\0';
}

static int64_t to_string(fb_tensor *t, char *buf, size_t size)
{
    if (!buf)
        size = 0; /* only the number of bytes is asked for */
    if (size > 0)
        buf[0] = '\0';
    if (!fbi_tensor_check(NULL, t, "to_string", "the tensor"))
        return 0;
    void *data = malloc((size_t)t->numel * fbi_dtype_bytes[t->dtype] + 1);
    fb_status st = data ? fbi_copy_to_host(t, data) : FB_E_NOMEM;
    printer p = {.t = t, .data = data, .buf = buf, .size = size};
    p.summary = t->numel > SUMMARY_ABOVE;
    if (st == FB_OK)
        put_tensor(&p);
    else
        fbi_fail(t->ctx, st, "to_string: copying %s to the host failed", fbi_text(t));
    free(data);
    return p.at;
}

FB_API int64_t fb_to_string(fb_tensor *t, char *buf, size_t size)
{
    FBI_ENTRY(t ? t->ctx : NULL);
    return to_string(t, buf, size);
}

FB_API fb_status fb_print(fb_tensor *t, const char *name)
{
    FBI_ENTRY(t ? t->ctx : NULL);
    int64_t bytes = to_string(t, NULL, 0);
    if (bytes == 0)
        return t ? fb_status_of(t->ctx) : FB_E_ARG;
    char *text = malloc((size_t)bytes + 1);
    if (!text)
        return fbi_fail(t->ctx, FB_E_NOMEM, "print: no memory for %lld bytes", (long long)bytes);
    to_string(t, text, (size_t)bytes + 1);
    int done = printf("%s%s%s\n", name ? name : "", name ? " = " : "", text);
    free(text);
    return done < 0 ? fbi_fail(t->ctx, FB_E_IO, "print: stdout cannot be written") : FB_OK;
}
