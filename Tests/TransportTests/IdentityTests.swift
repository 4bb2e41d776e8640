import Base
import ProxyConfig
import TestSupport
import Testing
import Transport

/// Who is let in, on either side, and what is said of the others.
@Suite("TLS identity")
struct IdentityTests {
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

    private func validation(_ names: [String] = []) -> TLSValidation {
        TLSValidation(trust: .file(mesh.certificate), subjectAlternativeNames: names)
    }

    /// A connection on which the server shows `pair`, and the client checks it.
    private func toServer(_ pair: TestCertificates.Pair, checks: TLSValidation, at time: Int64 = now()) throws -> Wire {
        let server = try TLSContext.server(DownstreamTLS(certificate: pair.source), now: time, files: readFile)
        let wire = Wire(try TLSContext.client(UpstreamTLS(validation: checks)), server)
        wire.run()
        return wire
    }

    /// A connection on which the client shows `pair`, and the server checks it.
    private func fromClient(_ pair: TestCertificates.Pair?, checks: TLSValidation, at time: Int64 = now()) throws -> Wire {
        let client = try TLSContext.client(UpstreamTLS(validation: nil, certificate: pair?.source), now: time, files: readFile)
        let wire = Wire(client, try TLSContext.server(DownstreamTLS(certificate: cart.source, validation: checks)))
        wire.run()
        return wire
    }

    /// Both ways: who checks says why, and the other gets the alert.
    private func expectRefusal(
        of pair: TestCertificates.Pair, checks: TLSValidation, at time: Int64 = now(), fault: TLSError.CertificateFault, subject: String,
        alert: UInt8
    ) throws {
        for (wire, isClientChecking) in [
            (try toServer(pair, checks: checks, at: time), true), (try fromClient(pair, checks: checks, at: time), false),
        ] {
            let (checking, shown) = isClientChecking ? (wire.clientEnd, wire.serverEnd) : (wire.serverEnd, wire.clientEnd)
            guard case .failed(.certificateRefused(let foundFault, let reason, let foundSubject)) = checking else {
                Issue.record("\(wire.ends)")
                return
            }
            #expect(foundFault == fault, "\(reason)")
            #expect(foundSubject == subject)
            #expect(shown == .failed(.alert(alert)), "\(wire.ends)")
        }
    }

    @Test("a certificate of another authority is refused")
    func otherAuthority() throws {
        let other = try certificates.authority("other")
        let stranger = try other.issue("stranger", names: ["URI:spiffe://mesh/web"])
        // 48: unknown_ca
        try expectRefusal(of: stranger, checks: validation(), fault: .untrusted, subject: "CN=stranger", alert: 48)
    }

    @Test("an authority of the same name with another key is another")
    func sameName() throws {
        let imitation = try TestCertificates()
        let stranger = try imitation.authority("mesh").issue("web", names: ["URI:spiffe://mesh/web"])
        for wire in [try toServer(stranger, checks: validation()), try fromClient(stranger, checks: validation())] {
            #expect(!wire.isEstablished)
        }
    }

    @Test("an expired certificate is refused, and one of tomorrow")
    func times() throws {
        let old = try mesh.issue("old", days: -20 ... -10)
        try expectRefusal(
            of: old, checks: validation(), at: now() - 15 * 86_400, fault: .expired, subject: "CN=old", alert: 45)  // certificate_expired
        let early = try mesh.issue("early", days: 10...20)
        try expectRefusal(
            of: early, checks: validation(), at: now() + 15 * 86_400, fault: .notYetValid, subject: "CN=early", alert: 42)
    }

    @Test("a server that asks for a certificate refuses who has none")
    func none() throws {
        let wire = try fromClient(nil, checks: validation())
        #expect(wire.serverEnd == .failed(.noCertificate))
        #expect(wire.clientEnd == .failed(.alert(116)))  // certificate_required
        #expect(wire.server.peer == nil)
    }

    @Test("a certificate for servers alone is none for clients, and the other way round")
    func usage() throws {
        let serverOnly = try mesh.issue("server-only", usage: "serverAuth")
        #expect(try toServer(serverOnly, checks: validation()).isEstablished)
        #expect(try !fromClient(serverOnly, checks: validation()).isEstablished)
        let clientOnly = try mesh.issue("client-only", usage: "clientAuth")
        #expect(try !toServer(clientOnly, checks: validation()).isEstablished)
        #expect(try fromClient(clientOnly, checks: validation()).isEstablished)
    }

