import Base
import HTTP
import HTTP2
import Testing

/// Attacks that are cheap for the peer (H1 to H13), each with its bound, and what honest peers do that looks like them.
@Suite struct BudgetTests {
    private func expectOver(_ peer: Peer, _ reason: HTTP2Error.Reason, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(peer.failure?.reason == reason, sourceLocation: sourceLocation)
        #expect(peer.failure?.code == .enhanceYourCalm, sourceLocation: sourceLocation)
        let last = peer.written().last
        #expect(last == "GOAWAY \(peer.session.lastStreamID) enhance_your_calm", sourceLocation: sourceLocation)
        #expect(!peer.session.wantsToWrite && peer.session.isFinished, sourceLocation: sourceLocation)
        // Nothing is taken any more.
        let before = peer.lines.count
        peer.receive(.headers(2_000_001, get()))
        #expect(peer.lines.count == before, sourceLocation: sourceLocation)
    }

    // MARK: H1

    @Test("a head and its reset in the same bytes are never told")
    func rapidResetInOnePiece() {
        let server = Peer.server()
        server.receive(.headers(1, get("/1")), .reset(1), .headers(3, get("/3")), .headers(5, post(), end: false), .data(5, "x"), .reset(5))
        #expect(server.lines == ["head 3 GET http://a/3 fin"])
        #expect(server.session.openStreams == 1)
        #expect(server.session.counters.resetsReceived == 2)
    }

    @Test("a rapid reset ends the connection")
    func rapidReset() {
        let server = Peer.server()
        var id: Int32 = 1
        var told = 0
        while server.failure == nil, id < 2000 {
            server.receive(.headers(id, get()))
            told += 1
            server.receive(.reset(id))
            id += 2
        }
        #expect(told == 201)
        expectOver(server, .resetFlood)
    }

    @Test("a rapid reset in few reads ends the connection, and its streams are never told")
    func rapidResetInBulk() {
        let server = Peer.server()
        var bytes: [UInt8] = []
        for id in stride(from: 1 as Int32, to: 2001, by: 2) { bytes += Frame.headers(id, get()).bytes + Frame.reset(id).bytes }
        server.receive(bytes)
        #expect(server.lines == ["failed http2.reset_flood (limit 200)"])
        expectOver(server, .resetFlood)
    }

    @Test("100 early resets a second are allowed for ever, and as many again as requests that end well")
    func honestResets() {
        let server = Peer.server()
        var id: Int32 = 1
        // Ten seconds of 100 early resets and 100 requests that are answered, in bursts.
        for round in 0..<100 {
            server.now = Instant(nanoseconds: Int64(round) * 100_000_000)
            for _ in 0..<10 {
                server.receive(.headers(id, get()))
                server.receive(.reset(id))
                id += 2
            }
        }
        #expect(server.failure == nil)
        // All at one instant: half of the requests are cancelled.
        for _ in 0..<2000 {
            server.receive(.headers(id, get()))
            server.receive(.reset(id))
            server.receive(.headers(id + 2, get()))
            server.session.respond(server.streams[id + 2]!, responseHead(200), endStream: true)
            _ = server.output()
            server.streams.removeAll()
            id += 4
        }
        #expect(server.failure == nil)
        #expect(server.session.openStreams == 0)
    }

    @Test("resets of answered or of older requests are not early: a gRPC caller may cancel a thousand calls at once")
    func lateResets() {
        var limits = HTTP2Limits()
        limits.maxConcurrentStreams = 2000
        let server = Peer.server(limits)
        for id in 0..<1000 as Range<Int32> { server.receive(.headers(1 + 2 * id, get())) }
        for id in 0..<500 as Range<Int32> { server.session.respond(server.streams[1 + 2 * id]!, responseHead(200), endStream: false) }
        _ = server.output()
        for id in 0..<500 as Range<Int32> { server.receive(.reset(1 + 2 * id)) }
        server.now = Instant(nanoseconds: 101_000_000)
        for id in 500..<1000 as Range<Int32> { server.receive(.reset(1 + 2 * id)) }
        #expect(server.failure == nil)
        #expect(server.lines.filter { $0.hasSuffix("cancel by peer") }.count == 1000)
        #expect(server.session.openStreams == 0)
    }

    @Test("even late resets have an end: the library's own bound")
    func resetBound() {
        var limits = HTTP2Limits()
        limits.resets = RateLimit(burst: 500, perSecond: 1)
        let server = Peer.server(limits)
        var id: Int32 = 1
        while server.failure == nil, id < 4000 {
            server.receive(.headers(id, get()))
            server.now = server.now + Nanoseconds.milliseconds(200)
            server.receive(.reset(id))
            id += 2
        }
        #expect(server.failure?.reason == .resetFlood)
        #expect((500...510).contains(Int(id / 2)))
        #expect(server.written().last == "GOAWAY \(server.session.lastStreamID) internal_error")
    }

