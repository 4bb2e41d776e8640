/// Calls in an open loop: each is due at a time that no answer can move, and its latency counts from then.
///
///     caller PORT BEGIN SEED SECONDS PATIENCE FROM:RATE...
///
///     BEGIN     nanoseconds on CLOCK_MONOTONIC: the first call is due then; other times are seconds from it
///     SEED      of the distances between calls, 0.5 to 1.5 times the mean, in step with nothing; 0: all are equal
///     PATIENCE  seconds after which a call is given up and its connection closed
///     RATE      calls a second from the time FROM on
///
/// Prints a line for each call when all are over: when it was due and how long it took, in nanoseconds, and the status of the answer, or
/// connect, closed, malformed, late. Equal seeds have equal due times.
#define _GNU_SOURCE
#include <time.h>

#include "../common/message.h"
#include "../common/net.h"

enum { EVENTS = 256, RESPONSE_LIMIT = 16 * 1024, CONNECTIONS = 8192, RATES = 16 };

static const int64_t SECOND = 1000000000;

enum end { OPEN = 0, CONNECT = 1, CLOSED = 2, MALFORMED = 3, LATE = 4 };
static const char *const end_names[] = {"open", "connect", "closed", "malformed", "late"};

struct call {
    int64_t due, took;
    int end;  // A status, or one of `enum end`; OPEN while it is under way.
    int connection;
};

struct connection {
    int fd;
    int call;     // -1 when idle.
    bool sent;
    size_t count;
    char in[RESPONSE_LIMIT];
};

static const char request[] = "GET / HTTP/1.1\r\nHost: origin.bench.local\r\nUser-Agent: caller\r\nAccept: */*\r\n\r\n";
static int poller;
static struct sockaddr_in target;
static struct connection *all;
// The connections without a call: the last used is used next. Those never opened lie below.
static int idle[CONNECTIONS], idle_count;
static struct call *calls;
static int call_count, call_room, open_count, oldest;
static uint64_t seed;
static bool equal;
static struct {
    int64_t from;
    double rate;
} rates[RATES];
static int rate_count;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

