import Base
import HTTP
import HTTP1
import ProxyConfig
import Reactor
import Resilience
import Telemetry
import Transport

/// An HTTP/1 connection to an endpoint: serves one stream at a time, rests in its host's pool between them.
final class HTTP1Upstream: Connection, UpstreamSide {
    let host: WorkerHost
    private var decoder: ResponseDecoder
    private var stash = ByteBuffer()
    private(set) var stream: Stream?
    /// Streams begun on it, the current one included.
    private(set) var served = 0
    private var sawResponseByte = false
    private var isTunnel = false
    /// The response is complete, its request perhaps not: nothing more may come.
    private var isAnswered = false
    private var isReusable = true
    /// In its host's pool.
    var isIdle = false
    /// The rest of a response that nobody wants is read here, so that the connection can be used again.
    private var discarded: Head?
    private var discardedBytes = 0
    private let started: Instant
    /// Too old for another request from here on (max_connection_duration).
    private let retireAt: Instant
    /// Of its host when it began to open.
    private let generation: Int
    private var requestFraming = Framing.none
    /// How long the endpoint keeps an idle connection, as far as we know: what it says in Keep-Alive, or the default.
    private var idleTime: Nanoseconds

    /// - Parameters:
    ///   - opensTLS: false where the connection before it has done so.
    ///   - generation: of the host when that one began; nil = it begins now.
    init(adopting descriptor: CInt, host: WorkerHost, isConnected: Bool, worker: Worker, opensTLS: Bool = true, generation: Int? = nil) {
        self.host = host
        self.generation = generation ?? host.generation
        decoder = ResponseDecoder(limits: MessageLimits())
        started = worker.loop.now
        idleTime = host.cluster.idleTime
        let age = host.cluster.shared.configuration.maxConnectionAge
        retireAt = if let age { worker.loop.now + Nanoseconds(age).spread(&worker.random) } else { .never }
        super.init(adopting: descriptor, worker: worker)
        isConnecting = !isConnected
        if opensTLS, let session = host.makeTLS() { useTLS(session) }
        host.cluster.stats.upstreamCxHTTP1Total.increment()
        host.connectionBegan()
        if isConnecting || isHandshaking { worker.loop.setDeadline(self, worker.loop.now + host.cluster.connectTimeout) }
    }

    var wasReused: Bool { served > 1 }
    var hasUnsentOutput: Bool { hasOutput }
    var unsentBytes: Int { output.count }
    var mayRefuseUnprocessed: Bool { false }

    // MARK: Requests out

    func begin(_ stream: Stream, head: Head, framing: Framing, isUpgrade: Bool) {
        self.stream = stream
        served += 1
        sawResponseByte = false
        isAnswered = false
        requestFraming = framing
        if !isConnecting, !isHandshaking { worker.loop.setDeadline(self, .never) }
        decoder.expectResponse(to: head.method, upgrade: isUpgrade)
        prepareOutput()
        MessageEncoder.encodeRequestHead(head, framing: framing, upgrade: isUpgrade, into: &output)
    }

    func sendBody(_ piece: UnsafeRawBufferPointer) {
        guard unsafe !piece.isEmpty else { return }
        if requestFraming == .chunked {
            prepareOutput()
            MessageEncoder.encodeChunkHeader(piece.count, into: &output)
            unsafe send(piece, suffix: "\r\n")
        } else {
            unsafe send(piece)
        }
    }

    func endRequest(trailers: Head) {
        if requestFraming == .chunked {
            prepareOutput()
            MessageEncoder.encodeLastChunk(trailers, into: &output)
        }
    }

    func sendTunnelled(_ bytes: UnsafeRawBufferPointer) {
        unsafe send(bytes)
    }

    func enterTunnel() {
        isTunnel = true
        isReusable = false
    }

    // MARK: Responses in

    override func received(_ bytes: UnsafeRawBufferPointer) {
        if isTunnel {
            unsafe stream?.tunnelled(fromUpstream: bytes)
            return
        }
        if discarded != nil { return unsafe discard(bytes) }
        guard stream != nil, !isAnswered else {
            // Nobody asked: a late or a forged answer must not reach the next request (attack case S13).
            host.cluster.stats.upstreamCxProtocolError.increment()
            return fail(.closed(nil, beforeAnyByte: false))
        }
        if stash.isEmpty {
            let consumed = unsafe process(bytes)
            if consumed < bytes.count, !isClosed { unsafe stash.append(copying: UnsafeRawBufferPointer(rebasing: bytes[consumed...])) }
        } else {
            unsafe stash.append(copying: bytes)
            // Taken out meanwhile: a response that ends with these bytes leaves nothing behind, and its connection can serve the next.
            var held = ByteBuffer()
            swap(&held, &stash)
            held.consume(unsafe process(held.unsafeBytes))
            if !held.isEmpty, !isClosed { swap(&held, &stash) }
        }
    }

