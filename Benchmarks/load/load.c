/// The load generator: HTTP/1.1 requests from one thread, each response read to its end and checked. Prints one line of JSON.
///
///     load [options] PORT PATH
///
///     -c N    connections (default 64)
///     -d S    seconds (default 2); requests under way at the end are waited for
///     -N N    that many requests, however long they take
///     -H TEXT a header field, such as "Host: web.bench"
///     -p N    POST with a body of N bytes instead of GET
///     -e N    the body length every response must have
///     -n      a new connection for each request, which says "Connection: close"
///     -r N    open loop: N requests a second, latency counted from the moment each was due, whether or not a connection was free
///     -i      idle: every connection makes one request and stays open; a line says when all are, and the end of stdin ends it
///     -t NAME TLS 1.3, with this server name; the certificate is not checked against any authority
///     -k FILE the client's certificate, chain and key in one PEM file
///     -R      resumes: a new connection takes a ticket of an earlier one, each ticket once
///     -f      first: tries until one request succeeds, prints the time of its first byte on CLOCK_MONOTONIC
///
/// `completed` counts responses with status 200 and the right length; everything else is in `failed` and, by kind, in `failures`.
/// `handshakes` counts those of TLS, `resumed` those among them that were resumptions.
#define _GNU_SOURCE
#include <poll.h>
#include <time.h>

#include "../common/message.h"
#include "../common/net.h"
#include "tls.h"

enum {
    SCRATCH = 256 * 1024,
    EVENTS = 256,
    // Opening this many idle connections at once keeps the upstream pool of the proxy, which is not to be measured, small.
    OPENING = 16,
    // A proxy that breaks every request must not keep us busy until the end.
    FAILURE_LIMIT = 1000,
    // In churn, calls come from this many loopback addresses, or ports in TIME_WAIT run out.
    SOURCES = 16,
};

static const int64_t SECOND = 1000000000, PATIENCE = 5 * SECOND;

enum failure { CONNECT, CLOSED, STATUS, LENGTH, MALFORMED, TIMEOUT, HANDSHAKE, FAILURES };
static const char *const failure_names[] = {"connect", "closed", "status", "length", "malformed", "timeout", "handshake"};

struct connection {
    int fd;
    SSL *tls;             // NULL without TLS.
    bool busy;
    bool readable;
    size_t sent;          // Bytes of the request.
    int64_t due;          // When the request under way started, or should have.
    struct message response;
    char *stash;          // A response head received in part.
    size_t stashed;
    struct connection *next;  // In the queue of free connections.
};

static struct {
    int connections;
    double seconds;
    size_t post;
    int64_t expected;
    bool churn, idle, first;
    int64_t rate, count;
    const char *field, *port, *path, *server_name, *certificate;
    bool resume;
} options = {.connections = 64, .seconds = 2, .expected = -1, .field = "Host: localhost"};

static int poller;
static struct sockaddr_in target;
static char *request;
static size_t request_length;
static struct connection *all, *free_first, *free_last;
static char scratch[SCRATCH];
static uint64_t started, completed, received, failures[FAILURES], failed;
static unsigned source;
static int busy;
static bool stopping;

static uint32_t *samples;  // Latencies in units of 10 ns, which reach 43 seconds.
static size_t sample_count, sample_room;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static void sample(int64_t nanoseconds) {
    if (sample_count == sample_room) {
        sample_room = sample_room ? 2 * sample_room : 1 << 20;
        samples = realloc(samples, sample_room * sizeof *samples);
        if (!samples) fail("realloc");
    }
    samples[sample_count++] = (uint32_t)(nanoseconds / 10);
}

static void make_request(void) {
    request = allocate(strlen(options.path) + strlen(options.field) + options.post + 256);
    const char *method = options.post ? "POST" : "GET";
    int count = sprintf(request, "%s %s HTTP/1.1\r\n%s\r\nUser-Agent: load\r\nAccept: */*\r\n", method, options.path, options.field);
    if (options.churn) count += sprintf(request + count, "Connection: close\r\n");
    if (options.post) count += sprintf(request + count, "Content-Type: text/plain\r\nContent-Length: %zu\r\n", options.post);
    count += sprintf(request + count, "\r\n");
    for (size_t i = 0; i < options.post; i++) request[(size_t)count + i] = (char)('a' + i % 26);
    request_length = (size_t)count + options.post;
}

