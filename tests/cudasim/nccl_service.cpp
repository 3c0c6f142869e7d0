/* Progress of a process whose threads are elsewhere (in MPI, say): a peer that waits for it rings a
 * bell, a datagram socket, and a thread here runs the queues. */
#include "tests/cudasim/nccl_sim.h"

#include <cerrno>
#include <cstdio>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

using namespace sim;

/* In the abstract name space: nothing is left behind. */
static socklen_t address(int pid, sockaddr_un *a)
{
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    int n = snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "cudasim-%d", pid);
    return (socklen_t)(offsetof(sockaddr_un, sun_path) + 1 + (size_t)n);
}

/* A process that makes calls gets some time, so that its work runs late also here. */
static void run_late()
{
    Lock lk(S().mu);
    for (int i = 0; i < 20 && now() - S().last_call < .002; i++) {
        lk.unlock();
        usleep(1000);
        lk.lock();
    }
    while (run_one(lk)) {
    }
}

static void listen_for_ever(int bell)
{
    for (;;) {
        char c;
        if (recv(bell, &c, 1, 0) < 0 && errno != EINTR)
            return;
        while (recv(bell, &c, 1, MSG_DONTWAIT) > 0) {
        }
        run_late();
    }
}

void sim::nccl_serve()
{
    static int served; /* pid: a fork needs a bell of its own */
    if (served == getpid())
        return;
    served = getpid();
    sockaddr_un a;
    socklen_t n = address(served, &a);
    int bell = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (bell < 0 || bind(bell, (sockaddr *)&a, n) != 0) {
        perror("cudasim: no bell for NCCL");
        return;
    }
    std::thread(listen_for_ever, bell).detach();
}

void sim::nccl_ask(int pid)
{
    static const int out = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un a;
    socklen_t n = address(pid, &a);
    (void)!sendto(out, "!", 1, MSG_DONTWAIT | MSG_NOSIGNAL, (sockaddr *)&a, n);
}