/// SplitMix64, 0 to 1.
static double chance(void) {
    uint64_t z = seed += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

static int64_t gap(int64_t at) {
    double rate = rates[0].rate;
    for (int i = 0; i < rate_count; i++) {
        if (rates[i].from <= at) rate = rates[i].rate;
    }
    return (int64_t)((double)SECOND / rate * (equal ? 1 : 0.5 + chance()));
}

static void drop(struct connection *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

/// The call of this connection is over.
static void finish(struct connection *c, int how) {
    struct call *call = &calls[c->call];
    call->took = now() - call->due;
    call->end = how;
    open_count--;
    c->call = -1;
    if (how <= LATE) drop(c);
    idle[idle_count++] = (int)(c - all);
}

static void send_request(struct connection *c) {
    ssize_t sent = write(c->fd, request, sizeof request - 1);
    if (sent < 0 && (errno == EAGAIN || errno == ENOTCONN)) return;
    if (sent != (ssize_t)sizeof request - 1) {
        finish(c, sent < 0 && errno == ECONNREFUSED ? CONNECT : CLOSED);
        return;
    }
    c->sent = true;
}

static void start(int64_t due) {
    if (idle_count == 0) {
        fprintf(stderr, "caller: more than %d calls under way\n", CONNECTIONS);
        exit(1);
    }
    if (call_count == call_room) {
        call_room = call_room ? 2 * call_room : 16384;
        calls = realloc(calls, (size_t)call_room * sizeof *calls);
        if (!calls) fail("realloc");
    }
    struct connection *c = &all[idle[--idle_count]];
    c->call = call_count;
    c->sent = false;
    c->count = 0;
    calls[call_count++] = (struct call){.due = due, .connection = (int)(c - all)};
    open_count++;
    if (c->fd >= 0) {
        send_request(c);
        return;
    }
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    watch(poller, c->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c);
    // The request follows when epoll says that the connection is there.
    if (connect(c->fd, (struct sockaddr *)&target, sizeof target) < 0 && errno != EINPROGRESS) finish(c, CONNECT);
}

static void receive(struct connection *c) {
    for (;;) {
        ssize_t got = read(c->fd, c->in + c->count, RESPONSE_LIMIT - c->count);
        if (got < 0 && errno == EAGAIN) return;
        if (c->call < 0) {
            // Closed while idle, or an answer that nobody asked for: a new connection next time.
            drop(c);
            return;
        }
        if (got <= 0) {
            finish(c, c->sent ? CLOSED : CONNECT);
            return;
        }
        c->count += (size_t)got;
        struct message response;
        message_reset(&response);
        size_t used = message_feed(&response, c->in, c->count);
        if (response.state == MESSAGE_DONE && used == c->count) {
            finish(c, response.status);
            return;
        }
        if (response.state == MESSAGE_BAD || response.state == MESSAGE_DONE || c->count == RESPONSE_LIMIT) {
            finish(c, MALFORMED);
            return;
        }
    }
}

static void handle(struct connection *c, uint32_t events) {
    if (c->fd < 0) return;
    if (c->call >= 0 && !c->sent) {
        if (events & (EPOLLERR | EPOLLHUP)) {
            finish(c, CONNECT);
            return;
        }
        if (events & EPOLLOUT) send_request(c);
    }
    if (c->fd >= 0 && events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) receive(c);
}

static int64_t nanoseconds(const char *text) {
    char *rest;
    double value = strtod(text, &rest);
    if (rest == text || *rest || value < 0) {
        fprintf(stderr, "caller: %s: expected seconds\n", text);
        exit(2);
    }
    return (int64_t)(value * (double)SECOND);
}

int main(int argc, char **argv) {
    if (argc < 7 || argc - 6 > RATES) {
        fprintf(stderr, "usage: caller PORT BEGIN SEED SECONDS PATIENCE FROM:RATE...\n");
        return 2;
    }
    prepare_process();
    // The default slack of 50 µs would be added to every call that waits for its moment.
    prctl(PR_SET_TIMERSLACK, 1);
    target = loopback(argv[1]);
    int64_t begin = strtoll(argv[2], NULL, 10), length = nanoseconds(argv[4]), patience = nanoseconds(argv[5]);
    seed = strtoull(argv[3], NULL, 10);
    equal = seed == 0;
    for (int i = 6; i < argc; i++) {
        char *rest;
        rates[rate_count].from = nanoseconds(strtok(argv[i], ":"));
        const char *rate = strtok(NULL, ":");
        rates[rate_count].rate = rate ? strtod(rate, &rest) : 0;
        if (!rate || *rest || rates[rate_count++].rate <= 0) {
            fprintf(stderr, "caller: %s: expected FROM:RATE\n", argv[i]);
            return 2;
        }
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) fail("epoll_create1");
    all = allocate(CONNECTIONS * sizeof *all);
    for (int i = CONNECTIONS - 1; i >= 0; i--) {
        all[i].fd = all[i].call = -1;
        idle[idle_count++] = i;
    }

    int64_t due = begin;
    while (due < begin + length || open_count > 0) {
        int64_t time = now();
        for (; due <= time && due < begin + length; due += gap(due - begin)) start(due);
        // All have the same patience: the oldest loses it first.
        for (; oldest < call_count && (calls[oldest].end != OPEN || calls[oldest].due + patience <= time); oldest++) {
            if (calls[oldest].end == OPEN) finish(&all[calls[oldest].connection], LATE);
        }
        int64_t next = due < begin + length ? due : INT64_MAX;
        if (oldest < call_count && calls[oldest].due + patience < next) next = calls[oldest].due + patience;
        if (next == INT64_MAX) continue;
        int64_t left = next - now();
        if (left < 0) left = 0;
        struct timespec timeout = {left / SECOND, left % SECOND};
        struct epoll_event events[EVENTS];
        int count = epoll_pwait2(poller, events, EVENTS, &timeout, NULL);
        if (count < 0 && errno != EINTR) fail("epoll_pwait2");
        for (int i = 0; i < count; i++) handle(events[i].data.ptr, events[i].events);
    }
    for (int i = 0; i < call_count; i++) {
        printf("%ld %ld ", calls[i].due - begin, calls[i].took);
        if (calls[i].end > LATE) {
            printf("%d\n", calls[i].end);
        } else {
            printf("%s\n", end_names[calls[i].end]);
        }
    }
    return 0;
}
