/* einsum: operands lose what one of them alone can lose, then two at a time are contracted, each
 * time those whose result is smallest beside them. */
#include <ctype.h>
#include <string.h>

#include <flambeau/core/ops/linalg.h>

#include "core/ops/half_priv.h"

#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/strided.h>
#include <flambeau/core/ops/view.h>

/* Labels: 0 .. 25 are A .. Z, 26 .. 51 a .. z, then the dimensions of the ellipsis. */
enum { ELLIPSIS = 52, LABELS = ELLIPSIS + FB_MAX_DIMS, OPERANDS = 32 };

/* A tensor and the labels of its dimensions. */
typedef struct term {
    fb_tensor *t;
    int n, label[FB_MAX_DIMS];
} term;

typedef struct sum {
    const fbi_call *c;
    const char *equation;
    int n;
    term term[OPERANDS];
    int n_out, out[FB_MAX_DIMS];
    int64_t size[LABELS];
    int ellipsis; /* dimensions of the longest one; -1: no operand has any */
} sum;

static fb_status fail(const sum *s, fb_status st, const char *what)
{
    return fbi_op_fail(s->c, st, "\"%s\": %s", s->equation, what);
}

static int label_of(char c)
{
    return c >= 'a' ? c - 'a' + 26 : c - 'A';
}

static char letter_of(int label)
{
    return (char)(label < 26 ? 'A' + label : 'a' + label - 26);
}

/* --- the grammar --- */

/* Labels of one list of subscripts, ELLIPSIS for its dots. @return behind it, or NULL: error */
static const char *subscripts(const sum *s, const char *p, int *label, int *n)
{
    bool dots = false;
    *n = 0;
    for (; *p && *p != ',' && *p != '-'; p++) {
        if (*p == ' ')
            continue;
        if (*n > FB_MAX_DIMS) {
            fail(s, FB_E_ARG, "more than 8 subscripts of one operand");
            return NULL;
        }
        if (isalpha((unsigned char)*p)) {
            label[(*n)++] = label_of(*p);
            continue;
        }
        if (strncmp(p, "...", 3) || dots) {
            fbi_op_fail(s->c, FB_E_ARG, "\"%s\": \"%c\" is no letter, one \"...\", comma or \"->\"",
                        s->equation, *p);
            return NULL;
        }
        dots = true;
        label[(*n)++] = ELLIPSIS;
        p += 2;
    }
    return p;
}

/* The dimensions of operand i for its subscripts; the dots stand for the last of `ellipsis`. */
static fb_status set_term(sum *s, int i, fb_tensor *t, const int *label, int n)
{
    term *to = &s->term[i];
    bool dots = false;
    for (int k = 0; k < n; k++)
        dots = dots || label[k] == ELLIPSIS;
    int rest = t->ndim - (n - dots);
    if (rest < 0 || (rest > 0 && !dots))
        return fbi_op_fail(s->c, FB_E_SHAPE, "\"%s\": %d subscripts for operand %d %s", s->equation,
                           n - dots, i, fbi_text(t));
    *to = (term){.t = t};
    for (int k = 0; k < n; k++) {
        for (int d = 0; label[k] == ELLIPSIS && d < rest; d++)
            to->label[to->n++] = LABELS - rest + d;
        if (label[k] != ELLIPSIS)
            to->label[to->n++] = label[k];
    }
    if (dots && rest > s->ellipsis)
        s->ellipsis = rest;
    return FB_OK;
}

/* Sizes of all labels; a size of 1 goes with any. */
static fb_status set_sizes(sum *s)
{
    for (int i = 0; i < LABELS; i++)
        s->size[i] = -1;
    for (int i = 0; i < s->n; i++)
        for (int k = 0; k < s->term[i].n; k++) {
            int64_t *size = &s->size[s->term[i].label[k]], have = s->term[i].t->size[k];
            if (*size != -1 && *size != 1 && have != 1 && have != *size)
                return fbi_op_fail(s->c, FB_E_SHAPE,
                                   "\"%s\": dimension %d of operand %d %s is not %lld", s->equation,
                                   k, i, fbi_text(s->term[i].t), (long long)*size);
            if (*size == -1 || *size == 1)
                *size = have;
        }
    return FB_OK;
}

