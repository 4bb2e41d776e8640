// Sessions: one connection each, over memory that the caller lends.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>

#include "internal.h"

// MARK: The BIO between OpenSSL and the lent memory

static int bio_read(BIO *bio, char *bytes, size_t size, size_t *count) {
    struct copenssl_session *session = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    *count = size < session->input_count ? size : session->input_count;
    if (*count == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    memcpy(bytes, session->input, *count);
    session->input += *count;
    session->input_count -= *count;
    return 1;
}

static int bio_write(BIO *bio, const char *bytes, size_t size, size_t *count) {
    struct copenssl_session *session = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    *count = 0;
    if (session->spare_count > 0 || size > session->output_room) {
        // Once something is in the spare room, nothing more may overtake it.
        if (size <= sizeof session->spare - session->spare_count) {
            memcpy(session->spare + session->spare_count, bytes, size);
            session->spare_count += size;
            *count = size;
            return 1;
        }
        if (session->spare_count > 0 || session->output_room == 0) {
            BIO_set_retry_write(bio);
            return 0;
        }
        size = session->output_room;
    }
    memcpy(session->output, bytes, size);
    session->output += size;
    session->output_room -= size;
    session->output_count += size;
    *count = size;
    return 1;
}

static long bio_control(BIO *bio, int command, long number, void *pointer) {
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *method;

static void make_method(void) {
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "lent memory");
    if (!method) return;
    BIO_meth_set_read_ex(method, bio_read);
    BIO_meth_set_write_ex(method, bio_write);
    BIO_meth_set_ctrl(method, bio_control);
}

// MARK: Callbacks

static void refuse(struct copenssl_session *session, int error, const X509 *certificate, const char *text) {
    enum { size = 256 };
    session->verify_error = error;
    free(session->refused);
    session->refused = malloc(size);
    if (!session->refused) return;
    if (text) {
        snprintf(session->refused, size, "%s", text);
    } else if (certificate) {
        copenssl_certificate_subject(certificate, session->refused, size);
    } else {
        session->refused[0] = 0;
    }
}

int verify_certificate(int ok, X509_STORE_CTX *store) {
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct copenssl_session *session = SSL_get_app_data(ssl);
    X509 *certificate = X509_STORE_CTX_get_current_cert(store);
    if (!ok) {
        refuse(session, X509_STORE_CTX_get_error(store), certificate, NULL);
        return 0;
    }
    if (X509_STORE_CTX_get_error_depth(store) > 0) return 1;
    char found[256];
    int error = check_names(certificate, SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)), found, sizeof found);
    if (error == 0) return 1;
    refuse(session, error, certificate, error == COPENSSL_VERIFY_OTHER_NAME ? found : NULL);
    // The other side gets the alert bad_certificate.
    X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH);
    return 0;
}

// A digest of all that the other side sent of certificates; 0 if it cannot be made.
static int digest_chain(X509_STORE_CTX *store, uint8_t digest[32]) {
    // The leaf is the first of them.
    STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(store);
    if (sk_X509_num(sent) < 1 || sk_X509_value(sent, 0) != X509_STORE_CTX_get0_cert(store)) return 0;
    uint8_t pair[64] = {0};
    for (int i = 0; i < sk_X509_num(sent); i++) {
        uint8_t *bytes = NULL;
        int count = i2d_X509(sk_X509_value(sent, i), &bytes);
        if (count > 0) copenssl_sha256(bytes, (size_t)count, pair + 32);
        OPENSSL_free(bytes);
        if (count <= 0) return 0;
        copenssl_sha256(pair, sizeof pair, pair);
    }
    memcpy(digest, pair, 32);
    return 1;
}

// Until when all certificates of the verified chain are valid, in seconds since 1970.
static int64_t end_of(STACK_OF(X509) *chain) {
    int64_t end = INT64_MAX;
    for (int i = 0; i < sk_X509_num(chain); i++) {
        int64_t next = copenssl_certificate_not_after(sk_X509_value(chain, i));
        if (next < end) end = next;
    }
    return sk_X509_num(chain) > 0 ? end : 0;
}

// A session must not outlive the certificate by which it was begun, however often it is resumed.
static void limit(SSL *ssl, const X509 *peer) {
    int64_t left = copenssl_certificate_not_after(peer) - (int64_t)time(NULL);
    long most = SSL_CTX_get_timeout(SSL_get_SSL_CTX(ssl));
    SSL_SESSION_set_timeout(SSL_get_session(ssl), left < 0 ? 0 : left < most ? (long)left : most);
}

// TLS 1.3 gives a resumed session a new beginning, and asks here.
int limit_ticket(SSL *ssl, void *argument) {
    (void)argument;
    const X509 *peer = SSL_SESSION_get0_peer(SSL_get_session(ssl));
    if (peer) limit(ssl, peer);
    return 1;
}

