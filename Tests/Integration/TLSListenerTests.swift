import Foundation
import ProxyConfig
import TestSupport
import Testing

/// TLS from callers: what is agreed on, and how the bytes may come.
@Suite struct TLSListenerTests {
    private static let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    private let certificates = MeshCertificates.shared

    /// A proxy that takes TLS, before an origin that says `ok`.
    private func withProxy(
        _ tls: DownstreamTLS, _ mode: Snapshot.TLSMode = .strict, to origin: Origin? = nil,
        manager: @escaping (inout HTTPConnectionManager) -> Void = { _ in }, body: (Proxy) throws -> Void
    ) throws {
        let origin = try origin ?? Origin.answering(ok())
        try Integration.withProxy(
            { Config.http(listen: $0, to: [origin.port], admin: $1, manager: manager).listening(tls, mode) }, body)
    }

    private func open(
        _ proxy: Proxy, _ pair: TestCertificates.Pair? = nil, protocols: [String] = [],
        versions: ClosedRange<TLSSettings.Version> = .v12 ... .v13, resume: TLSTicket? = nil
    ) throws -> RawConnection {
        var settings = certificates.caller(pair, protocols: protocols)
        settings.versions = versions
        return try .tls(to: proxy.port, settings, resume: resume)
    }

    // MARK: What is agreed on

    @Test("the ends of these tests understand each other", arguments: [TLSSettings.Version.v12, .v13])
    func ends(version: TLSSettings.Version) throws {
        var settings = certificates.endpoint(asks: true)
        settings.versions = version...version
        let endpoint = settings
        let origin = try Origin { connection in
            let tls = try connection.startTLS(.server, endpoint)
            let request = try connection.readToEnd()
            try connection.send("\(tls.peerSubject ?? "nobody") \(tls.serverName ?? "") \(request.bytes.count)")
            connection.finishSending()
        }
        let caller = try RawConnection.tls(to: origin.port, certificates.caller(certificates.client, protocols: ["http/1.1"]))
        #expect(caller.tls?.version == version && caller.tls?.agreedProtocol == "http/1.1" && caller.tls?.isCompressed == false)
        try caller.sendPattern(100_000)
        caller.finishSending()
        let answer = try caller.readToEnd()
        #expect(String(decoding: answer.bytes, as: UTF8.self) == "CN=client,O=Mesh\\, Inc. \(MeshCertificates.serverName) 100000")
        #expect(answer.end == .closed && caller.tls?.wasTruncated == false)
    }

    @Test("TLS 1.2 and 1.3 are spoken, without compression; what is older is refused by an alert")
    func versions() throws {
        try withProxy(certificates.downstream()) { (proxy) throws in
            for version in [TLSSettings.Version.v12, .v13] {
                let caller = try open(proxy, versions: version...version)
                #expect(caller.tls?.version == version && caller.tls?.isCompressed == false)
                #expect(try caller.exchange(Self.request).bodyText == "ok")
            }
            for version in [TLSSettings.Version.v10, .v11] {
                let error = #expect(throws: TLSFailure.self) { try open(proxy, versions: version...version) }
                #expect(error?.alert == TLSFailure.Alert.protocolVersion, "\(version): \(error.map { "\($0)" } ?? "")")
            }
            try proxy.wait(for: "ssl.handshake", 2)
            try proxy.waitForLog("no version in common")
        }
    }

