import Base
import HTTP
import HTTP2
import Testing

/// From a head of either protocol to HTTP/2's fields (RFC 9113 sections 8.2 and 8.3).
@Suite struct TranslationTests {
    @Test("what a request's head becomes on the wire", arguments: requests)
    func request(name: String, fields: [(String, String)], expected: String) {
        let pair = Pair()
        pair.request(requestHead("GET", "/x", fields))
        pair.exchange()
        #expect(pair.server.lines == ["head 1 GET http://shop.test/x\(expected.isEmpty ? "" : " | \(expected)") fin"], "\(name)")
    }

    @Test("what a response's head becomes on the wire", arguments: responses)
    func response(name: String, fields: [(String, String)], expected: String) {
        let pair = Pair()
        pair.server.handler = { server, event in
            if case .head(let stream, _) = event { server.session.respond(stream, responseHead(200, fields), endStream: true) }
        }
        pair.request()
        pair.exchange()
        #expect(pair.client.lines == ["head 1 200\(expected.isEmpty ? "" : " | \(expected)") fin"], "\(name)")
    }

    @Test("start lines")
    func startLines() {
        let cases: [(Head, Bool, String)] = [
            (requestHead("OPTIONS", "*"), true, "head 1 OPTIONS http://shop.test* fin"),
            (requestHead("PUT", "/a?b", scheme: .https), true, "head 1 PUT https://shop.test/a?b fin"),
            (requestHead("GET", ""), true, "head 1 GET http://shop.test/ fin"),
            (requestHead("CONNECT", "", authority: "a.test:443"), false, "head 1 CONNECT http://a.test:443"),
        ]
        for (head, end, line) in cases {
            let pair = Pair()
            pair.request(head, end: end)
            pair.exchange()
            #expect(pair.server.lines == [line])
        }
    }

    @Test("an upgrade becomes an extended CONNECT, and its 101 a 200")
    func extendedConnect() throws {
        var limits = HTTP2Limits()
        limits.allowsExtendedConnect = true
        let pair = Pair(server: limits)
        #expect(pair.client.session.peerAllowsExtendedConnect)
        let head = requestHead("GET", "/chat", [("Connection", "upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")])
        let upgrade = try #require(head.first(.upgrade))
        let stream = try #require(pair.client.session.request(head, endStream: false, extendedConnect: upgrade.value, context: nil))
        pair.exchange()
        #expect(pair.server.lines == ["head 1 CONNECT http://shop.test/chat | sec-websocket-version: 13"])
        let accepted = try #require(pair.server.streams[1])
        #expect(accepted.head.string(accepted.protocolName) == "websocket")
        pair.server.session.respond(accepted, responseHead(101, [("Upgrade", "websocket"), ("Connection", "upgrade")]), endStream: false)
        pair.server.send(accepted, "from the server")
        pair.client.send(stream, "from the client")
        pair.exchange()
        #expect(pair.client.lines == ["drained 1", "head 1 200"])
        #expect(pair.client.bodies[1] == Array("from the server".utf8))
        #expect(pair.server.bodies[1] == Array("from the client".utf8))
    }

    @Test("a server that does not offer extended CONNECT says so")
    func withoutExtendedConnect() {
        #expect(!Pair().client.session.peerAllowsExtendedConnect)
    }

    @Test("trailers that must not stand there are not sent; without any, END_STREAM is on the last DATA")
    func outgoingTrailers() {
        let pair = Pair()
        pair.request(requestHead("POST"), body: "x", trailers: trailers([("Authorization", "a"), ("X-Sum", "1")]))
        pair.exchange()
        pair.request(requestHead("POST"), body: "x", trailers: trailers([("Authorization", "a"), ("Connection", "close")]))
        #expect(Frame.parse(pair.client.output()).map(\.description) == ["HEADERS 3", "DATA 3 1 end"])
        #expect(pair.server.lines == ["head 1 POST http://shop.test/", "trailers 1 x-sum: 1", "end 1"])
    }

    @Test("a head that came by HTTP/2 goes on as it came")
    func throughTwoHops() {
        let server = Peer.server()
        server.receive(
            .headers(1, get("/p?q", [("accept", "*/*"), ("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"), ("x-empty", "")])))
        let client = Peer.client()
        _ = client.session.request(server.streams[1]!.head, endStream: true, context: nil)
        let next = Peer.server()
        next.receive(Array(client.output()))
        #expect(next.lines == ["head 1 GET http://a/p?q | accept: */* | cookie: a=1; b=2 (never indexed) | te: trailers | x-empty:  fin"])
    }
}

private let requests: [(String, [(String, String)], String)] = [
    ("none", [], ""),
    ("names become lower case, values stay", [("X-Mixed-Case", "Value")], "x-mixed-case: Value"),
    ("host is said by :authority", [("Host", "shop.test"), ("A", "b")], "a: b"),
    (
        "hop-by-hop",
        [
            ("Connection", "keep-alive"), ("Keep-Alive", "5"), ("Proxy-Connection", "x"), ("Transfer-Encoding", "chunked"),
            ("Upgrade", "x"), ("HTTP2-Settings", "x"), ("A", "b"),
        ], "a: b"
    ),
    ("nominated", [("Connection", "close, X-Drop"), ("X-Drop", "1"), ("X-Keep", "2")], "x-keep: 2"),
    ("nominated after it stood", [("x-drop", "1"), ("connection", "X-DROP")], ""),
    (
        "nominated but protected", [("Connection", "authorization, x-forwarded-for"), ("Authorization", "a"), ("X-Forwarded-For", "b")],
        "authorization: a (never indexed) | x-forwarded-for: b"
    ),
    ("te", [("TE", "gzip, trailers"), ("Connection", "te")], "te: trailers"),
    ("te twice", [("TE", "trailers"), ("TE", "trailers")], "te: trailers"),
    ("te without trailers", [("TE", "gzip")], ""),
    ("expect", [("Expect", "100-continue")], "expect: 100-continue"),
    ("length", [("Content-Length", "0")], "content-length: 0"),
    ("empty value", [("X-Empty", "")], "x-empty: "),
    ("twice", [("A", "1"), ("A", "2")], "a: 1 | a: 2"),
    // The library never indexes what could be guessed: authorization, and cookies of less than 20 bytes.
    ("cookies", [("Cookie", "a=1; b=2")], "cookie: a=1; b=2 (never indexed)"),
    ("long cookies", [("Cookie", "a=1234567890; b=1234567890")], "cookie: a=1234567890; b=1234567890"),
]

private let responses: [(String, [(String, String)], String)] = [
    ("none", [], ""),
    (
        "hop-by-hop", [("Connection", "close, x-a"), ("X-A", "1"), ("Transfer-Encoding", "chunked"), ("Server", "Origin")],
        "server: Origin"
    ),
    ("te is for requests", [("TE", "trailers")], ""),
    ("set-cookie stays apart", [("Set-Cookie", "a"), ("Set-Cookie", "b")], "set-cookie: a | set-cookie: b"),
]
