import Base
import HTTP
import HTTP2
import Testing

/// Any cut of the bytes gives the same events.
@Suite struct SplitTests {
    /// Everything a caller does in one conversation.
    private func converse(_ pair: Pair) {
        pair.request(requestHead("GET", "/1", [("Cookie", "a=b"), ("X-One", "1")]))
        pair.request(
            requestHead("POST", "/3", [("Content-Length", "5")]), body: "hello")
        pair.request(requestHead("POST", "/5"), body: "with trailers", trailers: trailers([("x-sum", "1")]))
        let cancelled = pair.request(requestHead("POST", "/7"), body: "cancelled", end: false)!
        pair.exchange()
        pair.client.session.reset(cancelled, .cancel)
        pair.client.session.ping()
        pair.request(requestHead("GET", "/9", [("x-large", String(repeating: "y", count: 300))]))
        pair.exchange()
        pair.server.session.goAway(.noError)
        pair.exchange()
    }

    private func answer(_ server: Peer, _ event: HTTP2Event) {
        let stream: HTTP2Stream
        switch event {
        case .head(let head, endStream: true): stream = head
        case .end(let ended): stream = ended
        default: return
        }
        server.session.respondInterim(stream, responseHead(103, [("link", "</a>")]))
        server.session.respond(stream, responseHead(200, [("x-id", "\(stream.id)")]), endStream: false)
        server.send(stream, String(repeating: "answer ", count: 20))
        server.session.end(stream, trailers: stream.id == 5 ? trailers([("grpc-status", "0")]) : nil)
    }

    private func record() -> (toServer: [[UInt8]], toClient: [[UInt8]], server: Peer, client: Peer) {
        let pair = Pair(greeted: false)
        pair.server.handler = { answer($0, $1) }
        var recorded = (toServer: [[UInt8]](), toClient: [[UInt8]](), server: pair.server, client: pair.client)
        pair.client.tap = { recorded.toServer.append($0) }
        pair.server.tap = { recorded.toClient.append($0) }
        pair.exchange()
        converse(pair)
        pair.client.tap = nil
        pair.server.tap = nil
        return recorded
    }

    @Test("a server's events do not depend on how its caller's bytes are cut")
    func server() {
        let recorded = record()
        let bytes = recorded.toServer.flatMap(\.self)
        let cuts = (0...bytes.count).map { [$0] } + [Array(1..<bytes.count)]
        #expect(recorded.server.lines.contains("closed 7 cancel by peer"))
        for cut in cuts {
            let server = Peer(.server)
            server.handler = { answer($0, $1) }
            server.receive(bytes, cutAt: cut)
            // In one piece with its reset, the head of stream 7 is not told at all.
            let told = server.lines.contains { $0.hasPrefix("head 7") }
            let expected = recorded.server.lines.filter { told || !$0.contains(" 7 ") }
            #expect(
                server.lines.filter { !$0.hasPrefix("drained") } == expected.filter { !$0.hasPrefix("drained") }, "cut at \(cut.prefix(3))")
            for id in [3, 5] as [Int32] { #expect(server.bodies[id] == recorded.server.bodies[id], "cut at \(cut.prefix(3))") }
        }
    }

    @Test("a client's events do not depend on how its server's bytes are cut")
    func client() {
        let recorded = record()
        let bytes = recorded.toClient.flatMap(\.self)
        for cut in (0...bytes.count).map({ [$0] }) + [Array(1..<bytes.count)] {
            let client = Peer(.client)
            for (method, path, ends) in [
                ("GET", "/1", true), ("POST", "/3", true), ("POST", "/5", true), ("POST", "/7", false), ("GET", "/9", true),
            ] {
                let stream = client.session.request(requestHead(method, path), endStream: false, context: nil)!
                if ends { client.session.end(stream) }
            }
            client.session.ping()
            _ = client.output()
            client.lines.removeAll()
            client.receive(bytes, cutAt: cut)
            #expect(client.lines == recorded.client.lines.filter { !$0.hasPrefix("drained") }, "cut at \(cut.prefix(3))")
            for id in [1, 3, 5, 9] as [Int32] { #expect(client.bodies[id] == recorded.client.bodies[id], "cut at \(cut.prefix(3))") }
        }
    }
}
