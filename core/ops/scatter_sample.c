/* Samples of the operators of index_put.c. */
#include <flambeau/core/ops/scatter.h>

#include "core/ops/op_priv.h"

#define REALS(...)                                        \
    {                                                     \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2 \
    }
#define INDEX(n, ...)                                                       \
    {                                                                       \
        .shape = FB_SHAPE(__VA_ARGS__), .dtype = FB_I64, .lo = 0, .hi = (n) \
    }
/* No index twice: what is written has one derivative. */
#define ONCE(n, ...)                                                                          \
    {                                                                                         \
        .shape = FB_SHAPE(__VA_ARGS__), .dtype = FB_I64, .lo = 0, .hi = (n), .distinct = true \
    }
#define OUTSIDE "is out of range: the size is"

/* Of scatter and scatter_add, whose attributes are only a dimension. */
#define BAD_ELEMENTS(row)                                                                       \
    do {                                                                                        \
        in[1] = (fbi_sample_in)INDEX(1, 4, 3);                                                  \
        in[1].lo = 6;                                                                           \
        in[1].hi = 7;                                                                           \
        fbi_sample_bad(s, &a, 3, in, FB_E_ARG, "index 6 at position 0 " OUTSIDE " 6");          \
        in[1] = (fbi_sample_in)INDEX(6, 5, 3);                                                  \
        fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE,                                                \
                       #row ": index [5, 3] does not fit input [6, 3] and source [4, 3] along " \
                            "dimension 0");                                                     \
        in[1].dtype = FB_F32;                                                                   \
        fbi_sample_bad(s, &a, 3, in, FB_E_DTYPE, #row ": index must hold integers, got F32");   \
        in[1].dtype = FB_I64;                                                                   \
        in[1].shape = FB_SHAPE(4, 3);                                                           \
        in[2].dtype = FB_I32;                                                                   \
        fbi_sample_bad(s, &a, 3, in, FB_E_DTYPE, #row ": source is I32, input is");             \
    } while (0)

void fbi_sample_scatter(fbi_samples *s)
{
    fbi_sample_in in[3] = {REALS(6, 3), ONCE(6, 3, 2), REALS(4, 3)};
    fbi_attrs_scatter a = {.dim = 0};
    fbi_sample_add(s, &a, 3, in);
    in[0] = (fbi_sample_in)REALS(3, 8);
    a.dim = -1;
    in[1] = (fbi_sample_in)ONCE(8, 2, 3);
    fbi_sample_add(s, &a, 3, in);
    in[0] = (fbi_sample_in)REALS(6, 3);
    a.dim = 0;
    BAD_ELEMENTS(scatter);
}

void fbi_sample_scatter_add(fbi_samples *s)
{
    fbi_sample_in in[3] = {REALS(6, 3), INDEX(6, 3, 2), REALS(4, 3)};
    fbi_attrs_scatter_add a = {.dim = 0};
    fbi_sample_add(s, &a, 3, in);
    BAD_ELEMENTS(scatter_add);
}

void fbi_sample_scatter_value(fbi_samples *s)
{
    fbi_sample_in in[2] = {REALS(6, 3), INDEX(6, 3, 2)};
    fbi_attrs_scatter_value a = {.dim = 0, .value = 1.5};
    fbi_sample_add(s, &a, 2, in);
    a.dim = 2;
    fbi_sample_bad(s, &a, 2, in, FB_E_ARG, "scatter_value: no dimension 2 in input [6, 3]");
}

void fbi_sample_scatter_reduce(fbi_samples *s)
{
    fbi_sample_in in[3] = {{.shape = FB_SHAPE(4, 3), .lo = 0.5, .hi = 2, .distinct = true},
                           INDEX(4, 5, 3),
                           {.shape = FB_SHAPE(5, 3), .lo = 0.55, .hi = 2.1, .distinct = true}};
    for (int how = FB_SCATTER_SUM; how <= FB_SCATTER_AMIN; how++)
        for (int self = 0; self < 2; self++) {
            fbi_attrs_scatter_reduce a = {.dim = 0, .how = how, .include_self = self};
            fbi_sample_add(s, &a, 3, in);
        }
    fbi_attrs_scatter_reduce a = {.dim = 0, .how = 5};
    fbi_sample_bad(s, &a, 3, in, FB_E_ARG, "scatter_reduce: 5 is no reduction");
    a.how = FB_SCATTER_PROD;
    in[1].lo = 4;
    in[1].hi = 5;
    fbi_sample_bad(s, &a, 3, in, FB_E_ARG, "index 4 at position 0 " OUTSIDE " 4");
}

void fbi_sample_index_copy(fbi_samples *s)
{
    fbi_sample_in in[3] = {REALS(3, 5, 2), ONCE(5, 4), REALS(3, 4, 2)};
    fbi_attrs_index_copy a = {.dim = 1};
    fbi_sample_add(s, &a, 3, in);
    in[2].shape = FB_SHAPE(3, 3, 2);
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE,
                   "index_copy: index [4] does not fit input [3, 5, 2] and source [3, 3, 2] along "
                   "dimension 1");
}

void fbi_sample_index_add(fbi_samples *s)
{
    fbi_sample_in in[3] = {REALS(3, 5, 2), INDEX(5, 4), REALS(3, 4, 2)};
    fbi_attrs_index_add a = {.dim = -2, .alpha = 1};
    fbi_sample_add(s, &a, 3, in);
    a.alpha = 0.5;
    fbi_sample_add(s, &a, 3, in);
    in[1].lo = -1;
    in[1].hi = 0;
    fbi_sample_bad(s, &a, 3, in, FB_E_ARG, "index -1 at position 0 " OUTSIDE " 5");
    in[2].dtype = FB_I64;
    fbi_sample_bad(s, &a, 3, in, FB_E_DTYPE, "index_add: source is I64, input is");
}

