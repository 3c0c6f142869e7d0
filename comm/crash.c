/* What a rank was doing when it crashed: its operator, and its last calls. */
#include <stdio.h>

#include "comm/world_priv.h"
#include "core/base/crash_priv.h"

static void put_call(const fbi_past *past, const char *site)
{
    fbi_crash_put(fbi_kind_name(past->kind));
    fbi_crash_put(" #");
    fbi_crash_number(past->seq);
    if (past->group) {
        fbi_crash_put(" of group ");
        fbi_crash_number((uint64_t)past->group);
    }
    if (site[0]) {
        fbi_crash_put(" at ");
        fbi_crash_put(site);
    }
}

/* In a signal handler: see core/base/crash_priv.h. */
static void say_what_it_did(void *self)
{
    const fb_world *world = self;
    const fbi_page_rank *own = world->own;
    unsigned calls = atomic_load(&own->calls), n = calls < FBI_PASTS ? calls : FBI_PASTS;
    if (world->ctx && world->ctx->doing) {
        fbi_crash_put("  in operator ");
        fbi_crash_put(world->ctx->doing);
        fbi_crash_put("\n");
    }
    for (unsigned i = 1; i <= n; i++) {
        fbi_crash_put(i == 1 ? "  last calls: " : ", before it ");
        put_call(&own->past[(calls - i) % FBI_PASTS], own->past_site[(calls - i) % FBI_PASTS]);
    }
    fbi_crash_put(n ? "\n" : "  it has called no collective\n");
}

void fbi_world_crash_open(fb_world *world)
{
    char who[96];
    fbi_crash_install(fbi_rank_text(world, world->rank, who, sizeof who), say_what_it_did, world);
}
