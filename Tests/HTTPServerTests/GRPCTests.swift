import Base
import HTTP
import HTTP2
import HTTPClient
import HTTPServer
import HTTPTransport
import Reactor
import TestSupport
import Testing

@Suite("gRPC")
struct GRPCTests {
    /// What came of a call.
    private final class Call {
        let stream: GRPCClientStream
        var messages: [[UInt8]] = []
        var result: GRPC.Failure?
        var hasHead = false

        init(_ client: HTTPClientConnection, _ path: String = "/test.Echo/Both", maxMessageBytes: Int = 1 << 20) {
            stream = GRPCClientStream(client, path: path, authority: "test", headers: [("x-token", "t")], maxMessageBytes: maxMessageBytes)
            stream.onHead = { [unowned self] in hasHead = true }
            stream.onMessage = { [unowned self] in messages.append($0) }
            stream.onFinished = { [self] in result = $0 }
        }
    }

    /// Answers each message with itself, and ends with the number of messages.
    private static func echo(_ exchange: HTTPExchange) {
        guard let call = GRPCServerStream(exchange, maxMessageBytes: 100_000) else { return }
        var count = 0
        call.onMessage = { [unowned call] message in
            count += 1
            call.send(message)
        }
        call.onEnd = { [unowned call] in call.finish(GRPC.Status.ok, "\(count) messages: 100%") }
    }

    @Test("messages go both ways, one at a time and many, and the status comes last")
    func both() throws {
        let harness = try Harness(handler: Self.echo)
        let client = harness.client()
        let call = Call(client)
        for (number, size) in [0, 1, 5, 16_384, 99_999, 100_000].enumerated() {
            call.stream.send(bytes(size))
            try harness.drive("message \(number)") { call.messages.count == number + 1 }
            #expect(call.messages[number] == bytes(size))
        }
        for number in 0..<100 { call.stream.send([UInt8(number)]) }
        call.stream.end()
        try harness.drive("the end") { call.result != nil }
        #expect(call.messages.suffix(100) == (0..<100).map { [UInt8($0)] }[...])
        #expect(call.result == GRPC.Failure(GRPC.Status.ok, "106 messages: 100%") && call.hasHead)
        #expect(client.openStreams == 0)
        client.close()
    }

    @Test("a message may be cut anywhere")
    func anySplit() throws {
        let harness = try Harness(handler: Self.echo)
        let client = harness.client()
        let body = GRPC.frame(Array("hello".utf8)) + GRPC.frame([]) + GRPC.frame([1])
        for cut in 1..<body.count {
            let answer = Answer(
                client.request(
                    method: "POST", path: "/a.B/C", authority: "a", headers: [("content-type", "application/grpc+proto")],
                    endStream: false))
            answer.stream.send(Array(body[..<cut]))
            harness.turn(2)
            answer.stream.send(Array(body[cut...]))
            answer.stream.end()
            try harness.drive("the end, cut at \(cut)") { answer.isOver }
            #expect(answer.body == body && answer.trailers?.value("grpc-status") == "0", "cut at \(cut)")
            #expect(answer.head?.header("content-type") == "application/grpc")
        }
        client.close()
    }

    @Test("a call that ends before it began has its status in the head alone")
    func trailersOnly() throws {
        let harness = try Harness { exchange in
            #expect(exchange.header("x-token") == "t")
            GRPCServerStream(exchange)?.finish(GRPC.Status.unimplemented, "no such method: größer")
        }
        let client = harness.client()
        let call = Call(client)
        try harness.drive("the end") { call.result != nil }
        #expect(call.result == GRPC.Failure(GRPC.Status.unimplemented, "no such method: größer") && !call.hasHead)
        client.close()
    }

    @Test("what is no gRPC call is refused, and who called learns why")
    func refused() throws {
        let harness = try Harness(handler: Self.echo)
        let client = harness.client()
        let type = ("content-type", "application/grpc")
        #expect(try harness.call(client, "POST", "/a.B/C", headers: [("content-type", "application/json")]).head?.status == 415)
        #expect(try harness.call(client, "POST", "/a.B/C", headers: [("content-type", "application/grpc-web")]).head?.status == 415)
        #expect(try harness.call(client, "GET", "/a.B/C", headers: [type]).head?.status == 405)
        let peer = try harness.peer()
        peer.send("POST /a.B/C HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n")
        try harness.drive("an answer") { peer.text.contains("gRPC needs HTTP/2") }
        #expect(peer.text.hasPrefix("HTTP/1.1 505 "))
        peer.close()
        client.close()
    }

