import Base
import ConfigText
import MeshModel
import ProxyConfig

/// What TrafficPolicies (outrigger/v1) say, laid over what App Mesh's resources do. The least particular goes first, and each that
/// follows takes the place of what it says itself.
extension Compilation {
    /// What is attached to a resource, or to one of its routes, and concerns this proxy; one that names its callers last.
    private func policies(of target: ResourceKey, route: String? = nil) -> [TrafficPolicy] {
        let found = resources.trafficPolicies(of: target).filter { $0.target.route == route && $0.concerns(subject) }
        return found.filter(\.callers.isEmpty) + found.filter { !$0.callers.isEmpty }
    }

    // MARK: Clusters

    /// What is to be done to the clusters of a node, called as a part of a service.
    func clusterPolicies(_ node: VirtualNode, _ service: VirtualService?) -> [TrafficPolicy] {
        policies(of: node.key) + (service.map(ownClusterPolicies) ?? [])
    }

    /// Those of a service that need a cluster of its own, since other services may lead to the same node.
    func ownClusterPolicies(_ service: VirtualService) -> [TrafficPolicy] {
        policies(of: service.key).filter { $0.parts.contains(where: \.isOfCluster) || $0.retryBudget != nil }
    }

    mutating func apply(_ policies: [TrafficPolicy], to cluster: inout Cluster) {
        let path = "clusters[\(cluster.name)]"
        for policy in policies {
            let source = source(policy)
            if let balancing = policy.balancing {
                cluster.loadBalancing = balancing.policy
                cluster.balancing = balancing.options
            } else if policy.isStandard {
                cluster.loadBalancing = .peakEWMA
                cluster.balancing = BalancingOptions()
                assume("\(path).lb_policy", "PEAK_EWMA", source)
            }
            let standard = policy.isStandard ? ResiliencePolicy.standard : nil
            var resilience = cluster.resilience ?? ResiliencePolicy(queue: QueueLimits(capacity: 0))
            if let breaker = policy.endpointBreaker.map(\.value) ?? standard.map(\.endpoint) {
                resilience.endpoint = breaker
                if cluster.outlierDetection != nil, breaker != nil {
                    cluster.outlierDetection = nil
                    retract("\(path).outlier_detection")
                    assume("\(path).outlier_detection", "none", "\(source): endpointBreaker takes its place")
                }
            }
            if let breaker = policy.serviceBreaker { resilience.service = breaker.value }
            if let limiter = policy.limits?.adaptive.map(\.value) ?? standard.map(\.limiter) { resilience.limiter = limiter }
            if let queue = policy.limits?.queue {
                resilience.queue = queue.value ?? QueueLimits(capacity: 0)
            } else if resilience.queue.capacity == 0, resilience.limiter != nil || policy.limits?.maxRequests != nil {
                resilience.queue = QueueLimits()
            }
            if let budget = policy.retryBudget { resilience.retryBudget = budget }
            if let limits = policy.limits {
                cluster.circuitBreakers.maxConnections = limits.maxConnections ?? cluster.circuitBreakers.maxConnections
                cluster.circuitBreakers.maxPendingRequests = limits.maxPendingRequests ?? cluster.circuitBreakers.maxPendingRequests
                cluster.circuitBreakers.maxRequests = limits.maxRequests ?? cluster.circuitBreakers.maxRequests
            }
            if resilience != cluster.resilience ?? ResiliencePolicy(queue: QueueLimits(capacity: 0)) {
                cluster.resilience = resilience
                assume("\(path).resilience", policy.isStandard ? "standard" : "given", source)
            }
        }
    }

    private func source(_ policy: TrafficPolicy) -> String {
        policy.isStandard ? "\(policy.key): standard" : "\(policy.key)"
    }

    // MARK: Routes

