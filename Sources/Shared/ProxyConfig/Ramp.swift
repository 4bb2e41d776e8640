public import Base

/// How the load of something new, or back, grows to its whole share: new endpoints, endpoints back from ejection, services back from
/// an open breaker. One straight line for all of them (slow_start_config with an aggression of 1).
public struct Ramp: Hashable, Sendable {
    /// From the beginning to the whole share; zero = no ramp.
    public var duration: Duration
    /// The share at the beginning, 1 through 100 (min_weight_percent).
    public var startPercent: UInt32

    public static let none = Ramp(duration: .zero)

    public init(duration: Duration, startPercent: UInt32 = 10) {
        self.duration = duration
        self.startPercent = min(max(startPercent, 1), 100)
    }

    /// The share after `elapsed`: from `startPercent` through 1, never less than before.
    public func share(after elapsed: Nanoseconds) -> Double {
        let whole = Nanoseconds(duration).count
        guard whole > 0, elapsed.count < whole else { return 1 }
        return max(Double(startPercent) / 100, Double(max(elapsed.count, 0)) / Double(whole))
    }
}
