import Base
import Foundation
import ProxyConfig
import TestSupport
import Testing
import Transport

/// What a context is made from, and what is said when it cannot be.
@Suite("TLS configuration")
struct ConfigurationTests {
    let certificates: TestCertificates
    let mesh: TestCertificates.Authority
    let cart: TestCertificates.Pair

    init() throws {
        certificates = try TestCertificates()
        mesh = try certificates.authority("mesh")
        cart = try mesh.issue("cart", names: ["DNS:cart.local", "URI:spiffe://mesh/cart", "IP:127.0.0.1"])
    }

    private func problem(
        _ certificate: CertificateSource, trust: TrustSource? = nil, names: [String] = [], alpn: [String] = []
    ) -> String {
        let validation = trust.map { TLSValidation(trust: $0, subjectAlternativeNames: names) }
        do {
            _ = try TLSContext.server(DownstreamTLS(certificate: certificate, validation: validation, alpn: alpn))
            return "none"
        } catch {
            return "\(error)"
        }
    }

    private func file(_ name: String, _ text: String) throws -> String {
        try certificates.folder.replace(name, with: Array(text.utf8))
        return certificates.folder.file(name)
    }

    @Test("a context knows what it was made from, and until when it is good")
    func facts() throws {
        let context = try TLSContext.server(
            DownstreamTLS(certificate: cart.source, validation: TLSValidation(trust: .file(mesh.certificate))))
        #expect(context.files == [cart.chain, cart.key, mesh.certificate])
        let leaf = try #require(context.certificates.first)
        #expect(leaf.subject == "CN=cart")
        #expect(leaf.issuer == "CN=mesh")
        #expect(leaf.dnsNames == ["cart.local"])
        #expect(leaf.uriNames == ["spiffe://mesh/cart"])
        #expect(leaf.ipAddresses == ["127.0.0.1"])
        #expect(abs(leaf.notAfter - (now() + 30 * 86_400)) < 600)
        #expect(abs(leaf.notBefore - (now() - 86_400)) < 600)
        #expect(context.certificateExpiry == leaf.notAfter)
        #expect(context.trust?.certificates.map(\.subject) == ["CN=mesh"])
        let told = try Program.run("openssl", ["x509", "-in", cart.chain, "-noout", "-serial", "-fingerprint", "-sha256"]).output
        #expect(told.contains("serial=\(leaf.serial.uppercased())") || told.contains("serial=0\(leaf.serial.uppercased())"))
        #expect(told.replacing(":", with: "").contains(leaf.digest.uppercased()))
    }

    @Test("the chain's first end counts")
    func chainExpiry() throws {
        let team = try mesh.authority("team", days: -1...10)
        let leaf = try team.issue("leaf")
        let context = try TLSContext.server(DownstreamTLS(certificate: leaf.source))
        #expect(context.certificates.map(\.subject) == ["CN=leaf", "CN=team"])
        #expect(abs(try #require(context.chainExpiry) - (now() + 10 * 86_400)) < 600)
    }

