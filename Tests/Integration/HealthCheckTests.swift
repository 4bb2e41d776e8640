import Base
import Foundation
import ProxyConfig
import Synchronization
import TestSupport
import Testing

/// Active health checks by the built proxy: who is asked, how, and what follows from the answers.
@Suite struct HealthCheckTests {
    private static let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    private let certificates = MeshCertificates.shared

    /// A check every 100 ms or so, with the thresholds of most users.
    private static func check(
        _ kind: HealthCheck.Kind, interval: Duration = .milliseconds(100), timeout: Duration = .seconds(20), port: UInt16? = nil
    ) -> HealthCheck {
        HealthCheck(
            kind: kind, interval: interval, timeout: timeout, healthyThreshold: 2, unhealthyThreshold: 2, port: port.map { Port($0) })
    }

    private static let http = HealthCheck.Kind.http(host: "colors.lab:8080", path: "/ping?deep=1")

    /// An endpoint whose health can be set, and which remembers its checks.
    private final class Endpoint: Sendable {
        private final class State: Sendable {
            let status: Mutex<Int>
            let probes = Mutex<[HTTPMessage]>([])

            init(status: Int) {
                self.status = Mutex(status)
            }
        }

        private let state: State
        let origin: Origin

        /// - Parameter tls: nil = plaintext.
        init(_ name: String, status: Int = 200, port: UInt16 = 0, tls: TLSSettings? = nil) throws {
            let state = State(status: status)
            let answer = { @Sendable (request: HTTPMessage) -> String in
                guard request.value("user-agent") == "outrigger-health-check" else { return ok(name) }
                state.probes.withLock { $0.append(request) }
                return "HTTP/1.1 \(state.status.withLock { $0 }) Whatever\r\nContent-Length: 5\r\n\r\nhello"
            }
            self.state = state
            origin =
                if let tls {
                    try Origin.https(tls, port: port) { request, _ in answer(request) }
                } else {
                    try Origin.http(port: port, records: false) { Array(answer($0).utf8) }
                }
        }

        var port: UInt16 { origin.port }
        var probes: [HTTPMessage] { state.probes.withLock { $0 } }

        func set(_ status: Int) {
            state.status.withLock { $0 = status }
        }
    }

    /// What the proxy says of an endpoint's health.
    private func flags(_ proxy: Proxy, _ port: UInt16) throws -> String {
        let prefix = "origin::127.0.0.1:\(port)::health_flags::"
        let line = try proxy.adminText("/clusters").split(separator: "\n").first { $0.hasPrefix(prefix) }
        return String(line?.dropFirst(prefix.count) ?? "no line")
    }

    private func wait(_ proxy: Proxy, _ port: UInt16, _ expected: String) throws {
        try eventually("the endpoint is \(expected):\n\((try? proxy.adminText("/outliers")) ?? "")") { try flags(proxy, port) == expected }
    }

    private func waitForProbes(_ endpoint: Endpoint, _ count: Int) throws {
        try eventually("\(count) probes came") { endpoint.probes.count >= count }
    }

    /// Who answers so many requests.
    private func answers(_ proxy: Proxy, _ count: Int = 20) throws -> Set<String> {
        Set(try (0..<count).map { _ in try proxy.exchange(Self.get).bodyText })
    }

