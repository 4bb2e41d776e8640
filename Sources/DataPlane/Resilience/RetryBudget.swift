public import Base

/// How many attempts may be made again, whatever the policies of single routes say, so that retries never become a storm. One for each
/// worker and cluster; always on.
///
/// Two bounds, both must hold. At any moment at most `percent` of the requests under way are retries, or `minimum` (Envoy's retry
/// budget). And over time each request earns `percent` of a retry, beside `minimum` in ten seconds: where failures come back at once
/// the first bound alone lets every request be repeated, since few are under way.
public struct RetryBudget: Sendable {
    public let percent: UInt32
    public let minimum: UInt32
    /// Retries under way, waiting ones too.
    public private(set) var active: UInt32 = 0
    /// Thousandths of a retry.
    private var balance: Int64
    private var earnedUntil: Instant
    /// What is saved up for a burst, at least; 40 percent of what is under way if that is more, for an endpoint that dies takes its part
    /// of it along.
    private static let smallestReserve: Int64 = 10_000
    private static let earningTime: Int64 = 10

    public init(percent: UInt32 = 20, minimum: UInt32 = 3, now: Instant) {
        self.percent = percent
        self.minimum = minimum
        balance = Int64(minimum) * 1000
        earnedUntil = now
    }

    /// A new request begins (not a retry).
    ///
    /// - Parameter requests: under way now, this one too.
    public mutating func requestStarted(requests: Int) {
        balance = min(balance + Int64(percent) * 10, max(Self.smallestReserve, Int64(requests) * Int64(percent) * 20))
    }

    /// Whether one more retry may begin; it counts until `retryEnded`.
    ///
    /// - Parameters:
    ///   - requests: under way now, this one too.
    ///   - isFree: the attempt before cost no server anything (nobody was reached, or it was not processed), so to repeat it adds no
    ///     work. Only the first bound holds then: when a zone goes, every caller has to find that out.
    public mutating func begin(requests: Int, isFree: Bool = false, now: Instant) -> Bool {
        earn(now: now)
        let allowed = max(Int(minimum), requests * Int(percent) / 100)
        guard Int(active) < allowed, isFree || balance >= 1000 else { return false }
        if !isFree { balance -= 1000 }
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
        let elapsed = min((now - earnedUntil).count, 1_000_000_000 * Self.earningTime)
        let thousandths = elapsed * Int64(minimum) / (1_000_000 * Self.earningTime)
        guard thousandths > 0 else { return }
        // What time alone gives does not pile up.
        if balance < Int64(minimum) * 1000 { balance = min(balance + thousandths, Int64(minimum) * 1000) }
        earnedUntil = now
    }
}
