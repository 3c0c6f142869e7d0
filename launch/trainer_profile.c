/* Some steps of a fit under the profiler: tables on the terminal, a trace in a file. */
#include "launch/trainer_priv.h"

#include <errno.h>
#include <string.h>

#include "comm/group_priv.h"
#include "core/base/log_priv.h"
#include "core/tensor/context_priv.h"
#include <flambeau/comm/profile.h>

enum { FIRST = 10, LAST = 30 }; /* by then plans are made and caches full */

/* "10:30": from after step 10 to after step 30. */
static bool parse(const char *text, int64_t *from, int64_t *to)
{
    long long a, b;
    char rest;
    if (!text) {
        *from = FIRST;
        *to = LAST;
        return true;
    }
    if (sscanf(text, "%lld:%lld%c", &a, &b, &rest) != 2 || a < 0 || b <= a)
        return false;
    *from = a;
    *to = b;
    return true;
}

/* Hours later would be late to find that out. */
static fb_status try_file(fb_trainer *t)
{
    FILE *f = fopen(t->o.profile, "we");
    if (f && !fclose(f))
        return FB_OK;
    return fbi_fail(t->ctx, FB_E_IO, "trainer: profile %s: %s", t->o.profile, strerror(errno));
}

fb_status fbi_trainer_profile_bind(fb_trainer *t)
{
    int64_t from, to;
    if (!t->o.profile)
        return FB_OK;
    if (!parse(t->o.profile_steps, &from, &to))
        return fbi_fail(t->ctx, FB_E_ARG,
                        "trainer: profile_steps: \"%s\" is not FROM:TO, two numbers of steps of "
                        "which the second is larger, e.g. 10:30",
                        t->o.profile_steps);
    t->profile_from = t->steps + from;
    t->profile_to = t->steps + to;
    fb_group *all = fb_world_group(t->world);
    return fbi_group_agree(all, "profile", fb_group_rank(all) ? FB_OK : try_file(t));
}

static fb_status tell(fb_trainer *t)
{
    fb_group *all = fb_world_group(t->world);
    fb_profile_stop(t->profile);
    fbi_trainer_say(t, "profile of steps %lld to %lld: %s", (long long)t->profile_from,
                    (long long)t->steps, t->o.profile);
    if (t->speaks)
        fb_profile_print(t->profile, NULL);
    if (fb_group_size(all) > 1) /* an error that there is by now is told to all ranks here */
        fb_profile_print_ranks(all, t->profile, t->speaks ? NULL : "/dev/null");
    return fb_profile_write_ranks(all, t->profile, t->o.profile);
}

/* Neither a full disk nor too little memory for it ends a run: the error of one is on all ranks,
 * and they take it together. */
static fb_status finish(fb_trainer *t)
{
    char message[512];
    fb_status st = tell(t);
    fb_profile_close(t->profile);
    t->profile = NULL;
    t->profile_from = t->profile_to = -1;
    if (st != FB_E_IO && st != FB_E_NOMEM)
        return st;
    fb_error_take(t->ctx, message, sizeof message);
    if (fb_world_root(t->world))
        fbi_logline("warning: trainer: %s", message);
    return FB_OK;
}

fb_status fbi_trainer_profile(fb_trainer *t, bool over)
{
    if (!t->o.profile || t->profile_from < 0)
        return FB_OK;
    if (!t->profile && t->steps == t->profile_from && !over)
        t->profile = fb_profile_open(t->ctx, NULL);
    else if (t->profile && (over || t->steps >= t->profile_to))
        return finish(t);
    else if (over && fb_world_root(t->world))
        fbi_logline("warning: trainer: the run ended before step %lld, where its profile would "
                    "have begun: give an earlier profile_steps",
                    (long long)t->profile_from);
    return fb_status_of(t->ctx);
}
