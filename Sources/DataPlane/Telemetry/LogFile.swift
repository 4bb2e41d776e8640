public import Base
import Synchronization

/// A log file as those who write lines see it. Everybody who asked `LogWriter` for the same path shares one queue.
public final class LogFile: Sendable {
    let queue: LogQueue

    init(_ queue: LogQueue) {
        self.queue = queue
        queue.retainUser()
    }

    deinit {
        queue.releaseUser()
    }

    /// Hands over whole lines and returns at once; `lines` comes back empty, with memory to fill again.
    ///
    /// A worker calls it once per turn of its loop. Lines that find more than `LogQueue.limit` bytes waiting are dropped and counted.
    public func submit(_ lines: inout ByteBuffer) {
        queue.submit(&lines)
    }
}

/// The lines of one file between the workers and the thread that writes.
final class LogQueue: Sendable {
    /// What may wait: a second of a busy sidecar's lines (5,000 of 200 bytes). More means that the file cannot keep up.
    static let limit = 1 << 20

    /// So much is written at once even before the gathering time is over.
    static let batch = 1 << 16

    struct State: ~Copyable {
        var pending = ByteBuffer()
        /// Bytes that the writer has taken and not yet written.
        var inFlight = 0
        var users = 0
        /// The writer looks only when it is woken.
        var isIdle = true
        var isClosed = false
        var droppedLines: UInt64 = 0
    }

    let path: String
    let waker: Waker
    let state: Mutex<State>
    /// Written by the writer's thread.
    let bytesWritten = Counter()
    let errors = Counter()

    init(path: String, waker: Waker) {
        self.path = path
        self.waker = waker
        state = Mutex(State())
    }

    func submit(_ lines: inout ByteBuffer) {
        guard !lines.isEmpty else { return }
        let mustWake = state.withLock { state in
            guard !state.isClosed, state.pending.count + state.inFlight + lines.count <= Self.limit else {
                state.droppedLines += lines.lineCount
                lines.removeAll()
                return false
            }
            let before = state.pending.count
            if before == 0 {
                swap(&state.pending, &lines)
            } else {
                unsafe state.pending.append(copying: lines.unsafeBytes)
                lines.removeAll()
            }
            defer { state.isIdle = false }
            return state.isIdle || (before < Self.batch && state.pending.count >= Self.batch)
        }
        if mustWake { waker.wake() }
    }

    var droppedLines: UInt64 { state.withLock { $0.droppedLines } }

    func retainUser() {
        state.withLock { $0.users += 1 }
    }

    func releaseUser() {
        let isLast = state.withLock { state in
            state.users -= 1
            return state.users == 0
        }
        if isLast { waker.wake() }  // So that the file is closed.
    }
}

extension ByteBuffer {
    /// Lines, at least one: a format without a newline has lines too.
    var lineCount: UInt64 {
        var count: UInt64 = 0
        let bytes = self.bytes
        for offset in bytes.byteOffsets where unsafe bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self) == 0x0a { count += 1 }
        return max(count, 1)
    }
}
