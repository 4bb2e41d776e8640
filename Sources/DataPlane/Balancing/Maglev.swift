import Base

/// Google's Maglev hashing: a table in which each endpoint has its share to within one percent, found in one step. When endpoints come
/// or go a little more moves than on a ring.
struct Maglev: LoadBalancingPolicy {
    /// A prime, a hundred times as large as the clusters we expect at most. 64 KiB.
    static let size = 16_381

    private var table: [Int32] = []
    private var bound: LoadBound

    init(bound: LoadBound) {
        self.bound = bound
    }

    mutating func rebuild(candidates: [Int], loads: Span<EndpointLoad>, random: inout SeededRandom) {
        bound.rebuild(candidates: candidates, loads: loads)
        guard let heaviest = candidates.map({ loads[$0].effectiveWeight }).max() else {
            table = []
            return
        }
        // In an order that all workers and processes share, whatever indices they have.
        let order = candidates.sorted { loads[$0].identity < loads[$1].identity }
        var offsets = order.map { Int(mix(loads[$0].identity, 1) % UInt64(Self.size)) }
        let skips = order.map { Int(mix(loads[$0].identity, 2) % UInt64(Self.size - 1)) + 1 }
        // The heaviest has a turn in each round, others as often as their weight says.
        let turns = order.map { loads[$0].effectiveWeight / heaviest }
        var due = turns
        table = Array(repeating: -1, count: Self.size)
        var filled = 0
        while filled < Self.size {
            for position in order.indices where filled < Self.size {
                guard due[position] >= 1 else {
                    due[position] += turns[position]
                    continue
                }
                due[position] += turns[position] - 1
                while table[offsets[position]] >= 0 { offsets[position] = (offsets[position] + skips[position]) % Self.size }
                table[offsets[position]] = Int32(order[position])
                filled += 1
            }
        }
    }

    mutating func pick(for request: PickContext, from loads: Span<EndpointLoad>, random: inout SeededRandom) -> Int? {
        guard !table.isEmpty else { return nil }
        let start = Int(request.hash % UInt64(Self.size))
        let first = Int(table[start])
        guard bound.isSet, !bound.fits(loads[first], loads) else { return first }
        // Neighbours in the table belong to endpoints in no order: a walk asks them all soon.
        for step in 1..<Self.size {
            let slot = Int(table[(start + step) % Self.size])
            if slot != first, bound.fits(loads[slot], loads) { return slot }
        }
        return first
    }
}
