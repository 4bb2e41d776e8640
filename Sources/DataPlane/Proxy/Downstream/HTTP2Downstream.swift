import Base
import HTTP
import HTTP1
import HTTP2
import ProxyConfig
import Reactor
import Resilience
import Telemetry

/// A caller's HTTP/2 connection. Each of its streams has a side of its own.
final class HTTP2Downstream: DownstreamConnection, HTTP2Connection {
    let session: HTTP2Session
    var isDirty = false
    var isFlushing = false

    private enum Shutdown {
        case none
        /// The first GOAWAY is out: the caller should open no more streams, and those on their way are still served.
        case announced
        /// The last one: what comes now is not processed.
        case final
        /// Everything is answered; the end is sent, the caller's is awaited.
        case lingering
    }

    private let chain: WorkerFilterChain
    private let stats: DownstreamHTTPStats
    private var sides: [HTTP2DownstreamSide] = []
    /// Sides whose upstream got something that is not flushed yet.
    private var touched: [HTTP2DownstreamSide] = []
    private var shutdown = Shutdown.none
    /// The caller's SETTINGS and the answer to ours must come (attack case H13).
    private var settingsDeadline: Instant
    /// A head that has begun must end (attack case T8).
    private var headDeadline = Instant.never
    private var idleDeadline = Instant.never
    private var shutdownDeadline = Instant.never
    private var pingDeadline = Instant.never
    private var ageDeadline = Instant.never
    private var pongIsDue = false
    private var idleFrom: Instant
    private let keepalive: KeepaliveTimes?

    private static let settingsTime = Nanoseconds.seconds(10)
    /// Between the two GOAWAYs where the caller does not answer our PING.
    private static let announcementTime = Nanoseconds.seconds(1)
    private static let lingerTime = Nanoseconds.seconds(2)

    init(_ socket: AcceptedSocket, chain: WorkerFilterChain, filter: WorkerHTTPFilter) {
        self.chain = chain
        stats = filter.stats
        keepalive = KeepaliveTimes(filter.shared.configuration.http2)
        session = HTTP2Session(
            role: .server, limits: HTTP2Limits(filter.shared.configuration), pool: socket.listener.worker.http2Pool)
        let worker = socket.listener.worker
        settingsDeadline = worker.loop.now + Self.settingsTime
        idleFrom = socket.opened
        super.init(socket)
        if let age = filter.shared.configuration.maxConnectionAge {
            // Spread, so that connections that came together do not leave together.
            ageDeadline = worker.loop.now + Nanoseconds(age).spread(&worker.random)
        }
        stats.downstreamCxTotal.increment()
        stats.downstreamCxHTTP2Total.increment()
        stats.downstreamCxActive.increment()
        armDeadline()
        flushLater()
    }

    // MARK: Frames in

    override func received(_ bytes: UnsafeRawBufferPointer) {
        guard shutdown != .lingering else { return }
        var broken: HTTP2Error?
        do {
            try unsafe session.receive(bytes, now: worker.loop.now)
        } catch {
            broken = error
        }
        unsafe walk(bytes)
        guard !isClosed else { return }
        if let broken { return sessionFailed(broken) }
        if session.isReadingHead != (headDeadline != .never) { armHead() }
        flushLater()
    }

    func walk(_ bytes: UnsafeRawBufferPointer) {
        var index = 0
        while index < session.events.count, !isClosed {
            switch session.events[index] {
            case .head(let wire, let endStream): requestHead(wire, endStream: endStream)
            case .malformedHead(let wire, let error): refuse(wire, error)
            case .data(let wire, let range):
                let piece = unsafe UnsafeRawBufferPointer(rebasing: bytes[range])
                if let side = side(wire) {
                    unsafe side.received(piece)
                    touch(side)
                } else {
                    session.consume(wire, range.count)
                }
            case .trailers(let wire): side(wire)?.receivedTrailers()
            case .end(let wire): side(wire)?.receivedEnd()
            case .closed(let wire, let code, let byPeer, _): side(wire)?.wasClosed(code, byPeer: byPeer)
            case .settings: break
            case .settingsAcknowledged:
                settingsDeadline = .never
                armIdle()
            case .pong: ponged()
            case .goAway, .interim: break
            }
            index += 1
        }
        session.removeEvents()
        flushTouched()
    }

