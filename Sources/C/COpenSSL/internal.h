// What the files of this target share.
#ifndef OUTRIGGER_COPENSSL_INTERNAL_H
#define OUTRIGGER_COPENSSL_INTERNAL_H

#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "COpenSSL.h"

// What a context adds to OpenSSL's: which names the other side may have, which protocols we speak.
struct policy {
    char **names;
    size_t name_count;
    uint8_t *protocols;
    size_t protocols_count;
};

struct copenssl_trust {
    X509_STORE *store;
    STACK_OF(X509) * certificates;
};

// OpenSSL's words for the newest error of this thread; forgets all of them.
void put_reason(char *reason, size_t size);
// Instead of asking at the terminal.
int no_password(char *buffer, int size, int is_writing, void *was_asked);

// 0, or why none of the certificate's names will do. `found` gets a text of the names.
int check_names(const X509 *certificate, const struct policy *policy, char *found, size_t size);
int has_expired(const X509 *certificate);

// Callbacks of contexts, which work on the session of the connection.
int verify_certificate(int ok, X509_STORE_CTX *store);
int keep_ticket(SSL *ssl, SSL_SESSION *ticket);
int choose_protocol(SSL *ssl, const unsigned char **chosen, unsigned char *count, const unsigned char *offered, unsigned int offered_count, void *policy);
SSL_TICKET_RETURN admit_ticket(SSL *ssl, SSL_SESSION *ticket, const unsigned char *name, size_t name_count, SSL_TICKET_STATUS status, void *argument);

#endif
