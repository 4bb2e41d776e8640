public import Base
public import ProxyConfig

/// One worker's view of a cluster's endpoints: who is in, who may be chosen, how busy each is with this worker's requests.
///
/// An endpoint has an index that it keeps while it is a member or has requests under way, so that `finished` finds it after any
/// change of members. Not shared: no atomics, no lock.
public struct EndpointTable {
    /// An endpoint as configuration and discovery name it.
    public struct Member: Hashable, Sendable {
        public var address: SocketAddress
        /// At least 1.
        public var weight: UInt32
        /// 0 is served first.
        public var priority: UInt32
        public var locality: Locality

        public init(address: SocketAddress, weight: UInt32 = 1, priority: UInt32 = 0, locality: Locality = Locality()) {
            precondition(weight > 0, "weight 0 of \(address)")
            self.address = address
            self.weight = weight
            self.priority = priority
            self.locality = locality
        }
    }

    public struct Pick: Hashable, Sendable {
        public var index: Int
        /// Chosen without regard to health (lb_healthy_panic counts these).
        public var isPanic: Bool
        /// All that could be chosen were tried before.
        public var isRepeat: Bool
    }

    /// Panic began or ended for a priority.
    public struct PanicChange: Hashable, Sendable {
        public var priority: UInt32
        public var isOn: Bool
        public var available: Int
        public var total: Int
    }

    /// What is known of an endpoint's health.
    public enum Standing: Hashable, Sendable {
        case available
        /// Available, with a share that grows.
        case ramping(since: Instant)
        /// Out, but for a probe now and then.
        case probing
        case unavailable
    }

    private struct Slot {
        var member: Member
        var standing = Standing.available
        var isEligible: Bool {
            switch standing {
            case .available, .ramping: true
            case .probing, .unavailable: false
            }
        }
        /// False once it left; the slot is used again when its last request ended.
        var isMember = true
    }

    private struct Key: Hashable {
        var address: SocketAddress
        var priority: UInt32

        init(_ member: Member) {
            address = member.address
            priority = member.priority
        }
    }

    private var rules: BalancingRules
    private var latencyHalfLife: Nanoseconds
    private var slots: [Slot] = []
    private var loads: [EndpointLoad] = []
    private var free: [Int] = []
    /// By priority, the first first; none is empty.
    private var groups: [PriorityGroup] = []
    private var panicChanges: [PanicChange] = []
    /// Who wants probes.
    private var probing: [Int] = []
    private var nextProbe = 0
    /// The latest that anybody said.
    private var now = Instant(nanoseconds: 0)
    /// When the shares on the ramp are looked at again.
    private var nextRampStep = Instant.never

    public init(policy: LoadBalancing, panicThresholdPercent: Double) {
        self.init(rules: BalancingRules(policy: .init(policy), panicThresholdPercent: panicThresholdPercent))
    }

    public init(rules: BalancingRules) {
        self.rules = rules
        latencyHalfLife = Self.halfLife(rules)
    }

    /// Whether anybody asks for latencies: to keep them costs each request something.
    private var tracksLatency: Bool {
        if case .peakEWMA = rules.policy { true } else { false }
    }

    private static func halfLife(_ rules: BalancingRules) -> Nanoseconds {
        if case .peakEWMA(let time) = rules.policy { max(Nanoseconds(time), .milliseconds(1)) } else { .seconds(1) }
    }

    // MARK: Requests

    /// Chooses an endpoint; nil if none may be chosen. The caller says `started` before the next pick.
    public mutating func pick(random: inout SeededRandom) -> Pick? {
        pick(hash: 0, now: now, random: &random)
    }

    /// The same for a retry: an endpoint that was not tried, if there is one in the priority whose turn it is.
    public mutating func pick(excluding tried: TriedEndpoints, random: inout SeededRandom) -> Pick? {
        pick(excluding: tried, hash: 0, now: now, random: &random)
    }

    /// - Parameters:
    ///   - hash: of what a consistent policy goes by (a header, a cookie, the caller's address); others ignore it.
    ///   - now: what latencies and ramps are measured against.
    public mutating func pick(hash: UInt64, now: Instant, random: inout SeededRandom) -> Pick? {
        advance(now: now, random: &random)
        guard let group = chooseGroup(&random),
            let index = groups[group].pick(for: PickContext(hash: hash, now: now), from: loads, random: &random)
        else { return nil }
        return Pick(index: index, isPanic: groups[group].isPanicking, isRepeat: false)
    }

