/* flambeau checkpoint show|verify|reshard|diff. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/checkpoint_priv.h"
#include "launch/checkpoint_diff_priv.h"
#include "launch/commands_priv.h"

static const char usage[] =
    "usage: flambeau checkpoint show FOLDER              what it holds\n"
    "       flambeau checkpoint verify FOLDER            compare its files with their checksums\n"
    "       flambeau checkpoint diff FOLDER FOLDER       what differs between two; 1: something\n"
    "       flambeau checkpoint reshard FOLDER OUT N     write it again, into OUT/step-NUMBER, "
    "the\n"
    "                                                    values in N files\n"
    "FOLDER: one checkpoint (runs/a/step-000000100), or a run's folder (runs/a): the newest one\n";

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

/* Find and check one; NULL: said. */
static json_t *load(const char *folder, char *path, size_t size)
{
    char text[512];
    if (!find(folder, path, size))
        return NULL;
    json_t *root = fbi_manifest_load(path, true, text, sizeof text);
    if (!root)
        fprintf(stderr, "flambeau checkpoint: %s: %s\n", path, text);
    return root;
}

static int run_show(char **argv)
{
    char path[4096];
    json_t *root = load(argv[0], path, sizeof path);
    if (root)
        show(path, root);
    json_decref(root);
    return root ? FBI_EXIT_OK : FBI_EXIT_FAILED;
}

static int run_verify(char **argv)
{
    char path[4096];
    json_t *root = load(argv[0], path, sizeof path);
    if (root)
        printf("checkpoint %s is whole\n", path);
    json_decref(root);
    return root ? FBI_EXIT_OK : FBI_EXIT_FAILED;
}

static int run_diff(char **argv)
{
    char path[2][4096];
    json_t *root[2] = {load(argv[0], path[0], sizeof path[0]), NULL};
    if (root[0])
        root[1] = load(argv[1], path[1], sizeof path[1]);
    int code = root[1] ? fbi_checkpoint_diff(path[0], root[0], path[1], root[1]) : FBI_EXIT_FAILED;
    json_decref(root[0]);
    json_decref(root[1]);
    return code;
}

static int run_reshard(char **argv)
{
    enum { MOST_FILES = 4096 };
    char path[4096], text[512];
    int64_t files;
    if (!fbi_parse_count("flambeau checkpoint reshard", "N", argv[2], 1, MOST_FILES, &files))
        return FBI_EXIT_USAGE;
    if (!find(argv[0], path, sizeof path))
        return FBI_EXIT_FAILED;
    if (!fbi_checkpoint_reshard(path, argv[1], files, text, sizeof text)) {
        fprintf(stderr, "flambeau checkpoint: %s: %s\n", path, text);
        return FBI_EXIT_FAILED;
    }
    printf("checkpoint %s is in %s, its values in %lld files\n", path, argv[1], (long long)files);
    return FBI_EXIT_OK;
}

static const struct {
    const char *name;
    int arguments;
    int (*run)(char **argv);
} verbs[] = {{"show", 1, run_show},
             {"verify", 1, run_verify},
             {"diff", 2, run_diff},
             {"reshard", 3, run_reshard}};

int fbi_cmd_checkpoint(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof verbs / sizeof *verbs; i++)
        if (!strcmp(argv[1], verbs[i].name) && argc - 2 == verbs[i].arguments)
            return verbs[i].run(argv + 2);
    bool help = argc == 2 && !strcmp(argv[1], "--help");
    fputs(usage, help ? stdout : stderr);
    return help ? FBI_EXIT_OK : FBI_EXIT_USAGE;
}
