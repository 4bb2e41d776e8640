/// What outlier detection does in one cluster when more than App Mesh's fields are asked for: a breaker for each endpoint, and what
/// keeps all of them together from doing harm.
public struct EndpointPolicy: Hashable, Sendable {
    /// Endpoints that fail more often than their siblings, by the standard deviation over them, looked at in each sweep.
    public struct SuccessRate: Hashable, Sendable {
        /// Ejected is who lies this many thousandths of a standard deviation below the mean. k equally bad endpoints of n are ejected
        /// if and only if (n - k) / k is more than the square of it: with 1900, fewer than 21.7 percent of them.
        public var deviationThousandths: UInt32
        /// So many endpoints must have had `minimumCalls`.
        public var minimumHosts: UInt32
        /// In the interval before the sweep.
        public var minimumCalls: UInt32
        /// Percentage points below the mean, at least: the standard deviation alone finds an outlier among the healthiest.
        public var minimumDeviationPercent: UInt32
        public var minimumFailures: UInt32

        public init(
            deviationThousandths: UInt32 = 1900, minimumHosts: UInt32 = 5, minimumCalls: UInt32 = 100, minimumDeviationPercent: UInt32 = 5,
            minimumFailures: UInt32 = 5
        ) {
            self.deviationThousandths = deviationThousandths
            self.minimumHosts = minimumHosts
            self.minimumCalls = minimumCalls
            self.minimumDeviationPercent = minimumDeviationPercent
            self.minimumFailures = minimumFailures
        }
    }

    /// Endpoints of whose calls this share failed, looked at in each sweep.
    public struct FailurePercentage: Hashable, Sendable {
        /// Or more.
        public var percent: UInt32
        public var minimumHosts: UInt32
        public var minimumCalls: UInt32
        public var minimumFailures: UInt32

        public init(percent: UInt32 = 85, minimumHosts: UInt32 = 5, minimumCalls: UInt32 = 50, minimumFailures: UInt32 = 5) {
            self.percent = percent
            self.minimumHosts = minimumHosts
            self.minimumCalls = minimumCalls
            self.minimumFailures = minimumFailures
        }
    }

    public var breaker: BreakerPolicy
    /// Between sweeps.
    public var interval: Duration
    /// As App Mesh's: 0 = detect only, else at least one.
    public var maxEjectionPercent: UInt32
    /// How many percentage points worse than the median of its siblings an endpoint must be: what all have in common is not the
    /// endpoint's fault, and to eject some would burden the others. 0 = not asked.
    public var minimumDeviationPercent: UInt32
    public var successRate: SuccessRate?
    public var failurePercentage: FailurePercentage?
    /// Between connections that are made to no end but to see whether an endpoint that could not be connected to can be again; one that
    /// opens is a check that passed. Nil = none are made.
    public var connectionProbeInterval: Duration?

    public init(
        breaker: BreakerPolicy, interval: Duration = .seconds(10), maxEjectionPercent: UInt32 = 50, minimumDeviationPercent: UInt32 = 30,
        successRate: SuccessRate? = nil, failurePercentage: FailurePercentage? = nil, connectionProbeInterval: Duration? = nil
    ) {
        self.breaker = breaker
        self.interval = interval
        self.maxEjectionPercent = maxEjectionPercent
        self.minimumDeviationPercent = minimumDeviationPercent
        self.successRate = successRate
        self.failurePercentage = failurePercentage
        self.connectionProbeInterval = connectionProbeInterval
    }
}
