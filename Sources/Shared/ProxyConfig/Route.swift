/// The routes of one listener (envoy.config.route.v3.RouteConfiguration).
public struct RouteConfiguration: Hashable, Sendable {
    public var name: String
    public var virtualHosts: [VirtualHost]

    public init(name: String, virtualHosts: [VirtualHost]) {
        self.name = name
        self.virtualHosts = virtualHosts
    }
}

/// A set of host names and their routes (envoy.config.route.v3.VirtualHost).
public struct VirtualHost: Hashable, Sendable {
    public var name: String
    /// `host`, `host:port`, `*.suffix`, `prefix.*` or `*`, compared without case. Exact beats suffix beats prefix beats `*`; longer
    /// wildcards beat shorter ones. A request's `host:port` also matches the domain `host`, unless there is a domain `host:*`.
    public var domains: [String]
    /// In the order they are tried.
    public var routes: [Route]

    public init(name: String, domains: [String], routes: [Route]) {
        self.name = name
        self.domains = domains
        self.routes = routes
    }
}

/// envoy.config.route.v3.Route.
public struct Route: Hashable, Sendable {
    /// A label of logs and metrics.
    public var name: String
    public var match: RouteMatch
    public var action: RouteAction
    /// Of requests, and of the responses to them, our own ones too.
    public var requestHeaders: HeaderChanges
    public var responseHeaders: HeaderChanges
    public var rateLimit: LocalRateLimit?
    public var fault: FaultInjection?

    public init(
        name: String, match: RouteMatch, action: RouteAction, requestHeaders: HeaderChanges = HeaderChanges(),
        responseHeaders: HeaderChanges = HeaderChanges(), rateLimit: LocalRateLimit? = nil, fault: FaultInjection? = nil
    ) {
        self.name = name
        self.match = match
        self.action = action
        self.requestHeaders = requestHeaders
        self.responseHeaders = responseHeaders
        self.rateLimit = rateLimit
        self.fault = fault
    }
}

/// Conditions on a request, all of which must hold (envoy.config.route.v3.RouteMatch).
public struct RouteMatch: Hashable, Sendable {
    public enum Path: Hashable, Sendable {
        /// Of the path without its query, in its normal form.
        case prefix(String)
        case exact(String)
        /// RE2 syntax; must match the whole path.
        case regex(String)
    }

    public var path: Path
    /// Also `:method`, `:scheme` and `:authority`.
    public var headers: [HeaderMatcher]
    public var queryParameters: [QueryParameterMatcher]
    /// grpc: only requests whose content-type is application/grpc or application/grpc+x.
    public var requiresGRPC: Bool

    public init(path: Path, headers: [HeaderMatcher] = [], queryParameters: [QueryParameterMatcher] = [], requiresGRPC: Bool = false) {
        self.path = path
        self.headers = headers
        self.queryParameters = queryParameters
        self.requiresGRPC = requiresGRPC
    }
}

/// envoy.config.route.v3.HeaderMatcher. A header that stands several times is matched by its values joined with commas.
public struct HeaderMatcher: Hashable, Sendable {
    public enum Condition: Hashable, Sendable {
        case present
        case exact(String)
        case prefix(String)
        case suffix(String)
        /// RE2 syntax; must match the whole value.
        case regex(String)
        /// The value is a decimal integer with `start <= value < end`.
        case range(start: Int64, end: Int64)
    }

    /// In lower case.
    public var name: String
    public var condition: Condition
    /// The matcher holds where the condition does not. A missing header fails it either way, as in Envoy, unless the condition is `present`.
    public var isInverted: Bool

    public init(name: String, condition: Condition, isInverted: Bool = false) {
        self.name = name
        self.condition = condition
        self.isInverted = isInverted
    }
}

/// envoy.config.route.v3.QueryParameterMatcher.
public struct QueryParameterMatcher: Hashable, Sendable {
    public var name: String
    /// Nil = the parameter must be present.
    public var exact: String?

    public init(name: String, exact: String? = nil) {
        self.name = name
        self.exact = exact
    }
}

/// What happens to a matching request.
public enum RouteAction: Hashable, Sendable {
    case forward(ForwardAction)
    case reply(DirectReply)
}

