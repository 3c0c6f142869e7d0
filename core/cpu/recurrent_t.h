/* Recurrent layers for one element type: T, its TANH and SIGMOID, and FN(name). No include guard.
 */

#define WIDTH FN(FBI_PANEL)
#define CELL  FN(cell)
#define WAY   FN(way)

static inline T *FN(at)(const operand *o, int64_t t, int64_t n)
{
    return o->p ? (T *)o->p + t * o->step + n * o->row : NULL;
}

/* --- cells: `n` adjacent units of a row --- */

/* Gates of x, dx, own and saved are h apart, those of p `width` ones. */
typedef struct CELL {
    int64_t n, h, width;
    const T *x, *p, *b; /* the input's and the state's part, and its bias */
    const T *h_before, *c_before;
    T *y, *c, *saved;    /* what the step gives; backward reads them */
    const T *gy, *gc;    /* p is the gradient of h from the next step */
    T *dx, *own, *carry; /* carry: the gradient of c, or past the gates of h */
} CELL;

static void FN(tanh_cell)(const CELL *s)
{
    T *restrict y = s->y;
#pragma GCC ivdep
    for (int64_t j = 0; j < s->n; j++)
        y[j] = TANH(s->x[j] + s->p[j]);
}

static void FN(relu_cell)(const CELL *s)
{
    T *restrict y = s->y;
#pragma GCC ivdep
    for (int64_t j = 0; j < s->n; j++) {
        T v = s->x[j] + s->p[j];
        y[j] = v > 0 || v != v ? v : 0;
    }
}

static void FN(lstm_cell)(const CELL *s)
{
    const T *x = s->x, *p = s->p, *before = s->c_before;
    int64_t h = s->h, w = s->width;
    T *restrict i = s->saved, *restrict f = i + h, *restrict g = f + h, *restrict o = g + h;
    T *restrict c = s->c, *restrict y = s->y;
#pragma GCC ivdep
    for (int64_t j = 0; j < s->n; j++) {
        i[j] = SIGMOID(x[j] + p[j]);
        f[j] = SIGMOID(x[h + j] + p[w + j]);
        g[j] = TANH(x[2 * h + j] + p[2 * w + j]);
        o[j] = SIGMOID(x[3 * h + j] + p[3 * w + j]);
    }
#pragma GCC ivdep
    for (int64_t j = 0; j < s->n; j++) {
        c[j] = f[j] * before[j] + i[j] * g[j];
        y[j] = o[j] * TANH(c[j]);
    }
}

static void FN(gru_cell)(const CELL *s)
{
    const T *x = s->x, *p = s->p, *b = s->b, *before = s->h_before;
    int64_t h = s->h, w = s->width;
    T *restrict r = s->saved, *restrict z = r + h, *restrict n = z + h, *restrict own = n + h;
    T *restrict y = s->y;
#pragma GCC ivdep
    for (int64_t j = 0; j < s->n; j++) {
        r[j] = SIGMOID(x[j] + (p[j] + b[j]));
        z[j] = SIGMOID(x[h + j] + (p[w + j] + b[h + j]));
        own[j] = p[2 * w + j] + b[2 * h + j];
        n[j] = TANH(x[2 * h + j] + r[j] * own[j]);
        y[j] = n[j] + z[j] * (before[j] - n[j]);
    }
}

/* --- their gradients --- */

static void FN(tanh_back)(const CELL *s)
{
    T *restrict dx = s->dx, *restrict own = s->own;
#pragma GCC ivdep
    for (int64_t j = 0; j < s->n; j++)
        own[j] = dx[j] = (s->gy[j] + s->p[j]) * (1 - s->y[j] * s->y[j]);
}

static void FN(relu_back)(const CELL *s)
{
    T *restrict dx = s->dx, *restrict own = s->own;
#pragma GCC ivdep
    for (int64_t j = 0; j < s->n; j++)
        own[j] = dx[j] = (s->gy[j] + s->p[j]) * (s->y[j] > 0 ? (T)1 : (T)0);
}

