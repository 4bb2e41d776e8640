/// Finds where one HTTP/1.1 message ends (RFC 9112 §6), and nothing else.
///
/// The C programs of this folder share it: the floor because a relay that keeps connections alive must know this much and no more,
/// the load generator and the origin because they must not cost more than what they measure.
#ifndef MESSAGE_H
#define MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

enum message_state {
    MESSAGE_HEAD,        // The head has not been seen to its end.
    MESSAGE_FIXED,       // `left` bytes of a body with Content-Length remain.
    MESSAGE_CHUNK_SIZE,  // In a chunk-size line; `left` is the size so far.
    MESSAGE_CHUNK_DATA,  // `left` bytes of chunk data and its CRLF remain.
    MESSAGE_TRAILER,     // After the last chunk; `left` counts the bytes of the current line.
    MESSAGE_DONE,
    MESSAGE_BAD,         // Not HTTP/1.1, contradictory, or framed by the end of the connection, which nobody here speaks.
};

struct message {
    enum message_state state;
    int status;       // Of a response; 0 in a request.
    bool bodyless;    // Set by the caller before the head of a response to HEAD.
    bool in_size;     // Still among the digits of a chunk size, not in its extension.
    bool fixed;       // The head had a Content-Length.
    uint64_t length;  // Its value.
    uint64_t left;
};

static inline void message_reset(struct message *m) {
    *m = (struct message){.state = MESSAGE_HEAD};
}

/// The digits of `text` up to white space or the end, or -1 if there is anything else, nothing, or more than 18 of them.
static inline int64_t message_number(const char *text, const char *end) {
    while (text < end && (*text == ' ' || *text == '\t')) text++;
    int64_t value = 0;
    int digits = 0;
    for (; text < end && *text >= '0' && *text <= '9'; text++, digits++) {
        if (digits == 18) return -1;
        value = value * 10 + (*text - '0');
    }
    while (text < end && (*text == ' ' || *text == '\t' || *text == '\r')) text++;
    return digits > 0 && text == end ? value : -1;
}

/// Reads a whole head and decides how the body is framed. Returns its length, or 0 if its end is not in `bytes`.
static inline size_t message_head(struct message *m, const char *bytes, size_t count) {
    static const char length_name[] = "content-length:", coding_name[] = "transfer-encoding:";
    bool chunked = false, first = true;
    const char *line = bytes, *end = bytes + count;
    m->fixed = false;
    m->status = 0;
    for (;;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) return 0;
        size_t size = (size_t)(stop - line);
        if (first) {
            first = false;
            if (size >= 12 && memcmp(line, "HTTP/1.", 7) == 0) {
                m->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
            }
        } else if (size <= 1) {
            if (size == 1 && *line != '\r') m->state = MESSAGE_BAD;
            line = stop + 1;
            break;
        } else if ((*line | 0x20) == 'c') {
            if (size >= sizeof length_name - 1 && strncasecmp(line, length_name, sizeof length_name - 1) == 0) {
                int64_t value = message_number(line + sizeof length_name - 1, stop);
                if (value < 0 || m->fixed) m->state = MESSAGE_BAD;
                m->fixed = true;
                m->length = (uint64_t)value;
            }
        } else if ((*line | 0x20) == 't') {
            if (size >= sizeof coding_name - 1 && strncasecmp(line, coding_name, sizeof coding_name - 1) == 0) chunked = true;
        }
        line = stop + 1;
    }
    if (m->state == MESSAGE_BAD || (chunked && m->fixed)) {
        m->state = MESSAGE_BAD;
    } else if (m->status != 0 && (m->bodyless || m->status == 204 || m->status == 304)) {
        m->state = MESSAGE_DONE;
    } else if (chunked) {
        m->state = MESSAGE_CHUNK_SIZE;
        m->left = 0;
        m->in_size = true;
    } else if (m->fixed) {
        m->left = m->length;
        m->state = m->left > 0 ? MESSAGE_FIXED : MESSAGE_DONE;
    } else {
        m->state = m->status == 0 ? MESSAGE_DONE : MESSAGE_BAD;
    }
    return (size_t)(line - bytes);
}

/// Takes the next bytes of the stream and returns how many of them belong to this message.
///
/// A head must be given whole: while its end is missing, 0 is returned and the caller offers the same bytes again, with more after them.
static inline size_t message_feed(struct message *m, const char *bytes, size_t count) {
    size_t used = 0;
    if (m->state == MESSAGE_HEAD) used = message_head(m, bytes, count);
    while (used < count) {
        size_t rest = count - used;
        switch (m->state) {
        case MESSAGE_FIXED:
        case MESSAGE_CHUNK_DATA: {
            size_t taken = m->left < rest ? (size_t)m->left : rest;
            m->left -= taken;
            used += taken;
            if (m->left == 0) {
                m->in_size = true;
                m->state = m->state == MESSAGE_FIXED ? MESSAGE_DONE : MESSAGE_CHUNK_SIZE;
            }
            break;
        }
        case MESSAGE_CHUNK_SIZE: {
            char c = bytes[used++];
            char lower = (char)(c | 0x20);
            if (c == '\n') {
                if (m->left == 0) {
                    m->state = MESSAGE_TRAILER;
                } else {
                    m->left += 2;
                    m->state = MESSAGE_CHUNK_DATA;
                }
            } else if (m->in_size && c >= '0' && c <= '9') {
                m->left = m->left * 16 + (uint64_t)(c - '0');
            } else if (m->in_size && lower >= 'a' && lower <= 'f') {
                m->left = m->left * 16 + (uint64_t)(lower - 'a') + 10;
            } else {
                m->in_size = false;
            }
            if (m->left > UINT64_C(1) << 48) m->state = MESSAGE_BAD;
            break;
        }
        case MESSAGE_TRAILER: {
            char c = bytes[used++];
            if (c == '\n') {
                if (m->left == 0) m->state = MESSAGE_DONE;
                m->left = 0;
            } else if (c != '\r') {
                m->left++;
            }
            break;
        }
        case MESSAGE_HEAD:
        case MESSAGE_DONE:
        case MESSAGE_BAD:
            return used;
        }
    }
    return used;
}

#endif
