public import Base
public import ProxyConfig

/// The breaker: one state machine for endpoints and services, in one 64-bit word, so that a compare-and-swap moves it.
///
/// Pure: `after` takes an event and the time and gives the next state. Who counts, asks for time and tells about changes is around it:
/// `OutlierDetector` for endpoints, `CircuitBreaker` for services. docs/resilience.md draws it; a test holds the drawing to this table.
public struct BreakerState: Hashable, Sendable {
    /// In the three lowest bits. `closed` is 0, so that the usual question is a comparison with 0.
    public enum Phase: UInt64, CaseIterable, Sendable {
        /// Everything passes.
        case closed
        /// Nothing passes, until an instant.
        case open
        /// Probes pass; the instant is the end of this round of them.
        case halfOpen
        /// A growing share passes, since an instant.
        case ramping
        /// By hand, until an instant: nothing passes.
        case forcedOpen
        /// By hand, until an instant: everything passes, nothing counts.
        case disabled
        /// By hand, until an instant: everything passes, what would open it is told.
        case observing
        /// Its endpoint left the cluster: nothing opens it.
        case departed

        /// As logs, metrics and people call it.
        public var name: String {
            switch self {
            case .closed: "closed"
            case .open: "open"
            case .halfOpen: "half-open"
            case .ramping: "ramping"
            case .forcedOpen: "forced-open"
            case .disabled: "disabled"
            case .observing: "observing"
            case .departed: "departed"
            }
        }
    }

    public enum Event: Hashable, Sendable {
        /// Runs or rates say that it should open.
        case trip(until: Instant)
        /// Time went by.
        case time
        /// A check of another kind (active health check, connection probe) found it well.
        case checkPassed
        /// As many probes succeeded as had to.
        case probesPassed
        case probeFailed(until: Instant)
        /// `forcedOpen`, `disabled` or `observing`, until the time is over.
        case force(Phase, until: Instant)
        /// What was forced is no longer.
        case release
        case leave
        case rejoin
    }

    /// What of the policy moves the machine.
    public struct Rule: Hashable, Sendable {
        /// How long one round of probes may take; nil = no probes.
        public var probeWait: Nanoseconds?
        /// Zero = no ramp.
        public var ramp: Nanoseconds

        public init(probeWait: Nanoseconds? = nil, ramp: Nanoseconds = .zero) {
            self.probeWait = probeWait
            self.ramp = ramp
        }

        public init(_ policy: BreakerPolicy) {
            switch policy.probe {
            case .none: probeWait = nil
            case .calls(let calls): probeWait = max(Nanoseconds(calls.longestWait), .milliseconds(1))
            }
            ramp = max(Nanoseconds(policy.ramp.duration), .zero)
        }
    }

    /// Below the phase: 61 bits of nanoseconds. An instant beyond (73 years of uptime) means "never".
    let bits: UInt64

    init(bits: UInt64) {
        self.bits = bits
    }

    public init(_ phase: Phase, at instant: Instant = Instant(nanoseconds: 0)) {
        bits = UInt64(min(max(instant.nanoseconds, 0), .max >> 3)) << 3 | phase.rawValue
    }

    public static let closed = BreakerState(.closed)
    public static let departed = BreakerState(.departed)

    public var phase: Phase { Phase(rawValue: bits & 7) ?? .closed }
    /// What it means says the phase.
    public var instant: Instant {
        let nanoseconds = Int64(bits >> 3)
        return nanoseconds == .max >> 3 ? .never : Instant(nanoseconds: nanoseconds)
    }

    /// Whether calls that are no probes should go elsewhere.
    public var isRefusing: Bool {
        switch phase {
        case .open, .halfOpen, .forcedOpen: true
        case .closed, .ramping, .disabled, .observing, .departed: false
        }
    }

    /// Whether runs and rates are counted.
    public var isCounting: Bool {
        switch phase {
        case .closed, .ramping, .observing: true
        case .open, .halfOpen, .forcedOpen, .disabled, .departed: false
        }
    }

    /// The next state; the same one if the event means nothing in this one.
    public func after(_ event: Event, now: Instant, rule: Rule) -> BreakerState {
        switch (phase, event) {
        case (.departed, .rejoin): .closed
        case (.departed, _): self
        case (_, .leave): .departed

        case (_, .force(let phase, let until)):
            switch phase {
            case .forcedOpen, .disabled, .observing: BreakerState(phase, at: until)
            case .closed, .open, .halfOpen, .ramping, .departed: self
            }
        case (.forcedOpen, .release): returning(now, rule)
        case (.forcedOpen, .time) where now >= instant: returning(now, rule)
        case (.disabled, .release), (.observing, .release): .closed
        case (.disabled, .time) where now >= instant, (.observing, .time) where now >= instant: .closed

        case (.closed, .trip(let until)), (.ramping, .trip(let until)): BreakerState(.open, at: until)
        case (.open, .time) where now >= instant, (.open, .checkPassed):
            rule.probeWait.map { BreakerState(.halfOpen, at: now + $0) } ?? returning(now, rule)
        // A new round: its end is another instant, so what the old round's probes say is no longer counted.
        case (.halfOpen, .time) where now >= instant: BreakerState(.halfOpen, at: now + (rule.probeWait ?? .zero))
        case (.halfOpen, .probesPassed): returning(now, rule)
        case (.halfOpen, .probeFailed(let until)): BreakerState(.open, at: until)
        case (.ramping, .time) where now - instant >= rule.ramp: .closed
        default: self
        }
    }

    private func returning(_ now: Instant, _ rule: Rule) -> BreakerState {
        rule.ramp > .zero ? BreakerState(.ramping, at: now) : .closed
    }

    /// When `.time` moves it next; `.never` if only calls do. Of a half-open one: the end of the round.
    public func nextChange(rule: Rule) -> Instant {
        switch phase {
        case .open, .halfOpen, .forcedOpen, .disabled, .observing: instant
        case .ramping: instant + rule.ramp
        case .closed, .departed: .never
        }
    }
}
