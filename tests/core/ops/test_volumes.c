/* Convolutions and pools of one, two and three dimensions against plain loops over volumes, in
 * double; transposed ones too: what a volume's element gave to the result it gets back. */
#include "ops_test_priv.h"

#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/conv.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/interpolate.h>
#include <flambeau/core/ops/pool.h>
#include <flambeau/core/ops/shuffle.h>
#include <flambeau/core/ops/view.h>

enum { MOST = 6000 };

typedef struct shape {
    int nd, n, c, k, g, in[3], w[3], s[3], p[3], d[3], extra[3], out[3];
} shape;

static shape sized(shape q)
{
    for (int i = 0; i < 3; i++)
        q.out[i] = (q.in[i] + 2 * q.p[i] - q.d[i] * (q.w[i] - 1) - 1) / q.s[i] + 1;
    return q;
}

static int volume(const int *v)
{
    return v[0] * v[1] * v[2];
}

/* Where window element `tap` of output `o` lies in the input; -1: in the padding. */
static int place(const shape *q, int o, int tap)
{
    int at = 0, step_o = volume(q->out), step_w = volume(q->w);
    for (int i = 0; i < 3; i++) {
        step_o /= q->out[i];
        step_w /= q->w[i];
        int x = o / step_o % q->out[i] * q->s[i] - q->p[i] + tap / step_w % q->w[i] * q->d[i];
        if (x < 0 || x >= q->in[i])
            return -1;
        at = at * q->in[i] + x;
    }
    return at;
}

/* y from x and w, dx from u and w */
static void plain(const shape *q, const float *x, const float *w, const float *u, double *y,
                  double *dx)
{
    int in = volume(q->in), out = volume(q->out), taps = volume(q->w), cg = q->c / q->g;
    for (int i = 0; i < q->n * q->k * out; i++)
        for (int c = 0; c < cg; c++)
            for (int t = 0; t < taps; t++) {
                int o = i % out, k = i / out % q->k, n = i / out / q->k, at = place(q, o, t);
                if (at < 0)
                    continue;
                int from = (n * q->c + k / (q->k / q->g) * cg + c) * in + at;
                float weight = w[(k * cg + c) * taps + t];
                y[i] += (double)x[from] * (double)weight;
                dx[from] += (double)u[i] * (double)weight;
            }
}

/* [a, b] and the last nd of three sizes */
static fb_shape sizes(int a, int b, const int *v, int nd)
{
    fb_shape s = {2 + nd, {a, b}};
    for (int i = 0; i < nd; i++)
        s.d[2 + i] = v[3 - nd + i];
    return s;
}

static void three(int64_t *to, const int *v, int nd)
{
    for (int i = 0; i < nd; i++)
        to[i] = v[3 - nd + i] ? v[3 - nd + i] : FB_ZERO_INT;
}

typedef fb_tensor *(*conv_fn)(fb_tensor *, fb_tensor *, fb_tensor *, const fb_conv_options *);
static const conv_fn forward[] = {fb_conv1d, fb_conv2d, fb_conv3d};
static const conv_fn back[] = {fb_conv_transpose1d, fb_conv_transpose2d, fb_conv_transpose3d};

