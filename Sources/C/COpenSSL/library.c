// OpenSSL's start, and the part of it that connections use.
//
// OpenSSL 3.0 asks for each public key that it reads (one a certificate) every algorithm of a library context whether it can: 1.5 million
// instructions, a third of a handshake with two certificates. So certificates and connections have a library context of their own. Its one
// provider hands out of OpenSSL's default one what TLS 1.2 and 1.3 use here, some thirty algorithms of three hundred. Private keys and the
// authority's work are done in the default context, where nothing is missing: they are read once.
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/provider.h>

#include "internal.h"

OSSL_LIB_CTX *lean;
static OSSL_PROVIDER *whole;

// What is listed of an operation: the algorithms by their first name, of decoders only those with the properties. Whoever needs another
// one adds its name. `room` counts the end.
enum { room = 12 };
static struct operation {
    int number;
    const char *wanted[room];
    const char *properties;
    OSSL_ALGORITHM listed[room];
} operations[] = {
    // SHA1 makes names of certificates, which OpenSSL does with each that it reads.
    {OSSL_OP_DIGEST, {"SHA1", "SHA2-224", "SHA2-256", "SHA2-384", "SHA2-512"}},
    // CBC encrypts tickets.
    {OSSL_OP_CIPHER, {"AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305", "AES-256-CBC"}},
    {OSSL_OP_MAC, {"HMAC"}},
    {OSSL_OP_KDF, {"TLS13-KDF", "TLS1-PRF"}},
    {OSSL_OP_RAND, {"CTR-DRBG", "SEED-SRC"}},
    // HMAC is no pair of keys; OpenSSL wraps secrets so.
    {OSSL_OP_KEYMGMT, {"EC", "RSA", "RSA-PSS", "ED25519", "X25519", "HMAC"}},
    {OSSL_OP_KEYEXCH, {"ECDH", "X25519"}},
    {OSSL_OP_SIGNATURE, {"ECDSA", "RSA", "ED25519", "HMAC"}},
    // Of certificates.
    {OSSL_OP_DECODER, {"EC", "RSA", "RSA-PSS", "ED25519"}, "input=der,structure=SubjectPublicKeyInfo"},
};
enum { operation_count = sizeof operations / sizeof *operations };

// The names of an algorithm are separated by colons: `EC:id-ecPublicKey:1.2.840.10045.2.1`.
static int has_name(const OSSL_ALGORITHM *algorithm, const char *name) {
    size_t count = strcspn(algorithm->algorithm_names, ":");
    return strlen(name) == count && strncasecmp(name, algorithm->algorithm_names, count) == 0;
}

// 0 if one of the algorithms is not there.
static int choose(struct operation *operation) {
    int no_cache = 0;
    const OSSL_ALGORITHM *all = OSSL_PROVIDER_query_operation(whole, operation->number, &no_cache);
    for (size_t i = 0; operation->wanted[i]; i++) {
        const OSSL_ALGORITHM *next = all;
        while (next && next->algorithm_names &&
               !(has_name(next, operation->wanted[i]) &&
                   (!operation->properties || strstr(next->property_definition, operation->properties)))) {
            next++;
        }
        if (!next || !next->algorithm_names) return 0;
        operation->listed[i] = *next;
    }
    return 1;
}

static const OSSL_ALGORITHM *query(void *context, int number, int *no_cache) {
    (void)context;
    *no_cache = 0;
    for (size_t i = 0; i < operation_count; i++) {
        if (operations[i].number == number) return operations[i].listed;
    }
    return NULL;
}

static int capabilities(void *context, const char *capability, OSSL_CALLBACK *callback, void *argument) {
    (void)context;
    return OSSL_PROVIDER_get_capabilities(whole, capability, callback, argument);
}

static int parameters(void *context, OSSL_PARAM wanted[]) {
    (void)context;
    return OSSL_PROVIDER_get_params(whole, wanted);
}

static int start_provider(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out, void **context) {
    static const OSSL_DISPATCH functions[] = {
        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query},
        {OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))capabilities},
        {OSSL_FUNC_PROVIDER_GET_PARAMS, (void (*)(void))parameters},
        {0, NULL},
    };
    (void)handle, (void)in;
    *out = functions;
    // What an algorithm fetches itself comes from the default context.
    *context = OSSL_PROVIDER_get0_provider_ctx(whole);
    return 1;
}

static int result = -1;

static void start(void) {
    // Threads may still be at work when the process exits: OpenSSL must not clean up under them.
    if (OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL) != 1) return;
    whole = OSSL_PROVIDER_load(NULL, "default");
    lean = OSSL_LIB_CTX_new();
    if (!whole || !lean) return;
    for (size_t i = 0; i < operation_count; i++) {
        if (!choose(&operations[i])) return;
    }
    // A provider that is loaded by name keeps OpenSSL from loading its default one on its own.
    if (!OSSL_PROVIDER_add_builtin(lean, "outrigger", start_provider) || !OSSL_PROVIDER_load(lean, "outrigger")) return;
    result = 0;
}

int copenssl_start(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start);
    return result;
}
