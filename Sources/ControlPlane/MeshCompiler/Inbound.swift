import Base
import MeshModel
import ProxyConfig

/// What callers reach: the proxy's side towards the mesh, with the application behind it.
extension Compilation {
    mutating func compile(_ node: VirtualNode) -> Snapshot {
        var listeners: [Listener] = []
        var routes: [RouteConfiguration] = []
        for (index, listener) in node.listeners.enumerated() {
            guard let mapping = listener.portMapping else { continue }
            let (inbound, configuration) = inboundListener(node, listener, mapping, index)
            listeners.append(inbound)
            if let configuration { routes.append(configuration) }
        }
        let outbound = outbound(of: node)
        return snapshot(
            role: .virtualNode, name: node.meshName, listeners: listeners + outbound.listeners,
            routeConfigurations: routes + outbound.routes)
    }

    private mutating func inboundListener(
        _ node: VirtualNode, _ listener: VirtualNode.Listener, _ mapping: PortMapping, _ index: Int
    ) -> (Listener, RouteConfiguration?) {
        let place = sidecar?.inbound.first { $0.port == mapping.port }
        // 15001 is taken by the outbound side, as with App Mesh's interception.
        let bind = place?.bind ?? SocketAddress(anyAddress, Defaults.inboundPort + Port(index == 0 ? 0 : index + 1))
        setInbound(mapping.port, bind)
        let name = Names.listener(.ingress, bind)
        if place?.bind == nil { assume("listeners[\(name)].address", "\(bind)", "\(Defaults.outrigger) (Sidecar spec.inbound)") }
        let cluster = appCluster(node, listener, mapping, place)

        let logs = accessLogs(node.accessLog)
        var configuration: RouteConfiguration?
        let filter: NetworkFilter
        if mapping.protocol == .tcp {
            _ = inboundRateLimit(of: node, mapping)
            let idle = listener.timeout?.policy.idle
            if idle == nil {
                assume("listeners[\(name)].filter_chains[\(mapping.port)].tcp_proxy.idle_timeout", "300s", Defaults.appMesh)
            }
            filter = .tcp(
                TCPProxy(
                    statPrefix: "ingress", target: .cluster(cluster), idleTimeout: limit(idle, default: Defaults.idleTimeout),
                    accessLogs: logs))
        } else {
            let routes = inboundRoutes(node, listener, mapping, cluster)
            configuration = routes
            filter = .http(
                HTTPConnectionManager(
                    statPrefix: "ingress", codec: mapping.protocol.codec(withTLS: false), routeConfigurationName: routes.name,
                    accessLogs: logs, http2: inboundHTTP2(default: Defaults.maxConcurrentStreams),
                    maxConnectionAge: sidecar?.maxConnectionAge))
        }
        return (
            Listener(
                name: name, address: bind, direction: .inbound,
                filterChains: listener.tls == nil
                    ? meshChains(node, name, mapping, filter) : filterChains("\(mapping.port)", listener.tls, mapping.protocol, filter)),
            configuration
        )
    }

    private mutating func inboundRoutes(
        _ node: VirtualNode, _ listener: VirtualNode.Listener, _ mapping: PortMapping, _ cluster: String
    ) -> RouteConfiguration {
        let name = Names.routes(.ingress, port: mapping.port)
        let path = "route_configurations[\(name)].virtual_hosts[ingress].routes[ingress].route"
        let timeout = listener.timeout?.policy
        let action = ForwardAction(
            target: .cluster(cluster), timeout: requestTimeout(timeout, path), idleTimeout: idleTimeout(timeout, path))
        let route = Route(
            name: "ingress", match: RouteMatch(path: .prefix("/")), action: .forward(action), rateLimit: inboundRateLimit(of: node, mapping)
        )
        return RouteConfiguration(name: name, virtualHosts: [VirtualHost(name: "ingress", domains: ["*"], routes: [route])])
    }