static void FN(lstm_back)(const CELL *s)
{
    int64_t h = s->h;
    const T *i = s->saved, *f = i + h, *g = f + h, *o = g + h, *before = s->c_before;
    const T *gy = s->gy, *gc = s->gc, *p = s->p, *c = s->c;
    T *restrict dx = s->dx, *restrict carry = s->carry;
#pragma GCC ivdep
    for (int64_t j = 0; j < s->n; j++) {
        T dh = gy[j] + p[j], t = TANH(c[j]);
        T dc = carry[j] + gc[j] + dh * o[j] * (1 - t * t);
        dx[j] = dc * g[j] * (i[j] * (1 - i[j]));
        dx[h + j] = dc * before[j] * (f[j] * (1 - f[j]));
        dx[2 * h + j] = dc * i[j] * (1 - g[j] * g[j]);
        dx[3 * h + j] = dh * t * (o[j] * (1 - o[j]));
        carry[j] = dc * f[j];
    }
    for (int64_t k = 0; k < 4 * h; k += h)
        memcpy(s->own + k, dx + k, (size_t)s->n * sizeof(T));
}

static void FN(gru_back)(const CELL *s)
{
    int64_t h = s->h;
    const T *r = s->saved, *z = r + h, *n = z + h, *part = n + h, *before = s->h_before;
    const T *gy = s->gy, *p = s->p;
    T *restrict dx = s->dx, *restrict own = s->own, *restrict carry = s->carry;
#pragma GCC ivdep
    for (int64_t j = 0; j < s->n; j++) {
        T dh = gy[j] + p[j] + carry[j];
        T dn = dh * (1 - z[j]) * (1 - n[j] * n[j]);
        T dr = dn * part[j] * (r[j] * (1 - r[j]));
        T dz = dh * (before[j] - n[j]) * (z[j] * (1 - z[j]));
        own[j] = dx[j] = dr;
        own[h + j] = dx[h + j] = dz;
        dx[2 * h + j] = dn;
        own[2 * h + j] = dn * r[j];
        carry[j] = dh * z[j];
    }
}

static const struct {
    void (*forward)(const CELL *);
    void (*back)(const CELL *);
} FN(cells)[FBI_RNN_KINDS] = {{FN(tanh_cell), FN(tanh_back)},
                              {FN(relu_cell), FN(relu_back)},
                              {FN(lstm_cell), FN(lstm_back)},
                              {FN(gru_cell), FN(gru_back)}};

/* --- the weight in panels --- */

static int64_t FN(groups)(const sizes *z)
{
    return (z->h + WIDTH - 1) / WIDTH;
}

/* Units `from` on of one gate, each a column; zeros where there is none. */
static void FN(pack_transposed)(const sizes *z, const operand *w, int64_t gate, int64_t from,
                                T *panel)
{
    int64_t n = z->h - from < WIDTH ? z->h - from : WIDTH;
    for (int64_t j = 0; j < WIDTH; j++) {
        const T *row = (const T *)w->p + (gate * z->h + from + (j < n ? j : 0)) * w->row;
        for (int64_t k = 0; k < z->h; k++)
            panel[k * WIDTH + j] = j < n ? row[k] : 0;
    }
}

/* Columns `from` on of all gates. */
static void FN(pack)(const sizes *z, const operand *w, int64_t from, T *panel)
{
    int64_t n = z->h - from < WIDTH ? z->h - from : WIDTH;
    for (int64_t k = 0; k < z->gates * z->h; k++, panel += WIDTH) {
        memcpy(panel, (const T *)w->p + k * w->row + from, (size_t)n * sizeof(T));
        memset(panel + n, 0, (size_t)(WIDTH - n) * sizeof(T));
    }
}

/* Elements of a panel of k rows. */
static int64_t FN(panel_size)(const sizes *z, int64_t k)
{
    return z->tiles ? fbi_amx_panel_size(k) : k * WIDTH;
}

/* Of rows in tiles, or of a panel that will be in tiles. */
static int64_t FN(packed_size)(const sizes *z, int64_t k)
{
    return z->tiles ? fbi_amx_panel_size(k) : 0;
}

/* Rows of a product. */
static int64_t FN(lines)(const sizes *z, int64_t rows)
{
    return z->tiles ? fbi_amx_rows_of(rows) : rows;
}

/* --- forward --- */

typedef struct WAY {
    const sizes *z;
    operand x, h0, c0, b, w, y, c, saved;       /* forward, and what backward reads */
    operand gy, gc, dx, down, before, dh0, dc0; /* backward */
    T *panels, *zeros, *work;                   /* zeros: of all gates */
    int64_t work_size;                          /* elements of a thread */
} WAY;

