/* cublasLtMatmul with batches and epilogues, in the precision of its compute type. What the backend
 * does not call answers CUBLAS_STATUS_NOT_SUPPORTED. Its algorithms add in different orders, so
 * that bits tell which one ran. */
#include <cublasLt.h>
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "tests/cudasim/convert.h"
#include "tests/cudasim/sim.h"

using namespace sim;
typedef cublasStatus_t B;

namespace
{
/* What the opaque structs hold. */
struct Desc {
    int comp, ta, tb, epi;
    void *bias, *aux;
    int64_t aux_ld;
};
struct Layout {
    int type, batch;
    uint64_t rows, cols;
    int64_t ld, stride;
};
/* In what order an algorithm adds, and whether it rounds in between. */
struct Order {
    uint64_t algo;
    bool rounds;
};
struct Pref {
    uint64_t ws;
    uint32_t schemes; /* how partial sums may be joined */
};
static_assert(sizeof(Desc) <= sizeof(cublasLtMatmulDescOpaque_t) &&
                  sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t) &&
                  sizeof(Pref) <= sizeof(cublasLtMatmulPreferenceOpaque_t),
              "the real structs have room");
/* Of an epilogue's number; see cublasLtEpilogue_t. */
enum {
    RELU = 2,
    BIAS = 4,
    BGRAD = 16,
    GELU = 32,
    DGELU = 64,
    AUX = 128,
    BGRADA = 256,
    BGRADB = 512
};
const int known[] = {CUBLASLT_EPILOGUE_DEFAULT,  CUBLASLT_EPILOGUE_BIAS,
                     CUBLASLT_EPILOGUE_RELU,     CUBLASLT_EPILOGUE_RELU_BIAS,
                     CUBLASLT_EPILOGUE_GELU_AUX, CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
                     CUBLASLT_EPILOGUE_DGELU,    CUBLASLT_EPILOGUE_DGELU_BGRAD,
                     CUBLASLT_EPILOGUE_BGRADA,   CUBLASLT_EPILOGUE_BGRADB};
const uint64_t ALGO = 0x5eed5eed;
const int ALGOS = 3;
const size_t WORKSPACE = 4096, SCRIBBLE = 65536;

size_t esize(int t)
{
    return t == CUDA_R_64F ? 8 : t == CUDA_R_32F ? 4 : t == CUDA_R_16F || t == CUDA_R_16BF ? 2 : 0;
}

template <class F> void with_type(int t, F f)
{
    if (t == CUDA_R_64F)
        f((double *)0);
    else if (t == CUDA_R_32F)
        f((float *)0);
    else if (t == CUDA_R_16F)
        f((__half *)0);
    else
        f((__nv_bfloat16 *)0);
}

size_t extent(const Layout &l)
{
    return ((size_t)(l.batch - 1) * (size_t)l.stride + (l.cols - 1) * (size_t)l.ld + l.rows) *
           esize(l.type);
}

/* out[j * rows + i] = op(M)(i, j) of a column-major M. */
template <class A>
void load(std::vector<A> &out, const char *m, const Layout &l, bool transposed, long rows,
          long cols)
{
    out.resize((size_t)(rows * cols));
    with_type(l.type, [&](auto *x) {
        typedef typename std::remove_pointer<decltype(x)>::type T;
        const T *p = (const T *)m;
        for (long j = 0; j < cols; j++)
            for (long i = 0; i < rows; i++)
                out[(size_t)(j * rows + i)] = up<A>(transposed ? p[j + i * l.ld] : p[i + j * l.ld]);
    });
}

/* What tensor cores make of an F32 operand: 10 bits of mantissa, to the nearest, ties away. */
float tf32(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    if ((bits & 0x7f800000u) != 0x7f800000u)
        bits = (bits + 0x1000u) & ~0x1fffu;
    memcpy(&v, &bits, sizeof v);
    return v;
}

template <class A> void round_operand(const Desc &d, std::vector<A> &values)
{
    if (d.comp == CUBLAS_COMPUTE_32F_FAST_TF32)
        for (A &v : values)
            v = (A)tf32((float)v);
}

