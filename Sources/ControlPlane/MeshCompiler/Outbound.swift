import Base
import MeshModel
import ProxyConfig

/// What the application calls: the proxy's side towards the application, with the backends behind it.
extension Compilation {
    private struct Backend {
        var service: VirtualService
        var policy: CallPolicy
    }

    mutating func outbound(of node: VirtualNode) -> (listeners: [Listener], routes: [RouteConfiguration]) {
        let backends = backends(of: node)
        let logs = accessLogs(node.accessLog)
        var listeners: [Listener] = []
        var routes: [RouteConfiguration] = []

        let http = backends.flatMap { backend in
            ports(of: backend.service).filter { $0.protocol != .tcp }.map { (backend, $0) }
        }
        let isOpen = mesh.egressFilter == .allowAll
        if mesh.egressFilter == nil {
            assume("mesh.egress_filter", "DROP_ALL", "\(Defaults.appMesh): calls to anything but the backends get 404")
        }
        if mesh == .implicit { assume("mesh.egress_filter", "ALLOW_ALL", "\(Defaults.outrigger) where there is no Mesh") }
        // Services that lead nowhere still answer 404 instead of leaving the mesh.
        let hasHTTP = !http.isEmpty || backends.contains { $0.service.provider == nil } || isOpen || sidecar?.outboundHTTP != nil
        if hasHTTP {
            let bind = sidecar?.outboundHTTP ?? SocketAddress(localAddress, Defaults.outboundPort)
            let name = Names.listener(.egress, bind)
            if sidecar?.outboundHTTP == nil {
                assume("listeners[\(name)].address", "\(bind)", "\(Defaults.outrigger) (Sidecar spec.outbound.http.bind)")
            }
            let configuration = httpRoutes(backends, bind, isOpen)
            // Whatever its backends speak, the application may speak either.
            let manager = HTTPConnectionManager(
                statPrefix: "egress", codec: .auto, routeConfigurationName: configuration.name, accessLogs: logs,
                http2: HTTP2Options(maxConcurrentStreams: Defaults.maxConcurrentStreams))
            routes.append(configuration)
            listeners.append(
                Listener(name: name, address: bind, direction: .outbound, filterChains: [FilterChain(name: "http", filter: .http(manager))])
            )
        }
        for backend in backends {
            for mapping in ports(of: backend.service) where mapping.protocol == .tcp {
                if let listener = tcpListener(backend, mapping, logs) { listeners.append(listener) }
            }
        }
        return (listeners, routes)
    }

    // MARK: Backends

    /// Declared ones first, then those of the groups; each service once; by name.
    private mutating func backends(of node: VirtualNode) -> [Backend] {
        var found: [ResourceKey: Backend] = [:]
        for (index, backend) in node.backends.enumerated() {
            let field = (FieldPath.spec / "backends")[index] / "virtualService"
            guard let key = backend.virtualService.key(.virtualService, from: node.meta) else {
                warn(node.key, field, "a VirtualService that is known by its ARN only cannot be called")
                continue
            }
            guard let service = resources.virtualServices[key] else {
                warn(node.key, field, "\(key.qualified) is unknown: calls to it get 404")
                continue
            }
            let policy = CallPolicy(
                client: backend.clientPolicy ?? node.backendDefaults, owner: backend.clientPolicy == nil ? nil : service.meshName,
                service: service)
            if found[key] == nil { found[key] = Backend(service: service, policy: policy) }
        }
        for (index, group) in node.backendGroups.enumerated() {
            for service in members(of: group, node, (FieldPath.spec / "backendGroups")[index]) where found[service.key] == nil {
                found[service.key] = Backend(service: service, policy: CallPolicy(client: node.backendDefaults, service: service))
            }
        }
        for backend in found.values { checkProvider(backend.service) }
        return found.sorted { $0.key < $1.key }.map(\.value)
    }

    private mutating func members(of group: ObjectReference, _ node: VirtualNode, _ field: FieldPath) -> [VirtualService] {
        if group.name == "*" {
            let namespace = group.namespace ?? node.meta.namespace
            return resources.services(inNamespace: namespace)
        }
        let key = group.key(.backendGroup, from: node.meta)
        guard let found = resources.backendGroups[key] else {
            warn(node.key, field, "\(key.qualified) is unknown: calls to its members get 404")
            return []
        }
        return found.virtualServices.enumerated().compactMap { index, reference in
            let member = reference.key(.virtualService, from: found.meta)
            if let service = resources.virtualServices[member] { return service }
            warn(found.key, (FieldPath.spec / "virtualservices")[index], "\(member.qualified) is unknown: calls to it get 404")
            return nil
        }
    }

