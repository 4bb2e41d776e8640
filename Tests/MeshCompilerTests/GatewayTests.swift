import Base
import MeshModel
import ProxyConfig
import Testing

@testable import MeshCompiler

@Suite("Gateways")
struct GatewayTests {
    private static let gateway = """
        kind: VirtualGateway
        metadata: {name: edge}
        spec: {namespaceSelector: {}, listeners: [{portMapping: {port: 8088, protocol: http}}]}
        """
    private static let behind = [Fixture.service, Fixture.router(Fixture.route("r", "prefix: /")), Fixture.node("a")]

    private static func gatewayRoute(_ name: String, _ match: String, _ rest: String = "", priority: Int? = nil, labels: String = "")
        -> String
    {
        """
        kind: GatewayRoute
        metadata: {name: \(name), labels: {\(labels)}}
        spec:
          \(priority.map { "priority: \($0)" } ?? "")
          httpRoute:
            match: {\(match)}
            action: {target: {virtualService: {virtualServiceRef: {name: svc}}}\(rest.isEmpty ? "" : ", \(rest)")}
        """
    }

    private func compile(_ routes: [String], gateway: String = GatewayTests.gateway, behind: [String] = GatewayTests.behind) throws
        -> CompiledNode
    {
        try Fixture.compile([gateway] + routes + behind, gateway: "edge")
    }

    @Test("Its listeners stand on their own ports, distrust their callers, and answer 404 to what no route takes")
    func listener() throws {
        let node = try compile([])
        let listener = try #require(node.snapshot.listeners.first)
        #expect(listener.name == "lds_ingress_0.0.0.0_8088")
        guard case .http(let manager) = listener.filterChains[0].filter else { throw Unexpected(text: "no manager") }
        #expect(manager.isEdge)
        #expect(manager.routeConfigurationName == "rds_ingress_http_8088")
        #expect(node.snapshot.routeConfigurations == [RouteConfiguration(name: "rds_ingress_http_8088", virtualHosts: [])])
        #expect(node.snapshot.node.id == "mesh/m/virtualGateway/edge_default")
    }

    @Test("By default the matched prefix becomes / and Host the service's name; both are shown as defaults")
    func defaultRewrites() throws {
        let node = try compile([Self.gatewayRoute("g", "prefix: /shop")])
        let routes = try node.host("*").routes
        #expect(routes.map(\.match.path) == [.prefix("/shop/"), .prefix("/shop")])
        for route in routes {
            guard case .forward(let action) = route.action else { throw Unexpected(text: "\(route)") }
            #expect(route.name == "g/r")
            #expect(action.pathRewrite == .prefix("/"))
            #expect(action.hostRewrite == .literal("svc.default"))
            #expect(action.target == .cluster("cds_egress_m_a_default_http_8080"))
            #expect(action.retryPolicy == Defaults.retryPolicy)
        }
        #expect(node.defaults.contains { $0.hasSuffix("prefix_rewrite: /") })
        #expect(node.defaults.contains { $0.hasSuffix("host_rewrite_literal: svc.default") })
    }

    @Test("Rewrites can be turned off")
    func noRewrites() throws {
        let off = "rewrite: {prefix: {defaultPrefix: DISABLED}, hostname: {defaultTargetHostname: DISABLED}}"
        let routes = try compile([Self.gatewayRoute("g", "prefix: /shop", off)]).host("*").routes
        #expect(routes.map(\.match.path) == [.prefix("/shop")])
        guard case .forward(let action) = routes[0].action else { throw Unexpected(text: "\(routes)") }
        #expect(action.pathRewrite == nil)
        #expect(action.hostRewrite == nil)
    }

    @Test("The router sees the rewritten path; what it does not take is 404, and no other gateway route's")
    func routerBehind() throws {
        let behind = [Fixture.service, Fixture.router(Fixture.route("green", "prefix: /green")), Fixture.node("a")]
        let node = try compile(
            [Self.gatewayRoute("paths", "prefix: /paths/", priority: 1), Self.gatewayRoute("all", "prefix: /", priority: 2)], behind: behind
        )
        let routes = try node.host("*").routes
        #expect(routes.map(\.name) == ["paths/green", "paths", "all/green", "all"])
        #expect(routes.map(\.match.path) == [.prefix("/paths/green"), .prefix("/paths/"), .prefix("/green"), .prefix("/")])
        guard case .forward(let action) = routes[0].action else { throw Unexpected(text: "\(routes)") }
        #expect(action.pathRewrite == .prefix("/green"))
        #expect(routes[1].action == .reply(DirectReply(status: 404)))
    }

    @Test("The conditions of both passes must hold")
    func bothConditions() throws {
        let behind = [
            Fixture.service, Fixture.router(Fixture.route("r", "prefix: /, headers: [{name: b}], queryParameters: [{name: q}]")),
            Fixture.node("a"),
        ]
        let match = try compile([Self.gatewayRoute("g", "prefix: /, method: GET, headers: [{name: a}]")], behind: behind).host("*").routes[
            0
        ].match
        #expect(match.headers.map(\.name) == ["a", ":method", "b"])
        #expect(match.queryParameters == [QueryParameterMatcher(name: "q")])
    }

    @Test("Order: priority (none = 1000), then the path, then the host name")
    func order() throws {
        let node = try compile([
            Self.gatewayRoute("a", "prefix: /"), Self.gatewayRoute("b", "prefix: /", priority: 999),
            Self.gatewayRoute("c", "prefix: /long"),
            Self.gatewayRoute("d", "path: {exact: /}"), Self.gatewayRoute("e", "prefix: /, hostname: {exact: h}"),
        ])
        func names(_ host: String) throws -> [String] {
            var names: [String] = []
            for name in try node.host(host).routes.map({ String($0.name.prefix(1)) }) where names.last != name { names.append(name) }
            return names
        }
        #expect(try names("*") == ["b", "d", "c", "a"])
        #expect(try names("h") == ["b", "d", "c", "e", "a"])
    }

