/* Mixed precision: PyTorch's documented lists (torch.amp, 2.15), casts that are made once,
 * gradients, regions within regions, training beside F32. */
#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/arrange.h>
#include <flambeau/core/ops/autocast.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/loss.h>
#include <flambeau/core/ops/op.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/softmax.h>
#include <flambeau/core/optim/optim.h>
#include <flambeau/core/optim/scaler.h>
#include <math.h>

#include "core/ops/autocast_priv.h"

enum { N = 4 };

/* --- the lists --- */

/* "Autocast Op Reference" of PyTorch's documentation, by our names. */
static const struct {
    bool card;
    fbi_cast_class of;
    const char *names;
} documented[] = {
    {true, FBI_CAST_HALF,
     "matmul addbmm addmm addmv addr baddbmm bmm multi_dot conv1d conv2d conv3d conv_transpose1d "
     "conv_transpose2d conv_transpose3d linear mm mv prelu vecdot attention"},
    {true, FBI_CAST_WIDE,
     "pow pow_scalar acos asin cosh cross_entropy cdist cumprod cumsum dist erfinv exp expm1 "
     "layer_norm log log10 log_softmax log1p log2 mse_loss norm prod reciprocal rsqrt sinh softmax "
     "softmin softplus sum tan logsumexp group_norm rms_norm cosine_similarity pdist renorm "
     "nll_loss l1_loss smooth_l1_loss poisson_nll_loss kl_div cosine_embedding_loss "
     "hinge_embedding_loss margin_ranking_loss triplet_margin_loss multilabel_margin_loss "
     "multi_margin_loss soft_margin_loss binary_cross_entropy_with_logits"},
    {true, FBI_CAST_WIDEST,
     "addcdiv addcmul atan2 cross dot grid_sample index_put scatter_add tensordot cat stack "
     "bilinear"},
    {false, FBI_CAST_HALF,
     "conv1d conv2d conv3d bmm mm vecdot baddbmm addmm addbmm linear matmul conv_transpose1d "
     "conv_transpose2d conv_transpose3d prelu attention"},
    {false, FBI_CAST_WIDE,
     "avg_pool3d grid_sample quantile cdist trace cholesky cholesky_inverse "
     "cholesky_solve inv prod max_pool3d max_unpool2d max_unpool3d adaptive_avg_pool3d mse_loss "
     "cross_entropy svd qr eigh eigvalsh svdvals matrix_rank solve lstsq fractional_max_pool2d "
     "fractional_max_pool3d adaptive_max_pool3d binary_cross_entropy huber_loss nanquantile "
     "ctc_loss tensorinv tensorsolve cond nll_loss l1_loss smooth_l1_loss poisson_nll_loss kl_div "
     "cosine_embedding_loss hinge_embedding_loss margin_ranking_loss triplet_margin_loss "
     "multilabel_margin_loss multi_margin_loss soft_margin_loss binary_cross_entropy_with_logits"},
    {false, FBI_CAST_WIDEST, "cat stack index_copy"},
};

static fbi_op op_of(const char *name)
{
    for (int op = 1; op < FBI_OP_COUNT; op++)
        if (fbi_opdefs[op].name && !strcmp(fbi_opdefs[op].name, name))
            return (fbi_op)op;
    fail_msg("there is no operator %s", name);
    return FBI_OP_none;
}

static void lists_are_those_of_pytorch(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof documented / sizeof *documented; k++) {
        char copy[1024], *save = NULL;
        snprintf(copy, sizeof copy, "%s", documented[k].names);
        for (char *name = strtok_r(copy, " ", &save); name; name = strtok_r(NULL, " ", &save))
            if (fbi_cast_class_of(documented[k].card, op_of(name)) != documented[k].of)
                fail_msg("%s is on another list of %s", name,
                         documented[k].card ? "cards" : "CPUs");
    }
    static const char *const others[] = {"add",       "mul",        "relu",    "gelu",
                                         "embedding", "batch_norm", "dropout", "reshape"};
    for (int card = 0; card < 2; card++)
        for (size_t i = 0; i < sizeof others / sizeof *others; i++)
            assert_int_equal(fbi_cast_class_of(card, op_of(others[i])), FBI_CAST_NOT_LISTED);
}

