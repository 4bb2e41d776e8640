import Base
import HTTP
import HTTP2
import Testing

/// Windows, queues, turns.
@Suite struct FlowTests {
    /// A server that answers stream 1, on a connection with these windows.
    private func responding(streamWindow: UInt32 = 65535, connectionWindow: Int = 65535, streams: [Int32] = [1]) -> Peer {
        let server = Peer(.server)
        _ = server.output()
        server.receive(preface + Frame.settings([(4, streamWindow)]).bytes + Frame.settingsAcknowledged.bytes)
        if connectionWindow > 65535 { server.receive(.windowUpdate(0, UInt32(connectionWindow - 65535))) }
        for id in streams { server.receive(.headers(id, get())) }
        for id in streams { server.session.respond(server.streams[id]!, responseHead(200), endStream: false) }
        _ = server.output()
        server.lines.removeAll()
        return server
    }

    private func dataBytes(_ frames: [Frame], _ stream: Int32? = nil) -> Int {
        frames.filter { $0.kind == .data && (stream == nil || $0.stream == stream) }.reduce(0) { $0 + $1.payload.count }
    }

    @Test("nothing passes the stream's window, and WINDOW_UPDATE lets on exactly what it says")
    func streamWindow() {
        let server = responding(streamWindow: 1000)
        let stream = server.streams[1]!
        server.send(stream, [UInt8](repeating: 7, count: 5000))
        #expect(stream.queuedBytes == 5000)
        #expect(dataBytes(Frame.parse(server.output())) == 1000)
        #expect(stream.queuedBytes == 4000)
        #expect(stream.sentBytes == 1000)
        #expect(!server.session.wantsToWrite)
        #expect(server.output() == [])
        server.receive(.windowUpdate(1, 1))
        #expect(dataBytes(Frame.parse(server.output())) == 1)
        server.receive(.windowUpdate(1, 3999))
        server.session.end(stream)
        #expect(server.written() == ["DATA 1 3999 end"])
        #expect(server.session.openStreams == 0)
        #expect(server.session.queuedBytes == 0)
    }

    @Test("nothing passes the connection's window, over all streams")
    func connectionWindow() {
        let server = responding(streamWindow: 60000, streams: [1, 3])
        for id in [1, 3] as [Int32] { server.send(server.streams[id]!, [UInt8](repeating: 7, count: 60000)) }
        #expect(server.session.queuedBytes == 120_000)
        let frames = Frame.parse(server.output())
        #expect(dataBytes(frames) == 65535)
        #expect(dataBytes(frames, 1) > 20000)
        #expect(dataBytes(frames, 3) > 20000)
        #expect(frames.allSatisfy { $0.payload.count <= 16384 })
        server.receive(.windowUpdate(0, 100_000))
        #expect(dataBytes(Frame.parse(server.output())) == 120_000 - 65535)
        #expect(server.session.queuedBytes == 0)
    }

    @Test("a peer that shrinks the window below what was sent gets nothing until it is open again")
    func shrinkingWindow() {
        let server = responding(streamWindow: 1000)
        server.send(server.streams[1]!, [UInt8](repeating: 7, count: 2000))
        #expect(dataBytes(Frame.parse(server.output())) == 1000)
        server.receive(.settings([(4, 100)]))
        #expect(server.written() == ["SETTINGS ack"])
        server.receive(.windowUpdate(1, 900))
        #expect(server.written() == [])
        server.receive(.windowUpdate(1, 10))
        #expect(server.written() == ["DATA 1 10"])
    }

    @Test("what is not consumed is not given back; what is consumed opens both windows")
    func consuming() {
        var limits = HTTP2Limits()
        limits.initialStreamWindow = 20000
        limits.connectionWindow = 100_000
        let server = Peer.server(limits)
        server.consumesAtOnce = false
        server.receive(.headers(1, post(), end: false), .data(1, String(repeating: "a", count: 16000)))
        #expect(server.written() == [])
        let stream = server.streams[1]!
        server.session.consume(stream, 9999)
        #expect(server.written() == [])
        // The library gives back when half of a window is free.
        server.session.consume(stream, 1)
        #expect(server.written() == ["WINDOW_UPDATE 1 10000"])
        server.session.consume(stream, 1_000_000)
        #expect(server.written() == [])
        // More than the window is an error of the stream.
        server.receive(.data(1, String(repeating: "a", count: 14001)))
        #expect(server.lines.last == "closed 1 flow_control_error")
    }

    @Test("a connection's window comes back from streams that ended before their bytes were consumed")
    func consumingClosed() {
        var limits = HTTP2Limits()
        limits.connectionWindow = 65535
        for isReset in [true, false] {
            let server = Peer.server(limits)
            server.consumesAtOnce = false
            var updates = 0
            for round in 0..<20 as Range<Int32> {
                let id = 1 + 2 * round
                server.receive(.headers(id, post(), end: false), .data(id, String(repeating: "a", count: 10000)))
                if isReset {
                    server.receive(.reset(id))
                } else {
                    server.receive(.data(id, "", end: true))
                    server.session.respond(server.streams[id]!, responseHead(204), endStream: true)
                    updates += server.written().filter { $0.hasPrefix("WINDOW_UPDATE 0") }.count
                    #expect(server.streams[id]!.isClosed)
                    server.session.consume(server.streams[id]!, 5000)
                }
                server.streams[id] = nil
                updates += server.written().filter { $0.hasPrefix("WINDOW_UPDATE 0") }.count
            }
            server.receive([])
            #expect(server.failure == nil, "the peer kept to the window")
            #expect(updates >= 4)
            #expect(server.session.openStreams == 0)
        }
    }

