/// How a change reaches the proxies: in stages, each watched before the next. Decides only; time and what the proxies say come in.
public struct StagedPlan: Hashable, Sendable {
    /// How many proxies have the change when a stage is over.
    public enum Stage: Hashable, Sendable, CustomStringConvertible {
        case count(Int)
        /// 0 < percent ≤ 100.
        case percent(Double)

        /// `3` or `25%`, with or without `name=` before it. Nil: neither.
        public init?(_ text: some StringProtocol) {
            let value = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).last ?? ""
            if value.hasSuffix("%") {
                guard let percent = Double(value.dropLast()), percent > 0, percent <= 100 else { return nil }
                self = .percent(percent)
            } else {
                guard let count = Int(value), count > 0 else { return nil }
                self = .count(count)
            }
        }

        /// At least one, at most all.
        public func size(of total: Int) -> Int {
            switch self {
            case .count(let count): min(count, total)
            case .percent(let percent): min(total, max(1, Int((Double(total) * percent / 100).rounded(.up))))
            }
        }

        public var description: String {
            switch self {
            case .count(let count): "\(count)"
            case .percent(let percent): percent == percent.rounded() ? "\(Int(percent))%" : "\(percent)%"
            }
        }
    }

    /// The last is all of them, whatever was asked for.
    public var stages: [Stage]
    /// How long a stage is watched once all its proxies run the change.
    public var pause: Duration
    /// How long a stage's proxies may take until they run it.
    public var applyTime: Duration
    /// A stage with a larger share of failed requests, and more than twice the share of before, is one that failed.
    public var maxErrorPercent: Double
    /// Fewer requests say nothing about a share.
    public var minimumRequests: UInt64

    public init(
        stages: [Stage], pause: Duration = .seconds(30), applyTime: Duration = .seconds(60), maxErrorPercent: Double = 5,
        minimumRequests: UInt64 = 20
    ) {
        self.stages = stages.last == .percent(100) ? stages : stages + [.percent(100)]
        self.pause = pause
        self.applyTime = applyTime
        self.maxErrorPercent = maxErrorPercent
        self.minimumRequests = minimumRequests
    }
}

/// What a proxy has counted since its process began.
public struct RolloutSample: Hashable, Sendable {
    public var requests: UInt64
    public var errors: UInt64
    public var ejections: UInt64

    public init(requests: UInt64 = 0, errors: UInt64 = 0, ejections: UInt64 = 0) {
        self.requests = requests
        self.errors = errors
        self.ejections = ejections
    }

    /// What came after `earlier`. A process that began again counts from nothing.
    func since(_ earlier: RolloutSample) -> RolloutSample {
        guard requests >= earlier.requests, errors >= earlier.errors, ejections >= earlier.ejections else { return self }
        return RolloutSample(
            requests: requests - earlier.requests, errors: errors - earlier.errors, ejections: ejections - earlier.ejections)
    }
}

/// How it went before the change: what a stage is compared with.
public struct RolloutBaseline: Hashable, Sendable {
    public var errorPercent: Double
    /// In a time as long as a stage's pause.
    public var ejections: UInt64

    public init(errorPercent: Double = 0, ejections: UInt64 = 0) {
        self.errorPercent = errorPercent
        self.ejections = ejections
    }
}
