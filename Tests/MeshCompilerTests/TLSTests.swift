import Base
import MeshModel
import ProxyConfig
import Testing

@testable import MeshCompiler

@Suite("TLS")
struct TLSTests {
    private static let trustFile = "validation: {trust: {file: {certificateChain: /ca}}}"

    private static let both = ["h2", "http/1.1"]
    private static let name = "cds_egress_m_a_default_http_8080"

    private func upstream(
        _ policy: String, _ listener: String, more: [String] = []
    ) throws -> (UpstreamTLS?, CompiledNode) {
        let caller = """
            kind: VirtualNode
            metadata: {name: calls}
            spec:
              backends: [{virtualService: {virtualServiceRef: {name: svc}}}]
              \(policy.isEmpty ? "" : "backendDefaults: {clientPolicy: {tls: {\(policy)}}}")
            """
        let node = try Fixture.compile(
            [caller, Fixture.service, Fixture.router(Fixture.route("r", "prefix: /")), Fixture.node("a", listener)] + more)
        return (try node.cluster(Self.name).tls, node)
    }

    private func server(_ mode: String, _ certificate: String = "file: {certificateChain: /c, privateKey: /k}") -> String {
        "tls: {mode: \(mode), certificate: {\(certificate)}}"
    }

    @Test("Without a clientPolicy the caller does as the listener asks: no check of file certificates, one by ACM's authority")
    func serverDecides() throws {
        #expect(try upstream("", "").0 == nil)
        #expect(try upstream("", server("DISABLED")).0 == nil)
        for mode in ["STRICT", "PERMISSIVE"] {
            #expect(try upstream("", server(mode)).0 == UpstreamTLS(validation: nil, sni: "a.example", alpn: Self.both))
        }
        let (acm, node) = try upstream("", server("STRICT", "acm: {certificateARN: 'arn:c'}"))
        #expect(acm?.validation?.trust == .unresolved(arns: ["arn:c"]))
        #expect(node.warnings.contains { $0.path == "arn:c" })
    }

