public import Base
public import ProxyConfig

/// How many attempts may be made again, whatever the policies of single routes say, so that retries never become a storm. One for each
/// worker and cluster; always on.
///
/// Three bounds, all must hold. At any moment at most `percent` of the requests under way are retries, or `minimum` (Envoy's retry
/// budget). Where failures come back at once few are under way, and that alone lets every request be repeated; so of the requests of any
/// ten seconds, too, at most `percent` are made again, or `minimum`. And these come evenly: each request earns `percent` of a retry, and
/// only so much is saved up as an endpoint that fails may cost at once.
public struct RetryBudget: Sendable {
    public private(set) var percent: UInt32
    public private(set) var minimum: UInt32
    /// Retries under way, waiting ones too.
    public private(set) var active: UInt32 = 0
    /// Thousandths of a retry.
    private var balance: Int64
    private var earnedUntil: Instant
    private var window: Window
    /// What is saved up for a burst, at least; 40 percent of what is under way if that is more, for an endpoint that dies takes its part
    /// of it along.
    private static let smallestReserve: Int64 = 10_000
    private static let earningTime: Int64 = 10

    public init(percent: UInt32 = 20, minimum: UInt32 = 3, now: Instant) {
        self.percent = percent
        self.minimum = minimum
        balance = Int64(minimum) * 1000
        earnedUntil = now
        window = Window(now: now)
    }

    /// Other bounds, for the retries that come; those under way stay.
    public mutating func configure(_ limits: RetryBudgetLimits) {
        percent = limits.percent
        minimum = limits.minimum
    }

    /// A new request begins (not a retry).
    ///
    /// - Parameter requests: under way now, this one too.
    public mutating func requestStarted(requests: Int) {
        window.unplaced += 1
        balance = min(balance + Int64(percent) * 10, max(Self.smallestReserve, Int64(requests) * Int64(percent) * 20))
    }

    /// Whether one more retry may begin; it counts until `retryEnded`.
    ///
    /// - Parameters:
    ///   - requests: under way now, this one too.
    ///   - isFree: the attempt before cost no server anything (nobody was reached, or it was not processed), so to repeat it adds no
    ///     work. Only the first bound holds then: when a zone goes, every caller has to find that out.
    public mutating func begin(requests: Int, isFree: Bool = false, now: Instant) -> Bool {
        guard Int(active) < max(Int(minimum), requests * Int(percent) / 100) else { return false }
        if !isFree {
            earn(now: now)
            window.advance(now: now)
            guard balance >= 1000, window.retries < max(Int(minimum), window.requests * Int(percent) / 100) else { return false }
            balance -= 1000
            window.addRetry()
        }
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

extension RetryBudget {
    /// Requests and retries of the last seconds, one by one. Requests come without a time, which would cost each of them a reading of the
    /// clock's second: when somebody asks, those since the last question are spread evenly over the time between. In a storm somebody
    /// asks all the time.
    private struct Window {
        private static let length = 11
        private var requestsBySecond = InlineArray<11, Int>(repeating: 0)
        private var retriesBySecond = InlineArray<11, Int>(repeating: 0)
        private var second: Int64
        private let firstSecond: Int64
        /// Requests since the last question.
        var unplaced = 0

        init(now: Instant) {
            second = now.nanoseconds / 1_000_000_000
            firstSecond = second
        }

        private static func index(of second: Int64) -> Int { Int(second % Int64(length)) }

        /// Of the last ten seconds, the current one among them: at most ten. Who has just begun is taken to go on like this: it may come
        /// into the midst of trouble, and after ten seconds it has made no more retries than others.
        var requests: Int {
            let oldest = Self.index(of: second + 1)
            let counted = requestsBySecond.indices.reduce(0) { $1 == oldest ? $0 : $0 + requestsBySecond[$1] }
            return counted * 10 / Int(min(second - firstSecond + 1, 10))
        }

        /// Of the last eleven seconds, the current one among them: at least ten.
        var retries: Int { retriesBySecond.indices.reduce(0) { $0 + retriesBySecond[$1] } }

        mutating func addRetry() { retriesBySecond[Self.index(of: second)] += 1 }

        mutating func advance(now: Instant) {
            let current = max(now.nanoseconds / 1_000_000_000, second)
            let passed = Int(current - second)
            // The current second has only begun: what came before it may be early by a second, and never late.
            let whole = max(passed, 1)
            func share(_ count: Int) -> Int { unplaced * count / whole }
            requestsBySecond[Self.index(of: second)] += share(1)
            for back in (0..<min(passed, Self.length)).reversed() {
                let index = Self.index(of: current - Int64(back))
                requestsBySecond[index] = back == 0 ? 0 : share(passed + 1 - back) - share(passed - back)
                retriesBySecond[index] = 0
            }
            second = current
            unplaced = 0
        }
    }
}
