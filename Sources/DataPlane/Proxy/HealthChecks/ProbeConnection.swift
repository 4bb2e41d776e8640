import Base
import HTTP
import HTTP1
import HTTP2
import HTTPTransport
import Reactor
import Resilience
import Transport

/// What a probe asks an endpoint.
enum ProbeRequest: Hashable {
    /// Nothing: that the connection opens, its TLS handshake included, is the answer.
    case connection
    /// GET; 200 is well. Over TLS in the version that ALPN agrees on, else HTTP/1.1 or, with `http2`, HTTP/2 by prior knowledge.
    case http(host: String, path: String, http2: Bool)
    /// grpc.health.v1.Health/Check; SERVING is well.
    case grpc(authority: String)

    var needsHTTP2: Bool {
        switch self {
        case .connection: false
        case .http(_, _, let http2): http2
        case .grpc: true
        }
    }
}

/// How asking ended.
struct ProbeEnd {
    enum Again {
        /// The connection was kept from an earlier probe, and may have been closed before the request came.
        case onNewConnection
        /// What answers speaks no TLS.
        case inPlaintext
    }

    /// Nil: it says nothing of the endpoint.
    var result: HealthCheckResult?
    /// For people: `status 500`.
    var seen: String
    /// Worth another try, before the result counts.
    var again: Again?
}

/// One connection of the prober's to an endpoint. It serves one probe after the other, as long as the endpoint keeps it.
///
/// HTTP/1.1 and HTTP/2 in one class: which it is, TLS may decide. Confined to the supervisor's thread.
final class ProbeConnection: Link {
    static let userAgent = "outrigger-health-check"
    /// Of a response's body. What is longer is not read: the status is known, and the connection is closed.
    static let maxBodyBytes = 64 * 1024
    private static let maxHeadBytes = 16 * 1024

    /// TLS and all: the next request goes out at once.
    private(set) var isOpen = false
    private var request: ProbeRequest?
    private var onEnd: ((ProbeEnd) -> Void)?
    private var isReused = false
    /// Something came since the request went out.
    private var isAnswered = false
    private var bodyBytes = 0
    private let head = Head()
    private let trailers = Head()

    private var decoder: ResponseDecoder
    private var stash = ByteBuffer()

    private var session: HTTP2Session?
    private var wire: HTTP2Stream?
    private var isRetired = false
    private var messages = GRPC.MessageReader(maxMessageBytes: GRPCHealth.maxMessageBytes)
    private var serving: GRPCHealth.Status?

    override init(adopting descriptor: CInt, isConnected: Bool, tls: TLSSession?, loop: EventLoop, buffers: LinkBuffers) {
        decoder = ResponseDecoder(limits: MessageLimits(maxHeadBytes: Self.maxHeadBytes))
        super.init(adopting: descriptor, isConnected: isConnected, tls: tls, loop: loop, buffers: buffers)
    }

    /// Whether it can take another request.
    var isUsable: Bool { isOpen && !isClosed && !isRetired && request == nil }

    /// Asks, as soon as the connection stands. `onEnd` is called once, never within this call, unless `giveUp` is called before.
    func ask(_ request: ProbeRequest, onEnd: @escaping (ProbeEnd) -> Void) {
        self.request = request
        self.onEnd = onEnd
        isReused = isOpen
        isAnswered = false
        bodyBytes = 0
        trailers.removeAll()
        if isOpen { send(request) }
    }

    /// Nobody waits for the answer any longer.
    func giveUp() {
        onEnd = nil
        request = nil
        if !isClosed { close() }
    }

    // MARK: The request

    override func opened() {
        isOpen = true
        guard let request else { return close() }
        if request == .connection { return end(.passed, tls == nil ? "connected" : "connected, TLS agreed") }
        let agreed = tls?.negotiatedProtocol
        if request.needsHTTP2, agreed == .http1 || agreed == .other {
            return end(.unwell, "no HTTP/2: TLS agreed on another protocol")
        }
        if request.needsHTTP2 || agreed == .h2 {
            var limits = HTTP2Limits()
            limits.maxHeadBytes = Self.maxHeadBytes
            session = HTTP2Session(role: .client, limits: limits, pool: buffers.http2)
        }
        send(request)
    }