static void check(fb_context *ctx, shape given, fb_dtype dtype)
{
    FB_SCOPE(ctx);
    static float x[MOST], w[MOST], u[MOST];
    static double y[MOST], dx[MOST];
    shape q = sized(given);
    int nx = q.n * q.c * volume(q.in), ny = q.n * q.k * volume(q.out);
    memset(y, 0, sizeof y);
    memset(dx, 0, sizeof dx);
    fill(x, MOST, -1, 1);
    fill(w, MOST, -1, 1.5f);
    fill(u, MOST, -2, 1);
    plain(&q, x, w, u, y, dx);
    fb_tensor *tx = fb_to(fb_from(ctx, FB_F32, sizes(q.n, q.c, q.in, q.nd), x), dtype);
    fb_tensor *tw = fb_to(fb_from(ctx, FB_F32, sizes(q.k, q.c / q.g, q.w, q.nd), w), dtype);
    fb_tensor *tu = fb_to(fb_from(ctx, FB_F32, sizes(q.n, q.k, q.out, q.nd), u), dtype);
    fb_conv_options o = {.groups = q.g};
    three(o.stride, q.s, q.nd);
    three(o.padding, q.p, q.nd);
    three(o.dilation, q.d, q.nd);
    expect_values(fb_to(forward[q.nd - 1](tx, tw, NULL, &o), FB_F32), y, ny, 1e-4);
    three(o.output_padding, q.extra, q.nd);
    fb_tensor *t = back[q.nd - 1](tu, tw, NULL, &o);
    assert_non_null(t);
    assert_true(fb_shape_equal(fb_shape_of(t), fb_shape_of(tx)));
    expect_values(fb_to(t, FB_F32), dx, nx, 1e-4);
}

static void convolutions_and_their_transposes_match_plain_loops(void **state)
{
    const shape cases[] = {
        {1, 2, 4, 6, 2, {1, 1, 11}, {1, 1, 3}, {1, 1, 2}, {0, 0, 1}, {1, 1, 2}, {0, 0, 0}, {0}},
        {1, 2, 3, 2, 1, {1, 1, 8}, {1, 1, 2}, {1, 1, 3}, {0, 0, 0}, {1, 1, 1}, {0, 0, 0}, {0}},
        {2, 2, 4, 4, 4, {1, 7, 6}, {1, 3, 2}, {1, 2, 1}, {0, 1, 0}, {1, 1, 2}, {0, 0, 0}, {0}},
        {3, 2, 4, 6, 2, {4, 5, 4}, {2, 3, 2}, {1, 2, 1}, {1, 1, 0}, {2, 1, 1}, {0, 0, 0}, {0}},
        {3, 1, 3, 2, 1, {6, 4, 5}, {3, 1, 2}, {2, 1, 3}, {0, 0, 1}, {1, 1, 2}, {1, 0, 1}, {0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        shape q = sized(cases[i]);
        for (int d = 0; d < 3; d++) /* what the windows do not reach at the end */
            q.extra[d] = (q.in[d] + 2 * q.p[d] - q.d[d] * (q.w[d] - 1) - 1) % q.s[d];
        check(*state, q, FB_F32);
        check(*state, q, FB_F64);
    }
}

static void same_padding_keeps_the_size(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = fb_ones(ctx, FB_F32, FB_SHAPE(1, 1, 5)),
              *w = fb_ones(ctx, FB_F32, FB_SHAPE(1, 1, 4));
    fb_conv_options o = {.same = true};
    const double want[5] = {3, 4, 4, 3, 2}; /* one before, two behind */
    expect_values(fb_conv1d(x, w, NULL, &o), want, 5, 0);
    o.stride[0] = 2;
    assert_null(fb_conv1d(x, w, NULL, &o));
    expect_error(ctx, FB_E_ARG, "conv1d: padding \"same\" needs a stride of 1");
}

static void pools_of_volumes_match_plain_loops(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    shape q = sized(
        (shape){3, 1, 2, 0, 1, {5, 4, 6}, {3, 2, 2}, {2, 1, 2}, {1, 0, 1}, {1, 1, 1}, {0}, {0}});
    static float x[240];
    double most[240], mean[240], inside[240];
    int64_t at[240];
    fill(x, 240, -1, 1);
    int in = volume(q.in), out = volume(q.out), n = 2 * out;
    for (int i = 0; i < n; i++) {
        double sum = 0;
        int best = -1, count = 0;
        for (int t = 0; t < volume(q.w); t++) {
            int from = place(&q, i % out, t);
            if (from < 0)
                continue;
            sum += (double)x[i / out * in + from];
            count++;
            if (best < 0 || x[i / out * in + from] > x[i / out * in + best])
                best = from;
        }
        most[i] = (double)x[i / out * in + best];
        at[i] = best;
        mean[i] = sum / volume(q.w);
        inside[i] = sum / count;
    }
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(2, 5, 4, 6), x), *y, *index; /* no batch */
    fb_conv_options o = {.stride = {2, 1, 2}, .padding = {1, FB_ZERO_INT, 1}};
    assert_int_equal(fb_max_pool_with_indices(t, FB_SHAPE(3, 2, 2), &o, &y, &index), FB_OK);
    expect_values(y, most, n, 0);
    int64_t got[240];
    assert_int_equal(fb_dtype_of(index), FB_I64);
    assert_int_equal(fb_read(index, got, (size_t)n * sizeof(int64_t)), FB_OK);
    assert_memory_equal(got, at, (size_t)n * sizeof(int64_t));
    expect_values(fb_avg_pool3d(t, 3, 2, 2, &o), mean, n, 1e-6);
    o.exclude_pad = true;
    expect_values(fb_avg_pool3d(t, 3, 2, 2, &o), inside, n, 1e-6);
}

static void unpooling_puts_values_back_and_checks_places(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    const float x[4] = {1, 5, 2, 3};
    const double want[4] = {0, 5, 0, 3};
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(1, 1, 4), x), *y, *index;
    assert_int_equal(fb_max_pool_with_indices(t, FB_SHAPE(2), NULL, &y, &index), FB_OK);
    expect_values(fb_max_unpool(y, index, FB_SHAPE(4)), want, 4, 0);
    fb_tensor *z = fb_max_unpool(y, index, FB_SHAPE(3)); /* a card says it at the next wait */
    fb_context_sync(ctx);
    (void)z;
    expect_error(ctx, FB_E_ARG,
                 strcmp(fb_device_of(t), "cpu") ? "index 3" : "max_unpool1d: index 3");
    assert_null(fb_max_unpool(y, index, FB_SHAPE(1, 2, 3, 4)));
    expect_error(ctx, FB_E_ARG, "max_unpool: 4 dimensions; 1, 2 or 3 are wanted");
}

