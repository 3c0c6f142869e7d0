/* timeout: 240
 * What fuzzers have found, and inputs that they begin with, once more; and some changes of each. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/check.h"
#include "tests/fuzz/manifest.c"

enum { CHANGES = 150, MOST = 1 << 16 };

static uint64_t seed = 1;

/* Knuth's; the high bits are good. */
static size_t below(size_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(seed >> 33) % n;
}

/* A byte, a run of bytes from elsewhere, or an end. */
static size_t change(uint8_t *data, size_t size)
{
    static const char digits[] = "0123456789-{}[]\",";
    size_t at = 1 + below(size - 1), n = 1 + below(8);
    switch (below(4)) {
    case 0:
        data[at] ^= (uint8_t)(1 << below(8));
        break;
    case 1:
        data[at] = (uint8_t)digits[below(sizeof digits - 1)];
        break;
    case 2:
        if (at + n < size)
            memmove(data + at, data + 1 + below(size - n), n);
        break;
    case 3:
        return at + 1;
    }
    return size;
}

static void replay(const char *path)
{
    static uint8_t data[MOST], other[MOST];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t size = fread(data, 1, sizeof data, f);
    fclose(f);
    assert_true(size > 2);
    fuzz_manifest(data, size);
    for (int i = 0; i < CHANGES; i++) {
        memcpy(other, data, size);
        size_t n = change(other, size);
        fuzz_manifest(other, n > 2 ? change(other, n) : n);
    }
}

static void hostile_manifests_and_indices_are_refused_or_read(void **state)
{
    (void)state;
    char folder_of[512], path[1024];
    int n = 0;
    snprintf(folder_of, sizeof folder_of, "%s/tests/fuzz/corpus/manifest",
             getenv("FLAMBEAU_SOURCE"));
    DIR *dir = opendir(folder_of);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        if (*e->d_name == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder_of, e->d_name);
        replay(path);
        n++;
    }
    closedir(dir);
    assert_true(n >= 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_manifests_and_indices_are_refused_or_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
