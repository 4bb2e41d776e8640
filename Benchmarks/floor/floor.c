/// The floor: an HTTP/1.1 relay that finds message ends and does nothing else. What it costs is what epoll, TCP and this kernel cost;
/// a proxy that parses, routes and counts can come near it and not below.
///
///     floor LISTEN-PORT ORIGIN-PORT
///
/// One thread, edge-triggered epoll with one registration per connection, one read and one write per direction of a small exchange,
/// upstream connections kept alive and reused last in, first out. No pipelining, no bodies that end with the connection: both end the
/// exchange. Nothing is retried.
#define _GNU_SOURCE
#include "../common/message.h"
#include "../common/net.h"

enum {
    // One read takes a small or middling message whole.
    SCRATCH = 64 * 1024,
    // Of a long body pieces of half the size cost a quarter less: they leave the cache to the kernel's side of the copy.
    PIECE = 32 * 1024,
    LONG = 128 * 1024,
    EVENTS = 256,
};

struct connection {
    int fd;
    bool upstream;
    bool readable;  // The kernel may have more for us.
    bool ending;    // The other side has sent its FIN: reads go on until they return 0.
    struct connection *peer;  // The other end of the exchange under way.
    struct connection *previous, *next;  // In the pool of idle upstream connections, or `next` in the list of the dead.
    struct message message;  // What this side is sending.
    char *stash;             // A head received in part.
    size_t stashed;
    char *unsent;            // What this side has not taken yet; it stops the reads of its peer.
    size_t unsent_from, unsent_to;
};

static int poller;
static struct sockaddr_in origin;
static struct connection pool = {.previous = &pool, .next = &pool};
static struct connection *dead;
static char scratch[SCRATCH];

static struct connection *connection_new(int fd, bool upstream) {
    struct connection *c = allocate(sizeof *c);
    c->fd = fd;
    c->upstream = upstream;
    watch(poller, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c);
    return c;
}

static bool in_pool(const struct connection *c) {
    return c->next != NULL;
}

static void pool_remove(struct connection *c) {
    c->previous->next = c->next;
    c->next->previous = c->previous;
    c->previous = c->next = NULL;
}

static void pool_add(struct connection *c) {
    c->previous = &pool;
    c->next = pool.next;
    pool.next->previous = c;
    pool.next = c;
}

/// Closes now, frees after the batch of events, in which the connection may be named again.
static void end(struct connection *c) {
    if (c->fd < 0) return;
    close(c->fd);
    c->fd = -1;
    free(c->stash);
    free(c->unsent);
    if (in_pool(c)) pool_remove(c);
    c->next = dead;
    dead = c;
}

static void end_exchange(struct connection *c) {
    struct connection *peer = c->peer;
    end(c);
    if (peer) end(peer);
}

static struct connection *lease(void) {
    struct connection *c = pool.next;
    if (c != &pool) {
        pool_remove(c);
        return c;
    }
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return NULL;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (struct sockaddr *)&origin, sizeof origin) < 0 && errno != EINPROGRESS) {
        close(fd);
        return NULL;
    }
    return connection_new(fd, true);
}

/// Writes what the socket takes and keeps the rest. False when the connection is broken.
static bool send_or_keep(struct connection *c, const char *bytes, size_t count) {
    ssize_t sent = write(c->fd, bytes, count);
    if (sent < 0 && errno != EAGAIN) return false;
    if (sent < 0) sent = 0;
    if ((size_t)sent < count) {
        c->unsent = allocate(count - (size_t)sent);
        memcpy(c->unsent, bytes + sent, count - (size_t)sent);
        c->unsent_from = 0;
        c->unsent_to = count - (size_t)sent;
    }
    return true;
}

static bool flush(struct connection *c) {
    ssize_t sent = write(c->fd, c->unsent + c->unsent_from, c->unsent_to - c->unsent_from);
    if (sent < 0) return errno == EAGAIN;
    c->unsent_from += (size_t)sent;
    if (c->unsent_from == c->unsent_to) {
        free(c->unsent);
        c->unsent = NULL;
    }
    return true;
}

/// Moves what `from` has to offer to the other side, until it has no more or the other side takes no more.
static void pump(struct connection *from) {
    while (from->readable) {
        if (from->peer && from->peer->unsent) return;
        if (!from->upstream && from->message.state == MESSAGE_DONE) return;

        size_t kept = from->stashed;
        if (kept) memcpy(scratch, from->stash, kept);
        size_t room = (from->message.left >= LONG ? PIECE : SCRATCH) - kept;
        ssize_t got = read(from->fd, scratch + kept, room);
        if (got < 0 && errno == EAGAIN) {
            from->readable = false;
            return;
        }
        if (got <= 0) {
            end_exchange(from);
            return;
        }
        // A short read has drained the socket: the next byte makes a new edge. A FIN that was already reported does not.
        if ((size_t)got < room) from->readable = from->ending;

        size_t count = kept + (size_t)got;
        size_t used = message_feed(&from->message, scratch, count);
        if (from->message.state == MESSAGE_HEAD && count < SCRATCH) {
            free(from->stash);
            from->stash = allocate(count);
            from->stashed = count;
            memcpy(from->stash, scratch, count);
            continue;
        }
        from->stashed = 0;
        if (from->message.state == MESSAGE_BAD || used < count || (from->upstream && !from->peer)) {
            end_exchange(from);
            return;
        }
        if (!from->peer) {
            struct connection *upstream = lease();
            if (!upstream) {
                end(from);
                return;
            }
            upstream->peer = from;
            from->peer = upstream;
            upstream->message.bodyless = memcmp(scratch, "HEAD ", 5) == 0;
        }
        if (!send_or_keep(from->peer, scratch, count)) {
            end_exchange(from);
            return;
        }
        if (from->upstream && from->message.state == MESSAGE_DONE) {
            struct connection *downstream = from->peer;
            if (downstream->message.state != MESSAGE_DONE) {
                end_exchange(from);
                return;
            }
            from->peer = downstream->peer = NULL;
            message_reset(&from->message);
            message_reset(&downstream->message);
            if (from->ending) {
                end(from);
            } else {
                pool_add(from);
            }
            pump(downstream);
            return;
        }
    }
}

static void handle(struct connection *c, uint32_t events) {
    if (c->fd < 0) return;
    if (events & (EPOLLERR | EPOLLHUP)) {
        end_exchange(c);
        return;
    }
    if (events & EPOLLRDHUP) {
        // An idle connection is simply over, and nobody waits for the response to a caller that has gone.
        if (!c->upstream || in_pool(c)) {
            end_exchange(c);
            return;
        }
        c->ending = true;
    }
    if (events & EPOLLOUT && c->unsent) {
        if (!flush(c)) {
            end_exchange(c);
            return;
        }
        if (!c->unsent && c->peer) pump(c->peer);
    }
    if (events & EPOLLIN && c->fd >= 0) {
        c->readable = true;
        pump(c);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: floor LISTEN-PORT ORIGIN-PORT\n");
        return 2;
    }
    prepare_process();
    origin = loopback(argv[2]);
    int listener = listen_on(loopback(argv[1]));
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) fail("epoll_create1");
    // Level-triggered, one accept an event: a second one to learn that nobody else waits would cost more than it finds.
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
            if (fd >= 0) connection_new(fd, false);
        }
        while (dead) {
            struct connection *next = dead->next;
            free(dead);
            dead = next;
        }
    }
}
