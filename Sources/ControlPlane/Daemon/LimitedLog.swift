import Base
import Reactor

/// How many lines there may be: so many in a span of time. What is beyond is counted, and the count is told when the span is over.
struct LineLimit {
    /// Enough to see what is going on, and a few KiB at most.
    static let lines = 20
    static let span = Nanoseconds.seconds(10)

    private var end = Instant(nanoseconds: 0)
    private var written = 0
    private var skipped = 0

    /// When `expired` is to be called; never while nothing was skipped.
    var deadline: Instant { skipped > 0 ? end : .never }

    /// Whether a line may be written now.
    mutating func admits(now: Instant) -> Bool {
        if now >= end, skipped == 0 { (end, written) = (now + Self.span, 0) }
        guard written < Self.lines else {
            skipped += 1
            return false
        }
        written += 1
        return true
    }

    /// - Returns: how many lines were left out in the span that is over; the next one begins.
    mutating func expired(now: Instant) -> Int {
        defer { (end, written, skipped) = (now + Self.span, 0, 0) }
        return skipped
    }
}

/// Warnings that callers can cause at will: a hostile one must not fill the disk that the log of events is on.
final class LimitedLog {
    private let loop: EventLoop
    private let write: (StaticString, String) -> Void
    private var areas: [String: (limit: LineLimit, timer: LoopTimer)] = [:]

    /// - Parameter write: of an area and a line.
    init(_ loop: EventLoop, write: @escaping (StaticString, String) -> Void = { Log.warning($0, $1) }) {
        self.loop = loop
        self.write = write
    }

    deinit {
        for area in areas.values { loop.cancelDeadline(area.timer) }
    }

    func warning(_ area: StaticString, _ line: @autoclosure () -> String) {
        let name = "\(area)"
        if areas[name] == nil {
            areas[name] = (LineLimit(), LoopTimer { [unowned self] now in expired(area, now) })
        }
        if areas[name]!.limit.admits(now: loop.now) { write(area, line()) }
        loop.setDeadline(areas[name]!.timer, areas[name]!.limit.deadline)
    }

    private func expired(_ area: StaticString, _ now: Instant) {
        let count = areas["\(area)"]!.limit.expired(now: now)
        write(area, "\(count) more lines of this kind were left out within \(LineLimit.span.count / 1_000_000_000) s")
    }
}
