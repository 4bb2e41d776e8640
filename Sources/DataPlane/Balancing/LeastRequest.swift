import Base

/// The less busy of two endpoints drawn at random (power of two choices).
///
/// Both the draw and the comparison respect weights: an endpoint of weight 2 is drawn twice as often, and counts as busy as one of
/// weight 1 with half its requests. So shares follow weights when nobody is busy, and load does when everybody is.
struct LeastRequest: LoadBalancingPolicy {
    private var candidates = WeightedSet()

    mutating func rebuild(candidates: [Int], loads: Span<EndpointLoad>, random: inout SeededRandom) {
        self.candidates.rebuild(candidates: candidates, loads: loads)
    }

    mutating func pick(for request: PickContext, from loads: Span<EndpointLoad>, random: inout SeededRandom) -> Int? {
        guard let (first, second) = candidates.two(random: &random) else { return candidates.one(random: &random) }
        // active / weight, without the division.
        let firstLoad = Double(loads[first].active) * loads[second].effectiveWeight
        let secondLoad = Double(loads[second].active) * loads[first].effectiveWeight
        return secondLoad < firstLoad ? second : first
    }
}
