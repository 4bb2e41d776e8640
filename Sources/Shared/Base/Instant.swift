/// A point on the machine's monotonic clock, in nanoseconds since an arbitrary start.
///
/// Code that decides takes an `Instant` as a value; only `Reactor` reads a clock. The reason it is not `ContinuousClock.Instant`:
/// that one is 128 bits wide and its arithmetic shows on the hot path.
public struct Instant: Hashable, Comparable, Sendable {
    public var nanoseconds: Int64

    /// Later than every instant a clock can give: "no deadline".
    public static let never = Instant(nanoseconds: .max)

    public init(nanoseconds: Int64) {
        self.nanoseconds = nanoseconds
    }

    public static func < (left: Instant, right: Instant) -> Bool {
        left.nanoseconds < right.nanoseconds
    }

    /// Saturates at `.never`.
    public static func + (start: Instant, span: Nanoseconds) -> Instant {
        let (sum, overflow) = start.nanoseconds.addingReportingOverflow(span.count)
        return overflow ? .never : Instant(nanoseconds: sum)
    }

    public static func + (start: Instant, span: Duration) -> Instant {
        start + Nanoseconds(span)
    }

    public static func - (end: Instant, start: Instant) -> Nanoseconds {
        Nanoseconds(count: end.nanoseconds &- start.nanoseconds)
    }
}

/// A length of time as the hot path holds it: 64 bits of nanoseconds (292 years).
public struct Nanoseconds: Hashable, Comparable, Sendable {
    public var count: Int64

    public static let zero = Nanoseconds(count: 0)

    public init(count: Int64) {
        self.count = count
    }

    /// Saturates: a duration beyond 292 years means "for ever".
    public init(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, overflowed) = whole.addingReportingOverflow(attoseconds / 1_000_000_000)
        count = overflow || overflowed ? (seconds < 0 ? .min : .max) : sum
    }

    public static func milliseconds(_ count: Int64) -> Nanoseconds { Nanoseconds(count: count * 1_000_000) }
    public static func seconds(_ count: Int64) -> Nanoseconds { Nanoseconds(count: count * 1_000_000_000) }

    public var milliseconds: Int64 { count / 1_000_000 }
    public var seconds: Double { Double(count) / 1e9 }
    public var duration: Duration { .nanoseconds(count) }

    public static func < (left: Nanoseconds, right: Nanoseconds) -> Bool {
        left.count < right.count
    }
}
