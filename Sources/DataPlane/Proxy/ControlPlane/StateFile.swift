import Base
import Glibc
import ProxyConfig
import Reactor
import XDSWire

/// The last good snapshot on disk, for a start without a control plane. It may hold private keys: nobody else may read it.
final class StateFile {
    let path: String
    /// Why it could not be written last; nil = it could.
    private(set) var problem: String?

    private let loop: EventLoop
    private let log: (String) -> Void
    private var waiting: Snapshot?
    private var writtenAt: Instant?
    private var timer: LoopTimer!

    /// A burst of changes costs one write a second, not one each.
    private static let interval = Nanoseconds.seconds(1)

    init(path: String, loop: EventLoop, log: @escaping (String) -> Void) {
        self.path = path
        self.loop = loop
        self.log = log
        timer = LoopTimer { [unowned self] _ in write() }
    }

    deinit {
        loop.cancelDeadline(timer)
    }

    /// What was kept, and when, in nanoseconds since 1970.
    ///
    /// - Throws: a sentence: it is not there, or damaged.
    func read() throws(StateProblem) -> (snapshot: Snapshot, writtenAt: Int64) {
        let bytes: [UInt8]
        do {
            bytes = try FileReader.read(path)
        } catch {
            throw StateProblem(isAbsent: error == .noSuchFile, text: "\(path): \(error)")
        }
        do {
            return (try SnapshotFile.decode(bytes), FileStamp(path)?.modifiedAt ?? Clock.realtime())
        } catch {
            throw StateProblem(isAbsent: false, text: "\(path): \(error)")
        }
    }

    /// Keeps a snapshot: now, or when a second has passed since the last.
    func keep(_ snapshot: Snapshot) {
        waiting = snapshot
        if let writtenAt, loop.now - writtenAt < Self.interval {
            loop.setDeadline(timer, writtenAt + Self.interval)
        } else {
            write()
        }
    }

    /// Writes what waits.
    func write() {
        guard let snapshot = waiting else { return }
        waiting = nil
        writtenAt = loop.now
        loop.setDeadline(timer, .never)
        do {
            try Self.replace(path, with: SnapshotFile.encode(snapshot))
            problem = nil
        } catch {
            let text = "cannot keep the configuration in \(path): \(error)"
            if problem != text { log(text) }
            problem = text
        }
    }

    /// The old content or the new one is there, at every moment, also after a power failure.
    static func replace(_ path: String, with bytes: [UInt8]) throws(SystemError) {
        let new = "\(path).new"
        // One that another process left is not believed to have our permissions.
        _ = unsafe unlink(new)
        let descriptor = unsafe open(new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw SystemError(errno) }
        var problem: SystemError?
        var rest = bytes[...]
        while problem == nil, !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if count == 0 || errno != EINTR {
                problem = SystemError(count == 0 ? EIO : errno)
            }
        }
        if problem == nil, fsync(descriptor) != 0 { problem = SystemError(errno) }
        if close(descriptor) != 0, problem == nil { problem = SystemError(errno) }
        if problem == nil, unsafe rename(new, path) != 0 { problem = SystemError(errno) }
        guard let problem else { return }
        _ = unsafe unlink(new)
        throw problem
    }
}

struct StateProblem: Error {
    /// Nothing was kept yet: no reason to complain.
    var isAbsent: Bool
    var text: String
}

extension SystemError {
    fileprivate static let noSuchFile = SystemError(ENOENT)
}
