/* The by-name door. */
#include <flambeau/core/ops/op.h>

#include <string.h>

#include "core/ops/attr_priv.h"

enum { FBI_ATTRS_MAX = 512 };

static bool fbi_public(const fbi_opdef *d)
{
    return d->name && d->op != FBI_OP_none && !(d->flags & FBI_INNER);
}

static const fbi_opdef *fbi_nth(int i)
{
    for (int k = 0; k < FBI_OP_COUNT; k++)
        if (fbi_public(&fbi_opdefs[k]) && i-- == 0)
            return &fbi_opdefs[k];
    return NULL;
}

int fb_op_count(void)
{
    int n = 0;
    for (int k = 0; k < FBI_OP_COUNT; k++)
        n += fbi_public(&fbi_opdefs[k]);
    return n;
}

bool fb_op_info(int i, fb_op_description *out)
{
    const fbi_opdef *d = i < 0 ? NULL : fbi_nth(i);
    if (!d || !out)
        return false;
    *out = (fb_op_description){d->name,
                               d->n_in,
                               d->n_out,
                               (d->flags & FBI_VARIADIC) != 0,
                               d->bwd_ops || (d->compose && !(d->flags & FBI_NO_GRADIENT)),
                               d->n_attrs};
    return true;
}

const char *fb_op_attr(int i, int k, bool *is_shape)
{
    const fbi_opdef *d = i < 0 ? NULL : fbi_nth(i);
    if (!d || k < 0 || k >= d->n_attrs)
        return NULL;
    *is_shape = d->attrs[k].type == 's';
    return d->attrs[k].name;
}

/* Store one value; every field is 8 bytes but shapes. */
static size_t fbi_store(char *at, const fbi_attr_info *info, double number, const fb_shape *shape)
{
    int64_t i = (int64_t)number;
    uint64_t u = number < 0 ? (uint64_t)i : (uint64_t)number;
    fb_shape none = {0};
    switch (info->type) {
    case 's':
        memcpy(at, shape ? shape : &none, sizeof none);
        return sizeof none;
    case 'f':
        memcpy(at, &number, sizeof number);
        break;
    case 'u':
        memcpy(at, &u, sizeof u);
        break;
    default:
        memcpy(at, &i, sizeof i);
    }
    return 8;
}

static fb_status fbi_pack_attrs(fb_context *ctx, const fbi_opdef *d, const fb_attr *attrs, int n,
                                char *packed)
{
    int used = 0;
    size_t at = 0;
    for (int k = 0; k < d->n_attrs; k++) {
        const fbi_attr_info *info = &d->attrs[k];
        const fb_attr *given = NULL;
        for (int i = 0; i < n; i++)
            if (!strcmp(attrs[i].name, info->name))
                given = &attrs[i];
        used += given != NULL;
        at += fbi_store(packed + at, info, given ? given->number : info->value,
                        given ? &given->shape : NULL);
    }
    if (used == n)
        return FB_OK;
    for (int i = 0; i < n; i++) {
        int k = 0;
        while (k < d->n_attrs && strcmp(attrs[i].name, d->attrs[k].name))
            k++;
        if (k == d->n_attrs)
            return fbi_fail(ctx, FB_E_ARG, "%s: has no attribute \"%s\"", d->name, attrs[i].name);
    }
    return fbi_fail(ctx, FB_E_ARG, "%s: an attribute is given twice", d->name);
}

/* PyTorch's other names. */
static const char *const aliases[][2] = {
    {"absolute", "abs"},     {"arccos", "acos"},
    {"arccosh", "acosh"},    {"arcsin", "asin"},
    {"arcsinh", "asinh"},    {"arctan", "atan"},
    {"arctan2", "atan2"},    {"arctanh", "atanh"},
    {"clip", "clamp"},       {"concat", "cat"},
    {"concatenate", "cat"},  {"divide", "div"},
    {"expit", "sigmoid"},    {"fix", "trunc"},
    {"greater", "gt"},       {"greater_equal", "ge"},
    {"less", "lt"},          {"less_equal", "le"},
    {"multiply", "mul"},     {"negative", "neg"},
    {"not_equal", "ne"},     {"psi", "digamma"},
    {"subtract", "sub"},     {"true_divide", "div"},
    {"gammaln", "lgamma"},   {"ger", "outer"},
    {"inverse", "inv"},      {"multigammaln", "mvlgamma"},
    {"pinverse", "pinv"},    {"row_stack", "vstack"},
    {"sgn", "sign"},         {"trapz", "trapezoid"},
    {"vector_norm", "norm"},
};

static const char *fbi_own_name(const char *name)
{
    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++)
        if (!strcmp(aliases[i][0], name))
            return aliases[i][1];
    return name;
}

fb_status fb_op_call(fb_context *ctx, const char *name, fb_tensors in, const fb_attr *attrs,
                     int n_attrs, fb_tensor **out)
{
    if (!fbi_enter(ctx))
        return ctx ? ctx->status : FB_E_ARG;
    FBI_ENTRY(ctx);
    if (!name || !out || (!attrs && n_attrs > 0))
        return fbi_fail(ctx, FB_E_ARG, "op_call: %s is NULL",
                        !name  ? "the name"
                        : !out ? "out"
                               : "the list of attributes");
    const char *own = fbi_own_name(name);
    for (int k = 0; k < FBI_OP_COUNT; k++) {
        const fbi_opdef *d = &fbi_opdefs[k];
        if (!fbi_public(d) || strcmp(d->name, own))
            continue;
        _Alignas(8) char packed[FBI_ATTRS_MAX] = {0};
        fb_status st = fbi_pack_attrs(ctx, d, attrs, n_attrs, packed);
        return st ? st : fbi_run(ctx, (fbi_op)k, packed, in.t, in.n, out);
    }
    return fbi_fail(ctx, FB_E_NOT_FOUND, "fb_op_call: there is no operator \"%s\"", name);
}