    /// What holds for a route of a service: of its nodes (the one with the greatest weight last), the router, the service, the route.
    ///
    /// - Parameter targets: where requests go, with weights.
    mutating func routePolicies(
        _ service: VirtualService, _ router: VirtualRouter?, _ route: String?, _ targets: [(node: VirtualNode, weight: Int)]
    ) -> [TrafficPolicy] {
        let nodes = targets.filter { $0.weight > 0 }.sorted { ($0.weight, $1.node.key) < ($1.weight, $0.node.key) }
        var found = nodes.flatMap { policies(of: $0.node.key) }
        if let route { warnOfDifferences(found, route) }
        if let router { found += policies(of: router.key) }
        found += policies(of: service.key)
        if let route {
            if let router { found += policies(of: router.key, route: route) }
            found += policies(of: service.key, route: route)
        }
        return found
    }

    /// One route leads to several nodes, whose policies say different things about its requests.
    private mutating func warnOfDifferences(_ ofNodes: [TrafficPolicy], _ route: String) {
        for (index, policy) in ofNodes.enumerated() {
            for other in ofNodes[(index + 1)...] where other.targetKey != policy.targetKey {
                for part in policy.requestParts where other.requestParts.contains(part) && !policy.says(part, as: other) {
                    warn(
                        policy.key, .spec / part.rawValue,
                        "route \(route) leads to \(other.targetKey.qualified) too, of which \(other.key.qualified) says otherwise, and "
                            + "which has the greater weight: that holds for all of the route")
                }
            }
        }
    }

    /// Connections have no requests.
    mutating func warnOfRequests(_ policies: [TrafficPolicy], _ service: VirtualService, _ mapping: PortMapping) {
        for policy in policies {
            for part in policy.requestParts where !(part == .rateLimit && policy.rateLimit?.value?.side == .callee) {
                let text = "\(service.key.qualified) speaks tcp on \(mapping.port), which has no requests: this has no effect there"
                warn(policy.key, .spec / part.rawValue, text)
            }
        }
    }

    /// The listener of a called node limits requests too.
    mutating func warnOfShorterListeners(
        _ policies: [TrafficPolicy], _ planned: PlannedRoute, _ called: [(node: VirtualNode, port: PortMapping)]
    ) {
        guard planned.isTimeoutAssumed, let policy = policies.last(where: { $0.timeout != nil }), let timeout = policy.timeout else {
            return
        }
        for (node, port) in called {
            let own = listener(of: node, port: port.port)?.timeout?.policy.perRequest
            guard let allowed = limit(own, default: Defaults.requestTimeout), timeout.value.map({ $0 > allowed }) ?? true else { continue }
            warn(
                policy.key, .spec / "timeout",
                "\(timeout.value.map(duration) ?? "no limit") here, but listener \(port.port) of \(node.key.qualified) ends requests after "
                    + "\(duration(allowed)), \(own == nil ? "the \(Defaults.appMesh)" : "as it says")")
        }
    }

    func routePolicies(_ route: GatewayRoute) -> [TrafficPolicy] { policies(of: route.key) }

    /// - Parameter port: that is called: a mirror's, if it does not say another.
    mutating func apply(_ policies: [TrafficPolicy], to planned: inout PlannedRoute, port: PortMapping) {
        for policy in policies {
            apply(policy, to: &planned.route)
            guard case .forward(var action) = planned.route.action else { continue }
            switch policy.retries {
            case .on(let retries):
                action.retryPolicy = retries.policy
                action.hedging = retries.hedging
                planned.isRetryAssumed = false
                planned.note("retry_policy", "\(retries.policy.maxRetries) retries", source(policy))
            case .off:
                (action.retryPolicy, action.hedging) = (nil, nil)
                planned.isRetryAssumed = false
                planned.note("retry_policy", "none", source(policy))
            case nil:
                // What the route itself says stays; what App Mesh did without a word does not.
                guard policy.isStandard, planned.isRetryAssumed else { break }
                action.retryPolicy = .standard
                planned.note("retry_policy", "2 retries", source(policy))
            }
            if let timeout = policy.timeout, planned.isTimeoutAssumed {
                action.timeout = timeout.value
                planned.note("timeout", timeout.value.map(duration) ?? "none", source(policy))
            }
            if let keys = policy.balancing?.hashKeys { action.hashKeys = keys }
            if policy.mirrors != nil { action.mirrors = mirrors(of: policy, port) }
            planned.route.action = .forward(action)
        }
    }

