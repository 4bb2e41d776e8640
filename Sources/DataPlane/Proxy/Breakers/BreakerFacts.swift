import Base
import ProxyConfig
import Resilience

/// One breaker as operators see it: of an endpoint, or of a service as a whole.
struct BreakerFacts {
    var cluster: String
    /// Nil = the service as a whole.
    var endpoint: SocketAddress?
    var state: BreakerState
    /// Why it is so, as the outlier log has it; nil if it never moved.
    var reason: String?
    var since: Instant?
    var run: UInt32
    var calls: UInt32
    var failures: UInt32
    var slow: UInt32
    /// What would close it, for people; nil = it is closed.
    var closes: String?

    /// When time moves it next; nil = time does not.
    var until: Instant? {
        switch state.phase {
        case .open, .halfOpen, .forcedOpen, .disabled, .observing: state.instant == .never ? nil : state.instant
        case .closed, .ramping, .departed: nil
        }
    }

    var isClosed: Bool { state.phase == .closed || state.phase == .departed }

    init(_ host: OutlierDetector.HostReport, of cluster: RuntimeCluster, now: Instant) {
        self.cluster = cluster.name
        endpoint = host.address
        state = host.state
        reason = host.lastReason?.rawValue
        since = host.lastAction
        (run, calls, failures, slow) = (host.consecutiveErrors, host.windowCalls, host.windowFailures, host.windowSlow)
        closes = Self.closing(
            host.state, probes: cluster.detector.probeRule, round: host.probes, ramp: cluster.detector.stateRule.ramp, isEndpoint: true,
            now: now)
    }

    init(_ report: CircuitBreaker.Report, of breaker: CircuitBreaker, now: Instant) {
        cluster = breaker.name
        state = report.state
        reason = report.reason.map { OutlierEvent.Reason($0).rawValue }
        since = report.since
        (run, calls, failures, slow) = (report.consecutiveErrors, report.windowCalls, report.windowFailures, report.windowSlow)
        var probes: BreakerPolicy.Probe.Calls?
        if case .calls(let calls) = breaker.policy.probe { probes = calls }
        closes = Self.closing(
            report.state, probes: probes, round: report.round, ramp: Nanoseconds(breaker.policy.ramp.duration), isEndpoint: false, now: now)
    }

    private static func closing(
        _ state: BreakerState, probes: BreakerPolicy.Probe.Calls?, round: ProbeProgress?, ramp: Nanoseconds, isEndpoint: Bool, now: Instant
    ) -> String? {
        func needed(_ probes: BreakerPolicy.Probe.Calls) -> UInt32 { (probes.count * probes.successPercent + 99) / 100 }
        switch state.phase {
        case .closed, .departed: return nil
        case .open:
            guard let probes else { return isEndpoint ? "returns at the first sweep after its time" : "closes when its time is over" }
            return "probes begin when its time is over; closes after \(needed(probes)) of \(probes.count) succeed"
        case .halfOpen:
            guard let probes else { return "closes when its time is over" }
            let (passed, failed) = (round?.passed ?? 0, round?.failed ?? 0)
            return
                "closes after \(needed(probes)) of \(probes.count) probes succeed; \(passed) \(passed == 1 ? "has" : "have"), \(failed) failed"
        case .ramping:
            let left = Nanoseconds(count: max(0, ramp.count - (now - state.instant).count))
            return "takes a growing share of its load; all of it in \(Words.span(left))"
        case .forcedOpen, .disabled, .observing: return "forced by hand: ends with its time, or by release"
        }
    }
}

extension RuntimeCluster {
    /// The service's breaker, if there is one, then the endpoints'.
    func breakers(now: Instant) -> [BreakerFacts] {
        let service = breaker.map { BreakerFacts($0.report(now: now), of: $0, now: now) }
        return (service.map { [$0] } ?? []) + detector.hosts(now: now).map { BreakerFacts($0, of: self, now: now) }
    }
}

extension BreakerPolicy {
    /// Never opens by itself: what a service has whose policy asks for no breaker, while an operator has it in hand.
    static let byHand = BreakerPolicy(
        trip: Trip(consecutiveErrors: nil, failurePercent: nil, slowPercent: nil), open: Open(base: .seconds(1)), probe: .none,
        ramp: Ramp(duration: .zero))
}
