import Foundation
import ProxyConfig
import TestSupport
import Testing

/// Attack cases H1 to H13 and S14 of the reference, frame by frame, against the whole proxy: refused at the right level, nothing of them
/// at the endpoint, little work and memory for them, and others served as before.
@Suite struct HTTP2AttackTests {
    private typealias Frame = HTTP2Frame
    private static let megabyte = 1 << 20

    // MARK: Messages that are none (H12, S14)

    private static let head = HTTP2Peer.head()
    private static func request(_ fields: HTTP2Field...) -> [HTTP2Field] { head + fields }
    /// The head with one field of another value, or without it.
    private static func request(_ name: String, _ value: String?) -> [HTTP2Field] {
        head.compactMap { field in field.name == name ? value.map { (name, $0) } : field }
    }

    /// Requests without a body that end with their head.
    private static let malformed: [(name: String, fields: [HTTP2Field])] = [
        ("two :path", head + [(":path", "/other")]),
        ("two :method", [(":method", "GET")] + head),
        ("two :authority", head + [(":authority", "b")]),
        ("a pseudo field behind a field", [(":method", "GET"), (":scheme", "http"), ("x", "1"), (":path", "/"), (":authority", "a")]),
        ("an unknown pseudo field", head + [(":unknown", "1")]),
        ("a pseudo field of responses", head + [(":status", "200")]),
        ("no :method", request(":method", nil)),
        ("no :path", request(":path", nil)),
        ("no :scheme", request(":scheme", nil)),
        ("neither :authority nor host", request(":authority", nil)),
        ("an empty :path", request(":path", "")),
        ("an empty :method", request(":method", "")),
        ("another :scheme", request(":scheme", "ftp")),
        (":scheme with junk", request(":scheme", "http://evil/?")),
        ("a space in :path", request(":path", "/a HTTP/1.1")),
        ("a request line in :path", request(":path", "/ HTTP/1.1\r\nHost: b\r\n\r\nGET /smuggled")),
        ("NUL in :path", request(":path", "/\0")),
        (":path that is no path", request(":path", "smuggled")),
        ("a space in :method", request(":method", "GET /smuggled HTTP/1.1\r\nx:")),
        ("CR LF in :authority", request(":authority", "a\r\nx: y")),
        ("a space in :authority", request(":authority", "a b")),
        ("user information in :authority", request(":authority", "user@a")),
        ("host is not :authority", request(("host", "b"))),
        ("two hosts", request(":authority", nil) + [("host", "a"), ("host", "b")]),
        ("upper case in a name", request(("X-Upper", "1"))),
        ("an empty name", request(("", "1"))),
        ("a space in a name", request(("x y", "1"))),
        ("a colon in a name", request(("x:y", "1"))),
        ("CR LF in a name", request(("x\r\ny", "1"))),
        ("CR LF in a value", request(("x", "1\r\ny: 2"))),
        ("LF in a value", request(("x", "1\ny"))),
        ("CR in a value", request(("x", "1\ry"))),
        ("NUL in a value", request(("x", "1\0"))),
        ("connection", request(("connection", "close"))),
        ("keep-alive", request(("keep-alive", "timeout=5"))),
        ("proxy-connection", request(("proxy-connection", "close"))),
        ("transfer-encoding", request(("transfer-encoding", "chunked"))),
        ("upgrade", request(("upgrade", "websocket"))),
        ("te that is not trailers", request(("te", "gzip"))),
        ("two lengths", request(("content-length", "0"), ("content-length", "1"))),
        ("a length with a sign", request(("content-length", "+0"))),
        ("a hexadecimal length", request(("content-length", "0x0"))),
        ("an empty length", request(("content-length", ""))),
        ("a length that no number holds", request(("content-length", "18446744073709551617"))),
        ("a length without a body", request(("content-length", "5"))),
        (":protocol without CONNECT", head + [(":protocol", "websocket")]),
        ("CONNECT with :path", [(":method", "CONNECT"), (":path", "/"), (":authority", "a:80")]),
    ]

