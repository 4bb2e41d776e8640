import Base
import CertificateAuthority
import ControlAPI
import EventStore
import Foundation
import HTTPClient
import HTTPServer
import MeshModel
import Projections
import ProxyConfig
import Reactor
import TestSupport
import Testing
import Transport
import XDSWire

@testable import Daemon

/// A control plane and its callers on one loop, which the calls turn.
private final class ControlPlane {
    let loop = EventLoop()
    let journal: Journal
    let joins: JoinService
    let authority: CertificateAuthority
    private let api: APIServer
    private let server: HTTPServer
    private let address: SocketAddress
    private let operators: TestCertificates.Authority?

    /// - Parameter certificates: for TLS; nil = plaintext.
    init(
        _ folder: TemporaryFolder, certificates: TestCertificates?, trustsLoopback: Bool = false, changesRoot: Bool = false,
        proof: Controller.Proof = .remote
    ) throws {
        let log = try SQLiteEventLog(directory: folder.path, verifying: .whole)
        journal = try Journal(log: log, store: try Workshop(name: "store", loop: loop)) { .now }
        var options = Controller.Options()
        options.trustsLoopback = trustsLoopback
        options.proof = proof
        let controller = Controller(
            loop: loop, journal: journal, workshop: try Workshop(name: "compiler", loop: loop), options: options)
        authority = try CertificateAuthority(directory: folder.file("ca"), now: UnixTime.now.milliseconds / 1000)
        joins = try JoinService(controller, authority, changesRoot: changesRoot)
        let api = APIServer(controller, joins: joins)
        self.api = api
        server = HTTPServer(loop: loop) { api.handle($0) }
        var tls: TLSContext?
        operators = try certificates?.authority("operator")
        if let operators {
            let pair = try operators.issue("outriggerd", names: ["DNS:localhost"])
            tls = try joins.serverContext(chain: pair.chain, key: pair.key, clientAuthority: nil)
        }
        address = try server.listen(on: SocketAddress("127.0.0.1:0")!, tls: tls)
    }

    func close() {
        server.close()
        journal.close()
    }

    func turn(until isDone: () -> Bool) throws { try loop.turn(until: isDone) }

    /// In plaintext.
    func connect() -> HTTPClientConnection {
        let connection = HTTPClientConnection(loop: loop, address: address, tls: nil, serverName: "localhost")
        connection.open()
        return connection
    }

    func record(_ events: [MeshEvent]) throws {
        var isDone = false
        journal.record(events, actor: "test") { _ in isDone = true }
        try turn { isDone }
    }

    private func connect(showing identity: (chain: String, key: TLSKey)?) throws -> HTTPClientConnection {
        var tls: TLSContext?
        if let operators {
            let validation = TLSValidation(trust: .file(operators.certificate), subjectAlternativeNames: ["localhost"])
            let own = identity.map { _ in CertificateSource.file(chain: "chain", privateKey: "key") }
            tls = try TLSContext.client(
                UpstreamTLS(validation: validation, certificate: own, alpn: ["h2"]), now: UnixTime.now.milliseconds / 1000
            ) { path in
                switch path {
                case "chain": Array(identity!.chain.utf8)
                case "key": identity!.key.pem
                default: Array(FileManager.default.contents(atPath: path) ?? Data())
                }
            }
        }
        let connection = HTTPClientConnection(loop: loop, address: address, tls: tls, serverName: "localhost")
        connection.open()
        return connection
    }

    /// How a stream of configuration for a node is refused; `served`: it is not.
    func asksForConfiguration(of node: String, showing identity: (chain: String, key: TLSKey)?) throws -> String {
        let connection = try connect(showing: identity)
        defer { connection.close() }
        let stream = GRPCClientStream(connection, path: ADSService.statePath, authority: "localhost")
        var answer: String?
        stream.onMessage = { _ in answer = answer ?? "served" }
        stream.onFinished = { answer = answer ?? "\($0)" }
        let client = ClientNode(name: node, namespace: "shop", instance: "one")
        stream.send(DiscoveryRequest(node: client, typeURL: ResourceType.cluster.typeURL).encoded())
        try turn { answer != nil }
        return answer ?? ""
    }

