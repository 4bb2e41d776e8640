import Base
import ProxyConfig
import Testing
import XDSWire

@testable import XDSServer

@Suite struct ViewTests {
    private static let cart = Cluster(
        name: "cart", discovery: .eds(serviceName: "cart-endpoints"), loadBalancing: .leastRequest,
        tls: UpstreamTLS(validation: nil, alpn: ["h2"]))

    private static func snapshot(_ clusters: [Cluster], _ assignments: [ClusterLoadAssignment] = []) -> Snapshot {
        let routes = clusters.map { cluster in
            Route(
                name: cluster.name, match: RouteMatch(path: .prefix("/\(cluster.name)")),
                action: .forward(ForwardAction(target: .cluster(cluster.name), retryPolicy: RetryPolicy(retryOn: ["reset"], maxRetries: 0)))
            )
        }
        func listener(_ name: String, _ direction: Listener.Direction) -> Listener {
            Listener(
                name: name, address: SocketAddress(.loopbackV4, direction == .inbound ? 8080 : 15001), direction: direction,
                filterChains: [
                    FilterChain(name: "http", filter: .http(HTTPConnectionManager(statPrefix: "", routeConfigurationName: name)))
                ])
        }
        return Snapshot(
            node: Node(mesh: "shop", role: .virtualNode, name: "web"), listeners: [listener("in", .inbound), listener("out", .outbound)],
            routeConfigurations: [
                RouteConfiguration(
                    name: "in", virtualHosts: [VirtualHost(name: "own", domains: ["web.shop"], routes: routes)]),
                RouteConfiguration(
                    name: "out",
                    virtualHosts: [
                        VirtualHost(name: "cart", domains: ["cart.shop", "cart.shop:8080", "*.cart.shop"], routes: routes),
                        VirtualHost(name: "none", domains: ["cart.shop:*"], routes: []),
                    ]),
            ], clusters: clusters, loadAssignments: assignments)
    }

    private func set(_ clusters: [Cluster], _ assignments: [ClusterLoadAssignment] = []) -> ResourceSet {
        ResourceSet(Self.snapshot(clusters, assignments), for: .grpc)
    }

    private func cluster(_ name: String, _ set: ResourceSet) throws -> Cluster {
        guard case .cluster(let cluster)? = try set.resources[.cluster]?[name]?.decode(.cluster) else { throw Missing() }
        return cluster
    }

    private func routes(_ name: String, _ set: ResourceSet) throws -> RouteConfiguration {
        guard case .routeConfiguration(let routes)? = try set.resources[.routeConfiguration]?[name]?.decode(.routeConfiguration) else {
            throw Missing()
        }
        return routes
    }

    private struct Missing: Error {}

    @Test("a gRPC client finds an API listener for each domain of the egress, and its routes under any authority")
    func targets() throws {
        let set = set([Self.cart])
        #expect(set.resources[.listener]?.keys.sorted() == ["cart.shop", "cart.shop:8080"])
        let listener = try APIListener(decoding: try #require(set.resources[.listener]?["cart.shop:8080"]).message.value)
        let configuration = try routes(listener.routeConfigurationName, set)
        #expect(configuration.virtualHosts.map(\.domains) == [["*"]])
        // No retries are no policy: gRPC refuses one of none.
        guard case .forward(let action)? = configuration.virtualHosts.first?.routes.first?.action else { throw Missing() }
        #expect(action.retryPolicy == nil)
    }

    @Test("gRPC's clusters are of policies and discoveries that it takes")
    func clusters() throws {
        let fixed = Cluster(name: "fixed", discovery: .fixed(World.assignment("x", 80)), loadBalancing: .random)
        let names = ClusterLoadAssignment(
            clusterName: "dns",
            localities: [
                LocalityEndpoints(endpoints: [Endpoint(host: .name("a.shop"), port: 80), Endpoint(host: .name("b.shop"), port: 80)])
            ])
        let dns = Cluster(name: "dns", discovery: .dns(names, DNSOptions()))
        let set = set([
            Self.cart, fixed, dns, Cluster(name: "any", discovery: .originalDestination),
            Cluster(name: "tcp", discovery: .eds(serviceName: "t"), upstreamProtocol: .tcp),
        ])
        #expect(set.resources[.cluster]?.keys.sorted() == ["cart", "dns", "fixed"])
        let cart = try cluster("cart", set)
        #expect(cart.loadBalancing == .roundRobin && cart.tls == nil)
        #expect(try cluster("fixed", set).discovery == .eds(serviceName: "fixed/fixed"))
        #expect(set.resources[.clusterLoadAssignment]?["fixed/fixed"] != nil)
        // We do not read LOGICAL_DNS ourselves: its number stands in the error.
        let error = #expect(throws: WireErrors.self) { try set.resources[.cluster]?["dns"]?.decode(.cluster) }
        #expect(error?.description.contains("found 2") == true)
    }

    @Test("gRPC's endpoints are addresses, each once, in priorities without a gap")
    func endpoints() throws {
        let one = Endpoint(host: .ip(.loopbackV4), port: 1)
        let assignment = ClusterLoadAssignment(
            clusterName: "cart-endpoints",
            localities: [
                LocalityEndpoints(priority: 0, endpoints: []),
                LocalityEndpoints(priority: 1, endpoints: [one, one]),
                LocalityEndpoints(priority: 1, endpoints: [Endpoint(host: .ip(.loopbackV4), port: 2)]),
                LocalityEndpoints(priority: 3, endpoints: [one, Endpoint(host: .ip(.loopbackV6), port: 1)]),
            ])
        let expected = ClusterLoadAssignment(
            clusterName: "cart-endpoints",
            localities: [
                LocalityEndpoints(priority: 0, endpoints: [one, Endpoint(host: .ip(.loopbackV4), port: 2)]),
                LocalityEndpoints(priority: 1, endpoints: [Endpoint(host: .ip(.loopbackV6), port: 1)]),
            ])
        let set = set([Self.cart], [assignment])
        #expect(set.resources[.clusterLoadAssignment]?["cart-endpoints"] == EncodedResource(expected))
        let changed = ResourceSet(set, replacing: [assignment], for: .grpc)
        #expect(changed.version == set.version)
    }

    @Test("Envoy gets each domain once, and no name or prefix that is empty")
    func envoy() throws {
        var snapshot = Self.snapshot([Self.cart])
        snapshot.routeConfigurations[1].virtualHosts += [
            VirtualHost(name: "", domains: ["CART.shop", "other.shop"], routes: []),
            VirtualHost(name: "x", domains: ["cart.shop"], routes: []),
        ]
        let set = ResourceSet(snapshot, for: .envoy)
        let routes = try routes("out", set)
        #expect(routes.virtualHosts.map(\.name) == ["cart", "none", "2"])
        #expect(routes.virtualHosts[2].domains == ["other.shop"])
        guard case .listener(let listener, _)? = try set.resources[.listener]?["out"]?.decode(.listener),
            case .http(let manager)? = listener.filterChains.first?.filter
        else { throw Missing() }
        #expect(manager.statPrefix == "out")
    }

    @Test("other endpoints change one resource and share the rest")
    func replacing() {
        let world = World(
            clusters: ["c": World.ClusterState(seconds: 1, service: "s", secret: nil)], endpoints: ["s": 1, "t": 1], routes: ["r": ["c"]],
            listeners: ["l": "r"])
        var changed = world
        changed.endpoints["s"] = 2
        let set = ResourceSet(ResourceSet(world.snapshot), replacing: [World.assignment("s", 2)])
        #expect(set.version == ResourceSet(changed.snapshot).version)
        #expect(set.version != ResourceSet(world.snapshot).version)
    }
}

@Suite struct EnvoyViewTests {
    private func view(_ snapshot: Snapshot) -> Snapshot { snapshot.viewOfEnvoy() }

