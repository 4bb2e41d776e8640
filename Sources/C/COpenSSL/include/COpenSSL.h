// OpenSSL 3.0 with plain types: contexts, sessions over memory that the caller lends, certificates.
//
// OpenSSL's own headers stay out of here: much of them is macros that Swift cannot see, and importing them takes seconds.
#ifndef OUTRIGGER_COPENSSL_H
#define OUTRIGGER_COPENSSL_H

#include <stddef.h>
#include <stdint.h>

typedef struct ssl_ctx_st SSL_CTX;
typedef struct ssl_session_st SSL_SESSION;
typedef struct x509_st X509;

// MARK: Contexts

struct copenssl_trust;

enum {
    COPENSSL_OK = 0,
    COPENSSL_NO_MEMORY,
    COPENSSL_NO_CERTIFICATE,       // No PEM certificate in the file.
    COPENSSL_BAD_CERTIFICATE,      // A PEM block that is no certificate.
    COPENSSL_WEAK_CERTIFICATE,     // Refused by the security level: key too short, hash too old.
    COPENSSL_NO_KEY,               // No PEM private key in the file.
    COPENSSL_ENCRYPTED_KEY,
    COPENSSL_BAD_KEY,
    COPENSSL_KEY_MISMATCH,
    COPENSSL_BAD_REVOCATION_LIST,
    COPENSSL_REFUSED,              // Something else; see the text.
    COPENSSL_BAD_REQUEST,          // No PKCS #10 request in PEM, or none that can be read.
    COPENSSL_UNSIGNED_REQUEST,     // A request that the owner of its key has not signed.
};

// 0 if OpenSSL could be started. Any thread may call it, any number of times. No configuration file is read.
int copenssl_start(void);

// TLS 1.2 and 1.3, no renegotiation, no compression, buffers only while in use. NULL without memory.
SSL_CTX *copenssl_context_new(int is_server);
void copenssl_context_free(SSL_CTX *context);

// The certificate with its chain and its key, in PEM. `reason` gets OpenSSL's words when there are some.
int copenssl_context_set_certificate(
    SSL_CTX *context, const void *chain, size_t chain_count, const void *key, size_t key_count, char *reason, size_t reason_size);

// From here on the other side must show a certificate of somebody whom we trust. The context shares it.
int copenssl_context_set_trust(SSL_CTX *context, int is_server, const struct copenssl_trust *trust);

// For servers, after `set_trust`: clients without a certificate are let in too. One that is shown is checked as before.
void copenssl_context_allow_no_certificate(SSL_CTX *context);

// Adds a name of which one must stand in the other side's certificate: DNS or URI.
int copenssl_context_add_name(SSL_CTX *context, const char *name, size_t count);

// The protocols in order of preference, in wire form (RFC 7301 section 3.1). A server refuses who offers only others.
int copenssl_context_set_protocols(SSL_CTX *context, int is_server, const uint8_t *protocols, size_t count);

// What a session must be of to be resumed: up to 32 bytes.
void copenssl_context_set_identity(SSL_CTX *context, const uint8_t *identity, size_t count);

// Our own certificate (0) and its chain, borrowed; NULL behind the last.
X509 *copenssl_context_certificate(SSL_CTX *context, int index);

// MARK: Trust

// Whom we trust, parsed: never changes, contexts of any thread share it.
// From PEM: certificates (also such that are no roots) and revocation lists.
int copenssl_trust_new(const void *bundle, size_t count, struct copenssl_trust **trust, char *reason, size_t reason_size);
void copenssl_trust_free(struct copenssl_trust *trust);
// The certificates, borrowed, in the order of the bundle; NULL behind the last.
X509 *copenssl_trust_certificate(const struct copenssl_trust *trust, int index);

// MARK: Certificates

enum { COPENSSL_NAME_DNS = 0, COPENSSL_NAME_URI = 1, COPENSSL_NAME_IP = 2 };

// Calls `each` for the names of the certificate (DNS, URI as they stand there; IP as text).
void copenssl_certificate_names(
    const X509 *certificate, void (*each)(void *argument, int kind, const uint8_t *bytes, size_t count), void *argument);
// RFC 2253, ASCII only. Returns the length, at most size - 1.
size_t copenssl_certificate_subject(const X509 *certificate, char *text, size_t size);
size_t copenssl_certificate_issuer(const X509 *certificate, char *text, size_t size);
// In hexadecimal, lower case, without leading zeros. Returns the length, at most size - 1.
size_t copenssl_certificate_serial(const X509 *certificate, char *text, size_t size);
// Seconds since 1970.
int64_t copenssl_certificate_not_before(const X509 *certificate);
int64_t copenssl_certificate_not_after(const X509 *certificate);
// SHA-256 of the DER form.
void copenssl_certificate_digest(const X509 *certificate, uint8_t digest[32]);

// MARK: Sessions

// One connection. The caller sets input and output around each call; nothing keeps these pointers.
struct copenssl_session {
    const uint8_t *input;  // Ciphertext that the other side sent: what is read is taken off here.
    size_t input_count;
    uint8_t *output;  // Room for ciphertext that is to be sent: what is written is taken off here.
    size_t output_room;
    size_t output_count;  // Written there since the caller set it to 0.
    // What found no room there, to be sent after it. An alert or the answer to a key update always fits, so that a connection that only
    // reads needs no room.
    uint8_t spare[64];
    size_t spare_count;
    void *ssl;
    SSL_SESSION *ticket;  // The newest session to resume; owned.
    int verify_error;     // X509_V_ERR_... or COPENSSL_VERIFY_...: why the other side's certificate was refused; 0 if it was not.
    char *refused;        // Whose: the subject, or the names that were found. NULL if none was refused.
};

