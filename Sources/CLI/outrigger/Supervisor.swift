import CSpawn
import Glibc

/// Keeps one child process running: passes signals on, starts it again when it dies, ends with it when told to stop. Where this
/// process ends without a chance to do so, the kernel asks the child to end.
struct Supervisor {
    /// Between looks at what else there is to do.
    private static let interval = Duration.milliseconds(500)
    /// A child that lived so long is not in a loop of dying.
    private static let settled = Duration.seconds(10)
    private static let shortestPause = Duration.milliseconds(100)
    private static let longestPause = Duration.seconds(5)

    private let executable: String
    private let arguments: [String]
    private let clock = ContinuousClock()

    private var child: pid_t?
    private var startedAt = ContinuousClock().now
    private var pause = Duration.zero
    private var startAt: ContinuousClock.Instant?
    private var isStopping = false

    init(executable: String, arguments: [String]) {
        self.executable = executable
        self.arguments = arguments
    }

    /// Signals wait from now on until `run` takes them, in place of interrupting something.
    static func holdSignals() {
        var signals = Self.signals
        unsafe sigprocmask(SIG_BLOCK, &signals, nil)
    }

    private static var signals: sigset_t {
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        for signal in [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD] { unsafe sigaddset(&signals, signal) }
        return signals
    }

    /// Returns when it was told to stop and the child has ended, or when the child ended of its own accord with status 0, which is how
    /// a proxy ends that was told to quit by others.
    ///
    /// - Parameter tick: Called about twice a second.
    /// - Returns: the child's exit status, or 128 and the number of the signal that ended it.
    mutating func run(_ tick: () -> Void) -> Int32 {
        Self.holdSignals()
        var signals = Self.signals
        var status = start()
        while status == nil {
            switch wait(for: &signals) {
            case SIGCHLD: status = reap()
            case SIGTERM, SIGINT, SIGHUP: status = stop()
            case SIGUSR1: forward(SIGUSR1)
            default: break
            }
            if let startAt, clock.now >= startAt { status = status ?? start() }
            if !isStopping, status == nil { tick() }
        }
        return status ?? 0
    }

    /// The signal that came, or 0 after the interval or when the child is to be started.
    private func wait(for signals: inout sigset_t) -> Int32 {
        let timeout = startAt.map { max(.zero, min(Self.interval, clock.now.duration(to: $0))) } ?? Self.interval
        let (seconds, attoseconds) = timeout.components
        var time = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000))
        return max(0, unsafe sigtimedwait(&signals, nil, &time))
    }

    // MARK: Signals

    /// Asks the child to drain; the second time it ends at once, which is the child's own rule.
    private mutating func stop() -> Int32? {
        isStopping = true
        startAt = nil
        guard child != nil else { return 0 }
        forward(SIGTERM)
        return nil
    }

    private func forward(_ signal: Int32) {
        if let child { kill(child, signal) }
    }

    // MARK: The child

    /// - Returns: a status to end with, where there is no sense in another try.
    private mutating func start() -> Int32? {
        startAt = nil
        startedAt = clock.now
        var pid: pid_t = 0
        var words: [UnsafeMutablePointer<CChar>?] = unsafe ([executable] + arguments).map { unsafe strdup($0) }
        unsafe words.append(nil)
        defer { unsafe words.forEach { unsafe free($0) } }
        // Our own mask must not be the child's. A group of its own keeps Ctrl-C from reaching it beside us: it would count as the
        // second request to stop.
        let problem = unsafe cspawn(executable, words, environ, &pid)
        guard problem == 0 else {
            Console.say("\(executable) cannot be started: \(unsafe String(cString: strerror(problem)))")
            return Failure.invalid
        }
        child = pid
        return nil
    }

    /// Takes note of the child's end. SIGCHLD also tells of children that only stopped: those are not waited for.
    private mutating func reap() -> Int32? {
        var word: Int32 = 0
        guard let child, unsafe waitpid(child, &word, WNOHANG) == child else { return nil }
        self.child = nil
        let signal = word & 0x7f
        let status = signal == 0 ? word >> 8 & 0xff : 128 + signal
        if isStopping { return status }
        if signal == 0, status == 0 {
            Console.say("outrigger-proxy (pid \(child)) was told to quit")
            return 0
        }

        let lived = startedAt.duration(to: clock.now)
        pause = lived >= Self.settled ? .zero : pause == .zero ? Self.shortestPause : min(pause * 2, Self.longestPause)
        startAt = clock.now + pause
        let how = signal == 0 ? "ended with status \(status)" : "was ended by signal \(signal)"
        let when = pause == .zero ? "at once" : "in \(pause.milliseconds) ms"
        Console.say("outrigger-proxy (pid \(child)) \(how) after \(lived.milliseconds) ms; starting it again \(when)")
        return nil
    }
}

extension Duration {
    fileprivate var milliseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds * 1000 + attoseconds / 1_000_000_000_000_000
    }
}
