// A child process that does not outlive the one that started it: posix_spawn has no word for that.
#ifndef OUTRIGGER_CSPAWN_H
#define OUTRIGGER_CSPAWN_H

#include <sys/types.h>

// Starts a program in a process group of its own, with no signal blocked. The kernel sends it SIGTERM when the calling thread ends, however
// that ends (not if the program's file is set-uid or has capabilities: the kernel forgets it then).
//
// Returns 0 and the child's number, or an errno.
int cspawn(const char *path, char *const words[], char *const variables[], pid_t *child);

#endif
