/* Parameters in F16 and BF16: at every step they are the rounding of a twin in F32 that is given
 * the same gradients. */
#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <math.h>

#include "core/optim/optim_priv.h"

enum { SMALL = 37, LARGE = 41003, TENSORS = 3, METHODS = 5 };
static const int64_t sizes[TENSORS] = {SMALL, LARGE, SMALL};
static const fb_dtype halves[] = {FB_F16, FB_BF16};

typedef struct side {
    fb_tensor *p[TENSORS];
    fb_optimizer *opt;
} side;

static fb_optimizer *method(fb_context *ctx, int kind)
{
    fb_sgd_options sgd = {.lr = 1e-3, .momentum = kind ? 0.9 : 0, .weight_decay = 0.01};
    fb_adam_options adam = {.lr = 1e-3, .weight_decay = 0.1, .amsgrad = kind == 4};
    return kind < 2    ? fb_optim_sgd(ctx, NULL, &sgd)
           : kind == 2 ? fb_optim_adam(ctx, NULL, &adam)
                       : fb_optim_adamw(ctx, NULL, &adam);
}

static fb_tensor *values(fb_context *ctx, int seed, int64_t n)
{
    float *v = malloc((size_t)n * sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = sinf((float)(seed * 7 + i % 1009));
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(n), v);
    free(v);
    return t;
}

/* Values that the half dtype has, in `dtype`. */
static fb_tensor *rounded(fb_context *ctx, fb_dtype half, fb_dtype dtype, int seed, int64_t n)
{
    return fb_to(fb_to(values(ctx, seed, n), half), dtype);
}

static side begin(fb_context *ctx, fb_dtype half, fb_dtype dtype, int kind)
{
    static const char *const names[TENSORS] = {"a", "b", "c"};
    side s = {.opt = method(ctx, kind)};
    for (int i = 0; i < TENSORS; i++) {
        s.p[i] = fb_requires_grad(fb_detach(rounded(ctx, half, dtype, i, sizes[i])), true);
        assert_int_equal(fb_optim_add_tensor(s.opt, names[i], s.p[i]), FB_OK);
    }
    return s;
}

static void step(fb_context *ctx, side *s, fb_dtype half, int number)
{
    FB_SCOPE(ctx);
    for (int i = 0; i < TENSORS; i++) {
        fb_tensor *g = rounded(ctx, half, fb_dtype_of(s->p[i]), 100 * number + i, sizes[i]);
        assert_int_equal(fb_set_grad(s->p[i], g), FB_OK);
    }
    assert_int_equal(fb_optim_step(s->opt), FB_OK);
}

static void compare(fb_context *ctx, const side *a, const side *twin, fb_dtype half, int number)
{
    FB_SCOPE(ctx);
    static uint16_t got[LARGE], want[LARGE];
    for (int i = 0; i < TENSORS; i++) {
        size_t bytes = (size_t)sizes[i] * sizeof *got;
        assert_int_equal(fb_read(a->p[i], got, bytes), FB_OK);
        assert_int_equal(fb_read(fb_to(fb_detach(twin->p[i]), half), want, bytes), FB_OK);
        for (int64_t k = 0; k < sizes[i]; k++)
            if (got[k] != want[k])
                fail_msg("%s, step %d: element %lld of %d is %04x, the twin's %04x",
                         fb_dtype_name(half), number, (long long)k, i, got[k], want[k]);
    }
}

static void a_half_is_the_rounding_of_its_twin(void **state)
{
    (void)state;
    for (size_t d = 0; d < 2; d++)
        for (int kind = 0; kind < METHODS; kind++) {
            fb_context *ctx = check_open_device(2);
            side a = begin(ctx, halves[d], halves[d], kind);
            side twin = begin(ctx, halves[d], FB_F32, kind);
            if (kind % 2) {
                fb_optim_clip_norm(a.opt, 3);
                fb_optim_clip_norm(twin.opt, 3);
            }
            for (int s = 1; s <= 6; s++) {
                step(ctx, &a, halves[d], s);
                step(ctx, &twin, halves[d], s);
                compare(ctx, &a, &twin, halves[d], s);
            }
            if (kind % 2)
                assert_true(fb_optim_grad_norm(a.opt) == fb_optim_grad_norm(twin.opt));
            check_close(ctx);
        }
}

