import COpenSSL
import Glibc
import ProxyConfig

/// Fills an OpenSSL context step by step; says of the first thing that is wrong what it is.
@safe struct TLSContextBuilder {
    private(set) var certificates: [TLSCertificate] = []
    private(set) var files: [String] = []
    private(set) var trust: TLSTrust?
    private let context: OpaquePointer
    private let isServer: Bool
    /// Everything that decides who is let in: sessions are resumed only where it is the same.
    private var identity: [UInt8] = []

    init(context: OpaquePointer, isServer: Bool) {
        unsafe self.context = context
        self.isServer = isServer
    }

    mutating func setCertificate(
        _ source: CertificateSource, now: Int64, _ read: (String) throws -> [UInt8]
    ) throws(TLSConfigurationError) {
        let chainPath: String
        let keyPath: String
        switch source {
        case .file(let chain, let privateKey): (chainPath, keyPath) = (chain, privateKey)
        case .sds(let name): throw Self.undelivered(secret: name)
        case .unresolved(let arn): throw Self.unmapped(arns: [arn], "a certificate chain and a private key")
        }
        let chain = try load(chainPath, expected: "a certificate chain", read)
        let key = try load(keyPath, expected: "a private key", read)
        var reason = [CChar](repeating: 0, count: 128)
        let problem = unsafe copenssl_context_set_certificate(context, chain, chain.count, key, key.count, &reason, reason.count)
        try Self.check(problem, reason, chain: chainPath, key: keyPath)
        while let next = unsafe copenssl_context_certificate(context, CInt(certificates.count)) {
            unsafe certificates.append(TLSCertificate(next))
        }
        guard let leaf = certificates.first else { return }
        guard leaf.notBefore <= now else {
            throw TLSConfigurationError(
                source: chainPath, expected: "a certificate that is valid now",
                found: "one that begins at \(timeText(leaf.notBefore)) (\(leaf.subject))")
        }
        guard leaf.notAfter > now else {
            throw TLSConfigurationError(
                source: chainPath, expected: "a certificate that is valid now",
                found: "one that expired at \(timeText(leaf.notAfter)) (\(leaf.subject))")
        }
        identity += leaf.digest.utf8
    }

    mutating func setValidation(
        _ validation: TLSValidation, _ cache: TLSTrustCache, _ read: (String) throws -> [UInt8]
    ) throws(TLSConfigurationError) {
        let path: String
        switch validation.trust {
        case .file(let file): path = file
        case .sds(let name): throw Self.undelivered(secret: name)
        case .unresolved(let arns): throw Self.unmapped(arns: arns, "the certificates of an authority")
        }
        let bundle = try load(path, expected: "the certificates that we trust", read)
        let digest = Self.digest(bundle)
        let trust = try cache.trust(bundle: bundle, digest: digest, source: path)
        guard unsafe copenssl_context_set_trust(context, isServer ? 1 : 0, trust.trust) == COPENSSL_OK else {
            throw TLSConfigurationError(source: path, expected: "the certificates that we trust", found: "more than there is memory for")
        }
        self.trust = trust
        identity.append(0)
        identity += digest
        for name in validation.subjectAlternativeNames {
            guard !name.isEmpty, !name.utf8.contains(0) else {
                throw TLSConfigurationError(
                    source: "subjectAlternativeNames", expected: "DNS names, URIs and IP addresses", found: "\"\(name)\"")
            }
            _ = unsafe copenssl_context_add_name(context, name, name.utf8.count)
            identity.append(0)
            identity += name.utf8
        }
    }

    /// After `setValidation`.
    mutating func allowNoCertificate() {
        unsafe copenssl_context_allow_no_certificate(context)
        identity += [0, 1]
    }

    mutating func setProtocols(_ protocols: [String]) throws(TLSConfigurationError) {
        guard !protocols.isEmpty else { return }
        var list: [UInt8] = []
        for name in protocols {
            guard let count = UInt8(exactly: name.utf8.count), count > 0 else {
                throw TLSConfigurationError(source: "alpn", expected: "names of 1 through 255 bytes", found: "\"\(name)\"")
            }
            list.append(count)
            list += name.utf8
        }
        _ = unsafe copenssl_context_set_protocols(context, isServer ? 1 : 0, list, list.count)
        identity.append(0)
        identity += list
    }

    func setIdentity() {
        let digest = Self.digest(identity)
        unsafe copenssl_context_set_identity(context, digest, digest.count)
    }

    private static func digest(_ bytes: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: 32)
        unsafe copenssl_sha256(bytes, bytes.count, &digest)
        return digest
    }

    // MARK: What can be wrong

    private mutating func load(
        _ path: String, expected: String, _ read: (String) throws -> [UInt8]
    ) throws(TLSConfigurationError) -> [UInt8] {
        if !files.contains(path) { files.append(path) }
        do {
            return try read(path)
        } catch {
            throw TLSConfigurationError(source: path, expected: "\(expected) in PEM", found: "that it cannot be read: \(error)")
        }
    }

    private static func check(_ problem: CInt, _ reason: [CChar], chain: String, key: String) throws(TLSConfigurationError) {
        func wrong(_ path: String, _ expected: String, _ found: String) -> TLSConfigurationError {
            TLSConfigurationError(source: path, expected: expected, found: found)
        }
        switch Int(problem) {
        case COPENSSL_OK: return
        case COPENSSL_NO_CERTIFICATE: throw wrong(chain, "a certificate chain in PEM", "no certificate")
        case COPENSSL_BAD_CERTIFICATE: throw wrong(chain, "a certificate chain in PEM", "what cannot be read: \(words(reason))")
        case COPENSSL_WEAK_CERTIFICATE: throw wrong(chain, "certificates of at least 112 bits of security", words(reason))
        case COPENSSL_NO_KEY: throw wrong(key, "a private key in PEM", "none")
        case COPENSSL_ENCRYPTED_KEY: throw wrong(key, "a private key without a password", "an encrypted one")
        case COPENSSL_BAD_KEY: throw wrong(key, "a private key in PEM", "what cannot be read: \(words(reason))")
        case COPENSSL_KEY_MISMATCH: throw wrong(key, "the private key of the certificate in \(chain)", "another key")
        default: throw wrong(chain, "a certificate and key that OpenSSL takes", words(reason))
        }
    }

    static func words(_ reason: [CChar]) -> String {
        let bytes = reason.prefix { $0 != 0 }.map(UInt8.init(bitPattern:))
        return bytes.isEmpty ? "that OpenSSL refuses it" : String(decoding: bytes, as: UTF8.self)
    }

    private static func undelivered(secret: String) -> TLSConfigurationError {
        TLSConfigurationError(source: "secret \(secret)", expected: "its delivery", found: "that nobody delivers secrets to this proxy")
    }

    private static func unmapped(arns: [String], _ expected: String) -> TLSConfigurationError {
        TLSConfigurationError(source: arns.joined(separator: ", "), expected: expected, found: "that no file is known for it")
    }
}

/// Seconds since 1970 as people read them: 2026-01-31T23:59:59Z.
private func timeText(_ seconds: Int64) -> String {
    var time = time_t(seconds)
    var parts = unsafe tm()
    var text = [CChar](repeating: 0, count: 64)
    unsafe gmtime_r(&time, &parts)
    let count = unsafe strftime(&text, text.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
    return String(decoding: text.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
}