static fb_status out_of_range(const sum *s)
{
    return fail(s, FB_E_ARG, "more than 8 dimensions of the result");
}

/* Without "->": the ellipsis, then in the alphabet's order what occurs once. */
static fb_status implicit_output(sum *s)
{
    int seen[LABELS] = {0};
    for (int i = 0; i < s->n; i++)
        for (int k = 0; k < s->term[i].n; k++)
            seen[s->term[i].label[k]]++;
    for (int d = 0; d < s->ellipsis; d++)
        s->out[s->n_out++] = LABELS - s->ellipsis + d;
    for (int l = 0; l < ELLIPSIS; l++) {
        if (seen[l] != 1)
            continue;
        if (s->n_out == FB_MAX_DIMS)
            return out_of_range(s);
        s->out[s->n_out++] = l;
    }
    return FB_OK;
}

static fb_status explicit_output(sum *s, const int *label, int n)
{
    bool seen[LABELS] = {false};
    for (int k = 0; k < n; k++) {
        int l = label[k];
        if (s->n_out + (l == ELLIPSIS ? s->ellipsis : 1) > FB_MAX_DIMS)
            return out_of_range(s);
        for (int d = 0; l == ELLIPSIS && d < s->ellipsis; d++)
            s->out[s->n_out++] = LABELS - s->ellipsis + d;
        if (l == ELLIPSIS)
            continue;
        if (seen[l] || s->size[l] < 0)
            return fbi_op_fail(s->c, FB_E_ARG, "\"%s\": \"%c\" %s", s->equation, letter_of(l),
                               seen[l] ? "is twice in the result"
                                       : "of the result is in no operand");
        seen[l] = true;
        s->out[s->n_out++] = l;
    }
    return FB_OK;
}

static fb_status parse(sum *s, fb_tensor *const *in, int n)
{
    const char *p = s->equation;
    int label[FB_MAX_DIMS + 2], count;
    for (s->n = 0, s->ellipsis = -1;; p++) {
        p = subscripts(s, p, label, &count);
        if (!p)
            return s->c->ctx->status;
        if (s->n == n)
            return fail(s, FB_E_ARG, "more lists of subscripts than operands");
        fb_status st = set_term(s, s->n, in[s->n], label, count);
        if (st)
            return st;
        s->n++;
        if (*p != ',')
            break;
    }
    if (s->n != n)
        return fail(s, FB_E_ARG, "fewer lists of subscripts than operands");
    fb_status st = set_sizes(s);
    if (st)
        return st;
    if (!*p)
        return implicit_output(s);
    p = p[1] == '>' ? subscripts(s, p + 2, label, &count) : p;
    if (!p)
        return s->c->ctx->status;
    return *p ? fail(s, FB_E_ARG, "\"->\" and one result belong at its end")
              : explicit_output(s, label, count);
}

/* --- one operand --- */

static void remove_label(term *t, int k)
{
    t->n--;
    for (int i = k; i < t->n; i++)
        t->label[i] = t->label[i + 1];
}

/* A subscript that occurs twice: the diagonal. */
static fb_status diagonals(const sum *s, term *t, int which)
{
    for (int i = 0; i < t->n; i++)
        for (int j = i + 1; j < t->n; j++) {
            if (t->label[i] != t->label[j])
                continue;
            if (t->t->size[i] != t->t->size[j])
                return fbi_op_fail(s->c, FB_E_SHAPE,
                                   "\"%s\": \"%c\" of operand %d is both %lld and %lld",
                                   s->equation, letter_of(t->label[i]), which,
                                   (long long)t->t->size[i], (long long)t->t->size[j]);
            int label = t->label[i];
            t->t = fb_diagonal(t->t, 0, i, j); /* becomes the last dimension */
            if (!t->t)
                return s->c->ctx->status;
            remove_label(t, j);
            remove_label(t, i);
            t->label[t->n++] = label;
            i = -1;
            break;
        }
    return FB_OK;
}

