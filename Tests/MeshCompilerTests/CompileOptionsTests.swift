import Base
import MeshModel
import ProxyConfig
import Testing

@testable import MeshCompiler

@Suite("What a control plane adds to the resources")
struct CompileOptionsTests {
    private static let documents = [
        Fixture.caller, Fixture.service, Fixture.router(Fixture.route("all", "prefix: /")), Fixture.node("a"),
    ]
    private static let cluster = "cds_egress_m_a_default_http_8080"

    @Test("a proxy with an address of its own binds all there, and finds its application there, where no Sidecar says otherwise")
    func hostAddress() throws {
        let options = CompileOptions(hostAddress: .v4(0x7f00_0005))
        let caller = try Fixture.compile(Self.documents, options: options)
        #expect(caller.snapshot.listeners.map(\.address.description) == ["127.0.0.5:15001"])
        #expect(caller.snapshot.process.adminAddress.description == "127.0.0.5:9901")
        let called = try Fixture.compile(Self.documents, node: "a", options: options)
        #expect(called.snapshot.listeners.map(\.address.description).contains("127.0.0.5:15000"))
        #expect(called.inboundAddresses.mapValues(\.description) == [8080: "127.0.0.5:15000"])
        guard case .fixed(let app) = try called.cluster("cds_ingress_m_a_default_http_8080").discovery else { throw Unexpected(text: "") }
        #expect(app.localities.flatMap(\.endpoints).map(\.host) == [.ip(.v4(0x7f00_0005))])

        let sidecar = "kind: Sidecar\nmetadata: {name: c}\nspec: {virtualNodeRef: {name: calls}, admin: {address: '127.0.0.9:1'}}"
        let given = try Fixture.compile(Self.documents + [sidecar], options: options)
        #expect(given.snapshot.process.adminAddress.description == "127.0.0.9:1")
    }

    @Test("the endpoints of a node whose proxies have registered are those, whatever its serviceDiscovery says")
    func registered() throws {
        let options = CompileOptions(registeredNodes: [Fixture.key("a")])
        let caller = try Fixture.compile(Self.documents, options: options)
        #expect(try caller.cluster(Self.cluster).discovery == .eds(serviceName: Self.cluster))
        #expect(caller.endpointSources == [Self.cluster: EndpointSource(node: Fixture.key("a"), port: 8080)])
        #expect(caller.snapshot.loadAssignments == [ClusterLoadAssignment(clusterName: Self.cluster, localities: [])])
        #expect(caller.remarks.isEmpty)

        let before = try Fixture.compile(Self.documents)
        #expect(before.endpointSources.isEmpty)
        guard case .dns = try before.cluster(Self.cluster).discovery else { throw Unexpected(text: "no DNS") }
    }

    @Test("an EndpointSet of a registered node stands beside its proxies")
    func endpointSet() throws {
        let set = "kind: EndpointSet\nmetadata: {name: e}\nspec: {virtualNodeRef: {name: a}, endpoints: [{address: 10.0.0.1, port: 8080}]}"
        let caller = try Fixture.compile(Self.documents + [set], options: CompileOptions(registeredNodes: [Fixture.key("a")]))
        #expect(caller.snapshot.loadAssignments.flatMap(\.localities).flatMap(\.endpoints).map(\.host) == [.ip(.v4(0x0a00_0001))])
        #expect(caller.endpointSources.count == 1)
    }
}