/* The tanh form, and its derivative. */
double gelu(double x)
{
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

double dgelu(double x)
{
    double t = tanh(0.7978845608028654 * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x);
}

/* sum += column j of the product, in the order of the algorithm: forwards, backwards, two halves;
 * T: halves are rounded to it, if that is another type. */
template <class A, class T>
void add_products(std::vector<A> &sum, const std::vector<A> &fa, const A *b, long m, long k,
                  Order order)
{
    std::vector<A> half((size_t)m, A(0));
    for (long step = 0; step < k; step++) {
        long p = order.algo == 1 ? k - 1 - step : step;
        std::vector<A> &to = (order.rounds || order.algo == 2) && p >= k / 2 ? half : sum;
        const A *column = &fa[(size_t)(p * m)], s = b[p];
        for (long i = 0; i < m; i++)
            to[(size_t)i] += column[i] * s;
    }
    for (long i = 0; i < m; i++) {
        if (order.rounds) {
            sum[(size_t)i] = up<A>(down<T>(sum[(size_t)i]));
            half[(size_t)i] = up<A>(down<T>(half[(size_t)i]));
        }
        sum[(size_t)i] += half[(size_t)i];
    }
}

/* What the epilogue makes of element [i, j]; z: the element of aux. */
template <class A, class T> A epilogue(const Desc &d, A v, long i, T *z)
{
    if (d.epi & BIAS)
        v += up<A>(((const T *)d.bias)[i]);
    if (d.epi == CUBLASLT_EPILOGUE_RELU || d.epi == CUBLASLT_EPILOGUE_RELU_BIAS)
        return v > 0 ? v : A(0);
    if (d.epi & DGELU)
        return v * (A)dgelu((double)up<A>(*z));
    if (!(d.epi & GELU))
        return v;
    *z = down<T>(v);
    return (A)gelu((double)v);
}

/* beta == 0 does not read C: it may hold NaN. */
template <class A>
void multiply(const Desc &d, const char *a, const Layout &la, const char *b, const Layout &lb,
              char *c, const Layout &lc, A alpha, A beta, Order order)
{
    long m = (long)lc.rows, n = (long)lc.cols, k = (long)(d.ta ? la.rows : la.cols);
    std::vector<A> fa, fb, sum((size_t)m), along((size_t)m, A(0));
    load(fa, a, la, d.ta, m, k);
    load(fb, b, lb, d.tb, k, n);
    round_operand(d, fa);
    round_operand(d, fb);
    with_type(lc.type, [&](auto *x) {
        typedef typename std::remove_pointer<decltype(x)>::type T;
        for (long j = 0; j < n; j++) {
            std::fill(sum.begin(), sum.end(), A(0));
            add_products<A, T>(sum, fa, &fb[(size_t)(j * k)], m, k, order);
            T *out = (T *)c + j * lc.ld, *aux = (T *)d.aux + (d.aux ? j * d.aux_ld : 0);
            for (long i = 0; i < m; i++) {
                A v = alpha * sum[(size_t)i];
                v = epilogue<A, T>(d, beta != A(0) ? v + beta * up<A>(out[i]) : v, i,
                                   d.epi & AUX ? aux + i : nullptr);
                along[(size_t)i] += v;
                out[i] = down<T>(v);
            }
        }
        T *bias = (T *)d.bias;
        for (long i = 0; i < m && d.epi & BGRAD; i++)
            bias[i] = down<T>(along[(size_t)i]);
        for (long i = 0; i < m && d.epi & BGRADA; i++) {
            A v = 0;
            for (long p = 0; p < k; p++)
                v += fa[(size_t)(p * m + i)];
            bias[i] = down<T>(v);
        }
        for (long j = 0; j < n && d.epi & BGRADB; j++) {
            A v = 0;
            for (long p = 0; p < k; p++)
                v += fb[(size_t)(j * k + p)];
            bias[j] = down<T>(v);
        }
    });
}

template <class T> B set(T &field, const void *v, size_t n)
{
    if (n < sizeof field)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&field, v, sizeof field);
    return CUBLAS_STATUS_SUCCESS;
}

/* CUDASIM_LT_EPILOGUES=0: a library without any. */
bool has_epilogue(int epi)
{
    const char *asked = getenv("CUDASIM_LT_EPILOGUES");
    if (asked && !strcmp(asked, "0") && epi != CUBLASLT_EPILOGUE_DEFAULT)
        return false;
    return std::find(std::begin(known), std::end(known), epi) != std::end(known);
}

/* CUDASIM_LT_FASTEST: the algorithm that takes no time; others seem to take a second. */
uint64_t fastest()
{
    const char *asked = getenv("CUDASIM_LT_FASTEST");
    return asked ? (uint64_t)atoi(asked) : 0;
}

/* Where the caller lets it, partial sums are kept in the type of the result. */
bool rounds_partial_sums(const Layout &out, const Pref &p)
{
    return esize(out.type) == 2 && (p.schemes & (CUBLASLT_REDUCTION_SCHEME_INPLACE |
                                                 CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE));
}

