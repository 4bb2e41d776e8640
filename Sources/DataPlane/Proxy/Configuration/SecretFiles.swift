import ProxyConfig

/// Secrets as Transport takes them: files that lie in memory, under names that no file has.
extension Secret {
    /// Of a certificate chain, or of trusted certificates.
    static func path(_ name: String) -> String { "secret \(name)" }

    static func keyPath(_ name: String) -> String { "private key of secret \(name)" }

    /// What lies under one of these names.
    func part(_ path: String) throws(SecretProblem) -> [UInt8] {
        switch content {
        case .certificate(let chain, _) where path == Secret.path(name): return chain
        case .certificate(_, let key) where path == Secret.keyPath(name): return key
        case .trust(let authorities, _) where path == Secret.path(name): return authorities
        case .certificate, .trust: throw .anotherKind
        }
    }
}

enum SecretProblem: Error, CustomStringConvertible {
    case notDelivered
    case anotherKind

    var description: String {
        switch self {
        case .notDelivered: "the control plane has not delivered it"
        case .anotherKind: "the secret is of another kind"
        }
    }
}

extension DownstreamTLS {
    /// The same with secrets where files may stand.
    func withSecretsAsFiles(_ secrets: [String: Secret]) -> DownstreamTLS {
        var tls = self
        if case .sds(let name) = certificate { tls.certificate = .secret(name) }
        tls.validation = validation?.withSecretAsFile(secrets)
        return tls
    }
}

extension UpstreamTLS {
    func withSecretsAsFiles(_ secrets: [String: Secret]) -> UpstreamTLS {
        var tls = self
        if case .sds(let name) = certificate { tls.certificate = .secret(name) }
        tls.validation = validation?.withSecretAsFile(secrets)
        return tls
    }
}

extension CertificateSource {
    fileprivate static func secret(_ name: String) -> CertificateSource {
        .file(chain: Secret.path(name), privateKey: Secret.keyPath(name))
    }
}

extension TLSValidation {
    fileprivate func withSecretAsFile(_ secrets: [String: Secret]) -> TLSValidation {
        guard case .sds(let name) = trust else { return self }
        var validation = self
        validation.trust = .file(Secret.path(name))
        guard case .trust(_, let names) = secrets[name]?.content, !names.isEmpty else { return validation }
        guard !subjectAlternativeNames.isEmpty else {
            validation.subjectAlternativeNames = names
            return validation
        }
        // Both ask for one of theirs. We can ask for one of one list: names in both satisfy each, and where there is none, nobody does.
        let both = subjectAlternativeNames.filter(names.contains)
        validation.subjectAlternativeNames = both.isEmpty ? [Self.nobody] : both
        return validation
    }

    /// A name that no certificate can hold: host names have no spaces, and URIs neither.
    private static let nobody = "no name is both in the secret and in its reference"
}
