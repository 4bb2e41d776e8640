public import Base
public import ProxyConfig
import Synchronization

/// Decides for one cluster which endpoints are left alone for a while (docs/outlier-detection.md, docs/resilience.md).
///
/// Each endpoint has a breaker (`BreakerState`). Workers call `record` once per attempt; the worker that sees the last error it takes
/// ejects at once, and the one that sees the last probe lets the endpoint in again. One thread calls `sweep`, `setHosts` and `update`:
/// without probes it alone brings endpoints back. Workers learn of changes by comparing `epoch`.
public final class OutlierDetector: Sendable {
    public let cluster: String
    let events: OutlierEventLog
    let grpcErrors: GRPCErrorSet
    private let jitterPercent: UInt32
    private let seed: UInt64
    let rejoinGrace: Nanoseconds

    private let hot = HotRules()
    let slots = EjectionSlots()
    let changes = Atomic<UInt64>(0)
    private let draws = Atomic<UInt64>(0)
    let counters = Counters()

    /// Held by an ejection from its decision to its event, so that a new configuration sees whole ejections only. Taken inside of
    /// `members`, never around it.
    let rules = Mutex<EjectionRules?>(nil)
    let members = Mutex(Members())
    let panics = Mutex<[UInt32: PanicState]>([:])

    /// An address that comes back within this time is still mistrusted as before. As long as the longest default ejection.
    public static let defaultRejoinGrace = Nanoseconds.seconds(300)

    /// - Parameters:
    ///   - configuration: nil = no endpoint is ever ejected.
    ///   - jitterPercent: an ejection is longer by up to this share of itself, so that callers do not come back in step. An
    ///     `EndpointPolicy` brings its own.
    ///   - seed: of the dice for jitter and enforcement.
    public init(
        cluster: String, configuration: OutlierDetection?, events: OutlierEventLog, now: Instant, seed: UInt64,
        jitterPercent: UInt32 = 10, grpcErrors: GRPCErrorSet = .appMesh, rejoinGrace: Nanoseconds = OutlierDetector.defaultRejoinGrace
    ) {
        self.cluster = cluster
        self.events = events
        self.grpcErrors = grpcErrors
        self.jitterPercent = jitterPercent
        self.seed = seed
        self.rejoinGrace = rejoinGrace
        update(configuration: configuration, now: now)
    }

    /// Changes whenever an endpoint's breaker moves, or an endpoint joins or leaves. While it is the same, what a worker knows is current.
    public var epoch: UInt64 { changes.load(ordering: .acquiring) }

    /// Takes a new configuration. Endpoints that are ejected stay so for the time that the new one gives them; without one they return.
    public func update(configuration: OutlierDetection?, now: Instant) {
        use(configuration.map { EjectionRules($0, jitterPercent: jitterPercent) }, now: now)
    }

    /// The same with all that a breaker for each endpoint can do.
    public func update(policy: EndpointPolicy, now: Instant) {
        use(EjectionRules(policy), now: now)
    }

    /// Records how an attempt ended. Called once per attempt, by any worker.
    ///
    /// Allocates nothing, takes no lock and, for one success after many where only runs count, writes nothing; only the attempt that
    /// completes a run or a rate does more.
    ///
    /// - Parameters:
    ///   - elapsed: from the attempt's start to its end; only slow-call rates look at it.
    ///   - ticket: what `probe` gave for this attempt.
    public func record(
        _ outcome: AttemptOutcome, on host: HostHealth, elapsed: Nanoseconds = .zero, ticket: ProbeTicket = .none, now: Instant
    ) {
        let hot = hot.load()
        if case .ok = outcome, host.history.load(ordering: .relaxed) == OutcomeHistory.quietWord, hot.countsRunsOnly, !ticket.isProbe {
            return
        }
        recordChange(outcome, on: host, elapsed: elapsed, ticket: ticket, hot: hot, now: now)
    }

    /// Apart, so that the usual call needs no room for what this one does.
    @inline(never)
    private func recordChange(
        _ outcome: AttemptOutcome, on host: HostHealth, elapsed: Nanoseconds, ticket: ProbeTicket, hot: HotRules.Word, now: Instant
    ) {
        if ticket.isProbe { return finishProbe(ticket, outcome, on: host, now: now) }
        guard hot.isOn, let entry = OutcomeHistory.Outcome(outcome) else { return }
        // An ejected endpoint gets requests only in panic; they change nothing about its return.
        let state = host.breaker.load(ordering: .relaxed)
        guard state == BreakerState.closed.bits || BreakerState(bits: state).isCounting else { return }

        let isError = outcome.verdict(grpcErrors: grpcErrors) == .counts
        countRun(entry, isError: isError, threshold: hot.threshold, on: host, now: now)
        guard !hot.countsRunsOnly else { return }
        let isFailure = isError || outcome.isOverload
        if hot.comparesRates { host.interval.add(1 << 32 | (isFailure ? 1 : 0), ordering: .relaxed) }
        if hot.looksAtWindows { countRate(isFailure: isFailure, elapsed: elapsed, entry, on: host, now: now) }
    }

