import Base

/// What a policy may look at when it chooses: one for each slot of the table.
struct EndpointLoad {
    /// At least 1.
    var weight: UInt32
    /// Requests of this worker that are under way.
    var active: UInt32
}

/// How one endpoint is chosen among those that may be: a file of its own for each policy (docs/load-balancing.md).
///
/// A policy sees only candidates, so it cannot pick an endpoint that is ejected. `pick` allocates nothing.
protocol LoadBalancingPolicy {
    /// Takes the slots to choose among from now on, each once; called when members, weights or eligibility change.
    mutating func rebuild(candidates: [Int], loads: Span<EndpointLoad>, random: inout SeededRandom)

    /// A candidate's slot; nil if there are none.
    mutating func pick(from loads: Span<EndpointLoad>, random: inout SeededRandom) -> Int?
}
