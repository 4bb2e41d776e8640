import Base
import HTTP
import HTTP1
import ProxyConfig
import Reactor
import Resilience
import Telemetry

/// A caller's HTTP/1 connection: takes requests one after the other and gives each to a stream.
///
/// Requests that arrive ahead of their turn wait in `stash`, at most one read of them; then the connection is not read until the
/// response before them is out (RFC 9112 section 9.3.2). So pipelining is in order and bounded.
final class HTTP1Downstream: DownstreamConnection, DownstreamSide {
    private enum Phase {
        /// No byte of a request yet.
        case idle
        case head
        case body
        /// The request is complete, its response is not.
        case responding
        /// After an upgrade: bytes go through untouched.
        case tunnel
        /// The last response is out: what still comes is thrown away, so that the close does not destroy the response on its way.
        case lingering
    }

    private let chain: WorkerFilterChain
    private var decoder: RequestDecoder
    private var phase = Phase.idle
    private var stash = ByteBuffer()
    private(set) var stream: Stream?
    private var isProcessing = false
    private var keepsAlive = true
    private var responseFraming = Framing.none
    private var idleFrom: Instant
    private var meter = TransferMeter()
    private let stats: DownstreamHTTPStats
    /// Too old for another request from here on (max_connection_duration).
    private let retireAt: Instant

    /// How long a closing connection waits for another byte of what the caller is still sending, so that the caller gets the response
    /// instead of a reset; and for how long in all. (nginx has 5 and 30 seconds.)
    private static let lingerTime = Nanoseconds.seconds(2)
    private static let longestLinger = Nanoseconds.seconds(30)
    private var lingerEnd = Instant.never

    init(_ socket: AcceptedSocket, chain: WorkerFilterChain, filter: WorkerHTTPFilter) {
        self.chain = chain
        let configuration = filter.shared.configuration
        decoder = RequestDecoder(limits: MessageLimits(maxHeadBytes: configuration.maxHeaderBytes, maxFields: configuration.maxHeaderCount))
        stats = filter.stats
        let worker = socket.listener.worker
        retireAt =
            if let age = configuration.maxConnectionAge { socket.opened + Nanoseconds(age).spread(&worker.random) } else { .never }
        idleFrom = socket.opened
        super.init(socket)
        stats.downstreamCxTotal.increment()
        stats.downstreamCxHTTP1Total.increment()
        stats.downstreamCxActive.increment()
        awaitRequest()
    }

    var connection: DownstreamConnection { self }
    var requestFraming: Framing { decoder.framing }
    var wantsUpgrade: Bool { decoder.wantsUpgrade }
    var expectsContinue: Bool { decoder.expectsContinue }
    /// The request's head is not complete yet.
    var isInHead: Bool { phase == .head }

    // MARK: Requests in

    override func received(_ bytes: UnsafeRawBufferPointer) {
        switch phase {
        case .lingering:
            if !hasOutput { awaitEnd() }
        case .tunnel:
            unsafe stream?.tunnelled(fromDownstream: bytes)
        case .responding:
            // Ahead of its turn.
            unsafe stash.append(copying: bytes)
            pauseReading()
        case .idle, .head, .body:
            if stash.isEmpty {
                let consumed = unsafe process(bytes)
                if consumed < bytes.count, !isClosed {
                    unsafe stash.append(copying: UnsafeRawBufferPointer(rebasing: bytes[consumed...]))
                }
                // A response that was complete before its request was sent off whole: nobody else takes up the next one.
                if phase == .idle { goOn() }
            } else {
                unsafe stash.append(copying: bytes)
                processStash()
            }
            closeIfEnded()
        }
    }

    private func processStash() {
        var consumed: Int
        repeat {
            consumed = unsafe process(stash.unsafeBytes)
            stash.consume(consumed)
        } while consumed > 0 && phase == .idle && !stash.isEmpty && !isCongested && !isClosed
        if stash.isEmpty { stash.release() }
        if phase == .idle, stash.isEmpty, !isClosed { resumeReading() }
        closeIfEnded()
    }

    /// The caller sent its end long ago, and the last of its pipelined requests is answered.
    private func closeIfEnded() {
        if phase == .idle, sawEnd, stash.isEmpty, !isClosed { linger() }
    }

    /// Decodes as far as the turn of requests allows; returns how many bytes need not come again.
    private func process(_ bytes: UnsafeRawBufferPointer) -> Int {
        let span = unsafe RawSpan(_unsafeBytes: bytes)
        var position = 0
        isProcessing = true
        defer {
            // Inside, for it may end the stream, and the bytes that are left must not be taken up twice.
            stream?.flushUpstream()
            isProcessing = false
        }
        while !isClosed {
            switch phase {
            case .lingering: return bytes.count
            case .tunnel:
                unsafe stream?.tunnelled(fromDownstream: UnsafeRawBufferPointer(rebasing: bytes[position...]))
                return bytes.count
            case .responding:
                if position < bytes.count { pauseReading() }
                return position
            case .idle:
                guard position < bytes.count else { return position }
                if isCongested {
                    pauseReading()
                    return position
                }
                beginStream()
            case .head, .body: break
            }
            guard let stream else { return position }
            do {
                switch try decoder.next(span, at: &position, head: stream.requestHead, trailers: stream.requestTrailers) {
                case .needMore: return position
                case .interim: break
                case .head:
                    phase = .body
                    worker.loop.setDeadline(self, .never)
                    keepsAlive = decoder.keepsAlive
                    stream.requestHeadReceived()
                case .body(let range):
                    unsafe stream.requestBody(UnsafeRawBufferPointer(rebasing: bytes[range]))
                case .end:
                    phase = .responding
                    stream.requestEnded()
                }
            } catch {
                refuse(error, stream)
                return bytes.count
            }
        }
        return bytes.count
    }

