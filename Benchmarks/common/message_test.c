/// message.h against a table, each message cut in two at every place. Prints what is wrong and ends with 1, or is silent.
///
///     gcc -std=gnu11 -fsanitize=address,undefined -o .build/message_test Benchmarks/common/message_test.c && .build/message_test
#include "message.h"

#include <stdio.h>

static const struct {
    const char *bytes;
    enum message_state state;
    size_t length;  // Of the message; what follows it in `bytes` is not part of it. Without meaning for a bad one.
    bool bodyless;
} rows[] = {
    {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", MESSAGE_DONE, 27, false},
    {"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", MESSAGE_DONE, 27, false},
    {"POST / HTTP/1.1\r\ncontent-LENGTH:  5 \r\n\r\nhelloX", MESSAGE_DONE, 45, false},
    {"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell", MESSAGE_FIXED, 42, false},
    {"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", MESSAGE_DONE, 38, false},
    {"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", MESSAGE_BAD, 38, false},
    {"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", MESSAGE_BAD, 39, false},
    {"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", MESSAGE_BAD, 57, false},
    {"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", MESSAGE_BAD, 66, false},
    {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=1\r\n0\r\n\r\n56789\r\n0\r\n\r\nX", MESSAGE_DONE, 79, false},
    {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n", MESSAGE_DONE, 58, false},
    {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffff\r\n", MESSAGE_BAD, 60, false},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", MESSAGE_DONE, 40, false},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", MESSAGE_DONE, 38, true},
    {"HTTP/1.1 204 No Content\r\n\r\n", MESSAGE_DONE, 27, false},
    {"HTTP/1.1 200 OK\r\n\r\nuntil the end", MESSAGE_BAD, 19, false},
    {"HTTP/1.1 200 OK\r\nContent-Len", MESSAGE_HEAD, 0, false},
};

int main(void) {
    int wrong = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t count = strlen(rows[i].bytes);
        for (size_t cut = 0; cut <= count; cut++) {
            struct message m;
            message_reset(&m);
            m.bodyless = rows[i].bodyless;
            size_t used = message_feed(&m, rows[i].bytes, cut);
            bool open = m.state != MESSAGE_DONE && m.state != MESSAGE_BAD;
            if (open) used += message_feed(&m, rows[i].bytes + used, count - used);
            if (m.state == rows[i].state && (used == rows[i].length || m.state == MESSAGE_BAD)) continue;
            printf("row %zu cut at %zu: expected state %d after %zu bytes, found %d after %zu\n", i, cut, (int)rows[i].state,
                rows[i].length, (int)m.state, used);
            wrong = 1;
        }
    }
    return wrong;
}
