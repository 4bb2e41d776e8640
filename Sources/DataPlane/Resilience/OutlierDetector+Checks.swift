public import Base
import Synchronization

/// What active health checks do to endpoints. One thread checks and tells, the one that changes members.
extension OutlierDetector {
    /// Active checks of an endpoint begin. Until its first result it waits, if another endpoint of the cluster passes its checks: who
    /// serves goes on, and nobody meets a newcomer that is not ready. Otherwise it counts as well: a guess that may be wrong is better
    /// than a refusal that is.
    ///
    /// - Parameter known: what checks have said of this address to another detector before.
    public func beginChecks(of host: HostHealth, as known: HostHealth.Checks = .none) {
        members.withLock { members in
            guard host.checks == .none else { return }
            if known != .none {
                host.setChecks(known)
            } else if members.hosts.contains(where: { $0.checks == .passing }) {
                host.setChecks(.waiting)
            } else {
                return
            }
            changes.add(1, ordering: .releasing)
        }
    }

    /// The endpoint is checked no more.
    public func endChecks(of host: HostHealth) {
        guard host.state.phase != .departed, host.checks != .none else { return }
        host.setChecks(.none)
        changes.add(1, ordering: .releasing)
    }

    /// A check has ended.
    ///
    /// An endpoint that passes its checks is not ejected any longer (Envoy's successful_active_health_check_uneject_host), or, where the
    /// policy has probes, these begin. One that comes back from failing gets its load by the ramp, if the policy has one.
    ///
    /// - Parameter seen: for people: `status 500`, `connection refused`.
    public func checked(_ host: HostHealth, _ outcome: HealthCheckState.Outcome, seen: String, now: Instant) {
        guard host.state.phase != .departed else { return }
        members.withLock { members in
            let before = host.checks
            let after: HostHealth.Checks = outcome.standing == .failing ? .failing : .passing
            if after != before {
                host.setChecks(after)
                if after == .failing {
                    members.letIn()
                } else if before.isFailing {
                    beginRamp(host, among: members.hosts, now: now)
                }
                changes.add(1, ordering: .releasing)
            }
            // At the start of a healthy endpoint nothing changes for anybody.
            if after.isFailing || before.isFailing, after != before {
                tell(after.isFailing ? .checkFailed : .checkPassed, .init(outcome), host, seen: seen, now: now)
            }
            if outcome.result.hasPassed, after == .passing { checkPassed(host, now: now) }
        }
    }

    private func beginRamp(_ host: HostHealth, among hosts: [HostHealth], now: Instant) {
        let ramp = rules.withLock { $0?.state.ramp ?? .zero }
        let seen = host.state
        guard ramp > .zero, seen.phase == .closed || seen.phase == .ramping else { return }
        // As for newcomers: with more than half on the ramp the others would carry more than twice their share.
        guard (hosts.count { $0.state.phase == .ramping } + 1) * 2 <= hosts.count else { return }
        // If it fails, a worker ejected it at this moment.
        let ramping = BreakerState(.ramping, at: now)
        _ = host.breaker.compareExchange(expected: seen.bits, desired: ramping.bits, ordering: .acquiringAndReleasing)
    }

    /// How often connections are made to endpoints that could not be connected to (`unconnectable`); nil = never.
    public var connectionProbeInterval: Nanoseconds? {
        rules.withLock { $0?.connectionProbeInterval }
    }
}

extension OutlierDetector.Members {
    /// With nobody left that passes its checks, nobody waits for a result any longer.
    mutating func letIn() {
        guard !hosts.contains(where: { $0.checks == .passing }) else { return }
        for host in hosts where host.checks == .waiting { host.setChecks(.none) }
    }
}

extension OutlierEvent.Reason {
    fileprivate init(_ outcome: HealthCheckState.Outcome) {
        self = outcome.isFirst ? .firstCheck : outcome.standing == .failing ? .unhealthyThreshold : .healthyThreshold
    }
}
