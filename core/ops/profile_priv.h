/* What a profile has counted. */
#ifndef FLAMBEAU_CORE_OPS_PROFILE_PRIV_H
#define FLAMBEAU_CORE_OPS_PROFILE_PRIV_H

#include <flambeau/core/ops/profile.h>

#include "core/ops/backend.h"

enum { FBI_PROFILE_DEPTH = 256 };

/* The sums of one name; times in nanoseconds. */
typedef struct fbi_profile_row {
    fb_profile_kind kind;
    char *name;
    const void *of; /* a module that is not freed; else NULL */
    int64_t parent; /* of a module: the row that it was called in; -1: none */
    int64_t count, total, self, backward, device;
    double flops, bytes;
    int open; /* spans of it that are open */
} fbi_profile_row;

/* A span that is open. */
typedef struct fbi_profile_frame {
    int64_t row, event; /* -1: none */
    int64_t around;     /* of a module: the one that it is called in; -1: none */
    int64_t owner; /* in a node's part of a backward: the module that has recorded it; -1: none */
    fb_profile_kind kind;
    int64_t begun, within;
    void *stamp; /* of the device, when its first kernel was handed over; NULL: none */
    double flops, bytes;
} fbi_profile_frame;

typedef struct fbi_profile_event {
    int64_t begin, length; /* length -1: open, or lost */
    int32_t row, module;
    double flops;
} fbi_profile_event;

/* A span whose kernels the device may not have done yet. */
typedef struct fbi_profile_mark {
    void *begin, *end;
    int64_t row;
} fbi_profile_mark;

/* Nodes recorded from number `seq` on belong to the calls of a module. */
typedef struct fbi_profile_era {
    uint64_t seq;
    int64_t module;
} fbi_profile_era;

/* How long this rank has stood still until another one came. */
typedef struct fbi_profile_waits {
    double *seconds;
    int n; /* ranks of the world with a place */
} fbi_profile_waits;

struct fb_profile {
    fb_context *ctx;
    fbi_trace trace;
    bool running, lost; /* lost: no memory for something that should have been counted */
    int64_t begun, ran; /* of the clock; nanoseconds before `begun` */
    int64_t epoch;      /* of the world's clock when it was opened, at `origin` of ours */
    int64_t origin;

    fbi_profile_row *rows;
    int64_t n_rows, cap_rows;
    int32_t *places; /* open addressing: row + 1; a power of two */
    size_t n_places;

    fbi_profile_frame frames[FBI_PROFILE_DEPTH];
    int depth, too_deep;
    int64_t module; /* row of the innermost call; -1: none */

    fbi_profile_event *events;
    int64_t n_events, cap_events, max_events, missed;
    fbi_profile_era *eras;
    int64_t n_eras, cap_eras;
    fbi_profile_mark *marks;
    int64_t n_marks, cap_marks;
    bool reading; /* the marks */
    fbi_profile_waits waits;

    int64_t steps, self;
    double flops, bytes;
    fb_profile_row *shown; /* what fb_profile_rows gives */
};

/* Of one call of a kernel, by its shapes; 0 where nobody counts them. */
double fbi_flops(const fbi_call *c);
/* Of its operands and results, as far as they are different memory. */
double fbi_call_bytes(const fbi_call *c);
/* fb_profile_write as process `pid`, called `title`. */
fb_status fbi_profile_write(fb_profile *p, const char *path, int pid, const char *title);

#endif