    private func side(_ wire: HTTP2Stream) -> HTTP2DownstreamSide? {
        wire.context.map { unsafe unsafeDowncast($0, to: HTTP2DownstreamSide.self) }
    }

    private func begin(_ wire: HTTP2Stream, _ filter: WorkerHTTPFilter, endStream: Bool) -> (HTTP2DownstreamSide, Stream) {
        let side = worker.takeDownstreamSide()
        let stream = worker.takeStream()
        stats.downstreamRqHTTP2Total.increment()
        stream.begin(downstream: side, filter: filter, now: worker.loop.now)
        swap(&stream.requestHead, &wire.head)
        stream.requestHead.scheme = tls == nil ? .http : .https
        side.begin(self, wire: wire, stream: stream, endStream: endStream)
        wire.context = side
        side.index = sides.count
        sides.append(side)
        if sides.count == 1 {
            idleDeadline = .never
            armKeepalive()
        }
        return (side, stream)
    }

    private func requestHead(_ wire: HTTP2Stream, endStream: Bool) {
        guard let filter = chain.httpFilter else { return session.reset(wire, .refusedStream) }
        let (side, stream) = begin(wire, filter, endStream: endStream)
        stream.requestHeadReceived()
        if endStream { side.receivedEnd() } else { touch(side) }
    }

    private func refuse(_ wire: HTTP2Stream, _ error: HTTP2Error) {
        guard let filter = chain.httpFilter else { return session.reset(wire, .refusedStream) }
        stats.downstreamRqTooLarge.increment()
        stats.http2.add(error)
        let (_, stream) = begin(wire, filter, endStream: true)
        stream.reply(status: 431, flags: .downstreamProtocolError, details: error.details, body: "\(error.message)")
        side(wire)?.receivedEnd()
    }

    private func touch(_ side: HTTP2DownstreamSide) {
        guard !side.isTouched, side.isOpen else { return }
        side.isTouched = true
        touched.append(side)
    }

    private func flushTouched() {
        guard !touched.isEmpty else { return }
        for side in touched {
            side.isTouched = false
            side.stream?.flushUpstream()
        }
        touched.removeAll(keepingCapacity: true)
    }

    /// The caller broke the protocol, or a budget: GOAWAY says which.
    func sessionFailed(_ error: HTTP2Error) {
        guard shutdown != .lingering else { return }
        stats.downstreamCxProtocolError.increment()
        stats.http2.add(error)
        worker.report(listener.name, peer, "HTTP/2: \(error.message)")
        abandonSides(flags: .downstreamProtocolError, details: error.details)
        guard !isClosed else { return }
        linger()
    }

    // MARK: Sides

    func sideEnded(_ side: HTTP2DownstreamSide) {
        let last = sides.removeLast()
        if side.index < sides.count {
            sides[side.index] = last
            last.index = side.index
        }
        worker.give(side)
        guard sides.isEmpty, !isClosed else { return }
        if shutdown == .final { return flushLater() }
        armIdle()
    }

    private func abandonSides(flags: ResponseFlags, details: StaticString) {
        let open = sides
        for side in open { side.stream?.downstreamFailed(flags: flags, details: details) }
    }

    func streamDrained(_ wire: HTTP2Stream) {
        side(wire)?.stream?.downstreamDrained()
    }

    func sessionFlushed() {
        if shutdown == .final, sides.isEmpty { linger() }
    }

    override func drained() {
        if !isFlushing { flushLater() }
        if shutdown == .lingering, sawEnd { close() }
    }

    // MARK: Time

    private func armHead() {
        guard session.isReadingHead, let filter = chain.httpFilter else { return headDeadline = .never }
        headDeadline = worker.loop.now + filter.requestHeadersTimeout
        armDeadline()
    }

    private func armIdle() {
        guard sides.isEmpty, shutdown == .none else { return }
        idleFrom = worker.loop.now
        idleDeadline = worker.loop.now + (chain.httpFilter?.idleTimeout ?? .zero)
        pingDeadline = .never
        armDeadline()
    }

    private func armKeepalive() {
        guard let keepalive, shutdown == .none else { return }
        pingDeadline = worker.loop.now + keepalive.interval
        pongIsDue = false
        armDeadline()
    }

    private func armDeadline() {
        let next = min(
            min(min(settingsDeadline, headDeadline), idleDeadline), min(min(shutdownDeadline, pingDeadline), ageDeadline))
        if next != .never { worker.loop.setDeadline(self, next) }
    }

