/// Where a certificate with its key comes from.
public enum CertificateSource: Hashable, Sendable {
    case file(chain: String, privateKey: String)
    /// The name of a secret that SDS delivers.
    case sds(name: String)
    /// An AWS certificate ARN for which no file is known: the listener stays closed and says why.
    case unresolved(arn: String)
}

/// Where the certificates that we trust come from.
public enum TrustSource: Hashable, Sendable {
    case file(String)
    case sds(name: String)
    case unresolved(arns: [String])
}

/// How the other side's certificate is checked (envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext).
public struct TLSValidation: Hashable, Sendable {
    public var trust: TrustSource
    /// match_typed_subject_alt_names, exact: one of these must stand in the certificate. Empty = any certificate of the authority.
    public var subjectAlternativeNames: [String]

    public init(trust: TrustSource, subjectAlternativeNames: [String] = []) {
        self.trust = trust
        self.subjectAlternativeNames = subjectAlternativeNames
    }
}

/// envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext.
public struct DownstreamTLS: Hashable, Sendable {
    public var certificate: CertificateSource
    /// How a client's certificate is checked; nil = none is asked for.
    public var validation: TLSValidation?
    /// require_client_certificate. False, with a validation: who shows none is let in too, and is nobody. Without a validation it means
    /// nothing.
    public var requiresCertificate: Bool
    public var alpn: [String]

    public init(
        certificate: CertificateSource, validation: TLSValidation? = nil, requiresCertificate: Bool = true, alpn: [String] = []
    ) {
        self.certificate = certificate
        self.validation = validation
        self.requiresCertificate = requiresCertificate
        self.alpn = alpn
    }
}

/// envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext.
public struct UpstreamTLS: Hashable, Sendable {
    /// Nil = the server's certificate is not checked (App Mesh's default towards file certificates).
    public var validation: TLSValidation?
    /// The certificate we show, if asked.
    public var certificate: CertificateSource?
    public var sni: String?
    public var alpn: [String]
    /// App Mesh's enforce: false = plaintext is used where the endpoint speaks no TLS.
    public var isEnforced: Bool
    /// transport_socket_matches: endpoints with `isPlaintext` are called without TLS. They are known by the configuration alone: nobody
    /// on the way can make one of them.
    public var sparesPlaintextEndpoints: Bool

    public init(
        validation: TLSValidation?, certificate: CertificateSource? = nil, sni: String? = nil, alpn: [String] = [], isEnforced: Bool = true,
        sparesPlaintextEndpoints: Bool = false
    ) {
        self.validation = validation
        self.certificate = certificate
        self.sni = sni
        self.alpn = alpn
        self.isEnforced = isEnforced
        self.sparesPlaintextEndpoints = sparesPlaintextEndpoints
    }
}
