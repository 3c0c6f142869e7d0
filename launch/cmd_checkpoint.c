/* flambeau checkpoint show|verify: what a checkpoint holds, and whether it is whole. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/checkpoint_priv.h"
#include "launch/commands_priv.h"

static const char usage[] =
    "usage: flambeau checkpoint show|verify FOLDER\n"
    "FOLDER: one checkpoint (runs/a/step-000000100), or a run's folder (runs/a): the newest one\n"
    "show: what it holds; verify: compare its files with their checksums\n";

/* Of the manifest's "run": numbers and texts, in its own order. */
static void show_run(json_t *run)
{
    const char *key;
    json_t *value;
    json_object_foreach(run, key, value)
    {
        if (json_is_integer(value))
            printf("  %-12s %" JSON_INTEGER_FORMAT "\n", key, json_integer_value(value));
        else
            printf("  %-12s %s\n", key, json_string_value(value));
    }
}

static void show(const char *path, json_t *root)
{
    const char *key, *saved = json_string_value(json_object_get(root, "saved"));
    json_t *value;
    printf("checkpoint %s: step %" JSON_INTEGER_FORMAT "%s%s, digest %s\nrun\n", path,
           json_integer_value(json_object_get(root, "step")), saved ? ", saved " : "",
           saved ? saved : "", json_string_value(json_object_get(root, "digest")));
    show_run(json_object_get(root, "run"));
    printf("tensors\n");
    json_object_foreach(json_object_get(root, "tensors"), key, value)
    {
        char *shape = json_dumps(json_object_get(value, "shape"), 0);
        printf("  %-40s %-4s %s\n", key, json_string_value(json_object_get(value, "dtype")),
               shape ? shape : "");
        free(shape);
    }
    printf("values\n");
    json_object_foreach(json_object_get(root, "values"), key, value)
    {
        if (json_is_integer(value))
            printf("  %-40s %" JSON_INTEGER_FORMAT "\n", key, json_integer_value(value));
        else
            printf("  %-40s %g\n", key, strtod(json_string_value(value), NULL));
    }
}

/* The checkpoint that is meant by a folder: itself, or the newest whole one in it. */
static bool find(const char *folder, char *path, size_t size)
{
    char manifest[4200];
    struct stat info;
    if (stat(folder, &info)) {
        fprintf(stderr, "flambeau checkpoint: %s: %s\n", folder, strerror(errno));
        return false;
    }
    snprintf(path, size, "%s", folder);
    snprintf(manifest, sizeof manifest, "%s/manifest.json", folder);
    if (!stat(manifest, &info) || fb_checkpoint_latest(folder, path, size))
        return true;
    fprintf(stderr, "flambeau checkpoint: %s: there is no checkpoint that verifies in it\n",
            folder);
    return false;
}

int fbi_cmd_checkpoint(int argc, char **argv)
{
    if (argc != 3 || (strcmp(argv[1], "show") && strcmp(argv[1], "verify"))) {
        bool help = argc == 2 && !strcmp(argv[1], "--help");
        fputs(usage, help ? stdout : stderr);
        return help ? FBI_EXIT_OK : FBI_EXIT_USAGE;
    }
    char path[4096], text[512];
    if (!find(argv[2], path, sizeof path))
        return FBI_EXIT_FAILED;
    json_t *root = fbi_manifest_load(path, true, text, sizeof text);
    if (!root) {
        fprintf(stderr, "flambeau checkpoint: %s: %s\n", path, text);
        return FBI_EXIT_FAILED;
    }
    if (!strcmp(argv[1], "verify"))
        printf("checkpoint %s is whole\n", path);
    else
        show(path, root);
    json_decref(root);
    return FBI_EXIT_OK;
}
