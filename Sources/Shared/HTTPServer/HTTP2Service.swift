import Base
import HTTP
import HTTP2
import HTTPTransport
import Reactor

/// HTTP/2: many exchanges at once.
final class HTTP2Service: Service {
    private enum Shutdown {
        case none
        /// The first GOAWAY is out: the caller should open no more streams, and those on their way are still served.
        case announced
        /// The last one: what comes now is not processed.
        case final
    }

    /// A response that its handler has ended and that has not left yet.
    private struct Leaving {
        let wire: HTTP2Stream
        var sentBytes: Int
        var since: Instant
    }

    private let session: HTTP2Session
    private var exchanges: [HTTPExchange] = []
    private var leaving: [Leaving] = []
    /// Exchanges with more than `maxQueuedBytes` waiting.
    private var overQueue: [HTTPExchange] = []
    private var shutdown = Shutdown.none
    private var settingsDeadline: Instant
    private var pingDeadline = Instant.never
    private var pongIsDue = false
    private var shutdownDeadline = Instant.never
    /// When to look for streams whose caller reads nothing.
    private var stallCheck = Instant.never
    /// When to look for bodies that are late.
    private var bodyCheck = Instant.never

    /// Between the two GOAWAYs where the caller does not answer our PING.
    private static let announcementTime = Nanoseconds.seconds(1)

    override init(_ connection: ServerConnection) {
        let server = connection.server
        var limits = HTTP2Limits()
        limits.maxConcurrentStreams = server.limits.maxStreamsPerConnection
        limits.initialStreamWindow = server.limits.streamWindow
        limits.connectionWindow = max(server.limits.connectionWindow, 65535)
        limits.maxHeadBytes = server.limits.maxHeadBytes
        limits.maxFields = server.limits.maxFields
        // Every stream in use, with heads of a few KiB.
        limits.maxHeaderMemory = max(limits.maxHeaderMemory, 8192 * limits.maxConcurrentStreams)
        session = HTTP2Session(role: .server, limits: limits, pool: server.buffers.http2)
        settingsDeadline = server.loop.now + server.limits.pingTimeout
        super.init(connection)
        server.count(\.http2Connections)
        connection.flushLater()
    }

    override var isIdle: Bool { exchanges.isEmpty && leaving.isEmpty }

    // MARK: Frames in

    override func received(_ bytes: UnsafeRawBufferPointer) {
        var broken: HTTP2Error?
        do {
            try unsafe session.receive(bytes, now: now)
        } catch {
            broken = error
        }
        unsafe walk(bytes)
        guard !connection.isClosed else { return }
        if let broken { return failed(broken) }
        connection.flushLater()
    }

    private func walk(_ bytes: UnsafeRawBufferPointer) {
        var index = 0
        while index < session.events.count, !connection.isClosed {
            switch session.events[index] {
            case .head(let wire, let endStream): began(wire, endStream: endStream)
            case .malformedHead(let wire, let error): refuse(wire, error)
            case .data(let wire, let range):
                let piece = unsafe UnsafeRawBufferPointer(rebasing: bytes[range])
                // What nobody wants, or has taken, opens the window again.
                guard let exchange = exchange(wire), unsafe !exchange.receivedBody(piece) else {
                    session.consume(wire, range.count)
                    break
                }
            case .end(let wire): exchange(wire)?.receivedEnd()
            case .closed(let wire, let code, let byPeer, _):
                if let exchange = exchange(wire) {
                    detach(exchange)
                    exchange.closed(byPeer ? .resetByPeer(code: code.rawValue) : .protocolError("\(code.name)"))
                }
            case .settingsAcknowledged:
                settingsDeadline = .never
            case .pong: ponged()
            case .settings, .goAway, .interim, .trailers: break
            }
            index += 1
        }
        session.removeEvents()
    }

    private func exchange(_ wire: HTTP2Stream) -> HTTPExchange? {
        wire.context as? HTTPExchange
    }

    private func began(_ wire: HTTP2Stream, endStream: Bool) {
        let head = Head()
        let received = wire.head
        wire.head = head
        received.scheme = connection.tls == nil ? .http : .https
        server.count(\.requests)
        let exchange = HTTPExchange(received, service: self)
        exchange.wire = wire
        wire.context = exchange
        exchange.index = exchanges.count
        exchanges.append(exchange)
        if exchanges.count == 1 { armPing() }
        server.handler(exchange)
        if endStream { exchange.receivedEnd() }
    }

    private func refuse(_ wire: HTTP2Stream, _ error: HTTP2Error) {
        server.report(.protocolError, connection.peer, error.message)
        let answer = Head()
        answer.status = error.status
        answer.append(field: "date", server.date)
        session.respond(wire, answer, endStream: true)
        session.resetAfterEnd(wire, .noError)
    }

    /// The caller broke the protocol, or a budget: GOAWAY says which.
    private func failed(_ error: HTTP2Error) {
        let text = "HTTP/2: \(error.message)" + (session.failureText.isEmpty ? "" : " \(session.failureText)")
        server.report(.protocolError, connection.peer, text)
        abandon(.protocolError(text))
        guard !connection.isClosed else { return }
        if session.wantsToWrite { connection.flush(session) }
        connection.linger()
    }

