/* strike.so: loaded before the C library (ld.so(8), LD_PRELOAD), it strikes a program at its n-th call of
 * one kind: kills it on entering, or lets the call fail.
 *
 * STRIKE_CALL   write, fsync, rename or unlink
 * STRIKE_NTH    which one, from 1
 * STRIKE_ERROR  the errno it fails with; 0: SIGKILL instead
 * STRIKE_LOG    a file that gets one byte for each call of that kind: `!` for the one that was struck
 *
 * strace(1) does the same (--inject), and stops the program at every system call that it makes, which
 * takes several times as long as the program itself.  mod.rs counts the calls with both. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_long calls;

static void note(const char *byte) {
    int fd = (int)syscall(SYS_openat, AT_FDCWD, getenv("STRIKE_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || syscall(SYS_write, fd, byte, 1) != 1) abort();
    syscall(SYS_close, fd);
}

/* Whether this call fails; errno says how. */
static int struck(const char *call) {
    const char *wanted = getenv("STRIKE_CALL");
    if (!wanted || strcmp(wanted, call)) return 0;
    int hit = atomic_fetch_add(&calls, 1) + 1 == atol(getenv("STRIKE_NTH"));
    note(hit ? "!" : ".");
    if (!hit) return 0;
    int error = atoi(getenv("STRIKE_ERROR"));
    while (!error) kill(getpid(), SIGKILL);
    errno = error;
    return 1;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    return struck("write") ? -1 : syscall(SYS_write, fd, bytes, count);
}
int fsync(int fd) { return struck("fsync") ? -1 : (int)syscall(SYS_fsync, fd); }
int rename(const char *from, const char *to) {
    return struck("rename") ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int unlink(const char *path) { return struck("unlink") ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0); }
