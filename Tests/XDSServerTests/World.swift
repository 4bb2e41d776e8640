import Base
import ProxyConfig
import XDSServer
import XDSWire

/// A small mesh as one proxy sees it, from which sets of resources are made. Every reference in it is resolved.
struct World: Hashable {
    struct ClusterState: Hashable {
        /// Its content; `World.bad` is refused by clients.
        var seconds: Int
        var service: String
        var secret: String?
    }

    static let bad = 13

    var clusters: [String: ClusterState] = [:]
    /// Service to port.
    var endpoints: [String: Int] = [:]
    /// Route configuration to clusters.
    var routes: [String: [String]] = [:]
    /// Route configurations that clients refuse.
    var badRoutes: Set<String> = []
    /// Listener to route configuration.
    var listeners: [String: String] = [:]
    var secrets: [String: Int] = [:]

    var snapshot: Snapshot {
        Snapshot(
            node: Node(mesh: "m", role: .virtualNode, name: "n"),
            listeners: listeners.sorted { $0.key < $1.key }.enumerated().map { index, entry in
                Listener(
                    name: entry.key, address: SocketAddress(.loopbackV4, Port(1000 + index)), direction: .outbound,
                    filterChains: [
                        FilterChain(name: "c", filter: .http(HTTPConnectionManager(statPrefix: "e", routeConfigurationName: entry.value)))
                    ])
            },
            routeConfigurations: routes.map { name, clusters in
                let target = ClusterTarget.weighted(clusters.sorted().map { WeightedCluster(name: $0, weight: 1) })
                return RouteConfiguration(
                    name: name,
                    virtualHosts: [
                        VirtualHost(
                            name: badRoutes.contains(name) ? "bad" : "h", domains: ["\(name).mesh", "*.\(name)"],
                            routes: [
                                Route(name: "a", match: RouteMatch(path: .prefix("/")), action: .forward(ForwardAction(target: target)))
                            ])
                    ])
            },
            clusters: clusters.map { name, state in
                var cluster = Cluster(name: name, discovery: .eds(serviceName: state.service), connectTimeout: .seconds(state.seconds))
                if let secret = state.secret {
                    cluster.tls = UpstreamTLS(validation: TLSValidation(trust: .sds(name: secret)), alpn: ["h2"])
                }
                return cluster
            },
            loadAssignments: endpoints.map { Self.assignment($0, $1) },
            secrets: secrets.map { name, version in
                Secret(name: name, content: .trust(authorities: Array("\(version)".utf8), subjectAlternativeNames: []))
            })
    }

    static func assignment(_ service: String, _ port: Int) -> ClusterLoadAssignment {
        ClusterLoadAssignment(
            clusterName: service,
            localities: [LocalityEndpoints(endpoints: [Endpoint(host: .ip(.loopbackV4), port: Port(port))])])
    }

    /// Nothing in it is refused.
    var isGood: Bool { badRoutes.isEmpty && !clusters.values.contains { $0.seconds == Self.bad } }

    static func random(_ random: inout SeededRandom, allowsBad: Bool) -> World {
        var world = World()
        for index in 0..<6 where random.below(3) > 0 || index == 0 {
            let service = "s\(random.below(3) == 0 ? 0 : index)"
            let isBad = allowsBad && random.below(12) == 0
            let secret = random.below(4) == 0 ? "k\(random.below(2))" : nil
            world.clusters["c\(index)"] = ClusterState(seconds: isBad ? bad : 1 + random.below(3), service: service, secret: secret)
            world.endpoints[service] = 1 + random.below(4)
            if let secret { world.secrets[secret] = random.below(3) }
        }
        let clusters = world.clusters.keys.sorted()
        for index in 0..<3 where random.below(3) > 0 {
            let name = "r\(index)"
            world.routes[name] = (0..<1 + random.below(2)).map { _ in clusters[random.below(clusters.count)] }
            if allowsBad, random.below(12) == 0 { world.badRoutes.insert(name) }
            world.listeners["l\(random.below(4))"] = name
        }
        world.routes = world.routes.filter { route in world.listeners.values.contains(route.key) }
        world.badRoutes.formIntersection(world.routes.keys)
        return world
    }

    /// The same with one thing changed.
    func changed(_ random: inout SeededRandom) -> World {
        var world = self
        if random.below(2) == 0, let service = endpoints.keys.sorted().first {
            world.endpoints[service] = 1 + random.below(100)
        } else if let name = clusters.keys.sorted().last {
            world.clusters[name]!.seconds = 20 + random.below(100)
        }
        return world
    }
}

extension SeededRandom {
    mutating func coin(_ oneIn: Int = 2) -> Bool { below(oneIn) == 0 }
}