static void add_free(struct connection *c) {
    c->next = NULL;
    if (free_first) {
        free_last->next = c;
    } else {
        free_first = c;
    }
    free_last = c;
}

static struct connection *take_free(void) {
    struct connection *c = free_first;
    if (c) free_first = c->next;
    return c;
}

static void drop(struct connection *c) {
    if (c->tls) tls_close(c->tls);
    c->tls = NULL;
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->readable = false;
    c->stashed = 0;
}

/// Ends the request under way, if any, and the connection.
static void failure(struct connection *c, enum failure kind) {
    failures[kind]++;
    failed++;
    drop(c);
    if (c->busy) {
        c->busy = false;
        busy--;
        add_free(c);
    }
}

static bool open_connection(struct connection *c) {
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (options.churn) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + source++ % SOURCES)};
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(c->fd, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
    }
    if (connect(c->fd, (struct sockaddr *)&target, sizeof target) < 0 && errno != EINPROGRESS) return false;
    if (options.server_name) c->tls = tls_open(c->fd);
    watch(poller, c->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c);
    return true;
}

static void send_rest(struct connection *c) {
    if (c->tls && !SSL_is_init_finished(c->tls)) {
        enum tls_state state = tls_handshake(c->tls);
        if (state == TLS_BROKEN) failure(c, HANDSHAKE);
        if (state != TLS_READY) return;
    }
    size_t left = request_length - c->sent;
    ssize_t sent = c->tls ? tls_write(c->tls, request + c->sent, left) : write(c->fd, request + c->sent, left);
    if (sent >= 0) {
        c->sent += (size_t)sent;
    } else if (errno != EAGAIN) {
        failure(c, CLOSED);
    }
}

static void start(struct connection *c, int64_t due) {
    started++;
    c->busy = true;
    busy++;
    c->due = due;
    c->sent = 0;
    message_reset(&c->response);
    if (c->fd < 0) {
        // The request follows when epoll says that the connection is there.
        if (!open_connection(c)) failure(c, CONNECT);
        return;
    }
    send_rest(c);
}

static void finish(struct connection *c) {
    if (c->response.status != 200) {
        failure(c, STATUS);
        return;
    }
    if (options.expected >= 0 && (!c->response.fixed || c->response.length != (uint64_t)options.expected)) {
        failure(c, LENGTH);
        return;
    }
    completed++;
    sample(now() - c->due);
    c->busy = false;
    busy--;
    if (options.churn) drop(c);
    if (!options.idle) add_free(c);
}

static void receive(struct connection *c) {
    while (c->readable) {
        size_t kept = c->stashed;
        if (kept) memcpy(scratch, c->stash, kept);
        ssize_t got = c->tls ? tls_read(c->tls, scratch + kept, SCRATCH - kept) : read(c->fd, scratch + kept, SCRATCH - kept);
        if (got < 0 && errno == EAGAIN) {
            c->readable = false;
            return;
        }
        if (got <= 0) {
            failure(c, c->sent == 0 ? CONNECT : CLOSED);
            return;
        }
        // One TLS record may be followed by others that have been read already.
        if ((size_t)got < SCRATCH - kept && !c->tls) c->readable = false;
        received += (uint64_t)got;
        size_t count = kept + (size_t)got;
        if (!c->busy) {
            failure(c, MALFORMED);
            return;
        }
        size_t used = message_feed(&c->response, scratch, count);
        if (c->response.state == MESSAGE_HEAD && count < SCRATCH) {
            free(c->stash);
            c->stash = allocate(count);
            c->stashed = count;
            memcpy(c->stash, scratch, count);
            continue;
        }
        c->stashed = 0;
        if (c->response.state == MESSAGE_BAD || used < count) {
            failure(c, MALFORMED);
            return;
        }
        if (c->response.state == MESSAGE_DONE) {
            finish(c);
            return;
        }
    }
}