static inline int64_t FN(row_size)(int64_t n)
{
    return (n + PAD - 1) / PAD * PAD + PAD;
}

/* Rows of the batch whose turn comes next, in lines that the products have let go. */
static inline void FN(fetch)(const operand *o, int64_t t, int64_t n, int64_t size)
{
    const T *p = FN(at)(o, t, n);
    for (int64_t j = 0; p && j < size; j += 64 / (int64_t)sizeof(T))
        __builtin_prefetch(p + j);
}

/* What the cells of row n want of step t and of the one before it. Numbers that are not there are
 * zeros: a vector's load from NULL under a mask takes the processor hundreds of cycles. */
static CELL FN(row_at)(const WAY *r, int64_t t, int64_t n)
{
    int64_t before = t - r->z->way;
    bool first = t == r->z->first;
    CELL s = {.h = r->z->h,
              .x = FN(at)(&r->x, t, n),
              .b = r->b.p ? (const T *)r->b.p : r->zeros,
              .h_before = first ? FN(at)(&r->h0, 0, n) : FN(at)(&r->y, before, n),
              .c_before = first ? FN(at)(&r->c0, 0, n) : FN(at)(&r->c, before, n),
              .y = FN(at)(&r->y, t, n),
              .c = FN(at)(&r->c, t, n),
              .saved = FN(at)(&r->saved, t, n),
              .gy = FN(at)(&r->gy, t, n),
              .gc = FN(at)(&r->gc, t, n),
              .dx = FN(at)(&r->dx, t, n)};
    s.h_before = s.h_before ? s.h_before : r->zeros;
    s.c_before = s.c_before ? s.c_before : r->zeros;
    s.gc = s.gc ? s.gc : r->zeros;
    return s;
}

static inline T *FN(moved)(const T *p, int64_t n)
{
    return p ? (T *)(uintptr_t)p + n : NULL;
}

/* The same for units `from` on; what this kind or direction does not have stays NULL. */
static inline CELL FN(units_of)(const CELL *row, int64_t from)
{
    int64_t left = row->h - from;
    return (CELL){.n = left < WIDTH ? left : WIDTH,
                  .h = row->h,
                  .width = row->width,
                  .x = FN(moved)(row->x, from),
                  .b = FN(moved)(row->b, from),
                  .h_before = FN(moved)(row->h_before, from),
                  .c_before = FN(moved)(row->c_before, from),
                  .y = FN(moved)(row->y, from),
                  .c = FN(moved)(row->c, from),
                  .saved = FN(moved)(row->saved, from),
                  .gy = FN(moved)(row->gy, from),
                  .gc = FN(moved)(row->gc, from),
                  .dx = FN(moved)(row->dx, from),
                  .own = FN(moved)(row->own, from),
                  .carry = FN(moved)(row->carry, from)};
}

/* part [panels, lines, WIDTH] = a [rows, k] and each panel; packed: room for a in tiles. */
static void FN(products)(const WAY *r, int64_t rows, int64_t k, const T *a, int64_t panels, T *part,
                         T *packed)
{
    int64_t lda = FN(row_size)(k);
    (void)packed;
    if (r->z->tiles) {
        FBI_TILES(fbi_amx_panels(rows, k, a, lda, panels, r->panels, part, packed));
        return;
    }
    for (int64_t i = 0; i < panels; i++)
        FN(fbi_cpu_panel)(rows, k, a, lda, r->panels + i * k * WIDTH, part + i * rows * WIDTH);
}

/* A step of `rows` rows; state [rows, lda] becomes the next one. */
static void FN(step)(const WAY *r, int64_t t, int64_t from, int64_t rows, T *state, T *part,
                     T *packed)
{
    const sizes *z = r->z;
    int64_t lda = FN(row_size)(z->h), panels = FN(groups)(z) * z->gates;
    int64_t panel = FN(lines)(z, rows) * WIDTH;
    if (t == z->first && !r->h0.p)
        memset(part, 0, (size_t)(panels * panel) * sizeof(T));
    else
        FN(products)(r, rows, z->h, state, panels, part, packed);
    for (int64_t i = 0; i < rows; i++) {
        CELL row = FN(row_at)(r, t, from + i);
        row.width = panel;
        if (i + 1 < rows) {
            FN(fetch)(&r->x, t, from + i + 1, z->gates * z->h);
            FN(fetch)(&r->saved, t, from + i + 1, fbi_rnn_forms[z->kind].saved * z->h);
        }
        for (int64_t g = 0; g < FN(groups)(z); g++) {
            CELL s = FN(units_of)(&row, g * WIDTH);
            s.p = part + g * z->gates * panel + i * WIDTH;
            FN(cells)[z->kind].forward(&s);
        }
        memcpy(state + i * lda, row.y, (size_t)z->h * sizeof(T));
    }
}

