public import Base

/// Where requests enter the mesh (appmesh.k8s.aws/v1beta2 VirtualGateway).
public struct VirtualGateway: Hashable, Sendable {
    public struct Listener: Hashable, Sendable {
        /// Never tcp.
        public var portMapping: PortMapping
        public var healthCheck: HealthCheckPolicy?
        /// Never tcp.
        public var connectionPool: ConnectionPool?
        public var tls: ListenerTLS?

        public init(
            portMapping: PortMapping, healthCheck: HealthCheckPolicy? = nil, connectionPool: ConnectionPool? = nil, tls: ListenerTLS? = nil
        ) {
            self.portMapping = portMapping
            self.healthCheck = healthCheck
            self.connectionPool = connectionPool
            self.tls = tls
        }
    }

    public var meta: ResourceMeta
    /// spec.awsName; default `name_namespace`.
    public var awsName: String?
    /// Whose GatewayRoutes belong here; absent = none.
    public var namespaceSelector: LabelSelector?
    /// Labels of the GatewayRoutes that belong here; absent = all.
    public var gatewayRouteSelector: LabelSelector?
    public var podSelector: LabelSelector?
    public var listeners: [Listener]
    /// spec.backendDefaults.clientPolicy.
    public var backendDefaults: ClientPolicy?
    /// spec.logging.accessLog.file.
    public var accessLog: AccessLogFile?

    public init(
        meta: ResourceMeta, awsName: String? = nil, namespaceSelector: LabelSelector? = nil, gatewayRouteSelector: LabelSelector? = nil,
        podSelector: LabelSelector? = nil, listeners: [Listener] = [], backendDefaults: ClientPolicy? = nil, accessLog: AccessLogFile? = nil
    ) {
        self.meta = meta
        self.awsName = awsName
        self.namespaceSelector = namespaceSelector
        self.gatewayRouteSelector = gatewayRouteSelector
        self.podSelector = podSelector
        self.listeners = listeners
        self.backendDefaults = backendDefaults
        self.accessLog = accessLog
    }
}

/// Which requests at a gateway go to which VirtualService (appmesh.k8s.aws/v1beta2 GatewayRoute).
public struct GatewayRoute: Hashable, Sendable {
    public enum Rule: Hashable, Sendable {
        case http(GatewayHTTPRoute)
        case http2(GatewayHTTPRoute)
        case grpc(GatewayGRPCRoute)

        public var `protocol`: PortProtocol {
            switch self {
            case .http: .http
            case .http2: .http2
            case .grpc: .grpc
            }
        }

        public var target: GatewayTarget {
            switch self {
            case .http(let route), .http2(let route): route.target
            case .grpc(let route): route.target
            }
        }

        /// match.port.
        public var port: Port? {
            switch self {
            case .http(let route), .http2(let route): route.match.port
            case .grpc(let route): route.match.port
            }
        }
    }

    public var meta: ResourceMeta
    /// spec.awsName; default `name_namespace`.
    public var awsName: String?
    /// 0 through 1000, 0 first; default 1000.
    public var priority: Int?
    public var rule: Rule

    public init(meta: ResourceMeta, awsName: String? = nil, priority: Int? = nil, rule: Rule) {
        self.meta = meta
        self.awsName = awsName
        self.priority = priority
        self.rule = rule
    }
}

/// action.target.
public struct GatewayTarget: Hashable, Sendable {
    public var virtualService: ResourceReference
    /// A listener port of the service's provider; needed where that has several.
    public var port: Port?

    public init(virtualService: ResourceReference, port: Port? = nil) {
        self.virtualService = virtualService
        self.port = port
    }
}

/// httpRoute and http2Route of a GatewayRoute.
public struct GatewayHTTPRoute: Hashable, Sendable {
    /// At least a path or a host name.
    public struct Match: Hashable, Sendable {
        public var path: PathMatch?
        public var hostname: HostnameMatch?
        public var method: HTTPMethod?
        public var headers: [HeaderMatch]
        public var queryParameters: [QueryParameterMatch]
        /// The gateway's listener port that this route is for.
        public var port: Port?

        public init(
            path: PathMatch? = nil, hostname: HostnameMatch? = nil, method: HTTPMethod? = nil, headers: [HeaderMatch] = [],
            queryParameters: [QueryParameterMatch] = [], port: Port? = nil
        ) {
            self.path = path
            self.hostname = hostname
            self.method = method
            self.headers = headers
            self.queryParameters = queryParameters
            self.port = port
        }
    }

    public struct Rewrite: Hashable, Sendable {
        /// Nil: App Mesh's default, which replaces a matched prefix by `/` and leaves other paths alone.
        public var path: PathRewrite?
        /// hostname.defaultTargetHostname; default true: Host becomes the VirtualService's name.
        public var defaultTargetHostname: Bool?

        public init(path: PathRewrite? = nil, defaultTargetHostname: Bool? = nil) {
            self.path = path
            self.defaultTargetHostname = defaultTargetHostname
        }
    }

    public enum PathRewrite: Hashable, Sendable {
        /// prefix.defaultPrefix: true = the matched prefix becomes `/`, false = the path stays.
        case defaultPrefix(Bool)
        /// prefix.value: what the matched prefix becomes; starts and ends with `/`.
        case prefix(String)
        /// path.exact: what the whole path becomes.
        case exact(String)
    }

    public var match: Match
    public var target: GatewayTarget
    public var rewrite: Rewrite?

    public init(match: Match, target: GatewayTarget, rewrite: Rewrite? = nil) {
        self.match = match
        self.target = target
        self.rewrite = rewrite
    }
}

/// grpcRoute of a GatewayRoute.
public struct GatewayGRPCRoute: Hashable, Sendable {
    /// At least a service or a host name.
    public struct Match: Hashable, Sendable {
        public var serviceName: String?
        public var hostname: HostnameMatch?
        public var metadata: [HeaderMatch]
        public var port: Port?

        public init(serviceName: String? = nil, hostname: HostnameMatch? = nil, metadata: [HeaderMatch] = [], port: Port? = nil) {
            self.serviceName = serviceName
            self.hostname = hostname
            self.metadata = metadata
            self.port = port
        }
    }

    public var match: Match
    public var target: GatewayTarget
    /// rewrite.hostname.defaultTargetHostname; default true: the authority becomes the VirtualService's name.
    public var defaultTargetHostname: Bool?

    public init(match: Match, target: GatewayTarget, defaultTargetHostname: Bool? = nil) {
        self.match = match
        self.target = target
        self.defaultTargetHostname = defaultTargetHostname
    }
}

public enum HostnameMatch: Hashable, Sendable {
    case exact(String)
    case suffix(String)
}
