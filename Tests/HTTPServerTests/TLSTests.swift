import Base
import HTTPClient
import HTTPServer
import HTTPTransport
import Reactor
import TestSupport
import Testing
import Transport

@Suite("TLS")
struct TLSTests {
    private static let spiffeID = "spiffe://mesh/ns/shop/vn/cart"

    @Test("who the caller's certificate names is on the exchange", arguments: [true, false], [true, false])
    func identity(isHTTP2: Bool, showsCertificate: Bool) throws {
        let tls = try TestTLS()
        var seen: [HTTPExchange] = []
        let harness = try Harness(tls: tls.server(asksClient: true, requiresCertificate: false)) {
            seen.append($0)
            $0.respond(status: 200)
        }
        if isHTTP2 {
            let client = harness.client(tls: try tls.client(showsCertificate: showsCertificate), serverName: "outriggerd.mesh")
            for _ in 0..<2 { #expect(try harness.call(client).head?.status == 200) }
            #expect(client.identity?.dnsSANs == ["outriggerd.mesh"])
            client.close()
        } else {
            let peer = try harness.peer(tls: try tls.client(showsCertificate: showsCertificate, alpn: ["http/1.1"]))
            for number in 1...2 {
                peer.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                try harness.drive("answer \(number)") { peer.text.components("200 OK") == number }
            }
            peer.close()
        }
        #expect(seen.count == 2)
        for exchange in seen {
            #expect(exchange.isTLS && exchange.isHTTP2 == isHTTP2)
            #expect(exchange.identity?.spiffeID == (showsCertificate ? Self.spiffeID : nil))
        }
    }

    @Test("where a certificate is required, who shows none is refused, and both sides say why")
    func noCertificate() throws {
        let tls = try TestTLS()
        let harness = try Harness(tls: tls.server(asksClient: true))
        let client = harness.client(tls: try tls.client())
        var closed: HTTPClientFailure?
        client.onClosed = { closed = $0 }
        let answer = try harness.call(client)
        // With TLS 1.3 the client is done before the server looks.
        #expect(answer.failure?.text.contains("TLS: it refused us") == true, "\(answer.failure?.text ?? "")")
        #expect(closed == answer.failure)
        #expect(harness.incidents.map(\.kind) == [.handshakeFailed])
        #expect(harness.incidents[0].text == "TLS handshake failed: a certificate is required and it showed none")
        try harness.drive("no connection") { harness.server.openConnections == 0 }
    }

    @Test("a server that is not to be trusted is refused with the reason")
    func untrusted() throws {
        let tls = try TestTLS()
        let harness = try Harness(tls: tls.server())
        let other = try tls.certificates.authority("other")
        for (context, words) in [
            (try tls.client(trust: other.certificate), "TLS: certificate verify failed: "),
            (try tls.client(names: ["cart.mesh"]), "TLS: certificate verify failed: "),
        ] {
            let client = harness.client(tls: context)
            let answer = try harness.call(client)
            #expect(answer.failure?.kind == .tls)
            #expect(answer.failure?.text.hasPrefix(words) == true, "\(answer.failure?.text ?? "")")
        }
    }

    @Test("a new certificate is for new connections; open ones keep theirs")
    func replaceTLS() throws {
        let tls = try TestTLS()
        let harness = try Harness(tls: tls.server())
        let before = harness.client(tls: try tls.client())
        _ = try harness.call(before)
        harness.server.replaceTLS(try tls.server(tls.authority.issue("second", names: ["DNS:second.mesh"])))
        let after = harness.client(tls: try tls.client())
        #expect(try harness.call(after).head?.status == 200)
        #expect(try harness.call(before).head?.status == 200)
        #expect(before.identity?.dnsSANs == ["outriggerd.mesh"] && after.identity?.dnsSANs == ["second.mesh"])
        before.close()
        after.close()
    }

    @Test("a caller without ALPN is known by its first bytes")
    func withoutALPN() throws {
        let tls = try TestTLS()
        let harness = try Harness(tls: tls.server())
        let peer = try harness.peer(tls: try tls.client(alpn: []))
        peer.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n")
        try harness.drive("an answer") { peer.text.contains("200 OK") }
        peer.close()
    }

    @Test("plaintext on a TLS port, and TLS on a plaintext port, fail clearly")
    func mismatch() throws {
        let tls = try TestTLS()
        let secure = try Harness(tls: tls.server())
        let plain = secure.client()
        let answer = try secure.call(plain)
        #expect(answer.failure == HTTPClientFailure(.notHTTP2, "not an HTTP/2 server: it answers \"HTTP/1.0 400 This port speaks TLS\""))
        #expect(secure.incidents.map(\.kind) == [.handshakeFailed])

        let open = try Harness()
        let client = open.client(tls: try tls.client())
        #expect(try open.call(client).failure?.text == "TLS: the server speaks none on this port")
    }

    @Test("a server that knows HTTP/1.1 only is no HTTP/2 server")
    func noH2() throws {
        let tls = try TestTLS()
        let harness = try Harness(tls: tls.server(alpn: ["http/1.1"]))
        let answer = try harness.call(harness.client(tls: try tls.client(alpn: ["h2", "http/1.1"])))
        #expect(answer.failure?.kind == .notHTTP2)
        #expect(answer.failure?.text == "not an HTTP/2 server: TLS agreed on no h2")
    }

    @Test("garbage instead of TLS ends the connection and nothing else")
    func garbage() throws {
        let tls = try TestTLS()
        let harness = try Harness(tls: tls.server())
        var random = SeededRandom(seed: 5)
        for seed in 0..<50 {
            let peer = try harness.peer()
            peer.send((0..<random.below(300) + 1).map { _ in UInt8(truncatingIfNeeded: random.below(256)) })
            harness.turn(2)
            peer.finish()
            try harness.drive("the end of seed \(seed)") { peer.isClosed || peer.isOver }
            peer.close()
        }
        try harness.drive("no connection") { harness.server.openConnections == 0 }
        let client = harness.client(tls: try tls.client())
        #expect(try harness.call(client).head?.status == 200)
        client.close()
    }
}
