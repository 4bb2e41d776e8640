import Base
import MeshModel
import ProxyConfig
import Testing

@testable import MeshCompiler

@Suite("Routes of a VirtualRouter")
struct RouteTests {
    private func routes(_ routes: [String]) throws -> [Route] {
        let node = try Fixture.compile([
            Fixture.caller, Fixture.service, Fixture.router(routes.joined(separator: ", ")), Fixture.node("a"),
        ])
        return try node.host("svc.default").routes
    }

    @Test(
        "App Mesh's order: by priority, none last; then the longer prefix; then what is more particular; then as written",
        arguments: [
            ([("a", "prefix: /", 10), ("b", "prefix: /", 0), ("c", "prefix: /", 1000)], ["b", "a", "c"]),
            ([("a", "prefix: /", nil), ("b", "prefix: /", 1000)], ["b", "a"]),
            ([("a", "prefix: /", nil), ("b", "prefix: /long", nil), ("c", "prefix: /lo", nil)], ["b", "c", "a"]),
            ([("a", "prefix: /", 5), ("b", "prefix: /x", 5)], ["b", "a"]),
            ([("a", "prefix: /x", nil), ("b", "prefix: /", 5)], ["b", "a"]),
            ([("a", "prefix: /xyz", nil), ("b", "path: {regex: /x.*}", nil), ("c", "path: {exact: /x}", nil)], ["c", "b", "a"]),
            (
                [("a", "prefix: /", nil), ("b", "prefix: /, headers: [{name: h}]", nil), ("c", "prefix: /, method: GET", nil)],
                ["b", "c", "a"]
            ),
            ([("b", "prefix: /", nil), ("a", "prefix: /", nil)], ["b", "a"]),
        ] as [([(String, String, Int?)], [String])])
    func order(given: [(String, String, Int?)], expected: [String]) throws {
        #expect(try routes(given.map { Fixture.route($0.0, $0.1, priority: $0.2) }).map(\.name) == expected)
    }

    @Test(
        "Every kind of match",
        arguments: [
            ("prefix: /a", RouteMatch(path: .prefix("/a"))),
            ("path: {exact: /a}", RouteMatch(path: .exact("/a"))),
            ("path: {regex: '/a.*'}", RouteMatch(path: .regex("/a.*"))),
            (
                "prefix: /, method: PUT",
                RouteMatch(path: .prefix("/"), headers: [HeaderMatcher(name: ":method", condition: .exact("PUT"))])
            ),
            (
                "prefix: /, headers: [{name: X-A}]",
                RouteMatch(path: .prefix("/"), headers: [HeaderMatcher(name: "x-a", condition: .present)])
            ),
            (
                "prefix: /, headers: [{name: a, match: {exact: b}, invert: true}]",
                RouteMatch(path: .prefix("/"), headers: [HeaderMatcher(name: "a", condition: .exact("b"), isInverted: true)])
            ),
            (
                "prefix: /, headers: [{name: a, match: {prefix: b}}, {name: a, match: {suffix: c}}, {name: a, match: {regex: d+}}]",
                RouteMatch(
                    path: .prefix("/"),
                    headers: [
                        HeaderMatcher(name: "a", condition: .prefix("b")), HeaderMatcher(name: "a", condition: .suffix("c")),
                        HeaderMatcher(name: "a", condition: .regex("d+")),
                    ])
            ),
            (
                "prefix: /, headers: [{name: a, match: {range: {start: 1, end: 9}}}]",
                RouteMatch(path: .prefix("/"), headers: [HeaderMatcher(name: "a", condition: .range(start: 1, end: 9))])
            ),
            (
                "prefix: /, queryParameters: [{name: q}, {name: r, match: {exact: s}}]",
                RouteMatch(
                    path: .prefix("/"), queryParameters: [QueryParameterMatcher(name: "q"), QueryParameterMatcher(name: "r", exact: "s")])
            ),
        ])
    func match(given: String, expected: RouteMatch) throws {
        #expect(try routes([Fixture.route("r", given)]).map(\.match) == [expected])
    }

