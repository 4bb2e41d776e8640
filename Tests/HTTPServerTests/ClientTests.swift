import Base
import Foundation
import HTTPClient
import HTTPServer
import HTTPTransport
import Reactor
import TestSupport
import Testing

@Suite("Client")
struct ClientTests {
    /// A port where something answers that the test scripts.
    private final class Scripted: EventSource {
        let loop: EventLoop
        let address: SocketAddress
        private let answer: [UInt8]
        private let closes: Bool
        private var peers: [RawPeer] = []

        init(_ loop: EventLoop, _ answer: String, closes: Bool = false) throws {
            self.loop = loop
            self.answer = Array(answer.utf8)
            self.closes = closes
            let descriptor = try Socket.listen(on: SocketAddress(.loopbackV4, 0), reusePort: false)
            address = Socket.localAddress(descriptor)!
            super.init(adopting: descriptor)
            try loop.add(self, isListener: true)
        }

        override func ready(_ readiness: Readiness) {
            while let (accepted, _) = try? Socket.accept(descriptor) {
                let peer = RawPeer(adopting: accepted, tls: nil, loop: loop, buffers: LinkBuffers())
                try? loop.add(peer)
                peer.start()
                peer.send(answer)
                if closes { peer.finish() }
                peers.append(peer)
            }
        }

        func close() {
            for peer in peers { peer.close() }
            loop.close(self)
        }
    }

    private func failure(of client: HTTPClientConnection, _ loop: EventLoop) throws -> HTTPClientFailure {
        let answer = Answer(client.request(path: "/", authority: "a"))
        var closed: HTTPClientFailure?
        client.onClosed = { closed = $0 }
        let deadline = Clock.now() + patience
        while closed == nil || !answer.isOver {
            guard Clock.now() < deadline else { throw TestFailure("neither an answer nor a failure") }
            loop.turn(maximumWait: .milliseconds(20))
        }
        #expect(answer.failure == closed)
        return try #require(closed)
    }

    @Test("a port where nobody listens refuses the connection")
    func refused() throws {
        let loop = EventLoop()
        let client = HTTPClientConnection(loop: loop, address: SocketAddress(.loopbackV4, try Ports.free()))
        client.open()
        #expect(try failure(of: client, loop) == HTTPClientFailure(.connect, "connection refused"))
    }

    @Test(
        "what is no HTTP/2 server is called so",
        arguments: [
            (
                "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", false,
                "not an HTTP/2 server: it answers \"HTTP/1.1 400 Bad Request\""
            ),
            ("HTTP/1.1 400 Bad Request\r\n", true, "not an HTTP/2 server: it answers \"HTTP/1.1 400 Bad Request\""),
            ("SSH-2.0-x\r\n", true, "not an HTTP/2 server: it answers \"SSH-2.0-x\""),
            ("\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8}\u{9}\u{1}", true, "not an HTTP/2 server: it answers in another protocol"),
            ("", true, "the server has closed the connection before it said anything"),
        ])
    func notHTTP2(answer: String, closes: Bool, words: String) throws {
        let loop = EventLoop()
        let server = try Scripted(loop, answer, closes: closes)
        let client = HTTPClientConnection(loop: loop, address: server.address)
        client.open()
        #expect(try failure(of: client, loop) == HTTPClientFailure(.notHTTP2, words))
        server.close()
    }

