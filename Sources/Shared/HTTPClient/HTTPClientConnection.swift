/// A caller's HTTP/2 connection on an event loop, plaintext or TLS.
public import Base
import HTTP
import HTTP2
public import HTTPTransport
public import Reactor
public import Transport

/// What a connection may cost, and how long it waits.
public struct HTTPClientLimits: Sendable {
    /// TCP and TLS together, and the server's first SETTINGS.
    public var connectTimeout = Nanoseconds.seconds(5)
    /// PING while streams are open, to find a server that is gone. `.zero` = none.
    public var pingInterval = Nanoseconds.seconds(30)
    /// For the answer to it; then the connection is closed.
    public var pingTimeout = Nanoseconds.seconds(20)
    /// Of a response's head; what is larger fails.
    public var maxHeadBytes = 64 * 1024
    /// What the server may send on a stream before the owner takes it.
    public var streamWindow = 256 * 1024
    /// The same for all streams together.
    public var connectionWindow = 1 << 20
    /// Request bytes of one stream that wait for the server to read. Beyond it the stream fails (`.cutOff`).
    public var maxQueuedBytes = 16 << 20

    public init() {}
}

/// One HTTP/2 connection to one server. Confined to its loop's thread.
///
/// Requests may be made as soon as `open` has been called; they wait until the connection stands. When it ends, every open stream fails,
/// then `onClosed` is called, once. It does not connect again: make another. To let go of it closes it.
public final class HTTPClientConnection {
    public let loop: EventLoop
    public let address: SocketAddress
    public let limits: HTTPClientLimits
    /// TLS and the server's SETTINGS are done.
    public var onOpen: (() -> Void)?
    /// The connection has ended, or did not come to be.
    public var onClosed: ((HTTPClientFailure) -> Void)?

    private let tls: TLSContext?
    private let serverName: String?
    private let resumption: TLSResumption?
    private let buffers: LinkBuffers
    private var link: ClientLink?
    private var hasOpened = false

    /// - Parameters:
    ///   - tls: nil = plaintext. It must offer `h2` by ALPN.
    ///   - serverName: for SNI and the check of the certificate's name, where the context does that.
    ///   - resume: of an earlier connection; see `resumption`.
    ///   - buffers: to share with others of the same loop.
    public init(
        loop: EventLoop, address: SocketAddress, tls: TLSContext? = nil, serverName: String? = nil, resume: TLSResumption? = nil,
        limits: HTTPClientLimits = HTTPClientLimits(), buffers: LinkBuffers = LinkBuffers(bytes: 32 * 1024)
    ) {
        self.loop = loop
        self.address = address
        self.tls = tls
        self.serverName = serverName
        self.limits = limits
        self.buffers = buffers
        resumption = resume
    }

    deinit {
        link?.fail(HTTPClientFailure(.closed, "the connection was let go of"))
    }

    /// Begins to connect. Once.
    public func open() {
        precondition(!hasOpened, "a connection is opened once")
        hasOpened = true
        do throws(SystemError) {
            let (descriptor, isConnected) = try Socket.connect(to: address)
            let session = tls.map { TLSSession(client: $0, serverName: serverName, resume: resumption) }
            let link = ClientLink(adopting: descriptor, isConnected: isConnected, tls: session, owner: self, buffers: buffers)
            do throws(SystemError) {
                try loop.add(link)
            } catch {
                Socket.close(descriptor)
                throw error
            }
            self.link = link
            link.begin()
        } catch {
            // Told later, as all failures are: the caller of `open` is not ready to hear of it.
            failLater(HTTPClientFailure(.system(error), isOpen: false))
        }
    }

    /// Whether requests may still be made.
    public var isUsable: Bool { link?.isUsable ?? false }

    /// The server has answered: TLS and SETTINGS are done.
    public var isOpen: Bool { link?.isOpen ?? false }

    public var openStreams: Int { link?.openStreams ?? 0 }

    /// What the server's certificate says, verified; nil without TLS or before its end.
    public var identity: TLSPeer? { link?.tls?.peer }

    /// To shorten the next handshake with the same context and name.
    public var newResumption: TLSResumption? { link?.tls?.resumption }

