import Base
import HTTP
import HTTP2
import Testing

/// RFC 9113 section 8: what is a message, and what is a stream error of PROTOCOL_ERROR that nobody behind us hears of.
@Suite struct MessageTests {
    @Test("a malformed request is reset with PROTOCOL_ERROR and never told", arguments: malformedRequests)
    func malformed(name: String, frames: [Frame]) {
        let server = Peer.server()
        server.receive(frames.flatMap(\.bytes))
        #expect(server.lines == [], "\(name)")
        #expect(server.written() == ["RST_STREAM 1 protocol_error"], "\(name)")
        #expect(server.failure == nil)
        #expect(server.session.openStreams == 0)
        // The connection goes on.
        server.receive(.headers(3, get("/next")))
        #expect(server.lines == ["head 3 GET http://a/next fin"], "\(name)")
    }

    @Test("a request that is well-formed is told as it is", arguments: wellFormedRequests)
    func wellFormed(name: String, frames: [Frame], lines: [String]) {
        let server = Peer.server()
        server.receive(frames.flatMap(\.bytes))
        #expect(server.lines == lines, "\(name)")
        #expect(server.written() == [], "\(name)")
    }

    @Test("a body that is not what Content-Length says is reset, and its end never told")
    func contentLength() {
        let cases: [(String, [Frame], [String])] = [
            ("too short", [.headers(1, post([("content-length", "5")]), end: false), .data(1, "1234", end: true)], []),
            ("too long", [.headers(1, post([("content-length", "5")]), end: false), .data(1, "123456")], []),
            ("too long at the end", [.headers(1, post([("content-length", "5")]), end: false), .data(1, "123456", end: true)], []),
            (
                "short before trailers",
                [.headers(1, post([("content-length", "5")]), end: false), .data(1, "1234"), .headers(1, [("x", "y")])], []
            ),
        ]
        for (name, frames, lines) in cases {
            // In one piece nothing is told; in two the stream is closed before its end.
            let whole = Peer.server()
            whole.receive(frames.flatMap(\.bytes))
            #expect(whole.lines == lines, "\(name)")
            #expect(whole.written().last == "RST_STREAM 1 protocol_error", "\(name)")

            let pieces = Peer.server()
            for frame in frames { pieces.receive(frame) }
            #expect(pieces.lines == ["head 1 POST http://a/ | content-length: 5", "closed 1 protocol_error"], "\(name)")
            #expect(pieces.written().contains("RST_STREAM 1 protocol_error"), "\(name)")
        }
    }

    @Test("a response is refused by the same rules: the stream is closed and its end never told", arguments: malformedResponses)
    func malformedResponse(name: String, frames: [Frame], lines: [String]) {
        let client = Peer.client()
        let stream = client.session.request(requestHead(), endStream: true, context: nil)
        _ = client.output()
        client.receive(frames.flatMap(\.bytes))
        #expect(client.lines == lines, "\(name)")
        #expect(client.written() == ["RST_STREAM 1 protocol_error"], "\(name)")
        #expect(stream?.isClosed == true)
        #expect(client.session.openStreams == 0)
    }

    @Test("a response that ends with its connection in the middle has no end")
    func truncated() {
        let client = Peer.client()
        _ = client.session.request(requestHead(), endStream: true, context: nil)
        _ = client.output()
        client.receive(.headers(1, [(":status", "200")], end: false), .data(1, "half"))
        #expect(client.lines == ["head 1 200"])
        #expect(client.session.abandonStreams().map(\.id) == [1])
    }

    @Test("responses without a body have none, whatever Content-Length says")
    func withoutBody() {
        for (method, status) in [("HEAD", "200"), ("GET", "304"), ("GET", "204")] {
            let client = Peer.client()
            _ = client.session.request(requestHead(method), endStream: true, context: nil)
            _ = client.output()
            let fields = [(":status", status)] + (status == "204" ? [] : [("content-length", "100")])
            client.receive(.headers(1, fields))
            #expect(client.lines == ["head 1 \(status)\(status == "204" ? "" : " | content-length: 100") fin"], "\(method) \(status)")
            #expect(client.written() == [])
        }
    }

