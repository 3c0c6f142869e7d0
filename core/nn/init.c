/* Initialisers by name, and giving them to parameters. */
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

fb_init fbi_nn_draw_of(const fbi_leaf *leaf)
{
    return (fb_init){.kind = leaf->draw.kind, .a = leaf->draw.a, .b = leaf->draw.b};
}

void fbi_nn_set_draw(fbi_leaf *leaf, fb_init init)
{
    leaf->draw.kind = init.kind;
    leaf->draw.a = init.a;
    leaf->draw.b = init.b;
}

fb_status fb_nn_init(fb_module *root, const char *glob, fb_init init)
{
    if (!root)
        return FB_E_ARG;
    if (!fbi_nn_enter(root))
        return root->ctx->status;
    FBI_ENTRY(root->ctx);
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
            st = fbi_nn_draw(t, init, fbi_nn_root(root)->number, leaf->name);
    }
    fbi_named_free(&list);
    if (!st && !any)
        st = fbi_fail(root->ctx, FB_E_NOT_FOUND, "fb_nn_init: no parameter of %s matches \"%s\"",
                      root->type->name, glob);
    return st;
}
