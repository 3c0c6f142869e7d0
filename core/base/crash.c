/* Everything in the handler is async-signal-safe: no memory, no locks, no stdio. */
#include "core/base/crash_priv.h"

#include <execinfo.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SIGNALS = 3, FRAMES = 48, STACK = 64 * 1024 };
static const int numbers[SIGNALS] = {SIGSEGV, SIGBUS, SIGFPE};
static const char *const names[SIGNALS] = {"SIGSEGV (invalid memory access)",
                                           "SIGBUS (no memory behind an address)",
                                           "SIGFPE (division by zero)"};

/* A handler has no argument. */
static struct {
    char who[64];
    fbi_crash_fn more;
    void *self;
    struct sigaction before[SIGNALS];
    stack_t stack_before;
    bool installed;
} crash;
static atomic_flag speaking = ATOMIC_FLAG_INIT;
/* A stack that has overflowed has no room for a handler. */
static char stack[STACK];

void fbi_crash_put(const char *text)
{
    size_t n = strlen(text);
    while (n) {
        ssize_t written = write(STDERR_FILENO, text, n);
        if (written <= 0)
            return;
        text += written;
        n -= (size_t)written;
    }
}

void fbi_crash_number(uint64_t n)
{
    char digits[21], *at = digits + sizeof digits - 1;
    *at = '\0';
    do
        *--at = (char)('0' + n % 10);
    while (n /= 10);
    fbi_crash_put(at);
}

static void on_crash(int number, siginfo_t *info, void *context)
{
    void *frames[FRAMES];
    (void)context;
    if (atomic_flag_test_and_set(&speaking))
        for (;;)
            pause(); /* another thread is speaking; the process ends with it */
    for (int i = 0; i < SIGNALS; i++)
        signal(numbers[i], SIG_DFL);
    const char *what = "";
    for (int i = 0; i < SIGNALS; i++)
        if (numbers[i] == number)
            what = names[i];
    fbi_crash_put("flambeau: ");
    fbi_crash_put(crash.who);
    fbi_crash_put(": ");
    fbi_crash_put(what);
    fbi_crash_put("\n");
    if (crash.more)
        crash.more(crash.self);
    backtrace_symbols_fd(frames, backtrace(frames, FRAMES), STDERR_FILENO);
    /* What faulted does so again, by default; what was sent is sent again. */
    if (info->si_code <= 0)
        raise(number);
}

bool fbi_crash_is_free(void)
{
    struct sigaction now;
    for (int i = 0; i < SIGNALS; i++)
        if (sigaction(numbers[i], NULL, &now) || now.sa_handler != SIG_DFL)
            return false;
    return true;
}

void fbi_crash_install(const char *who, fbi_crash_fn more, void *self)
{
    if (crash.installed)
        return;
    void *first[1];
    backtrace(first, 1); /* the first call loads a library: not in a handler */
    snprintf(crash.who, sizeof crash.who, "%s", who);
    crash.more = more;
    crash.self = self;
    crash.installed = true;
    stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&own, &crash.stack_before);
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < SIGNALS; i++)
        sigaction(numbers[i], &action, &crash.before[i]);
}

void fbi_crash_restore(void)
{
    if (!crash.installed)
        return;
    for (int i = 0; i < SIGNALS; i++)
        sigaction(numbers[i], &crash.before[i], NULL);
    sigaltstack(&crash.stack_before, NULL);
    crash.installed = false;
}
