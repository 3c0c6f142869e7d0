/* Decompositions for one element type: T, FN(name) and LP(name), LAPACK's. No include guard. */

/* Matrix b of t, column by column. */
static void FN(load)(const fb_tensor *t, int64_t b, T *to)
{
    const T *from = (const T *)fbi_ptr(t) + offset_of(t, b);
    int64_t m = rows_of(t), n = cols_of(t);
    int64_t row = t->stride[t->ndim - 2], column = t->stride[t->ndim - 1];
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++)
            to[j * m + i] = from[i * row + j * column];
}

/* The first rows and columns of what lies column by column, `ld` apart, as matrix b of t. */
static void FN(store)(const fb_tensor *t, int64_t b, const T *from, int64_t ld)
{
    T *to = (T *)fbi_ptr(t) + offset_of(t, b);
    int64_t m = rows_of(t), n = cols_of(t);
    int64_t row = t->stride[t->ndim - 2], column = t->stride[t->ndim - 1];
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++)
            to[i * row + j * column] = from[j * ld + i];
}

/* Row b of [batch, n]. */
static T *FN(line)(const fb_tensor *t, int64_t b)
{
    return (T *)fbi_ptr(t) + b * t->size[t->ndim - 1];
}

static T *FN(array)(const fbi_call *c, int64_t n)
{
    return fbi_cpu_scratch(c, (size_t)n * sizeof(T));
}

static fb_status FN(cholesky)(const fbi_call *c)
{
    const fb_tensor *x = c->in[0], *y = c->out[0];
    bool upper = ((const fbi_attrs_cholesky *)c->attrs)->upper;
    int n = rows_of(x), ld = most(n, 1), info = 0;
    T *a = FN(array)(c, (int64_t)n * n);
    fb_status st = a ? FB_OK : c->ctx->status;
    for (int64_t b = 0; b < batch_of(x) && n && !st; b++) {
        FN(load)(x, b, a);
        LP(potrf)(upper ? "U" : "L", &n, a, &ld, &info, 1);
        if (info)
            st = bad_item(c, b, "is not positive definite", "potrf", info);
        for (int64_t j = 0; j < n; j++) /* the other triangle is still that of x */
            for (int64_t i = upper ? j + 1 : 0; i < (upper ? n : j); i++)
                a[j * n + i] = 0;
        FN(store)(y, b, a, n);
    }
    free(a);
    return st;
}

static fb_status FN(solve_triangular)(const fbi_call *c)
{
    const fbi_attrs_solve_triangular *s = c->attrs;
    const fb_tensor *x = c->in[0], *r = c->in[1];
    int n = rows_of(x), m = rows_of(r), k = cols_of(r), ld = most(n, 1), ldb = most(m, 1);
    const T one = 1;
    T *a = FN(array)(c, (int64_t)n * n), *b = a ? FN(array)(c, (int64_t)m * k) : NULL;
    for (int64_t i = 0; i < batch_of(x) && b && c->out[0]->numel; i++) {
        FN(load)(x, i, a);
        FN(load)(r, i, b);
        LP(trsm)
        (s->left ? "L" : "R", s->upper ? "U" : "L", "N", s->unitriangular ? "U" : "N", &m, &k, &one,
         a, &ld, b, &ldb, 1, 1, 1, 1);
        FN(store)(c->out[0], i, b, m);
    }
    free(a);
    free(b);
    return c->ctx->status;
}

/* a [n, n] and its pivots become P L U. @return LAPACK's info: k: U[k - 1, k - 1] is 0 */
static int FN(factor)(int n, T *a, int *pivot)
{
    int info = 0, ld = most(n, 1);
    LP(getrf)(&n, &n, a, &ld, pivot, &info);
    return info;
}

