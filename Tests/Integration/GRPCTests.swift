import Foundation
import ProxyConfig
import TestSupport
import Testing

/// grpcio calls grpcio through the proxy, and meets what goes wrong on the way.
@Suite(.enabled(if: !Peers.venv.isEmpty, "needs $OUTRIGGER_TOOLS_VENV with grpcio; scripts/test makes it"))
struct GRPCTests {
    /// A server and a proxy before it.
    private func withServer(
        manager: @escaping (inout HTTPConnectionManager) -> Void = { _ in },
        action: @escaping (inout ForwardAction) -> Void = { $0.timeout = nil }, cluster: @escaping (inout Cluster) -> Void = { _ in },
        _ body: (Proxy, Program) throws -> Void
    ) throws {
        let (server, port) = try Peers.start("grpc_server.py")
        defer { server.end() }
        try Pairing(downstream: .http2, upstream: .http2).withProxy(to: [port], manager: manager, action: action, cluster: cluster) {
            (proxy) throws in try body(proxy, server)
        }
    }

    @Test(
        "every kind of call",
        arguments: [
            (["unary", "50"], "ok"),
            (["client_stream"], "200 19900"),
            (["server_stream"], "ok"),
            (["bidi"], "200"),
            (["large", "4194304"], "ok"),
        ] as [([String], String)])
    func kinds(words: [String], expected: String) throws {
        try withServer { (proxy, _) throws in
            #expect(try Peers.run("grpc_client.py", ["\(proxy.port)"] + words) == expected)
        }
    }

    @Test("1,000 streams are open at the same time")
    func manyStreams() throws {
        try withServer(manager: { $0.http2.maxConcurrentStreams = 1000 }) { (proxy, _) throws in
            #expect(try Peers.grpc(proxy.port, "streams", "1000") == "ok")
        }
    }

    @Test("an endpoint's status and message arrive: trailers only, and in trailers behind a message")
    func statuses() throws {
        try withServer { (proxy, _) throws in
            #expect(try Peers.grpc(proxy.port, "fail", "NOT_FOUND", "größe 100%") == "NOT_FOUND größe 100%")
            let late = try Peers.grpc(proxy.port, "fail_late", "DATA_LOSS", "half of it")
            #expect(late == "DATA_LOSS half of it")
            #expect(try Peers.grpc(proxy.port, "call", "/test.Peer/Nothing") == "UNIMPLEMENTED Method not found!")
        }
    }

    @Test("metadata arrives, binary too")
    func metadata() throws {
        try withServer { (proxy, _) throws in
            let seen = try Peers.grpc(proxy.port, "metadata").split(separator: "\n").map(String.init)
            #expect(seen.contains("x-text: a b") && seen.contains(#"x-data-bin: b'\x00\x01'"#), "\(seen)")
        }
    }

    @Test("a deadline ends the call on both sides")
    func deadline() throws {
        try withServer { (proxy, _) throws in
            #expect(try Peers.grpc(proxy.port, "deadline", "0.5") == "DEADLINE_EXCEEDED True")
            try eventually("the server's call has ended") {
                try Peers.grpc(proxy.port, "cancel", "0") == "1"
            }
        }
    }

    @Test("the endpoint's deadline is the caller's, less the time that was spent; without one there is none")
    func timeLeft() throws {
        try withServer { (proxy, _) throws in
            let left = try #require(Double(try Peers.grpc(proxy.port, "time_left", "30")))
            #expect(left > 20 && left < 30, "\(left)")
            #expect(try Peers.grpc(proxy.port, "time_left") == "none")
        }
    }

    @Test("calls that are cancelled end at the endpoint, and the connection lives")
    func cancel() throws {
        try withServer { (proxy, _) throws in
            #expect(try Peers.grpc(proxy.port, "cancel", "20") == "20")
            #expect(try Peers.grpc(proxy.port, "call") == "OK")
        }
    }

    // MARK: Replies of the proxy

    @Test("nobody there is UNAVAILABLE with a message that names the cause")
    func nobody() throws {
        let dead = try Ports.free()
        try Pairing(downstream: .http2, upstream: .http2).withProxy(to: [dead]) { (proxy) throws in
            let said = try Peers.grpc(proxy.port, "call")
            #expect(said.hasPrefix("UNAVAILABLE ") && said.contains("upstream connect error: 127.0.0.1:\(dead)"), "\(said)")
        }
    }

    @Test("an endpoint that dies in the middle of a call is UNAVAILABLE")
    func dies() throws {
        try withServer { (proxy, server) throws in
            #expect(try Peers.grpc(proxy.port, "call") == "OK")
            let waiting = try Program(Peers.python, [Peers.path("grpc_client.py"), "\(proxy.port)", "call", "/test.Peer/Wait", "60"])
            defer { waiting.end() }
            try eventually("the call is under way") { try clusterStat(proxy, "upstream_rq_active") == 1 }
            server.end()
            #expect(try waiting.wait().output.hasPrefix("UNAVAILABLE "), "\(waiting.output)")
        }
    }

