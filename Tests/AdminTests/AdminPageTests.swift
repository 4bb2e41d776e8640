import Base
import Glibc
import HTTP
import ProxyConfig
import Resilience
import Telemetry
import TestSupport
import Testing

@testable import Proxy

struct AdminPageTests {
    let proxy: AdminFixture

    init() throws {
        proxy = try AdminFixture()
    }

    // MARK: Who may ask what

    @Test(
        "only callers that ask for an address or for localhost get an answer",
        arguments: [
            ("127.0.0.1", true), ("127.0.0.1:9901", true), ("10.1.2.3:9901", true), ("[::1]", true), ("[::1]:9901", true),
            ("localhost", true), ("LocalHost:9901", true), ("", true), ("evil.example", false), ("evil.example:9901", false),
            ("localhost.evil.example", false), ("127.0.0.1.evil.example", false), ("localhost:9901x", false), ("[::1", false),
            ("127.0.0.1:99999", false), ("0x7f000001", false), ("frontend", false),
        ])
    func host(name: String, isServed: Bool) {
        #expect(proxy.ask("/ready", host: name).status == (isServed ? 200 : 403))
    }

    @Test(
        "a page of another site cannot order anything, a page of ours and a tool can",
        arguments: [
            (nil, nil, 200), ("http://localhost:9901", nil, 200), ("http://localhost:9901", "same-origin", 200), (nil, "none", 200),
            ("http://evil.example", nil, 403), ("null", nil, 403), ("https://localhost:9901", nil, 403), (nil, "cross-site", 403),
            (nil, "same-site", 403), ("http://localhost:9901", "cross-site", 403),
        ] as [(String?, String?, Int)])
    func foreignPage(origin: String?, site: String?, status: Int) {
        var request = AdminRequest(method: .post, path: "/drain")
        request.authority = "localhost:9901"
        request.origin = origin
        request.fetchSite = site
        let answer = proxy.ask(request)
        #expect(answer.status == status)
        #expect((answer.action != nil) == (status == 200))
    }

    @Test("pages are looked at by GET, orders are given by POST, and 405 says which", arguments: AdminPage.allCases)
    func methods(page: AdminPage) {
        for method in [Method.get, .head, .post, .put, .delete, .options, .other] {
            let answer = proxy.ask(page.rawValue, method)
            if page.methods.contains(method) {
                #expect(answer.status != 405 && answer.status != 404 && answer.status != 403, "\(method) \(page)")
            } else {
                #expect(answer.status == 405, "\(method) \(page)")
                #expect(answer.allow == page.methods.map { "\($0)".uppercased() }.joined(separator: ", "))
                #expect(answer.action == nil)
            }
        }
        #expect(!page.methods.contains(.get) || proxy.ask(page.rawValue).action == nil, "looking at \(page) changes something")
    }

