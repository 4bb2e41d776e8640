public import Base

/// Shares the requests of a VirtualService among nodes (appmesh.k8s.aws/v1beta2 VirtualRouter).
public struct VirtualRouter: Hashable, Sendable {
    public var meta: ResourceMeta
    /// spec.awsName; default `name_namespace`.
    public var awsName: String?
    /// At least one.
    public var listeners: [PortMapping]
    /// In the file's order; no two with one name.
    public var routes: [RouterRoute]

    public init(meta: ResourceMeta, awsName: String? = nil, listeners: [PortMapping] = [], routes: [RouterRoute] = []) {
        self.meta = meta
        self.awsName = awsName
        self.listeners = listeners
        self.routes = routes
    }
}

public struct RouterRoute: Hashable, Sendable {
    public enum Rule: Hashable, Sendable {
        case http(HTTPRoute)
        case http2(HTTPRoute)
        case grpc(GRPCRoute)
        case tcp(TCPRoute)

        public var `protocol`: PortProtocol {
            switch self {
            case .http: .http
            case .http2: .http2
            case .grpc: .grpc
            case .tcp: .tcp
            }
        }

        /// Where it leads: one through ten.
        public var targets: [WeightedTarget] {
            switch self {
            case .http(let route), .http2(let route): route.targets
            case .grpc(let route): route.targets
            case .tcp(let route): route.targets
            }
        }

        /// match.port.
        public var port: Port? {
            switch self {
            case .http(let route), .http2(let route): route.match.port
            case .grpc(let route): route.match.port
            case .tcp(let route): route.port
            }
        }
    }

    public var name: String
    /// 0 through 1000, 0 first; none = after all that have one.
    public var priority: Int?
    public var rule: Rule

    public init(name: String, priority: Int? = nil, rule: Rule) {
        self.name = name
        self.priority = priority
        self.rule = rule
    }
}

/// One of action.weightedTargets.
public struct WeightedTarget: Hashable, Sendable {
    public var virtualNode: ResourceReference
    /// 0 through 100, relative to the others.
    public var weight: Int
    /// Of the target node; needed where it has several listeners.
    public var port: Port?

    public init(virtualNode: ResourceReference, weight: Int, port: Port? = nil) {
        self.virtualNode = virtualNode
        self.weight = weight
        self.port = port
    }
}

/// httpRoute and http2Route.
public struct HTTPRoute: Hashable, Sendable {
    public struct Match: Hashable, Sendable {
        public var path: PathMatch
        public var method: HTTPMethod?
        public var scheme: URLScheme?
        /// The router's listener port that this route is for.
        public var port: Port?
        public var headers: [HeaderMatch]
        public var queryParameters: [QueryParameterMatch]

        public init(
            path: PathMatch, method: HTTPMethod? = nil, scheme: URLScheme? = nil, port: Port? = nil, headers: [HeaderMatch] = [],
            queryParameters: [QueryParameterMatch] = []
        ) {
            self.path = path
            self.method = method
            self.scheme = scheme
            self.port = port
            self.headers = headers
            self.queryParameters = queryParameters
        }
    }

    public var match: Match
    public var targets: [WeightedTarget]
    public var retryPolicy: RouteRetryPolicy?
    public var timeout: TimeoutPolicy?

    public init(match: Match, targets: [WeightedTarget] = [], retryPolicy: RouteRetryPolicy? = nil, timeout: TimeoutPolicy? = nil) {
        self.match = match
        self.targets = targets
        self.retryPolicy = retryPolicy
        self.timeout = timeout
    }
}

public struct GRPCRoute: Hashable, Sendable {
    public struct Match: Hashable, Sendable {
        public var serviceName: String?
        /// Only with a serviceName.
        public var methodName: String?
        public var metadata: [HeaderMatch]
        public var port: Port?

        public init(serviceName: String? = nil, methodName: String? = nil, metadata: [HeaderMatch] = [], port: Port? = nil) {
            self.serviceName = serviceName
            self.methodName = methodName
            self.metadata = metadata
            self.port = port
        }
    }

