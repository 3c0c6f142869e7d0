/* Convolutions and attention by cuDNN: problems, and plans for them. No type of cuDNN's is named
 * here: dnn.c asks, cudnn_*.c answer where cuDNN's headers are, dnn_none.c where they are not. */
#ifndef FLAMBEAU_CORE_CUDA_DNN_PRIV_H
#define FLAMBEAU_CORE_CUDA_DNN_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Operands of a plan are given in the order named here; results come last. */
typedef enum fbi_dnn_kind {
    FBI_DNN_CONV,          /* x, w, bias (or NULL), y */
    FBI_DNN_CONV_DATA,     /* w, dy, dx */
    FBI_DNN_CONV_WEIGHT,   /* x, dy, dw */
    FBI_DNN_ATTENTION,     /* q, k, v, y, lse, bias (or NULL) */
    FBI_DNN_ATTENTION_BWD, /* q, k, v, y, lse, bias (or NULL), dy, dq, dk, dv, and for itself: b h t
                              floats; where heads share keys, gradients of k and v for all h heads
                            */
} fbi_dnn_kind;

enum { FBI_DNN_OPERANDS = 13, FBI_DNN_ATTENTION_TENSORS = 8 };

/* Images and weights have their channels last in memory: [n, h, w, c], [k, r, s, c / groups]. */
typedef struct fbi_dnn_conv {
    int64_t n, c, h, w, k, oh, ow, r, s, groups;
    int64_t stride[2], pad[2], dil[2];
    int64_t bias, relu;
} fbi_dnn_conv;

/* Strides, in elements, of (b, h, t) of q, k, v, y, dy, dq, dk, dv; that of the last dimension is
 * 1, and lse [b, h, t] has no gaps. q: [b, h, t, d], k: [b, h_k, s, d], v: [b, h_k, s, e] where h_k
 * divides h. bias: [bias_b, bias_h, t, s], each 1 or as many as there are; 0: none. Its rows are
 * bias_row elements apart, the rest has no gaps. */
typedef struct fbi_dnn_attention {
    int64_t b, h, h_k, t, s, d, e, causal, bias_b, bias_h, bias_row;
    double scale;
    int64_t stride[FBI_DNN_ATTENTION_TENSORS][3];
} fbi_dnn_attention;

/* Everything that a plan depends on; compared as bytes, so begin with zeros. */
typedef struct fbi_dnn_problem {
    int32_t kind;       /* fbi_dnn_kind */
    int32_t dtype;      /* F32, F16 or BF16; sums and lse are F32 */
    int32_t tf32;       /* F32 may be multiplied as TF32 */
    int32_t exact_conv; /* no Winograd */
    union {
        fbi_dnn_conv conv;
        fbi_dnn_attention attention;
    } u;
} fbi_dnn_problem;

/* The library, opened for one card and stream; and a plan. */
typedef struct fbi_dnn_library fbi_dnn_library;
typedef struct fbi_dnn_plan fbi_dnn_plan;

/* Why something is not there, or went wrong. */
typedef struct fbi_dnn_text {
    char text[512];
} fbi_dnn_text;

/* Whether cuDNN's headers were there when this was built. */
extern const bool fbi_dnn_built;
/* `stream`: a cudaStream_t of the current card. NULL: `why`. */
fbi_dnn_library *fbi_dnn_open(void *stream, fbi_dnn_text *why);
void fbi_dnn_close(fbi_dnn_library *l);
/* The first plan of cuDNN's heuristics that gives the same bits in every run; no timing. NULL:
 * none, and `why`. The problem needs at most `memory` bytes of workspace. */
fbi_dnn_plan *fbi_dnn_plan_new(fbi_dnn_library *l, const fbi_dnn_problem *p, size_t memory,
                               fbi_dnn_text *why);
void fbi_dnn_plan_free(fbi_dnn_plan *plan);
size_t fbi_dnn_plan_workspace(const fbi_dnn_plan *plan);
/* Queue it. Operands and workspace are aligned to 16 bytes. */
bool fbi_dnn_plan_run(fbi_dnn_plan *plan, void *const *operands, void *workspace,
                      fbi_dnn_text *why);

#ifdef __cplusplus
}
#endif
#endif
