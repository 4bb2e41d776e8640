import Base
import Glibc
import Synchronization

/// The proxy's own log: one line an event on standard error, for people and for grep.
///
///     [2026-11-22T17:57:00.123Z][warning][config] snapshot refused kind=listener error="port 80: in use"
///
/// Never on the path of a request: a line is a system call that may block.
public final class ProcessLog: Sendable {
    public enum Level: UInt8, CaseIterable, Comparable, Sendable {
        case trace
        case debug
        case info
        case warning
        case error
        case critical
        /// Above every line.
        case off

        /// The word that `/logging?level=` takes; `warn` and `err` too.
        public init?(_ word: some StringProtocol) {
            let word = word == "warn" ? "warning" : word == "err" ? "error" : String(word)
            guard let level = Self.allCases.first(where: { "\($0)" == word }) else { return nil }
            self = level
        }

        /// Written out: to print an enum by reflection costs the start of a process half a millisecond.
        var word: StaticString {
            switch self {
            case .trace: "trace"
            case .debug: "debug"
            case .info: "info"
            case .warning: "warning"
            case .error: "error"
            case .critical: "critical"
            case .off: "off"
            }
        }

        public static func < (left: Level, right: Level) -> Bool {
            left.rawValue < right.rawValue
        }
    }

    /// The one that writes to standard error.
    public static let standard = ProcessLog(descriptor: 2)

    private let descriptor: CInt
    private let clock: @Sendable () -> Int64
    private let threshold: Atomic<UInt8>

    /// - Parameter clock: nanoseconds since 1970; nil = the machine's.
    init(descriptor: CInt, level: Level = .info, clock: (@Sendable () -> Int64)? = nil) {
        self.descriptor = descriptor
        self.clock = clock ?? { Self.wallClock() }
        threshold = Atomic(level.rawValue)
    }

    /// Lines below it are left out. May be set at any time.
    public var level: Level {
        get { Level(rawValue: threshold.load(ordering: .relaxed)) ?? .info }
        set { threshold.store(newValue.rawValue, ordering: .relaxed) }
    }

    /// - Parameters:
    ///   - area: the part of the proxy: `config`, `listener`, `outlier`, ...
    ///   - message: what happened, the same words every time; what varies goes into `fields`.
    public func log(_ level: Level, _ area: StaticString, _ message: String, _ fields: KeyValuePairs<StaticString, String> = [:]) {
        guard level != .off, level >= self.level else { return }
        var line = ByteBuffer()
        line.append(UInt8(ascii: "["))
        TimeFormat.standard.render(clock(), into: &line)
        line.append("][")
        line.append(level.word)
        line.append("][")
        line.append(area)
        line.append("] ")
        line.append(Array(message.utf8).span, as: .text)
        for (key, value) in fields {
            line.append(UInt8(ascii: " "))
            line.append(key)
            line.append(UInt8(ascii: "="))
            Self.append(value, to: &line)
        }
        line.append(UInt8(ascii: "\n"))
        // One write, so that lines of several threads do not mix (up to PIPE_BUF on a pipe). A reader that has stopped must not stop
        // the proxy: the line is lost then, and there is nobody left to tell.
        var ready = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        guard unsafe poll(&ready, 1, 100) == 1 else { return }
        _ = unsafe write(descriptor, line.unsafeBytes.baseAddress, line.count)
    }

    public func debug(_ area: StaticString, _ message: String, _ fields: KeyValuePairs<StaticString, String> = [:]) {
        log(.debug, area, message, fields)
    }

    public func info(_ area: StaticString, _ message: String, _ fields: KeyValuePairs<StaticString, String> = [:]) {
        log(.info, area, message, fields)
    }

    public func warning(_ area: StaticString, _ message: String, _ fields: KeyValuePairs<StaticString, String> = [:]) {
        log(.warning, area, message, fields)
    }

    public func error(_ area: StaticString, _ message: String, _ fields: KeyValuePairs<StaticString, String> = [:]) {
        log(.error, area, message, fields)
    }

    /// In quotes unless it is a word.
    private static func append(_ value: String, to line: inout ByteBuffer) {
        let bytes = Array(value.utf8)
        let isWord = !bytes.isEmpty && bytes.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }
        if !isWord { line.append(UInt8(ascii: "\"")) }
        line.append(bytes.span, as: .text)
        if !isWord { line.append(UInt8(ascii: "\"")) }
    }

    private static func wallClock() -> Int64 {
        var time = timespec()
        guard unsafe clock_gettime(CLOCK_REALTIME, &time) == 0 else { return 0 }
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}
