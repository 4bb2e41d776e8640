import Base
import HTTP
import HTTP1
import ProxyConfig
import Reactor
import Resilience
import Routing
import Telemetry

/// One request from its first byte to the last byte of its response: the life of a request in one file, read top down.
///
/// `begin` → `requestHeadReceived` (route, pick, lease, encode) → `requestBody`, `requestEnded` → `responseHeadReceived` →
/// `responseBody`, `responseEnded` → `finish`. It knows neither codec nor socket: both sides tell it what happened, and it tells them
/// what to do. What goes wrong on the way ends in exactly one of `reply` (nothing was sent yet) or `downstream.cut`.
final class Stream: Timed {
    private enum Attempt {
        case none
        case underWay
        /// Its one outcome has been recorded.
        case over
    }

    // HTTP/1 decodes into them; HTTP/2 has heads of its own and exchanges them.
    var requestHead = Head()
    var requestTrailers = Head()
    var responseHead = Head()
    var responseTrailers = Head()

    /// Set from `begin` to `finish`.
    private(set) var filter: WorkerHTTPFilter! = nil
    private(set) var downstream: (any DownstreamSide)?
    private var upstream: (any UpstreamSide)?
    @safe private unowned(unsafe) let worker: Worker

    private(set) var route: CompiledRoute?
    private var routeStats: RouteStats?
    private(set) var cluster: WorkerCluster?
    private(set) var host: WorkerHost?
    private var pickIsCounted = false
    /// While the destination of the request is looked up (ORIGINAL_DST), or the protocol of its connection is negotiated.
    private var waiter: StreamWaiter?
    /// Body that came while the stream waited, and what an endpoint may refuse unprocessed: kept until it answers.
    private var heldBody = ByteBuffer()
    /// `heldBody` is all of the body so far.
    private var holdsBody = true
    private static let maxHeldBody = 64 * 1024

    private var requestFraming = Framing.none
    private var isGRPC = false
    private var isUpgrade = false
    private var isTunnel = false
    private var requestIsComplete = false
    private var requestIsForwarded = false
    private(set) var hasResponseStarted = false
    private(set) var hasSentContinue = false
    private var responseIsComplete = false
    private var isOver = false
    private var attempt = Attempt.none
    private(set) var attempts = 0
    private var raceWasRetried = false
    private var refusals = 0
    private var tunnelEnds = 0

    private(set) var started = Instant.never
    private(set) var requestEndedAt = Instant.never
    private var attemptStarted = Instant.never
    private(set) var responseStartedAt = Instant.never
    private var requestDeadline = Instant.never
    private var lastActivity = Instant.never
    private(set) var requestBytes: UInt64 = 0
    private(set) var responseBytes: UInt64 = 0
    private(set) var flags: ResponseFlags = []
    private(set) var details: StaticString = "via_upstream"
    private(set) var transportFailure = LogText.none

    init(worker: Worker) {
        self.worker = worker
    }

    // MARK: A request begins

    func begin(downstream: any DownstreamSide, filter: WorkerHTTPFilter, now: Instant) {
        self.downstream = downstream
        self.filter = filter
        requestHead.removeAll()
        requestTrailers.removeAll()
        responseHead.removeAll()
        responseTrailers.removeAll()
        requestFraming = .none
        holdsBody = true
        isGRPC = false
        isUpgrade = false
        isTunnel = false
        requestIsComplete = false
        requestIsForwarded = false
        hasResponseStarted = false
        hasSentContinue = false
        responseIsComplete = false
        isOver = false
        attempt = .none
        attempts = 0
        raceWasRetried = false
        refusals = 0
        tunnelEnds = 0
        started = now
        lastActivity = now
        requestEndedAt = .never
        responseStartedAt = .never
        requestDeadline = .never
        requestBytes = 0
        responseBytes = 0
        flags = []
        details = "via_upstream"
        transportFailure = .none
        filter.stats.downstreamRqTotal.increment()
        filter.stats.downstreamRqActive.increment()
    }

