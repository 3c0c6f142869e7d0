/* SIGTERM and SIGUSR1 set a flag: a wish to stop, agreed at the next step. */
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "comm/world_priv.h"

/* The signal flag: the only state of this room outside a world, since a handler has no argument. */
static atomic_int wanted;
static _Atomic double terminated; /* when SIGTERM came */
static struct sigaction old_term, old_usr1;
static atomic_int installed;

static void on_signal(int number)
{
    struct timespec t;
    atomic_store(&wanted, 1);
    if (number == SIGTERM && clock_gettime(CLOCK_MONOTONIC, &t) == 0)
        atomic_store(&terminated, (double)t.tv_sec + 1e-9 * (double)t.tv_nsec);
}

uint8_t fbi_stop_wish(const fb_world *world)
{
    if (atomic_load(&wanted))
        return FBI_STOP_SIGNAL;
    return world->stop_wanted ? FBI_STOP_OWN : FBI_STOP_NO;
}

void fbi_stop_join(fb_world *world, uint8_t wish)
{
    world->stop_agreed |= wish != FBI_STOP_NO;
    world->stop_signalled |= wish == FBI_STOP_SIGNAL;
}

double fbi_signal_age(void)
{
    double at = atomic_load(&terminated);
    return at > 0 ? fbi_now() - at : 0;
}

void fbi_signals_install(void)
{
    if (atomic_exchange(&installed, 1))
        return;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, &old_term);
    sigaction(SIGUSR1, &action, &old_usr1);
}

void fbi_signals_restore(void)
{
    if (!atomic_exchange(&installed, 0))
        return;
    sigaction(SIGTERM, &old_term, NULL);
    sigaction(SIGUSR1, &old_usr1, NULL);
}
