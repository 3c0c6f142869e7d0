/* Samples of the operators of create.c. */
#include "core/ops/op_priv.h"

#define ATTRS(row, ...) (&(fbi_attrs_##row){__VA_ARGS__})
#define GOOD(row, ...)  fbi_sample_add(s, ATTRS(row, __VA_ARGS__), 0, NULL)
#define BAD(row, status, text, ...) \
    fbi_sample_bad(s, ATTRS(row, __VA_ARGS__), 0, NULL, status, #row ": " text)

/* A size, then a dtype; `...`: what else there is. */
#define SIZED(row, ...)                                                                      \
    void fbi_sample_##row(fbi_samples *s)                                                    \
    {                                                                                        \
        GOOD(row, FB_SHAPE(3, 2), FB_F32 __VA_ARGS__);                                       \
        GOOD(row, FB_SHAPE(2, 0), FB_BF16 __VA_ARGS__);                                      \
        BAD(row, FB_E_SHAPE, "[2, -1] is not a shape", FB_SHAPE(2, -1), FB_F32 __VA_ARGS__); \
        BAD(row, FB_E_DTYPE, "cannot make", FB_SHAPE(2), 99 __VA_ARGS__);                    \
    }
#define AND ,
SIZED(full, AND 2.5)
SIZED(zeros)
SIZED(ones)
SIZED(rand, AND 1 AND 2)
SIZED(randn, AND 1 AND 2)

#define LIKE(row, attrs)                                                                   \
    void fbi_sample_##row(fbi_samples *s)                                                  \
    {                                                                                      \
        fbi_sample_in in = {.shape = FB_SHAPE(3, 2), .lo = -2, .hi = 2, .constant = true}; \
        fbi_sample_add(s, attrs, 1, &in);                                                  \
    }
LIKE(full_like, ATTRS(full_like, 2.5))
LIKE(zeros_like, NULL)
LIKE(ones_like, NULL)

void fbi_sample_eye(fbi_samples *s)
{
    GOOD(eye, 3, 5, FB_F32);
    GOOD(eye, 4, 2, FB_I64);
    BAD(eye, FB_E_SHAPE, "[-1, 2] is not a shape", -1, 2, FB_F32);
}

void fbi_sample_arange(fbi_samples *s)
{
    GOOD(arange, 1, 4, 0.5, FB_F32);
    GOOD(arange, 4, -1, -2, FB_I64);
    BAD(arange, FB_E_ARG, "from 0 to 4 by -1", 0, 4, -1, FB_F32);
    BAD(arange, FB_E_ARG, "from 0 to 4 by 0", 0, 4, 0, FB_F32);
}

void fbi_sample_linspace(fbi_samples *s)
{
    GOOD(linspace, -1, 2, 7, FB_F32);
    GOOD(linspace, -1, 2, 1, FB_F64);
    GOOD(linspace, 0, 10, 4, FB_I64);
    BAD(linspace, FB_E_ARG, "-1 numbers", 0, 1, -1, FB_F32);
}

void fbi_sample_logspace(fbi_samples *s)
{
    GOOD(logspace, -1, 2, 7, 10, FB_F32);
    BAD(logspace, FB_E_ARG, "-1 numbers", 0, 1, -1, 2, FB_F32);
    BAD(logspace, FB_E_DTYPE, "cannot make", 0, 1, 1, 2, 99);
}

void fbi_sample_tril_indices(fbi_samples *s)
{
    GOOD(tril_indices, 3, 4, 1);
    GOOD(tril_indices, 0, 4, 0);
    BAD(tril_indices, FB_E_ARG, "a matrix of -1 rows and 2 columns", -1, 2, 0);
}

void fbi_sample_triu_indices(fbi_samples *s)
{
    GOOD(triu_indices, 3, 4, -1);
    BAD(triu_indices, FB_E_ARG, "a matrix of 1 rows and -2 columns", 1, -2, 0);
}

void fbi_sample_randint(fbi_samples *s)
{
    GOOD(randint, -2, 5, FB_SHAPE(3, 4), 1, 2);
    BAD(randint, FB_E_ARG, "no integer from 5 below 5", 5, 5, FB_SHAPE(3, 4), 1, 2);
}