    /// The head is complete: decide where the request goes and send it on its way.
    func requestHeadReceived() {
        guard let downstream else { return }
        requestFraming = downstream.requestFraming
        isUpgrade = downstream.wantsUpgrade && filter.allowsUpgrade(requestHead)
        isGRPC = GRPC.isGRPC(requestHead)
        if isGRPC { filter.stats.downstreamRqGRPCTotal.increment() }
        if worker.shedsRequests { return shed(by: worker) }
        filter.sanitize(requestHead, from: downstream.connection, random: &worker.random)
        do {
            try PathNormalizer.normalize(requestHead)
        } catch {
            filter.stats.downstreamRqFailedPathNormalization.increment()
            return reply(status: 400, flags: .downstreamProtocolError, details: error.details, body: "malformed path: \(error)")
        }
        switch filter.shared.routes.match(requestHead, random: worker.random.next()) {
        case .forward(let route, let cluster):
            self.route = route
            forward(route, cluster)
        case .reply(let route, let direct):
            self.route = route
            filter.stats.rqDirectResponse.increment()
            reply(status: direct.status, flags: [], details: "direct_response", body: direct.body)
        case .noRoute, .noVirtualHost:
            filter.stats.noRoute.increment()
            reply(status: 404, flags: .noRoute, details: "route_not_found", body: "no route: nothing is known here for this host and path")
        }
    }

    private func forward(_ route: CompiledRoute, _ ordinal: Int) {
        guard let cluster = filter.clusters[ordinal] else {
            filter.stats.noCluster.increment()
            return reply(status: 503, flags: .noCluster, details: "cluster_not_found", body: "the route's cluster is not known")
        }
        self.cluster = cluster
        routeStats = filter.routeStats(route: route, cluster: ordinal)
        routeStats?.active.increment()
        if let unsupported = cluster.unsupported {
            return reply(status: 503, flags: .upstreamProtocolError, details: "upstream_protocol_not_supported", body: unsupported)
        }
        do {
            try route.rewrite(requestHead)
        } catch {
            return reply(status: 400, flags: [], details: error.details, body: "the route's rewrite does not fit this path")
        }
        if isGRPC, let timeout = GRPC.timeout(of: requestHead) { requestDeadline = started + timeout }
        armDeadline()
        startAttempt()
    }

    // MARK: An attempt

    private func startAttempt() {
        guard let cluster, let route else { return }
        let picked: WorkerHost?
        if let destinations = cluster.destinations {
            switch destinations.choose(requestHead, stream: self) {
            case .host(let host): picked = host
            case .wait(let waiter):
                self.waiter = waiter
                return
            case .refuse(let error): return destinationFailed(error)
            }
        } else {
            picked = cluster.pick(random: &worker.random)
        }
        guard let host = picked else {
            cluster.stats.upstreamCxNoneHealthy.increment()
            return reply(status: 503, flags: cluster.noHostFlag, details: cluster.noHostDetails, body: cluster.noHostText)
        }
        self.host = host
        attempts += 1
        attempt = .underWay
        attemptStarted = worker.loop.now
        cluster.started(host)
        pickIsCounted = true
        if route.rewritesHostToEndpoint, !host.shared.hostname.isEmpty {
            CompiledRoute.replaceAuthority(requestHead, with: Array(host.shared.hostname.utf8))
        } else if requestHead.authority.isEmpty {
            // HTTP/1.0 needs no Host; HTTP/1.1, which the endpoint gets, does.
            CompiledRoute.replaceAuthority(requestHead, with: Array(host.shared.label.utf8))
        }
        if requestDeadline != .never, isGRPC {
            requestHead.setGRPCTimeout(max(.zero, requestDeadline - worker.loop.now))
        }
        do {
            // A request that cannot be sent twice takes the trouble to look whether the connection still lives (the keep-alive race).
            // Whoever lost the race once starts on a connection of its own: there is no second free try.
            switch try host.lease(for: self, mustBeNew: raceWasRetried, mustBeAlive: !isRepeatable) {
            case .ready(let upstream): send(on: upstream)
            case .wait(let waiter): self.waiter = waiter
            }
        } catch {
            host.openFailed(.system(error))
            upstreamFailed(.connect(error), on: nil)
        }
    }

    private func send(on upstream: any UpstreamSide) {
        self.upstream = upstream
        upstream.begin(self, head: requestHead, framing: requestFraming, isUpgrade: isUpgrade)
        if !heldBody.isEmpty { sendHeldBody(upstream) }
        if requestIsComplete { forwardRequestEnd() }
    }

    /// The lookup of the request's destination brought an endpoint.
    func destinationIsKnown() {
        waiter = nil
        startAttempt()
        upstream?.flush()
    }

