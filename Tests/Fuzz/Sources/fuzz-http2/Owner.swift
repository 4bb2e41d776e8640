import Base
import Fuzzing
import HTTP
import HTTP1
import HTTP2

/// Owns a session as a proxy does, but chooses what it does by a seed; holds the laws of what the session says.
final class Owner {
    /// What was seen of a stream. The session keeps it as the stream's context.
    private final class Seen {
        var bytes: Int64 = 0
        var length: Int64?
        var hasEnded = false
    }

    private let session: HTTP2Session
    private var random: SeededRandom
    private var now = Instant(nanoseconds: 1)
    private var isOver = false
    private var hasSentPreface = false
    /// Streams whose data is given back later.
    private var debts: [(stream: HTTP2Stream, bytes: Int)] = []
    private var output = ByteBuffer()

    init(_ kind: HTTP2Entry.Kind, seed: UInt8) {
        var limits = HTTP2Limits()
        limits.allowsExtendedConnect = kind.contains(.extendedConnect)
        if kind.contains(.tight) {
            limits.maxConcurrentStreams = 2
            limits.maxHeadBytes = 200
            limits.maxFields = 3
        }
        random = SeededRandom(seed: UInt64(seed))
        session = HTTP2Session(role: kind.contains(.client) ? .client : .server, limits: limits, pool: HTTP2Pool())
        if kind.contains(.client) {
            for _ in 0..<3 { request() }
        }
    }

    func receive(_ bytes: [UInt8]) {
        guard !isOver else { return }
        now = now + Nanoseconds.milliseconds(Int64(random.below(3)))
        isOver = unsafe bytes.withUnsafeBytes { unsafe (try? session.receive($0, now: now)) == nil }
        walk(bytes.count)
        flush()
        // What the session learned while it wrote.
        walk(0)
    }

    func close() {
        flush()
        for stream in session.abandonStreams() { require(stream.isClosed, "an abandoned stream is open") }
        debts.removeAll()
    }

    // MARK: Events

    private func walk(_ received: Int) {
        for event in session.events {
            switch event {
            case .head(let stream, let endStream): headCame(stream, endStream)
            case .malformedHead(let stream, _): answerBriefly(stream)
            case .interim(_, let head): require((100..<200).contains(head.status), "an interim response of \(head.status)")
            case .data(let stream, let range):
                require(range.lowerBound >= 0 && range.upperBound <= received, "data \(range) in \(received) bytes")
                guard let seen = stream.context as? Seen else { continue }
                require(!seen.hasEnded, "data behind the end of stream \(stream.id)")
                seen.bytes += Int64(range.count)
                if random.below(4) > 0 { session.consume(stream, range.count) } else { debts.append((stream, range.count)) }
                if random.below(16) == 0 { session.reset(stream, .cancel) }
            case .trailers(let stream):
                for field in stream.trailers.fields {
                    require(stream.trailers.bytes[field.name].first != UInt8(ascii: ":"), "a pseudo field in trailers")
                }
            case .end(let stream): end(stream)
            case .closed(let stream, _, _, _): require(stream.isClosed, "a closed stream is open")
            case .goAway, .settings, .settingsAcknowledged, .pong: break
            }
        }
        session.removeEvents()
        if session.role == .client, random.below(4) == 0 { request() }
        if random.below(8) == 0 {
            for debt in debts { session.consume(debt.stream, debt.bytes) }
            debts.removeAll()
        }
        switch random.below(64) {
        case 0: session.ping()
        case 1: session.announceShutdown()
        case 2: session.goAway(.noError)
        default: break
        }
    }