    @Test("a message that cannot be taken ends the call on both sides", arguments: ["too long", "compressed", "cut"])
    func badMessages(how: String) throws {
        var closures: [HTTPClosure] = []
        let harness = try Harness { exchange in
            let call = GRPCServerStream(exchange, maxMessageBytes: 10)
            call?.onClosed = { closures.append($0) }
            call?.onEnd = { Issue.record("no end is told") }
        }
        let client = harness.client()
        let answer = Answer(
            client.request(
                method: "POST", path: "/a.B/C", authority: "a", headers: [("content-type", "application/grpc")], endStream: false))
        switch how {
        case "too long": answer.stream.send([0, 0, 0, 0, 11])
        case "compressed": answer.stream.send([1, 0, 0, 0, 0])
        default:
            answer.stream.send([0, 0, 0])
            answer.stream.end()
        }
        try harness.drive("the end") { answer.isOver && !closures.isEmpty }
        let codes = ["too long": "8", "compressed": "12", "cut": "13"]
        #expect(answer.head?.header("grpc-status") == codes[how])
        #expect(closures.count == 1)
        client.close()
    }

    @Test("a caller that cancels closes the call; one that is cancelled by the server's end too")
    func cancel() throws {
        var calls: [GRPCServerStream] = []
        var closures: [HTTPClosure] = []
        let harness = try Harness { exchange in
            guard let call = GRPCServerStream(exchange) else { return }
            call.begin()
            call.onClosed = { closures.append($0) }
            calls.append(call)
        }
        let client = harness.client()
        let first = Call(client)
        try harness.drive("a call") { first.hasHead }
        first.stream.cancel()
        try harness.drive("a closure") { !closures.isEmpty }
        #expect(closures == [.resetByPeer(code: 8)] && first.result == nil && !calls[0].isOpen)
        // Nothing happens any more.
        calls[0].send([1])
        calls[0].finish()

        let second = Call(client)
        try harness.drive("a call") { second.hasHead }
        harness.server.close()
        try harness.drive("the end") { second.result != nil }
        #expect(second.result?.status == GRPC.Status.unavailable && closures.count == 2)
    }

    @Test("a server's answers that are no gRPC become statuses")
    func otherAnswers() throws {
        var answer: (HTTPExchange) -> Void = { _ in }
        let harness = try Harness { answer($0) }
        let client = harness.client()
        func result(maxMessageBytes: Int = 100, _ respond: @escaping (HTTPExchange) -> Void) throws -> GRPC.Failure? {
            answer = respond
            let call = Call(client, maxMessageBytes: maxMessageBytes)
            try harness.drive("the end") { call.result != nil }
            return call.result
        }
        let type = ("content-type", "application/grpc")
        #expect(try result { $0.respond(status: 503) } == GRPC.Failure(14, "the server answered with HTTP status 503"))
        #expect(try result { $0.respond(status: 401, body: [1]) } == GRPC.Failure(16, "the server answered with HTTP status 401"))
        #expect(
            try result { $0.respond(status: 200, headers: [("content-type", "text/html")], body: [1]) }
                == GRPC.Failure(2, "no gRPC response: expected content-type application/grpc, found text/html"))
        #expect(try result { $0.respond(status: 200, headers: [type]) } == GRPC.Failure(2, "the response has no grpc-status"))
        #expect(try result { $0.reset(.refusedStream) }?.status == GRPC.Status.unavailable)
        #expect(try result { $0.reset(.enhanceYourCalm) }?.status == GRPC.Status.resourceExhausted)
        #expect(
            try result {
                $0.begin(status: 200, headers: [type])
                $0.send([0, 0, 0])
                $0.end(trailers: [("grpc-status", "0")])
            } == GRPC.Failure(13, "the response ended within a message"))
        #expect(
            try result {
                $0.begin(status: 200, headers: [type])
                $0.send([0, 0, 0, 0, 101])
            } == GRPC.Failure(8, "a message of 101 bytes: at most 100 are taken"))
        // The connection has outlived it all.
        #expect(try result { GRPCServerStream.refuse($0, 5, "none") } == GRPC.Failure(5, "none"))
        client.close()
    }

    @Test("messages wait while the reader pauses")
    func pause() throws {
        var server: GRPCServerStream?
        var received = 0
        let harness = try Harness { exchange in
            server = GRPCServerStream(exchange)
            server?.begin()
            server?.onMessage = { _ in received += 1 }
        }
        let client = harness.client()
        let call = Call(client)
        try harness.drive("a call") { call.hasHead }
        server?.isPaused = true
        call.stream.isPaused = true
        for _ in 0..<20 {
            call.stream.send(bytes(20_000))
            server?.send(bytes(20_000))
        }
        harness.turn(20)
        #expect(received == 0 && call.messages.isEmpty)
        #expect(call.stream.queuedBytes > 300_000, "the window holds 64 KiB")
        #expect(try #require(server).queuedBytes > 100_000, "the window holds 256 KiB")
        server?.isPaused = false
        call.stream.isPaused = false
        try harness.drive("all messages") { received == 20 && call.messages.count == 20 }
        server?.finish()
        try harness.drive("the end") { call.result != nil }
        client.close()
    }
}
