import Glibc

/// A directory of this process alone, in which the snapshot lies while the proxy runs.
struct RuntimeDirectory {
    let path: String
    var snapshotPath: String { "\(path)/snapshot" }

    /// In `$XDG_RUNTIME_DIR`, else in /tmp. Made with mode 0700, and only if it was not there: nobody else can have put anything in it.
    init() throws {
        let root = unsafe getenv("XDG_RUNTIME_DIR").map { unsafe String(cString: $0) } ?? ""
        let base =
            unsafe root.hasPrefix("/") && access(root, W_OK) == 0
            ? "\(root)/outrigger-\(getpid())" : "/tmp/outrigger-\(getuid())-\(getpid())"
        for attempt in 0..<16 {
            // An earlier process with our number may have left its own behind.
            let candidate = attempt == 0 ? base : "\(base)-\(attempt)"
            if unsafe mkdir(candidate, 0o700) == 0 {
                path = candidate
                return
            }
            guard errno == EEXIST else { throw Failure(message: "the directory \(candidate) cannot be made: \(systemError())") }
        }
        throw Failure(message: "\(base) and others like it are left from earlier runs: remove them")
    }

    func write(_ snapshot: [UInt8]) throws(Failure) {
        do throws(FileError) {
            try AtomicFile.write(snapshot, to: snapshotPath, mode: 0o600)
        } catch {
            throw Failure(message: "\(snapshotPath) cannot be written: \(error.reason)")
        }
    }

    func remove() {
        unsafe _ = unlink(snapshotPath)
        unsafe _ = rmdir(path)
    }
}
