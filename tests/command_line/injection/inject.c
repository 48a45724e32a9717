/* Runs a command and makes its Nth input/output call in a folder fail, or kills the process there.
 *
 *     inject count|kill|fail|full N FOLDER OUTPUT COMMAND...
 *
 * Calls are counted from 1 in all threads together, where they name a path in FOLDER, or a relative one, or a file that is
 * open there; a new thread counts, too, unless INJECT_FILES_ALONE is set. `fail` has one call answered EIO, `full` that one and all later ones ENOSPC, `kill`
 * sends SIGKILL before it. How many there were is written to OUTPUT. System calls are stopped by ptrace(2), so that none
 * escapes, whichever library makes it. Linux on x86-64.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *folder;

static int in_folder(const char *path) {
    return strncmp(path, folder, strlen(folder)) == 0;
}

static int names_path(pid_t pid, unsigned long address) {
    char path[PATH_MAX + 1] = {0};
    /* Page by page, as the next may not be there. */
    for (size_t done = 0; done < PATH_MAX && !memchr(path, 0, done);) {
        size_t step = 4096 - (address + done) % 4096;
        if (step > PATH_MAX - done) step = PATH_MAX - done;
        struct iovec local = {path + done, step}, remote = {(void *)(address + done), step};
        if (process_vm_readv(pid, &local, 1, &remote, 1, 0) != (ssize_t)step) break;
        done += step;
    }
    return path[0] != 0 && (path[0] != '/' || in_folder(path));
}

static int is_open(pid_t pid, unsigned long file) {
    char name[64], path[PATH_MAX + 1];
    snprintf(name, sizeof name, "/proc/%d/fd/%d", pid, (int)file);
    ssize_t length = readlink(name, path, PATH_MAX);
    if (length < 0) return 0;
    path[length] = 0;
    return in_folder(path);
}

static int counts(pid_t pid, const struct __ptrace_syscall_info *call) {
    const __uint64_t *arguments = call->entry.args;
    switch (call->entry.nr) {
    case SYS_open: case SYS_creat: case SYS_rename: case SYS_mkdir: case SYS_rmdir: case SYS_unlink: case SYS_link:
    case SYS_chmod: case SYS_stat: case SYS_lstat: case SYS_truncate:
        return names_path(pid, arguments[0]);
    case SYS_openat: case SYS_renameat: case SYS_renameat2: case SYS_mkdirat: case SYS_unlinkat: case SYS_linkat:
    case SYS_newfstatat: case SYS_statx:
        return names_path(pid, arguments[1]) || is_open(pid, arguments[0]);
    case SYS_read: case SYS_pread64: case SYS_readv: case SYS_write: case SYS_pwrite64: case SYS_writev: case SYS_fsync:
    case SYS_fdatasync: case SYS_ftruncate: case SYS_flock: case SYS_getdents64: case SYS_lseek: case SYS_fstat:
    case SYS_fchmod:
        return is_open(pid, arguments[0]);
    case SYS_clone: case SYS_clone3:
        return getenv("INJECT_FILES_ALONE") == NULL;
    default:
        return 0;
    }
}

static void set(pid_t pid, size_t place, long value) {
    ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, regs) + place, value);
}

int main(int count, char **arguments) {
    if (count < 6) return 98;
    const char *mode = arguments[1];
    long target = atol(arguments[2]), calls = 0;
    folder = arguments[3];
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execv(arguments[5], arguments + 5);
        _exit(98);
    }
    int status;
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) return 98;
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    if (ptrace(PTRACE_SETOPTIONS, child, 0, options) != 0) return 97;
    pid_t failing[1024] = {0};
    ptrace(PTRACE_SYSCALL, child, 0, 0);
    for (;;) {
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0) return 98;
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (pid == child) break;
            continue;
        }
        int signal = WSTOPSIG(status), passed_on = 0;
        struct __ptrace_syscall_info call;
        if (signal == (SIGTRAP | 0x80)) {
            ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof call, &call);
            size_t slot = 0;
            while (slot < 1024 && failing[slot] != pid) slot++;
            if (call.op == PTRACE_SYSCALL_INFO_ENTRY && counts(pid, &call)) {
                calls++;
                int hit = strcmp(mode, "full") == 0 ? calls >= target : calls == target;
                if (strcmp(mode, "count") == 0) hit = 0;
                if (hit && strcmp(mode, "kill") == 0) {
                    kill(child, SIGKILL);
                } else if (hit) {
                    set(pid, offsetof(struct user_regs_struct, orig_rax), -1);
                    for (slot = 0; slot < 1024 && failing[slot] != 0; slot++) {}
                    if (slot < 1024) failing[slot] = pid;
                }
            } else if (call.op == PTRACE_SYSCALL_INFO_EXIT && slot < 1024) {
                failing[slot] = 0;
                set(pid, offsetof(struct user_regs_struct, rax), strcmp(mode, "full") == 0 ? -ENOSPC : -EIO);
            }
        } else if (signal != SIGTRAP && signal != SIGSTOP) {
            passed_on = signal;
        }
        ptrace(PTRACE_SYSCALL, pid, 0, passed_on);
    }
    FILE *output = fopen(arguments[4], "w");
    if (output == NULL || fprintf(output, "%ld\n", calls) < 0 || fclose(output) != 0) return 98;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
