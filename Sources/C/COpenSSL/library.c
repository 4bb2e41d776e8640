// OpenSSL's start, and the part of it that we use.
//
// OpenSSL 3.0 asks for each public key that it reads (one a certificate) every algorithm of every provider whether it can: 1.5 million
// instructions, a third of a handshake with two certificates. So the one provider of this process is OpenSSL's default with fewer kinds of
// keys: those that TLS 1.2 and 1.3 can use here. The default itself stands behind it, in a library context of its own.
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/provider.h>

#include "internal.h"

static OSSL_PROVIDER *whole;
static OSSL_ALGORITHM key_kinds[64], decoders[128];

// "DER" reads containers of any kind: PEM, encrypted keys. The last three are no pairs of keys; OpenSSL wraps secrets so.
static const char *const wanted[] = {"EC", "RSA", "RSA-PSS", "ED25519", "X25519", "DER", "HMAC", "HKDF", "TLS1-PRF"};

// The names of an algorithm are separated by colons: `EC:id-ecPublicKey:1.2.840.10045.2.1`.
static int is_wanted(const char *names) {
    size_t count = strcspn(names, ":");
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        if (strlen(wanted[i]) == count && strncasecmp(names, wanted[i], count) == 0) return 1;
    }
    return 0;
}

// 0 if there is no room for all that is wanted.
static int choose(int operation, OSSL_ALGORITHM *chosen, size_t room) {
    int no_cache = 0;
    size_t count = 0;
    const OSSL_ALGORITHM *all = OSSL_PROVIDER_query_operation(whole, operation, &no_cache);
    for (; all && all->algorithm_names; all++) {
        if (!is_wanted(all->algorithm_names)) continue;
        if (count + 1 == room) return 0;
        chosen[count++] = *all;
    }
    return count > 0;
}

static const OSSL_ALGORITHM *query(void *context, int operation, int *no_cache) {
    (void)context;
    *no_cache = 0;
    switch (operation) {
    case OSSL_OP_KEYMGMT: return key_kinds;
    case OSSL_OP_DECODER: return decoders;
    default: return OSSL_PROVIDER_query_operation(whole, operation, no_cache);
    }
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
    *context = OSSL_PROVIDER_get0_provider_ctx(whole);
    return 1;
}

static int result = -1;

static void start(void) {
    // Threads may still be at work when the process exits: OpenSSL must not clean up under them.
    if (OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL) != 1) return;
    OSSL_LIB_CTX *behind = OSSL_LIB_CTX_new();
    whole = behind ? OSSL_PROVIDER_load(behind, "default") : NULL;
    if (!whole || !choose(OSSL_OP_KEYMGMT, key_kinds, sizeof key_kinds / sizeof *key_kinds) ||
        !choose(OSSL_OP_DECODER, decoders, sizeof decoders / sizeof *decoders)) {
        return;
    }
    // A provider that is loaded by name keeps OpenSSL from loading its default one on its own.
    if (!OSSL_PROVIDER_add_builtin(NULL, "outrigger", start_provider) || !OSSL_PROVIDER_load(NULL, "outrigger")) return;
    result = 0;
}

int copenssl_start(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start);
    return result;
}
