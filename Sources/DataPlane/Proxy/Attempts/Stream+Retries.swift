import Base
import HTTP
import ProxyConfig
import Reactor
import Resilience
import Routing
import Telemetry

/// Whether a failed attempt is made again (docs/resilience.md, decision 22). `RetryState` decides; here its question is put, and what it
/// says is carried out.
extension Stream {
    /// After an attempt of whose response nobody has seen anything. True: another one has begun, or will.
    func retries(after outcome: AttemptOutcome, status: Int = 0, pushback: RetryPushback = .none) -> Bool {
        guard let rules = policy?.retry, let cluster, downstream != nil, !hasResponseStarted else { return false }
        endCharge()
        let now = worker.loop.now
        let traits = RetryState.Request(
            isReplayable: body.isWhole && !isTunnel, isIdempotent: requestHead.method.isIdempotent,
            hasOthers: cluster.hasOthers(than: attempts.tried))
        let decision = attempts.retries.decide(
            after: outcome, status: UInt16(truncatingIfNeeded: status), pushback: pushback, request: traits, rules: rules,
            budget: &cluster.retryBudget, requests: cluster.requestsUnderWay, deadline: requestDeadline, now: now, random: &worker.random)
        switch decision {
        case .stop(let reason):
            count(reason, in: cluster.stats)
            return false
        case .retry(let delay):
            attempts.isCharged = true
            cluster.stats.upstreamRqRetry.increment()
            if delay == .zero {
                attempts.nextAt = now
            } else {
                cluster.stats.upstreamRqRetryBackoffExponential.increment()
                attempts.nextAt = now + delay
            }
            return true
        }
    }

    /// The attempt that `retries` announced, if it need not wait.
    func beginRetry() {
        requestIsForwarded = false
        responseHead.removeAll()
        responseTrailers.removeAll()
        guard attempts.nextAt > worker.loop.now else { return startNextAttempt() }
        armDeadline()
    }

    func startNextAttempt() {
        attempts.nextAt = .never
        startAttempt()
        upstream?.flush()
        armDeadline()
    }

    private func count(_ reason: RetryState.Stop, in stats: ClusterStats) {
        switch reason {
        case .limit:
            stats.upstreamRqRetryLimitExceeded.increment()
            flags.insert(.retryLimitExceeded)
        case .budget:
            stats.upstreamRqRetryOverflow.increment()
            flags.insert(.retryBudgetExhausted)
        case .notCovered, .notRepeatable, .pushback, .noTime: break
        }
    }

    /// The retry that the budget counts is over, or is not made.
    func endCharge() {
        guard attempts.isCharged else { return }
        attempts.isCharged = false
        cluster?.retryBudget.retryEnded()
    }

    // MARK: Responses

    /// What the response that has come says about the endpoint, as far as its head tells.
    var outcomeOfHead: AttemptOutcome {
        if responseHead.status >= 400 || isGRPC, responseHead.contains(.envoyOverloaded) { return .overloadRemote }
        return AttemptOutcome(
            status: UInt16(truncatingIfNeeded: responseHead.status), grpcStatus: isGRPC ? GRPC.status(in: responseHead) : nil)
    }

    /// The endpoint's answer is one that the policy tries again elsewhere: gives it up and begins the next attempt.
    func retriesResponse() -> Bool {
        guard let policy, policy.mayRetry, let rules = policy.retry else { return false }
        let outcome = outcomeOfHead
        let status = responseHead.status
        guard rules.covers(outcome, status: UInt16(truncatingIfNeeded: status)) else {
            if attempts.retries.count > 0 { cluster?.stats.upstreamRqRetrySuccess.increment() }
            return false
        }
        let isHedged = !hedges.isEmpty
        guard isHedged || retries(after: outcome, status: status, pushback: pushback) else { return false }
        cluster?.stats.upstreamRq.record(status)
        endAttempt(outcome)
        if let upstream {
            self.upstream = nil
            upstream.discardResponse()
        }
        if isHedged { return waitsForHedge() }
        beginRetry()
        return true
    }

    /// What the endpoint says about the next attempt: `grpc-retry-pushback-ms` or `Retry-After`.
    private var pushback: RetryPushback {
        for field in responseHead.fields where field.known == .other {
            if isGRPC, responseHead.equals(field.name, "grpc-retry-pushback-ms") {
                let bytes = responseHead.bytes
                return unsafe RetryPushback(grpcPushback: bytes.span.extracting(field.value).bytes)
            }
            if responseHead.equals(field.name, "retry-after") {
                let bytes = responseHead.bytes
                return unsafe RetryPushback(
                    retryAfter: bytes.span.extracting(field.value).bytes, wallClock: Clock.realtime() / 1_000_000_000)
            }
        }
        return .none
    }

    // MARK: Time of one attempt

    /// The attempt has its own time from when the endpoint could have all of the request.
    func armAttempt() {
        guard let policy, requestIsComplete, attempts.phase == .underWay, !hasResponseStarted else { return }
        if let time = policy.perTryTimeout { attempts.deadline = worker.loop.now + time }
        if let hedging = policy.hedging, attempts.hedgesBegun == 0 { attempts.hedgeAt = worker.loop.now + Nanoseconds(hedging.delay) }
    }

    func attemptTimedOut(now: Instant) {
        attempts.deadline = .never
        guard let cluster, attempts.phase == .underWay, !hasResponseStarted, let time = policy?.perTryTimeout else { return }
        guard cluster.perTryTimeoutHolds(time) else {
            cluster.stats.upstreamRqPerTryTimeoutYielded.increment()
            return armDeadline()
        }
        cluster.stats.upstreamRqPerTryTimeout.increment()
        host?.stats.rqTimeout.increment()
        abandonUpstream()
        stopWaiting()
        endAttempt(.timeout)
        if waitsForHedge() { return }
        if retries(after: .timeout) { return beginRetry() }
        flags.insert(.upstreamRequestTimeout)
        reply(status: 504, flags: [], details: "upstream_per_try_timeout", body: "upstream request timeout: no response in \(time)")
    }
}

extension Method {
    /// Doing it twice has no further effect (RFC 9110 section 9.2.2).
    var isIdempotent: Bool {
        switch self {
        case .get, .head, .options, .trace, .put, .delete: true
        case .post, .patch, .connect, .other: false
        }
    }
}
