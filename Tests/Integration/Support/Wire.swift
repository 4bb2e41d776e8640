import ProxyConfig
import TestSupport
import Testing

/// Which HTTP is spoken on one side of the proxy. A test that means both says so once, in words that both have.
enum Wire: String, CaseIterable, Sendable {
    case http1
    case http2
}

/// The caller's side and the endpoint's.
struct Pairing: Sendable, CustomTestStringConvertible {
    var downstream: Wire
    var upstream: Wire

    static let all = Wire.allCases.flatMap { downstream in Wire.allCases.map { Pairing(downstream: downstream, upstream: $0) } }

    var testDescription: String { "\(downstream) → \(upstream)" }

    /// Runs `body` with a proxy before origins that speak the upstream's protocol.
    func withProxy(
        to ports: [UInt16], workers: Int = 2, manager: @escaping (inout HTTPConnectionManager) -> Void = { _ in },
        action: @escaping (inout ForwardAction) -> Void = { _ in }, cluster: @escaping (inout Cluster) -> Void = { _ in },
        _ body: (Proxy) throws -> Void
    ) throws {
        try Integration.withProxy(
            {
                Config.http(
                    listen: $0, to: ports, admin: $1, process: { $0.workers = workers }, manager: manager, action: action,
                    cluster: {
                        $0.upstreamProtocol = upstream == .http2 ? .http2 : .http1
                        cluster(&$0)
                    })
            }, body)
    }
}

/// How a body says where it ends.
enum Sizing: String, CaseIterable, Sendable {
    /// `content-length`.
    case length
    /// Chunks, or END_STREAM.
    case open
}

/// A request as a test sends it, in either protocol.
struct Ask: Sendable {
    var method = "GET"
    var path = "/"
    var fields: [HTTP2Field] = []
    /// Nil = none, and no framing that announces one.
    var body: [UInt8]?
    var sizing = Sizing.length
    var trailers: [HTTP2Field] = []
}

/// A message as it arrived, in either protocol: names in lower case, without pseudo fields and without what only frames.
struct Told: Sendable {
    var method = ""
    var path = ""
    var authority = ""
    var status = 0
    var interims: [Int] = []
    var fields: [HTTP2Field] = []
    var body: [UInt8] = []
    var trailers: [HTTP2Field] = []
    /// Its end came as the protocol says it; a message that was cut has none.
    var isWhole = false
    /// HTTP/2: the code that ended the stream.
    var reset: HTTP2Code?

    var bodyText: String { String(decoding: body, as: UTF8.self) }
    func value(_ name: String) -> String? { fields.first { $0.name == name }?.value }
    func values(_ name: String) -> [String] { fields.filter { $0.name == name }.map(\.value) }
    func trailer(_ name: String) -> String? { trailers.first { $0.name == name }?.value }

    init() {}

    init(_ message: HTTP2Message) {
        method = message.method
        path = message.path
        authority = message.value(":authority") ?? ""
        status = message.status
        interims = message.interims.map { block in Int(block.first { $0.name == ":status" }?.value ?? "") ?? 0 }
        fields = message.fields.filter { !$0.name.hasPrefix(":") }
        body = message.body
        trailers = message.trailers
        isWhole = message.isWhole
        if case .reset(let code) = message.end { reset = code }
    }

    init(_ message: HTTPMessage) {
        method = message.method
        path = message.target
        authority = message.value("host") ?? ""
        status = message.status
        fields = Self.fields(message.fields).filter { $0.name != "host" }
        body = message.body
        trailers = Self.fields(message.trailers)
        isWhole = true
    }

    private static func fields(_ lines: [String]) -> [HTTP2Field] {
        lines.map { line in
            let name = line.prefix { $0 != ":" }
            return (name.lowercased(), line.dropFirst(name.count + 1).trimmingPrefix { $0 == " " }.description)
        }
    }
}