    /// Sends a request.
    ///
    /// - Parameters:
    ///   - authority: host and port as the server knows itself.
    ///   - headers: names are tokens; bytes of values that no field may have become spaces.
    ///   - endStream: there is no body.
    /// - Returns: a stream to set the callbacks of. Where the request cannot be sent, that is told by `onFailed`, later.
    public func request(
        method: String = "GET", path: String, authority: String, headers: [(String, String)] = [], endStream: Bool = true
    ) -> HTTPClientStream {
        let head = Head()
        head.setRequest(method: method, scheme: tls == nil ? .http : .https, authority: authority, target: path)
        for (name, value) in headers { head.append(field: name, value) }
        let stream = HTTPClientStream()
        if let link {
            link.request(stream, head, endStream: endStream)
        } else {
            FailureTimer.tell(
                loop, stream, HTTPClientFailure(.closed, hasOpened ? "the connection is closed" : "the connection was not opened"))
        }
        return stream
    }

    /// Ends the connection now. Open streams fail with `.closed`; `onClosed` is called.
    public func close() {
        link?.fail(HTTPClientFailure(.closed, "closed"))
    }

    fileprivate func opened() {
        onOpen?()
    }

    fileprivate func ended(_ failure: HTTPClientFailure) {
        link = nil
        let onClosed = self.onClosed
        self.onClosed = nil
        onOpen = nil
        onClosed?(failure)
    }

    private func failLater(_ failure: HTTPClientFailure) {
        FailureTimer.call(loop) { [self] in ended(failure) }
    }
}

/// Calls something in a later turn of the loop.
private final class FailureTimer: Timed {
    private let body: () -> Void

    private init(_ body: @escaping () -> Void) {
        self.body = body
    }

    /// The loop keeps it until then.
    static func call(_ loop: EventLoop, _ body: @escaping () -> Void) {
        loop.setDeadline(FailureTimer(body), loop.now)
    }

    static func tell(_ loop: EventLoop, _ stream: HTTPClientStream, _ failure: HTTPClientFailure) {
        call(loop) { stream.failed(failure) }
    }

    override func deadlineReached(now: Instant) { body() }
}

/// The socket under a client's connection, and its session.
final class ClientLink: Link {
    private weak var owner: HTTPClientConnection?
    private let session: HTTP2Session
    private var streams: [HTTPClientStream] = []
    private var overQueue: [HTTPClientStream] = []
    private(set) var isOpen = false
    private var goAwayText: String?
    private var connectDeadline: Instant
    private var pingDeadline = Instant.never
    private var pongIsDue = false
    private var isTold = false
    /// The first bytes of a server that may be none of HTTP/2, to say what it is.
    private var firstBytes: [UInt8] = []
    private let limits: HTTPClientLimits

    init(adopting descriptor: CInt, isConnected: Bool, tls: TLSSession?, owner: HTTPClientConnection, buffers: LinkBuffers) {
        self.owner = owner
        limits = owner.limits
        var http2 = HTTP2Limits()
        http2.initialStreamWindow = limits.streamWindow
        http2.connectionWindow = max(limits.connectionWindow, 65535)
        http2.maxHeadBytes = limits.maxHeadBytes
        session = HTTP2Session(role: .client, limits: http2, pool: buffers.http2)
        connectDeadline = owner.loop.now + limits.connectTimeout
        super.init(adopting: descriptor, isConnected: isConnected, tls: tls, loop: owner.loop, buffers: buffers)
    }

    func begin() {
        arm()
        start()
        flushLater()
    }

    var isUsable: Bool { !isClosed && goAwayText == nil && session.canOpenStream }
    var openStreams: Int { streams.count }

    // MARK: Streams

    func request(_ stream: HTTPClientStream, _ head: Head, endStream: Bool) {
        guard !isClosed, goAwayText == nil, let wire = session.request(head, endStream: endStream, context: stream) else {
            let text = goAwayText.map { "the server takes no more requests\($0)" } ?? "the server allows no more streams at once"
            return FailureTimer.tell(loop, stream, HTTPClientFailure(.unprocessed, text))
        }
        stream.begin(self, wire, endStream: endStream)
        stream.index = streams.count
        streams.append(stream)
        if streams.count == 1, isOpen { armPing() }
        flushLater()
    }

    func send(_ stream: HTTPClientStream, _ wire: HTTP2Stream, _ bytes: [UInt8]) {
        guard !stream.isOverQueue else { return }
        unsafe bytes.withUnsafeBytes { unsafe session.send(wire, $0) }
        if wire.queuedBytes > limits.maxQueuedBytes {
            stream.isOverQueue = true
            overQueue.append(stream)
        }
        flushLater()
    }

    func end(_ wire: HTTP2Stream) {
        session.end(wire)
        flushLater()
    }

    func consumed(_ wire: HTTP2Stream, _ count: Int) {
        session.consume(wire, count)
        flushLater()
    }