    @Test(
        "H12, S14: a malformed request resets its stream, the connection goes on, and the endpoint gets nothing", arguments: Wire.allCases)
    func malformedRequests(upstream: Wire) throws {
        let origin = try Origin.speaking(upstream, records: true) { Reply($0.path) }
        try Pairing(downstream: .http2, upstream: upstream).withProxy(to: [origin.port]) { (proxy) throws in
            for attack in Self.malformed {
                // Many at once would use up the budget for what we are made to reset (H2).
                let caller = try HTTP2Peer(to: proxy.port)
                let answer = try caller.response(try caller.open(attack.fields, endStream: true))
                let isRefused = answer.end == .reset(.protocolError) || answer.status == 400 && answer.isWhole
                #expect(isRefused, "\(attack.name): \(answer)")
                #expect(try caller.exchange("GET", "/good").bodyText == "/good", "\(attack.name)")
            }
        }
        let good = origin.receivedText.ranges(of: "/good").count
        if upstream == .http1 {
            #expect(origin.receivedText.ranges(of: " HTTP/1.1\r\n").count == good && good == Self.malformed.count)
        }
        #expect(!origin.receivedText.contains("smuggled"))
    }

    @Test(
        "S14: trailers and bodies that break the rules reset their stream, and never look whole to the endpoint", arguments: Wire.allCases)
    func malformedEnds(upstream: Wire) throws {
        let whole = Counter()
        let origin = try Origin.speaking(upstream) { request in
            if request.path == "/bad" { whole.add() }
            return Reply("ok")
        }
        let ends: [(name: String, fields: [HTTP2Field], frames: (UInt32) -> [HTTP2Frame])] = [
            ("a pseudo field in trailers", [], { [.data($0, [120]), .headers($0, [(":path", "/")], endStream: true)] }),
            ("upper case in trailers", [], { [.data($0, [120]), .headers($0, [("X", "1")], endStream: true)] }),
            ("CR LF in trailers", [], { [.data($0, [120]), .headers($0, [("x", "1\r\ny: 2")], endStream: true)] }),
            ("connection in trailers", [], { [.data($0, [120]), .headers($0, [("connection", "close")], endStream: true)] }),
            ("trailers that do not end the stream", [], { [.data($0, [120]), .headers($0, [("x", "1")])] }),
            ("more than the length", [("content-length", "1")], { [.data($0, [120, 121], endStream: true)] }),
            ("less than the length", [("content-length", "3")], { [.data($0, [120, 121], endStream: true)] }),
            (
                "less than the length, then trailers", [("content-length", "3")],
                { [.data($0, [120]), .headers($0, [("x", "1")], endStream: true)] }
            ),
            ("an end without the body", [("content-length", "3")], { [.data($0, [], endStream: true)] }),
        ]
        try Pairing(downstream: .http2, upstream: upstream).withProxy(to: [origin.port]) { (proxy) throws in
            for attack in ends {
                let caller = try HTTP2Peer(to: proxy.port)
                let stream = try caller.open(HTTP2Peer.head("POST", "/bad") + attack.fields, endStream: false)
                for frame in attack.frames(stream) { try caller.send(frame) }
                let answer = try caller.response(stream)
                #expect(answer.end == .reset(.protocolError) || answer.status == 400, "\(attack.name): \(answer)")
                #expect(try caller.exchange().bodyText == "ok", "\(attack.name)")
            }
        }
        #expect(whole.value == 0)
    }

