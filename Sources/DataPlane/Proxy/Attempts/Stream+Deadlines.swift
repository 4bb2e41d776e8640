import Base
import HTTP
import Reactor
import Resilience
import Routing
import Telemetry

/// The times of a request, for which a stream has one timer: of the whole, of the attempt under way, of waiting for a turn or for the next
/// attempt, and of silence.
extension Stream {
    func armDeadline() {
        guard !isOver else { return }
        let idle = route?.idleTimeout.map { lastActivity + $0 } ?? .never
        let ofAttempts = min(min(attempts.deadline, attempts.hedgeAt), attempts.nextAt)
        let next = min(min(requestDeadline, idle), min(ofAttempts, min(place.expires, place.delayEnds)))
        if next != .never { worker.loop.setDeadline(self, next) }
    }

    func deadlinePassed(now: Instant) {
        if now >= requestDeadline {
            cluster?.stats.upstreamRqTimeout.increment()
            host?.stats.rqTimeout.increment()
            endAttempt(.timeout)
            flags.insert(.upstreamRequestTimeout)
            timedOut(details: "response_timeout", body: "upstream request timeout")
        } else if now >= place.delayEnds {
            delayEnded()
        } else if now >= place.expires {
            queueTimedOut()
        } else if now >= attempts.nextAt {
            startNextAttempt()
        } else if now >= attempts.deadline {
            attemptTimedOut(now: now)
        } else if now >= attempts.hedgeAt {
            hedge()
        } else if let idle = route?.idleTimeout, lastActivity + idle <= now {
            filter.stats.downstreamRqIdleTimeout.increment()
            if attempts.phase == .underWay { endAttempt(requestIsComplete ? .timeout : .clientCancel(slow: false)) }
            flags.insert(.streamIdleTimeout)
            timedOut(details: "stream_idle_timeout", body: "stream timeout")
        } else {
            armDeadline()
        }
    }

    // MARK: From hop to hop

    /// What the hop before still allows: it can only shorten what the route does. At the mesh's edge `sanitize` has taken away what
    /// strangers say.
    func deadlineOfCaller() -> Instant {
        var end = Instant.never
        if isGRPC, let timeout = GRPC.timeout(of: requestHead) { end = started + timeout }
        if let field = requestHead.first(.expectedTimeout) {
            let bytes = requestHead.bytes
            if let timeout = unsafe Deadlines.milliseconds(bytes.span.extracting(field.value).bytes) { end = min(end, started + timeout) }
        }
        return end
    }

    /// Tells the next hop how long it may take: what is left of the request, as far as that is known now.
    func tellDeadline() {
        let now = worker.loop.now
        var left = requestDeadline == .never ? Nanoseconds(count: .max) : max(requestDeadline - now, .zero)
        if isGRPC, requestDeadline != .never { requestHead.setGRPCTimeout(left) }
        if requestDeadline == .never || !requestIsComplete, let timeout = route?.timeout { left = min(left, timeout) }
        guard left.count != .max, !isUpgrade else { return }
        // Zero would mean that there is no limit.
        requestHead.setDecimal(max(left.milliseconds, 1), name: "x-envoy-expected-rq-timeout-ms", known: .expectedTimeout)
    }
}
