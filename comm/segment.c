#include "comm/segment_priv.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where the leader's memory is to be found: its descriptor has no name, so that nothing is left
 * behind whenever a rank dies. */
typedef struct offer {
    int64_t pid, device, inode; /* pid 0: none */
    int32_t fd, leader, ok;
} offer;

/* New, empty memory of a size; nothing is reserved yet. @return descriptor or -1 */
static int create(size_t bytes, offer *mine)
{
    struct stat info;
    int fd = memfd_create("flambeau", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    if (ftruncate(fd, (off_t)bytes) || fstat(fd, &info)) {
        close(fd);
        return -1;
    }
    mine->pid = getpid();
    mine->fd = fd;
    mine->device = (int64_t)info.st_dev;
    mine->inode = (int64_t)info.st_ino;
    return fd;
}

/* The leader's memory, by its descriptor. Where process numbers differ (containers) that may be
 * another file, or none. @return descriptor or -1 */
static int join(const offer *from)
{
    char path[64];
    struct stat info;
    snprintf(path, sizeof path, "/proc/%lld/fd/%d", (long long)from->pid, from->fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (!fstat(fd, &info) && (int64_t)info.st_dev == from->device &&
        (int64_t)info.st_ino == from->inode)
        return fd;
    close(fd);
    return -1;
}

static bool reserve_and_map(int fd, size_t bytes, size_t part_at, size_t part_bytes,
                            fbi_segment *out)
{
    if (part_bytes && posix_fallocate(fd, (off_t)part_at, (off_t)part_bytes))
        return false;
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return false;
    *out = (fbi_segment){base, bytes};
    return true;
}

bool fbi_segment_open(const fbi_exchange *exchange, int leader, size_t bytes, size_t part_at,
                      size_t part_bytes, fbi_segment *out)
{
    offer mine = {.leader = leader, .ok = 1};
    int fd = -1;
    *out = (fbi_segment){NULL, 0};
    offer *all = calloc((size_t)exchange->size, sizeof *all);
    if (!all)
        return false; /* the others find this rank missing, with its error */
    if (leader == exchange->rank)
        fd = create(bytes, &mine);
    bool told = exchange->gather(exchange->self, &mine, sizeof mine, all);
    if (told && leader >= 0 && all[leader].pid) {
        if (fd < 0)
            fd = join(&all[leader]);
        mine.ok = fd >= 0 && reserve_and_map(fd, bytes, part_at, part_bytes, out);
    } else {
        mine.ok = 0;
    }
    told = told && exchange->gather(exchange->self, &mine, sizeof mine, all);
    bool ok = told && mine.ok;
    for (int i = 0; ok && i < exchange->size; i++)
        if (all[i].leader == leader && !all[i].ok)
            ok = false;
    if (fd >= 0)
        close(fd);
    if (!ok)
        fbi_segment_close(out);
    free(all);
    return ok;
}

void fbi_segment_close(fbi_segment *segment)
{
    if (segment->base)
        munmap(segment->base, segment->bytes);
    *segment = (fbi_segment){NULL, 0};
}