    /// `POST /v1/join` on a connection of its own.
    ///
    /// - Parameter identity: chain and key to show.
    func join(_ body: JoinRequest, showing identity: (chain: String, key: TLSKey)? = nil) throws -> (status: Int, body: Data) {
        let connection = try connect(showing: identity)
        defer { connection.close() }
        let stream = connection.request(
            method: "POST", path: "/v1/join", authority: "localhost", headers: [("content-type", "application/json")], endStream: false)
        var status = 0
        var received: [UInt8] = []
        var isDone = false
        stream.onHead = { status = $0.status }
        stream.onBody = { received += $0 }
        stream.onEnd = { _ in isDone = true }
        stream.onFailed = {
            received = Array("\($0)".utf8); isDone = true
        }
        stream.send(Array(try JSONEncoder().encode(body)))
        stream.end()
        try turn { isDone }
        return (status, Data(received))
    }

    /// A join that is to succeed.
    func joined(_ body: JoinRequest, showing identity: (chain: String, key: TLSKey)? = nil) throws -> JoinReply {
        let answer = try join(body, showing: identity)
        guard answer.status == 200 else { throw TestFailure("\(answer.status): \(String(decoding: answer.body, as: UTF8.self))") }
        return try JSONDecoder().decode(JoinReply.self, from: answer.body)
    }

    /// What a join that is to fail is told.
    func refusal(_ body: JoinRequest, showing identity: (chain: String, key: TLSKey)? = nil) throws -> String {
        let answer = try join(body, showing: identity)
        let problem = try JSONDecoder().decode(Problem.self, from: answer.body)
        return "\(answer.status) \(problem.detail ?? "")"
    }
}

@Suite("Joining")
struct JoinTests {
    let folder: TemporaryFolder
    let certificates: TestCertificates
    private let cart = ObjectKey(ResourceKey(kind: .virtualNode, namespace: "shop", name: "cart"))

    init() throws {
        folder = try TemporaryFolder()
        certificates = try TestCertificates()
    }

    private func mesh() -> [MeshEvent] {
        let node = """
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: VirtualNode
            metadata: {name: cart, namespace: shop}
            spec:
              listeners: [{portMapping: {port: 8080, protocol: http}}]
              serviceDiscovery: {dns: {hostname: cart.local}}
            """
        let web = ObjectKey(ResourceKey(kind: .virtualNode, namespace: "shop", name: "web"))
        let other = node.replacing("name: cart", with: "name: web")
        return [
            .resourceApplied(AppliedObject(key: cart, document: node, file: "mesh.yaml", line: 1)),
            .resourceApplied(AppliedObject(key: web, document: other, file: "web.yaml", line: 1)),
        ]
    }

    private func token(_ text: String, node: ObjectKey?, role: String = "join", expiresIn seconds: Double = 60) -> MeshEvent {
        .tokenCreated(
            TokenCreation(
                id: text, hash: Access.hash(text), role: role, node: node, expiry: UnixTime.now.advanced(bySeconds: seconds)))
    }

    private func uris(_ reply: JoinReply, _ key: TLSKey) throws -> [String] {
        let tls = DownstreamTLS(certificate: .file(chain: "chain", privateKey: "key"))
        let context = try TLSContext.server(tls, now: UnixTime.now.milliseconds / 1000) {
            $0 == "chain" ? Array(reply.certificateChain.utf8) : key.pem
        }
        return context.certificates[0].uriNames
    }

