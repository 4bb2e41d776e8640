import Foundation
import ProxyConfig
import TestSupport
import Testing

/// What is not a plain exchange: Expect, early answers, upgrades, and TCP.
@Suite struct TunnelTests {
    private static let upgrade = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    private static let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

    // MARK: Expect

    @Test("S12: 100 is passed on once, and only then the body comes")
    func expectContinue() throws {
        let origin = try Origin { connection in
            let head = String(decoding: try connection.read(until: "\r\n\r\n"), as: UTF8.self)
            guard head.lowercased().contains("expect: 100-continue"), try connection.isSilent(for: .milliseconds(50)) else { return }
            try connection.send("HTTP/1.1 100 Continue\r\n\r\n")
            let body = String(decoding: try connection.read(exactly: 5), as: UTF8.self)
            try connection.send(ok(body))
        }
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            #expect(try caller.readResponse().status == 100)
            try caller.send("hello")
            let answer = try caller.readResponse()
            #expect(answer.status == 200 && answer.bodyText == "hello" && !answer.saysClose, "\(answer.headText)")
        }
    }

    @Test("S12: a final answer instead of 100 closes both connections, for nobody knows whether a body follows")
    func expectRefused() throws {
        let origin = try Origin { connection in
            _ = try connection.read(until: "\r\n\r\n")
            try connection.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno")
            _ = try connection.readToEnd()
        }
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 36\r\n\r\n")
            let answer = try caller.readResponse()
            #expect(answer.status == 417 && answer.saysClose, "\(answer.headText)")
            // What follows could be the body or a request; it must not be a request. And the caller need not close first.
            try caller.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(try caller.readToEnd().bytes.isEmpty)
            #expect(try proxy.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 417)
        }
        #expect(origin.connections.count == 2)
    }

    @Test("S12: a caller who was refused and sends no body is not kept for ever")
    func expectRefusedAndSilent() throws {
        let origin = try Origin { connection in
            _ = try connection.read(until: "\r\n\r\n")
            try connection.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
            _ = try connection.readToEnd()
        }
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 36\r\n\r\n")
            #expect(try caller.readResponse().status == 403)
            #expect(try caller.readToEnd().end == .closed)
        }
    }

    @Test("interim answers are passed on, but not to HTTP/1.0")
    func interim() throws {
        let origin = try Origin.answering("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok())
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            let hints = try caller.readResponse()
            #expect(hints.status == 103 && hints.value("link") == "</a>")
            #expect(try caller.readResponse().status == 200)
            #expect(try proxy.exchange("GET / HTTP/1.0\r\nHost: a\r\n\r\n").status == 200)
        }
    }

    // MARK: Early answers

    @Test("an answer that comes first arrives while 20 MB of upload go on, and the connection serves another request")
    func earlyAnswer() throws {
        let size = 20 << 20
        let origin = try Origin(records: false) { connection in
            while true {
                let head = String(decoding: try connection.read(until: "\r\n\r\n"), as: UTF8.self)
                try connection.send(ok("early"))
                if head.hasPrefix("POST") { _ = try connection.readPattern(size) }
            }
        }
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \(size)\r\n\r\n")
            let answer = try caller.readResponse()
            #expect(answer.bodyText == "early")
            try caller.sendPattern(size)
            if !answer.saysClose { #expect(try caller.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").bodyText == "early") }
        }
    }

    @Test(
        "an origin that answers early and closes: the answer arrives, and what is left of the upload is taken",
        arguments: [false, true])
    func earlyAnswerAndClose(withReset: Bool) throws {
        let size = 20 << 20
        let origin = try Origin(records: false) { connection in
            _ = try connection.read(until: "\r\n\r\n")
            _ = try connection.read(exactly: 100_000)
            try connection.send("HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly")
            if withReset {
                // As servers do that close with unread bytes, once the answer has left.
                _ = try connection.isSilent(for: .milliseconds(100))
                connection.reset()
            }
        }
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \(size)\r\n\r\n")
            // A caller who only listens when all is sent, as many do.
            try caller.sendPattern(size)
            let answer = try caller.readResponse()
            #expect(answer.status == 413 && answer.bodyText == "early", "\(answer.headText)")
        }
    }

    @Test("a caller who is held back while the origin does not read goes on when the origin answers and closes", arguments: [false, true])
    func earlyAnswerWhileStuck(withReset: Bool) throws {
        let isStuck = Counter()
        let origin = try Origin(records: false) { connection in
            _ = try connection.read(until: "\r\n\r\n")
            try eventually("the caller is stuck") { isStuck.value == 1 }
            try connection.send("HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nearly")
            if withReset {
                _ = try connection.isSilent(for: .milliseconds(100))
                connection.reset()
            }
        }
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            let size = 100 << 20
            try caller.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \(size)\r\n\r\n")
            let sent = caller.sendUntilStuck(Pattern.block, pause: .milliseconds(500), limit: size)
            #expect(sent < size)
            isStuck.add()
            let answer = try caller.readResponse()
            #expect(answer.status == 413 && answer.bodyText == "early", "\(answer.headText)")
            // The rest of a piece may have gone before it got stuck.
            #expect(caller.sendUntilStuck(Pattern.block, pause: .seconds(5), limit: 30 << 20) >= 30 << 20)
        }
    }

    @Test("a refusal of the proxy's own reaches a caller who uploads 20 MB without looking")
    func earlyReply() throws {
        let origin = try Origin.answering(ok())
        try withProxy({ port, admin in
            var snapshot = Config.http(listen: port, to: [origin.port], admin: admin)
            snapshot.routeConfigurations = [Config.routes([Config.route("one", prefix: "/one", to: "origin")])]
            return snapshot
        }) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send("POST /two HTTP/1.1\r\nHost: a\r\nContent-Length: \(20 << 20)\r\n\r\n")
            try caller.sendPattern(20 << 20)
            let answer = try caller.readResponse()
            #expect(answer.status == 404 && answer.saysClose)
        }
        #expect(origin.received.isEmpty)
    }

    // MARK: Upgrades

    @Test("S16: bytes before 101 are held, and reach the origin only behind its 101")
    func earlyBytes() throws {
        let wasEarly = Counter()
        let origin = try Origin { connection in
            _ = try connection.read(until: "\r\n\r\n")
            if try !connection.isSilent(for: .milliseconds(200)) { wasEarly.add() }
            try connection.send(Self.switching)
            let early = try connection.read(exactly: 5)
            try connection.send(early)
            _ = try connection.readToEnd()
        }
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send(Self.upgrade + "early")
            #expect(try caller.readResponse().status == 101)
            #expect(try caller.read(exactly: 5) == Array("early".utf8))
        }
        #expect(wasEarly.value == 0)
    }

    @Test("S16: what follows a refused upgrade is not read as requests", arguments: ["websocket", "other"])
    func refusedUpgrade(to word: String) throws {
        let origin = try Origin.answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            let request = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: \(word)\r\n\r\n"
            try caller.send(request + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            let (bytes, _) = try caller.readToEnd()
            #expect(String(decoding: bytes, as: UTF8.self).ranges(of: "HTTP/1.1 403").count == 1, "\(shown(bytes))")
        }
        #expect(!origin.receivedText.contains("smuggled"))
    }

    @Test("S16: CONNECT is refused, and what follows it is not read as requests")
    func connect() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            let (bytes, end) = try caller.readToEnd()
            let text = String(decoding: bytes, as: UTF8.self)
            #expect(text.hasPrefix("HTTP/1.1 4") && text.ranges(of: "HTTP/1.1 ").count == 1 && end == .closed, "\(shown(bytes))")
        }
        #expect(origin.received.isEmpty, "\(shown(origin.received))")
    }

    @Test("an upgrade that the listener does not allow goes on as a plain request")
    func unknownUpgrade() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            #expect(try proxy.exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n").status == 200)
        }
        #expect(!origin.receivedText.lowercased().contains("upgrade"), "\(origin.receivedText)")
    }

    @Test("after 101 bytes pass both ways, and each side may finish alone", arguments: [true, false])
    func halfCloseInTunnel(callerFirst: Bool) throws {
        let size = 3 << 20
        let origin = try Origin(records: false) { connection in
            _ = try connection.read(until: "\r\n\r\n")
            try connection.send(Self.switching)
            if callerFirst {
                guard try connection.readPattern(size).isIntact, try connection.receive().isEmpty else { return }
                try connection.sendPattern(size)
            } else {
                try connection.sendPattern(size)
                connection.finishSending()
                guard try connection.readPattern(size).isIntact, try connection.receive().isEmpty else { return }
                connection.close()
            }
        }
        try withProxy(to: origin) { (proxy) throws in
            let before = proxy.program.descriptorCount
            let caller = try proxy.connect()
            try caller.send(Self.upgrade)
            #expect(try caller.readResponse().status == 101)
            if callerFirst {
                try caller.sendPattern(size)
                caller.finishSending()
                let down = try caller.readPattern(size)
                #expect(down.count == size && down.isIntact)
            } else {
                let down = try caller.readPattern(size)
                #expect(down.count == size && down.isIntact)
                #expect(try caller.receive().isEmpty)
                try caller.sendPattern(size)
                caller.finishSending()
            }
            _ = try? caller.readToEnd()
            try eventually("the proxy lets go of both connections") { proxy.program.descriptorCount <= before }
        }
    }

    @Test(
        "python's websockets talk through the proxy",
        .enabled(if: !Peers.venv.isEmpty, "needs $OUTRIGGER_TOOLS_VENV with websockets; scripts/test makes it"))
    func websockets() throws {
        let (server, port) = try Peers.start("websocket_server.py")
        defer { server.end() }
        try withProxy({ Config.http(listen: $0, to: [port], admin: $1) }) { (proxy) throws in
            #expect(try Peers.run("websocket_client.py", ["\(proxy.port)"]) == "all equal")
        }
    }

    // MARK: TCP

    private func withTCP(_ origin: Origin, idle: Duration? = .seconds(300), _ body: (Proxy) throws -> Void) throws {
        try withProxy({ Config.tcp(listen: $0, to: [origin.port], admin: $1, idle: idle) }, body)
    }

    @Test("TCP: 100 MB pass each way, each side finishes alone, and memory stays small")
    func tcpLarge() throws {
        let size = 100 << 20
        let origin = try Origin(records: false) { connection in
            guard try connection.readPattern(size).isIntact, try connection.receive().isEmpty else { return }
            try connection.sendPattern(size)
        }
        try withTCP(origin) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.sendPattern(size)
            caller.finishSending()
            let down = try caller.readPattern(size)
            #expect(down.count == size && down.isIntact)
            #expect(try caller.readToEnd() == ([], .closed))
            #expect(proxy.residentBytes < 40 << 20)
        }
    }

    @Test("TCP: an origin that ends first still gets what the caller says")
    func tcpOriginEndsFirst() throws {
        let heard = Counter()
        let origin = try Origin { connection in
            try connection.send("bye")
            connection.finishSending()
            heard.add(try connection.readToEnd().bytes.count)
        }
        try withTCP(origin) { (proxy) throws in
            let caller = try proxy.connect()
            #expect(try caller.readToEnd() == (Array("bye".utf8), .closed))
            try caller.sendPattern(1 << 20)
            caller.finishSending()
            try eventually("the origin has all") { heard.value == 1 << 20 }
        }
    }

    @Test("TCP: a server that speaks first is heard before the caller says a word")
    func tcpServerFirst() throws {
        let origin = try Origin { connection in
            try connection.send("220 ready\r\n")
            _ = try connection.read(until: "QUIT\r\n")
            try connection.send("221 bye\r\n")
        }
        try withTCP(origin) { (proxy) throws in
            let caller = try proxy.connect()
            #expect(try caller.read(until: "\r\n") == Array("220 ready\r\n".utf8))
            try caller.send("QUIT\r\n")
            #expect(try caller.read(until: "\r\n") == Array("221 bye\r\n".utf8))
        }
    }

    @Test("TCP: an idle connection is closed, a busy one is not")
    func tcpIdle() throws {
        let origin = try Origin { connection in
            while true { try connection.send(try connection.receive()) }
        }
        let limit = Duration.milliseconds(600)
        try withTCP(origin, idle: limit) { (proxy) throws in
            // On a busy machine it may be us who are late: then the connection proves nothing, and another has to.
            var isProven = false
            while !isProven {
                let caller = try proxy.connect()
                let start = ContinuousClock.now
                var asked = start
                do {
                    while asked - start < limit * 2 {
                        let now = ContinuousClock.now
                        try caller.send("x")
                        _ = try caller.read(exactly: 1)
                        asked = now
                        _ = try caller.isSilent(for: .milliseconds(50))
                    }
                } catch {
                    guard ContinuousClock.now - asked > limit * 0.75 else { throw TestFailure("a busy connection ended: \(error)") }
                    continue
                }
                #expect(try caller.readToEnd().bytes.isEmpty)
                #expect(ContinuousClock.now - asked > limit * 0.75)
                isProven = true
            }
        }
    }

    @Test("TCP: a reset of either side reaches the other", arguments: [true, false])
    func tcpReset(byCaller: Bool) throws {
        let wasReset = Counter()
        let origin = try Origin { connection in
            _ = try connection.read(exactly: 1)
            if byCaller {
                if try connection.readToEnd().end == .reset { wasReset.add() }
            } else {
                connection.reset()
            }
        }
        try withTCP(origin) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send("x")
            if byCaller {
                try eventually("the origin has it") { origin.received.count == 1 }
                caller.reset()
                try eventually("the origin sees the reset") { wasReset.value == 1 }
            } else {
                #expect(try caller.readToEnd().end == .reset)
            }
        }
    }

    @Test("TCP: nobody there means a reset, not silence")
    func tcpRefused() throws {
        let port = try Ports.free()
        try withProxy({ Config.tcp(listen: $0, to: [port], admin: $1) }) { (proxy) throws in
            #expect(try proxy.connect().readToEnd() == ([], .reset))
        }
    }
}
