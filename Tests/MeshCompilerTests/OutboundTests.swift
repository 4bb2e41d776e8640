import Base
import MeshModel
import ProxyConfig
import Testing

@testable import MeshCompiler

@Suite("The outbound side of a node")
struct OutboundTests {
    private static let route = Fixture.router(Fixture.route("r", "prefix: /"))
    private static let documents = [Fixture.caller, Fixture.service, route, Fixture.node("a")]

    @Test("One listener on 127.0.0.1:15001; a service answers to its name, with and without its port")
    func names() throws {
        let node = try Fixture.compile(Self.documents)
        let listener = try #require(node.snapshot.listeners.first)
        #expect(node.snapshot.listeners.count == 1)
        #expect(listener.name == "lds_egress_127.0.0.1_15001")
        #expect(listener.address == SocketAddress("127.0.0.1:15001"))
        #expect(listener.direction == .outbound)
        #expect(node.snapshot.routeConfigurations.map(\.name) == ["rds_egress_http_15001"])
        #expect(try node.host("svc.default").domains == ["svc.default", "svc.default:8080"])
        #expect(node.defaults.contains("listeners[lds_egress_127.0.0.1_15001].address: 127.0.0.1:15001"))
    }

    @Test("Another port of a service is another program: 404 with DROP_ALL, on to it with ALLOW_ALL; so is every other name")
    func otherPorts() throws {
        let closed = try Fixture.compile(Self.documents)
        #expect(try closed.host("svc.default:*").domains == ["svc.default:*"])
        #expect(try closed.host("svc.default:*").routes == [])
        #expect(!closed.snapshot.routeConfigurations[0].virtualHosts.contains { $0.domains == ["*"] })

        let open = try Fixture.compile(
            Self.documents, mesh: "kind: Mesh\nmetadata: {name: m}\nspec: {namespaceSelector: {}, egressFilter: {type: ALLOW_ALL}}")
        for host in ["svc.default:*", "allow-all"] {
            let action = try open.forward(host)
            #expect(action.target == .cluster("cds_egress_m_mesh-allow-all"))
            #expect(action.timeout == nil)
            #expect(action.retryPolicy == nil)
        }
        #expect(try open.host("allow-all").domains == ["*"])
        #expect(try open.cluster("cds_egress_m_mesh-allow-all").discovery == .originalDestination)
    }

    @Test("awsName is the host name, in lower case")
    func awsName() throws {
        let service = """
            kind: VirtualService
            metadata: {name: svc}
            spec: {awsName: Svc.Example, provider: {virtualNode: {virtualNodeRef: {name: a}}}}
            """
        let node = try Fixture.compile([Fixture.caller, service, Fixture.node("a", port: 9)])
        #expect(try node.host("Svc.Example").domains == ["svc.example", "svc.example:9"])
    }

    @Test("A service that a node provides has one route, the default limits and App Mesh's retries")
    func nodeProvided() throws {
        let service = "kind: VirtualService\nmetadata: {name: svc}\nspec: {provider: {virtualNode: {virtualNodeRef: {name: a}}}}"
        let action = try Fixture.compile([Fixture.caller, service, Fixture.node("a", port: 9)]).forward("svc.default", "a")
        #expect(action.target == .cluster("cds_egress_m_a_default_http_9"))
        #expect(action.timeout == .seconds(15))
        #expect(action.retryPolicy == Defaults.retryPolicy)
    }

    @Test("Each port of a router is a virtual host of its own; the bare name is the first port's")
    func severalPorts() throws {
        let router = """
            kind: VirtualRouter
            metadata: {name: router}
            spec:
              listeners: [{portMapping: {port: 2, protocol: http}}, {portMapping: {port: 1, protocol: http}}]
              routes:
              - {name: two, httpRoute: {match: {prefix: /, port: 2}, action: {weightedTargets: [{virtualNodeRef: {name: a}, weight: 1}]}}}
              - {name: one, httpRoute: {match: {prefix: /, port: 1}, action: {weightedTargets: [{virtualNodeRef: {name: a}, weight: 1}]}}}
            """
        let node = try Fixture.compile([Fixture.caller, Fixture.service, router, Fixture.node("a")])
        #expect(try node.host("svc.default").domains == ["svc.default", "svc.default:2"])
        #expect(try node.host("svc.default").routes.map(\.name) == ["two"])
        #expect(try node.host("svc.default:1").domains == ["svc.default:1"])
        #expect(try node.host("svc.default:1").routes.map(\.name) == ["one"])
    }

