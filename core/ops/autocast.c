/* Mixed precision: which dtype an operator computes in, by PyTorch's lists
 * (aten/src/ATen/autocast_mode.h of PyTorch 2.15), and the casts. */
#include <flambeau/core/ops/arrange.h>
#include <flambeau/core/ops/autocast.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/ops/autocast_priv.h"
#include "core/ops/call_priv.h"
#include "core/ops/op_priv.h"

enum { FBI_MAX_CASTS = 16 }; /* inputs that need no memory of their own */

/* --- the lists --- */

/* By names of operators; those that there are not are passed over. binary_cross_entropy, which
 * PyTorch refuses on cards since halves are too short for it, is in F32. */
typedef struct fbi_list {
    fbi_cast_class of;
    bool cpu, card;
    const char *names;
} fbi_list;

static const fbi_list lists[] = {
    {FBI_CAST_HALF, true, true,
     "conv1d conv2d conv2d_relu conv3d conv_transpose1d conv_transpose2d conv_transpose3d prelu "
     "matmul linear linear_act mm bmm baddbmm addmm addbmm vecdot attention multi_dot affine_grid"},
    {FBI_CAST_HALF, false, true,
     "mv addmv addr chain_matmul rnn_tanh_cell rnn_relu_cell lstm_cell "
     "gru_cell"},
    /* Products to PyTorch's CPU that its list does not have. */
    {FBI_CAST_NONE, true, false, "mv addmv addr dot vdot outer kron"},
    /* Made of pools of volumes here, which the CPU's list has. */
    {FBI_CAST_NONE, true, false,
     "avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d max_pool1d max_pool2d "
     "adaptive_max_pool1d adaptive_max_pool2d lp_pool1d lp_pool2d"},
    {FBI_CAST_NONE, true, true, "matrix_exp"}, /* made of products here */
    /* Made of sums here, which the list of cards has. */
    {FBI_CAST_NONE, false, true, "trace std std_mean var_mean nansum nanmean"},

    {FBI_CAST_WIDE, true, true,
     "prod cdist binary_cross_entropy cross_entropy cross_entropy_probabilities mse_loss nll_loss "
     "l1_loss "
     "smooth_l1_loss poisson_nll_loss kl_div "
     "cosine_embedding_loss hinge_embedding_loss margin_ranking_loss triplet_margin_loss "
     "multilabel_margin_loss multi_margin_loss soft_margin_loss binary_cross_entropy_with_logits"},
    {FBI_CAST_WIDE, true, false,
     "avg_pool3d lp_pool3d adaptive_avg_pool3d max_pool3d adaptive_max_pool3d max_unpool1d "
     "max_unpool2d "
     "max_unpool3d fractional_max_pool2d fractional_max_pool3d grid_sample pad quantile "
     "local_response_norm nanquantile trace huber_loss ctc_loss cond tensorinv tensorsolve "
     "cholesky "
     "cholesky_inverse "
     "cholesky_solve inv solve qr eigh eigvalsh svd svdvals matrix_rank lstsq"},
    {FBI_CAST_WIDE, false, true,
     "acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow "
     "pow_scalar softplus softmax softmin log_softmax masked_softmax layer_norm add_layer_norm "
     "rms_norm group_norm norm cosine_similarity cumprod cumsum dist pdist renorm sum logsumexp"},

    {FBI_CAST_WIDEST, true, true, "cat stack"},
    {FBI_CAST_WIDEST, true, false, "index_copy"},
    {FBI_CAST_WIDEST, false, true,
     "addcdiv addcmul atan2 bilinear cross dot vdot grid_sample index_put tensordot scatter_add"},
};

static uint8_t classes[2][FBI_OP_COUNT]; /* [on a card] */
static pthread_once_t resolved = PTHREAD_ONCE_INIT;

static bool fbi_listed(const char *names, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = strstr(names, name); at; at = strstr(at + 1, name))
        if ((at == names || at[-1] == ' ') && (at[n] == ' ' || !at[n]))
            return true;
    return false;
}

