#include "io/file_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

enum { CHUNK = 1 << 20, WRITE_AT_ONCE = 1 << 30, SEAL_BYTES = 32 };
static const char seal_begin[] = "flambeau xxh3: ";

bool fbi_file_write(const char *path, const void *data, size_t bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return false;
    const char *at = data;
    while (bytes) {
        ssize_t n = write(fd, at, bytes < WRITE_AT_ONCE ? bytes : WRITE_AT_ONCE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        at += n;
        bytes -= (size_t)n;
    }
    bool good = bytes == 0 && fsync(fd) == 0;
    int why = errno;
    good = close(fd) == 0 && good;
    if (!good && why)
        errno = why; /* of the first failure */
    return good;
}

bool fbi_file_read_at(int fd, void *out, size_t bytes, int64_t at)
{
    char *to = out;
    errno = 0;
    while (bytes) {
        ssize_t n = pread(fd, to, bytes, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        to += n;
        at += n;
        bytes -= (size_t)n;
    }
    return true;
}

bool fbi_file_write_at(int fd, const void *data, size_t bytes, int64_t at)
{
    const char *from = data;
    while (bytes) {
        ssize_t n = pwrite(fd, from, bytes, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        from += n;
        at += n;
        bytes -= (size_t)n;
    }
    return true;
}

bool fbi_file_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool good = fsync(fd) == 0;
    int why = errno;
    close(fd);
    errno = why;
    return good;
}

void fbi_hash_hex(const void *data, size_t bytes, char hex[17])
{
    snprintf(hex, 17, "%016llx", (unsigned long long)XXH3_64bits(data, bytes));
}

bool fbi_file_hash(const char *path, char hex[17])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    char *buf = malloc(CHUNK);
    XXH3_state_t *state = XXH3_createState();
    ssize_t got = -1;
    errno = ENOMEM;
    if (buf && state) {
        XXH3_64bits_reset(state);
        while ((got = read(fd, buf, CHUNK)) > 0)
            XXH3_64bits_update(state, buf, (size_t)got);
        snprintf(hex, 17, "%016llx", (unsigned long long)XXH3_64bits_digest(state));
    }
    int why = errno;
    XXH3_freeState(state);
    free(buf);
    close(fd);
    errno = why;
    return got == 0;
}

static void make_seal(const void *data, size_t bytes, char seal[SEAL_BYTES + 1])
{
    char hex[17];
    fbi_hash_hex(data, bytes, hex);
    snprintf(seal, SEAL_BYTES + 1, "%s%s\n", seal_begin, hex);
}

bool fbi_file_write_sealed(const char *path, const void *data, size_t bytes)
{
    char *copy = malloc(bytes + SEAL_BYTES + 1);
    errno = ENOMEM;
    if (!copy)
        return false;
    memcpy(copy, data, bytes);
    make_seal(data, bytes, copy + bytes);
    bool good = fbi_file_write(path, copy, bytes + SEAL_BYTES);
    int why = errno;
    free(copy);
    errno = why;
    return good;
}

fbi_seal fbi_file_seal(const char *path)
{
    struct stat info;
    FILE *f = fopen(path, "rb");
    if (!f || fstat(fileno(f), &info) || info.st_size < SEAL_BYTES) {
        if (f)
            fclose(f);
        return FBI_SEAL_NONE; /* who opens it will say what is wrong */
    }
    char end[SEAL_BYTES + 1] = "", seal[SEAL_BYTES + 1];
    size_t bytes = (size_t)info.st_size - SEAL_BYTES;
    fbi_seal found = FBI_SEAL_NONE;
    if (!fseek(f, -SEAL_BYTES, SEEK_END) && fread(end, 1, SEAL_BYTES, f) == SEAL_BYTES &&
        !memcmp(end, seal_begin, sizeof seal_begin - 1)) {
        char *data = malloc(bytes + 1);
        rewind(f);
        if (data && fread(data, 1, bytes, f) == bytes) {
            make_seal(data, bytes, seal);
            found = strcmp(seal, end) ? FBI_SEAL_BROKEN : FBI_SEAL_HOLDS;
        }
        free(data);
    }
    fclose(f);
    return found;
}

bool fbi_make_folder(const char *path)
{
    char part[PATH_MAX];
    snprintf(part, sizeof part, "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(part, 0777) && errno != EEXIST)
            return false;
        *slash = '/';
    }
    return mkdir(part, 0777) == 0 || errno == EEXIST;
}

void fbi_utc_time(char out[32])
{
    time_t now = time(NULL);
    struct tm parts;
    gmtime_r(&now, &parts);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &parts);
}
