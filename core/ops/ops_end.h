/* After each inclusion of ops.def. */
#undef UNARY
#undef UNARY_S
#undef BINARY
#undef UNARY_INT
#undef BINARY_INT
#undef COMPARE
#undef OP
#undef OP_SLOW
#undef OP_NODIFF
#undef OP_FUSED
#undef OP_FUSED_INNER
#undef OP_INNER
#undef OP_INNER_DIFF
#undef OP_LAPACK
#undef OP_COMPOSED
#undef OP_VIEW
