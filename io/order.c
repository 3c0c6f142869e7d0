#include "io/order_priv.h"

#include "core/base/philox_priv.h"

fbi_order fbi_order_make(int64_t n, uint64_t seed, int64_t epoch)
{
    int bits = 2; /* both halves need one */
    while (bits < 62 && ((int64_t)1 << bits) < n)
        bits++;
    fbi_order o = {.n = n, .left_bits = bits / 2, .right_bits = bits - bits / 2};
    /* The stream keeps the order apart from every other use of the same seed. */
    uint64_t stream = UINT64_C(0x6f72646572000000) + (uint64_t)epoch;
    for (int round = 0; round < FBI_ORDER_ROUNDS; round++) {
        uint32_t out[4];
        fbi_philox(seed, stream, (uint64_t)round, out);
        o.keys[round] = (uint64_t)out[1] << 32 | out[0];
    }
    return o;
}

/* One walk of the network over left_bits + right_bits bits. */
static uint64_t permute(const fbi_order *o, uint64_t x)
{
    int a = o->left_bits, b = o->right_bits;
    uint64_t left = x >> b, right = x & ((UINT64_C(1) << b) - 1);
    for (int round = 0; round < FBI_ORDER_ROUNDS; round++) {
        uint64_t mixed = left ^ (fbi_mix64(right ^ o->keys[round]) & ((UINT64_C(1) << a) - 1));
        left = right; /* halves change places, and so do their widths */
        right = mixed;
        int width = a;
        a = b;
        b = width;
    }
    return (left << b) | right;
}

int64_t fbi_order_at(const fbi_order *order, int64_t i)
{
    uint64_t x = (uint64_t)i;
    do
        x = permute(order, x);
    while (x >= (uint64_t)order->n);
    return (int64_t)x;
}