    override func deadlineReached(now: Instant) {
        if shutdown == .lingering || now >= settingsDeadline { return close() }
        if now >= headDeadline {
            stats.downstreamRqHeaderTimeout.increment()
            session.goAway(.enhanceYourCalm)
            return sessionFailed(HTTP2Error(.headTimeout, code: .enhanceYourCalm))
        } else if now >= shutdownDeadline {
            advanceShutdown()
        } else if now >= idleDeadline {
            stats.downstreamCxIdleTimeout.increment()
            goAwayNow()
        } else if now >= ageDeadline {
            ageDeadline = .never
            stats.downstreamCxMaxDurationReached.increment()
            announceShutdown()
        } else if now >= pingDeadline, let keepalive {
            if pongIsDue {
                stats.downstreamCxKeepaliveTimeout.increment()
                abandonSides(flags: .downstreamConnectionTermination, details: "http2.ping_timeout")
                return close(reset: true)
            }
            session.ping()
            pongIsDue = true
            pingDeadline = now + keepalive.timeout
            flushLater()
        }
        if !isClosed { armDeadline() }
    }

    private func ponged() {
        if shutdown == .announced { return advanceShutdown() }
        guard pongIsDue else { return }
        armKeepalive()
    }

    // MARK: The end

    override func drain(after spread: Nanoseconds) {
        guard shutdown == .none else { return }
        shutdownDeadline = worker.loop.now + spread
        armDeadline()
    }

    private func advanceShutdown() {
        switch shutdown {
        case .none: announceShutdown()
        case .announced: goAwayNow()
        case .final, .lingering: shutdownDeadline = .never
        }
    }

    /// Two steps (RFC 9113 section 6.8): streams that the caller opened before it heard of the first are still served.
    private func announceShutdown() {
        guard shutdown == .none else { return }
        if sides.isEmpty { return goAwayNow() }
        shutdown = .announced
        session.announceShutdown()
        session.ping()
        shutdownDeadline = worker.loop.now + Self.announcementTime
        armDeadline()
        flushLater()
    }

    private func goAwayNow() {
        guard shutdown == .none || shutdown == .announced else { return }
        shutdown = .final
        shutdownDeadline = .never
        idleDeadline = .never
        session.goAway(.noError)
        flushLater()
    }

    private func linger() {
        shutdown = .lingering
        if session.wantsToWrite, !isWriteBlocked {
            prepareOutput()
            _ = session.flush(into: &output, limit: .max)
        }
        finishWriting()
        guard !isClosed else { return }
        if sawEnd, !hasOutput { return close() }
        worker.loop.setDeadline(self, worker.loop.now + Self.lingerTime)
    }

    // MARK: Overload

    override var idleSince: Instant? {
        shutdown == .lingering ? (hasOutput ? nil : accepted) : sides.isEmpty && !hasOutput ? idleFrom : nil
    }

    override func closeIdle() {
        if shutdown != .lingering {
            session.goAway(.noError)
            flushSession()
        }
        close()
    }

    /// Connections are too many: this one ends with the streams that it carries.
    fileprivate func endWithItsStreams() {
        announceShutdown()
    }

    override var bufferedBytes: Int { super.bufferedBytes + session.queuedBytes }

    /// What is framed already belongs to no stream any more: then the connection goes.
    override func resetHeaviest() -> Int {
        let bytes = bufferedBytes
        guard bytes > 0 else { return 0 }
        if let side = sides.max(by: { $0.queuedBytes < $1.queuedBytes }), side.queuedBytes > 0 {
            let queued = side.queuedBytes
            side.stream?.downstreamFailed(flags: .overloadManager, details: "overload_reset")
            return queued
        }
        abandonSides(flags: .overloadManager, details: "overload_reset")
        close(reset: true)
        return bytes
    }

    override func hasSlowBody(elapsed: Nanoseconds, rate: Int) -> Bool {
        var found = false
        for side in sides where side.lags(elapsed: elapsed, rate: rate) { found = true }
        return found
    }

    override func endSlowBodies() {
        let slow = sides.filter(\.isTooSlow)
        for side in slow {
            stats.downstreamRqIdleTimeout.increment()
            side.endSlowBody()
        }
    }

