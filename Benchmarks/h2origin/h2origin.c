/// The HTTP/2 origin behind every proxy of the comparison: cleartext by prior knowledge, answers from memory.
///
///     h2origin PORT
///
/// A request without a body gets 1 KiB; one with a body is a unary gRPC call and gets a message of 123 bytes and the trailer
/// `grpc-status: 0`. Nothing else is asked of it, so it reads no field of a request: HPACK's decoder, most of what HTTP/2 costs a
/// server, is left out, and the origin is far from being the bottleneck. What it sends is what a good encoder sends: fields enter
/// the dynamic table with the first response of a connection and are one byte each from then on.
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>

#include "../common/net.h"

enum {
    SCRATCH = 128 * 1024,
    EVENTS = 256,
    FRAME_HEAD = 9,
    // The largest frame a peer may send without our leave (RFC 9113 §4.2): we give none.
    FRAME_LIMIT = 16384,
    // What Go's server allows, and so a common figure.
    STREAM_LIMIT = 250,
    // Streams that have begun and are not answered yet, those refused but not reset included.
    OPEN_LIMIT = 4 * STREAM_LIMIT,
    BODY = 1024,
    MESSAGE = 5 + 123,
};

enum frame { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
enum flag { ACK = 1, END_STREAM = 1, END_HEADERS = 4 };
enum setting { HEADER_TABLE_SIZE = 1, MAX_CONCURRENT_STREAMS = 3, INITIAL_WINDOW_SIZE = 4 };

/// The fields of all responses, by their index in the static table for the name (RFC 7541 appendix A), 0 for a name of its own.
enum field { SERVER, TYPE_TEXT, LENGTH, TYPE_GRPC, GRPC_STATUS, FIELDS };
static const struct {
    uint8_t name_index;
    const char *name, *value;
} fields[FIELDS] = {
    [SERVER] = {54, NULL, "origin"},          [TYPE_TEXT] = {31, NULL, "text/plain"},    [LENGTH] = {28, NULL, "1024"},
    [TYPE_GRPC] = {31, NULL, "application/grpc"}, [GRPC_STATUS] = {0, "grpc-status", "0"},
};

struct connection {
    int fd;
    bool greeted;             // The client's preface has been seen.
    bool literal;             // The client has made its dynamic table smaller than ours needs: no field enters it.
    bool resized;             // And has been told that it is empty now.
    int inserted;             // Entries in the client's dynamic table.
    int position[FIELDS];     // When a field entered it, counted from 1; 0: not yet.
    int64_t window;           // What the client takes on this connection.
    int64_t received;         // Body bytes not given back yet.
    uint32_t headers_stream;  // Of a HEADERS that CONTINUATION goes on, with its flags.
    uint8_t headers_flags;
    uint32_t open[OPEN_LIMIT];  // Streams whose request has a body to come.
    int open_count;
    uint32_t *waiting;        // Requests to answer when the window opens, in order; the sign bit marks gRPC.
    size_t waiting_from, waiting_to, waiting_room;
    uint8_t *in;              // A frame received in part.
    size_t in_count;
    uint8_t *out;             // What one turn of the loop has to say, and what the socket did not take.
    size_t out_from, out_to, out_room;
    struct connection *next;  // In the list of the dead.
};

static const uint32_t GRPC = UINT32_C(1) << 31;
static int poller;
static struct connection *dead;
static uint8_t scratch[SCRATCH], body[BODY], message[MESSAGE];

static uint8_t *grow(struct connection *c, size_t count) {
    if (c->out_to + count > c->out_room && c->out_from > 0) {
        memmove(c->out, c->out + c->out_from, c->out_to - c->out_from);
        c->out_to -= c->out_from;
        c->out_from = 0;
    }
    if (c->out_to + count > c->out_room) {
        c->out_room = 2 * (c->out_to + count) + 4096;
        c->out = realloc(c->out, c->out_room);
        if (!c->out) fail("realloc");
    }
    uint8_t *at = c->out + c->out_to;
    c->out_to += count;
    return at;
}

static void put32(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
}

static uint32_t get32(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void put_frame_head(uint8_t *at, size_t length, enum frame type, int flags, uint32_t stream) {
    put32(at, (uint32_t)length << 8 | (uint32_t)type);
    at[4] = (uint8_t)flags;
    put32(at + 5, stream);
}

static uint8_t *put_frame(struct connection *c, size_t length, enum frame type, int flags, uint32_t stream) {
    uint8_t *at = grow(c, FRAME_HEAD + length);
    put_frame_head(at, length, type, flags, stream);
    return at + FRAME_HEAD;
}

static uint8_t *put_text(uint8_t *at, const char *text) {
    size_t length = strlen(text);
    *at = (uint8_t)length;
    memcpy(at + 1, text, length);
    return at + 1 + length;
}

/// One field of a header block (RFC 7541 §6): its index, or itself, which enters the table where there is one.
static uint8_t *put_field(struct connection *c, uint8_t *at, enum field field) {
    if (c->position[field]) {
        *at++ = (uint8_t)(0x80 | (62 + c->inserted - c->position[field]));
        return at;
    }
    uint8_t index = fields[field].name_index;
    if (!c->literal) {
        c->position[field] = ++c->inserted;
        *at++ = 0x40 | index;
    } else if (index < 15) {
        *at++ = index;
    } else {
        *at++ = 15;
        *at++ = (uint8_t)(index - 15);
    }
    if (index == 0) at = put_text(at, fields[field].name);
    return put_text(at, fields[field].value);
}

static void put_fields(struct connection *c, uint32_t stream, bool status, int flags, const enum field *list, int count) {
    uint8_t block[256], *end = block;
    if (c->literal && !c->resized) {
        c->resized = true;
        *end++ = 0x20;
    }
    if (status) *end++ = 0x88;
    for (int i = 0; i < count; i++) end = put_field(c, end, list[i]);
    size_t length = (size_t)(end - block);
    memcpy(put_frame(c, length, HEADERS, END_HEADERS | flags, stream), block, length);
}

/// Answers what waits, as far as the client's window reaches.
static void answer(struct connection *c) {
    static const enum field text[] = {SERVER, TYPE_TEXT, LENGTH}, grpc[] = {SERVER, TYPE_GRPC}, trailer[] = {GRPC_STATUS};
    while (c->waiting_from < c->waiting_to) {
        uint32_t stream = c->waiting[c->waiting_from] & ~GRPC;
        bool is_grpc = c->waiting[c->waiting_from] & GRPC;
        int size = is_grpc ? MESSAGE : BODY;
        if (c->window < size) return;
        c->window -= size;
        c->waiting_from++;
        if (is_grpc) {
            put_fields(c, stream, true, 0, grpc, 2);
            memcpy(put_frame(c, MESSAGE, DATA, 0, stream), message, MESSAGE);
            put_fields(c, stream, false, END_STREAM, trailer, 1);
        } else {
            put_fields(c, stream, true, 0, text, 3);
            memcpy(put_frame(c, BODY, DATA, END_STREAM, stream), body, BODY);
        }
    }
    c->waiting_from = c->waiting_to = 0;
}

static void enqueue(struct connection *c, uint32_t stream) {
    if (c->waiting_to == c->waiting_room && c->waiting_from > 0) {
        memmove(c->waiting, c->waiting + c->waiting_from, (c->waiting_to - c->waiting_from) * sizeof *c->waiting);
        c->waiting_to -= c->waiting_from;
        c->waiting_from = 0;
    }
    if (c->waiting_to == c->waiting_room) {
        c->waiting_room = 2 * c->waiting_room + 64;
        c->waiting = realloc(c->waiting, c->waiting_room * sizeof *c->waiting);
        if (!c->waiting) fail("realloc");
    }
    c->waiting[c->waiting_to++] = stream;
}

static bool close_stream(struct connection *c, uint32_t stream) {
    for (int i = 0; i < c->open_count; i++) {
        if (c->open[i] != stream) continue;
        c->open[i] = c->open[--c->open_count];
        return true;
    }
    return false;
}

/// The end of a header block: a request without a body, the head of one with a body, or the trailers of that.
static bool take_headers(struct connection *c) {
    uint32_t stream = c->headers_stream;
    c->headers_stream = 0;
    if (!(c->headers_flags & END_STREAM)) {
        if (c->open_count == OPEN_LIMIT) return false;
        c->open[c->open_count++] = stream;
        return true;
    }
    enqueue(c, close_stream(c, stream) ? stream | GRPC : stream);
    return true;
}

static bool take_settings(struct connection *c, const uint8_t *payload, size_t length, int flags) {
    if (flags & ACK) return length == 0;
    if (length % 6 != 0) return false;
    for (const uint8_t *at = payload; at < payload + length; at += 6) {
        uint32_t value = get32(at + 2);
        switch (at[0] << 8 | at[1]) {
        case HEADER_TABLE_SIZE:
            if (c->inserted == 0) c->literal = value < 4096;
            break;
        case INITIAL_WINDOW_SIZE:
            // Every reply fits into any window a proxy is likely to open, so the windows of streams are not kept.
            if (value < BODY) return false;
            break;
        }
    }
    put_frame(c, 0, SETTINGS, ACK, 0);
    return true;
}

static bool take_data(struct connection *c, size_t length, int flags, uint32_t stream) {
    // The stream's own window is as large as can be: no message here comes near it.
    c->received += (int64_t)length;
    if (c->received > 1 << 30) {
        put32(put_frame(c, 4, WINDOW_UPDATE, 0, 0), (uint32_t)c->received);
        c->received = 0;
    }
    if (flags & END_STREAM && close_stream(c, stream)) enqueue(c, stream | GRPC);
    return true;
}

static bool take_frame(struct connection *c, const uint8_t *head, size_t length) {
    const uint8_t *payload = head + FRAME_HEAD;
    int flags = head[4];
    uint32_t stream = get32(head + 5) & ~GRPC;
    if (c->headers_stream && head[3] != CONTINUATION) return false;
    switch (head[3]) {
    case DATA:
        return take_data(c, length, flags, stream);
    case HEADERS:
        c->headers_stream = stream;
        c->headers_flags = (uint8_t)flags;
        return stream != 0 && (!(flags & END_HEADERS) || take_headers(c));
    case CONTINUATION:
        return c->headers_stream == stream && stream != 0 && (!(flags & END_HEADERS) || take_headers(c));
    case RST_STREAM:
        close_stream(c, stream);
        return true;
    case SETTINGS:
        return take_settings(c, payload, length, flags);
    case PING:
        if (!(flags & ACK) && length == 8) memcpy(put_frame(c, 8, PING, ACK, 0), payload, 8);
        return length == 8;
    case WINDOW_UPDATE:
        if (stream == 0 && length == 4) c->window += get32(payload) & ~GRPC;
        return length == 4;
    default:
        return true;
    }
}

/// Takes every whole frame and returns how many bytes they were, or -1 when the peer breaks the protocol.
static ssize_t take(struct connection *c, const uint8_t *bytes, size_t count) {
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    size_t used = 0;
    if (!c->greeted) {
        if (count < sizeof preface - 1) return 0;
        if (memcmp(bytes, preface, sizeof preface - 1) != 0) return -1;
        c->greeted = true;
        used = sizeof preface - 1;
        uint8_t *settings = put_frame(c, 12, SETTINGS, 0, 0);
        settings[0] = 0;
        settings[1] = MAX_CONCURRENT_STREAMS;
        put32(settings + 2, STREAM_LIMIT);
        settings[6] = 0;
        settings[7] = INITIAL_WINDOW_SIZE;
        put32(settings + 8, INT32_MAX);
        put32(put_frame(c, 4, WINDOW_UPDATE, 0, 0), INT32_MAX - 65535);
    }
    while (count - used >= FRAME_HEAD) {
        size_t length = get32(bytes + used) >> 8;
        if (length > FRAME_LIMIT) return -1;
        if (count - used < FRAME_HEAD + length) break;
        if (!take_frame(c, bytes + used, length)) return -1;
        used += FRAME_HEAD + length;
    }
    answer(c);
    return (ssize_t)used;
}

static void end(struct connection *c) {
    close(c->fd);
    c->fd = -1;
    free(c->in);
    free(c->out);
    free(c->waiting);
    c->next = dead;
    dead = c;
}

static bool flush(struct connection *c) {
    if (c->out_from == c->out_to) return true;
    ssize_t sent = write(c->fd, c->out + c->out_from, c->out_to - c->out_from);
    if (sent < 0) return errno == EAGAIN;
    c->out_from += (size_t)sent;
    if (c->out_from == c->out_to) c->out_from = c->out_to = 0;
    return true;
}

/// Reads all there is, then writes once.
static void handle(struct connection *c, uint32_t events) {
    if (c->fd < 0) return;
    bool alive = !(events & (EPOLLERR | EPOLLHUP));
    for (bool more = alive; more;) {
        size_t kept = c->in_count;
        if (kept) memcpy(scratch, c->in, kept);
        ssize_t got = read(c->fd, scratch + kept, SCRATCH - kept);
        if (got < 0 && errno == EAGAIN) break;
        ssize_t used = got > 0 ? take(c, scratch, kept + (size_t)got) : -1;
        if (used < 0) {
            alive = false;
            break;
        }
        c->in_count = kept + (size_t)got - (size_t)used;
        if (c->in_count) {
            if (!c->in) c->in = allocate(FRAME_HEAD + FRAME_LIMIT);
            memcpy(c->in, scratch + used, c->in_count);
        }
        more = (size_t)got == SCRATCH - kept || events & EPOLLRDHUP;
    }
    if (!alive || !flush(c)) end(c);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: h2origin PORT\n");
        return 2;
    }
    prepare_process();
    for (int i = 0; i < BODY; i++) body[i] = (uint8_t)('a' + i % 26);
    put32(message + 1, MESSAGE - 5);
    for (int i = 5; i < MESSAGE; i++) message[i] = (uint8_t)('a' + (i - 5) % 26);
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
            c->window = 65535;
            watch(poller, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c);
        }
        while (dead) {
            struct connection *next = dead->next;
            free(dead);
            dead = next;
        }
    }
}