/// What an origin of a test answers.
struct Reply: Sendable {
    /// How an origin breaks off in the middle of a body.
    enum Cut: String, CaseIterable, Sendable {
        /// FIN without the end of the body.
        case close
        /// RST of the connection; HTTP/2: RST_STREAM.
        case reset
    }

    var interims: [Int] = []
    var status = 200
    var fields: [HTTP2Field] = []
    var body: [UInt8] = []
    var sizing = Sizing.length
    var trailers: [HTTP2Field] = []
    /// After the body, instead of its end. The announced length is one byte more.
    var cut: Cut?

    init(
        status: Int = 200, fields: [HTTP2Field] = [], body: [UInt8] = [], sizing: Sizing = .length, trailers: [HTTP2Field] = [],
        interims: [Int] = [], cut: Cut? = nil
    ) {
        self.interims = interims
        self.status = status
        self.fields = fields
        self.body = body
        self.sizing = sizing
        self.trailers = trailers
        self.cut = cut
    }

    init(_ text: String, fields: [HTTP2Field] = []) {
        self.init(fields: fields, body: Array(text.utf8))
    }

    fileprivate func length(of request: Told) -> [HTTP2Field] {
        guard sizing == .length, status != 204, status != 304, trailers.isEmpty, !fields.contains(where: { $0.name == "content-length" })
        else { return [] }
        return [("content-length", "\(body.count + (cut == nil ? 0 : 1))")]
    }
}

/// A connection to the proxy that asks in one protocol.
final class Caller {
    private enum Connection {
        case http1(RawConnection)
        case http2(HTTP2Peer)
    }

    private let connection: Connection

    init(_ wire: Wire, to port: UInt16, receiveBuffer: CInt? = nil) throws {
        switch wire {
        case .http1: connection = .http1(try RawConnection(to: port, receiveBuffer: receiveBuffer))
        case .http2: connection = .http2(try HTTP2Peer(to: port, receiveBuffer: receiveBuffer))
        }
    }

    func exchange(_ ask: Ask, within limit: Duration = patience) throws -> Told {
        try send(ask)
        return try answer(to: ask, within: limit)
    }

    private var stream: UInt32 = 0

    func send(_ ask: Ask) throws {
        var fields = ask.fields
        if let body = ask.body, ask.sizing == .length, ask.trailers.isEmpty { fields.append(("content-length", "\(body.count)")) }
        switch connection {
        case .http2(let peer):
            stream = try peer.request(ask.method, ask.path, fields: fields, body: ask.body, trailers: ask.trailers)
        case .http1(let connection):
            let isChunked = ask.body != nil && (ask.sizing == .open || !ask.trailers.isEmpty)
            if isChunked { fields.append(("transfer-encoding", "chunked")) }
            try connection.send("\(ask.method) \(ask.path) HTTP/1.1\r\nhost: a\r\n\(lines(fields))\r\n")
            try connection.send(isChunked ? chunks(ask.body ?? [], ask.trailers) : ask.body ?? [])
        }
    }

    /// The answer with its interim ones. What is cut comes as far as it came.
    func answer(to ask: Ask, within limit: Duration = patience) throws -> Told {
        switch connection {
        case .http2(let peer): return Told(try peer.response(stream, within: limit))
        case .http1(let connection):
            var interims: [Int] = []
            while true {
                let head = try connection.read(until: "\r\n\r\n", within: limit)
                let start = HTTPMessage(head: head, body: [])
                if (100..<200).contains(start.status) {
                    interims.append(start.status)
                    continue
                }
                connection.unread(head)
                var told: Told
                do {
                    told = Told(try connection.readResponse(to: ask.method, within: limit))
                } catch {
                    told = Told(start)
                    told.isWhole = false
                }
                told.interims = interims
                return told
            }
        }
    }

    /// Goes away without waiting for the answer: RST_STREAM, or the end of the connection.
    func cancel() throws {
        switch connection {
        case .http1(let connection): connection.reset()
        case .http2(let peer): try peer.send(.reset(stream, .cancel))
        }
    }
}

