import ProxyConfig
import TestSupport
import Testing

/// Bytes go as fast as their reader takes them: who does not read stops who writes, and nobody else, and the proxy holds little meanwhile.
@Suite struct HTTP2FlowTests {
    private static let megabyte = 1 << 20

    /// Answers with so many bytes of the pattern as the path says, and counts what it could send.
    private func patternOrigin(_ wire: Wire, sent: Counter = Counter()) throws -> Origin {
        try Origin(records: false) { connection in
            switch wire {
            case .http1:
                while let request = try connection.readRequest(within: .seconds(600)) {
                    let size = Int(request.target.dropFirst()) ?? 0
                    try connection.send("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
                    for start in stride(from: 0, to: size, by: 65536) {
                        sent.add(try connection.sendPattern(min(65536, size - start), within: .seconds(120)))
                    }
                }
            case .http2:
                let peer = try HTTP2Peer(.server, over: connection)
                while let stream = try peer.nextRequest(within: .seconds(600)) {
                    let size = Int(peer.streams[stream]?.path.dropFirst() ?? "") ?? 0
                    try peer.send(.headers(stream, [(":status", "200")], endStream: size == 0))
                    for start in stride(from: 0, to: size, by: 65536) {
                        let count = min(65536, size - start)
                        try peer.sendPattern(stream, count, endStream: start + count == size, within: .seconds(120))
                        sent.add(count)
                    }
                }
            }
        }
    }

    /// An endpoint that answers many streams at once with the pattern: nghttpd, or a thread for each connection of HTTP/1.1.
    private func withConcurrentOrigin(_ wire: Wire, sizes: [Int], _ body: (UInt16) throws -> Void) throws {
        guard wire == .http2 else {
            let origin = try patternOrigin(wire)
            return try body(origin.port)
        }
        try #require(Program.exists("nghttpd"), "needs nghttpd")
        let folder = try TemporaryFolder()
        for size in sizes { try folder.replace("\(size)", with: Pattern.bytes(size)) }
        let (server, port) = try Servers.nghttpd(folder)
        defer { server.end() }
        try body(port)
    }

    private static let withHTTP2 = Pairing.all.filter { $0.downstream == .http2 || $0.upstream == .http2 }

    @Test("30 MB pass in each direction, intact, while the proxy stays below 40 MB", arguments: withHTTP2)
    func large(pairing: Pairing) throws {
        let size = 30 * Self.megabyte
        let origin = try Origin(records: false) { connection in
            switch pairing.upstream {
            case .http1:
                _ = try connection.read(until: "\r\n\r\n")
                let upload = try connection.readPattern(size)
                guard upload.count == size, upload.isIntact else { return }
                try connection.send("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
                try connection.sendPattern(size)
            case .http2:
                let peer = try HTTP2Peer(.server, over: connection)
                peer.keepsBodies = false
                guard let stream = try peer.nextRequest() else { return }
                let upload = try peer.whole(stream)
                guard upload.bodyCount == size, upload.isPattern else { return }
                try peer.send(.headers(stream, [(":status", "200")]))
                try peer.sendPattern(stream, size, endStream: true)
                _ = try peer.readToEnd()
            }
        }
        try pairing.withProxy(to: [origin.port]) { (proxy) throws in
            let length: [HTTP2Field] = [("content-length", "\(size)")]
            switch pairing.downstream {
            case .http1:
                let caller = try proxy.connect()
                try caller.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \(size)\r\n\r\n")
                try caller.sendPattern(size)
                _ = try caller.read(until: "\r\n\r\n")
                // Chunks: HTTP/2 has no length here.
                #expect(proxy.residentBytes < 40 * Self.megabyte)
                var count = 0
                while count < size {
                    let chunk = Int(shown(try caller.read(until: "\r\n").dropLast(2)), radix: 16) ?? 0
                    guard chunk > 0 else { break }
                    count += try caller.read(exactly: chunk + 2).count - 2
                }
                #expect(count == size)
            case .http2:
                let caller = try HTTP2Peer(to: proxy.port)
                caller.keepsBodies = false
                let stream = try caller.open(HTTP2Peer.head("POST") + length, endStream: false)
                try caller.sendPattern(stream, size, endStream: true)
                #expect(proxy.residentBytes < 40 * Self.megabyte)
                let answer = try caller.response(stream)
                #expect(answer.isWhole && answer.bodyCount == size && answer.isPattern)
            }
            #expect(proxy.residentBytes < 40 * Self.megabyte, "\(proxy.residentBytes >> 20) MB")
        }
    }

    @Test("a caller who does not open his windows stops the endpoint, and gets every byte when he does", arguments: Wire.allCases)
    func slowCaller(upstream: Wire) throws {
        let size = 20 * Self.megabyte
        let sent = Counter()
        let origin = try patternOrigin(upstream, sent: sent)
        try Pairing(downstream: .http2, upstream: upstream).withProxy(to: [origin.port]) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            caller.opensWindows = false
            caller.keepsBodies = false
            let stream = try caller.request("GET", "/\(size)")
            try caller.wait("the first window") { caller.streams[stream]?.bodyCount == 65535 }
            try BodyTests.waitUntilStill { sent.value }
            // What the kernel's buffers hold of HTTP/1.1, and the windows of HTTP/2.
            #expect(
                sent.value < (upstream == .http1 ? 10 * Self.megabyte : Self.megabyte), "the endpoint could send \(sent.value >> 10) KiB")
            #expect(try caller.connection.isSilent(for: .milliseconds(50)))
            caller.opensWindows = true
            try caller.send(.windowUpdate(0, 65535), .windowUpdate(stream, 65535))
            let answer = try caller.response(stream)
            #expect(answer.isWhole && answer.bodyCount == size && answer.isPattern)
        }
    }

