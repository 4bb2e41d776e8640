#include "CTestTLS.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

struct test_tls {
    SSL_CTX *context;
    SSL *ssl;
    BIO *input, *output;
    uint8_t *protocols;
    size_t protocols_count;
    int alert;
};

static int choose_protocol(
    SSL *ssl, const unsigned char **chosen, unsigned char *count, const unsigned char *offered, unsigned int offered_count, void *argument) {
    const struct test_tls *tls = argument;
    (void)ssl;
    unsigned char *found;
    int result = SSL_select_next_proto(&found, count, tls->protocols, tls->protocols_count, offered, offered_count);
    *chosen = found;
    return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void note(const SSL *ssl, int where, int value) {
    struct test_tls *tls = SSL_get_app_data(ssl);
    // Upper byte: level; close_notify is no failure.
    if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && (value & 0xff) != SSL3_AD_CLOSE_NOTIFY) tls->alert = value & 0xff;
}

struct test_tls *test_tls_new(const struct test_tls_settings *settings, struct test_tls_ticket *resume) {
    struct test_tls *tls = calloc(1, sizeof *tls);
    tls->alert = -1;
    SSL_CTX *context = tls->context = SSL_CTX_new(settings->is_server ? TLS_server_method() : TLS_client_method());
    // Tests must be able to offer what nobody should take.
    SSL_CTX_set_security_level(context, 0);
    SSL_CTX_set_options(context, SSL_OP_LEGACY_SERVER_CONNECT);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_info_callback(context, note);
    SSL_CTX_set_session_id_context(context, (const unsigned char *)"test", 4);
    int good = SSL_CTX_set_min_proto_version(context, settings->min_version) && SSL_CTX_set_max_proto_version(context, settings->max_version);
    if (settings->chain)
        good = good && SSL_CTX_use_certificate_chain_file(context, settings->chain) == 1
            && SSL_CTX_use_PrivateKey_file(context, settings->key, SSL_FILETYPE_PEM) == 1;
    if (settings->trust) {
        good = good && SSL_CTX_load_verify_file(context, settings->trust) == 1;
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        if (settings->is_server) SSL_CTX_set_client_CA_list(context, SSL_load_client_CA_file(settings->trust));
    }
    if (settings->is_server && !settings->tickets) {
        SSL_CTX_set_num_tickets(context, 0);
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    }
    if (settings->protocols_count > 0) {
        tls->protocols = malloc(settings->protocols_count);
        memcpy(tls->protocols, settings->protocols, settings->protocols_count);
        tls->protocols_count = settings->protocols_count;
        if (settings->is_server)
            SSL_CTX_set_alpn_select_cb(context, choose_protocol, tls);
        else
            SSL_CTX_set_alpn_protos(context, settings->protocols, settings->protocols_count);
    }
    if (!good) {
        SSL_CTX_free(context);
        free(tls->protocols);
        free(tls);
        return NULL;
    }
    tls->ssl = SSL_new(context);
    SSL_set_app_data(tls->ssl, tls);
    tls->input = BIO_new(BIO_s_mem());
    tls->output = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(tls->input, -1);
    SSL_set_bio(tls->ssl, tls->input, tls->output);
    if (settings->is_server) {
        SSL_set_accept_state(tls->ssl);
    } else {
        SSL_set_connect_state(tls->ssl);
        if (settings->server_name) SSL_set_tlsext_host_name(tls->ssl, settings->server_name);
        if (resume) SSL_set_session(tls->ssl, (SSL_SESSION *)resume);
    }
    return tls;
}

void test_tls_free(struct test_tls *tls) {
    // Else the session of a connection that was not ended properly could not be resumed.
    SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(tls->ssl);
    SSL_CTX_free(tls->context);
    free(tls->protocols);
    free(tls);
}

void test_tls_push(struct test_tls *tls, const uint8_t *bytes, size_t count) {
    BIO_write(tls->input, bytes, (int)count);
}

size_t test_tls_pending(const struct test_tls *tls) { return BIO_ctrl_pending(tls->output); }

void test_tls_pull(struct test_tls *tls, uint8_t *bytes, size_t count) { BIO_read(tls->output, bytes, (int)count); }

