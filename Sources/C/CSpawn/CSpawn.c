#define _GNU_SOURCE
#include "CSpawn.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int cspawn(const char *path, char *const words[], char *const variables[], pid_t *child) {
    pid_t parent = getpid();
    volatile int problem = 0;
    // The child runs on our memory until it execs or ends, and we stand still meanwhile: so it can tell us its errno.
    pid_t pid = vfork();
    if (pid < 0) return errno;
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        // We may have been killed before that: nobody would tell it any more.
        if (getppid() != parent) _exit(127);
        sigset_t none;
        sigemptyset(&none);
        setpgid(0, 0);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execve(path, words, variables);
        problem = errno;
        _exit(127);
    }
    if (problem) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
        return problem;
    }
    *child = pid;
    return 0;
}
