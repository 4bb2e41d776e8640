import CertificateAuthority
import Foundation
import ProxyConfig
import TestSupport
import Testing
import Transport

/// A time, so that nothing depends on today: 2027-01-15T08:00:00Z.
private let now: Int64 = 1_800_000_000
private let day: Int64 = 86_400
private let cart = "spiffe://demo/ns/shop/vn/cart"

@Suite("Certificate authority")
struct CertificateAuthorityTests {
    let folder: TemporaryFolder
    var directory: String { folder.file("ca") }
    var file: String { folder.file("ca/authority.pem") }

    init() throws {
        folder = try TemporaryFolder()
    }

    private func authority(leafLife: Int64 = day, at time: Int64 = now) throws -> CertificateAuthority {
        try CertificateAuthority(directory: directory, leafLife: leafLife, now: time)
    }

    /// What our own TLS makes of a leaf and its key.
    private func context(_ leaf: CertificateAuthority.Leaf, _ key: TLSKey, at time: Int64 = now) throws -> TLSContext {
        let source = CertificateSource.file(chain: "chain", privateKey: "key")
        return try TLSContext.server(DownstreamTLS(certificate: source), now: time) { $0 == "chain" ? Array(leaf.chain.utf8) : key.pem }
    }

    /// What `openssl verify` says of a chain; nil: it is good.
    private func problem(of leaf: CertificateAuthority.Leaf, trusting bundle: String, at time: Int64 = now) throws -> String? {
        try folder.replace("bundle.pem", with: Array(bundle.utf8))
        try folder.replace("chain.pem", with: Array(leaf.chain.utf8))
        let chain = folder.file("chain.pem")
        let result = try Program.run(
            "openssl",
            [
                "verify", "-x509_strict", "-purpose", "sslclient", "-attime", "\(time)", "-CAfile", folder.file("bundle.pem"), "-untrusted",
                chain, chain,
            ])
        return result.status == 0 ? nil : result.output + result.errors
    }

    @Test("a leaf is for the key of the request, has the identity as its only name, and leads to the root")
    func leaf() throws {
        let authority = try authority()
        let key = try TLSKey()
        let leaf = try authority.sign(request: key.certificateRequest(), identity: cart, name: "cart", now: now)
        let certificate = try #require(try context(leaf, key).certificates.first)
        #expect(certificate.uriNames == [cart])
        #expect(certificate.dnsNames.isEmpty && certificate.ipAddresses.isEmpty)
        #expect(certificate.subject == "CN=cart")
        #expect(certificate.serial == leaf.serial)
        #expect(certificate.notBefore == now - 300 && leaf.notBefore == now - 300)
        #expect(certificate.notAfter == now + day && leaf.notAfter == now + day)
        #expect(leaf.authority == authority.root.id)
        #expect(try problem(of: leaf, trusting: authority.trustBundle(now: now)) == nil)
        #expect(throws: TLSConfigurationError.self, "of another key") { try context(leaf, TLSKey()) }
    }

    @Test("a leaf is for both sides of TLS and signs nothing; a root signs certificates and nothing else")
    func usage() throws {
        let authority = try authority()
        let leaf = try authority.sign(request: TLSKey().certificateRequest(), identity: cart, name: "cart", now: now)
        func text(_ pem: String) throws -> String {
            try folder.replace("one.pem", with: Array(pem.utf8))
            return try Program.run("openssl", ["x509", "-in", folder.file("one.pem"), "-noout", "-text"]).output
        }
        let found = try text(leaf.chain)
        #expect(found.contains("TLS Web Server Authentication, TLS Web Client Authentication"))
        #expect(found.contains("CA:FALSE") && found.contains("Digital Signature") && !found.contains("Certificate Sign"))
        let root = try text(authority.root.pem)
        #expect(root.contains("CA:TRUE") && root.contains("Certificate Sign, CRL Sign") && root.contains("P-256"))
    }

    @Test("a name that X.509 has no room for is left out, and the identity stays")
    func longName() throws {
        let name = String(repeating: "n", count: 65)
        let key = try TLSKey()
        let authority = try authority()
        let leaf = try authority.sign(request: key.certificateRequest(), identity: cart, name: name, now: now)
        let certificate = try #require(try context(leaf, key).certificates.first)
        #expect(certificate.subject == "" && certificate.uriNames == [cart])
        #expect(try problem(of: leaf, trusting: authority.root.pem) == nil)
    }