    func destinationFailed(_ error: DestinationError) {
        waiter = nil
        cluster?.stats.upstreamCxNoneHealthy.increment()
        reply(status: error.status, flags: error.flags, details: error.details, body: error.text)
    }

    /// The connection that the stream waited for knows its protocol.
    func connectionIsReady(_ upstream: any UpstreamSide) {
        waiter = nil
        send(on: upstream)
        self.upstream?.flush()
    }

    func waitsAgain(_ waiter: StreamWaiter) {
        self.waiter = waiter
    }

    func connectionFailed(_ failure: UpstreamFailure) {
        waiter = nil
        upstreamFailed(failure, on: nil)
    }

    private func stopWaiting() {
        waiter?.cancel()
        waiter = nil
        releaseHeldBody()
    }

    private func hold(_ piece: UnsafeRawBufferPointer) {
        if heldBody.allocatedBytes == 0 { heldBody = worker.buffers.take() }
        unsafe heldBody.append(copying: piece)
    }

    private func releaseHeldBody() {
        guard heldBody.allocatedBytes > 0 else { return }
        var buffer = ByteBuffer()
        swap(&buffer, &heldBody)
        worker.buffers.give(buffer)
    }

    private func sendHeldBody(_ upstream: any UpstreamSide) {
        unsafe upstream.sendBody(heldBody.unsafeBytes)
        if !upstream.mayRefuseUnprocessed { stopHoldingBody() }
        if !upstream.isCongested, !requestIsComplete { downstream?.resumeReading() }
    }

    private func stopHoldingBody() {
        holdsBody = false
        releaseHeldBody()
    }

    /// Sending it again has no further effect, and we still have all of it (RFC 9110 section 9.2.2).
    private var isRepeatable: Bool {
        guard requestFraming == .none, !isUpgrade else { return false }
        switch requestHead.method {
        case .get, .head, .options, .trace, .put, .delete: return true
        case .post, .patch, .connect, .other: return false
        }
    }

    func requestBody(_ piece: UnsafeRawBufferPointer) {
        requestBytes &+= UInt64(piece.count)
        lastActivity = worker.loop.now
        if waiter != nil {
            unsafe hold(piece)
            downstream?.pauseReading()
            return
        }
        guard let upstream else { return }  // Answered already: the rest of the request is read and thrown away.
        if holdsBody {
            if upstream.mayRefuseUnprocessed, !hasResponseStarted, heldBody.count + piece.count <= Self.maxHeldBody {
                unsafe hold(piece)
            } else {
                stopHoldingBody()
            }
        }
        unsafe upstream.sendBody(piece)
        if upstream.isCongested {
            downstream?.pauseReading()
            filter.stats.downstreamFlowControlPausedReadingTotal.increment()
        }
    }

    func requestEnded() {
        requestIsComplete = true
        requestEndedAt = worker.loop.now
        lastActivity = worker.loop.now
        if let timeout = route?.timeout, !isUpgrade, !responseIsComplete {
            requestDeadline = min(requestDeadline, worker.loop.now + timeout)
            armDeadline()
        }
        if upstream != nil {
            forwardRequestEnd()
        }
        finishIfDone()
    }

    private func forwardRequestEnd() {
        requestIsForwarded = true
        upstream?.endRequest(trailers: requestTrailers)
    }

    func flushUpstream() {
        upstream?.flush()
    }

    func flushDownstream() {
        downstream?.flush()
    }

    // MARK: The response

    func interimReceived() {
        guard let downstream, requestHead.minorVersion > 0 || requestHead.isHTTP2 else { return }  // HTTP/1.0 knows no 1xx.
        if responseHead.status == 100 { hasSentContinue = true }
        lastActivity = worker.loop.now
        downstream.sendInterim(responseHead)
        downstream.flush()
    }

    func responseHeadReceived(framing: Framing, isTunnel: Bool) {
        guard let downstream, let cluster else { return }
        hasResponseStarted = true
        responseStartedAt = worker.loop.now
        lastActivity = responseStartedAt
        if holdsBody { stopHoldingBody() }
        if !requestIsComplete { filter.stats.downstreamRqResponseBeforeRqComplete.increment() }
        cluster.stats.upstreamRq.record(responseHead.status)
        responseHead.setDecimal(
            (responseStartedAt - attemptStarted).milliseconds, name: "x-envoy-upstream-service-time", known: .upstreamServiceTime)
        downstream.sendHead(responseHead, framing: framing, isUpgrade: isTunnel, requestHead: requestHead)
        if isTunnel {
            self.isTunnel = true
            requestDeadline = .never
            filter.stats.downstreamCxUpgradesTotal.increment()
            filter.stats.downstreamCxUpgradesActive.increment()
            downstream.flush()
            upstream?.enterTunnel()
            downstream.enterTunnel()
        }
    }

