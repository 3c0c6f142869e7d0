/* The two-dimensional transforms of Winograd's convolutions: pixels to points, points to pixels,
 * weights both ways. */
#include "core/cpu/winograd_tile_priv.h"

enum { L = FBI_WINO_LANES, W = FBI_WINO_WIDE, MOST = 9 /* points of one direction */ };

/* A transform of one direction. */
typedef void (*line)(const fbi_wv *from, fbi_wv *to);

/* Where a tile lies. */
typedef struct place {
    int64_t image, y, x;
} place;

static place place_of(int64_t down, int64_t across, int64_t step, int64_t tile)
{
    int64_t per = down * across;
    return (place){tile / per, tile % per / across * step, tile % across * step};
}

/* --- pixels to points --- */

/* n x n pixels from `from` on, of `lanes` channels, to points x points; ahead: to the next tile.
 * `inside`: no pixel is beyond the border; `full`: lanes >= LANES. */
FBI_WINO void take_panel(const line f, const int n, const int points, const fbi_wino_tiles *t,
                         const float *from, int64_t y0, int64_t x0, int64_t lanes,
                         const bool inside, const bool full, int64_t ahead, float *to,
                         int64_t point)
{
    FBI_WINO_ALIGNED fbi_wv half[MOST][MOST];
#pragma GCC unroll 1
    for (int j = 0; j < n; j++) {
        fbi_wv d[MOST], r[MOST];
        for (int i = 0; i < n; i++) {
            int64_t y = y0 + i, x = x0 + j;
            if (inside || (y >= 0 && y < t->h && x >= 0 && x < t->w)) {
                const float *at = from + (i * t->w + j) * t->c;
                __builtin_prefetch(at + ahead);
                d[i] = fbi_wino_load(at, full ? L : lanes);
            } else {
                d[i] = (fbi_wv){0};
            }
        }
        f(d, r);
        for (int i = 0; i < points; i++)
            half[i][j] = r[i];
    }
#pragma GCC unroll 1
    for (int i = 0; i < points; i++) {
        fbi_wv r[MOST];
        f(half[i], r);
        for (int j = 0; j < points; j++)
            fbi_wino_put(to + (i * points + j) * point, r[j], t->shared);
    }
}

FBI_WINO void take(const line f, const int n, const int points, const int step,
                   const fbi_wino_tiles *t, int64_t tile, float *to, int64_t point, int64_t panel,
                   int64_t width)
{
    place p = place_of(t->down, t->across, step, tile);
    place q = place_of(t->down, t->across, step, tile + 1);
    int64_t y0 = p.y - t->ph, x0 = p.x - t->pw;
    int64_t ahead = (((q.image - p.image) * t->h + q.y - p.y) * t->w + q.x - p.x) * t->c;
    const float *from = t->from + ((p.image * t->h + y0) * t->w + x0) * t->c;
    bool inside = y0 >= 0 && y0 + n <= t->h && x0 >= 0 && x0 + n <= t->w;
    for (int64_t c = 0; c < fbi_wino_up(t->c, width); c += L) {
        float *at = to + c / width * panel + c % width;
        if (inside && c + L <= t->c)
            take_panel(f, n, points, t, from + c, y0, x0, L, true, true, ahead, at, point);
        else if (c + L <= t->c)
            take_panel(f, n, points, t, from + c, y0, x0, L, false, true, ahead, at, point);
        else
            take_panel(f, n, points, t, from + c, y0, x0, t->c - c, false, false, ahead, at, point);
    }
}

void fbi_wino_take(const fbi_wino_tiles *t, int64_t tile, float *to, int64_t point, int64_t panel,
                   int64_t width)
{
    switch (t->source) {
    case FBI_WINO_INPUT:
        take(fbi_wino_bt, 6, 6, 4, t, tile, to, point, panel, width);
        break;
    case FBI_WINO_GRADIENT:
        take(fbi_wino_a, 4, 6, 4, t, tile, to, point, panel, width);
        break;
    case FBI_WINO_INPUT_HALVED:
        take(fbi_wino_bt_halved, 9, 9, 8, t, tile, to, point, panel, width);
        break;
    case FBI_WINO_GRADIENT_HALVED:
        take(fbi_wino_a_halved, 4, 9, 4, t, tile, to, point, panel, width);
        break;
    case FBI_WINO_DOUBLED:
        take(fbi_wino_bt_doubled, 5, 9, 4, t, tile, to, point, panel, width);
        break;
    }
}