// OpenSSL looks at the end of a session in TLS 1.2 only, and forgets sessions every 255 connections: too late for us.
int forget_sessions(SSL *ssl, int *alert, void *argument) {
    (void)alert;
    struct policy *policy = argument;
    int64_t now = (int64_t)time(NULL);
    if (__atomic_exchange_n(&policy->forgotten_at, now, __ATOMIC_RELAXED) != now) {
        SSL_CTX_flush_sessions(SSL_get_SSL_CTX(ssl), (long)now);
    }
    return SSL_CLIENT_HELLO_SUCCESS;
}

// The same certificate verified against the same trust and names gives the same answer, as long as its chain is valid: peers come again
// and again, and the authority's signature costs as much as one of the two that prove the handshake.
int verify_chain(X509_STORE_CTX *store, void *argument) {
    struct policy *policy = argument;
    uint8_t digest[32];
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    limit(ssl, X509_STORE_CTX_get0_cert(store));
    int can_remember = policy->remembers && digest_chain(store, digest);
    struct verified *place = can_remember ? &policy->verified[digest[0] % verified_count] : NULL;
    if (place) {
        pthread_mutex_lock(&policy->lock);
        int is_known = memcmp(place->digest, digest, sizeof digest) == 0 && (int64_t)time(NULL) < place->until;
        pthread_mutex_unlock(&policy->lock);
        if (is_known) {
            X509_STORE_CTX_set_error(store, X509_V_OK);
            return 1;
        }
    }
    int result = X509_verify_cert(store);
    if (result == 1 && place) {
        int64_t until = end_of(X509_STORE_CTX_get0_chain(store));
        pthread_mutex_lock(&policy->lock);
        memcpy(place->digest, digest, sizeof digest);
        place->until = until;
        pthread_mutex_unlock(&policy->lock);
    }
    return result;
}

int keep_ticket(SSL *ssl, SSL_SESSION *ticket) {
    struct copenssl_session *session = SSL_get_app_data(ssl);
    SSL_SESSION_free(session->ticket);
    session->ticket = ticket;
    return 1;
}

int choose_protocol(
    SSL *ssl, const unsigned char **chosen, unsigned char *count, const unsigned char *offered, unsigned int offered_count,
    void *argument) {
    (void)ssl;
    const struct policy *policy = argument;
    int result = SSL_select_next_proto(
        (unsigned char **)chosen, count, policy->protocols, (unsigned int)policy->protocols_count, offered, offered_count);
    return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

// MARK: Life

struct copenssl_session *copenssl_session_new(SSL_CTX *context, int is_server) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_method);
    struct copenssl_session *session = calloc(1, sizeof *session);
    SSL *ssl = SSL_new(context);
    BIO *bio = method ? BIO_new(method) : NULL;
    if (!session || !ssl || !bio) {
        BIO_free(bio);
        SSL_free(ssl);
        free(session);
        return NULL;
    }
    BIO_set_data(bio, session);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_app_data(ssl, session);
    if (is_server) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
    }
    session->ssl = ssl;
    return session;
}

void copenssl_session_free(struct copenssl_session *session) {
    // A connection that ends without close_notify is no reason to forget the session; one that failed has forgotten it already.
    SSL_set_shutdown(session->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(session->ssl);
    SSL_SESSION_free(session->ticket);
    free(session->refused);
    free(session);
}

int copenssl_session_set_server_name(struct copenssl_session *session, const char *name) {
    return SSL_set_tlsext_host_name(session->ssl, name) == 1 ? 0 : -1;
}

int copenssl_session_resume(struct copenssl_session *session, SSL_SESSION *ticket) {
    const X509 *peer = SSL_SESSION_get0_peer(ticket);
    if (!SSL_SESSION_is_resumable(ticket) || (peer && has_expired(peer))) return -1;
    return SSL_set_session(session->ssl, ticket) == 1 ? 0 : -1;
}

// MARK: Work

static int outcome(struct copenssl_session *session, int result) {
    switch (SSL_get_error(session->ssl, result)) {
    case SSL_ERROR_NONE: return COPENSSL_DONE;
    case SSL_ERROR_WANT_READ: return COPENSSL_WANTS_INPUT;
    case SSL_ERROR_WANT_WRITE: return COPENSSL_WANTS_ROOM;
    case SSL_ERROR_ZERO_RETURN: return COPENSSL_ENDED;
    default: return COPENSSL_FAILED;
    }
}

// An error that somebody left behind on this thread would be taken for ours.
static void forget_errors(void) {
    if (ERR_peek_error() != 0) ERR_clear_error();
}

int copenssl_session_handshake(struct copenssl_session *session) {
    forget_errors();
    return outcome(session, SSL_do_handshake(session->ssl));
}

int copenssl_session_read(struct copenssl_session *session, void *plaintext, size_t room, size_t *count) {
    forget_errors();
    *count = 0;
    // OpenSSL returns a record at a time.
    while (*count < room) {
        size_t more = 0;
        int result = SSL_read_ex(session->ssl, (uint8_t *)plaintext + *count, room - *count, &more);
        if (result != 1) return outcome(session, result);
        *count += more;
    }
    return COPENSSL_DONE;
}

int copenssl_session_write(struct copenssl_session *session, const void *plaintext, size_t size, size_t *count) {
    forget_errors();
    *count = 0;
    while (*count < size) {
        size_t more = 0;
        int result = SSL_write_ex(session->ssl, (const uint8_t *)plaintext + *count, size - *count, &more);
        if (result != 1) return outcome(session, result);
        *count += more;
    }
    return COPENSSL_DONE;
}

int copenssl_session_finish(struct copenssl_session *session) {
    forget_errors();
    int result = SSL_shutdown(session->ssl);
    return result >= 0 ? COPENSSL_DONE : outcome(session, result);
}

static int failure_of(unsigned long error, int *alert) {
    if (ERR_GET_LIB(error) != ERR_LIB_SSL) return COPENSSL_FAILURE_OTHER;
    int reason = ERR_GET_REASON(error);
    if (reason >= SSL_AD_REASON_OFFSET) {
        *alert = reason - SSL_AD_REASON_OFFSET;
        return COPENSSL_FAILURE_ALERT;
    }
    switch (reason) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST: return COPENSSL_FAILURE_NOT_TLS;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_VERSION_TOO_HIGH:
    case SSL_R_UNKNOWN_PROTOCOL:
    case SSL_R_UNKNOWN_SSL_VERSION:
    case SSL_R_INAPPROPRIATE_FALLBACK: return COPENSSL_FAILURE_VERSION;
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_CIPHERS_AVAILABLE:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SHARED_GROUPS:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM: return COPENSSL_FAILURE_CIPHER;
    case SSL_R_NO_APPLICATION_PROTOCOL: return COPENSSL_FAILURE_PROTOCOL;
    case SSL_R_CERTIFICATE_VERIFY_FAILED: return COPENSSL_FAILURE_CERTIFICATE;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return COPENSSL_FAILURE_NO_CERTIFICATE;
    default: return COPENSSL_FAILURE_OTHER;
    }
}

