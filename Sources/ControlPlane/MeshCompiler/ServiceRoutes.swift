import Base
import ConfigText
import MeshModel
import ProxyConfig

/// A route on its way into a snapshot, with the values in it that nobody wrote down.
struct PlannedRoute {
    struct Assumption {
        /// Below the route's `route`.
        var field: String
        var value: String
        /// Who chose it.
        var source = Defaults.appMesh
    }

    var route: Route
    var assumed: [Assumption] = []
    /// The route itself says nothing of it.
    var isTimeoutAssumed = false
    var isRetryAssumed = false
}

/// What a VirtualService's provider says about requests: a router's routes in App Mesh's order, or one route to a node.
extension Compilation {
    /// The ports that a service is called on. The first one is the service's when a caller names none.
    func ports(of service: VirtualService) -> [PortMapping] {
        switch service.provider {
        case nil: []
        case .virtualRouter(let reference): find(reference, service.meta, resources.virtualRouters)?.listeners ?? []
        case .virtualNode(let reference): find(reference, service.meta, resources.virtualNodes).map(ports(of:)) ?? []
        }
    }

    /// The ports of a node; where it declares none (the tutorial form), those that other resources know it by.
    func ports(of node: VirtualNode) -> [PortMapping] {
        let declared = node.listeners.compactMap(\.portMapping)
        guard declared.isEmpty else { return declared }
        let policies = node.listeners.first
        let learnt = policies?.timeout?.protocol ?? policies?.connectionPool?.protocol ?? policies?.healthCheck?.protocol
        var found: [Port: PortProtocol] = [:]
        for router in resources.routers(to: node.key) {
            for route in router.routes {
                for target in route.rule.targets where target.virtualNode.key(.virtualNode, from: router.meta) == node.key {
                    for listener in router.listeners where route.rule.port == nil || route.rule.port == listener.port {
                        found[target.port ?? listener.port] = learnt ?? listener.protocol
                    }
                }
            }
        }
        if let port = policies?.healthCheck?.port { found[port] = learnt ?? .http }
        if found.isEmpty {
            for set in resources.endpointSets(of: node.key) {
                for port in set.endpoints.compactMap(\.port) { found[port] = learnt ?? .http }
            }
        }
        return found.sorted { $0.key < $1.key }.map { PortMapping(port: $0.key, protocol: $0.value) }
    }

    /// The object, if it is one that we have.
    func find<Value>(_ reference: ResourceReference, _ referrer: ResourceMeta, _ table: MeshView.Table<Value>) -> Value? {
        reference.key(Value.kind, from: referrer).flatMap { table[$0] }
    }

    // MARK: HTTP

    /// The routes of a service's HTTP port, in the order they are tried.
    mutating func httpRoutes(of service: VirtualService, _ mapping: PortMapping, _ policy: CallPolicy) -> [PlannedRoute] {
        switch service.provider {
        case nil:
            return []
        case .virtualNode(let reference):
            guard let node = find(reference, service.meta, resources.virtualNodes) else { return [] }
            let cluster = egressCluster(node, mapping, policy)
            var planned = planned(node.meta.name, RouteMatch(path: .prefix("/")), .cluster(cluster), nil, nil)
            let policies = routePolicies(service, nil, nil, [(node, 1)])
            apply(policies, to: &planned, port: mapping)
            warnOfShorterListeners(policies, planned, [(node, mapping)])
            return [planned]
        case .virtualRouter(let reference):
            guard let router = find(reference, service.meta, resources.virtualRouters) else { return [] }
            return RouteOrder.sorted(router.routes).compactMap { index, route in
                guard route.rule.port == nil || route.rule.port == mapping.port else { return nil }
                guard var planned = httpRoute(router, route, (FieldPath.spec / "routes")[index], mapping, policy) else { return nil }
                let policies = routePolicies(service, router, route.name, nodes(router, route))
                apply(policies, to: &planned, port: mapping)
                let called = route.rule.targets.compactMap { target in
                    find(target.virtualNode, router.meta, resources.virtualNodes).flatMap { node in
                        port(of: node, target, mapping).map { (node: node, port: $0) }
                    }
                }
                warnOfShorterListeners(policies, planned, called)
                return planned
            }
        }
    }

