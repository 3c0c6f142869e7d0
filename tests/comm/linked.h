/* A world whose ranks have a simulated card each, and NCCL between them. */
#ifndef TESTS_COMM_LINKED_H
#define TESTS_COMM_LINKED_H

#include <stdio.h>
#include <stdlib.h>

#include <flambeau/comm/world.h>

#include "core/ops/backend.h"

static inline void linked_cards(void)
{
    setenv("FLAMBEAU_DEVICE", "cudasim", 1);
    setenv("CUDASIM_DEVICES", "8", 1);
}

/* 0, or the exit code of a test that cannot run: 77 where the build has no NCCL. */
static inline int linked_code(fb_world *world)
{
    if (!world)
        return 1;
    fb_context *ctx = fb_world_context(world);
    char card[FBI_LINK_CARD_BYTES];
    if (ctx->backend->comm->usable(ctx, card))
        return 0;
    puts(ctx->backend->comm->reason(ctx));
    fb_world_close(world);
    return 77;
}

static inline int linked_world(int *argc, char ***argv, const fb_world_options *options,
                               fb_world **world)
{
    linked_cards();
    *world = fb_world_open_with(argc, argv, options);
    return linked_code(*world);
}

#endif
