/* What the operations of a cuDNN graph compute, one after the other, with every virtual tensor in
 * memory and rounded to its type. */
#include <cmath>

#include "tests/cudasim/convert.h"
#include "tests/cudasim/cudnn_sim.h"

namespace sim
{
namespace
{
size_t esize(cudnnDataType_t t)
{
    return t == CUDNN_DATA_BOOLEAN ? 1 : t == CUDNN_DATA_HALF || t == CUDNN_DATA_BFLOAT16 ? 2 : 4;
}

float load(cudnnDataType_t t, const char *p, int64_t i)
{
    switch ((int)t) {
    case CUDNN_DATA_HALF:
        return up<float>(((const __half *)p)[i]);
    case CUDNN_DATA_BFLOAT16:
        return up<float>(((const __nv_bfloat16 *)p)[i]);
    case CUDNN_DATA_BOOLEAN:
        return p[i] ? 1.f : 0.f;
    case CUDNN_DATA_INT32:
        return (float)((const int32_t *)p)[i];
    default:
        return ((const float *)p)[i];
    }
}

void store(cudnnDataType_t t, char *p, int64_t i, double v)
{
    switch ((int)t) {
    case CUDNN_DATA_HALF:
        ((__half *)p)[i] = down<__half>((float)v);
        break;
    case CUDNN_DATA_BFLOAT16:
        ((__nv_bfloat16 *)p)[i] = down<__nv_bfloat16>((float)v);
        break;
    case CUDNN_DATA_BOOLEAN:
        p[i] = v != 0;
        break;
    case CUDNN_DATA_INT32:
        ((int32_t *)p)[i] = (int32_t)v;
        break;
    default:
        ((float *)p)[i] = (float)v;
    }
}

/* All values of a tensor in row-major order. */
typedef std::vector<double> Values;

struct Memory {
    const std::map<int64_t, void *> &given;
    std::map<int64_t, std::vector<char>> own;
    char *of(const Tensor &t)
    {
        auto g = given.find(t.id);
        if (g != given.end())
            return (char *)g->second;
        auto &v = own[t.id];
        if (v.size() < t.bytes())
            v.assign(t.bytes(), (char)0xff);
        return v.data();
    }
    Values values(const Tensor &t)
    {
        Values v((size_t)t.count());
        const char *p = of(t);
        for (size_t i = 0; i < v.size(); i++)
            v[i] = load(t.type, p, t.place((int64_t)i));
        return v;
    }
    void put(const Tensor &t, const Values &v)
    {
        char *p = of(t);
        for (size_t i = 0; i < v.size(); i++)
            store(t.type, p, t.place((int64_t)i), v[i]);
    }
};

/* Every product of a convolution: places in x [n, c, h, w], w [k, c / groups, r, s] and y. */
template <class F>
void each_product(const Step &s, const Tensor &x, const Tensor &w, const Tensor &y, F f)
{
    int64_t cg = w.dim[1], kg = w.dim[0] / (x.dim[1] / cg), R = w.dim[2], S = w.dim[3];
    for (int64_t o = 0; o < y.count(); o++) {
        int64_t ox = o % y.dim[3], oy = o / y.dim[3] % y.dim[2];
        int64_t k = o / y.dim[3] / y.dim[2] % y.dim[1], n = o / y.dim[3] / y.dim[2] / y.dim[1];
        for (int64_t c = 0; c < cg; c++)
            for (int64_t r = 0; r < R; r++)
                for (int64_t q = 0; q < S; q++) {
                    int64_t iy = oy * s.stride[0] - s.pad[0] + r * s.dil[0];
                    int64_t ix = ox * s.stride[1] - s.pad[1] + q * s.dil[1];
                    if (iy < 0 || ix < 0 || iy >= x.dim[2] || ix >= x.dim[3])
                        continue;
                    int64_t at = ((n * x.dim[1] + k / kg * cg + c) * x.dim[2] + iy) * x.dim[3] + ix;
                    f((size_t)at, (size_t)(((k * cg + c) * R + r) * S + q), (size_t)o);
                }
    }
}

void convolve(const Step &s, Memory &m)
{
    Values a = m.values(s.in[0]), b = m.values(s.in[1]), y((size_t)s.out.count());
    if (s.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)
        each_product(s, s.in[0], s.in[1], s.out,
                     [&](size_t x, size_t w, size_t o) { y[o] += a[x] * b[w]; });
    else if (s.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR)
        each_product(s, s.out, s.in[0], s.in[1],
                     [&](size_t x, size_t w, size_t o) { y[x] += a[w] * b[o]; });
    else
        each_product(s, s.in[0], s.out, s.in[1],
                     [&](size_t x, size_t w, size_t o) { y[w] += a[x] * b[o]; });
    m.put(s.out, y);
}

/* Heads of the first operand may share matrices of the second: [b, h, ..] times [b, h_k, ..]. */
void multiply(const Step &s, Memory &m)
{
    const Tensor &o = s.out;
    int64_t group = o.dim[1] / s.in[1].dim[1];
    Values a = m.values(s.in[0]), b = m.values(s.in[1]), y((size_t)o.count());
    int64_t M = o.dim[2], N = o.dim[3], K = s.in[0].dim[3];
    for (int64_t q = 0; q < o.dim[0] * o.dim[1]; q++)
        for (int64_t i = 0; i < M; i++)
            for (int64_t k = 0; k < K; k++)
                for (int64_t j = 0; j < N; j++)
                    y[(size_t)((q * M + i) * N + j)] +=
                        a[(size_t)((q * M + i) * K + k)] * b[(size_t)((q / group * K + k) * N + j)];
    m.put(o, y);
}

/* The element of t, each repeated up to the shape of `like`, that meets element i of that. */
size_t met(const Tensor &t, const Tensor &like, int64_t i)
{
    int64_t index[4], at = 0;
    for (int d = 3; d >= 0; d--, i /= d >= 0 ? like.dim[d + 1] : 1)
        index[d] = i % like.dim[d];
    for (int d = 0; d < 4; d++)
        at = at * t.dim[d] + index[d] / (like.dim[d] / t.dim[d]);
    return (size_t)at;
}

double apply(int mode, double x, double b, double t)
{
    switch (mode) {
    case CUDNN_POINTWISE_ADD:
        return x + b;
    case CUDNN_POINTWISE_SUB:
        return x - b;
    case CUDNN_POINTWISE_MUL:
        return x * b;
    case CUDNN_POINTWISE_DIV:
        return x / b;
    case CUDNN_POINTWISE_EXP:
        return exp(x);
    case CUDNN_POINTWISE_RELU_FWD:
        return x > 0 ? x : 0;
    case CUDNN_POINTWISE_LOG:
        return log(x);
    case CUDNN_POINTWISE_CMP_GE:
        return x >= b;
    default: /* CUDNN_POINTWISE_BINARY_SELECT */
        return t != 0 ? x : b;
    }
}

void pointwise(const Step &s, Memory &m)
{
    std::vector<Values> in;
    for (auto &t : s.in)
        in.push_back(m.values(t));
    Values y((size_t)s.out.count());
    for (int64_t i = 0; i < s.out.count(); i++) {
        double v[3] = {0, 0, 0};
        for (size_t k = 0; k < in.size(); k++)
            v[k] = in[k][met(s.in[k], s.out, i)];
        int64_t inner = 1;
        for (int64_t d = 3; d > s.axis; d--)
            inner *= s.out.dim[d];
        y[(size_t)i] = s.mode == CUDNN_POINTWISE_GEN_INDEX ? (double)(i / inner % s.out.dim[s.axis])
                                                           : apply(s.mode, v[0], v[1], v[2]);
    }
    m.put(s.out, y);
}

void reduce(const Step &s, Memory &m)
{
    bool max = s.mode == CUDNN_REDUCE_TENSOR_MAX;
    Values x = m.values(s.in[0]), y((size_t)s.out.count(), max ? -INFINITY : 0.0);
    for (int64_t i = 0; i < s.in[0].count(); i++) {
        double &to = y[met(s.out, s.in[0], i)];
        to = max ? fmax(to, x[(size_t)i]) : to + x[(size_t)i];
    }
    m.put(s.out, y);
}

/* The same memory under other sizes and strides. */
void reshape(const Step &s, Memory &m)
{
    const Tensor &x = s.in[0], &y = s.out;
    const char *from = m.of(x);
    char *to = m.of(y);
    for (int64_t i = 0; i < y.count(); i++)
        store(y.type, to, y.place(i), load(x.type, from, y.place(i)));
}

const char *check_conv(const Step &s)
{
    bool data = s.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR;
    bool forward = s.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR;
    const Tensor &x = data ? s.out : s.in[0], &w = data || forward ? s.in[data ? 0 : 1] : s.out;
    const Tensor &y = forward ? s.out : s.in[1];
    if (x.dim[0] != y.dim[0] || w.dim[0] != y.dim[1] || x.dim[1] % w.dim[1] ||
        w.dim[0] % (x.dim[1] / w.dim[1]))
        return "the sizes of a convolution do not fit";
    for (int d = 0; d < 2; d++) {
        int64_t room = x.dim[2 + d] + 2 * s.pad[d] - s.dil[d] * (w.dim[2 + d] - 1) - 1;
        if (room < 0 || room / s.stride[d] + 1 != y.dim[2 + d])
            return "the result of a convolution has another size";
    }
    return NULL;
}

const char *check_pointwise(const Step &s)
{
    static const struct {
        int mode;
        size_t operands;
    } known[] = {{CUDNN_POINTWISE_ADD, 2},       {CUDNN_POINTWISE_SUB, 2},
                 {CUDNN_POINTWISE_MUL, 2},       {CUDNN_POINTWISE_DIV, 2},
                 {CUDNN_POINTWISE_RELU_FWD, 1},  {CUDNN_POINTWISE_EXP, 1},
                 {CUDNN_POINTWISE_LOG, 1},       {CUDNN_POINTWISE_CMP_GE, 2},
                 {CUDNN_POINTWISE_GEN_INDEX, 1}, {CUDNN_POINTWISE_BINARY_SELECT, 3}};
    for (auto &t : s.in)
        for (int d = 0; d < 4; d++)
            if (t.dim[d] != 1 && t.dim[d] != s.out.dim[d])
                return "operands of a pointwise operation do not broadcast";
    for (auto &k : known)
        if (k.mode == s.mode)
            return k.operands == s.in.size() ? NULL : "a pointwise operation lacks an operand";
    return "this pointwise mode is not simulated";
}

const char *check_reduce(const Step &s)
{
    for (int d = 0; d < 4; d++)
        if (s.in[0].dim[d] % s.out.dim[d])
            return "the result of a reduction has another size";
    return s.mode == CUDNN_REDUCE_TENSOR_MAX || s.mode == CUDNN_REDUCE_TENSOR_ADD
               ? NULL
               : "this reduction is not simulated";
}

const char *check_matmul(const Step &s)
{
    const Tensor &a = s.in[0], &b = s.in[1], &c = s.out;
    bool fits = a.dim[3] == b.dim[2] && a.dim[2] == c.dim[2] && b.dim[3] == c.dim[3];
    for (int d = 0; d < 2; d++)
        fits =
            fits && a.dim[d] == c.dim[d] && (d ? c.dim[d] % b.dim[d] == 0 : b.dim[d] == c.dim[d]);
    return fits ? NULL : "the sizes of a matrix product do not fit";
}
} /* namespace */

size_t Tensor::bytes() const
{
    return (size_t)(place(count() - 1) + 1) * esize(type);
}

const char *check_step(const Step &s)
{
    if (s.kind == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)
        return check_pointwise(s);
    if (s.kind == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR)
        return check_reduce(s);
    if (s.kind == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR)
        return check_matmul(s);
    if (s.kind == CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR)
        return s.in[0].count() == s.out.count() ? NULL : "a reshape changes the number of elements";
    return check_conv(s);
}

void run_program(const Program &p, const std::map<int64_t, void *> &memory)
{
    Memory m{memory, {}};
    for (auto &s : p) {
        if (s.kind == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)
            pointwise(s, m);
        else if (s.kind == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR)
            reduce(s, m);
        else if (s.kind == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR)
            multiply(s, m);
        else if (s.kind == CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR)
            reshape(s, m);
        else
            convolve(s, m);
    }
}
} /* namespace sim */
