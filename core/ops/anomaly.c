/* fb_detect_anomaly, forward: results that are odd although no input was. */
#include <string.h>

#include "core/autograd/pass_priv.h"
#include "core/ops/call_priv.h"

/* Every attribute is 8 bytes, or a shape made of such. No integer in use looks like an infinity. */
static bool asks_for_inf(const fbi_call *c)
{
    for (uint32_t at = 0; c->attrs && at + 8 <= c->op->attrs_bytes; at += 8) {
        uint64_t bits;
        memcpy(&bits, (const char *)c->attrs + at, sizeof bits);
        if (bits << 1 == UINT64_C(0x7ff0000000000000) << 1)
            return true;
    }
    return false;
}

fb_status fbi_watch(const fbi_call *c, const fbi_oddity *before)
{
    /* The walk looks at backward's results; without inputs there is nothing to compare with. */
    if ((c->op->flags & FBI_VIEW) || c->n_in == 0 || c->ctx->in_backward)
        return c->ctx->status;
    int results = fbi_n_results(c->op);
    for (int i = 0; i < results; i++) {
        fbi_oddity odd = fbi_odd(c->out[i]);
        if (!odd.nan && !odd.inf)
            continue;
        fbi_oddity in = before ? *before : (fbi_oddity){0};
        for (int k = before ? 1 : 0; k < c->n_in; k++) {
            if (before && c->in[k] && c->in[k]->storage == c->in[0]->storage)
                continue; /* x *= x: overwritten, too */
            fbi_oddity one = fbi_odd(c->in[k]);
            in.nan += one.nan;
            in.inf += one.inf;
        }
        bool nan = odd.nan && !in.nan, inf = odd.inf && !in.nan && !in.inf && !asks_for_inf(c);
        if (nan || inf)
            return fbi_anomaly_result(c->ctx, c->op->name, i, c->out[i], odd, c->in, c->n_in);
    }
    return c->ctx->status;
}
