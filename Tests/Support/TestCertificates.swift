import Foundation

/// Certificates of one test, made by the `openssl` program in a folder that goes with this object.
///
///     let certificates = try TestCertificates()
///     let mesh = try certificates.authority("mesh")
///     let cart = try mesh.issue("cart", names: ["DNS:cart.local", "URI:spiffe://mesh/cart"])
///     // cart.chain, cart.key and mesh.certificate are paths of PEM files.
public final class TestCertificates: Sendable {
    public let folder: TemporaryFolder
    /// `openssl ca` keeps a database, in which two must not write at once.
    private let signing = NSLock()

    public init() throws {
        folder = try TemporaryFolder()
    }

    /// A certificate with its key, in PEM files.
    public struct Pair: Sendable {
        /// The leaf first, then what stands between it and the authority.
        public var chain: String
        public var key: String

        public init(chain: String, key: String) {
            self.chain = chain
            self.key = key
        }
    }

    /// The kinds of keys.
    public enum Key: Sendable {
        case p256
        case p384
        case ed25519
        case rsa2048

        fileprivate var arguments: [String] {
            switch self {
            case .p256: ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
            case .p384: ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"]
            case .ed25519: ["-newkey", "ed25519"]
            case .rsa2048: ["-newkey", "rsa:2048"]
            }
        }
    }

    /// Whoever signs certificates: a root, or one whom a root signed.
    public struct Authority: Sendable {
        /// Its own certificate alone: what others trust.
        public var certificate: String
        let key: String
        /// What its leaves must send along: nothing under a root.
        let intermediates: [String]
        let name: String
        let owner: TestCertificates

        /// A leaf.
        ///
        /// - Parameters:
        ///   - file: the files become FILE.pem and FILE.key.
        ///   - names: as openssl writes subjectAltName: `DNS:cart.local`, `URI:spiffe://mesh/cart`, `IP:127.0.0.1`.
        ///   - encodedNames: the whole subjectAltName extension in DER instead, to say what openssl would not.
        ///   - subject: as `openssl req -subj` takes it; `/CN=FILE` if nil.
        ///   - days: valid from now and these days later; negative numbers are the past. The default began yesterday.
        ///   - seconds: valid until so many seconds from now, whatever `days` says.
        public func issue(
            _ file: String, names: [String] = [], encodedNames: [UInt8]? = nil, subject: String? = nil, days: ClosedRange<Int> = -1...30,
            seconds: Int? = nil, key: Key = .p256, usage: String = "serverAuth,clientAuth"
        ) throws -> Pair {
            var extensions = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature", "extendedKeyUsage=\(usage)"]
            if let encodedNames {
                let text = encodedNames.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
                extensions.append("subjectAltName=DER:\(text)")
            } else if !names.isEmpty {
                extensions.append("subjectAltName=\(names.joined(separator: ","))")
            }
            let pair = try owner.sign(file, subject ?? "/CN=\(file)", extensions, days: days, seconds: seconds, key: key, by: self)
            try owner.append(intermediates, to: pair.chain)
            return pair
        }

        /// An authority that this one vouches for. Its leaves carry its certificate.
        public func authority(_ file: String, days: ClosedRange<Int> = -1...365) throws -> Authority {
            let extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign", "subjectKeyIdentifier=hash"]
            let pair = try owner.sign(file, "/CN=\(file)", extensions, days: days, key: .p256, by: self)
            return Authority(
                certificate: pair.chain, key: pair.key, intermediates: [pair.chain] + intermediates, name: file, owner: owner)
        }

        /// A list of revoked certificates, in a PEM file.
        public func revoke(_ pair: Pair, file: String) throws -> String {
            let settings = owner.settings(of: self)
            try owner.openssl(["ca", "-config", settings, "-revoke", pair.chain])
            let list = owner.folder.file(file)
            try owner.openssl(["ca", "-config", settings, "-gencrl", "-crldays", "30", "-out", list])
            return list
        }
    }

    /// A new root. Its file is NAME.pem.
    public func authority(_ name: String, key: Key = .p256) throws -> Authority {
        let certificate = folder.file("\(name).pem")
        let keyFile = folder.file("\(name).key")
        let extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
        try openssl(
            ["req", "-x509", "-config", try requestSettings(), "-nodes", "-days", "3650", "-subj", "/CN=\(name)"]
                + ["-keyout", keyFile, "-out", certificate] + key.arguments + extensions.flatMap { ["-addext", $0] })
        let authority = Authority(certificate: certificate, key: keyFile, intermediates: [], name: name, owner: self)
        try openDatabase(of: authority)
        return authority
    }