/* Dimensions of size 1 that are longer elsewhere: nothing depends on them. */
static fb_status drop_single(const sum *s, term *t)
{
    for (int k = t->n - 1; k >= 0 && t->t; k--)
        if (t->t->size[k] == 1 && s->size[t->label[k]] != 1) {
            t->t = fb_squeeze(t->t, k);
            remove_label(t, k);
        }
    return t->t ? FB_OK : s->c->ctx->status;
}

static bool has(const term *t, int label)
{
    for (int k = 0; k < t->n; k++)
        if (t->label[k] == label)
            return true;
    return false;
}

/* Whether the result or an operand other than a and b has the label. */
static bool wanted(const sum *s, int label, int a, int b)
{
    for (int k = 0; k < s->n_out; k++)
        if (s->out[k] == label)
            return true;
    for (int i = 0; i < s->n; i++)
        if (i != a && i != b && has(&s->term[i], label))
            return true;
    return false;
}

/* Whether a term has to be summed before anything else. */
static bool any_alone(const sum *s)
{
    for (int i = 0; i < s->n; i++)
        for (int k = 0; k < s->term[i].n; k++)
            if (!wanted(s, s->term[i].label[k], i, i))
                return true;
    return false;
}

/* Sum over what nobody else has. */
static fb_status sum_alone(sum *s, int i)
{
    term *t = &s->term[i];
    fb_shape dims = {0};
    for (int k = t->n - 1; k >= 0; k--)
        if (!wanted(s, t->label[k], i, i)) {
            dims.d[dims.n++] = k;
            remove_label(t, k);
        }
    if (!dims.n)
        return FB_OK;
    t->t = fb_sum(t->t, dims, false);
    return t->t ? FB_OK : s->c->ctx->status;
}

/* --- two operands --- */

typedef struct group {
    int n, label[2 * FB_MAX_DIMS];
    int64_t size;
} group;

static void take(group *g, const sum *s, int label)
{
    g->label[g->n++] = label;
    g->size *= s->size[label];
}

/* Labels of both that stay, of a alone, of b alone, and those that are summed. */
typedef struct pair {
    group both, a, b, inner;
} pair;

static pair pair_of(const sum *s, int i, int j)
{
    pair p = {{.size = 1}, {.size = 1}, {.size = 1}, {.size = 1}};
    for (int k = 0; k < s->term[i].n; k++) {
        int l = s->term[i].label[k];
        if (!has(&s->term[j], l))
            take(&p.a, s, l);
        else
            take(wanted(s, l, i, j) ? &p.both : &p.inner, s, l);
    }
    for (int k = 0; k < s->term[j].n; k++)
        if (!has(&s->term[i], s->term[j].label[k]))
            take(&p.b, s, s->term[j].label[k]);
    return p;
}

/* t with its dimensions in the order of three groups. */
static fb_tensor *ordered(const term *t, const group *x, const group *y, const group *z)
{
    const group *all[3] = {x, y, z};
    fb_shape dims = {0};
    bool same = true;
    for (int g = 0; g < 3; g++)
        for (int i = 0; i < all[g]->n; i++)
            for (int k = 0; k < t->n; k++)
                if (t->label[k] == all[g]->label[i]) {
                    same = same && k == dims.n;
                    dims.d[dims.n++] = k;
                }
    return same ? t->t : fb_permute(t->t, dims);
}

static void append(fb_shape *s, const sum *e, const group *g, bool ones)
{
    for (int i = 0; i < g->n; i++)
        s->d[s->n++] = ones ? 1 : e->size[g->label[i]];
}

