/// TLS over OpenSSL, without sockets: contexts made from configuration and files, sessions that turn ciphertext into plaintext and back,
/// the other side's identity, and the reading of a ClientHello.
import COpenSSL
public import ProxyConfig

/// One TLS configuration made ready: certificate, key, trust, names, protocols. Never changes; all workers and connections share it.
///
/// What changes in its files makes a new context. Sessions of the old one go on with it; they cannot be resumed with the new one, so
/// nobody is let in by what used to be trusted.
@safe public final class TLSContext: Sendable {
    /// Our certificate, then its chain. Empty if we show none.
    public let certificates: [TLSCertificate]
    /// What it was read from, each once: whoever keeps the context up to date watches these.
    public let files: [String]
    /// Whether the other side's certificate is checked. It must show one, unless `DownstreamTLS.requiresCertificate` is false.
    public var verifiesPeer: Bool { trust != nil }
    public let trust: TLSTrust?
    let isServer: Bool
    // OpenSSL guards the few parts that change with locks of its own; ours do not change after `init`.
    nonisolated(unsafe) let context: OpaquePointer

    /// What a listener needs.
    ///
    /// - Parameters:
    ///   - now: seconds since 1970; a certificate must be valid then.
    ///   - trusts: where contexts look for a trust that is parsed already.
    ///   - files: reads a file whole; what it throws is told as what was found.
    public static func server(
        _ tls: DownstreamTLS, now: Int64, trusts: TLSTrustCache = TLSTrustCache(), files: (String) throws -> [UInt8]
    ) throws(TLSConfigurationError) -> TLSContext {
        try TLSContext(
            isServer: true, certificate: tls.certificate, validation: tls.validation, protocols: tls.alpn, now: now, trusts: trusts,
            requiresCertificate: tls.requiresCertificate, read: files)
    }

    /// What connections to endpoints need. Names for SNI are given to each session.
    public static func client(
        _ tls: UpstreamTLS, now: Int64, trusts: TLSTrustCache = TLSTrustCache(), files: (String) throws -> [UInt8]
    ) throws(TLSConfigurationError) -> TLSContext {
        try TLSContext(
            isServer: false, certificate: tls.certificate, validation: tls.validation, protocols: tls.alpn, now: now, trusts: trusts,
            read: files)
    }

    private init(
        isServer: Bool, certificate: CertificateSource?, validation: TLSValidation?, protocols: [String], now: Int64, trusts: TLSTrustCache,
        requiresCertificate: Bool = true, read: (String) throws -> [UInt8]
    ) throws(TLSConfigurationError) {
        guard copenssl_start() == 0, let context = unsafe copenssl_context_new(isServer ? 1 : 0) else {
            throw TLSConfigurationError(source: "OpenSSL", expected: "to start", found: "that it does not")
        }
        var builder = unsafe TLSContextBuilder(context: context, isServer: isServer)
        do {
            if let certificate { try builder.setCertificate(certificate, now: now, read) }
            if let validation { try builder.setValidation(validation, trusts, read) }
            if validation != nil, !requiresCertificate { builder.allowNoCertificate() }
            try builder.setProtocols(protocols)
            builder.setIdentity()
        } catch {
            unsafe copenssl_context_free(context)
            throw error
        }
        unsafe self.context = context
        self.isServer = isServer
        certificates = builder.certificates
        files = builder.files
        trust = builder.trust
    }

    deinit {
        // Sessions and tickets hold this object: they are gone.
        unsafe copenssl_context_free(context)
    }

    /// When our certificate ends, in seconds since 1970; nil without one.
    public var certificateExpiry: Int64? { certificates.first?.notAfter }

    /// When the first certificate of our chain ends.
    public var chainExpiry: Int64? { certificates.map(\.notAfter).min() }
}
