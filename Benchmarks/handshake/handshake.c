/// What the server's side of a TLS 1.3 handshake costs, in CPU time of the thread, over memory: no socket, no proxy. The algorithms alone,
/// OpenSSL as a plain program sets it up, and as outrigger-proxy does (Sources/C/COpenSSL). ECDSA P-256, X25519, AES-128-GCM.
///
///     gcc -O2 -I Sources/C/COpenSSL/include -o .build/handshake Benchmarks/handshake/handshake.c Sources/C/COpenSSL/*.c -lssl -lcrypto
///     taskset -c 0 .build/handshake [HANDSHAKES]
///
/// A line for each: the median and the least of so many handshakes (2000), each with a request, an answer and the end of the connection.
#define _GNU_SOURCE
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "COpenSSL.h"

static const char request[] = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n";
static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void need(int is_good, const char *what) {
    if (is_good) return;
    fprintf(stderr, "handshake: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static int compare(const void *a, const void *b) {
    double first = *(const double *)a, second = *(const double *)b;
    return (first > second) - (first < second);
}

static double show(const char *what, double *seconds, size_t count) {
    qsort(seconds, count, sizeof *seconds, compare);
    printf("%-44s %7.1f [%.1f] us\n", what, seconds[count / 2] * 1e6, seconds[0] * 1e6);
    return seconds[0];
}

// MARK: Certificates

struct identity {
    char key[COPENSSL_PEM_SIZE], chain[COPENSSL_PEM_SIZE];
};

static struct identity authority, cart, web;

static void issue(struct identity *to, const struct identity *by, const char *name) {
    char both[2 * COPENSSL_PEM_SIZE] = "", subject[COPENSSL_PEM_SIZE], reason[128] = "";
    uint8_t serial[16] = {1, (uint8_t)name[0]};
    int64_t now = time(NULL);
    struct copenssl_issue what = {by ? name : "", by ? "" : name, serial, now - 60, now + 86400};
    need(copenssl_key_new(to->key, sizeof to->key) == COPENSSL_OK, "no key");
    if (by) {
        snprintf(both, sizeof both, "%s%s", by->key, by->chain);
        need(copenssl_request_new(to->key, strlen(to->key), subject, sizeof subject, reason, sizeof reason) == COPENSSL_OK, reason);
    } else {
        strcpy(subject, to->key);
    }
    int problem = copenssl_issue_certificate(
        &what, both, strlen(both), subject, strlen(subject), to->chain, sizeof to->chain, reason, sizeof reason);
    need(problem == COPENSSL_OK, reason);
}

static void use(SSL_CTX *context, const struct identity *identity) {
    BIO *chain = BIO_new_mem_buf(identity->chain, -1), *key = BIO_new_mem_buf(identity->key, -1);
    X509 *certificate = PEM_read_bio_X509(chain, NULL, NULL, NULL);
    EVP_PKEY *pair = PEM_read_bio_PrivateKey(key, NULL, NULL, NULL);
    need(SSL_CTX_use_certificate(context, certificate) == 1 && SSL_CTX_use_PrivateKey(context, pair) == 1, "certificate");
    X509_free(certificate);
    EVP_PKEY_free(pair);
    BIO_free(chain);
    BIO_free(key);
}

// MARK: The algorithms

static void algorithms(size_t count) {
    double *seconds[4], start, sum = 0;
    for (int i = 0; i < 4; i++) seconds[i] = malloc(count * sizeof *seconds[i]);
    EVP_PKEY *pair = EVP_EC_gen("P-256");
    EVP_PKEY *ours = EVP_PKEY_Q_keygen(NULL, NULL, "X25519"), *theirs = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    EVP_PKEY_CTX *generate = EVP_PKEY_CTX_new_from_name(NULL, "X25519", NULL), *derive = EVP_PKEY_CTX_new(ours, NULL);
    need(EVP_PKEY_keygen_init(generate) == 1 && EVP_PKEY_derive_init(derive) == 1, "X25519");
    need(EVP_PKEY_derive_set_peer(derive, theirs) == 1, "X25519");
    for (size_t i = 0; i < count; i++) {
        uint8_t text[130] = {1}, signature[80], secret[32];
        size_t size = sizeof signature, secret_size = sizeof secret;
        EVP_PKEY *fresh = NULL;
        EVP_MD_CTX *sign = EVP_MD_CTX_new(), *verify = EVP_MD_CTX_new();
        need(EVP_DigestSignInit(sign, NULL, EVP_sha256(), NULL, pair) == 1, "sign");
        need(EVP_DigestVerifyInit(verify, NULL, EVP_sha256(), NULL, pair) == 1, "verify");
        start = cpu_seconds();
        need(EVP_DigestSign(sign, signature, &size, text, sizeof text) == 1, "sign");
        seconds[0][i] = cpu_seconds() - start, start = cpu_seconds();
        need(EVP_DigestVerify(verify, signature, size, text, sizeof text) == 1, "verify");
        seconds[1][i] = cpu_seconds() - start, start = cpu_seconds();
        need(EVP_PKEY_keygen(generate, &fresh) == 1, "key");
        seconds[2][i] = cpu_seconds() - start, start = cpu_seconds();
        need(EVP_PKEY_derive(derive, secret, &secret_size) == 1, "secret");
        seconds[3][i] = cpu_seconds() - start;
        EVP_PKEY_free(fresh);
        EVP_MD_CTX_free(sign);
        EVP_MD_CTX_free(verify);
    }
    static const char *const names[] = {"sign", "verify", "X25519: new key", "X25519: secret"};
    for (int i = 0; i < 4; i++) sum += show(names[i], seconds[i], count), free(seconds[i]);
    printf("%-44s %7s [%.1f] us\n", "the four together", "", sum * 1e6);
    EVP_PKEY_CTX_free(generate);
    EVP_PKEY_CTX_free(derive);
    EVP_PKEY_free(pair);
    EVP_PKEY_free(ours);
    EVP_PKEY_free(theirs);
}

// MARK: Handshakes

static SSL_SESSION *ticket;

static int keep(SSL *client, SSL_SESSION *session) {
    (void)client;
    SSL_SESSION_free(ticket);
    ticket = session;
    return 1;
}

static SSL_CTX *client_context(int is_mutual) {
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    need(SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") == 1, "suite");
    if (is_mutual) use(context, &web);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, keep);
    return context;
}

static SSL_CTX *plain_context(int is_mutual) {
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    use(context, &cart);
    if (is_mutual) {
        BIO *bio = BIO_new_mem_buf(authority.chain, -1);
        X509 *root = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        need(X509_STORE_add_cert(SSL_CTX_get_cert_store(context), root) == 1, "trust");
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        X509_free(root);
        BIO_free(bio);
    }
    SSL_CTX_set_session_id_context(context, (const uint8_t *)"cart", 4);
    return context;
}

static SSL_CTX *our_context(int is_mutual) {
    char reason[128] = "";
    struct copenssl_trust *trust;
    SSL_CTX *context = copenssl_context_new(1);
    need(copenssl_context_set_certificate(
             context, cart.chain, strlen(cart.chain), cart.key, strlen(cart.key), reason, sizeof reason) == COPENSSL_OK, reason);
    need(copenssl_trust_new(authority.chain, strlen(authority.chain), &trust, reason, sizeof reason) == COPENSSL_OK, reason);
    if (is_mutual) need(copenssl_context_set_trust(context, 1, trust) == COPENSSL_OK, "trust");
    copenssl_context_set_identity(context, (const uint8_t *)"cart", 4);
    return context;
}

/// A server's connection, of one kind or the other.
struct server {
    SSL *plain;
    struct copenssl_session *ours;
    int is_established;
    uint8_t output[32768];
    size_t output_count;
};

static void turn_plain(struct server *server, SSL_CTX *context, const uint8_t *input, size_t count) {
    uint8_t text[1024];
    if (!server->plain) {
        server->plain = SSL_new(context);
        SSL_set_bio(server->plain, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        SSL_set_accept_state(server->plain);
    }
    BIO_write(SSL_get_rbio(server->plain), input, (int)count);
    if (!server->is_established) {
        int done = SSL_do_handshake(server->plain);
        need(done == 1 || SSL_get_error(server->plain, done) == SSL_ERROR_WANT_READ, "handshake");
        server->is_established = done == 1;
    }
    if (server->is_established && SSL_read(server->plain, text, sizeof text) > 0) SSL_write(server->plain, answer, sizeof answer - 1);
    int written = BIO_read(SSL_get_wbio(server->plain), server->output, sizeof server->output);
    server->output_count = written > 0 ? (size_t)written : 0;
}

static void turn_ours(struct server *server, SSL_CTX *context, const uint8_t *input, size_t count) {
    uint8_t text[1024];
    size_t done = 0;
    if (!server->ours) server->ours = copenssl_session_new(context, 1);
    struct copenssl_session *session = server->ours;
    session->input = input, session->input_count = count;
    session->output = server->output, session->output_room = sizeof server->output, session->output_count = 0;
    if (!server->is_established) {
        int result = copenssl_session_handshake(session);
        need(result == COPENSSL_DONE || result == COPENSSL_WANTS_INPUT, "handshake");
        server->is_established = result == COPENSSL_DONE;
    }
    if (server->is_established) copenssl_session_read(session, text, sizeof text, &done);
    if (done > 0) copenssl_session_write(session, answer, sizeof answer - 1, &done);
    server->output_count = session->output_count;
}

static void end(struct server *server) {
    if (server->ours) copenssl_session_free(server->ours);
    if (server->plain) SSL_set_quiet_shutdown(server->plain, 1), SSL_shutdown(server->plain);
    SSL_free(server->plain);
    server->plain = NULL, server->ours = NULL, server->is_established = 0;
}

/// CPU seconds of the server for one connection.
static double connection(SSL_CTX *client_context, SSL_CTX *server_context, int is_ours, int resumes) {
    static struct server server;
    static uint8_t output[32768];
    double spent = 0, start;
    int is_sent = 0;
    SSL *client = SSL_new(client_context);
    SSL_set_bio(client, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(client);
    int had_ticket = resumes && ticket;
    if (had_ticket) SSL_set_session(client, ticket);
    for (;;) {
        char text[256];
        int done = SSL_do_handshake(client);
        need(done == 1 || SSL_get_error(client, done) == SSL_ERROR_WANT_READ, "client");
        if (done == 1 && is_sent && SSL_read(client, text, sizeof text) > 0) break;
        if (done == 1 && !is_sent) is_sent = SSL_write(client, request, sizeof request - 1) > 0;
        int count = BIO_read(SSL_get_wbio(client), output, sizeof output);
        start = cpu_seconds();
        (is_ours ? turn_ours : turn_plain)(&server, server_context, output, count > 0 ? (size_t)count : 0);
        spent += cpu_seconds() - start;
        BIO_write(SSL_get_rbio(client), server.output, (int)server.output_count);
    }
    need(SSL_session_reused(client) == had_ticket, "resumed, or not, against expectation");
    start = cpu_seconds();
    end(&server);
    spent += cpu_seconds() - start;
    SSL_set_quiet_shutdown(client, 1);
    SSL_shutdown(client);
    SSL_free(client);
    return spent;
}

static void handshakes(const char *what, int is_ours, int is_mutual, int resumes, size_t count) {
    SSL_CTX *client = client_context(is_mutual), *server = is_ours ? our_context(is_mutual) : plain_context(is_mutual);
    double *seconds = malloc(count * sizeof *seconds);
    // The first ones load code and fill caches.
    for (size_t i = 0; i < 50; i++) connection(client, server, is_ours, resumes);
    for (size_t i = 0; i < count; i++) seconds[i] = connection(client, server, is_ours, resumes);
    show(what, seconds, count);
    free(seconds);
    SSL_SESSION_free(ticket);
    ticket = NULL;
    SSL_CTX_free(client);
}

int main(int argc, char **argv) {
    size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 2000;
    need(count > 0 && copenssl_start() == 0, "usage: handshake [HANDSHAKES]");
    issue(&authority, NULL, "Benchmark authority");
    issue(&cart, &authority, "spiffe://bench.local/cart");
    issue(&web, &authority, "spiffe://bench.local/web");
    printf("%s\n", OpenSSL_version(OPENSSL_VERSION));
    algorithms(count);
    handshakes("mutual, OpenSSL as it comes", 0, 1, 0, count);
    handshakes("mutual, outrigger's", 1, 1, 0, count);
    handshakes("mutual and resumed, OpenSSL as it comes", 0, 1, 1, count);
    handshakes("mutual and resumed, outrigger's", 1, 1, 1, count);
    handshakes("server's certificate only, as it comes", 0, 0, 0, count);
    handshakes("server's certificate only, outrigger's", 1, 0, 0, count);
    return 0;
}
