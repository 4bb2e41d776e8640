public import Base
public import ProxyConfig
import Synchronization

/// Decides for one cluster which endpoints are left alone for a while (docs/outlier-detection.md).
///
/// Workers call `record` once per attempt; the worker that sees the N-th error in a row ejects at once. One thread calls `sweep`,
/// `setHosts` and `update`: it alone brings endpoints back. Workers learn of changes by comparing `epoch`.
public final class OutlierDetector: Sendable {
    public let cluster: String
    let events: OutlierEventLog
    let grpcErrors: GRPCErrorSet
    private let jitterPercent: UInt32
    private let seed: UInt64
    private let rejoinGrace: Nanoseconds

    /// Errors in a row that eject; 0 while detection is off.
    private let threshold = Atomic<UInt32>(0)
    let slots = EjectionSlots()
    let changes = Atomic<UInt64>(0)
    private let draws = Atomic<UInt64>(0)
    let counters = Counters()

    /// Held by an ejection from its decision to its event, so that a new configuration sees whole ejections only.
    let rules = Mutex<EjectionRules?>(nil)
    let members = Mutex(Members())
    let panics = Mutex<[UInt32: PanicState]>([:])

    /// An address that comes back within this time is still mistrusted as before. As long as the longest default ejection.
    public static let defaultRejoinGrace = Nanoseconds.seconds(300)

    /// - Parameters:
    ///   - configuration: nil = no endpoint is ever ejected.
    ///   - jitterPercent: an ejection is longer by up to this share of itself, so that callers do not come back in step.
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

    /// Changes whenever an endpoint is ejected, returns, joins or leaves. While it is the same, what a worker knows is current.
    public var epoch: UInt64 { changes.load(ordering: .acquiring) }

    /// Records how an attempt ended. Called once per attempt, by any worker.
    ///
    /// Allocates nothing, takes no lock and, for one success after many, writes nothing; only the attempt that completes a run of
    /// errors does more.
    public func record(_ outcome: AttemptOutcome, on host: HostHealth, now: Instant) {
        if case .ok = outcome, host.history.load(ordering: .relaxed) == OutcomeHistory.quiet.word { return }
        let threshold = threshold.load(ordering: .relaxed)
        guard threshold > 0, let entry = OutcomeHistory.Outcome(outcome) else { return }
        // An ejected endpoint gets requests only in panic; they change nothing about its return.
        guard host.breaker.load(ordering: .relaxed) == BreakerWord.closed.bits else { return }

        let isError = outcome.verdict(grpcErrors: grpcErrors) == .counts
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
                if isComplete { decide(on: host, history: new, now: now) }
                return
            }
            seen = original
        }
    }

    // MARK: A completed run

    /// The gate in Envoy's order: already ejected, then the percentage, then the dice.
    @inline(never)
    private func decide(on host: HostHealth, history: OutcomeHistory, now: Instant) {
        rules.withLock { rules in
            guard let rules, host.breaker.load(ordering: .relaxed) == BreakerWord.closed.bits else { return }
            let isEnforced = rules.enforcingPercent >= 100 || draw(below: 100) < rules.enforcingPercent
            guard isEnforced ? slots.take() : slots.hasRoom else {
                counters.overflow.add(1, ordering: .relaxed)
                return refuse(host, rules.maxEjectionPercent == 0 ? .detectOnly : .maxEjectionPercent, history, rules, now: now)
            }
            guard isEnforced else {
                return refuse(host, .enforcingPercent, history, rules, now: now)
            }
            eject(host, history, rules, now: now)
        }
    }

    private func eject(_ host: HostHealth, _ history: OutcomeHistory, _ rules: EjectionRules, now: Instant) {
        let multiplier = rules.nextMultiplier(after: host.multiplier.load(ordering: .relaxed))
        var time = rules.ejectionTime(multiplier: multiplier)
        time.count += Int64(draw(below: UInt64(time.count / 100) * UInt64(jitterPercent) + 1))
        let open = BreakerWord.open(until: now + time)
        guard
            host.breaker.compareExchange(expected: BreakerWord.closed.bits, desired: open.bits, ordering: .acquiringAndReleasing).exchanged
        else {
            return slots.giveBack()  // It left the cluster in between.
        }
        host.multiplier.store(multiplier, ordering: .relaxed)
        host.ejections.add(1, ordering: .relaxed)
        counters.detected.add(1, ordering: .relaxed)
        counters.enforced.add(1, ordering: .relaxed)
        changes.add(1, ordering: .releasing)
        tell(.eject, .consecutiveErrors, host, history: history, ejectionTime: time, now: now)
    }

    /// A host that fails on while it may not be ejected would write an event every N errors: one an interval is enough, with the count.
    private func refuse(_ host: HostHealth, _ reason: OutlierEvent.Reason, _ history: OutcomeHistory, _ rules: EjectionRules, now: Instant)
    {
        counters.detected.add(1, ordering: .relaxed)
        let refusals = host.refusals.add(1, ordering: .relaxed).newValue
        let last = host.lastRefusal.load(ordering: .relaxed)
        guard last == HostHealth.never || now >= Instant(nanoseconds: last) + rules.interval else { return }
        host.lastRefusal.store(now.nanoseconds, ordering: .relaxed)
        host.refusals.store(0, ordering: .relaxed)
        tell(.suppressed, reason, host, history: history, refusals: refusals, now: now)
    }

    /// Appends an event about a host; an action that took effect is the host's last one from now on.
    func tell(
        _ action: OutlierEvent.Action, _ reason: OutlierEvent.Reason, _ host: HostHealth, history: OutcomeHistory,
        ejectionTime: Nanoseconds? = nil, refusals: UInt32 = 0, now: Instant
    ) {
        let last =
            action == .suppressed
            ? host.lastAction.load(ordering: .relaxed) : host.lastAction.exchange(now.nanoseconds, ordering: .relaxed)
        let subject = OutlierEvent.Host(
            address: host.address, ejections: host.ejections.load(ordering: .relaxed),
            sinceLastAction: last == HostHealth.never ? nil : now - Instant(nanoseconds: last), ejectionTime: ejectionTime,
            refusals: refusals, history: history)
        events.append(OutlierEvent(action: action, reason: reason, cluster: cluster, instant: now, subject: .host(subject)))
    }

    /// A number in `0..<bound`: the next of a seeded sequence that all workers share.
    private func draw(below bound: UInt64) -> UInt64 {
        var random = SeededRandom(seed: seed &+ draws.add(1, ordering: .relaxed).newValue)
        return random.next().multipliedFullWidth(by: bound).high
    }
}