    /// A service whose provider is missing answers 404; somebody will look for the reason.
    mutating func checkProvider(_ service: VirtualService) {
        let field = FieldPath.spec / "provider"
        switch service.provider {
        case nil:
            warn(service.key, field, "there is none: calls to \(service.meshName) get 404")
        case .virtualNode(let reference):
            guard let node = find(reference, service.meta, resources.virtualNodes) else {
                return warn(service.key, field, "\(description(reference, service.meta)) is unknown: calls to \(service.meshName) get 404")
            }
            if ports(of: node).isEmpty {
                warn(service.key, field, "no port of \(node.key.qualified) is known: calls to \(service.meshName) get 404")
            }
        case .virtualRouter(let reference):
            if find(reference, service.meta, resources.virtualRouters) == nil {
                let router = reference.key(.virtualRouter, from: service.meta)?.qualified ?? "a VirtualRouter known by its ARN only"
                warn(service.key, field, "\(router) is unknown: calls to \(service.meshName) get 404")
            }
        }
    }

    // MARK: HTTP

    private mutating func httpRoutes(_ backends: [Backend], _ bind: SocketAddress, _ isOpen: Bool) -> RouteConfiguration {
        let name = Names.routes(.egress, port: bind.port)
        let otherwise = isOpen ? [passthrough()] : []
        var hosts: [VirtualHost] = []
        var owners: [String: ResourceKey] = [:]
        for backend in backends {
            let service = backend.service
            let host = service.meshName.lowercased()
            if let owner = owners.updateValue(service.key, forKey: host) {
                fail(
                    service.key, FieldPath.spec / "awsName",
                    "\(owner.qualified) has the same host name \"\(host)\", and \(subject) calls both")
                continue
            }
            let ports = ports(of: service).filter { $0.protocol != .tcp }
            for (index, mapping) in ports.enumerated() {
                // The bare name stands for the first port.
                let hostName = index == 0 ? service.meshName : "\(service.meshName):\(mapping.port)"
                let path = "route_configurations[\(name)].virtual_hosts[\(hostName)]"
                let routes = httpRoutes(of: service, mapping, backend.policy).map { settle($0, path) }
                let domains = index == 0 ? [host, "\(host):\(mapping.port)"] : ["\(host):\(mapping.port)"]
                hosts.append(VirtualHost(name: hostName, domains: domains, routes: routes))
            }
            if service.provider == nil {
                hosts.append(VirtualHost(name: service.meshName, domains: [host], routes: []))
            } else if !ports.isEmpty {
                // A port that is not the service's is another program on its hosts. Without this, the bare name would catch it too.
                hosts.append(VirtualHost(name: "\(service.meshName):*", domains: ["\(host):*"], routes: otherwise))
            }
        }
        if isOpen { hosts.append(VirtualHost(name: "allow-all", domains: ["*"], routes: otherwise)) }
        return RouteConfiguration(name: name, virtualHosts: hosts)
    }

    /// Writes down what the route assumes, now that it has a place.
    mutating func settle(_ planned: PlannedRoute, _ virtualHost: String) -> Route {
        for assumption in planned.assumed {
            assume("\(virtualHost).routes[\(planned.route.name)].route.\(assumption.field)", assumption.value, assumption.source)
        }
        return planned.route
    }

    /// ALLOW_ALL: what is no backend goes where its caller wanted, and nothing limits it.
    private mutating func passthrough() -> Route {
        let cluster = Names.allowAllCluster(mesh: mesh.meshName)
        add(Cluster(name: cluster, discovery: .originalDestination))
        assume("clusters[\(cluster)].connect_timeout", "1s", Defaults.appMesh)
        return Route(
            name: "allow-all", match: RouteMatch(path: .prefix("/")),
            action: .forward(ForwardAction(target: .cluster(cluster), timeout: nil, idleTimeout: nil)))
    }

    // MARK: TCP

    private mutating func tcpListener(_ backend: Backend, _ mapping: PortMapping, _ logs: [AccessLog]) -> Listener? {
        let service = backend.service
        guard let planned = tcpTarget(of: service, mapping, backend.policy) else {
            warn(service.key, "no tcpRoute takes port \(mapping.port): nothing listens for it")
            return nil
        }
        let given = sidecar?.outboundTCP.first { entry in
            entry.virtualService.key(.virtualService, from: sidecar!.meta) == service.key && (entry.port ?? mapping.port) == mapping.port
        }
        let bind = given?.bind ?? SocketAddress(localAddress, mapping.port)
        let name = Names.listener(.egress, bind)
        if given == nil { assume("listeners[\(name)].address", "\(bind)", "\(Defaults.outrigger) (Sidecar spec.outbound.tcp)") }
        if planned.isIdleTimeoutAssumed {
            assume("listeners[\(name)].filter_chains[\(service.meshName)].tcp_proxy.idle_timeout", "300s", Defaults.appMesh)
        }
        let proxy = TCPProxy(statPrefix: "egress", target: planned.target, idleTimeout: planned.idleTimeout, accessLogs: logs)
        return Listener(
            name: name, address: bind, direction: .outbound, filterChains: [FilterChain(name: service.meshName, filter: .tcp(proxy))])
    }
}
