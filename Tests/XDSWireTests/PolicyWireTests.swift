import Base
import ProxyConfig
import Testing

@testable import XDSWire

/// What a control plane may send for policies, and what it must not.
@Suite struct PolicyWireTests {
    private static func cluster(_ change: (inout Cluster) -> Void) -> Cluster {
        var cluster = Cluster(name: "c", discovery: .eds(serviceName: "c"), resilience: .standard)
        change(&cluster)
        return cluster
    }

    private static let inPolicy = "Cluster/c metadata.outrigger.resilience"

    @Test(
        "a cluster's policy with a value that it cannot have is refused, with the value's path",
        arguments: [
            (
                cluster { $0.resilience?.endpoint?.maxEjectionPercent = 101 },
                "\(inPolicy).endpoint.max_ejection_percent: expected a whole number from 0 through 100, found 101.0"
            ),
            (
                cluster { $0.resilience?.endpoint?.interval = .zero },
                "\(inPolicy).endpoint.interval: expected a duration above 0 such as \"1.5s\", found \"0s\""
            ),
            (
                cluster { $0.resilience?.endpoint?.breaker.trip.failurePercent = 0 },
                "\(inPolicy).endpoint.breaker.failure_percent: expected a whole number from 1 through 100, found 0.0"
            ),
            (
                cluster { $0.resilience?.endpoint?.breaker.trip.consecutiveErrors = 0 },
                "\(inPolicy).endpoint.breaker.consecutive_errors: expected a whole number from 1 through 4294967295, found 0.0"
            ),
            (
                cluster { $0.resilience?.endpoint?.breaker.trip.window = .calls(0) },
                "\(inPolicy).endpoint.breaker.window_calls: expected a whole number from 1 through 4294967295, found 0.0"
            ),
            (
                cluster { $0.resilience?.endpoint?.breaker.open.longest = .seconds(1) },
                "\(inPolicy).endpoint.breaker.open_longest: expected at least open_base (2s), found 1s"
            ),
            (
                cluster { $0.resilience?.endpoint?.breaker.open.backoff = .exponential(percent: 99) },
                "\(inPolicy).endpoint.breaker.open_growth_percent: expected a whole number from 100 through 1000, found 99.0"
            ),
            (
                cluster { $0.resilience?.endpoint?.failurePercentage = .init(percent: 0) },
                "\(inPolicy).endpoint.failure_percentage.percent: expected a whole number from 1 through 100, found 0.0"
            ),
            (
                cluster { $0.resilience?.endpoint?.successRate = .init(minimumDeviationPercent: 101) },
                "\(inPolicy).endpoint.success_rate.minimum_deviation_percent: expected a whole number from 0 through 100, found 101.0"
            ),
            (
                cluster { $0.resilience?.limiter = AdaptiveLimit(minimum: 10, maximum: 5) },
                "\(inPolicy).limiter.maximum: expected at least minimum (10), found 5"
            ),
            (
                cluster { $0.resilience?.limiter = AdaptiveLimit(minimum: 10, maximum: 20, initial: 5) },
                "\(inPolicy).limiter.initial: expected a number from minimum (10) through maximum (20), found 5"
            ),
            (
                cluster { $0.resilience?.queue.longestWait = .zero },
                "\(inPolicy).queue.longest_wait: expected a duration above 0 such as \"1.5s\", found \"0s\""
            ),
            (
                cluster { $0.resilience?.retryBudget.percent = 101 },
                "Cluster/c circuit_breakers.thresholds[0].retry_budget.budget_percent.value: expected a percentage from 0 through 100, "
                    + "found 101.0"
            ),
            (
                cluster { $0.balancing.hashBoundPercent = 100 },
                "Cluster/c common_lb_config.consistent_hashing_lb_config.hash_balance_factor: "
                    + "expected a number from 101 through 4294967295, found 100"
            ),
            (
                cluster { $0.balancing.preferredZoneSize = 0 },
                "Cluster/c common_lb_config.zone_aware_lb_config.min_cluster_size: expected a number from 1 through 4294967295, found 0"
            ),
            (
                cluster { $0.balancing.latencyHalfLife = .zero },
                "Cluster/c metadata.outrigger.latency_half_life: expected a duration above 0 such as \"1.5s\", found \"0s\""
            ),
        ] as [(Cluster, String)])
    func clusters(cluster: Cluster, expected: String) {
        #expect(errors(.cluster, cluster.encoded()).contains(expected), "\(errors(.cluster, cluster.encoded()))")
    }

    private static func route(_ change: (inout Route) -> Void) -> Route {
        var route = Route(
            name: "r", match: RouteMatch(path: .prefix("/")), action: .forward(ForwardAction(target: .cluster("c"))))
        change(&route)
        return route
    }

    private static func forward(_ change: (inout ForwardAction) -> Void) -> Route {
        route {
            var action = ForwardAction(target: .cluster("c"), retryPolicy: RetryPolicy(retryOn: ["5xx"], maxRetries: 1))
            change(&action)
            $0.action = .forward(action)
        }
    }

