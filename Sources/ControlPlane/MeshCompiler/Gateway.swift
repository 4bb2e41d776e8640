import Base
import MeshModel
import ProxyConfig

/// The proxy at the mesh's edge: its listeners, and its GatewayRoutes composed with the routers of the services they lead to.
extension Compilation {
    mutating func compile(_ gateway: VirtualGateway) -> Snapshot {
        let routes = gatewayRoutes(of: gateway)
        for route in routes {
            if let service = find(route.rule.target.virtualService, route.meta, resources.virtualServices) { checkProvider(service) }
        }
        var listeners: [Listener] = []
        var configurations: [RouteConfiguration] = []
        for listener in gateway.listeners {
            let configuration = configuration(gateway, listener, routes)
            configurations.append(configuration)
            listeners.append(edgeListener(gateway, listener, configuration.name))
        }
        return snapshot(role: .virtualGateway, name: gateway.meshName, listeners: listeners, routeConfigurations: configurations)
    }

    private mutating func edgeListener(_ gateway: VirtualGateway, _ listener: VirtualGateway.Listener, _ routes: String) -> Listener {
        let mapping = listener.portMapping
        let given = sidecar?.inbound.first { $0.port == mapping.port }?.bind
        let bind = given ?? SocketAddress(anyAddress, mapping.port)
        let name = Names.listener(.ingress, bind)
        if given == nil { assume("listeners[\(name)].address", "\(bind)", Defaults.appMesh) }
        let manager = HTTPConnectionManager(
            statPrefix: "ingress", codec: mapping.protocol.codec(withTLS: false), routeConfigurationName: routes,
            accessLogs: accessLogs(gateway.accessLog), isEdge: true, http2: inboundHTTP2(default: HTTP2Options().maxConcurrentStreams),
            maxConnectionAge: sidecar?.maxConnectionAge)
        return Listener(
            name: name, address: bind, direction: .inbound,
            filterChains: filterChains("\(mapping.port)", listener.tls, mapping.protocol, .http(manager)))
    }

    // MARK: Which routes

    /// Those that both selectors of the gateway take, if no other gateway takes them too.
    private mutating func gatewayRoutes(of gateway: VirtualGateway) -> [GatewayRoute] {
        var found: [GatewayRoute] = []
        for selected in resources.gatewayRoutes(of: gateway.key) {
            let (route, gateways) = (selected.route, selected.gateways)
            guard gateways.count == 1 else {
                warn(
                    route.key,
                    "found multiple matching virtualGateways for gatewayRoute: \(route.meta.name), expecting 1 but found "
                        + "\(gateways.count): \(gateways.joined(separator: ",")); left out"
                )
                continue
            }
            found.append(route)
        }
        return found.sorted { left, right in
            let (first, second) = (left.order, right.order)
            return first == second ? left.key < right.key : first < second
        }
    }

    // MARK: Virtual hosts

    /// A route without a host name is for every host, so each virtual host holds those too, in the common order.
    private mutating func configuration(
        _ gateway: VirtualGateway, _ listener: VirtualGateway.Listener, _ all: [GatewayRoute]
    ) -> RouteConfiguration {
        let mapping = listener.portMapping
        let name = Names.routes(.ingress, port: mapping.port)
        let routes = all.filter { $0.rule.port == nil || $0.rule.port == mapping.port }
        for route in routes where route.rule.protocol != mapping.protocol {
            warn(
                route.key,
                "a \(route.rule.protocol.rawValue) route on the \(mapping.protocol.rawValue) listener \(mapping.port)"
            )
        }
        let hosts = Set(routes.map { HostPattern($0.hostname) }).union([.any])
        let virtualHosts = hosts.sorted().compactMap { host -> VirtualHost? in
            let fitting = routes.filter { HostPattern($0.hostname).covers(host) }
            guard !fitting.isEmpty else { return nil }
            let path = "route_configurations[\(name)].virtual_hosts[\(host.domain)]"
            return VirtualHost(
                name: host.domain, domains: [host.domain],
                routes: fitting.flatMap { compose($0, gateway, listener).map { settle($0, path) } })
        }
        return RouteConfiguration(name: name, virtualHosts: virtualHosts)
    }

    // MARK: Both passes