/* Term i becomes the contraction of terms i and j; j is gone. */
static fb_status contract(sum *s, int i, int j)
{
    pair p = pair_of(s, i, j);
    if (p.both.n + p.a.n + p.b.n > FB_MAX_DIMS)
        return fail(s, FB_E_SHAPE, "a product of two operands has more than 8 dimensions");
    fb_tensor *y, *a = ordered(&s->term[i], &p.both, &p.a, &p.inner);
    fb_shape to = {0}, wide = {0}, high = {0};
    append(&to, s, &p.both, false);
    append(&to, s, &p.a, false);
    wide = to;
    append(&to, s, &p.b, false);
    if (p.inner.n == 0) { /* nothing is summed */
        append(&wide, s, &p.b, true);
        append(&high, s, &p.both, false);
        append(&high, s, &p.a, true);
        append(&high, s, &p.b, false);
        fb_tensor *b = ordered(&s->term[j], &p.both, &p.b, &p.inner);
        y = a && b ? fb_mul(fb_reshape(a, wide), fb_reshape(b, high)) : NULL;
    } else {
        fb_tensor *b = ordered(&s->term[j], &p.both, &p.inner, &p.b);
        a = a ? fb_reshape(a, FB_SHAPE(p.both.size, p.a.size, p.inner.size)) : NULL;
        b = a && b ? fb_reshape(b, FB_SHAPE(p.both.size, p.inner.size, p.b.size)) : NULL;
        y = b ? fb_matmul(a, b) : NULL;
        y = y ? fb_reshape(y, to) : NULL;
    }
    if (!y)
        return s->c->ctx->status;
    term *t = &s->term[i];
    *t = (term){.t = y};
    const group *all[3] = {&p.both, &p.a, &p.b};
    for (int g = 0; g < 3; g++)
        for (int k = 0; k < all[g]->n; k++)
            t->label[t->n++] = all[g]->label[k];
    s->term[j] = s->term[--s->n];
    return FB_OK;
}

/* The next two: the size of their product less theirs is smallest, then their multiplications. */
static void best_pair(const sum *s, int *i, int *j)
{
    double best = 0, best_work = 0;
    *i = -1;
    for (int a = 0; a < s->n; a++)
        for (int b = a + 1; b < s->n; b++) {
            pair p = pair_of(s, a, b);
            double both = (double)p.both.size, m = (double)p.a.size, n = (double)p.b.size;
            double inner = (double)p.inner.size;
            double cost = both * (m * n - inner * (m + n)), work = both * m * n * inner;
            if (*i >= 0 && (cost > best || (cost == best && work >= best_work)))
                continue;
            best = cost;
            best_work = work;
            *i = a;
            *j = b;
        }
}

/* The only term that is left, in the order of the result. */
static fb_tensor *result_of(const sum *s)
{
    const term *t = &s->term[0];
    group out = {.n = s->n_out};
    const group none = {0};
    for (int k = 0; k < s->n_out; k++)
        out.label[k] = s->out[k];
    fb_tensor *y = ordered(t, &out, &none, &none);
    return y ? fb_view(y, fb_shape_of(y)) : NULL;
}

static fb_tensor *evaluate(sum *s)
{
    for (int i = 0; i < s->n; i++)
        if (diagonals(s, &s->term[i], i) || drop_single(s, &s->term[i]))
            return NULL;
    bool sums = any_alone(s), integers = !fb_dtype_is_float((fb_dtype)s->term[0].t->dtype);
    for (int i = 0; i < s->n; i++)
        if (sums && integers) /* as fb_sum */
            s->term[i].t = fb_to(s->term[i].t, FB_I64);
        else if (s->n > 2 || (s->n == 2 && sums)) /* several steps, rounded once */
            s->term[i].t = fbi_exact(s->term[i].t);
    for (int i = 0; i < s->n; i++)
        if (!s->term[i].t || sum_alone(s, i))
            return NULL;
    while (s->n > 1) {
        int i = 0, j = 1;
        best_pair(s, &i, &j);
        if (contract(s, i, j))
            return NULL;
    }
    return result_of(s);
}

static fb_status einsum(const fbi_call *c, const char *equation, fb_tensor **out)
{
    sum s = {.c = c, .equation = equation};
    if (c->n_in < 1 || c->n_in > OPERANDS)
        return fbi_op_fail(c, FB_E_ARG, "%d operands; 1 .. %d are taken", (int)c->n_in, OPERANDS);
    for (int i = 0; i < c->n_in; i++) {
        fb_status st = i ? fbi_need_dtype(c, i, (fb_dtype)c->in[0]->dtype) : fbi_need_numbers(c, 0);
        if (st)
            return st;
    }
    fb_status st = parse(&s, c->in, c->n_in);
    if (st)
        return st;
    fb_tensor *y = evaluate(&s);
    *out = y && fbi_is_half(c->in[0]) ? fb_to(y, (fb_dtype)c->in[0]->dtype) : y;
    return *out ? FB_OK : c->ctx->status;
}

