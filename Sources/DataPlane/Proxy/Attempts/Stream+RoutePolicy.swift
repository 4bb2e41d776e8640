import Base
import HTTP
import ProxyConfig
import Reactor
import Resilience
import Routing
import Telemetry

/// What a route does to its requests before they go anywhere: its rate limit, and faults that somebody ordered.
extension Stream {
    /// False: it was answered, or waits.
    func passesRoute(_ policy: RoutePolicy) -> Bool {
        if let wait = policy.rateLimit?.take(now: worker.loop.now) {
            filter.stats.rqRateLimited.increment()
            reply(
                status: 429, flags: .rateLimited, details: "local_rate_limited", body: "this route's rate limit is reached",
                retryAfter: wait)
            return false
        }
        guard let fault = policy.fault, fault.conditions.hold(requestHead) else { return true }
        if let delay = fault.configuration.delay, worker.random.draws(fault.configuration.delayShare) {
            filter.stats.rqDelayInjected.increment()
            flags.insert(.delayInjected)
            place.delayEnds = worker.loop.now + Nanoseconds(delay)
            armDeadline()
            return false
        }
        return !aborts(fault.configuration)
    }

    /// The delay that was ordered is over.
    func delayEnded() {
        place.delayEnds = .never
        if let fault = policy?.fault, aborts(fault.configuration) { return }
        goToCluster()
        upstream?.flush()
    }

    private func aborts(_ fault: FaultInjection) -> Bool {
        guard let abort = fault.abort, worker.random.draws(fault.abortShare) else { return false }
        filter.stats.rqFaultInjected.increment()
        let text = "a fault that this route's policy orders"
        switch abort {
        case .http(let status): reply(status: status, flags: .faultInjected, details: "fault_filter_abort", body: text)
        case .grpc(let code): reply(status: 200, grpcStatus: code, flags: .faultInjected, details: "fault_filter_abort", body: text)
        }
        return true
    }
}

extension SeededRandom {
    fileprivate mutating func draws(_ share: Share) -> Bool {
        share == .all || below(1_000_000) < Int(share.millionths)
    }
}