    @Test(
        "a listed name must stand in the certificate: URIs exactly, DNS as hosts compare, addresses however they are written",
        arguments: [
            (["DNS:web.local", "URI:spiffe://mesh/web"], ["spiffe://mesh/web"], true),
            (["DNS:web.local", "URI:spiffe://mesh/web"], ["web.local"], true),
            (["DNS:web.local"], ["WEB.local"], true),
            (["URI:spiffe://mesh/web"], ["spiffe://mesh/WEB"], false),
            (["URI:spiffe://mesh/web"], ["spiffe://mesh/web2", "spiffe://mesh/we", "spiffe://mesh/web"], true),
            (["URI:spiffe://mesh/web"], ["spiffe://mesh/web2", "spiffe://mesh/we"], false),
            (["URI:spiffe://mesh/web/x"], ["spiffe://mesh/web"], false),
            (["DNS:*.local"], ["web.local"], true),
            (["DNS:*.local"], ["a.web.local"], false),
            (["DNS:*.local"], ["local"], false),
            (["DNS:*.local"], [".local"], false),
            (["DNS:web.local"], ["*.local"], false),
            (["DNS:w*.local"], ["web.local"], false),
            ([], ["web"], false),  // The subject's common name is no name.
            (["email:web@local"], ["web@local"], false),
            (["IP:10.0.0.1"], ["10.0.0.1"], true),
            (["IP:10.0.0.1"], ["10.0.0.2", "10.0.0.10", "010.0.0.1"], false),
            (["IP:2001:db8::1"], ["2001:DB8:0::1"], true),
            (["IP:2001:db8::1"], ["::1"], false),
            (["DNS:web.local"], ["10.0.0.1"], false),
        ] as [([String], [String], Bool)])
    func names(certificate: [String], listed: [String], isLetIn: Bool) throws {
        let pair = try mesh.issue("web-2", names: certificate, subject: "/CN=web")
        for wire in [try toServer(pair, checks: validation(listed)), try fromClient(pair, checks: validation(listed))] {
            #expect(wire.isEstablished == isLetIn, "\(wire.ends)")
        }
    }

    @Test("who has another name is told apart by the names that were found")
    func otherName() throws {
        try expectRefusal(
            of: web, checks: validation(["spiffe://mesh/pay"]), fault: .otherName, subject: "DNS:web.local, URI:spiffe://mesh/web",
            alert: 42)
    }

    @Test(
        "a name with a byte that no name has refuses the certificate, whatever is listed",
        arguments: [
            ("NUL in a DNS name", 2, Array("web.local\u{0}.evil".utf8)),
            ("NUL at the end", 2, Array("web.local\u{0}".utf8)),
            ("line feed in a URI", 6, Array("spiffe://mesh/web\r\nx: y".utf8)),
            ("a space", 2, Array("web local".utf8)),
            ("beyond ASCII", 6, Array("spiffe://mesh/w".utf8) + [0xff]),
        ] as [(String, UInt8, [UInt8])])
    func badNames(what: String, kind: UInt8, bytes: [UInt8]) throws {
        let entry = [0x80 | kind, UInt8(bytes.count)] + bytes
        let good = [0x82, 9] + Array("web.local".utf8)
        for names in [entry + good, good + entry] {
            let pair = try mesh.issue("bad", encodedNames: [0x30, UInt8(names.count)] + names)
            for listed in [[], ["web.local"]] {
                for wire in [try toServer(pair, checks: validation(listed)), try fromClient(pair, checks: validation(listed))] {
                    let found = [wire.clientEnd, wire.serverEnd].contains { end in
                        if case .failed(.certificateRefused(.badName, _, "CN=bad")) = end { true } else { false }
                    }
                    #expect(found, "\(what): \(wire.ends)")
                }
            }
        }
    }

    @Test("names that cannot be read refuse the certificate")
    func unreadableNames() throws {
        let pair = try mesh.issue("bad", encodedNames: [0x30, 0x20, 0x82, 3, 0x61])
        for wire in [try toServer(pair, checks: validation()), try fromClient(pair, checks: validation())] {
            #expect(!wire.isEstablished, "\(wire.ends)")
        }
    }

    @Test("an authority between root and leaf: the leaf brings it along, or it is trusted itself")
    func intermediate() throws {
        let team = try mesh.authority("team")
        let leaf = try team.issue("leaf", names: ["URI:spiffe://mesh/leaf"])
        #expect(try toServer(leaf, checks: validation()).isEstablished)
        #expect(try fromClient(leaf, checks: validation()).isEstablished)
        let teamOnly = TLSValidation(trust: .file(team.certificate))
        #expect(try fromClient(leaf, checks: teamOnly).isEstablished)
        #expect(try !fromClient(web, checks: teamOnly).isEstablished)
        let both = TLSValidation(trust: .file(try certificates.bundle("both.pem", of: [team.certificate, mesh.certificate])))
        #expect(try fromClient(web, checks: both).isEstablished)
    }

