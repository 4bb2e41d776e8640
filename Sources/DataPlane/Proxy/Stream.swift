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
/// what to do. What goes wrong on the way is tried again (`Stream+Retries`), or ends in exactly one of `reply` (nothing was sent yet) or
/// `downstream.cut`.
final class Stream: Timed {
    // HTTP/1 decodes into them; HTTP/2 has heads of its own and exchanges them.
    var requestHead = Head()
    var requestTrailers = Head()
    var responseHead = Head()
    var responseTrailers = Head()

    /// Set from `begin` to `finish`.
    private(set) var filter: WorkerHTTPFilter! = nil
    private(set) var downstream: (any DownstreamSide)?
    var upstream: (any UpstreamSide)?
    @safe unowned(unsafe) let worker: Worker

    private(set) var route: CompiledRoute?
    private(set) var policy: RoutePolicy?
    private var routeStats: RouteStats?
    private(set) var cluster: WorkerCluster?
    private(set) var host: WorkerHost?
    private var pickIsCounted = false
    /// While the destination of the request is looked up (ORIGINAL_DST), or the protocol of its connection is negotiated.
    var waiter: StreamWaiter?
    var body = HeldBody()
    var attempts = Attempts()
    var place = Place()
    /// Copies of this request.
    var shadows: [ShadowSide] = []
    /// Attempts beside its own.
    var hedges: [HedgeSide] = []
    /// It is itself a copy, or an attempt of another: no caller of the proxy waits for its answer.
    private(set) var isShadow = false

    var requestFraming = Framing.none
    private(set) var isGRPC = false
    private(set) var isUpgrade = false
    private(set) var isTunnel = false
    var requestIsComplete = false
    var requestIsForwarded = false
    var hasResponseStarted = false
    private(set) var hasSentContinue = false
    var responseIsComplete = false
    private(set) var isOver = false
    var tunnelEnds = 0

    private(set) var started = Instant.never
    private(set) var requestEndedAt = Instant.never
    var responseStartedAt = Instant.never
    private(set) var requestDeadline = Instant.never
    var lastActivity = Instant.never
    var requestBytes: UInt64 = 0
    var responseBytes: UInt64 = 0
    var flags: ResponseFlags = []
    var details: StaticString = "via_upstream"
    private(set) var transportFailure = LogText.none

    init(worker: Worker) {
        self.worker = worker
    }

    // MARK: A request begins

    func begin(downstream: any DownstreamSide, filter: WorkerHTTPFilter, now: Instant) {
        reset(downstream: downstream, filter: filter, now: now)
        filter.stats.downstreamRqTotal.increment()
        filter.stats.downstreamRqActive.increment()
    }

    /// Begins as a copy of `original`, whose head is ready to be sent.
    func beginShadow(_ side: ShadowSide, of original: Stream, to cluster: WorkerCluster) {
        reset(downstream: side, filter: original.filter, now: worker.loop.now)
        isShadow = true
        requestHead.copy(original.requestHead)
        requestFraming = side.requestFraming
        isGRPC = original.isGRPC
        route = original.route
        requestDeadline = original.requestDeadline
        self.cluster = cluster
        guard cluster.unsupported == nil else {
            return reply(status: 503, flags: .upstreamProtocolError, details: "upstream_protocol_not_supported", body: "no TLS")
        }
        goToCluster()
    }

    /// Begins as another attempt of `request`, which is whole.
    func beginHedge(_ side: HedgeSide, of request: Stream) {
        reset(downstream: side, filter: request.filter, now: worker.loop.now)
        isShadow = true
        requestHead.copy(request.requestHead)
        requestTrailers.copy(request.requestTrailers)
        if !request.body.isEmpty { unsafe body.append(request.body.buffer.unsafeBytes, worker.buffers) }
        requestFraming = side.requestFraming
        requestIsComplete = true
        requestEndedAt = started
        isGRPC = request.isGRPC
        route = request.route
        requestDeadline = request.requestDeadline
        cluster = request.cluster
        attempts.tried = request.attempts.tried
        startNextAttempt()
    }