    @Test("H4: too many fields, split cookies among them, and too large heads are 431 and name the limit")
    func tooMuch() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            let heads: [(String, [HTTP2Field])] = [
                ("100", (0..<101).map { ("x-\($0)", "1") }),
                ("100", (0..<101).map { ("cookie", "a\($0)=1") }),
                ("65536", (0..<5).map { ("x-\($0)", String(repeating: "a", count: 15000)) }),
            ]
            for (limit, fields) in heads {
                let caller = try HTTP2Peer(to: proxy.port)
                let stream = caller.newStream()
                let block = HPACK.encode(Self.head + fields)
                let pieces = stride(from: 0, to: block.count, by: 16384).map { Array(block[$0..<min(block.count, $0 + 16384)]) }
                try caller.send(.block(stream, pieces[0], endStream: true, endHeaders: pieces.count == 1))
                for piece in pieces.dropFirst() { try caller.send(.continuation(stream, piece, endHeaders: piece == pieces.last)) }
                let answer = try caller.response(stream)
                #expect(answer.status == 431 && answer.isWhole && answer.bodyText.contains(limit), "\(answer)")
                #expect(try caller.exchange().status == 200)
            }
            // What the limits allow passes.
            let caller = try HTTP2Peer(to: proxy.port)
            #expect(try caller.exchange(fields: (0..<95).map { ("x-\($0)", "1") }).status == 200)
        }
    }

    // MARK: Frames that are none

    /// What ends the connection; sent behind a good request on stream 1 and its answer.
    private static let broken: [(name: String, bytes: [UInt8])] = [
        ("DATA on stream 0", Frame.data(0, [120]).bytes),
        ("HEADERS on stream 0", Frame.headers(0, head, endStream: true).bytes),
        ("HEADERS on an even stream", Frame.headers(2, head, endStream: true).bytes),
        ("DATA on an idle stream", Frame.data(99, [120]).bytes),
        ("RST_STREAM on an idle stream", Frame.reset(99, .cancel).bytes),
        ("RST_STREAM on stream 0", Frame.reset(0, .cancel).bytes),
        ("RST_STREAM of a wrong size", Frame(.reset, stream: 1, [0]).bytes),
        ("WINDOW_UPDATE on an idle stream", Frame.windowUpdate(99, 1).bytes),
        ("WINDOW_UPDATE of nothing", Frame.windowUpdate(0, 0).bytes),
        ("a window beyond 2^31 - 1", Frame.windowUpdate(0, 0x7fff_ffff).bytes + Frame.windowUpdate(0, 0x7fff_ffff).bytes),
        ("WINDOW_UPDATE of a wrong size", Frame(.windowUpdate, [0, 0, 1]).bytes),
        ("SETTINGS on a stream", Frame(.settings, stream: 1).bytes),
        ("SETTINGS of a wrong size", Frame(.settings, [0, 1, 0]).bytes),
        ("an acknowledgement with settings", Frame(.settings, flags: Frame.acknowledgement, [0, 1, 0, 0, 0, 0]).bytes),
        ("ENABLE_PUSH of 2", Frame.settings([.enablePush: 2]).bytes),
        ("a window of 2^31", Frame.settings([.initialWindowSize: 0x8000_0000]).bytes),
        ("a frame size of 1", Frame.settings([.maxFrameSize: 1]).bytes),
        ("PING of a wrong size", Frame.ping([0]).bytes),
        ("PING on a stream", Frame(.ping, stream: 1, Array("pingpong".utf8)).bytes),
        ("GOAWAY on a stream", Frame(.goAway, stream: 1, Array(repeating: 0, count: 8)).bytes),
        ("PUSH_PROMISE of a caller", Frame(.pushPromise, flags: Frame.endHeaders, stream: 1, [0, 0, 0, 2] + HPACK.encode(head)).bytes),
        ("CONTINUATION of nothing", Frame.continuation(3, HPACK.encode(head), endHeaders: true).bytes),
        ("a frame inside a header block", Frame.block(3, HPACK.encode(head), endHeaders: false).bytes + Frame.ping().bytes),
        (
            "CONTINUATION of another stream",
            Frame.block(3, HPACK.encode(head), endHeaders: false).bytes + Frame.continuation(5, [], endHeaders: true).bytes
        ),
        (
            "padding longer than its frame",
            Frame.headers(3, head).bytes + Frame(.data, flags: Frame.padded, stream: 3, [200, 120]).bytes
        ),
        ("HEADERS with too much padding", Frame(.headers, flags: Frame.padded | Frame.endHeaders, stream: 3, [200, 0x82]).bytes),
        ("a frame larger than we take", Frame(.data, stream: 1, Array(repeating: 0, count: 16385)).bytes),
        ("HPACK: entry 0", Frame.block(3, [0x80]).bytes),
        ("HPACK: an entry that is not there", Frame.block(3, HPACK.indexed(100)).bytes),
        ("HPACK: a number without an end", Frame.block(3, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).bytes),
        ("HPACK: a text without an end", Frame.block(3, [0x00, 0x7f, 0x01]).bytes),
        ("HPACK: a table larger than we allow", Frame.block(3, HPACK.tableSize(1 << 20)).bytes),
        ("HPACK: the table's size behind a field", Frame.block(3, [0x82] + HPACK.tableSize(0)).bytes),
        ("the preface again", HTTP2Peer.preface),
        ("a request of HTTP/1.1", Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)),
    ]

    @Test("broken frames end their connection with GOAWAY, and no other")
    func brokenFrames() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            let other = try HTTP2Peer(to: proxy.port)
            for attack in Self.broken {
                let caller = try HTTP2Peer(to: proxy.port)
                #expect(try caller.exchange().status == 200)
                try caller.connection.send(attack.bytes)
                guard (try? caller.readToEnd(within: .seconds(10))) != nil else {
                    Issue.record("\(attack.name): the connection stays open")
                    continue
                }
                #expect(caller.goAways.contains { $0.code != .noError }, "\(attack.name): \(caller.goAways)")
                #expect(try other.exchange().status == 200, "\(attack.name)")
            }
        }
    }

    @Test("frames that mean nothing, or come too late to mean anything, are ignored, and cost nothing")
    func ignored() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            let before = proxy.residentBytes
            for _ in 0..<3 { #expect(try caller.exchange().status == 200) }
            // RFC 9113 section 5.5: kinds that nobody knows; section 5.1: what crosses the end of its stream.
            let unknown = (0..<90).flatMap { _ in HTTP2Frame(type: 200, flags: 0xff, stream: 0, payload: [1, 2, 3]).bytes }
            try caller.connection.send(unknown)
            try caller.send(.headers(1, Self.head, endStream: true), .windowUpdate(3, 1), .reset(3, .cancel), .data(5, [120]))
            try caller.roundTrip()
            #expect(try caller.exchange().status == 200)
            #expect(proxy.residentBytes - before < Self.megabyte)
        }
        #expect(origin.receivedText.ranges(of: " HTTP/1.1\r\n").count == 4)
    }

    @Test("bytes that are nothing at all end their connection", arguments: 0..<8)
    func garbage(seed: UInt64) throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            var state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 1
            func next() -> UInt64 {
                state ^= state << 13
                state ^= state >> 7
                state ^= state << 17
                return state
            }
            for _ in 0..<20 {
                let caller = try proxy.connect()
                var bytes = HTTP2Peer.preface + Frame.settings().bytes
                for _ in 0..<50 {
                    let payload = (0..<Int(next() % 40)).map { _ in UInt8(truncatingIfNeeded: next()) }
                    bytes +=
                        Frame(
                            type: UInt8(next() % 11), flags: UInt8(truncatingIfNeeded: next()), stream: UInt32(next() % 8), payload: payload
                        ).bytes
                }
                try? caller.send(bytes)
                caller.finishSending()
                _ = try caller.readToEnd()
            }
            #expect(try HTTP2Peer(to: proxy.port).exchange().status == 200)
        }
    }

    // MARK: Floods

    /// Sends pieces until the connection is over; at most so many.
    private func flood(_ caller: HTTP2Peer, _ count: Int, readsAnswers: Bool = true, _ piece: (Int) -> [UInt8]) -> Int {
        for index in 0..<count {
            guard (try? caller.connection.send(piece(index), within: .seconds(5))) != nil else { return index }
            guard readsAnswers, index % 10 == 9 else { continue }
            while (try? caller.connection.isSilent(for: .zero)) == false {
                guard (try? caller.step(within: .seconds(5))) != nil else { return index }
            }
        }
        return count
    }

    private func expectCalm(_ caller: HTTP2Peer, _ what: String) throws {
        _ = try? caller.readToEnd(within: .seconds(10))
        #expect(caller.end != nil, "\(what): the connection stays open")
        #expect(caller.goAways.contains { $0.code == .enhanceYourCalm }, "\(what): \(caller.goAways)")
    }

    @Test("H1: rapid reset costs a handful of requests upstream, and then the connection", arguments: Wire.allCases, [true, false])
    func rapidReset(upstream: Wire, inOnePiece: Bool) throws {
        let asked = Counter()
        let origin = try Origin.speaking(upstream) { request in
            if request.path == "/attack" { asked.add() }
            return Reply("ok")
        }
        try Pairing(downstream: .http2, upstream: upstream).withProxy(to: [origin.port]) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            let attack = HTTP2Peer.head("GET", "/attack")
            let sent = flood(caller, 20000) { index in
                let stream = UInt32(index * 2 + 1)
                let head = Frame.headers(stream, attack, endStream: true).bytes
                if inOnePiece { return head + Frame.reset(stream, .cancel).bytes }
                try? caller.connection.send(head)
                return Frame.reset(stream, .cancel).bytes
            }
            try expectCalm(caller, "\(sent) sent")
            #expect(sent < 20000)
            // A reset that is read with its head costs nothing; the budget bounds what others do.
            #expect(asked.value < 300, "\(asked.value) requests")
            let connections = try proxy.stat(#"envoy_cluster_upstream_cx_total{envoy_cluster_name="origin"}"#)
            #expect(connections <= (inOnePiece || upstream == .http2 ? 20 : 300), "\(connections) connections")
            #expect(try HTTP2Peer(to: proxy.port).exchange().bodyText == "ok")
        }
    }

    @Test("H2: who makes us reset stream after stream loses the connection")
    func madeYouReset() throws {
        let origin = try Origin { connection in connection.stall() }
        try withProxy(to: origin) { (proxy) throws in
            for kind in ["a window update of nothing", "data behind the end", "a malformed head"] {
                let caller = try HTTP2Peer(to: proxy.port)
                let sent = flood(caller, 20000) { index in
                    let stream = UInt32(index * 2 + 1)
                    switch kind {
                    case "a window update of nothing":
                        return Frame.headers(stream, HTTP2Peer.head("POST")).bytes + Frame.windowUpdate(stream, 0).bytes
                    case "data behind the end":
                        return Frame.headers(stream, HTTP2Peer.head(), endStream: true).bytes + Frame.data(stream, [120]).bytes
                    default: return Frame.headers(stream, Self.head + [("X", "1")], endStream: true).bytes
                    }
                }
                _ = try? caller.readToEnd(within: .seconds(10))
                #expect(sent < 20000 && caller.end != nil, "\(kind): \(sent) sent")
                #expect(caller.goAways.contains { $0.code != .noError }, "\(kind): \(caller.goAways)")
            }
        }
    }

    @Test("H3: endless CONTINUATION ends the connection, and costs little memory", arguments: [0, 1, 1000])
    func continuation(size: Int) throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            let before = proxy.residentBytes
            let caller = try HTTP2Peer(to: proxy.port)
            try caller.send(.block(1, HPACK.encode(Self.head), endStream: true, endHeaders: false))
            let piece = size == 0 ? [] : HPACK.encode([("x", String(repeating: "a", count: size))])
            let sent = flood(caller, 100_000) { _ in Frame.continuation(1, piece, endHeaders: false).bytes }
            _ = try? caller.readToEnd(within: .seconds(10))
            #expect(sent < 100_000 && caller.end != nil, "\(sent) sent")
            #expect(proxy.residentBytes - before < 5 * Self.megabyte)
        }
    }

    @Test("H4: references that blow up, and tables that change their size, cost little memory")
    func headerBomb() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            let before = proxy.residentBytes
            // 4,000 bytes that one byte stands for.
            let bomb = HPACK.encode(Self.head) + HPACK.indexing(("x", String(repeating: "a", count: 4000)))
            var callers: [HTTP2Peer] = []
            for _ in 0..<10 {
                let caller = try HTTP2Peer(to: proxy.port)
                callers.append(caller)
                var block = bomb
                for _ in 0..<8000 { block += HPACK.indexed(62) }
                _ = flood(caller, 50) { index in
                    Frame.block(UInt32(index * 2 + 1), index == 0 ? block : HPACK.encode(Self.head) + block.suffix(8000), endStream: true)
                        .bytes
                }
            }
            #expect(proxy.residentBytes - before < 20 * Self.megabyte, "\((proxy.residentBytes - before) >> 20) MB")
            for caller in callers { caller.connection.close() }

            let flipping = try HTTP2Peer(to: proxy.port)
            for index in 0..<200 {
                let block = HPACK.tableSize(0) + HPACK.tableSize(4096) + HPACK.encode(Self.head) + HPACK.indexing(("x-\(index)", "1"))
                let stream = flipping.newStream()
                try flipping.send(.block(stream, block, endStream: true))
                #expect(try flipping.response(stream).status == 200)
            }
        }
    }

    @Test(
        "H6: floods of frames that ask for nothing end the connection, whether the answers are read or not",
        arguments: ["PING", "SETTINGS", "PRIORITY", "empty DATA", "padding alone", "WINDOW_UPDATE"],
        [true, false])
    func frameFlood(kind: String, readsAnswers: Bool) throws {
        let origin = try Origin { connection in connection.stall() }
        try withProxy(to: origin) { (proxy) throws in
            let before = proxy.residentBytes
            let caller = try HTTP2Peer(to: proxy.port)
            try caller.send(.headers(1, HTTP2Peer.head("POST")))
            let frame: HTTP2Frame =
                switch kind {
                case "PING": .ping()
                case "SETTINGS": .settings([.maxConcurrentStreams: 100])
                case "PRIORITY": .priority(1, dependsOn: 0)
                case "empty DATA": .data(1, [])
                case "padding alone": HTTP2Frame(.data, flags: HTTP2Frame.padded, stream: 1, [0])
                default: .windowUpdate(1, 1)
                }
            let bytes = (0..<100).flatMap { _ in frame.bytes }
            let sent = flood(caller, 3000, readsAnswers: readsAnswers) { _ in bytes }
            try expectCalm(caller, "\(sent) hundreds of \(kind)")
            #expect(proxy.residentBytes - before < 8 * Self.megabyte, "\((proxy.residentBytes - before) >> 20) MB")
        }
    }

    @Test("H8, H9: a hundred streams reset at once, again and again, with data behind it, harm nobody")
    func resetsTogether() throws {
        let origin = try Origin.http { request in
            _ = request
            return Array(ok().utf8)
        }
        try withProxy(to: origin) { (proxy) throws in
            let before = proxy.program.descriptorCount
            for _ in 0..<10 {
                let caller = try HTTP2Peer(to: proxy.port)
                let streams = try (0..<50).map { _ in try caller.open(HTTP2Peer.head("POST"), endStream: false) }
                try caller.connection.send(streams.flatMap { Frame.reset($0, .cancel).bytes + Frame.data($0, [120]).bytes })
                _ = try? caller.exchange(within: .seconds(10))
                caller.connection.close()
            }
            #expect(try HTTP2Peer(to: proxy.port).exchange().status == 200)
            try eventually("their connections are given back") { proxy.program.descriptorCount <= before + 60 }
        }
    }

    @Test("H13: a preface that does not come, or SETTINGS that are never acknowledged, end the connection")
    func silence() throws {
        let origin = try Origin.answering(ok())
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1, manager: { $0.requestHeadersTimeout = .seconds(1) }) }) {
            (proxy) throws in
            let half = try proxy.connect()
            try half.send(Array(HTTP2Peer.preface.prefix(10)))
            let prefaceOnly = try proxy.connect()
            try prefaceOnly.send(HTTP2Peer.preface)
            let unacknowledged = try HTTP2Peer(to: proxy.port)
            unacknowledged.acknowledgesSettings = false
            #expect(try unacknowledged.exchange().status == 200)
            _ = try half.readToEnd(within: .seconds(20))
            _ = try prefaceOnly.readToEnd(within: .seconds(20))
            try unacknowledged.readToEnd(within: .seconds(20))
        }
    }

    @Test("T8: a head that comes byte by byte has as much time as one of HTTP/1.1, also where another request is open")
    func slowHead() throws {
        let origin = try Origin { connection in
            _ = try connection.readRequest()
            _ = try connection.readToEnd()
        }
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1, manager: { $0.requestHeadersTimeout = .seconds(1) }) }) {
            (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            try caller.settle()
            let open = try caller.request()
            let start = ContinuousClock.now
            try caller.connection.send(Frame.block(3, HPACK.encode(Self.head), endStream: true, endHeaders: false).bytes)
            let rest = Frame.continuation(3, HPACK.encode([("x", String(repeating: "a", count: 200))]), endHeaders: true).bytes
            try caller.connection.send(Array(rest[..<9]))
            for byte in rest[9...].dropLast() {
                guard (try? caller.connection.send([byte])) != nil else { break }
                if try !caller.connection.isSilent(for: .milliseconds(100)) { break }
            }
            _ = try caller.readToEnd(within: .seconds(20))
            #expect(caller.goAways.map(\.code) == [.enhanceYourCalm])
            #expect(caller.streams[open]?.end != .whole)
            #expect(ContinuousClock.now - start < .seconds(15))
            let timeouts = try proxy.stat(#"envoy_http_downstream_rq_header_timeout{envoy_http_conn_manager_prefix="egress"}"#)
            #expect(timeouts == 1, "\(proxy.log)")
        }
    }

    // MARK: Endpoints that attack

    /// What an endpoint answers to a request on a stream, and whether it has ended the connection with it.
    private static let badAnswers: [(name: String, frames: @Sendable (UInt32) -> [UInt8])] = [
        ("no :status", { Frame.headers($0, [("x", "1")], endStream: true).bytes }),
        ("a :status of letters", { Frame.headers($0, [(":status", "abc")], endStream: true).bytes }),
        ("a :status of four digits", { Frame.headers($0, [(":status", "2000")], endStream: true).bytes }),
        ("101", { Frame.headers($0, [(":status", "101")], endStream: true).bytes }),
        ("two :status", { Frame.headers($0, [(":status", "200"), (":status", "200")], endStream: true).bytes }),
        ("a pseudo field of requests", { Frame.headers($0, [(":status", "200"), (":path", "/")], endStream: true).bytes }),
        ("upper case in a name", { Frame.headers($0, [(":status", "200"), ("X", "1")], endStream: true).bytes }),
        ("CR LF in a value", { Frame.headers($0, [(":status", "200"), ("x", "1\r\n\r\nHTTP/1.1 200 OK")], endStream: true).bytes }),
        ("connection", { Frame.headers($0, [(":status", "200"), ("connection", "close")], endStream: true).bytes }),
        ("transfer-encoding", { Frame.headers($0, [(":status", "200"), ("transfer-encoding", "chunked")], endStream: true).bytes }),
        (
            "two lengths",
            { Frame.headers($0, [(":status", "200"), ("content-length", "1"), ("content-length", "2")], endStream: true).bytes }
        ),
        ("an interim answer that ends the stream", { Frame.headers($0, [(":status", "103")], endStream: true).bytes }),
        ("data before the head", { Frame.data($0, [120]).bytes }),
        ("too many fields", { Frame.headers($0, [(":status", "200")] + (0..<200).map { ("x-\($0)", "1") }, endStream: true).bytes }),
        ("a stream of its own", { _ in Frame.headers(2, [(":status", "200")], endStream: true).bytes }),
        ("PUSH_PROMISE", { Frame(.pushPromise, flags: Frame.endHeaders, stream: $0, [0, 0, 0, 2] + HPACK.encode(head)).bytes }),
        ("a frame that is too large", { Frame(.data, stream: $0, Array(repeating: 0, count: 17000)).bytes }),
        ("broken HPACK", { Frame.block($0, [0x80]).bytes }),
        ("text of HTTP/1.1", { _ in Array("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".utf8) }),
        ("a flood of PING", { _ in (0..<20000).flatMap { _ in Frame.ping().bytes } }),
        ("a flood of SETTINGS", { _ in (0..<20000).flatMap { _ in Frame.settings([.maxFrameSize: 16384]).bytes } }),
        (
            "endless CONTINUATION",
            { stream in
                Frame.block(stream, HPACK.encode([(":status", "200")]), endHeaders: false).bytes
                    + (0..<20000).flatMap { _ in Frame.continuation(stream, [], endHeaders: false).bytes }
            }
        ),
        ("endless interim answers", { stream in (0..<5000).flatMap { _ in Frame.headers(stream, [(":status", "103")]).bytes } }),
    ]

    @Test("an endpoint's malformed answer is a 502 or 503 for its caller, and nobody else's", arguments: Wire.allCases)
    func malformedAnswers(downstream: Wire) throws {
        let origin = try Origin { connection in
            let peer = try HTTP2Peer(.server, over: connection)
            while let stream = try peer.nextRequest(within: .seconds(60)) {
                guard let request = peer.streams[stream], request.path != "/good" else {
                    try peer.answer(stream, body: Array("good".utf8))
                    continue
                }
                let attack = Self.badAnswers[Int(request.path.dropFirst()) ?? 0]
                try connection.send(attack.frames(stream))
            }
        }
        try Pairing(downstream: downstream, upstream: .http2).withProxy(to: [origin.port]) { (proxy) throws in
            for (index, attack) in Self.badAnswers.enumerated() {
                let caller = try Caller(downstream, to: proxy.port)
                guard let answer = try? caller.exchange(Ask(path: "/\(index)"), within: .seconds(10)) else {
                    Issue.record("\(attack.name): no answer")
                    continue
                }
                #expect([502, 503].contains(answer.status) && answer.isWhole, "\(attack.name): \(answer)")
                #expect(try Caller(downstream, to: proxy.port).exchange(Ask(path: "/good")).bodyText == "good", "\(attack.name)")
            }
        }
    }

    @Test("H10: an endpoint that ends every connection after a stream or two, by GOAWAY and resets, leaks nothing")
    func endlessGoAways() throws {
        let origin = try Origin(records: false) { connection in
            let peer = try HTTP2Peer(.server, over: connection)
            guard let first = try peer.nextRequest() else { return }
            try peer.answer(first, body: Array("ok".utf8))
            guard let second = try peer.nextRequest(within: .seconds(60)) else { return }
            try peer.send(.goAway(lastStream: first, .noError), .reset(second, .refusedStream))
        }
        try withProxy({ port, admin in
            Config.http(
                listen: port, to: [origin.port], admin: admin, process: { $0.workers = 1 }, cluster: { $0.upstreamProtocol = .http2 })
        }) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            func run(_ count: Int) throws {
                for _ in 0..<count { #expect(try caller.exchange().status == 200) }
            }
            try run(300)
            let memory = proxy.residentBytes
            let descriptors = proxy.program.descriptorCount
            try run(1500)
            #expect(proxy.residentBytes - memory < 2 * Self.megabyte, "\((proxy.residentBytes - memory) >> 10) KiB more")
            #expect(proxy.program.descriptorCount <= descriptors + 3)
        }
    }
}
