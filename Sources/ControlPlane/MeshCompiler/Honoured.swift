import ProxyConfig

/// What a snapshot asks for and nobody can give.
enum Honoured {
    /// This stays as long as nobody delivers secrets: a name alone is no certificate.
    static func warnings(for snapshot: Snapshot) -> [Note] {
        var texts: [String: String] = [:]
        func note(arn: String) {
            texts[arn] =
                "no file is known for this certificate: what needs it stays closed; name one in a Sidecar "
                + "(spec.certificates, spec.authorities)"
        }
        func note(secret: String) {
            texts["secret \"\(secret)\""] = "nothing delivers secrets by SDS yet: what needs it stays closed; name files instead"
        }
        func look(_ certificate: CertificateSource?, _ validation: TLSValidation?) {
            switch certificate {
            case .unresolved(let arn): note(arn: arn)
            case .sds(let name): note(secret: name)
            case .file, nil: break
            }
            switch validation?.trust {
            case .unresolved(let arns): arns.forEach(note(arn:))
            case .sds(let name): note(secret: name)
            case .file, nil: break
            }
        }
        for tls in snapshot.listeners.flatMap(\.filterChains).compactMap(\.tls) { look(tls.certificate, tls.validation) }
        for tls in snapshot.clusters.compactMap(\.tls) { look(tls.certificate, tls.validation) }
        return texts.map { Note(kind: .warning, path: $0.key, text: $0.value) }
    }
}
