public import Base

/// Where a certificate and its key come from.
public enum CertificateOrigin: Hashable, Sendable {
    /// AWS Certificate Manager, which we cannot ask: a `Sidecar` maps the ARN to files. Listeners only.
    case acm(arn: String)
    /// Paths of PEM files beside the proxy.
    case file(certificateChain: String, privateKey: String)
    case sds(secretName: String)
}

/// Where the certificates come from that the other side's must descend from.
public enum TrustOrigin: Hashable, Sendable {
    /// One through three; a `Sidecar` maps them to files. Clients only.
    case acm(authorityARNs: [String])
    case file(certificateChain: String)
    case sds(secretName: String)
}

/// How the other side's certificate is checked.
public struct PeerValidation: Hashable, Sendable {
    public var trust: TrustOrigin
    /// subjectAlternativeNames.match.exact; nil = no such field.
    public var subjectAlternativeNames: [String]?

    public init(trust: TrustOrigin, subjectAlternativeNames: [String]? = nil) {
        self.trust = trust
        self.subjectAlternativeNames = subjectAlternativeNames
    }
}

/// A listener's `tls`.
public struct ListenerTLS: Hashable, Sendable {
    public enum Mode: String, Hashable, Sendable, CaseIterable {
        case strict = "STRICT"
        /// TLS and plaintext.
        case permissive = "PERMISSIVE"
        case disabled = "DISABLED"
    }

    public var mode: Mode
    public var certificate: CertificateOrigin
    /// Present: callers must show a certificate.
    public var validation: PeerValidation?

    public init(mode: Mode, certificate: CertificateOrigin, validation: PeerValidation? = nil) {
        self.mode = mode
        self.certificate = certificate
        self.validation = validation
    }
}

/// How a node calls its backends.
public struct ClientPolicy: Hashable, Sendable {
    public struct TLS: Hashable, Sendable {
        /// Default true: never plaintext.
        public var enforce: Bool?
        /// Server ports that this holds for; empty = all.
        public var ports: [Port]
        public var validation: PeerValidation
        /// Ours, if the server asks. Never `.acm`.
        public var certificate: CertificateOrigin?

        public init(enforce: Bool? = nil, ports: [Port] = [], validation: PeerValidation, certificate: CertificateOrigin? = nil) {
            self.enforce = enforce
            self.ports = ports
            self.validation = validation
            self.certificate = certificate
        }
    }

    public var tls: TLS?

    public init(tls: TLS? = nil) {
        self.tls = tls
    }
}