    private mutating func compose(
        _ route: GatewayRoute, _ gateway: VirtualGateway, _ listener: VirtualGateway.Listener
    ) -> [PlannedRoute] {
        let own = route.match
        let nowhere = PlannedRoute(
            route: Route(name: route.meta.name, match: own, action: .reply(DirectReply(status: 404))))
        guard let service = find(route.rule.target.virtualService, route.meta, resources.virtualServices) else {
            let name =
                route.rule.target.virtualService.key(.virtualService, from: route.meta)?.qualified
                ?? "a VirtualService known by its ARN only"
            warn(route.key, "\(name) is unknown: requests get 404")
            return [nowhere]
        }
        guard let port = targetPort(route, service) else { return [nowhere] }

        var composed: [PlannedRoute] = []
        for planned in httpRoutes(of: service, port, CallPolicy(client: gateway.backendDefaults, service: service)) {
            let paths: [PathComposition]
            do {
                paths = try PathComposition.compose(route.path, planned.route.match.path)
            } catch {
                fail(
                    route.key,
                    "the pattern \(error.pattern) of route \(planned.route.name) of \(service.key.qualified) cannot be joined with this "
                        + "route's rewrite; write it without a counted repetition or flag at its beginning, or match by prefix"
                )
                continue
            }
            for path in paths {
                var joined = join(route, own, planned, path, service)
                apply(routePolicies(route), to: &joined, port: port)
                composed.append(joined)
            }
            limit(planned.route.action, by: listener.connectionPool)
        }
        // In two passes a request that the first has taken never comes back: no later GatewayRoute may see it.
        let isCovered = composed.contains { $0.route.match == own }
        return isCovered ? composed : composed + [nowhere]
    }

    private func join(
        _ route: GatewayRoute, _ own: RouteMatch, _ planned: PlannedRoute, _ path: PathComposition, _ service: VirtualService
    ) -> PlannedRoute {
        var joined = planned
        joined.route.name = "\(route.meta.name)/\(planned.route.name)"
        joined.route.match.path = path.path
        joined.route.match.headers = own.headers + planned.route.match.headers + path.conditions
        joined.route.match.queryParameters = own.queryParameters + planned.route.match.queryParameters
        joined.route.match.requiresGRPC = own.requiresGRPC || planned.route.match.requiresGRPC
        guard case .forward(var action) = planned.route.action else { return joined }
        action.pathRewrite = path.rewrite
        if route.rewritesHost {
            action.hostRewrite = .literal(service.meshName)
            if route.isHostRewriteAssumed { joined.assumed.append(.init(field: "host_rewrite_literal", value: service.meshName)) }
        }
        if route.isPathRewriteAssumed, path.rewrite != nil { joined.assumed.append(.init(field: "prefix_rewrite", value: "/")) }
        joined.route.action = .forward(action)
        return joined
    }

    /// The port of the service that the route means: the one it names, or the only one.
    private mutating func targetPort(_ route: GatewayRoute, _ service: VirtualService) -> PortMapping? {
        let ports = ports(of: service)
        let field = FieldPath.spec / "\(route.rule.protocol.rawValue)Route" / "action" / "target" / "port"
        let found: PortMapping?
        if let port = route.rule.target.port {
            found = ports.first { $0.port == port }
            if found == nil { warn(route.key, field, "\(port) is not a port of \(service.key.qualified): requests get 404") }
        } else {
            found = ports.first { $0.protocol != .tcp }
            if ports.count > 1, let found {
                warn(route.key, field, "missing, and \(service.key.qualified) has several ports: \(found.port), its first, is used")
            }
        }
        if let found, found.protocol == .tcp {
            warn(route.key, field, "\(service.key.qualified) speaks tcp on \(found.port): requests get 404")
            return nil
        }
        return found
    }

    /// App Mesh's pool held for the gateway as a whole; ours holds for each cluster behind it.
    private mutating func limit(_ action: RouteAction, by pool: ConnectionPool?) {
        guard let pool, case .forward(let forward) = action else { return }
        let limits = CircuitBreakers(pool)
        for name in forward.target.clusterNames {
            updateCluster(name) { cluster in
                cluster.circuitBreakers.maxConnections = tighter(cluster.circuitBreakers.maxConnections, limits.maxConnections)
                cluster.circuitBreakers.maxPendingRequests = tighter(cluster.circuitBreakers.maxPendingRequests, limits.maxPendingRequests)
                cluster.circuitBreakers.maxRequests = tighter(cluster.circuitBreakers.maxRequests, limits.maxRequests)
            }
        }
    }
}