    @Test("no route is UNIMPLEMENTED, and a route's timeout is DEADLINE_EXCEEDED, each with its cause")
    func otherReplies() throws {
        let (server, port) = try Peers.start("grpc_server.py")
        defer { server.end() }
        func snapshot(_ listen: UInt16, _ admin: UInt16) -> Snapshot {
            var snapshot = Config.http(
                listen: listen, to: [port], admin: admin, action: { $0.timeout = .milliseconds(300) },
                cluster: { $0.upstreamProtocol = .http2 })
            snapshot.routeConfigurations[0].virtualHosts[0].routes[0].match = RouteMatch(path: .prefix("/test.Peer/"))
            return snapshot
        }
        try withProxy(snapshot) { (proxy) throws in
            let unknown = try Peers.grpc(proxy.port, "call", "/other.Service/Method")
            #expect(unknown.hasPrefix("UNIMPLEMENTED ") && unknown.contains("no route"), "\(unknown)")
            let late = try Peers.grpc(proxy.port, "call", "/test.Peer/Wait")
            #expect(late.hasPrefix("DEADLINE_EXCEEDED ") && late.contains("timeout"), "\(late)")
        }
    }

    @Test("a local reply to a gRPC caller is one head that ends the stream: 200 and the status, no body", arguments: Wire.allCases)
    func trailersOnly(upstream: Wire) throws {
        let dead = try Ports.free()
        try Pairing(downstream: .http2, upstream: upstream).withProxy(to: [dead]) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            let answer = try caller.exchange(
                "POST", "/test.Peer/Unary", fields: [("content-type", "application/grpc"), ("te", "trailers")], body: [0, 0, 0, 0, 0])
            #expect(answer.status == 200 && answer.isWhole && answer.bodyCount == 0 && answer.trailers.isEmpty, "\(answer)")
            #expect(answer.value("grpc-status") == "14" && answer.value("content-type") == "application/grpc")
            #expect(answer.value("grpc-message")?.contains("upstream connect error") == true, "\(answer.fields)")
            #expect(answer.value("content-length") == nil)
            // Who does not speak gRPC is told in HTTP.
            let plain = try caller.exchange("POST", "/", fields: [("content-type", "application/grpc-web")], body: [0])
            #expect(plain.status == 503 && plain.value("grpc-status") == nil)
        }
    }

    // MARK: What the proxy learns

    @Test("errors in trailers eject an endpoint as errors in heads do", arguments: ["Fail", "FailLate"])
    func ejection(method: String) throws {
        let detection = OutlierDetection(
            consecutive5xx: 5, interval: .seconds(600), baseEjectionTime: .seconds(600), maxEjectionTime: .seconds(600),
            maxEjectionPercent: 100)
        let (server, port) = try Peers.start("grpc_server.py")
        defer { server.end() }
        let (other, otherPort) = try Peers.start("grpc_server.py")
        defer { other.end() }
        try Pairing(downstream: .http2, upstream: .http2).withProxy(
            to: [port, otherPort],
            cluster: {
                $0.outlierDetection = detection
                $0.panicThresholdPercent = 0
            }
        ) { (proxy) throws in
            // What is the caller's fault ejects nobody.
            #expect(try Peers.grpc(proxy.port, "fails", "30", "NOT_FOUND", method) == "30")
            #expect(!proxy.log.contains("EJECT"))
            #expect(try Peers.grpc(proxy.port, "fails", "12", "UNAVAILABLE", method) != "0")
            try proxy.waitForLog("EJECT 127.0.0.1:\(port)")
            try proxy.waitForLog("EJECT 127.0.0.1:\(otherPort)")
            let said = try Peers.grpc(proxy.port, "call")
            #expect(said.hasPrefix("UNAVAILABLE ") && said.contains("no healthy"), "\(said)")
        }
    }

    @Test("the access log and the metrics know a call's status")
    func telemetry() throws {
        let folder = try TemporaryFolder()
        let format = "%PROTOCOL% %RESPONSE_CODE% %GRPC_STATUS% %GRPC_STATUS_NUMBER% %REQ(:PATH)% %UPSTREAM_CLUSTER%\n"
        try withServer(manager: { $0.accessLogs = [AccessLog(path: folder.file("log"), format: .text(format))] }) { (proxy, _) throws in
            #expect(try Peers.grpc(proxy.port, "call") == "OK")
            #expect(try Peers.grpc(proxy.port, "fail", "NOT_FOUND", "x") == "NOT_FOUND x")
            #expect(try Peers.grpc(proxy.port, "fail_late", "DATA_LOSS", "x") == "DATA_LOSS x")
            let expected = """
                HTTP/2 200 OK 0 /test.Peer/Unary origin
                HTTP/2 200 NotFound 5 /test.Peer/Fail origin
                HTTP/2 200 DataLoss 15 /test.Peer/FailLate origin

                """
            try eventually("three lines; there is \(folder.text("log"))") { folder.text("log") == expected }
            for name in ["downstream_rq_grpc_total", "downstream_rq_http2_total", "downstream_cx_http2_total"] {
                #expect(try proxy.stat(#"envoy_http_\#(name){envoy_http_conn_manager_prefix="egress"}"#) == 3, "\(name)")
            }
            #expect(try clusterStat(proxy, "upstream_cx_http2_total") > 0)
        }
    }

    private func clusterStat(_ proxy: Proxy, _ name: String) throws -> Int {
        try proxy.stat(#"envoy_cluster_\#(name){envoy_cluster_name="origin"}"#)
    }
}
