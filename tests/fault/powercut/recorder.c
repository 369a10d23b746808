/* Records, in order, what a program does to the files of one directory, and what it sends and receives on sockets.
 *
 * Preloaded into an unmodified program (LD_PRELOAD).  RELAY_RECORD_DIR is the directory, an absolute path;
 * RELAY_RECORD_LOG takes the records.  Several processes, one after the other, append to one log.
 *
 * Promises: the order of the records is an order in which the calls can have happened.  A write, a change of a name and
 * a send are done and recorded under one lock.  A sync is two records, before and after, because it is long: what was
 * written before the first is on disk at the second.  What was received is recorded after the call, before the program
 * sees it.  So whatever the program does because a sync returned, or bytes came, stands behind that record.
 *
 * Never does: change what the program sees; except that, where the file RELAY_RECORD_EIO names exists, the next sync of
 * a file whose name ends in `-wal` (`.db` where it says `database`) removes that file, syncs nothing and fails with
 * EIO, or, where it says `kill`, the program is killed there, as if it had died on the error.
 * Not seen: what is written through mmap.  SQLite does that to its `-shm` only, which no power cut leaves behind.
 * When it cannot write its log it ends the program with 99.
 *
 * A record: kind, descriptor, result (a negative one is an errno), length of the data, two numbers; then the data.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 65536

struct record {
    uint32_t kind;
    int32_t fd;
    int32_t result;
    uint32_t length;
    uint64_t a;
    uint64_t b;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *directory, *eio;
static size_t directory_length;
static int log_fd = -1;
static unsigned char ours[FDS]; /* 1: a file of the directory, 2: a socket, 4: its name ends in -wal, 8: in .db */

static void put(int kind, int fd, int result, uint64_t a, uint64_t b, const void *data, size_t length) {
    struct record r = {kind, fd, result, (uint32_t)length, a, b};
    struct iovec parts[2] = {{&r, sizeof r}, {(void *)data, length}};
    if (syscall(SYS_writev, log_fd, parts, length ? 2 : 1) != (long)(sizeof r + length)) _exit(99);
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("RELAY_RECORD_LOG");
    directory = getenv("RELAY_RECORD_DIR");
    eio = getenv("RELAY_RECORD_EIO");
    if (!path || !directory) return;
    directory_length = strlen(directory);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) _exit(99);
    log_fd = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 1000);
    if (log_fd < 0) log_fd = fd; else syscall(SYS_close, fd);
    put('P', getpid(), 0, 0, 0, NULL, 0);
}

/* The name inside the directory, "." for the directory itself, NULL for anything else. */
static const char *inside(const char *path) {
    if (log_fd < 0 || !path || strncmp(path, directory, directory_length)) return NULL;
    if (!path[directory_length]) return ".";
    return path[directory_length] == '/' ? path + directory_length + 1 : NULL;
}

static int is_ours(int fd, int what) { return log_fd >= 0 && fd >= 0 && fd < FDS && (ours[fd] & what); }

/* -- names ------------------------------------------------------------------------------------------------------ */