    private func send(_ request: ProbeRequest) {
        let head = Head()
        let scheme = tls == nil ? Head.Scheme.http : .https
        switch request {
        case .connection: preconditionFailure("a connection that is kept is no answer")
        case .http(let host, let path, _):
            head.setRequest(method: "GET", scheme: scheme, authority: host, target: path)
        case .grpc(let authority):
            head.setRequest(method: "POST", scheme: scheme, authority: authority, target: GRPCHealth.path)
            head.append(field: "content-type", "application/grpc")
            head.append(field: "te", "trailers")
            messages = GRPC.MessageReader(maxMessageBytes: GRPCHealth.maxMessageBytes)
            serving = nil
        }
        head.append(field: "user-agent", Self.userAgent)
        // Not within the caller: what fails at once must not end before it has begun.
        flushLater()
        guard let session else {
            decoder.expectResponse(to: .get)
            return MessageEncoder.encodeRequestHead(head, framing: .none, into: &output)
        }
        let isCall = head.method != .get
        guard let wire = session.request(head, endStream: !isCall, context: self) else { return isRetired = true }
        self.wire = wire
        guard isCall else { return }
        unsafe GRPC.frame([]).withUnsafeBytes { unsafe session.send(wire, $0) }
        session.end(wire)
    }

    override func flushDue() {
        guard let session else { return flush() }
        if request != nil, wire == nil { return fail(.unwell, "it takes no request: no more streams are allowed") }
        flush(session)
        guard !isClosed else { return }
        if !session.events.isEmpty { unsafe walk(session, UnsafeRawBufferPointer(start: nil, count: 0)) }
        if !isClosed, let failure = session.failure { fail(.unwell, "broke HTTP/2: \(failure.details)") }
    }

    override func drained() {
        if session != nil { flushLater() }
    }

    // MARK: The answer

    override func received(_ bytes: UnsafeRawBufferPointer) {
        guard let session else {
            guard request != nil else { return close() }  // Nobody asked.
            isAnswered = true
            return unsafe receivedHTTP1(bytes)
        }
        // SETTINGS and PING of one that is kept are no answer.
        if request != nil { isAnswered = true }
        do {
            try unsafe session.receive(bytes, now: loop.now)
        } catch {
            unsafe walk(session, bytes)
            return fail(.unwell, "broke HTTP/2: \(error.details)")
        }
        unsafe walk(session, bytes)
        flushLater()
    }

    private func receivedHTTP1(_ bytes: UnsafeRawBufferPointer) {
        unsafe stash.append(copying: bytes)
        var held = ByteBuffer()
        swap(&held, &stash)
        held.consume(unsafe decode(held.unsafeBytes))
        if request != nil, !held.isEmpty { swap(&held, &stash) }
    }

    private func decode(_ bytes: UnsafeRawBufferPointer) -> Int {
        let span = unsafe RawSpan(_unsafeBytes: bytes)
        var position = 0
        while request != nil {
            do {
                switch try decoder.next(span, at: &position, head: head, trailers: trailers) {
                case .needMore: return position
                case .interim, .head: break
                case .body(let range): count(range.count)
                case .end: answered(keeps: decoder.keepsAlive && position == bytes.count)
                }
            } catch {
                fail(.unwell, "malformed answer: \(error.details)")
            }
        }
        return bytes.count
    }

    private func count(_ bytes: Int) {
        bodyBytes += bytes
        if bodyBytes > Self.maxBodyBytes { answered(keeps: false) }
    }

    private func answered(keeps: Bool) {
        end(head.status == 200 ? .passed : .unwell, "status \(head.status)", keeps: keeps)
    }

