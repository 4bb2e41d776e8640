import Base
import MeshModel
import ProxyConfig
import Testing

@testable import MeshCompiler

/// What TrafficPolicies do to callers, and to whom they are attached.
@Suite("TrafficPolicy")
struct TrafficPolicyTests {
    private static func policy(_ target: String, _ spec: String, name: String = "p") -> String {
        "kind: TrafficPolicy\nmetadata: {name: \(name)}\nspec:\n  targetRef: {kind: \(target)}\n"
            + spec.split(separator: "\n").map { "  \($0)" }.joined(separator: "\n")
    }

    private static let toNode = "VirtualNode, name: a"

    private static func compile(_ policies: [String], route rest: String = "", node: String = "calls") throws -> CompiledNode {
        try Fixture.compile(
            [Fixture.caller, Fixture.service, Fixture.router(Fixture.route("r", "prefix: /", rest)), Fixture.node("a")] + policies,
            node: node)
    }

    private static let cluster = "cds_egress_m_a_default_http_8080"
    private static let route = "route_configurations[rds_egress_http_15001].virtual_hosts[svc.default].routes[r].route"

    @Test("the standard policy is peak EWMA, its breaker and limiter, and retries in place of App Mesh's hidden ones")
    func standard() throws {
        let compiled = try Self.compile([Self.policy(Self.toNode, "resilience: standard")])
        let cluster = try compiled.cluster(Self.cluster)
        #expect(cluster.loadBalancing == .peakEWMA && cluster.resilience == .standard && cluster.outlierDetection == nil)
        #expect(try compiled.forward("svc.default").retryPolicy == .standard)
        #expect(compiled.defaults.contains("\(Self.route).retry_policy: 2 retries"))
        #expect(compiled.defaults.contains("clusters[\(Self.cluster)].lb_policy: PEAK_EWMA"))
        #expect(!compiled.defaults.contains("clusters[\(Self.cluster)].lb_policy: ROUND_ROBIN"))
        #expect(compiled.notes.contains { $0.text == "TrafficPolicy/p: standard" && $0.path == "clusters[\(Self.cluster)].resilience" })
    }

    @Test("the called node's own proxy has nothing of a policy that is for callers")
    func callee() throws {
        let compiled = try Self.compile([Self.policy(Self.toNode, "resilience: standard")], node: "a")
        #expect(compiled.snapshot.clusters.allSatisfy { $0.resilience == nil && $0.loadBalancing == .roundRobin })
    }

    @Test("its breaker takes the place of outlierDetection; the rest of App Mesh's words stay")
    func replaces() throws {
        let detection = """
            outlierDetection: {maxServerErrors: 5, interval: {unit: s, value: 10}, baseEjectionDuration: {unit: s, value: 30}, \
            maxEjectionPercent: 50}
            """
        let retries = "retryPolicy: {maxRetries: 1, perRetryTimeout: {unit: s, value: 2}, httpRetryEvents: [server-error]}"
        let documents = [
            Fixture.caller, Fixture.service, Fixture.router(Fixture.route("r", "prefix: /", "\(retries), timeout: {http: {}}")),
            Fixture.node("a", detection), Self.policy(Self.toNode, "resilience: standard\ntimeout: 3s"),
        ].map { $0.replacing("timeout: {http: {}}", with: "timeout: {perRequest: {unit: s, value: 9}}") }
        let compiled = try Fixture.compile(documents)
        #expect(try compiled.cluster(Self.cluster).outlierDetection == nil)
        #expect(compiled.notes.contains { $0.text.contains("endpointBreaker takes its place") })
        #expect(!compiled.defaults.contains { $0.contains("max_ejection_time") })
        let forward = try compiled.forward("svc.default")
        #expect(forward.retryPolicy?.maxRetries == 1 && forward.timeout == .seconds(9))
        let without = try Fixture.compile(documents.map { $0.replacing("resilience: standard", with: "endpointBreaker: none") })
        #expect(try without.cluster(Self.cluster).outlierDetection != nil)
    }

