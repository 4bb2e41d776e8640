import Base
import HTTP2
import HTTPClient
import HTTPServer
import HTTPTransport
import Reactor
import TestSupport
import Testing

/// How exchanges and connections end, and what they may cost.
@Suite("Lifetimes")
struct LifetimeTests {
    /// A server that keeps every exchange, and what each was closed with.
    private final class Holder {
        var exchanges: [HTTPExchange] = []
        var closures: [HTTPClosure] = []

        func hold(_ exchange: HTTPExchange) {
            exchanges.append(exchange)
            exchange.onClosed = { [weak self] in self?.closures.append($0) }
        }
    }

    @Test("a caller that does not read is cut off, with what waits for it bounded", arguments: [true, false])
    func slowReader(isHTTP2: Bool) throws {
        let holder = Holder()
        var limits = HTTPServerLimits()
        limits.maxQueuedBytes = 256 * 1024
        let harness = try Harness(limits: limits, handler: holder.hold)
        let client = isHTTP2 ? harness.client() : nil
        let answer = client.map { Answer($0.request(path: "/slow", authority: "a")) }
        answer?.stream.isBodyPaused = true
        let peer = isHTTP2 ? nil : try harness.peer()
        peer?.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
        try harness.drive("a request") { !holder.exchanges.isEmpty }
        peer?.pauseReading()
        let exchange = holder.exchanges[0]
        exchange.begin(status: 200)
        let piece = bytes(32 * 1024)
        var most = 0
        // The kernel takes some megabytes before anything waits here.
        for _ in 0..<2000 where exchange.isOpen {
            exchange.send(piece)
            most = max(most, exchange.queuedBytes)
            harness.turn(1)
        }
        #expect(!exchange.isOpen && exchange.queuedBytes == 0)
        #expect(most <= limits.maxQueuedBytes + 2 * piece.count, "\(most) bytes were waiting")
        guard case .cutOff(let waiting)? = holder.closures.first else {
            Issue.record("closed by \(holder.closures)")
            return
        }
        #expect(waiting > limits.maxQueuedBytes && holder.closures.count == 1)
        #expect(harness.server.counters.cutOff == 1 && harness.incidents.map(\.kind) == [.cutOff])
        // Nothing happens any more, and other streams of the connection go on.
        exchange.send(piece)
        exchange.end()
        exchange.reset()
        if let client {
            let other = Answer(client.request(path: "/other", authority: "a"))
            try harness.drive("another request") { holder.exchanges.count == 2 }
            holder.exchanges[1].respond(status: 200)
            try harness.drive("its answer") { other.isOver }
            #expect(other.head?.status == 200)
            try harness.drive("the end of the first") { answer?.failure != nil }
            #expect(answer?.failure?.kind == .reset(.enhanceYourCalm))
        } else {
            #expect(harness.server.openConnections == 0)
        }
        client?.close()
        peer?.close()
    }

    @Test(
        "a caller that stops reading altogether is cut off by time, the answer being whole or not", arguments: [true, false], [true, false])
    func stall(isHTTP2: Bool, isWhole: Bool) throws {
        let holder = Holder()
        var limits = HTTPServerLimits()
        limits.writeTimeout = .milliseconds(40)
        let harness = try Harness(limits: limits, handler: holder.hold)
        let client = isHTTP2 ? harness.client() : nil
        let answer = client.map { Answer($0.request(path: "/slow", authority: "a")) }
        answer?.stream.isBodyPaused = true
        let peer = isHTTP2 ? nil : try harness.peer()
        peer?.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
        try harness.drive("a request") { !holder.exchanges.isEmpty }
        peer?.pauseReading()
        let body = bytes(14 << 20)
        if isWhole {
            holder.exchanges[0].respond(status: 200, body: body)
        } else {
            holder.exchanges[0].begin(status: 200)
            holder.exchanges[0].send(body)
        }
        try harness.drive("the cut") { harness.server.counters.cutOff == 1 }
        #expect(holder.closures.count == (isWhole ? 0 : 1))
        if isHTTP2 {
            try harness.drive("a reset") { answer?.failure != nil }
            #expect(harness.server.openConnections == 1)
        } else {
            #expect(harness.server.openConnections == 0)
        }
        client?.close()
        peer?.close()
    }

