/* Initialisers by name, and giving them to parameters. */
#include <math.h>
#include <string.h>

#include "core/nn/nn_priv.h"

static fb_init make(fbi_init_kind kind, double a, double b)
{
    return (fb_init){.kind = (int)kind, .a = a, .b = b};
}

fb_init fb_init_zeros(void)
{
    return make(FBI_INIT_ZEROS, 0, 0);
}
fb_init fb_init_constant(double value)
{
    return make(FBI_INIT_CONSTANT, value, 0);
}
fb_init fb_init_normal(double mean, double std)
{
    return make(FBI_INIT_NORMAL, mean, std);
}
fb_init fb_init_uniform(double lo, double hi)
{
    return make(FBI_INIT_UNIFORM, lo, hi);
}
fb_init fb_init_trunc_normal(double mean, double std)
{
    return make(FBI_INIT_TRUNC_NORMAL, mean, std);
}
fb_init fb_init_xavier_uniform(double gain)
{
    return make(FBI_INIT_XAVIER_UNIFORM, gain, 0);
}
fb_init fb_init_kaiming_normal(double slope)
{
    return make(FBI_INIT_KAIMING_NORMAL, slope, 0);
}
fb_init fb_init_kaiming_uniform(double slope)
{
    return make(FBI_INIT_KAIMING_UNIFORM, slope, 0);
}

fb_init fb_init_ones(void)
{
    return make(FBI_INIT_CONSTANT, 1, 0);
}
fb_init fb_init_xavier_normal(double gain)
{
    return make(FBI_INIT_XAVIER_NORMAL, gain, 0);
}
fb_init fb_init_kaiming_normal_of(fb_fan fan, double gain)
{
    return make(FBI_INIT_FAN_NORMAL, gain, (double)fan);
}
fb_init fb_init_kaiming_uniform_of(fb_fan fan, double gain)
{
    return make(FBI_INIT_FAN_UNIFORM, gain, (double)fan);
}
fb_init fb_init_eye(void)
{
    return make(FBI_INIT_EYE, 0, 0);
}
fb_init fb_init_dirac(int64_t groups)
{
    return make(FBI_INIT_DIRAC, (double)groups, 0);
}
fb_init fb_init_orthogonal(double gain)
{
    return make(FBI_INIT_ORTHOGONAL, gain, 0);
}
fb_init fb_init_sparse(double sparsity, double std)
{
    return make(FBI_INIT_SPARSE, sparsity, std);
}
fb_init fbi_init_normal_padded(int64_t row)
{
    return make(FBI_INIT_NORMAL_PADDED, (double)row, 0);
}
fb_init fb_init_trunc_normal_within(double mean, double std, double lo, double hi)
{
    return (fb_init){FBI_INIT_TRUNC_WITHIN, mean, std, lo, hi};
}

double fb_init_gain(fb_nonlinearity of, double param)
{
    switch (of) {
    case FB_GAIN_LINEAR:
    case FB_GAIN_SIGMOID:
        return 1;
    case FB_GAIN_TANH:
        return 5. / 3;
    case FB_GAIN_RELU:
        return sqrt(2);
    case FB_GAIN_LEAKY_RELU:
        return sqrt(2 / (1 + param * param));
    case FB_GAIN_SELU:
        return 0.75;
    }
    return 1;
}

/* A leaf has room for two doubles; four numbers travel as floats, two to a double. */
static double packed(double first, double second)
{
    float two[2] = {(float)first, (float)second};
    double d;
    memcpy(&d, two, sizeof d);
    return d;
}

static void unpacked(double d, double *first, double *second)
{
    float two[2];
    memcpy(two, &d, sizeof two);
    *first = (double)two[0];
    *second = (double)two[1];
}

fb_init fbi_nn_draw_of(const fbi_leaf *leaf)
{
    fb_init init = make((fbi_init_kind)leaf->draw.kind, leaf->draw.a, leaf->draw.b);
    if (init.kind == FBI_INIT_TRUNC_WITHIN) {
        unpacked(leaf->draw.a, &init.a, &init.b);
        unpacked(leaf->draw.b, &init.c, &init.d);
    }
    return init;
}

void fbi_nn_set_draw(fbi_leaf *leaf, fb_init init)
{
    bool four = init.kind == FBI_INIT_TRUNC_WITHIN;
    leaf->draw.kind = init.kind;
    leaf->draw.a = four ? packed(init.a, init.b) : init.a;
    leaf->draw.b = four ? packed(init.c, init.d) : init.b;
}

fb_status fb_nn_init(fb_module *root, const char *glob, fb_init init)
{
    if (!root)
        return FB_E_ARG;
    if (!fbi_nn_enter(root))
        return root->ctx->status;
    FBI_ENTRY(root->ctx);
    if (!glob)
        return fbi_fail(root->ctx, FB_E_ARG, "fb_nn_init: the pattern of names is NULL");
    fbi_named_list list;
    fb_status st = fbi_nn_collect(root, FB_FIELD_PARAM, true, &list);
    bool any = false;
    for (int64_t i = 0; i < list.n && !st; i++) {
        fb_tensor *t = list.v[i].t;
        if (!fbi_glob_match(glob, list.v[i].name))
            continue;
        any = true;
        fbi_leaf *leaf = fbi_leaf_of(t);
        if (!leaf) {
            st = root->ctx->status;
            break;
        }
        fbi_nn_set_draw(leaf, init);
        if (!t->storage)
            continue;
        st = fb_nn_materialize(root); /* gives the root its number, a part of the key */
        if (!st)
            st = fbi_nn_draw(t, fbi_nn_draw_of(leaf), fbi_nn_root(root)->number, leaf->name);
    }
    fbi_named_free(&list);
    if (!st && !any)
        st = fbi_fail(root->ctx, FB_E_NOT_FOUND, "fb_nn_init: no parameter of %s matches \"%s\"",
                      root->type->name, glob);
    return st;
}