void fbi_sample_index_fill(fbi_samples *s)
{
    fbi_sample_in in[2] = {REALS(3, 5, 2), INDEX(5, 4)};
    fbi_attrs_index_fill a = {.dim = 1, .value = -3};
    fbi_sample_add(s, &a, 2, in);
    in[1].shape = FB_SHAPE(2, 2);
    fbi_sample_bad(s, &a, 2, in, FB_E_SHAPE, "index_fill: index [2, 2] does not fit input");
}

void fbi_sample_index_reduce(fbi_samples *s)
{
    fbi_sample_in in[3] = {{.shape = FB_SHAPE(4, 3), .lo = 0.5, .hi = 2, .distinct = true},
                           INDEX(4, 5),
                           {.shape = FB_SHAPE(5, 3), .lo = 0.55, .hi = 2.1, .distinct = true}};
    for (int how = FB_SCATTER_PROD; how <= FB_SCATTER_AMIN; how++) {
        fbi_attrs_index_reduce a = {.dim = 0, .how = how, .include_self = how % 2};
        fbi_sample_add(s, &a, 3, in);
    }
    fbi_attrs_index_reduce a = {.dim = 0, .how = FB_SCATTER_SUM};
    fbi_sample_bad(s, &a, 3, in, FB_E_ARG, "index_reduce: sums are index_add's");
}

void fbi_sample_index(fbi_samples *s)
{
    fbi_sample_in in[3] = {REALS(4, 3, 2), INDEX(4, 2, 1), INDEX(3, 5)};
    in[1].lo = -4;
    fbi_sample_add(s, NULL, 3, in);
    fbi_sample_add(s, NULL, 2, in);
    in[1].lo = -5;
    in[1].hi = -4;
    fbi_sample_bad(s, NULL, 3, in, FB_E_ARG, "index -5 at position 0 " OUTSIDE " 4");
    in[2].shape = FB_SHAPE(3, 5);
    fbi_sample_bad(s, NULL, 3, in, FB_E_SHAPE,
                   "index: index 1 [3, 5] cannot be broadcast with those before");
    fbi_sample_bad(s, NULL, 1, in, FB_E_ARG, "index: 0 indices for input [4, 3, 2]");
}

void fbi_sample_index_put(fbi_samples *s)
{
    fbi_sample_in in[4] = {REALS(7, 3, 2), REALS(5, 2), ONCE(7, 5), INDEX(3, 1)};
    fbi_attrs_index_put a = {0};
    fbi_sample_add(s, &a, 4, in);
    in[2] = (fbi_sample_in)INDEX(7, 5);
    in[2].lo = -7;
    a.accumulate = 1;
    fbi_sample_add(s, &a, 4, in);
    in[1].shape = FB_SHAPE(4, 2);
    fbi_sample_bad(s, &a, 4, in, FB_E_SHAPE,
                   "index_put: values [4, 2] cannot be broadcast to [5, 2]");
    fbi_sample_bad(s, &a, 2, in, FB_E_ARG, "index_put: takes an input, values and at least one");
}

void fbi_sample_take(fbi_samples *s)
{
    fbi_sample_in in[2] = {REALS(3, 4), INDEX(12, 2, 5)};
    in[1].lo = -12;
    fbi_sample_add(s, NULL, 2, in);
    in[1].lo = 12;
    in[1].hi = 13;
    fbi_sample_bad(s, NULL, 2, in, FB_E_ARG, "index 12 at position 0 " OUTSIDE " 12");
}

void fbi_sample_put(fbi_samples *s)
{
    fbi_sample_in in[3] = {REALS(3, 4), ONCE(12, 5), REALS(5)};
    fbi_attrs_put a = {0};
    fbi_sample_add(s, &a, 3, in);
    a.accumulate = 1;
    in[1] = (fbi_sample_in)INDEX(12, 5);
    fbi_sample_add(s, &a, 3, in);
    in[2].shape = FB_SHAPE(4);
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE,
                   "put: source [4] has not as many elements as index [5]");
}

void fbi_sample_take_along_dim(fbi_samples *s)
{
    fbi_sample_in in[2] = {REALS(3, 4, 2), INDEX(4, 3, 5, 1)};
    fbi_attrs_take_along_dim a = {.dim = 1};
    fbi_sample_add(s, &a, 2, in);
    in[1].shape = FB_SHAPE(5, 2);
    fbi_sample_bad(s, &a, 2, in, FB_E_SHAPE,
                   "take_along_dim: input [3, 4, 2] and index [5, 2] do not fit along dimension 1");
}

void fbi_sample_one_hot(fbi_samples *s)
{
    fbi_sample_in in = INDEX(5, 3, 2);
    fbi_sample_add(s, &(fbi_attrs_one_hot){.classes = 6}, 1, &in);
    fbi_sample_add(s, &(fbi_attrs_one_hot){.classes = -1}, 1, &in);
    fbi_sample_bad(s, &(fbi_attrs_one_hot){.classes = 0}, 1, &in, FB_E_ARG,
                   "one_hot: 0 classes for index [3, 2]");
    in.lo = 4;
    fbi_sample_bad(s, &(fbi_attrs_one_hot){.classes = 4}, 1, &in, FB_E_ARG,
                   "index 4 at position 0 " OUTSIDE " 4");
}