    private func process(_ bytes: UnsafeRawBufferPointer) -> Int {
        let span = unsafe RawSpan(_unsafeBytes: bytes)
        var position = 0
        if unsafe !bytes.isEmpty { sawResponseByte = true }
        while !isClosed, let stream {
            do {
                switch try decoder.next(span, at: &position, head: stream.responseHead, trailers: stream.responseTrailers) {
                case .needMore:
                    stream.flushDownstream()
                    return position
                case .interim:
                    stream.interimReceived()
                case .head:
                    stream.responseHeadReceived(framing: decoder.framing, isTunnel: decoder.isTunnel)
                    if discarded != nil {
                        unsafe discard(UnsafeRawBufferPointer(rebasing: bytes[position...]))
                        return bytes.count
                    }
                    if isTunnel {
                        let early = unsafe UnsafeRawBufferPointer(rebasing: bytes[position...])
                        if unsafe !early.isEmpty { unsafe stream.tunnelled(fromUpstream: early) }
                        return bytes.count
                    }
                case .body(let range):
                    unsafe stream.responseBody(UnsafeRawBufferPointer(rebasing: bytes[range]))
                case .end:
                    if position < bytes.count { isReusable = false }
                    responseEnded(stream)
                    return bytes.count
                }
            } catch {
                fail(.malformed(error))
                return bytes.count
            }
        }
        return bytes.count
    }

    private func responseEnded(_ stream: Stream) {
        if !decoder.keepsAlive || decoder.framing == .untilClose || sawEnd { isReusable = false }
        isAnswered = true
        learnIdleTime(stream.responseHead)
        stream.responseEnded()
    }

    /// `Keep-Alive: timeout=5`: use the connection a little less long than the endpoint keeps it (the keep-alive race).
    private func learnIdleTime(_ head: Head) {
        guard isReusable, let field = head.first(.keepAlive) else { return }
        let text = head.bytes[field.value]
        guard let start = text.firstRange(of: Array("timeout=".utf8))?.upperBound else { return }
        var seconds: Int64 = 0
        for byte in text[start...].prefix(6) {
            guard byte &- 0x30 < 10 else { break }
            seconds = seconds * 10 + Int64(byte - 0x30)
        }
        if seconds > 0 { idleTime = min(idleTime, .milliseconds(max(500, seconds * 1000 - 1000))) }
    }

    /// The stream is done with this connection. `requestWasSent`: whole, so that the next request can follow.
    func release(requestWasSent: Bool) {
        stream = nil
        guard !isClosed else { return }
        guard isReusable, requestWasSent, !hasOutput, stash.isEmpty, !host.isGone, generation == host.generation, !worker.isDraining,
            worker.loop.now < retireAt
        else {
            return close()
        }
        // It may have been held back for a caller who reads slowly; the next one is another.
        resumeReading()
        if let tls { host.keepTicket(of: tls) }
        host.putIdle(self)
        worker.loop.setDeadline(self, worker.loop.now + idleTime)
    }

    func discardResponse() {
        stream = nil
        guard !isClosed else { return }
        guard isReusable, !hasOutput, !isReadPaused, decoder.framing != .untilClose, !decoder.isTunnel else { return close(reset: true) }
        discarded = Head()
        discardedBytes = 0
        worker.loop.setDeadline(self, worker.loop.now + Self.discardTime)
    }

    /// An error page is short and comes at once; what is longer costs more than another connection.
    private static let discardTime = Nanoseconds.milliseconds(250)
    private static let discardLimit = 64 * 1024

    private func discard(_ bytes: UnsafeRawBufferPointer) {
        guard let head = discarded else { return }
        discardedBytes += bytes.count
        unsafe stash.append(copying: bytes)
        guard discardedBytes <= Self.discardLimit else { return close(reset: true) }
        var held = ByteBuffer()
        swap(&held, &stash)
        let span = unsafe RawSpan(_unsafeBytes: held.unsafeBytes)
        var position = 0
        var isDone = false
        while !isDone {
            guard let event = try? decoder.next(span, at: &position, head: head, trailers: head) else { return close(reset: true) }
            switch event {
            case .needMore:
                held.consume(position)
                return swap(&held, &stash)
            case .end: isDone = true
            case .interim, .head, .body: break
            }
        }
        discarded = nil
        if position < held.count || !decoder.keepsAlive { isReusable = false }
        isAnswered = true
        release(requestWasSent: true)
    }