/* 1 - 2^-12 is no BF16, nor an F16: without a master nothing would ever move. */
static void small_updates_add_up(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    for (size_t d = 0; d < 2; d++) {
        FB_SCOPE(ctx);
        fb_tensor *p = fb_requires_grad(fb_ones(ctx, halves[d], FB_SHAPE(3)), true);
        fb_optimizer *opt = fb_optim_sgd(ctx, NULL, FB_OPTS(fb_sgd_options, .lr = 1.0 / 4096));
        fb_optim_add_tensor(opt, "p", p);
        for (int s = 0; s < 1024; s++) {
            fb_set_grad(p, fb_ones(ctx, halves[d], FB_SHAPE(3)));
            fb_optim_step(opt);
        }
        float got[3];
        fb_read(fb_to(fb_detach(p), FB_F32), got, sizeof got);
        assert_true(got[0] == 0.75F && got[2] == 0.75F);
        fb_optim_close(opt);
    }
    check_close(ctx);
}

static void what_a_program_writes_is_taken_over(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    side a = begin(ctx, FB_BF16, FB_BF16, 3), twin = begin(ctx, FB_BF16, FB_F32, 3);
    float other[SMALL];
    uint16_t bits[SMALL];
    for (int i = 0; i < SMALL; i++)
        other[i] = (float)(i - 5) / 4;
    fb_read(fb_to(fb_from(ctx, FB_F32, FB_SHAPE(SMALL), other), FB_BF16), bits, sizeof bits);
    for (int s = 1; s <= 4; s++) {
        step(ctx, &a, FB_BF16, s);
        step(ctx, &twin, FB_BF16, s);
        if (s == 2) {
            assert_int_equal(fb_write(a.p[0], bits, sizeof bits), FB_OK);
            assert_int_equal(fb_write(twin.p[0], other, sizeof other), FB_OK);
        }
        compare(ctx, &a, &twin, FB_BF16, s);
    }
    check_close(ctx);
}

/* --- checkpoints --- */

typedef struct kept {
    fb_tensor *master;
    int n;
} kept;

static fb_status note(const char *name, fb_tensor *t, void *user)
{
    kept *k = user;
    k->n++;
    if (!strcmp(name, "a.master"))
        k->master = t;
    return FB_OK;
}

static void masters_are_state(void **state)
{
    (void)state;
    for (int kind = 0; kind <= 2; kind += 2) { /* without and with other state */
        fb_context *ctx = check_open_device(1);
        side a = begin(ctx, FB_BF16, FB_BF16, kind), twin = begin(ctx, FB_BF16, FB_F32, kind);
        kept k = {0};
        float master[SMALL], want[SMALL];
        for (int s = 1; s <= 3; s++) {
            step(ctx, &a, FB_BF16, s);
            step(ctx, &twin, FB_BF16, s);
        }
        assert_int_equal(fbi_optim_each_state(a.opt, note, &k), FB_OK);
        assert_int_equal(k.n, TENSORS * (kind ? 4 : 2)); /* exp_avg, exp_avg_sq, master, step */
        assert_int_equal(fb_dtype_of(k.master), FB_F32);
        assert_int_equal(fb_read(k.master, master, sizeof master), FB_OK);
        assert_int_equal(fb_read(twin.p[0], want, sizeof want), FB_OK);
        assert_memory_equal(master, want, sizeof want);
        check_close(ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_half_is_the_rounding_of_its_twin),
        cmocka_unit_test(small_updates_add_up),
        cmocka_unit_test(what_a_program_writes_is_taken_over),
        cmocka_unit_test(masters_are_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
