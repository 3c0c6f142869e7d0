#include "io/order_priv.h"

#include "core/base/philox_priv.h"

/* How n values are cut into two halves of bits. */
static void set_size(fbi_order *o, int64_t n)
{
    int bits = 2; /* both halves need one */
    while (bits < 62 && ((int64_t)1 << bits) < n)
        bits++;
    o->n = n;
    o->left_bits = bits / 2;
    o->right_bits = bits - bits / 2;
}

fbi_order fbi_order_make(int64_t n, uint64_t seed, int64_t epoch)
{
    fbi_order o = {0};
    set_size(&o, n);
    /* The stream keeps the order apart from every other use of the same seed. */
    uint64_t stream = UINT64_C(0x6f72646572000000) + (uint64_t)epoch;
    for (int round = 0; round < FBI_ORDER_ROUNDS; round++) {
        uint32_t out[4];
        fbi_philox(seed, stream, (uint64_t)round, out);
        o.keys[round] = (uint64_t)out[1] << 32 | out[0];
    }
    return o;
}

fbi_order fbi_order_part(const fbi_order *order, int64_t n, int64_t part)
{
    fbi_order o = *order;
    set_size(&o, n);
    uint64_t tweak = fbi_mix64((uint64_t)part + 1);
    for (int round = 0; round < FBI_ORDER_ROUNDS; round++)
        o.keys[round] = fbi_mix64(o.keys[round] ^ tweak);
    return o;
}

static uint64_t mixed(const fbi_order *o, int round, uint64_t half, int bits)
{
    return fbi_mix64(half ^ o->keys[round]) & ((UINT64_C(1) << bits) - 1);
}

/* One walk of the network over left_bits + right_bits bits. */
static uint64_t permute(const fbi_order *o, uint64_t x)
{
    int a = o->left_bits, b = o->right_bits;
    uint64_t left = x >> b, right = x & ((UINT64_C(1) << b) - 1);
    for (int round = 0; round < FBI_ORDER_ROUNDS; round++) {
        uint64_t next = left ^ mixed(o, round, right, a);
        left = right; /* halves change places, and so do their widths */
        right = next;
        int width = a;
        a = b;
        b = width;
    }
    return (left << b) | right;
}

/* The same walk backwards. */
static uint64_t unpermute(const fbi_order *o, uint64_t x)
{
    int a = o->left_bits, b = o->right_bits;
    uint64_t left = x >> b, right = x & ((UINT64_C(1) << b) - 1);
    for (int round = FBI_ORDER_ROUNDS - 1; round >= 0; round--) {
        int width = a;
        a = b;
        b = width;
        uint64_t before = right ^ mixed(o, round, left, a);
        right = left;
        left = before;
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

int64_t fbi_order_find(const fbi_order *order, int64_t value)
{
    uint64_t x = (uint64_t)value;
    do
        x = unpermute(order, x);
    while (x >= (uint64_t)order->n);
    return (int64_t)x;
}
