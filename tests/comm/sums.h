/* Sums in fixed order over the ranks of a world: the bits of one host that adds everything up. */
#ifndef TESTS_COMM_SUMS_H
#define TESTS_COMM_SUMS_H

#include <flambeau/core/ops/create.h>

#include "comm/reduce_priv.h"
#include "comm/work_priv.h"
#include "core/base/half.h"
#include "core/ops/backend.h"
#include "tests/check.h"

static inline void fill(fb_dtype dtype, int piece, int64_t n, void *out)
{
    uint64_t seed = (uint64_t)piece * 77777 + 1;
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        float v = (float)((double)(seed >> 40) / (1 << 20) - 8) * (float)(1 << (seed >> 8 & 7));
        if (dtype == FB_F32)
            ((float *)out)[i] = v;
        else if (dtype == FB_F64)
            ((double *)out)[i] = (double)v / 3;
        else if (dtype == FB_F16)
            ((uint16_t *)out)[i] = fbi_f32_to_f16(v);
        else
            ((uint16_t *)out)[i] = fbi_f32_to_bf16(v);
    }
}

/* The sum of all leaves against one host that adds everything up, bit by bit. Bit k of `absent`
 * takes piece k away. */
static inline void one_sum(fb_group *all, fb_dtype dtype, fb_dtype out_dtype, int64_t n,
                           uint64_t absent)
{
    fb_context *ctx = fbi_group_context(all);
    FB_SCOPE(ctx);
    const fbi_layout *l = all->leaves;
    size_t size = fb_dtype_size(dtype);
    char *host = malloc((size_t)l->n * (size_t)n * size),
         *want = malloc((size_t)n * sizeof(double));
    const void **operands = calloc((size_t)l->n, sizeof *operands);
    uint32_t *present = calloc((size_t)l->ranks, sizeof *present);
    fb_tensor *dst = fb_empty(ctx, out_dtype, FB_SHAPE(n));
    fbi_task task = {.kind = FBI_KIND_GRADIENTS,
                     .op = FB_SUM,
                     .dtype = dtype,
                     .out_dtype = out_dtype,
                     .count = n,
                     .layout = l,
                     .dst = fbi_ptr(dst),
                     .on_device = !ctx->backend->host_memory};
    for (int r = 0; r < l->ranks; r++)
        for (int k = l->first[r]; k < l->first[r + 1]; k++) {
            char *piece = host + (size_t)k * (size_t)n * size;
            operands[k] = piece;
            fill(dtype, k, n, piece);
            bool there = !(absent >> k & 1);
            if (there)
                present[r] |= 1u << (k - l->first[r]);
            if (r == all->rank)
                task.src[task.n_src++] =
                    there ? fbi_ptr(fb_from(ctx, dtype, FB_SHAPE(n), piece)) : NULL;
        }
    int16_t *program = malloc(2 * (size_t)l->n * sizeof *program);
    int length = fbi_layout_program(l, present, program);
    fbi_reduce(FB_SUM, dtype, out_dtype, program, length, operands, want, n);
    assert_int_equal(fbi_work_run(all, &task), FB_OK);
    assert_memory_equal(check_data(dst), want, (size_t)n * fb_dtype_size(out_dtype));
    free(host);
    free(want);
    free(operands);
    free(present);
    free(program);
}

static inline void all_dtypes(fb_group *all, int64_t n, uint64_t absent)
{
    static const fb_dtype dtypes[][2] = {{FB_F32, FB_F32},   {FB_F64, FB_F64}, {FB_F16, FB_F16},
                                         {FB_BF16, FB_BF16}, {FB_F32, FB_F16}, {FB_F32, FB_BF16}};
    for (size_t d = 0; d < 6; d++)
        one_sum(all, dtypes[d][0], dtypes[d][1], n, absent);
}

/* Part r of what all_reduce gives. */
static inline void one_scatter(fb_group *all, fb_dtype dtype, int64_t n)
{
    fb_context *ctx = fbi_group_context(all);
    FB_SCOPE(ctx);
    int64_t whole = n * all->size;
    size_t bytes = (size_t)n * fb_dtype_size(dtype);
    void *data = malloc((size_t)all->size * bytes);
    fill(dtype, all->rank, whole, data);
    fb_tensor *t = fb_from(ctx, dtype, FB_SHAPE(whole), data);
    fb_tensor *part = fb_reduce_scatter(all, t, FB_SUM);
    assert_non_null(part);
    assert_memory_equal(check_data(t), data, (size_t)all->size * bytes); /* left alone */
    assert_int_equal(fb_all_reduce_(all, t, FB_SUM), FB_OK);
    const char *want = check_data(t);
    assert_memory_equal(check_data(part), want + (size_t)all->rank * bytes, bytes);
    free(data);
}

#endif