    func reset(_ stream: HTTPClientStream, _ wire: HTTP2Stream, _ code: HTTP2ErrorCode) {
        session.reset(wire, code)
        detach(stream)
        flushLater()
    }

    private func detach(_ stream: HTTPClientStream) {
        guard stream.index >= 0 else { return }
        if let wire = stream.wire {
            if stream.heldBytes > 0 { session.consume(wire, stream.heldBytes) }
            wire.context = nil
        }
        stream.detached()
        let last = streams.removeLast()
        if stream.index < streams.count {
            streams[stream.index] = last
            last.index = stream.index
        }
        stream.index = -1
        if streams.isEmpty {
            pingDeadline = .never
            pongIsDue = false
            if goAwayText != nil { flushLater() }
        }
    }

    /// Both sides have ended it.
    private func ended(_ stream: HTTPClientStream) {
        // Ours may not have: the server has answered early and wants no more.
        if let wire = stream.wire, !stream.hasEnded { session.reset(wire, .cancel) }
        detach(stream)
        stream.tellEnd()
    }

    // MARK: Frames in

    override func opened() {
        if let tls, tls.negotiatedProtocol != .h2 {
            return fail(HTTPClientFailure(.notHTTP2, "not an HTTP/2 server: TLS agreed on no h2"))
        }
        flushLater()
    }

    override func received(_ bytes: UnsafeRawBufferPointer) {
        if !isOpen, firstBytes.count < 80 { unsafe firstBytes += bytes.prefix(80 - firstBytes.count) }
        var broken: HTTP2Error?
        do {
            try unsafe session.receive(bytes, now: loop.now)
        } catch {
            broken = error
        }
        unsafe walk(bytes)
        guard !isClosed else { return }
        if let broken { return failed(broken) }
        flushLater()
    }

    private func walk(_ bytes: UnsafeRawBufferPointer) {
        var index = 0
        while index < session.events.count, !isClosed {
            switch session.events[index] {
            case .head(let wire, let endStream):
                guard let stream = stream(wire) else { break }
                stream.receivedHead(wire.head)
                if endStream { receivedEnd(stream) }
            case .data(let wire, let range):
                let piece = unsafe UnsafeRawBufferPointer(rebasing: bytes[range])
                guard let stream = stream(wire), unsafe !stream.receivedBody(piece) else {
                    session.consume(wire, range.count)
                    break
                }
            case .trailers(let wire): stream(wire)?.receivedTrailers(wire.trailers)
            case .end(let wire): if let stream = stream(wire) { receivedEnd(stream) }
            case .closed(let wire, let code, let byPeer, let isUnprocessed):
                if let stream = stream(wire) { closed(stream, code, byPeer: byPeer, isUnprocessed: isUnprocessed) }
            case .malformedHead(let wire, let error):
                if let stream = stream(wire) {
                    detach(stream)
                    stream.failed(HTTPClientFailure(.protocolError, "the response's head is refused: \(error.message)"))
                }
            case .goAway(_, let code):
                let said = session.peerGoAwayText
                goAwayText = " (GOAWAY \(code.name)" + (said.isEmpty ? ")" : ": \(said))")
            case .settings: settingsArrived()
            case .pong: ponged()
            case .settingsAcknowledged, .interim: break
            }
            index += 1
        }
        session.removeEvents()
    }

    private func stream(_ wire: HTTP2Stream) -> HTTPClientStream? {
        wire.context as? HTTPClientStream
    }

    private func receivedEnd(_ stream: HTTPClientStream) {
        if stream.heldBytes > 0 || stream.isBodyPaused { stream.endIsHeld = true } else { ended(stream) }
    }

    /// The owner has taken what was held.
    func deliveredAll(_ stream: HTTPClientStream) {
        if stream.endIsHeld { ended(stream) }
    }

    private func closed(_ stream: HTTPClientStream, _ code: HTTP2ErrorCode, byPeer: Bool, isUnprocessed: Bool) {
        // The server has answered in full, and says that it wants no more of the request (RFC 9113 section 8.1).
        if stream.endIsHeld { return }
        detach(stream)
        if isUnprocessed {
            stream.failed(HTTPClientFailure(.unprocessed, "the server did not take the request\(goAwayText ?? "")"))
        } else if byPeer {
            stream.failed(HTTPClientFailure(.reset(code), "the server has reset the stream (\(code.name))"))
        } else {
            stream.failed(HTTPClientFailure(.protocolError, "the server broke the rules of messages (\(code.name))"))
        }
    }