    @Test("Only declared backends get in: one by one, by group, or all of a namespace")
    func backends() throws {
        let services = ["x", "y", "z"].map {
            "kind: VirtualService\nmetadata: {name: \($0)}\nspec: {provider: {virtualNode: {virtualNodeRef: {name: a}}}}"
        }
        let group = "kind: BackendGroup\nmetadata: {name: g}\nspec: {virtualservices: [{name: y}, {name: z}]}"
        func hosts(_ spec: String) throws -> [String] {
            let caller = "kind: VirtualNode\nmetadata: {name: calls}\nspec: {\(spec)}"
            let node = try Fixture.compile(services + [group, caller, Fixture.node("a")])
            return node.snapshot.routeConfigurations.flatMap(\.virtualHosts).map(\.name).filter { !$0.hasSuffix(":*") }
        }
        #expect(try hosts("backends: [{virtualService: {virtualServiceRef: {name: x}}}]") == ["x.default"])
        #expect(try hosts("backendGroups: [{name: g}]") == ["y.default", "z.default"])
        #expect(
            try hosts("backends: [{virtualService: {virtualServiceRef: {name: z}}}], backendGroups: [{name: g}]") == [
                "y.default", "z.default",
            ])
        #expect(try hosts("backendGroups: [{name: '*'}]") == ["x.default", "y.default", "z.default"])
        #expect(try hosts("backendGroups: [{name: '*', namespace: other}]") == [])
        #expect(try hosts("podSelector: {}") == [])
    }

    @Test("Without a backend and with DROP_ALL nothing listens")
    func nothingToCall() throws {
        #expect(try Fixture.compile(["kind: VirtualNode\nmetadata: {name: calls}\nspec: {podSelector: {}}"]).snapshot.listeners == [])
    }

    @Test("A service without a provider answers 404 and says why; so does one whose backend is unknown")
    func noProvider() throws {
        let node = try Fixture.compile([Fixture.caller, "kind: VirtualService\nmetadata: {name: svc}\nspec: {}"])
        #expect(try node.host("svc.default").routes == [])
        #expect(node.remarks == ["VirtualService/svc spec.provider: there is none: calls to svc.default get 404"])
        #expect(
            try Fixture.compile([Fixture.caller]).remarks == [
                "VirtualNode/calls spec.backends[0].virtualService: VirtualService/svc in namespace \"default\" "
                    + "is unknown: calls to it get 404"
            ])
    }

    @Test("Two services of one host name cannot be told apart")
    func sameName() throws {
        let caller = "kind: VirtualNode\nmetadata: {name: calls}\nspec: {backendGroups: [{name: '*'}]}"
        // The loader refuses this; resources that come one by one may still be in such a state.
        var resources = try Fixture.load([caller, Fixture.service, Self.route, Fixture.node("a")])
        var twin = resources.virtualServices[0]
        twin.meta.name = "twin"
        twin.awsName = "SVC.default"
        resources.virtualServices.insert(twin)
        let key = try #require(resources.virtualNodes.first { $0.meta.name == "calls" }).key
        guard case .failure(let failure) = MeshCompiler.compile(resources, for: .virtualNode(key)) else {
            throw Unexpected(text: "compiled")
        }
        #expect(
            failure.errors.map(\.message) == [
                "VirtualService/svc in namespace \"default\" has the same host name \"svc.default\", and VirtualNode/calls calls both"
            ])
    }

    // MARK: TCP

    private static let tcpRoute = "{name: r, tcpRoute: {action: {weightedTargets: [{virtualNodeRef: {name: a}, weight: 1}]}}}"

    @Test("A tcp backend has a listener of its own: on the service's port, or where the Sidecar says")
    func tcp() throws {
        let documents = [
            Fixture.caller, Fixture.service, Fixture.router(Self.tcpRoute, port: 5432, protocol: "tcp"),
            Fixture.node("a", port: 5432, protocol: "tcp"),
        ]
        let node = try Fixture.compile(documents)
        #expect(node.snapshot.listeners.map(\.name) == ["lds_egress_127.0.0.1_5432"])
        guard case .tcp(let proxy) = node.snapshot.listeners[0].filterChains[0].filter else { throw Unexpected(text: "no tcp proxy") }
        #expect(proxy.target == .cluster("cds_egress_m_a_default_tcp_5432"))
        #expect(proxy.statPrefix == "egress")
        #expect(proxy.idleTimeout == .seconds(300))
        #expect(node.defaults.contains("listeners[lds_egress_127.0.0.1_5432].address: 127.0.0.1:5432"))

        let sidecar = """
            kind: Sidecar
            metadata: {name: calls}
            spec: {virtualNodeRef: {name: calls}, outbound: {tcp: [{virtualService: {name: svc}, bind: '127.0.0.2:99'}]}}
            """
        #expect(try Fixture.compile(documents + [sidecar]).snapshot.listeners.map(\.name) == ["lds_egress_127.0.0.2_99"])
    }

    @Test("Two tcp services on one port need addresses of their own")
    func tcpConflict() throws {
        let services = ["svc", "other"].map {
            "kind: VirtualService\nmetadata: {name: \($0)}\nspec: {provider: {virtualNode: {virtualNodeRef: {name: a}}}}"
        }
        let caller = "kind: VirtualNode\nmetadata: {name: calls}\nspec: {backendGroups: [{name: '*'}]}"
        let errors = try Fixture.errors(services + [caller, Fixture.node("a", port: 5432, protocol: "tcp")])
        #expect(
            errors == [
                "VirtualNode/calls : two listeners would both bind 127.0.0.1:5432; "
                    + "give them addresses of their own in a Sidecar (outrigger/v1)"
            ])
    }
}