    private static let inRoute = "RouteConfiguration/t virtual_hosts[0].routes[0]"
    private static let inFilter = "\(inRoute).typed_per_filter_config[0].value"

    @Test(
        "a route's policy with a value that it cannot have is refused, with the value's path",
        arguments: [
            (
                route { $0.rateLimit = LocalRateLimit(burst: 0, requests: 1) },
                "\(inFilter).token_bucket.max_tokens: expected a number from 1 through 4294967295, found 0"
            ),
            (
                route { $0.rateLimit = LocalRateLimit(burst: 1, requests: 0) },
                "\(inFilter).token_bucket.tokens_per_fill: expected a number from 1 through 4294967295, found 0"
            ),
            (
                route { $0.rateLimit = LocalRateLimit(burst: 1, requests: 1, interval: .zero) },
                "\(inFilter).token_bucket.fill_interval: expected a duration above 0, found 0 s"
            ),
            (
                route { $0.fault = FaultInjection(delay: .zero) },
                "\(inFilter).delay.fixed_delay: expected a duration above 0, found 0 s"
            ),
            (
                route { $0.fault = FaultInjection(abort: .http(status: 600)) },
                "\(inFilter).abort.http_status: expected a number from 200 through 599, found 600"
            ),
            (
                route { $0.fault = FaultInjection(abort: .grpc(code: 17)) },
                "\(inFilter).abort.grpc_status: expected a number from 0 through 16, found 17"
            ),
            (
                route { $0.requestHeaders.set = [.init(name: "host", value: "a")] },
                "\(inRoute).request_headers_to_add[0].header.key: "
                    + "expected the name of a header that neither frames the message nor belongs to one hop, found \"host\""
            ),
            (
                route { $0.responseHeaders.add = [.init(name: "x-a", value: "a\r\nx-b: c")] },
                "\(inRoute).response_headers_to_add[0].header.value: "
                    + "expected a value without control characters, and without blanks at its ends, found \"a\r\nx-b: c\""
            ),
            (
                route { $0.responseHeaders.remove = [":status"] },
                "\(inRoute).response_headers_to_remove[0]: "
                    + "expected the name of a header that neither frames the message nor belongs to one hop, found \":status\""
            ),
            (
                forward { $0.hashKeys = [.header("")] },
                "\(inRoute).route.hash_policy[0].header.header_name: expected a value, found nothing"
            ),
            (
                forward { $0.mirrors = [RequestMirror(cluster: "")] },
                "\(inRoute).route.request_mirror_policies[0].cluster: expected a value, found nothing"
            ),
            (
                forward { $0.hedging = Hedging(delay: .zero) },
                "\(inRoute).metadata.outrigger.hedge.delay: expected a duration above 0 such as \"1.5s\", found \"0s\""
            ),
            (
                forward { $0.retryPolicy?.backoffLongest = .milliseconds(1) },
                "\(inRoute).route.retry_policy.retry_back_off.max_interval: expected at least base_interval (0.025 seconds), "
                    + "found 0.001 seconds"
            ),
        ] as [(Route, String)])
    func routes(route: Route, expected: String) {
        let host = VirtualHost(name: "h", domains: ["*"], routes: [route])
        let found = errors(.routeConfiguration, RouteConfiguration(name: "t", virtualHosts: [host]).encoded())
        #expect(found == [expected])
    }