    // MARK: Responses out

    override func respond(_ exchange: HTTPExchange, _ head: Head, body: [UInt8]) {
        guard let wire = exchange.wire else { return }
        let hasNoBody = head.status == 204 || head.status == 304
        if !hasNoBody, !head.contains(.contentLength) { head.append(field: "content-length", "\(body.count)") }
        let isEmpty = body.isEmpty || hasNoBody || exchange.head.method == .head
        if !isEmpty, session.queuedBytes > 0, exceeds(body.count) {
            // A caller who asks on and reads nothing: this answer does not wait for him, too.
            server.report(.cutOff, connection.peer, "does not read; \(session.queuedBytes) bytes were waiting before \(exchange.path)")
            return reset(exchange, .enhanceYourCalm)
        }
        session.respond(wire, head, endStream: isEmpty)
        if !isEmpty {
            unsafe body.withUnsafeBytes { unsafe session.send(wire, $0) }
            session.end(wire)
            connection.countQueued(session.queuedBytes)
        }
        ended(exchange, wire)
    }

    private func exceeds(_ more: Int) -> Bool {
        session.queuedBytes + more > limits.maxConnectionQueuedBytes || server.queuedBytes + more > limits.maxTotalQueuedBytes
    }

    override func begin(_ exchange: HTTPExchange, _ head: Head) {
        guard let wire = exchange.wire else { return }
        session.respond(wire, head, endStream: false)
        connection.flushLater()
    }

    override func send(_ exchange: HTTPExchange, _ bytes: [UInt8]) {
        guard let wire = exchange.wire, exchange.head.method != .head, !exchange.isOverQueue else { return }
        let waited = wire.queuedBytes > 0
        unsafe bytes.withUnsafeBytes { unsafe session.send(wire, $0) }
        connection.countQueued(session.queuedBytes)
        if wire.queuedBytes > limits.maxQueuedBytes || session.queuedBytes > limits.maxConnectionQueuedBytes
            || (waited && server.queuedBytes > limits.maxTotalQueuedBytes)
        {
            exchange.isOverQueue = true
            overQueue.append(exchange)
        }
        connection.flushLater()
    }

    override func end(_ exchange: HTTPExchange, trailers: Head?) {
        guard let wire = exchange.wire else { return }
        session.end(wire, trailers: trailers)
        ended(exchange, wire)
    }

    private func ended(_ exchange: HTTPExchange, _ wire: HTTP2Stream) {
        // What the caller still sends nobody wants: tell, behind the response (RFC 9113 section 8.1).
        if !exchange.requestIsComplete { session.resetAfterEnd(wire, .noError) }
        leaving.append(Leaving(wire: wire, sentBytes: wire.sentBytes, since: now))
        detach(exchange)
        connection.flushLater()
    }

    override func reset(_ exchange: HTTPExchange, _ code: HTTP2ErrorCode) {
        guard let wire = exchange.wire else { return }
        session.reset(wire, code)
        detach(exchange)
        connection.flushLater()
    }

    override func queuedBytes(_ exchange: HTTPExchange) -> Int { exchange.wire?.queuedBytes ?? 0 }

    override func consumed(_ exchange: HTTPExchange, _ count: Int) {
        guard let wire = exchange.wire else { return }
        session.consume(wire, count)
        connection.flushLater()
    }

    private func detach(_ exchange: HTTPExchange) {
        guard let wire = exchange.wire else { return }
        let held = exchange.heldBytes
        if held > 0 { session.consume(wire, held) }
        wire.context = nil
        exchange.wire = nil
        let last = exchanges.removeLast()
        if exchange.index < exchanges.count {
            exchanges[exchange.index] = last
            last.index = exchange.index
        }
        exchange.index = -1
        if exchanges.isEmpty { connection.becameIdle() }
    }

    // MARK: Turns

    override func flushDue() {
        cutOffOverQueue()
        guard !connection.isClosed else { return }
        let isEmpty = connection.flush(session)
        guard !connection.isClosed else { return }
        tellDrained()
        if !connection.isClosed, !session.events.isEmpty { unsafe walk(UnsafeRawBufferPointer(start: nil, count: 0)) }
        guard !connection.isClosed else { return }
        if let failure = session.failure { return failed(failure) }
        connection.countQueued(session.queuedBytes)
        leaving.removeAll { $0.wire.isClosed || $0.wire.queuedBytes == 0 }
        if session.queuedBytes == 0 {
            stallCheck = .never
        } else if stallCheck == .never {
            stallCheck = now + checkInterval
        }
        if shutdown == .final, exchanges.isEmpty, isEmpty, session.openStreams == 0 { return connection.linger() }
        connection.arm()
    }

    private func tellDrained() {
        guard !session.drainedStreams.isEmpty else { return }
        let drained = session.drainedStreams
        session.removeDrainedStreams()
        for wire in drained where !connection.isClosed {
            wire.releaseQueue()
            exchange(wire)?.drained()
        }
    }