    @Test("an endpoint whose health path turns 500 gets no requests after the threshold, and gets them again when it is well")
    func http() throws {
        let (a, b, c) = (try Endpoint("a"), try Endpoint("b"), try Endpoint("c"))
        try withProxy({ port, admin in
            Config.http(
                listen: port, to: [a.port, b.port, c.port], admin: admin,
                cluster: { $0.healthChecks = [Self.check(Self.http)] })
        }) { (proxy) throws in
            for endpoint in [a, b, c] { try waitForProbes(endpoint, 2) }
            #expect(try answers(proxy) == ["a", "b", "c"])
            let probe = try #require(a.probes.first)
            #expect(probe.startLine == "GET /ping?deep=1 HTTP/1.1" && probe.value("host") == "colors.lab:8080")

            b.set(500)
            try wait(proxy, b.port, "/failed_active_hc")
            #expect(try answers(proxy) == ["a", "c"])
            #expect(try proxy.stat(#"envoy_cluster_membership_healthy{envoy_cluster_name="origin"}"#) == 2)
            #expect(try proxy.stat(#"envoy_cluster_health_check_healthy{envoy_cluster_name="origin"}"#) == 2)
            #expect(try proxy.stat(#"envoy_cluster_health_check_failure{envoy_cluster_name="origin"}"#) >= 2)
            #expect(try proxy.adminText("/clusters").contains("origin::127.0.0.1:\(b.port)::last_health_check::status 500"))
            try proxy.waitForLog("HEALTH_CHECK_FAILED 127.0.0.1:\(b.port) of origin: unhealthy_threshold (status 500)")

            b.set(200)
            try wait(proxy, b.port, "healthy")
            #expect(try answers(proxy) == ["a", "b", "c"])
            try proxy.waitForLog("HEALTH_CHECK_PASSED 127.0.0.1:\(b.port) of origin: healthy_threshold (status 200)")
        }
    }

