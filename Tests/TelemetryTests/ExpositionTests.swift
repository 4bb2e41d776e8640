import Base
import HTTP
import ProxyConfig
import TestSupport
import Testing

@testable import Telemetry

/// One block of every kind on two workers, every provider's metric, and a node.
private final class Everything {
    let registry = StatsRegistry(workerCount: 2, protocolErrorReasons: ["bad_start_line", "bad_field"])
    var held: [AnyObject] = []

    init() {
        registry.setNode(Node(mesh: "shop", role: .virtualNode, name: "front"))
        for worker in 0..<2 {
            let listener = registry.listener(SocketAddress(.v4(0x0a00_0001), 15000), worker: worker)
            listener.downstreamCxTotal.add(3)
            listener.downstreamCxActive.set(worker == 0 ? 3 : -1)
            listener.downstreamCxRxBytesTotal.add(100)
            listener.downstreamCxTxBytesTotal.add(50)
            let http = registry.http(statPrefix: "ingress", worker: worker)
            http.downstreamRqTotal.add(10)
            http.downstreamRq.record(200)
            http.downstreamRq.record(404)
            http.downstreamCxProtocolErrorReasons.increment(1)
            http.downstreamCxProtocolErrorReasons.increment(9)
            http.downstreamRqTime.record(nanoseconds: 20_000_000)
            let tcp = registry.tcp(statPrefix: "a\"b\\c\nd", worker: worker)
            tcp.downstreamCxTotal.increment()
            let cluster = registry.cluster("cds_egress_shop_cart_v1_http_9080", worker: worker)
            cluster.upstreamRqTotal.add(5)
            cluster.upstreamCxRxBytesTotal.add(7)
            cluster.upstreamCxProtocolErrorReasons.increment(0)
            cluster.upstreamRq.record(503)
            cluster.upstreamRqTime.record(nanoseconds: Int64(worker + 1) * 100_000_000)
            let host = registry.host(
                cluster: "cds_egress_shop_cart_v1_http_9080", address: SocketAddress(.loopbackV4, 9080), worker: worker)
            host.rqTotal.increment()
            let route = registry.route(
                RouteLabels(side: .outbound, virtualHost: "cart.shop", route: "cart", target: "cds_egress_shop_cart_v1_http_9080"),
                worker: worker)
            route.active.increment()
            route.record(status: 200, flags: [], nanoseconds: 3_000_000)
            route.record(status: 503, flags: [.upstreamConnectionFailure, .retryLimitExceeded], nanoseconds: 30_000_000)
            route.record(status: 0, flags: .downstreamConnectionTermination, nanoseconds: 1)
            let own = registry.worker(worker)
            own.loopTurns.add(1000)
            held += [listener, http, tcp, cluster, host, route, own] as [AnyObject]
        }
        registry.addProvider { samples in
            for metric in ScrapeMetric.allCases {
                samples.add(metric, 1.5, labels: metric.description.labels.map { "some \($0)" })
            }
        }
        registry.addProvider { $0.add(.hostEjected, 1, labels: ["c", "10.0.0.1:80"]) }
        registry.addProvider { $0.add(.hostEjected, 1, labels: ["c", "10.0.0.1:80"]) }
    }

    func prometheus(_ profile: MetricProfile = .all) -> String {
        var buffer = ByteBuffer()
        PrometheusText.encode(registry.scrape(now: Instant(nanoseconds: 0)), profile: profile, into: &buffer)
        return unsafe String(decoding: buffer.unsafeBytes, as: UTF8.self)
    }

    func stats(_ format: StatsText.Format = .text, isUsedOnly: Bool = false, matches: ((String) -> Bool)? = nil) -> String {
        var buffer = ByteBuffer()
        StatsText.encode(
            registry.scrape(now: Instant(nanoseconds: 0)), format: format, isUsedOnly: isUsedOnly, matches: matches, into: &buffer)
        return unsafe String(decoding: buffer.unsafeBytes, as: UTF8.self)
    }
}

@Suite struct ExpositionTests {
    private let all = Everything()

    @Test("the whole exposition keeps every rule of the format, also in an empty registry")
    func wellFormed() throws {
        let text = try Exposition(all.prometheus())
        #expect(text.families.count > 150)
        let empty = StatsRegistry(workerCount: 1)
        var buffer = ByteBuffer()
        PrometheusText.encode(empty.scrape(now: Instant(nanoseconds: 0)), into: &buffer)
        let isEmpty = buffer.isEmpty
        #expect(isEmpty)
    }

