/* Sorting and searching lines of one type T; no guard. X(name): a name of T. */

typedef struct X(pair) {
    T v;
    int64_t at;
} X(pair);

/* Whether a comes strictly before b; NaN is the largest value. */
static inline bool X(first)(T a, T b, bool descending)
{
    if (descending)
        return a > b || (IS_NAN(a) && !IS_NAN(b));
    return a < b || (IS_NAN(b) && !IS_NAN(a));
}

/* Sorted runs [i, i + width) and the next of p, joined into q; of equal values those of the left
 * run come first, so the order is stable. */
static void X(merge)(const X(pair) * p, X(pair) * q, int64_t begin, int64_t middle, int64_t end,
                     bool descending)
{
    int64_t i = begin, j = middle;
    for (int64_t k = begin; k < end; k++)
        q[k] = j < end && (i == middle || X(first)(p[j].v, p[i].v, descending)) ? p[j++] : p[i++];
}

static void X(insert)(X(pair) * p, int64_t begin, int64_t end, bool descending)
{
    for (int64_t i = begin + 1; i < end; i++) {
        X(pair) v = p[i];
        int64_t k = i;
        for (; k > begin && X(first)(v.v, p[k - 1].v, descending); k--)
            p[k] = p[k - 1];
        p[k] = v;
    }
}

/* One line: n values at `step`; values and indices are written likewise. room: 2 n pairs. */
static void X(sort)(const T *x, int64_t n, int64_t step, bool descending, X(pair) * room, T *values,
                    int64_t *indices)
{
    enum { RUN = 16 };
    X(pair) *p = room, *q = room + n;
    for (int64_t k = 0; k < n; k++)
        p[k] = (X(pair)){x[k * step], k};
    for (int64_t k = 0; k < n; k += RUN)
        X(insert)(p, k, k + RUN < n ? k + RUN : n, descending);
    for (int64_t width = RUN; width < n; width *= 2) {
        for (int64_t k = 0; k < n; k += 2 * width) {
            int64_t middle = k + width < n ? k + width : n;
            X(merge)(p, q, k, middle, k + 2 * width < n ? k + 2 * width : n, descending);
        }
        X(pair) *other = p;
        p = q;
        q = other;
    }
    for (int64_t k = 0; k < n; k++) {
        values[k * step] = p[k].v;
        indices[k * step] = p[k].at;
    }
}

/* How many of n ascending values lie below v, or with `right` below or at it; NaN is the largest.
 */
static int64_t X(search)(const T *sorted, int64_t n, T v, bool right)
{
    int64_t low = 0, high = n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        bool beyond = right ? sorted[middle] > v : sorted[middle] >= v;
        if (beyond)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Where the first of the longest runs of equal values ends. */
static int64_t X(longest)(const T *sorted, int64_t n, int64_t step)
{
    int64_t run = 0, best = 0, end = 0;
    for (int64_t k = 0; k < n; k++) {
        run = k && sorted[k * step] == sorted[(k - 1) * step] ? run + 1 : 1;
        if (run > best) {
            best = run;
            end = k;
        }
    }
    return end;
}