    private func settingsArrived() {
        guard !isOpen else { return }
        isOpen = true
        firstBytes = []
        connectDeadline = .never
        if !streams.isEmpty { armPing() }
        owner?.opened()
    }

    private func failed(_ error: HTTP2Error) {
        if !isOpen { return fail(HTTPClientFailure(.notHTTP2, "not an HTTP/2 server: " + Self.answer(firstBytes))) }
        if session.wantsToWrite { flush(session) }
        let words = session.failureText.isEmpty ? "" : ", \(session.failureText)"
        fail(HTTPClientFailure(.protocolError, "the server broke HTTP/2: \(error.message)\(words)"))
    }

    /// The first line of what answers there, as far as it prints.
    private static func answer(_ bytes: [UInt8]) -> String {
        let line = bytes.prefix { $0 >= 0x20 && $0 < 0x7F }
        return line.isEmpty ? "it answers in another protocol" : "it answers \"\(String(decoding: line, as: UTF8.self))\""
    }

    // MARK: Turns

    override func flushDue() {
        let late = overQueue
        overQueue.removeAll()
        for stream in late { cutOff(stream) }
        guard !isClosed else { return }
        flush(session)
        guard !isClosed else { return }
        if !session.drainedStreams.isEmpty {
            let drained = session.drainedStreams
            session.removeDrainedStreams()
            for wire in drained where !isClosed {
                wire.releaseQueue()
                stream(wire)?.drained()
            }
        }
        if !isClosed, !session.events.isEmpty { unsafe walk(UnsafeRawBufferPointer(start: nil, count: 0)) }
        guard !isClosed else { return }
        if let failure = session.failure { return failed(failure) }
        if let goAwayText, streams.isEmpty {
            return fail(HTTPClientFailure(.connectionLost, "the server has ended the connection\(goAwayText)"))
        }
        arm()
    }

    private func cutOff(_ stream: HTTPClientStream) {
        guard let wire = stream.wire else { return }
        let waiting = wire.queuedBytes
        session.reset(wire, .cancel)
        detach(stream)
        flushLater()
        stream.failed(HTTPClientFailure(.cutOff, "the server does not read; \(waiting) bytes were waiting"))
    }

    override func drained() {
        flushLater()
    }

    // MARK: Time

    private func arm() {
        guard !isClosed else { return }
        let next = min(connectDeadline, pingDeadline)
        if next != .never { loop.setDeadline(self, next) }
    }

    private func armPing() {
        pongIsDue = false
        pingDeadline = limits.pingInterval > .zero ? loop.now + limits.pingInterval : .never
        arm()
    }

    private func ponged() {
        guard pongIsDue else { return }
        if streams.isEmpty { pongIsDue = false } else { armPing() }
    }

    override func deadlineReached(now: Instant) {
        if now >= connectDeadline {
            let seconds = limits.connectTimeout.seconds
            let text =
                isConnecting
                ? "no connection within \(seconds) s"
                : isHandshaking ? "TLS: no handshake within \(seconds) s" : "not an HTTP/2 server: it said nothing within \(seconds) s"
            return fail(HTTPClientFailure(.timeout, text))
        }
        if now >= pingDeadline {
            if pongIsDue { return fail(HTTPClientFailure(.timeout, "the server did not answer PING for \(limits.pingTimeout.seconds) s")) }
            session.ping()
            pongIsDue = true
            pingDeadline = now + limits.pingTimeout
            flushLater()
        }
        arm()
    }

    // MARK: The end

    override func receivedEnd(isCut: Bool) {
        if !isOpen {
            return fail(
                HTTPClientFailure(
                    .notHTTP2,
                    firstBytes.isEmpty
                        ? "the server has closed the connection before it said anything"
                        : "not an HTTP/2 server: " + Self.answer(firstBytes)))
        }
        fail(HTTPClientFailure(.connectionLost, "the server has closed the connection\(goAwayText ?? "")"))
    }

    override func broke(_ failure: LinkFailure) {
        fail(HTTPClientFailure(failure, isOpen: isOpen))
    }

    func fail(_ failure: HTTPClientFailure) {
        guard !isTold else { return }
        isTold = true
        if failure.kind == .closed, isOpen {
            session.goAway(.noError)
            flush(session)
        }
        close()
        let open = streams
        streams.removeAll()
        overQueue.removeAll()
        for stream in open {
            stream.wire?.context = nil
            stream.detached()
            stream.index = -1
        }
        _ = session.abandonStreams()
        for stream in open { stream.failed(failure) }
        owner?.ended(failure)
    }
}
