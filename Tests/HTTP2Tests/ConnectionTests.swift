import Base
import HTTP
import HTTP2
import Testing

/// Streams against their limits, GOAWAY, and how a connection ends.
@Suite struct ConnectionTests {
    @Test("an error of the connection ends it, and its code is told", arguments: connectionErrors)
    func connectionError(name: String, frames: [Frame], code: String) {
        let server = Peer.server()
        server.receive(.headers(1, post(), end: false))
        server.receive(frames.flatMap(\.bytes))
        #expect(server.lines == ["head 1 POST http://a/", "failed http2.protocol_violation (\(code))"], "\(name)")
        #expect(server.written().last?.hasSuffix(" \(code)") == true, "\(name)")
        #expect(server.session.isFinished && !server.session.wantsToWrite)
        #expect(server.session.abandonStreams().count == 1)
        #expect(server.session.openStreams == 0)
    }

    @Test("what the library and the peer say to their GOAWAY is kept for logs")
    func texts() {
        let server = Peer.server()
        server.receive(.data(3, "x"))
        #expect(server.session.failureText == "DATA: stream in idle")
        let client = Peer.client()
        client.receive(Frame(.goAway, 0, stream: 0, number(0) + number(11) + Array("too_many_pings".utf8)))
        #expect(client.session.peerGoAwayText == "too_many_pings")
        #expect(client.lines == ["goaway 0 enhance_your_calm"])
    }

    @Test("frames of kinds that nobody knows are skipped")
    func unknownFrames() {
        let server = Peer.server()
        server.receive(Frame(type: 0xBB, 0xFF, stream: 7, [1, 2, 3]), .headers(1, get()))
        #expect(server.lines == ["head 1 GET http://a/ fin"])
    }

    @Test("a stream below one that was opened is closed, and not heard")
    func goesBack() {
        let server = Peer.server()
        server.receive(.headers(5, get("/5")), .headers(3, get("/3")))
        #expect(server.lines == ["head 5 GET http://a/5 fin"])
        #expect(server.session.openStreams == 1)
    }