B check(const Desc &d, const Layout &la, const Layout &lb, const Layout &lc, const Layout &ld)
{
    bool f64 = d.comp == CUBLAS_COMPUTE_64F;
    if ((!f64 && d.comp != CUBLAS_COMPUTE_32F && d.comp != CUBLAS_COMPUTE_32F_FAST_TF32) ||
        (d.comp == CUBLAS_COMPUTE_32F_FAST_TF32 && la.type != CUDA_R_32F) || la.type != lb.type ||
        f64 != (la.type == CUDA_R_64F) || !has_epilogue(d.epi) ||
        (d.epi != CUBLASLT_EPILOGUE_DEFAULT && (f64 || ld.batch > 1)))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    bool same = ld.type == la.type, wider = esize(la.type) == 2 && ld.type == CUDA_R_32F;
    if (lc.type != ld.type || (!same && !(wider && d.epi == CUBLASLT_EPILOGUE_DEFAULT)))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if ((d.epi & AUX) &&
        (!d.aux || (uintptr_t)d.aux % 16 || d.aux_ld % 8 || d.aux_ld < (int64_t)ld.rows))
        return CUBLAS_STATUS_INVALID_VALUE;
    for (auto *l : {&la, &lb, &lc, &ld}) {
        if (!esize(l->type))
            return CUBLAS_STATUS_NOT_SUPPORTED;
        if (l->ld < (int64_t)l->rows || l->batch != ld.batch || !l->rows || !l->cols)
            return CUBLAS_STATUS_INVALID_VALUE;
    }
    uint64_t k = d.ta ? la.rows : la.cols;
    bool fits = (d.ta ? la.cols : la.rows) == ld.rows && (d.tb ? lb.cols : lb.rows) == k &&
                (d.tb ? lb.rows : lb.cols) == ld.cols && lc.rows == ld.rows && lc.cols == ld.cols;
    bool wants_bias = d.epi & (BIAS | BGRAD | BGRADA | BGRADB);
    return fits && (!wants_bias || d.bias) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
} /* namespace */

/* What CUDASIM_FAIL wants of a call; after a kernel that failed nothing works. */
static B wanted_of(const char *call)
{
    cudaError_t e = injected(call);
    return (int)e > CUBLAS_STATUS_LICENSE_ERROR ? CUBLAS_STATUS_EXECUTION_FAILED : (B)e;
}

extern "C" {
B cublasLtCreate(cublasLtHandle_t *h)
{
    if (B wanted = wanted_of("cublasLtCreate"))
        return wanted;
    *h = (cublasLtHandle_t) new int(t_dev);
    return CUBLAS_STATUS_SUCCESS;
}
B cublasLtDestroy(cublasLtHandle_t h)
{
    delete (int *)h;
    return CUBLAS_STATUS_SUCCESS;
}
size_t cublasLtGetVersion(void)
{
    return CUBLAS_VERSION;
}
const char *cublasLtGetStatusName(B s)
{
    switch (s) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    }
}
const char *cublasLtGetStatusString(B s)
{
    return s ? "simulated failure" : "success";
}
/* Descriptors live in the caller's opaque structs, as the real library's Init functions do it. */
B cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t o, size_t, cublasComputeType_t c,
                                  cudaDataType_t)
{
    *(Desc *)o = Desc{c, 0, 0, CUBLASLT_EPILOGUE_DEFAULT, nullptr, nullptr, 0};
    return CUBLAS_STATUS_SUCCESS;
}
B cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t o, cublasLtMatmulDescAttributes_t a,
                                 const void *v, size_t n)
{
    Desc &d = *(Desc *)o;
    switch (a) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return set(d.ta, v, n);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return set(d.tb, v, n);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return set(d.epi, v, n);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return set(d.bias, v, n);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
        return set(d.aux, v, n);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
        return set(d.aux_ld, v, n);
    default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}
B cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t o, size_t, cudaDataType t, uint64_t r,
                                    uint64_t c, int64_t ld)
{
    *(Layout *)o = Layout{t, 1, r, c, ld, 0};
    return CUBLAS_STATUS_SUCCESS;
}
B cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t o, cublasLtMatrixLayoutAttribute_t a,
                                   const void *v, size_t n)
{
    Layout &l = *(Layout *)o;
    switch (a) {
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
        return set(l.batch, v, n);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
        return set(l.stride, v, n);
    default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}
B cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t o, size_t)
{
    *(Pref *)o = Pref{0, CUBLASLT_REDUCTION_SCHEME_MASK};
    return CUBLAS_STATUS_SUCCESS;
}
B cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t o,
                                       cublasLtMatmulPreferenceAttributes_t a, const void *v,
                                       size_t n)
{
    if (a == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
        return set(((Pref *)o)->schemes, v, n);
    return a == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? set(((Pref *)o)->ws, v, n)
                                                         : CUBLAS_STATUS_SUCCESS;
}
B cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t o, cublasLtMatrixLayout_t a,
                                 cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                 cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t p, int want,
                                 cublasLtMatmulHeuristicResult_t *r, int *n)
{
    *n = 0;
    if (want < 1)
        return CUBLAS_STATUS_INVALID_VALUE;
    B bad = check(*(Desc *)o, *(Layout *)a, *(Layout *)b, *(Layout *)c, *(Layout *)d);
    for (int i = 0; i < want && i < ALGOS && !bad; i++) {
        memset(&r[i], 0, sizeof r[i]);
        r[i].workspaceSize = ((Pref *)p)->ws >= WORKSPACE ? WORKSPACE : 0;
        r[i].algo.data[0] = ALGO;
        r[i].algo.data[1] = r[i].workspaceSize;
        r[i].algo.data[2] = (uint64_t)i;
        r[i].algo.data[3] = rounds_partial_sums(*(Layout *)d, *(Pref *)p);
        r[i].wavesCount = 1;
        *n = i + 1;
    }
    return bad;
}
B cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t o, cublasLtMatrixLayout_t a,
                          cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                          cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *algo,
                          cublasLtMatmulHeuristicResult_t *r)
{
    B bad = check(*(Desc *)o, *(Layout *)a, *(Layout *)b, *(Layout *)c, *(Layout *)d);
    if (bad)
        return bad;
    if (algo->data[0] != ALGO || algo->data[2] >= (uint64_t)ALGOS)
        return CUBLAS_STATUS_INVALID_VALUE;
    memset(r, 0, sizeof *r); /* algo is not filled in */
    r->workspaceSize = algo->data[1];
    return CUBLAS_STATUS_SUCCESS;
}
B cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t o, const void *al, const void *a,
                 cublasLtMatrixLayout_t oa, const void *b, cublasLtMatrixLayout_t ob,
                 const void *be, const void *c, cublasLtMatrixLayout_t oc, void *dst,
                 cublasLtMatrixLayout_t od, const cublasLtMatmulAlgo_t *algo, void *ws, size_t wsz,
                 cudaStream_t hs)
{
    Lock lk(S().mu);
    static const char *const me = "cublasLtMatmul";
    if (B wanted = wanted_of(me))
        return wanted;
    if (!h)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!enter(me))
        return CUBLAS_STATUS_EXECUTION_FAILED;
    Desc d = *(Desc *)o;
    Layout la = *(Layout *)oa, lb = *(Layout *)ob, ld = *(Layout *)od;
    B bad = check(d, la, lb, *(Layout *)oc, ld);
    if (bad)
        return bad;
    if (c != dst || (algo && (algo->data[0] != ALGO || wsz < algo->data[1])))
        return CUBLAS_STATUS_INVALID_VALUE;
    CUstream_st *s = stream(me, hs);
    if (!s)
        return CUBLAS_STATUS_INVALID_VALUE;
    bool f64 = ld.type == CUDA_R_64F;
    double alpha = f64 ? *(const double *)al : *(const float *)al;
    double beta = f64 ? *(const double *)be : *(const float *)be;
    Op op{};
    op.api = me;
    op.refs = {Ref{a, extent(la), 3, false}, Ref{b, extent(lb), 5, false},
               Ref{dst, extent(ld), 10, true}};
    if (d.epi & (BIAS | BGRAD | BGRADA | BGRADB))
        op.refs.push_back(Ref{d.bias, (d.epi & BGRADB ? ld.cols : ld.rows) * esize(ld.type), -1,
                              !(d.epi & BIAS)});
    if (d.epi & AUX)
        op.refs.push_back(Ref{d.aux,
                              ((ld.cols - 1) * (uint64_t)d.aux_ld + ld.rows) * esize(ld.type), -1,
                              !(d.epi & DGELU)});
    Order order = {algo ? algo->data[2] : 0, algo && algo->data[3]};
    if (ws && wsz)
        op.refs.push_back(Ref{ws, wsz, 12, true});
    op.run = [=](Op &, Lock &) {
        S().charged += order.algo == fastest() ? 0 : 1;
        if (ws)
            memset(ws, 0xff, std::min(wsz, SCRIBBLE)); /* whoever shares the workspace notices */
        for (int q = 0; q < ld.batch; q++) {
            auto at = [q](const void *p, const Layout &l) {
                return (char *)p + (size_t)q * (size_t)l.stride * esize(l.type);
            };
            if (f64)
                multiply<double>(d, at(a, la), la, at(b, lb), lb, at(dst, ld), ld, alpha, beta,
                                 order);
            else
                multiply<float>(d, at(a, la), la, at(b, lb), lb, at(dst, ld), ld, (float)alpha,
                                (float)beta, order);
        }
        return DONE;
    };
    if (enqueue(s, std::move(op)))
        return CUBLAS_STATUS_EXECUTION_FAILED;
    pump(lk);
    return CUBLAS_STATUS_SUCCESS;
}
}
