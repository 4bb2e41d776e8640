import Base

/// Endpoints on a ring, each at many places; a key belongs to the first place after it. Who comes or goes moves only its own keys.
struct RingHash: LoadBalancingPolicy {
    private struct Entry {
        var hash: UInt64
        var slot: Int32
    }

    /// Of the heaviest endpoint: equal ones get equal shares to about 6 percent. No number of endpoints may eat the memory, so of more
    /// than 64 each has fewer places.
    private static let places = 256
    private static let placesInAll = 64 * places
    private static let fewestPlaces = 32

    private var ring: [Entry] = []
    private var bound: LoadBound

    init(bound: LoadBound) {
        self.bound = bound
    }

    mutating func rebuild(candidates: [Int], loads: Span<EndpointLoad>, random: inout SeededRandom) {
        bound.rebuild(candidates: candidates, loads: loads)
        ring.removeAll(keepingCapacity: true)
        let heaviest = candidates.map { loads[$0].effectiveWeight }.max() ?? 1
        let most = max(min(Self.placesInAll / max(candidates.count, 1), Self.places), Self.fewestPlaces)
        for slot in candidates {
            let count = max(Int((loads[slot].effectiveWeight / heaviest * Double(most)).rounded()), 1)
            // By number, so that a larger weight adds places and moves none.
            for number in 0..<count { ring.append(Entry(hash: mix(loads[slot].identity, UInt64(number)), slot: Int32(slot))) }
        }
        ring.sort { ($0.hash, $0.slot) < ($1.hash, $1.slot) }
    }

    mutating func pick(for request: PickContext, from loads: Span<EndpointLoad>, random: inout SeededRandom) -> Int? {
        guard !ring.isEmpty else { return nil }
        var low = 0
        var high = ring.count
        while low < high {
            let middle = (low + high) / 2
            if ring[middle].hash < request.hash { low = middle + 1 } else { high = middle }
        }
        let start = low % ring.count
        let first = Int(ring[start].slot)
        guard bound.isSet, !bound.fits(loads[first], loads) else { return first }
        for step in 1..<ring.count {
            let slot = Int(ring[(start + step) % ring.count].slot)
            if slot != first, bound.fits(loads[slot], loads) { return slot }
        }
        return first
    }
}

/// Consistent hashing with bounded loads: nobody carries more than so much of its fair share of what is under way.
struct LoadBound {
    private let percent: UInt32?
    private var slots: [Int] = []
    /// The sum of the effective weights.
    private(set) var weight = 0.0

    init(percent: UInt32?) {
        self.percent = percent
    }

    var isSet: Bool { percent != nil }

    mutating func rebuild(candidates: [Int], loads: Span<EndpointLoad>) {
        slots = candidates
        weight = candidates.reduce(0) { $0 + loads[$1].effectiveWeight }
    }

    /// Whether one more request stays within the bound, counting itself. There is always one endpoint where it does.
    func fits(_ load: EndpointLoad, _ loads: Span<EndpointLoad>) -> Bool {
        guard let percent else { return true }
        var active: UInt64 = 1
        for slot in slots { active += UInt64(loads[slot].active) }
        let fair = Double(active) * load.effectiveWeight / weight
        return Double(load.active + 1) <= (fair * Double(percent) / 100).rounded(.up)
    }
}

/// A well mixed number from two (SplitMix64's finalizer): equal in every process, unlike `Hasher`.
func mix(_ left: UInt64, _ right: UInt64) -> UInt64 {
    var z = left &+ right &* 0x9e37_79b9_7f4a_7c15
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
}
