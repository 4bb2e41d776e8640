/// When a breaker opens, how long it stays open, how it finds out that it may close, and how the load comes back.
///
/// The same for an endpoint (`OutlierDetector`) and for a service (`CircuitBreaker`), both in Resilience.
public struct BreakerPolicy: Hashable, Sendable {
    public enum Mode: Hashable, Sendable {
        case enforce
        /// Counts and tells, and never opens.
        case observe
    }

    /// What opens it; whichever comes first.
    public struct Trip: Hashable, Sendable {
        public enum Window: Hashable, Sendable {
            /// The last ten tenths of this time, of which the current one is not over.
            case time(Duration)
            /// The last calls, in tenths: between nine and ten tenths of this number.
            case calls(UInt32)
        }

        /// Errors in a row; nil = not counted.
        public var consecutiveErrors: UInt32?
        /// Percent of the calls in the window that failed, at least; nil = not looked at.
        public var failurePercent: UInt32?
        /// Percent of the calls in the window that were slow, failed or not, at least; nil = not looked at.
        public var slowPercent: UInt32?
        /// A call that takes longer is slow.
        public var slowCall: Duration
        public var window: Window
        /// With fewer calls in the window its percentages say nothing.
        public var minimumCalls: UInt32

        public init(
            consecutiveErrors: UInt32? = nil, failurePercent: UInt32? = 50, slowPercent: UInt32? = nil, slowCall: Duration = .seconds(5),
            window: Window = .time(.seconds(10)), minimumCalls: UInt32 = 20
        ) {
            self.consecutiveErrors = consecutiveErrors
            self.failurePercent = failurePercent
            self.slowPercent = slowPercent
            self.slowCall = slowCall
            self.window = window
            self.minimumCalls = minimumCalls
        }
    }

    /// How long it stays open.
    public struct Open: Hashable, Sendable {
        public enum Backoff: Hashable, Sendable {
            /// The n-th time in a row takes n times as long as the first (Envoy, App Mesh).
            case linear
            /// Each time takes `percent` of the one before: 200 doubles.
            case exponential(percent: UInt32)
        }

        public var base: Duration
        /// No longer than this, but for the jitter.
        public var longest: Duration
        public var backoff: Backoff
        /// Longer by up to this share of itself, at random, so that callers do not come back in step.
        public var jitterPercent: UInt32

        public init(
            base: Duration, longest: Duration = .seconds(300), backoff: Backoff = .exponential(percent: 200), jitterPercent: UInt32 = 10
        ) {
            self.base = base
            self.longest = longest
            self.backoff = backoff
            self.jitterPercent = jitterPercent
        }
    }

    /// What happens when the time is over.
    public enum Probe: Hashable, Sendable {
        /// It closes (or ramps): ordinary calls find out.
        case none
        case calls(Calls)

        /// Real calls, a few at a time; all others are still refused.
        public struct Calls: Hashable, Sendable {
            /// This many decide, 1 through 255.
            public var count: UInt32
            /// At the same time, at most.
            public var concurrency: UInt32
            /// This share of them must succeed, in percent. It opens again as soon as that cannot be reached any more.
            public var successPercent: UInt32
            /// If they have not decided by then, that many more are let through: a probe that never ends must not block for ever.
            public var longestWait: Duration

            public init(count: UInt32 = 3, concurrency: UInt32 = 1, successPercent: UInt32 = 100, longestWait: Duration = .seconds(10)) {
                self.count = min(max(count, 1), 255)
                self.concurrency = max(concurrency, 1)
                self.successPercent = min(max(successPercent, 1), 100)
                self.longestWait = longestWait
            }
        }
    }

    public var mode: Mode
    public var trip: Trip
    public var open: Open
    public var probe: Probe
    public var ramp: Ramp

    public init(
        mode: Mode = .enforce, trip: Trip = Trip(), open: Open = Open(base: .seconds(5)), probe: Probe = .calls(Probe.Calls()),
        ramp: Ramp = Ramp(duration: .seconds(10))
    ) {
        self.mode = mode
        self.trip = trip
        self.open = open
        self.probe = probe
        self.ramp = ramp
    }
}
