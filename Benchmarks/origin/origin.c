/// The origin behind every proxy of the comparison: answers from memory, keeps every connection alive.
///
///     origin PORT
///
/// GET /1k, /64k, /1m: that many bytes. POST anywhere: the request's body. /close: one byte, then the connection ends. Else 404.
/// A request's `Connection: close` is not obeyed: the floor passes it on, and a caller that asks for it closes the connection itself.
#define _GNU_SOURCE
#include <sys/uio.h>

#include "../common/message.h"
#include "../common/net.h"

enum { SCRATCH = 128 * 1024, EVENTS = 256, BODY_LIMIT = 64 * 1024 * 1024 };

struct connection {
    int fd;
    bool last;                // Close once `out` is written.
    char *in;                 // A request received in part.
    size_t in_count, in_room;
    const char *out;          // What the socket has not taken yet.
    size_t out_count;
    char *owned;              // `out`, when it must be freed.
    struct connection *next;  // In the list of the dead.
};

struct reply {
    const char *path;
    size_t path_length;
    char *bytes;
    size_t count;
};

static int poller;
static struct connection *dead;
static struct reply replies[4];
static const char not_found[] = "HTTP/1.1 404 Not Found\r\nServer: origin\r\nContent-Length: 0\r\n\r\n";
static char scratch[SCRATCH];

static void make_reply(struct reply *reply, const char *path, size_t body, const char *field) {
    reply->path = path;
    reply->path_length = strlen(path);
    reply->bytes = allocate(body + 256);
    static const char form[] = "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\n%sContent-Length: %zu\r\n\r\n";
    int head = sprintf(reply->bytes, form, field, body);
    for (size_t i = 0; i < body; i++) reply->bytes[(size_t)head + i] = (char)('a' + i % 26);
    reply->count = (size_t)head + body;
}

static void end(struct connection *c) {
    close(c->fd);
    c->fd = -1;
    free(c->in);
    free(c->owned);
    c->next = dead;
    dead = c;
}

/// Writes head and body, keeps what the socket does not take. False when the connection is broken.
static bool reply_with(struct connection *c, const char *head, size_t head_count, const char *body, size_t body_count) {
    struct iovec parts[2] = {{(void *)(uintptr_t)head, head_count}, {(void *)(uintptr_t)body, body_count}};
    ssize_t sent = writev(c->fd, parts, body_count ? 2 : 1);
    if (sent < 0 && errno != EAGAIN) return false;
    if (sent < 0) sent = 0;
    size_t left = head_count + body_count - (size_t)sent;
    if (left == 0) return true;
    if (body_count == 0) {
        // One of the replies made at start: they live for ever.
        c->out = head + sent;
    } else {
        size_t head_left = (size_t)sent < head_count ? head_count - (size_t)sent : 0;
        c->owned = allocate(left);
        memcpy(c->owned, head + head_count - head_left, head_left);
        memcpy(c->owned + head_left, body + body_count - (left - head_left), left - head_left);
        c->out = c->owned;
    }
    c->out_count = left;
    return true;
}

/// Answers the request of `head` bytes and the body behind it. False when the connection is broken.
static bool answer(struct connection *c, const char *request, size_t head, size_t body) {
    if (memcmp(request, "POST ", 5) == 0) {
        char line[128];
        int count = sprintf(line, "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n", body);
        return reply_with(c, line, (size_t)count, request + head, body);
    }
    if (memcmp(request, "GET ", 4) == 0) {
        for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
            struct reply *reply = &replies[i];
            if (head < 5 + reply->path_length || memcmp(request + 4, reply->path, reply->path_length) != 0) continue;
            if (request[4 + reply->path_length] != ' ') continue;
            c->last = strcmp(reply->path, "/close") == 0;
            return reply_with(c, reply->bytes, reply->count, NULL, 0);
        }
    }
    return reply_with(c, not_found, sizeof not_found - 1, NULL, 0);
}

static void keep(struct connection *c, const char *bytes, size_t count, size_t expected) {
    size_t room = count + SCRATCH > expected ? count + SCRATCH : expected;
    if (bytes != c->in) {
        if (c->in_room < room) {
            char *grown = allocate(room);
            memcpy(grown, bytes, count);
            free(c->in);
            c->in = grown;
            c->in_room = room;
        } else {
            memmove(c->in, bytes, count);
        }
    } else if (c->in_room < room) {
        c->in = realloc(c->in, room);
        if (!c->in) fail("realloc");
        c->in_room = room;
    }
    c->in_count = count;
}

/// Answers every whole request in `bytes` and keeps the rest. False when the connection is broken.
static bool take(struct connection *c, const char *bytes, size_t count) {
    size_t expected = 0;
    while (count > 0 && !c->out && !c->last) {
        struct message request;
        message_reset(&request);
        size_t head = message_head(&request, bytes, count);
        if (request.state == MESSAGE_HEAD) break;
        size_t body = request.fixed ? (size_t)request.length : 0;
        // Every proxy here passes a Content-Length on; chunked requests are not part of the comparison.
        if (request.state == MESSAGE_BAD || request.state == MESSAGE_CHUNK_SIZE || body > BODY_LIMIT) return false;
        expected = head + body;
        if (count < expected) break;
        if (!answer(c, bytes, head, body)) return false;
        bytes += expected;
        count -= expected;
        expected = 0;
    }
    if (count > 0) {
        keep(c, bytes, count, expected);
    } else {
        c->in_count = 0;
    }
    return true;
}

static void handle(struct connection *c, uint32_t events) {
    if (c->fd < 0) return;
    if (events & (EPOLLERR | EPOLLHUP)) {
        end(c);
        return;
    }
    for (;;) {
        if (c->out) {
            ssize_t sent = write(c->fd, c->out, c->out_count);
            if (sent < 0 && errno == EAGAIN) return;
            if (sent < 0) break;
            c->out += sent;
            c->out_count -= (size_t)sent;
            if (c->out_count > 0) continue;
            free(c->owned);
            c->out = c->owned = NULL;
            if (!c->last && c->in_count > 0 && !take(c, c->in, c->in_count)) break;
            continue;
        }
        if (c->last) break;
        char *into = c->in_count > 0 ? c->in + c->in_count : scratch;
        size_t room = c->in_count > 0 ? c->in_room - c->in_count : SCRATCH;
        ssize_t got = read(c->fd, into, room);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) break;
        if (!(c->in_count > 0 ? take(c, c->in, c->in_count + (size_t)got) : take(c, scratch, (size_t)got))) break;
        if ((size_t)got < room && !c->out && !c->last && !(events & EPOLLRDHUP)) return;
    }
    end(c);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: origin PORT\n");
        return 2;
    }
    prepare_process();
    make_reply(&replies[0], "/1k", 1024, "");
    make_reply(&replies[1], "/64k", 64 * 1024, "");
    make_reply(&replies[2], "/1m", 1024 * 1024, "");
    make_reply(&replies[3], "/close", 1, "Connection: close\r\n");
    int listener = listen_on(loopback(argv[1]));
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) fail("epoll_create1");
    watch(poller, listener, EPOLLIN, NULL);

    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poller, events, EVENTS, -1);
        if (count < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr) {
                handle(events[i].data.ptr, events[i].events);
                continue;
            }
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd < 0) continue;
            struct connection *c = allocate(sizeof *c);
            c->fd = fd;
            watch(poller, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c);
        }
        while (dead) {
            struct connection *next = dead->next;
            free(dead);
            dead = next;
        }
    }
}
