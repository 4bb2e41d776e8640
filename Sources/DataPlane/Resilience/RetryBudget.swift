public import Base

/// How many attempts may be made again, whatever the policies of single routes say, so that retries never become a storm. One for each
/// worker and cluster; always on.
///
/// Two bounds, both must hold. At any moment at most `percent` of the requests under way are retries, or `minimum` (Envoy's retry
/// budget). And over time each request earns `percent` of a retry, beside `minimum` a second: where failures come back at once the
/// first bound alone lets every request be repeated, since few are under way.
public struct RetryBudget: Sendable {
    public let percent: UInt32
    public let minimum: UInt32
    /// Retries under way, waiting ones too.
    public private(set) var active: UInt32 = 0
    /// Thousandths of a retry.
    private var balance: Int64
    private var earnedUntil: Instant
    /// What is left for a burst: an endpoint that dies takes what was under way with it.
    private static let largestBalance: Int64 = 100_000

    public init(percent: UInt32 = 20, minimum: UInt32 = 3, now: Instant) {
        self.percent = percent
        self.minimum = minimum
        balance = Int64(minimum) * 1000
        earnedUntil = now
    }

    /// A new request begins (not a retry).
    public mutating func requestStarted() {
        balance = min(balance + Int64(percent) * 10, Self.largestBalance)
    }

    /// Whether one more retry may begin; it counts until `retryEnded`.
    ///
    /// - Parameter requests: under way now, this one too.
    public mutating func begin(requests: Int, now: Instant) -> Bool {
        earn(now: now)
        let allowed = max(Int(minimum), requests * Int(percent) / 100)
        guard Int(active) < allowed, balance >= 1000 else { return false }
        balance -= 1000
        active += 1
        return true
    }

    public mutating func retryEnded() {
        precondition(active > 0, "a retry ended that did not begin")
        active -= 1
    }

    /// In whole thousandths, so that nothing is lost between frequent calls.
    private mutating func earn(now: Instant) {
        guard minimum > 0, now > earnedUntil else { return }
        let elapsed = min((now - earnedUntil).count, 60_000_000_000)
        let thousandths = elapsed * Int64(minimum) / 1_000_000
        guard thousandths > 0 else { return }
        // What time alone gives is at most for a second.
        if balance < Int64(minimum) * 1000 { balance = min(balance + thousandths, Int64(minimum) * 1000) }
        earnedUntil = now
    }
}
