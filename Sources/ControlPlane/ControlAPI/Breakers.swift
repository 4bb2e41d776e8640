/// `GET /v1/breakers[?node=NAME]`: what proxies say of their breakers, and what operators have forced them to. Without a node only those
/// that are not simply closed.
public struct BreakerItem: Hashable, Sendable, Codable {
    /// Whose proxy it is: `namespace/name`.
    public var node: String
    /// Nil: forced, and no proxy has told of it yet.
    public var instance: String?
    /// `namespace/node` of those that are called.
    public var service: String
    public var cluster: String
    /// Nil: the service as a whole.
    public var endpoint: String?
    /// `closed`, `open`, `half-open`, `ramping`, `forced-open`, `disabled`, `observing`; `wanted` where nobody has told yet.
    public var state: String
    public var reason: String?
    public var since: String?
    public var until: String?
    /// What closes it, for people.
    public var closes: String?
    /// By hand, through the control plane.
    public var forced: Forced?

    public struct Forced: Hashable, Sendable, Codable {
        /// `open`, `disable` or `observe`.
        public var action: String
        public var until: String
        public var by: String
        public var reason: String?

        public init(action: String, until: String, by: String, reason: String? = nil) {
            self.action = action
            self.until = until
            self.by = by
            self.reason = reason
        }
    }

    public init(node: String, instance: String? = nil, service: String, cluster: String, endpoint: String? = nil, state: String) {
        self.node = node
        self.instance = instance
        self.service = service
        self.cluster = cluster
        self.endpoint = endpoint
        self.state = state
    }
}

/// `POST /v1/breakers/force`: takes breakers of a node's proxies in hand, for a while.
public struct BreakerForceRequest: Hashable, Sendable, Codable {
    /// `NAME`, `NAME.NAMESPACE` or `NAMESPACE/NAME` of a VirtualNode or VirtualGateway.
    public var node: String
    /// The name of a cluster, or of a service that the node calls: `name` or `namespace/name`.
    public var cluster: String
    /// `10.0.0.1:8080`; nil: the service as a whole.
    public var endpoint: String?
    /// `open`, `disable` or `observe`.
    public var action: String
    /// 1 through 86400; nil: 600.
    public var seconds: Double?
    /// Why, for the record.
    public var reason: String?

    public init(
        node: String, cluster: String, endpoint: String? = nil, action: String, seconds: Double? = nil, reason: String? = nil
    ) {
        self.node = node
        self.cluster = cluster
        self.endpoint = endpoint
        self.action = action
        self.seconds = seconds
        self.reason = reason
    }
}

/// `POST /v1/breakers/release`: they decide for themselves again.
public struct BreakerReleaseRequest: Hashable, Sendable, Codable {
    public var node: String
    public var cluster: String
    public var endpoint: String?
    public var reason: String?

    public init(node: String, cluster: String, endpoint: String? = nil, reason: String? = nil) {
        self.node = node
        self.cluster = cluster
        self.endpoint = endpoint
        self.reason = reason
    }
}

/// The answer to both: what was done, by cluster.
public struct BreakerChange: Hashable, Sendable, Codable {
    public var node: String
    public var clusters: [String]
    public var endpoint: String?
    public var until: String?

    public init(node: String, clusters: [String], endpoint: String? = nil, until: String? = nil) {
        self.node = node
        self.clusters = clusters
        self.endpoint = endpoint
        self.until = until
    }
}
