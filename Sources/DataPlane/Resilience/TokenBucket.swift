public import Base

/// A local rate limit: so many requests a second, and a burst. Of one worker: its share is the policy's by the number of workers.
public struct TokenBucket: Sendable {
    /// Of one token.
    private let interval: Double
    private let burst: Double
    private var tokens: Double
    private var filledAt: Instant

    /// - Parameters:
    ///   - perSecond: above 0.
    ///   - burst: how many may come at once, at least 1.
    public init(perSecond: Double, burst: Double, now: Instant) {
        precondition(perSecond > 0, "a rate limit of \(perSecond) a second")
        interval = 1e9 / perSecond
        self.burst = max(burst, 1)
        tokens = self.burst
        filledAt = now
    }

    /// Whether a request may pass now.
    public mutating func take(now: Instant) -> Bool {
        fill(now: now)
        guard tokens >= 1 else { return false }
        tokens -= 1
        return true
    }

    /// When the next token is there: for Retry-After.
    public mutating func wait(now: Instant) -> Nanoseconds {
        fill(now: now)
        return tokens >= 1 ? .zero : Nanoseconds(count: Int64(((1 - tokens) * interval).rounded(.up)))
    }

    private mutating func fill(now: Instant) {
        guard now > filledAt else { return }
        tokens = min(tokens + Double((now - filledAt).count) / interval, burst)
        filledAt = now
    }
}
