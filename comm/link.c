#include "comm/link_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log_priv.h"

static const double close_s = 5;

static const fbi_device_comm *comm_of(const fb_world *world)
{
    return world->ctx->backend->comm;
}

/* --- waiting for links and for devices --- */

/* Other ranks may close meanwhile: they have done their part. Only deaths and a poison end it, and
 * the time. */
typedef struct patience {
    fb_world *world;
    const fb_group *group; /* whose ranks are waited for; NULL: all */
    bool (*ready)(void *arg);
    void *arg;
    double end;
    bool late;
} patience;

static bool is_over(void *self)
{
    patience *p = self;
    if (p->ready(p->arg))
        return true;
    p->late = fbi_now() > p->end;
    return p->late;
}

static int others(void *self, int from)
{
    const patience *p = self;
    const fb_group *g = p->group;
    int best = -1;
    for (int r = 0; g && r < g->size; r++)
        if (g->ranks[r] >= from && g->ranks[r] != p->world->rank &&
            (best < 0 || g->ranks[r] < best))
            best = g->ranks[r];
    for (int r = from; !g && best < 0 && r < p->world->size; r++)
        if (r != p->world->rank)
            best = r;
    return best;
}

static fb_status wait_for(patience *p, const fbi_signature *sig)
{
    fbi_waitable what = {is_over, others, NULL, sig, p, true};
    return fbi_wait(p->world, &what);
}

/* A work whose signatures are not all there. */
static fb_work *unheaded(const fb_world *world)
{
    for (fb_work *w = world->flying; w; w = w->next)
        if (w->linked && !w->headed && !w->done)
            return w;
    return NULL;
}

typedef struct head_wait {
    fb_work *work;
    bool (*ready)(void *arg);
    void *arg;
} head_wait;

static bool is_headed(void *self)
{
    const head_wait *h = self;
    return h->work->headed || h->work->done || h->ready(h->arg);
}

static int unarrived(void *self, int from)
{
    return fbi_work_missing(((head_wait *)self)->work, from);
}

/* Ranks that have not even made the call are looked at as for any collective. Then the data are the
 * devices' affair. */
fb_status fbi_link_wait(void *self, bool (*ready)(void *arg), void *arg)
{
    fb_world *world = self;
    char call[160], who[96];
    fb_status status = FB_OK;
    for (fb_work *w; !ready(arg) && (w = unheaded(world)) && !status;) {
        head_wait head = {w, ready, arg};
        fbi_waitable what = {is_headed, unarrived, NULL, &w->sig, &head, false};
        status = fbi_wait(world, &what);
    }
    patience p = {world, NULL, ready, arg, fbi_now() + world->link_s, false};
    const fbi_signature sig = world->last_link;
    if (!status)
        status = wait_for(&p, &sig);
    if (status || !p.late)
        return status;
    return fbi_world_poison(world,
                            "%s has waited %.0f s for its device, last in %s, which every rank has "
                            "called: %s does not get on; set FLAMBEAU_LINK_SECONDS if it may take "
                            "longer",
                            fbi_rank_text(world, world->rank, who, sizeof who), world->link_s,
                            fbi_call_text(&sig, call, sizeof call), comm_of(world)->library);
}

/* --- who can have one --- */

/* What a rank brings to the decision. */
typedef struct offer {
    bool device, usable;
    char card[FBI_LINK_CARD_BYTES], why[400];
} offer;

static offer own_offer(fb_world *world)
{
    offer o = {0};
    const fbi_device_comm *comm = comm_of(world);
    o.device = comm != NULL;
    if (comm && !(o.usable = comm->usable(world->ctx, o.card)))
        snprintf(o.why, sizeof o.why, "%.*s", (int)sizeof o.why - 1, comm->reason(world->ctx));
    else if (!comm)
        snprintf(o.why, sizeof o.why, "its tensors are on %s", world->ctx->device_name);
    return o;
}