/* x y = r for each item; r NULL: the identity. */
static fb_status FN(solve_all)(const fbi_call *c, const fb_tensor *x, const fb_tensor *r)
{
    int n = rows_of(x), k = r ? cols_of(r) : n, ld = most(n, 1), info = 0;
    T *a = FN(array)(c, (int64_t)n * n), *b = FN(array)(c, (int64_t)n * k);
    int *pivot = fbi_cpu_scratch(c, (size_t)n * sizeof *pivot);
    fb_status st = c->ctx->status;
    for (int64_t i = 0; i < batch_of(x) && n && !st; i++) {
        FN(load)(x, i, a);
        info = FN(factor)(n, a, pivot);
        if (info) {
            st = bad_item(c, i, "is singular", "getrf", info);
            break;
        }
        if (r)
            FN(load)(r, i, b);
        else
            for (int64_t j = 0; j < (int64_t)n * n; j++)
                b[j] = j % (n + 1) == 0;
        if (k)
            LP(getrs)("N", &n, &k, a, &ld, pivot, b, &ld, &info, 1);
        FN(store)(c->out[0], i, b, n);
    }
    free(a);
    free(b);
    free(pivot);
    return st;
}

static fb_status FN(solve)(const fbi_call *c)
{
    return FN(solve_all)(c, c->in[0], c->in[1]);
}

static fb_status FN(inv)(const fbi_call *c)
{
    return FN(solve_all)(c, c->in[0], NULL);
}

/* Sign and logarithm of |det|, or (log NULL) the determinant. */
static fb_status FN(determinants)(const fbi_call *c, T *sign, T *log_abs)
{
    const fb_tensor *x = c->in[0];
    int n = rows_of(x);
    T *a = FN(array)(c, (int64_t)n * n);
    int *pivot = a ? fbi_cpu_scratch(c, (size_t)n * sizeof *pivot) : NULL;
    for (int64_t b = 0; b < batch_of(x) && pivot; b++) {
        T s = 1, sum = 0;
        FN(load)(x, b, a);
        if (n)
            FN(factor)(n, a, pivot);
        for (int64_t i = 0; i < n; i++) {
            T u = a[i * n + i];
            s = pivot[i] == i + 1 ? s : -s;
            if (!log_abs)
                s *= u;
            else if (u < 0)
                s = -s;
            else if (!(u > 0)) /* 0 or NaN */
                s = u;
            sum += log_abs ? (T)log(fabs((double)u)) : 0;
        }
        sign[b] = s;
        if (log_abs)
            log_abs[b] = sum;
    }
    free(a);
    free(pivot);
    return c->ctx->status;
}

static fb_status FN(det)(const fbi_call *c)
{
    return FN(determinants)(c, fbi_ptr(c->out[0]), NULL);
}

static fb_status FN(slogdet)(const fbi_call *c)
{
    return FN(determinants)(c, fbi_ptr(c->out[0]), fbi_ptr(c->out[1]));
}

/* Q has m rows and the columns of out[0], R those rows. */
static fb_status FN(qr)(const fbi_call *c)
{
    const fb_tensor *x = c->in[0], *q = c->out[0], *r = c->out[1];
    int m = rows_of(x), n = cols_of(x), k = least(m, n), p = rows_of(r), ld = most(m, 1), info = 0;
    int lwork = 64 * most(most(n, p), 1);
    T *a = FN(array)(c, (int64_t)m * most(n, p)), *tau = a ? FN(array)(c, k) : NULL;
    T *work = tau ? FN(array)(c, lwork) : NULL, *up = work ? FN(array)(c, (int64_t)p * n) : NULL;
    for (int64_t b = 0; b < batch_of(x) && up; b++) {
        FN(load)(x, b, a);
        if (k)
            LP(geqrf)(&m, &n, a, &ld, tau, work, &lwork, &info);
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < p; i++)
                up[j * p + i] = i <= j ? a[j * m + i] : 0;
        FN(store)(r, b, up, p);
        if (p) {
            LP(orgqr)(&m, &p, &k, a, &ld, tau, work, &lwork, &info);
            FN(store)(q, b, a, m);
        }
    }
    free(a);
    free(tau);
    free(work);
    free(up);
    return c->ctx->status;
}

