import Base

/// Any endpoint, with a probability in proportion to its weight.
struct WeightedRandom: LoadBalancingPolicy {
    private var candidates = WeightedSet()

    mutating func rebuild(candidates: [Int], loads: Span<EndpointLoad>, random: inout SeededRandom) {
        self.candidates.rebuild(candidates: candidates, loads: loads)
    }

    mutating func pick(for request: PickContext, from loads: Span<EndpointLoad>, random: inout SeededRandom) -> Int? {
        candidates.one(random: &random)
    }
}
