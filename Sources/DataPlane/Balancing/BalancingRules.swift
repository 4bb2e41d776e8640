public import ProxyConfig

/// How a cluster's endpoints are chosen among.
public struct BalancingRules: Hashable, Sendable {
    public enum Policy: Hashable, Sendable {
        case roundRobin
        case leastRequest
        case random
        /// The less costly of two, by latency and what is under way. Latency is forgotten by half in each `halfLife`.
        case peakEWMA(halfLife: Duration)
        /// Consistent: a key stays with its endpoint while that is there.
        case ringHash(ConsistentHash)
        case maglev(ConsistentHash)

        public init(_ policy: LoadBalancing, _ options: BalancingOptions = BalancingOptions()) {
            self =
                switch policy {
                case .roundRobin: .roundRobin
                case .leastRequest: .leastRequest
                case .random: .random
                case .peakEWMA: .peakEWMA(halfLife: options.latencyHalfLife)
                case .ringHash: .ringHash(ConsistentHash(boundPercent: options.hashBoundPercent))
                case .maglev: .maglev(ConsistentHash(boundPercent: options.hashBoundPercent))
                }
        }
    }

    public struct ConsistentHash: Hashable, Sendable {
        /// An endpoint takes at most this percentage of its fair share of what is under way; a key whose endpoint is full goes to the
        /// next one. Nil = no bound. More than 100.
        public var boundPercent: UInt32?

        public init(boundPercent: UInt32? = nil) {
            self.boundPercent = boundPercent.map { max($0, 101) }
        }
    }

    /// Endpoints of the caller's zone come first; the others take what these cannot, as a lower priority does.
    public struct ZonePreference: Hashable, Sendable {
        public var local: Locality
        /// With fewer endpoints in the caller's zone it is not preferred: they would carry what many should.
        public var minimumHosts: Int

        public init(local: Locality, minimumHosts: Int = 2) {
            self.local = local
            self.minimumHosts = max(minimumHosts, 1)
        }
    }

    public var policy: Policy
    /// Below this share of available endpoints a priority ignores health; 0 = never.
    public var panicThresholdPercent: Double
    public var zone: ZonePreference?
    /// For endpoints whose standing is `.ramping`.
    public var ramp: Ramp

    public init(policy: Policy, panicThresholdPercent: Double = 50, zone: ZonePreference? = nil, ramp: Ramp = .none) {
        self.policy = policy
        self.panicThresholdPercent = panicThresholdPercent
        self.zone = zone
        self.ramp = ramp
    }
}
