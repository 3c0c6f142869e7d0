/* Mirrors: files of fixed names that are mapped, filled in place, and sealed by their head. */
#include "io/mirror_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <xxhash.h>

#include "io/file_priv.h"

/* "FBMIR", and a number that changes with what a head is. */
static const uint64_t magic = 0x46424d4952000000u ^ (uint64_t)sizeof(fbi_mirror_head);
enum { HEAD_BYTES = 4096 }; /* contents begin on a page */

const char *fbi_mirror_folder(void)
{
    const char *dir = getenv(FBI_MEMORY_DIR);
    return dir && *dir ? dir : "/dev/shm";
}

static uint64_t seal_of(const fbi_mirror_head *head)
{
    return XXH3_64bits(head, offsetof(fbi_mirror_head, own));
}

/* --- writing --- */

/* Reserved, not only promised: a page that /dev/shm has no room for would end the process. */
static bool reserve(fbi_mirror *m, size_t bytes, size_t *room)
{
    struct statvfs fs;
    int fd = open(m->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat info;
    if (fd < 0)
        return false;
    int why = fstat(fd, &info) ? errno : info.st_uid == geteuid() ? 0 : EPERM;
    *room = fstatvfs(fd, &fs) ? 0 : (size_t)fs.f_bavail * fs.f_frsize;
    if (!why)
        why = posix_fallocate(fd, 0, (off_t)bytes);
    void *base = why ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!why && base == MAP_FAILED)
        why = errno;
    if (why && info.st_uid == geteuid())
        unlink(m->path); /* what it could not take in full is of no use */
    close(fd);
    errno = why;
    if (why)
        return false;
    m->base = base;
    m->room = bytes;
    return true;
}

char *fbi_mirror_begin(fbi_mirror *m, const fbi_mirror_owner *owner, int slot, size_t bytes,
                       size_t *room)
{
    size_t whole = HEAD_BYTES + bytes;
    if (m->base && m->room < whole)
        fbi_mirror_close(m);
    if (!m->base) {
        snprintf(m->path, sizeof m->path,
                 "%s/flambeau-%016" PRIx64 "-%016" PRIx64 "-%" PRId64 "-%d-%d", fbi_mirror_folder(),
                 owner->folder, owner->first, owner->generation, owner->rank, slot);
        if (!reserve(m, whole, room))
            return NULL;
    }
    memset(m->base, 0, sizeof(fbi_mirror_head));
    atomic_signal_fence(memory_order_seq_cst); /* who is killed in between leaves no head */
    return m->base + HEAD_BYTES;
}

void fbi_mirror_publish(fbi_mirror *m, fbi_mirror_head *head)
{
    head->magic = magic;
    head->xxh3 = XXH3_64bits(m->base + HEAD_BYTES, (size_t)head->bytes);
    head->own = seal_of(head);
    atomic_signal_fence(memory_order_seq_cst);
    memcpy(m->base, head, sizeof *head);
}

void fbi_mirror_close(fbi_mirror *m)
{
    if (m->base)
        munmap(m->base, m->room);
    m->base = NULL;
}

/* --- reading --- */

static bool parse(const char *name, fbi_mirror_owner *o)
{
    int slot, end = 0;
    return sscanf(name, "flambeau-%16" SCNx64 "-%16" SCNx64 "-%" SCNd64 "-%d-%d%n", &o->folder,
                  &o->first, &o->generation, &o->rank, &slot, &end) == 5 &&
           !name[end];
}

/* A head that is whole, of a file of ours; -1: there is none. */
static int open_head(const char *path, fbi_mirror_head *head)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -1;
    bool good = !fstat(fd, &info) && S_ISREG(info.st_mode) && info.st_uid == geteuid() &&
                info.st_size >= HEAD_BYTES && fbi_file_read_at(fd, head, sizeof *head, 0);
    if (good && head->magic == magic && head->own == seal_of(head) && head->bytes >= 0 &&
        head->bytes <= info.st_size - HEAD_BYTES)
        return fd;
    close(fd);
    return -1;
}

static char *read_contents(const char *path, fbi_mirror_head *head)
{
    int fd = open_head(path, head);
    char *data = fd < 0 ? NULL : malloc((size_t)head->bytes + 1);
    bool good = data && fbi_file_read_at(fd, data, (size_t)head->bytes, HEAD_BYTES) &&
                XXH3_64bits(data, (size_t)head->bytes) == head->xxh3;
    if (fd >= 0)
        close(fd);
    if (good)
        return data;
    free(data);
    return NULL;
}

typedef struct listed {
    char path[512];
    fbi_mirror_owner owner;
    int64_t step; /* -1: no whole head */
} listed;

static int newest_first(const void *a, const void *b)
{
    const listed *x = a, *y = b;
    if (x->step != y->step)
        return x->step < y->step ? 1 : -1;
    if (x->owner.generation != y->owner.generation)
        return x->owner.generation < y->owner.generation ? 1 : -1;
    return x->owner.rank < y->owner.rank ? -1 : x->owner.rank > y->owner.rank;
}

/* All files of a folder of checkpoints, malloc'ed; NULL, n = 0: none. */
static listed *list(uint64_t folder, int *n)
{
    listed *all = NULL;
    DIR *dir = opendir(fbi_mirror_folder());
    *n = 0;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        listed l = {.step = -1};
        fbi_mirror_head head;
        if (!parse(e->d_name, &l.owner) || l.owner.folder != folder)
            continue;
        snprintf(l.path, sizeof l.path, "%s/%s", fbi_mirror_folder(), e->d_name);
        int fd = open_head(l.path, &head);
        if (fd >= 0) {
            l.step = head.step;
            close(fd);
        }
        listed *more = realloc(all, (size_t)(*n + 1) * sizeof *all);
        if (!more)
            break;
        all = more;
        all[(*n)++] = l;
    }
    if (dir)
        closedir(dir);
    if (*n)
        qsort(all, (size_t)*n, sizeof *all, newest_first);
    return all;
}

bool fbi_mirror_newest(const fbi_mirror_owner *folder, fbi_mirror_head *head, char **contents)
{
    int n;
    listed *all = list(folder->folder, &n);
    *contents = NULL;
    for (int i = 0; i < n && !*contents; i++)
        if (all[i].step >= 0 && all[i].owner.first == folder->first)
            *contents = read_contents(all[i].path, head);
    free(all);
    return *contents != NULL;
}

static bool is_kept(const listed *l, const fbi_mirror_head *keep)
{
    return keep && l->step == keep->step && l->owner.generation == keep->owner.generation &&
           l->owner.rank == keep->owner.rank && l->owner.first == keep->owner.first;
}

void fbi_mirror_sweep(const fbi_mirror_owner *owner, const fbi_mirror_head *keep)
{
    int n;
    listed *all = list(owner->folder, &n);
    for (int i = 0; i < n; i++) {
        bool old =
            all[i].owner.first != owner->first || all[i].owner.generation < owner->generation;
        if (old && !is_kept(&all[i], keep))
            unlink(all[i].path); /* one of another user stays */
    }
    free(all);
}