    private func countRun(_ entry: OutcomeHistory.Outcome, isError: Bool, threshold: UInt32, on host: HostHealth, now: Instant) {
        var seen = host.history.load(ordering: .relaxed)
        while true {
            let old = OutcomeHistory(word: seen)
            let run = isError ? old.run + 1 : 0
            // Who completes the run takes it away in the same step: one decision for each N errors, however many workers see them,
            // and no run that overshoots a threshold and never meets it again.
            let isComplete = run >= threshold
            let new = old.adding(entry, run: isComplete ? 0 : run)
            if new == old { return }
            let (exchanged, original) = host.history.compareExchange(expected: seen, desired: new.word, ordering: .relaxed)
            if exchanged {
                if isComplete { decide(on: host, .consecutiveErrors, history: new, now: now) }
                return
            }
            seen = original
        }
    }

    /// Only a failure or a slow call asks what the window says: no other one makes it worse.
    private func countRate(isFailure: Bool, elapsed: Nanoseconds, _ entry: OutcomeHistory.Outcome, on host: HostHealth, now: Instant) {
        let trip = hot.trip()
        let isSlow = elapsed > trip.slowCall
        let tenth = host.window.add(isFailure: isFailure, isSlow: isSlow, scale: trip.scale, now: now)
        guard isFailure || isSlow, let reason = trip.reason(for: host.window.totals(at: tenth)) else { return }
        // A window that stays bad while the endpoint may not be ejected would ask with every failure.
        guard now.nanoseconds >= host.windowHoldOff.load(ordering: .relaxed) else { return }
        host.windowHoldOff.store((now + trip.tenth).nanoseconds, ordering: .relaxed)
        decide(on: host, reason, history: OutcomeHistory(word: host.history.load(ordering: .relaxed)), now: now)
    }

    // MARK: Something is complete

    @inline(never)
    private func decide(on host: HostHealth, _ trigger: BreakerReason, history: OutcomeHistory, now: Instant) {
        let isCommon = isCommon(trigger, to: host, now: now)
        rules.withLock { rules in
            guard let rules else { return }
            ejectIfAllowed(host, trigger, isCommon: isCommon, history, rules, now: now)
        }
    }

    /// The gate in Envoy's order: already ejected, then the percentage, then the dice. Before these, what Envoy does not ask.
    func ejectIfAllowed(
        _ host: HostHealth, _ trigger: BreakerReason, isCommon: Bool, _ history: OutcomeHistory, _ rules: EjectionRules, now: Instant
    ) {
        let seen = BreakerState(bits: host.breaker.load(ordering: .relaxed))
        guard seen.isCounting else { return }
        if rules.isObserving || seen.phase == .observing { return refuse(host, .observeOnly, trigger, history, rules, now: now) }
        if isCommon { return refuse(host, .siblingsAlike, trigger, history, rules, now: now) }
        let isEnforced = rules.enforcingPercent >= 100 || draw(below: 100) < rules.enforcingPercent
        guard isEnforced ? slots.take() : slots.hasRoom else {
            counters.overflow.add(1, ordering: .relaxed)
            let reason: OutlierEvent.Reason = rules.maxEjectionPercent == 0 ? .detectOnly : .maxEjectionPercent
            return refuse(host, reason, trigger, history, rules, now: now)
        }
        guard isEnforced else {
            return refuse(host, .enforcingPercent, trigger, history, rules, now: now)
        }
        eject(host, from: seen, trigger, history, rules, now: now)
    }

    private func eject(
        _ host: HostHealth, from seen: BreakerState, _ trigger: BreakerReason, _ history: OutcomeHistory, _ rules: EjectionRules,
        now: Instant
    ) {
        let (multiplier, time) = openTime(for: host, rules)
        let open = seen.after(.trip(until: now + time), now: now, rule: rules.state)
        guard host.breaker.compareExchange(expected: seen.bits, desired: open.bits, ordering: .acquiringAndReleasing).exchanged else {
            return slots.giveBack()  // It left the cluster in between, or its ramp ended: the next error asks again.
        }
        host.multiplier.store(multiplier, ordering: .relaxed)
        host.ejections.add(1, ordering: .relaxed)
        counters.detected.add(1, ordering: .relaxed)
        counters.enforced.add(1, ordering: .relaxed)
        counters.count(trigger, isEnforced: true)
        host.window.clear()
        host.windowHoldOff.store(HostHealth.never, ordering: .relaxed)
        changes.add(1, ordering: .releasing)
        tell(.eject, OutlierEvent.Reason(trigger), host, trigger: trigger, history: history, ejectionTime: time, now: now)
    }