/* --- points to pixels --- */

FBI_WINO fbi_wv finished(const fbi_wino_results *r, fbi_wv y)
{
    __typeof__(y <= 0) closed = y <= 0; /* not so for a NaN, which stays */
    return r->relu ? (fbi_wv)((__typeof__(closed))y & ~closed) : y;
}

/* points x points to n x n pixels from `to` on, as take_panel; streamed: as fbi_wino_put. */
FBI_WINO void give_panel(const line f, const int points, const int n, const fbi_wino_results *r,
                         float *to, int64_t y0, int64_t x0, int64_t lanes, const bool inside,
                         const bool full, const bool streamed, fbi_wv bias, const float *m,
                         int64_t point)
{
    FBI_WINO_ALIGNED fbi_wv half[MOST][MOST];
#pragma GCC unroll 1
    for (int j = 0; j < points; j++) {
        fbi_wv d[MOST], s[MOST];
        for (int i = 0; i < points; i++)
            d[i] = fbi_wino_load(m + (i * points + j) * point, L);
        f(d, s);
        for (int i = 0; i < n; i++)
            half[i][j] = s[i];
    }
#pragma GCC unroll 1
    for (int i = 0; i < n; i++) {
        fbi_wv s[MOST];
        f(half[i], s);
        for (int j = 0; j < n; j++) {
            float *at = to + (i * r->w + j) * r->c;
            if (!inside && (y0 + i >= r->h || x0 + j >= r->w))
                continue;
            fbi_wv y = finished(r, s[j] + bias);
            if (streamed)
                fbi_wino_put(at, y, true);
            else
                fbi_wino_store(at, y, full ? L : lanes);
        }
    }
}

FBI_WINO void give(const line f, const int points, const int n, const fbi_wino_results *r,
                   int64_t tile, int64_t c0, const float *m, int64_t point)
{
    place p = place_of(r->down, r->across, n, tile);
    float *to = r->to + ((p.image * r->h + p.y) * r->w + p.x) * r->c;
    bool inside = p.y + n <= r->h && p.x + n <= r->w;
    for (int64_t c = c0; c < c0 + W && c < r->c; c += L, m += L) {
        fbi_wv bias = r->bias ? fbi_wino_load(r->bias + c, r->c - c) : (fbi_wv){0};
        int64_t y = p.y, x = p.x;
        if (inside && r->streamed)
            give_panel(f, points, n, r, to + c, y, x, L, true, true, true, bias, m, point);
        else if (inside && c + L <= r->c)
            give_panel(f, points, n, r, to + c, y, x, L, true, true, false, bias, m, point);
        else if (c + L <= r->c)
            give_panel(f, points, n, r, to + c, y, x, L, false, true, false, bias, m, point);
        else
            give_panel(f, points, n, r, to + c, y, x, r->c - c, false, false, false, bias, m,
                       point);
    }
}

void fbi_wino_give(const fbi_wino_results *r, int64_t tile, int64_t c0, const float *m,
                   int64_t point)
{
    if (r->points == 36)
        give(fbi_wino_at, 6, 4, r, tile, c0, m, point);
    else if (r->size == 4)
        give(fbi_wino_at_halved, 9, 4, r, tile, c0, m, point);
    else
        give(fbi_wino_at_doubled, 9, 8, r, tile, c0, m, point);
}

/* --- weights --- */

/* from [n x n][...] -> to [m x m][...], a vector each; shared: as fbi_wino_put. */
FBI_WINO void turn(const line f, const int n, const int m, const float *from, int64_t from_step,
                   float *to, int64_t to_step, bool shared)
{
    FBI_WINO_ALIGNED fbi_wv half[6][6];
    for (int j = 0; j < n; j++) {
        fbi_wv d[6], r[6];
        for (int i = 0; i < n; i++)
            d[i] = fbi_wino_load(from + (i * n + j) * from_step, L);
        f(d, r);
        for (int i = 0; i < m; i++)
            half[i][j] = r[i];
    }
    for (int i = 0; i < m; i++) {
        fbi_wv r[6];
        f(half[i], r);
        for (int j = 0; j < m; j++)
            fbi_wino_put(to + (i * m + j) * to_step, r[j], shared);
    }
}