    @Test("an answer that ends its connection arrives whole, however slowly it is read", arguments: [true, false])
    func lastAnswer(halfCloses: Bool) throws {
        var limits = HTTPServerLimits()
        limits.lingerTime = .milliseconds(1)
        let body = bytes(12 << 20)
        let harness = try Harness(limits: limits) { $0.respond(status: 200, body: body) }
        let peer = try harness.peer()
        peer.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        peer.pauseReading()
        try harness.drive("the request") { harness.server.counters.requests == 1 }
        harness.turn()
        if halfCloses { peer.endWriting() }
        // Longer than it would wait for the caller's end.
        let until = Clock.now() + .milliseconds(30)
        while Clock.now() < until { harness.loop.turn(maximumWait: .milliseconds(5)) }
        #expect(harness.server.openConnections == 1)
        peer.resumeReading()
        try harness.drive("the end") { peer.isOver }
        #expect(peer.failure == nil && Array(peer.bytes.suffix(body.count)) == body)
        peer.close()
        try harness.drive("no connection") { harness.server.openConnections == 0 }
        #expect(harness.server.counters.cutOff == 0)
    }

    @Test("beyond what may wait in all, those are cut off for whom something waits already")
    func totalQueue() throws {
        let holder = Holder()
        var limits = HTTPServerLimits()
        limits.maxTotalQueuedBytes = 1 << 20
        let harness = try Harness(limits: limits, handler: holder.hold)
        let client = harness.client()
        let slow = (0..<5).map { Answer(client.request(path: "/slow/\($0)", authority: "a")) }
        for answer in slow { answer.stream.isBodyPaused = true }
        let good = Answer(client.request(path: "/good", authority: "a"))
        try harness.drive("requests") { holder.exchanges.count == 6 }
        for exchange in holder.exchanges { exchange.begin(status: 200) }
        // The client's windows hold 256 KiB of each, and 1 MiB together.
        for _ in 0..<4 {
            for exchange in holder.exchanges.dropLast() { exchange.send(bytes(150_000)) }
            harness.turn()
        }
        #expect(!holder.closures.isEmpty && holder.closures.count <= 5)
        #expect(harness.server.queuedBytes <= limits.maxTotalQueuedBytes)
        for answer in slow { answer.stream.reset() }
        harness.turn()
        holder.exchanges[5].send(bytes(150_000))
        try harness.drive("the good one's answer") { good.body.count == 150_000 }
        #expect(harness.server.queuedBytes == 0)
        client.close()
    }

    @Test("a caller that goes away closes its exchange, once", arguments: ["reset", "close", "HTTP/1 close", "HTTP/1 half-close"])
    func callerLeaves(how: String) throws {
        let holder = Holder()
        let harness = try Harness(handler: holder.hold)
        let client = harness.client()
        if how.hasPrefix("HTTP/1") {
            let peer = try harness.peer()
            peer.send("GET /follow HTTP/1.1\r\nhost: a\r\n\r\n")
            try harness.drive("a request") { !holder.exchanges.isEmpty }
            holder.exchanges[0].begin(status: 200)
            holder.exchanges[0].send([1])
            harness.turn()
            if how == "HTTP/1 close" { peer.close() } else { peer.finish() }
        } else {
            let stream = client.request(method: "POST", path: "/follow", authority: "a", endStream: false)
            try harness.drive("a request") { !holder.exchanges.isEmpty }
            if how == "reset" { stream.reset() } else { client.close() }
        }
        try harness.drive("a closure") { !holder.closures.isEmpty }
        harness.turn()
        switch holder.closures[0] {
        case .resetByPeer(let code): #expect(how == "reset" && code == 8)
        case .connectionLost: #expect(how != "reset")  // By FIN or by RST: who closes with bytes unread sends RST.
        case let other: Issue.record("closed by: \(other)")
        }
        #expect(holder.closures.count == 1 && !holder.exchanges[0].isOpen)
        client.close()
    }

