import Base
import ProxyConfig
import TestSupport
import Testing
import Transport

@Suite("TLS resumption")
struct ResumptionTests {
    let certificates: TestCertificates
    let mesh: TestCertificates.Authority
    let cart: TestCertificates.Pair
    let web: TestCertificates.Pair

    init() throws {
        certificates = try TestCertificates()
        mesh = try certificates.authority("mesh")
        cart = try mesh.issue("cart", names: ["URI:spiffe://mesh/cart"])
        web = try mesh.issue("web", names: ["URI:spiffe://mesh/web"])
    }

    private var trust: TLSValidation { TLSValidation(trust: .file(mesh.certificate)) }

    private func server(_ trust: TLSValidation? = nil) throws -> TLSContext {
        try TLSContext.server(DownstreamTLS(certificate: cart.source, validation: trust ?? self.trust))
    }

    private func client() throws -> TLSContext {
        try TLSContext.client(UpstreamTLS(validation: trust, certificate: web.source))
    }

    private func connect(
        _ client: TLSContext, _ server: TLSContext, serverName: String? = "cart.local", resume: TLSResumption? = nil
    ) -> Wire {
        let wire = Wire(client, server, serverName: serverName, resume: resume)
        wire.run()
        return wire
    }

    @Test("the second connection resumes the first, and both sides know each other still")
    func resumes() throws {
        let (client, server) = (try client(), try server())
        let first = connect(client, server)
        try #require(first.isEstablished, "\(first.ends)")
        var ticket = try #require(first.client.resumption)
        // Each connection gives the ticket of the next.
        for round in 0..<3 {
            let next = connect(client, server, resume: ticket)
            try #require(next.isEstablished, "\(next.ends)")
            #expect(next.client.wasResumed && next.server.wasResumed, "round \(round)")
            #expect(next.server.peer?.spiffeID == "spiffe://mesh/web")
            #expect(next.client.peer?.spiffeID == "spiffe://mesh/cart")
            #expect(next.server.serverName == "cart.local")
            next.client.write("again")
            next.run()
            #expect(next.atServer == Array("again".utf8))
            ticket = try #require(next.client.resumption)
        }
    }

    @Test("a ticket of TLS 1.3 is used once")
    func once() throws {
        let (client, server) = (try client(), try server())
        let ticket = try #require(connect(client, server).client.resumption)
        #expect(ticket.isUsable)
        #expect(connect(client, server, resume: ticket).client.wasResumed)
        #expect(!ticket.isUsable)
        let third = connect(client, server, resume: ticket)
        #expect(third.isEstablished && !third.client.wasResumed)
    }

    @Test("a session outlives the connection that made it, however that ended")
    func outlives() throws {
        let (client, server) = (try client(), try server())
        for closesWell in [true, false] {
            var first: Wire? = connect(client, server)
            if closesWell {
                first?.client.finishWriting()
                first?.run()
            }
            let ticket = try #require(first?.client.resumption)
            first = nil
            #expect(connect(client, server, resume: ticket).client.wasResumed, "closed well: \(closesWell)")
        }
    }

    @Test("a new server context resumes nothing of the old one: a new certificate, another trust, or the very same files")
    func serverChanges() throws {
        let other = try certificates.authority("other")
        let narrower = TLSValidation(trust: .file(mesh.certificate), subjectAlternativeNames: ["spiffe://mesh/pay"])
        let both = TLSValidation(trust: .file(try certificates.bundle("both.pem", of: [mesh.certificate, other.certificate])))
        for (trust, isLetIn) in [(trust, true), (both, true), (narrower, false), (TLSValidation(trust: .file(other.certificate)), false)] {
            let client = try client()
            let ticket = try #require(connect(client, try server()).client.resumption)
            let wire = connect(client, try server(trust), resume: ticket)
            #expect(!wire.server.wasResumed)
            #expect(wire.isEstablished == isLetIn, "\(wire.ends)")
        }
    }

    @Test("a new client context, or another name, resumes nothing")
    func clientChanges() throws {
        let (client, server) = (try client(), try server())
        let ticket = try #require(connect(client, server).client.resumption)
        let other = connect(try self.client(), server, resume: ticket)
        #expect(other.isEstablished && !other.client.wasResumed)
        let renamed = connect(client, server, serverName: "pay.local", resume: ticket)
        #expect(renamed.isEstablished && !renamed.client.wasResumed)
        #expect(ticket.isUsable)
        #expect(connect(client, server, resume: ticket).client.wasResumed)
    }

    @Test("no session outlives the certificate that it was begun with, on either side, however often it is resumed")
    func ends() throws {
        // OpenSSL judges by the machine's clock, so this takes some seconds.
        for isClient in [true, false] {
            let short = try mesh.issue("short", seconds: 3)
            let client = isClient ? try TLSContext.client(UpstreamTLS(validation: nil, certificate: short.source)) : try client()
            let server = isClient ? try server() : try TLSContext.server(DownstreamTLS(certificate: short.source))
            var ticket = try #require(connect(client, server).client.resumption)
            try eventually("it is not resumed any more") {
                let wire = connect(client, server, resume: ticket)
                if let next = wire.client.resumption { ticket = next }
                return !wire.isEstablished && !wire.server.wasResumed
            }
        }
    }

    @Test("a ticket that was changed makes a full handshake")
    func forged() throws {
        let (client, server) = (try client(), try server())
        let ticket = try #require(connect(client, server).client.resumption)
        let session = TLSSession(client: client, serverName: "cart.local", resume: ticket)
        _ = session.handshake()
        var hello = session.taken()
        // The pre-shared key extension is the last: identity, then 32 bytes of binder and its lengths. Well inside the identity:
        hello[hello.count - 100] ^= 1
        let wire = Wire(client: session, server: TLSSession(server: server))
        wire.deliverToServer(hello)
        wire.run()
        #expect(!wire.server.wasResumed)
        #expect(!wire.isEstablished, "the handshake's hash differs on both sides")
    }

    @Test("connections of one context share the tickets among threads")
    func threads() throws {
        let (client, server) = (try client(), try server())
        let resumed = Counter()
        try Threads.run(4) { _ in
            var ticket: TLSResumption?
            for _ in 0..<50 {
                let wire = connect(client, server, resume: ticket)
                guard wire.isEstablished else { throw TestFailure(wire.ends) }
                if wire.client.wasResumed { resumed.add() }
                ticket = wire.client.resumption
            }
        }
        #expect(resumed.value == 4 * 49)
    }
}