    @Test("A route without a host name is for every host; a suffix for what ends so")
    func hosts() throws {
        let node = try compile([
            Self.gatewayRoute("any", "prefix: /any"), Self.gatewayRoute("exact", "hostname: {exact: A.x.example}"),
            Self.gatewayRoute("suffix", "hostname: {suffix: .example}"), Self.gatewayRoute("longer", "hostname: {suffix: .x.example}"),
        ])
        let hosts = Dictionary(
            uniqueKeysWithValues: node.snapshot.routeConfigurations[0].virtualHosts.map { host in
                (host.domains.joined(), Set(host.routes.map { $0.name.split(separator: "/")[0] }))
            })
        #expect(
            hosts == [
                "*": ["any"], "a.x.example": ["any", "exact", "suffix", "longer"], "*.example": ["any", "suffix"],
                "*.x.example": ["any", "suffix", "longer"],
            ])
    }

    @Test("Selectors: namespaces and labels; a route of two gateways is nobody's")
    func selectors() throws {
        let picky = """
            kind: VirtualGateway
            metadata: {name: edge}
            spec:
              namespaceSelector: {}
              gatewayRouteSelector: {matchLabels: {edge: 'yes'}}
              listeners: [{portMapping: {port: 8088, protocol: http}}]
            """
        let routes = [Self.gatewayRoute("a", "prefix: /a"), Self.gatewayRoute("b", "prefix: /b", labels: "edge: 'yes'")]
        #expect(Set(try compile(routes, gateway: picky).host("*").routes.map(\.name)) == ["b/r"])
        let blind = "kind: VirtualGateway\nmetadata: {name: edge}\nspec: {listeners: [{portMapping: {port: 8088, protocol: http}}]}"
        #expect(try compile([], gateway: blind).snapshot.routeConfigurations[0].virtualHosts == [])
    }

    @Test("A route for one port is not on the others")
    func ports() throws {
        let gateway = """
            kind: VirtualGateway
            metadata: {name: edge}
            spec:
              namespaceSelector: {}
              listeners: [{portMapping: {port: 1, protocol: http}}, {portMapping: {port: 2, protocol: http}}]
            """
        let node = try compile(
            [Self.gatewayRoute("one", "prefix: /, port: 1"), Self.gatewayRoute("both", "prefix: /both")], gateway: gateway)
        let names = node.snapshot.routeConfigurations.map { Set($0.virtualHosts.flatMap(\.routes).map(\.name)) }
        #expect(names == [["one/r", "both/r"], ["both/r"]])
    }

    @Test("The tightest connection pool of the listeners limits each cluster behind them")
    func connectionPool() throws {
        let gateway = """
            kind: VirtualGateway
            metadata: {name: edge}
            spec:
              namespaceSelector: {}
              listeners:
              - {portMapping: {port: 1, protocol: http}, connectionPool: {http: {maxConnections: 9, maxPendingRequests: 2}}}
              - {portMapping: {port: 2, protocol: http}, connectionPool: {http: {maxConnections: 7}}}
            """
        let node = try compile([Self.gatewayRoute("g", "prefix: /")], gateway: gateway)
        #expect(
            try node.cluster("cds_egress_m_a_default_http_8080").circuitBreakers
                == CircuitBreakers(maxConnections: 7, maxPendingRequests: 2))
    }

    @Test("A pattern that cannot be joined with a rewrite is refused, with both routes named")
    func inexpressible() throws {
        let behind = [Fixture.service, Fixture.router(Fixture.route("r", "path: {regex: '(/a){1,2}'}")), Fixture.node("a")]
        let resources = try Fixture.load([Self.gateway, Self.gatewayRoute("g", "prefix: /shop")] + behind)
        let result = MeshCompiler.compile(resources, for: .virtualGateway(resources.virtualGateways[0].key))
        guard case .failure(let failure) = result else { throw Unexpected(text: "compiled") }
        #expect(failure.errors.count == 1)
        #expect(failure.errors[0].description.contains("GatewayRoute/g: the pattern (/a){1,2} of route r of VirtualService/svc"))
    }

    @Test("gRPC: by service, path kept, authority rewritten")
    func grpc() throws {
        let gateway =
            Self.gateway.replacing("http", with: "grpc")
        let route = """
            kind: GatewayRoute
            metadata: {name: g}
            spec:
              grpcRoute:
                match: {serviceName: p.S}
                action: {target: {virtualService: {virtualServiceRef: {name: svc}}}}
            """
        let behind = [
            Fixture.service,
            Fixture.router(
                "{name: r, grpcRoute: {match: {serviceName: p.S, methodName: M}, action: {\(Fixture.toA)}}}",
                protocol: "grpc"),
            Fixture.node("a", protocol: "grpc"),
        ]
        let routes = try compile([route], gateway: gateway, behind: behind).host("*").routes
        #expect(routes[0].match == RouteMatch(path: .exact("/p.S/M"), requiresGRPC: true))
        guard case .forward(let action) = routes[0].action else { throw Unexpected(text: "\(routes)") }
        #expect(action.pathRewrite == nil)
        #expect(action.hostRewrite == .literal("svc.default"))
        #expect(routes[1].action == .reply(DirectReply(status: 404)))
    }
}
