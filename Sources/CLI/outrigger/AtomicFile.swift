import Glibc

struct FileError: Error {
    var reason: String
}

/// Files that are there whole or not at all.
enum AtomicFile {
    /// Writes beside the file and renames: a reader sees the old content or the new one. A path that is no plain file (`/dev/stdout`,
    /// a pipe) is written to as it is.
    static func write(_ bytes: [UInt8], to path: String, mode: mode_t = 0o644) throws(FileError) {
        var status = stat()
        let isSpecial = unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT != S_IFREG
        let target = isSpecial ? path : "\(path).new.\(getpid())"
        let flags = isSpecial ? O_WRONLY : O_WRONLY | O_CREAT | O_TRUNC
        let descriptor = unsafe open(target, flags | O_CLOEXEC, mode)
        guard descriptor >= 0 else { throw FileError(reason: systemError()) }
        let problem = fill(descriptor, bytes)
        guard close(descriptor) == 0, problem == nil else {
            let reason = problem ?? systemError()
            if !isSpecial { unsafe _ = unlink(target) }
            throw FileError(reason: reason)
        }
        guard unsafe isSpecial || rename(target, path) == 0 else {
            let reason = systemError()
            unsafe _ = unlink(target)
            throw FileError(reason: reason)
        }
    }

    private static func fill(_ descriptor: Int32, _ bytes: [UInt8]) -> String? {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return systemError() }
            rest = rest.dropFirst(count)
        }
        return nil
    }
}
