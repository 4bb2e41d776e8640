import Base
import ProxyConfig
import Synchronization

/// How many of the last calls failed and how many were slow, over a window of time or of calls; shared by workers, without a lock.
///
/// Ten buckets, each one 64-bit word: the tenth of the window that it counts (16 bits, so that an old one is recognised), calls,
/// failures, slow calls (16 bits each). A full bucket counts no more: the shares of 65,535 calls are exact enough.
struct RateWindow: ~Copyable {
    struct Totals: Hashable {
        var calls: UInt32 = 0
        var failures: UInt32 = 0
        var slow: UInt32 = 0
    }

    /// Which tenth it is now.
    enum Scale: Hashable {
        case time(bucket: Int64)
        case calls(bucket: UInt64)
    }

    static let bucketCount = 10

    private let buckets = InlineArray<10, Atomic<UInt64>> { _ in Atomic<UInt64>(0) }
    /// Of a window of calls: how many there were.
    private let sequence = Atomic<UInt64>(0)

    /// Adds a call and returns the tenth that it fell into.
    ///
    /// One compare-and-swap. Late by a scheduling accident, a call may count in the next tenth.
    func add(isFailure: Bool, isSlow: Bool, scale: Scale, now: Instant) -> UInt64 {
        let tenth =
            switch scale {
            case .time(let bucket): UInt64(max(now.nanoseconds, 0) / bucket)
            case .calls(let bucket): sequence.add(1, ordering: .relaxed).oldValue / bucket
            }
        let index = Int(tenth % UInt64(Self.bucketCount))
        let one: UInt64 = 1 << 32 | (isFailure ? 1 << 16 : 0) | (isSlow ? 1 : 0)
        var seen = buckets[index].load(ordering: .relaxed)
        while true {
            let isCurrent = seen >> 48 == Self.tag(tenth)
            if isCurrent, seen >> 32 & 0xffff == 0xffff { return tenth }
            let wanted = (isCurrent ? seen : Self.tag(tenth) << 48) + one
            let (exchanged, original) = buckets[index].compareExchange(expected: seen, desired: wanted, ordering: .relaxed)
            if exchanged { return tenth }
            seen = original
        }
    }

    /// The window that ends with `tenth`.
    func totals(at tenth: UInt64) -> Totals {
        var totals = Totals()
        for age in 0..<UInt64(Self.bucketCount) where age <= tenth {
            let word = buckets[Int((tenth - age) % UInt64(Self.bucketCount))].load(ordering: .relaxed)
            guard word >> 48 == Self.tag(tenth - age) else { continue }
            totals.calls += UInt32(word >> 32 & 0xffff)
            totals.failures += UInt32(word >> 16 & 0xffff)
            totals.slow += UInt32(word & 0xffff)
        }
        return totals
    }

    func totals(scale: Scale, now: Instant) -> Totals {
        switch scale {
        case .time(let bucket): return totals(at: UInt64(max(now.nanoseconds, 0) / bucket))
        case .calls(let bucket):
            let calls = sequence.load(ordering: .relaxed)
            return calls == 0 ? Totals() : totals(at: (calls - 1) / bucket)
        }
    }

    func clear() {
        for index in 0..<Self.bucketCount { buckets[index].store(0, ordering: .relaxed) }
        sequence.store(0, ordering: .relaxed)
    }

    /// Never 0, which an empty bucket has.
    private static func tag(_ tenth: UInt64) -> UInt64 { tenth % 0xffff + 1 }
}

/// When a window opens a breaker; workers read it without a lock.
struct TripRule: Hashable {
    var failurePercent: UInt32
    var slowPercent: UInt32
    var slowCall: Nanoseconds
    var minimumCalls: UInt32
    var scale: RateWindow.Scale

    init(failurePercent: UInt32, slowPercent: UInt32, slowCall: Nanoseconds, minimumCalls: UInt32, scale: RateWindow.Scale) {
        self.failurePercent = failurePercent
        self.slowPercent = slowPercent
        self.slowCall = slowCall
        self.minimumCalls = minimumCalls
        self.scale = scale
    }

    /// Nil if the policy looks at no window.
    init?(_ trip: BreakerPolicy.Trip) {
        guard trip.failurePercent != nil || trip.slowPercent != nil else { return nil }
        // Above 100: never reached.
        failurePercent = trip.failurePercent.map { max($0, 1) } ?? 101
        slowPercent = trip.slowPercent.map { max($0, 1) } ?? 101
        slowCall = Nanoseconds(trip.slowCall)
        let buckets = Int64(RateWindow.bucketCount)
        switch trip.window {
        case .time(let length):
            scale = .time(bucket: max(Nanoseconds(length).count / buckets, 1_000_000))
            minimumCalls = max(trip.minimumCalls, 1)
        case .calls(let count):
            let bucket = UInt64(max((Int64(count) + buckets - 1) / buckets, 1))
            scale = .calls(bucket: bucket)
            // What the window surely holds when it is full.
            minimumCalls = max(min(trip.minimumCalls, UInt32(clamping: bucket * UInt64(buckets - 1) + 1)), 1)
        }
    }

    var tenth: Nanoseconds {
        switch scale {
        case .time(let bucket): Nanoseconds(count: bucket)
        case .calls: .milliseconds(100)
        }
    }

    func reason(for totals: RateWindow.Totals) -> BreakerReason? {
        guard totals.calls >= minimumCalls else { return nil }
        let calls = UInt64(totals.calls)
        if UInt64(totals.failures) * 100 >= UInt64(failurePercent) * calls { return .failureRate }
        if UInt64(totals.slow) * 100 >= UInt64(slowPercent) * calls { return .slowRate }
        return nil
    }
}

/// Why a breaker moved.
public enum BreakerReason: String, Hashable, Sendable {
    case consecutiveErrors = "consecutive_errors"
    case failureRate = "failure_rate"
    case slowRate = "slow_rate"
    /// At a sweep: worse than the siblings' mean by more than the standard deviation allows.
    case successRate = "success_rate"
    /// At a sweep: too many failed.
    case failurePercentage = "failure_percentage"
    case probeFailed = "probe_failed"
    case probesPassed = "probes_passed"
    /// The time of its state is over.
    case timeOver = "time_over"
    case checkPassed = "check_passed"
    case forced = "forced"
    case released = "released"
}
