/* Running results along lines of one type T; no guard. X(name): a function of T; ACC: what sums and
 * products are kept in. */

/* Element k of a line, counted from the end if `reverse`. */
static void X(cumsum)(const T *x, T *y, const fbi_line *l, int64_t line, bool reverse)
{
    int64_t base = line / l->inner * l->n * l->inner + line % l->inner;
    ACC sum = 0;
    for (int64_t k = 0; k < l->n; k++) {
        int64_t at = base + (reverse ? l->n - 1 - k : k) * l->inner;
        sum += (ACC)x[at];
        y[at] = (T)sum;
    }
}

static void X(cumprod)(const T *x, T *y, const fbi_line *l, int64_t line, bool reverse)
{
    int64_t base = line / l->inner * l->n * l->inner + line % l->inner;
    ACC product = 1;
    for (int64_t k = 0; k < l->n; k++) {
        int64_t at = base + (reverse ? l->n - 1 - k : k) * l->inner;
        product *= (ACC)x[at];
        y[at] = (T)product;
    }
}

/* The extreme so far and its index, of equal ones the last; NaN wins. */
static void X(cumextreme)(const T *x, T *y, int64_t *index, const fbi_line *l, int64_t line,
                          bool largest)
{
    int64_t base = line / l->inner * l->n * l->inner + line % l->inner, where = 0;
    T best = 0;
    for (int64_t k = 0; k < l->n; k++) {
        int64_t at = base + k * l->inner;
        T v = x[at];
        if (k == 0 || IS_NAN(v) || (!IS_NAN(best) && (largest ? v >= best : v <= best))) {
            best = v;
            where = k;
        }
        y[at] = best;
        index[at] = where;
    }
}

static T X(product)(const T *x, int64_t n)
{
    ACC product = 1;
    for (int64_t k = 0; k < n; k++)
        product *= (ACC)x[k];
    return (T)product;
}