    @Test("a file that cannot be read is named, with the reason")
    func unreadable() {
        let missing = certificates.folder.file("missing.pem")
        #expect(
            problem(.file(chain: missing, privateKey: cart.key))
                == "\(missing): expected a certificate chain in PEM, found that it cannot be read: No such file or directory")
        #expect(problem(.file(chain: cart.chain, privateKey: missing)).hasPrefix("\(missing): expected a private key in PEM, found"))
        #expect(problem(cart.source, trust: .file(missing)).hasPrefix("\(missing): expected the certificates that we trust in PEM, found"))
    }

    @Test("what is no PEM, or PEM of something else, is told")
    func notPEM() throws {
        let text = try file("text.pem", "hello\n")
        #expect(problem(.file(chain: text, privateKey: cart.key)) == "\(text): expected a certificate chain in PEM, found no certificate")
        #expect(problem(.file(chain: cart.chain, privateKey: text)) == "\(text): expected a private key in PEM, found none")
        #expect(problem(cart.source, trust: .file(text)) == "\(text): expected the certificates that we trust, in PEM, found none")
        #expect(
            problem(.file(chain: cart.key, privateKey: cart.key)).hasSuffix("expected a certificate chain in PEM, found no certificate"))
        #expect(problem(.file(chain: cart.chain, privateKey: cart.chain)).hasSuffix("expected a private key in PEM, found none"))
        let empty = try file("empty.pem", "")
        #expect(problem(.file(chain: empty, privateKey: cart.key)).hasSuffix("found no certificate"))
        let torn = try file("torn.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
        #expect(problem(.file(chain: torn, privateKey: cart.key)).contains("found what cannot be read: "))
        #expect(problem(cart.source, trust: .file(torn)).contains("found what cannot be read: "))
    }

    @Test("a file that is written half is not taken", arguments: [0.2, 0.5, 0.9])
    func half(part: Double) throws {
        for (path, isKey) in [(cart.chain, false), (cart.key, true)] {
            let whole = String(decoding: try readFile(path), as: UTF8.self)
            let half = try file("half.pem", String(whole.prefix(Int(Double(whole.count) * part))))
            let pair = isKey ? CertificateSource.file(chain: cart.chain, privateKey: half) : .file(chain: half, privateKey: cart.key)
            #expect(problem(pair).hasPrefix("\(half): expected "))
        }
    }

    @Test("a key of another certificate is refused, of the same kind and of another")
    func mismatch() throws {
        let web = try mesh.issue("web")
        let rsa = try mesh.issue("rsa", key: .rsa2048)
        for other in [web, rsa] {
            #expect(
                problem(.file(chain: cart.chain, privateKey: other.key))
                    == "\(other.key): expected the private key of the certificate in \(cart.chain), found another key")
        }
    }

    @Test("an encrypted key is refused without asking anybody for its password")
    func encrypted() throws {
        let locked = certificates.folder.file("locked.key")
        #expect(try Program.run("openssl", ["pkcs8", "-topk8", "-in", cart.key, "-out", locked, "-passout", "pass:secret"]).status == 0)
        #expect(
            problem(.file(chain: cart.chain, privateKey: locked))
                == "\(locked): expected a private key without a password, found an encrypted one")
    }

    @Test("a key in its older form, with the parameters before it, and both in one file")
    func forms() throws {
        let key = certificates.folder.file("ec.key")
        #expect(try Program.run("openssl", ["ec", "-in", cart.key, "-out", key]).status == 0)
        #expect(problem(.file(chain: cart.chain, privateKey: key)) == "none")
        let parameters = certificates.folder.file("parameters.pem")
        #expect(try Program.run("openssl", ["ecparam", "-name", "prime256v1", "-out", parameters]).status == 0)
        let both = try certificates.bundle("both.key", of: [parameters, key])
        #expect(problem(.file(chain: cart.chain, privateKey: both)) == "none")
        let single = try certificates.bundle("single.pem", of: [cart.key, cart.chain])
        #expect(problem(.file(chain: single, privateKey: single)) == "none")
    }

    @Test("a certificate that has ended, or has not begun, is refused")
    func times() throws {
        let old = try mesh.issue("old", days: -20 ... -10)
        #expect(problem(old.source).hasPrefix("\(old.chain): expected a certificate that is valid now, found one that expired at 20"))
        #expect(problem(old.source).hasSuffix("Z (CN=old)"))
        let early = try mesh.issue("early", days: 10...20)
        #expect(problem(early.source).hasPrefix("\(early.chain): expected a certificate that is valid now, found one that begins at 20"))
    }

    @Test("a key of 1024 bits is refused")
    func weak() throws {
        let chain = certificates.folder.file("weak.pem")
        let key = certificates.folder.file("weak.key")
        let arguments = ["req", "-x509", "-newkey", "rsa:1024", "-nodes", "-keyout", key, "-out", chain, "-subj", "/CN=weak"]
        #expect(try Program.run("openssl", arguments).status == 0)
        #expect(problem(.file(chain: chain, privateKey: key)).hasPrefix("\(chain): expected certificates of at least 112 bits of security"))
    }

    @Test("what no file is known for is named")
    func unresolved() {
        #expect(
            problem(.unresolved(arn: "arn:aws:acm:x"))
                == "arn:aws:acm:x: expected a certificate chain and a private key, found that no file is known for it")
        #expect(problem(cart.source, trust: .unresolved(arns: ["arn:1", "arn:2"])).hasPrefix("arn:1, arn:2: expected "))
        #expect(problem(.sds(name: "own")) == "secret own: expected its delivery, found that nobody delivers secrets to this proxy")
    }

    @Test("names and protocols that cannot be are refused")
    func fields() {
        #expect(problem(cart.source, trust: .file(mesh.certificate), names: [""]).contains("expected DNS names, URIs and IP addresses"))
        #expect(
            problem(cart.source, trust: .file(mesh.certificate), names: ["a\u{0}b"]).contains("expected DNS names, URIs and IP addresses"))
        #expect(problem(cart.source, alpn: [""]) == "alpn: expected names of 1 through 255 bytes, found \"\"")
        #expect(problem(cart.source, alpn: [String(repeating: "a", count: 256)]).hasPrefix("alpn: expected"))
    }

    @Test("RFC 6455 section 1.3: the accept key of its example")
    func webSocket() {
        #expect(webSocketAccept(key: "dGhlIHNhbXBsZSBub25jZQ==".utf8) == Array("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".utf8))
        let keys = Set((0..<100).map { _ in webSocketKey() })
        #expect(keys.count == 100)
        #expect(keys.allSatisfy { Data(base64Encoded: Data($0))?.count == 16 })
    }
}
