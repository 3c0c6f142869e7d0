/* Products under the names that PyTorch has for them: matmul with other checks, or with a sum. */
#include <flambeau/core/ops/linalg.h>

#include "core/ops/half_priv.h"

#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

/* The dtype of a result whose steps were computed by fbi_exact. */
static fb_tensor *rounded(fb_tensor *y, const fb_tensor *like)
{
    return y ? fb_to(y, (fb_dtype)like->dtype) : NULL;
}

/* in[i] and in[j] have one dtype, `ni` and `nj` dimensions, and inner sizes that fit. */
static fb_status need_product(const fbi_call *c, int i, int ni, int j, int nj)
{
    const fb_tensor *a = c->in[i], *b = c->in[j];
    fb_status st = fbi_need_numbers(c, i);
    if (!st)
        st = fbi_need_dtype(c, j, (fb_dtype)a->dtype);
    if (!st)
        st = fbi_need_ndim(c, i, ni);
    if (!st)
        st = fbi_need_ndim(c, j, nj);
    if (st)
        return st;
    if (a->size[ni - 1] != b->size[nj == 1 ? 0 : nj - 2])
        return fbi_op_fail(c, FB_E_SHAPE, "inner sizes differ: %s x %s", fbi_text(a), fbi_text(b));
    if (ni == 3 && a->size[0] != b->size[0])
        return fbi_op_fail(c, FB_E_SHAPE, "batch sizes differ: %s x %s", fbi_text(a), fbi_text(b));
    return FB_OK;
}

static fb_status product(fbi_call *c, int na, int nb)
{
    fb_status st = need_product(c, 0, na, 1, nb);
    return st ? st : fbi_composed(c, fb_matmul(c->in[0], c->in[1]));
}

fb_status fbi_compose_mm(fbi_call *c)
{
    return product(c, 2, 2);
}
fb_status fbi_compose_bmm(fbi_call *c)
{
    return product(c, 3, 3);
}
fb_status fbi_compose_mv(fbi_call *c)
{
    return product(c, 2, 1);
}
fb_status fbi_compose_dot(fbi_call *c)
{
    return product(c, 1, 1);
}
fb_status fbi_compose_vdot(fbi_call *c)
{
    return product(c, 1, 1);
}

fb_status fbi_compose_outer(fbi_call *c)
{
    fb_status st = fbi_need_ndim(c, 0, 1);
    if (!st)
        st = fbi_need_ndim(c, 1, 1);
    return st ? st : fbi_composed(c, fb_mul(fb_unsqueeze(c->in[0], 1), fb_unsqueeze(c->in[1], 0)));
}

fb_status fbi_compose_inner(fbi_call *c)
{
    fb_tensor *a = c->in[0], *b = c->in[1];
    if (a->ndim == 0 || b->ndim == 0)
        return fbi_composed(c, fb_mul(a, b));
    fb_status st = fbi_need_numbers(c, 0);
    if (!st)
        st = fbi_need_dtype(c, 1, (fb_dtype)a->dtype);
    if (st)
        return st;
    fb_shape s = fb_shape_of(a), t = fb_shape_of(b);
    if (s.d[s.n - 1] != t.d[t.n - 1])
        return fbi_op_fail(c, FB_E_SHAPE, "last sizes differ: %s and %s", fbi_text(a), fbi_text(b));
    if (s.n + t.n - 2 > FB_MAX_DIMS)
        return fbi_op_fail(c, FB_E_SHAPE, "%s and %s give more than %d dimensions", fbi_text(a),
                           fbi_text(b), FB_MAX_DIMS);
    int64_t k = s.d[--s.n], m = 1, n = 1;
    for (int i = 0; i < s.n; i++)
        m *= s.d[i];
    for (int i = 0; i < t.n - 1; i++) {
        n *= t.d[i];
        s.d[s.n++] = t.d[i];
    }
    fb_tensor *rows = fb_reshape(a, FB_SHAPE(m, k)), *columns = fb_reshape(b, FB_SHAPE(n, k));
    fb_tensor *y = columns ? fb_matmul(rows, fb_transpose(columns, 0, 1)) : NULL;
    return fbi_composed(c, y ? fb_reshape(y, s) : NULL);
}

