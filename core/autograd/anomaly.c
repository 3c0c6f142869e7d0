/* fb_detect_anomaly: what is NaN or Inf, and who has made it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/autograd/pass_priv.h"
#include "core/tensor/access_priv.h"
#include "core/tensor/device_priv.h"

enum { NOTE_BYTES = 400 };

/* The exponent of Inf and NaN is all ones, and Inf has no mantissa; the sign is shifted out. */
#define ODD_OF(name, T, infinity)                       \
    static fbi_oddity name(const void *data, int64_t n) \
    {                                                   \
        const T *x = data;                              \
        const T limit = (T)((T)(infinity) << 1);        \
        fbi_oddity odd = {0};                           \
        for (int64_t i = 0; i < n; i++) {               \
            T magnitude = (T)(x[i] << 1);               \
            odd.nan += magnitude > limit;               \
            odd.inf += magnitude == limit;              \
        }                                               \
        return odd;                                     \
    }
ODD_OF(odd_f16, uint16_t, 0x7c00u)
ODD_OF(odd_bf16, uint16_t, 0x7f80u)
ODD_OF(odd_f32, uint32_t, 0x7f800000u)
ODD_OF(odd_f64, uint64_t, UINT64_C(0x7ff0000000000000))

static fbi_oddity odd_of(fb_dtype dtype, const void *x, int64_t n)
{
    return dtype == FB_F64    ? odd_f64(x, n)
           : dtype == FB_F16  ? odd_f16(x, n)
           : dtype == FB_BF16 ? odd_bf16(x, n)
                              : odd_f32(x, n);
}

fbi_oddity fbi_odd(fb_tensor *t)
{
    fbi_oddity odd = {0};
    if (!t || !fb_dtype_is_float((fb_dtype)t->dtype) || !t->numel || t->ctx->status)
        return odd;
    fb_context *ctx = t->ctx;
    if (ctx->backend->host_memory && fbi_dense(t))
        return ctx->backend->sync(ctx) ? odd : odd_of((fb_dtype)t->dtype, fbi_ptr(t), t->numel);
    void *copy = malloc((size_t)t->numel * fbi_dtype_bytes[t->dtype]);
    if (!copy)
        fbi_fail(ctx, FB_E_NOMEM, "fb_detect_anomaly: no host memory to look at %s", fbi_text(t));
    else if (fbi_copy_to_host(t, copy))
        fbi_fail(ctx, FB_E_DEVICE, "fb_detect_anomaly: reading %s from %s failed", fbi_text(t),
                 ctx->device_name);
    else
        odd = odd_of((fb_dtype)t->dtype, copy, t->numel);
    free(copy);
    return odd;
}

/* "F32 [2, 3], I64 [2]" behind what is in buf already. */
static void add_tensors(char *buf, size_t size, fb_tensor *const *t, int n)
{
    for (int i = 0; i < n; i++) {
        size_t at = strlen(buf);
        if (t[i])
            snprintf(buf + at, size - at, "%s%s %s", i ? ", " : "",
                     fb_dtype_name((fb_dtype)t[i]->dtype), fbi_text(t[i]));
        else
            snprintf(buf + at, size - at, "%snone", i ? ", " : "");
    }
}

/* "1 NaN and 2 Inf among its 6 elements" */
static const char *odd_text(fbi_oddity odd, const fb_tensor *t, char *buf, size_t size)
{
    char nan[32] = "", inf[32] = "";
    if (odd.nan)
        snprintf(nan, sizeof nan, "%" PRId64 " NaN", odd.nan);
    if (odd.inf)
        snprintf(inf, sizeof inf, "%" PRId64 " Inf", odd.inf);
    snprintf(buf, size, "%s%s%s among its %" PRId64 " elements", nan, *nan && *inf ? " and " : "",
             inf, t->numel);
    return buf;
}

void fbi_anomaly_note(fb_context *ctx, fbi_node *n, fb_tensor *const *in, int n_in)
{
    char text[NOTE_BYTES];
    const char *label = ctx->label, *row = ctx->composing;
    snprintf(text, sizeof text, "%s%s%s%s%s%sof ", *label ? "at " : "", label, *label ? ", " : "",
             row ? "in " : "", row ? row : "", row ? ", " : "");
    add_tensors(text, sizeof text, in, n_in);
    char *copy = strdup(text);
    if (copy)
        fbi_node_set_note(n, copy);
}

/* "exp (recorded at main+0x1f of F32 [2])" */
static const char *node_text(const fbi_node *n, char *buf, size_t size)
{
    char site[160];
    const char *note = fbi_node_note(n);
    snprintf(buf, size, "%s (recorded at %s%s%s)", fbi_node_name(n),
             fbi_site_text(n->site, site, sizeof site), note ? ", " : "", note ? note : "");
    return buf;
}

fb_status fbi_anomaly_given(fbi_pass *pass, fbi_node *n)
{
    fb_context *ctx = pass->ctx;
    for (int i = 0; i < n->n_out && !ctx->status; i++) {
        fb_tensor *g = fbi_grads(n)[i];
        fbi_oddity odd = fbi_odd(g);
        if (!odd.nan && !odd.inf)
            continue;
        char text[100], node[600];
        return fbi_fail(ctx, FB_E_USER,
                        "fb_detect_anomaly: the gradient %s %s of output %d of %s has %s; it was "
                        "given to backward, or a hook made it, or it is a sum that overflowed",
                        fb_dtype_name((fb_dtype)g->dtype), fbi_text(g), i,
                        node_text(n, node, sizeof node), odd_text(odd, g, text, sizeof text));
    }
    return ctx->status;
}

fb_status fbi_anomaly_made(fbi_pass *pass, fbi_node *n, fb_tensor *const *in_grad)
{
    fb_context *ctx = pass->ctx;
    for (int i = 0; i < n->n_in && !ctx->status; i++) {
        fb_tensor *g = in_grad[i];
        fbi_oddity odd = fbi_odd(g);
        if (!odd.nan && !odd.inf)
            continue;
        const fbi_node *to = fbi_edges(n)[i].to;
        const char *leaf = to && to->leaf && to->leaf->name ? to->leaf->name : NULL;
        char text[100], node[600];
        return fbi_fail(ctx, FB_E_USER,
                        "fb_detect_anomaly: backward of %s made a gradient %s %s of input %d%s%s "
                        "that has %s; the gradients it was given had none",
                        node_text(n, node, sizeof node), fb_dtype_name((fb_dtype)g->dtype),
                        fbi_text(g), i, leaf ? ", the parameter " : "", leaf ? leaf : "",
                        odd_text(odd, g, text, sizeof text));
    }
    return ctx->status;
}

fb_status fbi_anomaly_result(fb_context *ctx, const char *op, int i, fb_tensor *out, fbi_oddity odd,
                             fb_tensor *const *in, int n_in)
{
    char text[100], site[160], inputs[NOTE_BYTES] = "";
    add_tensors(inputs, sizeof inputs, in, n_in);
    return fbi_fail(ctx, FB_E_USER,
                    "fb_detect_anomaly: %s%s%s%s, called at %s%s%s, made an output %d %s %s that "
                    "has %s; its inputs had none: %s",
                    op, ctx->composing ? " (in " : "", ctx->composing ? ctx->composing : "",
                    ctx->composing ? ")" : "", fbi_site_text(ctx->site, site, sizeof site),
                    ctx->label[0] ? ", " : "", ctx->label, i, fb_dtype_name((fb_dtype)out->dtype),
                    fbi_text(out), odd_text(odd, out, text, sizeof text), inputs);
}
