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

    var trust: TLSValidation { TLSValidation(trust: .file(mesh.certificate)) }

    @Test("both sides read what the other wrote, and know who it is")
    func mutual() throws {
        let server = try TLSContext.server(DownstreamTLS(certificate: cart.source, validation: trust))
        let client = try TLSContext.client(UpstreamTLS(validation: trust, certificate: web.source))
        let wire = Wire(client, server)
        wire.run()
        try #require(wire.isEstablished, "\(String(describing: wire.clientEnd)) \(String(describing: wire.serverEnd))")
        wire.client.write("hello")
        wire.server.write("welcome")
        wire.run()
        #expect(wire.atServer == Array("hello".utf8))
        #expect(wire.atClient == Array("welcome".utf8))
        #expect(wire.server.peer?.spiffeID == "spiffe://mesh/web")
        #expect(wire.client.peer?.spiffeID == "spiffe://mesh/cart")
        #expect(wire.client.version == "TLSv1.3")
    }
}