/* Whether all ranks of g can, each with a card of its own; else why not. */
static bool all_can(const fb_group *g, const fbi_exchange *exchange, const offer *all, char *why,
                    size_t size)
{
    char who[96], other[96];
    for (int r = 0; r < g->size; r++) {
        const offer *o = &all[fbi_participant(exchange, g->ranks[r])];
        fbi_rank_text(g->world, g->ranks[r], who, sizeof who);
        if (!o->usable) {
            snprintf(why, size, "%s: %s", who, o->why);
            return false;
        }
        for (int q = 0; q < r; q++)
            if (strcmp(all[fbi_participant(exchange, g->ranks[q])].card, o->card) == 0) {
                snprintf(why, size,
                         "%s and %s use the same card (%.*s), which %s refuses: give each rank a "
                         "card of its own",
                         fbi_rank_text(g->world, g->ranks[q], other, sizeof other), who,
                         (int)strcspn(o->card, " "), o->card, comm_of(g->world)->library);
                return false;
            }
    }
    return true;
}

/* --- making one --- */

typedef struct invitation {
    bool ok;
    char id[FBI_LINK_ID_BYTES], why[400];
} invitation;

static void note_reason(const fb_world *world, char why[400])
{
    snprintf(why, 400, "%s", comm_of(world)->reason(world->ctx));
}

/* The first rank of each group makes an id; everyone gets all of them. */
static bool invite(fb_world *world, const fb_group *g, const fbi_exchange *exchange,
                   invitation *all)
{
    invitation mine = {0};
    if (g && g->rank == 0) {
        mine.ok = comm_of(world)->new_id(world->ctx, mine.id) == FB_OK;
        if (!mine.ok)
            note_reason(world, mine.why);
    }
    return exchange->gather(exchange->self, &mine, sizeof mine, all);
}

typedef struct opening {
    const fbi_device_comm *comm;
    fbi_link *link;
    fb_status status;
} opening;

static bool has_opened(void *self)
{
    opening *o = self;
    o->status = o->comm->poll(o->link);
    return o->status != FB_AGAIN;
}

/* Poll until all ranks have joined. NULL: `why` says what happened. */
static fbi_link *settle(fb_world *world, const fb_group *g, fbi_link *link, fb_status status,
                        char why[400])
{
    const fbi_signature sig = {.kind = FBI_KIND_BYTES, .tag = "NCCL"};
    opening o = {comm_of(world), link, status};
    patience p = {world, g, has_opened, &o, fbi_now() + world->link_s, false};
    if (link && status == FB_AGAIN && wait_for(&p, &sig) == FB_OK && p.late)
        snprintf(why, 400, "not all ranks have joined within %.0f s", world->link_s);
    else if (o.status)
        note_reason(world, why);
    if (!o.status)
        return link;
    if (link)
        o.comm->abort(world->ctx, &link, 1);
    return NULL;
}

static fbi_link *join(fb_world *world, const fb_group *g, const fbi_exchange *exchange,
                      char why[400])
{
    invitation *all = calloc((size_t)exchange->size, sizeof *all);
    fbi_link *link = NULL;
    bool ok = all && invite(world, g, exchange, all);
    const invitation *first = ok && g ? &all[fbi_participant(exchange, g->ranks[0])] : NULL;
    if (first && first->ok) {
        fb_status st = comm_of(world)->join(world->ctx, first->id, g->rank, g->size, &link);
        link = settle(world, g, link, st, why);
    } else if (first) {
        memcpy(why, first->why, sizeof first->why);
    }
    free(all);
    return link;
}

static bool queue_is_idle(void *self)
{
    return comm_of(self)->idle(((fb_world *)self)->ctx);
}

/* All ranks of the parent take part, also those that end up in no group. The link must rest. */
static fbi_link *split(fb_world *world, const fb_group *g, const fb_group *parent, char why[400])
{
    fbi_link *link = NULL;
    if (fbi_link_wait(world, queue_is_idle, world))
        return NULL;
    int color = g ? g->ranks[0] : -1;
    fb_status st = comm_of(world)->split(parent->link, color, g ? g->rank : 0, &link);
    link = settle(world, parent, link, st, why);
    if (!link || g)
        return link;
    comm_of(world)->close(link); /* an empty one */
    return NULL;
}

/* --- the decision --- */

/* Whether every rank of g has its link; else the first of them says why. */
static bool all_have(const fb_group *g, const fbi_exchange *exchange, const invitation *all,
                     char *why, size_t size)
{
    char who[96];
    for (int r = 0; r < g->size; r++) {
        const invitation *o = &all[fbi_participant(exchange, g->ranks[r])];
        if (o->ok)
            continue;
        snprintf(why, size, "%s: %s", fbi_rank_text(g->world, g->ranks[r], who, sizeof who),
                 o->why);
        return false;
    }
    return true;
}