    @Test("bytes of a stream that the owner has reset come back by themselves")
    func consumingReset() {
        var limits = HTTP2Limits()
        limits.connectionWindow = 65535
        let server = Peer.server(limits)
        server.receive(.headers(1, post(), end: false))
        server.session.reset(server.streams[1]!, .cancel)
        var updates = 0
        for _ in 0..<20 {
            server.receive(.data(1, String(repeating: "a", count: 10000)))
            updates += server.written().filter { $0.hasPrefix("WINDOW_UPDATE 0") }.count
        }
        #expect(server.failure == nil)
        #expect(server.bodies == [:])
        #expect(updates >= 4)
    }

    @Test("a queue that falls below the mark is told once a flush, until the stream is ended")
    func drained() {
        let server = responding(streamWindow: 1 << 20, connectionWindow: 1 << 21)
        let stream = server.streams[1]!
        server.send(stream, [UInt8](repeating: 7, count: 40000))
        // Three frames of 16384, 16384 and 7232 bytes: the first leaves more than the mark.
        _ = server.output(limit: 1000)
        #expect(server.lines == [])
        _ = server.output(limit: 1000)
        #expect(server.lines == ["drained 1"])
        server.lines.removeAll()
        _ = server.output()
        #expect(server.lines == ["drained 1"])
        server.lines.removeAll()
        server.send(stream, "x")
        server.session.end(stream)
        _ = server.output()
        #expect(server.lines == [])
    }

    @Test("a flush stops at its limit and goes on where it stopped")
    func limit() {
        let server = responding(streamWindow: 1 << 20, connectionWindow: 1 << 21)
        let stream = server.streams[1]!
        server.send(stream, [UInt8](repeating: 7, count: 100_000))
        server.session.end(stream)
        var pieces: [[UInt8]] = []
        while server.session.wantsToWrite {
            var buffer = ByteBuffer()
            let more = server.session.flush(into: &buffer, limit: 20000)
            #expect(more == server.session.wantsToWrite)
            pieces.append(unsafe Array(buffer.unsafeBytes))
        }
        #expect(pieces.map(\.count) == [2 * 16393, 2 * 16393, 2 * 16393, 1 * 1696 + 9])
        #expect(dataBytes(Frame.parse(pieces.flatMap(\.self))) == 100_000)
    }

    @Test("a limit of everything is everything, behind what is there")
    func noLimit() {
        let server = responding()
        server.send(server.streams[1]!, "x")
        var buffer = ByteBuffer()
        buffer.append("before")
        #expect(!server.session.flush(into: &buffer, limit: .max))
        #expect(buffer.count == 6 + 10)
    }

    @Test("streams take turns, whatever priorities the caller gives")
    func fairness() {
        let streams = stride(from: 1, to: 17, by: 2).map { Int32($0) }
        let server = responding(streamWindow: 1 << 20, connectionWindow: 1 << 24, streams: streams)
        for id in streams.dropFirst() { server.receive(Frame(.priority, stream: id, number(1) + [255])) }
        server.receive(Frame(type: 0x10, 0, stream: 0, number(3) + Array("u=0".utf8)))
        for id in streams { server.send(server.streams[id]!, [UInt8](repeating: 7, count: 200_000)) }
        let frames = Frame.parse(server.output(limit: 16 * 16393))
        for id in streams { #expect(dataBytes(frames, id) == 2 * 16384, "stream \(id)") }
    }

    @Test("a client's streams take turns too")
    func fairUploads() {
        for settings in [[(4, 1 << 20)], [(4, 1 << 20), (9, 1)]] as [[(UInt16, UInt32)]] {
            let client = Peer.client(settings: settings)
            client.receive(.windowUpdate(0, 1 << 24))
            var streams: [HTTP2Stream] = []
            for _ in 0..<8 { streams.append(client.session.request(requestHead("POST"), endStream: false, context: nil)!) }
            for stream in streams { client.send(stream, [UInt8](repeating: 7, count: 200_000)) }
            let frames = Frame.parse(client.output(limit: 16 * 16393))
            for stream in streams { #expect((1...3).contains(dataBytes(frames, stream.id) / 16384), "stream \(stream.id)") }
        }
    }

    @Test("head, body and end that are submitted together leave in two frames; the peer's frame size is kept to")
    func fewFrames() {
        let pair = Pair()
        pair.request(requestHead("POST"), body: "hello")
        #expect(Frame.parse(pair.client.output()).map(\.description) == ["HEADERS 1", "DATA 1 5 end"])
        let empty = pair.client.session.request(requestHead("POST"), endStream: false, context: nil)!
        pair.client.session.end(empty)
        #expect(pair.client.written() == ["HEADERS 3", "DATA 3 0 end"])
    }

    @Test("what is sent before a flush and in between is one frame")
    func coalesced() {
        let server = responding()
        let stream = server.streams[1]!
        server.send(stream, "one ")
        // Settling frames of the peer must not take the queue apart.
        server.receive(.ping)
        server.send(stream, "two")
        server.session.end(stream)
        #expect(server.written() == ["PING ack", "DATA 1 7 end"])
    }

    @Test("a reset drops what is queued")
    func resetDropsQueue() {
        let server = responding()
        let stream = server.streams[1]!
        server.send(stream, "one")
        server.session.reset(stream, .internalError)
        server.send(stream, "two")
        server.session.end(stream)
        #expect(stream.isClosed && stream.wasReset)
        #expect(server.session.queuedBytes == 0)
        #expect(server.written() == ["RST_STREAM 1 internal_error"])
        #expect(server.lines == [])
        #expect(server.session.openStreams == 0)
    }
}