/* Work arrays of a routine that says how long they must be. */
typedef struct FN(room) {
    T *work;
    int *iwork, lwork, liwork;
} FN(room);

static bool FN(make_room)(const fbi_call *c, FN(room) * r, T lwork, int liwork)
{
    r->lwork = (int)lwork + 1 + (int)(lwork / 4000000); /* a float may have been rounded down */
    r->liwork = liwork;
    r->work = FN(array)(c, r->lwork);
    r->iwork = r->work ? fbi_cpu_scratch(c, (size_t)liwork * sizeof(int)) : NULL;
    return r->iwork != NULL;
}

static fb_status FN(eigh)(const fbi_call *c)
{
    const fbi_attrs_eigh *s = c->attrs;
    const fb_tensor *x = c->in[0], *w = c->out[0], *v = c->out[1];
    const char *job = s->values_only ? "N" : "V", *uplo = s->upper ? "U" : "L";
    int n = rows_of(x), ld = most(n, 1), info = 0, ask = -1, liwork = 1;
    T lwork = 1;
    FN(room) r = {NULL};
    if (!n)
        return FB_OK;
    T *a = FN(array)(c, (int64_t)n * n);
    if (a)
        LP(syevd)(job, uplo, &n, a, &ld, a, &lwork, &ask, &liwork, &ask, &info, 1, 1);
    fb_status st = a && FN(make_room)(c, &r, lwork, liwork) ? FB_OK : c->ctx->status;
    for (int64_t b = 0; b < batch_of(x) && !st; b++) {
        FN(load)(x, b, a);
        LP(syevd)
        (job, uplo, &n, a, &ld, FN(line)(w, b), r.work, &r.lwork, r.iwork, &r.liwork, &info, 1, 1);
        if (info)
            st = bad_item(c, b, "has eigenvalues that were not found", "syevd", info);
        if (!s->values_only)
            FN(store)(v, b, a, n);
    }
    free(a);
    free(r.work);
    free(r.iwork);
    return st;
}

static bool FN(finite)(const T *a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(a[i]))
            return false;
    return true;
}

/* Singular values of item b, which lies in a, into w; u [m, nu] and v [nv, n] are asked for by
 * `job`. */
static fb_status FN(svd_item)(const fbi_call *c, int64_t b, const char *job, T *a, T *w, T *u, T *v,
                              int nv, FN(room) * r)
{
    const fb_tensor *x = c->in[0];
    int m = rows_of(x), n = cols_of(x), ld = most(m, 1), ldv = most(nv, 1), info = 0;
    FN(load)(x, b, a);
    if (!FN(finite)(a, (int64_t)m * n))
        return fbi_op_fail(c, FB_E_ARG, "item %lld of %s has values that are not finite",
                           (long long)b, fbi_text(x));
    LP(gesdd)(job, &m, &n, a, &ld, w, u, &ld, v, &ldv, r->work, &r->lwork, r->iwork, &info, 1);
    return info ? bad_item(c, b, "has singular values that were not found", "gesdd", info) : FB_OK;
}

/* What gesdd needs for in[0]. */
static bool FN(svd_room)(const fbi_call *c, const char *job, int nv, FN(room) * r)
{
    int m = rows_of(c->in[0]), n = cols_of(c->in[0]), ld = most(m, 1), ldv = most(nv, 1);
    int ask = -1, info = 0;
    T lwork = 1, none = 0;
    LP(gesdd)
    (job, &m, &n, &none, &ld, &none, &none, &ld, &none, &ldv, &lwork, &ask, &ask, &info, 1);
    return FN(make_room)(c, r, lwork, 8 * most(least(m, n), 1));
}

static void FN(set_identity)(T *a, int64_t rows, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        a[i] = i % (rows + 1) == 0;
}

