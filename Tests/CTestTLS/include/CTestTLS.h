// One end of a TLS connection for tests, over OpenSSL directly and apart from the code that is tested: memory to memory, no socket.
#ifndef OUTRIGGER_CTESTTLS_H
#define OUTRIGGER_CTESTTLS_H

#include <stddef.h>
#include <stdint.h>

struct test_tls_settings {
    int is_server;
    const char *chain, *key;        // PEM files; NULL = none.
    const char *trust;              // PEM file; NULL = the other side is not checked. A server with it requires a certificate.
    const char *server_name;        // SNI; NULL = none.
    const uint8_t *protocols;       // ALPN in wire form. A server chooses the client's first that it knows.
    size_t protocols_count;
    int min_version, max_version;   // 0x0301 through 0x0304.
    int tickets;                    // Server: whether it gives any.
};

struct test_tls;
struct test_tls_ticket;

enum { TEST_TLS_DONE, TEST_TLS_WANTS_INPUT, TEST_TLS_ENDED, TEST_TLS_FAILED };

// NULL: see test_tls_words.
struct test_tls *test_tls_new(const struct test_tls_settings *settings, struct test_tls_ticket *resume);
void test_tls_free(struct test_tls *tls);

// Ciphertext in, and out: how much there is, and some of it.
void test_tls_push(struct test_tls *tls, const uint8_t *bytes, size_t count);
size_t test_tls_pending(const struct test_tls *tls);
void test_tls_pull(struct test_tls *tls, uint8_t *bytes, size_t count);

int test_tls_handshake(struct test_tls *tls);
// TEST_TLS_ENDED: close_notify.
int test_tls_read(struct test_tls *tls, uint8_t *bytes, size_t room, size_t *count);
int test_tls_write(struct test_tls *tls, const uint8_t *bytes, size_t count);
void test_tls_finish(struct test_tls *tls);
// Asks for another handshake (TLS 1.2). 0 if OpenSSL would not even ask.
int test_tls_renegotiate(struct test_tls *tls);
// TLS 1.3: new keys for both directions.
void test_tls_update_keys(struct test_tls *tls);

// Why the last call failed, in OpenSSL's words. Valid until the next call on this thread.
const char *test_tls_words(void);
// The alert that the other side sent, or -1.
int test_tls_alert(const struct test_tls *tls);
int test_tls_version(const struct test_tls *tls);
int test_tls_was_resumed(const struct test_tls *tls);
int test_tls_is_compressed(const struct test_tls *tls);
const uint8_t *test_tls_protocol(const struct test_tls *tls, size_t *count);
// What the client named, at a server; NULL = nothing.
const char *test_tls_server_name(const struct test_tls *tls);
// The other side's subject in RFC 2253's form; its length, 0 without a certificate.
size_t test_tls_peer_subject(const struct test_tls *tls, char *text, size_t room);
// SHA-256 of the DER form of the other side's certificate; 0 without one.
int test_tls_peer_digest(const struct test_tls *tls, uint8_t digest[32]);
// The newest session, to be freed by the caller; NULL if there is none that can be resumed.
struct test_tls_ticket *test_tls_take_ticket(struct test_tls *tls);
void test_tls_ticket_free(struct test_tls_ticket *ticket);

// Closes everything from descriptor `first` on in the program that is started; `actions` is a posix_spawn_file_actions_t. Swift's module
// of glibc does not show the function.
int ctest_close_from(void *actions, int first);

#endif