    public mutating func pick(excluding tried: TriedEndpoints, hash: UInt64, now: Instant, random: inout SeededRandom) -> Pick? {
        advance(now: now, random: &random)
        guard let chosen = chooseGroup(&random) else { return nil }
        // What failed in the zone may be the zone: a retry leaves it, if the priority has endpoints elsewhere.
        let group =
            tried.isEmpty
            ? chosen
            : groups.indices.first {
                groups[$0].priority == groups[chosen].priority && groups[$0].tier.isRemote && !groups[$0].candidates.isEmpty
            } ?? chosen
        // The policy's own next choice is the best one; if it insists, any other.
        for turn in 0..<3 as Range<UInt64> {
            let request = PickContext(hash: turn == 0 ? hash : mix(hash, turn), now: now)
            guard let index = groups[group].pick(for: request, from: loads, random: &random) else { return nil }
            if !tried.contains(index) { return Pick(index: index, isPanic: groups[group].isPanicking, isRepeat: false) }
        }
        let count = groups[group].candidates.count
        let start = random.below(count)
        for offset in 0..<count {
            let index = groups[group].candidates[(start + offset) % count]
            if !tried.contains(index) { return Pick(index: index, isPanic: groups[group].isPanicking, isRepeat: false) }
        }
        return Pick(index: groups[group].candidates[start], isPanic: groups[group].isPanicking, isRepeat: true)
    }

    public var wantsProbes: Bool { !probing.isEmpty }

    /// An endpoint that wants a probe, for a request that may be risked; nil if there is none. Each in turn: it may refuse a second one.
    /// Only a first attempt should be a probe: with several endpoints out, the retries of one request would all be spent on them.
    public mutating func pickProbe(excluding tried: TriedEndpoints = TriedEndpoints()) -> Int? {
        guard !probing.isEmpty else { return nil }
        for _ in probing {
            nextProbe = (nextProbe + 1) % probing.count
            if !tried.contains(probing[nextProbe]) { return probing[nextProbe] }
        }
        return nil
    }

    public mutating func started(_ index: Int) {
        started(index, now: now)
    }

    public mutating func finished(_ index: Int) {
        finished(index, started: now, latency: nil, now: now)
    }

    public mutating func started(_ index: Int, now: Instant) {
        loads[index].active += 1
        loads[index].waiting += 1
        loads[index].starts &+= now.nanoseconds / 1000
    }

    /// The endpoint has begun to answer: from here on the request says nothing more about how long one waits. `released` comes later.
    public mutating func answered(_ index: Int, started: Instant, latency: Nanoseconds?, now: Instant) {
        precondition(loads[index].waiting > 0, "endpoint \(index) answered more requests than it got")
        loads[index].waiting -= 1
        loads[index].starts = loads[index].waiting == 0 ? 0 : loads[index].starts &- started.nanoseconds / 1000
        guard tracksLatency else { return }
        if let latency {
            loads[index].take(sample: latency, now: now, halfLife: latencyHalfLife)
        } else {
            keepLatency(of: index, now: now)
        }
    }

    /// Else the latency of who only fails would fade, and that of who answers would not: all would go where it fails. Who has none yet
    /// gets the worst of the others, once.
    private mutating func keepLatency(of index: Int, now: Instant) {
        if loads[index].latency == 0 { loads[index].latency = loads.reduce(0) { max($0, $1.latency) } }
        loads[index].sampledAt = now
    }

    /// A request that was `answered` is over.
    public mutating func released(_ index: Int) {
        precondition(loads[index].active > 0, "endpoint \(index) finished more requests than it started")
        loads[index].active -= 1
        if loads[index].active == 0, !slots[index].isMember { free.append(index) }
    }

    /// - Parameters:
    ///   - started: what `started` was told.
    ///   - latency: of its answer, or as long as one waited in vain; nil if that says nothing about the endpoint: an error comes fast.
    ///     Then what is expected of it stays as it was.
    public mutating func finished(_ index: Int, started: Instant, latency: Nanoseconds?, now: Instant) {
        answered(index, started: started, latency: latency, now: now)
        released(index)
    }

    /// How many of the endpoints that may be chosen look slow now: to expect more than `threshold` of them is to wait for that long.
    public func slowCount(above threshold: Nanoseconds, now: Instant) -> (slow: Int, available: Int) {
        var slow = 0
        var available = 0
        for group in groups {
            for index in group.candidates {
                available += 1
                if loads[index].expectedLatency(now: now, halfLife: latencyHalfLife) > Double(threshold.count) { slow += 1 }
            }
        }
        return (slow, available)
    }

    private func chooseGroup(_ random: inout SeededRandom) -> Int? {
        if let first = groups.first, first.share == 100 { return 0 }
        // The shares add up to 100, or all are 0.
        var ticket = UInt64(random.below(100))
        for index in groups.indices {
            if ticket < groups[index].share { return index }
            ticket -= groups[index].share
        }
        return nil
    }

    // MARK: What is there

