import Base
import Foundation
import HTTP
import HTTPClient
import HTTPServer
import HTTPTransport
import ProxyConfig
import Reactor
import TestSupport
import Transport

/// A server and its callers on one loop, driven by hand.
final class Harness {
    let loop = EventLoop()
    let server: HTTPServer
    let address: SocketAddress
    var incidents: [HTTPServerIncident] = []
    private let buffers = LinkBuffers()

    init(
        tls: TLSContext? = nil, limits: HTTPServerLimits = HTTPServerLimits(), handler: @escaping (HTTPExchange) -> Void = Harness.echo
    ) throws {
        server = HTTPServer(loop: loop, limits: limits, handler: handler)
        address = try server.listen(on: SocketAddress(.loopbackV4, 0), tls: tls)
        server.onIncident = { [unowned self] in incidents.append($0) }
    }

    deinit {
        server.onIncident = nil
        server.close()
        loop.turn(maximumWait: .zero)
    }

    /// Answers with the request's body.
    static func echo(_ exchange: HTTPExchange) {
        exchange.collectBody(limit: 4 << 20) { body in
            exchange.respond(status: 200, headers: [("x-path", exchange.path)], body: body)
        }
    }

    /// Turns the loop until the condition holds. Each turn waits for events, so the bound is reached only where nothing comes any more.
    func drive(_ what: @autoclosure () -> String, until condition: () -> Bool) throws {
        let deadline = Clock.now() + patience
        while !condition() {
            guard Clock.now() < deadline else { throw TestFailure("not within \(patience): \(what()); incidents: \(incidents)") }
            loop.turn(maximumWait: .milliseconds(20))
        }
    }

    /// So many turns that do not wait.
    func turn(_ count: Int = 4) {
        for _ in 0..<count { loop.turn(maximumWait: .zero) }
    }

    func client(tls: TLSContext? = nil, serverName: String? = nil, limits: HTTPClientLimits = HTTPClientLimits()) -> HTTPClientConnection {
        let client = HTTPClientConnection(
            loop: loop, address: address, tls: tls, serverName: serverName, limits: limits, buffers: buffers)
        client.open()
        return client
    }

    func peer(tls: TLSContext? = nil) throws -> RawPeer {
        let (descriptor, isConnected) = try Socket.connect(to: address)
        let peer = RawPeer(
            adopting: descriptor, isConnected: isConnected, tls: tls.map { TLSSession(client: $0, serverName: nil) }, loop: loop,
            buffers: buffers)
        try loop.add(peer)
        peer.start()
        return peer
    }

    /// A request over HTTP/2 and its whole response.
    func call(
        _ client: HTTPClientConnection, _ method: String = "GET", _ path: String = "/", headers: [(String, String)] = [],
        body: [UInt8] = [], pieces: Int = .max
    ) throws -> Answer {
        let answer = Answer(client.request(method: method, path: path, authority: "test", headers: headers, endStream: body.isEmpty))
        var rest = body[...]
        while !rest.isEmpty {
            answer.stream.send(Array(rest.prefix(pieces)))
            rest = rest.dropFirst(pieces)
            if pieces < .max { turn(1) }
        }
        if !body.isEmpty { answer.stream.end() }
        try drive("an answer to \(method) \(path)") { answer.isOver }
        return answer
    }
}

/// What came of a request.
final class Answer {
    let stream: HTTPClientStream
    var head: HTTPResponseHead?
    var body: [UInt8] = []
    var trailers: HTTPTrailers?
    var failure: HTTPClientFailure?

    init(_ stream: HTTPClientStream) {
        self.stream = stream
        stream.onHead = { [unowned self] in head = $0 }
        stream.onBody = { [unowned self] in body += $0 }
        stream.onEnd = { [self] in trailers = $0 }
        stream.onFailed = { [self] in failure = $0 }
    }

    var isOver: Bool { trailers != nil || failure != nil }
    var text: String { String(decoding: body, as: UTF8.self) }
}

/// Bytes out, bytes in.
final class RawPeer: Link {
    var bytes: [UInt8] = []
    var isAtEnd = false
    var failure: LinkFailure?
    var isReady = false

    override func opened() { isReady = true }
    override func received(_ piece: UnsafeRawBufferPointer) { unsafe bytes.append(contentsOf: piece) }
    override func receivedEnd(isCut: Bool) { isAtEnd = true }
    override func broke(_ failure: LinkFailure) {
        self.failure = failure
        close()
    }

    /// FIN, and reading goes on.
    func endWriting() { Socket.shutdownWrite(descriptor) }

    var text: String { String(decoding: bytes, as: UTF8.self) }
    /// The other side has ended or reset it.
    var isOver: Bool { isAtEnd || failure != nil }

    func send(_ text: String) { send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) {
        guard !isClosed else { return }
        output.append(bytes)
        flushLater()
    }
}

/// Certificates of a mesh, and contexts made of them.
struct TestTLS {
    let certificates: TestCertificates
    let authority: TestCertificates.Authority
    let serverPair: TestCertificates.Pair
    let clientPair: TestCertificates.Pair

    init() throws {
        certificates = try TestCertificates()
        authority = try certificates.authority("mesh")
        serverPair = try authority.issue("outriggerd", names: ["DNS:outriggerd.mesh", "IP:127.0.0.1"])
        clientPair = try authority.issue("cart", names: ["URI:spiffe://mesh/ns/shop/vn/cart"])
    }

    private static func read(_ path: String) throws -> [UInt8] {
        guard let bytes = FileManager.default.contents(atPath: path) else { throw TestFailure("cannot read \(path)") }
        return Array(bytes)
    }

    func server(
        _ pair: TestCertificates.Pair? = nil, asksClient: Bool = false, requiresCertificate: Bool = true,
        alpn: [String] = ["h2", "http/1.1"]
    ) throws -> TLSContext {
        let pair = pair ?? serverPair
        return try TLSContext.server(
            DownstreamTLS(
                certificate: .file(chain: pair.chain, privateKey: pair.key),
                validation: asksClient ? TLSValidation(trust: .file(authority.certificate)) : nil,
                requiresCertificate: requiresCertificate, alpn: alpn),
            now: Clock.realtime() / 1_000_000_000, files: Self.read)
    }

    func client(showsCertificate: Bool = false, trust: String? = nil, names: [String] = [], alpn: [String] = ["h2"]) throws -> TLSContext {
        try TLSContext.client(
            UpstreamTLS(
                validation: TLSValidation(trust: .file(trust ?? authority.certificate), subjectAlternativeNames: names),
                certificate: showsCertificate ? .file(chain: clientPair.chain, privateKey: clientPair.key) : nil, alpn: alpn),
            now: Clock.realtime() / 1_000_000_000, files: Self.read)
    }
}

/// Bytes of which no two pieces of a power of two are the same.
func bytes(_ count: Int) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(count + pattern.count)
    while result.count < count { result += pattern }
    return Array(result[..<count])
}

/// Of prime length.
private let pattern = (0..<4099).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }

/// `GET /` for a session of HTTP/2.
func getHead() -> Head {
    let head = Head()
    head.setRequest(method: "GET", scheme: .http, authority: "a", target: "/")
    return head
}

extension Harness {
    /// - Throws: the connection is refused.
    func connectAndWait() throws {
        let peer = try peer()
        try drive("a connection, or none") { peer.isReady || peer.failure != nil }
        if case .system(let error)? = peer.failure { throw error }
        peer.close()
    }
}