/// envoy.config.route.v3.DirectResponseAction.
public struct DirectReply: Hashable, Sendable {
    public var status: Int
    public var body: String

    public init(status: Int, body: String = "") {
        self.status = status
        self.body = body
    }
}

/// envoy.config.route.v3.RouteAction.
public struct ForwardAction: Hashable, Sendable {
    public enum PathRewrite: Hashable, Sendable {
        /// prefix_rewrite: replaces what `RouteMatch.path` matched (the prefix, or the whole exact path).
        case prefix(String)
        /// Replaces the whole path, whatever matched (wire form: regex_rewrite of `^.*$`). The query stays.
        case full(String)
    }

    public enum HostRewrite: Hashable, Sendable {
        /// host_rewrite_literal.
        case literal(String)
        /// auto_host_rewrite: the host name of the chosen endpoint.
        case endpointHostname
    }

    public var target: ClusterTarget
    public var pathRewrite: PathRewrite?
    public var hostRewrite: HostRewrite?
    /// From the end of the request to the end of the response; includes retries. Nil = none.
    public var timeout: Duration?
    /// Without a byte of this request either way. Nil = none.
    public var idleTimeout: Duration?
    public var retryPolicy: RetryPolicy?
    /// Empty = a key of its own for each request.
    public var hashKeys: [HashKey]
    public var mirrors: [RequestMirror]
    public var hedging: Hedging?

    public init(
        target: ClusterTarget, pathRewrite: PathRewrite? = nil, hostRewrite: HostRewrite? = nil, timeout: Duration? = .seconds(15),
        idleTimeout: Duration? = nil, retryPolicy: RetryPolicy? = nil, hashKeys: [HashKey] = [], mirrors: [RequestMirror] = [],
        hedging: Hedging? = nil
    ) {
        self.target = target
        self.pathRewrite = pathRewrite
        self.hostRewrite = hostRewrite
        self.timeout = timeout
        self.idleTimeout = idleTimeout
        self.retryPolicy = retryPolicy
        self.hashKeys = hashKeys
        self.mirrors = mirrors
        self.hedging = hedging
    }
}

/// Where a request or a connection goes.
public enum ClusterTarget: Hashable, Sendable {
    case cluster(String)
    /// weighted_clusters: relative weights, of which at least one is above 0.
    case weighted([WeightedCluster])
}

/// envoy.config.route.v3.WeightedCluster.ClusterWeight.
public struct WeightedCluster: Hashable, Sendable {
    public var name: String
    public var weight: UInt32

    public init(name: String, weight: UInt32) {
        self.name = name
        self.weight = weight
    }
}

/// envoy.config.route.v3.RetryPolicy.
public struct RetryPolicy: Hashable, Sendable {
    /// The words of retry_on: `connect-failure`, `refused-stream`, `reset`, `retriable-status-codes`, `unavailable`, ...
    public var retryOn: [String]
    public var retriableStatusCodes: [Int]
    public var maxRetries: Int
    /// Limits the first try too. Nil = the route's timeout alone.
    public var perTryTimeout: Duration?
    /// host_selection_retry_max_attempts with the previous_hosts predicate.
    public var hostSelectionMaxAttempts: Int
    /// Ours: what the endpoint may have begun is tried again only where its method allows it (RFC 9110 section 9.2.2). App Mesh and Envoy
    /// do not ask.
    public var onlyIdempotent: Bool
    /// retry_back_off.base_interval and max_interval. The first retry on another endpoint goes at once.
    public var backoffBase: Duration
    public var backoffLongest: Duration

    public init(
        retryOn: [String], retriableStatusCodes: [Int] = [], maxRetries: Int, perTryTimeout: Duration? = nil,
        hostSelectionMaxAttempts: Int = 5, onlyIdempotent: Bool = false, backoffBase: Duration = .milliseconds(25),
        backoffLongest: Duration = .milliseconds(250)
    ) {
        self.retryOn = retryOn
        self.retriableStatusCodes = retriableStatusCodes
        self.maxRetries = maxRetries
        self.perTryTimeout = perTryTimeout
        self.hostSelectionMaxAttempts = hostSelectionMaxAttempts
        self.onlyIdempotent = onlyIdempotent
        self.backoffBase = backoffBase
        self.backoffLongest = backoffLongest
    }
}
