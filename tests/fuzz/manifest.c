/* Hostile manifests and indices of checkpoints. The first byte says what the others are: 'm' a
 * manifest, whose own checksum is made right, beside the files of tests/io/formats/checkpoint-2;
 * 'p' a tensor and rows of the index. */
#include "tests/fuzz/targets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/stored_priv.h"

enum { MOST_BYTES = 1 << 20, MOST_PIECES = 64 };

/* --- manifests --- */

static char folder[64];

static void remove_folder(void)
{
    static const char *const names[] = {"data.h5", "index.h5", "manifest.json"};
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

/* The folder that every manifest is put into, with links to whole files. */
static bool have_folder(void)
{
    const char *source = getenv("FLAMBEAU_SOURCE");
    char from[512], to[128];
    if (*folder)
        return true;
    snprintf(folder, sizeof folder, "/tmp/flambeau-fuzz-XXXXXX");
    if (!source || !mkdtemp(folder)) {
        fprintf(stderr, "FLAMBEAU_SOURCE must name the sources, and /tmp must be there\n");
        abort();
    }
    atexit(remove_folder);
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "index.h5" : "data.h5";
        snprintf(from, sizeof from, "cp '%s/tests/io/formats/checkpoint-2/%s' %s", source, name,
                 folder);
        snprintf(to, sizeof to, "%s/%s", folder, name);
        if (system(from) || access(to, R_OK))
            abort();
    }
    return true;
}

/* Every tensor that is small enough to be read, as flambeau checkpoint diff does. */
static void read_all(json_t *root)
{
    char text[512];
    fbi_stored stored;
    const char *key;
    json_t *entry;
    if (!fbi_stored_open(&stored, folder, root, text, sizeof text))
        return;
    json_object_foreach(json_object_get(root, "tensors"), key, entry)
    {
        fbi_stored_tensor t;
        if (!fbi_stored_tensor_of(entry, &t) || t.bytes > MOST_BYTES)
            continue;
        char *values = malloc((size_t)t.bytes);
        if (values || !t.bytes)
            fbi_stored_read(&stored, key, &t, values);
        free(values);
    }
    fbi_stored_close(&stored);
}

static void try_manifest(const char *data, size_t size)
{
    char path[128], hex[17], text[512];
    json_t *root = json_loadb(data, size, JSON_REJECT_DUPLICATES, NULL);
    have_folder();
    snprintf(path, sizeof path, "%s/manifest.json", folder);
    FILE *f = fopen(path, "wb");
    if (!f)
        abort();
    if (json_is_object(root) && fbi_manifest_hash(root, hex)) {
        json_object_set_new(root, "xxh3", json_string(hex));
        json_dumpf(root, f, 0);
    } else {
        fwrite(data, 1, size, f);
    }
    fclose(f);
    json_decref(root);
    root = fbi_manifest_load(folder, true, text, sizeof text);
    if (root)
        read_all(root);
    json_decref(root);
}

/* --- pieces --- */

/* The next number; 0 behind the end. */
static int64_t take(const uint8_t **data, size_t *size)
{
    int64_t n = 0;
    size_t bytes = *size < sizeof n ? *size : sizeof n;
    memcpy(&n, *data, bytes);
    *data += bytes;
    *size -= bytes;
    return n;
}

static fbi_stored_tensor take_tensor(const uint8_t **data, size_t *size)
{
    int64_t dims = take(data, size) & 7;
    json_t *shape = json_array();
    for (int64_t i = 0; i < dims; i++)
        json_array_append_new(shape, json_integer(take(data, size)));
    fbi_stored_tensor t;
    json_t *entry =
        json_pack("{s:s, s:o, s:[i, i]}", "dtype", "I16", "shape", shape, "pieces", 0, MOST_PIECES);
    if (!fbi_stored_tensor_of(entry, &t))
        t.n = -1;
    t.kind = "I16"; /* of the entry, which goes */
    json_decref(entry);
    return t;
}

static void try_pieces(const uint8_t *data, size_t size)
{
    fbi_stored_tensor t = take_tensor(&data, &size);
    fbi_file_pieces p = {0};
    while (t.n >= 0 && size && p.n < MOST_PIECES) {
        fbi_file_piece piece = {.flat = take(&data, &size) & 1};
        piece.bytes = take(&data, &size);
        for (int i = 0; i < 3; i++)
            piece.begin.d[i] = take(&data, &size);
        for (int i = 0; i < 3; i++)
            piece.count.d[i] = take(&data, &size);
        if (!fbi_pieces_add(&p, piece))
            break;
    }
    t.n = t.n < 0 ? -1 : p.n;
    char *whole = t.n >= 0 && t.bytes <= MOST_BYTES ? calloc(1, (size_t)t.bytes + 1) : NULL;
    if (whole && fbi_pieces_cover(&p, &t))
        for (int64_t i = 0; i < p.n; i++) {
            char *values = malloc((size_t)p.v[i].bytes);
            if (values)
                fbi_piece_take(&p.v[i], &t, whole, values);
            if (values)
                fbi_piece_place(&p.v[i], &t, values, whole);
            free(values);
        }
    free(whole);
    fbi_pieces_free(&p);
}

void fuzz_manifest(const uint8_t *data, size_t size)
{
    if (size && *data == 'm')
        try_manifest((const char *)data + 1, size - 1);
    if (size && *data == 'p')
        try_pieces(data + 1, size - 1);
}