    @Test("a token lets one proxy of its node in, once; what was signed is in the log")
    func token() throws {
        let plane = try ControlPlane(folder, certificates: certificates)
        defer { plane.close() }
        try plane.record(mesh() + [token("one", node: cart), token("two", node: cart)])
        let key = try TLSKey()
        let reply = try plane.joined(JoinRequest(token: "one", certificateRequest: key.certificateRequest(), instance: "cart-1"))
        #expect(try uris(reply, key) == ["spiffe://default/ns/shop/vn/cart"])
        #expect(reply.trustBundle == plane.joins.trustBundle)
        let instance = InstanceKey(node: cart, instance: "cart-1")
        let models = plane.journal.models
        #expect(models.certificates.certificate(of: instance)?.identity == "spiffe://default/ns/shop/vn/cart")
        #expect(models.certificates.authorities.map(\.id) == [plane.authority.root.id])
        #expect(models.tokens.tokens["one"]?.usedBy == instance)
        let again = JoinRequest(token: "one", certificateRequest: try key.certificateRequest(), instance: "cart-1")
        #expect(try plane.refusal(again) == "401 the token was used before")
        #expect(throws: Never.self) {
            try plane.joined(JoinRequest(token: "two", certificateRequest: key.certificateRequest(), instance: "cart-2"))
        }
    }

    @Test("two that come with one token at once: one is let in")
    func race() throws {
        let plane = try ControlPlane(folder, certificates: nil)
        defer { plane.close() }
        try plane.record(mesh() + [token("one", node: cart)])
        var statuses: [Int] = []
        let body = try JSONEncoder().encode(
            JoinRequest(token: "one", certificateRequest: TLSKey().certificateRequest(), instance: "cart-1"))
        let connection = plane.connect()
        for _ in 0..<2 {
            let stream = connection.request(method: "POST", path: "/v1/join", authority: "localhost", headers: [], endStream: false)
            stream.onHead = { statuses.append($0.status) }
            stream.send(Array(body))
            stream.end()
        }
        try plane.turn { statuses.count == 2 }
        connection.close()
        #expect(statuses.sorted() == [200, 401])
    }

    @Test("who has a certificate of its node gets the next one, and only of that node")
    func renewal() throws {
        let plane = try ControlPlane(folder, certificates: certificates)
        defer { plane.close() }
        try plane.record(mesh() + [token("one", node: cart)])
        let key = try TLSKey()
        let first = try plane.joined(JoinRequest(token: "one", certificateRequest: key.certificateRequest(), instance: "cart-1"))
        let next = try TLSKey()
        let request = JoinRequest(
            token: nil, certificateRequest: try next.certificateRequest(), instance: "cart-1",
            subject: ResourceName(kind: "VirtualNode", namespace: "shop", name: "bank"))
        let second = try plane.joined(request, showing: (first.certificateChain, key))
        #expect(try uris(second, next) == ["spiffe://default/ns/shop/vn/cart"])
        #expect(second.certificateChain != first.certificateChain)
        // And with that one again.
        #expect(throws: Never.self) { try plane.joined(request, showing: (second.certificateChain, next)) }
    }

    @Test("a certificate that is good for TLS and not in the log is none to renew")
    func foreignCertificate() throws {
        let plane = try ControlPlane(folder, certificates: certificates)
        defer { plane.close() }
        try plane.record(mesh())
        let key = try TLSKey()
        let leaf = try plane.authority.sign(
            request: key.certificateRequest(), identity: "spiffe://default/ns/shop/vn/cart", name: "cart",
            now: UnixTime.now.milliseconds / 1000)
        let request = JoinRequest(token: nil, certificateRequest: try key.certificateRequest(), instance: "cart-1")
        let words = try plane.refusal(request, showing: (leaf.chain, key))
        #expect(words.hasPrefix("401 the client certificate (spiffe://default/ns/shop/vn/cart) is none of this"), "\(words)")
    }

    @Test(
        "who may not join is told why",
        arguments: [
            ("unknown", "401 no such token"), ("old", "401 the token has expired"), ("revoked", "401 the token was revoked"),
            ("admin", "401 it is a token of the API"), ("bank", "404 VirtualNode/shop/bank is in no mesh here"),
            (nil, "401 neither a token nor a client certificate was shown"),
        ] as [(String?, String)])
    func refusals(token text: String?, words: String) throws {
        let plane = try ControlPlane(folder, certificates: certificates)
        defer { plane.close() }
        let bank = ObjectKey(ResourceKey(kind: .virtualNode, namespace: "shop", name: "bank"))
        try plane.record(
            mesh() + [
                token("old", node: cart, expiresIn: -1), token("revoked", node: cart), token("admin", node: nil, role: "admin"),
                token("bank", node: bank), .tokenRevoked(TokenChange(id: "revoked")),
            ])
        let request = JoinRequest(
            token: text, certificateRequest: try TLSKey().certificateRequest(), instance: "cart-1",
            subject: ResourceName(kind: "VirtualNode", namespace: "shop", name: "cart"))
        let refusal = try plane.refusal(request)
        #expect(refusal.hasPrefix(words), "\(refusal)")
        #expect(plane.journal.models.certificates.certificates.isEmpty)
    }

    @Test("a bad request costs no token")
    func badRequest() throws {
        let plane = try ControlPlane(folder, certificates: certificates)
        defer { plane.close() }
        try plane.record(mesh() + [token("one", node: cart)])
        let words = try plane.refusal(JoinRequest(token: "one", certificateRequest: "hello", instance: "cart-1"))
        #expect(words.hasPrefix("400 certificateRequest: expected a PKCS #10 request"), "\(words)")
        let empty = try plane.refusal(JoinRequest(token: "one", certificateRequest: "hello", instance: ""))
        #expect(empty.hasPrefix("400 instance: expected"), "\(empty)")
        #expect(throws: Never.self) {
            try plane.joined(JoinRequest(token: "one", certificateRequest: TLSKey().certificateRequest(), instance: "cart-1"))
        }
    }

    @Test("on this machine, where callers need no token, a proxy says whose it is")
    func thisMachine() throws {
        let plane = try ControlPlane(folder, certificates: nil, trustsLoopback: true)
        defer { plane.close() }
        try plane.record(mesh())
        let key = try TLSKey()
        let reply = try plane.joined(
            JoinRequest(
                token: nil, certificateRequest: key.certificateRequest(), instance: "cart-1",
                subject: ResourceName(kind: "VirtualNode", namespace: "shop", name: "cart")))
        #expect(try uris(reply, key) == ["spiffe://default/ns/shop/vn/cart"])
    }

    @Test("another root: the start says so in the log, and who has a certificate of the one before renews it")
    func anotherRoot() throws {
        let key = try TLSKey()
        var plane = try ControlPlane(folder, certificates: certificates)
        try plane.record(mesh() + [token("one", node: cart)])
        let old = plane.authority.root
        let first = try plane.joined(JoinRequest(token: "one", certificateRequest: key.certificateRequest(), instance: "cart-1"))
        plane.close()
        // The lock on the folder goes with the log.
        plane = try ControlPlane(try moved(), certificates: TestCertificates(), changesRoot: true)
        defer { plane.close() }
        #expect(plane.authority.root.id != old.id)
        #expect(plane.joins.trustBundle == plane.authority.root.pem + old.pem)
        let request = JoinRequest(token: nil, certificateRequest: try key.certificateRequest(), instance: "cart-1")
        let second = try plane.joined(request, showing: (first.certificateChain, key))
        #expect(second.trustBundle == plane.joins.trustBundle)
        #expect(plane.journal.models.certificates.authorities.map(\.id) == [old.id, plane.authority.root.id])
    }

    @Test("another root by the API: both are trusted, and there is no third one meanwhile")
    func rotation() throws {
        let plane = try ControlPlane(folder, certificates: certificates)
        defer { plane.close() }
        try plane.record(mesh() + [token("one", node: cart)])
        let old = plane.authority.root
        _ = try plane.joined(JoinRequest(token: "one", certificateRequest: try TLSKey().certificateRequest(), instance: "cart-1"))
        #expect(plane.joins.status.root.id == old.id && plane.joins.status.previous == nil)
        let status = try plane.joins.rotate(actor: "ann").get()
        #expect(status.previous?.id == old.id && status.certificates == 1 && status.certificatesOfPrevious == 1)
        #expect(plane.joins.trustBundle == plane.authority.root.pem + old.pem)
        try plane.turn { plane.journal.models.certificates.authorities.map(\.id) == [old.id, status.root.id] }
        guard case .failure(let problem) = plane.joins.rotate(actor: "ann") else { throw TestFailure("a third root") }
        #expect(problem.status == 409)
    }

    @Test("a stream gets the configuration of the node that its certificate names, and without one none where it is wanted")
    func proof() throws {
        let plane = try ControlPlane(folder, certificates: certificates, proof: .always)
        defer { plane.close() }
        try plane.record(mesh() + [token("one", node: cart)])
        let key = try TLSKey()
        let reply = try plane.joined(JoinRequest(token: "one", certificateRequest: key.certificateRequest(), instance: "cart-1"))
        let identity = (reply.certificateChain, key)
        #expect(try plane.asksForConfiguration(of: "cart", showing: identity) == "served")
        #expect(try plane.asksForConfiguration(of: "cart", showing: nil).contains("it shows no certificate"))
        let other = try plane.asksForConfiguration(of: "web", showing: identity)
        #expect(other.contains("its certificate is for spiffe://default/ns/shop/vn/cart"), "\(other)")
    }

    /// The same data in another folder.
    private func moved() throws -> TemporaryFolder {
        let other = try TemporaryFolder()
        for name in try FileManager.default.contentsOfDirectory(atPath: folder.path) {
            try FileManager.default.copyItem(atPath: folder.file(name), toPath: other.file(name))
        }
        return other
    }
}
