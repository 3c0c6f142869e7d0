#include "launch/bpe_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <xxhash.h>

enum {
    MOST_TOKENS = 1 << 16,
    BYTES = 256,
    LONG_WORD = 1 << 24,
    SHORT_WORD = 64,
    CACHED_WORDS = 1 << 16
};

/* Two tokens that become one; the one that came first in the file is made first. */
typedef struct merge {
    int left, right, rank, made; /* made: -1: an empty slot */
} merge;

/* A word that was met before. */
typedef struct word {
    uint64_t hash;  /* 0: empty */
    uint32_t at, n; /* in the cache's tokens */
    char *bytes;
    uint32_t length;
} word;

struct fbi_bpe {
    int of_byte[BYTES];
    merge *merges;
    size_t slots; /* a power of two */
    int end;
    word *words;
    fbi_tokens cache;
    int *parts, parts_room; /* of the word at hand */
};

/* --- the two files --- */

/* GPT-2 writes bytes as characters that can be seen: itself, or 256 + its place among the others.
 */
static int character_of(int byte)
{
    int hidden = 0;
    for (int b = 0; b < BYTES; b++) {
        bool seen = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        if (b == byte)
            return seen ? b : BYTES + hidden;
        hidden += !seen;
    }
    return -1;
}

/* All of them have one or two bytes of UTF-8. */
static void to_utf8(int c, char out[3])
{
    out[0] = (char)(c < 0x80 ? c : 0xc0 | c >> 6);
    out[1] = (char)(c < 0x80 ? 0 : 0x80 | (c & 0x3f));
    out[2] = '\0';
}

static int number_of(const json_t *vocab, const char *token)
{
    const json_t *value = json_object_get(vocab, token);
    json_int_t number = json_integer_value(value);
    return json_is_integer(value) && number >= 0 && number < MOST_TOKENS ? (int)number : -1;
}

static merge *find_merge(const fbi_bpe *bpe, int left, int right)
{
    const int key[2] = {left, right};
    size_t at = XXH3_64bits(key, sizeof key) & (bpe->slots - 1);
    while (bpe->merges[at].made >= 0 &&
           (bpe->merges[at].left != left || bpe->merges[at].right != right))
        at = (at + 1) & (bpe->slots - 1);
    return &bpe->merges[at];
}

/* "left right"; the token that they make is both, one behind the other. */
static bool read_merge(fbi_bpe *bpe, const json_t *vocab, char *line, int rank)
{
    char *space = strchr(line, ' ');
    if (!space || space == line || !space[1] || strchr(space + 1, ' '))
        return false;
    *space = '\0';
    int left = number_of(vocab, line), right = number_of(vocab, space + 1);
    memmove(space, space + 1, strlen(space + 1) + 1);
    int made = number_of(vocab, line);
    if (left < 0 || right < 0 || made < 0)
        return false;
    merge *m = find_merge(bpe, left, right);
    if (m->made < 0)
        *m = (merge){left, right, rank, made};
    return true;
}

