// Whom we trust: parsed once, shared by contexts.
#include <stdlib.h>

#include <openssl/pem.h>

#include "internal.h"

static int add(struct copenssl_trust *trust, const X509_INFO *item) {
    if (item->x509) {
        if (X509_STORE_add_cert(trust->store, item->x509) != 1) return COPENSSL_BAD_CERTIFICATE;
        if (!X509_up_ref(item->x509)) return COPENSSL_NO_MEMORY;
        if (!sk_X509_push(trust->certificates, item->x509)) {
            X509_free(item->x509);
            return COPENSSL_NO_MEMORY;
        }
    }
    if (item->crl) {
        if (X509_STORE_add_crl(trust->store, item->crl) != 1) return COPENSSL_BAD_REVOCATION_LIST;
        trust->has_lists = 1;
    }
    return COPENSSL_OK;
}

static int fill(struct copenssl_trust *trust, const STACK_OF(X509_INFO) * found) {
    for (int i = 0; i < sk_X509_INFO_num(found); i++) {
        int problem = add(trust, sk_X509_INFO_value(found, i));
        if (problem != COPENSSL_OK) return problem;
    }
    // An authority that is listed is trusted, a root or not: whoever wrote the bundle meant it.
    X509_STORE_set_flags(trust->store, X509_V_FLAG_PARTIAL_CHAIN);
    if (trust->has_lists) X509_STORE_set_flags(trust->store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return sk_X509_num(trust->certificates) > 0 ? COPENSSL_OK : COPENSSL_NO_CERTIFICATE;
}

int copenssl_trust_new(const void *bundle, size_t count, struct copenssl_trust **made, char *reason, size_t reason_size) {
    reason[0] = 0;
    int was_asked = 0;
    struct copenssl_trust *trust = calloc(1, sizeof *trust);
    BIO *bio = BIO_new_mem_buf(bundle, (int)count);
    int problem = COPENSSL_NO_MEMORY;
    if (trust && bio && (trust->store = X509_STORE_new()) && (trust->certificates = sk_X509_new_null())) {
        STACK_OF(X509_INFO) *found = PEM_X509_INFO_read_bio_ex(bio, NULL, no_password, &was_asked, lean, NULL);
        problem = found ? fill(trust, found) : COPENSSL_BAD_CERTIFICATE;
        sk_X509_INFO_pop_free(found, X509_INFO_free);
    }
    if (problem != COPENSSL_OK) {
        put_reason(reason, reason_size);
        copenssl_trust_free(trust);
        trust = NULL;
    }
    BIO_free(bio);
    *made = trust;
    return problem;
}

void copenssl_trust_free(struct copenssl_trust *trust) {
    if (!trust) return;
    X509_STORE_free(trust->store);
    sk_X509_pop_free(trust->certificates, X509_free);
    free(trust);
}

X509 *copenssl_trust_certificate(const struct copenssl_trust *trust, int index) {
    return index < sk_X509_num(trust->certificates) ? sk_X509_value(trust->certificates, index) : NULL;
}
