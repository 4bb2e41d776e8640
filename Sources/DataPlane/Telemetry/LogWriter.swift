import Base
import Glibc
import Synchronization

/// Writes log files on one background thread, so that no worker ever waits for a disk or a reader of a pipe.
///
/// `/dev/stdout` and `/dev/stderr` mean the process's own descriptors. A file that cannot be written is tried again every second and
/// told about once a minute; what does not fit its queue meanwhile is dropped and counted.
public final class LogWriter: Sendable {
    private let control: LogControl

    /// - Parameters:
    ///   - log: where troubles with files are told.
    ///   - gathering: how long lines wait for more to be written with them.
    public init(log: ProcessLog = .standard, gathering: Duration = .milliseconds(100)) {
        control = LogControl(log: log, gathering: Nanoseconds(gathering))
    }

    deinit {
        stop(within: .seconds(1))
    }

    /// The file at `path`. It is opened, and made if need be, when the first line comes, and closed when nobody holds the result.
    public func file(_ path: String) -> LogFile {
        control.startThread()
        return control.state.withLock { state in
            if let known = state.queues[path] { return LogFile(known) }
            let queue = LogQueue(path: path, waker: control.waker)
            if state.isStopped { queue.state.withLock { $0.isClosed = true } }
            state.queues[path] = queue
            state.added.append(queue)
            return LogFile(queue)
        }
    }

    /// Opens every file anew, after what was submitted so far: call it when files were rotated (SIGUSR1). Returns at once.
    public func reopen() {
        control.state.withLock { $0.mustReopen = true }
        control.waker.wake()
    }

    /// Waits until everything that was submitted is written.
    ///
    /// - Returns: false where a file could not take it in time.
    @discardableResult
    public func flush(within limit: Duration) -> Bool {
        control.request(within: limit) { state, descriptor in
            guard !state.isStopped else { return false }
            state.flushes.append(descriptor)
            return true
        }
    }

    /// Writes what is waiting, as far as the files take it within `limit`, and ends the thread. What comes later is dropped.
    ///
    /// - Returns: whether everything was written.
    @discardableResult
    public func stop(within limit: Duration) -> Bool {
        let deadline = Clock.monotonic + limit
        control.request(within: limit + .milliseconds(100)) { state, descriptor in
            guard !state.isStopped else { return false }
            state.isStopped = true
            state.stopBy = deadline
            state.flushes.append(descriptor)
            return true
        }
        return control.state.withLock { !$0.isStarted || $0.end == .complete }
    }

    /// For `StatsRegistry.addProvider`.
    public func addSamples(to samples: inout ScrapeSamples) {
        let queues = control.state.withLock { Array($0.queues.values) }
        for queue in queues.sorted(by: { $0.path < $1.path }) {
            samples.add(.logBytesTotal, queue.bytesWritten.value, labels: [queue.path])
            samples.add(.logDroppedLinesTotal, queue.droppedLines, labels: [queue.path])
            samples.add(.logWriteErrorsTotal, queue.errors.value, labels: [queue.path])
        }
    }
}

/// What the writer and its thread share.
final class LogControl: Sendable {
    struct State: ~Copyable {
        var queues: [String: LogQueue] = [:]
        /// Not yet known to the thread.
        var added: [LogQueue] = []
        var mustReopen = false
        /// Descriptors that the thread closes when everything is written.
        var flushes: [CInt] = []
        var isStarted = false
        var isStopped = false
        var stopBy = Instant.never
        var end: End?
    }

    /// How the thread ended.
    enum End: Sendable {
        case complete
        case lossy
    }

    let log: ProcessLog
    let gathering: Nanoseconds
    let waker = Waker()
    let state = Mutex(State())

    init(log: ProcessLog, gathering: Nanoseconds) {
        self.log = log
        self.gathering = gathering
    }

    func startThread() {
        let mustStart = state.withLock { state in
            defer { state.isStarted = true }
            return !state.isStarted && !state.isStopped
        }
        guard mustStart else { return }
        var thread = pthread_t()
        let argument = unsafe Unmanaged.passRetained(self)
        // A function without captures, so it inherits no actor from whoever starts the writer.
        let code = unsafe pthread_create(
            &thread, nil,
            { argument in
                guard let argument = unsafe argument else { return nil }
                var thread = LogThread(unsafe Unmanaged<LogControl>.fromOpaque(argument).takeRetainedValue())
                thread.run()
                return nil
            }, unsafe argument.toOpaque())
        guard code == 0 else { fatalError("cannot start the log writer's thread: \(errorText(code))") }
        pthread_detach(thread)
    }

    /// Leaves an order with the thread and waits until it closes the descriptor that goes with it.
    ///
    /// - Returns: whether it did in time. At once true where there is no thread, false where the order is refused.
    @discardableResult
    func request(within limit: Duration, _ order: (inout State, CInt) -> Bool) -> Bool {
        var ends: [CInt] = [-1, -1]
        guard unsafe pipe(&ends) == 0 else { return false }
        defer { close(ends[0]) }
        let (isTaken, isStarted) = state.withLock { state in
            let isTaken = order(&state, ends[1])
            return (isTaken, state.isStarted)
        }
        guard isTaken, isStarted else {
            close(ends[1])
            return isTaken
        }
        waker.wake()
        let deadline = Clock.monotonic + limit
        var ready = pollfd(fd: ends[0], events: Int16(POLLIN), revents: 0)
        while true {
            let count = unsafe poll(&ready, 1, Clock.pollTimeout(until: deadline))
            if count > 0 { return true }
            if count == 0 || errno != EINTR { return false }
        }
    }
}

/// Interrupts the thread's waiting: a pipe, since eventfd is not in the Glibc module.
final class Waker: Sendable {
    let readEnd: CInt
    private let writeEnd: CInt

    init() {
        var ends: [CInt] = [-1, -1]
        guard unsafe pipe(&ends) == 0 else { fatalError("cannot make the log writer's pipe: \(errorText(errno))") }
        for end in ends {
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
        }
        readEnd = ends[0]
        writeEnd = ends[1]
    }

    deinit {
        close(readEnd)
        close(writeEnd)
    }

    func wake() {
        var byte: UInt8 = 1
        _ = unsafe write(writeEnd, &byte, 1)  // A full pipe wakes as well.
    }

    func drain() {
        var bytes = [UInt8](repeating: 0, count: 256)
        while unsafe read(readEnd, &bytes, bytes.count) == bytes.count {}
    }
}

enum Clock {
    static var monotonic: Instant {
        var time = timespec()
        guard unsafe clock_gettime(CLOCK_MONOTONIC, &time) == 0 else { return Instant(nanoseconds: 0) }
        return Instant(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }

    /// Milliseconds for poll, rounded up; -1 = for ever.
    static func pollTimeout(until deadline: Instant) -> CInt {
        guard deadline < .never else { return -1 }
        let left = (deadline - monotonic).count
        return left <= 0 ? 0 : CInt(clamping: (left + 999_999) / 1_000_000)
    }
}

func errorText(_ code: CInt) -> String {
    guard let text = unsafe strerror(code) else { return "error \(code)" }
    return unsafe String(cString: text)
}
