import Base
import Foundation
import ProxyConfig
import TestSupport
import Testing

/// Cases T1, T2, T3, T5 and T8 of the reference: what is routed is what the origin sees, and nobody says of himself what only the proxy
/// knows.
@Suite struct TrustTests {
    @Test(
        "T1: routing and origin see the same normal path",
        arguments: [
            ("/public/../secret", "/secret"), ("/public/%2e%2e/secret", "/secret"), ("/public/%2E./secret", "/secret"),
            ("//secret", "/secret"), ("/./secret", "/secret"), ("/%73ecret", "/secret"), ("/public/x/../../secret", "/secret"),
            ("/public%2fsecret", "/public%2Fsecret"), ("/public/..%2fsecret", "/public/..%2Fsecret"), ("/../../public", "/public"),
            ("/public?a=/../secret", "/public?a=/../secret"), ("/public/%c3%a9", "/public/%C3%A9"),
        ])
    func oneNormalForm(sent: String, seen: String) throws {
        let open = try Origin.http { request in Array(ok("public \(request.target)").utf8) }
        let secret = try Origin.http { request in Array(ok("secret \(request.target)").utf8) }
        try withProxy({ port, admin in
            var snapshot = Config.http(listen: port, to: [open.port], admin: admin)
            snapshot.clusters.append(Config.cluster("secret", [secret.port]))
            snapshot.routeConfigurations = [
                Config.routes([
                    Config.route("secret", prefix: "/secret", to: "secret"), Config.route("public", prefix: "/", to: "origin"),
                ])
            ]
            return snapshot
        }) { (proxy) throws in
            let answer = try proxy.exchange("GET \(sent) HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(answer.bodyText == "\(seen.hasPrefix("/secret") ? "secret" : "public") \(seen)")
        }
    }

    @Test(
        "T1: a path that has no normal form is a 400, and nothing reaches the origin",
        arguments: ["/a%00b", "/a#b", "/a\\..\\b", "/a%2", "/a%zz", "/..;/secret"])
    func noNormalForm(path: String) throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            #expect(try proxy.exchange("GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n").status == 400)
        }
        #expect(origin.received.isEmpty)
    }

    private static let claims = """
        X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\n\
        X-Forwarded-Client-Cert: Subject=admin\r\nX-Request-Id: mine\r\nX-Envoy-Internal: true\r\nX-Envoy-Original-Path: /x\r\n\
        X-Outrigger-Details: x\r\nX-Envoy-Upstream-Rq-Timeout-Ms: 1\r\nX-Mine: kept\r\n
        """

    @Test("T2: at the edge nothing that a caller says of its way here is believed")
    func spoofedAtTheEdge() throws {
        let origin = try Origin.answering(ok())
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1, manager: { $0.isEdge = true }) }) { (proxy) throws in
            let claims = Self.claims + "X-Envoy-Expected-Rq-Timeout-Ms: 1\r\n"
            #expect(try proxy.exchange("GET / HTTP/1.1\r\nHost: a\r\n\(claims)\r\n").status == 200)
        }
        let text = origin.receivedText.lowercased()
        // The one that we write ourselves.
        let others = text.replacing("x-envoy-expected-rq-timeout-ms: 120000\r\n", with: "")
        for lie in ["6.6.6.6", "evil", "subject=admin", "mine\r\n", "x-envoy-", "x-outrigger-", "forwarded: for"] {
            #expect(!others.contains(lie), "\(lie) in \(others)")
        }
        #expect(text.contains("x-forwarded-for: 127.0.0.1\r\n") && text.contains("x-forwarded-proto: http\r\n"), "\(text)")
        #expect(text.contains("x-mine: kept\r\n") && text.contains("x-request-id: "), "\(text)")
    }

    @Test("T2: inside the mesh the way here is kept, but nobody's claim to a certificate")
    func spoofedInside() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            #expect(try proxy.exchange("GET / HTTP/1.1\r\nHost: a\r\n\(Self.claims)\r\n").status == 200)
        }
        let text = origin.receivedText
        #expect(text.contains("X-Forwarded-For: 6.6.6.6\r\n") && text.contains("X-Request-Id: mine\r\n"), "\(text)")
        #expect(!text.contains("Subject=admin") && !text.contains("X-Outrigger-Details"), "\(text)")
    }

    @Test("T3: Connection cannot take away what the origin has to see")
    func hopByHopAbuse() throws {
        let origin = try Origin.answering(ok())
        let fields =
            "Connection: x-forwarded-for, authorization, cookie, host, x-request-id\r\nX-Forwarded-For: 1.2.3.4\r\nAuthorization: Basic eA==\r\nCookie: a=b\r\n"
        try withProxy(to: origin) { (proxy) throws in
            #expect(try proxy.exchange("GET / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n").status == 200)
        }
        let text = origin.receivedText
        for kept in ["X-Forwarded-For: 1.2.3.4", "Authorization: Basic eA==", "Cookie: a=b", "Host: a", "x-request-id: "] {
            #expect(text.lowercased().contains(kept.lowercased()), "\(kept) in \(text)")
        }
    }

    @Test("T5: what a caller sends cannot break a log's line or its JSON")
    func logInjection() throws {
        let origin = try Origin.answering(ok())
        let folder = try TemporaryFolder()
        try withProxy({ port, admin in
            Config.http(
                listen: port, to: [origin.port], admin: admin,
                manager: { manager in
                    manager.accessLogs = [
                        AccessLog(
                            path: folder.file("json"),
                            format: .json([
                                AccessLog.Field(key: "path", value: "%REQ(:PATH)%"),
                                AccessLog.Field(key: "agent", value: "%REQ(USER-AGENT)%"),
                            ])),
                        AccessLog(path: folder.file("text"), format: .text("%REQ(USER-AGENT)%|%REQ(X-NONE)%|%RESPONSE_CODE%\n")),
                    ]
                })
        }) { (proxy) throws in
            let agent = "a\",\"path\":\"/forged\"} \\ \u{e9}\t"
            #expect(try proxy.exchange("GET /real HTTP/1.1\r\nHost: a\r\nUser-Agent: \(agent)\r\n\r\n").status == 200)
            try eventually("the logs are written") { folder.text("json").hasSuffix("\n") && folder.text("text").hasSuffix("\n") }
        }
        let object = try JSONSerialization.jsonObject(with: Data(folder.text("json").utf8)) as? [String: String]
        #expect(object?["path"] == "/real", "\(folder.text("json"))")
        #expect(folder.text("text").split(separator: "\n").count == 1)
        #expect(folder.text("text").contains("|-|200"), "\(folder.text("text"))")
    }

    // MARK: T8, time

    @Test("T8: a head that does not end in time is a 408", arguments: ["GET", "GET / HTTP/1.1\r\nHost: a\r\n"])
    func slowHead(start: String) throws {
        let origin = try Origin.answering(ok())
        try withProxy({
            Config.http(listen: $0, to: [origin.port], admin: $1, manager: { $0.requestHeadersTimeout = .milliseconds(300) })
        }) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send(start)
            let answer = try caller.readResponse()
            #expect(answer.status == 408 && answer.saysClose)
            #expect(try caller.readToEnd() == ([], .closed))
        }
        #expect(origin.received.isEmpty)
    }

    @Test("T8: a head that drips byte by byte has no more time than one that stops")
    func drippingHead() throws {
        let origin = try Origin.answering(ok())
        try withProxy({
            Config.http(listen: $0, to: [origin.port], admin: $1, manager: { $0.requestHeadersTimeout = .milliseconds(500) })
        }) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send("GET / HTTP/1.1\r\nX: ")
            let start = ContinuousClock.now
            try eventually("an answer comes while we send") {
                try? caller.send("a")
                return try !caller.isSilent(for: .milliseconds(50))
            }
            #expect(ContinuousClock.now - start < .seconds(5))
            #expect(try caller.readResponse().status == 408)
        }
    }

    @Test("an idle connection is closed after the idle timeout, before its first request and after one")
    func idle() throws {
        let origin = try Origin.answering(ok())
        try withProxy({
            Config.http(listen: $0, to: [origin.port], admin: $1, manager: { $0.idleTimeout = .milliseconds(300) })
        }) { (proxy) throws in
            let fresh = try proxy.connect()
            var used = fresh
            // On a busy machine the request may come too late.
            try eventually("a request is in time") {
                used = try proxy.connect()
                return (try? used.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status) == 200
            }
            #expect(try fresh.readToEnd() == ([], .closed))
            #expect(try used.readToEnd() == ([], .closed))
        }
    }

    @Test("an answer that does not come in time is a 504 that names its cause, and its connection is not used again")
    func requestTimeout() throws {
        let slow = try Origin { connection in
            _ = try connection.readRequest()
            connection.stall()
        }
        try withProxy({
            Config.http(listen: $0, to: [slow.port], admin: $1, action: { $0.timeout = .milliseconds(300) })
        }) { (proxy) throws in
            let caller = try proxy.connect()
            let answer = try caller.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(answer.status == 504)
            #expect(answer.value("x-outrigger-details") == "UT response_timeout", "\(answer.headText)")
            #expect(try caller.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 504)
        }
        try eventually("each request had a connection of its own") { slow.connections.count == 2 }
    }

    @Test("an answer that stops in the middle is cut when its time is over")
    func bodyTimeout() throws {
        let origin = try Origin { connection in
            _ = try connection.readRequest()
            try connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            connection.stall()
        }
        try withProxy({
            Config.http(listen: $0, to: [origin.port], admin: $1, action: { $0.idleTimeout = .milliseconds(300) })
        }) { (proxy) throws in
            // On a busy machine the origin may be late with its first word; then it is a 504.
            try eventually("an answer has begun in time") {
                let caller = try proxy.connect()
                try caller.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                let (bytes, end) = try caller.readToEnd()
                let text = String(decoding: bytes, as: UTF8.self)
                guard text.hasPrefix("HTTP/1.1 200 ") else { return false }
                #expect(text.hasSuffix("half") && end == .reset)
                return true
            }
        }
    }

    @Test("a caller that stops in the middle of its body is answered 408 after the stream's idle time")
    func slowBody() throws {
        let origin = try Origin { connection in
            _ = try connection.readToEnd()
        }
        try withProxy({
            Config.http(listen: $0, to: [origin.port], admin: $1, action: { $0.idleTimeout = .milliseconds(300) })
        }) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
            let answer = try caller.readResponse()
            #expect(answer.status == 408 && answer.saysClose)
            #expect(try caller.readToEnd() == ([], .closed))
        }
    }

    @Test("a refused connect is a 503 that names the address")
    func refusedConnect() throws {
        let port = try Ports.free()
        try withProxy({ Config.http(listen: $0, to: [port], admin: $1) }) { (proxy) throws in
            let answer = try proxy.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(answer.status == 503 && answer.bodyText.contains("127.0.0.1:\(port)"), "\(answer.bodyText)")
            #expect(answer.value("x-outrigger-details")?.hasPrefix("UF ") == true, "\(answer.headText)")
        }
    }
}