    @Test(
        "100 streams whose caller does not read cost little memory, over one connection and over many", arguments: Wire.allCases, [1, 20])
    func manySlowStreams(upstream: Wire, connections: Int) throws {
        let origin = try patternOrigin(upstream)
        try Pairing(downstream: .http2, upstream: upstream).withProxy(to: [origin.port]) { (proxy) throws in
            let before = proxy.residentBytes
            let callers = try (0..<connections).map { _ in
                let caller = try HTTP2Peer(to: proxy.port)
                caller.opensWindows = false
                for _ in 0..<100 / connections { try caller.request("GET", "/1000000") }
                return caller
            }
            var peak = 0
            try BodyTests.waitUntilStill {
                peak = max(peak, proxy.residentBytes)
                return proxy.residentBytes >> 16
            }
            // A stream's window each way and what is read at once.
            #expect(peak - before < 24 * Self.megabyte, "\((peak - before) >> 20) MB more")
            for caller in callers { caller.connection.close() }
        }
    }

    @Test("an endpoint that does not read stops a caller of HTTP/2, and memory stays bounded", arguments: Wire.allCases)
    func slowEndpoint(upstream: Wire) throws {
        let origin = try Origin(records: false) { connection in
            if upstream == .http2 {
                let peer = try HTTP2Peer(.server, over: connection)
                peer.opensWindows = false
                _ = try peer.nextRequest()
            }
            connection.stall()
        }
        try Pairing(downstream: .http2, upstream: upstream).withProxy(to: [origin.port]) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            let stream = try caller.open(HTTP2Peer.head("POST"), endStream: false)
            let sent = try caller.sendUntilStuck(stream, pause: .seconds(1), limit: 50 * Self.megabyte)
            #expect(sent >= 65535 && sent < 10 * Self.megabyte, "the proxy took \(sent >> 10) KiB")
            #expect(proxy.residentBytes < 40 * Self.megabyte)
        }
    }

    @Test("a reader of HTTP/1.1 who does not read stops a writer of HTTP/2")
    func slowOldCaller() throws {
        let sent = Counter()
        let origin = try patternOrigin(.http2, sent: sent)
        try Pairing(downstream: .http1, upstream: .http2).withProxy(to: [origin.port]) { (proxy) throws in
            let caller = try proxy.connect(receiveBuffer: 32 << 10)
            try caller.send("GET /\(50 * Self.megabyte) HTTP/1.1\r\nHost: a\r\n\r\n")
            _ = try caller.read(until: "\r\n\r\n")
            try BodyTests.waitUntilStill { sent.value }
            #expect(sent.value < 20 * Self.megabyte, "the endpoint could send \(sent.value >> 20) MB")
            #expect(proxy.residentBytes < 40 * Self.megabyte)
        }
    }

    @Test("a stream that nobody reads stops no other stream of its connection", arguments: Wire.allCases)
    func oneSlowStream(upstream: Wire) throws {
        try withConcurrentOrigin(upstream, sizes: [1_000_000, 300_000]) { (port) throws in
            try Pairing(downstream: .http2, upstream: upstream).withProxy(to: [port]) { (proxy) throws in
                let caller = try HTTP2Peer(to: proxy.port)
                caller.keepsBodies = false
                let slow = (0..<5).map { _ in caller.newStream() }
                caller.heldStreams = Set(slow)
                for stream in slow { try caller.send(.headers(stream, HTTP2Peer.head("GET", "/1000000"), endStream: true)) }
                try caller.wait("the slow ones are full") { slow.allSatisfy { caller.streams[$0]?.bodyCount == 65535 } }
                for _ in 0..<20 {
                    let answer = try caller.exchange("GET", "/300000")
                    #expect(answer.bodyCount == 300_000 && answer.isPattern && answer.isWhole)
                }
                caller.heldStreams = []
                for stream in slow { try caller.send(.windowUpdate(stream, 65535)) }
                for stream in slow { #expect(try caller.response(stream).bodyCount == 1_000_000) }
            }
        }
    }

    @Test("an upload that its endpoint does not take stops no other stream of the connection")
    func oneSlowUpload() throws {
        let origin = try Origin(records: false) { connection in
            guard let head = try? connection.read(until: "\r\n\r\n") else { return }
            if shown(head).hasPrefix("POST /slow") { return connection.stall() }
            connection.unread(head)
            while try connection.readRequest() != nil { try connection.send(ok("quick")) }
        }
        try Pairing(downstream: .http2, upstream: .http1).withProxy(to: [origin.port]) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            let slow = try caller.open(HTTP2Peer.head("POST", "/slow"), endStream: false)
            _ = try caller.sendUntilStuck(slow, pause: .seconds(1), limit: 20 * Self.megabyte)
            for _ in 0..<20 {
                #expect(try caller.exchange("POST", "/quick", body: Pattern.bytes(20000), within: .seconds(10)).bodyText == "quick")
            }
        }
    }

    @Test("large answers share a connection, and small ones pass between them", arguments: Wire.allCases)
    func fairness(upstream: Wire) throws {
        let size = 4 * Self.megabyte
        try withConcurrentOrigin(upstream, sizes: [size, 1000]) { (port) throws in
            try Pairing(downstream: .http2, upstream: upstream).withProxy(to: [port]) { (proxy) throws in
                let caller = try HTTP2Peer(to: proxy.port)
                caller.keepsBodies = false
                let large = try (0..<4).map { _ in try caller.request("GET", "/\(size)") }
                try caller.wait("all large ones flow") { large.allSatisfy { caller.streams[$0]?.bodyCount ?? 0 > 0 } }
                let small = try caller.request("GET", "/1000")
                try caller.wait("the small one") { caller.streams[small]?.isWhole == true }
                #expect(large.allSatisfy { caller.streams[$0]?.isWhole == false }, "the small answer waited for a large one")
                try caller.wait("the first large one") { large.contains { caller.streams[$0]?.isWhole == true } }
                // Nobody starves: when the first is done, all others are well on their way.
                for stream in large {
                    let count = caller.streams[stream]?.bodyCount ?? 0
                    #expect(count > size / 4, "\(count >> 10) KiB of stream \(stream)")
                }
            }
        }
    }

    @Test("windows of one byte, and windows that change while streams are open, are obeyed", arguments: Wire.allCases)
    func smallWindows(upstream: Wire) throws {
        let origin = try patternOrigin(upstream)
        try Pairing(downstream: .http2, upstream: upstream).withProxy(to: [origin.port]) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port, settings: [.initialWindowSize: 1])
            let stream = try caller.request("GET", "/50")
            #expect(try caller.response(stream).body == Pattern.bytes(50))
            // None at first, then more by SETTINGS alone.
            caller.opensWindows = false
            try caller.send(.settings([.initialWindowSize: 0]))
            let waiting = try caller.request("GET", "/30000")
            try caller.wait("the head") { caller.streams[waiting]?.status == 200 }
            try caller.roundTrip()
            #expect(caller.streams[waiting]?.bodyCount == 0)
            try caller.send(.settings([.initialWindowSize: 10000]))
            try caller.wait("a window") { caller.streams[waiting]?.bodyCount == 10000 }
            try caller.send(.settings([.initialWindowSize: 40000]))
            #expect(try caller.response(waiting).body == Pattern.bytes(30000))
        }
    }

    @Test("an endpoint's small windows are obeyed too", arguments: Wire.allCases)
    func smallWindowsOfEndpoint(downstream: Wire) throws {
        let origin = try Origin.http2(settings: [.initialWindowSize: 10]) { HTTP2Answer(body: $0.body) }
        try Pairing(downstream: downstream, upstream: .http2).withProxy(to: [origin.port]) { (proxy) throws in
            let caller = try Caller(downstream, to: proxy.port)
            for size in [0, 9, 10, 11, 5000] {
                #expect(try caller.exchange(Ask(method: "POST", body: Pattern.bytes(size))).body == Pattern.bytes(size))
            }
        }
    }

    @Test("a caller who keeps his windows shut is given up after the route's idle timeout", arguments: Wire.allCases)
    func stalledForEver(upstream: Wire) throws {
        let origin = try patternOrigin(upstream)
        try Pairing(downstream: .http2, upstream: upstream).withProxy(to: [origin.port], action: { $0.idleTimeout = .milliseconds(700) }) {
            (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            caller.opensWindows = false
            let stream = try caller.request("GET", "/10000000")
            let answer = try caller.response(stream)
            #expect(answer.end.isReset, "\(answer.end)")
            caller.opensWindows = true
            try caller.send(.windowUpdate(0, 1 << 20))
            #expect(try caller.exchange("GET", "/100").isWhole)
        }
    }
}
