/* Every input of tests/fuzz/corpus once more: none may crash, leak or hang. What tests/long/fuzz
 * has found is among them. */
#include <dirent.h>
#include <unistd.h>

#include "tests/check.h"
#include "tests/fuzz/targets.h"

enum { MOST = 1 << 20 };

static int replay(const fuzz_target *target, const char *path)
{
    static uint8_t data[MOST];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(data, 1, MOST, f);
    fclose(f);
    uint8_t *exact = malloc(n + !n); /* a sanitizer sees a step behind it */
    memcpy(exact, data, n);
    target->run(exact, n);
    for (size_t cut = 0; cut < n && n < 600; cut += 1 + n / 40) /* and what is left of it */
        target->run(exact, cut);
    free(exact);
    return 1;
}

static void every_input_is_read_or_refused(void **state)
{
    (void)state;
    for (int i = 0; i < n_fuzz_targets; i++) {
        char folder[1024], path[1400];
        int n = 0;
        const fuzz_target *target = fuzz_find(fuzz_targets[i].name);
        snprintf(folder, sizeof folder, "%s/tests/fuzz/corpus/%s", getenv("FLAMBEAU_SOURCE"),
                 target->name);
        DIR *dir = opendir(folder);
        for (struct dirent *e; dir && (e = readdir(dir));) {
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
            if (e->d_name[0] != '.')
                n += replay(target, path);
        }
        if (!n)
            fail_msg("%s: no inputs", folder);
        closedir(dir);
    }
    fuzz_clean();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_input_is_read_or_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
