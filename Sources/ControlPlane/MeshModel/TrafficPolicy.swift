public import Base
public import ProxyConfig

/// How calls of some target are balanced, retried, limited, copied and changed, and when they are broken off (outrigger/v1
/// TrafficPolicy).
public struct TrafficPolicy: Hashable, Sendable {
    /// What it is attached to. What is more particular comes first, field by field: a GatewayRoute, a route of a service, a route of a
    /// router, a service, a router, a node; of two with one target the one that names the caller.
    public struct Target: Hashable, Sendable {
        public enum Kind: String, Hashable, Sendable, CaseIterable {
            case virtualNode = "VirtualNode"
            case virtualService = "VirtualService"
            case virtualRouter = "VirtualRouter"
            case gatewayRoute = "GatewayRoute"
        }

        public var kind: Kind
        public var reference: ObjectReference
        /// The name of one route; nil = all. Only of a service or a router.
        public var route: String?

        public init(kind: Kind, reference: ObjectReference, route: String? = nil) {
            self.kind = kind
            self.reference = reference
            self.route = route
        }
    }

    public struct Caller: Hashable, Sendable {
        public enum Kind: String, Hashable, Sendable, CaseIterable {
            case virtualNode = "VirtualNode"
            case virtualGateway = "VirtualGateway"
        }

        public var kind: Kind
        public var reference: ObjectReference

        public init(kind: Kind, reference: ObjectReference) {
            self.kind = kind
            self.reference = reference
        }
    }

    /// A setting that may be said to be none, which is not the same as to say nothing.
    public enum Setting<Value: Hashable & Sendable>: Hashable, Sendable {
        case off
        case on(Value)

        /// Nil = off.
        public var value: Value? { if case .on(let value) = self { value } else { nil } }
    }

    public struct Balancing: Hashable, Sendable {
        public var policy: LoadBalancing
        public var options: BalancingOptions
        public var hashKeys: [HashKey]

        public init(policy: LoadBalancing, options: BalancingOptions = BalancingOptions(), hashKeys: [HashKey] = []) {
            self.policy = policy
            self.options = options
            self.hashKeys = hashKeys
        }
    }

    /// At the caller, for each cluster. App Mesh's `connectionPool` is at the called side.
    public struct Limits: Hashable, Sendable {
        public var maxConnections: UInt32?
        public var maxPendingRequests: UInt32?
        public var maxRequests: UInt32?
        public var adaptive: Setting<AdaptiveLimit>?
        public var queue: Setting<QueueLimits>?

        public init(
            maxConnections: UInt32? = nil, maxPendingRequests: UInt32? = nil, maxRequests: UInt32? = nil,
            adaptive: Setting<AdaptiveLimit>? = nil, queue: Setting<QueueLimits>? = nil
        ) {
            self.maxConnections = maxConnections
            self.maxPendingRequests = maxPendingRequests
            self.maxRequests = maxRequests
            self.adaptive = adaptive
            self.queue = queue
        }
    }

    public struct Retries: Hashable, Sendable {
        public var policy: RetryPolicy
        public var budget: RetryBudgetLimits?
        public var hedging: Hedging?

        public init(policy: RetryPolicy = .standard, budget: RetryBudgetLimits? = nil, hedging: Hedging? = nil) {
            self.policy = policy
            self.budget = budget
            self.hedging = hedging
        }
    }

    public struct RateLimit: Hashable, Sendable {
        public enum Side: String, Hashable, Sendable, CaseIterable {
            /// Each caller's proxy limits its own calls.
            case caller
            /// The called node's proxy limits the calls of all.
            case callee
        }

        public var limit: LocalRateLimit
        public var side: Side

        public init(limit: LocalRateLimit, side: Side) {
            self.limit = limit
            self.side = side
        }
    }

    public struct Fault: Hashable, Sendable {
        /// Without headers.
        public var injection: FaultInjection
        public var headers: [HeaderMatch]

        public init(injection: FaultInjection, headers: [HeaderMatch] = []) {
            self.injection = injection
            self.headers = headers
        }
    }

    public struct Mirror: Hashable, Sendable {
        public var virtualNode: ObjectReference
        /// Nil = the node's only one, or the one of the same number as the port that is called.
        public var port: Port?
        public var share: Share

