import Glibc

/// What the file system says of a file without reading it: another stamp, another content, most likely.
struct FileStamp: Hashable {
    /// Which file it is: another one of the same name differs.
    struct Identity: Hashable {
        var device: UInt64
        var node: UInt64
    }

    var identity: Identity
    private var size: Int64
    private var modified: [Int]
    private var changed: [Int]

    /// Of the file that links lead to; nil if there is none.
    init?(_ path: String) {
        var facts = stat()
        guard unsafe stat(path, &facts) == 0 else { return nil }
        identity = Identity(device: UInt64(facts.st_dev), node: UInt64(facts.st_ino))
        size = Int64(facts.st_size)
        modified = [facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec]
        changed = [facts.st_ctim.tv_sec, facts.st_ctim.tv_nsec]
    }

    /// Nanoseconds since 1970.
    var modifiedAt: Int64 { Int64(modified[0]) * 1_000_000_000 + Int64(modified[1]) }

    static func isFolder(_ path: String) -> Bool {
        var facts = stat()
        return unsafe stat(path, &facts) == 0 && facts.st_mode & S_IFMT == S_IFDIR
    }

    /// Of those that are there.
    static func all(_ paths: [String]) -> [String: FileStamp] {
        var stamps: [String: FileStamp] = [:]
        for path in paths { stamps[path] = FileStamp(path) }
        return stamps
    }

    /// The folder of the file, and of each link on the way to it: something changes in one of them when the path leads elsewhere.
    ///
    /// Kubernetes mounts a secret as `tls.crt -> ..data/tls.crt` and `..data -> ..2026_11_22`: the second link is turned, in the same
    /// folder.
    static func folders(leadingTo path: String) -> [String] {
        var folders: [String] = []
        var path = path
        // More links than the kernel follows (ELOOP) lead nowhere.
        for _ in 0..<40 {
            let folder = parent(of: path)
            if !folders.contains(folder) { folders.append(folder) }
            var target = [UInt8](repeating: 0, count: 4096)
            let count = unsafe target.withUnsafeMutableBytes { target in
                unsafe readlink(path, target.baseAddress!.assumingMemoryBound(to: CChar.self), target.count)
            }
            guard count > 0 else { break }
            let next = String(decoding: target[..<count], as: UTF8.self)
            path = next.hasPrefix("/") ? next : "\(folder)/\(next)"
        }
        return folders
    }

    private static func parent(of path: String) -> String {
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
}
