public import Base
public import ProxyConfig

/// What one active health check found.
public enum HealthCheckResult: Hashable, Sendable {
    case passed
    /// The endpoint answered, and not that it is well.
    case unwell
    /// No connection could be made, or it broke before the answer was whole.
    case unreachable
    /// No whole answer came in time.
    case timedOut

    public var hasPassed: Bool { self == .passed }
}

/// What the active health checks of one endpoint say together, and when the next is due (docs/health-checks.md).
///
/// Pure: results, the time and chance go in. The first result decides at once; from then on so many results of the other kind in a row
/// are needed as the thresholds say, whatever kind of failure it is.
public struct HealthCheckState: Hashable, Sendable {
    public struct Rules: Hashable, Sendable {
        public var interval: Nanoseconds
        /// Of one check, its connection included.
        public var timeout: Nanoseconds
        /// At least 1.
        public var healthyThreshold: UInt32
        /// At least 1.
        public var unhealthyThreshold: UInt32

        /// More often than this, a check costs more than it tells.
        static let shortestInterval = Nanoseconds.milliseconds(10)
        /// Longer than anybody waits; keeps the arithmetic far from its end.
        static let longest = Nanoseconds.seconds(86_400)

        public init(_ check: HealthCheck) {
            interval = min(max(Nanoseconds(check.interval), Self.shortestInterval), Self.longest)
            timeout = min(max(Nanoseconds(check.timeout), .milliseconds(1)), Self.longest)
            healthyThreshold = max(check.healthyThreshold, 1)
            unhealthyThreshold = max(check.unhealthyThreshold, 1)
        }
    }

    public enum Standing: Hashable, Sendable {
        /// No check has ended yet.
        case unknown
        case passing
        case failing
    }

    /// What a result came to.
    public struct Outcome: Hashable, Sendable {
        public var result: HealthCheckResult
        public var standing: Standing
        /// The endpoint stood otherwise before.
        public var isChange: Bool
        /// No check had ended before.
        public var isFirst: Bool
    }

    /// May be replaced: what was counted stays counted.
    public var rules: Rules
    public private(set) var standing = Standing.unknown
    /// Results in a row that speak against `standing`.
    public private(set) var contrary: UInt32 = 0
    /// Checks that ended.
    public private(set) var checks: UInt64 = 0

    public init(_ rules: Rules) {
        self.rules = rules
    }

    /// Takes in how a check ended.
    public mutating func take(_ result: HealthCheckResult) -> Outcome {
        let isFirst = checks == 0
        checks += 1
        let said: Standing = result.hasPassed ? .passing : .failing
        let before = standing
        if said == standing {
            contrary = 0
        } else {
            contrary += 1
            let threshold = said == .passing ? rules.healthyThreshold : rules.unhealthyThreshold
            if isFirst || contrary >= threshold {
                standing = said
                contrary = 0
            }
        }
        return Outcome(result: result, standing: standing, isChange: standing != before, isFirst: isFirst)
    }

    /// The first checks of a cluster's endpoints begin within this time.
    static let firstSpread = Nanoseconds.seconds(2)

    /// When the next check begins, counted from the end of the last one.
    ///
    /// The first comes within a quarter of the interval, at most two seconds: its result is waited for. The second comes after half an
    /// interval to a whole one, so that what began together spreads. All others keep to the interval, a tenth more or less.
    ///
    /// - Parameter draw: any number, as a generator gives them.
    public func nextCheck(now: Instant, draw: UInt64) -> Instant {
        let interval = rules.interval.count
        let (least, span): (Int64, Int64) =
            switch checks {
            case 0: (0, min(interval / 4, Self.firstSpread.count))
            case 1: (interval / 2, interval / 2)
            default: (interval - interval / 10, interval / 5)
            }
        let jitter = UInt64(span).multipliedFullWidth(by: draw).high
        return now + Nanoseconds(count: least + Int64(jitter))
    }
}