    @Test("workers are added up, with the names and labels that dashboards ask for")
    func values() throws {
        let text = try Exposition(all.prometheus())
        let cluster = ["envoy_cluster_name": "cds_egress_shop_cart_v1_http_9080"]
        let prefix = ["envoy_http_conn_manager_prefix": "ingress"]
        func with(_ labels: [String: String], _ more: [String: String]) -> [String: String] { labels.merging(more) { $1 } }
        #expect(text["envoy_cluster_upstream_rq_total", cluster] == 10)
        #expect(text["envoy_cluster_upstream_rq_completed", cluster] == 2)
        #expect(text["envoy_cluster_upstream_rq_xx", with(cluster, ["envoy_response_code_class": "5"])] == 2)
        #expect(text["envoy_cluster_upstream_rq_xx", with(cluster, ["envoy_response_code_class": "2"])] == 0)
        #expect(text["envoy_cluster_upstream_rq", with(cluster, ["envoy_response_code": "503"])] == 2)
        #expect(text["envoy_cluster_upstream_rq_time_count", cluster] == 2)
        #expect(text["envoy_cluster_upstream_rq_time_sum", cluster] == 300)
        #expect(text["envoy_cluster_upstream_rq_time_bucket", with(cluster, ["le": "250"])] == 2)
        #expect(text["envoy_cluster_upstream_rq_time_bucket", with(cluster, ["le": "50"])] == 0)
        #expect(text["envoy_cluster_outlier_detection_ejections_active", ["envoy_cluster_name": "some envoy_cluster_name"]] == 1.5)
        #expect(text["envoy_http_downstream_rq_total", prefix] == 20)
        #expect(text["envoy_http_downstream_rq_xx", with(prefix, ["envoy_response_code_class": "4"])] == 2)
        #expect(text["envoy_http_downstream_cx_protocol_error_by_reason", with(prefix, ["reason": "bad_field"])] == 2)
        #expect(text["envoy_http_downstream_cx_protocol_error_by_reason", with(prefix, ["reason": "reason_9"])] == 2)
        #expect(text["envoy_listener_downstream_cx_active", ["envoy_listener_address": "10.0.0.1_15000"]] == 2)
        #expect(text["envoy_tcp_downstream_cx_total", ["envoy_tcp_prefix": "a\"b\\c\nd"]] == 2)
        #expect(text["outrigger_host_rq_total", ["cluster": cluster["envoy_cluster_name"] ?? "", "address": "127.0.0.1:9080"]] == 2)
        #expect(text["outrigger_worker_loop_turns_total", ["worker": "1"]] == 1000)
        // Two providers of the same series add up.
        #expect(text["outrigger_host_ejected", ["cluster": "c", "address": "10.0.0.1:80"]] == 2)
    }

    @Test("requests are counted by route, target, class and flag, with a histogram for each class")
    func requests() throws {
        let text = try Exposition(all.prometheus())
        let route = ["side": "outbound", "virtual_host": "cart.shop", "route": "cart", "target": "cds_egress_shop_cart_v1_http_9080"]
        func with(_ more: [String: String]) -> [String: String] { route.merging(more) { $1 } }
        #expect(text["outrigger_requests_total", with(["class": "2xx", "flag": "-"])] == 2)
        #expect(text["outrigger_requests_total", with(["class": "5xx", "flag": "UF"])] == 2)
        #expect(text["outrigger_requests_total", with(["class": "none", "flag": "DC"])] == 2)
        #expect(text["outrigger_requests_in_flight", route] == 2)
        #expect(text["outrigger_request_duration_seconds_count", with(["class": "2xx"])] == 2)
        #expect(text["outrigger_request_duration_seconds_bucket", with(["class": "2xx", "le": "0.001"])] == 0)
        #expect(text["outrigger_request_duration_seconds_bucket", with(["class": "2xx", "le": "0.005"])] == 2)
        #expect(text["outrigger_request_duration_seconds_sum", with(["class": "5xx"])] == 0.06)
    }

    @Test("App Mesh's metrics carry mesh, node and target")
    func appMesh() throws {
        let text = try Exposition(all.prometheus())
        let proxy = ["Mesh": "shop", "VirtualNode": "front"]
        let target = proxy.merging(["TargetVirtualService": "cart.shop", "TargetVirtualNode": "cart_v1"]) { $1 }
        #expect(text["envoy_appmesh_ActiveConnectionCount", proxy] == 2)
        #expect(text["envoy_appmesh_NewConnectionCount", proxy] == 6)
        #expect(text["envoy_appmesh_ProcessedBytes", proxy] == 300)
        #expect(text["envoy_appmesh_RequestCount", proxy] == 20)
        #expect(text["envoy_appmesh_GrpcRequestCount", proxy] == 0)
        #expect(text["envoy_appmesh_TargetProcessedBytes", proxy.merging(["TargetVirtualNode": "cart_v1"]) { $1 }] == 14)
        #expect(text["envoy_appmesh_HTTPCode_Target_2XX_Count", target] == 2)
        #expect(text["envoy_appmesh_HTTPCode_Target_5XX_Count", target] == 2)
        #expect(text["envoy_appmesh_RequestCountPerTarget", target] == 6)
        #expect(text["envoy_appmesh_TargetResponseTime_count", target] == 6)
        #expect(text["envoy_appmesh_TargetResponseTime_bucket", target.merging(["le": "5"]) { $1 }] == 4)
    }

