/// What a caller does about trouble of one cluster, beyond App Mesh's `OutlierDetection` (outrigger/v1 TrafficPolicy; the wire form is
/// an extension of ours, which other proxies do not see).
public struct ResiliencePolicy: Hashable, Sendable {
    /// A breaker for each endpoint; takes the place of `Cluster.outlierDetection`. Nil = that one holds.
    public var endpoint: EndpointPolicy?
    /// One breaker for the cluster as a whole. While it is open requests are answered here. Nil = none.
    public var service: BreakerPolicy?
    /// How many requests may be under way, found out by their latency. Nil = as many as come.
    public var limiter: AdaptiveLimit?
    /// Where requests wait for room under `limiter`, or under `Cluster.circuitBreakers.maxRequests`.
    public var queue: QueueLimits
    public var retryBudget: RetryBudgetLimits

    public init(
        endpoint: EndpointPolicy? = nil, service: BreakerPolicy? = nil, limiter: AdaptiveLimit? = nil, queue: QueueLimits = QueueLimits(),
        retryBudget: RetryBudgetLimits = RetryBudgetLimits()
    ) {
        self.endpoint = endpoint
        self.service = service
        self.limiter = limiter
        self.queue = queue
        self.retryBudget = retryBudget
    }
}

/// A limit that finds itself: as many requests as do not wait in the endpoints' queues (Resilience's `ConcurrencyLimiter`). For each
/// worker.
public struct AdaptiveLimit: Hashable, Sendable {
    /// 1 or more; the limit moves between both.
    public var minimum: UInt32
    public var maximum: UInt32
    public var initial: UInt32
    /// So much longer than the best latency of late may requests take, in percent, before the limit shrinks.
    public var tolerancePercent: UInt32

    public init(minimum: UInt32 = 8, maximum: UInt32 = 1000, initial: UInt32 = 100, tolerancePercent: UInt32 = 100) {
        self.minimum = minimum
        self.maximum = maximum
        self.initial = initial
        self.tolerancePercent = tolerancePercent
    }
}

/// A waiting room for requests, for each worker.
public struct QueueLimits: Hashable, Sendable {
    /// 0 = who finds no room is refused at once.
    public var capacity: UInt32
    /// Nobody waits longer.
    public var longestWait: Duration
    /// Not empty for so long is pressure: from then on the newest is served first.
    public var pressureAfter: Duration

    public init(capacity: UInt32 = 64, longestWait: Duration = .milliseconds(100), pressureAfter: Duration = .milliseconds(20)) {
        self.capacity = capacity
        self.longestWait = longestWait
        self.pressureAfter = pressureAfter
    }
}

/// How many retries there may be of all requests together, for each worker (circuit_breakers.thresholds.retry_budget).
public struct RetryBudgetLimits: Hashable, Sendable {
    /// Of the requests under way.
    public var percent: UInt32
    /// min_retry_concurrency.
    public var minimum: UInt32

    public init(percent: UInt32 = 20, minimum: UInt32 = 3) {
        self.percent = percent
        self.minimum = minimum
    }
}

extension ResiliencePolicy {
    /// What a service gets that asks for resilience without saying how: chosen to pass all kinds of trouble at once (docs/resilience.md has
    /// the figures, docs/decisions/0022 the reasons). `Cluster.balancing` and `RetryPolicy.standard` belong to it.
    public static let standard = ResiliencePolicy(
        endpoint: EndpointPolicy(
            breaker: BreakerPolicy(
                trip: .init(
                    consecutiveErrors: 3, failurePercent: 50, slowPercent: 80, slowCall: .seconds(5), window: .calls(20), minimumCalls: 20),
                open: .init(base: .seconds(2), longest: .seconds(30), backoff: .exponential(percent: 160), jitterPercent: 10),
                probe: .calls(.init(count: 3, concurrency: 1, successPercent: 100, longestWait: .seconds(5))),
                ramp: Ramp(duration: .seconds(10))),
            interval: .seconds(10), maxEjectionPercent: 50, minimumDeviationPercent: 30, connectionProbeInterval: .milliseconds(500)),
        limiter: AdaptiveLimit())
}

extension RetryPolicy {
    /// The retries of the standard policy.
    public static let standard = RetryPolicy(
        retryOn: ["5xx", "connect-failure", "refused-stream", "reset", "unavailable"], maxRetries: 2, perTryTimeout: .seconds(1),
        onlyIdempotent: true)
}
