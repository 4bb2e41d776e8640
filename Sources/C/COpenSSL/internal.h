// What the files of this target share.
#ifndef OUTRIGGER_COPENSSL_INTERNAL_H
#define OUTRIGGER_COPENSSL_INTERNAL_H

#define OPENSSL_SUPPRESS_DEPRECATED
#include <pthread.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "COpenSSL.h"

// A certificate, with what came along to vouch for it, that was verified.
struct verified {
    uint8_t digest[32];
    // Seconds since 1970; 0 = empty.
    int64_t until;
};

enum { verified_count = 64 };

// What a context adds to OpenSSL's: which names the other side may have, which protocols we speak, whom it has met.
struct policy {
    char **names;
    size_t name_count;
    uint8_t *protocols;
    size_t protocols_count;
    pthread_mutex_t lock;
    struct verified verified[verified_count];
    // No revocation lists, which end on their own.
    int remembers;
    // When sessions that have ended were last forgotten, in seconds since 1970.
    int64_t forgotten_at;
};

struct copenssl_trust {
    X509_STORE *store;
    STACK_OF(X509) * certificates;
    int has_lists;
};

// The library context of certificates and connections.
extern OSSL_LIB_CTX *lean;

// OpenSSL's words for the newest error of this thread; forgets all of them.
void put_reason(char *reason, size_t size);
// Instead of asking at the terminal.
int no_password(char *buffer, int size, int is_writing, void *was_asked);

// 0, or why none of the certificate's names will do. `found` gets a text of the names.
int check_names(const X509 *certificate, const struct policy *policy, char *found, size_t size);
int has_expired(const X509 *certificate);
int64_t seconds_of(const ASN1_TIME *time);

// Callbacks of contexts, which work on the session of the connection.
int verify_chain(X509_STORE_CTX *store, void *policy);
int verify_certificate(int ok, X509_STORE_CTX *store);
int keep_ticket(SSL *ssl, SSL_SESSION *ticket);
int choose_protocol(
    SSL *ssl, const unsigned char **chosen, unsigned char *count, const unsigned char *offered, unsigned int offered_count, void *policy);
int limit_ticket(SSL *ssl, void *argument);
int forget_sessions(SSL *ssl, int *alert, void *policy);

#endif