    private func apply(_ policy: TrafficPolicy, to route: inout Route) {
        if !policy.requestHeaders.isEmpty { route.requestHeaders = policy.requestHeaders }
        if !policy.responseHeaders.isEmpty { route.responseHeaders = policy.responseHeaders }
        switch policy.rateLimit {
        case .on(let limit): if limit.side == .caller { route.rateLimit = limit.limit }
        case .off: route.rateLimit = nil
        case nil: break
        }
        switch policy.fault {
        case .on(let fault):
            var injection = fault.injection
            injection.headers = fault.headers.map(HeaderMatcher.init)
            route.fault = injection
        case .off: route.fault = nil
        case nil: break
        }
    }

    /// Whoever may call the target may send copies to its mirrors: these need not be backends.
    private mutating func mirrors(of policy: TrafficPolicy, _ called: PortMapping) -> [RequestMirror] {
        policy.allMirrors.enumerated().compactMap { index, mirror in
            let path = (FieldPath.spec / "mirror")[index]
            let key = mirror.virtualNode.key(.virtualNode, from: policy.meta)
            guard let node = resources.virtualNodes[key] else {
                warn(policy.key, path / "virtualNode", "\(key.qualified) is unknown: no copies are sent")
                return nil
            }
            let ports = ports(of: node)
            let port = ports.first { $0.port == mirror.port } ?? (ports.count == 1 ? ports[0] : ports.first { $0.port == called.port })
            guard let port, mirror.port == nil || port.port == mirror.port, port.protocol != .tcp else {
                let known = ports.map { "\($0.port)" }.joined(separator: ", ")
                warn(policy.key, path, "which port of \(key.qualified) is meant is not known (\(known)): no copies are sent")
                return nil
            }
            return RequestMirror(cluster: egressCluster(node, port, CallPolicy(client: subjectDefaults)), share: mirror.share)
        }
    }

    /// How this proxy calls what is no backend of its own.
    private var subjectDefaults: ClientPolicy? {
        resources.virtualNodes[subject]?.backendDefaults ?? resources.virtualGateways[subject]?.backendDefaults
    }

    // MARK: The called side

    /// The limit of a node's own listeners.
    mutating func inboundRateLimit(of node: VirtualNode, _ mapping: PortMapping) -> LocalRateLimit? {
        guard let policy = resources.trafficPolicies(of: node.key).last(where: { $0.rateLimit?.value?.side == .callee }) else { return nil }
        if mapping.protocol == .tcp {
            warn(policy.key, .spec / "rateLimit", "port \(mapping.port) speaks tcp, which has no requests: this has no effect there")
        }
        return policy.rateLimit?.value?.limit
    }
}

extension TrafficPolicy {
    /// What it says of requests in so many words.
    fileprivate var requestParts: [Part] {
        parts.filter { !$0.isOfCluster && ($0 != .retries || retries != nil) }
    }

    fileprivate func says(_ part: Part, as other: TrafficPolicy) -> Bool {
        switch part {
        case .loadBalancing: balancing == other.balancing
        case .endpointBreaker: endpointBreaker == other.endpointBreaker
        case .serviceBreaker: serviceBreaker == other.serviceBreaker
        case .limits: limits == other.limits
        case .retries: retries == other.retries
        case .timeout: timeout == other.timeout
        case .rateLimit: rateLimit == other.rateLimit
        case .fault: fault == other.fault
        case .mirror: mirrors == other.mirrors
        case .headers: requestHeaders == other.requestHeaders && responseHeaders == other.responseHeaders
        }
    }

    fileprivate var retryBudget: RetryBudgetLimits? {
        retries?.value?.budget
    }
}

extension PlannedRoute {
    fileprivate mutating func note(_ field: String, _ value: String, _ source: String) {
        assumed.removeAll { $0.field == field }
        assumed.append(.init(field: field, value: value, source: source))
    }
}
