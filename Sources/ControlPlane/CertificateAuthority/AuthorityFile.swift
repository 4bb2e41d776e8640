import Glibc

/// The one file of an authority, and the folder that keeps others out.
struct AuthorityFile {
    struct Contents: Equatable {
        /// PEM.
        var key: String
        var root: CertificateAuthority.Root
        /// The root's; only of one that was made just now.
        var name = ""
        var retired: Retired?
    }

    struct Retired: Equatable {
        var root: CertificateAuthority.Root
        /// The present root, signed by this one.
        var bridge: String
        var until: Int64
    }

    let path: String
    private let directory: String

    /// A key, three certificates and a line have 2 KiB.
    private static let maxBytes = 64 << 10
    private static let retirement = "Trusted-until: "

    init(directory: String) throws(AuthorityError) {
        self.directory = directory
        path = "\(directory)/authority.pem"
        guard unsafe mkdir(directory, 0o700) == 0 || errno == EEXIST else { throw .failed("cannot make \(directory): \(Self.systemError)") }
        var status = stat()
        guard unsafe lstat(directory, &status) == 0 else { throw .failed("cannot look at \(directory): \(Self.systemError)") }
        guard status.st_mode & S_IFMT == S_IFDIR else { throw .unusable(directory, expected: "a folder", found: "something else") }
        try Self.checkPrivate(directory, status, expected: "a folder that only its owner can enter (mode 0700)")
    }

    /// Nil: there is none.
    func read() throws(AuthorityError) -> Contents? {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw .failed("cannot open \(path): \(Self.systemError)")
        }
        defer { close(descriptor) }
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0 else { throw .failed("cannot look at \(path): \(Self.systemError)") }
        guard status.st_mode & S_IFMT == S_IFREG, status.st_size <= Self.maxBytes else {
            throw .unusable(path, expected: "a file of at most \(Self.maxBytes) bytes", found: "something else")
        }
        try Self.checkPrivate(path, status, expected: "a file that only its owner can read (mode 0600)")
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
        var count = 0
        while count < bytes.count {
            let more = unsafe bytes.withUnsafeMutableBytes { unsafe Glibc.read(descriptor, $0.baseAddress! + count, $0.count - count) }
            if more < 0, errno == EINTR { continue }
            guard more > 0 else { throw .failed("cannot read \(path): \(more == 0 ? "it ends early" : Self.systemError)") }
            count += more
        }
        return try parse(String(decoding: bytes, as: UTF8.self))
    }

    /// Replaces the file: after a crash the old one or this one is there, whole.
    func write(_ contents: Contents) throws(AuthorityError) {
        var text = contents.key + contents.root.pem
        if let retired = contents.retired { text += "\(Self.retirement)\(retired.until)\n" + retired.bridge + retired.root.pem }
        let new = "\(path).new"
        // Of a process that ended in between.
        _ = unsafe unlink(new)
        let descriptor = unsafe open(new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw .failed("cannot make \(new): \(Self.systemError)") }
        let bytes = Array(text.utf8)
        let isWritten = unsafe Glibc.write(descriptor, bytes, bytes.count) == bytes.count && fsync(descriptor) == 0
        let problem = Self.systemError
        close(descriptor)
        guard isWritten else { throw .failed("cannot write \(new): \(problem)") }
        guard unsafe rename(new, path) == 0 else { throw .failed("cannot replace \(path): \(Self.systemError)") }
        // The name is on the disk when the folder is.
        let folder = unsafe open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0, fsync(folder) == 0 else { throw .failed("cannot write \(directory): \(Self.systemError)") }
        close(folder)
    }

    private func parse(_ text: String) throws(AuthorityError) -> Contents {
        let blocks = Self.blocks(text)
        let keys = blocks.filter { $0.hasPrefix("-----BEGIN PRIVATE KEY-----") }
        let certificates = blocks.filter { $0.hasPrefix("-----BEGIN CERTIFICATE-----") }
        guard keys.count == 1, [1, 3].contains(certificates.count) else {
            throw .unusable(
                path, expected: "a private key and the certificate of a root, or these, a bridge and the root before",
                found: "\(keys.count) keys and \(certificates.count) certificates")
        }
        guard Signer.fits(key: keys[0], certificate: certificates[0]) else {
            throw .unusable(path, expected: "the root's private key", found: "another key, or one that cannot be read")
        }
        var contents = Contents(key: keys[0], root: try root(certificates[0]))
        if certificates.count == 3 {
            let line = text.split(separator: "\n").first { $0.hasPrefix(Self.retirement) }
            guard let until = line.flatMap({ Int64($0.dropFirst(Self.retirement.count)) }) else {
                throw .unusable(path, expected: "a line \"\(Self.retirement)SECONDS\"", found: "none")
            }
            contents.retired = Retired(root: try root(certificates[2]), bridge: certificates[1], until: until)
        }
        return contents
    }

    private func root(_ pem: String) throws(AuthorityError) -> CertificateAuthority.Root {
        do throws(AuthorityError) {
            let read = try Signer.read(pem)
            return CertificateAuthority.Root(id: read.digest, pem: pem, notAfter: read.notAfter)
        } catch {
            throw .unusable(path, expected: "the certificate of a root", found: "what cannot be read: \(error)")
        }
    }

    /// The PEM blocks of a text, each with its last line's end. What stands between them is left out.
    static func blocks(_ text: String) -> [String] {
        var found: [String] = []
        var open: [Substring] = []
        for line in text.split(separator: "\n") {
            if line.hasPrefix("-----BEGIN ") { open = [line] } else if !open.isEmpty { open.append(line) }
            if line.hasPrefix("-----END "), !open.isEmpty {
                found.append(open.joined(separator: "\n") + "\n")
                open = []
            }
        }
        return found
    }

    private static func checkPrivate(_ path: String, _ status: stat, expected: String) throws(AuthorityError) {
        guard status.st_uid == geteuid() else {
            throw .unusable(path, expected: "that it belongs to user \(geteuid())", found: "user \(status.st_uid)")
        }
        let mode = status.st_mode & 0o777
        guard mode & 0o077 == 0 else { throw .unusable(path, expected: expected, found: "mode 0\(String(mode, radix: 8))") }
    }

    private static var systemError: String { unsafe String(cString: strerror(errno)) }
}