    private func walk(_ session: HTTP2Session, _ bytes: UnsafeRawBufferPointer) {
        var index = 0
        while index < session.events.count, !isClosed {
            switch session.events[index] {
            case .head(let stream, let endStream):
                guard isAsked(stream) else { break }
                head.removeAll()
                head.bytes = stream.head.bytes
                head.fields = stream.head.fields
                head.status = stream.head.status
                if endStream { streamEnded(trailers: nil) }
            case .data(let stream, let range):
                session.consume(stream, range.count)
                if isAsked(stream) { unsafe receivedBody(UnsafeRawBufferPointer(rebasing: bytes[range])) }
            case .trailers(let stream):
                guard isAsked(stream) else { break }
                trailers.removeAll()
                trailers.bytes = stream.trailers.bytes
                trailers.fields = stream.trailers.fields
            case .end(let stream): if isAsked(stream) { streamEnded(trailers: trailers) }
            case .closed(let stream, let code, _, let isUnprocessed):
                guard isAsked(stream) else { break }
                if isUnprocessed, isReused { isAnswered = false }
                fail(.unreachable, "the stream was reset: \(code.name)")
            case .malformedHead(let stream, let error):
                if isAsked(stream) { fail(.unwell, "malformed answer: \(error.details)") }
            case .goAway:
                isRetired = true
                if request == nil { close() }
            case .settings, .settingsAcknowledged, .pong, .interim: break
            }
            index += 1
        }
        session.removeEvents()
    }

    private func isAsked(_ stream: HTTP2Stream) -> Bool {
        guard let wire, stream === wire else { return false }
        return stream.context != nil
    }

    private func receivedBody(_ bytes: UnsafeRawBufferPointer) {
        guard case .grpc = request else { return count(bytes.count) }
        unsafe messages.append(Array(bytes))
        do throws(GRPC.Failure) {
            while let message = try messages.next() {
                guard let status = GRPCHealth.status(message) else { return fail(.unwell, "malformed answer: no HealthCheckResponse") }
                serving = status
            }
        } catch {
            fail(.unwell, "malformed answer: \(error)")
        }
    }

    private func streamEnded(trailers: Head?) {
        guard case .grpc = request else { return answered(keeps: true) }
        guard head.status == 200 else { return end(.unwell, "status \(head.status)", keeps: true) }
        let last = trailers.flatMap { $0.value("grpc-status") == nil ? nil : $0 } ?? head
        guard let status = last.value("grpc-status").flatMap({ UInt32($0) }) else {
            return end(.unwell, "no gRPC answer: no grpc-status", keeps: true)
        }
        guard status == GRPC.Status.ok else {
            let words = last.value("grpc-message").map { ": \(GRPC.decodedMessage($0).prefix(100))" } ?? ""
            return end(.unwell, "gRPC \(GRPC.name(ofStatus: status))\(words)", keeps: true)
        }
        guard let serving else { return end(.unwell, "no gRPC answer: OK without a message", keeps: true) }
        end(serving == .serving ? .passed : .unwell, serving.name, keeps: true)
    }

    // MARK: The end

    override func receivedEnd(isCut: Bool) {
        if request != nil, session == nil, isOpen, !isCut, (try? decoder.finish()) == true { return answered(keeps: false) }
        fail(.unreachable, isAnswered ? "closed within its answer" : "closed before it answered")
    }

    override func broke(_ failure: LinkFailure) {
        switch failure {
        case .system(let error):
            let words = "\(error)"
            fail(error.isExhaustion ? nil : .unreachable, words.prefix(1).lowercased() + words.dropFirst())
        case .tls(let error):
            fail(.unreachable, "TLS: \(error)", again: error == .notTLS && !isOpen ? .inPlaintext : nil)
        }
    }

    private func fail(_ result: HealthCheckResult?, _ seen: String, again: ProbeEnd.Again? = nil) {
        end(result, seen, again: again ?? (isReused && !isAnswered ? .onNewConnection : nil))
    }

    private func end(_ result: HealthCheckResult?, _ seen: String, keeps: Bool = false, again: ProbeEnd.Again? = nil) {
        let onEnd = self.onEnd
        self.onEnd = nil
        request = nil
        if let wire {
            wire.context = nil
            self.wire = nil
        }
        if !keeps || isRetired { close() }
        onEnd?(ProbeEnd(result: result, seen: seen, again: again))
    }

    override func closed() {
        // A session and its streams hold each other, and they this connection, until they are let go of.
        guard let session else { return }
        for stream in session.abandonStreams() { stream.context = nil }
    }
}
