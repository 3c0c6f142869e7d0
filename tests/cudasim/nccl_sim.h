/* A communicator of the simulated NCCL. Its ranks, threads or processes of one machine, share a
 * segment that the unique id names. */
#ifndef TESTS_CUDASIM_NCCL_SIM_H
#define TESTS_CUDASIM_NCCL_SIM_H
#include <nccl.h>
#include <atomic>

#include "tests/cudasim/sim.h"

namespace sim
{
/* SLOT: bytes of a chunk of a collective, of each rank; PIPE: of a chunk of a transfer. */
enum { NCCL_RANKS = 64, NCCL_SLOT = 256 << 10, NCCL_PIPE = 64 << 10 };
enum Nccl_kind {
    NCCL_ALL_REDUCE,
    NCCL_BROADCAST,
    NCCL_ALL_GATHER,
    NCCL_REDUCE_SCATTER,
    NCCL_SEND,
    NCCL_RECV
};

struct Nccl_rank {
    std::atomic<int> taken, joined, pid, device, finalized;
    std::atomic<int> splits, color, key; /* of the newest split that this rank asked for */
    std::atomic<uint64_t> posted, read;  /* chunks of collectives: put into the slot; read by it */
    std::atomic<uint64_t> call;          /* what the chunk belongs to: the same on every rank */
};
struct Nccl_pipe {
    std::atomic<uint64_t> posted, taken, bytes, total;
};
/* Then: pipes [sender][receiver], slots [rank], rooms of the pipes. */
struct Nccl_segment {
    Nccl_rank rank[NCCL_RANKS];
};

struct Nccl_call {
    Nccl_kind kind;
    const void *in;
    void *out;
    size_t n;
    ncclDataType_t type;
    ncclRedOp_t op;
    int peer; /* root, or the other side of a transfer */
    ncclComm_t comm;
    cudaStream_t stream;
};
/* How far a call has come. */
struct Nccl_progress {
    size_t at = 0;
    bool started = false, put = false, done = false;
};
/* What CUDASIM_NCCL_FAULT or cudasim_nccl_fault asks for. */
struct Nccl_fault {
    enum { NONE, ABSENT, HANG, ERROR } kind = NONE;
    int rank = 0;
    long call = 0; /* number of the launch on that rank, from 1 */
};

size_t nccl_size(ncclDataType_t type); /* of an element; 0: not simulated */
const char *nccl_name(Nccl_kind kind);
size_t nccl_segment_bytes(int ranks);
/* All calls of one launch, as far as they go; `what` may be given the reason why they do not. */
Result nccl_advance(ncclComm_t comm, std::vector<Nccl_call> &calls,
                    std::vector<Nccl_progress> &progress, std::string &what);
/* A card makes progress by itself: a thread of this process runs its queues when a peer asks. */
void nccl_serve();
void nccl_ask(int pid);
} /* namespace sim */

struct ncclComm {
    int n, me, device;
    sim::Nccl_segment *shared;
    std::string name;
    bool blocking, ready = false, aborted = false, gone = false, finalizing = false;
    ncclResult_t err = ncclSuccess;
    std::string text; /* of the last error */
    uint64_t chunks = 0;
    long launches = 0;
    int polls = 0;                         /* ncclInProgress for so many more polls */
    std::vector<sim::Nccl_call> postponed; /* a launch in progress */
    int splits = 0, color = 0, key = 0;    /* a split in progress, if `child` is set */
    ncclComm_t *child = nullptr, made = nullptr;
    double asked = 0; /* when a peer was last asked to go on */
    std::shared_ptr<sim::Ticket> order = std::make_shared<sim::Ticket>();
};
#endif
