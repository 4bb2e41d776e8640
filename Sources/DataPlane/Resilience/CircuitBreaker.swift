public import Base
public import ProxyConfig
import Synchronization

/// The breaker of a service: the machine of `BreakerState` over the calls to all endpoints of a cluster or a route together.
///
/// While it is open, calls are answered here: 503 with the flag CB and Retry-After, gRPC UNAVAILABLE. Shared by all workers, without a
/// lock: `admit` before an attempt is made, `record` once for each call that was admitted. Closed, that is a load and, for the
/// window, one compare-and-swap. Its policy never changes; a new one is a new breaker that takes over from the old (`init(taking:)`).
public final class CircuitBreaker: Sendable {
    public enum Admission: Hashable, Sendable {
        case pass
        /// Goes through to find out whether the service is well; `record` wants the ticket back.
        case probe(ProbeTicket)
        /// Answer it here. After `retryAfter` it may be worth another try; zero = nobody knows.
        case refuse(retryAfter: Nanoseconds)
    }

    /// One move, or one that would have been.
    public struct Change: Hashable, Sendable {
        public var old: BreakerState
        public var new: BreakerState
        public var reason: BreakerReason
        /// False: it only observes.
        public var isEnforced: Bool
        public var instant: Instant
    }

    /// For the admin page and metrics: each exact, together not of one moment.
    public struct Report: Hashable, Sendable {
        public var state: BreakerState
        /// Why it is in this state; nil if it never moved.
        public var reason: BreakerReason?
        public var since: Instant?
        public var consecutiveErrors: UInt32
        public var windowCalls: UInt32
        public var windowFailures: UInt32
        public var windowSlow: UInt32
        /// Times that it opened in a row: the open time grows with it.
        public var multiplier: UInt32
        /// Of the current round; nil unless half-open.
        public var round: ProbeProgress?
        public var opened: UInt64
        public var refused: UInt64
        public var probes: UInt64
        /// Times that it would have opened.
        public var observed: UInt64
    }

    public let name: String
    public let policy: BreakerPolicy
    private let rule: BreakerState.Rule
    private let openTime: OpenTime
    private let probeRule: BreakerPolicy.Probe.Calls?
    private let trip: TripRule?
    private let grpcErrors: GRPCErrorSet
    private let notify: (@Sendable (Change) -> Void)?

    private let word = Atomic<UInt64>(0)
    private let run = Atomic<UInt32>(0)
    private let multiplier = Atomic<UInt32>(0)
    private let window = RateWindow()
    private let gate = ProbeGate()
    private let since = Atomic<Int64>(HostHealth.never)
    private let lastReason = Mutex<BreakerReason?>(nil)
    private let opened = Atomic<UInt64>(0)
    private let refused = Atomic<UInt64>(0)
    private let probes = Atomic<UInt64>(0)
    private let observed = Atomic<UInt64>(0)

    /// - Parameter notify: called after each move, on the thread that caused it. It must not call back.
    public init(
        name: String, policy: BreakerPolicy, taking old: CircuitBreaker? = nil, grpcErrors: GRPCErrorSet = .native,
        notify: (@Sendable (Change) -> Void)? = nil
    ) {
        self.name = name
        self.policy = policy
        rule = BreakerState.Rule(policy)
        openTime = OpenTime(policy.open)
        if case .calls(let calls) = policy.probe { probeRule = calls } else { probeRule = nil }
        trip = TripRule(policy.trip)
        self.grpcErrors = grpcErrors
        self.notify = notify
        guard let old else { return }
        // A round of probes belongs to the one that began it.
        let state = old.state
        word.store((state.phase == .halfOpen ? BreakerState(.open, at: state.instant) : state).bits, ordering: .relaxed)
        multiplier.store(min(old.multiplier.load(ordering: .relaxed), openTime.highestMultiplier), ordering: .relaxed)
        since.store(old.since.load(ordering: .relaxed), ordering: .relaxed)
        lastReason.withLock { $0 = old.lastReason.withLock { $0 } }
        opened.store(old.opened.load(ordering: .relaxed), ordering: .relaxed)
        refused.store(old.refused.load(ordering: .relaxed), ordering: .relaxed)
        probes.store(old.probes.load(ordering: .relaxed), ordering: .relaxed)
        observed.store(old.observed.load(ordering: .relaxed), ordering: .relaxed)
    }