/* --- beta input + alpha product --- */

/* The rows of this kind have the same attributes. */
typedef fbi_attrs_addmm scales;

/* in[0] broadcasts to the product's shape. */
static fb_status need_addend(const fbi_call *c, fb_shape to)
{
    fb_shape s;
    fb_status st = fbi_need_dtype(c, 0, (fb_dtype)c->in[1]->dtype);
    if (st)
        return st;
    if (fbi_broadcast(fb_shape_of(c->in[0]), to, &s) && fb_shape_equal(s, to))
        return FB_OK;
    return fbi_op_fail(c, FB_E_SHAPE, "input %s does not fit the product %s", fbi_text(c->in[0]),
                       fbi_shape_text(c->ctx, to));
}

/* The product y of fbi_exact operands; with beta 0 nothing of the input shows, not even a NaN, but
 * it has a gradient of zeros. */
static fb_tensor *scaled_sum(const fbi_call *c, fb_tensor *y)
{
    const scales *s = c->attrs;
    fb_tensor *input = c->in[0];
    if (y && s->alpha != 1)
        y = fb_mul_scalar(y, s->alpha);
    if (!y || (s->beta == 0 && !fb_needs_grad(input)))
        return rounded(y, input);
    if (s->beta == 0)
        return rounded(fb_where(fb_full(c->ctx, FB_BOOL, FB_SCALAR, 0), fbi_exact(input), y),
                       input);
    input = fbi_exact(input);
    return rounded(fb_add(s->beta == 1 ? input : fb_mul_scalar(input, s->beta), y), c->in[0]);
}

static fb_status add_product(fbi_call *c, int na, int nb, fb_shape to)
{
    fb_status st = need_addend(c, to);
    if (st)
        return st;
    const scales *s = c->attrs;
    fb_tensor *input = c->in[0], *a = c->in[1], *b = c->in[2];
    bool bias = na == 2 && nb == 2 && input->ndim == 1 && input->size[0] == to.d[1];
    if (bias && s->alpha == 1 && s->beta == 1)
        return fbi_composed(c, fb_linear(a, fb_transpose(b, 0, 1), input));
    return fbi_composed(c, scaled_sum(c, fb_matmul(fbi_exact(a), fbi_exact(b))));
}

fb_status fbi_compose_addmm(fbi_call *c)
{
    fb_status st = need_product(c, 1, 2, 2, 2);
    return st ? st : add_product(c, 2, 2, FB_SHAPE(c->in[1]->size[0], c->in[2]->size[1]));
}

fb_status fbi_compose_addmv(fbi_call *c)
{
    fb_status st = need_product(c, 1, 2, 2, 1);
    return st ? st : add_product(c, 2, 1, FB_SHAPE(c->in[1]->size[0]));
}

fb_status fbi_compose_baddbmm(fbi_call *c)
{
    fb_status st = need_product(c, 1, 3, 2, 3);
    const fb_tensor *a = c->in[1], *b = c->in[2];
    return st ? st : add_product(c, 3, 3, FB_SHAPE(a->size[0], a->size[1], b->size[2]));
}

/* A batch of products and their sum: one product with a longer inner size. */
fb_status fbi_compose_addbmm(fbi_call *c)
{
    fb_tensor *a = c->in[1], *b = c->in[2];
    fb_status st = need_product(c, 1, 3, 2, 3);
    if (!st)
        st = need_addend(c, FB_SHAPE(a->size[1], b->size[2]));
    if (st)
        return st;
    fb_tensor *rows = fb_permute(fbi_exact(a), FB_SHAPE(1, 0, 2));
    int64_t k = a->size[0] * a->size[2];
    fb_tensor *wide = fb_reshape(rows, FB_SHAPE(a->size[1], k));
    fb_tensor *tall = fb_reshape(fbi_exact(b), FB_SHAPE(k, b->size[2]));
    return fbi_composed(c, scaled_sum(c, wide && tall ? fb_matmul(wide, tall) : NULL));
}

