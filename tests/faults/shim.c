/* Loaded with LD_PRELOAD: makes the n-th operation on files of one folder fail, or kills the process there.

   A write that fails has written half of its bytes: a torn page. Counted are writes, syncs, truncations, renames and
   deletions. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { ONCE = 0, FROM_THEN_ON = 1, KILL = 2, KILL_AFTER_SYNC = 3 };

static char folder[PATH_MAX];
static long countdown = -1, seen = 0;
static int code = 0, mode = ONCE, syncs_only = 0;

/* From now on the n-th operation in the folder fails; n = 0 disarms. */
void fault_arm(const char *where, long n, int error, int how, int only_syncs) {
    strncpy(folder, where, sizeof folder - 1);
    countdown = n ? n : -1;
    code = error;
    mode = how;
    syncs_only = only_syncs;
    seen = 0;
}

long fault_seen(void) { return seen; }

/* Whether this operation is to fail. */
static int due(const char *path, int sync) {
    if (!folder[0] || strncmp(path, folder, strlen(folder)) || (syncs_only && !sync)) return 0;
    seen++;
    if (countdown < 0) return 0;
    if (countdown > 0) countdown--;
    if (countdown == 0) {
        if (mode != FROM_THEN_ON) countdown = -1;
        return 1;
    }
    return 0;
}

static int due_file(int file, int sync) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return due(path, sync);
}

static int fail(void) {
    if (mode == KILL || mode == KILL_AFTER_SYNC) kill(getpid(), SIGKILL);
    errno = code;
    return -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void *data, size_t size) {
    if (!due_file(file, 0)) return REAL(write)(file, data, size);
    if (REAL(write)(file, data, size / 2) < 0) return -1;
    return fail();
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    if (!due_file(file, 0)) return REAL(pwrite)(file, data, size, at);
    if (REAL(pwrite)(file, data, size / 2, at) < 0) return -1;
    return fail();
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    if (!due_file(file, 0)) return REAL(pwrite64)(file, data, size, at);
    if (REAL(pwrite64)(file, data, size / 2, at) < 0) return -1;
    return fail();
}

#define SYNC(name)                                       \
    int name(int file) {                                 \
        if (!due_file(file, 1)) return REAL(name)(file); \
        if (mode == KILL_AFTER_SYNC) REAL(name)(file);   \
        return fail();                                   \
    }
SYNC(fsync)
SYNC(fdatasync)

int ftruncate(int file, off_t size) { return due_file(file, 0) ? fail() : REAL(ftruncate)(file, size); }
int ftruncate64(int file, off64_t size) { return due_file(file, 0) ? fail() : REAL(ftruncate64)(file, size); }
int rename(const char *from, const char *to) { return due(to, 0) ? fail() : REAL(rename)(from, to); }
int unlink(const char *path) { return due(path, 0) ? fail() : REAL(unlink)(path); }