/* --- dtypes --- */

static fb_tensor *square_of(fb_context *ctx, fb_dtype dtype)
{
    double v[N * N];
    for (int i = 0; i < N * N; i++)
        v[i] = 1 + 0.5 * sin(i);
    return fb_to(fb_from(ctx, FB_F64, FB_SHAPE(N, N), v), dtype);
}

/* What torch.autocast("cpu") gives, and on cards by the lists. */
static void results_have_the_dtypes_of_pytorch(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int n;
        fb_dtype from[2], cpu, card; /* FB_BF16 stands for the half */
    } calls[] = {
        {"matmul", 2, {FB_F32, FB_F32}, FB_BF16, FB_BF16},
        {"mm", 2, {FB_F32, FB_BF16}, FB_BF16, FB_BF16},
        {"matmul", 2, {FB_F64, FB_F64}, FB_F64, FB_F64},
        {"softmax", 1, {FB_F32}, FB_F32, FB_F32},
        {"softmax", 1, {FB_BF16}, FB_BF16, FB_F32},
        {"exp", 1, {FB_BF16}, FB_BF16, FB_F32},
        {"exp", 1, {FB_F64}, FB_F64, FB_F64},
        {"sum", 1, {FB_BF16}, FB_BF16, FB_F32},
        {"prod", 1, {FB_BF16}, FB_F32, FB_F32},
        {"trace", 1, {FB_BF16}, FB_F32, FB_BF16},
        {"gelu", 1, {FB_BF16}, FB_BF16, FB_BF16},
        {"add", 2, {FB_F32, FB_BF16}, FB_F32, FB_F32},
        {"mse_loss", 2, {FB_BF16, FB_BF16}, FB_F32, FB_F32},
        {"cat", 2, {FB_F32, FB_BF16}, FB_F32, FB_F32},
        {"cat", 2, {FB_BF16, FB_BF16}, FB_BF16, FB_BF16},
        {"atan2", 2, {FB_BF16, FB_F32}, FB_F32, FB_F32},
    };
    for (int half = FB_F16; half <= FB_BF16; half++)
        for (size_t k = 0; k < sizeof calls / sizeof *calls; k++) {
            fb_context *ctx = check_open_device(1);
            bool card = !ctx->backend->host_memory;
            fb_dtype want = card ? calls[k].card : calls[k].cpu;
            fb_tensor *in[2], *out[4];
            for (int i = 0; i < calls[k].n; i++)
                in[i] =
                    square_of(ctx, calls[k].from[i] == FB_BF16 ? (fb_dtype)half : calls[k].from[i]);
            fb_autocast(ctx, (fb_dtype)half);
            assert_int_equal(fb_autocast_dtype(ctx), half);
            if (fb_op_call(ctx, calls[k].name, (fb_tensors){in, calls[k].n}, NULL, 0, out))
                fail_msg("%s: %s", calls[k].name, fb_error_message(ctx));
            want = want == FB_BF16 ? (fb_dtype)half : want;
            if (fb_dtype_of(out[0]) != want)
                fail_msg("%s (%d) gives %s, PyTorch %s", calls[k].name, (int)k,
                         fb_dtype_name(fb_dtype_of(out[0])), fb_dtype_name(want));
            check_close(ctx);
        }
}

static void a_mode_ends_with_its_scope(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_tensor *a = square_of(ctx, FB_F32);
    assert_int_equal(fb_autocast_dtype(ctx), FB_F32);
    {
        FB_SCOPE(ctx);
        fb_autocast(ctx, FB_BF16);
        assert_int_equal(fb_dtype_of(fb_matmul(a, a)), FB_BF16);
        {
            FB_SCOPE(ctx);
            fb_autocast(ctx, FB_F32); /* off */
            assert_int_equal(fb_dtype_of(fb_matmul(a, a)), FB_F32);
            {
                FB_SCOPE(ctx);
                fb_autocast(ctx, FB_F16);
                assert_int_equal(fb_dtype_of(fb_matmul(a, a)), FB_F16);
            }
            assert_int_equal(fb_autocast_dtype(ctx), FB_F32);
        }
        assert_int_equal(fb_dtype_of(fb_matmul(a, a)), FB_BF16);
    }
    assert_int_equal(fb_dtype_of(fb_matmul(a, a)), FB_F32);
    check_close(ctx);
}

