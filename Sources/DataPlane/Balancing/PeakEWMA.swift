import Base

/// The less costly of two endpoints drawn at random by weight. The cost is the latency to expect times the requests to wait for.
///
/// Latency is a moving average that jumps up to a peak at once and comes down by half in each half-life, also while nobody asks, so
/// that a slow endpoint is tried again some time. What is under way speaks too: an endpoint that owes answers for longer than it used
/// to take is as slow as they are old, long before a timeout says so. So slow endpoints lose their requests whatever the reason, and
/// no threshold has to be right.
struct PeakEWMA: LoadBalancingPolicy {
    private var candidates = WeightedSet()
    private let halfLife: Nanoseconds
    /// Of the candidates.
    private var meanWeight = 1.0

    init(halfLife: Nanoseconds) {
        self.halfLife = max(halfLife, .milliseconds(1))
    }

    mutating func rebuild(candidates: [Int], loads: Span<EndpointLoad>, random: inout SeededRandom) {
        self.candidates.rebuild(candidates: candidates, loads: loads)
        meanWeight = candidates.reduce(0) { $0 + loads[$1].effectiveWeight } / Double(max(candidates.count, 1))
    }

    mutating func pick(for request: PickContext, from loads: Span<EndpointLoad>, random: inout SeededRandom) -> Int? {
        guard let (first, second) = candidates.two(random: &random) else { return candidates.one(random: &random) }
        let firstCost = cost(loads[first], now: request.now)
        let secondCost = cost(loads[second], now: request.now)
        return secondCost < firstCost ? second : first
    }

    private func cost(_ load: EndpointLoad, now: Instant) -> Double {
        // Below 10 µs differences are noise; and who was never asked is not free. The draw has respected the weight of who is idle.
        max(load.expectedLatency(now: now, halfLife: halfLife), 10_000) * (1 + Double(load.active) * meanWeight / load.effectiveWeight)
    }
}

extension EndpointLoad {
    /// In nanoseconds.
    func expectedLatency(now: Instant, halfLife: Nanoseconds) -> Double {
        max(decayed(now: now, halfLife: halfLife), meanAge(now: now))
    }

    /// Of what waits for an answer.
    func meanAge(now: Instant) -> Double {
        waiting == 0 ? 0 : max(Double(now.nanoseconds) - Double(starts) / Double(waiting) * 1000, 0)
    }

    func decayed(now: Instant, halfLife: Nanoseconds) -> Double {
        latency == 0 ? 0 : latency * halving(Double(max((now - sampledAt).count, 0)) / Double(halfLife.count))
    }

    mutating func take(sample: Nanoseconds, now: Instant, halfLife: Nanoseconds) {
        let sample = Double(max(sample.count, 1))
        let kept = halving(Double(max((now - sampledAt).count, 0)) / Double(halfLife.count))
        let old = latency * kept
        // A peak counts at once. Else the old one fades, and what it lost the new one fills.
        latency = latency == 0 || sample >= old ? sample : old + sample * (1 - kept)
        sampledAt = now
    }
}

/// 2 to the power of minus `x`, for `x` of at least 0, within 0.1 percent: halves for its whole part, a cubic for the rest.
func halving(_ x: Double) -> Double {
    guard x < 60 else { return 0 }
    let whole = Int(x)
    let rest = x - Double(whole)
    return (1 - rest * (0.693 - rest * (0.2379 - rest * 0.0449))) / Double(UInt64(1) << UInt64(whole))
}