    func openTime(for host: HostHealth, _ rules: EjectionRules) -> (multiplier: UInt32, time: Nanoseconds) {
        let multiplier = rules.nextMultiplier(after: host.multiplier.load(ordering: .relaxed))
        var time = rules.ejectionTime(multiplier: multiplier)
        time.count += rules.openTime.jitter(of: time, draw: draw()).count
        return (multiplier, time)
    }

    /// A host that fails on while it may not be ejected would write an event every N errors: one an interval is enough, with the count.
    private func refuse(
        _ host: HostHealth, _ reason: OutlierEvent.Reason, _ trigger: BreakerReason, _ history: OutcomeHistory, _ rules: EjectionRules,
        now: Instant
    ) {
        counters.detected.add(1, ordering: .relaxed)
        counters.count(trigger, isEnforced: false)
        let refusals = host.refusals.add(1, ordering: .relaxed).newValue
        let last = host.lastRefusal.load(ordering: .relaxed)
        guard last == HostHealth.never || now >= Instant(nanoseconds: last) + rules.interval else { return }
        host.lastRefusal.store(now.nanoseconds, ordering: .relaxed)
        host.refusals.store(0, ordering: .relaxed)
        tell(.suppressed, reason, host, trigger: trigger, history: history, refusals: refusals, now: now)
    }

    /// Whether the endpoint's siblings are about as bad: their median lies less than the policy's deviation below it.
    ///
    /// A run says of the endpoint itself that about every second call fails, whatever its window still holds of better times.
    private func isCommon(_ trigger: BreakerReason, to host: HostHealth, now: Instant) -> Bool {
        guard let rules = rules.withLock({ $0 }), rules.minimumDeviationPercent > 0, let trip = rules.trip else { return false }
        func percent(_ totals: RateWindow.Totals) -> UInt32 {
            UInt32(UInt64(trigger == .slowRate ? totals.slow : totals.failures) * 100 / UInt64(max(totals.calls, 1)))
        }
        let shares = members.withLock { members in
            members.hosts.lazy.filter { $0 !== host }.map { $0.window.totals(scale: trip.scale, now: now) }
                .filter { $0.calls >= min(trip.minimumCalls, Self.tellingCalls) }.map(percent).sorted()
        }
        guard !shares.isEmpty else { return false }
        let median = (shares[(shares.count - 1) / 2] + shares[shares.count / 2]) / 2
        let own = trigger == .consecutiveErrors ? 50 : percent(host.window.totals(scale: trip.scale, now: now))
        return median + rules.minimumDeviationPercent > own
    }

    /// A sibling with so many calls says something about what is common.
    private static let tellingCalls: UInt32 = 10

    /// Appends an event about a host; an action that took effect is the host's last one from now on.
    func tell(
        _ action: OutlierEvent.Action, _ reason: OutlierEvent.Reason, _ host: HostHealth, trigger: BreakerReason = .consecutiveErrors,
        history: OutcomeHistory, ejectionTime: Nanoseconds? = nil, refusals: UInt32 = 0, now: Instant
    ) {
        if action != .suppressed { host.lastReason.store(reason.index, ordering: .relaxed) }
        let last =
            action == .suppressed
            ? host.lastAction.load(ordering: .relaxed) : host.lastAction.exchange(now.nanoseconds, ordering: .relaxed)
        let subject = OutlierEvent.Host(
            address: host.address, ejections: host.ejections.load(ordering: .relaxed),
            sinceLastAction: last == HostHealth.never ? nil : now - Instant(nanoseconds: last), ejectionTime: ejectionTime,
            refusals: refusals, history: history)
        events.append(
            OutlierEvent(action: action, reason: reason, cluster: cluster, instant: now, subject: .host(subject), trigger: trigger))
    }

    /// The same of active health checks, which are neither ejection nor return.
    func tell(_ action: OutlierEvent.Action, _ reason: OutlierEvent.Reason, _ host: HostHealth, seen: String, now: Instant) {
        let last = host.lastAction.load(ordering: .relaxed)
        let subject = OutlierEvent.Host(
            address: host.address, ejections: host.ejections.load(ordering: .relaxed),
            sinceLastAction: last == HostHealth.never ? nil : now - Instant(nanoseconds: last), refusals: 0,
            history: OutcomeHistory(word: host.history.load(ordering: .relaxed)), seen: seen)
        events.append(OutlierEvent(action: action, reason: reason, cluster: cluster, instant: now, subject: .host(subject)))
    }

    /// The next of a seeded sequence that all workers share.
    private func draw() -> UInt64 {
        var random = SeededRandom(seed: seed &+ draws.add(1, ordering: .relaxed).newValue)
        return random.next()
    }

    private func draw(below bound: UInt64) -> UInt64 {
        draw().multipliedFullWidth(by: bound).high
    }

    /// What a configuration is made of, for the workers.
    func publish(_ new: EjectionRules?) {
        hot.store(new)
    }
}