    @Test("a part that is written takes the standard's place; none takes it away; what is not said is the standard's")
    func parts() throws {
        let compiled = try Self.compile([
            Self.policy(
                Self.toNode,
                """
                resilience: standard
                loadBalancing: {policy: MAGLEV, hashOn: [{header: X-User}, {cookie: id}, sourceAddress], boundPercent: 125, slowStart: 5s}
                endpointBreaker: {consecutiveErrors: none, window: {duration: 20s}, probes: none, ramp: none, observe: true}
                serviceBreaker: {failurePercent: 60}
                limits: {maxConnections: 10, maxRequests: 100, adaptive: none, queue: {capacity: 5}}
                retries:
                  {on: [503, reset], maxRetries: 1, perTryTimeout: none, backoff: {base: 10ms}, budget: {percent: 10}, hedge: {after: 200ms}}
                """)
        ])
        let cluster = try compiled.cluster(Self.cluster)
        #expect(cluster.loadBalancing == .maglev)
        #expect(cluster.balancing == BalancingOptions(hashBoundPercent: 125, slowStart: Ramp(duration: .seconds(5))))
        var breaker = try #require(ResiliencePolicy.standard.endpoint)
        breaker.breaker.mode = .observe
        breaker.breaker.trip.consecutiveErrors = nil
        breaker.breaker.trip.window = .time(.seconds(20))
        breaker.breaker.probe = .none
        breaker.breaker.ramp = .none
        #expect(cluster.resilience?.endpoint == breaker)
        #expect(cluster.resilience?.service == BreakerPolicy(trip: .init(failurePercent: 60)))
        #expect(cluster.resilience?.limiter == nil && cluster.resilience?.queue == QueueLimits(capacity: 5))
        #expect(cluster.resilience?.retryBudget == RetryBudgetLimits(percent: 10))
        #expect(cluster.circuitBreakers == CircuitBreakers(maxConnections: 10, maxRequests: 100))
        let forward = try compiled.forward("svc.default")
        #expect(forward.hashKeys == [.header("x-user"), .cookie("id"), .sourceAddress])
        #expect(forward.hedging == Hedging(delay: .milliseconds(200)))
        #expect(
            forward.retryPolicy
                == RetryPolicy(
                    retryOn: ["reset", "retriable-status-codes"], retriableStatusCodes: [503], maxRetries: 1, onlyIdempotent: true,
                    backoffBase: .milliseconds(10)))
    }

    @Test("a limit alone brings no breaker, and requests wait for room")
    func limitAlone() throws {
        let cluster = try Self.compile([Self.policy(Self.toNode, "limits: {maxRequests: 5}")]).cluster(Self.cluster)
        #expect(cluster.resilience == ResiliencePolicy() && cluster.circuitBreakers == CircuitBreakers(maxRequests: 5))
        let connections = try Self.compile([Self.policy(Self.toNode, "limits: {maxConnections: 5}")]).cluster(Self.cluster)
        #expect(connections.resilience == nil && connections.circuitBreakers == CircuitBreakers(maxConnections: 5))
    }

    @Test("what is said of a service makes clusters of its own, for other services may lead to the same node")
    func service() throws {
        let other = "kind: VirtualService\nmetadata: {name: other}\nspec: {provider: {virtualNode: {virtualNodeRef: {name: a}}}}"
        let caller = """
            kind: VirtualNode
            metadata: {name: calls}
            spec: {backends: [{virtualService: {virtualServiceRef: {name: svc}}}, {virtualService: {virtualServiceRef: {name: other}}}]}
            """
        let compiled = try Fixture.compile([
            caller, Fixture.service, other, Fixture.router(Fixture.route("r", "prefix: /")), Fixture.node("a"),
            Self.policy("VirtualService, name: svc", "serviceBreaker: {}"), Self.policy(Self.toNode, "resilience: standard", name: "q"),
        ])
        let (own, shared) = (try compiled.cluster("\(Self.cluster)_svc.default"), try compiled.cluster(Self.cluster))
        #expect(own.resilience?.service == BreakerPolicy() && shared.resilience?.service == nil)
        #expect(own.resilience?.endpoint == shared.resilience?.endpoint && own.resilience?.endpoint != nil)
        #expect(try compiled.forward("svc.default").target == .cluster("\(Self.cluster)_svc.default"))
        #expect(try compiled.forward("other.default").target == .cluster(Self.cluster))
    }

    @Test("the more particular goes first: route, service, router, node; and one that names the caller before one that does not")
    func precedence() throws {
        func status(_ policies: [(target: String, status: Int, callers: String)]) throws -> FaultInjection.Abort? {
            let documents = policies.enumerated().map { index, policy in
                Self.policy(
                    policy.target, "fault: {abort: {httpStatus: \(policy.status), percent: 5}}\n\(policy.callers)", name: "p\(index)")
            }
            return try Self.compile(documents).host("svc.default").routes[0].fault?.abort
        }
        let all: [(target: String, status: Int, callers: String)] = [
            (Self.toNode, 501, ""), ("VirtualRouter, name: router", 502, ""), ("VirtualService, name: svc", 503, ""),
            ("VirtualRouter, name: router, route: r", 504, ""), ("VirtualService, name: svc, route: r", 505, ""),
        ]
        for count in 1...all.count {
            #expect(try status(Array(all[..<count].reversed())) == .http(status: 500 + count))
        }
        let none = [
            Self.policy(Self.toNode, "fault: {abort: {httpStatus: 501, percent: 5}}\nmirror: [{virtualNode: {name: b}}]"),
            Self.policy("VirtualService, name: svc, route: r", "fault: none\nmirror: none", name: "q"), Fixture.node("b"),
        ]
        #expect(try Self.compile(none).host("svc.default").routes[0].fault == nil)
        #expect(try Self.compile(none).forward("svc.default").mirrors == [])
        #expect(try status([(Self.toNode, 501, ""), (Self.toNode, 502, "callers: [{name: calls}]")]) == .http(status: 502))
        #expect(try status([(Self.toNode, 501, "callers: [{name: other}]")]) == nil)
    }

    @Test("a rate limit of a node is its own listeners', that of a caller is the caller's")
    func rateLimit() throws {
        let limit = LocalRateLimit(burst: 50, requests: 100)
        let ofNode = [Self.policy(Self.toNode, "rateLimit: {requests: 100, burst: 50}")]
        #expect(try Self.compile(ofNode, node: "a").host("ingress").routes[0].rateLimit == limit)
        #expect(try Self.compile(ofNode).host("svc.default").routes[0].rateLimit == nil)
        let ofCaller = [Self.policy(Self.toNode, "callers: [{name: calls}]\nrateLimit: {requests: 100, burst: 50}")]
        #expect(try Self.compile(ofCaller, node: "a").host("ingress").routes[0].rateLimit == nil)
        #expect(try Self.compile(ofCaller).host("svc.default").routes[0].rateLimit == limit)
    }

    @Test("a mirror need not be a backend; its cluster comes along, and what is not known is told")
    func mirrors() throws {
        let mirror = "mirror: [{virtualNode: {name: b}, percent: 2.5}, {virtualNode: {name: gone}}]"
        let compiled = try Self.compile([Self.policy("VirtualService, name: svc", mirror), Fixture.node("b", port: 9000)])
        #expect(
            try compiled.forward("svc.default").mirrors
                == [RequestMirror(cluster: "cds_egress_m_b_default_http_9000", share: Share(percent: 2.5))])
        _ = try compiled.cluster("cds_egress_m_b_default_http_9000")
        #expect(compiled.remarks.contains { $0.contains("VirtualNode/gone in namespace \"default\" is unknown: no copies are sent") })
    }

    @Test("headers and faults stand at the route")
    func headers() throws {
        let route = try Self.compile([
            Self.policy(
                "VirtualRouter, name: router",
                """
                headers: {request: {set: {X-B: "2", X-A: "1"}, remove: [X-Old]}, response: {add: {Server: mesh}}}
                fault: {delay: {fixed: 2s, percent: 0.5}, headers: [{name: x-chaos, match: {exact: "on"}}]}
                """)
        ]).host("svc.default").routes[0]
        #expect(
            route.requestHeaders == HeaderChanges(remove: ["x-old"], set: [.init(name: "x-a", value: "1"), .init(name: "x-b", value: "2")]))
        #expect(route.responseHeaders == HeaderChanges(add: [.init(name: "server", value: "mesh")]))
        #expect(
            route.fault
                == FaultInjection(
                    delay: .seconds(2), delayShare: Share(percent: 0.5),
                    headers: [HeaderMatcher(name: "x-chaos", condition: .exact("on"))]))
    }

    @Test("a route to two nodes has the policy of the one with the greater weight, and who says otherwise hears of it")
    func weights() throws {
        func status(_ a: Int, _ b: Int, _ other: Int = 502) throws -> (FaultInjection.Abort?, [String]) {
            let both = "{virtualNodeRef: {name: a}, weight: \(a)}, {virtualNodeRef: {name: b}, weight: \(b)}"
            let route = "{name: r, httpRoute: {match: {prefix: /}, action: {weightedTargets: [\(both)]}}}"
            let compiled = try Fixture.compile([
                Fixture.caller, Fixture.service, Fixture.router(route), Fixture.node("a"), Fixture.node("b"),
                Self.policy(Self.toNode, "fault: {abort: {httpStatus: 501, percent: 5}}"),
                Self.policy("VirtualNode, name: b", "fault: {abort: {httpStatus: \(other), percent: 5}}", name: "q"),
            ])
            return (try compiled.host("svc.default").routes[0].fault?.abort, compiled.remarks)
        }
        #expect(try status(9, 1).0 == .http(status: 501) && status(1, 9).0 == .http(status: 502) && status(0, 9).0 == .http(status: 502))
        #expect(try status(5, 5).0 == .http(status: 501))
        #expect(try status(9, 1).1.contains { $0.hasPrefix("TrafficPolicy/q spec.fault: route r leads to VirtualNode/a") })
        #expect(try status(0, 9).1 == [] && status(9, 1, 501).1 == [])
    }

    @Test("what is said of requests does nothing to connections, and says so")
    func connections() throws {
        let service = "kind: VirtualService\nmetadata: {name: svc}\nspec: {provider: {virtualNode: {virtualNodeRef: {name: a}}}}"
        let documents = [
            Fixture.caller, service, Fixture.node("a", protocol: "tcp"),
            Self.policy(Self.toNode, "resilience: standard\ntimeout: 1s\nrateLimit: {requests: 5}"),
        ]
        let caller = try Fixture.compile(documents)
        #expect(caller.remarks.map { String($0.prefix(31)) } == ["TrafficPolicy/p spec.timeout: V"])
        #expect(try caller.cluster("cds_egress_m_a_default_tcp_8080").resilience == .standard)
        #expect(try Fixture.compile(documents, node: "a").remarks.contains { $0.contains("spec.rateLimit: port 8080 speaks tcp") })
    }

    @Test("a timeout that the called listener does not wait for is told")
    func shorterListener() throws {
        let long = try Self.compile([Self.policy(Self.toNode, "timeout: 30s")])
        #expect(
            long.remarks == [
                "TrafficPolicy/p spec.timeout: 30s here, but listener 8080 of VirtualNode/a in namespace \"default\" ends requests after 15s, "
                    + "the App Mesh default"
            ])
        #expect(try Self.compile([Self.policy(Self.toNode, "timeout: 15s")]).remarks == [])
        #expect(try Self.compile([Self.policy(Self.toNode, "timeout: none")]).remarks.count == 1)
    }

    @Test("a gateway's callers are callers, and a policy of a GatewayRoute goes before all")
    func gateway() throws {
        let gateway = """
            kind: VirtualGateway
            metadata: {name: edge}
            spec: {namespaceSelector: {}, listeners: [{portMapping: {port: 8088, protocol: http}}]}
            """
        let route = """
            kind: GatewayRoute
            metadata: {name: all}
            spec: {httpRoute: {match: {prefix: /}, action: {target: {virtualService: {virtualServiceRef: {name: svc}}}}}}
            """
        let compiled = try Fixture.compile(
            [
                gateway, route, Fixture.service, Fixture.router(Fixture.route("r", "prefix: /")), Fixture.node("a"),
                Self.policy(Self.toNode, "resilience: standard\nretries: none"),
                Self.policy("GatewayRoute, name: all", "retries: {maxRetries: 4}", name: "q"),
            ], gateway: "edge")
        #expect(try compiled.cluster(Self.cluster).resilience == .standard)
        #expect(try compiled.forward("*", "all/r").retryPolicy?.maxRetries == 4)
    }
}
