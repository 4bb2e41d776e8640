public import Base
import Synchronization

/// What all workers of the process know together about one endpoint address of one cluster. Atomics only.
///
/// Who writes what: workers open `breaker`, take it through its probes and write what is counted; the thread that runs sweeps and
/// membership does everything else, what health checks say included. Every move is one compare-and-swap, so a reader never waits.
public final class HostHealth: Sendable {
    public let address: SocketAddress

    /// `BreakerState`.
    let breaker: Atomic<UInt64>
    /// `OutcomeHistory`.
    let history = Atomic<UInt64>(0)
    /// How many base ejection times the last ejection took; sinks by one in each quiet interval.
    let multiplier = Atomic<UInt32>(0)
    /// Ejections since this address joined the cluster.
    let ejections = Atomic<UInt32>(0)
    /// Why: `OutlierEvent.Reason`, one more than its place among all; 0 = never.
    let lastReason = Atomic<UInt8>(0)
    /// When the last ejection or return was, in nanoseconds, or `never`.
    let lastAction = Atomic<Int64>(HostHealth.never)
    /// When an ejection was last refused with an event, in nanoseconds, or `never`.
    let lastRefusal = Atomic<Int64>(HostHealth.never)
    /// Ejections refused since that event.
    let refusals = Atomic<UInt32>(0)

    /// Counted only where the policy looks at them.
    let window = RateWindow()
    let probes = ProbeGate()
    /// Calls and failures (32 bits each, calls above) since the last sweep; only where sweeps compare them.
    let interval = Atomic<UInt64>(0)
    /// A window that was refused an ejection asks again from this instant on, in nanoseconds.
    let windowHoldOff = Atomic<Int64>(HostHealth.never)

    /// `Checks`.
    private let checkState = Atomic<UInt8>(Checks.none.rawValue)

    /// What active health checks say of an endpoint.
    public enum Checks: UInt8, Sendable {
        /// It is not checked, or no check has ended and no other endpoint is known to be better.
        case none
        /// New, beside others that pass their checks: its first result is waited for.
        case waiting
        case passing
        case failing

        /// Whether requests should go elsewhere.
        public var isFailing: Bool { self == .waiting || self == .failing }
    }

    /// No clock reads this.
    static let never = Int64.min

    init(address: SocketAddress, state: BreakerState = .closed) {
        self.address = address
        breaker = Atomic(state.bits)
    }

    /// Closed, open, half-open, ...: what a balancer must know (`EndpointTable.Standing`).
    public var state: BreakerState { BreakerState(bits: breaker.load(ordering: .acquiring)) }

    /// Whether requests that are no probes should go elsewhere.
    public var isEjected: Bool { state.isRefusing }

    public var checks: Checks { Checks(rawValue: checkState.load(ordering: .acquiring)) ?? .none }

    func setChecks(_ checks: Checks) {
        checkState.store(checks.rawValue, ordering: .releasing)
    }

    /// Whether active health checks keep requests away, whatever the breaker says.
    public var isFailingChecks: Bool { checks.isFailing }

    /// What a balancer asks first: neither ejected nor failing its checks.
    public var isRoutable: Bool { !isEjected && !isFailingChecks }

    /// When the ejection time is over; nil if not ejected. Without probes the endpoint returns at the first sweep from then on.
    public var ejectedUntil: Instant? {
        let state = state
        return state.isRefusing ? state.instant : nil
    }

    func forgetRun() {
        var seen = history.load(ordering: .relaxed)
        while true {
            let wanted = OutcomeHistory(word: seen).withoutRun.word
            if wanted == seen { return }
            let (exchanged, original) = history.compareExchange(expected: seen, desired: wanted, ordering: .relaxed)
            if exchanged { return }
            seen = original
        }
    }
}
