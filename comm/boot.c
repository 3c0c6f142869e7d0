/* Joining the job: MPI, who is on which node, the page that a node shares. Blocking MPI calls are
 * made here and nowhere else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/mpi_priv.h"
#include "core/base/crash_priv.h"
#include "core/base/log_priv.h"

static bool init_mpi(fb_world *world, int *argc, char ***argv)
{
    int on = 0, over = 0, provided = 0;
    MPI_Initialized(&on);
    MPI_Finalized(&over);
    if (over) {
        fbi_logline(
            "world_open: MPI has been finalized in this process: it cannot be started again");
        return false;
    }
    if (on)
        return true;
    world->may_speak = fbi_crash_is_free(); /* Open MPI has handlers of its own */
    if (MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
        fbi_logline("world_open: MPI_Init_thread failed");
        return false;
    }
    world->mpi->initialized = true;
    return true;
}

/* FLAMBEAU_RANKS_PER_NODE=k: take every k ranks for a node of their own (tests). */
static int fake_node(int rank)
{
    const char *text = getenv("FLAMBEAU_RANKS_PER_NODE");
    int k = text ? atoi(text) : 0;
    return k > 0 ? rank / k : 0;
}

static bool open_communicators(fb_world *world, MPI_Comm from)
{
    fbi_mpi *m = world->mpi;
    if (MPI_Comm_dup(from, &m->comm) || MPI_Comm_dup(from, &m->control))
        return false;
    MPI_Comm_set_errhandler(m->comm, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(m->control, MPI_ERRORS_RETURN);
    MPI_Comm_rank(m->comm, &world->rank);
    MPI_Comm_size(m->comm, &world->size);
    MPI_Comm real = MPI_COMM_NULL;
    if (MPI_Comm_split_type(m->comm, MPI_COMM_TYPE_SHARED, world->rank, MPI_INFO_NULL, &real))
        return false;
    MPI_Comm_split(real, fake_node(world->rank), world->rank, &m->node);
    MPI_Comm_free(&real);
    MPI_Comm_rank(m->node, &world->local_rank);
    MPI_Comm_size(m->node, &world->local_size);
    int *most = NULL, found = 0;
    MPI_Comm_get_attr(m->comm, MPI_TAG_UB, &most, &found);
    m->tag_most = found ? *most : 32767;
    return true;
}

/* Leaders' ranks become node numbers 0, 1, ... in order of rank. */
static void number_nodes(fb_world *world)
{
    int *number = calloc((size_t)world->size, sizeof *number);
    world->nodes = 0;
    for (int r = 0; number && r < world->size; r++) {
        fbi_peer *p = &world->peers[r];
        if (p->node == r)
            number[r] = world->nodes++;
        p->node = number[p->node];
    }
    free(number);
    world->node = world->peers[world->rank].node;
}

static bool meet_peers(fb_world *world)
{
    fbi_mpi *m = world->mpi;
    int leader = world->rank;
    MPI_Bcast(&leader, 1, MPI_INT, 0, m->node);
    fbi_peer me = {.pid = (int32_t)getpid(), .node = leader, .local = world->local_rank};
    me.start = fbi_process_start(me.pid, NULL);
    if (gethostname(me.host, sizeof me.host - 1))
        snprintf(me.host, sizeof me.host, "node%d", leader);
    world->peers = calloc((size_t)world->size, sizeof *world->peers);
    m->closing = calloc((size_t)world->size, 1);
    m->printed = calloc((size_t)world->size, sizeof *m->printed);
    if (!fbi_boot_agree(world, world->peers && m->closing && m->printed))
        return false;
    MPI_Allgather(&me, (int)sizeof me, MPI_BYTE, world->peers, (int)sizeof me, MPI_BYTE, m->comm);
    number_nodes(world);
    /* A rank in another PID namespace cannot be watched: its number means someone else here. */
    for (int r = 0; r < world->size; r++)
        world->peers[r].watched =
            world->peers[r].node == world->node && world->peers[r].start &&
            fbi_process_start(world->peers[r].pid, NULL) == world->peers[r].start;
    MPI_Barrier(m->node);
    return true;
}

static bool gather_node(void *self, const void *mine, size_t bytes, void *all)
{
    fb_world *world = self;
    return MPI_Allgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, world->mpi->node) ==
           MPI_SUCCESS;
}

fbi_exchange fbi_node_exchange(fb_world *world)
{
    return (fbi_exchange){world, world->local_rank, world->local_size, NULL, gather_node};
}

static bool gather_world(void *self, const void *mine, size_t bytes, void *all)
{
    fb_world *world = self;
    return MPI_Allgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, world->mpi->comm) ==
           MPI_SUCCESS;
}

fbi_exchange fbi_world_exchange(fb_world *world)
{
    return (fbi_exchange){world, world->rank, world->size, NULL, gather_world};
}

static bool open_page(fb_world *world)
{
    size_t bytes = sizeof(fbi_page) + (size_t)world->local_size * sizeof(fbi_page_rank);
    fbi_exchange exchange = fbi_node_exchange(world);
    fbi_segment segment;
    bool leads = world->local_rank == 0;
    world->page_bytes = bytes;
    world->page_shared = fbi_segment_open(&exchange, 0, bytes, 0, leads ? bytes : 0, &segment);
    world->page = segment.base;
    if (!world->page_shared) {
        void *room = NULL;
        if (posix_memalign(&room, 64, (bytes + 63) / 64 * 64) == 0)
            memset(room, 0, bytes);
        world->page = room;
        world->messages = true;
        if (leads)
            fbi_logline(
                "world_open: ranks of this node can share no memory: they talk by messages");
    }
    if (!fbi_boot_agree(world, world->page != NULL))
        return false;
    world->own = &world->page->rank[world->local_rank];
    atomic_store(&world->own->waits_for, -1);
    return true;
}

bool fbi_boot_agree(fb_world *world, bool ok)
{
    int mine = ok, all = 0;
    MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, world->mpi->comm);
    return all != 0;
}

void fbi_boot_broadcast(fb_world *world, void *data, size_t bytes)
{
    MPI_Bcast(data, (int)bytes, MPI_BYTE, 0, world->mpi->comm);
}

bool fbi_boot(fb_world *world, int *argc, char ***argv, MPI_Comm from)
{
    if (!init_mpi(world, argc, argv))
        return false;
    if (!open_communicators(world, from)) {
        fbi_logline("world_open: MPI cannot duplicate the communicator");
        return false;
    }
    if (!meet_peers(world) || !open_page(world)) {
        fbi_logline("world_open: no memory for %d ranks", world->size);
        return false;
    }
    world->notices = world->nodes > 1 || (!world->page_shared && world->size > 1);
    fbi_control_open(world);
    return true;
}

void fbi_boot_undo(fb_world *world, bool finalize)
{
    fbi_mpi *m = world->mpi;
    if (world->page_shared) {
        fbi_segment segment = {world->page, world->page_bytes};
        fbi_segment_close(&segment);
    } else {
        free(world->page);
    }
    free(world->peers);
    free(atomic_load(&world->run_dir));
    if (!m)
        return;
    if (finalize) {
        if (m->node != MPI_COMM_NULL)
            MPI_Comm_free(&m->node);
        if (m->control != MPI_COMM_NULL)
            MPI_Comm_free(&m->control);
        if (m->comm != MPI_COMM_NULL)
            MPI_Comm_free(&m->comm);
        if (m->initialized)
            MPI_Finalize();
    }
    free(m->closing);
    free(m->printed);
    free(m);
}