    @Test("an exchange that its handler breaks off is seen as broken", arguments: [true, false])
    func handlerResets(isHTTP2: Bool) throws {
        let harness = try Harness {
            $0.begin(status: 200)
            $0.send([1, 2, 3])
            $0.reset()
        }
        if isHTTP2 {
            let client = harness.client()
            let answer = try harness.call(client)
            #expect(answer.failure?.kind == .reset(.internalError))
            client.close()
        } else {
            let peer = try harness.peer()
            peer.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            try harness.drive("a reset") { peer.failure != nil }
            peer.close()
        }
    }

    @Test("a handler may break off, or close the server, wherever it is called", arguments: ["head", "body", "end"], [true, false])
    func breakOff(place: String, closesServer: Bool) throws {
        var harness: Harness!
        var count = 0
        func breakOff(_ exchange: HTTPExchange) {
            count += 1
            if closesServer { harness.server.close() } else { exchange.reset() }
        }
        for isHTTP2 in [true, false] {
            harness = try Harness { exchange in
                if place == "head" { return breakOff(exchange) }
                exchange.onBody = { [unowned exchange] _ in if place == "body" { breakOff(exchange) } }
                exchange.onEnd = { [unowned exchange] in breakOff(exchange) }
            }
            if isHTTP2 {
                let client = harness.client()
                #expect(try harness.call(client, "POST", "/", body: bytes(1000)).failure != nil)
                client.close()
            } else {
                let peer = try harness.peer()
                peer.send(Array("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n".utf8) + bytes(1000))
                try harness.drive("the end") { peer.isOver }
                peer.close()
            }
            try harness.drive("no connection") { harness.server.openConnections == 0 }
        }
        #expect(count == 2)
    }

