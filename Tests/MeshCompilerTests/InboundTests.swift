import Base
import MeshModel
import ProxyConfig
import Testing

@testable import MeshCompiler

@Suite("The inbound side of a node")
struct InboundTests {
    @Test("Without a Sidecar: 15000, then 15002 and up, for interception to lead to; the application on its own port")
    func defaults() throws {
        let node = try Fixture.compile(
            [
                """
                kind: VirtualNode
                metadata: {name: a}
                spec:
                  serviceDiscovery: {dns: {hostname: a.example}}
                  listeners:
                  - {portMapping: {port: 1, protocol: http}}
                  - {portMapping: {port: 2, protocol: tcp}}
                  - {portMapping: {port: 3, protocol: http}}
                """
            ], node: "a")
        #expect(
            node.snapshot.listeners.map(\.name) == ["lds_ingress_0.0.0.0_15000", "lds_ingress_0.0.0.0_15002", "lds_ingress_0.0.0.0_15003"])
        #expect(node.snapshot.routeConfigurations.map(\.name) == ["rds_ingress_http_1", "rds_ingress_http_3"])
        let app = try node.cluster("cds_ingress_m_a_default_tcp_2")
        #expect(app.connectTimeout == .milliseconds(250))
        #expect(
            app.discovery
                == .fixed(
                    ClusterLoadAssignment(
                        clusterName: app.name, localities: [LocalityEndpoints(endpoints: [Endpoint(host: .ip(.loopbackV4), port: 2)])])))
        #expect(node.defaults.contains("listeners[lds_ingress_0.0.0.0_15002].address: 0.0.0.0:15002"))
        #expect(node.defaults.contains("clusters[cds_ingress_m_a_default_tcp_2].endpoints[0].address: 127.0.0.1:2"))
    }

    @Test("A Sidecar says where the listener and the application are")
    func sidecar() throws {
        let sidecar = """
            kind: Sidecar
            metadata: {name: a}
            spec:
              virtualNodeRef: {name: a}
              inbound: [{port: 8080, bind: '10.0.0.1:80', app: '127.0.0.1:3000'}]
              admin: {address: '127.0.0.1:1'}
              workers: 4
              drainTime: 3s
              exposeReplyDetails: true
              outlierEventLog: {path: /tmp/o}
              accessLog: {path: /tmp/a}
              zone: b
            """
        let node = try Fixture.compile([Fixture.node("a"), sidecar], node: "a")
        #expect(node.snapshot.listeners.map(\.address.description) == ["10.0.0.1:80"])
        #expect(node.snapshot.node.locality == Locality(zone: "b"))
        #expect(
            node.snapshot.process
                == ProcessSettings(
                    adminAddress: SocketAddress(.loopbackV4, 1), workers: 4, drainTime: .seconds(3), exposeReplyDetails: true,
                    outlierEventLogPath: "/tmp/o"))
        guard case .http(let manager) = node.snapshot.listeners[0].filterChains[0].filter else { throw Unexpected(text: "no manager") }
        #expect(manager.accessLogs == [AccessLog(path: "/tmp/a")])
        #expect(manager.statPrefix == "ingress")
        #expect(!manager.isEdge)
        #expect(!node.defaults.contains { $0.contains("address") || $0.contains("drain_time") })
    }

    @Test("A Sidecar says how many streams a caller may open, how old its connections get, and whether nodes get PINGs")
    func http2() throws {
        func manager(_ more: String) throws -> HTTPConnectionManager {
            let sidecar = "kind: Sidecar\nmetadata: {name: a}\nspec: {virtualNodeRef: {name: a}\(more)}"
            let node = try Fixture.compile([Fixture.node("a", protocol: "http2"), sidecar], node: "a")
            let inbound = node.snapshot.listeners.first { $0.direction == .inbound }
            guard case .http(let manager)? = inbound?.filterChains[0].filter else { throw Unexpected(text: "no manager") }
            return manager
        }
        #expect(try manager("").http2 == HTTP2Options(maxConcurrentStreams: 1024))
        #expect(try manager("").maxConnectionAge == nil)
        let given = try manager(", http2: {maxConcurrentStreams: 7}, maxConnectionAge: 1h")
        #expect(given.http2 == HTTP2Options(maxConcurrentStreams: 7))
        #expect(given.maxConnectionAge == .seconds(3600))
        #expect(try manager(", maxConnectionAge: 0s").maxConnectionAge == nil)

        func keepalive(_ interval: String) throws -> HTTP2Keepalive? {
            let sidecar = """
                kind: Sidecar
                metadata: {name: calls}
                spec: {virtualNodeRef: {name: calls}, http2: {keepalive: {interval: \(interval)}}}
                """
            let service = "kind: VirtualService\nmetadata: {name: svc}\nspec: {provider: {virtualNode: {virtualNodeRef: {name: a}}}}"
            let node = try Fixture.compile([Fixture.caller, service, Fixture.node("a", protocol: "grpc"), sidecar])
            return try node.cluster("cds_egress_m_a_default_grpc_8080").http2.keepalive
        }
        #expect(try keepalive("5s") == HTTP2Keepalive(interval: .seconds(5), timeout: .seconds(10)))
        #expect(try keepalive("0s") == nil)
    }

    @Test(
        "An application on the port that its proxy listens on would be the proxy itself",
        arguments: [
            ("bind: '0.0.0.0:8080'", true), ("bind: '127.0.0.1:8080'", true), ("bind: '[::]:8080'", true), ("bind: '10.0.0.1:8080'", false),
            ("bind: '0.0.0.0:8080', app: '127.0.0.1:8081'", false), ("bind: '0.0.0.0:8081'", false),
        ])
    func loop(inbound: String, isRefused: Bool) throws {
        let sidecar = "kind: Sidecar\nmetadata: {name: a}\nspec: {virtualNodeRef: {name: a}, inbound: [{port: 8080, \(inbound)}]}"
        let errors = try Fixture.errors([Fixture.node("a"), sidecar], node: "a")
        #expect(errors.count == (isRefused ? 1 : 0))
        #expect(errors.allSatisfy { $0.contains("leads to 127.0.0.1:8080, back to it") })
    }

    @Test("So would be a backend on the address of the outbound listener; one behind our own inbound listener is not")
    func outboundLoop() throws {
        func errors(_ address: String) throws -> Int {
            try Fixture.errors([
                Fixture.caller.replacing(
                    "spec: {",
                    with: "spec: {serviceDiscovery: {dns: {hostname: x}}, listeners: [{portMapping: {port: 1, protocol: http}}], "),
                Fixture.service, Fixture.router(Fixture.route("r", "prefix: /")), Fixture.node("a"),
                "kind: EndpointSet\nmetadata: {name: a}\nspec: {virtualNodeRef: {name: a}, endpoints: [{address: '\(address)'}]}",
            ]).count
        }
        #expect(try errors("127.0.0.1:15001") == 1)
        #expect(try errors("127.0.0.1:15000") == 0)
    }

    @Test(
        "A listener's timeouts and connection pool hold on the way to the application",
        arguments: [
            ("http", "", .seconds(15), .seconds(300), CircuitBreakers()),
            ("http", "timeout: {http: {perRequest: 1m, idle: 0s}}", .seconds(60), nil, CircuitBreakers()),
            (
                "http", "connectionPool: {http: {maxConnections: 5, maxPendingRequests: 6}}", .seconds(15), .seconds(300),
                CircuitBreakers(maxConnections: 5, maxPendingRequests: 6)
            ),
            ("http2", "connectionPool: {http2: {maxRequests: 7}}", .seconds(15), .seconds(300), CircuitBreakers(maxRequests: 7)),
            ("grpc", "connectionPool: {grpc: {maxRequests: 8}}", .seconds(15), .seconds(300), CircuitBreakers(maxRequests: 8)),
        ] as [(String, String, Duration?, Duration?, CircuitBreakers)])
    func policies(portProtocol: String, rest: String, request: Duration?, idle: Duration?, breakers: CircuitBreakers) throws {
        let node = try Fixture.compile([Fixture.node("a", rest, protocol: portProtocol)], node: "a")
        let action = try node.forward("ingress")
        #expect(action.timeout == request)
        #expect(action.idleTimeout == idle)
        #expect(action.retryPolicy == nil)
        #expect(try node.cluster("cds_ingress_m_a_default_\(portProtocol)_8080").circuitBreakers == breakers)
    }

    @Test("The tutorial's listener without a port opens nothing; its policies hold for callers, on every port")
    func policyOnly() throws {
        let tutorial = """
            kind: VirtualNode
            metadata: {name: a}
            spec:
              serviceDiscovery: {dns: {hostname: a.example}}
              listeners: [{outlierDetection: {maxServerErrors: 5, interval: 30s, baseEjectionDuration: 15s, maxEjectionPercent: 50}}]
            """
        #expect(try Fixture.compile([tutorial], node: "a").snapshot.listeners == [])
        let caller = try Fixture.compile([
            Fixture.caller, Fixture.service, Fixture.router(Fixture.route("r", "prefix: /"), port: 7), tutorial,
        ])
        let cluster = try caller.cluster("cds_egress_m_a_default_http_7")
        #expect(
            cluster.outlierDetection
                == OutlierDetection(
                    consecutive5xx: 5, interval: .seconds(30), baseEjectionTime: .seconds(15), maxEjectionTime: .seconds(300),
                    maxEjectionPercent: 50))
    }
}