    @Test(
        "the target node is read from App Mesh's cluster names",
        arguments: [
            ("cds_egress_shop_cart_http_80", "cart"), ("cds_egress_shop_cart_v1_grpc_80", "cart_v1"),
            ("cds_ingress_shop_cart_http_80", nil),
            ("cds_egress_other_cart_http_80", nil), ("cds_egress_shop_cart", nil), ("", nil),
        ] as [(String, String?)])
    func targetNode(cluster: String, node: String?) {
        #expect(AppMeshMetrics.virtualNode(ofCluster: cluster, mesh: "shop") == node)
    }

    @Test("a profile shows its families and no others", arguments: [.native, .envoy, .appMesh] as [MetricProfile])
    func profiles(profile: MetricProfile) throws {
        func home(_ name: String) -> MetricProfile {
            name.hasPrefix("outrigger_") ? .native : name.hasPrefix("envoy_appmesh_") ? .appMesh : .envoy
        }
        let whole = try Exposition(all.prometheus())
        let part = try Exposition(all.prometheus(profile))
        #expect(part.order == whole.order.filter { home($0) == profile })
        #expect(!part.order.isEmpty)
    }

    @Test("what did not fit the label budget is told")
    func overflow() throws {
        let registry = StatsRegistry(workerCount: 1)
        let held = (0...StatsRegistry.labelSetLimit).map { registry.tcp(statPrefix: "\($0)", worker: 0) }
        held.last?.downstreamCxTotal.add(4)
        var buffer = ByteBuffer()
        PrometheusText.encode(registry.scrape(now: Instant(nanoseconds: 0)), into: &buffer)
        let text = try Exposition(unsafe String(decoding: buffer.unsafeBytes, as: UTF8.self))
        #expect(text["outrigger_label_overflow_total", ["kind": "tcp"]] == 1)
        #expect(text["envoy_tcp_downstream_cx_total", ["envoy_tcp_prefix": "other"]] == 4)
    }

    @Test("/stats has Envoy's names, sorted, one a line")
    func statsText() {
        let lines = all.stats().split(separator: "\n").map(String.init)
        #expect(lines.map { $0.prefix { $0 != ":" } } == lines.map { $0.prefix { $0 != ":" } }.sorted())
        for expected in [
            "cluster.cds_egress_shop_cart_v1_http_9080.upstream_rq_total: 10",
            "cluster.cds_egress_shop_cart_v1_http_9080.upstream_rq_503: 2",
            "cluster.cds_egress_shop_cart_v1_http_9080.upstream_rq_5xx: 2",
            "cluster.cds_egress_shop_cart_v1_http_9080.upstream_rq_completed: 2",
            "cluster.some envoy_cluster_name.outlier_detection.ejections_active: 1.5", "http.ingress.downstream_rq_2xx: 2",
            "http.ingress.downstream_cx_protocol_error_by_reason.bad_field: 2", "listener.10.0.0.1_15000.downstream_cx_total: 6",
            "server.live: 1.5", "server.worker_0.loop_turns_total: 1000", "server.worker_0.loop_turn_ms: No recorded values",
            "route.outbound.cart.shop.cart.cds_egress_shop_cart_v1_http_9080.requests_total.5xx.UF: 2",
            "cluster.c.host.10.0.0.1:80.ejected: 2",
        ] {
            #expect(lines.contains(expected))
        }
        let time = lines.first { $0.hasPrefix("cluster.cds_egress_shop_cart_v1_http_9080.upstream_rq_time: ") }
        #expect(time?.contains(" max=200") == true)
        #expect(time?.contains("p50=") == true)
    }

    @Test("/stats shows what the filter and usedonly leave")
    func statsFilters() {
        #expect(all.stats { $0.hasSuffix(".upstream_rq_total") } == "cluster.cds_egress_shop_cart_v1_http_9080.upstream_rq_total: 10\n")
        let used = all.stats(isUsedOnly: true).split(separator: "\n")
        #expect(!used.isEmpty)
        #expect(used.allSatisfy { !$0.hasSuffix(": 0") && !$0.hasSuffix("No recorded values") })
        #expect(used.count < all.stats().split(separator: "\n").count)
    }

    @Test("/stats?format=json is JSON with the same names")
    func statsJSON() throws {
        guard case .array(let stats)? = try JSON(all.stats(.json).utf8)["stats"] else { throw JSON.Malformed(offset: 0) }
        #expect(stats.count == all.stats().split(separator: "\n").count)
        #expect(stats.contains(.object(["name": .string("http.ingress.downstream_rq_total"), "value": .number("20")])))
        let time = stats.first { $0["name"] == .string("http.ingress.downstream_rq_time") }
        #expect(time?["count"] == .number("2"))
        #expect(time?["max"] == .number("20"))
    }

    @Test("docs/metrics.md has every family that is exported, with its type, and no other")
    func documented() throws {
        let text = try Exposition(all.prometheus())
        let documented = try Documentation.rows("metrics.md")
        for name in text.order { #expect(documented[name] == text.families[name]?.type, "\(name)") }
        for name in documented.keys { #expect(text.families[name] != nil, "\(name)") }
    }
}
