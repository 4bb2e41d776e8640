import Base
import Synchronization

/// What `OutlierDetector.record` must know of the rules without taking their lock.
///
/// Each word is whole; together they may be of two configurations for a moment, which at worst moves one decision by one call.
struct HotRules: ~Copyable {
    /// Bit 32: windows; bit 33: rates compared at sweeps; bit 34: detection is on. Below: errors in a row that eject, all ones = never.
    private let word = Atomic<UInt64>(0)
    private let shares = Atomic<UInt64>(0)
    private let slowCall = Atomic<Int64>(0)
    /// Of time if positive, of calls if negative.
    private let bucket = Atomic<Int64>(1)

    struct Word {
        let bits: UInt64
        var isOn: Bool { bits != 0 }
        var threshold: UInt32 { UInt32(truncatingIfNeeded: bits) }
        var looksAtWindows: Bool { bits & 1 << 32 != 0 }
        var comparesRates: Bool { bits & 1 << 33 != 0 }
        /// Nothing but runs is counted.
        var countsRunsOnly: Bool { bits & (3 << 32) == 0 }
    }

    func load() -> Word { Word(bits: word.load(ordering: .relaxed)) }

    func trip() -> TripRule {
        let shares = shares.load(ordering: .relaxed)
        let bucket = bucket.load(ordering: .relaxed)
        return TripRule(
            failurePercent: UInt32(shares >> 48), slowPercent: UInt32(shares >> 32 & 0xffff),
            slowCall: Nanoseconds(count: slowCall.load(ordering: .relaxed)), minimumCalls: UInt32(truncatingIfNeeded: shares),
            scale: bucket > 0 ? .time(bucket: bucket) : .calls(bucket: UInt64(-bucket)))
    }

    func store(_ rules: EjectionRules?) {
        guard let rules else { return word.store(0, ordering: .relaxed) }
        if let trip = rules.trip {
            let percents = UInt64(min(trip.failurePercent, 0xffff)) << 48 | UInt64(min(trip.slowPercent, 0xffff)) << 32
            shares.store(percents | UInt64(trip.minimumCalls), ordering: .relaxed)
            slowCall.store(trip.slowCall.count, ordering: .relaxed)
            switch trip.scale {
            case .time(let length): bucket.store(length, ordering: .relaxed)
            case .calls(let count): bucket.store(-Int64(count), ordering: .relaxed)
            }
        }
        let flags: UInt64 = 1 << 34 | (rules.trip != nil ? 1 << 32 : 0) | (rules.comparesRates ? 1 << 33 : 0)
        word.store(flags | UInt64(rules.threshold ?? .max), ordering: .relaxed)
    }
}