    @Test("the lists of pages name every page")
    func lists() {
        for target in ["/", "/help", "/nope"] {
            let body = proxy.ask(target).body
            for page in AdminPage.allCases where page != .index { #expect(body.contains(page.rawValue), "\(page) in \(target)") }
        }
        #expect(proxy.ask("/nope").status == 404)
    }

    @Test("a path from the network cannot write lines of its own into the answer")
    func quotedPath() {
        let line = proxy.ask("/a\u{1b}[2J\nb").body.prefix { $0 != "\n" }
        #expect(line == "There is no page \"/a?[2J?b\". Pages:")
    }

    @Test("queries are decoded; what is no pair of digits stands for itself")
    func query() {
        let head = Head()
        head.bytes = Array("/stats?filter=a%2Eb+c&usedonly&x=%zz%4&y=1=2".utf8)
        head.target = 0..<head.bytes.count
        let request = AdminRequest(head)
        #expect(request.path == "/stats")
        #expect(request["filter"] == "a.b c")
        #expect(request.flag("usedonly"))
        #expect(request["x"] == "%zz%4")
        #expect(request["y"] == "1=2")
        #expect(request["z"] == nil)
    }

    // MARK: The process

    @Test("/ready is 200 only while the proxy serves", arguments: [(ProxyState.initializing, 503), (.live, 200), (.draining, 503)])
    func ready(state: ProxyState, status: Int) {
        proxy.state = state
        #expect(proxy.ask("/ready").status == status)
        #expect(proxy.ask("/ready").body == "\(state.rawValue)\n")
    }

    @Test("/server_info tells version, node, configuration and what was refused")
    func serverInfo() throws {
        proxy.rejection = ("bad1", "listener x: \"port\" in use")
        let info = try proxy.ask("/server_info").json()
        #expect(info["state"] == .string("LIVE"))
        #expect(info["uptime_current_epoch"] == .string("1s"))
        #expect(info["node"]?["id"] == .string("mesh/shop/virtualNode/front"))
        let config = info["outrigger"]?["config"]
        #expect(config?["version"] == .string("abc123"))
        #expect(config?["applied_at"] == .string("1970-01-01T00:00:00.500Z"))
        #expect(config?["rejected_total"] == .number("1"))
        #expect(config?["last_rejected"]?["reason"] == .string("listener x: \"port\" in use"))
    }

    @Test("/logging sets the level by POST, and refuses words that are none")
    func logging() {
        #expect(proxy.ask("/logging").body.hasPrefix("level: info\n"))
        #expect(proxy.ask("/logging?level=debug").action == nil)
        #expect(proxy.ask("/logging?level=debug", .post).action == .setLogLevel(.debug))
        #expect(proxy.ask("/logging?level=loud", .post).status == 400)
        #expect(proxy.ask("/logging", .post).status == 400)
    }

    @Test("/drain drains once, /quitquitquit quits")
    func ends() {
        #expect(proxy.ask("/drain", .post).action == .drain)
        #expect(proxy.ask("/drain_listeners", .post).action == .drain)
        #expect(proxy.ask("/quitquitquit", .post).action == .quit)
        proxy.state = .draining
        #expect(proxy.ask("/drain", .post).action == nil)
        #expect(proxy.ask("/drain", .post).status == 200)
    }

    @Test("/memory knows what the kernel and malloc say")
    func memory() throws {
        #expect(proxy.ask("/memory").body.contains("resident"))
        guard case .string(let bytes)? = try proxy.ask("/memory?format=json").json()["total_physical_bytes"] else {
            Issue.record("no total_physical_bytes")
            return
        }
        #expect(try #require(Int(bytes)) > 1 << 20)
    }

    // MARK: The configuration

    @Test("/listeners has Envoy's two forms")
    func listeners() throws {
        #expect(proxy.ask("/listeners").body == "out::127.0.0.1:15001\n")
        guard case .array(let list)? = try proxy.ask("/listeners?format=json").json()["listener_statuses"] else {
            Issue.record("no list")
            return
        }
        #expect(list.first?["name"] == .string("out"))
        #expect(list.first?["local_address"]?["socket_address"]?["port_value"] == .number("15001"))
    }

    @Test("/listeners says why one is closed, and counts it as warming")
    func closedListeners() throws {
        let listener = Listener(name: "tls", address: SocketAddress(.loopbackV4, 15002), direction: .inbound, filterChains: [])
        proxy.closedListeners = [(listener, "a.pem: expected a certificate chain in PEM, found none")]
        let body = proxy.ask("/listeners").body
        #expect(body == "out::127.0.0.1:15001\ntls::127.0.0.1:15002::closed: a.pem: expected a certificate chain in PEM, found none\n")
        guard case .array(let list)? = try proxy.ask("/listeners?format=json").json()["listener_statuses"] else {
            throw TestFailure("no list")
        }
        #expect(list.map { $0["outrigger"]?["closed"] != nil } == [false, true])
        #expect(proxy.ask("/metrics").body.contains("envoy_listener_manager_total_listeners_warming 1\n"))
    }

    @Test("/certs has Envoy's form: names, serial, days; the reason of a refusal; and no key")
    func certs() throws {
        let certificates = try TestCertificates()
        let mesh = try certificates.authority("mesh")
        let cart = try mesh.issue("cart", names: ["URI:spiffe://mesh/cart", "DNS:cart.local", "IP:10.0.0.1"])
        let now = Int64(time(nil))
        proxy.now = Instant(nanoseconds: now * 1_000_000_000)
        proxy.contexts.follow([
            Snapshot(
                node: Node(mesh: "m", role: .virtualNode, name: "n"),
                clusters: [
                    Cluster(
                        name: "cart", discovery: .originalDestination,
                        tls: UpstreamTLS(
                            validation: TLSValidation(trust: .file(mesh.certificate)),
                            certificate: .file(chain: cart.chain, privateKey: cart.key))),
                    Cluster(
                        name: "gone", discovery: .originalDestination,
                        tls: UpstreamTLS(validation: TLSValidation(trust: .file("/gone.pem")))),
                ])
        ])
        let answer = proxy.ask("/certs")
        guard case .array(let list)? = try answer.json()["certificates"], list.count == 2 else { throw TestFailure(answer.body) }
        let (gone, used) = list[0]["outrigger"]?["used_by"] == .array([.string("cluster gone")]) ? (list[0], list[1]) : (list[1], list[0])
        guard case .array(let chain)? = used["cert_chain"], case .array(let authorities)? = used["ca_cert"] else {
            throw TestFailure(answer.body)
        }
        #expect(chain.map { $0["path"] } == [.string(cart.chain)])
        #expect(authorities.map { $0["path"] } == [.string(mesh.certificate)])
        #expect(
            chain[0]["subject_alt_names"]
                == .array([
                    .object(["uri": .string("spiffe://mesh/cart")]), .object(["dns": .string("cart.local")]),
                    .object(["ip_address": .string("10.0.0.1")]),
                ]))
        #expect(chain[0]["days_until_expiration"] == .string("30") || chain[0]["days_until_expiration"] == .string("29"))
        #expect(chain[0]["outrigger"]?["subject"] == .string("CN=cart"))
        guard case .string(let problem)? = gone["outrigger"]?["problem"] else { throw TestFailure(answer.body) }
        #expect(problem.hasPrefix("/gone.pem: expected the certificates that we trust in PEM"))
        #expect(!answer.body.contains(cart.key) && !answer.body.contains("PRIVATE"))
    }

