public import Base
import Synchronization

/// The way back through probes, for policies that have them.
extension OutlierDetector {
    /// A ticket for one probe on a half-open endpoint, or nil if it wants none now. Who got one must hand it back with `record`, or
    /// with an outcome that says nothing.
    public func probe(_ host: HostHealth, now: Instant) -> ProbeTicket? {
        guard let calls = rules.withLock({ $0?.probe }) else { return nil }
        let state = advance(host, now: now)
        return state.phase == .halfOpen ? host.probes.take(in: state, rule: calls) : nil
    }

    /// Lets time move an endpoint's breaker: from open to half-open, a round of probes to the next, from ramping to closed. Any worker
    /// may call it, when what `BreakerState.nextChange` said is there. Without probes an endpoint returns only at a sweep.
    @discardableResult
    public func advance(_ host: HostHealth, now: Instant) -> BreakerState {
        let seen = host.state
        guard let rules = rules.withLock({ $0 }), rules.probe != nil || seen.phase != .open else { return seen }
        return move(host, .time, rules, now: now)
    }

    /// When `advance` has something to do for an endpoint; `.never` if nothing but calls and sweeps moves it.
    public func nextChange(of host: HostHealth) -> Instant {
        let seen = host.state
        guard seen != .closed, let rules = rules.withLock({ $0 }), rules.probe != nil || seen.phase != .open else { return .never }
        return seen.nextChange(rule: rules.state)
    }

    /// An active health check, or a connection made for no request, found the endpoint well: it need not wait for its time.
    ///
    /// Without probes it returns at once (Envoy's successful_active_health_check_uneject_host); else probes begin.
    public func checkPassed(_ host: HostHealth, now: Instant) {
        guard host.state.phase == .open, let rules = rules.withLock({ $0 }) else { return }
        move(host, .checkPassed, rules, now: now)
    }

    /// Endpoints that are out because nobody could connect to them: to connect again costs no request, and says when they are back.
    /// The thread that sweeps asks in each `connectionProbeInterval`, and calls `checkPassed` for those that it reached.
    public var unconnectable: [HostHealth] {
        members.withLock { members in
            members.hosts.filter { host in
                guard host.state.phase == .open else { return false }
                return switch OutcomeHistory(word: host.history.load(ordering: .relaxed)).outcomes.last {
                case .connectFailure, .connectTimeout, .resetRemote: true
                default: false
                }
            }
        }
    }

    /// By hand, for a limited time: `forcedOpen`, `disabled` or `observing`. False if the address is not a member.
    ///
    /// A forced ejection takes no place among those that the percentage allows.
    @discardableResult
    public func force(_ phase: BreakerState.Phase, _ address: SocketAddress, until: Instant, now: Instant) -> Bool {
        actByHand(on: address, .force(phase, until: until), now: now)
    }

    /// Ends what was forced.
    @discardableResult
    public func release(_ address: SocketAddress, now: Instant) -> Bool {
        actByHand(on: address, .release, now: now)
    }

    private func actByHand(on address: SocketAddress, _ event: BreakerState.Event, now: Instant) -> Bool {
        guard let host = members.withLock({ $0.hosts.first { $0.address == address } }) else { return false }
        move(host, event, rules.withLock { $0 }, now: now)
        return true
    }

    func finishProbe(_ ticket: ProbeTicket, _ outcome: AttemptOutcome, on host: HostHealth, now: Instant) {
        guard let rules = rules.withLock({ $0 }), let calls = rules.probe else { return }
        let entry = OutcomeHistory.Outcome(outcome)
        let isError = outcome.verdict(grpcErrors: grpcErrors) == .counts || outcome.isOverload
        if let entry { host.remember(entry) }
        guard let verdict = host.probes.finish(ticket, isSuccess: entry == nil ? nil : !isError, rule: calls) else { return }
        // Only the round that the breaker is in decides.
        guard host.state.bits == ticket.round else { return }
        switch verdict {
        case .passed: move(host, .probesPassed, rules, now: now)
        case .failed:
            let (multiplier, time) = openTime(for: host, rules)
            if move(host, .probeFailed(until: now + time), rules, ejectionTime: time, now: now).phase == .open {
                host.multiplier.store(multiplier, ordering: .relaxed)
            }
        }
    }

    /// Moves a breaker by one event, keeps account of the places among the ejected, and tells. The state after it.
    @discardableResult
    func move(
        _ host: HostHealth, _ event: BreakerState.Event, _ rules: EjectionRules?, ejectionTime: Nanoseconds? = nil, now: Instant
    ) -> BreakerState {
        let seen = host.state
        let next = seen.after(event, now: now, rule: rules?.state ?? BreakerState.Rule())
        guard next != seen else { return seen }
        let history = OutcomeHistory(word: host.history.load(ordering: .relaxed))
        if !next.isRefusing { host.forgetRun() }
        guard host.breaker.compareExchange(expected: seen.bits, desired: next.bits, ordering: .acquiringAndReleasing).exchanged else {
            return host.state  // Somebody else was first.
        }
        if seen.holdsSlot, !next.holdsSlot { slots.giveBack() }
        changes.add(1, ordering: .releasing)
        if let (action, reason) = Self.meaning(of: event, from: seen, to: next) {
            tell(action, reason, host, trigger: .probeFailed, history: history, ejectionTime: ejectionTime, now: now)
        }
        return next
    }

    /// What to tell about a move; nil for those that change nothing for a caller.
    private static func meaning(
        of event: BreakerState.Event, from seen: BreakerState, to next: BreakerState
    ) -> (OutlierEvent.Action, OutlierEvent.Reason)? {
        let wasByHand = [.forcedOpen, .disabled, .observing].contains(seen.phase)
        return switch event {
        case .force: (next.phase == .forcedOpen ? .eject : .uneject, .forced)
        case .release: (.uneject, .released)
        case .time where wasByHand: (.uneject, .released)
        case .time where seen.phase == .open: (next.phase == .halfOpen ? .probe : .uneject, .ejectionTimeOver)
        case .checkPassed: (next.phase == .halfOpen ? .probe : .uneject, .checkPassed)
        case .probesPassed: (.uneject, .probesPassed)
        case .probeFailed: (.eject, .probeFailed)
        case .time, .trip, .leave, .rejoin: nil
        }
    }
}

extension BreakerState {
    /// Whether an endpoint in this state is one of those that the percentage counts.
    var holdsSlot: Bool { phase == .open || phase == .halfOpen }
}

extension HostHealth {
    /// Keeps an outcome that changes no run.
    func remember(_ entry: OutcomeHistory.Outcome) {
        var seen = history.load(ordering: .relaxed)
        while true {
            let new = OutcomeHistory(word: seen).adding(entry, run: 0)
            let (exchanged, original) = history.compareExchange(expected: seen, desired: new.word, ordering: .relaxed)
            if exchanged { return }
            seen = original
        }
    }
}

extension OutlierEvent.Reason {
    public init(_ reason: BreakerReason) {
        self =
            switch reason {
            case .consecutiveErrors: .consecutiveErrors
            case .failureRate: .failureRate
            case .slowRate: .slowRate
            case .successRate: .successRate
            case .failurePercentage: .failurePercentage
            case .probeFailed: .probeFailed
            case .probesPassed: .probesPassed
            case .timeOver: .ejectionTimeOver
            case .checkPassed: .checkPassed
            case .forced: .forced
            case .released: .released
            }
    }
}
