/* A simulated cuDNN plan: the operations of a graph, copied out of its descriptors. */
#ifndef TESTS_CUDASIM_CUDNN_SIM_H
#define TESTS_CUDASIM_CUDNN_SIM_H
#include <cudnn.h>
#include <map>
#include <string>
#include <vector>

#include "tests/cudasim/sim.h"

namespace sim
{
struct Tensor {
    int64_t id, dim[4], stride[4];
    cudnnDataType_t type;
    bool is_virtual, by_value;
    int64_t count() const { return dim[0] * dim[1] * dim[2] * dim[3]; }
    /* Place in memory of element i of the row-major order. */
    int64_t place(int64_t i) const
    {
        int64_t at = 0;
        for (int d = 3; d >= 0; d--, i /= d >= 0 ? dim[d + 1] : 1)
            at += i % dim[d] * stride[d];
        return at;
    }
    size_t bytes() const;
};

struct Step {
    cudnnBackendDescriptorType_t kind;
    int mode; /* pointwise, reduction */
    int64_t axis;
    int64_t stride[2], pad[2], dil[2];
    std::vector<Tensor> in; /* convolutions: the two operands, in the order x, w, y */
    Tensor out;
};

typedef std::vector<Step> Program;

/* NULL, or what is wrong with the step. */
const char *check_step(const Step &s);
/* Run on memory: where each tensor of the graph that is not virtual lies. */
void run_program(const Program &p, const std::map<int64_t, void *> &memory);
} /* namespace sim */
#endif
