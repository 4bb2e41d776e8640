import MeshModel
import ProxyConfig
import Testing

@testable import MeshCompiler

@Suite("TLS between proxies with a certificate of their mesh")
struct MeshTLSTests {
    private static let cluster = "cds_egress_m_a_default_http_8080"
    private static let identified = CompileOptions(registeredNodes: [Fixture.key("a")], hasIdentity: true)
    private static let identity = "spiffe://m/ns/default/vn/a"

    private func documents(_ policy: String, _ listener: String = "", protocol: String = "http") -> [String] {
        let policy = policy.isEmpty ? "" : "kind: MeshPolicy\nmetadata: {name: p}\nspec: {meshRef: {name: m}, mtls: {\(policy)}}"
        return [
            Fixture.caller, Fixture.service, Fixture.router(Fixture.route("all", "prefix: /")),
            Fixture.node("a", listener, protocol: `protocol`), policy,
        ]
    }

    private func upstream(_ policy: String, _ options: CompileOptions, listener: String = "") throws -> UpstreamTLS? {
        try Fixture.compile(documents(policy, listener), options: options).cluster(Self.cluster).tls
    }

    private func chains(_ policy: String, _ options: CompileOptions, _ listener: String = "", protocol: String = "http") throws
        -> [FilterChain]
    {
        let node = try Fixture.compile(documents(policy, listener, protocol: `protocol`), node: "a", options: options)
        return try #require(node.snapshot.listeners.first { $0.direction == .inbound }).filterChains
    }

    @Test(
        "a caller speaks TLS with registered nodes, as itself and only with their proxies; which of them are spared decides the mode",
        arguments: [
            ("", true), ("mode: PERMISSIVE", true), ("mode: STRICT", false),
            ("mode: DISABLED, exceptions: [{virtualNodeRef: {name: a, namespace: default}, mode: STRICT}]", false),
        ])
    func calls(policy: String, spares: Bool) throws {
        let wanted = UpstreamTLS(
            validation: TLSValidation(trust: .sds(name: Secret.bundleName), subjectAlternativeNames: [Self.identity]),
            certificate: .sds(name: Secret.identityName), alpn: ["h2", "http/1.1"], sparesPlaintextEndpoints: spares)
        #expect(try upstream(policy, Self.identified) == wanted)
    }

    @Test("PERMISSIVE is plaintext where one of the two cannot have a certificate; STRICT is TLS all the same")
    func withoutIdentity() throws {
        for options in [CompileOptions(), CompileOptions(hasIdentity: true), CompileOptions(registeredNodes: [Fixture.key("a")])] {
            #expect(try upstream("", options) == nil)
            #expect(try upstream("mode: DISABLED", options) == nil)
            #expect(try upstream("mode: STRICT", options)?.sparesPlaintextEndpoints == false)
        }
        #expect(try upstream("mode: DISABLED", Self.identified) == nil)
        let exception = "mode: STRICT, exceptions: [{virtualNodeRef: {name: a, namespace: default}, mode: DISABLED}]"
        #expect(try upstream(exception, Self.identified) == nil)
    }

    @Test("a listener takes both, and verifies a certificate that is shown; STRICT demands one; without one of our own there is plaintext")
    func listens() throws {
        let permissive = try chains("", Self.identified)
        #expect(permissive.map(\.name) == ["8080_mtls", "8080_plaintext"])
        #expect(permissive.map(\.match.transportProtocol) == [.tls, .plaintext])
        let tls = try #require(permissive[0].tls)
        #expect(tls.certificate == .sds(name: Secret.identityName) && tls.validation?.trust == .sds(name: Secret.bundleName))
        #expect(!tls.requiresCertificate && tls.alpn == ["h2", "http/1.1"])
        guard case .http(let manager) = permissive[0].filter else { throw Unexpected(text: "no HTTP") }
        #expect(manager.forwardClientCertificate == .sanitizeSet(ClientCertificateDetails()) && manager.codec == .auto)

        let strict = try chains("mode: STRICT", CompileOptions())
        #expect(strict.count == 1 && strict[0].tls?.requiresCertificate == true && strict[0].match == FilterChainMatch())
        #expect(try chains("", CompileOptions()).map(\.tls) == [nil])
        #expect(try chains("mode: DISABLED", CompileOptions()).map(\.tls) == [nil])
    }

    @Test("callers that have not heard of DISABLED yet are served; over TCP nobody is kept waiting for a TLS that may come")
    func disabled() throws {
        #expect(try chains("mode: DISABLED", Self.identified).count == 2)
        #expect(try chains("mode: DISABLED", Self.identified, protocol: "tcp").map(\.tls) == [nil])
    }

    @Test("the application's own TLS goes through a TCP port as it is")
    func tcp() throws {
        let found = try chains("", Self.identified, protocol: "tcp")
        #expect(found.map(\.name) == ["8080_mtls", "8080_tls", "8080_plaintext"])
        #expect(found.map { $0.tls?.alpn } == [["outrigger"], nil, nil])
        #expect(found[0].match.applicationProtocols == ["outrigger"])
        #expect(found[1].match == FilterChainMatch(transportProtocol: .tls))
    }

    @Test("what the resources say of TLS keeps its meaning, also that there is none")
    func ownTLS() throws {
        let files = "tls: {mode: STRICT, certificate: {file: {certificateChain: /c, privateKey: /k}}}"
        #expect(try chains("mode: STRICT", Self.identified, files).map(\.tls?.certificate) == [.file(chain: "/c", privateKey: "/k")])
        #expect(try upstream("mode: STRICT", Self.identified, listener: files)?.certificate == nil)
        let none = "tls: {mode: DISABLED, certificate: {file: {certificateChain: /c, privateKey: /k}}}"
        #expect(try chains("mode: STRICT", Self.identified, none).map(\.tls) == [nil])
        #expect(try upstream("mode: STRICT", Self.identified, listener: none) == nil)
    }

    @Test("a mesh whose name no SPIFFE ID can hold has no TLS, and STRICT is an error there")
    func unspeakable() throws {
        let mesh = "kind: Mesh\nmetadata: {name: m}\nspec: {namespaceSelector: {}, awsName: 'a mesh'}"
        let node = try Fixture.compile(documents(""), mesh: mesh, options: Self.identified)
        #expect(node.snapshot.clusters.allSatisfy { $0.tls == nil })
        #expect(node.remarks.contains { $0.contains("no SPIFFE ID") })
        let strict = MeshCompiler.compile(try Fixture.load(documents("mode: STRICT"), mesh: mesh), for: .virtualNode(Fixture.key("a")))
        guard case .failure(let failure) = strict else { throw Unexpected(text: "compiled") }
        #expect(failure.errors.count == 1)
    }
}