    func responseBody(_ piece: UnsafeRawBufferPointer) {
        responseBytes &+= UInt64(piece.count)
        lastActivity = worker.loop.now
        guard let downstream else { return }
        unsafe downstream.sendBody(piece)
        if downstream.isCongested { upstream?.pauseReading() }
    }

    func responseEnded() {
        responseIsComplete = true
        let grpcStatus = isGRPC ? grpcStatus : nil
        if isGRPC, let stats = cluster?.stats {
            stats.grpcTotal.increment()
            if grpcStatus == 0 { stats.grpcSuccess.increment() } else { stats.grpcFailure.increment() }
        }
        endAttempt(AttemptOutcome(status: UInt16(truncatingIfNeeded: responseHead.status), grpcStatus: grpcStatus))
        downstream?.endResponse(trailers: responseTrailers)
        downstream?.flush()
        // Who was told the end of it before "100 Continue" need not send the body, nor anything else: do not wait for it.
        if !requestIsComplete, !hasSentContinue, downstream?.expectsContinue == true { return finish() }
        finishIfDone()
    }

    /// What the endpoint, or we ourselves, said at the end of the call. None: the mapping for callers says what it means.
    private var grpcStatus: UInt32 {
        GRPC.status(in: responseTrailers) ?? GRPC.status(in: responseHead)
            ?? (responseHead.status == 200 ? GRPC.Status.unknown : GRPC.status(ofHTTP: responseHead.status))
    }

    /// As what the metrics of a route count the request: gRPC says 200 whatever happens.
    private var countedStatus: Int {
        guard hasResponseStarted else { return 0 }
        guard isGRPC else { return responseHead.status }
        switch grpcStatus {
        case 0: return 200
        case let code where GRPCErrorSet.appMesh.contains(code): return 500
        default: return 400
        }
    }

    func downstreamDrained() {
        guard let upstream, upstream.isReadPaused else { return }
        upstream.resumeReading()
    }

    func upstreamDrained() {
        if requestIsForwarded, responseIsComplete { return finishIfDone() }
        guard let downstream, downstream.isReadPaused, !requestIsComplete || isTunnel else { return }
        filter.stats.downstreamFlowControlResumedReadingTotal.increment()
        downstream.resumeReading()
    }

    // MARK: After an upgrade

    func tunnelled(fromDownstream bytes: UnsafeRawBufferPointer) {
        requestBytes &+= UInt64(bytes.count)
        guard let upstream, let downstream else { return }
        unsafe relay(bytes, from: downstream, to: upstream)
    }

    func tunnelled(fromUpstream bytes: UnsafeRawBufferPointer) {
        responseBytes &+= UInt64(bytes.count)
        guard let upstream, let downstream else { return }
        unsafe relay(bytes, from: upstream, to: downstream)
    }

    private func relay(_ bytes: UnsafeRawBufferPointer, from source: any StreamSide, to destination: any StreamSide) {
        lastActivity = worker.loop.now
        unsafe destination.sendTunnelled(bytes)
        destination.flush()
        if destination.isCongested { source.pauseReading() }
    }

    /// One side has sent its last byte: the other hears it, and may go on sending (half-close).
    func tunnelEnded(fromDownstream: Bool) {
        tunnelEnds += 1
        if fromDownstream { upstream?.finishWriting() } else { downstream?.finishWriting() }
        guard tunnelEnds == 2 else { return }
        endAttempt(.ok)
        downstream?.abandonKeepAlive()
        finish()
    }

    // MARK: What goes wrong

