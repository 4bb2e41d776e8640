import Base
import ProxyConfig
import TestSupport
import Testing
import Transport

@Suite("TLS handshake")
struct HandshakeTests {
    let certificates: TestCertificates
    let mesh: TestCertificates.Authority
    let cart: TestCertificates.Pair
    let web: TestCertificates.Pair

    init() throws {
        certificates = try TestCertificates()
        mesh = try certificates.authority("mesh")
        cart = try mesh.issue("cart", names: ["DNS:cart.local", "URI:spiffe://mesh/cart"])
        web = try mesh.issue("web", names: ["DNS:web.local", "URI:spiffe://mesh/web"])
    }

    private var trust: TLSValidation { TLSValidation(trust: .file(mesh.certificate)) }

    private func server(alpn: [String] = []) throws -> TLSContext {
        try TLSContext.server(DownstreamTLS(certificate: cart.source, validation: trust, alpn: alpn))
    }

    private func client(alpn: [String] = []) throws -> TLSContext {
        try TLSContext.client(UpstreamTLS(validation: trust, certificate: web.source, alpn: alpn))
    }

    @Test("both sides read what the other wrote, and know who it is")
    func mutual() throws {
        let wire = Wire(try client(), try server())
        wire.run()
        try #require(wire.isEstablished, "\(wire.ends)")
        wire.client.write("hello")
        wire.server.write("welcome")
        wire.run()
        #expect(wire.atServer == Array("hello".utf8))
        #expect(wire.atClient == Array("welcome".utf8))
        #expect(wire.server.peer?.spiffeID == "spiffe://mesh/web")
        #expect(wire.server.peer?.subject == "CN=web")
        #expect(wire.client.peer?.spiffeID == "spiffe://mesh/cart")
        #expect(wire.client.peer?.dnsSANs == ["cart.local"])
        #expect(wire.client.version == "TLSv1.3")
        #expect(wire.client.cipher == "TLS_AES_128_GCM_SHA256")
        #expect(!wire.client.wasResumed && !wire.server.wasResumed)
    }

    @Test("without validation nobody is asked for a certificate, and nobody is called verified")
    func oneSided() throws {
        let wire = Wire(
            try TLSContext.client(UpstreamTLS(validation: nil, certificate: web.source)),
            try TLSContext.server(DownstreamTLS(certificate: cart.source)))
        wire.run()
        try #require(wire.isEstablished, "\(wire.ends)")
        #expect(wire.server.peer == nil)
        #expect(wire.client.peer == nil)
    }

    @Test("the bytes may be cut anywhere: handshake, data and close")
    func everySplit() throws {
        let (client, server) = (try client(alpn: ["h2"]), try server(alpn: ["h2"]))
        var cut = 1
        var longest = Int.max
        while cut <= longest {
            let wire = Wire(client, server)
            wire.cut = cut
            wire.run()
            try #require(wire.isEstablished, "cut after \(cut) bytes: \(wire.ends)")
            wire.client.write("question")
            wire.server.write("answer")
            wire.run()
            wire.client.finishWriting()
            wire.server.finishWriting()
            wire.run()
            #expect(wire.atServer == Array("question".utf8), "cut after \(cut) bytes")
            #expect(wire.atClient == Array("answer".utf8), "cut after \(cut) bytes")
            #expect(wire.serverEnd == .closed && wire.clientEnd == .closed, "cut after \(cut) bytes: \(wire.ends)")
            longest = wire.longestDelivery
            // Every place of the records' headers, every third of the rest.
            cut += cut < 600 ? 1 : 3
        }
        #expect(longest > 800, "the server's flight is in it")
    }