extension Origin {
    /// A server of either protocol. Its connections stay open from one request to the next, but for replies that are cut.
    static func speaking(
        _ wire: Wire, port: UInt16 = 0, records: Bool = false, _ answer: @escaping @Sendable (Told) throws -> Reply
    ) throws -> Origin {
        switch wire {
        case .http1:
            try Origin(port: port, records: records) { connection in
                while let message = try connection.readRequest(within: .seconds(600)) {
                    let request = Told(message)
                    let reply = try answer(request)
                    try send(reply, to: request, over: connection)
                    guard let cut = reply.cut else { continue }
                    // The caller has to have what came before.
                    _ = try connection.isSilent(for: .milliseconds(100))
                    if cut == .reset { connection.reset() }
                    return
                }
            }
        case .http2:
            try Origin(port: port, records: records) { connection in
                let peer = try HTTP2Peer(.server, over: connection)
                while let stream = try peer.nextRequest(within: .seconds(600)) {
                    let request = Told(try peer.whole(stream, within: .seconds(600)))
                    guard request.isWhole else { continue }
                    if try !send(try answer(request), to: request, on: stream, of: peer) { return }
                }
            }
        }
    }

    private static func send(_ reply: Reply, to request: Told, over connection: RawConnection) throws {
        for interim in reply.interims { try connection.send("HTTP/1.1 \(interim) Interim\r\nx-interim: 1\r\n\r\n") }
        let hasBody = request.method != "HEAD" && reply.status != 204 && reply.status != 304
        let isChunked = hasBody && (reply.sizing == .open || !reply.trailers.isEmpty)
        var fields = reply.fields + reply.length(of: request)
        if isChunked { fields.append(("transfer-encoding", "chunked")) }
        try connection.send("HTTP/1.1 \(reply.status) X\r\n\(lines(fields))\r\n")
        guard hasBody else { return }
        if reply.cut != nil {
            try connection.send(isChunked ? Array("\(String(reply.body.count + 1, radix: 16))\r\n".utf8) + reply.body : reply.body)
        } else {
            try connection.send(isChunked ? chunks(reply.body, reply.trailers) : reply.body)
        }
    }

    /// - Returns: whether the connection goes on.
    private static func send(_ reply: Reply, to request: Told, on stream: UInt32, of peer: HTTP2Peer) throws -> Bool {
        for interim in reply.interims { try peer.send(.headers(stream, [(":status", "\(interim)"), ("x-interim", "1")])) }
        let hasBody = request.method != "HEAD" && reply.status != 204 && reply.status != 304
        let fields = reply.fields + reply.length(of: request)
        guard let cut = reply.cut else {
            try peer.answer(
                stream, status: reply.status, fields: fields, body: hasBody ? reply.body : [], trailers: hasBody ? reply.trailers : [])
            return true
        }
        try peer.send(.headers(stream, [(":status", "\(reply.status)")] + fields))
        try peer.send(stream, body: reply.body, endStream: false)
        _ = try peer.connection.isSilent(for: .milliseconds(100))
        if cut == .reset { try peer.send(.reset(stream, .internalError)) }
        return cut == .reset
    }
}

private func lines(_ fields: [HTTP2Field]) -> String {
    fields.map { "\($0.name): \($0.value)\r\n" }.joined()
}

/// In pieces of 7,000 bytes.
private func chunks(_ body: [UInt8], _ trailers: [HTTP2Field]) -> [UInt8] {
    var bytes: [UInt8] = []
    for start in stride(from: 0, to: body.count, by: 7000) {
        let piece = body[start..<min(body.count, start + 7000)]
        bytes += Array("\(String(piece.count, radix: 16))\r\n".utf8) + piece + [13, 10]
    }
    return bytes + Array("0\r\n\(lines(trailers))\r\n".utf8)
}