    func upstreamFailed(_ failure: UpstreamFailure, on side: (any UpstreamSide)?) {
        upstream = nil
        guard !isOver else { return }
        if isTunnel {
            endAttempt(.resetRemote)
            flags.insert(.upstreamConnectionTermination)
            return cutDownstream()
        }
        if responseIsComplete {
            // The endpoint has answered and will read no more: what is left of the request is read and thrown away.
            if !requestIsComplete { downstream?.resumeReading() }
            return finishIfDone()
        }
        if retriesForFree(failure, on: side) { return }
        endAttempt(failure.outcome)
        flags.insert(failure.flag)
        if failure.isReset { cluster?.stats.upstreamRqRxReset.increment() }
        transportFailure = failure.transportReason
        fail(
            status: failure.status, details: hasResponseStarted ? failure.detailsAfterResponse : failure.details,
            body: failure.text(host: host?.shared.address))
    }

    /// A request that the endpoint has certainly not looked at is sent again, once for each reason: that is no retry of the route's policy.
    private func retriesForFree(_ failure: UpstreamFailure, on side: (any UpstreamSide)?) -> Bool {
        guard !hasResponseStarted else { return false }
        switch failure {
        case .closed(_, beforeAnyByte: true) where side?.wasReused == true,
            .tlsBroken(_, beforeAnyByte: true) where side?.wasReused == true:
            // The endpoint had closed the idle connection before our request came: its fault least of all.
            guard isRepeatable, !raceWasRetried else {
                flags.insert(.keepAliveRace)
                return false
            }
            raceWasRetried = true
            attempt = .over
            leaveHost()
            cluster?.stats.upstreamRqRetryKeepAliveRace.increment()
        case .unprocessed:
            guard maySendAgain else { return false }
            refusals += 1
            endAttempt(failure.outcome)
            cluster?.stats.upstreamRqRetryUnprocessed.increment()
        default:
            return false
        }
        requestIsForwarded = false
        startAttempt()
        upstream?.flush()
        return true
    }

    /// What an endpoint has not looked at may go to another connection.
    var maySendAgain: Bool { holdsBody && refusals < Self.maxRefusals }

    /// An endpoint that refuses again and again must not keep a request circling.
    private static let maxRefusals = 3

    /// Answers if nothing was sent yet; else cuts the response so that nobody takes it for a whole one.
    private func fail(status: Int, details: StaticString, body: String) {
        if hasResponseStarted {
            self.details = details
            cutDownstream()
        } else {
            reply(status: status, flags: [], details: details, body: body)
        }
    }

    private func cutDownstream() {
        guard let downstream else { return }
        downstream.flush()
        self.downstream = nil
        downstream.cut()
        finish()
    }

    /// The caller went away, or broke the protocol in the middle.
    func downstreamFailed(flags: ResponseFlags, details: StaticString) {
        guard !isOver, let downstream else { return }
        self.flags.insert(flags)
        self.details = details
        filter.stats.downstreamRqRxReset.increment()
        self.downstream = nil
        downstream.abandon()
        if attempt == .underWay {
            cluster?.stats.upstreamRqCancelled.increment()
            endAttempt(isTunnel ? .ok : .clientCancel(after: worker.loop.now - attemptStarted))
        }
        finish()
    }

    /// Answers the request ourselves. Nothing may have been sent before.
    ///
    /// The reason stands in the log, in the metrics, in the body, and, where it is switched on, in `x-outrigger-details`.
    func reply(status: Int, flags: ResponseFlags, details: StaticString, body: String) {
        reply(status: status, flags: flags, details: details, body: Array((body + "\n").utf8))
    }

    private func reply(status: Int, flags: ResponseFlags, details: StaticString, body text: [UInt8]) {
        guard let downstream, !hasResponseStarted else { return }
        self.flags.formUnion(flags)
        self.details = details
        if let upstream {
            self.upstream = nil
            upstream.abandon()
        }
        stopWaiting()
        hasResponseStarted = true
        responseIsComplete = true
        responseStartedAt = worker.loop.now
        responseHead.removeAll()
        let body = isGRPC ? [] : text
        if isGRPC {
            responseHead.makeGRPCReply(status: GRPC.status(ofLocalReply: status, flags: self.flags), message: text)
        } else {
            responseHead.status = status
            responseHead.append(name: "content-type", value: "text/plain; charset=utf-8".utf8, known: .contentType)
        }
        responseHead.append(name: "server", value: "outrigger".utf8, known: .server)
        if self.flags.contains(.overloadManager) { responseHead.tellOverload() }
        if worker.exposesReplyDetails {
            responseHead.append(name: "x-outrigger-details", value: "\(self.flags) \(details)".utf8, known: .outriggerDetails)
        }
        // What is left of the request would have to be read before the connection could carry another: close instead, politely.
        let isWhole = requestIsComplete || (requestFraming == .none && !downstream.isInHead)
        if !isWhole { downstream.abandonKeepAlive() }
        let hasBody = !body.isEmpty && requestHead.method != .head
        // Trailers only: nothing says a length of what is no body.
        let framing = isGRPC ? Framing.none : .length(Int64(body.count))
        downstream.sendHead(responseHead, framing: framing, isUpgrade: false, requestHead: requestHead)
        if hasBody { unsafe body.withUnsafeBytes { unsafe downstream.sendBody($0) } }
        downstream.endResponse(trailers: responseTrailers)
        responseBytes = UInt64(hasBody ? body.count : 0)
        worker.loop.setDeadline(self, .never)
        // A request without a body is whole with its head; the decoder is about to say so.
        if requestIsComplete || !isWhole { finish() }
    }

