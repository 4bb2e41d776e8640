import Base
import HTTP
import HTTP1
import ProxyConfig
import Reactor
import Resilience
import Routing
import Telemetry

/// Attempts beside the first one, where that takes long (hedge_policy): each is a stream of its own, as a mirror's copy is, whose caller
/// is the request. The first answer that the policy would not try again goes to the caller; the others are given up.
extension Stream {
    /// The attempt under way has had its time for an answer: another one goes beside it, if the budget has room and an endpoint is left.
    func hedge() {
        attempts.hedgeAt = .never
        defer { armDeadline() }
        guard let hedging = policy?.hedging, let cluster, let downstream, !hasResponseStarted, !isUpgrade, body.isWhole, requestIsComplete,
            requestHead.method.isIdempotent || policy?.retry?.needsIdempotence == false, cluster.hasOthers(than: attempts.tried)
        else { return }
        guard cluster.retryBudget.begin(requests: cluster.requestsUnderWay, now: worker.loop.now) else {
            return cluster.stats.upstreamRqRetryOverflow.increment()
        }
        cluster.stats.upstreamRqRetry.increment()
        cluster.stats.upstreamRqHedged.increment()
        attempts.hedgesBegun += 1
        if attempts.hedgesBegun < hedging.maxAttempts { attempts.hedgeAt = worker.loop.now + Nanoseconds(hedging.delay) }
        let attempt = worker.takeStream()
        let side = HedgeSide(of: self, downstream, attempt: attempt)
        hedges.append(side)
        attempt.beginHedge(side, of: self)
        // It may be over already.
        if side.attempt === attempt { attempts.tried = attempt.attempts.tried }
    }

    /// An attempt of the request's own came to nothing, and another one is under way: its answer counts.
    func waitsForHedge() -> Bool {
        guard !hedges.isEmpty, !hasResponseStarted else { return false }
        attempts.waitsForHedge = true
        armDeadline()
        return true
    }

    /// The request is answered, or over.
    func leaveHedges() {
        guard !hedges.isEmpty else { return }
        let left = hedges
        hedges = []
        for side in left {
            side.request = nil
            cluster?.retryBudget.retryEnded()
            side.giveUp()
        }
    }

    // MARK: What a hedge says

    /// Whether this answer is the request's.
    fileprivate func chooses(_ side: HedgeSide, _ attempt: Stream, _ head: Head, _ framing: Framing) -> Bool {
        guard !hasResponseStarted, let downstream else { return false }
        let others = hedges.contains { $0 !== side } || !attempts.waitsForHedge
        let isBad = policy?.retry?.covers(attempt.outcomeOfHead, status: UInt16(truncatingIfNeeded: head.status)) == true
        if isBad, others { return false }
        if attempts.phase == .underWay {
            // Nobody knows how long it would have taken: at least so long.
            hostAnswered(worker.loop.now - attempts.started)
            endAttempt(.clientCancel(slow: false))
        }
        abandonUpstream()
        stopWaiting()
        for other in hedges where other !== side { other.giveUp() }
        attempts.deadline = .never
        attempts.hedgeAt = .never
        hasResponseStarted = true
        responseStartedAt = worker.loop.now
        lastActivity = responseStartedAt
        body.forget(worker.buffers)
        leaveLimiter(latency: nil)
        showAnswer(of: attempt)
        responseHead.copy(head)
        if let policy, !policy.responseHeaders.isEmpty { policy.responseHeaders.apply(to: responseHead) }
        downstream.sendHead(responseHead, framing: framing, isUpgrade: false, requestHead: requestHead)
        return true
    }

    fileprivate func hedgeBody(_ piece: UnsafeRawBufferPointer) {
        responseBytes &+= UInt64(piece.count)
        lastActivity = worker.loop.now
        unsafe downstream?.sendBody(piece)
    }

    fileprivate func hedgeEnded(_ trailers: Head, _ outcome: AttemptOutcome) {
        responseIsComplete = true
        attempts.lastOutcome = outcome
        responseTrailers.copy(trailers)
        downstream?.endResponse(trailers: responseTrailers)
        downstream?.flush()
        finishIfDone()
    }

    fileprivate func hedgeBroke(_ attempt: Stream) {
        flags.formUnion(attempt.flags)
        details = attempt.details
        cutDownstream()
    }

    fileprivate func hedgeIsOver(_ side: HedgeSide) {
        hedges.removeAll { $0 === side }
        cluster?.retryBudget.retryEnded()
        guard attempts.waitsForHedge, hedges.isEmpty, !hasResponseStarted else { return }
        attempts.waitsForHedge = false
        reply(status: 503, flags: .upstreamRemoteReset, details: "hedged_attempts_failed", body: "every attempt beside the others failed")
    }
}

/// The caller of an attempt beside the first: the request itself.
final class HedgeSide: DownstreamSide {
    let connection: DownstreamConnection
    let requestFraming: Framing
    /// Until either is over.
    fileprivate(set) var request: Stream?
    fileprivate(set) var attempt: Stream?
    private(set) var isChosen = false

    init(of request: Stream, _ downstream: any DownstreamSide, attempt: Stream) {
        connection = downstream.connection
        requestFraming = downstream.requestFraming
        self.request = request
        self.attempt = attempt
    }

    var wantsUpgrade: Bool { false }
    var expectsContinue: Bool { false }
    var isInHead: Bool { false }
    var isCongested: Bool { isChosen && request?.downstream?.isCongested == true }
    var isReadPaused: Bool { false }

    func pauseReading() {}
    func resumeReading() {}
    func enterTunnel() {}
    func sendTunnelled(_ bytes: UnsafeRawBufferPointer) {}
    func finishWriting() {}
    func sendInterim(_ head: Head) {}
    func abandonKeepAlive() {}

    func sendHead(_ head: Head, framing: Framing, isUpgrade: Bool, requestHead: Head) {
        // Without an endpoint it is an answer of our own: this attempt came to nothing.
        guard let request, let attempt, attempt.upstream != nil, !isUpgrade else { return }
        isChosen = request.chooses(self, attempt, head, framing)
    }

    func sendBody(_ piece: UnsafeRawBufferPointer) {
        if isChosen { unsafe request?.hedgeBody(piece) }
    }

    func flush() {
        if isChosen { request?.flushDownstream() }
    }

    func endResponse(trailers: Head) {
        guard isChosen, let attempt else { return }
        request?.hedgeEnded(trailers, attempt.attempts.lastOutcome)
    }

    func cut() {
        let (request, attempt) = (request, attempt)
        if isChosen, let attempt { request?.hedgeBroke(attempt) }
        streamFinished()
    }

    func abandon() {
        streamFinished()
    }

    func streamFinished() {
        let request = request
        self.request = nil
        attempt = nil
        request?.hedgeIsOver(self)
    }

    /// Ends the attempt, unless it is ending by itself.
    fileprivate func giveUp() {
        guard let attempt, !attempt.responseIsComplete else { return }
        attempt.downstreamFailed(flags: [], details: "hedge_not_needed")
    }
}