/* Make links for those groups that can have one, and keep them where every rank has got its own. */
static void make(fb_world *world, fb_group *g, fb_group *parent, const fbi_exchange *exchange,
                 char *why, size_t size)
{
    invitation mine = {0}, *all = calloc((size_t)exchange->size, sizeof *all);
    bool by_split = parent && parent->link;
    fbi_link *link =
        by_split ? split(world, g, parent, mine.why) : join(world, g, exchange, mine.why);
    mine.ok = link && (!g || fbi_stages_open(g));
    if (link && !mine.ok)
        snprintf(mine.why, sizeof mine.why, "no memory");
    bool told = all && exchange->gather(exchange->self, &mine, sizeof mine, all);
    if (told && g && all_have(g, exchange, all, why, size)) {
        g->link = link;
        world->links++;
        world->ctx->hooks.wait = fbi_link_wait;
    } else if (link) {
        comm_of(world)->abort(world->ctx, &link, 1);
    }
    free(all);
}

void fbi_link_open(fb_world *world, fb_group *g, fb_group *parent, const fbi_exchange *exchange)
{
    offer mine = own_offer(world), *all = calloc((size_t)exchange->size, sizeof *all);
    char why[600] = "";
    bool devices = false, some = false;
    if (!all || !exchange->gather(exchange->self, &mine, sizeof mine, all))
        goto out;
    for (int i = 0; i < exchange->size; i++) {
        devices |= all[i].device;
        some |= all[i].usable;
    }
    if (g && g->size == 1)
        g = NULL;
    bool can = g && devices && all_can(g, exchange, all, why, sizeof why);
    if (some) /* the others of the exchange may make one */
        make(world, can ? g : NULL, parent, exchange, why, sizeof why);
    if (devices && g && !g->link && g->rank == 0 && !world->poisoned)
        fbi_logline("device tensors go between ranks %d to %d through host memory: %s", g->ranks[0],
                    g->ranks[g->size - 1], why);
out:
    free(all);
}

/* --- the end --- */

fb_status fbi_link_failed(fb_world *world, const fbi_signature *sig, const char *reason)
{
    char who[96], call[160];
    return fbi_world_poison(world, "%s: %s failed in %s: %.600s",
                            fbi_rank_text(world, world->rank, who, sizeof who),
                            comm_of(world)->library, fbi_call_text(sig, call, sizeof call), reason);
}

fb_status fbi_links_look(fb_world *world)
{
    for (fb_group *g = world->groups; g && !world->poisoned; g = g->next) {
        fb_status st = g->link ? comm_of(world)->poll(g->link) : FB_OK;
        if (st && st != FB_AGAIN)
            return fbi_link_failed(world, &world->last_link, comm_of(world)->reason(world->ctx));
    }
    return FB_OK;
}

void fbi_links_abort(fb_world *world)
{
    fbi_link **links = calloc((size_t)world->links + 1, sizeof *links);
    int n = 0;
    for (fb_group *g = world->groups; g && links; g = g->next) {
        if (g->link && n < world->links)
            links[n++] = g->link;
        g->link = NULL;
    }
    if (n)
        comm_of(world)->abort(world->ctx, links, n);
    world->links = 0;
    free(links);
}

static bool all_finished(void *self)
{
    fb_world *world = self;
    for (fb_group *g = world->groups; g; g = g->next)
        if (g->link && comm_of(world)->poll(g->link) == FB_AGAIN)
            return false;
    return true;
}

void fbi_links_close(fb_world *world, bool orderly)
{
    const fbi_signature sig = {.kind = FBI_KIND_CLOSE};
    patience p = {world, NULL, all_finished, world, fbi_now() + close_s, false};
    if (!world->links)
        return;
    for (fb_group *g = world->groups; g && orderly; g = g->next)
        if (g->link)
            orderly = comm_of(world)->finish(g->link) != FB_E_DEVICE;
    if (!orderly || wait_for(&p, &sig) || p.late) {
        fbi_links_abort(world);
        return;
    }
    for (fb_group *g = world->groups; g; g = g->next)
        if (g->link) {
            comm_of(world)->close(g->link);
            g->link = NULL;
        }
    world->links = 0;
}
