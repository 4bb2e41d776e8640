public import Base
import ProxyConfig

/// What a service gets that asks for resilience without saying how: chosen in simulation to pass all kinds of trouble at once
/// (docs/resilience.md has the figures, docs/decisions/0022 the reasons).
public struct StandardPolicy: Sendable {
    public var endpoint = EndpointPolicy(
        breaker: BreakerPolicy(
            trip: .init(
                consecutiveErrors: 3, failurePercent: 50, slowPercent: 80, slowCall: .seconds(5), window: .calls(20), minimumCalls: 20),
            open: .init(base: .seconds(2), longest: .seconds(30), backoff: .exponential(percent: 160), jitterPercent: 10),
            probe: .calls(.init(count: 3, concurrency: 1, successPercent: 100, longestWait: .seconds(5))),
            ramp: Ramp(duration: .seconds(10))),
        interval: .seconds(10), maxEjectionPercent: 50, minimumDeviationPercent: 30, connectionProbeInterval: .milliseconds(500))
    public var retry = RetryRules(
        events: [.any5xx, .reset, .connectFailure, .refusedStream, .grpcUnavailable], maxRetries: 2, perTryTimeout: .seconds(1),
        needsIdempotence: true)
    public var limiter: ConcurrencyLimiter.Rules? = ConcurrencyLimiter.Rules(
        minimum: 8, maximum: 1000, initial: 100, tolerancePercent: 100)
    /// Requests that wait for room under the limiter.
    public var queueCapacity = 64
    public var queueWait = Nanoseconds.milliseconds(100)
    public var queuePressureAfter = Nanoseconds.milliseconds(20)
    /// Of the latencies that peak EWMA balances by.
    public var latencyHalfLife = Duration.milliseconds(500)

    public init() {}
}