static int outcome(struct test_tls *tls, int result) {
    switch (SSL_get_error(tls->ssl, result)) {
    case SSL_ERROR_NONE: return TEST_TLS_DONE;
    case SSL_ERROR_WANT_READ: return TEST_TLS_WANTS_INPUT;
    case SSL_ERROR_ZERO_RETURN: return TEST_TLS_ENDED;
    default: return TEST_TLS_FAILED;
    }
}

int test_tls_handshake(struct test_tls *tls) {
    ERR_clear_error();
    return outcome(tls, SSL_do_handshake(tls->ssl));
}

int test_tls_read(struct test_tls *tls, uint8_t *bytes, size_t room, size_t *count) {
    ERR_clear_error();
    return outcome(tls, SSL_read_ex(tls->ssl, bytes, room, count));
}

int test_tls_write(struct test_tls *tls, const uint8_t *bytes, size_t count) {
    ERR_clear_error();
    while (count > 0) {
        size_t written = 0;
        int result = outcome(tls, SSL_write_ex(tls->ssl, bytes, count, &written));
        if (result != TEST_TLS_DONE) return result;
        bytes += written;
        count -= written;
    }
    return TEST_TLS_DONE;
}

void test_tls_finish(struct test_tls *tls) {
    ERR_clear_error();
    SSL_shutdown(tls->ssl);
}

int test_tls_renegotiate(struct test_tls *tls) {
    ERR_clear_error();
    if (SSL_renegotiate(tls->ssl) != 1) return 0;
    SSL_do_handshake(tls->ssl);
    return 1;
}

void test_tls_update_keys(struct test_tls *tls) {
    SSL_key_update(tls->ssl, SSL_KEY_UPDATE_REQUESTED);
    SSL_do_handshake(tls->ssl);
}

const char *test_tls_words(void) {
    static _Thread_local char text[256];
    ERR_error_string_n(ERR_peek_last_error(), text, sizeof text);
    return text;
}

int test_tls_alert(const struct test_tls *tls) { return tls->alert; }
int test_tls_version(const struct test_tls *tls) { return SSL_version(tls->ssl); }
int test_tls_was_resumed(const struct test_tls *tls) { return SSL_session_reused(tls->ssl); }
int test_tls_is_compressed(const struct test_tls *tls) { return SSL_get_current_compression(tls->ssl) != NULL; }

const uint8_t *test_tls_protocol(const struct test_tls *tls, size_t *count) {
    const unsigned char *bytes;
    unsigned int length;
    SSL_get0_alpn_selected(tls->ssl, &bytes, &length);
    *count = length;
    return bytes;
}

const char *test_tls_server_name(const struct test_tls *tls) { return SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name); }

size_t test_tls_peer_subject(const struct test_tls *tls, char *text, size_t room) {
    X509 *peer = SSL_get0_peer_certificate(tls->ssl);
    if (!peer) return 0;
    BIO *memory = BIO_new(BIO_s_mem());
    X509_NAME_print_ex(memory, X509_get_subject_name(peer), 0, XN_FLAG_RFC2253);
    int length = BIO_read(memory, text, (int)room);
    BIO_free(memory);
    return length > 0 ? (size_t)length : 0;
}

int test_tls_peer_digest(const struct test_tls *tls, uint8_t digest[32]) {
    X509 *peer = SSL_get0_peer_certificate(tls->ssl);
    unsigned int length = 32;
    return peer && X509_digest(peer, EVP_sha256(), digest, &length);
}

struct test_tls_ticket *test_tls_take_ticket(struct test_tls *tls) {
    SSL_SESSION *session = SSL_get1_session(tls->ssl);
    if (session && SSL_SESSION_is_resumable(session)) return (struct test_tls_ticket *)session;
    SSL_SESSION_free(session);
    return NULL;
}

void test_tls_ticket_free(struct test_tls_ticket *ticket) { SSL_SESSION_free((SSL_SESSION *)ticket); }

int posix_spawn_file_actions_addclosefrom_np(void *actions, int first);

int ctest_close_from(void *actions, int first) {
    return posix_spawn_file_actions_addclosefrom_np(actions, first);
}
