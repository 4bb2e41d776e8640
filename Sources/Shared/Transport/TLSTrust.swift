import COpenSSL

/// Whom we trust: the certificates and revocation lists of a bundle, parsed. Never changes; contexts of all threads share it.
@safe public final class TLSTrust: Sendable {
    // OpenSSL guards the store's index with a lock of its own; ours adds nothing to it after `init`.
    nonisolated(unsafe) let trust: OpaquePointer

    /// - Parameters:
    ///   - bundle: PEM.
    ///   - source: what errors call it.
    init(bundle: [UInt8], source: String) throws(TLSConfigurationError) {
        var made: OpaquePointer?
        var reason = [CChar](repeating: 0, count: 128)
        let problem = Int(unsafe copenssl_trust_new(bundle, bundle.count, &made, &reason, reason.count))
        guard problem == COPENSSL_OK, let made = unsafe made else {
            let found = problem == COPENSSL_NO_CERTIFICATE ? "none" : "what cannot be read: \(TLSContextBuilder.words(reason))"
            throw TLSConfigurationError(source: source, expected: "the certificates that we trust, in PEM", found: found)
        }
        unsafe trust = made
    }

    deinit {
        unsafe copenssl_trust_free(trust)
    }

    /// The certificates, in the order of the bundle. Read anew with each call.
    public var certificates: [TLSCertificate] {
        var found: [TLSCertificate] = []
        while let next = unsafe copenssl_trust_certificate(trust, CInt(found.count)) { unsafe found.append(TLSCertificate(next)) }
        return found
    }
}

/// Finds the trust that another context has parsed already: a bundle of a whole system (139 certificates) takes 0.8 MB and 20 ms.
public final class TLSTrustCache {
    private struct Entry {
        weak var trust: TLSTrust?
    }

    private var known: [[UInt8]: Entry] = [:]

    public init() {}

    func trust(bundle: [UInt8], digest: [UInt8], source: String) throws(TLSConfigurationError) -> TLSTrust {
        if let trust = known[digest]?.trust { return trust }
        let trust = try TLSTrust(bundle: bundle, source: source)
        known = known.filter { $0.value.trust != nil }
        known[digest] = Entry(trust: trust)
        return trust
    }
}
