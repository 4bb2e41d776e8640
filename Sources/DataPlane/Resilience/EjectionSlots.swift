import Synchronization

/// How many endpoints of a cluster are ejected and how many may be, in one word, so that racing ejections never pass the limit.
///
/// A slot is taken before a breaker opens and given back after it closed: the ejected are never more than the taken.
struct EjectionSlots: ~Copyable {
    /// Allowed in the upper half, taken in the lower.
    private let word = Atomic<UInt64>(0)

    var taken: UInt32 { Self.taken(word.load(ordering: .relaxed)) }

    var hasRoom: Bool {
        let seen = word.load(ordering: .relaxed)
        return Self.taken(seen) < Self.allowed(seen)
    }

    /// False if as many are ejected as may be.
    func take() -> Bool {
        var seen = word.load(ordering: .relaxed)
        while Self.taken(seen) < Self.allowed(seen) {
            let (exchanged, original) = word.compareExchange(expected: seen, desired: seen + 1, ordering: .acquiringAndReleasing)
            if exchanged { return true }
            seen = original
        }
        return false
    }

    func giveBack() {
        let old = word.subtract(1, ordering: .acquiringAndReleasing).oldValue
        precondition(Self.taken(old) > 0, "an ejection slot was given back twice")
    }

    /// Fewer than are taken: nobody comes back for it, but nobody follows until enough did.
    func allow(_ count: UInt32) {
        var seen = word.load(ordering: .relaxed)
        while true {
            let wanted = UInt64(count) << 32 | UInt64(Self.taken(seen))
            let (exchanged, original) = word.compareExchange(expected: seen, desired: wanted, ordering: .acquiringAndReleasing)
            if exchanged { return }
            seen = original
        }
    }

    private static func taken(_ word: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: word) }
    private static func allowed(_ word: UInt64) -> UInt32 { UInt32(word >> 32) }
}
