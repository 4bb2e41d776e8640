public import Base
public import ProxyConfig
import Synchronization

/// What operators see of a detector: its counters and its endpoints.
extension OutlierDetector {
    struct Counters: ~Copyable {
        let detected = Atomic<UInt64>(0)
        let enforced = Atomic<UInt64>(0)
        let overflow = Atomic<UInt64>(0)
        private let successRateDetected = Atomic<UInt64>(0)
        private let successRateEnforced = Atomic<UInt64>(0)
        private let percentageDetected = Atomic<UInt64>(0)
        private let percentageEnforced = Atomic<UInt64>(0)

        /// Beside `detected` and `enforced`, which count all.
        func count(_ trigger: BreakerReason, isEnforced: Bool) {
            switch trigger {
            case .successRate:
                successRateDetected.add(1, ordering: .relaxed)
                if isEnforced { successRateEnforced.add(1, ordering: .relaxed) }
            case .failurePercentage:
                percentageDetected.add(1, ordering: .relaxed)
                if isEnforced { percentageEnforced.add(1, ordering: .relaxed) }
            default: break
            }
        }

        var byRate: Statistics.ByRate {
            Statistics.ByRate(
                successRateDetected: successRateDetected.load(ordering: .relaxed),
                successRateEnforced: successRateEnforced.load(ordering: .relaxed),
                percentageDetected: percentageDetected.load(ordering: .relaxed),
                percentageEnforced: percentageEnforced.load(ordering: .relaxed))
        }
    }

    /// The counters at one moment, each exact, together not atomic.
    public struct Statistics: Hashable, Sendable {
        /// Ejected now: a gauge.
        public var active: UInt64
        /// Completed runs of errors, and what else would eject, of an endpoint that was not ejected.
        public var detected: UInt64
        /// Those that ejected.
        public var enforced: UInt64
        /// Those that did not because of max_ejection_percent.
        public var overflow: UInt64
        public var byRate = ByRate()

        /// What sweeps found by comparing rates: part of `detected` and `enforced`.
        public struct ByRate: Hashable, Sendable {
            public var successRateDetected: UInt64 = 0
            public var successRateEnforced: UInt64 = 0
            public var percentageDetected: UInt64 = 0
            public var percentageEnforced: UInt64 = 0
        }

        public init(active: UInt64, detected: UInt64, enforced: UInt64, overflow: UInt64) {
            self.active = active
            self.detected = detected
            self.enforced = enforced
            self.overflow = overflow
        }

        /// Every name under `cluster.<name>.outlier_detection.` that Envoy has. Detectors that we do not have stay at 0.
        public var named: [(name: StaticString, value: UInt64)] {
            // Envoy's deprecated names also count what the dice let go.
            let gated = detected - min(overflow, detected)
            return [
                ("ejections_active", active),
                ("ejections_enforced_total", enforced),
                ("ejections_overflow", overflow),
                // Runs, and the windows and slow calls that only we have.
                ("ejections_detected_consecutive_5xx", detected - min(detected, byRate.successRateDetected + byRate.percentageDetected)),
                ("ejections_enforced_consecutive_5xx", enforced - min(enforced, byRate.successRateEnforced + byRate.percentageEnforced)),
                ("ejections_detected_consecutive_gateway_failure", 0),
                ("ejections_enforced_consecutive_gateway_failure", 0),
                ("ejections_detected_success_rate", byRate.successRateDetected),
                ("ejections_enforced_success_rate", byRate.successRateEnforced),
                ("ejections_detected_consecutive_local_origin_failure", 0),
                ("ejections_enforced_consecutive_local_origin_failure", 0),
                ("ejections_detected_local_origin_success_rate", 0),
                ("ejections_enforced_local_origin_success_rate", 0),
                ("ejections_detected_failure_percentage", byRate.percentageDetected),
                ("ejections_enforced_failure_percentage", byRate.percentageEnforced),
                ("ejections_detected_local_origin_failure_percentage", 0),
                ("ejections_enforced_local_origin_failure_percentage", 0),
                ("ejections_total", gated),
                ("ejections_consecutive_5xx", gated),
            ]
        }
    }

    public var statistics: Statistics {
        var statistics = Statistics(
            active: UInt64(slots.taken), detected: counters.detected.load(ordering: .relaxed),
            enforced: counters.enforced.load(ordering: .relaxed), overflow: counters.overflow.load(ordering: .relaxed))
        statistics.byRate = counters.byRate
        return statistics
    }

    /// Priorities in which health is ignored now, because too few endpoints are available.
    public var panickingPriorities: [UInt32] {
        panics.withLock { $0.filter(\.value.isOn).keys.sorted() }
    }

    /// One endpoint for the admin page.
    public struct HostReport: Hashable, Sendable {
        public var address: SocketAddress
        public var state: BreakerState
        public var checks: HostHealth.Checks
        /// Nil unless ejected.
        public var ejectedUntil: Instant?
        /// The current run of errors.
        public var consecutiveErrors: UInt32
        public var ejections: UInt32
        /// The next ejection takes the base time times one more than this.
        public var multiplier: UInt32
        /// The last ejection or return.
        public var lastAction: Instant?
        /// Why it was.
        public var lastReason: OutlierEvent.Reason?
        /// Of the window; 0 where the policy looks at none.
        public var windowCalls: UInt32
        public var windowFailures: UInt32
        public var windowSlow: UInt32
        /// Of the current round; nil unless half-open.
        public var probes: ProbeProgress?
        /// Oldest first.
        public var lastOutcomes: [String]
    }

    /// The cluster's endpoints in the order of `setHosts`, each once.
    public var hosts: [HostReport] { hosts(now: Instant(nanoseconds: 0)) }

    /// - Parameter now: which part of the windows is still of now.
    public func hosts(now: Instant) -> [HostReport] {
        let trip = rules.withLock { $0?.trip }
        return members.withLock { $0.hosts }.map { host in
            let history = OutcomeHistory(word: host.history.load(ordering: .relaxed))
            let lastAction = host.lastAction.load(ordering: .relaxed)
            let totals = trip.map { host.window.totals(scale: $0.scale, now: now) } ?? RateWindow.Totals()
            let state = host.state
            return HostReport(
                address: host.address, state: state, checks: host.checks, ejectedUntil: host.ejectedUntil,
                consecutiveErrors: history.run,
                ejections: host.ejections.load(ordering: .relaxed), multiplier: host.multiplier.load(ordering: .relaxed),
                lastAction: lastAction == HostHealth.never ? nil : Instant(nanoseconds: lastAction),
                lastReason: OutlierEvent.Reason(index: host.lastReason.load(ordering: .relaxed)), windowCalls: totals.calls,
                windowFailures: totals.failures, windowSlow: totals.slow,
                probes: state.phase == .halfOpen ? host.probes.progress(in: state) : nil,
                lastOutcomes: history.outcomes.map(\.name))
        }
    }
}

extension OutlierEvent.Reason {
    /// Fits a byte; never 0.
    var index: UInt8 { UInt8(Self.allCases.firstIndex(of: self)! + 1) }

    init?(index: UInt8) {
        guard index > 0, Int(index) <= Self.allCases.count else { return nil }
        self = Self.allCases[Int(index) - 1]
    }
}

extension OutlierDetector {
    /// How probes close a breaker of this cluster; nil = without them.
    public var probeRule: BreakerPolicy.Probe.Calls? { rules.withLock { $0?.probe } }

    /// How a half-open and a ramping breaker of this cluster moves by time.
    public var stateRule: BreakerState.Rule { rules.withLock { $0?.state } ?? BreakerState.Rule() }
}
