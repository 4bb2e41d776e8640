import Base
import HTTP
import HTTP1
import HTTP2
import ProxyConfig
import Reactor
import Telemetry
import Transport

/// An HTTP/2 connection to an endpoint: carries as many streams at once as the endpoint allows.
final class HTTP2Upstream: Connection, HTTP2Connection {
    let host: WorkerHost
    let session: HTTP2Session
    var isDirty = false
    var isFlushing = false

    private var sides: [HTTP2UpstreamSide] = []
    /// Sides whose caller got something that is not flushed yet.
    private var touched: [HTTP2UpstreamSide] = []
    /// Upgrades that wait for the endpoint's SETTINGS, which say whether it takes them.
    private var waitingUpgrades: [HTTP2UpstreamSide] = []
    private let started: Instant
    private var connectDeadline = Instant.never
    private var idleDeadline = Instant.never
    private var pingDeadline = Instant.never
    private var ageDeadline = Instant.never
    private var pongIsDue = false
    private let keepalive: KeepaliveTimes?
    /// At most, whatever the endpoint allows.
    private let maxStreams: Int
    /// No new streams; it closes with its last one.
    private var isRetired = false
    private(set) var served = 0

    /// - Parameter opensTLS: false where the connection before it has done so.
    init(adopting descriptor: CInt, host: WorkerHost, isConnected: Bool, worker: Worker, opensTLS: Bool = true) {
        self.host = host
        let configuration = host.cluster.shared.configuration
        session = HTTP2Session(role: .client, limits: HTTP2Limits(configuration), pool: worker.http2Pool)
        keepalive = KeepaliveTimes(configuration.http2)
        maxStreams = Int(configuration.http2.maxConcurrentStreams)
        started = worker.loop.now
        super.init(adopting: descriptor, worker: worker)
        isConnecting = !isConnected
        if opensTLS, let session = host.makeTLS() { useTLS(session) }
        host.cluster.stats.upstreamCxHTTP2Total.increment()
        host.connectionBegan()
        if isConnecting || isHandshaking { connectDeadline = started + host.cluster.connectTimeout }
        if let age = configuration.maxConnectionAge { ageDeadline = started + Nanoseconds(age).spread(&worker.random) }
        armDeadline()
        flushLater()
    }

    var takesStreams: Bool {
        let limit = session.hasPeerSettings ? maxStreams : min(maxStreams, host.lastStreamLimit)
        return !isRetired && !isClosed && sides.count < limit && session.canOpenStream
    }

    func makeSide() -> HTTP2UpstreamSide {
        let side = worker.takeUpstreamSide()
        side.attach(self)
        side.index = sides.count
        sides.append(side)
        served += 1
        if sides.count == 1 {
            idleDeadline = .never
            if let keepalive {
                pingDeadline = worker.loop.now + keepalive.interval
                pongIsDue = false
                armDeadline()
            }
        }
        return side
    }

    func awaitSettings(_ side: HTTP2UpstreamSide) {
        waitingUpgrades.append(side)
    }

    // MARK: Frames in

    override func received(_ bytes: UnsafeRawBufferPointer) {
        var broken: HTTP2Error?
        do {
            try unsafe session.receive(bytes, now: worker.loop.now)
        } catch {
            broken = error
        }
        unsafe walk(bytes)
        guard !isClosed else { return }
        if let broken {
            // GOAWAY tells the endpoint what it did.
            flushSession()
            if !isClosed { sessionFailed(broken) }
            return
        }
        flushLater()
    }

    func sessionFailed(_ error: HTTP2Error) {
        host.cluster.stats.upstreamCxProtocolError.increment()
        host.cluster.stats.http2.add(error)
        fail(.protocolError(error))
    }