    private func beginStream() {
        guard let filter = chain.httpFilter else { return close() }
        phase = .head
        let stream = worker.takeStream()
        self.stream = stream
        stats.downstreamRqHTTP1Total.increment()
        stream.begin(downstream: self, filter: filter, now: worker.loop.now)
        worker.loop.setDeadline(self, worker.loop.now + filter.requestHeadersTimeout)
    }

    private func refuse(_ error: HTTP1Error, _ stream: Stream) {
        stats.downstreamCxProtocolError.increment()
        stats.downstreamCxProtocolErrorReasons.increment(Int(error.reason.rawValue))
        if error.status == 431 || error.status == 414 { stats.downstreamRqTooLarge.increment() }
        keepsAlive = false
        if stream.hasResponseStarted {
            stream.downstreamFailed(flags: .downstreamProtocolError, details: error.details)
        } else {
            stream.reply(
                status: error.status, flags: .downstreamProtocolError, details: error.details, body: error.message(stream.requestHead))
        }
    }

    /// Nothing of a request is there: the idle timeout runs.
    private func awaitRequest() {
        phase = .idle
        idleFrom = worker.loop.now
        worker.loop.setDeadline(self, worker.isDraining ? worker.loop.now : worker.loop.now + (chain.httpFilter?.idleTimeout ?? .zero))
    }

    // MARK: Responses out

    func sendInterim(_ head: Head) {
        prepareOutput()
        MessageEncoder.encodeInterimHead(head, into: &output)
    }

    /// - Parameter framing: how the upstream framed the body; HTTP/1.0 callers get what they can read.
    func sendHead(_ head: Head, framing: Framing, isUpgrade: Bool, requestHead: Head) {
        if worker.endsKeepAlive || listener.isClosing || worker.loop.now >= retireAt { keepsAlive = false }
        // What follows a refused upgrade or CONNECT may be of the other protocol, or a request that somebody smuggles past whoever
        // believes so (attack case S16): it is nothing that we read.
        if decoder.wantsUpgrade && !isUpgrade || requestHead.method == .connect { keepsAlive = false }
        // A caller that still waits for "100 Continue" may or may not send its body now: the connection cannot be trusted with another.
        if phase == .body, decoder.expectsContinue, !(stream?.hasSentContinue ?? false) { keepsAlive = false }
        // HTTP/2 can end a message with its head. Here a length has to say so, or the caller waits for the end of the connection.
        let isBodiless = head.status == 204 || head.status == 304 || requestHead.method == .head || requestHead.method == .connect
        let framing = framing == .none && !isUpgrade && !isBodiless ? .length(0) : framing
        prepareOutput()
        responseFraming = MessageEncoder.encodeResponseHead(
            head, framing: framing, keepAlive: keepsAlive, toMinorVersion: requestHead.minorVersion, upgrade: isUpgrade, into: &output)
        if responseFraming == .untilClose { keepsAlive = false }
    }

    func sendBody(_ piece: UnsafeRawBufferPointer) {
        guard unsafe !piece.isEmpty else { return }
        if responseFraming == .chunked {
            prepareOutput()
            MessageEncoder.encodeChunkHeader(piece.count, into: &output)
            unsafe send(piece, suffix: "\r\n")
        } else {
            unsafe send(piece)
        }
    }

    func endResponse(trailers: Head) {
        if responseFraming == .chunked {
            prepareOutput()
            MessageEncoder.encodeLastChunk(trailers, into: &output)
        }
    }

    /// Answers without a stream's help: nothing more will be read as a request.
    func abandonKeepAlive() {
        keepsAlive = false
    }

    func cut() {
        close(reset: true)
    }

    func abandon() {
        close()
    }

    func sendTunnelled(_ bytes: UnsafeRawBufferPointer) {
        unsafe send(bytes)
    }

    func enterTunnel() {
        phase = .tunnel
        worker.loop.setDeadline(self, .never)
        if !stash.isEmpty {
            let early = unsafe stash.unsafeBytes
            unsafe stream?.tunnelled(fromDownstream: early)
            stash.release()
        }
        resumeReading()
    }

    /// The stream is over, both ways. Goes on with the next request, or closes.
    func streamFinished() {
        stream = nil
        flush()
        guard !isClosed else { return }
        guard keepsAlive, !(sawEnd && stash.isEmpty) else { return linger() }
        awaitRequest()
        goOn()
    }