/* L rows of `lanes` floats, those from n on 0, become columns. */
FBI_WINO void flip(const float *from, int64_t step, int64_t n, int64_t lanes, fbi_wv v[L])
{
    for (int i = 0; i < L; i++)
        v[i] = i < n ? fbi_wino_load(from + i * step, lanes) : (fbi_wv){0};
    fbi_wino_transpose(v);
}

/* Taps [L channels c][9][W]: a row of memory has the taps of all c with one k. */
static void taps_by_c(const fbi_wino_weights *w, int64_t c0, int64_t k0, float *taps)
{
    int64_t left = (w->c - c0) * 9;
    for (int64_t h = 0; h < W; h += L)
        for (int64_t e = 0; e < 9 * L; e += L) {
            fbi_wv v[L];
            const float *from = w->from + c0 * 9 + (k0 + h) * w->step_k + e;
            if (left >= e + L && w->k >= k0 + h + L)
                flip(from, w->step_k, L, L, v);
            else
                flip(from, w->step_k, w->k - k0 - h, left - e, v);
            for (int i = 0; i < L; i++)
                fbi_wino_store(taps + (e + i) * W + h, v[i], L);
        }
}

/* Turned: a row has the taps of all k with one c. Rows of L floats begin at every k and are cut at
 * the end of the weights. */
static void taps_by_k(const fbi_wino_weights *w, int64_t c0, int64_t k0, float *taps)
{
    for (int64_t c = c0; c < c0 + L; c++, taps += 9 * W)
        for (int64_t h = 0; h < W; h += L)
            for (int64_t e = 0; e < 9; e += L) {
                fbi_wv v[L];
                const float *from = w->from + c * w->step_c + (k0 + h) * 9 + e;
                if (w->k > k0 + h + L && c < w->c)
                    flip(from, 9, L, L, v);
                else
                    flip(from, 9, c < w->c ? w->k - k0 - h : 0, 9 - e, v);
                for (int64_t i = e; i < 9 && i < e + L; i++)
                    fbi_wino_store(taps + (8 - i) * W + h, v[i - e], L);
            }
}

void fbi_wino_forth(const fbi_wino_weights *w, int64_t c0, int64_t k0, float *u, int64_t point)
{
    FBI_WINO_ALIGNED float taps[L * 9 * W];
    if (w->turned)
        taps_by_k(w, c0, k0, taps);
    else
        taps_by_c(w, c0, k0, taps);
    for (int i = 0; i < L * W; i += L) {
        const float *from = taps + i / W * 9 * W + i % W;
        if (w->points == 36)
            turn(fbi_wino_g, 3, 6, from, W, u + i, point, w->shared);
        else
            turn(fbi_wino_g_halved, 3, 6, from, W, u + i, point, w->shared);
    }
}

void fbi_wino_back(const fbi_wino_weights *w, int64_t c0, int64_t k0, const float *u, int64_t point)
{
    FBI_WINO_ALIGNED float taps[L * 9 * W];
    for (int i = 0; i < L * W; i += L) {
        float *to = taps + i / W * 9 * W + i % W;
        for (int e = 0; e < 9; e++)
            __builtin_prefetch(w->to + (k0 + i / L) * w->step_k + c0 * 9 + e * L, 1);
        if (w->points == 36)
            turn(fbi_wino_gt, 6, 3, u + i, point, to, W, false);
        else
            turn(fbi_wino_gt_halved, 6, 3, u + i, point, to, W, false);
    }
    int64_t left = (w->c - c0) * 9;
    for (int64_t h = 0; h < W; h += L)
        for (int64_t e = 0; e < 9 * L && e < left; e += L) {
            fbi_wv v[L];
            flip(taps + e * W + h, W, L, L, v);
            for (int64_t i = 0; i < L && k0 + h + i < w->k; i++) {
                float *to = w->to + (k0 + h + i) * w->step_k + c0 * 9 + e;
                fbi_wv old = w->add ? fbi_wino_load(to, left - e) : (fbi_wv){0};
                fbi_wino_store(to, old + v[i], left - e);
            }
        }
}