static void fbi_resolve(void)
{
    for (int op = 0; op < FBI_OP_COUNT; op++)
        for (size_t k = 0; k < sizeof lists / sizeof *lists; k++) {
            const fbi_opdef *d = &fbi_opdefs[op];
            if (!d->name || (d->flags & FBI_INNER) || !fbi_listed(lists[k].names, d->name))
                continue;
            if (lists[k].cpu)
                classes[0][op] = lists[k].of;
            if (lists[k].card)
                classes[1][op] = lists[k].of;
        }
}

fbi_cast_class fbi_cast_class_of(bool card, fbi_op op)
{
    pthread_once(&resolved, fbi_resolve);
    return (fbi_cast_class)classes[card][op];
}

/* Of pads PyTorch lists those that it has kernels of their own for. */
static bool fbi_pad_listed(const fbi_attrs_pad *a)
{
    return a->mode == FB_PAD_REPLICATE || (a->mode == FB_PAD_REFLECT && a->pads.n <= 4);
}

static fbi_cast_class fbi_class(const fb_context *ctx, fbi_op op, const void *attrs,
                                fb_tensor *const *in)
{
    fbi_cast_class c = fbi_cast_class_of(!ctx->backend->host_memory, op);
    if (op == FBI_OP_pad && c && !fbi_pad_listed(attrs))
        return FBI_CAST_NOT_LISTED;
    if (op == FBI_OP_local_response_norm && c && in[0]->ndim < 4) /* by pools of images */
        return FBI_CAST_NONE;
    return c;
}

/* --- casts --- */

struct fbi_cast {
    fb_tensor *leaf, *cast; /* both counted */
    uint32_t version;
    bool grad; /* recorded */
};

static void fbi_forget(fb_context *ctx)
{
    fbi_casts *c = &ctx->casts;
    for (int i = 0; i < c->n; i++) {
        fbi_tensor_unref(c->v[i].cast);
        fbi_tensor_unref(c->v[i].leaf);
    }
    free(c->v);
    c->v = NULL;
    c->n = c->cap = 0;
}

static fb_tensor *fbi_find(const fb_context *ctx, const fb_tensor *t, fb_dtype dtype)
{
    for (int i = 0; i < ctx->casts.n; i++) {
        const struct fbi_cast *c = &ctx->casts.v[i];
        if (c->leaf == t && c->cast->dtype == dtype && c->version == t->storage->version &&
            c->grad == ctx->grad_on)
            return c->cast;
    }
    return NULL;
}

/* Held until the scope ends; a cast that there is no memory to remember is made again. */
static void fbi_remember(fb_context *ctx, fb_tensor *t, fb_tensor *cast)
{
    fbi_casts *c = &ctx->casts;
    if (c->n == c->cap) {
        int cap = c->cap ? 2 * c->cap : 32;
        void *v = realloc(c->v, (size_t)cap * sizeof *c->v);
        if (!v)
            return;
        c->v = v;
        c->cap = cap;
    }
    fbi_tensor_ref(t);
    fbi_tensor_ref(cast);
    c->v[c->n++] = (struct fbi_cast){t, cast, t->storage->version, ctx->grad_on};
}

/* t, or a cast of it; *made: it is a handle of the innermost scope. A recomputation has a graph of
 * its own. */
static fb_tensor *fbi_cast_input(fb_context *ctx, fb_tensor *t, fb_dtype to, bool *made)
{
    bool leaf = t && t->leaf && t->leaf->required && t->dtype == FB_F32 && !ctx->in_backward;
    *made = false;
    if (!t || t->dtype == to || (t->dtype != FB_F32 && t->dtype != FB_F16 && t->dtype != FB_BF16))
        return t;
    fb_tensor *cast = leaf ? fbi_find(ctx, t, to) : NULL;
    if (cast)
        return cast;
    cast = fbi_cast_to(t, to);
    *made = cast != NULL;
    if (cast && leaf)
        fbi_remember(ctx, t, cast);
    return cast;
}