static void a_linear_map_stays_linear_when_it_is_interpolated(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    float x[12];
    double want[35];
    for (int i = 0; i < 12; i++)
        x[i] = (float)(i / 4 * 6 + i % 4 * 2); /* 6 y + 2 x */
    for (int i = 0; i < 35; i++)
        want[i] = 6.0 * (i / 7) * 2 / 4 + 2.0 * (i % 7) * 3 / 6;
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(1, 1, 3, 4), x);
    fb_interpolate_options o = {.mode = FB_LINEAR, .align_corners = true};
    fb_tensor *y = fb_interpolate(t, FB_SHAPE(5, 7), &o);
    expect_values(y, want, 35, 1e-6);
    /* the same through a grid of the identity */
    const float one[6] = {1, 0, 0, 0, 1, 0};
    fb_tensor *theta = fb_from(ctx, FB_F32, FB_SHAPE(1, 2, 3), one);
    fb_tensor *grid = fb_affine_grid(theta, FB_SHAPE(1, 1, 5, 7), true);
    expect_values(fb_grid_sample(t, grid, FB_OPTS(fb_grid_options, .align_corners = true)), want,
                  35, 1e-5);
    expect_values(fb_pixel_unshuffle(fb_pixel_shuffle(fb_reshape(t, FB_SHAPE(1, 4, 3, 1)), 2), 2),
                  (const double[]){0, 2, 4, 6, 6, 8, 10, 12, 12, 14, 16, 18}, 12, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_and_their_transposes_match_plain_loops),
        cmocka_unit_test(same_padding_keeps_the_size),
        cmocka_unit_test(pools_of_volumes_match_plain_loops),
        cmocka_unit_test(unpooling_puts_values_back_and_checks_places),
        cmocka_unit_test(a_linear_map_stays_linear_when_it_is_interpolated),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
