/// A host that gets into trouble on time: answers HTTP/1.1 requests, and from one moment to another does so badly.
///
///     host PORT BEGIN LOG SEED SERVICE [TROUBLE:FROM:TO]...
///
///     BEGIN    nanoseconds on CLOCK_MONOTONIC; all other times are seconds from it
///     LOG      a line for each request: when it came, when it is answered (-1: never), in nanoseconds from BEGIN, and the status
///     SERVICE  usual: 1.5 to 2.5 ms, one of fifty up to 3 ms more, any number at a time. Or N: N milliseconds, one at a time, in turn;
///              what has begun is done even if its caller has left, and so is what waits
///     TROUBLE  500 (at half the usual time), half (every second answer is a 500), hang, or slow=MILLISECONDS
///
/// The log is written at once, so that it says all when the host is killed.
#define _GNU_SOURCE
#include <fcntl.h>
#include <time.h>

#include "../common/message.h"
#include "../common/net.h"

enum { EVENTS = 256, REQUEST_LIMIT = 8 * 1024, TROUBLES = 16 };

static const int64_t SECOND = 1000000000, MILLISECOND = 1000000;

enum kind { WELL, ERRORS, HALF, HANG, SLOW };

struct trouble {
    enum kind kind;
    int64_t extra, from, to;
};

struct connection {
    int fd;        // -1 once closed, while an answer is still planned.
    bool planned;  // There is an answer in the heap.
    bool busy;     // A request was read and is not answered.
    size_t count;
    char in[REQUEST_LIMIT];
};

struct answer {
    int64_t at;
    struct connection *to;
    int status;
};

static int poller, log_file;
static int64_t begin, service, free_at;
static uint64_t seed, served;
static struct trouble troubles[TROUBLES];
static int trouble_count;
static struct answer *heap;
static size_t heap_count, heap_room;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

/// SplitMix64.
static int64_t below(int64_t limit) {
    uint64_t z = seed += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (int64_t)((z ^ (z >> 31)) % (uint64_t)limit);
}

static void push(struct answer answer) {
    if (heap_count == heap_room) {
        heap_room = heap_room ? 2 * heap_room : 256;
        heap = realloc(heap, heap_room * sizeof *heap);
        if (!heap) fail("realloc");
    }
    size_t child = heap_count++;
    for (; child > 0 && heap[(child - 1) / 2].at > answer.at; child = (child - 1) / 2) heap[child] = heap[(child - 1) / 2];
    heap[child] = answer;
}

static struct answer pop(void) {
    struct answer first = heap[0], last = heap[--heap_count];
    size_t parent = 0;
    for (size_t child; (child = 2 * parent + 1) < heap_count; parent = child) {
        if (child + 1 < heap_count && heap[child + 1].at < heap[child].at) child++;
        if (heap[child].at >= last.at) break;
        heap[parent] = heap[child];
    }
    heap[parent] = last;
    return first;
}

static void end(struct connection *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    if (!c->planned) free(c);
}

/// A request is there: decides when it is answered, and how.
static void plan(struct connection *c) {
    int64_t time = now(), at;
    struct trouble trouble = {.kind = WELL};
    for (int i = 0; i < trouble_count; i++) {
        if (begin + troubles[i].from <= time && time < begin + troubles[i].to) trouble = troubles[i];
    }
    bool fails = trouble.kind == ERRORS || (trouble.kind == HALF && served % 2 == 0);
    served++;
    if (service > 0) {
        // From the moment the one before was due, not from when the timer came: the capacity is exact.
        at = free_at = (free_at > time ? free_at : time) + service;
    } else {
        int64_t usual = 3 * MILLISECOND / 2 + below(MILLISECOND);
        if (below(50) == 0) usual += below(3 * MILLISECOND);
        at = time + (fails ? usual / 2 : usual) + (trouble.kind == SLOW ? trouble.extra : 0);
    }
    bool hangs = trouble.kind == HANG;
    int status = fails ? 500 : 200;
    char line[96];
    int count = sprintf(line, "%ld %ld %d\n", time - begin, hangs ? -1 : at - begin, hangs ? 0 : status);
    if (write(log_file, line, (size_t)count) != count) fail("log");
    c->busy = true;
    if (hangs) return;
    c->planned = true;
    push((struct answer){at, c, status});
}

