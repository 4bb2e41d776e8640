public import Base
public import ProxyConfig

/// The arithmetic of outlier detection: how many endpoints may be ejected, and for how long.
public struct EjectionRules: Hashable, Sendable {
    /// Consecutive errors that eject; at least 1.
    public let threshold: UInt32
    public let interval: Nanoseconds
    let base: Nanoseconds
    let longest: Nanoseconds
    let maxEjectionPercent: UInt32
    let enforcingPercent: UInt32

    /// A sweep more often than this costs more than it tells.
    static let shortestInterval = Nanoseconds.milliseconds(1)

    public init(_ configuration: OutlierDetection) {
        threshold = max(configuration.consecutive5xx, 1)
        interval = max(Nanoseconds(configuration.interval), Self.shortestInterval)
        base = max(Nanoseconds(configuration.baseEjectionTime), Nanoseconds(count: 1))
        longest = max(Nanoseconds(configuration.maxEjectionTime), base)
        maxEjectionPercent = configuration.maxEjectionPercent
        enforcingPercent = configuration.enforcingPercent
    }

    /// How many of `total` endpoints may be ejected at once: the whole part of the percentage, but at least one; none at 0 percent.
    public func allowedEjections(of total: Int) -> UInt32 {
        guard maxEjectionPercent > 0 else { return 0 }
        return max(1, UInt32(clamping: UInt64(total) * UInt64(min(maxEjectionPercent, 100)) / 100))
    }

    /// The multiplier stops where one more would not lengthen the ejection, so that recovery is not longer than it must be.
    var highestMultiplier: UInt32 {
        let (whole, rest) = longest.count.quotientAndRemainder(dividingBy: base.count)
        return UInt32(clamping: rest > 0 ? whole + 1 : whole)
    }

    func nextMultiplier(after multiplier: UInt32) -> UInt32 {
        multiplier < highestMultiplier ? multiplier + 1 : highestMultiplier
    }

    /// Without jitter.
    func ejectionTime(multiplier: UInt32) -> Nanoseconds {
        let (product, overflow) = base.count.multipliedReportingOverflow(by: Int64(multiplier))
        return overflow ? longest : min(Nanoseconds(count: product), longest)
    }
}