    public var state: BreakerState { BreakerState(bits: word.load(ordering: .acquiring)) }

    // MARK: Calls

    /// Whether a call may go on.
    ///
    /// - Parameter mayProbe: false for one that should not be risked (not safe, or not to be repeated): it is refused while only probes
    ///   pass.
    @inline(__always)
    public func admit(mayProbe: Bool = true, now: Instant, random: inout SeededRandom) -> Admission {
        word.load(ordering: .relaxed) == BreakerState.closed.bits ? .pass : admitSlowly(mayProbe: mayProbe, now: now, random: &random)
    }

    @inline(never)
    private func admitSlowly(mayProbe: Bool, now: Instant, random: inout SeededRandom) -> Admission {
        let state = move(.time, .timeOver, now: now)
        switch state.phase {
        case .closed, .disabled, .observing, .departed: return .pass
        case .open, .forcedOpen: return refuse(until: state.instant, now: now)
        case .halfOpen:
            guard mayProbe, let probeRule, let ticket = gate.take(in: state, rule: probeRule) else { return refuse(until: now, now: now) }
            probes.add(1, ordering: .relaxed)
            return .probe(ticket)
        case .ramping:
            let share = policy.ramp.share(after: now - state.instant)
            return Double(random.next() >> 11) < share * 0x1p53 ? .pass : refuse(until: now, now: now)
        }
    }

    private func refuse(until: Instant, now: Instant) -> Admission {
        refused.add(1, ordering: .relaxed)
        return .refuse(retryAfter: until == .never ? .zero : max(until - now, .zero))
    }

    /// Takes in how an admitted call ended.
    ///
    /// - Parameter random: for the jitter of the open time.
    public func record(
        _ outcome: AttemptOutcome, elapsed: Nanoseconds, admission: Admission = .pass, now: Instant, random: inout SeededRandom
    ) {
        let verdict = outcome.verdict(grpcErrors: grpcErrors)
        let isFailure = verdict == .counts || outcome.isOverload
        if case .probe(let ticket) = admission {
            return finishProbe(ticket, isSuccess: verdict == .neutral ? nil : !isFailure, now: now, random: &random)
        }
        guard verdict != .neutral else { return }
        let seen = word.load(ordering: .relaxed)
        guard seen == BreakerState.closed.bits || BreakerState(bits: seen).isCounting else { return }
        if let threshold = policy.trip.consecutiveErrors {
            if verdict == .counts {
                if run.add(1, ordering: .relaxed).newValue >= max(threshold, 1) {
                    return open(.consecutiveErrors, now: now, random: &random)
                }
            } else if !isFailure, run.load(ordering: .relaxed) != 0 {
                run.store(0, ordering: .relaxed)
            }
        }
        guard let trip else { return }
        let isSlow = elapsed > trip.slowCall
        let tenth = window.add(isFailure: isFailure, isSlow: isSlow, scale: trip.scale, now: now)
        // No other call makes the window worse.
        guard isFailure || isSlow, let reason = trip.reason(for: window.totals(at: tenth)) else { return }
        open(reason, now: now, random: &random)
    }

    @inline(never)
    private func open(_ reason: BreakerReason, now: Instant, random: inout SeededRandom) {
        let seen = state
        run.store(0, ordering: .relaxed)
        window.clear()
        guard policy.mode == .enforce, seen.phase != .observing else {
            observed.add(1, ordering: .relaxed)
            notify?(Change(old: seen, new: seen, reason: reason, isEnforced: false, instant: now))
            return
        }
        _ = move(.trip(until: now + nextOpenTime(now: now, random: &random)), reason, now: now)
    }