fb_status fbi_compose_addr(fbi_call *c)
{
    fb_tensor *a = c->in[1], *b = c->in[2];
    fb_status st = fbi_need_ndim(c, 1, 1);
    if (!st)
        st = fbi_need_ndim(c, 2, 1);
    if (!st)
        st = fbi_need_numbers(c, 1);
    if (!st)
        st = fbi_need_dtype(c, 2, (fb_dtype)a->dtype);
    if (!st)
        st = need_addend(c, FB_SHAPE(a->size[0], b->size[0]));
    if (st)
        return st;
    fb_tensor *row = fb_unsqueeze(fbi_exact(b), 0);
    return fbi_composed(c, scaled_sum(c, fb_mul(fb_unsqueeze(fbi_exact(a), 1), row)));
}

/* --- samples --- */

#define IN(...)                                           \
    {                                                     \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -1, .hi = 1 \
    }

/* A call that works and one that does not: the same with another second operand. */
static void two(fbi_samples *s, fbi_sample_in a, fbi_sample_in b, fb_shape wrong, const char *text)
{
    fbi_sample_in in[2] = {a, b};
    fbi_sample_add(s, NULL, 2, in);
    in[1].shape = wrong;
    fbi_sample_bad(s, NULL, 2, in, FB_E_SHAPE, text);
}

void fbi_sample_mm(fbi_samples *s)
{
    two(s, (fbi_sample_in)IN(3, 4), (fbi_sample_in)IN(4, 2), FB_SHAPE(5, 2),
        "mm: inner sizes differ: [3, 4] x [5, 2]");
}
void fbi_sample_bmm(fbi_samples *s)
{
    two(s, (fbi_sample_in)IN(2, 3, 4), (fbi_sample_in)IN(2, 4, 2), FB_SHAPE(3, 4, 2),
        "bmm: batch sizes differ: [2, 3, 4] x [3, 4, 2]");
}
void fbi_sample_mv(fbi_samples *s)
{
    two(s, (fbi_sample_in)IN(3, 4), (fbi_sample_in)IN(4), FB_SHAPE(4, 1),
        "mv: input 1 has 2 dimensions [4, 1]; needs 1");
}
void fbi_sample_dot(fbi_samples *s)
{
    two(s, (fbi_sample_in)IN(5), (fbi_sample_in)IN(5), FB_SHAPE(4),
        "dot: inner sizes differ: [5] x [4]");
}
void fbi_sample_vdot(fbi_samples *s)
{
    two(s, (fbi_sample_in)IN(5), (fbi_sample_in)IN(5), FB_SHAPE(4),
        "vdot: inner sizes differ: [5] x [4]");
}
void fbi_sample_outer(fbi_samples *s)
{
    two(s, (fbi_sample_in)IN(3), (fbi_sample_in)IN(4), FB_SHAPE(2, 2),
        "outer: input 1 has 2 dimensions [2, 2]; needs 1");
}
void fbi_sample_inner(fbi_samples *s)
{
    two(s, (fbi_sample_in)IN(2, 3, 4), (fbi_sample_in)IN(2, 4), FB_SHAPE(2, 3),
        "inner: last sizes differ: [2, 3, 4] and [2, 3]");
    two(s, (fbi_sample_in)IN(4), (fbi_sample_in)IN(4), FB_SHAPE(3),
        "inner: last sizes differ: [4] and [3]");
}

/* With scales 1 and 1, others, and no input at all; then an input that does not fit. */
static void three(fbi_samples *s, fb_shape input, fbi_sample_in a, fbi_sample_in b,
                  const char *text)
{
    const scales of[] = {{1, 1}, {0.5, -2}, {0, 3}};
    fbi_sample_in in[3] = {{.shape = input, .lo = -1, .hi = 1}, a, b};
    for (size_t i = 0; i < sizeof of / sizeof of[0]; i++)
        fbi_sample_add(s, &of[i], 3, in);
    in[0].shape = FB_SHAPE(7);
    fbi_sample_bad(s, &of[0], 3, in, FB_E_SHAPE, text);
}

