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

    private struct Slot {
        var member: Member
        var isEligible = true
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

    private var policy: LoadBalancing
    private var panicThresholdPercent: Double
    private var slots: [Slot] = []
    private var loads: [EndpointLoad] = []
    private var free: [Int] = []
    /// By priority, the first first; none is empty.
    private var groups: [PriorityGroup] = []
    private var panicChanges: [PanicChange] = []

    public init(policy: LoadBalancing, panicThresholdPercent: Double) {
        self.policy = policy
        self.panicThresholdPercent = panicThresholdPercent
    }

    // MARK: Requests

    /// Chooses an endpoint; nil if none may be chosen. The caller says `started` before the next pick.
    public mutating func pick(random: inout SeededRandom) -> Pick? {
        guard let group = chooseGroup(&random), let index = groups[group].pick(from: loads, random: &random) else { return nil }
        return Pick(index: index, isPanic: groups[group].isPanicking, isRepeat: false)
    }

    /// The same for a retry: an endpoint that was not tried, if there is one in the priority whose turn it is.
    public mutating func pick(excluding tried: TriedEndpoints, random: inout SeededRandom) -> Pick? {
        guard let group = chooseGroup(&random) else { return nil }
        // The policy's own next choice is the best one; if it insists, any other.
        for _ in 0..<3 {
            guard let index = groups[group].pick(from: loads, random: &random) else { return nil }
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

    public mutating func started(_ index: Int) {
        loads[index].active += 1
    }

    public mutating func finished(_ index: Int) {
        precondition(loads[index].active > 0, "endpoint \(index) finished more requests than it started")
        loads[index].active -= 1
        if loads[index].active == 0, !slots[index].isMember { free.append(index) }
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
        for index in draining where slots[index].isMember { slots[index].isEligible = true }
        for index in before where !slots[index].isMember && loads[index].active == 0 { free.append(index) }
        regroup(random: &random)
        return indices
    }

    /// Asks for each member whether it may be chosen. Called when `OutlierDetector.epoch` changed.
    public mutating func updateEligibility(random: inout SeededRandom, isEligible: (_ index: Int) -> Bool) {
        for group in groups {
            for index in group.members { slots[index].isEligible = isEligible(index) }
        }
        redistribute(random: &random)
    }

    /// Takes a new configuration.
    public mutating func configure(policy: LoadBalancing, panicThresholdPercent: Double, random: inout SeededRandom) {
        self.policy = policy
        self.panicThresholdPercent = panicThresholdPercent
        for index in groups.indices { groups[index].use(policy) }
        redistribute(random: &random)
    }

    /// What changed since the last call.
    public mutating func takePanicChanges() -> [PanicChange] {
        defer { panicChanges = [] }
        return panicChanges
    }

    private mutating func addSlot(for member: Member) -> Int {
        if let index = free.popLast() {
            slots[index] = Slot(member: member)
            return index
        }
        slots.append(Slot(member: member))
        loads.append(EndpointLoad(weight: member.weight, active: 0))
        return slots.count - 1
    }

    private mutating func regroup(random: inout SeededRandom) {
        let members = slots.indices.filter { slots[$0].isMember }
        let byPriority = Dictionary(grouping: members) { slots[$0].member.priority }
        for group in groups where group.isPanicking && byPriority[group.priority] == nil {
            panicChanges.append(PanicChange(priority: group.priority, isOn: false, available: 0, total: 0))
        }
        groups = byPriority.keys.sorted().map { priority in
            var group = groups.first { $0.priority == priority } ?? PriorityGroup(priority: priority, kind: policy)
            group.members = byPriority[priority] ?? []
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
        Double(group.available) * 100 < min(panicThresholdPercent, 100) * Double(group.members.count)
    }

    private mutating func setPanic(at index: Int, isOn: Bool) {
        guard groups[index].isPanicking != isOn else { return }
        groups[index].isPanicking = isOn
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