    private mutating func httpRoute(
        _ router: VirtualRouter, _ route: RouterRoute, _ field: FieldPath, _ mapping: PortMapping, _ policy: CallPolicy
    ) -> PlannedRoute? {
        if route.rule.protocol != mapping.protocol {
            let message = "a \(route.rule.protocol.rawValue) route on the \(mapping.protocol.rawValue) listener \(mapping.port)"
            guard route.rule.protocol != .tcp else {
                // Routers of several ports may well have a tcp one beside; only a route that names this port is a mistake.
                if route.rule.port != nil || router.listeners.count == 1 { warn(router.key, field, "\(message): left out") }
                return nil
            }
            warn(router.key, field, message)
        }
        let match: RouteMatch
        let retry: RouteRetryPolicy?
        let timeout: TimeoutPolicy?
        switch route.rule {
        case .http(let rule), .http2(let rule): (match, retry, timeout) = (RouteMatch(rule.match), rule.retryPolicy, rule.timeout)
        case .grpc(let rule): (match, retry, timeout) = (RouteMatch(rule.match), rule.retryPolicy, rule.timeout)
        case .tcp: return nil
        }
        guard let target = target(router, route, field, mapping, policy) else {
            let reply = DirectReply(status: 503, body: "route \(route.name) has no target\n")
            return PlannedRoute(route: Route(name: route.name, match: match, action: .reply(reply)))
        }
        warnOfShorterListeners(router, route, field, mapping, timeout)
        return planned(route.name, match, target, timeout, retry)
    }

    private func planned(
        _ name: String, _ match: RouteMatch, _ target: ClusterTarget, _ timeout: TimeoutPolicy?, _ retry: RouteRetryPolicy?
    ) -> PlannedRoute {
        var assumed: [PlannedRoute.Assumption] = []
        if timeout?.perRequest == nil { assumed.append(.init(field: "timeout", value: "15s")) }
        if timeout?.idle == nil { assumed.append(.init(field: "idle_timeout", value: "300s")) }
        if retry == nil { assumed.append(.init(field: "retry_policy", value: "2 retries")) }
        let action = ForwardAction(
            target: target, timeout: limit(timeout?.perRequest, default: Defaults.requestTimeout),
            idleTimeout: limit(timeout?.idle, default: Defaults.idleTimeout),
            retryPolicy: retry.map { RetryPolicy($0) } ?? Defaults.retryPolicy)
        return PlannedRoute(
            route: Route(name: name, match: match, action: .forward(action)), assumed: assumed,
            isTimeoutAssumed: timeout?.perRequest == nil, isRetryAssumed: retry == nil)
    }

    /// App Mesh limits a request twice, and users who raised one of the limits wondered about the other.
    private mutating func warnOfShorterListeners(
        _ router: VirtualRouter, _ route: RouterRoute, _ field: FieldPath, _ mapping: PortMapping, _ timeout: TimeoutPolicy?
    ) {
        guard let wanted = timeout?.perRequest else { return }
        for target in route.rule.targets {
            guard let node = find(target.virtualNode, router.meta, resources.virtualNodes), let called = port(of: node, target, mapping)
            else { continue }
            let policy = listener(of: node, port: called.port)?.timeout?.policy.perRequest
            guard let allowed = limit(policy, default: Defaults.requestTimeout), wanted == .zero || wanted > allowed else { continue }
            let given = policy == nil ? "the \(Defaults.appMesh)" : "as it says"
            let here = wanted == .zero ? "no limit" : duration(wanted)
            warn(
                router.key, field / "timeout" / "perRequest",
                "\(here) here, but listener \(called.port) of \(node.key.qualified) ends requests after \(duration(allowed)), \(given)"
            )
        }
    }

    // MARK: Targets

    /// Those that are known, with their weights.
    private func nodes(_ router: VirtualRouter, _ route: RouterRoute) -> [(node: VirtualNode, weight: Int)] {
        route.rule.targets.compactMap { target in
            find(target.virtualNode, router.meta, resources.virtualNodes).map { (node: $0, weight: target.weight) }
        }
    }

    /// Nil: no target is left that a request could go to.
    private mutating func target(
        _ router: VirtualRouter, _ route: RouterRoute, _ field: FieldPath, _ mapping: PortMapping, _ policy: CallPolicy
    ) -> ClusterTarget? {
        var weights: [String: UInt32] = [:]
        for (index, target) in route.rule.targets.enumerated() {
            let place = (field / "action" / "weightedTargets")[index]
            guard let node = find(target.virtualNode, router.meta, resources.virtualNodes) else {
                warn(
                    router.key, place,
                    "\(description(target.virtualNode, router.meta)) is unknown: its weight \(target.weight) goes to the other targets")
                continue
            }
            guard let called = port(of: node, target, mapping) else {
                let known = ports(of: node).map { "\($0.port)" }.joined(separator: ", ")
                let wanted = target.port.map { "port \($0) is not a listener of" } ?? "port is required: several listeners has"
                warn(router.key, place, "\(wanted) \(node.key.qualified) (\(known.isEmpty ? "none known" : known)); the target is left out")
                continue
            }
            if (called.protocol == .tcp) != (mapping.protocol == .tcp) {
                warn(
                    router.key, place,
                    "\(node.key.qualified) speaks \(called.protocol.rawValue) on \(called.port), not \(mapping.protocol.rawValue): left out"
                )
                continue
            }
            weights[egressCluster(node, called, policy), default: 0] += saturating(target.weight)
        }
        guard weights.values.contains(where: { $0 > 0 }) else {
            if !route.rule.targets.isEmpty { warn(router.key, field, "no target is left with a weight above 0: requests get 503") }
            return nil
        }
        if weights.count == 1, let only = weights.keys.first { return .cluster(only) }
        return .weighted(weights.sorted { $0.key < $1.key }.map { WeightedCluster(name: $0.key, weight: $0.value) })
    }

