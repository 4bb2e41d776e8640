import Base
import HTTP
import Reactor
import Resilience
import Telemetry

/// Whether a request may go on to its cluster now: the service's breaker, then the limits, then the queue before these.
extension Stream {
    /// Where the request stands with its cluster's limits.
    struct Place {
        var queued: AdmissionQueue<QueuedStream>.Place?
        /// When it need not wait any longer.
        var expires = Instant.never
        /// It is one of those that the adaptive limit counts: until its endpoint answers.
        var holdsLimiter = false
        var limiterGeneration = 0
        /// It is one of those that max_requests counts: until it ends.
        var usage: ClusterUsage?
        /// When a delay that the route's policy ordered is over.
        var delayEnds = Instant.never
        var admission = CircuitBreaker.Admission.pass
        var isCounted = false
    }

    /// False: it was answered, or waits.
    func isAdmitted(to cluster: WorkerCluster) -> Bool {
        let now = worker.loop.now
        if let breaker = cluster.shared.breaker {
            let admission = breaker.admit(now: now, random: &worker.random)
            if case .refuse(let wait) = admission {
                cluster.stats.upstreamRqBreakerOpen.increment()
                reply(
                    status: 503, flags: .breakerOpen, details: "service_breaker_open",
                    body: "the breaker of \(cluster.shared.name) is open", retryAfter: wait)
                return false
            }
            place.admission = admission
        }
        place.isCounted = true
        cluster.requestBegan()
        guard cluster.isLimited else { return true }
        switch cluster.enter(self, now: now) {
        case .entered: return true
        case .queued:
            cluster.stats.upstreamRqPendingTotal.increment()
            cluster.stats.upstreamRqPendingActive.increment()
            armDeadline()
            return false
        case .refused:
            refuseForOverload("limit_reached", "\(cluster.shared.name) has as many requests under way as its limits allow")
            return false
        }
    }

    /// Another request made room, and it is this one's turn.
    func isAdmittedFromQueue() {
        place.queued = nil
        place.expires = .never
        cluster?.stats.upstreamRqPendingActive.decrement()
        startNextAttempt()
    }

    /// It waited in vain.
    func queueTimedOut() {
        refuseForOverload("queue_timeout", "no room among the requests to \(cluster?.shared.name ?? "-") in time")
    }

    /// A limit of the cluster is reached: here and now the request has no place.
    func refuseForOverload(_ details: StaticString, _ text: String) {
        cluster?.stats.upstreamRqPendingOverflow.increment()
        attempts.lastOutcome = .overloadLocal
        reply(status: 503, flags: .upstreamOverflow, details: details, body: text)
    }

    /// There are as many connections as may be, and as many requests that wait for one.
    func connectionIsFull() {
        stopWaiting()
        endAttempt(.overloadLocal)
        refuseForOverload("connection_limit", "\(cluster?.shared.name ?? "-") has as many connections as its limit allows")
    }

    /// The endpoint has answered, or never will: the adaptive limit counts the request no more.
    ///
    /// - Parameter latency: nil if it says nothing about queues: what fails at once, or never began.
    func leaveLimiter(latency: Nanoseconds?) {
        guard place.holdsLimiter, let cluster else { return }
        place.holdsLimiter = false
        cluster.leaveLimiter(generation: place.limiterGeneration, latency: latency)
    }

    func leaveQueue() {
        guard let queued = place.queued, let cluster else { return }
        place.queued = nil
        place.expires = .never
        cluster.cancel(queued)
        cluster.stats.upstreamRqPendingActive.decrement()
    }

    /// The request is over.
    func leaveCluster() {
        guard let cluster else { return }
        endCharge()
        leaveQueue()
        // What takes long says that it does, however it ends.
        let waited = attempts.started == .never ? .zero : worker.loop.now - attempts.started
        leaveLimiter(latency: waited > .milliseconds(500) ? waited : nil)
        if let usage = place.usage {
            usage.requests.give()
            cluster.admitWaiting()
        }
        if place.isCounted { cluster.requestEnded() }
        if let breaker = cluster.shared.breaker, place.isCounted {
            let (waited, now) = (answerTime(since: started), worker.loop.now)
            breaker.record(attempts.lastOutcome, elapsed: waited, admission: place.admission, now: now, random: &worker.random)
        }
        place = Place()
    }
}
