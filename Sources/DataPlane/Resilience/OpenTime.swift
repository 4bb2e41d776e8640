public import Base
public import ProxyConfig

/// How long a breaker stays open: the n-th time in a row longer than the one before, up to a bound, with jitter.
public struct OpenTime: Hashable, Sendable {
    private let base: Nanoseconds
    private let longest: Nanoseconds
    private let backoff: BreakerPolicy.Open.Backoff
    private let jitterPercent: UInt32
    /// The multiplier stops where one more would not lengthen the time, so that recovery is not longer than it must be.
    public let highestMultiplier: UInt32

    public init(_ policy: BreakerPolicy.Open) {
        base = max(Nanoseconds(policy.base), Nanoseconds(count: 1))
        longest = max(Nanoseconds(policy.longest), base)
        backoff = policy.backoff
        jitterPercent = min(policy.jitterPercent, 100)
        switch policy.backoff {
        case .linear:
            let (whole, rest) = longest.count.quotientAndRemainder(dividingBy: base.count)
            highestMultiplier = UInt32(clamping: rest > 0 ? whole + 1 : whole)
        case .exponential(let percent):
            // A factor of 1 or less never grows; the smallest one that does reaches any bound in a few thousand steps.
            var multiplier: UInt32 = 1
            var time = Double(base.count)
            while percent > 100, time < Double(longest.count) {
                time = time * Double(percent) / 100
                multiplier += 1
            }
            highestMultiplier = multiplier
        }
    }

    public func nextMultiplier(after multiplier: UInt32) -> UInt32 {
        min(multiplier, highestMultiplier - 1) + 1
    }

    /// Without jitter.
    ///
    /// - Parameter multiplier: 1 for the first time.
    public func time(multiplier: UInt32) -> Nanoseconds {
        switch backoff {
        case .linear:
            let (product, overflow) = base.count.multipliedReportingOverflow(by: Int64(multiplier))
            return overflow ? longest : min(Nanoseconds(count: product), longest)
        case .exponential(let percent):
            var time = Double(base.count)
            for _ in 1..<max(multiplier, 1) where time < Double(longest.count) { time = time * Double(max(percent, 100)) / 100 }
            return time < Double(longest.count) ? Nanoseconds(count: Int64(time)) : longest
        }
    }

    /// What jitter adds to `time`, with `draw` from `0...UInt64.max`.
    public func jitter(of time: Nanoseconds, draw: UInt64) -> Nanoseconds {
        let bound = UInt64(time.count / 100) * UInt64(jitterPercent) + 1
        return Nanoseconds(count: Int64(draw.multipliedFullWidth(by: bound).high))
    }
}
