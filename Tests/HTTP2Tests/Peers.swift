import Base
import HTTP
import HTTP2

/// Two ends of a connection in memory, and what each was told.
final class Peer {
    let session: HTTP2Session
    /// One line an event, in order.
    var lines: [String] = []
    /// By stream: what has come.
    var bodies: [Int32: [UInt8]] = [:]
    var streams: [Int32: HTTP2Stream] = [:]
    /// Gives body bytes back at once.
    var consumesAtOnce = true
    var failure: HTTP2Error?
    /// Called for each event, after it was noted, with this peer.
    var handler: ((Peer, HTTP2Event) -> Void)?
    var now = Instant(nanoseconds: 0)
    /// Sees what is written.
    var tap: (([UInt8]) -> Void)?

    init(_ role: HTTP2Role, _ limits: HTTP2Limits = HTTP2Limits(), pool: HTTP2Pool = HTTP2Pool()) {
        session = HTTP2Session(role: role, limits: limits, pool: pool)
    }

    /// All that may be sent now.
    func output(limit: Int = 1 << 30) -> [UInt8] {
        var buffer = ByteBuffer()
        _ = session.flush(into: &buffer, limit: limit)
        walk([])
        for stream in session.drainedStreams { lines.append("drained \(stream.id)") }
        session.removeDrainedStreams()
        let bytes = unsafe Array(buffer.unsafeBytes)
        tap?(bytes)
        return bytes
    }

    func receive(_ bytes: [UInt8]) {
        var buffer = ByteBuffer()
        buffer.append(bytes)
        do throws(HTTP2Error) {
            try unsafe session.receive(buffer.unsafeBytes, now: now)
        } catch {
            if failure == nil { lines.append("failed \(error.message)") }
            failure = error
        }
        walk(bytes)
    }

    /// The same in pieces that end before the indices of `cuts`.
    func receive(_ bytes: [UInt8], cutAt cuts: [Int]) {
        var start = 0
        for cut in cuts + [bytes.count] where cut > start {
            receive(Array(bytes[start..<cut]))
            start = cut
        }
    }

    private func walk(_ bytes: [UInt8]) {
        let events = session.events
        for event in events {
            note(event, bytes)
            handler?(self, event)
        }
        session.removeEvents()
    }

    private func note(_ event: HTTP2Event, _ bytes: [UInt8]) {
        switch event {
        case .head(let stream, let endStream):
            streams[stream.id] = stream
            lines.append("head \(stream.id) \(describe(stream.head))\(endStream ? " fin" : "")")
        case .interim(let stream, let head):
            lines.append("interim \(stream.id) \(describe(head))")
        case .malformedHead(let stream, let error):
            streams[stream.id] = stream
            lines.append("malformed \(stream.id) \(error.message)")
        case .data(let stream, let range):
            bodies[stream.id, default: []] += bytes[range]
            if consumesAtOnce { session.consume(stream, range.count) }
        case .trailers(let stream):
            lines.append("trailers \(stream.id) \(describe(stream.trailers))")
        case .end(let stream):
            lines.append("end \(stream.id)")
        case .closed(let stream, let code, let byPeer, let isUnprocessed):
            lines.append("closed \(stream.id) \(code.name)\(byPeer ? " by peer" : "")\(isUnprocessed ? " unprocessed" : "")")
        case .goAway(let last, let code):
            lines.append("goaway \(last) \(code.name)")
        case .settings: lines.append("settings")
        case .settingsAcknowledged: lines.append("settings acknowledged")
        case .pong: lines.append("pong")
        }
    }
}

/// Start line and fields, separated by bars.
func describe(_ head: Head) -> String {
    var parts: [String] = []
    if head.status > 0 { parts.append("\(head.status)") }
    if !head.methodRange.isEmpty {
        parts.append("\(head.string(head.methodRange)) \(head.scheme)://\(head.string(head.authority))\(head.string(head.target))")
    }
    for field in head.fields {
        parts.append("\(head.string(field.name)): \(head.string(field.value))\(field.neverIndexed ? " (never indexed)" : "")")
    }
    return parts.joined(separator: " | ")
}

/// A head as HTTP/1 would have decoded it: fields in any case.
func requestHead(
    _ method: String = "GET", _ target: String = "/", authority: String = "shop.test", scheme: Head.Scheme = .http,
    _ fields: [(String, String)] = []
) -> Head {
    let head = Head()
    func put(_ text: String) -> Range<Int> {
        let start = head.bytes.count
        head.bytes += Array(text.utf8)
        return start..<head.bytes.count
    }
    head.methodRange = put(method)
    head.method = Method(Array(method.utf8).span)
    head.target = put(target)
    head.authority = put(authority)
    head.scheme = scheme
    add(fields, to: head)
    return head
}

func responseHead(_ status: Int, _ fields: [(String, String)] = []) -> Head {
    let head = Head()
    head.status = status
    add(fields, to: head)
    return head
}

func add(_ fields: [(String, String)], to head: Head) {
    for (name, value) in fields {
        let start = head.bytes.count
        head.bytes += Array(name.utf8)
        let middle = head.bytes.count
        head.bytes += Array(value.utf8)
        head.fields.append(
            Head.Field(name: start..<middle, value: middle..<head.bytes.count, known: KnownField(Array(name.utf8).span)))
    }
}

func trailers(_ fields: [(String, String)]) -> Head {
    let head = Head()
    add(fields, to: head)
    return head
}

/// A client's session and a server's, joined.
struct Pair {
    let client: Peer
    let server: Peer

    init(client clientLimits: HTTP2Limits = HTTP2Limits(), server serverLimits: HTTP2Limits = HTTP2Limits(), greeted: Bool = true) {
        client = Peer(.client, clientLimits)
        server = Peer(.server, serverLimits)
        guard greeted else { return }
        exchange()
        client.lines.removeAll()
        server.lines.removeAll()
    }

    /// Until neither has anything to say.
    func exchange() {
        while true {
            let toServer = client.output()
            if !toServer.isEmpty { server.receive(toServer) }
            let toClient = server.output()
            if !toClient.isEmpty { client.receive(toClient) }
            if toServer.isEmpty, toClient.isEmpty { return }
        }
    }

    @discardableResult
    func request(_ head: Head = requestHead(), body: String? = nil, end: Bool = true, trailers: Head? = nil) -> HTTP2Stream? {
        guard let stream = client.session.request(head, endStream: end && body == nil && trailers == nil, context: nil) else { return nil }
        client.streams[stream.id] = stream
        if let body { client.send(stream, body) }
        if end { client.session.end(stream, trailers: trailers) }
        return stream
    }
}

extension Peer {
    func send(_ stream: HTTP2Stream, _ text: String) {
        send(stream, Array(text.utf8))
    }

    func send(_ stream: HTTP2Stream, _ bytes: [UInt8]) {
        unsafe bytes.withUnsafeBytes { unsafe session.send(stream, $0) }
    }
}
