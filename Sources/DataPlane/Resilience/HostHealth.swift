public import Base
import Synchronization

/// What all workers of the process know together about one endpoint address of one cluster. Atomics only.
///
/// Who writes what: workers turn `breaker` from closed to open and write `history`; everything else that moves `breaker` is the
/// thread that runs sweeps and membership. So a reader never waits, and an ejection needs one compare-and-swap.
public final class HostHealth: Sendable {
    public let address: SocketAddress

    /// `BreakerWord`.
    let breaker: Atomic<UInt64>
    /// `OutcomeHistory`.
    let history = Atomic<UInt64>(0)
    /// How many base ejection times the last ejection took; sinks by one in each quiet interval.
    let multiplier = Atomic<UInt32>(0)
    /// Ejections since this address joined the cluster.
    let ejections = Atomic<UInt32>(0)
    /// When the last ejection or return was, in nanoseconds, or `never`.
    let lastAction = Atomic<Int64>(HostHealth.never)
    /// When an ejection was last refused with an event, in nanoseconds, or `never`.
    let lastRefusal = Atomic<Int64>(HostHealth.never)
    /// Ejections refused since that event.
    let refusals = Atomic<UInt32>(0)

    /// No clock reads this.
    static let never = Int64.min

    init(address: SocketAddress) {
        self.address = address
        breaker = Atomic(BreakerWord.closed.bits)
    }

    /// Whether requests should go elsewhere.
    public var isEjected: Bool {
        BreakerWord(bits: breaker.load(ordering: .acquiring)).isOpen
    }

    /// When the ejection time is over; nil if not ejected. The endpoint returns at the first sweep from then on.
    public var ejectedUntil: Instant? {
        BreakerWord(bits: breaker.load(ordering: .acquiring)).openUntil
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

/// A breaker's phase and the instant that belongs to it, in one word: two bits of phase below 62 bits of nanoseconds.
///
/// The circuit breaker of a later release adds half-open and ramping as phases here; ejection alone goes from closed to open
/// and back.
struct BreakerWord: Hashable {
    private enum Phase: UInt64 {
        case closed
        case open
        /// No longer a member of its cluster: nothing can eject it.
        case departed
    }

    let bits: UInt64

    init(bits: UInt64) {
        self.bits = bits
    }

    private init(_ phase: Phase, at instant: Instant = Instant(nanoseconds: 0)) {
        // An instant beyond 62 bits (146 years of uptime) means "never".
        bits = UInt64(min(max(instant.nanoseconds, 0), .max >> 2)) << 2 | phase.rawValue
    }

    static let closed = BreakerWord(.closed)
    static let departed = BreakerWord(.departed)
    static func open(until: Instant) -> BreakerWord { BreakerWord(.open, at: until) }

    var isOpen: Bool { bits & 3 == Phase.open.rawValue }
    var openUntil: Instant? { isOpen ? Instant(nanoseconds: Int64(bits >> 2)) : nil }
}