        public init(virtualNode: ObjectReference, port: Port? = nil, share: Share = .all) {
            self.virtualNode = virtualNode
            self.port = port
            self.share = share
        }
    }

    /// What can be set, each on its own. Two policies of one target and caller must not set the same.
    public enum Part: String, Hashable, Sendable, CaseIterable, Comparable {
        case loadBalancing, endpointBreaker, serviceBreaker, limits, retries, timeout, rateLimit, fault, mirror, headers

        public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

        /// A property of the callers' clusters, which routes share: only of a node, or a service.
        public var isOfCluster: Bool {
            switch self {
            case .loadBalancing, .endpointBreaker, .serviceBreaker, .limits: true
            case .retries, .timeout, .rateLimit, .fault, .mirror, .headers: false
            }
        }
    }

    public var meta: ResourceMeta
    public var target: Target
    /// Empty = whoever calls.
    public var callers: [Caller]
    /// `resilience: standard`: the standard policy, where nothing else is said.
    public var isStandard: Bool
    public var balancing: Balancing?
    public var endpointBreaker: Setting<EndpointPolicy>?
    public var serviceBreaker: Setting<BreakerPolicy>?
    public var limits: Limits?
    public var retries: Setting<Retries>?
    /// Of requests, where their route says none.
    public var timeout: Setting<Duration>?
    public var rateLimit: Setting<RateLimit>?
    public var fault: Setting<Fault>?
    public var mirrors: Setting<[Mirror]>?
    public var requestHeaders: HeaderChanges
    public var responseHeaders: HeaderChanges

    public init(
        meta: ResourceMeta, target: Target, callers: [Caller] = [], isStandard: Bool = false, balancing: Balancing? = nil,
        endpointBreaker: Setting<EndpointPolicy>? = nil, serviceBreaker: Setting<BreakerPolicy>? = nil, limits: Limits? = nil,
        retries: Setting<Retries>? = nil, timeout: Setting<Duration>? = nil, rateLimit: Setting<RateLimit>? = nil,
        fault: Setting<Fault>? = nil,
        mirrors: Setting<[Mirror]>? = nil, requestHeaders: HeaderChanges = HeaderChanges(), responseHeaders: HeaderChanges = HeaderChanges()
    ) {
        self.meta = meta
        self.target = target
        self.callers = callers
        self.isStandard = isStandard
        self.balancing = balancing
        self.endpointBreaker = endpointBreaker
        self.serviceBreaker = serviceBreaker
        self.limits = limits
        self.retries = retries
        self.timeout = timeout
        self.rateLimit = rateLimit
        self.fault = fault
        self.mirrors = mirrors
        self.requestHeaders = requestHeaders
        self.responseHeaders = responseHeaders
    }
}

extension TrafficPolicy {
    /// What it says, in the order of the fields. The standard policy is what it says of nothing else.
    public var parts: [Part] {
        Part.allCases.filter { part in
            switch part {
            case .loadBalancing: isStandard || balancing != nil
            case .endpointBreaker: isStandard || endpointBreaker != nil
            case .serviceBreaker: serviceBreaker != nil
            case .limits: isStandard || limits != nil
            case .retries: isStandard || retries != nil
            case .timeout: timeout != nil
            case .rateLimit: rateLimit != nil
            case .fault: fault != nil
            case .mirror: mirrors != nil
            case .headers: !requestHeaders.isEmpty || !responseHeaders.isEmpty
            }
        }
    }

    public var allMirrors: [Mirror] { mirrors?.value ?? [] }

    public var targetKey: ResourceKey {
        let kind: ResourceKind =
            switch target.kind {
            case .virtualNode: .virtualNode
            case .virtualService: .virtualService
            case .virtualRouter: .virtualRouter
            case .gatewayRoute: .gatewayRoute
            }
        return target.reference.key(kind, from: meta)
    }

    public var callerKeys: [ResourceKey] {
        callers.map { $0.reference.key($0.kind == .virtualNode ? .virtualNode : .virtualGateway, from: meta) }
    }

    /// Whether it holds for the calls of this node or gateway.
    public func concerns(_ caller: ResourceKey) -> Bool {
        callers.isEmpty || callerKeys.contains(caller)
    }
}
