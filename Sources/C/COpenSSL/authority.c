// Keys, requests for certificates, and certificates that we sign.
#define _GNU_SOURCE
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "internal.h"

static EVP_PKEY *read_key(const void *pem, size_t count) {
    int was_asked = 0;
    BIO *bio = BIO_new_mem_buf(pem, (int)count);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, &was_asked) : NULL;
    BIO_free(bio);
    return key;
}

static X509 *read_certificate(const void *pem, size_t count) {
    int was_asked = 0;
    BIO *bio = BIO_new_mem_buf(pem, (int)count);
    X509 *certificate = bio ? PEM_read_bio_X509(bio, NULL, no_password, &was_asked) : NULL;
    BIO_free(bio);
    return certificate;
}

// Copies what stands in the BIO; 0 if it does not fit. A key must not stay in memory that is free.
static int put_pem(BIO *bio, char *pem, size_t size) {
    char *bytes = NULL;
    long count = BIO_get_mem_data(bio, &bytes);
    if (count <= 0 || (size_t)count >= size) return 0;
    memcpy(pem, bytes, (size_t)count);
    pem[count] = 0;
    OPENSSL_cleanse(bytes, (size_t)count);
    return 1;
}

int copenssl_key_new(char *pem, size_t size) {
    ERR_clear_error();
    EVP_PKEY *key = EVP_EC_gen("P-256");
    BIO *bio = BIO_new(BIO_s_mem());
    int is_done =
        key && bio && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1 && put_pem(bio, pem, size);
    BIO_free(bio);
    EVP_PKEY_free(key);
    return is_done ? COPENSSL_OK : COPENSSL_NO_MEMORY;
}

int copenssl_request_new(const void *key_pem, size_t key_count, char *pem, size_t size, char *reason, size_t reason_size) {
    ERR_clear_error();
    reason[0] = 0;
    int problem = COPENSSL_NO_MEMORY;
    EVP_PKEY *key = read_key(key_pem, key_count);
    X509_REQ *request = X509_REQ_new();
    BIO *bio = BIO_new(BIO_s_mem());
    if (!key) {
        problem = COPENSSL_BAD_KEY;
    } else if (request && bio) {
        int is_signed = X509_REQ_set_version(request, X509_REQ_VERSION_1) == 1 && X509_REQ_set_pubkey(request, key) == 1 &&
                        X509_REQ_sign(request, key, EVP_sha256()) > 0;
        problem = !is_signed ? COPENSSL_REFUSED
                  : PEM_write_bio_X509_REQ(bio, request) == 1 && put_pem(bio, pem, size) ? COPENSSL_OK
                                                                                         : COPENSSL_NO_MEMORY;
    }
    if (problem != COPENSSL_OK) put_reason(reason, reason_size);
    BIO_free(bio);
    X509_REQ_free(request);
    EVP_PKEY_free(key);
    return problem;
}

int copenssl_key_fits(const void *key_pem, size_t key_count, const void *certificate_pem, size_t certificate_count) {
    ERR_clear_error();
    EVP_PKEY *key = read_key(key_pem, key_count);
    X509 *certificate = read_certificate(certificate_pem, certificate_count);
    int fits = key && certificate && X509_check_private_key(certificate, key) == 1;
    X509_free(certificate);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return fits;
}

static int add_extension(X509 *certificate, X509 *issuer, int kind, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
    int is_done = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return is_done;
}

// Not by its text form, in which a comma begins another name. RFC 5280 section 4.2.1.6: critical, if the subject is empty.
static int add_uri(X509 *certificate, const char *uri, int is_critical) {
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();
    int is_done = 0;
    if (names && name && text && ASN1_STRING_set(text, uri, (int)strlen(uri)) == 1) {
        GENERAL_NAME_set0_value(name, GEN_URI, text);
        text = NULL;
        if (sk_GENERAL_NAME_push(names, name) > 0) {
            name = NULL;
            is_done = X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, is_critical, X509V3_ADD_DEFAULT) == 1;
        }
    }
    ASN1_IA5STRING_free(text);
    GENERAL_NAME_free(name);
    GENERAL_NAMES_free(names);
    return is_done;
}

static int set_serial(X509 *certificate, const uint8_t *serial) {
    BIGNUM *number = BN_bin2bn(serial, 16, NULL);
    int is_done = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
    BN_free(number);
    return is_done;
}

