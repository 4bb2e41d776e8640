/// TLS for the load generator: one context, nonblocking connections, and a store of tickets.
#ifndef TLS_H
#define TLS_H

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum tls_state { TLS_READY, TLS_WAITING, TLS_BROKEN };

enum { TICKETS = 4096 };

static SSL_CTX *tls_context;
static const char *tls_server_name;
static SSL_SESSION *tls_tickets[TICKETS];
static int tls_ticket_count;
static uint64_t tls_handshakes, tls_resumed;

/// Keeps each ticket: it serves one connection (RFC 8446 §C.4).
static int tls_keep_ticket(SSL *tls, SSL_SESSION *session) {
    (void)tls;
    if (tls_ticket_count == TICKETS) return 0;
    tls_tickets[tls_ticket_count++] = session;
    return 1;
}

static void tls_fail(const char *what) {
    fprintf(stderr, "load: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

/// `certificate`: a PEM file with the client's chain and key, or NULL.
static void tls_prepare(const char *server_name, const char *certificate, bool resume) {
    tls_server_name = server_name;
    tls_context = SSL_CTX_new(TLS_client_method());
    if (!tls_context || !SSL_CTX_set_min_proto_version(tls_context, TLS1_3_VERSION)) tls_fail("no TLS 1.3");
    // Every proxy here takes what the caller offers first, or this one by its own order: all encrypt alike.
    if (!SSL_CTX_set_ciphersuites(tls_context, "TLS_AES_128_GCM_SHA256")) tls_fail("cipher suite");
    // A request goes out in one record; buffers of an idle connection would only fill our own memory.
    SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(tls_context, 1);
    static const unsigned char alpn[] = "\x08http/1.1";
    if (SSL_CTX_set_alpn_protos(tls_context, alpn, sizeof alpn - 1) != 0) tls_fail("ALPN");
    if (certificate && (SSL_CTX_use_certificate_chain_file(tls_context, certificate) != 1 ||
                        SSL_CTX_use_PrivateKey_file(tls_context, certificate, SSL_FILETYPE_PEM) != 1)) {
        tls_fail(certificate);
    }
    if (resume) {
        SSL_CTX_set_session_cache_mode(tls_context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(tls_context, tls_keep_ticket);
    }
}

static SSL *tls_open(int fd) {
    SSL *tls = SSL_new(tls_context);
    if (!tls || !SSL_set_fd(tls, fd) || !SSL_set_tlsext_host_name(tls, tls_server_name)) tls_fail("SSL_new");
    SSL_set_connect_state(tls);
    if (tls_ticket_count > 0) {
        SSL_SESSION *session = tls_tickets[--tls_ticket_count];
        SSL_set_session(tls, session);
        SSL_SESSION_free(session);
    }
    return tls;
}

static void tls_close(SSL *tls) {
    // Without this, OpenSSL declares the last ticket of a connection void that ends without close_notify.
    SSL_set_quiet_shutdown(tls, 1);
    SSL_shutdown(tls);
    SSL_free(tls);
}

static enum tls_state tls_handshake(SSL *tls) {
    ERR_clear_error();
    int done = SSL_do_handshake(tls);
    if (done == 1) {
        tls_handshakes++;
        tls_resumed += (uint64_t)SSL_session_reused(tls);
        return TLS_READY;
    }
    int error = SSL_get_error(tls, done);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? TLS_WAITING : TLS_BROKEN;
}

/// What read(2) and write(2) would say: -1 with EAGAIN, 0 at close_notify.
static ssize_t tls_result(SSL *tls, int count) {
    if (count > 0) return count;
    switch (SSL_get_error(tls, count)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        errno = EPROTO;
        return -1;
    }
}

static ssize_t tls_read(SSL *tls, char *bytes, size_t room) {
    ERR_clear_error();
    return tls_result(tls, SSL_read(tls, bytes, (int)room));
}

static ssize_t tls_write(SSL *tls, const char *bytes, size_t count) {
    ERR_clear_error();
    return tls_result(tls, SSL_write(tls, bytes, (int)count));
}

#endif