    @Test(
        "gRPC calls are paths",
        arguments: [
            ("serviceName: p.S, methodName: M", RouteMatch(path: .exact("/p.S/M"), requiresGRPC: true)),
            ("serviceName: p.S", RouteMatch(path: .prefix("/p.S/"), requiresGRPC: true)),
            (
                "metadata: [{name: K, match: {exact: v}}]",
                RouteMatch(path: .prefix("/"), headers: [HeaderMatcher(name: "k", condition: .exact("v"))], requiresGRPC: true)
            ),
        ])
    func grpc(given: String, expected: RouteMatch) throws {
        let route = "{name: r, grpcRoute: {match: {\(given)}, action: {weightedTargets: [{virtualNodeRef: {name: a}, weight: 1}]}}}"
        let node = try Fixture.compile([
            Fixture.caller, Fixture.service, Fixture.router(route, protocol: "grpc"), Fixture.node("a", protocol: "grpc"),
        ])
        #expect(try node.host("svc.default").routes.map(\.match) == [expected])
        #expect(try node.cluster("cds_egress_m_a_default_grpc_8080").upstreamProtocol == .http2)
    }

    @Test(
        "Timeouts: 15 s and 300 s where none is given, none where it is zero",
        arguments: [
            ("", .seconds(15), .seconds(300), 2),
            ("timeout: {perRequest: 60s}", .seconds(60), .seconds(300), 1),
            ("timeout: {perRequest: {unit: ms, value: 5}, idle: 7s}", .milliseconds(5), .seconds(7), 0),
            ("timeout: {perRequest: 0s, idle: 0s}", nil, nil, 0),
        ] as [(String, Duration?, Duration?, Int)])
    func timeouts(given: String, request: Duration?, idle: Duration?, assumed: Int) throws {
        let node = try Fixture.compile([
            Fixture.caller, Fixture.service, Fixture.router(Fixture.route("r", "prefix: /", given)), Fixture.node("a"),
        ])
        let action = try node.forward("svc.default")
        #expect(action.timeout == request)
        #expect(action.idleTimeout == idle)
        #expect(node.defaults.count { $0.contains("routes[r].route") && $0.contains("timeout") } == assumed)
    }

    @Test(
        "Retry events in Envoy's words",
        arguments: [
            ("httpRetryEvents: [server-error]", "reset,retriable-status-codes", [500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511]),
            ("httpRetryEvents: [gateway-error]", "reset,retriable-status-codes", [502, 503, 504]),
            ("httpRetryEvents: [client-error]", "retriable-status-codes", [409]),
            ("httpRetryEvents: [stream-error]", "refused-stream", []),
            ("httpRetryEvents: [client-error, gateway-error]", "reset,retriable-status-codes", [409, 502, 503, 504]),
            ("tcpRetryEvents: [connection-error]", "connect-failure", []),
        ] as [(String, String, [Int])])
    func retries(events: String, words: String, codes: [Int]) throws {
        let policy = "retryPolicy: {maxRetries: 4, perRetryTimeout: 2s, \(events)}"
        let node = try Fixture.compile([
            Fixture.caller, Fixture.service, Fixture.router(Fixture.route("r", "prefix: /", policy)), Fixture.node("a"),
        ])
        let retry = try #require(try node.forward("svc.default").retryPolicy)
        #expect(retry.retryOn.joined(separator: ",") == words)
        #expect(retry.retriableStatusCodes == codes)
        #expect(retry.maxRetries == 4)
        #expect(retry.perTryTimeout == .seconds(2))
        #expect(!node.defaults.contains { $0.contains("retry_policy") })
    }

    @Test("Without a retryPolicy App Mesh tried twice again; with maxRetries 0 nothing is tried again")
    func retryDefaults() throws {
        let none = "retryPolicy: {maxRetries: 0, perRetryTimeout: 2s, httpRetryEvents: [server-error]}"
        let node = try Fixture.compile([
            Fixture.caller, Fixture.service,
            Fixture.router([Fixture.route("usual", "prefix: /u"), Fixture.route("none", "prefix: /n", none)].joined(separator: ", ")),
            Fixture.node("a"),
        ])
        let retry = try #require(try node.forward("svc.default", "usual").retryPolicy)
        #expect(retry.retryOn == ["unavailable", "connect-failure", "refused-stream", "retriable-status-codes", "reset"])
        #expect(retry.retriableStatusCodes == [503])
        #expect(retry.maxRetries == 2)
        #expect(try node.forward("svc.default", "none").retryPolicy == nil)
    }

