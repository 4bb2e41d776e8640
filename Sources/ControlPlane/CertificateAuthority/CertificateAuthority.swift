/// The mesh's own authority: a root whose key nobody else reads, short-lived certificates for proxies, and the change to another root.
///
/// Its folder holds one file, `authority.pem`: the key, its root, and while it follows another root, that one too. The file is replaced
/// whole, so that a change of root has happened or has not. Times are seconds since 1970. For one thread.
public final class CertificateAuthority {
    /// A root certificate.
    public struct Root: Hashable, Sendable {
        /// SHA-256 of the certificate in hexadecimal.
        public var id: String
        public var pem: String
        public var notAfter: Int64
    }

    /// A certificate that was signed.
    public struct Leaf: Hashable, Sendable {
        /// PEM: the leaf, then what leads from it to the root before this one.
        public var chain: String
        /// Hexadecimal.
        public var serial: String
        public var identity: String
        public var notBefore: Int64
        public var notAfter: Int64
        /// The root that signed it.
        public var authority: String
    }

    /// Signs.
    public private(set) var root: Root
    /// Whether the root was made just now, not read.
    public let isNew: Bool
    /// How long a leaf holds, in seconds.
    public let leafLife: Int64

    private let file: AuthorityFile
    private var contents: AuthorityFile.Contents

    /// Certificates begin this much before they are made: clocks differ.
    static let clockSkew: Int64 = 300
    /// A root outlives the machine it was made on.
    static let rootLife: Int64 = 10 * 365 * 86_400
    /// Longer ones would need revocation, which is not offered: an end that is near takes its place.
    public static let leafLives: ClosedRange<Int64> = 60...30 * 86_400

    /// Reads the authority of a folder, or makes one there.
    ///
    /// - Parameter leafLife: one of `leafLives`.
    /// - Throws: `.unusable`: the folder or its file can be read by others, or is no authority.
    public init(directory: String, leafLife: Int64 = 86_400, now: Int64) throws(AuthorityError) {
        precondition(Self.leafLives.contains(leafLife), "certificates for \(leafLife) s")
        self.leafLife = leafLife
        file = try AuthorityFile(directory: directory)
        if let found = try file.read() {
            contents = found
            isNew = false
        } else {
            contents = try Self.makeRoot(now: now)
            try file.write(contents)
            isNew = true
        }
        root = contents.root
        guard root.notAfter > now else {
            throw .unusable(file.path, expected: "a root certificate that is valid now", found: "one that ended")
        }
    }

    // MARK: Signing

    /// Signs a certificate for the key of a request (PKCS #10 in PEM). Nothing else of the request is looked at.
    ///
    /// - Parameters:
    ///   - identity: the URI that becomes its only alternative name, `spiffe://demo/ns/shop/vn/cart`.
    ///   - name: for people, in the subject; left out if it is longer than 64 characters, which is all that X.509 takes.
    /// - Throws: `.badRequest`.
    public func sign(request: String, identity: String, name: String, now: Int64) throws(AuthorityError) -> Leaf {
        guard request.utf8.count <= Self.maxRequestBytes else {
            throw .badRequest(expected: "at most \(Self.maxRequestBytes) bytes", found: "\(request.utf8.count)")
        }
        // What no URI may hold, and others would refuse the certificate for.
        guard identity.hasPrefix("spiffe://"), identity.utf8.count <= 2048, identity.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
            throw .failed("\"\(identity)\" is no SPIFFE ID")
        }
        // Half the time between the two is still to come, or its owner would renew it at once.
        let notBefore = now - min(Self.clockSkew, leafLife / 2)
        let notAfter = min(now + leafLife, root.notAfter)
        let commonName = name.unicodeScalars.count <= 64 ? name : ""
        let pem = try Signer.issue(
            .leaf(uri: identity), name: commonName, from: notBefore, until: notAfter, by: contents.key + root.pem, for: request)
        return Leaf(
            chain: pem + (bridge(now: now) ?? ""), serial: try Signer.read(pem).serial, identity: identity, notBefore: notBefore,
            notAfter: notAfter, authority: root.id)
    }

    /// One of RSA with 16384 bits has 6 KiB.
    static let maxRequestBytes = 16 << 10

    // MARK: Trust

    /// Whom to trust now, in PEM: the root, and the one before it while certificates of it hold.
    public func trustBundle(now: Int64) -> String {
        root.pem + (retired(now: now)?.root.pem ?? "")
    }

    /// The root that was followed, and until when it is trusted.
    public func retired(now: Int64) -> (root: Root, until: Int64)? {
        contents.retired.flatMap { $0.until > now ? ($0.root, $0.until) : nil }
    }

    /// Our root as the one before it signed it: who has heard of that one only believes our leaves too.
    private func bridge(now: Int64) -> String? {
        retired(now: now) == nil ? nil : contents.retired?.bridge
    }

    /// What its owner should do soon; nil: nothing.
    public func warning(now: Int64) -> String? {
        let left = root.notAfter - now
        guard left < Self.warningTime else { return nil }
        return "the mesh's root certificate ends in \(max(0, left) / 86_400) days: change it (outrigger ca rotate), or no proxy gets a "
            + "certificate then"
    }

    /// Enough for somebody to read a log, and longer than any certificate holds that the next root must outlive.
    static let warningTime: Int64 = 90 * 86_400

    /// Another root signs from now on.
    ///
    /// - Parameter leavesEnd: when the last leaf of the present root ends: so long it stays trusted.
    /// - Throws: `.isRotating`: the change before is not over.
    public func rotate(now: Int64, leavesEnd: Int64) throws(AuthorityError) {
        if let retired = retired(now: now) { throw .isRotating(until: retired.until) }
        var next = try Self.makeRoot(now: now)
        let bridge = try Signer.issue(
            .authority, name: next.name, from: now - Self.clockSkew, until: min(root.notAfter, next.root.notAfter),
            by: contents.key + root.pem, for: next.key)
        next.retired = AuthorityFile.Retired(root: root, bridge: bridge, until: min(leavesEnd, root.notAfter))
        try file.write(next)
        contents = next
        root = next.root
    }

    private static func makeRoot(now: Int64) throws(AuthorityError) -> AuthorityFile.Contents {
        let key = try Signer.newKey()
        // Roots that follow each other need different names, or who builds a chain tries the wrong one first.
        let name = "Outrigger authority " + Signer.hexadecimal(Signer.randomBytes(4))
        let pem = try Signer.issue(
            .authority, name: name, from: now - clockSkew, until: now + rootLife, by: "", for: key)
        let read = try Signer.read(pem)
        return AuthorityFile.Contents(key: key, root: Root(id: read.digest, pem: pem, notAfter: read.notAfter), name: name)
    }
}

/// Why the authority cannot be used, or does not sign.
public enum AuthorityError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A file or folder of it.
    case unusable(String, expected: String, found: String)
    case badRequest(expected: String, found: String)
    /// The change to the present root is not over.
    case isRotating(until: Int64)
    /// OpenSSL or the machine, in their words.
    case failed(String)

    public var description: String {
        switch self {
        case .unusable(let path, let expected, let found): "\(path): expected \(expected), found \(found)"
        case .badRequest(let expected, let found): "certificateRequest: expected \(expected), found \(found)"
        case .isRotating(let until): "the authority before the present one is trusted until \(until) (seconds since 1970): change it then"
        case .failed(let words): words
        }
    }
}
