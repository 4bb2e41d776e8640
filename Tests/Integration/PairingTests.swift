import ProxyConfig
import TestSupport
import Testing

/// A message means the same on both sides of the proxy, whichever protocol each of them speaks.
@Suite struct PairingTests {
    private static func body(_ size: Int) -> [UInt8] { Pattern.bytes(size) }

    // MARK: Whole messages

    @Test("a body arrives as it was sent, both ways, with a length and without", arguments: Pairing.all, Sizing.allCases)
    func echo(pairing: Pairing, sizing: Sizing) throws {
        let origin = try Origin.speaking(pairing.upstream) { request in
            Reply(
                fields: [("x-method", request.method), ("x-length", request.value("content-length") ?? "none")], body: request.body,
                sizing: sizing)
        }
        try pairing.withProxy(to: [origin.port]) { (proxy) throws in
            let caller = try Caller(pairing.downstream, to: proxy.port)
            for size in [0, 1, 65536, 300_000] {
                let answer = try caller.exchange(Ask(method: "POST", path: "/echo", body: Self.body(size), sizing: sizing))
                #expect(
                    answer.status == 200 && answer.isWhole && answer.value("x-method") == "POST",
                    "\(size): \(answer.status) \(answer.fields)")
                #expect(answer.body == Self.body(size), "\(answer.body.count) of \(size) bytes")
                #expect(answer.value("x-length") == (sizing == .length ? "\(size)" : "none"))
                // An end that came with the head is a length of nothing in HTTP/1.1.
                let isEmpty = size == 0 && pairing.upstream == .http2 && pairing.downstream == .http1
                #expect(answer.value("content-length") == (sizing == .length || isEmpty ? "\(size)" : nil))
            }
        }
        #expect(origin.connections.count == 1)
    }

    @Test("method, path, authority and fields arrive, and repeated fields stay apart, both ways", arguments: Pairing.all)
    func fields(pairing: Pairing) throws {
        let origin = try Origin.speaking(pairing.upstream) { request in
            #expect(request.method == "PATCH" && request.path == "/a/b?c=d&e" && request.authority == "a")
            #expect(request.values("x-many") == ["1", "2"] && request.value("x-empty") == "")
            return Reply("ok", fields: [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-empty", "")])
        }
        try pairing.withProxy(to: [origin.port]) { (proxy) throws in
            let ask = Ask(
                method: "PATCH", path: "/a/b?c=d&e", fields: [("x-many", "1"), ("x-empty", ""), ("x-many", "2")], body: [120])
            let answer = try Caller(pairing.downstream, to: proxy.port).exchange(ask)
            #expect(answer.bodyText == "ok" && answer.values("set-cookie") == ["a=1", "b=2"] && answer.value("x-empty") == "")
        }
    }

    @Test("cookies that HTTP/2 splits are one field for an endpoint of either protocol", arguments: Wire.allCases)
    func cookies(upstream: Wire) throws {
        let pairing = Pairing(downstream: .http2, upstream: upstream)
        let origin = try Origin.speaking(upstream) { request in Reply(request.values("cookie").joined(separator: " AND ")) }
        try pairing.withProxy(to: [origin.port]) { (proxy) throws in
            let ask = Ask(fields: [("cookie", "a=1"), ("x-between", "1"), ("cookie", "b=2"), ("cookie", "c=3")])
            #expect(try Caller(.http2, to: proxy.port).exchange(ask).bodyText == "a=1; b=2; c=3")
        }
    }

    @Test("what belongs to one connection stays on it, both ways", arguments: Pairing.all)
    func hopByHop(pairing: Pairing) throws {
        let hop = ["connection", "keep-alive", "proxy-connection", "x-nominated", "upgrade", "http2-settings"]
        let origin = try Origin.speaking(pairing.upstream) { request in
            for name in hop { #expect(request.value(name) == nil, "\(name): \(request.value(name) ?? "")") }
            let framing: [HTTP2Field] =
                pairing.upstream == .http1
                ? [("connection", "keep-alive, x-nominated"), ("keep-alive", "timeout=5"), ("x-nominated", "1")] : []
            return Reply("ok", fields: framing + [("x-kept", "1")])
        }
        try pairing.withProxy(to: [origin.port]) { (proxy) throws in
            let framing: [HTTP2Field] =
                pairing.downstream == .http1
                ? [
                    ("connection", "keep-alive, x-nominated"), ("keep-alive", "timeout=5"), ("x-nominated", "1"),
                    ("proxy-connection", "close"),
                ]
                : []
            let answer = try Caller(pairing.downstream, to: proxy.port).exchange(Ask(fields: framing + [("x-kept", "1")]))
            #expect(answer.bodyText == "ok" && answer.value("x-kept") == "1")
            for name in hop where pairing.downstream == .http2 || name != "connection" { #expect(answer.value(name) == nil, "\(name)") }
        }
    }

    @Test("te: trailers is told to the endpoint, and no other coding is", arguments: Pairing.all)
    func te(pairing: Pairing) throws {
        let origin = try Origin.speaking(pairing.upstream) { request in Reply(request.value("te") ?? "none") }
        try pairing.withProxy(to: [origin.port]) { (proxy) throws in
            let caller = try Caller(pairing.downstream, to: proxy.port)
            let connection: [HTTP2Field] = pairing.downstream == .http1 ? [("connection", "te")] : []
            #expect(try caller.exchange(Ask(fields: [("te", "trailers")] + connection)).bodyText == "trailers")
            #expect(try caller.exchange(Ask()).bodyText == "none")
            if pairing.downstream == .http1 {
                #expect(try caller.exchange(Ask(fields: [("te", "gzip;q=0.5")] + connection)).bodyText == "none")
            }
        }
    }

    @Test("answers without a body end with their head: HEAD, 204, 304", arguments: Pairing.all)
    func withoutBody(pairing: Pairing) throws {
        let origin = try Origin.speaking(pairing.upstream) { request in
            switch (request.method, request.path) {
            case ("HEAD", _): Reply(fields: [("content-length", "1000")])
            case (_, "/204"): Reply(status: 204)
            case (_, "/304"): Reply(status: 304, fields: [("etag", "\"a\""), ("content-length", "1000")])
            default: Reply("body")
            }
        }
        try pairing.withProxy(to: [origin.port]) { (proxy) throws in
            let caller = try Caller(pairing.downstream, to: proxy.port)
            let head = try caller.exchange(Ask(method: "HEAD"))
            #expect(head.status == 200 && head.isWhole && head.value("content-length") == "1000" && head.body.isEmpty)
            let none = try caller.exchange(Ask(path: "/204"))
            #expect(none.status == 204 && none.isWhole && none.value("content-length") == nil)
            let same = try caller.exchange(Ask(path: "/304"))
            #expect(same.status == 304 && same.isWhole && same.value("etag") == "\"a\"")
            #expect(try caller.exchange(Ask()).bodyText == "body")
        }
        #expect(origin.connections.count == 1)
    }

    @Test("trailers arrive, both ways, behind a body and without one", arguments: Pairing.all, [0, 3, 100_000])
    func trailers(pairing: Pairing, size: Int) throws {
        let origin = try Origin.speaking(pairing.upstream) { request in
            #expect(request.trailer("x-sum") == "up" && request.body.count == size, "\(request.trailers) \(request.body.count)")
            return Reply(body: request.body, trailers: [("x-sum", "down"), ("x-more", "2")])
        }
        try pairing.withProxy(to: [origin.port]) { (proxy) throws in
            let ask = Ask(method: "POST", fields: [("te", "trailers")], body: Self.body(size), trailers: [("x-sum", "up")])
            let answer = try Caller(pairing.downstream, to: proxy.port).exchange(ask)
            #expect(answer.isWhole && answer.body == Self.body(size))
            #expect(answer.trailer("x-sum") == "down" && answer.trailer("x-more") == "2", "\(answer.trailers)")
        }
    }

    @Test("what only a head may say is not taken from trailers, either way", arguments: Pairing.all)
    func forbiddenTrailers(pairing: Pairing) throws {
        let origin = try Origin.speaking(pairing.upstream) { request in
            #expect(request.trailer("authorization") == nil && request.value("authorization") == nil)
            return Reply(body: [120], trailers: [("set-cookie", "a=1"), ("x-sum", "down")])
        }
        try pairing.withProxy(to: [origin.port]) { (proxy) throws in
            let trailers: [HTTP2Field] = [("authorization", "Basic eA=="), ("x-sum", "up")]
            let answer = try Caller(pairing.downstream, to: proxy.port).exchange(Ask(method: "POST", body: [120], trailers: trailers))
            #expect(answer.isWhole && answer.trailer("x-sum") == "down" && answer.trailer("set-cookie") == nil, "\(answer.trailers)")
        }
    }

    @Test("interim answers come before the answer, in order", arguments: Pairing.all)
    func interim(pairing: Pairing) throws {
        let origin = try Origin.speaking(pairing.upstream) { _ in Reply(body: [120], interims: [103, 103]) }
        try pairing.withProxy(to: [origin.port]) { (proxy) throws in
            let caller = try Caller(pairing.downstream, to: proxy.port)
            for _ in 0..<3 {
                let answer = try caller.exchange(Ask())
                #expect(answer.interims == [103, 103] && answer.status == 200 && answer.bodyText == "x")
            }
        }
    }

    @Test("a body that ends with the endpoint's connection is whole for a caller of either protocol", arguments: Wire.allCases)
    func closeDelimited(downstream: Wire) throws {
        let origin = try Origin { connection in
            _ = try connection.readRequest()
            try connection.send("HTTP/1.1 200 OK\r\n\r\nfirst ")
            try connection.send("second")
        }
        try Pairing(downstream: downstream, upstream: .http1).withProxy(to: [origin.port]) { (proxy) throws in
            let caller = try Caller(downstream, to: proxy.port)
            for _ in 0..<2 {
                let answer = try caller.exchange(Ask())
                #expect(answer.isWhole && answer.bodyText == "first second")
            }
        }
    }

    @Test("Expect: 100-continue asks the endpoint, and the body follows its word", arguments: Wire.allCases)
    func expects(upstream: Wire) throws {
        let origin =
            try upstream == .http1
            ? Origin { connection in
                while true {
                    _ = try connection.read(until: "\r\n\r\n")
                    try connection.send("HTTP/1.1 100 Continue\r\n\r\n")
                    try connection.send(ok(String(decoding: try connection.read(exactly: 5), as: UTF8.self)))
                }
            }
            : Origin { connection in
                let peer = try HTTP2Peer(.server, over: connection)
                while let stream = try peer.nextRequest() {
                    try peer.send(.headers(stream, [(":status", "100")]))
                    try peer.answer(stream, body: try peer.whole(stream).body)
                }
            }
        let expectation: [HTTP2Field] = [("expect", "100-continue"), ("content-length", "5")]
        try Pairing(downstream: .http1, upstream: upstream).withProxy(to: [origin.port]) { (proxy) throws in
            let old = try proxy.connect()
            try old.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
            #expect(try old.readResponse().status == 100)
            try old.send("hello")
            #expect(try old.readResponse().bodyText == "hello")

            let new = try HTTP2Peer(to: proxy.port)
            let stream = try new.open(HTTP2Peer.head("POST") + expectation, endStream: false)
            try new.wait("100 Continue") { new.streams[stream]?.interims.count == 1 }
            try new.send(.data(stream, Array("hello".utf8), endStream: true))
            let answer = try new.response(stream)
            #expect(answer.bodyText == "hello" && answer.isWhole)
        }
    }

    @Test("both directions flow at the same time", arguments: Pairing.all)
    func duplex(pairing: Pairing) throws {
        let origin =
            try pairing.upstream == .http1
            ? Origin { connection in
                _ = try connection.read(until: "\r\n\r\n")
                try connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                for _ in 0..<10 { try connection.send(try connection.read(until: "\r\n") + connection.read(until: "\r\n")) }
                _ = try connection.read(until: "0\r\n\r\n")
                try connection.send("0\r\n\r\n")
            }
            : Origin { connection in
                let peer = try HTTP2Peer(.server, over: connection)
                guard let stream = try peer.nextRequest() else { return }
                try peer.send(.headers(stream, [(":status", "200")]))
                for count in 1...10 {
                    try peer.wait("piece \(count)") { peer.streams[stream]?.bodyCount == count }
                    try peer.send(.data(stream, [UInt8(ascii: "x")]))
                }
                _ = try peer.whole(stream)
                try peer.send(.data(stream, [], endStream: true))
            }
        try pairing.withProxy(to: [origin.port]) { (proxy) throws in
            switch pairing.downstream {
            case .http1:
                let caller = try proxy.connect()
                try caller.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
                for turn in 0..<10 {
                    try caller.send("1\r\nx\r\n")
                    if turn == 0 { #expect(try shown(caller.read(until: "\r\n\r\n")).contains(" 200 ")) }
                    #expect(try shown(caller.read(until: "x\r\n")) == "1\\r\\n\nx\\r\\n\n")
                }
                try caller.send("0\r\n\r\n")
                #expect(try shown(caller.read(until: "0\r\n\r\n")) == "0\\r\\n\n\\r\\n\n")
            case .http2:
                let caller = try HTTP2Peer(to: proxy.port)
                let stream = try caller.open(HTTP2Peer.head("POST"), endStream: false)
                for count in 1...10 {
                    try caller.send(.data(stream, [UInt8(ascii: "x")]))
                    try caller.wait("piece \(count)") { caller.streams[stream]?.bodyCount == count }
                }
                try caller.send(.data(stream, [], endStream: true))
                #expect(try caller.response(stream).isWhole)
            }
        }
    }

    // MARK: Broken messages

    @Test(
        "a body that the endpoint cuts never looks whole to the caller", arguments: Pairing.all,
        Sizing.allCases.flatMap { sizing in Reply.Cut.allCases.map { (sizing, $0) } })
    func cutByEndpoint(pairing: Pairing, how: (sizing: Sizing, cut: Reply.Cut)) throws {
        let origin = try Origin.speaking(pairing.upstream) { request in
            request.path == "/cut" ? Reply(body: Array("half".utf8), sizing: how.sizing, cut: how.cut) : Reply("well")
        }
        try pairing.withProxy(to: [origin.port]) { (proxy) throws in
            let caller = try Caller(pairing.downstream, to: proxy.port)
            #expect(try caller.exchange(Ask()).bodyText == "well")
            let answer = try caller.exchange(Ask(path: "/cut"))
            #expect(!answer.isWhole, "\(answer)")
            if pairing.downstream == .http2 {
                #expect(answer.reset != nil && answer.status == 200 && answer.bodyText == "half")
                // The other streams of the connection know nothing of it.
                #expect(try caller.exchange(Ask()).bodyText == "well")
            }
        }
    }

    @Test(
        "an endpoint of HTTP/2 whose body is not as long as it said is believed by nobody", arguments: Wire.allCases, [3, 7])
    func wrongLength(downstream: Wire, size: Int) throws {
        let origin = try Origin.http2 { _ in
            HTTP2Answer(fields: [("content-length", "5")], body: Array(repeating: UInt8(ascii: "x"), count: size))
        }
        try Pairing(downstream: downstream, upstream: .http2).withProxy(to: [origin.port]) { (proxy) throws in
            let answer = try Caller(downstream, to: proxy.port).exchange(Ask())
            #expect(!answer.isWhole || answer.status >= 500, "\(answer)")
        }
    }

    @Test("a request whose body is not as long as it said is reset, and nobody takes it for whole", arguments: Wire.allCases, [3, 7])
    func wrongLengthOfRequest(upstream: Wire, size: Int) throws {
        let whole = Counter()
        let origin = try Origin.speaking(upstream) { request in
            if request.path == "/wrong" { whole.add() }
            return Reply("ok")
        }
        try Pairing(downstream: .http2, upstream: upstream).withProxy(to: [origin.port]) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            let answer = try caller.exchange(
                "POST", "/wrong", fields: [("content-length", "5")], body: Array(repeating: UInt8(ascii: "x"), count: size))
            #expect(answer.end == .reset(.protocolError), "\(answer)")
            #expect(try caller.exchange().bodyText == "ok")
        }
        #expect(whole.value == 0)
    }

    @Test("a request that its caller cuts never looks whole to the endpoint", arguments: Pairing.all, Sizing.allCases)
    func cutByCaller(pairing: Pairing, sizing: Sizing) throws {
        let whole = Counter()
        let begun = Counter()
        let ended = Counter()
        let origin =
            try pairing.upstream == .http1
            ? Origin(records: true) { connection in
                begun.add(try connection.read(until: "hal").count)
                let rest = try connection.readToEnd().bytes
                if String(decoding: rest, as: UTF8.self).hasSuffix("0\r\n\r\n") { whole.add() }
                ended.add()
            }
            : Origin { connection in
                let peer = try HTTP2Peer(.server, over: connection)
                guard let stream = try peer.nextRequest() else { return }
                try peer.wait("a part of the body") { peer.streams[stream]?.bodyCount == 3 }
                begun.add()
                let request = try peer.whole(stream)
                if request.isWhole { whole.add() }
                #expect(request.end == .reset(.cancel), "\(request.end)")
                ended.add()
            }
        try pairing.withProxy(to: [origin.port]) { (proxy) throws in
            switch pairing.downstream {
            case .http1:
                let caller = try proxy.connect()
                let framing = sizing == .length ? "content-length: 10\r\n\r\nhal" : "transfer-encoding: chunked\r\n\r\n5\r\nhal"
                try caller.send("POST / HTTP/1.1\r\nhost: a\r\n\(framing)")
                try eventually("the endpoint has a part") { begun.value > 0 }
                caller.close()
                try eventually("the endpoint hears of it") { ended.value == 1 }
            case .http2:
                let caller = try HTTP2Peer(to: proxy.port)
                let length: [HTTP2Field] = sizing == .length ? [("content-length", "10")] : []
                let stream = try caller.open(HTTP2Peer.head("POST") + length, endStream: false)
                try caller.send(.data(stream, Array("hal".utf8)))
                try eventually("the endpoint has a part") { begun.value > 0 }
                try caller.send(.reset(stream, .cancel))
                try eventually("the endpoint hears of it") { ended.value == 1 }
            }
        }
        #expect(whole.value == 0)
    }

    @Test("a caller who does not wait for the answer frees the endpoint: RST_STREAM, or RST of its connection", arguments: Pairing.all)
    func cancel(pairing: Pairing) throws {
        let asked = Counter()
        let freed = Counter()
        let origin =
            try pairing.upstream == .http1
            ? Origin { connection in
                _ = try connection.readRequest()
                asked.add()
                _ = try connection.readToEnd()
                freed.add()
            }
            : Origin { connection in
                let peer = try HTTP2Peer(.server, over: connection)
                guard let stream = try peer.nextRequest() else { return }
                asked.add()
                try peer.wait("the reset") { peer.streams[stream]?.end == .reset(.cancel) }
                // The stream alone is over: the connection answers the next.
                freed.add()
                guard let next = try peer.nextRequest() else { return }
                try peer.answer(next, body: Array("next".utf8))
                _ = try peer.readToEnd()
            }
        try pairing.withProxy(to: [origin.port], workers: 1) { (proxy) throws in
            let caller = try Caller(pairing.downstream, to: proxy.port)
            try caller.send(Ask())
            try eventually("the endpoint is asked") { asked.value == 1 }
            try caller.cancel()
            try eventually("the endpoint hears of it") { freed.value == 1 }
            if pairing.upstream == .http2 {
                #expect(try Caller(pairing.downstream, to: proxy.port).exchange(Ask()).bodyText == "next")
                #expect(origin.connections.count == 1)
            }
        }
    }

    @Test("an answer that comes before the end of the request is whole for the caller", arguments: Pairing.all)
    func earlyAnswer(pairing: Pairing) throws {
        let origin =
            try pairing.upstream == .http1
            ? Origin { connection in
                _ = try connection.read(until: "\r\n\r\n")
                try connection.send("HTTP/1.1 413 X\r\ncontent-length: 5\r\nconnection: close\r\n\r\nlarge")
                _ = try connection.isSilent(for: .milliseconds(200))
            }
            : Origin { connection in
                let peer = try HTTP2Peer(.server, over: connection)
                while let stream = try peer.nextRequest() {
                    try peer.answer(stream, status: 413, body: Array("large".utf8))
                    // RFC 9113 section 8.1: what comes of the request is not wanted any more.
                    try peer.send(.reset(stream, .noError))
                }
            }
        try pairing.withProxy(to: [origin.port]) { (proxy) throws in
            switch pairing.downstream {
            case .http1:
                let caller = try proxy.connect()
                try caller.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nhello")
                let answer = try caller.readResponse()
                #expect(answer.status == 413 && answer.bodyText == "large")
            case .http2:
                let caller = try HTTP2Peer(to: proxy.port)
                let stream = try caller.open(HTTP2Peer.head("POST"), endStream: false)
                try caller.send(.data(stream, Array("hello".utf8)))
                try caller.wait("the answer") { caller.streams[stream]?.bodyCount == 5 }
                #expect(caller.streams[stream]?.status == 413)
                try caller.wait("its end") { caller.streams[stream]?.end.isOpen == false }
                #expect([.whole, .reset(.noError)].contains(caller.streams[stream]?.end), "\(String(describing: caller.streams[stream]))")
                // The rest of the request harms nobody.
                try caller.send(.data(stream, [120], endStream: true))
                #expect(try caller.exchange("GET").status == 413)
            }
        }
    }

    // MARK: Nobody to ask

    @Test("nobody there is a 503 that says why, with its body, in both protocols", arguments: Pairing.all)
    func nobody(pairing: Pairing) throws {
        let dead = try Ports.free()
        try pairing.withProxy(to: [dead]) { (proxy) throws in
            let caller = try Caller(pairing.downstream, to: proxy.port)
            for _ in 0..<3 {
                let answer = try caller.exchange(Ask())
                #expect(answer.status == 503 && answer.isWhole && answer.bodyText.contains("upstream connect error"), "\(answer)")
                #expect(answer.value("x-outrigger-details")?.contains("UF ") == true, "\(answer.fields)")
            }
        }
    }

    @Test("an endpoint that closes without an answer is a 503 that says so", arguments: Pairing.all)
    func closesWithoutAnswer(pairing: Pairing) throws {
        let origin =
            try pairing.upstream == .http1
            ? Origin { connection in _ = try connection.readRequest() }
            : Origin { connection in
                let peer = try HTTP2Peer(.server, over: connection)
                _ = try peer.nextRequest()
            }
        try pairing.withProxy(to: [origin.port]) { (proxy) throws in
            let answer = try Caller(pairing.downstream, to: proxy.port).exchange(Ask(method: "POST", body: [120]))
            #expect(answer.status == 503 && answer.isWhole, "\(answer)")
            #expect(answer.value("x-outrigger-details")?.contains("UC ") == true, "\(answer.fields)")
        }
    }

    @Test("an endpoint that speaks another protocol than its cluster says is a 503 or 502, not a riddle", arguments: Wire.allCases)
    func otherProtocol(downstream: Wire) throws {
        let old = try Origin.answering(ok())
        try Pairing(downstream: downstream, upstream: .http2).withProxy(to: [old.port]) { (proxy) throws in
            let answer = try Caller(downstream, to: proxy.port).exchange(Ask())
            #expect([502, 503].contains(answer.status) && answer.isWhole, "\(answer)")
        }
    }

    @Test("an endpoint that does not answer in time is a 504, and its stream is freed", arguments: Pairing.all)
    func timeout(pairing: Pairing) throws {
        let freed = Counter()
        let origin =
            try pairing.upstream == .http1
            ? Origin { connection in
                _ = try connection.readToEnd()
                freed.add()
            }
            : Origin { connection in
                let peer = try HTTP2Peer(.server, over: connection)
                guard let stream = try peer.nextRequest() else { return }
                try peer.wait("the reset") { peer.streams[stream]?.end.isReset == true }
                freed.add()
            }
        try pairing.withProxy(to: [origin.port], action: { $0.timeout = .milliseconds(300) }) { (proxy) throws in
            let answer = try Caller(pairing.downstream, to: proxy.port).exchange(Ask())
            #expect(answer.status == 504 && answer.isWhole, "\(answer)")
            try eventually("the endpoint is freed") { freed.value == 1 }
        }
    }
}