    // MARK: H2

    @Test("resets that the peer makes us send are counted, whatever provokes them", arguments: provocations)
    func madeYouReset(name: String, frames: @Sendable (Int32) -> [Frame]) {
        let server = Peer.server()
        var id: Int32 = 1
        while server.failure == nil, id < 2000 {
            server.receive(.headers(id, post([("content-length", "3")]), end: false))
            for frame in frames(id) { server.receive(frame) }
            _ = server.session.wantsToWrite
            id += 2
        }
        #expect(server.failure?.reason == .provokedResetFlood, "\(name)")
        #expect(server.session.counters.resetsProvoked == 201, "\(name)")
        #expect(server.written().last == "GOAWAY \(server.session.lastStreamID) enhance_your_calm", "\(name)")
    }

    @Test("a head and what provokes its reset in the same bytes are never told", arguments: provocations)
    func madeYouResetInOnePiece(name: String, frames: @Sendable (Int32) -> [Frame]) {
        let server = Peer.server()
        server.receive(([.headers(1, post([("content-length", "3")]), end: false)] + frames(1)).flatMap(\.bytes))
        #expect(server.lines == [], "\(name)")
        #expect(server.session.openStreams == 0, "\(name)")
        // The ranges that were taken back mean nothing any more: the next bytes are read as ever.
        server.receive(.headers(3, get("/3")))
        #expect(server.lines == ["head 3 GET http://a/3 fin"], "\(name)")
    }

    @Test("resets that the owner wants are not the peer's fault")
    func ownResets() {
        let server = Peer.server()
        for id in stride(from: 1 as Int32, to: 2001, by: 2) {
            server.receive(.headers(id, get()))
            server.session.reset(server.streams[id]!, .cancel)
            _ = server.output()
        }
        #expect(server.failure == nil)
        #expect(server.session.counters.resetsSent == 1000)
        #expect(server.session.counters.resetsProvoked == 0)
        #expect(!server.lines.contains { $0.hasPrefix("closed") })
    }

    // MARK: H3

    @Test("endless CONTINUATION ends the connection")
    func continuation() {
        let server = Peer.server()
        server.receive(Frame(.headers, 0, stream: 1, block(get())))
        var count = 0
        while server.failure == nil, count < 1000 {
            server.receive(Frame(.continuation, 0, stream: 1, block([("x", "y")])))
            count += 1
        }
        #expect(count <= 10)
        #expect(server.lines == ["failed http2.too_many_continuations (enhance_your_calm)"])
        expectOver(server, .tooManyContinuations)
    }

    @Test("a head in a few CONTINUATION frames is whole")
    func fewContinuations() {
        let server = Peer.server()
        let bytes = block(get("/", [("x", String(repeating: "y", count: 40000))]))
        server.receive(
            Frame(.headers, Frame.endStream, stream: 1, Array(bytes[..<16384])),
            Frame(.continuation, 0, stream: 1, Array(bytes[16384..<32768])),
            Frame(.continuation, Frame.endHeaders, stream: 1, Array(bytes[32768...])))
        #expect(server.lines.count == 1)
        #expect(server.streams[1]?.head.fields.first?.value.count == 40000)
    }

    // MARK: H4

    @Test("a head beyond the limits is told as such, and can be answered")
    func tooLarge() {
        let cases: [([(String, String)], String)] = [
            ((0..<101).map { ("x-\($0)", "") }, "malformed 1 http2.too_many_headers (limit 100)"),
            ((0..<101).map { ("cookie", "a=\($0)") }, "malformed 1 http2.too_many_headers (limit 100)"),
            ((0..<5).map { ("x-\($0)", String(repeating: "y", count: 14000)) }, "malformed 1 http2.headers_too_large (limit 65536)"),
        ]
        for (fields, line) in cases {
            let server = Peer.server()
            server.receive(Frame.split(stream: 1, post(fields), end: false) + Frame.data(1, "body").bytes)
            #expect(server.lines == [line])
            #expect(server.bodies == [:])
            #expect(server.session.openStreams == 1)
            server.session.respond(server.streams[1]!, responseHead(431), endStream: true)
            #expect(server.written() == ["HEADERS 1 end"])
            server.receive(.data(1, "more", end: true))
            #expect(server.session.openStreams == 0)
            #expect(server.lines == [line])
        }
        let server = Peer.server()
        server.receive(Frame.split(stream: 1, get() + (0..<100).map { ("x-\($0)", "") }))
        #expect(server.streams[1]?.head.fields.count == 100)
    }