    /// The cluster of the application beside the proxy.
    private mutating func appCluster(
        _ node: VirtualNode, _ listener: VirtualNode.Listener, _ mapping: PortMapping, _ place: Sidecar.Inbound?
    ) -> String {
        let name = Names.cluster(.ingress, mesh: mesh.meshName, node: node.meshName, mapping)
        let app = place?.app ?? SocketAddress(localAddress, mapping.port)
        if place?.app == nil { assume("clusters[\(name)].endpoints[0].address", "\(app)", Defaults.appMesh) }
        assume("clusters[\(name)].connect_timeout", "0.250s", Defaults.appMesh)
        let endpoints = [LocalityEndpoints(endpoints: [Endpoint(host: .ip(app.ip), port: app.port)])]
        add(
            Cluster(
                name: name, discovery: .fixed(ClusterLoadAssignment(clusterName: name, localities: endpoints)),
                connectTimeout: Defaults.connectTimeoutToApp, upstreamProtocol: mapping.protocol.upstream(withTLS: false),
                circuitBreakers: CircuitBreakers(listener.connectionPool), tls: place?.appTLS.map { appTLS($0, mapping) },
                http2: http2(mapping.protocol.upstream(withTLS: false))))
        return name
    }

    // MARK: HTTP/2

    /// What a cluster asks of the other side, apart from PINGs.
    func http2(_ upstreamProtocol: UpstreamProtocol) -> HTTP2Options {
        switch upstreamProtocol {
        case .http2, .auto: HTTP2Options(maxConcurrentStreams: Defaults.maxConcurrentStreams)
        case .http1, .tcp: HTTP2Options()
        }
    }

    /// What callers may have open on one connection.
    func inboundHTTP2(default streams: UInt32) -> HTTP2Options {
        HTTP2Options(maxConcurrentStreams: sidecar?.maxConcurrentStreams.map(saturating) ?? streams)
    }

    // MARK: Timeouts

    /// Absent = 15 s, zero = none.
    mutating func requestTimeout(_ policy: TimeoutPolicy?, _ path: String) -> Duration? {
        if policy?.perRequest == nil { assume("\(path).timeout", "15s", Defaults.appMesh) }
        return limit(policy?.perRequest, default: Defaults.requestTimeout)
    }

    /// Absent = 300 s, zero = none.
    mutating func idleTimeout(_ policy: TimeoutPolicy?, _ path: String) -> Duration? {
        if policy?.idle == nil { assume("\(path).idle_timeout", "300s", Defaults.appMesh) }
        return limit(policy?.idle, default: Defaults.idleTimeout)
    }

    func limit(_ given: Duration?, default fallback: Duration) -> Duration? {
        guard let given else { return fallback }
        return given == .zero ? nil : given
    }
}

extension PortProtocol {
    /// Between sidecars, TLS finds out whether both can do HTTP/2; a plaintext `http` port stays what its name says.
    func upstream(withTLS: Bool) -> UpstreamProtocol {
        switch self {
        case .http: withTLS ? .auto : .http1
        case .http2, .grpc: .http2
        case .tcp: .tcp
        }
    }

    func codec(withTLS: Bool) -> HTTPConnectionManager.Codec {
        switch self {
        case .http, .tcp: withTLS ? .auto : .http1
        case .http2, .grpc: .http2
        }
    }

    /// What the two sides of TLS choose from.
    var alpn: [String] {
        switch self {
        case .http2, .grpc: ["h2"]
        case .http: ["h2", "http/1.1"]
        case .tcp: []
        }
    }
}

extension CircuitBreakers {
    init(_ pool: ConnectionPool?) {
        switch pool {
        case nil: self.init()
        case .tcp(let connections): self.init(maxConnections: saturating(connections))
        case .http(let connections, let pending):
            self.init(maxConnections: saturating(connections), maxPendingRequests: pending.map(saturating))
        case .http2(let requests), .grpc(let requests): self.init(maxRequests: saturating(requests))
        }
    }
}
