/* How the values of a checkpoint are divided between files. */
#include <string.h>

#include "io/save_priv.h"

enum {
    SHORT_ROW = 64 << 10, /* bytes: longer ones are cut, so that files are equally large */
    CUT = 64              /* bytes at which a row may be cut: elements stay whole */
};

static bool is_tensor(const fbi_item *item)
{
    return item->kind && strcmp(item->kind, FBI_CHECKPOINT_BYTES) != 0;
}

int64_t fbi_share_total(const fbi_snapshot *s)
{
    int64_t total = 0;
    for (int64_t i = 0; i < s->n; i++)
        if (is_tensor(&s->items[i]))
            total += (int64_t)s->items[i].bytes;
    return total;
}

/* Bytes of a row: all that have the same first index. */
static int64_t row_of(const fbi_item *item)
{
    return (int64_t)item->bytes / (item->shape.n ? item->shape.d[0] : 1);
}

/* Where the item, which begins behind `at` bytes, is cut by a share that begins behind `begin`. */
static int64_t cut_of(const fbi_item *item, int64_t at, int64_t begin)
{
    int64_t bytes = (int64_t)item->bytes, row = row_of(item), cut = begin - at;
    int64_t unit = row <= SHORT_ROW ? row : CUT;
    return cut <= 0 ? 0 : cut >= bytes ? bytes : cut / unit * unit;
}

static int64_t share_begin(int64_t total, int64_t number, int64_t of)
{
    return total / of * number + total % of * number / of;
}

bool fbi_share_piece(const fbi_snapshot *s, int64_t i, fbi_share share, int64_t total, int64_t *at,
                     fbi_file_piece *piece)
{
    const fbi_item *item = &s->items[i];
    int64_t bytes = (int64_t)item->bytes, before = *at;
    if (!item->kind || !bytes)
        return false;
    *piece = fbi_piece_whole(item->shape);
    piece->file = i;
    piece->bytes = bytes;
    if (!is_tensor(item))
        return share.number == 0;
    *at += bytes;
    int64_t from = cut_of(item, before, share_begin(total, share.number, share.of));
    int64_t to = cut_of(item, before, share_begin(total, share.number + 1, share.of));
    int64_t row = row_of(item), size = (int64_t)fb_dtype_size(item->dtype);
    piece->bytes = to - from;
    piece->flat = piece->bytes < bytes && row > SHORT_ROW;
    if (piece->flat) {
        piece->begin = (fb_shape){.n = 1, .d = {from / size}};
        piece->count = (fb_shape){.n = 1, .d = {(to - from) / size}};
    } else if (item->shape.n) {
        piece->begin.d[0] = from / row;
        piece->count.d[0] = (to - from) / row;
    }
    return from < to;
}

size_t fbi_share_begin(const fbi_item *item, const fbi_file_piece *piece)
{
    int64_t unit = piece->flat ? (int64_t)fb_dtype_size(item->dtype) : row_of(item);
    return (size_t)(piece->begin.d[0] * unit);
}
