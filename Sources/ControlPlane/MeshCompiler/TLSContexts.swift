import Base
import MeshModel
import ProxyConfig

/// Both sides of TLS: App Mesh's modes and policies as xDS contexts.
extension Compilation {
    /// One chain, or two where the listener takes TLS and plaintext.
    mutating func filterChains(
        _ name: String, _ tls: ListenerTLS?, _ portProtocol: PortProtocol, _ filter: NetworkFilter
    ) -> [FilterChain] {
        guard let tls, tls.mode != .disabled else { return [FilterChain(name: name, filter: filter)] }
        let context = DownstreamTLS(
            certificate: certificate(tls.certificate), validation: tls.validation.map { validation($0) }, alpn: portProtocol.alpn)
        let secure = filter.behind(context, portProtocol)
        if tls.mode == .strict { return [FilterChain(name: name, tls: context, filter: secure)] }
        return [
            FilterChain(name: "\(name)_tls", match: FilterChainMatch(transportProtocol: .tls), tls: context, filter: secure),
            FilterChain(name: "\(name)_plaintext", match: FilterChainMatch(transportProtocol: .plaintext), filter: filter),
        ]
    }

    /// How the application beside the proxy is called. Its port's protocol stays: nothing is negotiated with it.
    mutating func appTLS(_ tls: Sidecar.AppTLS, _ mapping: PortMapping) -> UpstreamTLS {
        var checked = tls.validation.map { validation($0) }
        if checked?.subjectAlternativeNames.isEmpty == true { checked?.subjectAlternativeNames = tls.serverName.map { [$0] } ?? [] }
        return UpstreamTLS(
            validation: checked, certificate: tls.certificate.map(certificate), sni: tls.serverName,
            alpn: mapping.protocol == .http ? ["http/1.1"] : mapping.protocol.alpn)
    }

    /// How a listener of another node is called: by the caller's policy, else by what the listener asks for.
    mutating func upstreamTLS(
        _ node: VirtualNode, _ listener: VirtualNode.Listener?, _ mapping: PortMapping, _ policy: ClientPolicy?, _ cluster: String
    ) -> UpstreamTLS? {
        let server = listener?.tls?.mode == .disabled ? nil : listener?.tls
        let path = "clusters[\(cluster)].tls"
        var tls: UpstreamTLS
        if let policy = policy?.tls, policy.ports.isEmpty || policy.ports.contains(mapping.port) {
            let isEnforced = policy.enforce ?? true
            // Only of a listener that stands in the files is it known that it speaks plaintext.
            if listener != nil, server == nil {
                guard isEnforced else {
                    assume(path, "none", "clientPolicy does not enforce TLS, and the callee's listener has none")
                    return nil
                }
                warn(
                    subject,
                    "clientPolicy enforces TLS towards \(node.key.qualified), whose listener \(mapping.port) speaks plaintext: calls will fail"
                )
            }
            if policy.enforce == nil { assume("\(path).enforced", "true", Defaults.appMesh) }
            tls = byPolicy(policy, node, path)
            tls.isEnforced = isEnforced
        } else if let server {
            tls = byServer(server, path)
        } else {
            return listener?.tls == nil && listener?.portMapping != nil ? meshTLS(node, mapping, path) : nil
        }
        if server?.validation != nil, tls.certificate == nil {
            warn(
                subject,
                "\(node.key.qualified) asks its callers for a certificate on port \(mapping.port), and no clientPolicy for it names one: "
                    + "calls will fail")
        }
        tls.alpn = mapping.protocol.alpn
        if let name = discoveryName(node), IPAddress(name) == nil {
            tls.sni = name
            assume("\(path).sni", name, "\(Defaults.outrigger): the name that discovery uses")
        }
        return tls
    }

    private mutating func byServer(_ server: ListenerTLS, _ path: String) -> UpstreamTLS {
        guard case .acm(let arn) = server.certificate else {
            assume(path, "not validated", "\(Defaults.appMesh): the callee's listener has TLS, and no clientPolicy says whom to trust")
            return UpstreamTLS(validation: nil)
        }
        assume(path, "validated by \(arn)", "\(Defaults.appMesh): the callee's listener has an ACM certificate")
        return UpstreamTLS(validation: TLSValidation(trust: trust(.acm(authorityARNs: [arn]))))
    }

    private mutating func byPolicy(_ policy: ClientPolicy.TLS, _ node: VirtualNode, _ path: String) -> UpstreamTLS {
        var checked = validation(policy.validation)
        if checked.subjectAlternativeNames.isEmpty, let name = discoveryName(node) {
            checked.subjectAlternativeNames = [name]
            assume("\(path).validation.subject_alt_names", name, "\(Defaults.appMesh): the name that discovery uses")
        }
        return UpstreamTLS(validation: checked, certificate: policy.certificate.map(certificate))
    }

    private mutating func validation(_ peer: PeerValidation) -> TLSValidation {
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

    private mutating func trust(_ origin: TrustOrigin) -> TrustSource {
        switch origin {
        case .file(let chain): return .file(chain)
        case .sds(let name): return .sds(name: name)
        case .acm(let arns): return authorities(arns)
        }
    }

    /// One file is all that a trust source holds. Without any, nobody is trusted and a warning says so; with some, those are trusted.
    private mutating func authorities(_ arns: [String]) -> TrustSource {
        guard let sidecar else { return .unresolved(arns: arns) }
        let known = arns.compactMap { arn in sidecar.authorities.first { $0.arn == arn } }
        let files = Set(known.map(\.certificateChain)).sorted()
        guard let file = files.first else { return .unresolved(arns: arns) }
        let field = FieldPath.spec / "authorities"
        if files.count > 1 {
            fail(
                sidecar.key, field,
                "\(subject) trusts \(known.map(\.arn).joined(separator: " and ")) at once, and their files differ "
                    + "(\(files.joined(separator: ", "))); name one file that holds the certificates of all")
        }
        for arn in arns where !known.contains(where: { $0.arn == arn }) {
            warn(sidecar.key, field, "no file is known for \(arn): who has a certificate of that authority is not trusted")
        }
        return .file(file)
    }
}
