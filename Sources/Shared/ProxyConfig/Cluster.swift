public import Base

/// A group of endpoints that are equally good for a request (envoy.config.cluster.v3.Cluster).
public struct Cluster: Hashable, Sendable {
    public var name: String
    public var discovery: Discovery
    public var connectTimeout: Duration
    public var loadBalancing: LoadBalancing
    public var upstreamProtocol: UpstreamProtocol
    public var outlierDetection: OutlierDetection?
    public var circuitBreakers: CircuitBreakers
    public var healthChecks: [HealthCheck]
    /// common_lb_config.healthy_panic_threshold: below this share of available endpoints health is ignored. 0 = never.
    public var panicThresholdPercent: Double
    /// transport_socket with an UpstreamTlsContext; nil = plaintext.
    public var tls: UpstreamTLS?
    /// common_http_protocol_options.idle_timeout of idle upstream connections. Short for HTTP/1.1, whose peers close without a word.
    public var idleTimeout: Duration?
    /// http2_protocol_options; means something for `.http2` and `.auto` only.
    public var http2: HTTP2Options
    /// common_http_protocol_options.max_connection_duration: an older connection takes no new request and closes when it is idle, each
    /// up to a tenth earlier, so that those that began together do not end together. Nil = none. Not for `.tcp`.
    public var maxConnectionAge: Duration?
    public var balancing: BalancingOptions
    /// Nil = what `outlierDetection` and `circuitBreakers` say, and no more.
    public var resilience: ResiliencePolicy?

    public init(
        name: String, discovery: Discovery, connectTimeout: Duration = .seconds(1), loadBalancing: LoadBalancing = .roundRobin,
        upstreamProtocol: UpstreamProtocol = .http1, outlierDetection: OutlierDetection? = nil,
        circuitBreakers: CircuitBreakers = CircuitBreakers(),
        healthChecks: [HealthCheck] = [], panicThresholdPercent: Double = 50, tls: UpstreamTLS? = nil, idleTimeout: Duration? = nil,
        http2: HTTP2Options = HTTP2Options(), maxConnectionAge: Duration? = nil, balancing: BalancingOptions = BalancingOptions(),
        resilience: ResiliencePolicy? = nil
    ) {
        self.name = name
        self.discovery = discovery
        self.connectTimeout = connectTimeout
        self.loadBalancing = loadBalancing
        self.upstreamProtocol = upstreamProtocol
        self.outlierDetection = outlierDetection
        self.circuitBreakers = circuitBreakers
        self.healthChecks = healthChecks
        self.panicThresholdPercent = panicThresholdPercent
        self.tls = tls
        self.idleTimeout = idleTimeout
        self.http2 = http2
        self.maxConnectionAge = maxConnectionAge
        self.balancing = balancing
        self.resilience = resilience
    }
}

/// How a cluster finds its endpoints (type and load_assignment).
public enum Discovery: Hashable, Sendable {
    /// STATIC: addresses given here.
    case fixed(ClusterLoadAssignment)
    /// STRICT_DNS: every address of every name in the assignment is an endpoint.
    case dns(ClusterLoadAssignment, DNSOptions)
    /// EDS: the snapshot's `ClusterLoadAssignment` of this name.
    case eds(serviceName: String)
    /// ORIGINAL_DST: where the caller was going (ALLOW_ALL). Without interception: the request's authority.
    case originalDestination
}

public struct DNSOptions: Hashable, Sendable {
    /// dns_lookup_family.
    public enum Family: String, Hashable, Sendable {
        case v4Only
        case v6Only
        case v4Preferred
        case v6Preferred
        case all
    }

    public var family: Family
    /// dns_refresh_rate: between lookups when the answer has no TTL, and its lower bound.
    public var refreshInterval: Duration

    public init(family: Family = .all, refreshInterval: Duration = .seconds(5)) {
        self.family = family
        self.refreshInterval = refreshInterval
    }
}

public enum UpstreamProtocol: String, Hashable, Sendable {
    case http1
    /// HttpProtocolOptions.explicit_http_config.http2_protocol_options; gRPC too.
    case http2
    /// HttpProtocolOptions.auto_config: by ALPN HTTP/2, else HTTP/1.1 (also where the endpoint speaks no TLS and `tls.isEnforced` is
    /// false). Only with `tls`, whose `alpn` names both.
    case auto
    case tcp
}

/// lb_policy.
public enum LoadBalancing: String, Hashable, Sendable, CaseIterable {
    case roundRobin
    /// Power of two choices.
    case leastRequest
    case random
    /// The less costly of two, by latency and what is under way (`BalancingOptions.latencyHalfLife`). Ours.
    case peakEWMA
    /// Consistent: the same key (`ForwardAction.hashKeys`) gets the same endpoint while that is there.
    case ringHash
    case maglev
}

/// What policies of balancing go by, each its own.
public struct BalancingOptions: Hashable, Sendable {
    /// `.peakEWMA`: what was measured counts half after this time.
    public var latencyHalfLife: Duration
    /// `.ringHash`, `.maglev` (consistent_hashing_lb_config.hash_balance_factor): an endpoint takes at most this percentage of its fair
    /// share, more than 100; the key of one that is full goes to the next. Nil = no bound.
    public var hashBoundPercent: UInt32?
    /// Endpoints of the proxy's own zone come first, if the zone has at least so many (zone_aware_lb_config.min_cluster_size). Nil = zones
    /// mean nothing.
    public var preferredZoneSize: UInt32?
    /// How the load of new endpoints grows (slow_start_config). The endpoints' breakers have their own.
    public var slowStart: Ramp

