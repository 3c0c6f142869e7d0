/* A checkpoint's folder: its name, its manifest, whether it is whole. */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "io/stored_priv.h"

void fbi_checkpoint_path(const char *dir, int64_t step, char *out, size_t size)
{
    snprintf(out, size, "%s/step-%09lld", dir, (long long)step);
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

int64_t *fbi_checkpoint_list(const char *dir, int *n)
{
    *n = 0;
    int64_t *steps = NULL;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char *end;
        if (strncmp(e->d_name, "step-", 5) || !isdigit((unsigned char)e->d_name[5]))
            continue;
        long long step = strtoll(e->d_name + 5, &end, 10);
        if (*end)
            continue;
        int64_t *more = realloc(steps, sizeof *steps * (size_t)(*n + 1));
        if (!more)
            break;
        steps = more;
        steps[(*n)++] = step;
    }
    if (d)
        closedir(d);
    if (*n)
        qsort(steps, (size_t)*n, sizeof *steps, newest_first);
    return steps;
}

/* One file of the manifest: inside the folder, of the right size. */
static bool check_file(const char *path, json_t *file, char *text, size_t size)
{
    const char *name = json_string_value(json_object_get(file, "name"));
    const char *hash = json_string_value(json_object_get(file, "xxh3"));
    json_int_t bytes = json_integer_value(json_object_get(file, "bytes"));
    if (!name || !hash || strchr(name, '/') || !strcmp(name, "..") || !*name) {
        snprintf(text, size,
                 "the manifest names the file \"%s\", which lies outside the checkpoint: "
                 "refused",
                 name ? name : "");
        return false;
    }
    char full[FBI_CHECKPOINT_PATH + 300];
    snprintf(full, sizeof full, "%s/%s", path, name);
    struct stat info;
    if (lstat(full, &info) || !S_ISREG(info.st_mode)) {
        snprintf(text, size, "%s is missing", name);
        return false;
    }
    if (info.st_size != bytes) {
        snprintf(text, size, "%s is %lld bytes, the manifest says %lld", name,
                 (long long)info.st_size, (long long)bytes);
        return false;
    }
    return true;
}

/* All that the files hold. */
static bool check_contents(const char *path, json_t *root, char *text, size_t size)
{
    fbi_stored stored;
    if (!fbi_stored_open(&stored, path, root, text, size))
        return false;
    bool good = fbi_stored_verify(&stored);
    fbi_stored_close(&stored);
    return good;
}

static json_t *load_json(const char *path, json_error_t *error)
{
    char name[FBI_CHECKPOINT_PATH + 32];
    snprintf(name, sizeof name, "%s/manifest.json", path);
    return json_load_file(name, JSON_REJECT_DUPLICATES, error);
}

bool fbi_manifest_newer(const char *path)
{
    json_t *root = load_json(path, NULL);
    bool newer = json_integer_value(json_object_get(root, "format")) > FBI_CHECKPOINT_FORMAT;
    json_decref(root);
    return newer;
}

bool fbi_manifest_hash(json_t *root, char hex[17])
{
    json_t *own = json_incref(json_object_get(root, "xxh3"));
    json_object_del(root, "xxh3");
    char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
    if (text)
        snprintf(hex, 17, "%016llx", (unsigned long long)XXH3_64bits(text, strlen(text)));
    if (own)
        json_object_set_new(root, "xxh3", own);
    free(text);
    return text != NULL;
}

json_t *fbi_manifest_load(const char *path, bool deep, char *text, size_t size)
{
    json_error_t error;
    char hash[17] = "";
    json_t *root = load_json(path, &error);
    if (!root) {
        snprintf(text, size, "manifest.json: %s", error.text);
        return NULL;
    }
    json_t *files = json_object_get(root, "files");
    json_int_t format = json_integer_value(json_object_get(root, "format"));
    const char *own = json_string_value(json_object_get(root, "xxh3"));
    bool good = false;
    if (format > FBI_CHECKPOINT_FORMAT)
        snprintf(text, size, "has format %lld; this version reads up to %d: update Flambeau",
                 (long long)format, FBI_CHECKPOINT_FORMAT);
    else if (format < 1 || !json_is_object(json_object_get(root, "tensors")) ||
             !json_is_object(json_object_get(root, "values")) || json_array_size(files) == 0)
        snprintf(text, size, "manifest.json is no manifest of a checkpoint");
    else
        good = true;
    for (size_t i = 0; good && i < json_array_size(files); i++)
        good = check_file(path, json_array_get(files, i), text, size);
    if (good && (!own || !fbi_manifest_hash(root, hash) || strcmp(own, hash))) {
        snprintf(text, size, "manifest.json has checksum %s, it says %s itself", hash,
                 own ? own : "nothing");
        good = false;
    }
    if (good && (!deep || check_contents(path, root, text, size)))
        return root;
    json_decref(root);
    return NULL;
}

void fbi_checkpoint_remove(const char *path)
{
    char name[FBI_CHECKPOINT_PATH + 300];
    snprintf(name, sizeof name, "%s/manifest.json", path);
    unlink(name);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) {
            snprintf(name, sizeof name, "%s/%s", path, e->d_name);
            unlink(name);
        }
    if (dir)
        closedir(dir);
    rmdir(path);
}

bool fb_checkpoint_verify(const char *path, char *text, size_t size)
{
    char spare[512];
    json_t *root = fbi_manifest_load(path, true, text ? text : spare, text ? size : sizeof spare);
    json_decref(root);
    return root != NULL;
}

/* The newest whole one of dir; of those that are the best, if asked for. */
static bool newest_whole(const char *dir, bool best, char *path, size_t size)
{
    int n;
    int64_t *steps = fbi_checkpoint_list(dir, &n);
    bool found = false;
    for (int i = 0; !found && i < n; i++) {
        fbi_checkpoint_path(dir, steps[i], path, size);
        json_t *root = best ? fbi_manifest_load(path, false, (char[512]){0}, 512) : NULL;
        if (!best || json_is_true(json_object_get(root, "best")))
            found = fb_checkpoint_verify(path, NULL, 0);
        json_decref(root);
    }
    free(steps);
    return found;
}

bool fb_checkpoint_latest(const char *dir, char *path, size_t size)
{
    return newest_whole(dir, false, path, size);
}

bool fb_checkpoint_best(const char *dir, char *path, size_t size)
{
    return newest_whole(dir, true, path, size);
}