    @Test("what a request asks for beside its key does not get into the certificate")
    func namesOfRequests() throws {
        let request = try Program.run(
            "openssl",
            [
                "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", folder.file("key"), "-subj", "/CN=admin", "-addext",
                "subjectAltName=URI:spiffe://demo/ns/shop/vn/bank,DNS:bank", "-addext", "basicConstraints=CA:TRUE",
            ]
        ).output
        let leaf = try authority().sign(request: request, identity: cart, name: "cart", now: now)
        let key = TLSKey(pem: Array(folder.text("key").utf8))
        let certificate = try #require(try context(leaf, key).certificates.first)
        #expect(certificate.uriNames == [cart] && certificate.dnsNames.isEmpty && certificate.subject == "CN=cart")
    }

    @Test("serials differ, and so do roots")
    func different() throws {
        let authority = try authority()
        let request = try TLSKey().certificateRequest()
        let serials = try (0..<20).map { _ in try authority.sign(request: request, identity: cart, name: "cart", now: now).serial }
        #expect(Set(serials).count == 20)
        #expect(serials.contains { $0.count == 32 }, "128 bits")
        let other = try CertificateAuthority(directory: folder.file("other"), now: now)
        #expect(other.root.id != authority.root.id)
        let leaf = try authority.sign(request: request, identity: cart, name: "cart", now: now)
        #expect(try problem(of: leaf, trusting: other.root.pem) != nil)
    }

