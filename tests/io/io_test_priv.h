/* A small dataset in a folder of its own, for the tests of this room. */
#ifndef TESTS_IO_IO_TEST_PRIV_H
#define TESTS_IO_IO_TEST_PRIV_H

#include <dirent.h>
#include <unistd.h>

#include <flambeau/io/loader.h>

#include "tests/check.h"

enum { SAMPLES = 103, WIDTH = 6, SHARD = 40 };

/* Sample i: six bytes i, i + 1, ... and the target 3 i. */
static inline void make_dataset(fb_context *ctx, const char *path)
{
    fb_dataset_field fields[] = {{.name = "input",
                                  .dtype = FB_U8,
                                  .shape = FB_SHAPE(WIDTH),
                                  .deliver = FB_SHAPE(2, 3),
                                  .scale = 0.5,
                                  .shift = -1},
                                 {.name = "target", .dtype = FB_I32, .shape = FB_SCALAR}};
    fb_dataset *ds = fb_dataset_create(ctx, path, fields, 2,
                                       FB_OPTS(fb_dataset_options, .shard_samples = SHARD));
    for (int i = 0; i < SAMPLES; i++) {
        uint8_t x[WIDTH];
        int32_t y = 3 * i;
        for (int k = 0; k < WIDTH; k++)
            x[k] = (uint8_t)(i + k);
        fb_dataset_append(ds, 1, (const void *const[]){x, &y});
    }
    fb_dataset_finish(ds);
    fb_dataset_close(ds);
    check_ok(ctx);
}

static inline void make_folder(char folder[64])
{
    strcpy(folder, "/tmp/flambeau-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
}

static inline void remove_folder(const char *folder)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

/* Full path of shard `number` of the dataset in folder. */
static inline void shard_path(const char *folder, int number, char out[512])
{
    char tail[16];
    snprintf(tail, sizeof tail, "-%05d.h5", number);
    DIR *dir = opendir(folder);
    *out = '\0';
    for (struct dirent *e; (e = readdir(dir));)
        if (strstr(e->d_name, tail))
            snprintf(out, 512, "%s/%s", folder, e->d_name);
    closedir(dir);
    assert_true(*out);
}

#endif
