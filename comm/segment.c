#include "comm/segment_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct offer {
    char name[48]; /* "": none */
    int32_t leader, ok;
} offer;

/* A new, empty object of a size; nothing is reserved yet. @return descriptor or -1 */
static int create(size_t bytes, char *name, size_t size)
{
    struct timespec now;
    for (int attempt = 0; attempt < 100; attempt++) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        snprintf(name, size, "/flambeau-%ld-%lx-%d", (long)getpid(),
                 (unsigned long)now.tv_nsec ^ (unsigned long)now.tv_sec << 30, attempt);
        int fd = shm_open(name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
        if (fd < 0 && errno == EEXIST)
            continue;
        if (fd < 0)
            return -1;
        if (ftruncate(fd, (off_t)bytes) == 0)
            return fd;
        close(fd);
        shm_unlink(name);
        return -1;
    }
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
        fd = create(bytes, mine.name, sizeof mine.name);
    bool told = exchange->gather(exchange->self, &mine, sizeof mine, all);
    if (told && leader >= 0 && all[leader].name[0]) {
        if (fd < 0)
            fd = shm_open(all[leader].name, O_RDWR | O_CLOEXEC, 0600);
        mine.ok = fd >= 0 && reserve_and_map(fd, bytes, part_at, part_bytes, out);
    } else {
        mine.ok = 0;
    }
    char name[sizeof mine.name];
    memcpy(name, mine.name, sizeof name);
    told = told && exchange->gather(exchange->self, &mine, sizeof mine, all);
    bool ok = told && mine.ok;
    for (int i = 0; ok && i < exchange->size; i++)
        if (all[i].leader == leader && !all[i].ok)
            ok = false;
    if (fd >= 0)
        close(fd);
    if (name[0] && leader == exchange->rank)
        shm_unlink(name);
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