    override func drained() {
        connection.flushLater()
    }

    private func cutOffOverQueue() {
        guard !overQueue.isEmpty else { return }
        let waiting = overQueue
        overQueue.removeAll()
        for exchange in waiting { cutOff(exchange) }
    }

    private func cutOff(_ exchange: HTTPExchange) {
        guard let wire = exchange.wire else { return }
        let waiting = wire.queuedBytes
        server.report(.cutOff, connection.peer, "does not read \(exchange.path); \(waiting) bytes were waiting")
        session.reset(wire, .enhanceYourCalm)
        wire.releaseQueue()
        detach(exchange)
        connection.flushLater()
        exchange.closed(.cutOff(waitingBytes: waiting))
    }

    // MARK: Time

    private var checkInterval: Nanoseconds { Nanoseconds(count: max(limits.writeTimeout.count / 4, 1_000_000)) }

    override var deadline: Instant {
        var next = min(settingsDeadline, min(pingDeadline, min(shutdownDeadline, stallCheck)))
        if isIdle, shutdown == .none { next = min(next, connection.idleSince + limits.idleTimeout) }
        return min(next, bodyCheck)
    }

    override func bodyIsAwaited(until deadline: Instant) {
        bodyCheck = min(bodyCheck, deadline)
        super.bodyIsAwaited(until: deadline)
    }

    private func checkBodies(_ now: Instant) {
        for exchange in exchanges where now >= exchange.bodyDeadline { exchange.bodyIsLate() }
        bodyCheck = exchanges.reduce(.never) { min($0, $1.bodyDeadline) }
    }

    override func deadlineReached(now: Instant) {
        if now >= settingsDeadline || (pongIsDue && now >= pingDeadline) {
            let text = pongIsDue ? "did not answer PING" : "did not answer SETTINGS"
            server.report(.timedOut, connection.peer, text)
            return connection.end(.connectionLost("the caller \(text) for \(limits.pingTimeout.seconds) s"), reset: true)
        }
        if now >= shutdownDeadline { advanceShutdown() }
        if now >= pingDeadline {
            session.ping()
            pongIsDue = true
            pingDeadline = now + limits.pingTimeout
            connection.flushLater()
        }
        if now >= stallCheck { checkStalls(now) }
        if now >= bodyCheck { checkBodies(now) }
        if isIdle, shutdown == .none, now >= connection.idleSince + limits.idleTimeout { goAway() }
    }

    private func armPing() {
        pongIsDue = false
        pingDeadline = limits.pingInterval > .zero ? now + limits.pingInterval : .never
        connection.arm()
    }

    private func ponged() {
        if shutdown == .announced { advanceShutdown() }
        guard pongIsDue else { return }
        pongIsDue = false
        pingDeadline = exchanges.isEmpty ? .never : now + limits.pingInterval
    }

    private func checkStalls(_ now: Instant) {
        stallCheck = now + checkInterval
        var stalled: [HTTPExchange] = []
        for exchange in exchanges {
            guard let wire = exchange.wire else { continue }
            if wire.queuedBytes == 0 {
                exchange.stalledSince = .never
            } else if exchange.stalledSince == .never || exchange.sentBytes != wire.sentBytes {
                exchange.stalledSince = now
                exchange.sentBytes = wire.sentBytes
            } else if now - exchange.stalledSince >= limits.writeTimeout {
                stalled.append(exchange)
            }
        }
        for exchange in stalled { cutOff(exchange) }
        for index in leaving.indices {
            let wire = leaving[index].wire
            if wire.sentBytes != leaving[index].sentBytes {
                leaving[index].sentBytes = wire.sentBytes
                leaving[index].since = now
            } else if now - leaving[index].since >= limits.writeTimeout, !wire.isClosed {
                server.report(.cutOff, connection.peer, "does not read an answer; \(wire.queuedBytes) bytes were waiting")
                session.reset(wire, .enhanceYourCalm)
                connection.flushLater()
            }
        }
    }

    // MARK: The end

    override func drain() {
        guard shutdown == .none else { return }
        // Two steps (RFC 9113 section 6.8): streams that the caller opened before it heard of the first are still served.
        guard !exchanges.isEmpty else { return goAway() }
        shutdown = .announced
        session.announceShutdown()
        session.ping()
        shutdownDeadline = now + Self.announcementTime
        connection.flushLater()
        connection.arm()
    }

    private func advanceShutdown() {
        shutdownDeadline = .never
        if shutdown == .announced { goAway() }
    }

    private func goAway() {
        shutdown = .final
        session.goAway(.noError)
        connection.flushLater()
    }

    override func receivedEnd() {
        connection.end(.connectionLost("the caller has closed the connection"), reset: false)
    }

    override func abandon(_ closure: HTTPClosure) {
        let open = exchanges
        exchanges.removeAll()
        leaving.removeAll()
        for exchange in open {
            exchange.wire?.context = nil
            exchange.wire = nil
            exchange.index = -1
        }
        if connection.isClosed { _ = session.abandonStreams() }
        for exchange in open { exchange.closed(closure) }
    }
}