    /// The answer that the caller gets is that of another attempt: so is what logs say of it.
    func showAnswer(of attempt: Stream) {
        host = attempt.host
    }

    private func reset(downstream: any DownstreamSide, filter: WorkerHTTPFilter, now: Instant) {
        self.downstream = downstream
        self.filter = filter
        requestHead.removeAll()
        requestTrailers.removeAll()
        responseHead.removeAll()
        responseTrailers.removeAll()
        requestFraming = .none
        isShadow = false
        body.reset(worker.buffers)
        attempts = Attempts()
        place = Place()
        isGRPC = false
        isUpgrade = false
        isTunnel = false
        requestIsComplete = false
        requestIsForwarded = false
        hasResponseStarted = false
        hasSentContinue = false
        responseIsComplete = false
        isOver = false
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
        case .reply(let route, _):
            self.route = route
            let policy = filter.shared.policies[route.index]
            self.policy = policy
            guard passesRoute(policy) else { return }
            filter.stats.rqDirectResponse.increment()
            answerDirectly()
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
        let policy = filter.shared.policies[route.index]
        self.policy = policy
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
        if !policy.requestHeaders.isEmpty { policy.requestHeaders.apply(to: requestHead) }
        requestDeadline = deadlineOfCaller()
        guard passesRoute(policy) else { return }
        goToCluster()
    }

    /// The request may go on its way; what its cluster says to that is another matter.
    func goToCluster() {
        guard let cluster else { return answerDirectly() }
        mirror()
        guard isAdmitted(to: cluster) else { return }
        armDeadline()
        startAttempt()
    }

    /// The route has a reply of its own, and whatever came before that is over.
    private func answerDirectly() {
        guard let direct = route?.reply else { return }
        reply(status: direct.status, flags: [], details: "direct_response", body: direct.body)
    }

    // MARK: An attempt