    @Test("draining: a request that is half there is answered, and its connection ends")
    func drainWithinRequest() throws {
        let harness = try Harness()
        let peers = try (0..<3).map { _ in try harness.peer() }
        try harness.drive("connections") { harness.server.openConnections == 3 }
        peers[0].send("PRI")
        peers[1].send("GET / HT")
        harness.turn()
        harness.server.drain()
        try harness.drive("the silent one to leave") { peers[2].isOver }
        #expect(!peers[0].isOver && !peers[1].isOver)
        peers[1].send("TP/1.1\r\nhost: a\r\n\r\n")
        try harness.drive("an answer and the end") { peers[1].isOver }
        #expect(peers[1].text.contains("200 OK") && peers[1].text.contains("connection: close"))
        peers[0].send(" * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        peers[0].send([0, 0, 0, 4, 0, 0, 0, 0, 0])
        // GOAWAY: a frame of type 7.
        try harness.drive("GOAWAY and the end") { peers[0].isOver }
        #expect(peers[0].bytes.count > 17 && peers[0].bytes.suffix(17)[peers[0].bytes.count - 14] == 7)
        for peer in peers { peer.close() }
    }

    @Test("draining: what is open ends, nothing new begins, and then it is told")
    func drain() throws {
        let holder = Holder()
        let harness = try Harness(handler: holder.hold)
        let (first, second) = (harness.client(), harness.client())
        let answer = Answer(first.request(path: "/long", authority: "a"))
        let idle = try harness.peer()
        idle.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        try harness.drive("two requests and three connections") { holder.exchanges.count == 2 && harness.server.openConnections == 3 }
        let long = try #require(holder.exchanges.first { $0.isHTTP2 })
        holder.exchanges.first { !$0.isHTTP2 }?.respond(status: 200)
        try harness.drive("SETTINGS") { first.isOpen && second.isOpen }

        var isEmpty = false
        harness.server.drain { isEmpty = true }
        try harness.drive("the idle ones to leave") { harness.server.openConnections == 1 && !second.isUsable }
        #expect(!isEmpty && first.openStreams == 1)
        try harness.drive("GOAWAY") { !first.isUsable }
        let late = Answer(first.request(path: "/late", authority: "a"))
        try harness.drive("a refusal") { late.isOver }
        #expect(late.failure?.kind == .unprocessed)
        #expect(throws: SystemError.self) { try harness.connectAndWait() }
        long.respond(status: 200, body: [1])
        try harness.drive("the end") { isEmpty }
        #expect(answer.body == [1] && holder.closures.isEmpty)
        idle.close()
    }

    @Test("closing ends everything at once, and every exchange hears of it")
    func close() throws {
        let holder = Holder()
        let harness = try Harness(handler: holder.hold)
        let client = harness.client()
        let answers = (0..<3).map { Answer(client.request(path: "/\($0)", authority: "a")) }
        let peer = try harness.peer()
        peer.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        try harness.drive("requests") { holder.exchanges.count == 4 }
        harness.server.close()
        #expect(holder.closures == Array(repeating: .serverClosed, count: 4))
        #expect(harness.server.openConnections == 0)
        try harness.drive("failures") { answers.allSatisfy { $0.failure != nil } && peer.isOver }
        #expect(answers.allSatisfy { $0.failure?.kind == .connectionLost })
    }

    @Test("garbage ends the connection and nothing else")
    func garbage() throws {
        let harness = try Harness()
        var random = SeededRandom(seed: 4)
        for seed in 0..<200 {
            let peer = try harness.peer()
            var sent = (0..<random.below(600) + 1).map { _ in UInt8(truncatingIfNeeded: random.below(256)) }
            // Every other one begins like HTTP/2.
            if seed % 2 == 0 { sent = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + sent }
            peer.send(sent)
            harness.turn(2)
            peer.finish()
            try harness.drive("the end of seed \(seed)") { peer.isClosed || peer.isOver }
            peer.close()
        }
        try harness.drive("no connection") { harness.server.openConnections == 0 }
        #expect(try harness.call(harness.client()).head?.status == 200)
    }

    @Test(
        "connections that say nothing, or too little, or are idle, end by time", arguments: ["", "PRI * HT", "GET / HT", "idle", "HTTP/2"])
    func timeouts(how: String) throws {
        var limits = HTTPServerLimits()
        limits.idleTimeout = .milliseconds(30)
        limits.headTimeout = .milliseconds(30)
        let harness = try Harness(limits: limits)
        let peer = try harness.peer()
        let client = how == "HTTP/2" ? harness.client() : nil
        if how == "idle" {
            peer.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            try harness.drive("an answer") { peer.text.contains("200 OK") }
        } else if let client {
            peer.close()
            #expect(try harness.call(client).head?.status == 200)
        } else {
            peer.send(how)
        }
        try harness.drive("the end") { harness.server.openConnections == 0 }
        try harness.drive("the end there") { client.map { !$0.isUsable } ?? peer.isOver }
        peer.close()
    }

    @Test("a body that stops coming is answered 408")
    func lateBody() throws {
        var closures: [HTTPClosure] = []
        var limits = HTTPServerLimits()
        limits.bodyTimeout = .milliseconds(30)
        let harness = try Harness(limits: limits) { exchange in
            exchange.onClosed = { closures.append($0) }
            exchange.collectBody(limit: 100) { _ in Issue.record("a body that is not whole") }
        }
        let client = harness.client()
        let answer = Answer(client.request(method: "POST", path: "/", authority: "a", endStream: false))
        answer.stream.send([1])
        let peer = try harness.peer()
        peer.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n1")
        try harness.drive("answers") { answer.isOver && peer.isOver }
        #expect(answer.head?.status == 408 && peer.text.hasPrefix("HTTP/1.1 408 Request Timeout") || peer.text.hasPrefix("HTTP/1.1 408 "))
        #expect(closures == [.timedOut, .timedOut])
        client.close()
        peer.close()
    }

    @Test("a caller who does not answer PING is found and closed")
    func deadPeer() throws {
        let holder = Holder()
        var limits = HTTPServerLimits()
        limits.pingInterval = .milliseconds(20)
        limits.pingTimeout = .milliseconds(40)
        let harness = try Harness(limits: limits, handler: holder.hold)
        let session = HTTP2Session(role: .client, pool: HTTP2Pool())
        let peer = try harness.peer()
        let wire = session.request(getHead(), endStream: true, context: nil)
        #expect(wire != nil)
        var opening = ByteBuffer()
        _ = session.flush(into: &opening, limit: .max)
        // And the answer to the server's SETTINGS; after that, silence.
        peer.send(unsafe Array(opening.unsafeBytes) + [0, 0, 0, 4, 1, 0, 0, 0, 0])
        try harness.drive("a closure") { !holder.closures.isEmpty }
        guard case .connectionLost(let words)? = holder.closures.first else {
            Issue.record("closed by \(holder.closures)")
            return
        }
        #expect(words.hasPrefix("the caller did not answer PING"))
        // One who answers stays.
        let client = harness.client()
        _ = client.request(path: "/", authority: "a")
        try harness.drive("a request") { holder.exchanges.count == 2 }
        let until = Clock.now() + Nanoseconds.milliseconds(200)
        while Clock.now() < until { harness.loop.turn(maximumWait: .milliseconds(10)) }
        #expect(holder.closures.count == 1 && client.isUsable)
        client.close()
        peer.close()
    }

    @Test("at the limit the longest idle connection makes room, and if none is idle the new one goes")
    func connectionLimit() throws {
        let holder = Holder()
        var limits = HTTPServerLimits()
        limits.maxConnections = 3
        let harness = try Harness(limits: limits, handler: holder.hold)
        let peers = try (0..<3).map { number in
            let peer = try harness.peer()
            try harness.drive("connection \(number)") { harness.server.openConnections == number + 1 }
            return peer
        }
        peers[0].send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        try harness.drive("a request") { holder.exchanges.count == 1 }
        let fourth = try harness.peer()
        try harness.drive("room") { peers[1].isOver }
        #expect(!peers[0].isOver && !peers[2].isOver && harness.server.openConnections == 3)
        for peer in [peers[2], fourth] { peer.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n") }
        try harness.drive("requests") { holder.exchanges.count == 3 }
        let fifth = try harness.peer()
        try harness.drive("a refusal") { fifth.isOver }
        #expect(harness.server.counters.refusedConnections == 1 && harness.incidents.last?.kind == .tooManyConnections)
        for peer in peers + [fourth, fifth] { peer.close() }
    }

    @Test("thousands of streams on one connection, each answered, and none left")
    func manyStreams() throws {
        let holder = Holder()
        var limits = HTTPServerLimits()
        limits.maxStreamsPerConnection = 5000
        let harness = try Harness(limits: limits, handler: holder.hold)
        let client = harness.client()
        try harness.drive("SETTINGS") { client.isOpen }
        let answers = (0..<5000).map { Answer(client.request(path: "/\($0)", authority: "a")) }
        try harness.drive("all requests") { holder.exchanges.count == 5000 }
        for exchange in holder.exchanges { exchange.begin(status: 200) }
        for round in 0..<3 {
            for exchange in holder.exchanges { exchange.send([UInt8(round)]) }
            harness.turn(2)
        }
        let path = holder.exchanges[4321].path
        for exchange in holder.exchanges { exchange.end() }
        try harness.drive("all answers") { answers.allSatisfy(\.isOver) }
        #expect(answers.allSatisfy { $0.body == [0, 1, 2] } && path == "/4321")
        #expect(client.openStreams == 0 && holder.closures.isEmpty)
        #expect(harness.server.counters.requests == 5000 && harness.server.counters.connections == 1)
        client.close()
    }

    @Test("more streams than the server allows wait for nobody: the caller is told at once")
    func streamLimit() throws {
        let holder = Holder()
        var limits = HTTPServerLimits()
        limits.maxStreamsPerConnection = 2
        let harness = try Harness(limits: limits, handler: holder.hold)
        let client = harness.client()
        try harness.drive("SETTINGS") { client.isOpen }
        let answers = (0..<3).map { Answer(client.request(path: "/\($0)", authority: "a")) }
        try harness.drive("a refusal") { answers[2].isOver && holder.exchanges.count == 2 }
        #expect(answers[2].failure?.kind == .unprocessed)
        client.close()
    }
}
