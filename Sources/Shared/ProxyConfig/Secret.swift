/// A certificate with its key, or certificates to trust, that a control plane delivers by name
/// (envoy.extensions.transport_sockets.tls.v3.Secret). `CertificateSource.sds` and `TrustSource.sds` name it.
public struct Secret: Hashable, Sendable {
    public enum Content: Hashable, Sendable {
        /// tls_certificate: PEM, the leaf first, and its key.
        case certificate(chain: [UInt8], privateKey: [UInt8])
        /// validation_context: PEM, one or more certificates.
        ///
        /// - Parameter subjectAlternativeNames: match_typed_subject_alt_names, exact: one of these must stand in the certificate of the other
        ///   side. Empty = none is asked for here; what the reference to the secret asks for holds beside it.
        case trust(authorities: [UInt8], subjectAlternativeNames: [String])
    }

    /// The certificate that a proxy got when it joined its mesh: it has it, nobody delivers it.
    public static let identityName = "outrigger-identity"
    /// Whom the proxies of a mesh with an authority of its own trust: the control plane delivers it.
    public static let bundleName = "outrigger-bundle"

    public var name: String
    public var content: Content

    public init(name: String, content: Content) {
        self.name = name
        self.content = content
    }
}

/// A key must not reach a log because somebody printed the value around it.
extension Secret: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String {
        switch content {
        case .certificate: "Secret(\(name): a certificate with its key)"
        case .trust: "Secret(\(name): trusted certificates)"
        }
    }

    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}

extension Secret.Content: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String {
        switch self {
        case .certificate: "a certificate with its key"
        case .trust: "trusted certificates"
        }
    }

    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}