    @Test("interim responses come before the final one, each with its own fields, also in one piece")
    func interim() {
        let client = Peer.client()
        _ = client.session.request(requestHead(), endStream: true, context: nil)
        _ = client.output()
        client.receive(
            .headers(1, [(":status", "100")], end: false), .headers(1, [(":status", "103"), ("link", "</a>")], end: false),
            .headers(1, [(":status", "200"), ("a", "b")], end: false), .data(1, "x", end: true))
        #expect(client.lines == ["interim 1 100", "interim 1 103 | link: </a>", "head 1 200 | a: b", "end 1"])
    }

    @Test("endless interim responses are reset")
    func endlessInterim() {
        let client = Peer.client()
        _ = client.session.request(requestHead(), endStream: true, context: nil)
        _ = client.output()
        for _ in 0..<64 { client.receive(.headers(1, [(":status", "102")], end: false)) }
        #expect(client.lines.count == 64)
        client.receive(.headers(1, [(":status", "102")], end: false))
        #expect(client.lines.last == "closed 1 enhance_your_calm")
    }

    @Test("trailers lose what must not stand there")
    func trailersAreFiltered() {
        let server = Peer.server()
        server.receive(
            .headers(1, post(), end: false),
            .headers(1, [("grpc-status", "0"), ("authorization", "x"), ("x-envoy-a", "b"), ("x-sum", "1")]))
        #expect(server.lines == ["head 1 POST http://a/", "trailers 1 grpc-status: 0 | x-sum: 1", "end 1"])
    }

    @Test("a field that must never be indexed stays so")
    func neverIndexed() {
        let server = Peer.server()
        let secret = [0x10] + hpackString("x-secret") + hpackString("1")
        server.receive(Frame(.headers, Frame.endHeaders | Frame.endStream, stream: 1, block(get()) + secret))
        #expect(server.lines == ["head 1 GET http://a/ | x-secret: 1 (never indexed) fin"])
        // And on the next hop.
        let client = Peer.client()
        _ = client.session.request(server.streams[1]!.head, endStream: true, context: nil)
        let frame = Frame.parse(client.output()).first!
        #expect(frame.payload.contains(0x10))
    }