    /// The listener that a target means: the one it names, the node's only one, or the one with the router's own port.
    private func port(of node: VirtualNode, _ target: WeightedTarget, _ mapping: PortMapping) -> PortMapping? {
        let ports = ports(of: node)
        if let port = target.port {
            if node.listeners.contains(where: { $0.portMapping != nil }) { return ports.first { $0.port == port } }
            return PortMapping(port: port, protocol: mapping.protocol)
        }
        return ports.count == 1 ? ports[0] : ports.first { $0.port == mapping.port }
    }

    func description(_ reference: ResourceReference, _ referrer: ResourceMeta) -> String {
        switch reference {
        case .arn(let arn): "\(arn) (outside of this mesh)"
        case .object(let object): object.key(.virtualNode, from: referrer).qualified
        }
    }

    // MARK: TCP

    struct PlannedTCP {
        var target: ClusterTarget
        var idleTimeout: Duration?
        var isIdleTimeoutAssumed: Bool
    }

    /// Where connections to a service's tcp port go; nil: nowhere.
    mutating func tcpTarget(of service: VirtualService, _ mapping: PortMapping, _ policy: CallPolicy) -> PlannedTCP? {
        switch service.provider {
        case nil:
            return nil
        case .virtualNode(let reference):
            guard let node = find(reference, service.meta, resources.virtualNodes) else { return nil }
            warnOfRequests(routePolicies(service, nil, nil, [(node, 1)]), service, mapping)
            return PlannedTCP(
                target: .cluster(egressCluster(node, mapping, policy)), idleTimeout: Defaults.idleTimeout, isIdleTimeoutAssumed: true)
        case .virtualRouter(let reference):
            guard let router = find(reference, service.meta, resources.virtualRouters) else { return nil }
            let routes = RouteOrder.sorted(router.routes).filter {
                $0.route.rule.protocol == .tcp && ($0.route.rule.port == nil || $0.route.rule.port == mapping.port)
            }
            for (index, _) in routes.dropFirst() {
                warn(router.key, (FieldPath.spec / "routes")[index], "another tcpRoute comes first and takes every connection")
            }
            guard let (index, route) = routes.first, case .tcp(let rule) = route.rule else { return nil }
            guard let target = target(router, route, (FieldPath.spec / "routes")[index], mapping, policy) else { return nil }
            warnOfRequests(routePolicies(service, router, route.name, nodes(router, route)), service, mapping)
            return PlannedTCP(
                target: target, idleTimeout: limit(rule.idleTimeout, default: Defaults.idleTimeout),
                isIdleTimeoutAssumed: rule.idleTimeout == nil)
        }
    }
}

/// The order in which App Mesh tried routes: by priority, 0 first, none last; then the longer prefix. What that leaves open we decide
/// by how particular a route is, so that a route that takes everything never hides one that does not.
enum RouteOrder {
    static func sorted(_ routes: [RouterRoute]) -> [(index: Int, route: RouterRoute)] {
        routes.enumerated().map { (index: $0.offset, route: $0.element) }.sorted { left, right in
            let (first, second) = (key(left.route), key(right.route))
            return first == second ? left.index < right.index : first < second
        }
    }

    private static func key(_ route: RouterRoute) -> (Int, Int, Int, Int) {
        let priority = route.priority ?? .max
        switch route.rule {
        case .http(let rule), .http2(let rule):
            let match = RouteMatch(rule.match)
            let (rank, length) = key(rule.match.path)
            return (priority, rank, -length, -match.conditionCount)
        case .grpc(let rule):
            let rank = rule.match.methodName != nil ? 0 : rule.match.serviceName != nil ? 1 : 2
            return (priority, rank, 0, -rule.match.metadata.count)
        case .tcp:
            return (priority, 0, 0, 0)
        }
    }

    /// A whole path before a pattern before a prefix; then the longer prefix.
    static func key(_ path: PathMatch) -> (rank: Int, length: Int) {
        switch path {
        case .exact: (0, 0)
        case .regex: (1, 0)
        case .prefix(let prefix): (2, prefix.utf8.count)
        }
    }
}
