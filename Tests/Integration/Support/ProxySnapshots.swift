import Base
import ProxyConfig
import TestSupport

/// Snapshots as tests need them: few words for the usual, and all of `ProxyConfig` for the rest.
enum Config {
    /// Listener, its routes, and the cluster `origin`, in one go.
    ///
    /// - Parameters:
    ///   - ports: of the endpoints.
    ///   - manager: last changes to the HTTP settings; likewise `route` and `cluster`.
    static func http(
        listen: UInt16, to ports: [UInt16], admin: UInt16, process: (inout ProcessSettings) -> Void = { _ in },
        manager: (inout HTTPConnectionManager) -> Void = { _ in }, action: (inout ForwardAction) -> Void = { _ in },
        cluster: (inout Cluster) -> Void = { _ in }
    ) -> Snapshot {
        // The default of 15 seconds is short for a busy machine.
        var forward = ForwardAction(target: .cluster("origin"), timeout: .seconds(120))
        action(&forward)
        var snapshot = Snapshot(
            node: Node(mesh: "test", role: .virtualNode, name: "node"),
            process: settings(admin: admin, process),
            listeners: [listener("http", listen, manager: manager)],
            routeConfigurations: [routes([Route(name: "all", match: RouteMatch(path: .prefix("/")), action: .forward(forward))])],
            clusters: [])
        var origin = Self.cluster("origin", ports)
        cluster(&origin)
        snapshot.clusters = [origin]
        return snapshot
    }

    static func tcp(
        listen: UInt16, to ports: [UInt16], admin: UInt16, idle: Duration? = .seconds(300), cluster: (inout Cluster) -> Void = { _ in }
    ) -> Snapshot {
        var origin = Self.cluster("origin", ports)
        origin.upstreamProtocol = .tcp
        cluster(&origin)
        return Snapshot(
            node: Node(mesh: "test", role: .virtualNode, name: "node"),
            process: settings(admin: admin),
            listeners: [
                Listener(
                    name: "tcp", address: SocketAddress(.loopbackV4, listen), direction: .outbound,
                    filterChains: [
                        FilterChain(
                            name: "tcp", filter: .tcp(TCPProxy(statPrefix: "egress", target: .cluster("origin"), idleTimeout: idle)))
                    ])
            ], clusters: [origin])
    }

    static func settings(admin: UInt16, _ change: (inout ProcessSettings) -> Void = { _ in }) -> ProcessSettings {
        var settings = ProcessSettings(
            adminAddress: SocketAddress(.loopbackV4, admin), workers: 2, drainTime: .seconds(5), exposeReplyDetails: true)
        change(&settings)
        return settings
    }

    static func listener(
        _ name: String, _ port: UInt16, routes: String = "routes", manager: (inout HTTPConnectionManager) -> Void = { _ in }
    ) -> Listener {
        var http = HTTPConnectionManager(statPrefix: "egress", routeConfigurationName: routes)
        manager(&http)
        return Listener(
            name: name, address: SocketAddress(.loopbackV4, port), direction: .outbound,
            filterChains: [FilterChain(name: name, filter: .http(http))])
    }

    static func routes(_ routes: [Route], name: String = "routes") -> RouteConfiguration {
        RouteConfiguration(name: name, virtualHosts: [VirtualHost(name: "all", domains: ["*"], routes: routes)])
    }

    static func route(_ name: String, prefix: String, to cluster: String) -> Route {
        Route(name: name, match: RouteMatch(path: .prefix(prefix)), action: .forward(ForwardAction(target: .cluster(cluster))))
    }

    static func cluster(_ name: String, _ ports: [UInt16]) -> Cluster {
        Cluster(
            name: name,
            discovery: .fixed(
                ClusterLoadAssignment(
                    clusterName: name, localities: [LocalityEndpoints(endpoints: ports.map { Endpoint(host: .ip(.loopbackV4), port: $0) })]
                )))
    }
}
