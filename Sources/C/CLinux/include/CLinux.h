// The parts of Linux that the Glibc module does not import, with plain types.
//
// No _GNU_SOURCE here: defined in one shim header and not in another it makes the importer reject the package. The .c file has it.
#ifndef OUTRIGGER_CLINUX_H
#define OUTRIGGER_CLINUX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

// An IP address and port: family is 4 or 6, the address in network order in the first 4 or 16 bytes, the port in host order.
struct clinux_address {
    uint8_t family;
    uint8_t bytes[16];
    uint16_t port;
};

// Every function below returns a descriptor, a count or 0; or the negated errno.

int clinux_epoll_create(void);
int clinux_epoll_add(int epoll, int fd, uint32_t events, uint64_t token);
int clinux_epoll_modify(int epoll, int fd, uint32_t events, uint64_t token);
int clinux_epoll_remove(int epoll, int fd);
int clinux_epoll_wait(int epoll, struct epoll_event *events, int count, int timeout_ms);
uint64_t clinux_epoll_token(const struct epoll_event *event);

int clinux_eventfd(void);
void clinux_eventfd_signal(int fd);
void clinux_eventfd_clear(int fd);

// Watches a folder for files that are written, moved in, created or deleted.
int clinux_inotify_folder(const char *path);

// Blocks SIGTERM, SIGINT, SIGHUP and SIGUSR1 in this thread and all it starts, ignores SIGPIPE, and returns a descriptor to read them from.
int clinux_signalfd(void);
// The number of the next pending signal, 0 if there is none.
int clinux_signalfd_next(int fd);

// 0 if nobody listens on the address. Binds and never listens: no caller can fall into it.
int clinux_probe(const struct clinux_address *address);

// A bound, listening, nonblocking TCP socket. With reuse_port several sockets share the address.
int clinux_listen(const struct clinux_address *address, int backlog, int reuse_port);
int clinux_accept(int listener, struct clinux_address *peer);
// A TCP socket whose connection is under way (or done: *connected is 1).
int clinux_connect(const struct clinux_address *address, int *connected);
int clinux_socket_error(int fd);
int clinux_local_address(int fd, struct clinux_address *address);
int clinux_peer_address(int fd, struct clinux_address *address);
int clinux_shutdown_write(int fd);
// Makes close() send RST instead of FIN.
void clinux_reset_on_close(int fd);

long clinux_read(int fd, void *buffer, size_t count);
long clinux_write(int fd, const void *bytes, size_t count);
// Up to three pieces in one call.
long clinux_write3(int fd, const void *a, size_t a_count, const void *b, size_t b_count, const void *c, size_t c_count);
// Looks for bytes, end or error without taking anything: 0 = end, 1 = bytes wait, or the negated errno (-EAGAIN: alive and silent).
int clinux_peek(int fd);

int64_t clinux_monotonic_ns(void);
int64_t clinux_realtime_ns(void);
void clinux_close(int fd);
// A text for an errno, from static storage.
const char *clinux_error_text(int error);
void clinux_name_thread(const char *name);

// What malloc says of itself, in bytes: small blocks handed out, small blocks kept for reuse, large blocks (each mapped).
struct clinux_heap {
    size_t in_use;
    size_t free;
    size_t mapped;
};
struct clinux_heap clinux_heap(void);
// Gives free pages of the heap back to the system. Takes the locks of all arenas meanwhile.
void clinux_heap_trim(void);

// The number that the next descriptor of this process would get; -EMFILE if there is none left. fd: any that is open.
int clinux_next_descriptor(int fd);
// Of RLIMIT_NOFILE, the soft limit; INT32_MAX where there is none.
int clinux_descriptor_limit(void);
// Bytes that were written and that the other side has not acknowledged.
int clinux_unacknowledged(int fd);

int clinux_thread_id(void);
// `D (disk sleep) in folio_wait_bit`, as far as the kernel tells. 0 or the negated errno.
int clinux_thread_state(int thread, char *text, size_t size);
// Makes clinux_write_stack possible. Call it once, before threads are stuck: it loads what walks stacks.
int clinux_watch_stacks(void);
// Makes the thread write its stack to standard error, and waits for that a second at most. -ETIMEDOUT: it does not even take signals.
int clinux_write_stack(int thread);
// Ends the process at once, without a word to anybody.
_Noreturn void clinux_exit_now(int status);

#endif