    @Test("until SETTINGS have come 100 streams may be open, then as many as they say")
    func peerLimit() {
        let client = Peer(.client)
        #expect(client.session.peerMaxConcurrentStreams == 100)
        #expect(!client.session.hasPeerSettings)
        for index in 0..<100 {
            let stream = client.session.request(requestHead(), endStream: true, context: nil)
            #expect(stream?.id == Int32(1 + 2 * index))
        }
        #expect(!client.session.canOpenStream)
        #expect(client.session.request(requestHead(), endStream: true, context: nil) == nil)
        #expect(Frame.parse(client.output()).filter { $0.kind == .headers }.count == 100)
        client.receive(.settings([(3, 150)]))
        #expect(client.session.peerMaxConcurrentStreams == 150)
        for _ in 0..<50 { #expect(client.session.request(requestHead(), endStream: true, context: nil) != nil) }
        #expect(!client.session.canOpenStream)
        _ = client.output()
        // A stream that ends makes room for another.
        client.receive(.headers(1, [(":status", "200")]))
        #expect(client.session.canOpenStream)
        // Fewer than are open: none until enough have ended.
        client.receive(.settings([(3, 10)]))
        #expect(!client.session.canOpenStream)
        for id in stride(from: 3 as Int32, to: 281, by: 2) { client.receive(.headers(id, [(":status", "200")])) }
        #expect(client.session.openStreams == 10)
        #expect(!client.session.canOpenStream)
        client.receive(.headers(281, [(":status", "200")]))
        #expect(client.session.canOpenStream)
        #expect(client.failure == nil)
    }

    @Test("requests that were not written when SETTINGS allow fewer are named, newest only, and are never written once they are reset")
    func heldBack() {
        let client = Peer(.client)
        func ask() -> HTTP2Stream? { client.session.request(requestHead(), endStream: true, context: nil) }
        for _ in 0..<2 { #expect(ask() != nil) }
        #expect(Frame.parse(client.output()).filter { $0.kind == .headers }.map(\.stream) == [1, 3])
        for _ in 0..<4 { #expect(ask() != nil) }
        #expect(client.session.heldBackStreams.isEmpty)
        client.receive(.settings([(3, 3)]))
        let heldBack = client.session.heldBackStreams
        #expect(heldBack.map(\.id) == [7, 9, 11])
        for stream in heldBack { client.session.reset(stream, .cancel) }
        #expect(client.session.heldBackStreams.isEmpty)
        #expect(Frame.parse(client.output()).filter { $0.kind == .headers }.map(\.stream) == [5])
        for id in [1, 3, 5] as [Int32] { client.receive(.headers(id, [(":status", "200")])) }
        #expect(Frame.parse(client.output()).allSatisfy { $0.kind != .headers && $0.kind != .reset })
        #expect(client.session.openStreams == 0 && client.session.canOpenStream && client.failure == nil)
    }

    @Test("a server that sends SETTINGS without a limit has none")
    func noLimit() {
        #expect(Peer.client().session.peerMaxConcurrentStreams == Int(UInt32.max))
    }

    @Test("streams beyond ours are refused before our SETTINGS are known, and may be sent again")
    func ourLimit() {
        var limits = HTTP2Limits()
        limits.maxConcurrentStreams = 2
        let pair = Pair(server: limits, greeted: false)
        for _ in 0..<5 { pair.request() }
        pair.exchange()
        #expect(pair.server.lines.filter { $0.hasPrefix("head") }.count == 2)
        #expect(pair.client.lines.filter { $0.hasPrefix("closed") } == [5, 7, 9].map { "closed \($0) refused_stream by peer unprocessed" })
        #expect(pair.server.session.counters.refusedStreams == 3)
        #expect(pair.server.session.counters.resetsProvoked == 0)
        #expect(pair.client.session.peerMaxConcurrentStreams == 2)
        #expect(!pair.client.session.canOpenStream)
    }

    @Test("a stream that the owner refuses is told so to the caller, who may send it again")
    func refused() {
        let pair = Pair()
        pair.server.handler = { server, event in
            if case .head(let stream, _) = event { server.session.reset(stream, .refusedStream) }
        }
        pair.request(requestHead("POST"), body: "x", end: false)
        pair.exchange()
        #expect(pair.server.lines == ["head 1 POST http://shop.test/"])
        #expect(pair.client.lines == ["drained 1", "closed 1 refused_stream by peer unprocessed"])
    }

    @Test("a graceful end: every stream that was taken ends, later ones are refused for free")
    func graceful() {
        let pair = Pair()
        let first = pair.request(requestHead("POST"), body: "x", end: false)!
        pair.exchange()
        pair.server.session.announceShutdown()
        // One crosses the announcement.
        pair.request(requestHead("GET", "/late"))
        pair.exchange()
        #expect(pair.client.lines.contains("goaway 2147483647 no_error"))
        #expect(!pair.client.session.canOpenStream)
        #expect(pair.request() == nil)
        #expect(pair.server.lines.contains("head 3 GET http://shop.test/late fin"))
        pair.server.session.goAway(.noError)
        pair.exchange()
        #expect(pair.client.lines.contains("goaway 3 no_error"))
        #expect(pair.client.session.openStreams == 2)
        pair.client.send(first, "y")
        pair.client.session.end(first)
        for id in [1, 3] as [Int32] {
            pair.server.session.respond(pair.server.streams[id]!, responseHead(200), endStream: true)
        }
        pair.exchange()
        #expect(pair.server.bodies[1] == Array("xy".utf8))
        #expect(!pair.client.lines.contains { $0.hasPrefix("closed") })
        #expect(pair.client.lines.filter { $0.hasPrefix("head") }.count == 2)
        #expect(pair.server.session.isFinished)
        #expect(pair.client.session.isFinished)
    }

    @Test("streams above GOAWAY's last are closed as unprocessed, those below go on")
    func aboveLast() {
        let client = Peer.client()
        for _ in 0..<3 { _ = client.session.request(requestHead(), endStream: true, context: nil) }
        _ = client.output()
        client.receive(.goAway(1))
        #expect(
            client.lines == ["goaway 1 no_error", "closed 5 refused_stream unprocessed", "closed 3 refused_stream unprocessed"]
                || client.lines == ["goaway 1 no_error", "closed 3 refused_stream unprocessed", "closed 5 refused_stream unprocessed"])
        client.receive(.headers(1, [(":status", "200")]))
        #expect(client.lines.last == "head 1 200 fin")
        #expect(client.failure == nil)
        #expect(client.session.isFinished)
    }

    @Test("a request that waits to be written when GOAWAY comes is closed as unprocessed")
    func goAwayBeforeWriting() {
        let client = Peer.client()
        _ = client.session.request(requestHead("POST"), endStream: false, context: nil)
        client.receive(.goAway(0))
        #expect(client.lines == ["goaway 0 no_error", "closed 1 refused_stream unprocessed"])
        #expect(client.written() == [])
        #expect(client.session.openStreams == 0)
    }

    @Test("a request that is reset before it was written never leaves")
    func resetBeforeWriting() {
        let client = Peer.client()
        let stream = client.session.request(requestHead("POST"), endStream: false, context: nil)!
        client.send(stream, "x")
        client.session.reset(stream, .cancel)
        #expect(client.written() == [])
        #expect(client.session.openStreams == 0)
        #expect(client.lines == [])
    }

    @Test("GOAWAY with an error ends all at once")
    func goAwayWithError() {
        let pair = Pair()
        pair.request()
        pair.exchange()
        pair.server.session.goAway(.enhanceYourCalm)
        #expect(pair.server.written() == ["GOAWAY 1 enhance_your_calm"])
        #expect(pair.server.session.isFinished)
        #expect(pair.server.failure == nil)
    }

    @Test("a reset crosses, with its code")
    func resets() {
        let pair = Pair()
        let stream = pair.request(requestHead("POST"), body: "x", end: false)!
        pair.exchange()
        let taken = pair.server.streams[1]!
        pair.client.session.reset(stream, .cancel)
        pair.exchange()
        #expect(pair.server.lines.last == "closed 1 cancel by peer")
        #expect(taken.isClosed && taken.wasReset)
        // Nothing happens on a closed stream.
        pair.server.session.respond(taken, responseHead(200), endStream: true)
        pair.server.send(taken, "x")
        pair.server.session.end(taken)
        pair.server.session.reset(taken, .cancel)
        #expect(pair.server.output() == [])
    }

    @Test("a response that is complete before its request, and then NO_ERROR")
    func earlyResponse() {
        let pair = Pair()
        pair.request(requestHead("POST"), body: "x", end: false)
        pair.exchange()
        let stream = pair.server.streams[1]!
        pair.server.session.respond(stream, responseHead(413), endStream: false)
        pair.server.send(stream, "too large")
        pair.server.session.end(stream)
        pair.server.session.resetAfterEnd(stream, .noError)
        pair.client.send(pair.client.streams[1]!, "more")
        pair.server.receive(pair.client.output())
        #expect(pair.server.bodies[1] == Array("x".utf8))
        pair.exchange()
        #expect(pair.client.lines == ["drained 1", "drained 1", "head 1 413", "end 1", "closed 1 no_error by peer"])
        #expect(pair.client.bodies[1] == Array("too large".utf8))
        #expect(pair.server.session.openStreams == 0)
    }

    @Test("a reset after the end is a reset when the end is written already, or was never said")
    func resetAfterEnd() {
        for ends in [true, false] {
            let pair = Pair()
            pair.request(requestHead("POST"), body: "x", end: false)
            pair.exchange()
            let stream = pair.server.streams[1]!
            pair.server.session.respond(stream, responseHead(200), endStream: ends)
            pair.exchange()
            pair.server.session.resetAfterEnd(stream, .noError)
            #expect(stream.isClosed)
            #expect(pair.server.written() == ["RST_STREAM 1 no_error"])
        }
    }

    @Test("PING is answered, and its answer told")
    func ping() {
        let pair = Pair()
        pair.client.session.ping()
        pair.exchange()
        #expect(pair.client.lines == ["pong"])
        #expect(pair.server.lines == [])
    }

    @Test("the context stays with the stream until the events are walked, and not longer")
    func context() {
        final class Request {}
        let pair = Pair()
        weak var gone: Request?
        do {
            let request = Request()
            gone = request
            _ = pair.client.session.request(requestHead(), endStream: true, context: request)
        }
        #expect(gone != nil)
        pair.server.handler = { server, event in
            if case .head(let stream, _) = event { server.session.respond(stream, responseHead(200), endStream: true) }
        }
        var seen = false
        pair.client.handler = { _, event in
            if case .head(let stream, _) = event { seen = stream.isClosed && stream.context === gone && gone != nil }
        }
        pair.exchange()
        #expect(seen)
        #expect(gone == nil)
    }

    @Test("what a flush has told waits for its owner, with the context, while more is received")
    func eventsOfFlush() {
        final class Request {}
        let request = Request()
        // More than the library puts into one header block: it refuses the stream while it writes, and nobody walks.
        let client = Peer.client()
        let stream = client.session.request(
            requestHead("POST", "/", [("x", String(repeating: "y", count: 2_000_000))]), endStream: true, context: request)!
        var buffer = ByteBuffer()
        _ = client.session.flush(into: &buffer, limit: 1 << 20)
        #expect(stream.isClosed && client.session.events.count == 1)
        client.handler = { _, event in
            if case .closed(let closed, _, _, _) = event { #expect(closed.context === request) }
        }
        client.receive(.ping)
        #expect(client.lines == ["closed 1 refused_stream unprocessed"])
    }

    @Test("a stream that its owner keeps is not used again for another")
    func keptStream() {
        let pair = Pair()
        pair.server.handler = { server, event in
            if case .head(let stream, _) = event { server.session.respond(stream, responseHead(200), endStream: true) }
        }
        let kept = pair.request()!
        pair.exchange()
        pair.client.streams.removeAll()
        for _ in 0..<3 {
            let other = pair.request()
            #expect(other !== kept)
            pair.exchange()
        }
        #expect(kept.id == 1 && kept.isClosed)
    }

    @Test("a push is an error: we never allow it")
    func push() {
        let client = Peer.client()
        _ = client.session.request(requestHead(), endStream: true, context: nil)
        _ = client.output()
        client.receive(Frame(.pushPromise, Frame.endHeaders, stream: 1, number(2) + block(get())))
        #expect(client.failure?.code == .protocolError)
    }

    @Test("the library that is loaded here will do")
    func library() {
        #expect(HTTP2Session.checkLibrary() == nil)
    }
}

private let connectionErrors: [(String, [Frame], String)] = [
    ("DATA on an idle stream", [.data(3, "x")], "protocol_error"),
    ("WINDOW_UPDATE on an idle stream", [.windowUpdate(3, 1)], "protocol_error"),
    ("RST_STREAM on an idle stream", [.reset(3)], "protocol_error"),
    ("DATA on stream 0", [.data(0, "x")], "protocol_error"),
    ("an even stream", [.headers(2, get())], "protocol_error"),
    ("a window update of nothing", [.windowUpdate(0, 0)], "protocol_error"),
    ("a window that overflows", [.windowUpdate(0, 0x7FFF_FFFF)], "flow_control_error"),
    ("a window size beyond 2^31-1", [.settings([(4, 0x8000_0000)])], "flow_control_error"),
    ("a frame size too small", [.settings([(5, 100)])], "protocol_error"),
    ("push enabled as 2", [.settings([(2, 2)])], "protocol_error"),
    ("SETTINGS that is no multiple of six", [Frame(.settings, 0, stream: 0, [0, 1, 2])], "frame_size_error"),
    ("an acknowledgement with a payload", [Frame(.settings, Frame.acknowledgement, stream: 0, [0, 1, 0, 0, 0, 0])], "frame_size_error"),
    ("PING of seven bytes", [Frame(.ping, 0, stream: 0, [0, 1, 2, 3, 4, 5, 6])], "frame_size_error"),
    ("PING on a stream", [Frame(.ping, 0, stream: 1, [0, 1, 2, 3, 4, 5, 6, 7])], "protocol_error"),
    ("RST_STREAM of three bytes", [Frame(.reset, 0, stream: 1, [0, 0, 0])], "frame_size_error"),
    ("a frame beyond our size", [Frame(.data, 0, stream: 1, [UInt8](repeating: 0, count: 16385))], "frame_size_error"),
    ("padding longer than the frame", [Frame(.data, Frame.padded, stream: 1, [200, 0])], "protocol_error"),
    (
        "a header block that does not decode", [Frame(.headers, Frame.endHeaders, stream: 3, [0xFF, 0xFF, 0xFF, 0xFF, 0xFF])],
        "compression_error"
    ),
    ("an index that is not there", [Frame(.headers, Frame.endHeaders, stream: 3, [0x80 | 62])], "compression_error"),
    (
        "a table beyond ours", [Frame(.headers, Frame.endHeaders, stream: 3, [0x20 | 31, 0xFF, 0xFF, 0x03] + block(get()))],
        "compression_error"
    ),
    ("CONTINUATION without HEADERS", [Frame(.continuation, Frame.endHeaders, stream: 1, block(get()))], "protocol_error"),
    ("a frame between HEADERS and CONTINUATION", [Frame(.headers, 0, stream: 3, block(get())), .ping], "protocol_error"),
    (
        "a request that depends on itself", [Frame(.headers, Frame.endHeaders | 0x20, stream: 3, number(3) + [16] + block(get()))],
        "protocol_error"
    ),
    ("PUSH_PROMISE by a caller", [Frame(.pushPromise, Frame.endHeaders, stream: 1, number(2) + block(get()))], "protocol_error"),
]
