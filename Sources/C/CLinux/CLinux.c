#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <execinfo.h>
#include <linux/sockios.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int checked(int result) { return result < 0 ? -errno : result; }

int clinux_epoll_create(void) { return checked(epoll_create1(EPOLL_CLOEXEC)); }

int clinux_epoll_add(int epoll, int fd, uint32_t events, uint64_t token) {
    struct epoll_event event = {.events = events, .data.u64 = token};
    return checked(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

int clinux_epoll_modify(int epoll, int fd, uint32_t events, uint64_t token) {
    struct epoll_event event = {.events = events, .data.u64 = token};
    return checked(epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event));
}

int clinux_epoll_remove(int epoll, int fd) { return checked(epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL)); }

int clinux_epoll_wait(int epoll, struct epoll_event *events, int count, int timeout_ms) {
    return checked(epoll_wait(epoll, events, count, timeout_ms));
}

uint64_t clinux_epoll_token(const struct epoll_event *event) { return event->data.u64; }

int clinux_eventfd(void) { return checked(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

void clinux_eventfd_signal(int fd) {
    uint64_t one = 1;
    ssize_t ignored = write(fd, &one, sizeof one);
    (void)ignored;
}

void clinux_eventfd_clear(int fd) {
    uint64_t count;
    ssize_t ignored = read(fd, &count, sizeof count);
    (void)ignored;
}

int clinux_inotify_folder(const char *path) {
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0) return -errno;
    if (inotify_add_watch(fd, path, IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int clinux_signalfd(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (error) return -error;
    signal(SIGPIPE, SIG_IGN);
    return checked(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

int clinux_signalfd_next(int fd) {
    struct signalfd_siginfo info;
    return read(fd, &info, sizeof info) == sizeof info ? (int)info.ssi_signo : 0;
}

static socklen_t to_sockaddr(const struct clinux_address *from, struct sockaddr_storage *to) {
    memset(to, 0, sizeof *to);
    if (from->family == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *)to;
        in->sin_family = AF_INET;
        in->sin_port = htons(from->port);
        memcpy(&in->sin_addr, from->bytes, 4);
        return sizeof *in;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(from->port);
    memcpy(&in6->sin6_addr, from->bytes, 16);
    return sizeof *in6;
}

static void from_sockaddr(const struct sockaddr_storage *from, struct clinux_address *to) {
    memset(to, 0, sizeof *to);
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)from;
        to->family = 4;
        to->port = ntohs(in->sin_port);
        memcpy(to->bytes, &in->sin_addr, 4);
    } else if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;
        to->family = 6;
        to->port = ntohs(in6->sin6_port);
        memcpy(to->bytes, &in6->sin6_addr, 16);
    }
}

static int tcp_socket(const struct clinux_address *address) {
    int family = address->family == 4 ? AF_INET : AF_INET6;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    int on = 1;
    // Set on a listener it is inherited by what it accepts: no call per connection.
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

int clinux_listen(const struct clinux_address *address, int backlog, int reuse_port) {
    int fd = tcp_socket(address);
    if (fd < 0) return fd;
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (reuse_port) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    struct sockaddr_storage storage;
    socklen_t length = to_sockaddr(address, &storage);
    if (bind(fd, (struct sockaddr *)&storage, length) < 0 || listen(fd, backlog) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int clinux_probe(const struct clinux_address *address) {
    int fd = tcp_socket(address);
    if (fd < 0) return fd;
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_storage storage;
    socklen_t length = to_sockaddr(address, &storage);
    int error = bind(fd, (struct sockaddr *)&storage, length) < 0 ? errno : 0;
    close(fd);
    return -error;
}

int clinux_accept(int listener, struct clinux_address *peer) {
    struct sockaddr_storage storage;
    socklen_t length = sizeof storage;
    int fd = accept4(listener, (struct sockaddr *)&storage, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return -errno;
    from_sockaddr(&storage, peer);
    return fd;
}

int clinux_connect(const struct clinux_address *address, int *connected) {
    int fd = tcp_socket(address);
    if (fd < 0) return fd;
    struct sockaddr_storage storage;
    socklen_t length = to_sockaddr(address, &storage);
    *connected = connect(fd, (struct sockaddr *)&storage, length) == 0;
    if (!*connected && errno != EINPROGRESS) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int clinux_socket_error(int fd) {
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0) return -errno;
    return -error;
}

int clinux_local_address(int fd, struct clinux_address *address) {
    struct sockaddr_storage storage;
    socklen_t length = sizeof storage;
    if (getsockname(fd, (struct sockaddr *)&storage, &length) < 0) return -errno;
    from_sockaddr(&storage, address);
    return 0;
}

int clinux_peer_address(int fd, struct clinux_address *address) {
    struct sockaddr_storage storage;
    socklen_t length = sizeof storage;
    if (getpeername(fd, (struct sockaddr *)&storage, &length) < 0) return -errno;
    from_sockaddr(&storage, address);
    return 0;
}

int clinux_shutdown_write(int fd) { return checked(shutdown(fd, SHUT_WR)); }

void clinux_reset_on_close(int fd) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

long clinux_read(int fd, void *buffer, size_t count) {
    ssize_t result = read(fd, buffer, count);
    return result < 0 ? -errno : result;
}

long clinux_write(int fd, const void *bytes, size_t count) {
    ssize_t result = write(fd, bytes, count);
    return result < 0 ? -errno : result;
}

long clinux_write3(int fd, const void *a, size_t a_count, const void *b, size_t b_count, const void *c, size_t c_count) {
    struct iovec pieces[3];
    int count = 0;
    if (a_count) pieces[count++] = (struct iovec){(void *)a, a_count};
    if (b_count) pieces[count++] = (struct iovec){(void *)b, b_count};
    if (c_count) pieces[count++] = (struct iovec){(void *)c, c_count};
    ssize_t result = writev(fd, pieces, count);
    return result < 0 ? -errno : result;
}

int clinux_peek(int fd) {
    char byte;
    ssize_t result = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return result < 0 ? -errno : (int)result;
}

static int64_t clock_ns(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

int64_t clinux_monotonic_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
int64_t clinux_realtime_ns(void) { return clock_ns(CLOCK_REALTIME); }
void clinux_close(int fd) { close(fd); }
const char *clinux_error_text(int error) {
    const char *text = strerrordesc_np(error);
    return text ? text : "unknown error";
}
void clinux_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

struct clinux_heap clinux_heap(void) {
    struct mallinfo2 info = mallinfo2();
    return (struct clinux_heap){.in_use = info.uordblks, .free = info.fordblks, .mapped = info.hblkhd};
}

void clinux_heap_trim(void) { malloc_trim(0); }

int clinux_next_descriptor(int fd) {
    // The kernel hands out the lowest number that is free.
    int next = dup(fd);
    if (next < 0) return -errno;
    close(next);
    return next;
}

int clinux_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > INT32_MAX) return INT32_MAX;
    return (int)limit.rlim_cur;
}

int clinux_unacknowledged(int fd) {
    int bytes;
    return ioctl(fd, SIOCOUTQ, &bytes) < 0 ? -errno : bytes;
}

int clinux_thread_id(void) { return (int)syscall(SYS_gettid); }

int clinux_thread_state(int thread, char *text, size_t size) {
    char path[64], line[256], state[64] = "?", place[64] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/status", thread);
    FILE *file = fopen(path, "re");
    if (!file) return -errno;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "State: %63[^\n]", state) == 1) break;
    }
    fclose(file);
    snprintf(path, sizeof path, "/proc/self/task/%d/wchan", thread);
    if ((file = fopen(path, "re"))) {
        if (!fgets(place, sizeof place, file)) place[0] = 0;
        fclose(file);
    }
    int waits = place[0] && strcmp(place, "0") != 0;
    snprintf(text, size, "%s%s%s", state, waits ? " in " : "", waits ? place : "");
    return 0;
}

// Of the thread that was last asked for its stack: 0 = it has not written it yet.
static atomic_int stack_is_written;

static void write_stack(int signal) {
    (void)signal;
    int saved = errno;
    void *frames[64];
    int count = backtrace(frames, 64);
    // The handler itself and the kernel's frame that leads here say nothing.
    if (count > 2) backtrace_symbols_fd(frames + 2, count - 2, STDERR_FILENO);
    atomic_store(&stack_is_written, 1);
    errno = saved;
}

int clinux_watch_stacks(void) {
    // The first call loads the unwinder, which allocates: not in a handler.
    void *frames[1];
    backtrace(frames, 1);
    struct sigaction action = {.sa_handler = write_stack, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    return checked(sigaction(SIGUSR2, &action, NULL));
}

int clinux_write_stack(int thread) {
    atomic_store(&stack_is_written, 0);
    if (syscall(SYS_tgkill, getpid(), thread, SIGUSR2) < 0) return -errno;
    for (int wait = 0; wait < 100; wait++) {
        if (atomic_load(&stack_is_written)) return 0;
        struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
        nanosleep(&pause, NULL);
    }
    return -ETIMEDOUT;
}

_Noreturn void clinux_exit_now(int status) { _exit(status); }
