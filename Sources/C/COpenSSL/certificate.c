// What stands in a certificate.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>


#include "internal.h"

#include <openssl/sha.h>

int64_t seconds_of(const ASN1_TIME *time) {
    struct tm parts;
    return ASN1_TIME_to_tm(time, &parts) == 1 ? (int64_t)timegm(&parts) : 0;
}

int64_t copenssl_certificate_not_before(const X509 *certificate) { return seconds_of(X509_get0_notBefore(certificate)); }

int64_t copenssl_certificate_not_after(const X509 *certificate) { return seconds_of(X509_get0_notAfter(certificate)); }

int has_expired(const X509 *certificate) { return X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0; }

// X509_digest would look for the algorithm first, which costs more than a hash.
void copenssl_certificate_digest(const X509 *certificate, uint8_t digest[32]) {
    uint8_t *bytes = NULL;
    int count = i2d_X509(certificate, &bytes);
    memset(digest, 0, 32);
    if (count > 0) copenssl_sha256(bytes, (size_t)count, digest);
    OPENSSL_free(bytes);
}

static size_t name_text(const X509_NAME *name, char *text, size_t size) {
    BIO *bio = BIO_new(BIO_s_mem());
    size_t count = 0;
    if (bio && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0) {
        char *bytes;
        long all = BIO_get_mem_data(bio, &bytes);
        count = all > 0 ? (size_t)all : 0;
        if (count > size - 1) count = size - 1;
        memcpy(text, bytes, count);
    }
    text[count] = 0;
    BIO_free(bio);
    return count;
}

size_t copenssl_certificate_subject(const X509 *certificate, char *text, size_t size) {
    return name_text(X509_get_subject_name(certificate), text, size);
}

size_t copenssl_certificate_issuer(const X509 *certificate, char *text, size_t size) {
    return name_text(X509_get_issuer_name(certificate), text, size);
}

size_t copenssl_certificate_serial(const X509 *certificate, char *text, size_t size) {
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
    char *digits = number ? BN_bn2hex(number) : NULL;
    const char *start = digits ? digits : "";
    while (start[0] == '0' && start[1] != 0) start++;
    size_t count = strlen(start);
    if (count > size - 1) count = size - 1;
    for (size_t i = 0; i < count; i++) text[i] = (char)(start[i] >= 'A' && start[i] <= 'F' ? start[i] + 32 : start[i]);
    text[count] = 0;
    OPENSSL_free(digits);
    BN_free(number);
    return count;
}

// Whether the name is an IP address; `text` is it then, in the form of RFC 5952.
static int address_text(const GENERAL_NAME *name, char text[INET6_ADDRSTRLEN]) {
    if (name->type != GEN_IPADD) return 0;
    int count = ASN1_STRING_length(name->d.iPAddress);
    int family = count == 4 ? AF_INET : count == 16 ? AF_INET6 : AF_UNSPEC;
    return family != AF_UNSPEC && inet_ntop(family, ASN1_STRING_get0_data(name->d.iPAddress), text, INET6_ADDRSTRLEN) != NULL;
}

// An address is the same however it is written.
static int is_same_address(const char *expected, const char *found) {
    unsigned char one[sizeof(struct in6_addr)], other[sizeof(struct in6_addr)];
    int family = strchr(found, ':') ? AF_INET6 : AF_INET;
    return inet_pton(family, expected, one) == 1 && inet_pton(family, found, other) == 1 &&
           memcmp(one, other, family == AF_INET ? 4 : 16) == 0;
}

void copenssl_certificate_names(
    const X509 *certificate, void (*each)(void *argument, int kind, const uint8_t *bytes, size_t count), void *argument) {
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        char address[INET6_ADDRSTRLEN];
        if (name->type == GEN_DNS || name->type == GEN_URI) {
            int kind = name->type == GEN_DNS ? COPENSSL_NAME_DNS : COPENSSL_NAME_URI;
            each(argument, kind, ASN1_STRING_get0_data(name->d.ia5), (size_t)ASN1_STRING_length(name->d.ia5));
        } else if (address_text(name, address)) {
            each(argument, COPENSSL_NAME_IP, (const uint8_t *)address, strlen(address));
        }
    }
    GENERAL_NAMES_free(names);
}

// RFC 9525 section 6.3: a wildcard is a whole first label and stands for exactly one.
static int is_same_host(const char *expected, const char *found, size_t count) {
    size_t expected_count = strlen(expected);
    if (count > 2 && found[0] == '*' && found[1] == '.') {
        const char *dot = memchr(expected, '.', expected_count);
        if (!dot || dot == expected) return 0;
        expected_count -= (size_t)(dot - expected);
        expected = dot;
        found++;
        count--;
    }
    return expected_count == count && strncasecmp(expected, found, count) == 0;
}

int check_names(const X509 *certificate, const struct policy *policy, char *found, size_t size) {
    found[0] = 0;
    int critical = 0;
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, &critical, NULL);
    // -1: there is no such extension. Otherwise it could not be read, or there are two.
    if (!names && critical != -1) return COPENSSL_VERIFY_BAD_NAME;
    int is_expected = policy->name_count == 0, is_bad = 0;
    size_t used = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        char address[INET6_ADDRSTRLEN];
        const char *kind = name->type == GEN_DNS ? "DNS" : name->type == GEN_URI ? "URI" : "IP";
        const char *bytes;
        size_t count;
        if (name->type == GEN_DNS || name->type == GEN_URI) {
            bytes = (const char *)ASN1_STRING_get0_data(name->d.ia5);
            count = (size_t)ASN1_STRING_length(name->d.ia5);
        } else if (address_text(name, address)) {
            bytes = address;
            count = strlen(address);
        } else {
            continue;
        }
        for (size_t k = 0; k < count; k++) is_bad |= bytes[k] <= ' ' || bytes[k] > '~';
        if (is_bad) break;
        for (size_t k = 0; k < policy->name_count && !is_expected; k++) {
            const char *expected = policy->names[k];
            is_expected = name->type == GEN_DNS   ? is_same_host(expected, bytes, count)
                          : name->type == GEN_URI ? strlen(expected) == count && memcmp(expected, bytes, count) == 0
                                                  : is_same_address(expected, address);
        }
        int more = snprintf(found + used, size - used, "%s%s:%.*s", used ? ", " : "", kind, (int)count, bytes);
        if (more > 0) used += (size_t)more < size - used ? (size_t)more : size - used - 1;
    }
    GENERAL_NAMES_free(names);
    return is_bad ? COPENSSL_VERIFY_BAD_NAME : is_expected ? 0 : COPENSSL_VERIFY_OTHER_NAME;
}

// The functions below EVP: they need neither the library's start nor a provider.
void copenssl_sha1(const void *bytes, size_t count, uint8_t digest[20]) {
    SHA_CTX state;
    SHA1_Init(&state);
    SHA1_Update(&state, bytes, count);
    SHA1_Final(digest, &state);
}

void copenssl_sha256(const void *bytes, size_t count, uint8_t digest[32]) {
    SHA256_CTX state;
    SHA256_Init(&state);
    SHA256_Update(&state, bytes, count);
    SHA256_Final(digest, &state);
}