void fbi_sample_addmm(fbi_samples *s)
{
    const fbi_sample_in a = IN(3, 4), b = IN(4, 2);
    const char *text = "addmm: input [7] does not fit the product [3, 2]";
    three(s, FB_SHAPE(2), a, b, text);
    three(s, FB_SHAPE(3, 2), a, b, text);
}
void fbi_sample_addmv(fbi_samples *s)
{
    three(s, FB_SHAPE(3), (fbi_sample_in)IN(3, 4), (fbi_sample_in)IN(4),
          "addmv: input [7] does not fit the product [3]");
}
void fbi_sample_addr(fbi_samples *s)
{
    three(s, FB_SHAPE(3, 1), (fbi_sample_in)IN(3), (fbi_sample_in)IN(4),
          "addr: input [7] does not fit the product [3, 4]");
}
void fbi_sample_baddbmm(fbi_samples *s)
{
    three(s, FB_SHAPE(2, 1, 2), (fbi_sample_in)IN(2, 3, 4), (fbi_sample_in)IN(2, 4, 2),
          "baddbmm: input [7] does not fit the product [2, 3, 2]");
}
void fbi_sample_addbmm(fbi_samples *s)
{
    three(s, FB_SHAPE(3, 2), (fbi_sample_in)IN(2, 3, 4), (fbi_sample_in)IN(2, 4, 2),
          "addbmm: input [7] does not fit the product [3, 2]");
}

/* --- public --- */

fb_tensor *fb_mm(fb_tensor *a, fb_tensor *b)
{
    return FBI_RUN(mm, NULL, a, b);
}
fb_tensor *fb_bmm(fb_tensor *a, fb_tensor *b)
{
    return FBI_RUN(bmm, NULL, a, b);
}
fb_tensor *fb_mv(fb_tensor *a, fb_tensor *v)
{
    return FBI_RUN(mv, NULL, a, v);
}
fb_tensor *fb_dot(fb_tensor *a, fb_tensor *b)
{
    return FBI_RUN(dot, NULL, a, b);
}
fb_tensor *fb_vdot(fb_tensor *a, fb_tensor *b)
{
    return FBI_RUN(vdot, NULL, a, b);
}
fb_tensor *fb_outer(fb_tensor *a, fb_tensor *b)
{
    return FBI_RUN(outer, NULL, a, b);
}
fb_tensor *fb_inner(fb_tensor *a, fb_tensor *b)
{
    return FBI_RUN(inner, NULL, a, b);
}
fb_tensor *fb_addmm(fb_tensor *input, fb_tensor *a, fb_tensor *b, double beta, double alpha)
{
    return FBI_RUN(addmm, (&(fbi_attrs_addmm){beta, alpha}), input, a, b);
}
fb_tensor *fb_addmv(fb_tensor *input, fb_tensor *a, fb_tensor *v, double beta, double alpha)
{
    return FBI_RUN(addmv, (&(fbi_attrs_addmv){beta, alpha}), input, a, v);
}
fb_tensor *fb_addr(fb_tensor *input, fb_tensor *a, fb_tensor *b, double beta, double alpha)
{
    return FBI_RUN(addr, (&(fbi_attrs_addr){beta, alpha}), input, a, b);
}
fb_tensor *fb_addbmm(fb_tensor *input, fb_tensor *a, fb_tensor *b, double beta, double alpha)
{
    return FBI_RUN(addbmm, (&(fbi_attrs_addbmm){beta, alpha}), input, a, b);
}
fb_tensor *fb_baddbmm(fb_tensor *input, fb_tensor *a, fb_tensor *b, double beta, double alpha)
{
    return FBI_RUN(baddbmm, (&(fbi_attrs_baddbmm){beta, alpha}), input, a, b);
}