    override func receivedEnd() {
        if shutdown != .lingering { abandonSides(flags: .downstreamConnectionTermination, details: "downstream_remote_disconnect") }
        close()
    }

    override func failed(_ error: SystemError) {
        abandonSides(flags: .downstreamConnectionTermination, details: "downstream_remote_disconnect")
        close(reset: true)
    }

    override func close(reset: Bool = false) {
        guard !isClosed else { return }
        stats.downstreamCxActive.decrement()
        stats.downstreamCxDestroy.increment()
        if sawEnd { stats.downstreamCxDestroyRemote.increment() } else { stats.downstreamCxDestroyLocal.increment() }
        stats.downstreamCxRxBytesTotal.add(bytesRead)
        stats.downstreamCxTxBytesTotal.add(bytesWritten)
        stats.http2.add(session.counters)
        super.close(reset: reset)
        abandonSides(flags: .downstreamConnectionTermination, details: "downstream_local_disconnect")
    }
}

/// One stream of a caller's HTTP/2 connection.
final class HTTP2DownstreamSide: DownstreamSide {
    private(set) var stream: Stream?
    private(set) var requestFraming = Framing.none
    private(set) var wantsUpgrade = false
    private(set) var isReadPaused = false
    let expectsContinue = false
    let isInHead = false
    /// Its place in the connection's list.
    var index = 0
    var isTouched = false

    private var owner: HTTP2Downstream?
    private var wire: HTTP2Stream?
    /// Bytes of body that the upstream has not taken yet: the windows stay closed for as many.
    private var heldCredit = 0
    /// A head whose body is empty, as far as is known: it leaves with END_STREAM if the end comes next.
    private var pendingHead: Head?
    private var isTunnel = false
    private var requestIsComplete = false
    private var responseIsComplete = false
    private var meter = TransferMeter()
    fileprivate private(set) var isTooSlow = false

    var isOpen: Bool { wire != nil }
    var connection: DownstreamConnection { owner! }
    private var session: HTTP2Session { owner!.session }

    func begin(_ owner: HTTP2Downstream, wire: HTTP2Stream, stream: Stream, endStream: Bool) {
        self.owner = owner
        self.wire = wire
        self.stream = stream
        isReadPaused = false
        heldCredit = 0
        pendingHead = nil
        isTunnel = false
        requestIsComplete = false
        responseIsComplete = false
        isTooSlow = false
        wantsUpgrade = wire.isExtendedConnect
        if wantsUpgrade {
            stream.requestHead.becomeUpgrade(protocol: wire.protocolName)
            requestFraming = .none
        } else if endStream {
            requestFraming = .none
        } else if let length = wire.contentLength {
            requestFraming = .length(length)
        } else {
            requestFraming = .chunked
        }
    }

    // MARK: Request in

    func received(_ piece: UnsafeRawBufferPointer) {
        guard let stream, let wire else { return }
        heldCredit += piece.count
        if isTunnel { unsafe stream.tunnelled(fromDownstream: piece) } else { unsafe stream.requestBody(piece) }
        if !isReadPaused { giveCredit(wire) }
    }

    func receivedTrailers() {
        guard let stream, let wire else { return }
        swap(&stream.requestTrailers, &wire.trailers)
    }

    func receivedEnd() {
        guard let stream, !requestIsComplete else { return }
        requestIsComplete = true
        if isTunnel { return stream.tunnelEnded(fromDownstream: true) }
        if wantsUpgrade { return stream.downstreamFailed(flags: .downstreamProtocolError, details: "http2.tunnel_ended_early") }
        stream.requestEnded()
        if isOpen { self.stream?.flushUpstream() }
    }

    func wasClosed(_ code: HTTP2ErrorCode, byPeer: Bool) {
        guard let stream else { return }
        stream.downstreamFailed(
            flags: byPeer ? .downstreamConnectionTermination : .downstreamProtocolError,
            details: byPeer ? "http2.remote_reset" : "http2.violation.of.messaging.rule")
    }

    func pauseReading() {
        isReadPaused = true
    }

    func resumeReading() {
        guard isReadPaused else { return }
        isReadPaused = false
        if let wire { giveCredit(wire) }
    }

    private func giveCredit(_ wire: HTTP2Stream) {
        guard heldCredit > 0, let owner, !owner.isClosed else { return }
        session.consume(wire, heldCredit)
        heldCredit = 0
        owner.flushLater()
    }