// Beside OpenSSL's numbers.
enum {
    COPENSSL_VERIFY_OTHER_NAME = 10001,  // None of the expected names.
    COPENSSL_VERIFY_BAD_NAME = 10002,    // A name with bytes that no name has.
};

enum {
    COPENSSL_DONE = 0,       // It worked; for a read or write see the count.
    COPENSSL_WANTS_INPUT,
    COPENSSL_WANTS_ROOM,
    COPENSSL_ENDED,          // The other side sent close_notify.
    COPENSSL_FAILED,
};

struct copenssl_session *copenssl_session_new(SSL_CTX *context, int is_server);
void copenssl_session_free(struct copenssl_session *session);
int copenssl_session_set_server_name(struct copenssl_session *session, const char *name);
int copenssl_session_resume(struct copenssl_session *session, SSL_SESSION *ticket);

int copenssl_session_handshake(struct copenssl_session *session);
int copenssl_session_read(struct copenssl_session *session, void *plaintext, size_t room, size_t *count);
// Writes as much as there is room for.
int copenssl_session_write(struct copenssl_session *session, const void *plaintext, size_t size, size_t *count);
int copenssl_session_finish(struct copenssl_session *session);

// What made a call fail.
enum {
    COPENSSL_FAILURE_OTHER = 0,
    COPENSSL_FAILURE_NOT_TLS,         // What came is no TLS record.
    COPENSSL_FAILURE_VERSION,         // No version in common.
    COPENSSL_FAILURE_CIPHER,          // No cipher, group or signature in common.
    COPENSSL_FAILURE_PROTOCOL,        // No application protocol in common.
    COPENSSL_FAILURE_CERTIFICATE,     // We refused the other side's: see verify_error.
    COPENSSL_FAILURE_NO_CERTIFICATE,  // It showed none.
    COPENSSL_FAILURE_ALERT,           // It ended the connection with the alert in *alert.
};
// Which of these the failure before was, and OpenSSL's words.
int copenssl_session_failure(int *alert, char *text, size_t size);

enum {
    COPENSSL_FAULT_OTHER = 0,
    COPENSSL_FAULT_EXPIRED,
    COPENSSL_FAULT_NOT_YET_VALID,
    COPENSSL_FAULT_UNTRUSTED,  // No chain to an authority that we trust.
    COPENSSL_FAULT_REVOKED,
    COPENSSL_FAULT_OTHER_NAME,
    COPENSSL_FAULT_BAD_NAME,
};
// Which of these a verify_error is, and the words for it.
int copenssl_verify_fault(int error);
const char *copenssl_verify_text(int error);
const char *copenssl_alert_text(int alert);

void copenssl_session_protocol(const struct copenssl_session *session, const uint8_t **bytes, size_t *count);
// NULL if the client named none.
const char *copenssl_session_server_name(const struct copenssl_session *session);
const char *copenssl_session_version(const struct copenssl_session *session);
const char *copenssl_session_cipher(const struct copenssl_session *session);
int copenssl_session_was_resumed(const struct copenssl_session *session);
// The other side's certificate, borrowed; NULL without one.
X509 *copenssl_session_peer(const struct copenssl_session *session);
// Bytes of plaintext that a read gives without more input.
size_t copenssl_session_pending(const struct copenssl_session *session);

void copenssl_ticket_retain(SSL_SESSION *ticket);
void copenssl_ticket_free(SSL_SESSION *ticket);
// TLS 1.3 tickets are to be used once (RFC 8446 appendix C.4).
int copenssl_ticket_is_single_use(const SSL_SESSION *ticket);

// MARK: Keys and certificates that we make
//
// PEM goes into `pem` with a NUL behind it; what does not fit is COPENSSL_NO_MEMORY or COPENSSL_REFUSED. Give it this much room.
enum { COPENSSL_PEM_SIZE = 16384 };

// A new P-256 key (PKCS #8).
int copenssl_key_new(char *pem, size_t size);
// A request without names (PKCS #10) for a certificate of the key.
int copenssl_request_new(const void *key_pem, size_t key_count, char *pem, size_t size, char *reason, size_t reason_size);
// Whether the key is that of the first certificate.
int copenssl_key_fits(const void *key_pem, size_t key_count, const void *certificate_pem, size_t certificate_count);

// What is to stand in a certificate.
struct copenssl_issue {
    const char *uri;          // The one alternative name of a leaf, ASCII; "" makes an authority.
    const char *common_name;  // UTF-8, at most 64 characters; "" leaves the subject empty.
    const uint8_t *serial;    // 16 bytes.
    int64_t not_before;  // Seconds since 1970.
    int64_t not_after;
};

// Signs a certificate with the key and certificate that stand in `authority`, one after the other; with its own key if that is empty.
// For a leaf `subject` is the request, of which only the key counts; for an authority its private key.
int copenssl_issue_certificate(const struct copenssl_issue *issue, const void *authority, size_t authority_count, const void *subject,
    size_t subject_count, char *pem, size_t size, char *reason, size_t reason_size);

// MARK: Digests that need no start

void copenssl_sha1(const void *bytes, size_t count, uint8_t digest[20]);
void copenssl_sha256(const void *bytes, size_t count, uint8_t digest[32]);

#endif
