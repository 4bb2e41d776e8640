import Glibc
import ProxyConfig
import TestSupport
import Testing

/// The whole path: a caller, his sidecar, mutual TLS, the callee's sidecar, the callee.
@Suite struct TLSMeshTests {
    private static let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    private let certificates = MeshCertificates.shared

    /// What the first sidecar speaks to the second.
    private static let ways: [(UpstreamProtocol, [String])] = [(.http1, ["http/1.1"]), (.http2, ["h2"]), (.auto, ["h2", "http/1.1"])]

    private func withSidecars(
        _ way: (UpstreamProtocol, [String]), to ports: [UInt16], log folder: TemporaryFolder,
        body: (_ first: Proxy, _ second: Proxy) throws -> Void
    ) throws {
        try withProxy({
            Config.http(
                listen: $0, to: ports, admin: $1,
                manager: {
                    $0.forwardClientCertificate = .sanitizeSet(ClientCertificateDetails())
                    let line = "%DOWNSTREAM_PEER_URI_SAN%|%REQ(:AUTHORITY)%|%PROTOCOL%|%RESPONSE_CODE%\n"
                    $0.accessLogs = [AccessLog(path: folder.file("log"), format: .text(line))]
                }
            ).listening(certificates.downstream(clients: [MeshCertificates.clientURI]))
        }) { (second) throws in
            let tls = certificates.upstream(
                names: [MeshCertificates.serverURI], pair: certificates.client, sni: MeshCertificates.serverName, alpn: way.1)
            try withProxy({
                Config.http(listen: $0, to: [second.port], admin: $1, cluster: { $0.upstreamProtocol = way.0 }).calling(tls)
            }) { (first) throws in try body(first, second) }
        }
    }