    /// Takes up the next request, if it has come and the caller has taken the responses before it: who only sends would otherwise fill
    /// our memory with responses.
    private func goOn() {
        guard !isProcessing, !isCongested else { return }
        if !stash.isEmpty { processStash() }
        if phase != .responding || stash.isEmpty { resumeReading() }
    }

    private func linger() {
        phase = .lingering
        lingerEnd = worker.loop.now + Self.longestLinger
        finishWriting()
        guard !isClosed else { return }
        if sawEnd, !hasOutput { return close() }
        if !hasOutput {
            awaitEnd()
        } else {
            // The caller reads slowly: he has the time of an idle connection to take the rest.
            worker.loop.setDeadline(self, worker.loop.now + (chain.httpFilter?.idleTimeout ?? Self.longestLinger))
        }
        resumeReading()
    }

    private func awaitEnd() {
        worker.loop.setDeadline(self, min(worker.loop.now + Self.lingerTime, lingerEnd))
    }

    // MARK: Ends

    override func receivedEnd() {
        switch phase {
        case .idle: close()
        case .lingering: if !hasOutput { close() }
        case .head, .body: stream?.downstreamFailed(flags: .downstreamConnectionTermination, details: "downstream_remote_disconnect")
        // A caller may close its sending side and still wait for the answer (RFC 9112 section 9.6).
        case .responding: break
        case .tunnel: stream?.tunnelEnded(fromDownstream: true)
        }
    }

    override func failed(_ error: SystemError) {
        if let stream {
            stream.downstreamFailed(flags: .downstreamConnectionTermination, details: "downstream_remote_disconnect")
        } else {
            close()
        }
    }

    override func drained() {
        switch phase {
        case .lingering: if sawEnd { close() } else { awaitEnd() }
        case .idle: goOn()
        case .head, .body, .responding, .tunnel: stream?.downstreamDrained()
        }
    }

    override func deadlineReached(now: Instant) {
        switch phase {
        case .idle:
            if !worker.isDraining { stats.downstreamCxIdleTimeout.increment() }
            close()
        case .head:
            stats.downstreamRqHeaderTimeout.increment()
            keepsAlive = false
            stream?.reply(
                status: 408, flags: .downstreamProtocolError, details: "request_header_timeout",
                body: "request headers not complete in time")
        case .lingering: close()
        case .body, .responding, .tunnel: break
        }
    }

    /// An idle connection closes now, a busy one after its response. `spread` staggers the idle ones.
    override func drain(after spread: Nanoseconds) {
        if phase == .idle { worker.loop.setDeadline(self, worker.loop.now + spread) }
    }

    // MARK: Overload

    override var idleSince: Instant? {
        switch phase {
        case .idle: stash.isEmpty && !hasOutput ? idleFrom : nil
        case .lingering: hasOutput ? nil : accepted
        case .head, .body, .responding, .tunnel: nil
        }
    }

    override var bufferedBytes: Int { super.bufferedBytes + stash.count }

    override func resetHeaviest() -> Int {
        let bytes = bufferedBytes
        guard bytes > 0 else { return 0 }
        endAtOnce(flags: .overloadManager, details: "overload_reset")
        return bytes
    }

    private func endAtOnce(flags: ResponseFlags, details: StaticString) {
        guard let stream else { return close(reset: true) }
        Socket.resetOnClose(descriptor)
        stream.downstreamFailed(flags: flags, details: details)
    }

    override func hasSlowBody(elapsed: Nanoseconds, rate: Int) -> Bool {
        guard let stream, phase != .tunnel, let patience = stream.patienceWithBodies else { return false }
        let givesNothing =
            phase == .body && !isReadPaused && decoder.framing.isLength && !(decoder.expectsContinue && !stream.hasSentContinue)
        let takesNothing = isWriteBlocked
        let untaken = takesNothing ? Socket.unacknowledged(descriptor) : 0
        return meter.lags(
            stream.started, moved: bytesRead &+ bytesWritten &- UInt64(untaken), isWaiting: givesNothing || takesNothing, elapsed: elapsed,
            rate: rate, patience: patience)
    }

    override func endSlowBodies() {
        guard let stream else { return }
        stats.downstreamRqIdleTimeout.increment()
        if phase == .body, !stream.hasResponseStarted {
            keepsAlive = false
            stream.reply(
                status: 408, flags: .streamIdleTimeout, details: "request_body_too_slow", body: "the request's body comes too slowly")
        } else {
            endAtOnce(flags: .streamIdleTimeout, details: phase == .body ? "request_body_too_slow" : "response_read_too_slow")
        }
    }

    override func close(reset: Bool = false) {
        guard !isClosed else { return }
        stats.downstreamCxActive.decrement()
        stats.downstreamCxDestroy.increment()
        if sawEnd { stats.downstreamCxDestroyRemote.increment() } else { stats.downstreamCxDestroyLocal.increment() }
        stats.downstreamCxRxBytesTotal.add(bytesRead)
        stats.downstreamCxTxBytesTotal.add(bytesWritten)
        stream = nil
        super.close(reset: reset)
    }
}