static void FN(forward_rows)(const WAY *r, int64_t from, int64_t rows, T *work)
{
    const sizes *z = r->z;
    int64_t lda = FN(row_size)(z->h);
    T *packed = work, *state = packed + FN(packed_size)(z, z->h), *part = state + rows * lda;
    for (int64_t i = 0; i < rows && r->h0.p; i++)
        memcpy(state + i * lda, FN(at)(&r->h0, 0, from + i), (size_t)z->h * sizeof(T));
    for (int64_t i = 0; i < z->t; i++)
        FN(step)(r, z->first + i * z->way, from, rows, state, part, packed);
}

/* --- backward --- */

/* A step back: own [rows, lda], the gradients of the gates' own part of the step behind it, become
 * those of this one; part is theirs of the state. carry [rows, h]. */
static void FN(step_back)(const WAY *r, int64_t t, int64_t from, int64_t rows, T *own, T *carry,
                          const T *part)
{
    const sizes *z = r->z;
    int64_t gates = z->gates * z->h, lda = FN(row_size)(gates), lines = FN(lines)(z, rows);
    size_t state = (size_t)z->h * sizeof(T);
    for (int64_t i = 0; i < rows; i++) {
        int64_t n = from + i;
        CELL row = FN(row_at)(r, t, n);
        row.own = own + i * lda;
        row.carry = carry + i * z->h;
        if (i + 1 < rows) {
            FN(fetch)(&r->saved, t, n + 1, fbi_rnn_forms[z->kind].saved * z->h);
            FN(fetch)(&r->dx, t, n + 1, gates);
        }
        for (int64_t g = 0; g < FN(groups)(z); g++) {
            CELL s = FN(units_of)(&row, g * WIDTH);
            s.p = part + (g * lines + i) * WIDTH;
            FN(cells)[z->kind].back(&s);
        }
        memcpy(FN(at)(&r->before, t, n), row.h_before, state);
        if (r->down.p)
            memcpy(FN(at)(&r->down, t, n), row.own, (size_t)gates * sizeof(T));
    }
}

/* The gradients of the first states. */
static void FN(first_gradients)(const WAY *r, int64_t from, int64_t rows, const T *carry,
                                const T *part)
{
    const sizes *z = r->z;
    int64_t lines = FN(lines)(z, rows);
    for (int64_t i = 0; i < rows; i++) {
        T *dh = FN(at)(&r->dh0, 0, from + i), *dc = FN(at)(&r->dc0, 0, from + i);
        for (int64_t u = 0; u < z->h; u++) {
            T past = carry[i * z->h + u];
            dh[u] = part[(u / WIDTH * lines + i) * WIDTH + u % WIDTH] + (dc ? 0 : past);
            if (dc)
                dc[u] = past;
        }
    }
}

static void FN(backward_rows)(const WAY *r, int64_t from, int64_t rows, T *work)
{
    const sizes *z = r->z;
    int64_t sums = FN(groups)(z) * FN(lines)(z, rows) * WIDTH, gates = z->gates * z->h;
    T *packed = work, *part = packed + FN(packed_size)(z, gates);
    T *carry = part + sums, *own = carry + rows * z->h;
    memset(part, 0, (size_t)(sums + rows * z->h) * sizeof(T));
    for (int64_t i = z->t - 1; i >= 0; i--) {
        FN(step_back)(r, z->first + i * z->way, from, rows, own, carry, part);
        FN(products)(r, rows, gates, own, FN(groups)(z), part, packed);
    }
    FN(first_gradients)(r, from, rows, carry, part);
}

/* --- batches of rows --- */