    private func finishProbe(_ ticket: ProbeTicket, isSuccess: Bool?, now: Instant, random: inout SeededRandom) {
        guard let probeRule, let verdict = gate.finish(ticket, isSuccess: isSuccess, rule: probeRule) else { return }
        guard word.load(ordering: .acquiring) == ticket.round else { return }  // Of another round.
        switch verdict {
        case .passed: _ = move(.probesPassed, .probesPassed, now: now)
        case .failed: _ = move(.probeFailed(until: now + nextOpenTime(now: now, random: &random)), .probeFailed, now: now)
        }
    }

    /// Longer each time in a row; who was closed for twice as long as it was open is forgiven.
    private func nextOpenTime(now: Instant, random: inout SeededRandom) -> Nanoseconds {
        var times = multiplier.load(ordering: .relaxed)
        let seen = state
        if seen.phase == .closed, times > 0, since.load(ordering: .relaxed) != HostHealth.never {
            let closedFor = now - Instant(nanoseconds: since.load(ordering: .relaxed))
            if closedFor.count / 2 >= openTime.time(multiplier: times).count { times = 0 }
        }
        let next = openTime.nextMultiplier(after: times)
        multiplier.store(next, ordering: .relaxed)
        let time = openTime.time(multiplier: next)
        return Nanoseconds(count: time.count + openTime.jitter(of: time, draw: random.next()).count)
    }

    // MARK: Time and operators

    /// Lets time move it without a call, so that what operators see is true. `admit` does the same.
    public func advance(now: Instant) {
        _ = move(.time, .timeOver, now: now)
    }

    /// By hand, for a limited time: `forcedOpen`, `disabled` or `observing`.
    public func force(_ phase: BreakerState.Phase, until: Instant, now: Instant) {
        _ = move(.force(phase, until: until), .forced, now: now)
    }

    /// Ends what was forced.
    public func release(now: Instant) {
        _ = move(.release, .released, now: now)
    }

    public func report(now: Instant) -> Report {
        let totals = trip.map { window.totals(scale: $0.scale, now: now) } ?? RateWindow.Totals()
        let moved = since.load(ordering: .relaxed)
        let state = state
        return Report(
            state: state, reason: lastReason.withLock { $0 }, since: moved == HostHealth.never ? nil : Instant(nanoseconds: moved),
            consecutiveErrors: run.load(ordering: .relaxed), windowCalls: totals.calls, windowFailures: totals.failures,
            windowSlow: totals.slow, multiplier: multiplier.load(ordering: .relaxed),
            round: state.phase == .halfOpen ? gate.progress(in: state) : nil, opened: opened.load(ordering: .relaxed),
            refused: refused.load(ordering: .relaxed), probes: probes.load(ordering: .relaxed), observed: observed.load(ordering: .relaxed))
    }

    /// The state after the event, which another thread may have made.
    private func move(_ event: BreakerState.Event, _ reason: BreakerReason, now: Instant) -> BreakerState {
        let seen = state
        let next = seen.after(event, now: now, rule: rule)
        guard next != seen else { return seen }
        guard word.compareExchange(expected: seen.bits, desired: next.bits, ordering: .acquiringAndReleasing).exchanged else {
            return state
        }
        // A new round of probes is no other state.
        guard next.phase != seen.phase else { return next }
        if next.phase == .open { opened.add(1, ordering: .relaxed) }
        if !next.isRefusing, seen.isRefusing {
            run.store(0, ordering: .relaxed)
            window.clear()
        }
        since.store(now.nanoseconds, ordering: .relaxed)
        lastReason.withLock { $0 = reason }
        notify?(Change(old: seen, new: next, reason: reason, isEnforced: true, instant: now))
        return next
    }
}