    func walk(_ bytes: UnsafeRawBufferPointer) {
        var index = 0
        while index < session.events.count, !isClosed {
            switch session.events[index] {
            case .interim(let wire, let head): side(wire)?.receivedInterim(head)
            case .head(let wire, let endStream):
                side(wire)?.receivedHead(endStream: endStream)
                // The stream may have given the side back, and another may have it: ask the wire again.
                if let side = side(wire) {
                    if endStream { side.receivedEnd() } else { touch(side) }
                }
            case .data(let wire, let range):
                if let side = side(wire) {
                    unsafe side.received(UnsafeRawBufferPointer(rebasing: bytes[range]))
                    touch(side)
                } else {
                    session.consume(wire, range.count)
                }
            case .trailers(let wire): side(wire)?.receivedTrailers()
            case .end(let wire): side(wire)?.receivedEnd()
            case .closed(let wire, let code, let byPeer, let isUnprocessed):
                side(wire)?.wasClosed(code, byPeer: byPeer, isUnprocessed: isUnprocessed)
            case .goAway: retire()
            case .settings: settingsArrived()
            case .settingsAcknowledged: break
            case .pong:
                if pongIsDue, let keepalive {
                    pongIsDue = false
                    pingDeadline = worker.loop.now + keepalive.interval
                    armDeadline()
                }
            case .malformedHead(let wire, let error):
                if let side = side(wire) { side.malformed(error) }
            }
            index += 1
        }
        session.removeEvents()
        flushTouched()
    }

    private func side(_ wire: HTTP2Stream) -> HTTP2UpstreamSide? {
        wire.context.map { unsafe unsafeDowncast($0, to: HTTP2UpstreamSide.self) }
    }

    private func settingsArrived() {
        host.lastStreamLimit = session.peerMaxConcurrentStreams
        // They were asked for before it was known how many the endpoint takes.
        for wire in session.heldBackStreams { side(wire)?.moveElsewhere() }
        guard !waitingUpgrades.isEmpty else { return }
        let waiting = waitingUpgrades
        waitingUpgrades.removeAll()
        for side in waiting { side.settingsArrived() }
    }

    private func touch(_ side: HTTP2UpstreamSide) {
        guard !side.isTouched, side.isOpen else { return }
        side.isTouched = true
        touched.append(side)
    }

    private func flushTouched() {
        guard !touched.isEmpty else { return }
        for side in touched {
            side.isTouched = false
            side.stream?.flushDownstream()
        }
        touched.removeAll(keepingCapacity: true)
    }

    // MARK: Sides

    func sideEnded(_ side: HTTP2UpstreamSide) {
        let last = sides.removeLast()
        if side.index < sides.count {
            sides[side.index] = last
            last.index = side.index
        }
        worker.give(side)
        if !isClosed { host.servePending() }
        guard sides.isEmpty, !isClosed else { return }
        pingDeadline = .never
        if isRetired { return flushLater() }
        idleDeadline = worker.loop.now + host.cluster.multiplexedIdleTime
        armDeadline()
    }

    func streamDrained(_ wire: HTTP2Stream) {
        side(wire)?.stream?.upstreamDrained()
    }

    func sessionFlushed() {
        if isRetired, sides.isEmpty { close() }
    }

    override func drained() {
        if !isFlushing { flushLater() }
    }

    /// Takes no new streams; ends with the last one.
    private func retire() {
        guard !isRetired else { return }
        isRetired = true
        host.retire(self)
        flushLater()
    }

    /// The endpoint is no member any more, or the connection is old enough.
    func drain() {
        guard !isRetired else { return }
        retire()
        session.goAway(.noError)
        flushLater()
    }

    // MARK: Time

    private func armDeadline() {
        let next = min(min(connectDeadline, idleDeadline), min(pingDeadline, ageDeadline))
        if next != .never { worker.loop.setDeadline(self, next) }
    }

    override func deadlineReached(now: Instant) {
        if now >= connectDeadline { return fail(.connectTimeout) }
        if now >= idleDeadline {
            host.cluster.stats.upstreamCxIdleTimeout.increment()
            drain()
        } else if now >= ageDeadline {
            ageDeadline = .never
            host.cluster.stats.upstreamCxMaxDurationReached.increment()
            drain()
        } else if now >= pingDeadline, let keepalive {
            if pongIsDue {
                host.cluster.stats.upstreamCxKeepaliveTimeout.increment()
                return fail(.closed(.timedOut, beforeAnyByte: false))
            }
            session.ping()
            pongIsDue = true
            pingDeadline = now + keepalive.timeout
            flushLater()
        }
        if !isClosed { armDeadline() }
    }

    // MARK: Opens, ends

    override func opened(_ failure: OpenFailure?) {
        if let failure { return fail(UpstreamFailure(failure)) }
        if let tls { host.handshakeDone(tls) }
        host.cluster.stats.upstreamCxConnect.record(nanoseconds: (worker.loop.now - started).count)
        connectDeadline = .never
        if let tls, tls.negotiatedProtocol == .http1 { return fail(.tls(.noCommonProtocol)) }
        flush()
        flushLater()
    }

