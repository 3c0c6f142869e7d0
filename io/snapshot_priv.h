/* What a save writes: the values of a state at one moment. */
#ifndef FLAMBEAU_IO_SNAPSHOT_PRIV_H
#define FLAMBEAU_IO_SNAPSHOT_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "io/state_priv.h"

/* One entry of a state. */
typedef struct fbi_item {
    char *key;
    const char *kind; /* dtype in the manifest; NULL: a number, which the manifest itself has */
    fb_dtype dtype;
    fb_shape shape;
    const char *data; /* values, row-major, from byte `from` to byte `to` */
    size_t bytes;     /* of all values */
    size_t from, to;  /* what this rank writes; on rank 0 everything */
    void *own;        /* `data`, if it is the item's own memory */
    int64_t value;    /* of a number: `data` is here */
    bool real;        /* it is a double */
} fbi_item;

/* Which part of all values a file gets: number `number` of `of` equal ones. A tensor that is cut is
 * cut between rows if they are short, else anywhere. What is no tensor is in number 0. */
typedef struct fbi_share {
    int64_t number, of;
} fbi_share;

/* Part of a tensor, to be copied before its memory changes; on a device it is copied in the order
 * of the compute queue, and `arrived` behind it. */
typedef struct fbi_bucket {
    struct fbi_storage *storage; /* counted; NULL: of a device */
    const atomic_int *arrived;   /* of a device: its word when the copy is there */
    const char *from;
    char *to;
    size_t bytes;
    enum { FBI_BUCKET_WAITS, FBI_BUCKET_TAKEN, FBI_BUCKET_DONE } state;
} fbi_bucket;

typedef struct fbi_snapshot {
    fb_context *ctx;
    fbi_item *items;
    int64_t n, cap;
    char *room; /* of the copies, kept from save to save */
    size_t room_bytes;
    char *pinned; /* the same of copies from a device, and what tells that they have arrived */
    size_t pinned_bytes;
    struct fbi_storage *one; /* on the device: the word that says so */
    atomic_bool lost;        /* the device has failed: some copies never arrive */
    /* copies that are to be made; of two threads, so under the lock */
    pthread_mutex_t lock;
    pthread_cond_t copied;
    fbi_bucket *buckets;
    int64_t n_buckets, cap_buckets;
} fbi_snapshot;

bool fbi_snapshot_open(fbi_snapshot *s, fb_context *ctx);
void fbi_snapshot_close(fbi_snapshot *s);
/* The items of a state, and the values of a share, of number 0 all. Values stay where they are, if
 * the host can read them there, and must not change until they are written. false: `text` or the
 * context's error says why. */
bool fbi_snapshot_take(fbi_snapshot *s, fb_state *state, fbi_share share, char *text, size_t size);
/* The same, but what comes later may change everything: values are copied now, or, where the
 * context's guard tells of changes, by fbi_snapshot_copy and at the latest before the change. */
bool fbi_snapshot_take_copies(fbi_snapshot *s, fb_state *state, fbi_share share, char *text,
                              size_t size);
/* Make the copies that are still to be made, and wait for those from a device. Any thread. false:
 * the device has failed. */
bool fbi_snapshot_copy(fbi_snapshot *s);
/* Copies from a device have arrived, or never will. Of the context's thread, which another one may
 * wait for in fbi_snapshot_copy. */
void fbi_snapshot_settle(fbi_snapshot *s);
/* Let go of the items. Of the context's thread, when nobody writes them any more. */
void fbi_snapshot_drop(fbi_snapshot *s);
/* fb_state_digest of the state. */
void fbi_snapshot_digest(const fbi_snapshot *s, char hex[17]);

#endif