    @Test("a certificate on a revocation list of the bundle is refused, others of its authority are not")
    func revocation() throws {
        let list = try mesh.revoke(web, file: "revoked.pem")
        let bundle = try certificates.bundle("bundle.pem", of: [mesh.certificate, list])
        let checks = TLSValidation(trust: .file(bundle))
        try expectRefusal(of: web, checks: checks, fault: .revoked, subject: "CN=web", alert: 44)  // certificate_revoked
        #expect(try fromClient(cart, checks: checks).isEstablished)
    }

    @Test("keys of every kind that TLS 1.3 knows serve", arguments: [TestCertificates.Key.p256, .p384, .ed25519, .rsa2048])
    func kinds(key: TestCertificates.Key) throws {
        let pair = try mesh.issue("kind", names: ["DNS:kind.local"], key: key)
        #expect(try toServer(pair, checks: validation(["kind.local"])).isEstablished)
        #expect(try fromClient(pair, checks: validation(["kind.local"])).isEstablished)
        let authority = try certificates.authority("other", key: key)
        let leaf = try authority.issue("leaf")
        #expect(try fromClient(leaf, checks: TLSValidation(trust: .file(authority.certificate))).isEstablished)
    }

    @Test("who was let in once is checked again when something of his chain differs, or has ended")
    func remembered() throws {
        let team = try mesh.authority("team")
        let leaf = try team.issue("leaf")
        let server = try TLSContext.server(DownstreamTLS(certificate: cart.source, validation: validation()))
        func isLetIn(_ pair: TestCertificates.Pair) throws -> Bool {
            let wire = Wire(try TLSContext.client(UpstreamTLS(validation: nil, certificate: pair.source)), server)
            wire.run()
            return wire.isEstablished
        }
        for _ in 0..<3 { #expect(try isLetIn(leaf)) }
        // The same leaf without the certificate that leads to the root.
        let alone = certificates.folder.file("alone.pem")
        #expect(try Program.run("openssl", ["x509", "-in", leaf.chain, "-out", alone]).status == 0)
        #expect(try !isLetIn(TestCertificates.Pair(chain: alone, key: leaf.key)))
        #expect(try isLetIn(leaf))
        // OpenSSL judges by the machine's clock, so this one takes some seconds.
        let short = try mesh.issue("short", seconds: 3)
        let context = try TLSContext.client(UpstreamTLS(validation: nil, certificate: short.source))
        func end() -> Wire.End? {
            let wire = Wire(context, server)
            wire.run()
            return wire.serverEnd
        }
        #expect(end() == nil)
        #expect(end() == nil)
        try eventually("it has expired") {
            if case .failed(.certificateRefused(.expired, _, _)) = end() { true } else { false }
        }
    }

    // MARK: What is told of the other side

    @Test("x-forwarded-client-cert as Envoy writes it")
    func forwarded() throws {
        let peer = try #require(try fromClient(web, checks: validation()).server.peer)
        let hash = peer.certificate.digest
        #expect(hash.count == 64)
        let all = String(decoding: peer.xfccElement(by: ["spiffe://mesh/cart"], details: ClientCertificateDetails()), as: UTF8.self)
        #expect(all == "By=spiffe://mesh/cart;Hash=\(hash);Subject=\"CN=web\";URI=spiffe://mesh/web;DNS=web.local")
        let few = ClientCertificateDetails(subject: false, uri: false, dns: false)
        #expect(String(decoding: peer.xfccElement(by: [], details: few), as: UTF8.self) == "Hash=\(hash)")
    }

    @Test("names and subjects cannot break out of their place in x-forwarded-client-cert")
    func forwardedQuoting() throws {
        let pair = try mesh.issue(
            "odd", encodedNames: [0x30, 22, 0x86, 20] + Array("spiffe://m/a;By=b,\"c".utf8), subject: #"/O=A "quoted\, name/CN=x,y;z"#)
        let peer = try #require(try fromClient(pair, checks: validation()).server.peer)
        let text = String(
            decoding: peer.xfccElement(by: [], details: ClientCertificateDetails(subject: true, uri: true, dns: true)), as: UTF8.self)
        #expect(text.hasSuffix(#";URI="spiffe://m/a;By=b,\"c""#), "\(text)")
        #expect(text.contains(#";Subject="CN=x\,y\;z,O=A \"quoted\, name";"#), "\(text)")
    }

    @Test("a certificate without names has an empty URI and no DNS there")
    func forwardedWithoutNames() throws {
        let pair = try mesh.issue("plain")
        let peer = try #require(try fromClient(pair, checks: validation()).server.peer)
        let text = String(decoding: peer.xfccElement(by: [], details: ClientCertificateDetails()), as: UTF8.self)
        #expect(text == "Hash=\(peer.certificate.digest);Subject=\"CN=plain\";URI=")
        #expect(peer.name == "CN=plain")
        #expect(peer.spiffeID == nil)
    }
}
