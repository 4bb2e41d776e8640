import Base
import MeshModel
import ProxyConfig
import Testing

@testable import MeshCompiler

@Suite("Clusters that a node calls")
struct ClusterTests {
    private static let name = "cds_egress_m_a_default_http_8080"

    private func cluster(_ node: String, _ more: [String] = [], mesh: String = Fixture.mesh) throws -> (Cluster, CompiledNode) {
        let compiled = try Fixture.compile(
            [Fixture.caller, Fixture.service, Fixture.router(Fixture.route("r", "prefix: /")), node] + more, mesh: mesh)
        return (try compiled.cluster(Self.name), compiled)
    }

    private func node(_ discovery: String) -> String {
        """
        kind: VirtualNode
        metadata: {name: a}
        spec: {serviceDiscovery: {\(discovery)}, listeners: [{portMapping: {port: 8080, protocol: http}}]}
        """
    }

    private func byName(_ name: String, _ family: DNSOptions.Family) -> Discovery {
        .dns(
            ClusterLoadAssignment(
                clusterName: Self.name, localities: [LocalityEndpoints(endpoints: [Endpoint(host: .name(name), port: 8080)])]),
            DNSOptions(family: family))
    }

    @Test(
        "DNS: every address is an endpoint, whatever the response type; v6 first where nobody says otherwise",
        arguments: [
            ("dns: {hostname: h}", .v6Preferred), ("dns: {hostname: h, responseType: ENDPOINTS}", .v6Preferred),
            ("dns: {hostname: h, ipPreference: IPv4_ONLY}", .v4Only), ("dns: {hostname: h, ipPreference: IPv6_PREFERRED}", .v6Preferred),
        ] as [(String, DNSOptions.Family)])
    func dns(given: String, family: DNSOptions.Family) throws {
        #expect(try cluster(node(given)).0.discovery == byName("h", family))
    }

    @Test("The mesh's preference of an address family holds where the node has none")
    func meshPreference() throws {
        let mesh = "kind: Mesh\nmetadata: {name: m}\nspec: {namespaceSelector: {}, meshServiceDiscovery: {ipPreference: IPv6_ONLY}}"
        #expect(try cluster(node("dns: {hostname: h}"), mesh: mesh).0.discovery == byName("h", .v6Only))
        #expect(try cluster(node("dns: {hostname: h, ipPreference: IPv4_ONLY}"), mesh: mesh).0.discovery == byName("h", .v4Only))
    }

    @Test(
        "Addresses and localhost need no resolver",
        arguments: [("10.0.0.9", "10.0.0.9"), ("localhost", "127.0.0.1"), ("x.localhost", "127.0.0.1")])
    func literal(hostname: String, address: String) throws {
        let endpoint = Endpoint(host: .ip(try #require(IPAddress(address))), port: 8080)
        let expected = ClusterLoadAssignment(clusterName: Self.name, localities: [LocalityEndpoints(endpoints: [endpoint])])
        #expect(try cluster(node("dns: {hostname: \(hostname)}")).0.discovery == .fixed(expected))
    }

    @Test("Cloud Map is asked by DNS, v4 first, and says that it cannot select by attribute")
    func cloudMap() throws {
        let (plain, silent) = try cluster(node("awsCloudMap: {namespaceName: n.local, serviceName: s}"))
        #expect(plain.discovery == byName("s.n.local", .v4Preferred))
        #expect(silent.remarks == [])
        #expect(silent.defaults.contains("clusters[\(Self.name)].type: STRICT_DNS"))
        let (_, told) = try cluster(node("awsCloudMap: {namespaceName: n.local, serviceName: s, attributes: [{key: k, value: v}]}"))
        #expect(told.remarks.count == 1)
    }

    private static let endpoints = """
        kind: EndpointSet
        metadata: {name: set}
        spec:
          virtualNodeRef: {name: a}
          endpoints:
          - {address: 10.0.0.2, zone: b}
          - {address: 10.0.0.1, port: 81, weight: 3, zone: a}
          - {address: 10.0.0.1, zone: a}
          - {address: 10.0.0.3}
        """

    @Test("An EndpointSet alone is EDS, by zone and address; a zone weighs what its endpoints weigh")
    func endpointSet() throws {
        let node =
            self.node("awsCloudMap: {namespaceName: n, serviceName: s}")
        let (cluster, compiled) = try cluster(node, [Self.endpoints])
        #expect(cluster.discovery == .eds(serviceName: Self.name))
        func ip(_ last: UInt32) -> Endpoint.Host { .ip(.v4(0x0a00_0000 + last)) }
        #expect(
            compiled.snapshot.loadAssignments == [
                ClusterLoadAssignment(
                    clusterName: Self.name,
                    localities: [
                        LocalityEndpoints(endpoints: [Endpoint(host: ip(3), port: 8080)]),
                        LocalityEndpoints(
                            locality: Locality(zone: "a"), weight: 4,
                            endpoints: [Endpoint(host: ip(1), port: 81, weight: 3), Endpoint(host: ip(1), port: 8080)]),
                        LocalityEndpoints(locality: Locality(zone: "b"), endpoints: [Endpoint(host: ip(2), port: 8080)]),
                    ])
            ])
    }

    @Test("An EndpointSet beside DNS adds to it")
    func endpointSetAndDNS() throws {
        let (cluster, compiled) = try cluster(node("dns: {hostname: h}"), [Self.endpoints])
        guard case .dns(let assignment, _) = cluster.discovery else { throw Unexpected(text: "\(cluster.discovery)") }
        #expect(assignment.localities.map(\.endpoints.count) == [2, 2, 1])
        #expect(assignment.localities[0].endpoints[0] == Endpoint(host: .name("h"), port: 8080))
        #expect(assignment.localities[0].weight == 2)
        #expect(compiled.snapshot.loadAssignments == [])
    }

    @Test("Health checks and outlier detection of the callee's listener run at the caller")
    func checks() throws {
        let policies = """
            healthCheck: {protocol: http, path: /ping, port: 8080, healthyThreshold: 2, unhealthyThreshold: 3, \
            intervalMillis: 5000, timeoutMillis: 2000}, \
            outlierDetection: {maxServerErrors: 3, interval: 10s, baseEjectionDuration: 10m, maxEjectionPercent: 100}
            """
        let (cluster, _) = try cluster(Fixture.node("a", policies))
        #expect(
            cluster.healthChecks == [
                HealthCheck(
                    kind: .http(host: "a.example:8080", path: "/ping"), interval: .seconds(5), timeout: .seconds(2), healthyThreshold: 2,
                    unhealthyThreshold: 3, port: 8080)
            ])
        // The longest ejection is never shorter than the first.
        #expect(cluster.outlierDetection?.maxEjectionTime == .seconds(600))
        #expect(cluster.outlierDetection?.consecutive5xx == 3)
        #expect(cluster.connectTimeout == .seconds(1))
        #expect(cluster.panicThresholdPercent == 50)
    }

    @Test(
        "A caller's Sidecar chooses the load balancing",
        arguments: [("ROUND_ROBIN", LoadBalancing.roundRobin), ("LEAST_REQUEST", .leastRequest), ("RANDOM", .random)])
    func loadBalancing(word: String, expected: LoadBalancing) throws {
        let sidecar = "kind: Sidecar\nmetadata: {name: calls}\nspec: {virtualNodeRef: {name: calls}, loadBalancing: \(word)}"
        #expect(try cluster(Fixture.node("a"), [sidecar]).0.loadBalancing == expected)
    }
}