    @Test(
        "what is no request is refused with words",
        arguments: [
            ("", "no start line"), ("hello", "no start line"),
            ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "cannot be read"),
            (String(repeating: "x", count: 20_000), "20000"),
        ])
    func garbage(request: String, words: String) throws {
        let authority = try authority()
        let error = #expect(throws: AuthorityError.self) {
            try authority.sign(request: request, identity: cart, name: "cart", now: now)
        }
        #expect(error?.description.hasPrefix("certificateRequest: expected") == true)
        #expect(error?.description.contains(words) == true, "\(String(describing: error))")
    }

    @Test("a request that was changed, or whose key is weak, is refused")
    func badKeys() throws {
        let authority = try authority()
        func refusal(_ request: String) -> AuthorityError? {
            #expect(throws: AuthorityError.self) { try authority.sign(request: request, identity: cart, name: "cart", now: now) }
        }
        // The last bytes of the DER form are of the signature.
        var der = try #require(Data(base64Encoded: TLSKey().certificateRequest().split(separator: "\n").dropFirst().dropLast().joined()))
        der[der.count - 1] ^= 1
        let changed = "-----BEGIN CERTIFICATE REQUEST-----\n\(der.base64EncodedString())\n-----END CERTIFICATE REQUEST-----\n"
        #expect(refusal(changed)?.description.contains("signed with its own key") == true)
        let weak = try Program.run(
            "openssl", ["req", "-new", "-newkey", "rsa:1024", "-nodes", "-keyout", folder.file("key"), "-subj", "/CN=weak"]
        ).output
        #expect(refusal(weak)?.description.contains("112 bits") == true)
    }

    @Test("an identity that is no SPIFFE ID is refused", arguments: ["", "https://demo", "spiffe://demo/ns/a b", "spiffe://d\u{e9}mo/x"])
    func badIdentity(identity: String) throws {
        let authority = try authority()
        #expect(throws: AuthorityError.self) {
            try authority.sign(request: TLSKey().certificateRequest(), identity: identity, name: "cart", now: now)
        }
    }

    @Test("the next start finds the same root, and it signs as before")
    func nextStart() throws {
        let first = try authority()
        #expect(first.isNew)
        let second = try authority(at: now + 40 * day)
        #expect(!second.isNew && second.root == first.root)
        let leaf = try second.sign(request: TLSKey().certificateRequest(), identity: cart, name: "cart", now: now)
        #expect(try problem(of: leaf, trusting: first.root.pem) == nil)
    }

    @Test("no leaf outlives its root, and a root that ended does not start")
    func endOfRoot() throws {
        let end = try authority().root.notAfter
        let late = try authority(leafLife: 30 * day, at: end - day)
        let leaf = try late.sign(request: TLSKey().certificateRequest(), identity: cart, name: "cart", now: end - day)
        #expect(leaf.notAfter == end)
        let error = #expect(throws: AuthorityError.self) { try authority(at: end) }
        #expect(error?.description.contains("one that ended") == true)
    }

    // MARK: The files

    @Test("folder and key are for their owner alone")
    func modes() throws {
        _ = try authority()
        func mode(_ path: String) throws -> Int? {
            try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
        }
        #expect(try mode(directory) == 0o700)
        #expect(try mode(file) == 0o600)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["authority.pem"])
    }

    @Test("a key or a folder that others can read is refused with its mode", arguments: [0o640, 0o604, 0o644])
    func openModes(mode: Int) throws {
        _ = try authority()
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file)
        let key = #expect(throws: AuthorityError.self) { try authority() }
        #expect(
            key?.description == "\(file): expected a file that only its owner can read (mode 0600), found mode 0\(String(mode, radix: 8))")
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: file)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: directory)
        let folder = #expect(throws: AuthorityError.self) { try authority() }
        #expect(folder?.description.hasSuffix("(mode 0700), found mode 0755") == true)
    }

    @Test("a file that is damaged is refused, and stays as it is")
    func damaged() throws {
        _ = try authority()
        let good = folder.text("ca/authority.pem")
        let other = String(decoding: try TLSKey().pem, as: UTF8.self)
        let certificate = try #require(good.range(of: "-----BEGIN CERTIFICATE-----"))
        for (text, words) in [
            ("", "found 0 keys and 0 certificates"), (other, "found 1 keys and 0 certificates"),
            (other + good[certificate.lowerBound...], "found another key"),
            (good.replacingOccurrences(of: "-----BEGIN PRIVATE KEY-----\nM", with: "-----BEGIN PRIVATE KEY-----\nA"), "cannot be read"),
        ] {
            let handle = try #require(FileHandle(forWritingAtPath: file))
            try handle.truncate(atOffset: 0)
            try handle.write(contentsOf: Data(text.utf8))
            try handle.close()
            let error = #expect(throws: AuthorityError.self) { try authority() }
            #expect(error?.description.hasPrefix(file) == true)
            #expect(error?.description.contains(words) == true, "\(String(describing: error))")
            #expect(folder.text("ca/authority.pem") == text)
        }
    }

    // MARK: Another root

    @Test("while a root follows another, old and new leaves are good for those who know the old, the new, or both")
    func rotation() throws {
        let authority = try authority()
        let request = try TLSKey().certificateRequest()
        let old = authority.root
        let oldLeaf = try authority.sign(request: request, identity: cart, name: "cart", now: now)
        try authority.rotate(now: now + 10, leavesEnd: oldLeaf.notAfter)
        let newLeaf = try authority.sign(request: request, identity: cart, name: "cart", now: now + 20)
        #expect(authority.root != old && newLeaf.authority == authority.root.id)
        let both = authority.trustBundle(now: now + 20)
        #expect(both == authority.root.pem + old.pem)
        #expect(try problem(of: newLeaf, trusting: both) == nil)
        #expect(try problem(of: oldLeaf, trusting: both) == nil)
        #expect(try problem(of: newLeaf, trusting: old.pem) == nil, "a proxy that has not heard of the new root yet")
        #expect(try problem(of: newLeaf, trusting: authority.root.pem) == nil)
        #expect(try problem(of: oldLeaf, trusting: authority.root.pem) != nil)
        // The next start knows it all.
        let again = try self.authority(at: now + 30)
        #expect(again.root == authority.root && again.trustBundle(now: now + 30) == both)
        // And when the last leaf has ended, nobody needs the old one.
        #expect(again.trustBundle(now: oldLeaf.notAfter) == again.root.pem)
        let lastLeaf = try again.sign(request: request, identity: cart, name: "cart", now: oldLeaf.notAfter)
        #expect(lastLeaf.chain.components(separatedBy: "BEGIN CERTIFICATE").count == 2, "no bridge any more")
    }

    @Test("a root is followed once the change before is over, not earlier")
    func rotationTwice() throws {
        let authority = try authority()
        try authority.rotate(now: now, leavesEnd: now + day)
        let second = authority.root
        let error = #expect(throws: AuthorityError.self) { try authority.rotate(now: now + 10, leavesEnd: now + day) }
        #expect(error == .isRotating(until: now + day))
        #expect(authority.root == second)
        try authority.rotate(now: now + day, leavesEnd: now + 2 * day)
        #expect(authority.retired(now: now + day)?.root == second)
    }

    @Test("an owner is warned in time, so that the next root outlives what this one signs")
    func warning() throws {
        let authority = try authority()
        let end = authority.root.notAfter
        #expect(authority.warning(now: now) == nil && authority.warning(now: end - 90 * day) == nil)
        #expect(authority.warning(now: end - 90 * day + 1)?.contains("ends in 89 days") == true)
        #expect(authority.warning(now: end + day)?.contains("ends in 0 days") == true)
    }

    @Test("a root whose leaves have all ended is forgotten at once")
    func rotationWithoutLeaves() throws {
        let authority = try authority()
        try authority.rotate(now: now, leavesEnd: now)
        #expect(authority.trustBundle(now: now) == authority.root.pem)
    }
}