// MARK: The thread that runs the cluster

extension OutlierDetector {
    struct Members {
        var hosts: [HostHealth] = []
        /// Those that left and were not yet forgiven, with the time they left.
        var departed: [SocketAddress: (host: HostHealth, left: Instant)] = [:]
        var lastSweep = Instant(nanoseconds: 0)
        var nextSweep = Instant.never
    }

    /// How many addresses that left are remembered: the last that left. Far more than fail and leave within the grace time.
    static let departedCapacity = 1024

    /// When `sweep` is due; `.never` while detection is off.
    public var nextSweep: Instant {
        members.withLock { $0.nextSweep }
    }

    /// Brings endpoints back whose time is over, then trusts every other one that is in a little more. Does nothing before `nextSweep`.
    public func sweep(now: Instant) {
        members.withLock { members in
            guard now >= members.nextSweep, let rules = rules.withLock({ $0 }) else { return }
            // On a grid, so that a late wake-up does not shift all that follow.
            let missed = (now - members.nextSweep).count / rules.interval.count
            members.lastSweep = members.nextSweep + Nanoseconds(count: missed * rules.interval.count)
            members.nextSweep = members.lastSweep + rules.interval
            for host in members.hosts {
                if let until = host.ejectedUntil {
                    if until <= now { bringBack(host, .ejectionTimeOver, now: now) }
                } else {
                    trustMore(host)
                }
            }
            members.departed = members.departed.filter { now - $0.value.left <= rejoinGrace }
        }
    }

    /// Makes `addresses` the cluster's endpoints and returns their health, in the same order; an address that stays keeps its own.
    ///
    /// An address that leaves while ejected gives its place among the ejected back. If it returns within the grace time, it is not
    /// ejected, but its next ejection takes as long as if it had stayed: re-registration is how a crashing process looks.
    public func setHosts(_ addresses: [SocketAddress], now: Instant) -> [HostHealth] {
        members.withLock { members in
            let before = Dictionary(uniqueKeysWithValues: members.hosts.map { ($0.address, $0) })
            var after: [SocketAddress: HostHealth] = [:]
            var hosts: [HostHealth] = []
            for address in addresses where after[address] == nil {
                let host = before[address] ?? members.rejoin(address, within: rejoinGrace, now: now) ?? HostHealth(address: address)
                after[address] = host
                hosts.append(host)
            }
            for host in members.hosts where after[host.address] == nil {
                depart(host, from: &members, now: now)
            }
            if Set(after.keys) != Set(before.keys) { changes.add(1, ordering: .releasing) }
            members.hosts = hosts
            allowEjections(of: hosts.count)
            return addresses.compactMap { after[$0] }
        }
    }