    @Test(
        "ALPN: our order decides; who names nothing gets HTTP/1.1; nothing in common is an alert",
        arguments: [
            (["h2", "http/1.1"], ["http/1.1", "h2"], "h2"), (["h2", "http/1.1"], ["http/1.1"], "http/1.1"),
            (["http/1.1"], ["h2", "http/1.1"], "http/1.1"), (["h2", "http/1.1"], [], nil), (["h2", "http/1.1"], ["spdy/3"], "alert"),
            (["http/1.1"], ["h2"], "alert"), (["h2"], ["http/1.1"], "alert"),
        ] as [([String], [String], String?)])
    func applicationProtocols(ours: [String], theirs: [String], agreed: String?) throws {
        try withProxy(certificates.downstream(alpn: ours)) { (proxy) throws in
            if agreed == "alert" {
                let error = #expect(throws: TLSFailure.self) { try open(proxy, protocols: theirs) }
                #expect(error?.alert == TLSFailure.Alert.noApplicationProtocol)
                try proxy.waitForLog("no application protocol in common")
                return
            }
            let caller = try open(proxy, protocols: theirs)
            #expect(caller.tls?.agreedProtocol == agreed)
            if agreed != "h2" { #expect(try caller.exchange(Self.request).bodyText == "ok") }
        }
    }

    @Test("STRICT: plaintext is not answered, and no byte of it goes on")
    func strict() throws {
        let origin = try Origin.answering(ok())
        try withProxy(certificates.downstream(), to: origin) { (proxy) throws in
            for plaintext in [Self.request, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0", "\r\n"] {
                let caller = try proxy.connect()
                try caller.send(plaintext)
                #expect(try caller.readToEnd().bytes.isEmpty)
            }
            try proxy.waitForLog("plaintext on a port that takes TLS only")
            try proxy.wait(for: "no_filter_chain_match", 3)
            #expect(try open(proxy).exchange(Self.request).bodyText == "ok")
        }
        #expect(origin.connections.count == 1)
    }

    @Test("PERMISSIVE: plaintext and TLS are served on one port, each in any pieces")
    func permissive() throws {
        try withProxy(certificates.downstream(), .permissive) { (proxy) throws in
            for _ in 0..<2 {
                #expect(try proxy.exchange(Self.request).bodyText == "ok")
                #expect(try open(proxy).exchange(Self.request).bodyText == "ok")
            }
            let plain = try proxy.connect()
            for byte in Array(Self.request.utf8) {
                try plain.send([byte])
                usleep(100)
            }
            #expect(try plain.readResponse().bodyText == "ok")
            #expect(try plain.exchange(Self.request).bodyText == "ok")
        }
    }

    @Test("DISABLED: a ClientHello is no HTTP, and answered so")
    func disabled() throws {
        let origin = try Origin.answering(ok())
        try Integration.withProxy(to: origin) { (proxy) throws in
            #expect(throws: (any Error).self) { try open(proxy) }
            #expect(try proxy.exchange(Self.request).bodyText == "ok")
        }
        #expect(origin.connections.count == 1)
    }

    @Test("a caller who asks for another handshake is refused, and the connection with him")
    func renegotiation() throws {
        try withProxy(certificates.downstream()) { (proxy) throws in
            let caller = try open(proxy, versions: .v12 ... .v12)
            #expect(try caller.exchange(Self.request).bodyText == "ok")
            let hello = try #require(caller.tls).renegotiation()
            try #require(!hello.isEmpty)
            try caller.sendRaw(hello)
            #expect(throws: (any Error).self) { try caller.receive() }
            #expect(try open(proxy).exchange(Self.request).bodyText == "ok")
        }
    }

    @Test("TLS 1.3: new keys in the middle of a connection are nobody's business")
    func keyUpdate() throws {
        try withProxy(certificates.downstream()) { (proxy) throws in
            let caller = try open(proxy, versions: .v13 ... .v13)
            for _ in 0..<3 {
                #expect(try caller.exchange(Self.request).bodyText == "ok")
                try caller.sendRaw(try #require(caller.tls).keyUpdate())
            }
            #expect(try caller.exchange(Self.request).bodyText == "ok")
        }
    }

    // MARK: In which pieces the bytes come

    @Test("a ClientHello may be cut in two anywhere, and into single bytes")
    func cutHello() throws {
        try withProxy(certificates.downstream(), .permissive) { (proxy) throws in
            let settings = certificates.caller(protocols: ["http/1.1"])
            let length = try TLSEnd.hello(settings).count
            let port = proxy.port
            try Threads.run(4) { thread in
                for cut in stride(from: thread + 1, to: length, by: 4) {
                    let caller = try RawConnection(to: port)
                    try caller.startTLS(
                        .client, settings, cut: { $0.count > cut ? [Array($0[..<cut]), Array($0[cut...])] : [$0] })
                    let answer = try caller.exchange(Self.request)
                    if answer.bodyText != "ok" { throw TestFailure("cut at \(cut): \(answer.headText)") }
                }
            }
            for piece in [1, 3] {
                let caller = try proxy.connect()
                try caller.startTLS(
                    .client, settings,
                    cut: { flight in
                        stride(from: 0, to: flight.count, by: piece).map { Array(flight[$0..<min(flight.count, $0 + piece)]) }
                    })
                #expect(try caller.exchange(Self.request).bodyText == "ok")
            }
        }
    }

    @Test("a ClientHello may come in several records", arguments: [1, 4, 100])
    func helloInRecords(size: Int) throws {
        try withProxy(certificates.downstream(), .permissive) { (proxy) throws in
            let caller = try proxy.connect()
            var isFirst = true
            try caller.startTLS(
                .client, certificates.caller(),
                cut: { flight in
                    defer { isFirst = false }
                    guard isFirst else { return [flight] }
                    let message = Array(flight[5...])
                    return [
                        stride(from: 0, to: message.count, by: size).flatMap { start in
                            let piece = message[start..<min(message.count, start + size)]
                            return flight[..<3] + [0, UInt8(piece.count)] + piece
                        }
                    ]
                })
            #expect(try caller.exchange(Self.request).bodyText == "ok")
        }
    }

    @Test("a request in the same segment as the end of the handshake is answered", arguments: [TLSSettings.Version.v12, .v13])
    func requestWithHandshake(version: TLSSettings.Version) throws {
        for codec in [HTTPConnectionManager.Codec.auto, .http1] {
            try withProxy(certificates.downstream(alpn: ["http/1.1"]), manager: { $0.codec = codec }) { (proxy) throws in
                for protocols in [["http/1.1"], []] {
                    var settings = certificates.caller(protocols: protocols)
                    settings.versions = version...version
                    let caller = try proxy.connect()
                    try caller.startTLS(.client, settings, then: Array((Self.request + Self.request).utf8))
                    #expect(try caller.readResponse().bodyText == "ok")
                    #expect(try caller.readResponse().bodyText == "ok")
                }
            }
        }
    }

    private static let zeros = [UInt8](repeating: 0, count: 100)
    private static let garbage: [[UInt8]] = [
        [22, 3, 1, 0xFF, 0xFF] + zeros, [22, 3, 1, 0, 0], [22, 3, 1, 0, 5, 2, 0, 0, 1, 0], [22, 3, 1, 0, 4, 1, 0xFF, 0xFF, 0xFF],
        [22, 3, 1, 0, 42, 1, 0, 0, 38] + zeros[..<38], [23, 3, 3, 0, 5, 1, 2, 3, 4, 5], [21, 3, 3, 0, 2, 2, 40],
        [0x80, 0x2E, 1, 3, 1, 0, 21, 0, 0, 0, 16], [22, 9, 9, 0, 5, 1, 2, 3, 4, 5], [UInt8](repeating: 0xFF, count: 5000), [0],
    ]

    @Test("what is no ClientHello costs its connection and nothing else", arguments: [Snapshot.TLSMode.strict, .permissive])
    func noHello(mode: Snapshot.TLSMode) throws {
        let origin = try Origin.answering(ok())
        try withProxy(certificates.downstream(), mode, to: origin) { (proxy) throws in
            for row in Self.garbage {
                let caller = try proxy.connect()
                try caller.send(row)
                // Those that are the beginning of something end with their caller.
                caller.finishSending()
                let bytes = try caller.readToEnd(within: .seconds(9)).bytes
                #expect(isRefusal(bytes, mode), "\(shown(row)): \(shown(bytes))")
            }
            #expect(try open(proxy).exchange(Self.request).bodyText == "ok")
        }
        #expect(origin.connections.count == 1)
    }

    private func isRefusal(_ answer: [UInt8], _ mode: Snapshot.TLSMode) -> Bool {
        let isAlert = answer.first == 21 && answer.count == 7
        return answer.isEmpty || isAlert || mode == .permissive && answer.starts(with: "HTTP/1.1 400".utf8)
    }

    @Test("a record that was changed under way ends the connection by an alert, whatever came before")
    func changedRecord() throws {
        let origin = try Origin.answering(ok())
        try withProxy(certificates.downstream(), to: origin) { (proxy) throws in
            let caller = try open(proxy)
            #expect(try caller.exchange(Self.request).bodyText == "ok")
            var record = try #require(caller.tls).seal(Array(Self.request.utf8))
            record[record.count - 1] ^= 1
            try caller.sendRaw(record)
            #expect(throws: (any Error).self) { try caller.receive() }
        }
        #expect(origin.receivedText.components(separatedBy: "GET /").count == 2)
    }

    // MARK: Time

    @Test("T8: who has not shaken hands after 10 seconds is closed, whatever he sends and however slowly")
    func slowHandshake() throws {
        try withProxy(certificates.downstream()) { (proxy) throws in
            let whole = try TLSEnd.hello(certificates.caller())
            let port = proxy.port
            let starts: [[UInt8]] = [[], [22], Array(whole[..<40]), whole]
            try Threads.run(starts.count + 1) { index in
                let caller = try RawConnection(to: port)
                let start = ContinuousClock.now
                if index < starts.count {
                    try caller.send(starts[index])
                } else {
                    // A byte a second.
                    for byte in whole {
                        guard (try? caller.sendRaw([byte])) != nil, try caller.isSilent(for: .seconds(1)) else { break }
                    }
                }
                _ = try caller.readToEnd()
                let time = ContinuousClock.now - start
                if !(Duration.seconds(9)...Duration.seconds(40)).contains(time) { throw TestFailure("start \(index): \(time)") }
            }
            try proxy.wait(for: "downstream_pre_cx_timeout", starts.count + 1)
        }
    }

    @Test("a thousand handshakes that were begun and left cost a bounded amount of memory")
    func idleHandshakes() throws {
        try withProxy(certificates.downstream()) { (proxy) throws in
            let before = proxy.residentBytes
            let callers = try (0..<1000).map { _ in
                let caller = try proxy.connect()
                // The first half of a hello of the largest size.
                try caller.send([22, 3, 1, 0x3F, 0xFF, 1, 0, 0x3F, 0xFB, 3, 3] + [UInt8](repeating: 0, count: 8000))
                return caller
            }
            #expect(try open(proxy).exchange(Self.request).bodyText == "ok")
            let grown = proxy.residentBytes - before
            #expect(grown < 40 << 20, "\(grown >> 10) KiB")
            for caller in callers { caller.reset() }
        }
    }

    // MARK: Bodies

    @Test("20 MB go both ways unchanged, over either version", arguments: [TLSSettings.Version.v12, .v13])
    func bodies(version: TLSSettings.Version) throws {
        let size = 20 << 20
        let origin = try Origin(records: false) { connection in
            _ = try connection.read(until: "\r\n\r\n")
            let upload = try connection.readPattern(size)
            guard upload.isIntact, upload.count == size else { return }
            try connection.send("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
            try connection.sendPattern(size)
        }
        try withProxy(certificates.downstream(), to: origin) { (proxy) throws in
            let caller = try open(proxy, versions: version...version)
            try caller.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \(size)\r\n\r\n")
            try caller.sendPattern(size)
            let head = String(decoding: try caller.read(until: "\r\n\r\n"), as: UTF8.self)
            #expect(head.hasPrefix("HTTP/1.1 200"), "\(head)")
            #expect(try caller.readPattern(size) == (size, true))
        }
    }

    @Test("a caller who does not read holds the origin back, not the proxy's memory")
    func slowReader() throws {
        let size = 200 << 20
        let origin = try Origin(records: false) { connection in
            _ = try connection.read(until: "\r\n\r\n")
            try connection.send("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
            try connection.sendPattern(size, within: .seconds(120))
        }
        try withProxy(certificates.downstream(), to: origin) { (proxy) throws in
            let caller = try RawConnection(to: proxy.port, receiveBuffer: 65536)
            try caller.startTLS(.client, certificates.caller())
            try caller.send(Self.request)
            _ = try caller.read(until: "\r\n\r\n")
            let before = proxy.residentBytes
            usleep(1_000_000)
            #expect(proxy.residentBytes - before < 8 << 20)
            #expect(try caller.readPattern(50 << 20) == (50 << 20, true))
            caller.reset()
        }
    }
}