    @Test("references of one byte each do not make a head of megabytes")
    func bomb() {
        let server = Peer.server()
        let value = String(repeating: "v", count: 4000)
        // Into the dynamic table, whose first index is 62; then 10,000 times that.
        let bomb = block(get()) + [0x40] + hpackString("x") + hpackString(value) + [UInt8](repeating: 0x80 | 62, count: 10000)
        server.receive(Frame(.headers, Frame.endHeaders | Frame.endStream, stream: 1, bomb))
        #expect(server.lines == [])
        #expect(server.written() == ["RST_STREAM 1 enhance_your_calm"])
        #expect(server.session.counters.refusedHeads == 1)
        server.receive(.headers(3, get()))
        #expect(server.lines == ["head 3 GET http://a/ fin"])
    }

    @Test("the heads of all streams together have a limit; it is given back when streams end")
    func headerMemory() {
        var limits = HTTP2Limits()
        limits.maxHeaderMemory = 200_000
        let server = Peer.server(limits)
        let fields = (0..<3).map { ("x-\($0)", String(repeating: "y", count: 10000)) }
        for round in 0..<3 as Range<Int32> {
            let first = 1 + 14 * round
            for index in 0..<7 as Range<Int32> { server.receive(Frame.split(stream: first + 2 * index, get() + fields)) }
            #expect(server.lines.map { String($0.prefix { $0 != " " }) } == [String](repeating: "head", count: 6) + ["malformed"])
            #expect(server.lines.last == "malformed \(first + 12) http2.header_memory_exceeded (limit 200000)")
            server.lines.removeAll()
            for index in 0..<7 as Range<Int32> { server.session.reset(server.streams[first + 2 * index]!, .cancel) }
            _ = server.output()
            server.streams.removeAll()
        }
        #expect(server.failure == nil)
    }

    @Test("trailers have a limit too")
    func trailersTooLarge() {
        let server = Peer.server()
        server.receive(.headers(1, post(), end: false))
        server.receive(Frame.split(stream: 1, (0..<5).map { ("x-\($0)", String(repeating: "y", count: 14000)) }))
        #expect(server.lines == ["head 1 POST http://a/", "closed 1 enhance_your_calm"])
    }

    @Test("a response beyond the limits is reset")
    func responseTooLarge() {
        let client = Peer.client()
        let stream = client.session.request(requestHead(), endStream: true, context: nil)!
        _ = client.output()
        client.receive(Frame.split(stream: 1, [(":status", "200")] + (0..<101).map { ("x-\($0)", "") }, end: false))
        #expect(client.lines == ["malformed 1 http2.too_many_headers (limit 100)"])
        #expect(client.written() == ["RST_STREAM 1 enhance_your_calm"])
        #expect(stream.isClosed)
        #expect(client.session.openStreams == 0)
    }

    // MARK: H5

    @Test("a peer that opens the window byte by byte is a flood, unless we sent as many frames")
    func windowUpdates() {
        let server = Peer(.server)
        _ = server.output()
        server.receive(preface + Frame.settings([(4, 0)]).bytes + Frame.settingsAcknowledged.bytes)
        server.receive(.headers(1, get()))
        let stream = server.streams[1]!
        server.session.respond(stream, responseHead(200), endStream: false)
        server.send(stream, [UInt8](repeating: 7, count: 10000))
        for _ in 0..<1000 {
            server.receive(.windowUpdate(1, 1))
            _ = server.output()
        }
        #expect(server.failure == nil)
        #expect(stream.sentBytes == 1000)
        #expect(server.session.queuedBytes == 9000)
        server.session.reset(stream, .cancel)
        _ = server.output()
        var count = 0
        while server.failure == nil, count < 100_000 {
            server.receive(.windowUpdate(0, 1))
            count += 1
        }
        #expect(count == 5 + 2 * (1 + 10 * 1000) - 1000 + 1)
        expectOver(server, .windowUpdateFlood)
    }

    // MARK: H6

    @Test("PING floods end the connection; a PING for each DATA frame is no flood")
    func pings() {
        let server = Peer.server()
        server.receive(.headers(1, post(), end: false))
        for _ in 0..<5000 {
            server.receive(.ping, .data(1, "x"))
            _ = server.output()
        }
        #expect(server.failure == nil)
        var count = 0
        while server.failure == nil, count < 5000 {
            server.receive(.ping)
            count += 1
        }
        #expect(count == 1001)
        #expect(server.session.counters.pingsReceived == 6001)
        expectOver(server, .pingFlood)
    }