static fb_status FN(svd)(const fbi_call *c)
{
    const fbi_attrs_svd *s = c->attrs;
    const fb_tensor *x = c->in[0];
    const char *job = s->values_only ? "N" : s->full_matrices ? "A" : "S";
    int m = rows_of(x), n = cols_of(x), k = least(m, n);
    int nu = s->full_matrices ? m : k, nv = s->full_matrices ? n : k;
    FN(room) r = {NULL};
    T *a = FN(array)(c, (int64_t)m * n), *u = FN(array)(c, (int64_t)m * nu);
    T *v = FN(array)(c, (int64_t)nv * n);
    fb_status st = !c->ctx->status && FN(svd_room)(c, job, nv, &r) ? FB_OK : c->ctx->status;
    for (int64_t b = 0; b < batch_of(x) && !st; b++) {
        FN(set_identity)(u, m, (int64_t)m * nu); /* of what has no elements */
        FN(set_identity)(v, nv, (int64_t)n * nv);
        if (k)
            st = FN(svd_item)(c, b, job, a, FN(line)(c->out[1], b), u, v, nv, &r);
        if (s->values_only || st)
            continue;
        FN(store)(c->out[0], b, u, m);
        FN(store)(c->out[2], b, v, nv);
    }
    free(a);
    free(u);
    free(v);
    free(r.work);
    free(r.iwork);
    return st;
}

/* y [n, m] = sum over what counts of v[k, :]^T u[:, k]^T / w[k] */
static void FN(pinv_item)(const fb_tensor *y, int64_t b, int k, double rtol, const T *w, const T *u,
                          const T *v)
{
    int64_t n = rows_of(y), m = cols_of(y);
    T *to = (T *)fbi_ptr(y) + b * n * m;
    memset(to, 0, (size_t)(n * m) * sizeof(T));
    for (int64_t p = 0; p < k && (double)w[p] > rtol * (double)w[0]; p++)
        for (int64_t i = 0; i < n; i++) {
            T factor = v[i * k + p] / w[p];
            for (int64_t j = 0; j < m; j++)
                to[i * m + j] += factor * u[p * m + j];
        }
}

static fb_status FN(pinv)(const fbi_call *c)
{
    const fb_tensor *x = c->in[0];
    int m = rows_of(x), n = cols_of(x), k = least(m, n);
    FN(room) r = {NULL};
    T *a = FN(array)(c, (int64_t)m * n), *u = FN(array)(c, (int64_t)m * k);
    T *v = FN(array)(c, (int64_t)k * n), *w = FN(array)(c, k);
    fb_status st = !c->ctx->status && FN(svd_room)(c, "S", k, &r) ? FB_OK : c->ctx->status;
    for (int64_t b = 0; b < batch_of(x) && k && !st; b++) {
        st = FN(svd_item)(c, b, "S", a, w, u, v, k, &r);
        if (!st)
            FN(pinv_item)(c->out[0], b, k, ((const fbi_attrs_pinv *)c->attrs)->rtol, w, u, v);
    }
    free(a);
    free(u);
    free(v);
    free(w);
    free(r.work);
    free(r.iwork);
    return st;
}

/* Singular matrices have a factorisation, too; pivots are LAPACK's, from 1. */
static fb_status FN(lu_factor)(const fbi_call *c)
{
    const fb_tensor *x = c->in[0];
    int m = rows_of(x), n = cols_of(x), ld = most(m, 1), info = 0;
    T *a = FN(array)(c, (int64_t)m * n);
    for (int64_t b = 0; b < batch_of(x) && a && m && n; b++) {
        FN(load)(x, b, a);
        LP(getrf)(&m, &n, a, &ld, (int32_t *)fbi_ptr(c->out[1]) + b * least(m, n), &info);
        FN(store)(c->out[0], b, a, m);
    }
    free(a);
    return c->ctx->status;
}
