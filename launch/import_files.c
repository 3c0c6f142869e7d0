/* Files in folders, one folder for each class. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "launch/import_priv.h"

static int visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static bool ends_with(const char *name, const char *const *endings)
{
    const char *dot = strrchr(name, '.');
    for (; dot && *endings; endings++)
        if (!strcasecmp(dot, *endings))
            return true;
    return false;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); /* the same on every machine */
}

static bool grow(void **list, int64_t n, size_t bytes)
{
    if (n & (n - 1)) /* room for the next power of two */
        return true;
    void *larger = realloc(*list, (size_t)(n ? 2 * n : 1) * bytes);
    *list = larger ? larger : *list;
    return larger != NULL;
}

static bool add_file(fbi_files *files, const char *folder, const char *class, const char *name)
{
    void *paths = files->paths, *classes = files->classes;
    bool good = grow(&paths, files->n, sizeof *files->paths) &&
                grow(&classes, files->n, sizeof *files->classes);
    files->paths = paths;
    files->classes = classes;
    if (!good || asprintf(&files->paths[files->n], "%s/%s/%s", folder, class, name) < 0)
        return false;
    files->classes[files->n++] = files->n_classes;
    return true;
}

/* The files of one class; it is one if it has any. */
static bool add_class(fbi_files *files, const char *folder, const char *class,
                      const char *const *endings)
{
    char path[4096];
    struct dirent **list;
    snprintf(path, sizeof path, "%s/%s", folder, class);
    int n = scandir(path, &list, visible, by_bytes);
    if (n < 0)
        return errno == ENOTDIR;
    int64_t before = files->n;
    bool good = true;
    for (int i = 0; i < n; i++) {
        if (ends_with(list[i]->d_name, endings))
            good = good && add_file(files, folder, class, list[i]->d_name);
        free(list[i]);
    }
    free(list);
    if (!good || files->n == before)
        return good;
    void *names = files->names;
    good = grow(&names, files->n_classes, sizeof *files->names);
    files->names = names;
    if (!good || !(files->names[files->n_classes] = strdup(class)))
        return false;
    files->n_classes++;
    return true;
}

bool fbi_files_find(fbi_files *files, fb_context *ctx, const char *folder,
                    const char *const *endings)
{
    struct dirent **list;
    *files = (fbi_files){0};
    int n = scandir(folder, &list, visible, by_bytes);
    if (n < 0) {
        fb_fail(ctx, FB_E_NOT_FOUND, "import %s: %s", folder, strerror(errno));
        return false;
    }
    bool good = true;
    for (int i = 0; i < n; i++) {
        good = good && add_class(files, folder, list[i]->d_name, endings);
        free(list[i]);
    }
    free(list);
    if (!good)
        fb_fail(ctx, FB_E_IO, "import %s: cannot list its files: %s", folder, strerror(errno));
    else if (!files->n)
        fb_fail(ctx, FB_E_NOT_FOUND,
                "import %s: no %s files in folders of classes: %s/CLASS/NAME%s is looked for",
                folder, endings[0] + 1, folder, endings[0]);
    return good && files->n;
}

void fbi_files_free(fbi_files *files)
{
    for (int64_t i = 0; i < files->n; i++)
        free(files->paths[i]);
    for (int64_t i = 0; i < files->n_classes; i++)
        free(files->names[i]);
    free(files->paths);
    free(files->classes);
    free(files->names);
    *files = (fbi_files){0};
}