    override func receivedEnd() {
        fail(.closed(nil, beforeAnyByte: true))
    }

    override func failed(_ error: SystemError) {
        fail(.closed(error, beforeAnyByte: true))
    }

    override func failed(_ error: TLSError) {
        fail(.tlsBroken(error, beforeAnyByte: true))
    }

    private func fail(_ failure: UpstreamFailure) {
        guard !isClosed else { return }
        let stats = host.cluster.stats
        switch failure {
        case .connect(let error): host.openFailed(.system(error))
        case .tls(let error): host.openFailed(.tls(error))
        case .connectTimeout:
            stats.upstreamCxConnectTimeout.increment()
            stats.upstreamCxConnectFail.increment()
            host.stats.cxConnectFail.increment()
        default:
            if !sides.isEmpty { stats.upstreamCxDestroyRemoteWithActiveRq.increment() }
        }
        let open = sides
        close()
        for side in open { side.connectionFailed(failure) }
    }

    override func close(reset: Bool = false) {
        guard !isClosed else { return }
        let stats = host.cluster.stats
        stats.upstreamCxDestroy.increment()
        if sawEnd { stats.upstreamCxDestroyRemote.increment() } else { stats.upstreamCxDestroyLocal.increment() }
        stats.upstreamCxRxBytesTotal.add(bytesRead)
        stats.upstreamCxTxBytesTotal.add(bytesWritten)
        stats.upstreamCxLength.record(nanoseconds: (worker.loop.now - started).count)
        stats.http2.add(session.counters)
        if let tls { host.keepTicket(of: tls) }
        super.close(reset: reset)
        host.retire(self)
        host.connectionEnded()
    }
}

/// One stream of an HTTP/2 connection to an endpoint.
final class HTTP2UpstreamSide: UpstreamSide {
    private(set) var stream: Stream?
    private(set) var isReadPaused = false
    private(set) var wasReused = false
    let mayRefuseUnprocessed = true
    /// Its place in the connection's list.
    var index = 0
    var isTouched = false

    private var owner: HTTP2Upstream?
    private var wire: HTTP2Stream?
    private var heldCredit = 0
    private var isUpgrade = false
    private var isTunnel = false
    private var sawResponse = false
    private var headEndedStream = false
    private var isAnswered = false
    private var requestIsComplete = false
    /// Of an upgrade that waits for SETTINGS.
    private var waitingHead: Head?

    var isOpen: Bool { owner != nil }
    private var session: HTTP2Session { owner!.session }

    func attach(_ owner: HTTP2Upstream) {
        self.owner = owner
        wasReused = owner.served > 0
        wire = nil
        isReadPaused = false
        heldCredit = 0
        isUpgrade = false
        isTunnel = false
        sawResponse = false
        headEndedStream = false
        isAnswered = false
        requestIsComplete = false
        waitingHead = nil
    }

    // MARK: Request out

    func begin(_ stream: Stream, head: Head, framing: Framing, isUpgrade: Bool) {
        guard let owner else { return }
        self.stream = stream
        self.isUpgrade = isUpgrade
        head.scheme = owner.tls == nil ? .http : .https
        if isUpgrade, !session.hasPeerSettings {
            waitingHead = head
            return owner.awaitSettings(self)
        }
        open(head, endStream: framing == .none && !isUpgrade)
    }

    func settingsArrived() {
        guard let head = waitingHead, stream != nil else { return }
        waitingHead = nil
        open(head, endStream: false)
    }

    private func open(_ head: Head, endStream: Bool) {
        if isUpgrade, !session.peerAllowsExtendedConnect { return fail(.noExtendedConnect) }
        requestIsComplete = endStream
        guard let wire = session.request(head, endStream: endStream, extendedConnect: isUpgrade ? head.upgradeProtocol : nil, context: self)
        else { return fail(.unprocessed(.refusedStream)) }
        self.wire = wire
        owner?.flushLater()
    }

    func sendBody(_ piece: UnsafeRawBufferPointer) {
        guard let wire, !requestIsComplete else { return }
        unsafe session.send(wire, piece)
        owner?.flushLater()
    }

    func endRequest(trailers: Head) {
        guard let wire, !requestIsComplete, !isUpgrade else { return }
        requestIsComplete = true
        session.end(wire, trailers: trailers)
        owner?.flushLater()
    }