    @Test("a caller that does not read our answers to PING does not make us hold them all")
    func outboundAnswers() {
        var limits = HTTP2Limits()
        limits.pings = RateLimit(burst: 1_000_000, perSecond: 1)
        let server = Peer.server(limits)
        var count = 0
        while server.failure == nil, count < 1_000_000 {
            server.receive(.ping)
            count += 1
        }
        #expect(count < 3000)
        expectOver(server, .outboundFlood)
    }

    @Test("SETTINGS floods end the connection")
    func settings() {
        let server = Peer.server()
        var count = 1
        while server.failure == nil, count < 5000 {
            // The header table's size flips (H7).
            server.receive(.settings([(1, count % 2 == 0 ? 0 : 4096)]))
            count += 1
        }
        #expect(count == 101)
        expectOver(server, .settingsFlood)
    }

    @Test("PRIORITY floods end the connection")
    func priority() {
        let server = Peer.server()
        server.receive(.headers(1, get()))
        var count = 0
        while server.failure == nil, count < 5000 {
            server.receive(Frame(.priority, stream: 1, number(0) + [16]))
            count += 1
        }
        #expect(count == 201)
        expectOver(server, .priorityFlood)
    }

    @Test("DATA frames in a row that carry nothing end the connection", arguments: [[], [3, 0, 0, 0]] as [[UInt8]])
    func emptyData(payload: [UInt8]) {
        let server = Peer.server()
        server.receive(.headers(1, post(), end: false))
        let empty = Frame(.data, payload.isEmpty ? 0 : Frame.padded, stream: 1, payload)
        for _ in 0..<100 {
            for _ in 0..<10 { server.receive(empty) }
            server.receive(.data(1, "x"))
        }
        #expect(server.failure == nil)
        for _ in 0..<11 { server.receive(empty) }
        expectOver(server, .emptyFrameFlood)
    }

    @Test("frames of unknown types are ignored a hundred times, and end the connection when they flood")
    func unknownFrames() {
        let server = Peer.server()
        let unknown = Frame(type: 0xBB, 0, stream: 0, [1])
        for _ in 0..<100 { server.receive(unknown) }
        #expect(server.failure == nil)
        for _ in 0..<11 {
            server.now = server.now + .seconds(1)
            for _ in 0..<10 { server.receive(unknown) }
        }
        #expect(server.failure == nil)
        for _ in 0..<200 where server.failure == nil { server.receive(unknown) }
        expectOver(server, .unknownFrameFlood)
    }

    // MARK: H9, H13

    @Test("what comes behind a reset on the stream is not told")
    func afterReset() {
        let server = Peer.server()
        server.receive(.headers(1, post(), end: false))
        server.receive(.reset(1), .data(1, "x"), .headers(1, [("x", "y")]))
        #expect(server.lines == ["head 1 POST http://a/", "closed 1 cancel by peer"])
        #expect(server.failure == nil)
    }

    @Test(
        "whoever does not greet with the preface is not heard",
        arguments: ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"])
    func badPreface(text: String) {
        let server = Peer(.server)
        server.receive(Array(text.utf8))
        #expect(server.failure?.reason == .badPreface)
        #expect(server.written() == ["GOAWAY 0 protocol_error"])
        #expect(!server.session.hasPeerSettings)
    }

    @Test("the peer's SETTINGS and its acknowledgement are told")
    func greeting() {
        let server = Peer(.server)
        server.receive(preface)
        #expect(!server.session.hasPeerSettings)
        server.receive(.settings())
        #expect(server.session.hasPeerSettings)
        #expect(server.lines == ["settings"])
        server.receive(.settingsAcknowledged)
        #expect(server.lines == ["settings", "settings acknowledged"])
    }
}

/// What makes a server reset the stream that the frames before have opened with a Content-Length of 3.
private let provocations: [(String, @Sendable (Int32) -> [Frame])] = [
    ("a window that overflows", { [.windowUpdate($0, 0x7FFF_FFFF)] }),
    ("a body too long", { [.data($0, "abcd")] }),
    ("a body too short", { [.data($0, "ab", end: true)] }),
    ("trailers without an end", { [.headers($0, [("x", "y")], end: false)] }),
    ("malformed trailers", { [.headers($0, [("X", "y")])] }),
]

extension Frame {
    /// A head in as many frames as it takes.
    static func split(stream: Int32, _ fields: [(String, String)], end: Bool = true) -> [UInt8] {
        let bytes = block(fields)
        var frames: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: 16384) {
            let isLast = start + 16384 >= bytes.count
            let flags = (start == 0 && end ? endStream : 0) | (isLast ? endHeaders : 0)
            frames +=
                Frame(start == 0 ? .headers : .continuation, flags, stream: stream, Array(bytes[start..<min(start + 16384, bytes.count)]))
                .bytes
        }
        return frames
    }
}
