import Base
import Glibc
import Synchronization

/// The thread that writes: takes what waits, writes what the files take, sleeps until there is more to do.
struct LogThread {
    private let control: LogControl
    private var sinks: [LogSink] = []
    private var flushes: [CInt] = []
    private var isStopping = false
    private var stopBy = Instant.never

    init(_ control: LogControl) {
        self.control = control
    }

    mutating func run() {
        // Signals are for the threads that expect them; a pipe without a reader is an error of write here.
        var all = sigset_t()
        unsafe sigfillset(&all)
        unsafe pthread_sigmask(SIG_BLOCK, &all, nil)

        while true {
            takeOrders()
            let now = Clock.monotonic
            let mustWriteNow = isStopping || !flushes.isEmpty
            for sink in sinks { sink.pump(now: now, atOnce: mustWriteNow, isLast: isStopping) }
            forgetUnused()
            let isDone = sinks.allSatisfy { $0.isDone }
            if isStopping, isDone || now >= stopBy { return finish() }
            if isDone { closeFlushes() }
            sleep()
        }
    }

    private mutating func takeOrders() {
        control.waker.drain()
        var mustReopen = false
        control.state.withLock { state in
            for queue in state.added { sinks.append(LogSink(queue, log: control.log, gathering: control.gathering)) }
            state.added = []
            flushes += state.flushes
            state.flushes = []
            mustReopen = state.mustReopen
            state.mustReopen = false
            if state.isStopped, !isStopping {
                isStopping = true
                stopBy = state.stopBy
                for queue in state.queues.values { queue.state.withLock { $0.isClosed = true } }
            }
        }
        guard mustReopen else { return }
        let now = Clock.monotonic
        for sink in sinks { sink.reopen(now: now) }
    }

    /// Closes the files that nobody writes to any more.
    private mutating func forgetUnused() {
        control.state.withLock { state in
            sinks.removeAll { sink in
                guard sink.isDone, sink.isUnused else { return false }
                state.queues[sink.queue.path] = nil
                return true
            }
        }
    }

    /// Tells those who wait that everything is written.
    private mutating func closeFlushes() {
        for descriptor in flushes { close(descriptor) }
        flushes = []
    }

    /// What is left now is lost, and counted.
    private mutating func finish() {
        for sink in sinks { sink.abandon() }
        let isComplete = sinks.allSatisfy { !$0.hasLost }
        control.state.withLock { $0.end = isComplete ? .complete : .lossy }
        closeFlushes()
    }

    private func sleep() {
        var descriptors = [pollfd(fd: control.waker.readEnd, events: Int16(POLLIN), revents: 0)]
        var deadline = stopBy
        for sink in sinks {
            if let blocked = sink.blockedDescriptor { descriptors.append(pollfd(fd: blocked, events: Int16(POLLOUT), revents: 0)) }
            deadline = min(deadline, sink.nextTurn)
        }
        _ = unsafe poll(&descriptors, nfds_t(descriptors.count), Clock.pollTimeout(until: deadline))
    }
}

/// One file as the thread sees it.
final class LogSink {
    /// Between two tries of a file that cannot be written.
    static let retryInterval = Nanoseconds.seconds(1)
    static let reportInterval = Nanoseconds.seconds(60)
    /// Memory that an empty queue keeps.
    static let keptBytes = 1 << 18

    let queue: LogQueue
    private let log: ProcessLog
    private let gathering: Nanoseconds

    private var descriptor: CInt = -1
    /// The process's own standard output or error: others write to it too, so it must stay blocking, and what is written at once must
    /// be what poll promises to take.
    private var isShared = false
    private var buffer = ByteBuffer()
    private var isBlocked = false
    /// Lines are waiting for more since so long before this.
    private var gatherUntil: Instant?
    private var retryAt: Instant?
    private var lastReport: Instant?
    private(set) var isDone = true
    /// Lines were given up at the end.
    private(set) var hasLost = false

    init(_ queue: LogQueue, log: ProcessLog, gathering: Nanoseconds) {
        self.queue = queue
        self.log = log
        self.gathering = gathering
    }

    deinit {
        closeFile()
    }

    var isUnused: Bool { queue.state.withLock { $0.users == 0 && $0.pending.isEmpty } }

    var blockedDescriptor: CInt? { isBlocked ? descriptor : nil }

    var nextTurn: Instant { min(gatherUntil ?? .never, retryAt ?? .never) }

