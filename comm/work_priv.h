/* A collective in flight: a small machine that goes on as far as it can whenever it is poked. */
#ifndef FLAMBEAU_COMM_WORK_PRIV_H
#define FLAMBEAU_COMM_WORK_PRIV_H

#include "comm/group_priv.h"

/* What to do, given by the caller. */
typedef struct fbi_task {
    fbi_kind kind;
    fb_reduce_op op;
    fb_dtype dtype;     /* of the sources */
    fb_dtype out_dtype; /* 0: dtype */
    int root;           /* of broadcast, or the other side of send and recv */
    int64_t count;      /* elements that each rank brings; all_reduce: of the result too */
    const void *src[FBI_MAX_PIECES]; /* reductions: pieces in the layout's order; NULL: absent */
    int n_src;
    const fbi_layout *layout; /* NULL: one piece for each rank */
    int64_t total; /* all_gather in shared memory: elements of the result, where the last ranks'
                      parts are shorter; 0: all are equal */
    void *dst;
    bool on_device; /* src and dst are memory of the context's device, not of the host */
    const void *site;
    const char *tag;
    bool even_off;         /* to agree on an error that this rank has */
    const fb_tensor *like; /* its shape is shown in messages; NULL: [count] */
} fbi_task;

typedef struct fbi_pinned fbi_pinned; /* host memory of a work on a device (comm/device.c) */
struct fbi_mail;                      /* state of a work that goes by messages (comm/mail_priv.h) */
enum { FBI_STAGES = 4 };

struct fb_work {
    fb_group *group;
    fbi_task task;
    fbi_signature sig;
    size_t size, out_size; /* of an element */
    bool begun, done, failed;
    fbi_storage *held[2]; /* storage that must outlive the work */

    /* on a device */
    fbi_pinned *pinned; /* NULL: src and dst are the caller's */
    void *event;        /* the copies to it; NULL: they have happened */
    void *device_dst;
    size_t result_bytes;

    /* between devices (comm/link_work.c) */
    bool linked, fixed; /* fixed: our own order of additions */
    bool headed;        /* all signatures have come, and agree */
    bool asked;         /* a call is in progress */
    bool launched;      /* all calls are in the communication queue */
    bool detached;      /* nobody waits for it any more */
    int call, calls;
    void *ready, *passed; /* events: the sources are there; the result is */
    fbi_storage *scratch;

    /* reductions */
    int16_t *program; /* of the layout, with this work's absences */
    int program_n, program_cap;
    const void **operands; /* [layout->n] */
    int operands_cap;
    uint32_t *present; /* [ranks] */
    int present_cap;
    int64_t part; /* elements of a rank's part; the last ones may be shorter */

    /* shared memory: chunks go through the stages one behind the other, with a barrier in between
     */
    void (*stage[FBI_STAGES])(fb_work *, int64_t chunk);
    int n_stages;
    int64_t n_chunks, chunk; /* chunk: elements of a part at once */
    int64_t step, steps;
    int channel;
    unsigned arrivals, parity; /* of the channel when this work began */
    int sig_at;                /* which of a rank's two signatures */
    int looked;                /* ranks below it have arrived */
    bool checked;              /* signatures have been compared */

    /* messages */
    struct fbi_mail *mail; /* buffers and requests; kept from work to work */
    bool mail_used;
    int phase;

    /* stages of groups within the group (comm/staged.c) */
    fb_work *inner;
    int inner_stage;
    bool inner_present; /* some leaf of this node is there */

    fb_work *next;
};

/* Start a task. NULL: the error is set, and the other ranks are told if they would wait. */
fb_work *fbi_work_start(fb_group *group, const fbi_task *task);
/* The same for a part of another work, which pushes it on itself. */
fb_work *fbi_work_start_inner(fb_group *group, const fbi_task *task);
/* As far as it goes without waiting. */
void fbi_work_advance(fb_work *work);
/* Wait, free. */
fb_status fbi_work_finish(fb_work *work);
/* Start and finish. */
fb_status fbi_work_run(fb_group *group, const fbi_task *task);
/* Next rank of the world, not below `from`, whose part has not come; -1. */
int fbi_work_missing(const fb_work *work, int from);
/* Send or receive; sums. */
bool fbi_is_pair(int kind);
bool fbi_is_reduction(int kind);
bool fbi_works_use_messages(const fb_world *world);
void fbi_wake(fb_world *world, atomic_uint *word);
void fbi_works_free(fb_world *world);

/* Compare the signatures of all ranks. FB_OK, or FB_E_COMM after poisoning. */
fb_status fbi_signatures_compare(fb_work *work, const fbi_signature *(*of)(fb_work *, int rank));
/* For reductions: the program of this work, from what is present on each rank. */
bool fbi_work_program(fb_work *work, const fbi_signature *(*of)(fb_work *, int rank));
/* Elements [*begin, *end) of rank r's part of `count`. */
void fbi_work_part(const fb_work *work, int r, int64_t *begin, int64_t *end);
/* Source i of this rank at an element. */
static inline const char *fbi_work_src(const fb_work *work, int i, int64_t at)
{
    return (const char *)work->task.src[i] + (size_t)at * work->size;
}
static inline char *fbi_work_dst(const fb_work *work, int64_t at)
{
    return (char *)work->task.dst + (size_t)at * work->out_size;
}

#endif
