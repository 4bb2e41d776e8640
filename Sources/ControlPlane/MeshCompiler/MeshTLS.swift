import Base
import MeshModel
import ProxyConfig

/// TLS between proxies that have a certificate of their mesh, where the resources say nothing of TLS (MeshPolicy spec.mtls).
extension Compilation {
    /// What the mesh's side of a node takes on one port.
    mutating func meshChains(_ node: VirtualNode, _ listener: String, _ mapping: PortMapping, _ filter: NetworkFilter) -> [FilterChain] {
        let name = "\(mapping.port)"
        let plaintext = [FilterChain(name: name, filter: filter)]
        let mode = resources.mutualTLS(of: node, in: mesh)
        switch mode {
        case .strict: break
        case .permissive: guard options.hasIdentity else { return plaintext }
        // Callers turn to plaintext when they hear of it, which is not one moment for all: TLS is taken as before. But who looks whether
        // TLS comes lets those wait who wait for the other side to speak, as over TCP some do; that is why it may be turned off.
        case .disabled: guard options.hasIdentity, mapping.protocol != .tcp else { return plaintext }
        }
        guard meshIdentity(of: node, isNeeded: mode == .strict) != nil else { return plaintext }
        let context = DownstreamTLS(
            certificate: .sds(name: Secret.identityName), validation: TLSValidation(trust: .sds(name: Secret.bundleName)),
            requiresCertificate: mode == .strict, alpn: mapping.protocol.meshALPN)
        let secure = filter.behind(context, mapping.protocol)
        if resources.policy(of: mesh)?.mutualTLS == nil {
            assume("listeners[\(listener)].filter_chains[\(name)_mtls].tls", mode.rawValue, Self.source)
        }
        if mode == .strict { return [FilterChain(name: name, tls: context, filter: secure)] }
        var chains = [
            FilterChain(name: "\(name)_mtls", match: FilterChainMatch(transportProtocol: .tls), tls: context, filter: secure),
            FilterChain(name: "\(name)_plaintext", match: FilterChainMatch(transportProtocol: .plaintext), filter: filter),
        ]
        if mapping.protocol == .tcp {
            // Any other TLS is the application's own.
            chains[0].match.applicationProtocols = context.alpn
            chains.insert(FilterChain(name: "\(name)_tls", match: FilterChainMatch(transportProtocol: .tls), filter: filter), at: 1)
        }
        return chains
    }

    /// How a port of another node is called. Nil: in plaintext.
    mutating func meshTLS(_ node: VirtualNode, _ mapping: PortMapping, _ path: String) -> UpstreamTLS? {
        let mode = resources.mutualTLS(of: node, in: mesh)
        switch mode {
        case .strict: break
        case .permissive:
            // Where no proxy has registered nobody has a certificate.
            guard options.registeredNodes.contains(node.key) else { return nil }
            guard options.hasIdentity else {
                assume(path, "none", "the proxies of \(subject) have no certificate of the mesh: they join with `outrigger token create`")
                return nil
            }
        case .disabled:
            if options.registeredNodes.contains(node.key) { assume(path, "none", "MeshPolicy spec.mtls: DISABLED") }
            return nil
        }
        guard let identity = meshIdentity(of: node, isNeeded: mode == .strict) else { return nil }
        if resources.policy(of: mesh)?.mutualTLS == nil { assume(path, mode.rawValue, Self.source) }
        return UpstreamTLS(
            validation: TLSValidation(trust: .sds(name: Secret.bundleName), subjectAlternativeNames: [identity]),
            certificate: .sds(name: Secret.identityName), alpn: mapping.protocol.meshALPN, sparesPlaintextEndpoints: mode == .permissive)
    }

    private static let source = "\(Defaults.outrigger) (MeshPolicy spec.mtls.mode)"

    /// The name in the certificates of its proxies. Nil: they cannot have one.
    private mutating func meshIdentity(of node: VirtualNode, isNeeded: Bool) -> String? {
        if let identity = resources.identity(of: node.key) { return identity }
        let words = "no SPIFFE ID can be made of mesh \"\(mesh.meshName)\", \(node.key.qualified): its proxies get no certificate"
        if isNeeded { fail(node.key, "\(words), and MeshPolicy spec.mtls says STRICT") } else { warn(node.key, words) }
        return nil
    }
}

extension NetworkFilter {
    /// The same for connections that came with TLS.
    func behind(_ context: DownstreamTLS, _ portProtocol: PortProtocol) -> NetworkFilter {
        guard case .http(var manager) = self else { return self }
        manager.codec = portProtocol.codec(withTLS: true)
        // Only a certificate that was asked for says anything.
        if context.validation != nil { manager.forwardClientCertificate = .sanitizeSet(ClientCertificateDetails()) }
        return .http(manager)
    }
}

extension PortProtocol {
    /// Over TCP a name of our own: TLS without it is not the mesh's.
    var meshALPN: [String] { self == .tcp ? ["outrigger"] : alpn }
}
