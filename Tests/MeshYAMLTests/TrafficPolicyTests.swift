import Base
import MeshModel
import ProxyConfig
import Testing

@testable import MeshYAML

@Suite("TrafficPolicy")
struct TrafficPolicyTests {
    private static let node = "targetRef: {kind: VirtualNode, name: a}\n"

    private static func read(_ spec: String) throws -> TrafficPolicy {
        let body = spec.split(separator: "\n").map { "  \($0)" }.joined(separator: "\n")
        let text = "apiVersion: outrigger/v1\nkind: TrafficPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n\(body)\n"
        let result = Manifests.load(("app.yaml", Manifests.mesh + "---\n" + text))
        return try #require(result.resources.trafficPolicies.first, "\(result.diagnostics)")
    }

    @Test("targets and callers")
    func targets() throws {
        let policy = try Self.read(
            """
            targetRef: {kind: VirtualService, name: cart, namespace: other, route: slow}
            callers: [{name: web}, {kind: VirtualGateway, name: edge, namespace: infra}]
            timeout: none
            """)
        #expect(policy.targetKey == ResourceKey(kind: .virtualService, namespace: "other", name: "cart") && policy.target.route == "slow")
        #expect(
            policy.callerKeys == [
                ResourceKey(kind: .virtualNode, namespace: "shop", name: "web"),
                ResourceKey(kind: .virtualGateway, namespace: "infra", name: "edge"),
            ])
        #expect(policy.timeout == .off && policy.parts == [.timeout])
    }

    @Test("every field of a breaker")
    func breaker() throws {
        let policy = try Self.read(
            Self.node + """
                endpointBreaker:
                  observe: true
                  consecutiveErrors: 7
                  failurePercent: 40
                  slowPercent: none
                  slowCall: 2s
                  window: {calls: 100}
                  minimumCalls: 30
                  openTime: {base: 3s, longest: 1m, growthPercent: 200, jitterPercent: 5}
                  probes: {count: 5, concurrency: 2, successPercent: 80, longestWait: 4s}
                  ramp: {duration: 20s, startPercent: 5}
                  interval: 5s
                  maxEjectionPercent: 20
                  minimumDeviationPercent: 0
                  connectionProbeInterval: none
                  successRate:
                    {deviationThousandths: 2500, minimumHosts: 3, minimumCalls: 50, minimumDeviationPercent: 10, minimumFailures: 4}
                  failurePercentage: {percent: 70, minimumHosts: 2, minimumCalls: 10, minimumFailures: 3}
                """)
        let breaker = BreakerPolicy(
            mode: .observe,
            trip: .init(
                consecutiveErrors: 7, failurePercent: 40, slowPercent: nil, slowCall: .seconds(2), window: .calls(100), minimumCalls: 30),
            open: .init(base: .seconds(3), longest: .seconds(60), backoff: .exponential(percent: 200), jitterPercent: 5),
            probe: .calls(.init(count: 5, concurrency: 2, successPercent: 80, longestWait: .seconds(4))),
            ramp: Ramp(duration: .seconds(20), startPercent: 5))
        #expect(
            policy.endpointBreaker
                == .on(
                    EndpointPolicy(
                        breaker: breaker, interval: .seconds(5), maxEjectionPercent: 20, minimumDeviationPercent: 0,
                        successRate: .init(
                            deviationThousandths: 2500, minimumHosts: 3, minimumCalls: 50, minimumDeviationPercent: 10, minimumFailures: 4),
                        failurePercentage: .init(percent: 70, minimumHosts: 2, minimumCalls: 10, minimumFailures: 3))))
    }

    @Test("a breaker that says nothing is the standard one, and a service's is the breaker of services")
    func defaults() throws {
        let policy = try Self.read(Self.node + "endpointBreaker: {}\nserviceBreaker: {}\nretries: {}\nlimits: {adaptive: {}}")
        #expect(policy.endpointBreaker == ResiliencePolicy.standard.endpoint.map { .on($0) })
        #expect(policy.serviceBreaker == .on(BreakerPolicy()))
        #expect(policy.retries == .on(TrafficPolicy.Retries()) && policy.limits?.adaptive == .on(AdaptiveLimit()))
    }

    @Test("a small window needs no more calls than it has")
    func window() throws {
        let policy = try Self.read(Self.node + "serviceBreaker: {window: {calls: 10}}")
        #expect(policy.serviceBreaker?.value?.trip.minimumCalls == 10)
    }

    @Test("percentages may be fractions; faults by gRPC's names; mirrors")
    func shares() throws {
        let policy = try Self.read(
            Self.node + """
                fault: {delay: {fixed: 2s, percent: 0.25}, abort: {grpcStatus: UNAVAILABLE, percent: 100}}
                mirror: [{virtualNode: {name: b}, port: 8080, percent: 0.5}]
                """)
        #expect(
            policy.fault?.value?.injection
                == FaultInjection(delay: .seconds(2), delayShare: Share(millionths: 2500), abort: .grpc(code: 14), abortShare: .all))
        #expect(
            policy.allMirrors == [.init(virtualNode: ObjectReference(name: "b"), port: 8080, share: Share(millionths: 5000))])
    }

    @Test(
        "bad specs",
        arguments: [
            ("{}", ["spec.targetRef: expected a mapping (required), found nothing"]),
            (
                "targetRef: {kind: Mesh, name: m}\ntimeout: 1s",
                ["spec.targetRef.kind: expected one of VirtualNode, VirtualService, VirtualRouter, GatewayRoute, found Mesh"]
            ),
            (
                "targetRef: {kind: VirtualNode, name: a, route: r}\ntimeout: 1s",
                ["spec.targetRef.route: expected nothing with VirtualNode, found a name"]
            ),
            (
                node,
                [
                    "spec: expected resilience, or one of loadBalancing, endpointBreaker, serviceBreaker, limits, retries, timeout, "
                        + "rateLimit, fault, mirror, headers, found none"
                ]
            ),
            (node + "resilience: full", ["spec.resilience: expected standard, found full"]),
            (node + "resilience: standard\nbreaker: {}", ["warning: spec.breaker: unknown field, ignored"]),
            (
                "targetRef: {kind: VirtualRouter, name: a}\nserviceBreaker: {}",
                [
                    "spec.serviceBreaker: expected nothing with a VirtualRouter: it is of a VirtualNode or a VirtualService as a whole, "
                        + "found a mapping"
                ]
            ),
            (
                "targetRef: {kind: VirtualService, name: a, route: r}\nretries: {budget: {}}",
                [
                    "spec.retries.budget: expected nothing with one route: it is of a VirtualNode or a VirtualService as a whole, "
                        + "found a mapping"
                ]
            ),
            (
                node + "endpointBreaker: {failurePercent: 101}",
                [
                    "spec.endpointBreaker.failurePercent: expected an integer from 1 through 100, found 101"
                ]
            ),
            (
                node + "serviceBreaker: {failurePercent: none}",
                [
                    "spec.serviceBreaker: expected one of consecutiveErrors, failurePercent, slowPercent, found none"
                ]
            ),
            (
                node + "serviceBreaker: {window: {calls: 20, duration: 10s}}",
                [
                    "spec.serviceBreaker.window: expected only one of calls, duration, found calls and duration"
                ]
            ),
            (
                node + "serviceBreaker: {window: {calls: 20}, minimumCalls: 30}",
                [
                    "spec.serviceBreaker.minimumCalls: expected at most the 20 calls of the window, found 30"
                ]
            ),
            (
                node + "serviceBreaker: {openTime: {base: 10s, longest: 1s}}",
                [
                    "spec.serviceBreaker.openTime.longest: expected at least base, found less"
                ]
            ),
            (
                node + "limits: {adaptive: {minimum: 10, maximum: 5}}",
                [
                    "spec.limits.adaptive.maximum: expected at least minimum (10), found 5"
                ]
            ),
            (
                node + "retries: {on: [sometimes]}",
                [
                    "spec.retries.on[0]: expected a status from 400 through 599, or one of 5xx, gateway-error, reset, connect-failure, "
                        + "refused-stream, retriable-4xx, cancelled, deadline-exceeded, internal, resource-exhausted, unavailable, "
                        + "found sometimes"
                ]
            ),
            (
                node + "retries: {hedge: {}}",
                [
                    "spec.retries.hedge.after: expected a duration such as 30s or {unit: s, value: 30} (required), found nothing"
                ]
            ),
            (
                node + "loadBalancing: {policy: RING_HASH}",
                [
                    "spec.loadBalancing.hashOn: expected what the hash is of (required), found nothing"
                ]
            ),
            (
                node + "loadBalancing: {policy: RANDOM, hashOn: [sourceAddress]}",
                [
                    "spec.loadBalancing.hashOn: expected nothing but with RING_HASH and MAGLEV, found a value"
                ]
            ),
            (
                node + "loadBalancing: {policy: MAGLEV, hashOn: [query]}",
                [
                    "spec.loadBalancing.hashOn[0]: expected {header: NAME}, {cookie: NAME} or sourceAddress, found query"
                ]
            ),
            (
                node + "callers: [{name: b}]\nrateLimit: {requests: 5, side: callee}",
                [
                    "spec.rateLimit.side: expected caller, but for a VirtualNode and without callers: the called side does not know what it "
                        + "was called as, found callee"
                ]
            ),
            (
                node + "fault: {abort: {httpStatus: 503}}",
                [
                    "spec.fault.abort.percent: expected a percentage above 0, through 100 (required), found nothing"
                ]
            ),
            (node + "fault: {headers: [{name: a}]}", ["spec.fault: expected delay, abort or both, found neither"]),
            (
                node + "headers: {request: {set: {Host: a}}}",
                [
                    "spec.headers.request.set.Host: expected the name of a header that neither frames the message nor belongs to one hop, "
                        + "found Host"
                ]
            ),
        ] as [(String, [String])])
    func bad(spec: String, problems: [String]) {
        let found = Manifests.problems(.trafficPolicy, spec)
        #expect(found == problems)
    }

    private static func document(_ name: String, _ spec: String) -> String {
        "---\napiVersion: outrigger/v1\nkind: TrafficPolicy\nmetadata: {name: \(name)}\n"
            + "spec: {targetRef: {kind: VirtualNode, name: a}, \(spec)}\n"
    }

    @Test(
        "two policies that set the same for the same calls are refused, with both names",
        arguments: [
            ("timeout: 1s", "timeout: 2s", true), ("timeout: 1s", "retries: {}", false),
            ("resilience: standard", "retries: {}", true),
            ("timeout: 1s", "timeout: 2s, callers: [{name: b}]", false),
            ("timeout: 1s, callers: [{name: b}, {name: c}]", "timeout: 2s, callers: [{name: c}]", true),
            ("timeout: 1s, callers: [{name: b}]", "timeout: 2s, callers: [{name: c}]", false),
        ])
    func contradictions(first: String, second: String, isRefused: Bool) {
        let said = Manifests.diagnose(Manifests.mesh + Self.document("p", first) + Self.document("q", second))
        let refused = said.filter { $0.contains("which of both holds is not said") }
        #expect(refused.isEmpty != isRefused, "\(said)")
        #expect(refused.allSatisfy { $0.contains("TrafficPolicy/q") && $0.contains("TrafficPolicy/p in namespace") })
    }

    @Test("names that lead nowhere are told: targets, callers, mirrors; and routes that a router does not have are errors")
    func references() {
        let policy = """
            ---
            apiVersion: outrigger/v1
            kind: TrafficPolicy
            metadata: {name: p}
            spec:
              targetRef: {kind: VirtualRouter, name: r, route: x}
              callers: [{name: gone}]
              mirror: [{virtualNode: {name: away}}]
            ---
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: VirtualRouter
            metadata: {name: r}
            spec:
              listeners: [{portMapping: {port: 80, protocol: http}}]
              routes:
                - {name: y, httpRoute: {match: {prefix: /}, action: {weightedTargets: [{virtualNodeARN: a, weight: 1}]}}}
            """
        let said = Manifests.diagnose(Manifests.mesh + policy)
        #expect(said.contains { $0.contains("unresolved reference: VirtualNode/gone") }, "\(said)")
        #expect(said.contains { $0.contains("unresolved reference: VirtualNode/away") }, "\(said)")
        #expect(said.contains { $0.contains("spec.targetRef.route: expected a route of VirtualRouter/r") && $0.contains("(y), found x") })
    }
}
