/* Samples of the operators of arrange.c. */
#include <flambeau/core/ops/arrange.h>

#include "core/ops/op_priv.h"

#define IN(...) (&(fbi_sample_in){.shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2})

void fbi_sample_flip(fbi_samples *s)
{
    fbi_sample_add(s, &(fbi_attrs_flip){.dims = FB_DIMS(0, -1)}, 1, IN(2, 3, 4));
    fbi_sample_add(s, &(fbi_attrs_flip){.dims = FB_DIMS(1)}, 1, IN(2, 3, 4));
    fbi_sample_bad(s, &(fbi_attrs_flip){.dims = FB_DIMS(0, -3)}, 1, IN(2, 3, 4), FB_E_ARG,
                   "flip: dimension 0 is listed twice");
    fbi_sample_bad(s, &(fbi_attrs_flip){.dims = FB_DIMS(3)}, 1, IN(2, 3, 4), FB_E_ARG,
                   "flip: no dimension 3 in input [2, 3, 4]");
}

#define TRIANGLE(name)                                                              \
    void fbi_sample_##name(fbi_samples *s)                                          \
    {                                                                               \
        fbi_sample_add(s, &(fbi_attrs_##name){.diagonal = 0}, 1, IN(3, 4));         \
        fbi_sample_add(s, &(fbi_attrs_##name){.diagonal = -1}, 1, IN(2, 4, 3));     \
        fbi_sample_add(s, &(fbi_attrs_##name){.diagonal = 2}, 1, IN(3, 4));         \
        fbi_sample_bad(s, &(fbi_attrs_##name){.diagonal = 0}, 1, IN(3), FB_E_SHAPE, \
                       "input [3] needs at least 2 dimensions");                    \
    }
TRIANGLE(tril)
TRIANGLE(triu)

void fbi_sample_pad(fbi_samples *s)
{
    for (int mode = FB_PAD_CONSTANT; mode <= FB_PAD_CIRCULAR; mode++) {
        fbi_attrs_pad a = {.pads = FB_SHAPE(2, 1, 1, 0), .mode = mode, .value = 1.5};
        fbi_sample_add(s, &a, 1, IN(2, 3, 4));
        a.pads = FB_SHAPE(-1, 2);
        fbi_sample_add(s, &a, 1, IN(2, 3, 4));
    }
    fbi_attrs_pad a = {.pads = FB_SHAPE(0, 3), .mode = FB_PAD_REFLECT};
    fbi_sample_bad(s, &a, 1, IN(2, 3), FB_E_ARG,
                   "pad: pads 0 and 3 of dimension 1 of [2, 3]: this mode allows 2");
    a.pads = FB_SHAPE(4, 0);
    a.mode = FB_PAD_CIRCULAR;
    fbi_sample_bad(s, &a, 1, IN(2, 3), FB_E_ARG, "this mode allows 3");
    a.pads = FB_SHAPE(-4, 2);
    a.mode = FB_PAD_CONSTANT;
    fbi_sample_bad(s, &a, 1, IN(2, 3), FB_E_ARG, "pads -4 and 2 of dimension 1 of [2, 3]");
    a.pads = FB_SHAPE(1, 1, 1);
    fbi_sample_bad(s, &a, 1, IN(2, 3), FB_E_ARG, "3 pads for input [2, 3]");
    a.mode = 4;
    fbi_sample_bad(s, &a, 1, IN(2, 3), FB_E_ARG, "4 is no mode");
}

void fbi_sample_roll(fbi_samples *s)
{
    fbi_attrs_roll a = {.shifts = FB_SHAPE(2, -5), .dims = FB_DIMS(0, -1)};
    fbi_sample_add(s, &a, 1, IN(3, 2, 4));
    a = (fbi_attrs_roll){.shifts = FB_SHAPE(5)};
    fbi_sample_add(s, &a, 1, IN(3, 2, 4));
    a.dims = FB_DIMS(0, 1);
    fbi_sample_bad(s, &a, 1, IN(3, 2), FB_E_ARG, "roll: 1 shifts for 2 dimensions");
    a.dims = FB_DIMS(2);
    fbi_sample_bad(s, &a, 1, IN(3, 2), FB_E_ARG, "roll: no dimension 2 in input [3, 2]");
}

void fbi_sample_repeat(fbi_samples *s)
{
    fbi_sample_add(s, &(fbi_attrs_repeat){.times = FB_SHAPE(2, 1, 3)}, 1, IN(2, 3));
    fbi_sample_add(s, &(fbi_attrs_repeat){.times = FB_SHAPE(2, 0)}, 1, IN(2, 3));
    fbi_sample_bad(s, &(fbi_attrs_repeat){.times = FB_SHAPE(2)}, 1, IN(2, 3), FB_E_ARG,
                   "repeat: [2, 3] cannot be repeated [2] times");
    fbi_sample_bad(s, &(fbi_attrs_repeat){.times = FB_SHAPE(2, -1)}, 1, IN(2, 3), FB_E_ARG,
                   "cannot be repeated [2, -1] times");
}

void fbi_sample_tile(fbi_samples *s)
{
    fbi_sample_add(s, &(fbi_attrs_tile){.times = FB_SHAPE(2)}, 1, IN(2, 3));
    fbi_sample_add(s, &(fbi_attrs_tile){.times = FB_SHAPE(2, 1, 2)}, 1, IN(2, 3));
    fbi_sample_bad(s, &(fbi_attrs_tile){.times = FB_SHAPE(-2)}, 1, IN(2, 3), FB_E_ARG,
                   "tile: [2, 3] cannot be repeated [-2] times");
}

void fbi_sample_repeat_interleave(fbi_samples *s)
{
    fbi_attrs_repeat_interleave a = {.repeats = 3, .dim = 1};
    fbi_sample_add(s, &a, 1, IN(2, 3, 2));
    a.dim = -1;
    fbi_sample_add(s, &a, 1, IN(2, 3));
    a.repeats = -1;
    fbi_sample_bad(s, &a, 1, IN(2, 3), FB_E_ARG,
                   "repeat_interleave: -1 repeats of dimension 1 of [2, 3]");
}

void fbi_sample_fliplr(fbi_samples *s)
{
    fbi_sample_add(s, NULL, 1, IN(2, 3));
    fbi_sample_bad(s, NULL, 1, IN(2), FB_E_SHAPE, "fliplr: input [2] needs at least 2 dimensions");
}

void fbi_sample_flipud(fbi_samples *s)
{
    fbi_sample_add(s, NULL, 1, IN(2, 3));
    fbi_sample_bad(s, NULL, 1, &(fbi_sample_in){.hi = 1}, FB_E_SHAPE,
                   "flipud: input [] needs a dimension");
}

void fbi_sample_rot90(fbi_samples *s)
{
    for (int k = -1; k < 3; k++)
        fbi_sample_add(s, &(fbi_attrs_rot90){.k = k, .dim0 = 0, .dim1 = -1}, 1, IN(2, 3, 4));
    fbi_sample_bad(s, &(fbi_attrs_rot90){.k = 1, .dim0 = 0, .dim1 = -2}, 1, IN(2, 3), FB_E_ARG,
                   "rot90: dimensions 0 and -2 of [2, 3] are the same");
}
