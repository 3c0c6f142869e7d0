/* Saved tensors in files. */
#include <flambeau/io/saved.h>

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/autograd/saver_priv.h"

typedef struct in_file {
    fbi_image image;
    char path[]; /* its file */
} in_file;

static bool write_all(int fd, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = write(fd, data, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        bytes -= (size_t)n;
    }
    return true;
}

/* How many bytes there were, at most `bytes`; -1: errno. */
static ssize_t read_all(int fd, char *data, size_t bytes)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = read(fd, data + done, bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/* A new file, named; -1: errno. */
static int create(const char *folder, char *path, size_t size)
{
    static atomic_ullong number; /* of all contexts of the process */
    int fd;
    do {
        snprintf(path, size, "%s/saved-%ld-%llu", folder, (long)getpid(),
                 atomic_fetch_add(&number, 1ull) + 1);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    } while (fd < 0 && (errno == EEXIST || errno == EINTR));
    return fd;
}

static fb_status put(fb_context *ctx, const char *folder, in_file *f, size_t room, const void *data)
{
    int fd = create(folder, f->path, room);
    if (fd < 0)
        return fbi_fail(ctx, FB_E_IO, "fb_save_in_files: cannot make %s: %s", f->path,
                        strerror(errno));
    bool ok = write_all(fd, data, f->image.bytes);
    int why = errno;
    if (close(fd) && ok) { /* some file systems say it here */
        ok = false;
        why = errno;
    }
    if (ok)
        return FB_OK;
    unlink(f->path);
    return fbi_fail(ctx, FB_E_IO, "fb_save_in_files: cannot write %zu bytes to %s: %s",
                    f->image.bytes, f->path, strerror(why));
}

static fb_status file_pack(void *user, fb_tensor *t, void **packed)
{
    const char *folder = user;
    fb_context *ctx = t->ctx;
    fbi_image im = fbi_image_of(t);
    size_t room = strlen(folder) + 64;
    in_file *f = malloc(sizeof *f + room);
    void *data = malloc(im.bytes + 1);
    fb_status st = f && data ? fbi_image_read(&im, t, data)
                             : fbi_fail(ctx, FB_E_NOMEM, "fb_save_in_files: no memory");
    if (!st) {
        f->image = im;
        st = put(ctx, folder, f, room, data);
    }
    free(data);
    if (st)
        free(f);
    else
        *packed = f;
    return st;
}

static fb_tensor *file_unpack(void *user, fb_context *ctx, void *packed)
{
    (void)user;
    const in_file *f = packed;
    char *data = malloc(f->image.bytes + 1);
    int fd = data ? open(f->path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd >= 0 ? read_all(fd, data, f->image.bytes) : -1;
    fb_tensor *t = NULL;
    if (!data)
        fbi_fail(ctx, FB_E_NOMEM, "fb_save_in_files: no memory");
    else if (n < 0)
        fbi_fail(ctx, FB_E_IO, "fb_save_in_files: cannot read %s: %s", f->path, strerror(errno));
    else if ((size_t)n < f->image.bytes)
        fbi_fail(ctx, FB_E_IO, "fb_save_in_files: %s has %zd bytes, %zu were written", f->path, n,
                 f->image.bytes);
    else
        t = fbi_image_make(ctx, &f->image, data);
    if (fd >= 0)
        close(fd);
    free(data);
    return t;
}

static void file_drop(void *user, void *packed)
{
    (void)user;
    in_file *f = packed;
    unlink(f->path);
    free(f);
}

static fb_status folder_ok(fb_context *ctx, const char *folder)
{
    struct stat s;
    if (stat(folder, &s))
        return fbi_fail(ctx, FB_E_NOT_FOUND, "fb_save_in_files: %s: %s", folder, strerror(errno));
    if (!S_ISDIR(s.st_mode))
        return fbi_fail(ctx, FB_E_IO, "fb_save_in_files: %s is no folder", folder);
    if (access(folder, W_OK | X_OK))
        return fbi_fail(ctx, FB_E_IO, "fb_save_in_files: no files can be made in %s: %s", folder,
                        strerror(errno));
    return FB_OK;
}

fb_status fb_save_in_files(fb_context *ctx, const char *folder)
{
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    FBI_ENTRY(ctx);
    if (!folder)
        return fbi_fail(ctx, FB_E_ARG, "fb_save_in_files: the folder is NULL");
    fb_status st = folder_ok(ctx, folder);
    char *copy = st ? NULL : strdup(folder);
    if (!st && !copy)
        st = fbi_fail(ctx, FB_E_NOMEM, "fb_save_in_files: no memory");
    if (!st)
        st = fb_saved_tensors_hooks(ctx, &(fb_saved_hooks){.pack = file_pack,
                                                           .unpack = file_unpack,
                                                           .drop = file_drop,
                                                           .close = free,
                                                           .user = copy,
                                                           .keep_leaves = true});
    if (st)
        free(copy);
    return st;
}
