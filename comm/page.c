/* The verdict on the page; texts about calls and ranks, for the messages. */
#include "comm/page_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <flambeau/core/base/status.h>

bool fbi_page_judge(fbi_page *page, const fbi_finding *verdict)
{
    int none = 0;
    if (!atomic_compare_exchange_strong(&page->poison, &none, -1))
        return false;
    page->verdict = *verdict;
    atomic_store_explicit(&page->poison, FB_E_COMM, memory_order_release);
    return true;
}

static const char *const kind_names[FBI_KIND_COUNT] = {
    [FBI_KIND_NONE] = "nothing",
    [FBI_KIND_BARRIER] = "barrier",
    [FBI_KIND_ALL_REDUCE] = "all_reduce",
    [FBI_KIND_REDUCE_SCATTER] = "reduce_scatter",
    [FBI_KIND_ALL_GATHER] = "all_gather",
    [FBI_KIND_ALL_TO_ALL] = "all_to_all",
    [FBI_KIND_BROADCAST] = "broadcast_",
    [FBI_KIND_SEND] = "send",
    [FBI_KIND_RECV] = "recv",
    [FBI_KIND_GRADIENTS] = "sum of gradients",
    [FBI_KIND_BYTES] = "exchange",
    [FBI_KIND_CLOSE] = "world_close",
};

const char *fbi_kind_name(int kind)
{
    return kind > 0 && kind < FBI_KIND_COUNT ? kind_names[kind] : kind_names[FBI_KIND_NONE];
}

static bool is_pair(int kind)
{
    return kind == FBI_KIND_SEND || kind == FBI_KIND_RECV;
}

/* Two sides of one exchange, if they agree in group and number. */
static bool kinds_match(int a, int b)
{
    return is_pair(a) == is_pair(b) && (a != b || !is_pair(a));
}

bool fbi_same_exchange(const fbi_signature *a, const fbi_signature *b)
{
    return a->group == b->group && a->seq == b->seq && kinds_match(a->kind, b->kind);
}

bool fbi_has_passed(const fbi_signature *now, const fbi_past past[FBI_PASTS],
                    const fbi_signature *sig)
{
    if (fbi_same_exchange(now, sig))
        return false;
    if (now->group == sig->group && !is_pair(now->kind) && !is_pair(sig->kind))
        return now->seq > sig->seq;
    for (int i = 0; i < FBI_PASTS; i++)
        if (past[i].kind != FBI_KIND_NONE && past[i].group == sig->group &&
            past[i].seq == sig->seq && kinds_match(past[i].kind, sig->kind))
            return true;
    return false;
}

const char *fbi_call_text(const fbi_signature *sig, char *buf, size_t size)
{
    char group[32] = "", where[FBI_SITE_BYTES + 8] = "", tag[FBI_TAG_BYTES + 4] = "";
    if (sig->group)
        snprintf(group, sizeof group, " of group %d", sig->group);
    if (sig->site[0])
        snprintf(where, sizeof where, " at %.*s", FBI_SITE_BYTES - 1, sig->site);
    if (sig->tag[0])
        snprintf(tag, sizeof tag, " (%.*s)", FBI_TAG_BYTES - 1, sig->tag);
    if (sig->kind == FBI_KIND_CLOSE || sig->kind == FBI_KIND_NONE)
        snprintf(buf, size, "%s%s", fbi_kind_name(sig->kind), where);
    else
        snprintf(buf, size, "%s%s #%" PRIu64 "%s%s", fbi_kind_name(sig->kind), tag, sig->seq, group,
                 where);
    return buf;
}

static const char *op_name(int op)
{
    static const char *const names[] = {"", " SUM", " PROD", " MIN", " MAX"};
    return op >= 0 && op < (int)(sizeof names / sizeof *names) ? names[op] : "";
}

const char *fbi_brought_text(const fbi_signature *sig, char *buf, size_t size)
{
    char shape[200];
    switch ((fbi_kind)sig->kind) {
    case FBI_KIND_BARRIER:
    case FBI_KIND_CLOSE:
    case FBI_KIND_NONE:
    case FBI_KIND_COUNT:
        snprintf(buf, size, "nothing");
        return buf;
    case FBI_KIND_BYTES:
        snprintf(buf, size, "%" PRId64 " bytes", sig->count);
        return buf;
    case FBI_KIND_ALL_REDUCE:
    case FBI_KIND_REDUCE_SCATTER:
    case FBI_KIND_ALL_GATHER:
    case FBI_KIND_ALL_TO_ALL:
    case FBI_KIND_BROADCAST:
    case FBI_KIND_SEND:
    case FBI_KIND_RECV:
    case FBI_KIND_GRADIENTS:
        break;
    }
    fb_shape dims = {.n = sig->ndim};
    memcpy(dims.d, sig->dims, sizeof dims.d);
    char root[32] = "";
    if (sig->kind == FBI_KIND_BROADCAST)
        snprintf(root, sizeof root, " from rank %d", sig->root);
    snprintf(buf, size, "%s %s%s%s", fb_dtype_name((fb_dtype)sig->dtype),
             fb_shape_text(dims, shape, sizeof shape), op_name(sig->op), root);
    return buf;
}

const char *fbi_ranks_text(const bool *flag, int n, char *buf, size_t size)
{
    int total = 0;
    for (int r = 0; r < n; r++)
        total += flag[r];
    size_t at = (size_t)snprintf(buf, size, total == 1 ? "rank " : "ranks ");
    const char *comma = "";
    for (int r = 0; r < n && at < size; r++) {
        if (!flag[r])
            continue;
        int end = r;
        while (end + 1 < n && flag[end + 1])
            end++;
        if (end == r)
            at += (size_t)snprintf(buf + at, size - at, "%s%d", comma, r);
        else
            at += (size_t)snprintf(buf + at, size - at, "%s%d-%d", comma, r, end);
        comma = ",";
        r = end;
    }
    return buf;
}
