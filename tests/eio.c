/* Makes the nth and later calls of a kind on files whose path has a given part fail with EIO, as a
 * disk does that dies. Loaded in front of the C library:
 *   EIO_CALL = write | sync | read     EIO_PATH = part of a path     EIO_FROM, EIO_COUNT = numbers
 * Calls are counted from 1; EIO_COUNT of them fail, all from EIO_FROM on if it is not given. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

static int fails(const char *call, int fd) {
    const char *wanted = getenv("EIO_CALL"), *part = getenv("EIO_PATH");
    const char *from = getenv("EIO_FROM"), *count = getenv("EIO_COUNT");
    char link[64], path[4096];
    if (!wanted || !part || strcmp(wanted, call))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0)
        return 0;
    path[len] = 0;
    if (!strstr(path, part))
        return 0;
    long number = atomic_fetch_add(&calls, 1) + 1, first = from ? atol(from) : 1;
    if (number < first || (count && number >= first + atol(count)))
        return 0;
    errno = EIO;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *bytes, size_t len) {
    return fails("write", fd) ? -1 : REAL(write)(fd, bytes, len);
}

ssize_t read(int fd, void *bytes, size_t len) {
    return fails("read", fd) ? -1 : REAL(read)(fd, bytes, len);
}

int fsync(int fd) {
    return fails("sync", fd) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd) {
    return fails("sync", fd) ? -1 : REAL(fdatasync)(fd);
}