static int open_any(int at, const char *path, int flags, mode_t mode) {
    const char *name = inside(path);
    if (!name) return (int)syscall(SYS_openat, at, path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat st;
    int existed = syscall(SYS_newfstatat, AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
    int fd = (int)syscall(SYS_openat, at, path, flags, mode), saved = errno;
    if (fd >= 0 && fd < FDS) {
        size_t n = strlen(name);
        fstat(fd, &st);
        ours[fd] = 1 | (n > 4 && !strcmp(name + n - 4, "-wal") ? 4 : 0) | (n > 3 && !strcmp(name + n - 3, ".db") ? 8 : 0);
        put('o', fd, !existed, st.st_ino, S_ISDIR(st.st_mode), name, n);
        if (existed && (flags & O_TRUNC)) put('t', fd, 0, 0, 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
    return fd < 0 ? -1 : fd;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        return open_any(AT_FDCWD, path, flags, mode); \
    }
#define OPENAT(name) \
    int name(int at, const char *path, int flags, ...) { \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        return open_any(at, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
int creat(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int fd) {
    if (is_ours(fd, 15)) {
        pthread_mutex_lock(&lock);
        ours[fd] = 0;
        put('c', fd, 0, 0, 0, NULL, 0);
        pthread_mutex_unlock(&lock);
    }
    return (int)syscall(SYS_close, fd);
}

int unlink(const char *path) {
    const char *name = inside(path);
    if (!name) return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0), saved = errno;
    if (!result) put('u', -1, 0, 0, 0, name, strlen(name));
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}

int rename(const char *from, const char *to) {
    const char *a = inside(from), *b = inside(to);
    if (!a || !b) return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0), saved = errno;
    if (!result) {
        char both[2 * 4096];
        size_t n = strlen(a) + 1, m = strlen(b);
        if (n + m > sizeof both) _exit(99);
        memcpy(both, a, n);
        memcpy(both + n, b, m);
        put('r', -1, 0, 0, 0, both, n + m);
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}

/* -- what is in them ---------------------------------------------------------------------------------------------- */

static ssize_t pwrite_any(int fd, const void *data, size_t n, off_t at) {
    if (!is_ours(fd, 1)) return syscall(SYS_pwrite64, fd, data, n, at);
    pthread_mutex_lock(&lock);
    ssize_t result = syscall(SYS_pwrite64, fd, data, n, at);
    int saved = errno;
    if (result > 0) put('w', fd, 0, (uint64_t)at, 0, data, (size_t)result);
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { return pwrite_any(fd, data, n, at); }
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) { return pwrite_any(fd, data, n, at); }

ssize_t write(int fd, const void *data, size_t n) {
    if (is_ours(fd, 1)) {
        /* after the write, because with O_APPEND only then the offset is known */
        pthread_mutex_lock(&lock);
        ssize_t result = syscall(SYS_write, fd, data, n);
        int saved = errno;
        if (result > 0)
            put('w', fd, 0, (uint64_t)(syscall(SYS_lseek, fd, 0, SEEK_CUR) - result), 0, data, (size_t)result);
        pthread_mutex_unlock(&lock);
        errno = saved;
        return result;
    }
    return syscall(SYS_write, fd, data, n);
}

static int truncate_any(int fd, off_t size) {
    if (!is_ours(fd, 1)) return (int)syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_ftruncate, fd, size), saved = errno;
    if (!result) put('t', fd, 0, (uint64_t)size, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}
int ftruncate(int fd, off_t size) { return truncate_any(fd, size); }
int ftruncate64(int fd, off64_t size) { return truncate_any(fd, size); }

static int allocate_any(int fd, int mode, off_t at, off_t n) {
    if (!is_ours(fd, 1)) return (int)syscall(SYS_fallocate, fd, mode, at, n);
    pthread_mutex_lock(&lock);
    int result = (int)syscall(SYS_fallocate, fd, mode, at, n), saved = errno;
    if (!result && mode == 0) put('a', fd, 0, (uint64_t)at, (uint64_t)n, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}
int fallocate(int fd, int mode, off_t at, off_t n) { return allocate_any(fd, mode, at, n); }
int fallocate64(int fd, int mode, off64_t at, off64_t n) { return allocate_any(fd, mode, at, n); }
int posix_fallocate(int fd, off_t at, off_t n) { return allocate_any(fd, 0, at, n) ? errno : 0; }
int posix_fallocate64(int fd, off64_t at, off64_t n) { return allocate_any(fd, 0, at, n) ? errno : 0; }

/* Whether this sync is the one that fails, once; and whether the program dies of it. */
static int fails(int synced, int *dies) {
    int fd = (int)syscall(SYS_openat, AT_FDCWD, eio, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return 0;
    char text[32] = "";
    syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    if (!is_ours(synced, strstr(text, "database") ? 8 : 4)) return 0;
    *dies = text[0] == 'k';
    return syscall(SYS_unlinkat, AT_FDCWD, eio, 0) == 0;
}

static int sync_any(int fd, long number) {
    if (!is_ours(fd, 1)) return (int)syscall(number, fd);
    pthread_mutex_lock(&lock);
    put('s', fd, 0, 0, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    int result, saved, dies = 0;
    if (is_ours(fd, 4 | 8) && eio && fails(fd, &dies)) {
        result = -1;
        saved = EIO;
    } else {
        result = (int)syscall(number, fd);
        saved = errno;
    }
    pthread_mutex_lock(&lock);
    put('S', fd, result ? -saved : 0, 0, 0, NULL, 0);
    if (dies) kill(getpid(), SIGKILL);
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}
int fsync(int fd) { return sync_any(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_any(fd, SYS_fdatasync); }

/* The checksum of a write-ahead log, for the tests: the agent's own takes some 15 ms each MiB. */
uint64_t wal_sum(const unsigned char *data, size_t n, uint32_t first, uint32_t second, int big) {
    for (size_t i = 0; i + 8 <= n; i += 8) {
        uint32_t words[2];
        memcpy(words, data + i, 8);
        if (big) words[0] = __builtin_bswap32(words[0]), words[1] = __builtin_bswap32(words[1]);
        first += words[0] + second;
        second += words[1] + first;
    }
    return (uint64_t)first << 32 | second;
}

/* -- sockets ------------------------------------------------------------------------------------------------------ */

ssize_t send(int fd, const void *data, size_t n, int flags) {
    if (log_fd < 0 || fd < 0 || fd >= FDS) return syscall(SYS_sendto, fd, data, n, flags, NULL, 0);
    pthread_mutex_lock(&lock);
    ssize_t result = syscall(SYS_sendto, fd, data, n, flags, NULL, 0);
    int saved = errno;
    if (result > 0) {
        ours[fd] |= 2;
        put('>', fd, 0, 0, 0, data, (size_t)result);
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
    return result;
}

ssize_t recv(int fd, void *data, size_t n, int flags) {
    ssize_t result = syscall(SYS_recvfrom, fd, data, n, flags, NULL, NULL);
    int saved = errno;
    if (result > 0 && log_fd >= 0 && fd < FDS) {
        pthread_mutex_lock(&lock);
        ours[fd] |= 2;
        put('<', fd, 0, 0, 0, data, (size_t)result);
        pthread_mutex_unlock(&lock);
    }
    errno = saved;
    return result;
}
