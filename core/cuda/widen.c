/* See widen_priv.h. */
#include "core/cuda/widen_priv.h"

enum { FBI_WIDE_MAX = 8 };

/* Rows whose kernels take F16 and BF16 themselves. */
/* clang-format off */
static const uint16_t native[] = {
    FBI_OP_where, FBI_OP_cast, FBI_OP_contiguous, FBI_OP_copy, FBI_OP_fill, FBI_OP_randu,
    FBI_OP_gauss, FBI_OP_sequence, FBI_OP_uniform, FBI_OP_normal, FBI_OP_exponential,
    FBI_OP_randperm, FBI_OP_bernoulli, FBI_OP_poisson, FBI_OP_gamma, FBI_OP_multinomial,
    FBI_OP_take_masked, FBI_OP_put_masked, FBI_OP_narrow_pad, FBI_OP_embedding, FBI_OP_index_select,
    FBI_OP_gather, FBI_OP_flip, FBI_OP_tril, FBI_OP_triu, FBI_OP_extend, FBI_OP_cat,
    FBI_OP_matmul, FBI_OP_linear, FBI_OP_linear_dx, FBI_OP_linear_dw, FBI_OP_linear_db,
    FBI_OP_linear_dwb, FBI_OP_conv2d_relu_dz, FBI_OP_attention, FBI_OP_attention_bwd,
    FBI_OP_linear_act_dz, FBI_OP_conv2d_bwd_bias, FBI_OP_softmax, FBI_OP_log_softmax,
    FBI_OP_softmax_bwd, FBI_OP_log_softmax_bwd, FBI_OP_layer_norm, FBI_OP_batch_norm,
    FBI_OP_layer_norm_bwd, FBI_OP_batch_norm_bwd, FBI_OP_mse_loss, FBI_OP_mse_loss_bwd,
    FBI_OP_cross_entropy, FBI_OP_cross_entropy_bwd, FBI_OP_cross_entropy_coef, FBI_OP_sum,
    FBI_OP_mean, FBI_OP_var, FBI_OP_amax, FBI_OP_amin, FBI_OP_add_layer_norm,
    FBI_OP_add_layer_norm_bwd, FBI_OP_batch_norm_relu, FBI_OP_batch_norm_relu_bwd};
/* clang-format on */

static bool is_native(const fbi_opdef *op)
{
    for (size_t i = 0; i < sizeof native / sizeof native[0]; i++)
        if (native[i] == op->op)
            return true;
    return false;
}

static fb_dtype wide_dtype(const fbi_opdef *op, fb_dtype d)
{
    if (d == FB_F16 || d == FB_BF16)
        return is_native(op) ? d : FB_F32;
    return (op->flags & FBI_INTS) && !fbi_cuda_is_float(d) ? FB_I64 : d;
}

/* A second output of rows that take integers is indices. */
static int results_of(const fbi_call *c)
{
    return c->op->flags & FBI_INTS ? 1 : c->n_out;
}

bool fbi_cuda_wants_wide(const fbi_call *c)
{
    for (int i = 0; i < c->n_in + results_of(c); i++) {
        const fb_tensor *t = i < c->n_in ? c->in[i] : c->out[i - c->n_in];
        if (t && t->dtype > FB_F64 && wide_dtype(c->op, (fb_dtype)t->dtype) != t->dtype)
            return true;
    }
    return false;
}

/* Of t's shape and, if that has no gaps, layout. `t` with other memory: kernels read no more. */
static fb_status make_wide(const fbi_call *c, const fb_tensor *t, fb_dtype d, bool filled,
                           fb_tensor *wide)
{
    *wide = *t;
    wide->dtype = (uint8_t)d;
    wide->offset = 0;
    if (!fbi_cuda_dense(t)) {
        int64_t step = 1;
        for (int i = t->ndim - 1; i >= 0; i--) {
            wide->stride[i] = step;
            step *= t->size[i];
        }
    }
    wide->storage =
        fbi_cuda_of(c->ctx)->core->storage_new(c->ctx, (size_t)(t->numel * fbi_cuda_bytes((int)d)));
    if (!wide->storage)
        return c->ctx->status;
    return filled && t->numel ? fbi_cuda_copy_strided(c, wide, t) : FB_OK;
}

fb_status fbi_cuda_widened(const fbi_call *c, fbi_kernel kernel)
{
    fb_tensor copy[2 * FBI_WIDE_MAX], *in[FBI_WIDE_MAX], *out[FBI_WIDE_MAX];
    const fbi_core_api *core = fbi_cuda_of(c->ctx)->core;
    if (c->n_in > FBI_WIDE_MAX || c->n_out > FBI_WIDE_MAX)
        return core->fail(c->ctx, FB_E_UNSUPPORTED, "%s: %d inputs of narrow dtypes", c->op->name,
                          (int)c->n_in);
    fb_status st = FB_OK;
    int n = 0;
    for (int i = 0; i < c->n_in + c->n_out; i++) {
        bool is_in = i < c->n_in;
        fb_tensor *t = is_in ? c->in[i] : c->out[i - c->n_in];
        fb_tensor **place = is_in ? &in[i] : &out[i - c->n_in];
        fb_dtype d = t ? wide_dtype(c->op, (fb_dtype)t->dtype) : FB_F32;
        *place = t;
        if (!t || d == t->dtype || st || i >= c->n_in + results_of(c))
            continue;
        copy[n].storage = NULL;
        st = make_wide(c, t, d, is_in || c->beta != 0, &copy[n]);
        *place = &copy[n++];
    }
    if (!st) {
        fbi_call wide = *c;
        wide.in = in;
        wide.out = out;
        st = kernel(&wide);
    }
    for (int i = 0; i < c->n_out && !st; i++)
        if (out[i] != c->out[i] && out[i]->numel)
            st = fbi_cuda_copy_strided(c, c->out[i], out[i]);
    for (int i = 0; i < n; i++)
        core->storage_unref(c->ctx, copy[i].storage);
    return st;
}
