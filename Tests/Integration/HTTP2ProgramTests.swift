import Foundation
import ProxyConfig
import TestSupport
import Testing

/// HTTP/2 with programs that others wrote, before the proxy and behind it.
@Suite struct HTTP2ProgramTests {
    private static let toHTTP2 = Pairing(downstream: .http2, upstream: .http2)
    private static let toHTTP1 = Pairing(downstream: .http2, upstream: .http1)

    // MARK: Callers

    private func curl(_ arguments: String...) throws -> String {
        try Program.run("curl", ["-sS", "--noproxy", "*", "--http2-prior-knowledge", "-m", "30"] + arguments).output
    }

    @Test("curl speaks HTTP/2 by prior knowledge", arguments: Wire.allCases)
    func curl(upstream: Wire) throws {
        let origin = try Origin.speaking(upstream) { request in
            Reply(body: Array("\(request.method) \(request.path) \(request.body.count)".utf8), trailers: [("x-sum", "1")])
        }
        let folder = try TemporaryFolder()
        try folder.replace("body", with: Pattern.bytes(300_000))
        try Pairing(downstream: .http2, upstream: upstream).withProxy(to: [origin.port]) { (proxy) throws in
            let url = "http://127.0.0.1:\(proxy.port)/path?query"
            #expect(try curl(url, "-w", " %{http_version} %{response_code}") == "GET /path?query 0 2 200")
            #expect(try curl(url, "--data-binary", "@\(folder.file("body"))") == "POST /path?query 300000")
            #expect(try curl(url, "-T", folder.file("body"), "-H", "Expect: 100-continue") == "PUT /path?query 300000")
            #expect(try curl(url, "-I").hasPrefix("HTTP/2 200"))
            // One connection for all: only the first has to connect.
            #expect(try curl(url, url, url, "-o", "/dev/null", "-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects}") == "100")
        }
    }