    @Test("the head of a stream has its length, and its protocol")
    func facts() {
        var limits = HTTP2Limits()
        limits.allowsExtendedConnect = true
        let server = Peer.server(limits)
        server.receive(
            .headers(1, post([("content-length", "12")]), end: false),
            .headers(
                3, [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", "a"), (":path", "/chat")],
                end: false)
        )
        #expect(server.streams[1]?.contentLength == 12)
        let connect = server.streams[3]!
        #expect(connect.contentLength == nil)
        #expect(connect.isExtendedConnect)
        #expect(connect.head.string(connect.protocolName) == "websocket")
        #expect(connect.head.method == .connect)
        #expect(connect.head.string(connect.head.path) == "/chat")
    }
}

private func request(_ name: String, _ fields: [(String, String)], end: Bool = true) -> (String, [Frame]) {
    (name, [.headers(1, fields, end: end)])
}

private let malformedRequests: [(String, [Frame])] = [
    request("no method", [(":scheme", "http"), (":authority", "a"), (":path", "/")]),
    request("no scheme", [(":method", "GET"), (":authority", "a"), (":path", "/")]),
    request("no path", [(":method", "GET"), (":scheme", "http"), (":authority", "a")]),
    request("empty path", [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "")]),
    request("neither authority nor host", [(":method", "GET"), (":scheme", "http"), (":path", "/")]),
    request("two methods", [(":method", "GET")] + get()),
    request("two paths", get() + [(":path", "/b")]),
    request("two authorities", [(":authority", "b")] + get()),
    request("pseudo after regular", [("x", "y")] + get()),
    request("unknown pseudo", [(":unknown", "y")] + get()),
    request("status in a request", [(":status", "200")] + get()),
    request("junk scheme", [(":method", "GET"), (":scheme", "gopher"), (":authority", "a"), (":path", "/")]),
    request("scheme with a space", [(":method", "GET"), (":scheme", "ht tp"), (":authority", "a"), (":path", "/")]),
    request("host differs from authority", get("/", [("host", "b")])),
    request("two hosts", [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a"), ("host", "a")]),
    request("authority with user information", [(":method", "GET"), (":scheme", "http"), (":authority", "u@a"), (":path", "/")]),
    request("authority with a path", [(":method", "GET"), (":scheme", "http"), (":authority", "a/b"), (":path", "/")]),
    request("authority with a bad port", [(":method", "GET"), (":scheme", "http"), (":authority", "a:99999"), (":path", "/")]),
    request("empty authority", [(":method", "GET"), (":scheme", "http"), (":authority", ""), (":path", "/")]),
    request("upper-case name", get("/", [("X-Upper", "y")])),
    request("empty name", get("/", [("", "y")])),
    request("name with a space", get("/", [("x y", "z")])),
    request("name with a colon", get("/", [("x:y", "z")])),
    request("name with UTF-8", get("/", [("ü", "z")])),
    request("line feed in a value", get("/", [("x", "a\nb")])),
    request("carriage return in a value", get("/", [("x", "a\rb")])),
    request("both in a value", get("/", [("x", "a\r\ny: b")])),
    request("NUL in a value", get("/", [("x", "a\0b")])),
    request("leading space in a value", get("/", [("x", " a")])),
    request("trailing tab in a value", get("/", [("x", "a\t")])),
    request("space in the path", get("/a b")),
    request("line feed in the path", get("/a\r\nx: y")),
    request("fragment in the path", get("/a#b")),
    request("UTF-8 in the path", get("/ä")),
    request("path without a slash", get("a")),
    request("asterisk but not OPTIONS", get("*")),
    request("method with a space", [(":method", "GE T"), (":scheme", "http"), (":authority", "a"), (":path", "/")]),
    request("empty method", [(":method", ""), (":scheme", "http"), (":authority", "a"), (":path", "/")]),
    request("connection", get("/", [("connection", "close")])),
    request("keep-alive", get("/", [("keep-alive", "1")])),
    request("proxy-connection", get("/", [("proxy-connection", "close")])),
    request("transfer-encoding", get("/", [("transfer-encoding", "chunked")])),
    request("upgrade", get("/", [("upgrade", "h2c")])),
    request("te but trailers", get("/", [("te", "gzip")])),
    request("te with more", get("/", [("te", "trailers, gzip")])),
    request("two lengths", post([("content-length", "1"), ("content-length", "1")])),
    request("no number as length", post([("content-length", "+1")])),
    request("empty length", post([("content-length", "")])),
    request("length in hexadecimal", post([("content-length", "0x1")])),
    request("length beyond 63 bits", post([("content-length", "9223372036854775808")])),
    request("length without a body", post([("content-length", "5")])),
    request("CONNECT with a path", [(":method", "CONNECT"), (":authority", "a:1"), (":path", "/")], end: false),
    request("CONNECT with a scheme", [(":method", "CONNECT"), (":authority", "a:1"), (":scheme", "http")], end: false),
    request("CONNECT without a port", [(":method", "CONNECT"), (":authority", "a")], end: false),
    request("CONNECT without an authority", [(":method", "CONNECT")], end: false),
    request(
        "extended CONNECT that was not offered",
        [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "a"), (":path", "/")], end: false),
    request("protocol without CONNECT", get() + [(":protocol", "websocket")]),
    ("trailers without an end", [.headers(1, post(), end: false), .headers(1, [("x", "y")], end: false)]),
    ("pseudo in trailers", [.headers(1, post(), end: false), .headers(1, [(":path", "/")])]),
    ("upper case in trailers", [.headers(1, post(), end: false), .headers(1, [("X", "y")])]),
    ("connection in trailers", [.headers(1, post(), end: false), .headers(1, [("connection", "close")])]),
]

private let wellFormedRequests: [(String, [Frame], [String])] = [
    (
        "host instead of authority", [.headers(1, [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "b:80")])],
        ["head 1 GET http://b:80/ | host: b:80 fin"]
    ),
    ("host that agrees", [.headers(1, get("/", [("host", "A")]))], ["head 1 GET http://a/ fin"]),
    (
        "cookies are joined", [.headers(1, get("/", [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]))],
        ["head 1 GET http://a/ | cookie: a=1; b=2; c=3 | x: y fin"]
    ),
    ("one cookie", [.headers(1, get("/", [("cookie", "a=1")]))], ["head 1 GET http://a/ | cookie: a=1 fin"]),
    ("te: trailers", [.headers(1, get("/", [("te", "trailers")]))], ["head 1 GET http://a/ | te: trailers fin"]),
    (
        "https", [.headers(1, [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")])],
        ["head 1 GET https://a/ fin"]
    ),
    ("obs-text in a value", [.headers(1, get("/", [("x", "ü")]))], ["head 1 GET http://a/ | x: ü fin"]),
    (
        "OPTIONS *", [.headers(1, [(":method", "OPTIONS"), (":scheme", "http"), (":authority", "a"), (":path", "*")])],
        ["head 1 OPTIONS http://a* fin"]
    ),
    ("CONNECT", [.headers(1, [(":method", "CONNECT"), (":authority", "a:443")], end: false)], ["head 1 CONNECT http://a:443"]),
    (
        "an address", [.headers(1, [(":method", "GET"), (":scheme", "http"), (":authority", "[::1]:80"), (":path", "/?q")])],
        ["head 1 GET http://[::1]:80/?q fin"]
    ),
    ("empty DATA ends", [.headers(1, post(), end: false), Frame(.data, Frame.endStream, stream: 1)], ["head 1 POST http://a/", "end 1"]),
    ("length of nothing", [.headers(1, post([("content-length", "0")]))], ["head 1 POST http://a/ | content-length: 0 fin"]),
    (
        "trailers that all must not stand there", [.headers(1, post(), end: false), .headers(1, [("content-length", "0")])],
        ["head 1 POST http://a/", "end 1"]
    ),
    ("empty trailers", [.headers(1, post(), end: false), .headers(1, [])], ["head 1 POST http://a/", "end 1"]),
    (
        "padded frames",
        [
            Frame(.headers, Frame.endHeaders | Frame.padded, stream: 1, [3] + block(post()) + [0, 0, 0]),
            Frame(.data, Frame.padded | Frame.endStream, stream: 1, [2, 65, 0, 0]),
        ],
        ["head 1 POST http://a/", "end 1"]
    ),
]

private let malformedResponses: [(String, [Frame], [String])] = [
    ("no status", [.headers(1, [("a", "b")])], ["closed 1 protocol_error"]),
    ("two statuses", [.headers(1, [(":status", "200"), (":status", "200")])], ["closed 1 protocol_error"]),
    ("short status", [.headers(1, [(":status", "20")])], ["closed 1 protocol_error"]),
    ("status with letters", [.headers(1, [(":status", "2x0")])], ["closed 1 protocol_error"]),
    ("status 99", [.headers(1, [(":status", "099")])], ["closed 1 protocol_error"]),
    ("101", [.headers(1, [(":status", "101")], end: false)], ["closed 1 protocol_error"]),
    ("method in a response", [.headers(1, [(":status", "200"), (":method", "GET")])], ["closed 1 protocol_error"]),
    ("connection", [.headers(1, [(":status", "200"), ("connection", "close")])], ["closed 1 protocol_error"]),
    ("upper case", [.headers(1, [(":status", "200"), ("Date", "x")])], ["closed 1 protocol_error"]),
    ("line feed in a value", [.headers(1, [(":status", "200"), ("a", "b\nc")])], ["closed 1 protocol_error"]),
    ("interim that ends", [.headers(1, [(":status", "100")])], ["closed 1 protocol_error"]),
    ("end without a body", [.headers(1, [(":status", "200"), ("content-length", "5")])], ["closed 1 protocol_error"]),
    (
        "body too short", [.headers(1, [(":status", "200"), ("content-length", "5")], end: false), .data(1, "123", end: true)],
        ["head 1 200 | content-length: 5", "closed 1 protocol_error"]
    ),
    (
        "body too long", [.headers(1, [(":status", "200"), ("content-length", "2")], end: false), .data(1, "123")],
        ["head 1 200 | content-length: 2", "closed 1 protocol_error"]
    ),
    ("body of 204 announced", [.headers(1, [(":status", "204"), ("content-length", "2")], end: false)], ["closed 1 protocol_error"]),
    (
        "body of 204", [.headers(1, [(":status", "204")], end: false), .data(1, "12", end: true)],
        ["head 1 204", "closed 1 protocol_error"]
    ),
]
