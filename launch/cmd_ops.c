/* `flambeau ops`: the table of operators, as the library reads it (core/ops/ops.def). */
#include "launch/commands_priv.h"

#include <flambeau/core/ops/op.h>

#include "core/ops/op_priv.h"

#include <stdio.h>
#include <string.h>

static const char *derivative_of(const fbi_opdef *def)
{
    if (def->compose)
        return def->flags & FBI_NO_GRADIENT ? "none" : "its parts'";
    return def->bwd ? "fast" : def->bwd_ops ? "composed" : "none";
}

int fbi_cmd_ops(int argc, char **argv)
{
    bool inner = argc == 2 && !strcmp(argv[1], "--inner");
    if (argc == 2 && !strcmp(argv[1], "--count")) {
        printf("%d\n", fb_op_count());
        return FBI_EXIT_OK;
    }
    if (argc > 1 && !inner) {
        printf("flambeau ops [--inner | --count]: name, inputs, outputs, derivative and traits of "
               "every "
               "operator;\n--inner adds those that only backwards use\n");
        return strcmp(argv[1], "--help") ? FBI_EXIT_USAGE : FBI_EXIT_OK;
    }
    printf("%-28s %-3s %-3s %-10s %s\n", "operator", "in", "out", "backward", "traits");
    int n = 0;
    for (int i = 1; i < FBI_OP_COUNT; i++) {
        const fbi_opdef *def = &fbi_opdefs[i];
        if ((def->flags & FBI_INNER) && !inner)
            continue;
        char inputs[8] = "any";
        if (!(def->flags & FBI_VARIADIC))
            snprintf(inputs, sizeof inputs, "%d", def->n_in);
        printf("%-28s %-3s %-3d %-10s%s%s%s%s\n", def->name, inputs, def->n_out, derivative_of(def),
               def->flags & FBI_VIEW ? " view" : "", def->flags & FBI_RANDOM ? " random" : "",
               def->flags & FBI_COUPLES ? " couples-samples" : "",
               def->flags & FBI_THREAD_BITS ? " bits-by-thread-count" : "");
        n++;
    }
    printf("%d operators\n", n);
    return FBI_EXIT_OK;
}