    func flush() {
        owner?.flushLater()
    }

    var isCongested: Bool { (wire?.queuedBytes ?? 0) >= HTTP2Upstream.highWater }
    var unsentBytes: Int { wire?.queuedBytes ?? 0 }
    var hasUnsentOutput: Bool { waitingHead != nil || (wire?.queuedBytes ?? 0) > 0 }

    func enterTunnel() {
        isTunnel = true
    }

    func sendTunnelled(_ bytes: UnsafeRawBufferPointer) {
        unsafe sendBody(bytes)
    }

    func finishWriting() {
        guard let wire, !requestIsComplete else { return }
        requestIsComplete = true
        session.end(wire, trailers: nil)
        owner?.flushLater()
    }

    // MARK: Response in

    func receivedInterim(_ head: Head) {
        guard let stream else { return }
        stream.responseHead = head
        stream.interimReceived()
    }

    func receivedHead(endStream: Bool) {
        guard let stream, let wire else { return }
        sawResponse = true
        headEndedStream = endStream
        swap(&stream.responseHead, &wire.head)
        if isUpgrade, stream.responseHead.status / 100 == 2 {
            stream.responseHead.acceptUpgrade(of: stream.requestHead)
            return stream.responseHeadReceived(framing: .none, isTunnel: true)
        }
        let framing: Framing
        if endStream {
            framing = .none
        } else if let length = wire.contentLength {
            framing = .length(length)
        } else {
            framing = .chunked
        }
        stream.responseHeadReceived(framing: framing, isTunnel: false)
    }

    func received(_ piece: UnsafeRawBufferPointer) {
        guard let stream, let wire else { return }
        heldCredit += piece.count
        if isTunnel { unsafe stream.tunnelled(fromUpstream: piece) } else { unsafe stream.responseBody(piece) }
        if !isReadPaused { giveCredit(wire) }
    }

    func receivedTrailers() {
        guard let stream, let wire else { return }
        swap(&stream.responseTrailers, &wire.trailers)
    }

    func receivedEnd() {
        guard let stream, !isAnswered else { return }
        isAnswered = true
        if isTunnel { stream.tunnelEnded(fromDownstream: false) } else { stream.responseEnded() }
    }

    func malformed(_ error: HTTP2Error) {
        if let wire { session.reset(wire, .enhanceYourCalm) }
        fail(.protocolError(error))
    }

    func wasClosed(_ code: HTTP2ErrorCode, byPeer: Bool, isUnprocessed: Bool) {
        if isUnprocessed { return fail(.unprocessed(code)) }
        // Reset by us: its response broke the rules of messages.
        fail(byPeer ? .reset(code) : .protocolError(HTTP2Error(.protocolViolation, code: code)))
    }

    func connectionFailed(_ failure: UpstreamFailure) {
        switch failure {
        case .closed(let error, _): fail(.closed(error, beforeAnyByte: !sawResponse))
        case .tlsBroken(let error, _): fail(.tlsBroken(error, beforeAnyByte: !sawResponse))
        default: fail(failure)
        }
    }

    /// The request is not written, and would wait here until others end: another connection takes it.
    func moveElsewhere() {
        guard let stream, stream.maySendAgain else { return }
        reset(.cancel)
        fail(.unprocessed(.refusedStream))
    }

    private func fail(_ failure: UpstreamFailure) {
        let stream = stream
        self.stream = nil
        stream?.upstreamFailed(failure, on: self)
        detach()
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

    // MARK: Ends

    func release(requestWasSent: Bool) {
        // The answer is complete, the request is not: the endpoint need not wait for the rest.
        if !requestIsComplete || !isAnswered { reset(.noError) }
        detach()
    }

    func discardResponse() {
        if !(headEndedStream && requestIsComplete) { reset(.cancel) }
        detach()
    }

    func abandon() {
        reset(.cancel)
        detach()
    }

    private func reset(_ code: HTTP2ErrorCode) {
        guard let wire, let owner, !owner.isClosed else { return }
        session.reset(wire, code)
        owner.flushLater()
    }

    private func detach() {
        guard let owner else { return }
        if let wire {
            if heldCredit > 0, !owner.isClosed { session.consume(wire, heldCredit) }
            wire.context = nil
        }
        self.wire = nil
        stream = nil
        waitingHead = nil
        self.owner = nil
        owner.sideEnded(self)
    }
}