    @Test("one listener serves both protocols at once")
    func bothOnOneListener() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            let old = try proxy.connect()
            let new = try HTTP2Peer(to: proxy.port)
            for _ in 0..<5 {
                #expect(try old.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").bodyText == "ok")
                #expect(try new.exchange().bodyText == "ok")
            }
            #expect(try proxy.stat(#"envoy_http_downstream_cx_http2_total{envoy_http_conn_manager_prefix="egress"}"#) == 1)
        }
    }

    @Test("a listener of one protocol refuses the other", arguments: [HTTPConnectionManager.Codec.http1, .http2])
    func oneProtocol(codec: HTTPConnectionManager.Codec) throws {
        let origin = try Origin.answering(ok())
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1, manager: { $0.codec = codec }) }) { (proxy) throws in
            let old = try proxy.connect()
            try old.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            let new = try proxy.connect()
            try new.send(HTTP2Peer.preface + HTTP2Frame.settings().bytes + HTTP2Frame.headers(1, HTTP2Peer.head(), endStream: true).bytes)
            if codec == .http1 {
                #expect(try old.readResponse().status == 200)
                #expect(try shown(new.readToEnd().bytes).hasPrefix("HTTP/1.1 "))
            } else {
                #expect(try !shown(old.readToEnd().bytes).contains("200"))
                #expect(try HTTP2Peer(to: proxy.port).exchange().status == 200)
            }
        }
    }

    struct LoadResult {
        var succeeded = 0
        var failed = 0
        var errored = 0
        var good = 0
        var text = ""

        init(_ output: String) {
            text = output
            func number(before word: String) -> Int {
                guard let end = output.range(of: " \(word)")?.lowerBound else { return -1 }
                return Int(output[..<end].split { !$0.isNumber }.last ?? "") ?? -1
            }
            succeeded = number(before: "succeeded")
            failed = number(before: "failed")
            errored = number(before: "errored")
            good = number(before: "2xx")
        }
    }

    @Test("h2load: 20,000 requests, none fails", .enabled(if: Program.exists("h2load"), "needs h2load"), arguments: Wire.allCases)
    func h2load(upstream: Wire) throws {
        let (nginx, port) = try Servers.nginx(http2: upstream == .http2)
        defer { nginx.end() }
        try Pairing(downstream: .http2, upstream: upstream).withProxy(to: [port]) { (proxy) throws in
            let url = "http://127.0.0.1:\(proxy.port)/"
            let result = LoadResult(try Program.run("h2load", ["-n20000", "-c16", "-m32", url], within: .seconds(120)).output)
            #expect(
                result.succeeded == 20000 && result.good == 20000 && result.failed == 0 && result.errored == 0,
                "\(result.text)\n\(nginx.errors)")
            let connections = try proxy.stat(#"envoy_cluster_upstream_cx_total{envoy_cluster_name="origin"}"#)
            // HTTP/2: a few for each worker carry all streams.
            if upstream == .http2 { #expect(connections <= 16, "\(connections) connections") }
        }
    }

    @Test("h2load: bodies of 64 KiB each way", .enabled(if: Program.exists("h2load"), "needs h2load"), arguments: Wire.allCases)
    func h2loadWithBodies(upstream: Wire) throws {
        let origin = try Origin.speaking(upstream) { request in Reply(body: request.body) }
        let folder = try TemporaryFolder()
        try folder.replace("body", with: Pattern.bytes(65536))
        try Pairing(downstream: .http2, upstream: upstream).withProxy(to: [origin.port]) { (proxy) throws in
            let arguments = ["-n500", "-c4", "-m8", "-d", folder.file("body"), "http://127.0.0.1:\(proxy.port)/"]
            let result = LoadResult(try Program.run("h2load", arguments, within: .seconds(120)).output)
            #expect(result.succeeded == 500 && result.good == 500, "\(result.text)")
        }
    }

    @Test("nghttp: trailers, Expect and CONTINUATION", .enabled(if: Program.exists("nghttp"), "needs nghttp"), arguments: Wire.allCases)
    func nghttp(upstream: Wire) throws {
        let origin = try Origin.speaking(upstream) { request in
            Reply(body: Array("\(request.body.count) \(request.trailer("x-up") ?? "none")".utf8), trailers: [("x-down", "2")])
        }
        let folder = try TemporaryFolder()
        try folder.replace("body", with: Pattern.bytes(100_000))
        try Pairing(downstream: .http2, upstream: upstream).withProxy(to: [origin.port]) { (proxy) throws in
            let url = "http://127.0.0.1:\(proxy.port)/"
            let upload = ["-d", folder.file("body"), "--trailer", "x-up: 1", url]
            // Beside a length HTTP/1.1 has no place for trailers (RFC 9110 section 6.5.1).
            #expect(try Program.run("nghttp", upload).output == "100000 \(upstream == .http1 ? "none" : "1")")
            #expect(try Program.run("nghttp", ["--no-content-length"] + upload).output == "100000 1")
            #expect(try Program.run("nghttp", ["--continuation", "-b100", url]).output == "0 none")
            #expect(try Program.run("nghttp", ["-v", url]).output.contains("x-down: 2"))
        }
    }

    @Test("HAProxy calls the proxy by HTTP/2", .enabled(if: Program.exists("haproxy"), "needs haproxy"))
    func haproxyCalls() throws {
        let origin = try Origin.http2 { HTTP2Answer(body: $0.body + Array($0.path.utf8), trailers: [("x-sum", "1")]) }
        try Self.toHTTP2.withProxy(to: [origin.port]) { (proxy) throws in
            let (haproxy, port) = try Servers.haproxyBefore(proxy.port)
            defer { haproxy.end() }
            let caller = try RawConnection(to: port)
            for size in [0, 1, 100_000] {
                try caller.send(Array("POST /path HTTP/1.1\r\nHost: a\r\nContent-Length: \(size)\r\n\r\n".utf8) + Pattern.bytes(size))
                let answer = try caller.readResponse()
                #expect(answer.status == 200 && answer.body == Pattern.bytes(size) + Array("/path".utf8))
            }
        }
    }

    // MARK: Endpoints

    @Test("nghttpd answers through the proxy: bodies, uploads, trailers", arguments: Wire.allCases)
    func nghttpd(downstream: Wire) throws {
        try #require(Program.exists("nghttpd"))
        let folder = try TemporaryFolder()
        try folder.replace("large", with: Pattern.bytes(3_000_000))
        try folder.replace("small", with: Array("small".utf8))
        let (server, port) = try Servers.nghttpd(folder, ["--echo-upload", "--no-content-length", "--trailer", "x-sum: 1", "-m", "10"])
        defer { server.end() }
        try Pairing(downstream: downstream, upstream: .http2).withProxy(to: [port]) { (proxy) throws in
            let caller = try Caller(downstream, to: proxy.port)
            let small = try caller.exchange(Ask(path: "/small"))
            #expect(small.bodyText == "small" && small.isWhole && small.trailer("x-sum") == "1", "\(small)")
            #expect(try caller.exchange(Ask(path: "/large")).body == Pattern.bytes(3_000_000))
            #expect(try caller.exchange(Ask(method: "HEAD", path: "/large")).isWhole)
            #expect(try caller.exchange(Ask(path: "/nothing")).status == 404)
            let echo = try caller.exchange(Ask(method: "POST", body: Pattern.bytes(500_000), sizing: .open))
            #expect(echo.body == Pattern.bytes(500_000) && echo.isWhole)
        }
    }

    @Test("nginx and HAProxy answer by HTTP/2", arguments: Wire.allCases, ["nginx", "haproxy"])
    func otherServers(downstream: Wire, name: String) throws {
        try #require(Program.exists(name))
        let (server, port) = name == "nginx" ? try Servers.nginx(http2: true) : try Servers.haproxyAnswering()
        defer { server.end() }
        try Pairing(downstream: downstream, upstream: .http2).withProxy(to: [port]) { (proxy) throws in
            let caller = try Caller(downstream, to: proxy.port)
            for _ in 0..<200 {
                let answer = try caller.exchange(Ask())
                #expect(answer.status == 200 && answer.isWhole && answer.bodyText == "ok\n", "\(answer)")
            }
            #expect(try caller.exchange(Ask(method: "HEAD")).status == 200)
        }
    }

    // MARK: WebSocket

    @Test(
        "python's websockets cross a hop of HTTP/2",
        .enabled(if: !Peers.venv.isEmpty, "needs $OUTRIGGER_TOOLS_VENV with websockets; scripts/test makes it"))
    func websockets() throws {
        let (server, port) = try Peers.start("websocket_server.py")
        defer { server.end() }
        // Two listeners, so that callers of HTTP/1.1 cross HTTP/2: the outer one calls the inner one, which calls the server.
        let inner = try Ports.free()
        func snapshot(_ listen: UInt16, _ admin: UInt16) -> Snapshot {
            var snapshot = Config.http(listen: listen, to: [inner], admin: admin, cluster: { $0.upstreamProtocol = .http2 })
            snapshot.listeners.append(Config.listener("inner", inner, routes: "inner"))
            snapshot.routeConfigurations.append(Config.routes([Config.route("inner", prefix: "/", to: "inner")], name: "inner"))
            snapshot.clusters.append(Config.cluster("inner", [port]))
            return snapshot
        }
        try withProxy(snapshot) { (proxy) throws in
            #expect(try Peers.run("websocket_client.py", ["\(proxy.port)"]) == "all equal")
            #expect(try proxy.stat(#"envoy_cluster_upstream_cx_http2_total{envoy_cluster_name="origin"}"#) > 0)
        }
    }

    /// A frame of RFC 6455 with a short text, as a caller sends it.
    private static func webSocketFrame(_ text: String) -> [UInt8] {
        let mask: [UInt8] = [1, 2, 3, 4]
        return [0x81, 0x80 | UInt8(text.utf8.count)] + mask + text.utf8.enumerated().map { $1 ^ mask[$0 % 4] }
    }

    private static let extendedConnect: [HTTP2Field] = [
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/chat"), (":authority", "a"),
        ("sec-websocket-version", "13"), ("origin", "http://a"),
    ]

    @Test(
        "RFC 8441: a WebSocket of HTTP/2 reaches a server of HTTP/1.1",
        .enabled(if: !Peers.venv.isEmpty, "needs $OUTRIGGER_TOOLS_VENV with websockets; scripts/test makes it"))
    func extendedConnectToWebsockets() throws {
        let (server, port) = try Peers.start("websocket_server.py")
        defer { server.end() }
        try Self.toHTTP1.withProxy(to: [port], action: { $0.timeout = nil }) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            try caller.settle()
            #expect(caller.settings[.enableConnectProtocol] == 1)
            let stream = try caller.open(Self.extendedConnect, endStream: false)
            try caller.wait("the head") { caller.streams[stream]?.status == 200 }
            #expect(caller.streams[stream]?.value("sec-websocket-accept") == nil)
            for count in 1...3 {
                try caller.send(.data(stream, Self.webSocketFrame("hello")))
                try caller.wait("the echo") { caller.streams[stream]?.bodyCount == 7 * count }
            }
            #expect(caller.streams[stream]?.body.suffix(7) == [0x81, 5] + Array("hello".utf8)[...])
            // Other streams live beside it.
            #expect(try caller.exchange().status == 426)
            // Close, and the answer to it, and the end of the stream.
            try caller.send(.data(stream, [0x88, 0x80, 0, 0, 0, 0]))
            let whole = try caller.response(stream)
            #expect(whole.isWhole && whole.body.contains(0x88), "\(whole.end)")
        }
    }

    @Test("RFC 8441: a WebSocket of HTTP/1.1 reaches an endpoint of HTTP/2 as extended CONNECT, and back")
    func upgradeToExtendedConnect() throws {
        let origin = try Origin { connection in
            let peer = try HTTP2Peer(.server, over: connection, settings: [.enableConnectProtocol: 1])
            guard let stream = try peer.nextRequest(), let request = peer.streams[stream] else { return }
            #expect(request.method == "CONNECT" && request.value(":protocol") == "websocket" && request.path == "/chat")
            #expect(request.value("sec-websocket-key") == nil && request.value("upgrade") == nil && request.value("connection") == nil)
            #expect(request.value("sec-websocket-version") == "13")
            try peer.send(.headers(stream, [(":status", "200"), ("sec-websocket-protocol", "chat")]))
            try peer.wait("bytes") { peer.streams[stream]?.bodyCount == 5 }
            try peer.send(.data(stream, Array("world".utf8)))
            _ = try peer.whole(stream)
            try peer.send(.data(stream, Array("!".utf8), endStream: true))
            _ = try peer.readToEnd()
        }
        try Pairing(downstream: .http1, upstream: .http2).withProxy(to: [origin.port]) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send(
                "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                    + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            let answer = try caller.readResponse()
            #expect(answer.status == 101 && answer.has("upgrade", "websocket") && answer.has("connection", "upgrade"), "\(answer.headText)")
            // RFC 6455 section 1.3 has this very key.
            #expect(answer.value("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            #expect(answer.value("sec-websocket-protocol") == "chat")
            try caller.send("hello")
            #expect(try shown(caller.read(exactly: 5)) == "world")
            caller.finishSending()
            #expect(try caller.readToEnd() == (Array("!".utf8), .closed))
        }
    }

    @Test("RFC 8441: an endpoint that does not know extended CONNECT gets no WebSocket, and the caller is told")
    func noExtendedConnect() throws {
        let asked = Counter()
        let origin = try Origin.http2 { _ in
            asked.add()
            return HTTP2Answer()
        }
        try Pairing(downstream: .http1, upstream: .http2).withProxy(to: [origin.port]) { (proxy) throws in
            let answer = try proxy.exchange(
                "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                    + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            #expect(answer.status >= 400, "\(answer.headText)")
            #expect(asked.value == 0)
        }
    }

    @Test("RFC 8441: an endpoint that refuses a WebSocket is heard by a caller of HTTP/2")
    func refusedExtendedConnect() throws {
        let origin = try Origin.answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        try Self.toHTTP1.withProxy(to: [origin.port]) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            let answer = try caller.response(try caller.open(Self.extendedConnect, endStream: false))
            #expect(answer.status == 403 && answer.bodyText == "no")
            #expect(try caller.exchange().status == 403)
        }
    }
}
