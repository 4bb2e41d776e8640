import Base
import MeshModel
import ProxyConfig

/// Both sides of TLS: App Mesh's modes and policies as xDS contexts.
extension Compilation {
    /// One chain, or two where the listener takes TLS and plaintext.
    func filterChains(_ name: String, _ tls: ListenerTLS?, _ portProtocol: PortProtocol, _ filter: NetworkFilter) -> [FilterChain] {
        guard let tls, tls.mode != .disabled else { return [FilterChain(name: name, filter: filter)] }
        let context = DownstreamTLS(
            certificate: certificate(tls.certificate), validation: tls.validation.map(validation), alpn: portProtocol.alpn)
        if tls.mode == .strict { return [FilterChain(name: name, tls: context, filter: filter)] }
        return [
            FilterChain(name: "\(name)_tls", match: FilterChainMatch(transportProtocol: .tls), tls: context, filter: filter),
            FilterChain(name: "\(name)_plaintext", match: FilterChainMatch(transportProtocol: .plaintext), filter: filter),
        ]
    }

    /// How a listener of another node is called: by the caller's policy, else by what the listener asks for.
    mutating func upstreamTLS(
        _ node: VirtualNode, _ listener: VirtualNode.Listener?, _ mapping: PortMapping, _ policy: ClientPolicy?, _ cluster: String
    ) -> UpstreamTLS? {
        if let tls = policy?.tls, tls.ports.isEmpty || tls.ports.contains(mapping.port) {
            return byPolicy(tls, node, listener, mapping, cluster)
        }
        guard let server = listener?.tls, server.mode != .disabled else { return nil }
        let path = "clusters[\(cluster)].tls"
        switch server.certificate {
        case .acm(let arn):
            assume(path, "validated by \(arn)", "\(Defaults.appMesh): the callee's listener has an ACM certificate")
            return UpstreamTLS(validation: TLSValidation(trust: trust(.acm(authorityARNs: [arn]))), alpn: mapping.protocol.alpn)
        case .file, .sds:
            assume(path, "not validated", "\(Defaults.appMesh): the callee's listener has TLS, and no clientPolicy says whom to trust")
            return UpstreamTLS(validation: nil, alpn: mapping.protocol.alpn)
        }
    }

    private mutating func byPolicy(
        _ tls: ClientPolicy.TLS, _ node: VirtualNode, _ listener: VirtualNode.Listener?, _ mapping: PortMapping, _ cluster: String
    ) -> UpstreamTLS {
        let isEnforced = tls.enforce ?? true
        let path = "clusters[\(cluster)].tls"
        if tls.enforce == nil { assume("\(path).enforced", "true", Defaults.appMesh) }
        if isEnforced, listener?.tls == nil || listener?.tls?.mode == .disabled {
            warn(
                subject,
                "clientPolicy enforces TLS towards \(node.key.qualified), whose listener \(mapping.port) speaks plaintext: calls will fail")
        }
        var checked = validation(tls.validation)
        if checked.subjectAlternativeNames.isEmpty, let name = discoveryName(node) {
            checked.subjectAlternativeNames = [name]
            assume("\(path).validation.subject_alt_names", name, "\(Defaults.appMesh): the name that discovery uses")
        }
        return UpstreamTLS(
            validation: checked, certificate: tls.certificate.map(certificate), alpn: mapping.protocol.alpn, isEnforced: isEnforced)
    }

    private func validation(_ peer: PeerValidation) -> TLSValidation {
        TLSValidation(trust: trust(peer.trust), subjectAlternativeNames: peer.subjectAlternativeNames ?? [])
    }

    private func certificate(_ origin: CertificateOrigin) -> CertificateSource {
        switch origin {
        case .file(let chain, let key): return .file(chain: chain, privateKey: key)
        case .sds(let name): return .sds(name: name)
        case .acm(let arn):
            guard let file = sidecar?.certificates.first(where: { $0.arn == arn }) else { return .unresolved(arn: arn) }
            return .file(chain: file.certificateChain, privateKey: file.privateKey)
        }
    }

    private func trust(_ origin: TrustOrigin) -> TrustSource {
        switch origin {
        case .file(let chain): return .file(chain)
        case .sds(let name): return .sds(name: name)
        case .acm(let arns):
            // One file is all that a trust source holds; a bundle of several authorities is one file too.
            let files = Set(arns.compactMap { arn in sidecar?.authorities.first { $0.arn == arn }?.certificateChain })
            guard files.count == 1, let file = files.first else { return .unresolved(arns: arns) }
            return .file(file)
        }
    }
}