    @Test("one byte at a time")
    func oneByte() throws {
        let wire = Wire(try client(alpn: ["h2"]), try server(alpn: ["h2"]))
        wire.piece = 1
        wire.run()
        try #require(wire.isEstablished, "\(wire.ends)")
        let data = (0..<40_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        wire.client.write(data)
        wire.run()
        #expect(wire.atServer == data)
    }

    @Test("large writes become records, in order, both ways at once", arguments: [1, 16_383, 16_384, 16_385, 65_536, 1 << 20])
    func large(count: Int) throws {
        let wire = Wire(try client(), try server())
        wire.run()
        let data = (0..<count).map { UInt8(truncatingIfNeeded: ($0 * $0) >> 3) }
        wire.client.write(data)
        wire.server.write(data)
        let records = (count + 16_383) / 16_384
        let sealed = wire.client.outgoing.count
        #expect(sealed == count + 22 * records, "a record of TLS 1.3 costs 22 bytes")
        wire.run()
        #expect(wire.atServer == data)
        #expect(wire.atClient == data)
    }

    // MARK: Agreement

    @Test(
        "ALPN: the server's order decides; nothing in common ends it, nothing offered is HTTP/1.1's matter",
        arguments: [
            (["h2", "http/1.1"], ["http/1.1", "h2"], .h2),
            (["http/1.1", "h2"], ["h2", "http/1.1"], .http1),
            (["h2"], ["http/1.1", "h2"], .h2),
            (["h2"], [], TLSSession.NegotiatedProtocol.none),
            ([], ["h2"], TLSSession.NegotiatedProtocol.none),
            (["grpc-exp"], ["grpc-exp"], .other),
            (["h2"], ["http/1.1"], nil),
            (["h2"], ["h"], nil),
        ] as [([String], [String], TLSSession.NegotiatedProtocol?)])
    func alpn(server: [String], client: [String], expected: TLSSession.NegotiatedProtocol?) throws {
        let wire = Wire(try self.client(alpn: client), try self.server(alpn: server))
        wire.run()
        guard let expected else {
            #expect(wire.serverEnd == .failed(.noCommonProtocol))
            #expect(wire.clientEnd == .failed(.alert(120)))  // RFC 7301 section 3.2: no_application_protocol
            return
        }
        try #require(wire.isEstablished, "\(wire.ends)")
        #expect(wire.server.negotiatedProtocol == expected)
        #expect(wire.client.negotiatedProtocol == expected)
    }

    @Test(
        "SNI carries names, never addresses",
        arguments: [
            ("cart.local", "cart.local"), ("cart", "cart"), ("10.0.0.1", nil), ("::1", nil), ("fe80::1%eth0", nil), ("", nil), (nil, nil),
            (String(repeating: "a", count: 256), nil),
        ] as [(String?, String?)])
    func sni(name: String?, expected: String?) throws {
        let wire = Wire(try client(), try server(), serverName: name)
        wire.run()
        try #require(wire.isEstablished, "\(wire.ends)")
        #expect(wire.server.serverName == expected)
    }

    @Test("a caller of TLS 1.1 is refused with protocol_version")
    func oldVersion() throws {
        let wire = Wire(try client(), try server())
        // RFC 4346: client_version 3.2, no extensions, TLS_RSA_WITH_AES_128_CBC_SHA.
        let body: [UInt8] = [3, 2] + [UInt8](repeating: 7, count: 32) + [0] + [0, 2, 0, 0x2f] + [1, 0]
        wire.deliverToServer([22, 3, 1, 0, UInt8(body.count + 4), 1, 0, 0, UInt8(body.count)] + body)
        #expect(wire.serverEnd == .failed(.noCommonVersion))
        #expect(wire.server.taken() == [21, 3, 2, 0, 2, 2, 70])  // alert, fatal, protocol_version
    }

    // MARK: Ends

    @Test("close_notify ends one direction; the other goes on")
    func halfClose() throws {
        let wire = Wire(try client(), try server())
        wire.run()
        wire.client.write("last words")
        wire.client.finishWriting()
        wire.run()
        #expect(wire.atServer == Array("last words".utf8))
        #expect(wire.serverEnd == .closed)
        #expect(wire.server.inputEnded() == nil)
        wire.server.write("an answer")
        wire.server.finishWriting()
        wire.run()
        #expect(wire.atClient == Array("an answer".utf8))
        #expect(wire.clientEnd == .closed)
        wire.server.write("nobody may send this")
        #expect(wire.server.taken().isEmpty)
    }

    @Test("an end without close_notify is no end")
    func truncation() throws {
        let wire = Wire(try client(), try server())
        wire.run()
        wire.client.write("half of it")
        wire.run()
        #expect(wire.server.inputEnded() == .truncated)
        let early = TLSSession(server: try server())
        guard case .broken = early.inputEnded() else { return #expect(Bool(false), "\(String(describing: early.inputEnded()))") }
    }

    @Test(
        "what is no TLS is called so, to either side",
        arguments: [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "SSH-2.0-x\r\n",
        ])
    func notTLS(text: String) throws {
        let wire = Wire(try client(), try server())
        wire.deliverToServer(Array(text.utf8))
        #expect(wire.serverEnd == .failed(.notTLS))
        _ = wire.client.handshake()
        wire.deliverToClient(Array(text.utf8))
        #expect(wire.clientEnd == .failed(.notTLS))
    }

    @Test("random bytes end the handshake on either side, whatever they are")
    func garbage() throws {
        var random = SeededRandom(seed: 7)
        let (client, server) = (try client(), try server())
        for round in 0..<300 {
            let wire = Wire(client, server)
            _ = wire.client.handshake()
            // Some look like a record at first.
            let start: [UInt8] = round % 2 == 0 ? [] : [UInt8(20 + random.below(4)), 3, UInt8(random.below(5)), UInt8(random.below(2))]
            let bytes = start + (0..<600).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            wire.deliverToServer(bytes)
            wire.deliverToClient(bytes)
            #expect(!wire.server.isEstablished && !wire.client.isEstablished, "round \(round)")
            #expect(wire.serverEnd != .closed && wire.clientEnd != .closed, "round \(round)")
        }
    }

    @Test("a record that was changed on its way is not read, and what came before it is")
    func changed() throws {
        var random = SeededRandom(seed: 3)
        for _ in 0..<50 {
            let wire = Wire(try client(), try server())
            wire.run()
            wire.client.write("whole")
            let good = wire.client.taken()
            wire.client.write("changed")
            var bad = wire.client.taken()
            // Beyond the length, which would only make the record longer.
            bad[5 + random.below(bad.count - 5)] ^= UInt8(1 << random.below(8))
            wire.deliverToServer(good + bad)
            #expect(wire.atServer == Array("whole".utf8))
            guard case .failed(.broken) = wire.serverEnd else { return #expect(Bool(false), "\(wire.ends)") }
            // The alert says bad_record_mac.
            wire.deliverToClient(wire.server.taken())
            #expect(wire.clientEnd == .failed(.alert(20)))
            wire.server.write("nothing more")
            #expect(wire.server.taken().isEmpty)
        }
    }

    // MARK: Reading in parts

    @Test("what is kept is read later, before what comes after it")
    func kept() throws {
        let wire = Wire(try client(), try server())
        wire.run()
        wire.client.write((0..<50_000).map { UInt8(truncatingIfNeeded: $0) })
        var room = [UInt8](repeating: 0, count: 1000)
        var read: [UInt8] = []
        let first = wire.client.taken()
        unsafe first.withUnsafeBytes { bytes in
            unsafe wire.server.feed(bytes)
            guard case .bytes(let count) = unsafe room.withUnsafeMutableBytes({ unsafe wire.server.read(into: $0) }) else { return }
            read += room[..<count]
            wire.server.keepRest()
        }
        #expect(read.count == 1000)
        #expect(wire.server.hasInput)
        wire.client.write("the end")
        let second = wire.client.taken()
        unsafe second.withUnsafeBytes { bytes in
            unsafe wire.server.feed(bytes)
            while case .bytes(let count) = unsafe room.withUnsafeMutableBytes({ unsafe wire.server.read(into: $0) }) {
                read += room[..<count]
            }
        }
        #expect(read == (0..<50_000).map { UInt8(truncatingIfNeeded: $0) } + Array("the end".utf8))
        #expect(!wire.server.hasInput)
    }

    @Test("an idle session keeps no output buffer of its own making")
    func idle() throws {
        let wire = Wire(try client(), try server())
        wire.run()
        wire.server.outgoing.release()
        wire.client.write("one way only")
        wire.run()
        let owned = wire.server.outgoing.allocatedBytes
        #expect(owned == 0)
    }
}
