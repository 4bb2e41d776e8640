// Contexts: what all connections of one configuration share.
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "internal.h"

// AES-128 first: of the three it costs the least, and nothing is known against it.
static const char suites_13[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const char suites_12[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

// To a server that asks for a client certificate we would name every authority of its bundle. Such of a whole system are too many:
// the list goes out with every handshake.
enum { most_named_authorities = 32 };

// Of clients with certificates, for resumption: some 2 KiB each, 7 with a certificate of its own. The oldest makes room.
enum { most_sessions = 512 };

void put_reason(char *reason, size_t size) {
    OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS | OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
    const char *text = ERR_reason_error_string(ERR_peek_last_error());
    reason[0] = 0;
    if (text) strncat(reason, text, size - 1);
    ERR_clear_error();
}

SSL_CTX *copenssl_context_new(int is_server) {
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new_ex(lean, NULL, is_server ? TLS_server_method() : TLS_client_method());
    struct policy *policy = calloc(1, sizeof *policy);
    if (!context || !policy) goto failed;
    pthread_mutex_init(&policy->lock, NULL);
    SSL_CTX_set_app_data(context, policy);
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_security_level(context, 2);
    if (!SSL_CTX_set_ciphersuites(context, suites_13) || !SSL_CTX_set_cipher_list(context, suites_12)) goto failed;
    SSL_CTX_set_options(
        context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    // No automatic chain: it would be built anew in every handshake, and from what we trust.
    SSL_CTX_set_mode(
        context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    if (is_server) {
        // Sessions live in tickets alone, as long as these carry no certificate: no table, no lock.
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_num_tickets(context, 1);
    } else {
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(context, keep_ticket);
    }
    return context;
failed:
    free(policy);
    SSL_CTX_free(context);
    ERR_clear_error();
    return NULL;
}

void copenssl_context_free(SSL_CTX *context) {
    struct policy *policy = SSL_CTX_get_app_data(context);
    SSL_CTX_free(context);
    for (size_t i = 0; i < policy->name_count; i++) free(policy->names[i]);
    free(policy->names);
    free(policy->protocols);
    pthread_mutex_destroy(&policy->lock);
    free(policy);
}

// Nobody is there to ask for a password.
int no_password(char *buffer, int size, int is_writing, void *was_asked) {
    (void)buffer, (void)size, (void)is_writing;
    *(int *)was_asked = 1;
    return -1;
}

static int certificate_problem(void) {
    unsigned long error = ERR_peek_last_error();
    return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE ? COPENSSL_NO_CERTIFICATE
                                                                                            : COPENSSL_BAD_CERTIFICATE;
}

static X509 *next_certificate(BIO *bio) {
    X509 *certificate = X509_new_ex(lean, NULL);
    if (certificate && PEM_read_bio_X509(bio, &certificate, NULL, NULL)) return certificate;
    X509_free(certificate);
    return NULL;
}

// The leaf, then the rest of the chain.
static int use_chain(SSL_CTX *context, BIO *bio, X509 **leaf) {
    *leaf = next_certificate(bio);
    if (!*leaf) return certificate_problem();
    if (SSL_CTX_use_certificate(context, *leaf) != 1) return COPENSSL_WEAK_CERTIFICATE;
    for (X509 *next; (next = next_certificate(bio));) {
        if (SSL_CTX_add0_chain_cert(context, next) != 1) {
            X509_free(next);
            return COPENSSL_WEAK_CERTIFICATE;
        }
    }
    int problem = certificate_problem();
    if (problem != COPENSSL_NO_CERTIFICATE) return problem;
    ERR_clear_error();
    return COPENSSL_OK;
}

static int use_key(SSL_CTX *context, BIO *bio, X509 *leaf) {
    char *bytes;
    long count = BIO_get_mem_data(bio, &bytes);
    // OpenSSL says of anything else only that it is unsupported.
    static const char label[] = "PRIVATE KEY-----";
    if (!memmem(bytes, (size_t)count, label, sizeof label - 1)) return COPENSSL_NO_KEY;
    int was_asked = 0;
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_password, &was_asked);
    int problem = COPENSSL_OK;
    if (!key) {
        problem = was_asked ? COPENSSL_ENCRYPTED_KEY : COPENSSL_BAD_KEY;
    } else if (X509_check_private_key(leaf, key) != 1) {
        problem = COPENSSL_KEY_MISMATCH;
    } else if (SSL_CTX_use_PrivateKey(context, key) != 1) {
        problem = COPENSSL_REFUSED;
    }
    EVP_PKEY_free(key);
    return problem;
}

int copenssl_context_set_certificate(
    SSL_CTX *context, const void *chain, size_t chain_count, const void *key, size_t key_count, char *reason, size_t reason_size) {
    ERR_clear_error();
    reason[0] = 0;
    BIO *chain_bio = BIO_new_mem_buf(chain, (int)chain_count);
    BIO *key_bio = BIO_new_mem_buf(key, (int)key_count);
    X509 *leaf = NULL;
    int problem = chain_bio && key_bio ? use_chain(context, chain_bio, &leaf) : COPENSSL_NO_MEMORY;
    if (problem == COPENSSL_OK) problem = use_key(context, key_bio, leaf);
    if (problem != COPENSSL_OK) put_reason(reason, reason_size);
    X509_free(leaf);
    BIO_free(chain_bio);
    BIO_free(key_bio);
    return problem;
}

int copenssl_context_set_trust(SSL_CTX *context, int is_server, const struct copenssl_trust *trust) {
    SSL_CTX_set1_cert_store(context, trust->store);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | (is_server ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), verify_certificate);
    struct policy *policy = SSL_CTX_get_app_data(context);
    policy->remembers = !trust->has_lists;
    SSL_CTX_set_cert_verify_callback(context, verify_chain, policy);
    if (is_server) {
        // A ticket would carry the client's certificate, written and parsed anew each time: half of what a resumed connection costs.
        // Clients with certificates are few: their sessions stay here, and the ticket is a number.
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_SERVER);
        SSL_CTX_sess_set_cache_size(context, most_sessions);
        SSL_CTX_set_session_ticket_cb(context, limit_ticket, NULL, NULL);
        SSL_CTX_set_client_hello_cb(context, forget_sessions, policy);
    }
    if (!is_server || sk_X509_num(trust->certificates) > most_named_authorities) return COPENSSL_OK;
    for (int i = 0; i < sk_X509_num(trust->certificates); i++) {
        if (SSL_CTX_add_client_CA(context, sk_X509_value(trust->certificates, i)) != 1) return COPENSSL_NO_MEMORY;
    }
    return COPENSSL_OK;
}

void copenssl_context_allow_no_certificate(SSL_CTX *context) { SSL_CTX_set_verify(context, SSL_VERIFY_PEER, verify_certificate); }

int copenssl_context_add_name(SSL_CTX *context, const char *name, size_t count) {
    struct policy *policy = SSL_CTX_get_app_data(context);
    char **names = realloc(policy->names, (policy->name_count + 1) * sizeof *names);
    if (!names) return COPENSSL_NO_MEMORY;
    policy->names = names;
    char *copy = strndup(name, count);
    if (!copy) return COPENSSL_NO_MEMORY;
    names[policy->name_count++] = copy;
    return COPENSSL_OK;
}

int copenssl_context_set_protocols(SSL_CTX *context, int is_server, const uint8_t *protocols, size_t count) {
    if (!is_server) return SSL_CTX_set_alpn_protos(context, protocols, (unsigned int)count) == 0 ? COPENSSL_OK : COPENSSL_REFUSED;
    struct policy *policy = SSL_CTX_get_app_data(context);
    uint8_t *copy = malloc(count);
    if (!copy) return COPENSSL_NO_MEMORY;
    memcpy(copy, protocols, count);
    free(policy->protocols);
    policy->protocols = copy;
    policy->protocols_count = count;
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, policy);
    return COPENSSL_OK;
}

void copenssl_context_set_identity(SSL_CTX *context, const uint8_t *identity, size_t count) {
    SSL_CTX_set_session_id_context(context, identity, (unsigned int)count);
}

X509 *copenssl_context_certificate(SSL_CTX *context, int index) {
    if (index == 0) return SSL_CTX_get0_certificate(context);
    STACK_OF(X509) *chain = NULL;
    SSL_CTX_get0_chain_certs(context, &chain);
    return index <= sk_X509_num(chain) ? sk_X509_value(chain, index - 1) : NULL;
}