    public init(
        latencyHalfLife: Duration = .milliseconds(500), hashBoundPercent: UInt32? = nil, preferredZoneSize: UInt32? = nil,
        slowStart: Ramp = .none
    ) {
        self.latencyHalfLife = latencyHalfLife
        self.hashBoundPercent = hashBoundPercent
        self.preferredZoneSize = preferredZoneSize
        self.slowStart = slowStart
    }
}

/// envoy.config.endpoint.v3.ClusterLoadAssignment.
public struct ClusterLoadAssignment: Hashable, Sendable {
    public var clusterName: String
    public var localities: [LocalityEndpoints]

    public init(clusterName: String, localities: [LocalityEndpoints]) {
        self.clusterName = clusterName
        self.localities = localities
    }
}

/// envoy.config.core.v3.Locality.
public struct Locality: Hashable, Sendable {
    public var region: String
    public var zone: String
    public var subZone: String

    public init(region: String = "", zone: String = "", subZone: String = "") {
        self.region = region
        self.zone = zone
        self.subZone = subZone
    }
}

/// envoy.config.endpoint.v3.LocalityLbEndpoints.
public struct LocalityEndpoints: Hashable, Sendable {
    public var locality: Locality
    /// 0 is served first; without gaps.
    public var priority: UInt32
    /// load_balancing_weight; at least 1.
    public var weight: UInt32
    public var endpoints: [Endpoint]

    public init(locality: Locality = Locality(), priority: UInt32 = 0, weight: UInt32 = 1, endpoints: [Endpoint]) {
        self.locality = locality
        self.priority = priority
        self.weight = weight
        self.endpoints = endpoints
    }
}

/// envoy.config.endpoint.v3.LbEndpoint.
public struct Endpoint: Hashable, Sendable {
    public enum Host: Hashable, Sendable {
        case ip(IPAddress)
        /// Resolved by the proxy (only in `.dns` clusters).
        case name(String)
    }

    public var host: Host
    public var port: Port
    /// load_balancing_weight; at least 1.
    public var weight: UInt32
    /// metadata envoy.transport_socket_match: it speaks no TLS. Means something where `UpstreamTLS.sparesPlaintextEndpoints`.
    public var isPlaintext: Bool

    public init(host: Host, port: Port, weight: UInt32 = 1, isPlaintext: Bool = false) {
        self.host = host
        self.port = port
        self.weight = weight
        self.isPlaintext = isPlaintext
    }
}

/// envoy.config.cluster.v3.OutlierDetection: consecutive server errors eject an endpoint (reference: docs/outlier-detection.md).
public struct OutlierDetection: Hashable, Sendable {
    /// consecutive_5xx; App Mesh's maxServerErrors. At least 1.
    public var consecutive5xx: UInt32
    /// Between sweeps, at which ejected endpoints return.
    public var interval: Duration
    /// base_ejection_time; App Mesh's baseEjectionDuration. Times the number of ejections.
    public var baseEjectionTime: Duration
    /// The upper bound of the product.
    public var maxEjectionTime: Duration
    /// 0 = detect only; else at least one endpoint may be ejected.
    public var maxEjectionPercent: UInt32
    /// enforcing_consecutive_5xx.
    public var enforcingPercent: UInt32

    public init(
        consecutive5xx: UInt32 = 5, interval: Duration = .seconds(10), baseEjectionTime: Duration = .seconds(30),
        maxEjectionTime: Duration = .seconds(300), maxEjectionPercent: UInt32 = 10, enforcingPercent: UInt32 = 100
    ) {
        self.consecutive5xx = consecutive5xx
        self.interval = interval
        self.baseEjectionTime = baseEjectionTime
        self.maxEjectionTime = maxEjectionTime
        self.maxEjectionPercent = maxEjectionPercent
        self.enforcingPercent = enforcingPercent
    }
}

/// envoy.config.cluster.v3.CircuitBreakers, thresholds of priority DEFAULT. Nil = no limit.
public struct CircuitBreakers: Hashable, Sendable {
    public var maxConnections: UInt32?
    public var maxPendingRequests: UInt32?
    public var maxRequests: UInt32?

    public init(maxConnections: UInt32? = nil, maxPendingRequests: UInt32? = nil, maxRequests: UInt32? = nil) {
        self.maxConnections = maxConnections
        self.maxPendingRequests = maxPendingRequests
        self.maxRequests = maxRequests
    }
}

/// envoy.config.core.v3.HealthCheck.
public struct HealthCheck: Hashable, Sendable {
    public enum Kind: Hashable, Sendable {
        case http(host: String, path: String)
        case http2(host: String, path: String)
        case grpc
        case tcp
    }

    public var kind: Kind
    public var interval: Duration
    public var timeout: Duration
    public var healthyThreshold: UInt32
    public var unhealthyThreshold: UInt32
    /// alt_port.
    public var port: Port?

    public init(kind: Kind, interval: Duration, timeout: Duration, healthyThreshold: UInt32, unhealthyThreshold: UInt32, port: Port? = nil)
    {
        self.kind = kind
        self.interval = interval
        self.timeout = timeout
        self.healthyThreshold = healthyThreshold
        self.unhealthyThreshold = unhealthyThreshold
        self.port = port
    }
}