    @Test("a server that says nothing is given up in time")
    func silent() throws {
        let loop = EventLoop()
        let server = try Scripted(loop, "")
        var limits = HTTPClientLimits()
        limits.connectTimeout = .milliseconds(50)
        let client = HTTPClientConnection(loop: loop, address: server.address, limits: limits)
        client.open()
        #expect(
            try failure(of: client, loop)
                == HTTPClientFailure(.timeout, "not an HTTP/2 server: it said nothing within 0.05 s"))
        server.close()
    }

    @Test("a connection that breaks fails its streams, and requests after it fail too")
    func lost() throws {
        var held: [HTTPExchange] = []
        let harness = try Harness { held.append($0) }
        let client = harness.client()
        var closed: [HTTPClientFailure] = []
        client.onClosed = { closed.append($0) }
        let answers = (0..<3).map { Answer(client.request(path: "/\($0)", authority: "a")) }
        try harness.drive("requests") { held.count == 3 }
        held[0].begin(status: 200)
        held[0].send([1])
        try harness.drive("a piece") { answers[0].body == [1] }
        harness.server.close()
        try harness.drive("failures") { answers.allSatisfy(\.isOver) }
        #expect(answers.allSatisfy { $0.failure?.kind == .connectionLost } && closed.count == 1)
        let late = Answer(client.request(path: "/", authority: "a"))
        #expect(!late.isOver, "told later, never at once")
        try harness.drive("a failure") { late.isOver }
        #expect(late.failure == HTTPClientFailure(.closed, "the connection is closed"))
        #expect(!client.isUsable)
    }

    @Test("a response may come before the request has ended")
    func earlyAnswer() throws {
        let harness = try Harness { $0.respond(status: 403, body: Array("no".utf8)) }
        let client = harness.client()
        let answer = Answer(client.request(method: "POST", path: "/", authority: "a", endStream: false))
        answer.stream.send([1, 2, 3])
        try harness.drive("an answer") { answer.isOver }
        #expect(answer.head?.status == 403 && answer.text == "no", "\(answer.failure?.text ?? "")")
        // The connection is as good as before.
        #expect(try harness.call(client).head?.status == 403)
        client.close()
    }

    @Test("a server that does not read fails the stream, with what waits for it bounded")
    func serverDoesNotRead() throws {
        var held: HTTPExchange?
        let harness = try Harness { held = $0 }
        var limits = HTTPClientLimits()
        limits.maxQueuedBytes = 200_000
        let client = harness.client(limits: limits)
        let answer = Answer(client.request(method: "POST", path: "/", authority: "a", endStream: false))
        try harness.drive("a request") { held != nil }
        var most = 0
        for _ in 0..<100 where !answer.isOver {
            answer.stream.send(bytes(10_000))
            most = max(most, answer.stream.queuedBytes)
            harness.turn(1)
        }
        #expect(answer.failure?.kind == .cutOff && most <= 220_000, "\(most) bytes")
        client.close()
    }

    @Test("a server that is gone without a word is found by PING")
    func deadServer() throws {
        let loop = EventLoop()
        // SETTINGS, and nothing more.
        let server = try Scripted(loop, "\0\0\0\u{4}\0\0\0\0\0")
        var limits = HTTPClientLimits()
        limits.pingInterval = .milliseconds(20)
        limits.pingTimeout = .milliseconds(20)
        let client = HTTPClientConnection(loop: loop, address: server.address, limits: limits)
        client.open()
        let failure = try failure(of: client, loop)
        #expect(failure == HTTPClientFailure(.timeout, "the server did not answer PING for 0.02 s"))
        server.close()
    }

    @Test("a program can wait for an answer, follow a stream, and is told of what goes wrong")
    func caller() throws {
        let thread = try ServerThread()
        let caller = HTTPCaller(address: thread.address)
        let answer = try caller.call(method: "POST", path: "/echo", body: Array("hello".utf8))
        #expect(answer.status == 200 && answer.body == Array("hello".utf8))
        #expect(try caller.call(path: "/echo").body.isEmpty)
        var lines = 0
        let followed = try caller.call(path: "/follow", timeout: nil) { head, piece in
            #expect(head.status == 200)
            lines += piece.count
            return lines < 5
        }
        #expect(followed.status == 200 && lines >= 5)
        #expect(throws: HTTPClientFailure(.timeout, "no whole response within 0.05 s")) {
            try caller.call(path: "/never", timeout: .milliseconds(50))
        }
        #expect(throws: HTTPClientFailure(.protocolError, "the response has more than 4 bytes")) {
            try caller.call(method: "POST", path: "/echo", body: Array("hello".utf8), maxBodyBytes: 4)
        }
        #expect(try caller.call(method: "POST", path: "/echo", body: [1]).body == [1], "the connection is as good as before")
        thread.stop()
        #expect(throws: HTTPClientFailure(.connect, "connection refused")) { try caller.call(path: "/echo") }
    }
}

/// A server on a thread of its own.
private final class ServerThread: @unchecked Sendable {
    let address: SocketAddress
    private let mailbox: Mailbox<Bool>
    private let ended = DispatchSemaphore(value: 0)

    init() throws {
        mailbox = try Mailbox<Bool>()
        let (mailbox, ended) = (mailbox, ended)
        let port = try Ports.free()
        address = SocketAddress(.loopbackV4, port)
        let began = DispatchSemaphore(value: 0)
        Thread.detachNewThread {
            let loop = EventLoop()
            var following: [HTTPExchange] = []
            let server = HTTPServer(loop: loop) { exchange in
                switch exchange.path {
                case "/follow":
                    exchange.begin(status: 200)
                    exchange.onDrained = { [unowned exchange] in exchange.send([0x0A]) }
                    exchange.send([0x0A])
                    following.append(exchange)
                case "/never": following.append(exchange)
                default: Harness.echo(exchange)
                }
            }
            try! mailbox.attach(to: loop) { _ in
                server.close()
                loop.stop()
            }
            try! server.listen(on: SocketAddress(.loopbackV4, port))
            began.signal()
            loop.run()
            ended.signal()
        }
        began.wait()
    }

    func stop() {
        mailbox.post(true)
        ended.wait()
    }
}