    @Test("A clientPolicy holds; without names the certificate must carry the one that discovery uses")
    func policy() throws {
        let (tls, node) = try upstream(Self.trustFile, server("STRICT"))
        #expect(
            tls
                == UpstreamTLS(
                    validation: TLSValidation(trust: .file("/ca"), subjectAlternativeNames: ["a.example"]), sni: "a.example",
                    alpn: Self.both))
        for assumed in ["validation.subject_alt_names: a.example", "sni: a.example", "enforced: true"] {
            #expect(node.defaults.contains("clusters[\(Self.name)].tls.\(assumed)"))
        }
        let names = "validation: {trust: {sds: {secretName: ca}}, subjectAlternativeNames: {match: {exact: [x, y]}}}"
        #expect(
            try upstream("enforce: false, \(names), certificate: {sds: {secretName: me}}", server("STRICT")).0
                == UpstreamTLS(
                    validation: TLSValidation(trust: .sds(name: "ca"), subjectAlternativeNames: ["x", "y"]), certificate: .sds(name: "me"),
                    sni: "a.example", alpn: Self.both, isEnforced: false))
    }

    @Test("A clientPolicy for other ports is none for this one")
    func ports() throws {
        #expect(try upstream("ports: [1], \(Self.trustFile)", "").0 == nil)
        #expect(try upstream("ports: [1, 8080], \(Self.trustFile)", "").0 != nil)
    }

    @Test("Enforced TLS towards a plaintext listener is told")
    func plaintextServer() throws {
        #expect(try upstream(Self.trustFile, "").1.remarks.count == 1)
        #expect(try upstream(Self.trustFile, server("DISABLED")).1.remarks.count == 1)
    }

    @Test("TLS that is not enforced is plaintext towards a listener that has none; of a listener that is in no file the proxy finds out")
    func notEnforced() throws {
        for listener in ["", server("DISABLED")] {
            let (tls, node) = try upstream("enforce: false, \(Self.trustFile)", listener)
            #expect(tls == nil)
            #expect(try node.cluster(Self.name).upstreamProtocol == .http1)
            #expect(node.remarks == [])
            #expect(node.defaults.contains("clusters[\(Self.name)].tls: none"))
        }
        #expect(try upstream("enforce: false, \(Self.trustFile)", server("PERMISSIVE")).0?.isEnforced == false)
        let caller = Fixture.caller.replacing(
            "spec: {", with: "spec: {backendDefaults: {clientPolicy: {tls: {enforce: false, \(Self.trustFile)}}}, ")
        let node = try Fixture.compile([
            caller, Fixture.service, Fixture.router(Fixture.route("r", "prefix: /")),
            "kind: VirtualNode\nmetadata: {name: a}\nspec: {serviceDiscovery: {dns: {hostname: a.example}}}",
        ])
        #expect(try node.cluster(Self.name).tls?.isEnforced == false)
    }

    @Test(
        "A listener that asks for certificates must be shown one, and that is told before it is called",
        arguments: [
            ("", "STRICT", true), ("", "PERMISSIVE", true), ("", "DISABLED", false), (trustFile, "STRICT", true),
            ("\(trustFile), certificate: {file: {certificateChain: /me, privateKey: /k}}", "STRICT", false),
            ("ports: [1], \(trustFile), certificate: {sds: {secretName: me}}", "STRICT", true),
        ])
    func missingCertificate(policy: String, mode: String, isTold: Bool) throws {
        let listener = server(mode).dropLast() + ", \(Self.trustFile)}"
        let remarks = try upstream(policy, String(listener)).1.remarks
        #expect(remarks.count { $0.contains("asks its callers for a certificate on port 8080") } == (isTold ? 1 : 0))
    }

    @Test("An address is not sent as a server name")
    func address() throws {
        let node = Fixture.node("a", server("STRICT")).replacing("a.example", with: "10.0.0.1")
        let compiled = try Fixture.compile([Fixture.caller, Fixture.service, Fixture.router(Fixture.route("r", "prefix: /")), node])
        #expect(try compiled.cluster(Self.name).tls?.sni == nil)
    }

    @Test(
        "Between sidecars ALPN decides for http; http2 and grpc are HTTP/2; a plaintext http port is HTTP/1.1",
        arguments: [
            ("http", "", .http1, .http1, nil), ("http", "STRICT", .auto, .auto, both), ("http2", "", .http2, .http2, nil),
            ("http2", "STRICT", .http2, .http2, ["h2"]), ("grpc", "STRICT", .http2, .http2, ["h2"]),
        ] as [(String, String, UpstreamProtocol, HTTPConnectionManager.Codec, [String]?)])
    func protocols(
        portProtocol: String, mode: String, upstream: UpstreamProtocol, codec: HTTPConnectionManager.Codec, alpn: [String]?
    ) throws {
        let node = Fixture.node("a", mode.isEmpty ? "" : server(mode), protocol: portProtocol)
        let service = "kind: VirtualService\nmetadata: {name: svc}\nspec: {provider: {virtualNode: {virtualNodeRef: {name: a}}}}"
        let caller = try Fixture.compile([Fixture.caller, service, node])
        let cluster = try caller.cluster("cds_egress_m_a_default_\(portProtocol)_8080")
        #expect(cluster.upstreamProtocol == upstream && cluster.tls?.alpn == alpn)
        // PINGs for those that are sidecars.
        #expect((cluster.http2.keepalive != nil) == (alpn != nil))
        let callee = try Fixture.compile([node], node: "a")
        let chain = try #require(callee.snapshot.listeners.first?.filterChains.first)
        guard case .http(let manager) = chain.filter else { throw Unexpected(text: "no manager") }
        #expect(manager.codec == codec && chain.tls?.alpn == alpn)
    }

    @Test("Of a PERMISSIVE listener only TLS negotiates")
    func permissive() throws {
        let node = try Fixture.compile([Fixture.node("a", server("PERMISSIVE"))], node: "a")
        let codecs = node.snapshot.listeners[0].filterChains.map { chain in
            if case .http(let manager) = chain.filter { manager.codec } else { HTTPConnectionManager.Codec?.none }
        }
        #expect(codecs == [.auto, .http1])
    }

    @Test(
        "Requests carry their caller's certificate where one is required",
        arguments: [
            ("STRICT", true, [true]), ("STRICT", false, [false]), ("PERMISSIVE", true, [true, false]), ("DISABLED", true, [false]),
        ])
    func clientCertificates(mode: String, isRequired: Bool, isForwarded: [Bool]) throws {
        let listener = isRequired ? server(mode).dropLast() + ", \(Self.trustFile)}" : server(mode)[...]
        let node = try Fixture.compile([Fixture.node("a", String(listener))], node: "a")
        let chains = node.snapshot.listeners[0].filterChains
        let found = chains.map { chain in
            guard case .http(let manager) = chain.filter else { return false }
            return manager.forwardClientCertificate == .sanitizeSet(ClientCertificateDetails(subject: true, uri: true, dns: true))
        }
        #expect(found == isForwarded)
    }

    @Test("A gateway's listener has the same modes, for strangers")
    func gateway() throws {
        let gateway = """
            kind: VirtualGateway
            metadata: {name: edge}
            spec:
              namespaceSelector: {}
              listeners: [{portMapping: {port: 8443, protocol: http}, \(server("STRICT").dropLast()), \(Self.trustFile)}}]
            """
        let chain = try #require(try Fixture.compile([gateway], gateway: "edge").snapshot.listeners.first?.filterChains.first)
        guard case .http(let manager) = chain.filter else { throw Unexpected(text: "no manager") }
        #expect(manager.isEdge && manager.codec == .auto && manager.http2.maxConcurrentStreams == 100)
        #expect(manager.forwardClientCertificate == .sanitizeSet(ClientCertificateDetails()))
        #expect(chain.tls?.alpn == Self.both && chain.tls?.validation == TLSValidation(trust: .file("/ca")))
    }

    @Test(
        "TLS to the application: its certificate unchecked, or by trust and name; the port's protocol stays",
        arguments: [
            ("http", "", UpstreamTLS(validation: nil, alpn: ["http/1.1"])),
            ("grpc", "serverName: app", UpstreamTLS(validation: nil, sni: "app", alpn: ["h2"])),
            ("tcp", "", UpstreamTLS(validation: nil)),
            (
                "http2", "serverName: app, \(trustFile)",
                UpstreamTLS(validation: TLSValidation(trust: .file("/ca"), subjectAlternativeNames: ["app"]), sni: "app", alpn: ["h2"])
            ),
            (
                "http", "\(trustFile), certificate: {file: {certificateChain: /c, privateKey: /k}}",
                UpstreamTLS(
                    validation: TLSValidation(trust: .file("/ca")), certificate: .file(chain: "/c", privateKey: "/k"), alpn: ["http/1.1"])
            ),
        ] as [(String, String, UpstreamTLS)])
    func application(portProtocol: String, given: String, expected: UpstreamTLS) throws {
        let sidecar = """
            kind: Sidecar
            metadata: {name: a}
            spec: {virtualNodeRef: {name: a}, inbound: [{port: 8080, appTLS: {\(given)}}]}
            """
        let node = try Fixture.compile([Fixture.node("a", protocol: portProtocol), sidecar], node: "a")
        let cluster = try node.cluster("cds_ingress_m_a_default_\(portProtocol)_8080")
        #expect(cluster.tls == expected)
        #expect(cluster.upstreamProtocol == ["http": .http1, "tcp": .tcp][portProtocol, default: .http2])
        #expect(cluster.http2.keepalive == nil)
    }

    @Test("Without its option the application is called in plaintext, whatever the listener asks of callers")
    func plaintextApplication() throws {
        let node = try Fixture.compile([Fixture.node("a", server("STRICT"))], node: "a")
        #expect(try node.cluster("cds_ingress_m_a_default_http_8080").tls == nil)
    }

    @Test("A secret that only SDS could deliver is named, once, with what happens")
    func secrets() throws {
        let node = try upstream("validation: {trust: {sds: {secretName: ca}}}, certificate: {sds: {secretName: me}}", server("STRICT")).1
        let texts = node.warnings.filter { $0.path.hasPrefix("secret") }
        #expect(texts.map(\.path) == ["secret \"ca\"", "secret \"me\""])
        #expect(texts.allSatisfy { $0.text.contains("stays closed") })
    }

    @Test("The Sidecar of a caller names a file for an authority of AWS")
    func authorities() throws {
        let sidecar = """
            kind: Sidecar
            metadata: {name: calls}
            spec:
              virtualNodeRef: {name: calls}
              authorities: [{arn: 'arn:aws:acm-pca:eu-west-1:000000000000:certificate-authority/a', certificateChain: /ca}]
            """
        let policy =
            "validation: {trust: {acm: {certificateAuthorityARNs: ['arn:aws:acm-pca:eu-west-1:000000000000:certificate-authority/a']}}}"
        #expect(try upstream(policy, server("STRICT"), more: [sidecar]).0?.validation?.trust == .file("/ca"))
        guard case .unresolved = try upstream(policy, server("STRICT")).0?.validation?.trust else { throw Unexpected(text: "resolved") }
    }

    @Test(
        "Several authorities are one file; one of them without a file is not trusted, and files that differ are refused",
        arguments: [
            ("{arn: a, certificateChain: /ca}, {arn: b, certificateChain: /ca}", 0, 0), ("{arn: b, certificateChain: /ca}", 1, 0),
            ("{arn: a, certificateChain: /ca}, {arn: b, certificateChain: /cb}", 0, 1),
        ])
    func severalAuthorities(files: String, remarks: Int, errors: Int) throws {
        let sidecar = "kind: Sidecar\nmetadata: {name: calls}\nspec: {virtualNodeRef: {name: calls}, authorities: [\(files)]}"
        let policy = "validation: {trust: {acm: {certificateAuthorityARNs: [a, b]}}}"
        let caller = Fixture.caller.replacing("spec: {", with: "spec: {backendDefaults: {clientPolicy: {tls: {\(policy)}}}, ")
        let documents = [
            caller, Fixture.service, Fixture.router(Fixture.route("r", "prefix: /")), Fixture.node("a", server("STRICT")), sidecar,
        ]
        #expect(try Fixture.errors(documents).count { $0.contains("their files differ (/ca, /cb)") } == errors)
        guard errors == 0 else { return }
        let node = try Fixture.compile(documents)
        #expect(try node.cluster(Self.name).tls?.validation?.trust == .file("/ca"))
        #expect(node.remarks.count { $0.contains("no file is known for a:") } == remarks)
    }

    @Test("The Sidecar of a node names files for the certificate of its listener, and for that of its callees")
    func certificates() throws {
        let acm = server("STRICT", "acm: {certificateARN: 'arn:c'}")
        let sidecar = "kind: Sidecar\nmetadata: {name: a}\nspec: {virtualNodeRef: {name: a}, "
        let given = sidecar + "certificates: [{arn: 'arn:c', certificateChain: /c, privateKey: /k}]}"
        let node = try Fixture.compile([Fixture.node("a", acm), given], node: "a")
        #expect(node.snapshot.listeners[0].filterChains[0].tls?.certificate == .file(chain: "/c", privateKey: "/k"))
        let without = try Fixture.compile([Fixture.node("a", acm)], node: "a")
        #expect(without.snapshot.listeners[0].filterChains[0].tls?.certificate == .unresolved(arn: "arn:c"))
        #expect(without.warnings.contains { $0.path == "arn:c" && $0.text.contains("stays closed") })
        let caller = sidecar.replacing("name: a}", with: "name: calls}") + "authorities: [{arn: 'arn:c', certificateChain: /ca}]}"
        #expect(try upstream("", acm, more: [caller]).0?.validation?.trust == .file("/ca"))
    }

    @Test(
        "A listener's modes: TLS, both, none",
        arguments: [
            ("STRICT", [FilterChainMatch.TransportProtocol?.none], [true]), ("PERMISSIVE", [.tls, .plaintext], [true, false]),
            ("DISABLED", [nil], [false]),
        ])
    func listener(mode: String, matches: [FilterChainMatch.TransportProtocol?], hasTLS: [Bool]) throws {
        let node = try Fixture.compile([Fixture.node("a", server(mode))], node: "a")
        let chains = node.snapshot.listeners[0].filterChains
        #expect(chains.map(\.match.transportProtocol) == matches)
        #expect(chains.map { $0.tls != nil } == hasTLS)
    }

    @Test("A backend's own policy makes a cluster of its own")
    func ownPolicy() throws {
        let caller = """
            kind: VirtualNode
            metadata: {name: calls}
            spec:
              backends:
              - virtualService: {virtualServiceRef: {name: svc}, clientPolicy: {tls: {\(Self.trustFile)}}}
              - virtualService: {virtualServiceRef: {name: plain}}
            """
        let plain = "kind: VirtualService\nmetadata: {name: plain}\nspec: {provider: {virtualNode: {virtualNodeRef: {name: a}}}}"
        let node = try Fixture.compile([
            caller, Fixture.service, plain, Fixture.router(Fixture.route("r", "prefix: /")), Fixture.node("a", server("PERMISSIVE")),
        ])
        #expect(try node.cluster("cds_egress_m_a_default_http_8080_svc.default").tls?.validation != nil)
        #expect(try node.cluster("cds_egress_m_a_default_http_8080").tls?.validation == nil)
    }
}