static size_t lines_of(const char *text)
{
    size_t n = 1;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static bool read_merges(fbi_bpe *bpe, const json_t *vocab, const char *merges, char *text,
                        size_t size)
{
    for (bpe->slots = 2; bpe->slots < 2 * lines_of(merges);)
        bpe->slots *= 2;
    char *copy = strdup(merges), *rest = copy;
    bpe->merges = malloc(bpe->slots * sizeof *bpe->merges);
    bool good = copy && bpe->merges;
    for (size_t i = 0; good && i < bpe->slots; i++)
        bpe->merges[i].made = -1;
    if (!good)
        snprintf(text, size, "no memory");
    int number = 0;
    for (char *line; good && (line = strsep(&rest, "\n"));) {
        number++;
        line[strcspn(line, "\r")] = '\0';
        if (!*line || (number == 1 && *line == '#')) /* "#version: 0.2" */
            continue;
        char shown[64];
        snprintf(shown, sizeof shown, "%s", line);
        good = read_merge(bpe, vocab, line, number);
        if (!good)
            snprintf(text, size,
                     "merges: line %d: \"%s\" is not two tokens of the vocabulary that make a "
                     "third one",
                     number, shown);
    }
    free(copy);
    return good;
}

static bool read_bytes(fbi_bpe *bpe, const json_t *vocab, char *text, size_t size)
{
    for (int b = 0; b < BYTES; b++) {
        char name[3];
        to_utf8(character_of(b), name);
        bpe->of_byte[b] = number_of(vocab, name);
        if (bpe->of_byte[b] < 0) {
            snprintf(text, size,
                     "vocabulary: has no token \"%s\" for the byte 0x%02x: is this the "
                     "encoder.json of a byte-level encoding of at most %d tokens?",
                     name, b, MOST_TOKENS);
            return false;
        }
    }
    return true;
}

fbi_bpe *fbi_bpe_new(const char *vocab, const char *merges, char *text, size_t size)
{
    json_error_t error;
    json_t *tokens = json_loads(vocab, 0, &error);
    fbi_bpe *bpe = calloc(1, sizeof *bpe);
    bool good = false;
    if (!json_is_object(tokens))
        snprintf(text, size, "vocabulary: is no JSON object: line %d: %s", error.line, error.text);
    else if (!bpe || !(bpe->words = calloc(CACHED_WORDS, sizeof *bpe->words)))
        snprintf(text, size, "no memory");
    else
        good = read_bytes(bpe, tokens, text, size) && read_merges(bpe, tokens, merges, text, size);
    if (good)
        bpe->end = number_of(tokens, "<|endoftext|>");
    json_decref(tokens);
    if (good)
        return bpe;
    fbi_bpe_free(bpe);
    return NULL;
}

void fbi_bpe_free(fbi_bpe *bpe)
{
    if (!bpe)
        return;
    for (int i = 0; bpe->words && i < CACHED_WORDS; i++)
        free(bpe->words[i].bytes);
    free(bpe->words);
    free(bpe->merges);
    free(bpe->parts);
    free(bpe->cache.token);
    free(bpe);
}

int fbi_bpe_end(const fbi_bpe *bpe)
{
    return bpe->end;
}

/* --- words --- */

bool fbi_tokens_add(fbi_tokens *t, int token)
{
    if (t->n == t->room) {
        int64_t room = t->room ? 2 * t->room : 1024;
        uint16_t *larger = realloc(t->token, (size_t)room * sizeof *larger);
        if (!larger)
            return false;
        t->token = larger;
        t->room = room;
    }
    t->token[t->n++] = (uint16_t)token;
    return true;
}

/* Merge the pair that stands first in the file, at all its places, until there is none. */
static int merge_short(const fbi_bpe *bpe, int *part, int n)
{
    for (;;) {
        const merge *best = NULL;
        for (int i = 0; i + 1 < n; i++) {
            const merge *m = find_merge(bpe, part[i], part[i + 1]);
            if (m->made >= 0 && (!best || m->rank < best->rank))
                best = m;
        }
        if (!best)
            return n;
        int kept = 0;
        for (int i = 0; i < n; i++) {
            bool pair = i + 1 < n && part[i] == best->left && part[i + 1] == best->right;
            part[kept++] = pair ? best->made : part[i];
            i += pair;
        }
        n = kept;
    }
}

/* --- long words: the same by a heap, whose time grows no faster than n log n --- */

/* A pair that can be merged, unless its parts have changed meanwhile. */
typedef struct pair {
    int rank, at, left, right;
} pair;

typedef struct parts {
    const fbi_bpe *bpe;
    int *part, *next, *before, n; /* next of the last: n; before the first: -1 */
    pair *heap;
    int waiting;
} parts;

static bool comes_first(const pair *a, const pair *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void push(parts *p, int at)
{
    if (at < 0 || p->next[at] == p->n)
        return;
    const merge *m = find_merge(p->bpe, p->part[at], p->part[p->next[at]]);
    if (m->made < 0)
        return;
    pair new = {m->rank, at, m->left, m->right};
    int i = p->waiting++;
    for (; i && comes_first(&new, &p->heap[(i - 1) / 2]); i = (i - 1) / 2)
        p->heap[i] = p->heap[(i - 1) / 2];
    p->heap[i] = new;
}

static pair pop(parts *p)
{
    pair first = p->heap[0], last = p->heap[--p->waiting];
    int i = 0;
    for (int child; (child = 2 * i + 1) < p->waiting; i = child) {
        if (child + 1 < p->waiting && comes_first(&p->heap[child + 1], &p->heap[child]))
            child++;
        if (!comes_first(&p->heap[child], &last))
            break;
        p->heap[i] = p->heap[child];
    }
    p->heap[i] = last;
    return first;
}

/* The left part becomes both; what a part that is gone was, no pair is. */
static void merge_pair(parts *p, const pair *best)
{
    int right = p->part[best->at] == best->left ? p->next[best->at] : p->n;
    if (right == p->n || p->part[right] != best->right)
        return;
    p->part[best->at] = find_merge(p->bpe, best->left, best->right)->made;
    p->part[right] = -1;
    p->next[best->at] = p->next[right];
    if (p->next[right] < p->n)
        p->before[p->next[right]] = best->at;
    push(p, p->before[best->at]);
    push(p, best->at);
}

/* -1: no memory. Every merge adds two pairs and takes a part: there are never more than 3 n. */
static int merge_long(const fbi_bpe *bpe, int *part, int n)
{
    parts p = {.bpe = bpe, .part = part, .n = n};
    p.next = malloc((size_t)n * (2 * sizeof *p.next + 3 * sizeof *p.heap));
    if (!p.next)
        return -1;
    p.before = p.next + n;
    p.heap = (pair *)(p.before + n);
    for (int i = 0; i < n; i++) {
        p.next[i] = i + 1;
        p.before[i] = i - 1;
    }
    for (int i = 0; i < n; i++)
        push(&p, i);
    while (p.waiting) {
        pair best = pop(&p);
        merge_pair(&p, &best);
    }
    int kept = 0;
    for (int i = 0; i < n; i = p.next[i])
        part[kept++] = part[i];
    free(p.next);
    return kept;
}

static bool encode_word(fbi_bpe *bpe, const unsigned char *s, size_t n, fbi_tokens *tokens)
{
    if (n > (size_t)bpe->parts_room) {
        int *larger = realloc(bpe->parts, n * sizeof *larger);
        if (!larger)
            return false;
        bpe->parts = larger;
        bpe->parts_room = (int)n;
    }
    for (size_t i = 0; i < n; i++)
        bpe->parts[i] = bpe->of_byte[s[i]];
    int made =
        n > SHORT_WORD ? merge_long(bpe, bpe->parts, (int)n) : merge_short(bpe, bpe->parts, (int)n);
    if (made < 0)
        return false;
    for (int i = 0; i < made; i++)
        if (!fbi_tokens_add(tokens, bpe->parts[i]))
            return false;
    return true;
}

/* Keep what a word became, if its slot is free. */
static bool remember(fbi_bpe *bpe, word *w, uint64_t hash, const unsigned char *s, size_t n,
                     const fbi_tokens *tokens, int64_t from)
{
    if (w->hash || bpe->cache.n > INT32_MAX / 2 || !(w->bytes = malloc(n)))
        return true; /* it goes without */
    memcpy(w->bytes, s, n);
    w->hash = hash;
    w->length = (uint32_t)n;
    w->at = (uint32_t)bpe->cache.n;
    w->n = (uint32_t)(tokens->n - from);
    for (int64_t i = from; i < tokens->n; i++)
        if (!fbi_tokens_add(&bpe->cache, tokens->token[i]))
            return false;
    return true;
}

/* Words come again and again. */
static bool add_word(fbi_bpe *bpe, const unsigned char *s, size_t n, fbi_tokens *tokens)
{
    uint64_t hash = XXH3_64bits(s, n) | 1;
    word *w = &bpe->words[(hash >> 1) % CACHED_WORDS];
    if (w->hash == hash && w->length == n && !memcmp(w->bytes, s, n)) {
        for (uint32_t i = 0; i < w->n; i++)
            if (!fbi_tokens_add(tokens, bpe->cache.token[w->at + i]))
                return false;
        return true;
    }
    int64_t from = tokens->n;
    return encode_word(bpe, s, n, tokens) && remember(bpe, w, hash, s, n, tokens, from);
}

/* --- the pattern of words: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+|
 * ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ --- */

static size_t suffix_at(const unsigned char *s, size_t n)
{
    static const char *const suffixes[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        size_t length = strlen(suffixes[i]);
        if (n >= length && !memcmp(s, suffixes[i], length))
            return length;
    }
    return 0;
}

/* Characters of one kind from `at` on. */
static size_t run_of(const unsigned char *s, size_t n, size_t at, fbi_char_kind kind)
{
    size_t used;
    while (at < n && at < LONG_WORD && fbi_char_at(s + at, n - at, &used) == kind)
        at += used;
    return at;
}

/* White space, but for its last character if something follows: that one belongs to the next word
 * if it is a blank, and else stands alone. */
static size_t space_at(const unsigned char *s, size_t n)
{
    size_t at = 0, last = 0, used;
    while (at < n && at < LONG_WORD && fbi_char_at(s + at, n - at, &used) == FBI_CHAR_SPACE) {
        last = at;
        at += used;
    }
    return at < n && last ? last : at;
}

static size_t word_at(const unsigned char *s, size_t n)
{
    size_t used, blank = *s == ' ' && n > 1, suffix = suffix_at(s, n);
    if (suffix)
        return suffix;
    fbi_char_kind kind = fbi_char_at(s + blank, n - blank, &used);
    return kind == FBI_CHAR_SPACE ? space_at(s, n) : run_of(s, n, blank, kind);
}

bool fbi_bpe_encode(fbi_bpe *bpe, const char *bytes, size_t n, fbi_tokens *tokens)
{
    const unsigned char *s = (const unsigned char *)bytes;
    while (n) {
        size_t length = word_at(s, n);
        if (!add_word(bpe, s, length, tokens))
            return false;
        s += length;
        n -= length;
    }
    return true;
}
