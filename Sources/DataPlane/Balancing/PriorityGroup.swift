import Base
import ProxyConfig

/// The endpoints of one priority (with a preferred zone: its endpoints in or outside of the zone), and the policy that chooses among
/// them.
struct PriorityGroup {
    let tier: Tier
    var priority: UInt32 { tier.priority }
    var members: [Int] = []
    var available = 0
    /// Too few are available: health is ignored.
    var isPanicking = false
    /// Its share of the requests, in percent.
    var share: UInt64 = 0
    /// Who may be chosen: the available members, or all in panic.
    private(set) var candidates: [Int] = []

    // One of them is in use, by `kind`. Not an enum with payloads: changing one in place would copy its arrays.
    private var kind: BalancingRules.Policy
    private var roundRobin = WeightedRoundRobin()
    private var leastRequest = LeastRequest()
    private var random = WeightedRandom()
    private var peakEWMA: PeakEWMA
    private var ringHash: RingHash
    private var maglev: Maglev

    init(tier: Tier, kind: BalancingRules.Policy) {
        self.tier = tier
        self.kind = kind
        var halfLife = Nanoseconds.zero
        var bound = LoadBound(percent: nil)
        switch kind {
        case .peakEWMA(let time): halfLife = Nanoseconds(time)
        case .ringHash(let hash), .maglev(let hash): bound = LoadBound(percent: hash.boundPercent)
        case .roundRobin, .leastRequest, .random: break
        }
        peakEWMA = PeakEWMA(halfLife: halfLife)
        ringHash = RingHash(bound: bound)
        maglev = Maglev(bound: bound)
    }

    mutating func use(_ kind: BalancingRules.Policy) {
        guard kind != self.kind else { return }
        self = PriorityGroup(tier: tier, kind: kind, keeping: self)
    }

    private init(tier: Tier, kind: BalancingRules.Policy, keeping old: PriorityGroup) {
        self.init(tier: tier, kind: kind)
        members = old.members
        available = old.available
        isPanicking = old.isPanicking
        share = old.share
    }

    /// Of 100: how much of the whole load this priority can take. 1.4 times its available share, so that a few missing endpoints
    /// do not send anything to a lower priority (Envoy's overprovisioning factor).
    var health: UInt64 {
        available == 0 ? 0 : max(1, min(100, UInt64(available) * 140 / UInt64(members.count)))
    }

    mutating func rebuild(candidates: [Int], loads: borrowing [EndpointLoad], random generator: inout SeededRandom) {
        let loads = loads.span
        self.candidates = candidates
        switch kind {
        case .roundRobin: roundRobin.rebuild(candidates: candidates, loads: loads, random: &generator)
        case .leastRequest: leastRequest.rebuild(candidates: candidates, loads: loads, random: &generator)
        case .random: random.rebuild(candidates: candidates, loads: loads, random: &generator)
        case .peakEWMA: peakEWMA.rebuild(candidates: candidates, loads: loads, random: &generator)
        case .ringHash: ringHash.rebuild(candidates: candidates, loads: loads, random: &generator)
        case .maglev: maglev.rebuild(candidates: candidates, loads: loads, random: &generator)
        }
    }

    mutating func pick(for request: PickContext, from loads: borrowing [EndpointLoad], random generator: inout SeededRandom) -> Int? {
        let loads = loads.span
        return switch kind {
        case .roundRobin: roundRobin.pick(for: request, from: loads, random: &generator)
        case .leastRequest: leastRequest.pick(for: request, from: loads, random: &generator)
        case .random: random.pick(for: request, from: loads, random: &generator)
        case .peakEWMA: peakEWMA.pick(for: request, from: loads, random: &generator)
        case .ringHash: ringHash.pick(for: request, from: loads, random: &generator)
        case .maglev: maglev.pick(for: request, from: loads, random: &generator)
        }
    }
}

/// What is served first: the priority, and within it the caller's zone.
struct Tier: Hashable, Comparable {
    var priority: UInt32
    var isRemote = false

    static func < (left: Tier, right: Tier) -> Bool {
        (left.priority, left.isRemote ? 1 : 0) < (right.priority, right.isRemote ? 1 : 0)
    }
}
