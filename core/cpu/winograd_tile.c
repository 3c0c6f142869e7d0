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
            fbi_wino_store(to + (i * points + j) * point, r[j], L);
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

/* points x points to n x n pixels from `to` on, as take_panel. */
FBI_WINO void give_panel(const line f, const int points, const int n, const fbi_wino_results *r,
                         float *to, int64_t y0, int64_t x0, int64_t lanes, const bool inside,
                         const bool full, fbi_wv bias, const float *m, int64_t point)
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
        for (int j = 0; j < n; j++)
            if (inside || (y0 + i < r->h && x0 + j < r->w))
                fbi_wino_store(to + (i * r->w + j) * r->c, s[j] + bias, full ? L : lanes);
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
        if (inside && c + L <= r->c)
            give_panel(f, points, n, r, to + c, p.y, p.x, L, true, true, bias, m, point);
        else if (c + L <= r->c)
            give_panel(f, points, n, r, to + c, p.y, p.x, L, false, true, bias, m, point);
        else
            give_panel(f, points, n, r, to + c, p.y, p.x, r->c - c, false, false, bias, m, point);
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

/* from [n x n][...] -> to [m x m][...], a vector each. */
FBI_WINO void turn(const line f, const int n, const int m, const float *from, int64_t from_step,
                   float *to, int64_t to_step)
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
            fbi_wino_store(to + (i * m + j) * to_step, r[j], L);
    }
}

void fbi_wino_forth(int64_t points, const float *taps, float *u, int64_t point)
{
    for (int h = 0; h < W; h += L)
        if (points == 36)
            turn(fbi_wino_g, 3, 6, taps + h, W, u + h, point);
        else
            turn(fbi_wino_g_halved, 3, 6, taps + h, W, u + h, point);
}

void fbi_wino_back(int64_t points, const float *u, int64_t point, float *taps)
{
    for (int h = 0; h < W; h += L)
        if (points == 36)
            turn(fbi_wino_gt, 6, 3, u + h, point, taps + h, W);
        else
            turn(fbi_wino_gt_halved, 6, 3, u + h, point, taps + h, W);
}