int copenssl_session_failure(int *alert, char *text, size_t size) {
    OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS | OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
    // The first error is the cause; what follows is who passed it on.
    unsigned long error = ERR_get_error();
    const char *reason = ERR_reason_error_string(error);
    text[0] = 0;
    if (reason) strncat(text, reason, size - 1);
    ERR_clear_error();
    return failure_of(error, alert);
}

int copenssl_verify_fault(int error) {
    switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED: return COPENSSL_FAULT_EXPIRED;
    case X509_V_ERR_CERT_NOT_YET_VALID: return COPENSSL_FAULT_NOT_YET_VALID;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_UNTRUSTED:
    case X509_V_ERR_INVALID_CA: return COPENSSL_FAULT_UNTRUSTED;
    case X509_V_ERR_CERT_REVOKED: return COPENSSL_FAULT_REVOKED;
    case COPENSSL_VERIFY_OTHER_NAME: return COPENSSL_FAULT_OTHER_NAME;
    case COPENSSL_VERIFY_BAD_NAME: return COPENSSL_FAULT_BAD_NAME;
    default: return COPENSSL_FAULT_OTHER;
    }
}

const char *copenssl_verify_text(int error) {
    switch (error) {
    case COPENSSL_VERIFY_OTHER_NAME: return "none of the expected names";
    case COPENSSL_VERIFY_BAD_NAME: return "a name with bytes that no name has";
    default: return X509_verify_cert_error_string(error);
    }
}

const char *copenssl_alert_text(int alert) { return SSL_alert_desc_string_long(alert); }

// MARK: What was agreed

void copenssl_session_protocol(const struct copenssl_session *session, const uint8_t **bytes, size_t *count) {
    unsigned int length = 0;
    SSL_get0_alpn_selected(session->ssl, bytes, &length);
    *count = length;
}

const char *copenssl_session_server_name(const struct copenssl_session *session) {
    return SSL_get_servername(session->ssl, TLSEXT_NAMETYPE_host_name);
}

const char *copenssl_session_version(const struct copenssl_session *session) { return SSL_get_version(session->ssl); }

const char *copenssl_session_cipher(const struct copenssl_session *session) {
    return SSL_CIPHER_get_name(SSL_get_current_cipher(session->ssl));
}

int copenssl_session_was_resumed(const struct copenssl_session *session) { return SSL_session_reused(session->ssl); }

X509 *copenssl_session_peer(const struct copenssl_session *session) { return SSL_get0_peer_certificate(session->ssl); }

size_t copenssl_session_pending(const struct copenssl_session *session) { return (size_t)SSL_pending(session->ssl); }

void copenssl_ticket_retain(SSL_SESSION *ticket) { SSL_SESSION_up_ref(ticket); }

void copenssl_ticket_free(SSL_SESSION *ticket) { SSL_SESSION_free(ticket); }

int copenssl_ticket_is_single_use(const SSL_SESSION *ticket) { return SSL_SESSION_get_protocol_version(ticket) >= TLS1_3_VERSION; }