static void handle(struct connection *c, uint32_t events) {
    if (c->fd < 0) return;
    if (events & EPOLLERR) {
        failure(c, c->sent == 0 ? CONNECT : CLOSED);
        return;
    }
    bool sending = c->busy && c->sent < request_length;
    if (sending && (events & EPOLLOUT || (c->tls && !SSL_is_init_finished(c->tls)))) send_rest(c);
    // The rest of the request waits for the socket; nothing is to be read before the handshake is over.
    if (c->tls && !SSL_is_init_finished(c->tls)) return;
    if (events & EPOLLIN && c->fd >= 0) {
        c->readable = true;
        receive(c);
    }
    if (events & (EPOLLRDHUP | EPOLLHUP) && c->fd >= 0) {
        // Whatever came before the end has been read, up to a short read: the rest tells.
        c->readable = true;
        receive(c);
    }
}

/// Waits for events until `until`, or for ever if it is negative, and handles them. False when stdin, if watched, has ended.
static bool turn(int64_t until) {
    struct epoll_event events[EVENTS];
    struct timespec timeout, *limit = NULL;
    bool open = true;
    if (until >= 0) {
        int64_t left = until - now();
        if (left < 0) left = 0;
        timeout = (struct timespec){left / SECOND, left % SECOND};
        limit = &timeout;
    }
    int count = epoll_pwait2(poller, events, EVENTS, limit, NULL);
    if (count < 0 && errno != EINTR) fail("epoll_pwait2");
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr) {
            handle(events[i].data.ptr, events[i].events);
        } else {
            char byte;
            if (read(STDIN_FILENO, &byte, 1) <= 0) open = false;
        }
    }
    return open;
}

static void run_closed(int64_t end) {
    for (;;) {
        int64_t time = now();
        bool all_asked = options.count > 0 && started >= (uint64_t)options.count;
        stopping = time >= end || all_asked || failed >= FAILURE_LIMIT;
        if (!stopping) {
            // Only those free now: one that fails at once comes back to the queue, and may wait a turn.
            struct connection *last = free_first ? free_last : NULL;
            for (struct connection *c = NULL; last && c != last && (options.count == 0 || started < (uint64_t)options.count);) {
                c = take_free();
                start(c, time);
            }
        }
        if (stopping && (busy == 0 || time >= end + PATIENCE)) return;
        turn(stopping ? end + PATIENCE : end);
    }
}

static void run_open(int64_t begin, int64_t end) {
    int64_t asked = 0;
    for (;;) {
        int64_t time = now(), due = begin + asked * SECOND / options.rate;
        while (due <= time && due < end && failed < FAILURE_LIMIT && free_first) {
            start(take_free(), due);
            due = begin + ++asked * SECOND / options.rate;
        }
        bool over = due >= end || failed >= FAILURE_LIMIT;
        if ((over && busy == 0) || time >= end + PATIENCE) {
            // What was due and never sent, because no connection came free, is a failure as well.
            for (; due < end && due <= time; due = begin + ++asked * SECOND / options.rate) {
                failures[TIMEOUT]++;
                failed++;
            }
            return;
        }
        turn(over || !free_first ? end + PATIENCE : due);
    }
}

static void run_idle(void) {
    int opened = 0;
    int64_t end = now() + 60 * SECOND;
    while (completed + failed < (uint64_t)options.connections && now() < end) {
        while (opened < options.connections && busy < OPENING) start(&all[opened++], now());
        turn(end);
    }
    printf("{\"open\": %lu, \"failed\": %lu}\n", completed, failed);
    fflush(stdout);
    watch(poller, STDIN_FILENO, EPOLLIN, NULL);
    while (turn(-1)) {
    }
}