    // MARK: Response out

    var isCongested: Bool { (wire?.queuedBytes ?? 0) >= HTTP2Downstream.highWater }

    func sendInterim(_ head: Head) {
        guard let wire else { return }
        session.respondInterim(wire, head)
    }

    func sendHead(_ head: Head, framing: Framing, isUpgrade: Bool, requestHead: Head) {
        guard let wire else { return }
        if let owner, owner.worker.overload.order.level >= .endKeepAlive { owner.endWithItsStreams() }
        if isUpgrade {
            head.endUpgrade()
            session.respond(wire, head, endStream: false)
        } else if framing == .none || requestHead.method == .head {
            responseIsComplete = true
            session.respond(wire, head, endStream: true)
        } else {
            if case .length(let length) = framing, !head.contains(.contentLength) {
                head.setDecimal(length, name: "content-length", known: .contentLength)
            }
            if framing == .length(0) { pendingHead = head } else { session.respond(wire, head, endStream: false) }
        }
        owner?.flushLater()
    }

    func sendBody(_ piece: UnsafeRawBufferPointer) {
        guard let wire, !responseIsComplete else { return }
        sendPendingHead(wire, endStream: false)
        unsafe session.send(wire, piece)
        owner?.flushLater()
    }

    func endResponse(trailers: Head) {
        guard let wire, !responseIsComplete else { return }
        responseIsComplete = true
        if pendingHead != nil, trailers.fields.isEmpty {
            sendPendingHead(wire, endStream: true)
        } else {
            sendPendingHead(wire, endStream: false)
            session.end(wire, trailers: trailers)
        }
        owner?.flushLater()
    }

    private func sendPendingHead(_ wire: HTTP2Stream, endStream: Bool) {
        guard let head = pendingHead else { return }
        pendingHead = nil
        session.respond(wire, head, endStream: endStream)
    }

    func flush() {
        owner?.flushLater()
    }

    func enterTunnel() {
        isTunnel = true
    }

    func sendTunnelled(_ bytes: UnsafeRawBufferPointer) {
        unsafe sendBody(bytes)
    }

    func finishWriting() {
        guard let wire, !responseIsComplete else { return }
        responseIsComplete = true
        session.end(wire, trailers: nil)
        owner?.flushLater()
    }

    func abandonKeepAlive() {}

    // MARK: Bodies that hardly move

    fileprivate var queuedBytes: Int { wire?.queuedBytes ?? 0 }

    fileprivate func lags(elapsed: Nanoseconds, rate: Int) -> Bool {
        guard let stream, !isTunnel, let patience = stream.patienceWithBodies else { return false }
        let givesNothing = !requestIsComplete && !isReadPaused && requestFraming.isLength
        let queued = queuedBytes
        isTooSlow = meter.lags(
            stream.started, moved: stream.requestBytes &+ stream.responseBytes &- UInt64(queued), isWaiting: givesNothing || queued > 0,
            elapsed: elapsed, rate: rate, patience: patience)
        return isTooSlow
    }

    fileprivate func endSlowBody() {
        guard let stream else { return }
        let details: StaticString = queuedBytes > 0 ? "response_read_too_slow" : "request_body_too_slow"
        if stream.hasResponseStarted {
            stream.downstreamFailed(flags: .streamIdleTimeout, details: details)
        } else {
            stream.reply(status: 408, flags: .streamIdleTimeout, details: details, body: "the request's body comes too slowly")
        }
    }

    // MARK: Ends

    func cut() {
        reset(.internalError)
    }

    func abandon() {
        reset(.cancel)
    }

    private func reset(_ code: HTTP2ErrorCode) {
        if let wire, let owner, !owner.isClosed {
            session.reset(wire, code)
            owner.flushLater()
        }
        detach()
    }

    func streamFinished() {
        if let wire, let owner, !owner.isClosed {
            // What the caller still sends nobody wants: tell, behind the response (RFC 9113 section 8.1).
            if !requestIsComplete { session.resetAfterEnd(wire, .noError) }
            owner.flushLater()
        }
        detach()
    }

    private func detach() {
        guard let owner, let wire else { return }
        if heldCredit > 0, !owner.isClosed { session.consume(wire, heldCredit) }
        wire.context = nil
        self.wire = nil
        stream = nil
        pendingHead = nil
        self.owner = nil
        owner.sideEnded(self)
    }
}