    @Test("one process checks an endpoint once, however many workers it has, and over one connection")
    func once() throws {
        let endpoint = try Endpoint("a")
        try withProxy({ port, admin in
            Config.http(
                listen: port, to: [endpoint.port], admin: admin, process: { $0.workers = 4 },
                cluster: { $0.healthChecks = [Self.check(Self.http)] })
        }) { (proxy) throws in
            try waitForProbes(endpoint, 20)
            // What the proxy counts is what came, but for one that is on its way: no worker asks on its own.
            let before = endpoint.probes.count
            let counted = try proxy.stat(#"envoy_cluster_health_check_attempt{envoy_cluster_name="origin"}"#)
            let after = endpoint.probes.count
            #expect(counted >= before && counted <= after + 1, "\(before) \(counted) \(after)")
        }
        #expect(endpoint.origin.connections.count == 1)
    }

    @Test("an endpoint that closes each connection, or answers without keeping it, is checked all the same")
    func closing() throws {
        let answers = [
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.0 200 OK\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n" + ok(),
        ]
        for answer in answers {
            let probes = Counter()
            let origin = try Origin(records: false) { connection in
                guard try connection.readRequest() != nil else { return }
                probes.add()
                try connection.send(answer)
            }
            try withProxy({ port, admin in
                Config.http(
                    listen: port, to: [origin.port], admin: admin, cluster: { $0.healthChecks = [Self.check(Self.http)] })
            }) { (proxy) throws in
                try eventually("it was checked: \(answer)") { probes.value > 5 }
                #expect(try proxy.stat(#"envoy_cluster_health_check_failure{envoy_cluster_name="origin"}"#) == 0, "\(answer)")
                #expect(try flags(proxy, origin.port) == "healthy")
            }
        }
    }

    @Test("what is no 200 in time is a failure, and the page says which")
    func failures() throws {
        let rows: [(script: Origin.Script, seen: String)] = [
            ({ try $0.send("HTTP/1.1 204 No Content\r\n\r\n") }, "status 204"),
            ({ try $0.send("nonsense, and a lot of it\r\n\r\n") }, "malformed answer: http1.invalid_status_line"),
            ({ _ in }, "closed before it answered"),
            ({ try $0.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf") }, "closed within its answer"),
            ({ $0.stall() }, "no answer within 300 ms"),
            (
                {
                    try $0.send("HTTP/1.1 200 OK\r\n"); $0.stall()
                }, "no answer within 300 ms"
            ),
        ]
        let well = try Endpoint("well")
        for (script, seen) in rows {
            let origin = try Origin(records: false) { connection in
                _ = try connection.readRequest()
                try script(connection)
            }
            try withProxy({ port, admin in
                Config.http(
                    listen: port, to: [origin.port, well.port], admin: admin,
                    cluster: { $0.healthChecks = [Self.check(Self.http, timeout: .milliseconds(300))] })
            }) { (proxy) throws in
                try wait(proxy, origin.port, "/failed_active_hc")
                let line = "origin::127.0.0.1:\(origin.port)::last_health_check::\(seen)"
                try eventually("\(line): \((try? proxy.adminText("/clusters")) ?? "")") { try proxy.adminText("/clusters").contains(line) }
            }
        }
    }

    @Test("tcp: a port that opens is well, one that refuses is not, and comes back when it opens")
    func tcp() throws {
        let well = try Endpoint("well")
        let port = try Ports.free()
        try withProxy({ listen, admin in
            Config.http(
                listen: listen, to: [well.port, port], admin: admin, cluster: { $0.healthChecks = [Self.check(.tcp)] })
        }) { (proxy) throws in
            try wait(proxy, port, "/failed_active_hc")
            #expect(try proxy.adminText("/clusters").contains("127.0.0.1:\(port)::last_health_check::connection refused"))
            #expect(try proxy.stat(#"envoy_cluster_health_check_network_failure{envoy_cluster_name="origin"}"#) >= 1)
            #expect(try answers(proxy) == ["well"])
            let back = try Endpoint("back", port: port)
            try wait(proxy, port, "healthy")
            #expect(try answers(proxy) == ["well", "back"])
            withExtendedLifetime(back) {}
        }
        #expect(well.probes.isEmpty)
    }

    @Test("the check may go to another port than requests")
    func otherPort() throws {
        let (serving, health) = (try Endpoint("serving"), try Endpoint("health"))
        let other = try Endpoint("other")
        try withProxy({ port, admin in
            Config.http(
                listen: port, to: [serving.port, other.port], admin: admin,
                cluster: { $0.healthChecks = [Self.check(Self.http, port: health.port)] })
        }) { (proxy) throws in
            try waitForProbes(health, 4)
            health.set(503)
            try wait(proxy, serving.port, "/failed_active_hc")
            try wait(proxy, other.port, "/failed_active_hc")
            // All of them: health is ignored then.
            #expect(try answers(proxy) == ["serving", "other"])
        }
        #expect(serving.probes.isEmpty && other.probes.isEmpty)
    }

    @Test("endpoints that are called with TLS are checked with TLS: verified, with name and certificate; wrong ones are out")
    func tls() throws {
        let good = try Endpoint("good", tls: certificates.endpoint(asks: true))
        let stranger = try Endpoint("stranger", tls: certificates.endpoint(certificates.strangerServer))
        let plain = try Origin(records: false) { connection in
            _ = try connection.receive()
            try connection.send("HTTP/1.1 400 Bad Request\r\n\r\n")
        }
        let tls = certificates.upstream(
            names: [MeshCertificates.serverURI], pair: certificates.client, sni: MeshCertificates.serverName)
        for kind in [Self.http, .tcp] {
            try withProxy({ port, admin in
                Config.http(
                    listen: port, to: [good.port, stranger.port, plain.port], admin: admin,
                    cluster: {
                        $0.healthChecks = [Self.check(kind)]
                        $0.panicThresholdPercent = 0
                    }
                ).calling(tls)
            }) { (proxy) throws in
                try wait(proxy, stranger.port, "/failed_active_hc")
                try wait(proxy, plain.port, "/failed_active_hc")
                #expect(try answers(proxy) == ["good"])
                let page = try proxy.adminText("/outliers")
                #expect(page.contains("certificate") && page.contains("TLS: "), "\(page)")
                #expect(try flags(proxy, good.port) == "healthy")
            }
        }
        #expect(good.probes.count > 0 && stranger.probes.isEmpty)
    }

    @Test("where TLS is not enforced, an endpoint without it is checked in plaintext")
    func plaintextAllowed() throws {
        let probes = Counter()
        let plain = try Origin(records: false) { connection in
            let first = try connection.receive()
            guard first.first != 0x16 else { return try connection.send("HTTP/1.1 400 Bad Request\r\n\r\n") }
            connection.unread(first)
            while let request = try connection.readRequest(within: .seconds(600)) {
                if request.value("user-agent") == "outrigger-health-check" { probes.add() }
                try connection.send(ok())
            }
        }
        try withProxy({ port, admin in
            Config.http(
                listen: port, to: [plain.port], admin: admin,
                cluster: { $0.healthChecks = [Self.check(Self.http)] }
            ).calling(certificates.upstream(isEnforced: false))
        }) { (proxy) throws in
            try eventually("checks came") { probes.value > 3 }
            #expect(try proxy.stat(#"envoy_cluster_health_check_failure{envoy_cluster_name="origin"}"#) == 0)
        }
    }

    @Test("http2: checks share one connection; HTTP/1.1 behind the port is not well")
    func http2() throws {
        let folder = try TemporaryFolder()
        try folder.replace("ping", with: Array("pong".utf8))
        let (server, port) = try Servers.nghttpd(folder, ["-v"])
        defer { server.end() }
        let old = try Endpoint("old")
        try withProxy({ listen, admin in
            Config.http(
                listen: listen, to: [port, old.port], admin: admin,
                cluster: {
                    $0.upstreamProtocol = .http2
                    $0.healthChecks = [Self.check(.http2(host: "colors.lab", path: "/ping"))]
                })
        }) { (proxy) throws in
            try wait(proxy, old.port, "/failed_active_hc")
            try eventually("checks came: \(server.output)") {
                server.output.components(separatedBy: ":path: /ping").count > 5
            }
            #expect(try flags(proxy, port) == "healthy")
            #expect(server.output.contains("user-agent: outrigger-health-check") && server.output.contains(":authority: colors.lab"))
            // The check of its readiness, and ours.
            let connections = Set(server.output.matches(of: /\[id=(\d+)\]/).map { String($0.1) })
            #expect(connections.count <= 2, "\(connections)")
            try FileManager.default.removeItem(atPath: folder.file("ping"))
            try wait(proxy, port, "/failed_active_hc")
            #expect(try proxy.adminText("/outliers").contains("status 404"))
        }
    }

    @Test("a passing check brings an ejected endpoint back before its time")
    func unejects() throws {
        let good = try Endpoint("good")
        let (broken, mended) = (Counter(), Counter())
        let failing = try Origin.http(records: false) { request in
            if request.value("user-agent") == "outrigger-health-check" { return Array(ok().utf8) }
            guard mended.value == 0 else { return Array(ok("failing").utf8) }
            broken.add()
            return Array("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".utf8)
        }
        try withProxy({ port, admin in
            Config.http(
                listen: port, to: [good.port, failing.port], admin: admin,
                cluster: {
                    $0.outlierDetection = OutlierDetection(
                        consecutive5xx: 3, interval: .seconds(3600), baseEjectionTime: .seconds(3600), maxEjectionTime: .seconds(3600),
                        maxEjectionPercent: 100)
                    $0.healthChecks = [Self.check(Self.http, interval: .milliseconds(500))]
                })
        }) { (proxy) throws in
            // As Envoy has it, an endpoint whose checks pass while its traffic fails goes out and in.
            try eventually("it is ejected, and back") {
                _ = try proxy.exchange(Self.get)
                return proxy.log.contains("UNEJECT 127.0.0.1:\(failing.port) of origin: check_passed")
            }
            mended.add()
            try wait(proxy, failing.port, "healthy")
            #expect(try answers(proxy) == ["good", "failing"])
        }
        #expect(broken.value >= 3)
    }

    @Test("a new configuration keeps what is known, and what is new is checked; without checks everybody is called again")
    func reconfiguration() throws {
        let (a, b, c) = (try Endpoint("a"), try Endpoint("b", status: 500), try Endpoint("c", status: 500))
        func snapshot(_ port: UInt16, _ admin: UInt16, to ports: [UInt16], _ check: HealthCheck?) -> Snapshot {
            Config.http(
                listen: port, to: ports, admin: admin,
                cluster: {
                    $0.healthChecks = check.map { [$0] } ?? []
                    $0.panicThresholdPercent = 0
                })
        }
        let check = Self.check(Self.http)
        try withProxy({ snapshot($0, $1, to: [a.port, b.port], check) }) { (proxy) throws in
            try wait(proxy, b.port, "/failed_active_hc")
            try waitForProbes(a, 2)
            // A newcomer beside one that is well waits for its first check, and is never called if that fails.
            try proxy.apply(snapshot(proxy.port, proxy.admin, to: [a.port, b.port, c.port], check))
            #expect(try answers(proxy, 40) == ["a"])
            try wait(proxy, c.port, "/failed_active_hc")
            #expect(try flags(proxy, b.port) == "/failed_active_hc")
            try waitForProbes(a, a.probes.count + 3)

            // Another path: the first result decides.
            b.set(200)
            var other = check
            other.kind = .http(host: "other", path: "/other")
            other.healthyThreshold = 1000
            try proxy.apply(snapshot(proxy.port, proxy.admin, to: [a.port, b.port], other))
            try wait(proxy, b.port, "healthy")
            #expect(b.probes.last?.target == "/other")

            b.set(500)
            try wait(proxy, b.port, "/failed_active_hc")
            try proxy.apply(snapshot(proxy.port, proxy.admin, to: [a.port, b.port], nil))
            #expect(try answers(proxy) == ["a", "b"])
            let probes = b.probes.count
            usleep(300_000)
            #expect(b.probes.count == probes)
        }
    }
}

/// The health service of gRPC.
@Suite(.enabled(if: !Peers.venv.isEmpty, "needs $OUTRIGGER_TOOLS_VENV with grpcio; scripts/test makes it"))
struct GRPCHealthCheckTests {
    @Test("grpcio is asked grpc.health.v1.Health/Check: SERVING is well, all else is not")
    func grpc() throws {
        let folder = try TemporaryFolder()
        let (file, log) = ("state", "state.log")
        try folder.replace(file, with: Array("SERVING".utf8))
        let (server, port) = try Peers.start("health_server.py", [folder.file(file)])
        defer { server.end() }
        try withProxy({ listen, admin in
            Config.http(
                listen: listen, to: [port], admin: admin,
                cluster: {
                    $0.upstreamProtocol = .http2
                    $0.healthChecks = [
                        HealthCheck(
                            kind: .grpc, interval: .milliseconds(100), timeout: .seconds(2), healthyThreshold: 2, unhealthyThreshold: 2)
                    ]
                })
        }) { (proxy) throws in
            func wait(_ seen: String, flags: String) throws {
                try eventually("\(seen): \((try? proxy.adminText("/clusters")) ?? "")") {
                    let page = try proxy.adminText("/clusters")
                    return page.contains("last_health_check::\(seen)\n") && page.contains("health_flags::\(flags)\n")
                }
            }
            try wait("SERVING", flags: "healthy")
            for (word, seen) in [
                ("NOT_SERVING", "NOT_SERVING"), ("UNIMPLEMENTED", "gRPC UNIMPLEMENTED: as asked"),
                ("UNAVAILABLE", "gRPC UNAVAILABLE: as asked"), ("HANG", "no answer within 2000 ms"),
            ] {
                try folder.replace(file, with: Array(word.utf8))
                try wait(seen, flags: "/failed_active_hc")
                try folder.replace(file, with: Array("SERVING".utf8))
                try wait("SERVING", flags: "healthy")
            }
            #expect(folder.text(log).hasPrefix("0 outrigger-health-check"), "\(folder.text(log).prefix(200))")
        }
    }
}
