public import Base
import Synchronization

/// What one thread does for the cluster: sweeps, membership, configuration, and panic as the workers tell it.
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

    /// Brings endpoints back whose time is over, ejects those that stand out, then trusts every other one that is in a little more.
    /// Does nothing before `nextSweep`.
    public func sweep(now: Instant) {
        members.withLock { members in
            guard now >= members.nextSweep, let rules = rules.withLock({ $0 }) else { return }
            // On a grid, so that a late wake-up does not shift all that follow.
            let missed = (now - members.nextSweep).count / rules.interval.count
            members.lastSweep = members.nextSweep + Nanoseconds(count: missed * rules.interval.count)
            members.nextSweep = members.lastSweep + rules.interval
            let wasEjected = members.hosts.map(\.isEjected)
            for host in members.hosts { move(host, .time, rules, now: now) }
            if rules.comparesRates { compareRates(of: members.hosts, rules, now: now) }
            // Who came back in this sweep, or went out in it, is not trusted more yet.
            for (host, wasEjected) in zip(members.hosts, wasEjected) where !wasEjected && !host.isEjected { trustMore(host) }
            members.departed = members.departed.filter { now - $0.value.left <= rejoinGrace }
        }
    }

    /// The worst first, so that the places that the percentage allows go to those that need them.
    private func compareRates(of hosts: [HostHealth], _ configured: EjectionRules, now: Instant) {
        var rates: [HostRate] = []
        for (index, host) in hosts.enumerated() {
            let counts = host.interval.exchange(0, ordering: .relaxed)
            guard host.state.isCounting else { continue }
            rates.append(HostRate(host: index, calls: UInt32(counts >> 32), failures: UInt32(truncatingIfNeeded: counts)))
        }
        let deviating = configured.successRate?.outliers(among: rates).hosts ?? []
        let failing = configured.failurePercentage?.outliers(among: rates) ?? []
        rules.withLock { rules in
            guard let rules else { return }
            for (trigger, outliers) in [(BreakerReason.successRate, deviating), (.failurePercentage, failing)] {
                for outlier in outliers {
                    let host = hosts[outlier.host]
                    let history = OutcomeHistory(word: host.history.load(ordering: .relaxed))
                    ejectIfAllowed(host, trigger, isCommon: false, history, rules, now: now)
                }
            }
        }
    }

    /// Makes `addresses` the cluster's endpoints and returns their health, in the same order; an address that stays keeps its own.
    ///
    /// An address that leaves while ejected gives its place among the ejected back. If it returns within the grace time, it is not
    /// ejected, but its next ejection takes as long as if it had stayed: re-registration is how a crashing process looks. Where the
    /// policy has a ramp, new addresses begin on it, unless most are new.
    public func setHosts(_ addresses: [SocketAddress], now: Instant) -> [HostHealth] {
        members.withLock { members in
            let before = Dictionary(uniqueKeysWithValues: members.hosts.map { ($0.address, $0) })
            let beginning = newcomersBegin(of: Set(addresses), known: before, now: now)
            var after: [SocketAddress: HostHealth] = [:]
            var hosts: [HostHealth] = []
            for address in addresses where after[address] == nil {
                let host =
                    before[address] ?? members.rejoin(address, within: rejoinGrace, as: beginning, now: now)
                    ?? HostHealth(address: address, state: beginning)
                after[address] = host
                hosts.append(host)
            }
            for host in members.hosts where after[host.address] == nil {
                depart(host, from: &members, now: now)
            }
            if Set(after.keys) != Set(before.keys) { changes.add(1, ordering: .releasing) }
            members.hosts = hosts
            members.letIn()
            allowEjections(of: hosts.count)
            return addresses.compactMap { after[$0] }
        }
    }

    /// With more than half of the endpoints on the ramp the others would carry more than twice their share: then nobody is.
    private func newcomersBegin(of addresses: Set<SocketAddress>, known: [SocketAddress: HostHealth], now: Instant) -> BreakerState {
        let ramp = rules.withLock { $0?.state.ramp ?? .zero }
        let ramping = addresses.count { known[$0].map { $0.state.phase == .ramping } ?? true }
        return ramp > .zero && ramping * 2 <= addresses.count ? BreakerState(.ramping, at: now) : .closed
    }

    /// Takes a new configuration, or none.
    func use(_ new: EjectionRules?, now: Instant) {
        members.withLock { members in
            let old = rules.withLock { rules in
                let old = rules
                rules = new
                publish(new)
                return old
            }
            if old == nil { members.lastSweep = now }
            members.nextSweep = new.map { max(now, members.lastSweep + $0.interval) } ?? .never
            for host in members.hosts {
                if old?.trip?.scale != new?.trip?.scale { host.window.clear() }
                reschedule(host, from: old, to: new, now: now)
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

    private func trustMore(_ host: HostHealth) {
        let multiplier = host.multiplier.load(ordering: .relaxed)
        guard multiplier > 0 else { return }
        // If it fails, a worker ejects at this moment, and its multiplier stands.
        _ = host.multiplier.compareExchange(expected: multiplier, desired: multiplier - 1, ordering: .relaxed)
    }

    private func depart(_ host: HostHealth, from members: inout Members, now: Instant) {
        let old = BreakerState(bits: host.breaker.exchange(BreakerState.departed.bits, ordering: .acquiringAndReleasing))
        if old.holdsSlot {
            slots.giveBack()
            tell(.uneject, .hostLeft, host, history: OutcomeHistory(word: host.history.load(ordering: .relaxed)), now: now)
        }
        guard host.multiplier.load(ordering: .relaxed) > 0 else { return }
        members.departed[host.address] = (host, now)
        if members.departed.count > Self.departedCapacity, let oldest = members.departed.min(by: { $0.value.left < $1.value.left }) {
            members.departed[oldest.key] = nil
        }
    }

    /// What is forced by hand outlives a change of configuration.
    private func reschedule(_ host: HostHealth, from old: EjectionRules?, to new: EjectionRules?, now: Instant) {
        let seen = host.state
        guard let new else {
            guard seen.holdsSlot || seen.phase == .ramping else { return }
            return bringBack(host, .detectionOff, now: now)
        }
        let multiplier = min(host.multiplier.load(ordering: .relaxed), new.highestMultiplier)
        host.multiplier.store(multiplier, ordering: .relaxed)
        guard let old, seen.phase == .open else { return }
        let time = new.ejectionTime(multiplier: multiplier)
        guard time != old.ejectionTime(multiplier: multiplier) else { return }
        let ejected = Instant(nanoseconds: host.lastAction.load(ordering: .relaxed))
        let open = BreakerState(.open, at: ejected + time)
        // If it fails, a worker moved it on at this moment.
        _ = host.breaker.compareExchange(expected: seen.bits, desired: open.bits, ordering: .acquiringAndReleasing)
    }

    private func bringBack(_ host: HostHealth, _ reason: OutlierEvent.Reason, now: Instant) {
        let history = OutcomeHistory(word: host.history.load(ordering: .relaxed))
        host.forgetRun()
        let old = BreakerState(bits: host.breaker.exchange(BreakerState.closed.bits, ordering: .acquiringAndReleasing))
        changes.add(1, ordering: .releasing)
        guard old.holdsSlot else { return }
        slots.giveBack()
        tell(.uneject, reason, host, history: history, now: now)
    }
}

extension OutlierDetector.Members {
    fileprivate mutating func rejoin(
        _ address: SocketAddress, within grace: Nanoseconds, as state: BreakerState, now: Instant
    ) -> HostHealth? {
        guard let (host, left) = departed.removeValue(forKey: address), now - left <= grace else { return nil }
        host.forgetRun()
        host.window.clear()
        host.setChecks(.none)
        host.breaker.store(state.bits, ordering: .releasing)
        return host
    }
}
