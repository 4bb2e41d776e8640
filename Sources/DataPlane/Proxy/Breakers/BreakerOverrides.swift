import Base
import ProxyConfig
import Reactor
import Resilience

/// What operators want of breakers, by the configuration or by the admin interface, and its end. On the supervisor's thread.
///
/// It says what should be, not what to do: `settle` makes the breakers so, as often as clusters or endpoints come and go, and it is the
/// same after a restart.
final class BreakerOverrides {
    /// Of the configuration.
    private var configured: [BreakerOverride.Target: BreakerOverride] = [:]
    /// Of the admin interface; they go before, and end with the process.
    private var local: [BreakerOverride.Target: BreakerOverride] = [:]
    /// Of the configuration, and released here.
    private var ignored: Set<BreakerOverride> = []
    /// What breakers were forced to.
    private var applied: [BreakerOverride.Target: BreakerOverride] = [:]
    private let loop: EventLoop
    private let clusters: () -> [RuntimeCluster]
    private var timer: LoopTimer!

    init(loop: EventLoop, clusters: @escaping () -> [RuntimeCluster]) {
        self.loop = loop
        self.clusters = clusters
        timer = LoopTimer { [unowned self] _ in settle() }
    }

    /// Those that hold now.
    var current: [BreakerOverride.Target: BreakerOverride] {
        let now = Clock.realtime() / 1_000_000
        return configured.filter { !ignored.contains($0.value) }.merging(local) { $1 }.filter { $0.value.until > now }
    }

    /// Clusters of which a breaker is needed, even if no policy gives them one.
    var services: Set<String> {
        Set(current.keys.filter { $0.endpoint == nil }.map(\.cluster))
    }

    /// A new configuration runs.
    func follow(_ overrides: [BreakerOverride]) {
        configured = Dictionary(overrides.map { ($0.target, $0) }) { $1 }
        ignored.formIntersection(overrides)
    }

    func force(_ override: BreakerOverride) {
        local[override.target] = override
        settle()
    }

    func release(_ target: BreakerOverride.Target) {
        local[target] = nil
        if let override = configured[target] { ignored.insert(override) }
        settle()
    }

    /// Makes the breakers what they should be. Call it whenever there are others.
    func settle() {
        guard !configured.isEmpty || !local.isEmpty || !applied.isEmpty else { return }
        let wanted = current
        let names = Set(wanted.keys.map(\.cluster)).union(applied.keys.map(\.cluster))
        let known = Dictionary(clusters().filter { names.contains($0.name) }.map { ($0.name, $0) }) { $1 }
        let now = Clock.now()
        for target in applied.keys where wanted[target] == nil {
            applied[target] = nil
            known[target.cluster]?.release(target.endpoint, now: now)
        }
        let offset = Clock.realtime() - now.nanoseconds
        for (target, override) in wanted {
            guard let cluster = known[target.cluster] else { continue }
            let until = Instant(nanoseconds: override.until.multipliedReportingOverflow(by: 1_000_000).partialValue &- offset)
            guard applied[target] != override || !cluster.isForced(target.endpoint, to: override.action) else { continue }
            if cluster.force(target.endpoint, to: override.action, until: until, now: now) { applied[target] = override }
        }
        local = local.filter { wanted[$0.key] == $0.value }
        let end = wanted.values.map(\.until).min()
        loop.setDeadline(timer, end.map { Instant(nanoseconds: $0 &* 1_000_000 &- offset) + .milliseconds(5) } ?? .never)
    }
}

extension RuntimeCluster {
    fileprivate func isForced(_ endpoint: SocketAddress?, to action: BreakerOverride.Action) -> Bool {
        guard let endpoint else { return breaker?.state.phase == action.phase }
        return detector.hosts.first { $0.address == endpoint }?.state.phase == action.phase
    }

    /// False: there is no such breaker.
    fileprivate func force(_ endpoint: SocketAddress?, to action: BreakerOverride.Action, until: Instant, now: Instant) -> Bool {
        if let endpoint { return detector.force(action.phase, endpoint, until: until, now: now) }
        breaker?.force(action.phase, until: until, now: now)
        return breaker != nil
    }

    fileprivate func release(_ endpoint: SocketAddress?, now: Instant) {
        if let endpoint { detector.release(endpoint, now: now) } else { breaker?.release(now: now) }
    }
}

extension BreakerOverride.Action {
    var phase: BreakerState.Phase {
        switch self {
        case .open: .forcedOpen
        case .disable: .disabled
        case .observe: .observing
        }
    }

    /// As an operator may write it: the verb, or the state that it leads to.
    init?(words text: String) {
        switch text {
        case "open", "forced-open": self = .open
        case "disable", "disabled": self = .disable
        case "observe", "observing": self = .observe
        default: return nil
        }
    }
}