static void take(struct connection *c) {
    if (c->busy || c->count == 0) return;
    struct message request;
    message_reset(&request);
    size_t used = message_feed(&request, c->in, c->count);
    if (request.state == MESSAGE_HEAD && c->count < REQUEST_LIMIT) return;
    if (request.state != MESSAGE_DONE) {
        end(c);
        return;
    }
    c->count -= used;
    memmove(c->in, c->in + used, c->count);
    plan(c);
}

static void reply(struct answer answer) {
    static const char good[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n";
    static const char bad[] = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbad\n";
    struct connection *c = answer.to;
    c->planned = c->busy = false;
    if (c->fd < 0) {
        free(c);
        return;
    }
    const char *text = answer.status == 200 ? good : bad;
    size_t count = (answer.status == 200 ? sizeof good : sizeof bad) - 1;
    // So few bytes always fit into the socket's buffer.
    if (write(c->fd, text, count) != (ssize_t)count) {
        end(c);
        return;
    }
    take(c);
}

static void handle(struct connection *c) {
    if (c->count == REQUEST_LIMIT) {
        end(c);
        return;
    }
    ssize_t got = read(c->fd, c->in + c->count, REQUEST_LIMIT - c->count);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        end(c);
        return;
    }
    c->count += (size_t)got;
    take(c);
}

static double seconds(const char *text) {
    char *rest;
    double value = strtod(text, &rest);
    if (rest == text || *rest || value < 0) {
        fprintf(stderr, "host: %s: expected seconds\n", text);
        exit(2);
    }
    return value;
}

static struct trouble read_trouble(char *text) {
    static const char *const names[] = {"500", "half", "hang"};
    char *name = strtok(text, ":"), *from = strtok(NULL, ":"), *to = strtok(NULL, ":");
    struct trouble trouble = {.kind = WELL};
    if (name && from && to) {
        for (int i = 0; i < 3; i++) {
            if (strcmp(name, names[i]) == 0) trouble.kind = (enum kind)(ERRORS + i);
        }
        if (strncmp(name, "slow=", 5) == 0) {
            trouble.kind = SLOW;
            trouble.extra = (int64_t)(seconds(name + 5) * (double)MILLISECOND);
        }
    }
    if (trouble.kind == WELL) {
        fprintf(stderr, "host: expected 500, half, hang or slow=MILLISECONDS, then :FROM:TO\n");
        exit(2);
    }
    trouble.from = (int64_t)(seconds(from) * (double)SECOND);
    trouble.to = (int64_t)(seconds(to) * (double)SECOND);
    return trouble;
}

int main(int argc, char **argv) {
    if (argc < 6 || argc - 6 > TROUBLES) {
        fprintf(stderr, "usage: host PORT BEGIN LOG SEED usual|MILLISECONDS [500|half|hang|slow=MILLISECONDS:FROM:TO]...\n");
        return 2;
    }
    prepare_process();
    // The default slack of 50 µs would be added to every answer.
    prctl(PR_SET_TIMERSLACK, 1);
    begin = strtoll(argv[2], NULL, 10);
    log_file = open(argv[3], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log_file < 0) fail(argv[3]);
    seed = strtoull(argv[4], NULL, 10);
    if (strcmp(argv[5], "usual") != 0) service = (int64_t)(seconds(argv[5]) * (double)MILLISECOND);
    for (int i = 6; i < argc; i++) troubles[trouble_count++] = read_trouble(argv[i]);
    int listener = listen_on(loopback(argv[1]));
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) fail("epoll_create1");
    watch(poller, listener, EPOLLIN, NULL);

    for (;;) {
        struct epoll_event events[EVENTS];
        struct timespec timeout, *limit = NULL;
        if (heap_count > 0) {
            int64_t left = heap[0].at - now();
            if (left < 0) left = 0;
            timeout = (struct timespec){left / SECOND, left % SECOND};
            limit = &timeout;
        }
        int count = epoll_pwait2(poller, events, EVENTS, limit, NULL);
        if (count < 0 && errno != EINTR) fail("epoll_pwait2");
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr) {
                handle(events[i].data.ptr);
                continue;
            }
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd < 0) continue;
            struct connection *c = allocate(sizeof *c);
            c->fd = fd;
            watch(poller, fd, EPOLLIN, c);
        }
        // Only now: each connection is at most once among the events, and an answer may end it.
        while (heap_count > 0 && heap[0].at <= now()) reply(pop());
    }
}