    @Test("/config_dump has the whole snapshot and its endpoints, and names a key's file only")
    func configDump() throws {
        try proxy.eject()
        let dump = try proxy.ask("/config_dump").json()
        #expect(dump["version"] == .string("abc123"))
        for section in ["node", "process", "listeners", "route_configurations", "clusters", "endpoints"] {
            #expect(dump[section] != nil, "\(section)")
        }
        guard case .array(let clusters)? = dump["endpoints"], case .array(let hosts)? = clusters.first?["endpoints"] else {
            Issue.record("no endpoints")
            return
        }
        #expect(hosts.map { $0["ejected"] ?? .null } == [.null, .null, .bool(true), .null])
        #expect(proxy.ask("/config_dump").body.contains("\"private_key\": \"/keys/key.pem\""))
    }

    @Test("/clusters says of each endpoint how it is and what it got, the same in both forms")
    func clusters() throws {
        try proxy.eject()
        for worker in 0..<2 {
            let stats = proxy.registry.host(cluster: AdminFixture.cart, address: AdminFixture.bad, worker: worker)
            stats.rqTotal.add(3)
            stats.rqError.increment()
            stats.cxActive.set(worker)
        }
        let lines = Set(proxy.ask("/clusters").body.split(separator: "\n").map(String.init))
        let name = AdminFixture.cart
        for line in [
            "\(name)::127.0.0.1:9003::health_flags::/failed_outlier_check", "\(name)::127.0.0.1:9001::health_flags::healthy",
            "\(name)::127.0.0.1:9003::rq_total::6", "\(name)::127.0.0.1:9003::rq_error::2", "\(name)::127.0.0.1:9003::cx_active::1",
            "\(name)::127.0.0.1:9001::rq_total::0", "\(name)::127.0.0.1:9003::weight::2", "\(name)::127.0.0.1:9003::zone::a",
            "\(name)::eds_service_name::cart", "plain::127.0.0.1:9101::health_flags::healthy",
        ] { #expect(lines.contains(line), "\(line)") }

        guard case .array(let clusters)? = try proxy.ask("/clusters?format=json").json()["cluster_statuses"],
            case .array(let hosts)? = clusters.first?["host_statuses"], hosts.count == 4, case .array(let stats)? = hosts[2]["stats"]
        else {
            Issue.record("not Envoy's shape")
            return
        }
        #expect(clusters.map { $0["name"] } == [.string(name), .string("plain")])
        #expect(hosts.map { $0["health_status"]?["failed_outlier_check"] ?? .null } == [.null, .null, .bool(true), .null])
        #expect(stats.contains(.object(["type": .string("COUNTER"), "value": .string("6"), "name": .string("rq_total")])))
    }

    @Test("endpoints that fail their health checks say so on /clusters, /outliers and in the metrics, with what was seen")
    func healthChecks() throws {
        let name = AdminFixture.cart
        let cluster = try #require(proxy.snapshot.clusters.first)
        let check = HealthCheck(
            kind: .http(host: "cart", path: "/ping"), interval: .seconds(5), timeout: .seconds(2), healthyThreshold: 2,
            unhealthyThreshold: 3)
        var report = HealthCheckBoard.ClusterReport(check: check)
        report.counts = HealthCheckBoard.Counts(attempts: 9, successes: 5, failures: 4, networkFailures: 1)
        var state = HealthCheckState(HealthCheckState.Rules(check))
        for host in cluster.hosts.hosts.prefix(2) {
            let isBad = host === cluster.hosts.hosts[1]
            let outcome = state.take(isBad ? .unwell : .passed)
            for _ in 0..<(isBad ? 2 : 0) { _ = state.take(.unwell) }
            let seen = isBad ? "status 500" : "status 200"
            cluster.detector.checked(host.health, isBad ? state.take(.unwell) : outcome, seen: seen, now: proxy.now)
            report.hosts[host.address] = HealthCheckBoard.HostReport(
                standing: state.standing, contrary: 0,
                last: .init(result: isBad ? .unwell : .passed, seen: seen, at: proxy.now, elapsed: .milliseconds(12)))
        }
        cluster.detector.beginChecks(of: cluster.hosts.hosts[2].health)
        proxy.checks.clusters[name] = report

        let lines = Set(proxy.ask("/clusters").body.split(separator: "\n").map(String.init))
        for line in [
            "\(name)::127.0.0.1:9001::health_flags::healthy", "\(name)::127.0.0.1:9001::last_health_check::status 200",
            "\(name)::127.0.0.1:9002::health_flags::/failed_active_hc", "\(name)::127.0.0.1:9002::last_health_check::status 500",
            "\(name)::127.0.0.1:9003::health_flags::/failed_active_hc/pending_active_hc", "\(name)::127.0.0.1:9004::health_flags::healthy",
        ] {
            #expect(lines.contains(line), "\(line)")
        }
        let json = proxy.ask("/clusters?format=json").body
        #expect(json.contains("failed_active_health_check") && json.contains("pending_active_hc"))

        let page = proxy.ask("/outliers").body
        for text in [
            "\(name): health checks", "http GET /ping every 5 s, at most 2 s; 3 in a row take out, 2 let in", "2 of 4 endpoints failing",
            "9 begun, 5 passed, 4 failed", "waiting for its first check", "not checked yet", "status 500", "12 ms",
        ] {
            #expect(page.contains(text), "\(text) in\n\(page)")
        }
        let document = try proxy.ask("/outliers?format=json").json()
        guard case .array(let checks)? = document["health_checks"], case .array(let hosts)? = checks.first?["hosts"] else {
            Issue.record("\(document)")
            return
        }
        #expect(hosts.map { $0["state"] } == ["passing", "failing", "waiting for its first check", "not checked yet"].map { .string($0) })
        #expect(hosts[1]["last_check"] == .string("status 500"))

        let metrics = Set(proxy.ask("/metrics").body.split(separator: "\n").map(String.init))
        let label = "{envoy_cluster_name=\"\(name)\"}"
        for line in [
            "envoy_cluster_health_check_attempt\(label) 9", "envoy_cluster_health_check_success\(label) 5",
            "envoy_cluster_health_check_failure\(label) 4", "envoy_cluster_health_check_network_failure\(label) 1",
            "envoy_cluster_health_check_healthy\(label) 2", "envoy_cluster_membership_healthy\(label) 2",
            "outrigger_host_failing_checks{cluster=\"\(name)\",address=\"127.0.0.1:9002\"} 1",
            "outrigger_host_check_seconds{cluster=\"\(name)\",address=\"127.0.0.1:9001\"} 0.012",
        ] {
            #expect(metrics.contains(line), "\(line)")
        }
    }

    @Test("/outliers says when an ejected endpoint comes back: at the first sweep after its time")
    func outliers() throws {
        #expect(proxy.ask("/outliers").body.contains("No events since the start."))
        try proxy.eject()
        let text = proxy.ask("/outliers").body
        // Ejected at 1 s for 10 to 11 s; sweeps are at 30 s, 60 s, ...
        let row = try #require(text.split(separator: "\n").first { $0.contains("127.0.0.1:9003") })
        #expect(row.contains("ejected, back in 29 s"))
        #expect(row.hasSuffix("500 500"))
        #expect(text.contains("1 of 4 endpoints ejected"))
        #expect(text.contains("1970-01-01T00:00:01.000Z  EJECT"))
        #expect(text.contains("Without outlier detection: plain"))

        let json = try proxy.ask("/outliers?format=json").json()
        guard case .array(let clusters)? = json["clusters"], case .array(let hosts)? = clusters.first?["hosts"],
            case .array(let events)? = json["events"]
        else {
            Issue.record("not the shape")
            return
        }
        #expect(clusters.count == 1)
        #expect(hosts.map { $0["ejected"] } == [.bool(false), .bool(false), .bool(true), .bool(false)])
        #expect(hosts[2]["returns_at"] == .string("1970-01-01T00:00:30.000Z"))
        #expect(events.first?["action"] == .string("EJECT"))
    }

    // MARK: Counters

    @Test("/stats filters by pattern, leaves out zeros on request, and refuses what it does not know")
    func stats() throws {
        try proxy.eject()
        let name = "cluster.\(AdminFixture.cart).outlier_detection.ejections_active"
        #expect(proxy.ask("/stats?filter=ejections_active").body == "\(name): 1\n")
        #expect(proxy.ask("/stats?filter=%5Ecluster.*_active$&usedonly").body == "\(name): 1\n")
        #expect(!proxy.ask("/stats?usedonly").body.contains("ejections_overflow: 0"))
        #expect(try proxy.ask("/stats?format=json&filter=ejections_active").json()["stats"] != nil)
        #expect(proxy.ask("/stats?filter=(").status == 400)
        #expect(proxy.ask("/stats?format=xml").status == 400)
        #expect(proxy.ask("/stats?format=prometheus").type == proxy.ask("/metrics").type)
    }

    @Test("/metrics tells of ejections, endpoints, the process and the configuration")
    func metrics() throws {
        try proxy.eject()
        let lines = Set(proxy.ask("/metrics").body.split(separator: "\n").map(String.init))
        let cluster = "{envoy_cluster_name=\"\(AdminFixture.cart)\"}"
        for line in [
            "envoy_cluster_outlier_detection_ejections_active\(cluster) 1",
            "envoy_cluster_outlier_detection_ejections_enforced_total\(cluster) 1",
            "envoy_cluster_outlier_detection_ejections_overflow\(cluster) 0",
            "envoy_cluster_membership_total\(cluster) 4", "envoy_cluster_membership_healthy\(cluster) 3",
            "outrigger_host_ejected{cluster=\"\(AdminFixture.cart)\",address=\"127.0.0.1:9003\"} 1",
            "outrigger_host_ejected{cluster=\"plain\",address=\"127.0.0.1:9101\"} 0",
            "outrigger_panic_active{cluster=\"plain\"} 0", "envoy_server_live 1", "envoy_server_state 0", "envoy_server_concurrency 2",
            "outrigger_config_version_info{version=\"abc123\"} 1", "outrigger_config_age_seconds 0.5",
            "outrigger_config_rejected_total{kind=\"snapshot\"} 0", "envoy_listener_manager_total_listeners_active 1",
        ] { #expect(lines.contains(line), "\(line)") }
        let native = proxy.ask("/metrics?profile=native").body
        #expect(native.contains("outrigger_host_ejected") && !native.contains("envoy_"))
        #expect(proxy.ask("/metrics?profile=all").status == 400)
    }

    @Test("every name of Envoy's outlier detection has a metric")
    func outlierMetrics() {
        for stat in OutlierDetector.Statistics(active: 0, detected: 0, enforced: 0, overflow: 0).named {
            #expect(ScrapeMetric(clusterStat: "outlier_detection.\(stat.name)") != nil, "\(stat.name)")
        }
    }
}

@Suite struct AdminTextTests {
    @Test(
        "times and sizes are said in two units at most",
        arguments: [
            (0, "0 ms"), (999_999_999, "999 ms"), (1_000_000_000, "1 s"), (12_340_000_000, "12.3 s"), (60_000_000_000, "1 min"),
            (312_000_000_000, "5 min 12 s"), (12_000_000_000_000, "3 h 20 min"), (90_000_000_000_000, "1 d 1 h"),
        ] as [(Int64, String)])
    func span(count: Int64, text: String) {
        #expect(Words.span(Nanoseconds(count: count)) == text)
    }

    @Test("sizes", arguments: [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (5 << 30, "5 GiB")])
    func bytes(count: Int, text: String) {
        #expect(Words.bytes(count) == text)
    }

    @Test("columns are as wide as their widest cell, and no line ends with spaces")
    func table() {
        var table = TextTable([.left, .right, .left], indent: "  ")
        table.add(["NAME", "N", "X"])
        table.add(["a", "1000", ""])
        #expect(table.text == "  NAME     N  X\n  a     1000\n")
    }
}