/* --- the row: its equation is text of at most 64 characters in the numbers of a shape --- */

static fb_shape packed(const char *equation)
{
    fb_shape s = {.n = FB_MAX_DIMS};
    size_t n = strlen(equation);
    memcpy(s.d, equation, n < sizeof s.d ? n : sizeof s.d);
    return s;
}

fb_status fbi_compose_einsum(fbi_call *c)
{
    const fbi_attrs_einsum *a = c->attrs;
    char equation[sizeof a->equation.d + 1] = "";
    memcpy(equation, a->equation.d, sizeof a->equation.d);
    return einsum(c, equation, &c->out[0]);
}

#define IN(...)                                           \
    {                                                     \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -1, .hi = 1 \
    }

static void sample(fbi_samples *s, const char *equation, int n, const fbi_sample_in *in)
{
    fbi_sample_add(s, &(fbi_attrs_einsum){packed(equation)}, n, in);
}

static void bad(fbi_samples *s, const char *equation, int n, const fbi_sample_in *in, fb_status st,
                const char *text)
{
    fbi_sample_bad(s, &(fbi_attrs_einsum){packed(equation)}, n, in, st, text);
}

void fbi_sample_einsum(fbi_samples *s)
{
    const fbi_sample_in product[2] = {IN(3, 4), IN(4, 2)},
                        chain[3] = {IN(3, 4), IN(4, 2), IN(2, 5)};
    const fbi_sample_in square[1] = {IN(3, 3)}, batch[2] = {IN(2, 1, 3, 4), IN(3, 4, 2)};
    const fbi_sample_in vectors[2] = {IN(3), IN(4)}, shared[2] = {IN(2, 3, 4), IN(2, 3)};
    sample(s, "ij,jk->ik", 2, product);
    sample(s, "ij, jk -> ki", 2, product);
    sample(s, "ij,jk,kl->il", 3, chain);
    sample(s, "ij,jk,kl", 3, chain);
    sample(s, "ii->i", 1, square);
    sample(s, "ii", 1, square);
    sample(s, "ij->ji", 1, square);
    sample(s, "...ij,...jk->...ik", 2, batch);
    sample(s, "i,j->ij", 2, vectors);
    sample(s, "bij,bi->bj", 2, shared);
    sample(s, "bij,bi->b", 2, shared);
    bad(s, "ij,jk", 1, product, FB_E_ARG, "einsum: \"ij,jk\": more lists of subscripts");
    bad(s, "ij", 2, product, FB_E_ARG, "einsum: \"ij\": fewer lists of subscripts");
    bad(s, "i1,jk", 2, product, FB_E_ARG, "einsum: \"i1,jk\": \"1\" is no letter");
    bad(s, "ij,jk->iz", 2, product, FB_E_ARG, "\"z\" of the result is in no operand");
    bad(s, "ij,jk->ii", 2, product, FB_E_ARG, "\"i\" is twice in the result");
    bad(s, "ij,jk-ik", 2, product, FB_E_ARG, "\"->\" and one result belong at its end");
    bad(s, "ijk,jk", 2, product, FB_E_SHAPE, "3 subscripts for operand 0 [3, 4]");
    bad(s, "ij,ik", 2, product, FB_E_SHAPE, "dimension 0 of operand 1 [4, 2] is not 3");
    bad(s, "ii,ik", 2, product, FB_E_SHAPE, "is not 3");
}

fb_tensor *fb_einsum(const char *equation, fb_tensors x)
{
    fb_context *ctx = NULL;
    for (int i = 0; i < x.n && !ctx; i++)
        ctx = fb_context_of(x.t[i]);
    if (!ctx)
        return NULL;
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    for (int i = 0; i < x.n; i++)
        if (!fbi_tensor_check(ctx, x.t[i], "einsum", "an operand"))
            return NULL;
    FB_SCOPE(ctx);
    fb_tensor *y = NULL;
    const fbi_call c = {.ctx = ctx,
                        .op = &fbi_opdefs[FBI_OP_einsum],
                        .in = (fb_tensor **)(uintptr_t)x.t,
                        .n_in = (uint16_t)x.n};
    return einsum(&c, equation ? equation : "", &y) ? NULL : fb_keep(y);
}
