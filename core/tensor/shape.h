/* Shapes by value, and the counting macros for lists of arguments. */
#ifndef FLAMBEAU_CORE_TENSOR_SHAPE_H
#define FLAMBEAU_CORE_TENSOR_SHAPE_H

#include <flambeau/core/base/status.h>

#define FB_MAX_DIMS 8

/** "Really zero", for an option whose zero means the default; exactly 0 in float arithmetic. */
#define FB_ZERO 1e-300
/** The same for integer options. */
#define FB_ZERO_INT INT64_MIN

FB_BEGIN

typedef struct fb_tensor fb_tensor;
typedef struct fb_module fb_module;

/** Sizes, or a list of dimensions. n = 0 is a scalar (FB_SCALAR), or "all dimensions" (FB_ALL). */
typedef struct fb_shape {
    int n;
    int64_t d[FB_MAX_DIMS];
} fb_shape;

/** A list of tensors, borrowed for the call. */
typedef struct fb_tensors {
    fb_tensor *const *t;
    int n;
} fb_tensors;

/** A list of places for results, borrowed for the call. */
typedef struct fb_outs {
    fb_tensor **const *t;
    int n;
} fb_outs;

/** A list of modules, borrowed for the call. */
typedef struct fb_modules {
    fb_module *const *m;
    int n;
} fb_modules;

/** Same rank and sizes. */
FB_API bool fb_shape_equal(fb_shape a, fb_shape b);
/** Number of elements; 1 for a scalar; -1 on overflow of int64_t or a negative size. */
FB_API int64_t fb_shape_numel(fb_shape shape);
/** Writes "[2, 3]" and returns buf. */
FB_API const char *fb_shape_text(fb_shape shape, char *buf, size_t size);
/** The plain-function twin of FB_SHAPE: copies n (<= 8) sizes. */
FB_API fb_shape fb_shape_make(int n, const int64_t *sizes);

FB_END

/* One argument too many must be an error, so the counter is padded with an undeclared name. */
#define FBI_X2(x)  x, x
#define FBI_X8(x)  FBI_X2(x), FBI_X2(x), FBI_X2(x), FBI_X2(x)
#define FBI_X32(x) FBI_X8(x), FBI_X8(x), FBI_X8(x), FBI_X8(x)
#define FBI_NTH64(_1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, _13, _14, _15, _16, _17, _18, \
                  _19, _20, _21, _22, _23, _24, _25, _26, _27, _28, _29, _30, _31, _32, _33, _34,  \
                  _35, _36, _37, _38, _39, _40, _41, _42, _43, _44, _45, _46, _47, _48, _49, _50,  \
                  _51, _52, _53, _54, _55, _56, _57, _58, _59, _60, _61, _62, _63, _64, N, ...)    \
    N
#define FBI_NTH64_(...) FBI_NTH64(__VA_ARGS__)
#define FB_COUNT(...)                                                                             \
    FBI_NTH64_(__VA_ARGS__, FBI_X32(fb_too_many_arguments), 32, 31, 30, 29, 28, 27, 26, 25, 24,   \
               23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, \
               0)
#define FBI_NTH16(_1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, _13, _14, _15, _16, N, ...) N
#define FBI_NTH16_(...)                                                                          FBI_NTH16(__VA_ARGS__)
#define FBI_DIMS(...) \
    FBI_NTH16_(__VA_ARGS__, FBI_X8(fb_too_many_dimensions), 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define FBI_CAT_(a, b) a##b
#define FBI_CAT(a, b)  FBI_CAT_(a, b)

#ifndef __cplusplus
#define FB_SHAPE(...)      ((fb_shape){FBI_DIMS(__VA_ARGS__), {__VA_ARGS__}})
#define FB_SCALAR          ((fb_shape){0, {0}})
#define FB_ALL             ((fb_shape){0, {0}})
#define FB_TENSORS(...)    ((fb_tensors){(fb_tensor *const[]){__VA_ARGS__}, FB_COUNT(__VA_ARGS__)})
#define FB_OUTS(...)       ((fb_outs){(fb_tensor * *const[]){__VA_ARGS__}, FB_COUNT(__VA_ARGS__)})
#define FB_MODULES(...)    ((fb_modules){(fb_module *const[]){__VA_ARGS__}, FB_COUNT(__VA_ARGS__)})
#define FB_OPTS(type, ...) (&(const type){__VA_ARGS__})
#else
#include <initializer_list>
template <class... A> inline fb_shape fbi_shape(A... a)
{
    static_assert(sizeof...(A) <= FB_MAX_DIMS, "at most 8 dimensions");
    return fb_shape{(int)sizeof...(A), {static_cast<int64_t>(a)...}};
}
inline fb_tensors fbi_tensors(std::initializer_list<fb_tensor *> l)
{
    return fb_tensors{l.begin(), (int)l.size()};
}
inline fb_outs fbi_outs(std::initializer_list<fb_tensor **> l)
{
    return fb_outs{l.begin(), (int)l.size()};
}
inline fb_modules fbi_modules(std::initializer_list<fb_module *> l)
{
    return fb_modules{l.begin(), (int)l.size()};
}
template <class T> inline const T *fbi_addr(const T &&t)
{
    return &t;
}
#define FB_SHAPE(...)      fbi_shape(__VA_ARGS__)
#define FB_SCALAR          fbi_shape()
#define FB_ALL             fbi_shape()
#define FB_TENSORS(...)    fbi_tensors({__VA_ARGS__})
#define FB_OUTS(...)       fbi_outs({__VA_ARGS__})
#define FB_MODULES(...)    fbi_modules({__VA_ARGS__})
#define FB_OPTS(type, ...) fbi_addr(type{__VA_ARGS__}) /* C++20: designators */
#endif
/** A list of dimensions: FB_DIMS(0, 2, 1). */
#define FB_DIMS FB_SHAPE

#endif
