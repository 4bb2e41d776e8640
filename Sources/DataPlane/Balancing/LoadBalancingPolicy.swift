import Base

/// What a policy may look at when it chooses: one for each slot of the table.
struct EndpointLoad {
    /// At least 1.
    var weight: UInt32
    /// Requests of this worker that are under way.
    var active: UInt32
    /// Those of them that have no answer yet.
    var waiting: UInt32 = 0
    /// Of its weight, what it gets now: below 1 on the ramp.
    var share: Double = 1
    /// Peak EWMA of the latency in nanoseconds, as of `sampledAt`; 0 = no sample.
    var latency: Double = 0
    var sampledAt = Instant(nanoseconds: 0)
    /// The sum of the starts of those that wait, in microseconds, for their mean age: of 100,000 it stays exact for years.
    var starts: Int64 = 0
    /// Of its address: the same in every process.
    var identity: UInt64 = 0

    /// Weight on the ramp.
    var effectiveWeight: Double { Double(weight) * share }

    init(weight: UInt32, active: UInt32 = 0, identity: UInt64 = 0) {
        self.weight = weight
        self.active = active
        self.identity = identity
    }
}

/// Of one request.
struct PickContext {
    /// What consistent policies hash by.
    var hash: UInt64
    var now: Instant
}

/// How one endpoint is chosen among those that may be: a file of its own for each policy (docs/load-balancing.md).
///
/// A policy sees only candidates, so it cannot pick an endpoint that is ejected. `pick` allocates nothing.
protocol LoadBalancingPolicy {
    /// Takes the slots to choose among from now on, each once; called when members, weights, shares or eligibility change.
    mutating func rebuild(candidates: [Int], loads: Span<EndpointLoad>, random: inout SeededRandom)

    /// A candidate's slot; nil if there are none.
    mutating func pick(for request: PickContext, from loads: Span<EndpointLoad>, random: inout SeededRandom) -> Int?
}
