import Base

/// Endpoints in turn, in proportion to their weights, evenly mixed: earliest deadline first.
///
/// Each endpoint is due once per period, and its period is one over its weight, so between two turns of one endpoint every other
/// has had its share. Phases are spread over the period from a random start: workers neither clump nor march in step.
struct WeightedRoundRobin: LoadBalancingPolicy {
    private struct Entry {
        /// In virtual time, which wraps: compare distances only.
        var deadline: UInt64
        var period: UInt64
        var slot: Int
    }

    /// The period of weight 1. Large, so that periods of large weights are still exact to a small part.
    private static let cycle: UInt64 = 1 << 40

    /// A binary heap, the next in front.
    private var heap: [Entry] = []
    /// The deadline that was served last.
    private var clock: UInt64 = 0

    mutating func rebuild(candidates: [Int], loads: Span<EndpointLoad>, random: inout SeededRandom) {
        let known = Dictionary(uniqueKeysWithValues: heap.map { ($0.slot, $0) })
        let isFirst = heap.isEmpty
        let start = Double(random.below(1 << 30)) / Double(1 << 30)
        heap = candidates.shuffled(using: &random).enumerated().map { position, slot in
            let whole = Self.cycle / UInt64(loads[slot].weight)
            let period = loads[slot].share < 1 ? UInt64(Double(whole) / loads[slot].share) : whole
            // Who stays keeps its turn. Who comes (back) joins somewhere in the cycle: its old turn would be long overdue, many times.
            if let entry = known[slot], entry.period == period { return entry }
            let phase =
                isFirst
                ? (start + Double(position) / Double(candidates.count)).truncatingRemainder(dividingBy: 1)
                : Double(random.below(1 << 30)) / Double(1 << 30)
            return Entry(deadline: clock &+ UInt64(phase * Double(period)), period: period, slot: slot)
        }
        // A sorted array is a heap.
        heap.sort { ($0.deadline &- clock, $0.slot) < ($1.deadline &- clock, $1.slot) }
    }

    mutating func pick(for request: PickContext, from loads: Span<EndpointLoad>, random: inout SeededRandom) -> Int? {
        guard !heap.isEmpty else { return nil }
        let slot = heap[0].slot
        clock = heap[0].deadline
        heap[0].deadline = clock &+ heap[0].period
        siftDown()
        return slot
    }

    private mutating func siftDown() {
        var parent = 0
        while true {
            var first = parent
            for child in (2 * parent + 1)..<(2 * parent + 3) where child < heap.count && isBefore(child, first) { first = child }
            if first == parent { return }
            heap.swapAt(parent, first)
            parent = first
        }
    }

    /// No deadline lies before the clock, and none more than a cycle after it.
    private func isBefore(_ left: Int, _ right: Int) -> Bool {
        heap[left].deadline &- clock < heap[right].deadline &- clock
    }
}