    /// The caller is gone, or the answer came too late: the connection cannot be used again.
    func abandon() {
        stream = nil
        close(reset: true)
    }

    // MARK: Ends

    override func opened(_ failure: OpenFailure?) {
        if let failure { return fail(UpstreamFailure(failure)) }
        if let tls { host.handshakeDone(tls) }
        host.cluster.stats.upstreamCxConnect.record(nanoseconds: (worker.loop.now - started).count)
        worker.loop.setDeadline(self, .never)
        flush()
    }

    override func failed(_ error: TLSError) {
        fail(.tlsBroken(error, beforeAnyByte: !sawResponseByte))
    }

    override func receivedEnd() {
        if isTunnel {
            stream?.tunnelEnded(fromDownstream: false)
            return
        }
        guard let stream else { return close() }  // Idle, or what it sent was not wanted.
        // Without close_notify the end may have been forged, and only the end tells how long this body is.
        if wasTruncated, decoder.framing == .untilClose { return fail(.closed(nil, beforeAnyByte: false)) }
        if isAnswered { return fail(.closed(nil, beforeAnyByte: false)) }
        if let complete = try? decoder.finish(), complete {
            isReusable = false
            responseEnded(stream)
        } else {
            fail(.closed(nil, beforeAnyByte: !sawResponseByte))
        }
    }

    override func failed(_ error: SystemError) {
        // An endpoint that answers early and closes makes our writes fail while its answer waits to be read: read it first.
        if tls == nil, stream != nil, !isTunnel, !sawEnd, error != SystemError.wouldBlock, !isReadPaused, drainBeforeFailing() { return }
        fail(.closed(error, beforeAnyByte: !sawResponseByte))
    }

    /// Reads what the endpoint sent before the connection broke. True = it ended the stream.
    ///
    /// Into a buffer of its own: the worker's may hold the caller's bytes whose writing failed.
    private func drainBeforeFailing() -> Bool {
        let current = stream
        unsafe withUnsafeTemporaryAllocation(byteCount: Self.drainBytes, alignment: 16) { room in
            while !isClosed, stream === current, case .bytes(let count) = unsafe Socket.read(descriptor, into: room) {
                bytesRead &+= UInt64(count)
                unsafe received(UnsafeRawBufferPointer(rebasing: room[..<count]))
            }
        }
        return isClosed || stream !== current
    }

    private static let drainBytes = 16 * 1024

    private func fail(_ failure: UpstreamFailure) {
        let stream = stream
        self.stream = nil
        let stats = host.cluster.stats
        switch failure {
        case .connect(let error): host.openFailed(.system(error))
        case .tls(let error): host.openFailed(.tls(error))
        case .connectTimeout:
            stats.upstreamCxConnectTimeout.increment()
            stats.upstreamCxConnectFail.increment()
            host.stats.cxConnectFail.increment()
        case .malformed(let error):
            stats.upstreamCxProtocolError.increment()
            stats.upstreamCxProtocolErrorReasons.increment(Int(error.reason.rawValue))
        default:
            if stream != nil { stats.upstreamCxDestroyRemoteWithActiveRq.increment() }
        }
        close()
        stream?.upstreamFailed(failure, on: self)
    }

    override func drained() {
        stream?.upstreamDrained()
    }

    override func deadlineReached(now: Instant) {
        if isConnecting || isHandshaking {
            fail(.connectTimeout)
        } else if discarded != nil {
            close(reset: true)
        } else if stream == nil {
            host.cluster.stats.upstreamCxIdleTimeout.increment()
            close()
        }
    }

    override func close(reset: Bool = false) {
        guard !isClosed else { return }
        let stats = host.cluster.stats
        stats.upstreamCxDestroy.increment()
        if sawEnd { stats.upstreamCxDestroyRemote.increment() } else { stats.upstreamCxDestroyLocal.increment() }
        stats.upstreamCxRxBytesTotal.add(bytesRead)
        stats.upstreamCxTxBytesTotal.add(bytesWritten)
        stats.upstreamCxLength.record(nanoseconds: (worker.loop.now - started).count)
        if let tls { host.keepTicket(of: tls) }
        super.close(reset: reset)
        host.closed(self)
        host.connectionEnded()
    }
}