    private func headCame(_ stream: HTTP2Stream, _ endStream: Bool) {
        let head = stream.head
        require(head.isHTTP2, "a head of HTTP/2 that does not say so")
        require(
            head.fields.allSatisfy { !head.bytes[$0.value].contains { $0 == 0 || $0 == 10 || $0 == 13 } }, "CR, LF or NUL in a value")
        if session.role == .server {
            if stream.context != nil { require(false, "a second request on stream \(stream.id)") }
            let framing: Framing = endStream ? .none : stream.contentLength.map { .length($0) } ?? .chunked
            if !stream.isExtendedConnect, !head.authority.isEmpty { requireOneRequest(head, framing: framing, upgrade: false) }
        } else {
            require((200...999).contains(head.status), "a final response of \(head.status)")
            var output = ByteBuffer()
            _ = MessageEncoder.encodeResponseHead(head, framing: .chunked, keepAlive: true, toMinorVersion: 1, into: &output)
        }
        let seen = (stream.context as? Seen) ?? Seen()
        seen.length = stream.contentLength
        stream.context = seen
        if endStream { end(stream) }
        if session.role == .server { answer(stream) }
    }

    private func end(_ stream: HTTP2Stream) {
        guard let seen = stream.context as? Seen else { return }
        require(!seen.hasEnded, "stream \(stream.id) ended twice")
        seen.hasEnded = true
        // A response to HEAD or a 304 announces what it does not have; all of these requests are GET.
        guard let length = seen.length, session.role == .server else { return }
        require(length == seen.bytes, "stream \(stream.id) ended after \(seen.bytes) of \(length) bytes")
    }

    // MARK: What owners do

    private func request() {
        let head = Head()
        head.bytes = Array("GET/a".utf8)
        head.methodRange = 0..<3
        head.method = .get
        head.target = 3..<4
        head.authority = 4..<5
        let stream = session.request(head, endStream: random.below(2) == 0, context: Seen())
        if let stream, random.below(2) == 0 { sendBody(stream) }
    }

    private func answer(_ stream: HTTP2Stream) {
        let head = Head()
        head.status = 200
        head.append(name: "Connection", value: "x".utf8, known: .connection)
        head.append(name: "Grpc-Status", value: "0".utf8, known: .grpcStatus)
        switch random.below(8) {
        case 0: session.reset(stream, .refusedStream)
        case 1: break
        case 2:
            let early = Head()
            early.status = 103
            session.respondInterim(stream, early)
            session.respond(stream, head, endStream: true)
        case 3:
            session.respond(stream, head, endStream: false)
            sendBody(stream)
            session.end(stream, trailers: head)
        case 4:
            session.respond(stream, head, endStream: false)
            sendBody(stream)
        default:
            session.respond(stream, head, endStream: true)
        }
    }

    private func answerBriefly(_ stream: HTTP2Stream) {
        guard session.role == .server else { return }
        let head = Head()
        head.status = 431
        session.respond(stream, head, endStream: true)
        session.reset(stream, .noError)
    }

    private func sendBody(_ stream: HTTP2Stream) {
        let body = [UInt8](repeating: 120, count: 1 << random.below(18))
        unsafe body.withUnsafeBytes { unsafe session.send(stream, $0) }
        if random.below(2) == 0 { session.end(stream) }
    }

    private func flush() {
        var rounds = 0
        while session.flush(into: &output, limit: 1 << (6 + random.below(10))), rounds < 64 { rounds += 1 }
        for stream in session.drainedStreams where random.below(2) == 0 { session.end(stream) }
        session.removeDrainedStreams()
        readFrames()
    }

    /// What was written is whole frames, and nothing else.
    private func readFrames() {
        var position = 0
        let bytes = unsafe Array(output.unsafeBytes)
        output.removeAll()
        if session.role == .client, !hasSentPreface {
            position = 24
            hasSentPreface = true
        }
        while position < bytes.count {
            require(position + 9 <= bytes.count, "half a frame header was written")
            position += 9 + (Int(bytes[position]) << 16 | Int(bytes[position + 1]) << 8 | Int(bytes[position + 2]))
        }
        require(position == bytes.count, "half a frame was written")
    }
}