    /// Picks an endpoint, leases a connection to it, sends what there is of the request.
    func startAttempt() {
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
            picked = cluster.pick(for: &attempts, mayProbe: policy?.mayRetry == true && isRepeatable, hash: balancingHash)
        }
        guard let host = picked else {
            cluster.stats.upstreamCxNoneHealthy.increment()
            attempts.lastOutcome = .connectFailure
            return reply(status: 503, flags: cluster.noHostFlag, details: cluster.noHostDetails, body: cluster.noHostText)
        }
        self.host = host
        attempts.begin(now: worker.loop.now)
        armAttempt()
        cluster.started(host)
        pickIsCounted = true
        if route.rewritesHostToEndpoint, !host.shared.hostname.isEmpty {
            CompiledRoute.replaceAuthority(requestHead, with: Array(host.shared.hostname.utf8))
        } else if requestHead.authority.isEmpty {
            // HTTP/1.0 needs no Host; HTTP/1.1, which the endpoint gets, does.
            CompiledRoute.replaceAuthority(requestHead, with: Array(host.shared.label.utf8))
        }
        tellDeadline()
        do {
            // A request that cannot be sent twice takes the trouble to look whether the connection still lives (the keep-alive race).
            // Whoever lost the race once starts on a connection of its own: there is no second free try.
            switch try host.lease(for: self, mustBeNew: attempts.raceWasRetried, mustBeAlive: !isRepeatable) {
            case .ready(let upstream): send(on: upstream)
            case .wait(let waiter): self.waiter = waiter
            case .full: connectionIsFull()
            }
        } catch {
            host.openFailed(.system(error))
            upstreamFailed(.connect(error), on: nil)
        }
    }

    private var balancingHash: UInt64 {
        guard let cluster, cluster.isConsistent, let policy, let downstream else { return 0 }
        return policy.hash(requestHead, peer: downstream.connection.peerText) ?? worker.random.next()
    }

    private func send(on upstream: any UpstreamSide) {
        self.upstream = upstream
        upstream.begin(self, head: requestHead, framing: requestFraming, isUpgrade: isUpgrade)
        if !body.isEmpty { sendHeldBody(upstream) }
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

    /// The endpoint left its cluster while the stream waited for a connection to it: another one takes the request.
    func hostLeft() {
        waiter = nil
        leaveHost()
        attempts.phase = .over
        startNextAttempt()
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

    func stopWaiting() {
        waiter?.cancel()
        waiter = nil
    }

    private func sendHeldBody(_ upstream: any UpstreamSide) {
        unsafe upstream.sendBody(body.buffer.unsafeBytes)
        if !keepsBody(for: upstream) || body.isTooLong { body.forget(worker.buffers) }
        if !upstream.isCongested, !requestIsComplete { downstream?.resumeReading() }
    }

    /// The body may have to be sent again.
    private func keepsBody(for upstream: any UpstreamSide) -> Bool {
        !hasResponseStarted && (upstream.mayRefuseUnprocessed || policy?.keepsBodies == true)
    }

    /// Sending it again has no further effect, and we still have all of it.
    private var isRepeatable: Bool {
        requestFraming == .none && !isUpgrade && requestHead.method.isIdempotent
    }

    func requestBody(_ piece: UnsafeRawBufferPointer) {
        requestBytes &+= UInt64(piece.count)
        lastActivity = worker.loop.now
        if !shadows.isEmpty { unsafe mirrorBody(piece) }
        guard let upstream else {
            // Answered already: the rest of the request is read and thrown away. Else it waits, for a connection, a turn, a retry.
            guard !hasResponseStarted else { return }
            unsafe body.append(piece, worker.buffers)
            downstream?.pauseReading()
            return
        }
        if body.isWhole {
            if keepsBody(for: upstream), body.hasRoom(for: piece.count) {
                unsafe body.append(piece, worker.buffers)
            } else {
                body.forget(worker.buffers)
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
        if !shadows.isEmpty { mirrorEnd() }
        if let timeout = route?.timeout, !isUpgrade, !responseIsComplete {
            requestDeadline = min(requestDeadline, worker.loop.now + timeout)
            armAttempt()
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
        if !shadows.isEmpty { flushMirrors() }
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
        lastActivity = worker.loop.now
        guard !retriesResponse() else { return }
        hasResponseStarted = true
        responseStartedAt = worker.loop.now
        attempts.deadline = .never
        if body.isWhole { body.forget(worker.buffers) }
        hostAnswered(responseHead.status < 500 ? responseStartedAt - attempts.started : nil)
        if !requestIsComplete { filter.stats.downstreamRqResponseBeforeRqComplete.increment() }
        cluster.stats.upstreamRq.record(responseHead.status)
        responseHead.setDecimal(
            (responseStartedAt - attempts.started).milliseconds, name: "x-envoy-upstream-service-time", known: .upstreamServiceTime)
        if let policy, !policy.responseHeaders.isEmpty { policy.responseHeaders.apply(to: responseHead) }
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
        let outcome = outcomeOfHead
        endAttempt(
            outcome == .overloadRemote
                ? outcome : AttemptOutcome(status: UInt16(truncatingIfNeeded: responseHead.status), grpcStatus: grpcStatus))
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
        for side in hedges where side.isChosen { side.attempt?.downstreamDrained() }
        guard let upstream, upstream.isReadPaused else { return }
        upstream.resumeReading()
    }

    func upstreamDrained() {
        if requestIsForwarded, responseIsComplete { return finishIfDone() }
        guard let downstream, downstream.isReadPaused, !requestIsComplete || isTunnel else { return }
        filter.stats.downstreamFlowControlResumedReadingTotal.increment()
        downstream.resumeReading()
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
        let outcome = failure.outcome
        endAttempt(outcome)
        if waitsForHedge() { return }
        if retries(after: outcome) {
            if failure.isReset { cluster?.stats.upstreamRqRxReset.increment() }
            return beginRetry()
        }
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
            guard isRepeatable, !attempts.raceWasRetried else {
                flags.insert(.keepAliveRace)
                return false
            }
            attempts.raceWasRetried = true
            leaveHost()
            attempts.phase = .over
            cluster?.stats.upstreamRqRetryKeepAliveRace.increment()
        case .unprocessed:
            guard maySendAgain else { return false }
            attempts.refusals += 1
            endAttempt(failure.outcome)
            cluster?.stats.upstreamRqRetryUnprocessed.increment()
        default:
            return false
        }
        requestIsForwarded = false
        startNextAttempt()
        return true
    }

    /// What an endpoint has not looked at may go to another connection.
    var maySendAgain: Bool { body.isWhole && attempts.refusals < Self.maxRefusals }

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

    func cutDownstream() {
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
        if !isShadow { filter.stats.downstreamRqRxReset.increment() }
        self.downstream = nil
        downstream.abandon()
        if attempts.phase == .underWay {
            cluster?.stats.upstreamRqCancelled.increment()
            endAttempt(isTunnel ? .ok : .clientCancel(after: worker.loop.now - attempts.started))
        }
        finish()
    }

    func timedOut(details: StaticString, body: String) {
        if hasResponseStarted {
            self.details = details
            abandonUpstream()
            cutDownstream()
        } else {
            reply(status: requestIsComplete ? 504 : 408, flags: [], details: details, body: body)
        }
    }

    override func deadlineReached(now: Instant) {
        if !isOver { deadlinePassed(now: now) }
    }

    // MARK: The end

    /// Records the attempt's one outcome.
    func endAttempt(_ outcome: AttemptOutcome) {
        guard attempts.phase == .underWay, let cluster, let host else { return }
        attempts.phase = .over
        attempts.lastOutcome = outcome
        let elapsed = worker.loop.now - attempts.started
        if responseStartedAt != .never { cluster.stats.upstreamRqTime.record(nanoseconds: elapsed.count) }
        cluster.record(outcome, on: host, waited: answerTime(since: attempts.started), ticket: attempts.ticket)
        // As long as one waited in vain, and longer, an answer would have taken.
        hostAnswered(outcome == .timeout ? elapsed : nil)
        leaveHost()
    }

    /// How long an answer took to begin, or was waited for: what makes a call slow. A stream that lasts is not.
    func answerTime(since start: Instant) -> Nanoseconds {
        (responseStartedAt == .never ? worker.loop.now : responseStartedAt) - start
    }

    /// - Parameter latency: nil if it says nothing about the endpoint.
    func hostAnswered(_ latency: Nanoseconds?) {
        guard pickIsCounted, !attempts.isAnswered, let cluster, let host else { return }
        attempts.isAnswered = true
        cluster.answered(host, started: attempts.started, latency: latency)
        if place.holdsLimiter, hasResponseStarted { leaveLimiter(latency: latency) }
    }

    private func leaveHost() {
        guard pickIsCounted, let cluster, let host else { return }
        // A probe that never said anything gives its place to another.
        if attempts.phase == .underWay, attempts.ticket.isProbe {
            cluster.record(.clientCancel(slow: false), on: host, ticket: attempts.ticket)
        }
        hostAnswered(nil)
        pickIsCounted = false
        cluster.finished(host)
    }

    func abandonUpstream() {
        guard let upstream else { return }
        self.upstream = nil
        upstream.abandon()
    }

    func finishIfDone() {
        guard !isOver, responseIsComplete else { return }
        // The answer came before the end of the request: go on forwarding, for the caller is still writing and the endpoint may read.
        guard requestIsComplete else { return }
        if let upstream, requestIsForwarded, upstream.hasUnsentOutput { return }
        finish()
    }

    func finish() {
        guard !isOver else { return }
        isOver = true
        worker.loop.setDeadline(self, .never)  // Stays filed: taking it out and in again would cost more than it saves.
        stopWaiting()
        leaveHost()
        leaveCluster()
        body.reset(worker.buffers)
        if let upstream {
            self.upstream = nil
            if responseIsComplete, !isTunnel { upstream.release(requestWasSent: requestIsForwarded) } else { upstream.abandon() }
        }
        leaveMirrors()
        leaveHedges()
        if !isShadow { tellMetrics() }
        let downstream = downstream
        self.downstream = nil
        route = nil
        policy = nil
        routeStats = nil
        cluster = nil
        host = nil
        worker.give(self)
        downstream?.streamFinished()
    }

    private func tellMetrics() {
        let duration = worker.loop.now - started
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
    }
}