private func tighter(_ left: UInt32?, _ right: UInt32?) -> UInt32? {
    guard let left, let right else { return left ?? right }
    return min(left, right)
}

extension ClusterTarget {
    var clusterNames: [String] {
        switch self {
        case .cluster(let name): [name]
        case .weighted(let clusters): clusters.map(\.name)
        }
    }
}

/// The hosts of a virtual host.
private enum HostPattern: Hashable, Comparable {
    case exact(String)
    case suffix(String)
    case any

    init(_ match: HostnameMatch?) {
        self =
            switch match {
            case nil: .any
            case .exact(let host): .exact(host.lowercased())
            case .suffix(let suffix): .suffix(String((suffix.hasPrefix("*") ? suffix.dropFirst() : suffix[...]).lowercased()))
            }
    }

    var domain: String {
        switch self {
        case .exact(let host): host
        case .suffix(let suffix): "*\(suffix)"
        case .any: "*"
        }
    }

    /// Whether every host of the other pattern is one of this.
    func covers(_ other: HostPattern) -> Bool {
        switch (self, other) {
        case (.any, _): true
        case (.suffix(let suffix), .suffix(let longer)): longer.hasSuffix(suffix)
        case (.suffix(let suffix), .exact(let host)): host.hasSuffix(suffix) && host != suffix
        case (.exact(let host), .exact(let other)): host == other
        case (.exact, _), (.suffix, .any): false
        }
    }
}

extension GatewayRoute {
    fileprivate var hostname: HostnameMatch? {
        switch rule {
        case .http(let route), .http2(let route): route.match.hostname
        case .grpc(let route): route.match.hostname
        }
    }

    fileprivate var match: RouteMatch {
        switch rule {
        case .http(let route), .http2(let route): RouteMatch(route.match)
        case .grpc(let route): RouteMatch(route.match)
        }
    }

    /// Priority, then how particular the path, the host and the conditions are.
    fileprivate var order: (Int, Int, Int, Int, Int) {
        let host =
            switch hostname {
            case .exact: 0
            case .suffix: 1
            case nil: 2
            }
        let conditions = match.conditionCount
        switch rule {
        case .http(let route), .http2(let route):
            let (rank, length) = route.match.path.map(RouteOrder.key) ?? (3, 0)
            return (priority ?? 1000, rank, -length, host, -conditions)
        case .grpc(let route):
            return (priority ?? 1000, route.match.serviceName == nil ? 3 : 1, 0, host, -conditions)
        }
    }

    /// What becomes of the path; gRPC's never changes.
    fileprivate var path: GatewayPath {
        switch rule {
        case .grpc:
            guard case .prefix(let prefix) = match.path else { return .prefix("/", becomes: "/") }
            return .prefix(prefix, becomes: prefix)
        case .http(let route), .http2(let route):
            switch (route.match.path, route.rewrite?.path) {
            case (nil, .prefix(let value)): return .prefix("/", becomes: value)
            case (nil, .exact(let path)): return .regexBecoming(".*", path)
            case (nil, _): return .prefix("/", becomes: "/")
            case (.prefix(let prefix), nil), (.prefix(let prefix), .defaultPrefix(true)): return .prefix(prefix, becomes: "/")
            case (.prefix(let prefix), .defaultPrefix(false)): return .prefix(prefix, becomes: prefix)
            case (.prefix(let prefix), .prefix(let value)): return .prefix(prefix, becomes: value)
            case (.prefix(let prefix), .exact(let path)): return .regexBecoming("\(RegexDerivative.quoted(prefix)).*", path)
            case (.exact(let path), .exact(let replacement)): return .exact(path, becomes: replacement)
            case (.exact(let path), _): return .exact(path, becomes: path)
            case (.regex(let pattern), .exact(let replacement)): return .regexBecoming(pattern, replacement)
            case (.regex(let pattern), _): return .regex(pattern)
            }
        }
    }

    fileprivate var isPathRewriteAssumed: Bool {
        switch rule {
        case .http(let route), .http2(let route): route.rewrite?.path == nil
        case .grpc: false
        }
    }

    private var defaultTargetHostname: Bool? {
        switch rule {
        case .http(let route), .http2(let route): route.rewrite?.defaultTargetHostname
        case .grpc(let route): route.defaultTargetHostname
        }
    }

    fileprivate var rewritesHost: Bool { defaultTargetHostname ?? true }
    fileprivate var isHostRewriteAssumed: Bool { defaultTargetHostname == nil }
}
