public import Base
public import ProxyConfig
import Synchronization

/// A local rate limit: so many requests in a time, and a burst. One for all workers of the process, in one atomic word.
///
/// It keeps no tokens but the instant at which the bucket will be full again (the generic cell rate algorithm): a request moves it by the
/// time that a token takes, and is refused if it would lie further ahead than the burst.
public final class TokenBucket: Sendable {
    /// Of one token, in nanoseconds.
    private let interval: Int64
    /// Of all but one token of a burst.
    private let tolerance: Int64
    private let fullAt = Atomic<Int64>(0)

    public init(_ limit: LocalRateLimit) {
        interval = max(Nanoseconds(limit.interval).count / Int64(max(limit.requests, 1)), 1)
        tolerance = interval.multipliedReportingOverflow(by: Int64(max(limit.burst, 1)) - 1).partialValue
    }

    /// Nil: the request may pass. Else how long until the next one may: for Retry-After.
    public func take(now: Instant) -> Nanoseconds? {
        var seen = fullAt.load(ordering: .relaxed)
        while true {
            let full = max(seen, now.nanoseconds)
            let wait = full - now.nanoseconds - tolerance
            if wait > 0 { return Nanoseconds(count: wait) }
            let (exchanged, original) = fullAt.compareExchange(expected: seen, desired: full + interval, ordering: .relaxed)
            if exchanged { return nil }
            seen = original
        }
    }
}
