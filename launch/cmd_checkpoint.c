/* flambeau checkpoint show|verify: what a checkpoint holds, and whether it is whole. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <jansson.h>

#include <flambeau/io/checkpoint.h>

#include "launch/commands_priv.h"

static const char usage[] =
    "usage: flambeau checkpoint show|verify FOLDER\n"
    "FOLDER: one checkpoint (step-000000100), or a run's folder: the newest one\n";

static void show(const char *path, json_t *root)
{
    json_t *run = json_object_get(root, "run");
    printf("checkpoint %s: step %" JSON_INTEGER_FORMAT ", seed %" JSON_INTEGER_FORMAT
           ", shards %" JSON_INTEGER_FORMAT ", threads %" JSON_INTEGER_FORMAT "\n",
           path, json_integer_value(json_object_get(root, "step")),
           json_integer_value(json_object_get(run, "seed")),
           json_integer_value(json_object_get(run, "shards")),
           json_integer_value(json_object_get(run, "threads")));
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(root, "tensors"), key, value)
    {
        char *shape = json_dumps(json_object_get(value, "shape"), 0);
        printf("  %-40s %-4s %s\n", key, json_string_value(json_object_get(value, "dtype")),
               shape ? shape : "");
        free(shape);
    }
    json_object_foreach(json_object_get(root, "values"), key, value)
    {
        if (json_is_integer(value))
            printf("  %-40s %" JSON_INTEGER_FORMAT "\n", key, json_integer_value(value));
        else
            printf("  %-40s %g\n", key, strtod(json_string_value(value), NULL));
    }
}

int fbi_cmd_checkpoint(int argc, char **argv)
{
    if (argc != 3 || (strcmp(argv[1], "show") && strcmp(argv[1], "verify"))) {
        bool help = argc == 2 && !strcmp(argv[1], "--help");
        fputs(usage, help ? stdout : stderr);
        return help ? FBI_EXIT_OK : FBI_EXIT_USAGE;
    }
    char path[4096], manifest[4200], text[512];
    struct stat info;
    snprintf(path, sizeof path, "%s", argv[2]);
    snprintf(manifest, sizeof manifest, "%s/manifest.json", path);
    if (stat(manifest, &info) && !fb_checkpoint_latest(argv[2], path, sizeof path)) {
        fprintf(stderr, "flambeau checkpoint: %s: there is no checkpoint that verifies\n", argv[2]);
        return 1;
    }
    if (!fb_checkpoint_verify(path, text, sizeof text)) {
        fprintf(stderr, "flambeau checkpoint: %s: %s\n", path, text);
        return 1;
    }
    if (!strcmp(argv[1], "verify")) {
        printf("checkpoint %s is whole\n", path);
        return 0;
    }
    snprintf(manifest, sizeof manifest, "%s/manifest.json", path);
    json_t *root = json_load_file(manifest, 0, NULL);
    show(path, root);
    json_decref(root);
    return 0;
}