    @Test("A longer limit on the route than on the listener behind it is told, with the line")
    func shorterListener() throws {
        let documents = [Fixture.caller, Fixture.service, Fixture.router(Fixture.route("r", "prefix: /", "timeout: {perRequest: 20s}"))]
        let node = try Fixture.compile(documents + [Fixture.node("a")])
        #expect(
            node.remarks == [
                "VirtualRouter/router spec.routes[0].timeout.perRequest: 20s here, but listener 8080 of "
                    + "VirtualNode/a in namespace \"default\" "
                    + "ends requests after 15s, the App Mesh default"
            ])
        #expect(node.warnings.first { $0.path.hasPrefix("VirtualRouter") }?.location?.line != nil)
        #expect(try Fixture.compile(documents + [Fixture.node("a", "timeout: {http: {perRequest: 20s}}")]).remarks == [])
    }
}

@Suite("Targets of routes")
struct TargetTests {
    private func target(_ targets: String, _ nodes: [String], routerPort: Int = 8080) throws -> (ClusterTarget?, [String]) {
        let route = "{name: r, httpRoute: {match: {prefix: /}, action: {weightedTargets: [\(targets)]}}}"
        let node = try Fixture.compile([Fixture.caller, Fixture.service, Fixture.router(route, port: routerPort)] + nodes)
        guard case .forward(let action) = try node.host("svc.default").routes[0].action else { return (nil, node.remarks) }
        return (action.target, node.remarks)
    }

    @Test("Weights are kept as they are, a weight of 0 too; one target alone needs none")
    func weights() throws {
        let two = "{virtualNodeRef: {name: b}, weight: 0}, {virtualNodeRef: {name: a}, weight: 3}"
        let expected = [
            WeightedCluster(name: "cds_egress_m_a_default_http_8080", weight: 3),
            WeightedCluster(name: "cds_egress_m_b_default_http_8080", weight: 0),
        ]
        #expect(try target(two, [Fixture.node("a"), Fixture.node("b")]).0 == .weighted(expected))
        #expect(
            try target("{virtualNodeRef: {name: a}, weight: 7}", [Fixture.node("a")]).0 == .cluster("cds_egress_m_a_default_http_8080"))
    }

    @Test("A node with another port than the router's is called on its own")
    func ownPort() throws {
        #expect(
            try target("{virtualNodeRef: {name: a}, weight: 1}", [Fixture.node("a", port: 9)]).0
                == .cluster("cds_egress_m_a_default_http_9"))
    }

    @Test("Of several ports of a node the target names one")
    func severalPorts() throws {
        let node = """
            kind: VirtualNode
            metadata: {name: a}
            spec:
              serviceDiscovery: {dns: {hostname: a.example}}
              listeners: [{portMapping: {port: 1, protocol: http}}, {portMapping: {port: 2, protocol: http}}]
            """
        #expect(try target("{virtualNodeRef: {name: a}, weight: 1, port: 2}", [node]).0 == .cluster("cds_egress_m_a_default_http_2"))
    }

    @Test("Unknown nodes and nodes outside of the mesh leave their share to the others; where none is left, requests get 503")
    func unknown() throws {
        let (target, remarks) = try target(
            "{virtualNodeRef: {name: gone}, weight: 1}, {virtualNodeRef: {name: a}, weight: 1}", [Fixture.node("a")])
        #expect(target == .cluster("cds_egress_m_a_default_http_8080"))
        #expect(remarks.count == 1 && remarks[0].contains("VirtualNode/gone"))
        let nothing = try Fixture.compile([
            Fixture.caller, Fixture.service,
            Fixture.router(
                "{name: r, httpRoute: {match: {prefix: /}, action: {weightedTargets: [{virtualNodeARN: 'arn:x', weight: 1}]}}}"),
        ])
        #expect(try nothing.host("svc.default").routes[0].action == .reply(DirectReply(status: 503, body: "route r has no target\n")))
    }
}