    /// The addresses behind the indices. An index that is not a member's still belongs to the last one that was.
    public func member(at index: Int) -> Member { slots[index].member }
    public func active(at index: Int) -> Int { Int(loads[index].active) }
    public func isEligible(at index: Int) -> Bool { slots[index].isEligible }
    /// What the endpoint gets of its weight now: below 1 on the ramp.
    public func share(at index: Int) -> Double { loads[index].share }
    /// What a request to it may expect to wait, by its own answers and what it owes.
    public func expectedLatency(at index: Int, now: Instant) -> Nanoseconds {
        Nanoseconds(count: Int64(loads[index].expectedLatency(now: now, halfLife: latencyHalfLife)))
    }
    /// One above the highest index.
    public var indexBound: Int { slots.count }
    /// membership_total.
    public var memberCount: Int { groups.reduce(0) { $0 + $1.members.count } }
    /// membership_healthy.
    public var availableCount: Int { groups.reduce(0) { $0 + $1.available } }
    public func isPanicking(priority: UInt32) -> Bool { groups.contains { $0.priority == priority && $0.isPanicking } }

    // MARK: Changes

    /// Makes `members` the endpoints and returns the index of each. Who stays (same address and priority) keeps index, requests,
    /// eligibility and turn; who is new is eligible. An endpoint named twice in a priority counts once.
    public mutating func setMembers(_ members: [Member], random: inout SeededRandom) -> [Int] {
        let before = slots.indices.filter { slots[$0].isMember }
        let draining = slots.indices.filter { !slots[$0].isMember && loads[$0].active > 0 }
        // Who left and returns before its last request ended gets its index back.
        let known = Dictionary(uniqueKeysWithValues: (before + draining).map { (Key(slots[$0].member), $0) })
        for index in before { slots[index].isMember = false }

        var taken: [Key: Int] = [:]
        let indices = members.map { member in
            if let index = taken[Key(member)] { return index }
            let index = known[Key(member)] ?? addSlot(for: member)
            taken[Key(member)] = index
            slots[index].member = member
            slots[index].isMember = true
            loads[index].weight = member.weight
            return index
        }
        for index in draining where slots[index].isMember { slots[index].standing = .available }
        for index in before where !slots[index].isMember && loads[index].active == 0 { free.append(index) }
        regroup(random: &random)
        return indices
    }

    /// Asks for each member whether it may be chosen. Called when `OutlierDetector.epoch` changed.
    public mutating func updateEligibility(random: inout SeededRandom, isEligible: (_ index: Int) -> Bool) {
        updateStandings(now: now, random: &random) { isEligible($0) ? .available : .unavailable }
    }

    /// The same with all that there is to know: who is on the ramp, who wants probes.
    public mutating func updateStandings(now: Instant, random: inout SeededRandom, standing: (_ index: Int) -> Standing) {
        self.now = max(self.now, now)
        probing.removeAll(keepingCapacity: true)
        for group in groups {
            for index in group.members {
                let new = standing(index)
                if new == .probing { probing.append(index) }
                if slots[index].standing != new, case .ramping = new { seedLatency(of: index) }
                slots[index].standing = new
            }
        }
        redistribute(random: &random)
    }

    /// Takes a new configuration.
    public mutating func configure(policy: LoadBalancing, panicThresholdPercent: Double, random: inout SeededRandom) {
        var rules = rules
        rules.policy = .init(policy)
        rules.panicThresholdPercent = panicThresholdPercent
        configure(rules: rules, random: &random)
    }

    public mutating func configure(rules new: BalancingRules, random: inout SeededRandom) {
        let zoneChanged = new.zone != rules.zone
        rules = new
        latencyHalfLife = Self.halfLife(new)
        for index in groups.indices { groups[index].use(new.policy) }
        if zoneChanged { regroup(random: &random) } else { redistribute(random: &random) }
    }

    /// Who begins or comes back is unknown. To take it for fast would give it everything at once; so it is as slow as nine of ten others.
    private mutating func seedLatency(of index: Int) {
        var known: [Double] = []
        for group in groups {
            for other in group.members where other != index && slots[other].isEligible && loads[other].latency > 0 {
                known.append(loads[other].decayed(now: now, halfLife: latencyHalfLife))
            }
        }
        known.sort()
        loads[index].latency = known.isEmpty ? 0 : known[known.count * 9 / 10]
        loads[index].sampledAt = now
    }

    private mutating func advance(now: Instant, random: inout SeededRandom) {
        if now > self.now { self.now = now }
        if now >= nextRampStep { redistribute(random: &random) }
    }

    /// What changed since the last call.
    public mutating func takePanicChanges() -> [PanicChange] {
        defer { panicChanges = [] }
        return panicChanges
    }