    /// Files one after the other as one file: a trust bundle.
    public func bundle(_ file: String, of files: [String]) throws -> String {
        try folder.replace(file, with: [])
        let path = folder.file(file)
        try append(files, to: path)
        return path
    }

    // MARK: What openssl wants

    fileprivate func sign(
        _ file: String, _ subject: String, _ extensions: [String], days: ClosedRange<Int>, seconds: Int? = nil, key: Key,
        by authority: Authority
    ) throws -> Pair {
        let pair = Pair(chain: folder.file("\(file).pem"), key: folder.file("\(file).key"))
        let request = folder.file("\(file).request")
        let extensionFile = folder.file("\(file).extensions")
        try openssl(
            ["req", "-new", "-config", try requestSettings(), "-nodes", "-subj", subject, "-keyout", pair.key, "-out", request]
                + key.arguments)
        try write(extensions.joined(separator: "\n") + "\n", to: extensionFile)
        // `openssl ca`, because `openssl x509 -req` of 3.0 can say neither when a certificate begins nor that it ended.
        try signing.withLock {
            try openssl(
                [
                    "ca", "-config", settings(of: authority), "-batch", "-notext", "-in", request, "-out", pair.chain, "-extfile",
                    extensionFile,
                ]
                    + ["-startdate", Self.date(days.lowerBound * 86_400), "-enddate", Self.date(seconds ?? days.upperBound * 86_400)])
        }
        if extensions.contains(where: { $0.contains("CA:TRUE") }) {
            try openDatabase(
                of: Authority(certificate: pair.chain, key: pair.key, intermediates: [], name: file, owner: self))
        }
        return pair
    }

    fileprivate func settings(of authority: Authority) -> String {
        folder.file("\(authority.name).ca.cnf")
    }

    private func openDatabase(of authority: Authority) throws {
        let database = folder.file("\(authority.name).database")
        try write("", to: database)
        try write("unique_subject = no\n", to: "\(database).attr")
        try write(
            """
            [ca]
            default_ca = this
            [this]
            database = \(database)
            new_certs_dir = \(folder.path)
            certificate = \(authority.certificate)
            private_key = \(authority.key)
            rand_serial = yes
            default_md = sha256
            policy = any
            preserve = yes
            [any]
            countryName = optional
            organizationName = optional
            organizationalUnitName = optional
            commonName = optional

            """, to: settings(of: authority))
    }

    private func requestSettings() throws -> String {
        let path = folder.file("request.cnf")
        if !FileManager.default.fileExists(atPath: path) {
            try write("[req]\ndistinguished_name = name\nstring_mask = utf8only\n[name]\n", to: path)
        }
        return path
    }

    fileprivate func openssl(_ arguments: [String]) throws {
        let result = try Program.run("openssl", arguments)
        guard result.status == 0 else {
            throw TestFailure("openssl \(arguments.joined(separator: " ")): status \(result.status), \(result.errors)")
        }
    }

    private func write(_ text: String, to path: String) throws {
        guard FileManager.default.createFile(atPath: path, contents: Data(text.utf8)) else { throw TestFailure("cannot write \(path)") }
    }

    fileprivate func append(_ files: [String], to path: String) throws {
        guard !files.isEmpty else { return }
        var bytes = FileManager.default.contents(atPath: path) ?? Data()
        for file in files {
            guard let more = FileManager.default.contents(atPath: file) else { throw TestFailure("cannot read \(file)") }
            bytes += more
        }
        guard FileManager.default.createFile(atPath: path, contents: bytes) else { throw TestFailure("cannot write \(path)") }
    }

    /// Seconds from now as openssl wants a time: 20260131235959Z.
    private static func date(_ distance: Int) -> String {
        var seconds = time(nil) + distance
        var parts = unsafe tm()
        unsafe gmtime_r(&seconds, &parts)
        let numbers = unsafe [parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec]
        return unsafe "\(parts.tm_year + 1900)" + numbers.map { ($0 < 10 ? "0" : "") + "\($0)" }.joined() + "Z"
    }
}
