/* Before each inclusion of ops.def: rows that the includer did not define expand to nothing. */
#ifndef UNARY
#define UNARY(...)
#endif
#ifndef UNARY_S
#define UNARY_S(...)
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
#ifndef OP_VIEW
#define OP_VIEW(...)
#endif