/// Tries until a request succeeds. A refusal, a reset and an error status all mean "not yet".
static int run_first(void) {
    int64_t end = now() + 20 * SECOND;
    printf("trying\n");
    fflush(stdout);
    while (now() < end) {
        struct timespec pause = {0, 100000};
        struct message response;
        int64_t first = 0;
        int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct timeval patience = {2, 0};
        if (fd < 0) fail("socket");
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        message_reset(&response);
        if (connect(fd, (struct sockaddr *)&target, sizeof target) == 0 && write(fd, request, request_length) == (ssize_t)request_length) {
            size_t count = 0;
            ssize_t got;
            while (response.state != MESSAGE_DONE && (got = read(fd, scratch + count, SCRATCH - count)) > 0) {
                if (first == 0) first = now();
                count += (size_t)got;
                message_reset(&response);
                message_feed(&response, scratch, count);
                if (response.state == MESSAGE_BAD || count == SCRATCH) break;
            }
        }
        close(fd);
        if (response.state == MESSAGE_DONE && response.status == 200) {
            printf("{\"first\": %ld}\n", first);
            return 0;
        }
        nanosleep(&pause, NULL);
    }
    fprintf(stderr, "load: no request succeeded\n");
    return 1;
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile(double fraction) {
    if (sample_count == 0) return 0;
    size_t index = (size_t)(fraction * (double)(sample_count - 1) + 0.5);
    return samples[index] / 100.0;
}

static void report(double seconds) {
    qsort(samples, sample_count, sizeof *samples, by_size);
    printf("{\"completed\": %lu, \"failed\": %lu, \"failures\": {", completed, failed);
    for (int i = 0; i < FAILURES; i++) printf("%s\"%s\": %lu", i ? ", " : "", failure_names[i], failures[i]);
    printf("}, \"bytes\": %lu, \"seconds\": %.3f, \"rate\": %.1f", received, seconds, (double)completed / seconds);
    printf(", \"p50\": %.2f, \"p90\": %.2f, \"p99\": %.2f, \"p999\": %.2f", percentile(0.5), percentile(0.9), percentile(0.99),
        percentile(0.999));
    printf(", \"max\": %.2f, \"handshakes\": %lu, \"resumed\": %lu}\n", percentile(1), tls_handshakes, tls_resumed);
}

static int usage(void) {
    fprintf(
        stderr, "usage: load [-c N] [-d SECONDS | -N REQUESTS] [-H FIELD] [-p BYTES] [-e BYTES] [-n] [-r RATE] [-i | -f]\n"
                "            [-t SERVER-NAME [-k PEM-FILE] [-R]] PORT PATH\n");
    return 2;
}

static int64_t number(const char *text) {
    int64_t value = message_number(text, text + strlen(text));
    if (value < 0) {
        fprintf(stderr, "load: %s: expected a number\n", text);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv) {
    int option;
    while ((option = getopt(argc, argv, "c:d:N:H:p:e:nr:ift:k:R")) != -1) {
        switch (option) {
        case 'c': options.connections = (int)number(optarg); break;
        case 'd': options.seconds = strtod(optarg, NULL); break;
        case 'N': options.count = number(optarg); break;
        case 'H': options.field = optarg; break;
        case 'p': options.post = (size_t)number(optarg); break;
        case 'e': options.expected = number(optarg); break;
        case 'n': options.churn = true; break;
        case 'r': options.rate = number(optarg); break;
        case 'i': options.idle = true; break;
        case 'f': options.first = true; break;
        case 't': options.server_name = optarg; break;
        case 'k': options.certificate = optarg; break;
        case 'R': options.resume = true; break;
        default: return usage();
        }
    }
    if (argc - optind != 2 || options.connections < 1 || options.seconds <= 0) return usage();
    if (options.first && options.server_name) return usage();
    if (options.count > 0) options.seconds = 3600;
    options.port = argv[optind];
    options.path = argv[optind + 1];

    prepare_process();
    // The default slack of 50 µs would be added to every request that waits for its moment.
    prctl(PR_SET_TIMERSLACK, 1);
    target = loopback(options.port);
    make_request();
    if (options.server_name) tls_prepare(options.server_name, options.certificate, options.resume);
    if (options.first) return run_first();

    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) fail("epoll_create1");
    all = allocate((size_t)options.connections * sizeof *all);
    for (int i = 0; i < options.connections; i++) {
        all[i].fd = -1;
        if (!options.idle) add_free(&all[i]);
    }
    int64_t begin = now();
    if (options.idle) {
        run_idle();
    } else if (options.rate > 0) {
        run_open(begin, begin + (int64_t)(options.seconds * (double)SECOND));
    } else {
        run_closed(begin + (int64_t)(options.seconds * (double)SECOND));
    }
    double seconds = (double)(now() - begin) / (double)SECOND;
    for (int i = 0; i < options.connections; i++) {
        if (all[i].busy) {
            failures[TIMEOUT]++;
            failed++;
        }
    }
    report(seconds);
    return 0;
}
