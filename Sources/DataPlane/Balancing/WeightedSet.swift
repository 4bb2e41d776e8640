import Base

/// Slots to draw from with a probability in proportion to their weight. A draw takes one random number and O(log n).
struct WeightedSet {
    private var slots: [Int] = []
    /// The sum of the weights up to and including each.
    private var ends: [UInt64] = []

    var count: Int { slots.count }

    mutating func rebuild(candidates: [Int], loads: Span<EndpointLoad>) {
        slots = candidates
        ends.removeAll(keepingCapacity: true)
        var sum: UInt64 = 0
        for slot in candidates {
            // In 1024ths, for who is on the ramp.
            sum += max(UInt64(loads[slot].effectiveWeight * 1024), 1)
            ends.append(sum)
        }
    }

    func one(random: inout SeededRandom) -> Int? {
        guard let sum = ends.last else { return nil }
        return slots[position(of: draw(below: sum, &random))]
    }

    /// Two different slots, the second drawn as if the first were not there; nil if there are fewer than two.
    func two(random: inout SeededRandom) -> (Int, Int)? {
        guard slots.count >= 2, let sum = ends.last else { return nil }
        let first = position(of: draw(below: sum, &random))
        let start = first == 0 ? 0 : ends[first - 1]
        let weight = ends[first] - start
        let rest = draw(below: sum - weight, &random)
        let second = position(of: rest < start ? rest : rest + weight)
        return (slots[first], slots[second])
    }

    private func draw(below bound: UInt64, _ random: inout SeededRandom) -> UInt64 {
        random.next().multipliedFullWidth(by: bound).high
    }

    /// The first position whose end lies above `ticket`.
    private func position(of ticket: UInt64) -> Int {
        var low = 0
        var high = ends.count - 1
        while low < high {
            let middle = (low + high) / 2
            if ends[middle] > ticket { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
