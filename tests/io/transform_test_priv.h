/* Pictures for the tests of transforms, and a loader on them. */
#ifndef TESTS_IO_TRANSFORM_TEST_PRIV_H
#define TESTS_IO_TRANSFORM_TEST_PRIV_H

#include "tests/io/io_test_priv.h"

#include <math.h>

#include <flambeau/core/tensor/tensor.h>
#include <flambeau/io/transform.h>

enum { N = 40, HIGH = 9, WIDE = 7, BATCH = 8 };

/* Sample i: an image U8 [3, 9, 7], a mask U8 [9, 7] like its first channel, a class. */
static inline int make_image(void *user, int64_t index, void *const *out)
{
    (void)user;
    fb_rng rng = fb_rng_make(3, (uint64_t)index);
    for (int k = 0; k < 3 * HIGH * WIDE; k++)
        ((uint8_t *)out[0])[k] = (uint8_t)fb_rng_int(&rng, 0, 256);
    memcpy(out[1], out[0], HIGH * WIDE);
    *(int32_t *)out[2] = (int32_t)(index % 5);
    return 0;
}

static inline fb_dataset *pictures(fb_context *ctx)
{
    fb_dataset_field fields[] = {
        {.name = "input", .dtype = FB_U8, .shape = FB_SHAPE(3, HIGH, WIDE), .scale = 2, .shift = 1},
        {.name = "mask", .dtype = FB_U8, .shape = FB_SHAPE(HIGH, WIDE)},
        {.name = "target", .dtype = FB_I32, .shape = FB_SCALAR}};
    return fb_dataset_custom(ctx, N, fields, 3, make_image, NULL);
}

static inline fb_loader *open_on(fb_dataset *ds, fb_transforms list)
{
    return fb_loader_open(NULL, ds,
                          FB_OPTS(fb_loader_options, .global_batch = BATCH, .transforms = list));
}

#endif