static void other_dtypes_are_refused(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    static const fb_dtype wrong[] = {FB_F64, FB_I32, FB_BOOL};
    for (int i = 0; i < 3; i++) {
        fb_autocast(ctx, wrong[i]);
        check_error(ctx, FB_E_DTYPE, "BF16 and F16 are halves, F32 turns it off");
        assert_int_equal(fb_autocast_dtype(ctx), FB_F32);
    }
    fb_autocast(NULL, FB_BF16);
    assert_int_equal(fb_autocast_dtype(NULL), FB_F32);
    fb_autocast(ctx, FB_BF16); /* F64 is not cast, and does not fit */
    assert_null(fb_matmul(square_of(ctx, FB_F64), square_of(ctx, FB_I64)));
    check_error(ctx, FB_E_DTYPE, "matmul");
    check_close(ctx);
}

/* A pad of nothing may give its input, which is a cast here. */
static void an_operator_that_does_nothing_gives_the_cast(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_tensor *x = square_of(ctx, FB_BF16);
    fb_autocast(ctx, FB_BF16);
    fb_tensor *y = fb_pad(x, FB_SHAPE(0, 0), FB_PAD_REPLICATE, 0);
    check_ok(ctx);
    assert_int_equal(fb_size(y, 0), N);
    assert_int_equal(fb_dtype_of(y), ctx->backend->host_memory ? FB_F32 : FB_BF16);
    assert_true(fb_item(fb_sum(fb_to(y, FB_F64), FB_ALL, false)) > 0);
    check_close(ctx);
}

/* --- casts of leaves --- */

static void a_leaf_is_cast_once_in_a_region(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_tensor *w = fb_requires_grad(fb_detach(square_of(ctx, FB_F32)), true);
    fb_tensor *x = square_of(ctx, FB_F32);
    {
        FB_SCOPE(ctx);
        fb_autocast(ctx, FB_BF16);
        {
            FB_SCOPE(ctx); /* the cast outlives the scope that needed it first */
            assert_non_null(fb_matmul(x, w));
        }
        assert_int_equal(ctx->casts.n, 1);
        fb_tensor *y = fb_matmul(fb_matmul(x, w), w);
        assert_int_equal(ctx->casts.n, 1); /* x is no leaf */
        {
            FB_SCOPE(ctx);
            fb_no_grad(ctx);
            assert_false(fb_needs_grad(fb_matmul(x, w))); /* it has no history: another one */
            assert_int_equal(ctx->casts.n, 2);
        }
        assert_int_equal(fb_backward(fb_sum(y, FB_ALL, false)), FB_OK);
        assert_int_equal(ctx->casts.n, 0); /* its node is spent */
        assert_int_equal(fb_backward(fb_sum(fb_matmul(x, w), FB_ALL, false)), FB_OK);
        assert_non_null(fb_matmul(x, w));
        assert_int_equal(ctx->casts.n, 1);
    }
    assert_int_equal(ctx->casts.n, 0);
    assert_int_equal(fb_dtype_of(fb_grad_of(w)), FB_F32);
    check_close(ctx);
}

static void a_leaf_that_changes_is_cast_again(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_tensor *w = fb_requires_grad(fb_detach(square_of(ctx, FB_F32)), true);
    fb_autocast(ctx, FB_BF16);
    double before = fb_item(fb_sum(fb_matmul(w, w), FB_ALL, false));
    {
        FB_SCOPE(ctx);
        fb_no_grad(ctx);
        fb_mul_(w, fb_full(ctx, FB_F32, FB_SCALAR, 2));
    }
    double after = fb_item(fb_sum(fb_matmul(w, w), FB_ALL, false));
    assert_true(fabs(after - 4 * before) < 1e-2 * after);
    check_close(ctx);
}

