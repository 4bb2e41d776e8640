public import Base

/// What a port speaks.
public enum PortProtocol: String, Hashable, Sendable, CaseIterable {
    case http
    case http2
    case grpc
    case tcp
}

public struct PortMapping: Hashable, Sendable {
    public var port: Port
    public var `protocol`: PortProtocol

    public init(port: Port, `protocol`: PortProtocol) {
        self.port = port
        self.protocol = `protocol`
    }
}

/// A listener's health check; every caller of the node runs it.
public struct HealthCheckPolicy: Hashable, Sendable {
    /// 2 through 10. Optional on a VirtualGateway only.
    public var healthyThreshold: Int?
    /// 2 through 10.
    public var unhealthyThreshold: Int
    /// intervalMillis: 5 s through 300 s.
    public var interval: Duration
    /// timeoutMillis: 2 s through 60 s.
    public var timeout: Duration
    public var `protocol`: PortProtocol
    /// Used for http and http2 only.
    public var path: String?
    /// Default: the listener's.
    public var port: Port?

    public init(
        healthyThreshold: Int? = nil, unhealthyThreshold: Int, interval: Duration, timeout: Duration, `protocol`: PortProtocol,
        path: String? = nil, port: Port? = nil
    ) {
        self.healthyThreshold = healthyThreshold
        self.unhealthyThreshold = unhealthyThreshold
        self.interval = interval
        self.timeout = timeout
        self.protocol = `protocol`
        self.path = path
        self.port = port
    }
}

/// When the callers of a node leave out a host of it; App Mesh requires all four.
public struct OutlierDetectionPolicy: Hashable, Sendable {
    /// Consecutive 5xx that eject; at least 1.
    public var maxServerErrors: Int
    /// Between sweeps, at which ejected hosts return.
    public var interval: Duration
    public var baseEjectionDuration: Duration
    /// 0 through 100.
    public var maxEjectionPercent: Int

    public init(maxServerErrors: Int, interval: Duration, baseEjectionDuration: Duration, maxEjectionPercent: Int) {
        self.maxServerErrors = maxServerErrors
        self.interval = interval
        self.baseEjectionDuration = baseEjectionDuration
        self.maxEjectionPercent = maxEjectionPercent
    }
}

/// Limits between the proxy and the application beside it (on a gateway: the mesh behind it). Each at least 1, with no upper bound.
public enum ConnectionPool: Hashable, Sendable {
    case tcp(maxConnections: Int)
    case http(maxConnections: Int, maxPendingRequests: Int?)
    case http2(maxRequests: Int)
    case grpc(maxRequests: Int)

    public var `protocol`: PortProtocol {
        switch self {
        case .tcp: .tcp
        case .http: .http
        case .http2: .http2
        case .grpc: .grpc
        }
    }
}

/// The `timeout` of a listener or a route. Zero = none; absent = the default (15 s per request, 300 s idle).
public struct TimeoutPolicy: Hashable, Sendable {
    /// Never set for tcp.
    public var perRequest: Duration?
    public var idle: Duration?

    public init(perRequest: Duration? = nil, idle: Duration? = nil) {
        self.perRequest = perRequest
        self.idle = idle
    }
}

/// A listener's `timeout`, with the protocol that was its key.
public struct ListenerTimeout: Hashable, Sendable {
    public var `protocol`: PortProtocol
    public var policy: TimeoutPolicy

    public init(`protocol`: PortProtocol, policy: TimeoutPolicy) {
        self.protocol = `protocol`
        self.policy = policy
    }
}

/// `logging.accessLog.file`.
public struct AccessLogFile: Hashable, Sendable {
    public enum Format: Hashable, Sendable {
        /// A line with command operators (`%START_TIME%`); nothing is added at its end.
        case text(String)
        /// One object a line, keys in this order.
        case json([Field])
    }

    public struct Field: Hashable, Sendable {
        public var key: String
        public var value: String

        public init(key: String, value: String) {
            self.key = key
            self.value = value
        }
    }

    public var path: String
    /// Nil: Envoy's default line.
    public var format: Format?

    public init(path: String, format: Format? = nil) {
        self.path = path
        self.format = format
    }
}