    @Test("an unknown key of ours is an error: it would be a setting that is dropped in silence; beside them others may be")
    func unknownKeys() {
        func cluster(_ write: (inout MessageWriter<StructField>) -> Void) -> [UInt8] {
            Cluster(name: "c", discovery: .eds(serviceName: "c")).encoded()
                + message(Cluster.Fields.self) {
                    $0.message(.metadata, MetadataField.self) {
                        $0.message(.filter_metadata, MapEntryField.self) {
                            $0.string(.key, outriggerMetadataKey)
                            $0.message(.value, StructField.self, write)
                        }
                    }
                }
        }
        func policy(_ key: String) -> [UInt8] {
            cluster {
                $0.entry("resilience") {
                    $0.message(.struct_value, StructField.self) { $0.entry(key) { $0.chosenBool(.bool_value, true) } }
                }
            }
        }
        #expect(errors(.cluster, cluster { $0.entry("other") { $0.chosenBool(.bool_value, true) } }) == [])
        #expect(
            errors(.cluster, policy("breaker")) == [
                "\(Self.inPolicy).breaker: expected one of endpoint, service, limiter, queue, found breaker"
            ])
        #expect(errors(.cluster, policy("queue")) == ["\(Self.inPolicy).queue: expected an object, found a bool_value"])
    }

    @Test("a retry budget of another control plane is honoured, and nothing else changes")
    func foreignBudget() throws {
        let bytes =
            Cluster(name: "c", discovery: .eds(serviceName: "c")).encoded()
            + message(Cluster.Fields.self) {
                $0.message(.circuit_breakers, CircuitBreakers.Fields.self) {
                    $0.message(.thresholds, ThresholdsField.self) {
                        $0.message(.retry_budget, RetryBudgetField.self) { $0.wrapped(.min_retry_concurrency, UInt32(7)) }
                    }
                }
            }
        // Both messages have thresholds, of which the first ones count.
        #expect(try read(bytes)?.resilience == nil)
        let own = message(Cluster.Fields.self) {
            $0.string(.name, "c")
            $0.number(.type, 3)
            $0.message(.eds_cluster_config, EDSConfigField.self) { $0.adsSource(.eds_config) }
            $0.message(.circuit_breakers, CircuitBreakers.Fields.self) {
                $0.message(.thresholds, ThresholdsField.self) {
                    $0.message(.retry_budget, RetryBudgetField.self) {
                        $0.message(.budget_percent, PercentField.self) { $0.double(.value, 12.5) }
                        $0.wrapped(.min_retry_concurrency, UInt32(7))
                    }
                }
            }
        }
        #expect(
            try read(own)?.resilience
                == ResiliencePolicy(queue: QueueLimits(capacity: 0), retryBudget: RetryBudgetLimits(percent: 13, minimum: 7)))
    }

    private func read(_ bytes: [UInt8]) throws -> Cluster? {
        if case .cluster(let cluster) = try DecodedResource(.cluster, bytes) { cluster } else { nil }
    }

    @Test("hedging of another control plane begins where a try would have ended")
    func foreignHedging() throws {
        let bytes = Self.forwarding { action in
            action.message(.hedge_policy, HedgePolicyField.self) { $0.bool(.hedge_on_per_try_timeout, true) }
            action.message(
                .retry_policy, RetryPolicy(retryOn: ["5xx"], maxRetries: 2, perTryTimeout: .milliseconds(300)))
        }
        guard case .routeConfiguration(let routes) = try DecodedResource(.routeConfiguration, bytes),
            case .forward(let action) = routes.virtualHosts[0].routes[0].action
        else {
            Issue.record("no route")
            return
        }
        #expect(action.hedging == Hedging(delay: .milliseconds(300), maxAttempts: 2))
        #expect(action.retryPolicy?.perTryTimeout == nil)
    }

    @Test("a filter that is disabled, or not enforced, does nothing; one that Outrigger does not know is refused")
    func filters() throws {
        func route(_ write: (inout MessageWriter<Route.Fields>) -> Void) -> [UInt8] { Self.route(write) }
        func entry(_ message: inout MessageWriter<Route.Fields>, _ type: AnyType, _ bytes: [UInt8]) {
            message.message(.typed_per_filter_config, MapEntryField.self) {
                $0.string(.key, "filter")
                $0.message(.value, AnyField.self) {
                    $0.string(.type_url, type.url)
                    $0.bytes(.value, bytes)
                }
            }
        }
        let unenforced = message(LocalRateLimit.Fields.self) { $0.string(.stat_prefix, "s") }
        guard
            case .routeConfiguration(let routes) = try DecodedResource(
                .routeConfiguration, route { entry(&$0, .localRateLimit, unenforced) })
        else { return }
        #expect(routes.virtualHosts[0].routes[0].rateLimit == nil)
        #expect(
            errors(.routeConfiguration, route { entry(&$0, .router, []) }) == [
                "\(Self.inFilter).type_url: expected LocalRateLimit or HTTPFault, found \(AnyType.router.rawValue)"
            ])
    }

    private static func forwarding(_ write: @escaping (inout MessageWriter<ForwardAction.Fields>) -> Void) -> [UInt8] {
        XDSWireTests.message(RouteConfiguration.Fields.self) {
            $0.string(.name, "t")
            $0.message(.virtual_hosts, VirtualHost.Fields.self) {
                $0.string(.name, "h")
                $0.strings(.domains, ["*"])
                $0.message(.routes, Route.Fields.self) {
                    $0.message(.match, RouteMatch(path: .prefix("/")))
                    $0.message(.route, ForwardAction.Fields.self) {
                        $0.string(.cluster, "c")
                        write(&$0)
                    }
                }
            }
        }
    }

    private static func route(_ write: (inout MessageWriter<Route.Fields>) -> Void) -> [UInt8] {
        XDSWireTests.message(RouteConfiguration.Fields.self) {
            $0.string(.name, "t")
            $0.message(.virtual_hosts, VirtualHost.Fields.self) {
                $0.string(.name, "h")
                $0.strings(.domains, ["*"])
                $0.message(.routes, Route.Fields.self) {
                    $0.message(.match, RouteMatch(path: .prefix("/")))
                    $0.message(.direct_response, DirectReply(status: 200))
                    write(&$0)
                }
            }
        }
    }

    private func errors(_ type: ResourceType, _ bytes: [UInt8]) -> [String] {
        do throws(WireErrors) {
            _ = try DecodedResource(type, bytes)
            return []
        } catch {
            return error.errors.map(\.description)
        }
    }
}
