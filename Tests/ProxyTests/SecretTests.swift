import Base
import Foundation
import ProxyConfig
import Reactor
import TestSupport
import Testing
import Transport

@testable import Proxy
@testable import Telemetry

/// Certificates and trust that a control plane delivers by name.
@Suite("Secrets")
final class SecretTests {
    let certificates: TestCertificates
    let mesh: TestCertificates.Authority
    let first: TestCertificates.Pair
    let second: TestCertificates.Pair
    let folder: TemporaryFolder
    let loop = EventLoop()
    let contexts: TLSContexts
    let server = DownstreamTLS(certificate: .sds(name: "cert"))
    let client = UpstreamTLS(validation: TLSValidation(trust: .sds(name: "bundle")))

    init() throws {
        certificates = try TestCertificates()
        mesh = try certificates.authority("mesh")
        first = try mesh.issue("first", names: ["DNS:cart.local"])
        second = try mesh.issue("second", names: ["DNS:cart.local"], days: -1...60)
        folder = try TemporaryFolder()
        let descriptor = unsafe open(folder.file("log"), O_WRONLY | O_CREAT | O_APPEND, 0o600)
        contexts = TLSContexts(loop: loop, log: ProcessLog(descriptor: descriptor))
    }

    private func bytes(_ path: String) -> [UInt8] { Array(FileManager.default.contents(atPath: path) ?? Data()) }

    private func certificate(_ pair: TestCertificates.Pair, key: TestCertificates.Pair? = nil) -> Secret {
        Secret(name: "cert", content: .certificate(chain: bytes(pair.chain), privateKey: bytes((key ?? pair).key)))
    }

    private func trust(_ names: [String] = []) -> Secret {
        Secret(name: "bundle", content: .trust(authorities: bytes(mesh.certificate), subjectAlternativeNames: names))
    }

    private func follow(secrets: [Secret] = []) {
        let chain = FilterChain(name: "c", tls: server, filter: .tcp(TCPProxy(statPrefix: "p", target: .cluster("x"))))
        contexts.follow([
            Snapshot(
                node: Node(mesh: "m", role: .virtualNode, name: "n"),
                listeners: [Listener(name: "in", address: SocketAddress(.loopbackV4, 1), direction: .inbound, filterChains: [chain])],
                secrets: secrets)
        ])
    }

    @Test("the proxy's own certificate stays where nothing needs it yet, and is reported beside the others")
    func own() {
        contexts.setOwn(
            certificate(first),
            TLSReport(
                source: "own", users: [], loads: 1, refusals: 0, problem: nil, isReady: true, chainPath: "own", trustPath: "", chain: [],
                authorities: []))
        contexts.follow([])
        #expect(contexts.board.report.map(\.source) == ["own"])
        #expect(contexts.runtime(for: server).context?.certificates.first?.subject == "CN=first")
    }

    @Test("before its secret is there a configuration has no context, and says what it waits for")
    func notDelivered() {
        let runtime = contexts.runtime(for: server)
        #expect(runtime.context == nil)
        #expect(
            runtime.problem
                == "secret cert: expected a certificate chain in PEM, found that it cannot be read: the control plane has not delivered it")
    }

    @Test("a delivered secret is a context, another under its name replaces it, and the same again changes nothing")
    func rotation() {
        contexts.deliver([certificate(first), trust()])
        let runtime = contexts.runtime(for: server)
        let before = runtime.context
        #expect(before?.certificates.first?.subject == "CN=first")
        #expect(contexts.runtime(for: client).context?.trust != nil)
        follow()
        contexts.deliver([certificate(first)])
        #expect(runtime.context === before)
        contexts.deliver([certificate(second)])
        #expect(runtime.context?.certificates.first?.subject == "CN=second")
        // Sessions hold the context that they began with.
        #expect(before?.certificates.first?.subject == "CN=first")
        let report = contexts.board.report.first
        #expect(report?.source == "secret cert" && report?.chainPath == "secret cert" && report?.loads == 2)
    }

    @Test("a broken secret is told before anything changes: key of another certificate, no PEM, expired")
    func broken() throws {
        contexts.deliver([certificate(first)])
        let runtime = contexts.runtime(for: server)
        let before = runtime.context
        let expired = try mesh.issue("expired", names: ["DNS:cart.local"], days: -10 ... -1)
        let rows: [(Secret, String)] = [
            (certificate(first, key: second), "private key of secret cert: expected the private key of the certificate in secret cert"),
            (Secret(name: "cert", content: .certificate(chain: [1], privateKey: [2])), "secret cert: expected a certificate chain in PEM"),
            (certificate(expired), "secret cert: expected a certificate that is valid now, found one that expired"),
            (Secret(name: "bundle", content: .trust(authorities: [1], subjectAlternativeNames: [])), "secret bundle: expected"),
        ]
        for (secret, words) in rows {
            let problems = contexts.problems(in: [secret])
            #expect(problems.count == 1 && problems[0].hasPrefix(words), "\(problems)")
        }
        #expect(runtime.context === before)
        #expect(contexts.problems(in: [certificate(second), trust()]) == [])
    }

    @Test("a secret of the wrong kind is no certificate")
    func wrongKind() {
        contexts.deliver([Secret(name: "cert", content: trust().content)])
        let runtime = contexts.runtime(for: server)
        #expect(runtime.context == nil && runtime.problem?.contains("found") == true)
    }

    @Test("secrets that nothing uses any more are forgotten")
    func forgotten() {
        contexts.deliver([certificate(first), trust()])
        _ = contexts.runtime(for: server)
        follow()
        #expect(contexts.runtime(for: client).context == nil)
        #expect(contexts.runtime(for: server).context != nil)
    }

    @Test(
        "names of a secret's trust and of the reference to it hold both",
        arguments: [
            ([], ["a"], ["a"]), (["a"], [], ["a"]), (["a", "b"], ["b", "c"], ["b"]), (["a"], ["b"], nil),
        ] as [([String], [String], [String]?)])
    func names(reference: [String], secret: [String], expected: [String]?) {
        let tls = UpstreamTLS(validation: TLSValidation(trust: .sds(name: "bundle"), subjectAlternativeNames: reference))
        let names = tls.withSecretsAsFiles(["bundle": trust(secret)]).validation?.subjectAlternativeNames ?? []
        if let expected {
            #expect(names == expected)
        } else {
            #expect(names.count == 1 && names != reference && names != secret)
        }
    }
}