    /// Takes a new configuration. Endpoints that are ejected stay so for the time that the new one gives them; without one they return.
    public func update(configuration: OutlierDetection?, now: Instant) {
        let new = configuration.map(EjectionRules.init)
        members.withLock { members in
            rules.withLock { rules in
                let old = rules
                rules = new
                threshold.store(new?.threshold ?? 0, ordering: .relaxed)
                if old == nil { members.lastSweep = now }
                members.nextSweep = new.map { max(now, members.lastSweep + $0.interval) } ?? .never
                for host in members.hosts {
                    reschedule(host, from: old, to: new, now: now)
                }
            }
            allowEjections(of: members.hosts.count)
        }
    }

    /// A worker tells that panic began or ended for a priority as of `epoch`. What is old or known already makes no event.
    public func recordPanic(_ isOn: Bool, priority: UInt32, available: Int, total: Int, epoch: UInt64, now: Instant) {
        let isNews = panics.withLock { panics in
            let known = panics[priority] ?? PanicState()
            guard epoch >= known.epoch else { return false }
            panics[priority] = PanicState(isOn: isOn, epoch: epoch)
            return known.isOn != isOn
        }
        guard isNews else { return }
        events.append(
            OutlierEvent(
                action: isOn ? .panicOn : .panicOff, reason: isOn ? .availableBelowThreshold : .availableAgain, cluster: cluster,
                instant: now,
                subject: .priority(priority, available: available, total: total)))
    }

    struct PanicState {
        var isOn = false
        var epoch: UInt64 = 0
    }

    private func allowEjections(of total: Int) {
        slots.allow(rules.withLock { $0?.allowedEjections(of: total) ?? 0 })
    }

    private func bringBack(_ host: HostHealth, _ reason: OutlierEvent.Reason, now: Instant) {
        let history = OutcomeHistory(word: host.history.load(ordering: .relaxed))
        host.forgetRun()
        host.breaker.store(BreakerWord.closed.bits, ordering: .releasing)
        slots.giveBack()
        changes.add(1, ordering: .releasing)
        tell(.uneject, reason, host, history: history, now: now)
    }

    private func trustMore(_ host: HostHealth) {
        let multiplier = host.multiplier.load(ordering: .relaxed)
        guard multiplier > 0 else { return }
        // If it fails, a worker ejects at this moment, and its multiplier stands.
        _ = host.multiplier.compareExchange(expected: multiplier, desired: multiplier - 1, ordering: .relaxed)
    }

    private func depart(_ host: HostHealth, from members: inout Members, now: Instant) {
        let old = BreakerWord(bits: host.breaker.exchange(BreakerWord.departed.bits, ordering: .acquiringAndReleasing))
        if old.isOpen {
            slots.giveBack()
            tell(.uneject, .hostLeft, host, history: OutcomeHistory(word: host.history.load(ordering: .relaxed)), now: now)
        }
        guard host.multiplier.load(ordering: .relaxed) > 0 else { return }
        members.departed[host.address] = (host, now)
        if members.departed.count > Self.departedCapacity, let oldest = members.departed.min(by: { $0.value.left < $1.value.left }) {
            members.departed[oldest.key] = nil
        }
    }

    private func reschedule(_ host: HostHealth, from old: EjectionRules?, to new: EjectionRules?, now: Instant) {
        guard let new else {
            if host.isEjected { bringBack(host, .detectionOff, now: now) }
            return
        }
        let multiplier = min(host.multiplier.load(ordering: .relaxed), new.highestMultiplier)
        host.multiplier.store(multiplier, ordering: .relaxed)
        guard host.isEjected, let old else { return }
        let time = new.ejectionTime(multiplier: multiplier)
        guard time != old.ejectionTime(multiplier: multiplier) else { return }
        let ejected = Instant(nanoseconds: host.lastAction.load(ordering: .relaxed))
        host.breaker.store(BreakerWord.open(until: ejected + time).bits, ordering: .releasing)
    }
}

extension OutlierDetector.Members {
    fileprivate mutating func rejoin(_ address: SocketAddress, within grace: Nanoseconds, now: Instant) -> HostHealth? {
        guard let (host, left) = departed.removeValue(forKey: address), now - left <= grace else { return nil }
        host.forgetRun()
        host.breaker.store(BreakerWord.closed.bits, ordering: .releasing)
        return host
    }
}
