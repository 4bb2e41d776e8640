import Base
public import ProxyConfig

/// The standard policy as the simulator runs it: `ResiliencePolicy.standard` and `RetryPolicy.standard`, made ready.
public struct StandardPolicy: Sendable {
    public var endpoint: EndpointPolicy
    public var retry = RetryRules(.standard)
    public var limiter: ConcurrencyLimiter.Rules?
    public var queue: QueueLimits
    /// Of the latencies that peak EWMA balances by.
    public var latencyHalfLife = BalancingOptions().latencyHalfLife

    public init(_ policy: ResiliencePolicy = .standard) {
        endpoint = policy.endpoint ?? EndpointPolicy(breaker: BreakerPolicy())
        limiter = policy.limiter.map(ConcurrencyLimiter.Rules.init)
        queue = policy.queue
    }
}