static void FN(over_rows)(const WAY *r, void (*fn)(const WAY *, int64_t, int64_t, T *))
{
    const sizes *z = r->z;
    int64_t batches = (z->n + z->per - 1) / z->per;
    int64_t share = (batches + z->threads - 1) / z->threads;
#pragma omp parallel for num_threads(z->threads) if (z->threads > 1) schedule(static, 1)
    for (int i = 0; i < z->threads; i++)
        for (int64_t b = i * share; b < (i + 1) * share && b < batches; b++) {
            int64_t from = b * z->per, rows = z->n - from < z->per ? z->n - from : z->per;
            fn(r, from, rows, r->work + i * r->work_size);
        }
}

/* `count` panels of k rows, and work of all threads. NULL: the error is set. */
static fb_tensor *FN(memory)(const fbi_call *c, WAY *r, int64_t count, int64_t k, int64_t work)
{
    const sizes *z = r->z;
    int64_t panels = count * FN(panel_size)(z, k);
    r->work_size = FN(row_size)(work);
    int64_t zeros = FN(row_size)(z->gates * z->h), n = panels + zeros + r->work_size * z->threads;
    fb_tensor *block = fbi_empty(c->ctx, FB_U8, FB_SHAPE(n * (int64_t)sizeof(T))); /* kept warm */
    if (block) {
        r->panels = fbi_ptr(block);
        r->zeros = memset(r->panels + panels, 0, (size_t)zeros * sizeof(T));
        r->work = r->zeros + zeros;
    }
    return block;
}

/* All panels: of one gate and some units (forward), or some units of all gates. */
static void FN(pack_all)(const WAY *r, int64_t count, int64_t k, bool forward)
{
    const sizes *z = r->z;
#pragma omp parallel for num_threads(z->threads) if (z->threads > 1) schedule(static, 1)
    for (int t = 0; t < z->threads; t++)
        for (int64_t i = count * t / z->threads; i < count * (t + 1) / z->threads; i++) {
            T *to = r->panels + i * FN(panel_size)(z, k);
            T *panel = z->tiles ? r->work + t * r->work_size : to;
            if (forward)
                FN(pack_transposed)(z, &r->w, i % z->gates, i / z->gates * WIDTH, panel);
            else
                FN(pack)(z, &r->w, i * WIDTH, panel);
            if (z->tiles)
                FBI_TILES(fbi_amx_pack_panel(k, panel, to));
        }
}

static fb_status FN(forward)(const fbi_call *c, const sizes *z)
{
    operands o = {0};
    WAY r = {.z = z};
    int64_t panels = FN(groups)(z) * z->gates;
    int64_t work = FN(packed_size)(z, z->h) + z->per * FN(row_size)(z->h) +
                   FN(lines)(z, z->per) * panels * WIDTH;
    fb_tensor *block = operands_of(c, &o) ? FN(memory)(c, &r, panels, z->h, work) : NULL;
    if (block) {
        r.x = o.v[0], r.h0 = o.v[1], r.c0 = o.v[2], r.b = o.v[3], r.w = o.v[4];
        r.y = output_of(c->out[0]), r.c = output_of(c->out[1]), r.saved = output_of(c->out[2]);
        FN(pack_all)(&r, panels, z->h, true);
        FN(over_rows)(&r, FN(forward_rows));
        fb_drop(block);
    }
    operands_end(&o);
    return c->ctx->status;
}

static fb_status FN(backward)(const fbi_call *c, const sizes *z)
{
    operands o = {0};
    WAY r = {.z = z};
    int64_t gates = z->gates * z->h;
    int64_t panels = FN(groups)(z);
    int64_t work = FN(packed_size)(z, gates) + z->per * (FN(row_size)(gates) + z->h) +
                   FN(lines)(z, z->per) * panels * WIDTH;
    fb_tensor *block = operands_of(c, &o) ? FN(memory)(c, &r, panels, gates, work) : NULL;
    if (block) {
        r.gy = o.v[0], r.gc = o.v[1], r.h0 = o.v[2], r.c0 = o.v[3], r.w = o.v[4];
        r.saved = o.v[5], r.y = o.v[6], r.c = o.v[7];
        r.dx = output_of(c->out[0]), r.down = output_of(c->out[1]);
        r.before = output_of(c->out[2]);
        r.dh0 = output_of(c->out[3]), r.dc0 = output_of(c->out[4]);
        FN(pack_all)(&r, panels, gates, false);
        FN(over_rows)(&r, FN(backward_rows));
        fb_drop(block);
    }
    operands_end(&o);
    return c->ctx->status;
}

#undef WIDTH
#undef CELL
#undef WAY