/* F32 if some input has it; 0: there is nothing to be done. */
static fb_dtype fbi_widest(fb_tensor *const *in, int n)
{
    bool wide = false, half = false;
    for (int i = 0; i < n; i++) {
        if (in[i] && in[i]->dtype == FB_F64)
            return FB_DTYPE_DEFAULT;
        wide = wide || (in[i] && in[i]->dtype == FB_F32);
        half = half || (in[i] && (in[i]->dtype == FB_F16 || in[i]->dtype == FB_BF16));
    }
    return wide && half ? FB_F32 : FB_DTYPE_DEFAULT;
}

/* --- a call --- */

static fb_status fbi_run_cast(fb_context *ctx, const fbi_opdef *d, const void *attrs,
                              fb_tensor *const *in, int n, fb_tensor **out, fb_dtype to)
{
    fb_tensor *few[FBI_MAX_CASTS], **cast = few;
    bool made_few[FBI_MAX_CASTS], *made = made_few;
    fb_status st = FB_OK;
    if (n > FBI_MAX_CASTS) {
        cast = malloc((size_t)n * (sizeof *cast + sizeof *made));
        made = (bool *)(cast + n);
        if (!cast)
            return fbi_fail(ctx, FB_E_NOMEM, "%s: no memory for casts", d->name);
    }
    for (int i = 0; i < n; i++) {
        cast[i] = st ? NULL : fbi_cast_input(ctx, in[i], to, &made[i]);
        made[i] = made[i] && !st;
        if (in[i] && !cast[i])
            st = ctx->status;
    }
    if (!st)
        st = fbi_run_as_is(ctx, d, attrs, cast, n, out);
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < d->n_out; k++) /* what does nothing gives its input */
            made[i] = made[i] && out[k] != cast[i];
        if (made[i])
            fb_drop(cast[i]); /* the graph keeps what it needs */
    }
    if (cast != few)
        free(cast);
    return st;
}

fb_status fbi_run_autocast(fb_context *ctx, const fbi_opdef *d, const void *attrs,
                           fb_tensor *const *in, int n, fb_tensor **out)
{
    uint8_t mode = ctx->autocast;
    fbi_cast_class c = fbi_class(ctx, d->op, attrs, in);
    fb_dtype to = c == FBI_CAST_HALF     ? (fb_dtype)mode
                  : c == FBI_CAST_WIDE   ? FB_F32
                  : c == FBI_CAST_WIDEST ? fbi_widest(in, n)
                                         : FB_DTYPE_DEFAULT;
    if (c == FBI_CAST_NOT_LISTED)
        return fbi_run_as_is(ctx, d, attrs, in, n, out);
    ctx->autocast = 0; /* what the operator is made of has the dtypes that it gets */
    fb_status st =
        to ? fbi_run_cast(ctx, d, attrs, in, n, out, to) : fbi_run_as_is(ctx, d, attrs, in, n, out);
    ctx->autocast = mode;
    return st;
}

/* --- for users --- */

void fb_autocast(fb_context *ctx, fb_dtype dtype)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return;
    if (dtype != FB_BF16 && dtype != FB_F16 && dtype != FB_F32) {
        fbi_fail(ctx, FB_E_DTYPE, "fb_autocast: %s; BF16 and F16 are halves, F32 turns it off",
                 fb_dtype_name(dtype));
        return;
    }
    ctx->autocast = (uint8_t)(dtype == FB_F32 ? 0 : dtype);
    ctx->casts.forget = fbi_forget;
    if (ctx->autocast && !ctx->casts.scope)
        ctx->casts.scope = ctx->scopes_n;
}

fb_dtype fb_autocast_dtype(const fb_context *ctx)
{
    return ctx && ctx->autocast ? (fb_dtype)ctx->autocast : FB_F32;
}
