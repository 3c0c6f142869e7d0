/* Errors that a card would give and a simulator does not: CUDASIM_FAIL. */
#include "tests/cudasim/sim.h"

#include <cstdlib>

namespace sim
{
struct Fault {
    std::string call;
    cudaError_t error;
    long nth; /* 0: every one */
    long seen;
};

/* "cudaSetDevice:46,kernel:700:3" */
static std::vector<Fault> parse()
{
    std::vector<Fault> faults;
    const char *at = getenv("CUDASIM_FAIL");
    while (at && *at) {
        size_t n = strcspn(at, ":");
        Fault f{std::string(at, n), cudaErrorUnknown, 0, 0};
        char *end = (char *)at + n;
        if (*end)
            f.error = (cudaError_t)strtol(end + 1, &end, 10);
        if (*end == ':')
            f.nth = strtol(end + 1, &end, 10);
        faults.push_back(f);
        at = *end ? end + 1 : end;
    }
    return faults;
}

cudaError_t injected(const char *call)
{
    static std::mutex mu;
    static std::vector<Fault> faults = parse();
    static cudaError_t lost = cudaSuccess; /* a kernel failed: nothing works any more */
    std::lock_guard<std::mutex> hold(mu);
    for (auto &f : faults)
        if (f.call == call && (++f.seen == f.nth || !f.nth)) {
            if (f.call == "kernel")
                S().sticky = lost = f.error;
            return f.error;
        }
    return lost;
}
} /* namespace sim */