    public var match: Match
    public var targets: [WeightedTarget]
    public var retryPolicy: RouteRetryPolicy?
    public var timeout: TimeoutPolicy?

    public init(match: Match, targets: [WeightedTarget] = [], retryPolicy: RouteRetryPolicy? = nil, timeout: TimeoutPolicy? = nil) {
        self.match = match
        self.targets = targets
        self.retryPolicy = retryPolicy
        self.timeout = timeout
    }
}

public struct TCPRoute: Hashable, Sendable {
    /// match.port.
    public var port: Port?
    public var targets: [WeightedTarget]
    /// timeout.idle.
    public var idleTimeout: Duration?

    public init(port: Port? = nil, targets: [WeightedTarget] = [], idleTimeout: Duration? = nil) {
        self.port = port
        self.targets = targets
        self.idleTimeout = idleTimeout
    }
}

public enum PathMatch: Hashable, Sendable {
    /// Starts with `/`.
    case prefix(String)
    case exact(String)
    /// RE2 syntax, over the whole path.
    case regex(String)
}

public enum HTTPMethod: String, Hashable, Sendable, CaseIterable {
    case get = "GET"
    case head = "HEAD"
    case post = "POST"
    case put = "PUT"
    case delete = "DELETE"
    case connect = "CONNECT"
    case options = "OPTIONS"
    case trace = "TRACE"
    case patch = "PATCH"
}

public enum URLScheme: String, Hashable, Sendable, CaseIterable {
    case http
    case https
}

/// A condition on one header field, or on one entry of gRPC metadata.
public struct HeaderMatch: Hashable, Sendable {
    public enum Value: Hashable, Sendable {
        case exact(String)
        case prefix(String)
        case suffix(String)
        /// RE2 syntax, over the whole value.
        case regex(String)
        /// A decimal integer, `start` included, `end` not; `start < end`.
        case range(start: Int, end: Int)
    }

    public var name: String
    /// Nil: the field must be there.
    public var value: Value?
    /// Default false; true turns the condition round.
    public var invert: Bool?

    public init(name: String, value: Value? = nil, invert: Bool? = nil) {
        self.name = name
        self.value = value
        self.invert = invert
    }
}

public struct QueryParameterMatch: Hashable, Sendable {
    public var name: String
    /// match.exact; nil: the parameter must be there.
    public var exact: String?

    public init(name: String, exact: String? = nil) {
        self.name = name
        self.exact = exact
    }
}

/// When a failed request is tried again. At least one list has events.
public struct RouteRetryPolicy: Hashable, Sendable {
    public enum HTTPEvent: String, Hashable, Sendable, CaseIterable {
        case serverError = "server-error"
        case gatewayError = "gateway-error"
        case clientError = "client-error"
        case streamError = "stream-error"
    }

    public enum TCPEvent: String, Hashable, Sendable, CaseIterable {
        case connectionError = "connection-error"
    }

    public enum GRPCEvent: String, Hashable, Sendable, CaseIterable {
        case cancelled
        case deadlineExceeded = "deadline-exceeded"
        case `internal`
        case resourceExhausted = "resource-exhausted"
        case unavailable
    }

    public var maxRetries: Int
    /// Limits each try, the first one too.
    public var perRetryTimeout: Duration
    public var httpRetryEvents: [HTTPEvent]
    public var tcpRetryEvents: [TCPEvent]
    /// grpcRoute only.
    public var grpcRetryEvents: [GRPCEvent]

    public init(
        maxRetries: Int, perRetryTimeout: Duration, httpRetryEvents: [HTTPEvent] = [], tcpRetryEvents: [TCPEvent] = [],
        grpcRetryEvents: [GRPCEvent] = []
    ) {
        self.maxRetries = maxRetries
        self.perRetryTimeout = perRetryTimeout
        self.httpRetryEvents = httpRetryEvents
        self.tcpRetryEvents = tcpRetryEvents
        self.grpcRetryEvents = grpcRetryEvents
    }
}