    private func snapshot(_ cluster: Cluster, _ route: Route) -> Snapshot {
        Snapshot(
            node: Node(mesh: "shop", role: .virtualNode, name: "web"),
            routeConfigurations: [
                RouteConfiguration(name: "out", virtualHosts: [VirtualHost(name: "cart", domains: ["*"], routes: [route])])
            ], clusters: [cluster])
    }

    private let route = Route(name: "r", match: RouteMatch(path: .prefix("/")), action: .forward(ForwardAction(target: .cluster("c"))))

    @Test("for a breaker of each endpoint Envoy gets errors in a row, or nothing where it counts none")
    func outliers() {
        var cluster = Cluster(name: "c", discovery: .eds(serviceName: "c"), outlierDetection: OutlierDetection(), resilience: .standard)
        #expect(
            view(snapshot(cluster, route)).clusters[0].outlierDetection
                == OutlierDetection(
                    consecutive5xx: 3, interval: .seconds(10), baseEjectionTime: .seconds(2), maxEjectionTime: .seconds(30),
                    maxEjectionPercent: 50))
        cluster.resilience?.endpoint?.breaker.mode = .observe
        #expect(view(snapshot(cluster, route)).clusters[0].outlierDetection?.enforcingPercent == 0)
        cluster.resilience?.endpoint?.breaker.trip.consecutiveErrors = nil
        #expect(view(snapshot(cluster, route)).clusters[0].outlierDetection == nil)
    }

    @Test("a bucket that is filled more often than Envoy allows is filled with more, less often")
    func buckets() {
        var limited = route
        limited.rateLimit = LocalRateLimit(burst: 10, requests: 2, interval: .milliseconds(20))
        let view = view(snapshot(Cluster(name: "c", discovery: .eds(serviceName: "c")), limited))
        #expect(
            view.routeConfigurations[0].virtualHosts[0].routes[0].rateLimit
                == LocalRateLimit(burst: 10, requests: 6, interval: .milliseconds(60)))
    }

    @Test("Envoy begins a second attempt where ours does")
    func hedging() throws {
        let forward = ForwardAction(
            target: .cluster("c"), retryPolicy: RetryPolicy(retryOn: ["5xx"], maxRetries: 1, perTryTimeout: .seconds(1)),
            hedging: Hedging(delay: .milliseconds(200)))
        let hedged = Route(name: "r", match: RouteMatch(path: .prefix("/")), action: .forward(forward))
        let view = view(snapshot(Cluster(name: "c", discovery: .eds(serviceName: "c")), hedged))
        guard case .forward(let action) = view.routeConfigurations[0].virtualHosts[0].routes[0].action else { return }
        #expect(action.retryPolicy?.perTryTimeout == .milliseconds(200))
    }
}
