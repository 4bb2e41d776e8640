public import Base
public import ProxyConfig

/// The arithmetic of outlier detection: how many endpoints may be ejected, and for how long.
public struct EjectionRules: Hashable, Sendable {
    /// Consecutive errors that eject; at least 1; nil = they do not.
    public let threshold: UInt32?
    public let interval: Nanoseconds
    let openTime: OpenTime
    let maxEjectionPercent: UInt32
    let enforcingPercent: UInt32
    let isObserving: Bool
    let state: BreakerState.Rule
    let probe: BreakerPolicy.Probe.Calls?
    let trip: TripRule?
    let minimumDeviationPercent: UInt32
    let successRate: EndpointPolicy.SuccessRate?
    let failurePercentage: EndpointPolicy.FailurePercentage?
    let connectionProbeInterval: Nanoseconds?

    /// A sweep more often than this costs more than it tells.
    static let shortestInterval = Nanoseconds.milliseconds(1)

    /// App Mesh's fields: the machine that opens after a run, has no probes and no ramp.
    public init(_ configuration: OutlierDetection, jitterPercent: UInt32 = 10) {
        threshold = max(configuration.consecutive5xx, 1)
        interval = max(Nanoseconds(configuration.interval), Self.shortestInterval)
        openTime = OpenTime(
            BreakerPolicy.Open(
                base: configuration.baseEjectionTime, longest: configuration.maxEjectionTime, backoff: .linear,
                jitterPercent: jitterPercent))
        maxEjectionPercent = configuration.maxEjectionPercent
        enforcingPercent = configuration.enforcingPercent
        isObserving = false
        state = BreakerState.Rule()
        probe = nil
        trip = nil
        minimumDeviationPercent = 0
        successRate = nil
        failurePercentage = nil
        connectionProbeInterval = nil
    }

    public init(_ policy: EndpointPolicy) {
        threshold = policy.breaker.trip.consecutiveErrors.map { max($0, 1) }
        interval = max(Nanoseconds(policy.interval), Self.shortestInterval)
        openTime = OpenTime(policy.breaker.open)
        maxEjectionPercent = policy.maxEjectionPercent
        enforcingPercent = 100
        isObserving = policy.breaker.mode == .observe
        state = BreakerState.Rule(policy.breaker)
        if case .calls(let calls) = policy.breaker.probe { probe = calls } else { probe = nil }
        trip = TripRule(policy.breaker.trip)
        minimumDeviationPercent = policy.minimumDeviationPercent
        successRate = policy.successRate
        failurePercentage = policy.failurePercentage
        connectionProbeInterval = policy.connectionProbeInterval.map { max(Nanoseconds($0), Self.shortestInterval) }
    }

    /// How many of `total` endpoints may be ejected at once: the whole part of the percentage, but at least one; none at 0 percent.
    public func allowedEjections(of total: Int) -> UInt32 {
        guard maxEjectionPercent > 0 else { return 0 }
        return max(1, UInt32(clamping: UInt64(total) * UInt64(min(maxEjectionPercent, 100)) / 100))
    }

    var highestMultiplier: UInt32 { openTime.highestMultiplier }

    func nextMultiplier(after multiplier: UInt32) -> UInt32 { openTime.nextMultiplier(after: multiplier) }

    /// Without jitter.
    func ejectionTime(multiplier: UInt32) -> Nanoseconds { openTime.time(multiplier: multiplier) }

    /// Whether each sweep compares the endpoints' rates.
    var comparesRates: Bool { successRate != nil || failurePercentage != nil }
}