    @Test("two sidecars: the callee learns who calls, whatever the caller claims; log and metrics know him too", arguments: ways.indices)
    func identity(way: Int) throws {
        let folder = try TemporaryFolder()
        let origin = try Origin.http { request in
            let fields = request.values("x-forwarded-client-cert").joined(separator: " AND ")
            return Array(ok("\(fields)|\(request.value("x-forwarded-proto") ?? "")").utf8)
        }
        try withSidecars(Self.ways[way], to: [origin.port], log: folder) { (first, second) throws in
            let caller = try first.connect()
            for _ in 0..<20 {
                let answer = try caller.exchange(
                    "GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-client-cert: By=x;URI=spiffe://mesh/admin\r\n\r\n")
                let parts = answer.bodyText.split(separator: "|", omittingEmptySubsequences: false)
                #expect(answer.status == 200 && parts.count == 2, "\(answer.headText)\(answer.bodyText)")
                #expect(parts.first?.contains("URI=\(MeshCertificates.clientURI)") == true, "\(answer.bodyText)")
                #expect(parts.first?.hasPrefix("By=\(MeshCertificates.serverURI);Hash=") == true && !answer.bodyText.contains("admin"))
            }
            try eventually("the log is written") { folder.text("log").split(separator: "\n").count == 20 }
            let version = way == 0 ? "HTTP/1.1" : "HTTP/2"
            #expect(
                folder.text("log").split(separator: "\n").allSatisfy { $0 == "\(MeshCertificates.clientURI)|a|\(version)|200" },
                "\(folder.text("log"))")
            #expect(try second.count("ssl.handshake") >= 1)
            #expect(try first.count("ssl.handshake") == second.count("ssl.handshake"))
        }
    }

    @Test("two sidecars: bodies, an error and an end of the connection go through as they are", arguments: ways.indices)
    func exchange(way: Int) throws {
        let size = 5 << 20
        let origin = try Origin(records: false) { connection in
            while true {
                let head = String(decoding: try connection.read(until: "\r\n\r\n"), as: UTF8.self)
                if head.hasPrefix("POST") {
                    guard try connection.readPattern(size) == (size, true) else { return }
                    try connection.send("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
                    try connection.sendPattern(size)
                } else if head.hasPrefix("GET /cut") {
                    try connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                    return
                } else {
                    try connection.send("HTTP/1.1 418 Teapot\r\nContent-Length: 5\r\n\r\nshort")
                }
            }
        }
        try withSidecars(Self.ways[way], to: [origin.port], log: try TemporaryFolder()) { (first, _) throws in
            let caller = try first.connect()
            try caller.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \(size)\r\n\r\n")
            try caller.sendPattern(size)
            #expect(String(decoding: try caller.read(until: "\r\n\r\n"), as: UTF8.self).hasPrefix("HTTP/1.1 200"))
            #expect(try caller.readPattern(size) == (size, true))
            let teapot = try caller.exchange(Self.request)
            #expect(teapot.status == 418 && teapot.bodyText == "short")
            try caller.send("GET /cut HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            let text = String(decoding: try caller.readToEnd().bytes, as: UTF8.self)
            // Where head and reset come together, nothing of the answer has gone on yet.
            #expect(
                text.hasSuffix("half") && text.lowercased().contains("content-length: 100") || text.hasPrefix("HTTP/1.1 503"), "\(text)")
        }
    }

    @Test("load through two sidecars while both take new snapshots: no request fails", arguments: ways.indices)
    func swaps(way: Int) throws {
        let origin = try Origin.answering(ok(), records: false)
        try withSidecars(Self.ways[way], to: [origin.port], log: try TemporaryFolder()) { (first, second) throws in
            let load = Load(port: first.port)
            try load.wait(for: 100)
            for round in 0..<3 {
                for proxy in [first, second] {
                    var snapshot = try proxy.written()
                    snapshot.routeConfigurations[0].virtualHosts[0].routes[0].name = "round-\(round)"
                    try proxy.apply(snapshot)
                    try load.wait(for: 50)
                }
            }
            let tally = try load.stop()
            #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))")
        }
    }

    @Test("a thousand idle connections with mutual TLS cost a bounded amount of memory", arguments: [["http/1.1"], ["h2"]])
    func idleMemory(protocols: [String]) throws {
        let origin = try Origin.answering(ok(), records: false)
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1).listening(certificates.downstream(clients: [])) }) {
            (proxy) throws in
            let settings = certificates.caller(certificates.client, protocols: protocols)
            func open() throws -> RawConnection {
                let caller = try RawConnection.tls(to: proxy.port, settings)
                if protocols == ["h2"] {
                    try caller.send(Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [0, 0, 0, 4, 0, 0, 0, 0, 0])
                    // Our SETTINGS' acknowledgement comes behind theirs.
                    _ = try caller.read(until: "\0\0\0\u{4}\u{1}\0\0\0\0")
                } else {
                    #expect(try caller.exchange(Self.request).bodyText == "ok")
                }
                return caller
            }
            var callers = try (0..<100).map { _ in try open() }
            let before = proxy.residentBytes
            callers += try (0..<1000).map { _ in try open() }
            let each = (proxy.residentBytes - before) / 1000
            // 25 KB, with HTTP/2 35 KB, of which some 18 KB are OpenSSL's; up to 52 KB where the allocator finds holes late.
            #expect(each < 72 << 10, "\(each) bytes a connection")
            #expect(callers.count == 1100)
        }
    }

    // MARK: Peers

    @Test(
        "gRPC through two sidecars: every kind of call",
        .enabled(if: !Peers.venv.isEmpty, "needs $OUTRIGGER_TOOLS_VENV with grpcio; scripts/test makes it"))
    func grpc() throws {
        let (server, port) = try Peers.start("grpc_server.py")
        defer { server.end() }
        try withProxy({
            Config.http(
                listen: $0, to: [port], admin: $1, action: { $0.timeout = nil }, cluster: { $0.upstreamProtocol = .http2 }
            ).listening(certificates.downstream(clients: [MeshCertificates.clientURI], alpn: ["h2"]))
        }) { (second) throws in
            let tls = certificates.upstream(names: [MeshCertificates.serverURI], pair: certificates.client, alpn: ["h2"])
            try withProxy({
                Config.http(
                    listen: $0, to: [second.port], admin: $1, action: { $0.timeout = nil }, cluster: { $0.upstreamProtocol = .http2 }
                ).calling(tls)
            }) { (first) throws in
                for (words, expected) in [
                    (["unary", "50"], "ok"), (["client_stream"], "200 19900"), (["server_stream"], "ok"), (["bidi"], "200"),
                    (["large", "4194304"], "ok"), (["fail", "NOT_FOUND", "gone"], "NOT_FOUND gone"),
                ] {
                    #expect(try Peers.run("grpc_client.py", ["\(first.port)"] + words) == expected, "\(words)")
                }
            }
        }
    }

    @Test(
        "python's websockets through two sidecars",
        .enabled(if: !Peers.venv.isEmpty, "needs $OUTRIGGER_TOOLS_VENV with websockets; scripts/test makes it"), arguments: ways.indices)
    func websockets(way: Int) throws {
        let (server, port) = try Peers.start("websocket_server.py")
        defer { server.end() }
        try withSidecars(Self.ways[way], to: [port], log: try TemporaryFolder()) { (first, _) throws in
            #expect(try Peers.run("websocket_client.py", ["\(first.port)"]) == "all equal")
        }
    }

    // MARK: Ends

    @Test("a proxy that drains, and an answer with `connection: close`, end by close_notify")
    func goodbyes() throws {
        let origin = try Origin.answering(ok(), records: false)
        let proxy = try Proxy { Config.http(listen: $0, to: [origin.port], admin: $1).listening(certificates.downstream()) }
        defer { proxy.program.end() }
        let idle = try RawConnection.tls(to: proxy.port, certificates.caller())
        #expect(try idle.exchange(Self.request).bodyText == "ok")
        let last = try RawConnection.tls(to: proxy.port, certificates.caller())
        #expect(try last.exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").saysClose)
        #expect(try last.readToEnd() == ([], .closed) && last.tls?.wasTruncated == false)
        proxy.program.signal(SIGTERM)
        #expect(try idle.readToEnd() == ([], .closed) && idle.tls?.wasTruncated == false)
        #expect(try proxy.program.wait().status == 0)
    }

    @Test("a request of HTTP/2 in the same segment as the end of the handshake is answered", arguments: [TLSSettings.Version.v12, .v13])
    func requestWithHandshake(version: TLSSettings.Version) throws {
        let origin = try Origin.answering(ok("together"), records: false)
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1).listening(certificates.downstream()) }) { (proxy) throws in
            for protocols in [["h2"], []] {
                var settings = certificates.caller(protocols: protocols)
                settings.versions = version...version
                let caller = try RawConnection(to: proxy.port)
                let frames = [HTTP2Frame.settings([:]), .headers(1, HTTP2Peer.head(), endStream: true)]
                try caller.startTLS(.client, settings, then: HTTP2Peer.preface + frames.flatMap(\.bytes))
                #expect(try caller.read(until: "together").count > 8)
            }
        }
    }
}
