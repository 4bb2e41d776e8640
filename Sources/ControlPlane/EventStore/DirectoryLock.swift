import Foundation
import Glibc

/// Holds a directory for one process, as long as it exists. The kernel lets go when the process ends, however it ends.
final class DirectoryLock: Sendable {
    private let descriptor: CInt

    /// - Throws: `.inUse` if another process, or another log of this one, holds it.
    init(_ directory: String) throws(EventLogError) {
        let path = "\(directory)/lock"
        descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw .failed("cannot open \(path): \(String(errno: errno))") }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let problem = errno
            let holder = FileManager.default.contents(atPath: path).flatMap { Int(String(decoding: $0, as: UTF8.self)) }
            close(descriptor)
            if problem == EWOULDBLOCK { throw .inUse(directory: directory, processID: holder) }
            throw .failed("cannot lock \(path): \(String(errno: problem))")
        }
        // For people and for the message above; the lock itself is the kernel's.
        let text = Array("\(getpid())".utf8)
        if ftruncate(descriptor, 0) == 0 { _ = unsafe pwrite(descriptor, text, text.count, 0) }
    }

    deinit {
        close(descriptor)
    }
}

extension String {
    /// `No space left on device`.
    init(errno: CInt) {
        self = unsafe String(cString: strerror(errno))
    }
}