    private mutating func addSlot(for member: Member) -> Int {
        if let index = free.popLast() {
            slots[index] = Slot(member: member)
            loads[index] = EndpointLoad(weight: member.weight, identity: Self.identity(of: member))
            return index
        }
        slots.append(Slot(member: member))
        loads.append(EndpointLoad(weight: member.weight, identity: Self.identity(of: member)))
        return slots.count - 1
    }

    /// FNV-1a over the address as text: every process must agree.
    private static func identity(of member: Member) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in "\(member.address)".utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        return mix(hash, 0)
    }

    private func tier(of member: Member, preferring zone: BalancingRules.ZonePreference?) -> Tier {
        Tier(priority: member.priority, isRemote: zone.map { !member.locality.isSameZone(as: $0.local) } ?? false)
    }

    private mutating func regroup(random: inout SeededRandom) {
        let members = slots.indices.filter { slots[$0].isMember }
        let local = members.count { index in rules.zone.map { slots[index].member.locality.isSameZone(as: $0.local) } ?? false }
        let zone = rules.zone.flatMap { local >= $0.minimumHosts ? $0 : nil }
        let byTier = Dictionary(grouping: members) { tier(of: slots[$0].member, preferring: zone) }
        for group in groups where group.isPanicking && byTier[group.tier] == nil {
            if !byTier.keys.contains(where: { $0.priority == group.priority }) {
                panicChanges.append(PanicChange(priority: group.priority, isOn: false, available: 0, total: 0))
            }
        }
        groups = byTier.keys.sorted().map { tier in
            var group = groups.first { $0.tier == tier } ?? PriorityGroup(tier: tier, kind: rules.policy)
            group.members = byTier[tier] ?? []
            return group
        }
        redistribute(random: &random)
    }

    /// Decides panic and each priority's share as Envoy does, and gives every policy its candidates.
    private mutating func redistribute(random: inout SeededRandom) {
        for index in groups.indices {
            groups[index].available = groups[index].members.count { slots[$0].isEligible }
        }
        let health = min(100, groups.reduce(0) { $0 + $1.health })
        for index in groups.indices {
            setPanic(at: index, isOn: health < 100 && isBelowThreshold(groups[index]))
        }
        updateShares()
        if !groups.isEmpty, groups.allSatisfy(\.isPanicking) {
            distribute(groups.map { UInt64($0.members.count) }, outOf: UInt64(memberCount))
        } else {
            distribute(groups.map(\.health), outOf: health)
        }
        for index in groups.indices {
            let group = groups[index]
            let candidates = group.isPanicking ? group.members : group.members.filter { slots[$0].isEligible }
            groups[index].rebuild(candidates: candidates, loads: loads, random: &random)
        }
    }

    private func isBelowThreshold(_ group: PriorityGroup) -> Bool {
        Double(group.available) * 100 < min(rules.panicThresholdPercent, 100) * Double(group.members.count)
    }

    /// In twentieths of the ramp. If more than half of the available endpoints are on it nobody is held back: the rest would carry more
    /// than twice its share.
    private mutating func updateShares() {
        nextRampStep = .never
        for group in groups {
            let ramping = group.members.count { if case .ramping = slots[$0].standing { true } else { false } }
            for index in group.members {
                guard case .ramping(let since) = slots[index].standing, ramping * 2 <= group.available else {
                    loads[index].share = 1
                    continue
                }
                loads[index].share = rules.ramp.share(after: now - since)
                guard loads[index].share < 1 else { continue }
                let step = max(Nanoseconds(rules.ramp.duration).count / 20, 1_000_000)
                nextRampStep = min(nextRampStep, now + Nanoseconds(count: step))
            }
        }
    }

    private mutating func setPanic(at index: Int, isOn: Bool) {
        guard groups[index].isPanicking != isOn else { return }
        let wasOn = isPanicking(priority: groups[index].priority)
        groups[index].isPanicking = isOn
        // One priority may be two groups, in and outside of the zone.
        guard isPanicking(priority: groups[index].priority) != wasOn else { return }
        panicChanges.append(
            PanicChange(
                priority: groups[index].priority, isOn: isOn, available: groups[index].available, total: groups[index].members.count))
    }

    /// Gives 100 percent out from the first priority down, each as much as it can take; what rounding leaves goes to the first that
    /// has any. Nobody gets anything if there is no capacity.
    private mutating func distribute(_ capacities: [UInt64], outOf whole: UInt64) {
        var rest: UInt64 = 100
        for index in groups.indices {
            groups[index].share = whole > 0 ? min(rest, capacities[index] * 100 / whole) : 0
            rest -= groups[index].share
        }
        if let first = groups.firstIndex(where: { $0.share > 0 }) { groups[first].share += rest }
    }
}

extension Locality {
    fileprivate func isSameZone(as other: Locality) -> Bool {
        region == other.region && zone == other.zone
    }
}