    private func armDeadline() {
        let idle = route?.idleTimeout.map { lastActivity + $0 } ?? .never
        let next = min(requestDeadline, idle)
        if next != .never { worker.loop.setDeadline(self, next) }
    }

    override func deadlineReached(now: Instant) {
        guard !isOver else { return }
        if now >= requestDeadline {
            cluster?.stats.upstreamRqTimeout.increment()
            host?.stats.rqTimeout.increment()
            endAttempt(.timeout)
            flags.insert(.upstreamRequestTimeout)
            timedOut(details: "response_timeout", body: "upstream request timeout")
        } else if let idle = route?.idleTimeout, lastActivity + idle <= now {
            filter.stats.downstreamRqIdleTimeout.increment()
            if attempt == .underWay { endAttempt(requestIsComplete ? .timeout : .clientCancel(slow: false)) }
            flags.insert(.streamIdleTimeout)
            timedOut(details: "stream_idle_timeout", body: "stream timeout")
        } else {
            armDeadline()
        }
    }

    private func timedOut(details: StaticString, body: String) {
        if hasResponseStarted {
            self.details = details
            abandonUpstream()
            cutDownstream()
        } else {
            reply(status: requestIsComplete ? 504 : 408, flags: [], details: details, body: body)
        }
    }

    // MARK: The end

    /// Records the attempt's one outcome.
    private func endAttempt(_ outcome: AttemptOutcome) {
        guard attempt == .underWay, let cluster, let host else { return }
        attempt = .over
        cluster.record(outcome, on: host, elapsed: worker.loop.now - attemptStarted, responded: responseStartedAt != .never)
        leaveHost()
    }

    private func leaveHost() {
        guard pickIsCounted, let cluster, let host else { return }
        pickIsCounted = false
        cluster.finished(host)
    }

    private func abandonUpstream() {
        guard let upstream else { return }
        self.upstream = nil
        upstream.abandon()
    }

    private func finishIfDone() {
        guard !isOver, responseIsComplete else { return }
        // The answer came before the end of the request: go on forwarding, for the caller is still writing and the endpoint may read.
        guard requestIsComplete else { return }
        if let upstream, requestIsForwarded, upstream.hasUnsentOutput { return }
        finish()
    }

    private func finish() {
        guard !isOver else { return }
        isOver = true
        worker.loop.setDeadline(self, .never)  // Stays filed: taking it out and in again would cost more than it saves.
        stopWaiting()
        leaveHost()
        if let upstream {
            self.upstream = nil
            if responseIsComplete, !isTunnel { upstream.release(requestWasSent: requestIsForwarded) } else { upstream.abandon() }
        }
        let now = worker.loop.now
        let duration = now - started
        let stats = filter.stats
        let status = hasResponseStarted ? responseHead.status : 0
        stats.downstreamRqActive.decrement()
        stats.downstreamRq.record(status)
        stats.downstreamRqTime.record(nanoseconds: duration.count)
        if isTunnel { stats.downstreamCxUpgradesActive.decrement() }
        if let routeStats {
            routeStats.active.decrement()
            routeStats.record(status: countedStatus, flags: flags, nanoseconds: duration.count)
        } else {
            filter.unrouted.record(status: status, flags: flags, nanoseconds: duration.count)
        }
        if filter.hasAccessLogs { filter.logs.append(accessRecord(duration: duration)) }
        let downstream = downstream
        self.downstream = nil
        route = nil
        routeStats = nil
        cluster = nil
        host = nil
        worker.give(self)
        downstream?.streamFinished()
    }
}