static int set_common_name(X509 *certificate, const char *name) {
    if (name[0] == 0) return 1;
    return X509_NAME_add_entry_by_NID(
               X509_get_subject_name(certificate), NID_commonName, MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0) == 1;
}

// Everything but the extensions and the signature.
static int describe(X509 *certificate, X509 *issuer, EVP_PKEY *key, const struct copenssl_issue *issue) {
    return X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate, issue->serial) &&
           ASN1_TIME_set(X509_getm_notBefore(certificate), (time_t)issue->not_before) &&
           ASN1_TIME_set(X509_getm_notAfter(certificate), (time_t)issue->not_after) &&
           set_common_name(certificate, issue->common_name) &&
           X509_set_issuer_name(certificate, X509_get_subject_name(issuer ? issuer : certificate)) == 1 &&
           X509_set_pubkey(certificate, key) == 1;
}

static int add_extensions(X509 *certificate, X509 *issuer, const char *uri) {
    int is_done = add_extension(certificate, issuer, NID_basic_constraints, uri[0] ? "critical,CA:FALSE" : "critical,CA:TRUE") &&
                  add_extension(certificate, issuer, NID_key_usage, uri[0] ? "critical,digitalSignature" : "critical,keyCertSign,cRLSign") &&
                  add_extension(certificate, issuer, NID_subject_key_identifier, "hash") &&
                  (!issuer || add_extension(certificate, issuer, NID_authority_key_identifier, "keyid"));
    if (!is_done || !uri[0]) return is_done;
    return add_extension(certificate, issuer, NID_ext_key_usage, "serverAuth,clientAuth") &&
           add_uri(certificate, uri, X509_NAME_entry_count(X509_get_subject_name(certificate)) == 0);
}

// The key of a request that its owner has signed; NULL and the problem otherwise.
static EVP_PKEY *requested_key(const void *pem, size_t count, int *problem) {
    int was_asked = 0;
    BIO *bio = BIO_new_mem_buf(pem, (int)count);
    X509_REQ *request = bio ? PEM_read_bio_X509_REQ(bio, NULL, no_password, &was_asked) : NULL;
    EVP_PKEY *key = request ? X509_REQ_get_pubkey(request) : NULL;
    *problem = !key ? COPENSSL_BAD_REQUEST
               : X509_REQ_verify(request, key) != 1 ? COPENSSL_UNSIGNED_REQUEST
               // The least that TLS contexts take (security level 2).
               : EVP_PKEY_get_security_bits(key) < 112 ? COPENSSL_WEAK_CERTIFICATE
                                                       : COPENSSL_OK;
    if (*problem != COPENSSL_OK) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    X509_REQ_free(request);
    BIO_free(bio);
    return key;
}

int copenssl_issue_certificate(const struct copenssl_issue *issue, const void *authority, size_t authority_count, const void *subject,
    size_t subject_count, char *pem, size_t size, char *reason, size_t reason_size) {
    ERR_clear_error();
    reason[0] = 0;
    int problem = COPENSSL_OK, signs_itself = authority_count == 0;
    int is_leaf = issue->uri[0] != 0;
    EVP_PKEY *key = is_leaf ? requested_key(subject, subject_count, &problem) : read_key(subject, subject_count);
    EVP_PKEY *signer = signs_itself ? key : read_key(authority, authority_count);
    X509 *issuer = signs_itself ? NULL : read_certificate(authority, authority_count);
    X509 *certificate = X509_new();
    BIO *bio = BIO_new(BIO_s_mem());
    if (problem == COPENSSL_OK) {
        int is_made = key && signer && (issuer || signs_itself) && certificate && bio && describe(certificate, issuer, key, issue) &&
                      add_extensions(certificate, issuer, issue->uri) &&
                      X509_sign(certificate, signer, EVP_sha256()) > 0 && PEM_write_bio_X509(bio, certificate) == 1 &&
                      put_pem(bio, pem, size);
        problem = is_made ? COPENSSL_OK : COPENSSL_REFUSED;
    }
    if (problem != COPENSSL_OK) put_reason(reason, reason_size);
    BIO_free(bio);
    X509_free(certificate);
    X509_free(issuer);
    if (!signs_itself) EVP_PKEY_free(signer);
    EVP_PKEY_free(key);
    return problem;
}
