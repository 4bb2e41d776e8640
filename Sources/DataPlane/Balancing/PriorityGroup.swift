import Base
import ProxyConfig

/// The endpoints of one priority, and the policy that chooses among them.
struct PriorityGroup {
    let priority: UInt32
    var members: [Int] = []
    var available = 0
    /// Too few are available: health is ignored.
    var isPanicking = false
    /// Its share of the requests, in percent.
    var share: UInt64 = 0
    /// Who may be chosen: the available members, or all in panic.
    private(set) var candidates: [Int] = []

    // One of them is in use, by `kind`. Not an enum with payloads: changing one in place would copy its arrays.
    private var kind: LoadBalancing
    private var roundRobin = WeightedRoundRobin()
    private var leastRequest = LeastRequest()
    private var random = WeightedRandom()

    init(priority: UInt32, kind: LoadBalancing) {
        self.priority = priority
        self.kind = kind
    }

    mutating func use(_ kind: LoadBalancing) {
        guard kind != self.kind else { return }
        self = PriorityGroup(priority: priority, kind: kind, keeping: self)
    }

    private init(priority: UInt32, kind: LoadBalancing, keeping old: PriorityGroup) {
        self.init(priority: priority, kind: kind)
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
        }
    }

    mutating func pick(from loads: borrowing [EndpointLoad], random generator: inout SeededRandom) -> Int? {
        let loads = loads.span
        return switch kind {
        case .roundRobin: roundRobin.pick(from: loads, random: &generator)
        case .leastRequest: leastRequest.pick(from: loads, random: &generator)
        case .random: random.pick(from: loads, random: &generator)
        }
    }
}