/* --- gradients --- */

static fb_module *net(fb_context *ctx)
{
    return fb_nn_sequential(ctx, fb_nn_linear(ctx, N, 16, NULL), fb_nn_relu(ctx),
                            fb_nn_layer_norm(ctx, FB_SHAPE(16), NULL),
                            fb_nn_linear(ctx, 16, 2, NULL));
}

/* Of the first weight, by a backward in the region or after it. */
static void gradient(int how, float *g)
{
    fb_context *ctx = check_open_device(1);
    fb_module *m = net(ctx);
    fb_tensor *loss;
    {
        FB_SCOPE(ctx);
        if (how != 2)
            fb_autocast(ctx, FB_BF16);
        fb_tensor *y = fb_nn_forward(m, square_of(ctx, FB_F32));
        loss = fb_mean(fb_square(y), FB_ALL, false);
        if (how == 0)
            assert_int_equal(fb_backward(loss), FB_OK);
        fb_keep(loss);
    }
    if (how)
        assert_int_equal(fb_backward(loss), FB_OK);
    fb_tensor *grad = fb_grad_of(fb_nn_param(m, "0.weight"));
    assert_int_equal(fb_dtype_of(grad), FB_F32);
    fb_read(grad, g, sizeof(float) * N * 16);
    check_close(ctx);
}

static void backward_has_the_dtypes_of_forward_wherever_it_is_called(void **state)
{
    (void)state;
    float in[N * 16], after[N * 16], plain[N * 16];
    gradient(0, in);
    gradient(1, after);
    gradient(2, plain);
    assert_memory_equal(in, after, sizeof in);
    float most = 0;
    for (int i = 0; i < N * 16; i++)
        most = fmaxf(most, fabsf(plain[i]));
    for (int i = 0; i < N * 16; i++)
        assert_true(fabsf(in[i] - plain[i]) < 0.05F * most);
    assert_true(memcmp(in, plain, sizeof in) != 0);
}

typedef struct part {
    fb_module *m;
} part;

static fb_status segment(void *user, fb_tensors in, fb_tensor **out)
{
    out[0] = fb_nn_forward(((part *)user)->m, in.t[0]);
    return out[0] ? FB_OK : FB_E_USER;
}

static void a_recomputation_has_the_dtypes_of_the_first_one(void **state)
{
    (void)state;
    float g[2][N * 16];
    for (int k = 0; k < 2; k++) {
        fb_context *ctx = check_open_device(1);
        part p = {net(ctx)};
        fb_tensor *x = fb_requires_grad(fb_detach(square_of(ctx, FB_F32)), true), *y = NULL;
        {
            FB_SCOPE(ctx);
            fb_autocast(ctx, FB_BF16);
            if (k)
                assert_int_equal(fb_checkpoint_call(segment, &p, (fb_tensors){&x, 1}, 1, &y),
                                 FB_OK);
            else
                y = fb_nn_forward(p.m, x);
            assert_int_equal(fb_dtype_of(y), FB_BF16);
            fb_keep(y);
        }
        assert_int_equal(fb_backward(fb_mean(fb_square(y), FB_ALL, false)), FB_OK);
        fb_read(fb_grad_of(fb_nn_param(p.m, "0.weight")), g[k], sizeof g[k]);
        check_close(ctx);
    }
    assert_memory_equal(g[0], g[1], sizeof g[0]);
}

/* --- training --- */

enum { CLASSES = 3, SAMPLES = 48, SIDE = 6 };

static fb_module *images(fb_context *ctx)
{
    return fb_nn_sequential(ctx,
                            fb_nn_conv2d(ctx, 1, 6, 3, FB_OPTS(fb_conv_options, .padding = {1, 1})),
                            fb_nn_batch_norm2d(ctx, 6, NULL), fb_nn_relu(ctx), fb_nn_flatten(ctx),
                            fb_nn_linear(ctx, 6 * SIDE * SIDE, CLASSES, NULL));
}

static fb_module *vectors(fb_context *ctx)
{
    return fb_nn_sequential(ctx, fb_nn_flatten(ctx), fb_nn_linear(ctx, SIDE * SIDE, 24, NULL),
                            fb_nn_gelu(ctx), fb_nn_linear(ctx, 24, CLASSES, NULL));
}

