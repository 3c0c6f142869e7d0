/* A node that passes tensors on, for those who want to see their gradients together. */
#include <string.h>

#include "core/autograd/pass_priv.h"

fb_status fbi_relay(fb_context *ctx, const fbi_custom *custom, fb_tensor **t, int n)
{
    if (n > 255)
        return fbi_fail(ctx, FB_E_UNSUPPORTED, "%s: %d tensors; at most 255", custom->name, n);
    fbi_node *node = fbi_node_new(ctx, 0, n, n, 0, sizeof *custom);
    if (!node)
        return ctx->status;
    for (int i = 0; i < n && !ctx->status; i++) {
        fbi_node *to = t[i] && fb_dtype_is_float((fb_dtype)t[i]->dtype) ? fbi_node_of(t[i]) : NULL;
        fb_tensor *a = to ? fbi_tensor_alias(t[i]) : NULL;
        if (!a)
            continue;
        to->refs++;
        fbi_edges(node)[i] = (fbi_edge){to, t[i]->node ? t[i]->out_index : 0};
        a->node = node;
        a->out_index = (uint8_t)i;
        node->refs++;
        t[i] = a;
    }
    if (!ctx->status) {
        memcpy(fbi_attrs(node), custom, sizeof *custom);
        node->flags |= FBI_NODE_CUSTOM;
    }
    fbi_node_unref(ctx, node);
    return ctx->status;
}
