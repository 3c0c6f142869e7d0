/* Before each inclusion of ops.def: rows that the includer did not define expand to nothing. */
/* Of gelu_tanh: 2 sqrt(2 / pi) (x + 0.044715 x^3) and its derivatives; (1 + tanh(v / 2)) / 2 is the
 * sigmoid of v. */
#ifndef V_TANH_ARG
#define V_TANH_ARG(x)  (V_C(1.5957691216057308) * (x) * (1 + V_C(0.044715) * (x) * (x)))
#define V_TANH_ARG1(x) (V_C(1.5957691216057308) * (1 + V_C(0.134145) * (x) * (x)))
#define V_TANH_ARG2(x) (V_C(0.42812889763560147) * (x))
#endif
#ifndef UNARY
#define UNARY(...)
#endif
#ifndef UNARY_S
#define UNARY_S(...)
#endif
#ifndef UNARY_GATE
#define UNARY_GATE(name, f, open, df, ddf, ...) \
    UNARY(name, f, V_SEL(open, df, 0), V_SEL(open, ddf, 0), __VA_ARGS__)
#endif
#ifndef UNARY_GATE_S
#define UNARY_GATE_S(name, f, open, df, ddf, ...) \
    UNARY_S(name, f, V_SEL(open, df, 0), V_SEL(open, ddf, 0), __VA_ARGS__)
#endif
#ifndef BINARY
#define BINARY(...)
#endif
#ifndef UNARY_INT
#define UNARY_INT(...)
#endif
#ifndef BINARY_INT
#define BINARY_INT(...)
#endif
#ifndef COMPARE
#define COMPARE(...)
#endif
#ifndef PREDICATE
#define PREDICATE(...)
#endif
#ifndef BITS
#define BITS(...)
#endif
#ifndef OP
#define OP(...)
#endif
#ifndef OP_SLOW
#define OP_SLOW(...)
#endif
#ifndef OP_NODIFF
#define OP_NODIFF(...)
#endif
#ifndef OP_FUSED
#define OP_FUSED(...)
#endif
#ifndef OP_FUSED_INNER
#define OP_FUSED_INNER(...)
#endif
#ifndef OP_INNER
#define OP_INNER(...)
#endif
#ifndef OP_INNER_DIFF
#define OP_INNER_DIFF(...)
#endif
#ifndef OP_LAPACK
#define OP_LAPACK(...)
#endif
#ifndef OP_COMPOSED
#define OP_COMPOSED(...)
#endif
#ifndef OP_VIEW
#define OP_VIEW(...)
#endif