    /// Takes and writes what is due.
    ///
    /// - Parameters:
    ///   - atOnce: without waiting for more lines.
    ///   - isLast: a file that fails now is given up.
    func pump(now: Instant, atOnce: Bool, isLast: Bool) {
        if let retryAt, now < retryAt, !isLast { return }
        repeat {
            if buffer.isEmpty { take(now: now, atOnce: atOnce) }
            guard !buffer.isEmpty, writeOut(now: now) else { break }
        } while true
        if isLast, retryAt != nil { abandon() }
    }

    private func take(now: Instant, atOnce: Bool) {
        if buffer.allocatedBytes > Self.keptBytes { buffer.release() }
        let due = gatherUntil.map { now >= $0 } ?? (gathering == .zero)
        let waiting = queue.state.withLock { state in
            let waiting = state.pending.count
            if waiting > 0, atOnce || due || waiting >= LogQueue.batch {
                swap(&state.pending, &buffer)
                state.inFlight = waiting
                return 0
            }
            state.isIdle = waiting == 0
            return waiting
        }
        gatherUntil = waiting > 0 ? gatherUntil ?? now + gathering : nil
        isDone = waiting == 0 && buffer.isEmpty
    }

    /// Returns whether all was written.
    private func writeOut(now: Instant) -> Bool {
        isBlocked = false
        guard descriptor >= 0 || openFile(now: now) else { return false }
        while !buffer.isEmpty {
            if isShared, !isWritable {
                isBlocked = true
                return false
            }
            let count = unsafe write(descriptor, buffer.unsafeBytes.baseAddress, isShared ? min(buffer.count, Int(PIPE_BUF)) : buffer.count)
            if count > 0 {
                buffer.consume(count)
                queue.bytesWritten.add(count)
                queue.state.withLock { $0.inFlight -= count }
            } else if errno == EAGAIN {
                isBlocked = true
                return false
            } else if errno != EINTR {
                fail("write", errno, now: now)
                return false
            }
        }
        recover()
        return true
    }

    private var isWritable: Bool {
        var ready = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        return unsafe poll(&ready, 1, 0) == 1
    }

    private func openFile(now: Instant) -> Bool {
        switch queue.path {
        case "/dev/stdout": descriptor = fcntl(1, F_DUPFD_CLOEXEC, 3)
        case "/dev/stderr": descriptor = fcntl(2, F_DUPFD_CLOEXEC, 3)
        // Nonblocking matters for pipes only: neither opening one nor writing to it may wait for its reader.
        default: descriptor = unsafe open(queue.path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0o644)
        }
        isShared = queue.path == "/dev/stdout" || queue.path == "/dev/stderr"
        if descriptor < 0 { fail("open", errno, now: now) }
        return descriptor >= 0
    }

    private func closeFile() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
        isBlocked = false
    }

    /// What was submitted before goes to the old file, if that takes it at once.
    func reopen(now: Instant) {
        retryAt = nil
        guard descriptor >= 0 else { return }  // The next turn tries to open it.
        pump(now: now, atOnce: true, isLast: false)
        closeFile()
        retryAt = nil
        // Now rather than with the next line, so that whoever rotates finds the file.
        _ = openFile(now: now)
    }

    /// Gives up what could not be written.
    func abandon() {
        var lost = buffer.isEmpty ? 0 : buffer.lineCount
        buffer.release()
        lost = queue.state.withLock { state in
            let lines = lost + (state.pending.isEmpty ? 0 : state.pending.lineCount)
            state.droppedLines += lines
            state.pending.release()
            state.inFlight = 0
            return lines
        }
        hasLost = hasLost || lost > 0
        closeFile()
        gatherUntil = nil
        retryAt = nil
        isDone = true
    }

    private func fail(_ call: String, _ code: CInt, now: Instant) {
        queue.errors.increment()
        // A pipe whose reader left, a file system that was taken away: opened anew it may work. On a full disk the file itself is good.
        if code != ENOSPC, code != EDQUOT { closeFile() }
        retryAt = now + Self.retryInterval
        if let lastReport, now - lastReport < Self.reportInterval { return }
        lastReport = now
        log.error(
            "log", "cannot \(call) a log file; trying again every second",
            ["path": queue.path, "error": errorText(code), "dropped_lines": "\(queue.droppedLines)"])
    }

    private func recover() {
        retryAt = nil
        guard lastReport != nil else { return }
        lastReport = nil
        log.info("log", "log file is written again", ["path": queue.path, "dropped_lines": "\(queue.droppedLines)"])
    }
}
