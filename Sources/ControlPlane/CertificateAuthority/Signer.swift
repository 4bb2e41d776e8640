import COpenSSL

/// Keys and certificates, made and read by OpenSSL. All of it is PEM.
enum Signer {
    enum Kind {
        case authority
        case leaf(uri: String)
    }

    /// What a certificate says.
    struct Reading {
        var serial: String
        var digest: String
        var notAfter: Int64
    }

    static func newKey() throws(AuthorityError) -> String {
        try start()
        var pem = [CChar](repeating: 0, count: COPENSSL_PEM_SIZE)
        guard Int(unsafe copenssl_key_new(&pem, pem.count)) == COPENSSL_OK else { throw .failed("OpenSSL makes no key") }
        return text(pem)
    }

    /// Signs.
    ///
    /// - Parameters:
    ///   - name: the common name.
    ///   - authority: key and certificate of who signs; empty: the subject itself.
    ///   - subject: for a leaf the request, for an authority its key.
    static func issue(
        _ kind: Kind, name: String, from: Int64, until: Int64, by authority: String, for subject: String
    ) throws(AuthorityError) -> String {
        try start()
        let uri = if case .leaf(let uri) = kind { uri } else { "" }
        var pem = [CChar](repeating: 0, count: COPENSSL_PEM_SIZE)
        var reason = [CChar](repeating: 0, count: 128)
        let serial = randomBytes(16)
        let problem = unsafe uri.withCString { uri in
            unsafe name.withCString { name in
                unsafe serial.withUnsafeBufferPointer { serial in
                    var issue = unsafe copenssl_issue(
                        uri: uri, common_name: name, serial: serial.baseAddress, not_before: from, not_after: until)
                    return unsafe copenssl_issue_certificate(
                        &issue, authority, authority.utf8.count, subject, subject.utf8.count, &pem, pem.count, &reason, reason.count)
                }
            }
        }
        let words = text(reason)
        switch Int(problem) {
        case COPENSSL_OK: return text(pem)
        case COPENSSL_BAD_REQUEST:
            throw .badRequest(expected: "a PKCS #10 request in PEM", found: "what cannot be read" + (words.isEmpty ? "" : ": \(words)"))
        case COPENSSL_UNSIGNED_REQUEST:
            throw .badRequest(expected: "a request that is signed with its own key", found: "another signature")
        case COPENSSL_WEAK_CERTIFICATE:
            throw .badRequest(expected: "a key of at least 112 bits of security (P-256, RSA 2048)", found: "a weaker one")
        default: throw .failed("OpenSSL signs no certificate" + (words.isEmpty ? "" : ": \(words)"))
        }
    }

    /// Whether a key is that of a certificate.
    static func fits(key: String, certificate: String) -> Bool {
        unsafe copenssl_key_fits(key, key.utf8.count, certificate, certificate.utf8.count) != 0
    }

    /// Reads the first certificate of a PEM text.
    static func read(_ pem: String) throws(AuthorityError) -> Reading {
        try start()
        var trust: OpaquePointer?
        var reason = [CChar](repeating: 0, count: 128)
        guard Int(unsafe copenssl_trust_new(pem, pem.utf8.count, &trust, &reason, reason.count)) == COPENSSL_OK,
            let trust = unsafe trust, let certificate = unsafe copenssl_trust_certificate(trust, 0)
        else {
            let words = text(reason)
            throw .failed(words.isEmpty ? "no certificate" : words)
        }
        // The certificate is borrowed from it.
        defer { unsafe copenssl_trust_free(trust) }
        var serial = [CChar](repeating: 0, count: 64)
        _ = unsafe copenssl_certificate_serial(certificate, &serial, serial.count)
        var digest = [UInt8](repeating: 0, count: 32)
        unsafe copenssl_certificate_digest(certificate, &digest)
        return unsafe Reading(
            serial: text(serial), digest: hexadecimal(digest), notAfter: copenssl_certificate_not_after(certificate))
    }

    static func randomBytes(_ count: Int) -> [UInt8] {
        // The kernel's generator.
        var generator = SystemRandomNumberGenerator()
        return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }

    static func hexadecimal(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    private static func start() throws(AuthorityError) {
        guard copenssl_start() == 0 else { throw .failed("OpenSSL does not start") }
    }

    /// What C has written, up to its NUL.
    private static func text(_ bytes: [CChar]) -> String {
        String(decoding: bytes.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