/* Stripes that lean by their class. */
static void samples(fb_context *ctx, fb_tensor **x, fb_tensor **y)
{
    static float v[SAMPLES * SIDE * SIDE];
    int64_t label[SAMPLES];
    for (int s = 0; s < SAMPLES; s++) {
        label[s] = s % CLASSES;
        for (int i = 0; i < SIDE * SIDE; i++)
            v[s * SIDE * SIDE + i] = (float)(sin(i % SIDE + (double)label[s] * (i / SIDE)) +
                                             0.3 * sin(s * 7.1 + i * 1.9));
    }
    *x = fb_from(ctx, FB_F32, FB_SHAPE(SAMPLES, 1, SIDE, SIDE), v);
    *y = fb_from(ctx, FB_I64, FB_SHAPE(SAMPLES), label);
}

static fb_status is_wide(const char *name, fb_tensor *t, void *user)
{
    (void)user;
    if (fb_dtype_of(t) != FB_F32 || fb_dtype_of(fb_grad_of(t)) != FB_F32)
        fail_msg("%s is not F32, or its gradient", name);
    return FB_OK;
}

/* The loss after some steps; the first one too. */
static double trained(fb_module *(*make)(fb_context *), fb_dtype half, double *first)
{
    fb_context *ctx = check_open_device(1);
    fb_module *m = make(ctx);
    fb_optimizer *opt = fb_optim_adam(ctx, m, FB_OPTS(fb_adam_options, .lr = 3e-3));
    fb_scaler *scaler =
        half == FB_F16 ? fb_optim_scaler(opt, FB_OPTS(fb_scaler_options, .scale = 1024)) : NULL;
    double last = 0;
    for (int s = 0; s < 25; s++) {
        FB_SCOPE(ctx);
        fb_tensor *x, *y, *loss;
        samples(ctx, &x, &y);
        {
            FB_SCOPE(ctx);
            fb_autocast(ctx, half);
            loss = fb_keep(fb_cross_entropy(fb_nn_forward(m, x), y, NULL));
        }
        assert_int_equal(fb_dtype_of(loss), FB_F32);
        assert_int_equal(fb_backward(loss), FB_OK);
        assert_int_equal(fb_optim_step(opt), FB_OK);
        last = fb_item(loss);
        *first = s ? *first : last;
    }
    assert_int_equal(fb_optim_steps(opt), 25);
    assert_int_equal(fb_nn_each_param(m, is_wide, NULL), FB_OK);
    fb_scaler_close(scaler);
    check_close(ctx);
    return last;
}

static void training_goes_as_in_f32(void **state)
{
    (void)state;
    fb_module *(*const makes[])(fb_context *) = {vectors, images};
    for (int k = 0; k < 2; k++) {
        double first, plain = trained(makes[k], FB_F32, &first);
        assert_true(plain < 0.5 * first);
        for (int half = FB_F16; half <= FB_BF16; half++) {
            double begin, end = trained(makes[k], (fb_dtype)half, &begin);
            if (fabs(begin - first) > 0.02 * first || fabs(end - plain) > 0.05 * first)
                fail_msg("net %d in %s: %g to %g, in F32 %g to %g", k,
                         fb_dtype_name((fb_dtype)half), begin, end, first, plain);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_those_of_pytorch),
        cmocka_unit_test(results_have_the_dtypes_of_pytorch),
        cmocka_unit_test(a_mode_ends_with_its_scope),
        cmocka_unit_test(other_dtypes_are_refused),
        cmocka_unit_test(an_operator_that_does_nothing_gives_the_cast),
        cmocka_unit_test(a_leaf_is_cast_once_in_a_region),
        cmocka_unit_test(a_leaf_that_changes_is_cast_again),
        cmocka_unit_test(backward_has_the_dtypes_of_forward_wherever_it_is_called),
        cmocka_unit_test(a_recomputation_has_the_dtypes_of_the_first_one),
        cmocka_unit_test(training_goes_as_in_f32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
