import Base
import ProxyConfig
import Synchronization

/// Proof that a call is a probe, and of which round. A stream keeps it and hands it back with its outcome.
public struct ProbeTicket: Hashable, Sendable {
    /// The half-open state's word; 0 = no probe.
    let round: UInt64

    public static let none = ProbeTicket(round: 0)
    public var isProbe: Bool { round != 0 }
}

/// The probes of a half-open breaker: how many were let through, and what they said. One 64-bit word: the round (40 bits of its
/// state's word), then 8 bits each of granted, passed and failed.
///
/// A round begins by itself when its first probe is asked for, so whoever moves the breaker need not come here.
struct ProbeGate: ~Copyable {
    enum Verdict: Hashable {
        case passed
        case failed
    }

    private let word = Atomic<UInt64>(0)

    /// Nil if as many are under way as may be, or enough were let through.
    func take(in state: BreakerState, rule: BreakerPolicy.Probe.Calls) -> ProbeTicket? {
        var seen = word.load(ordering: .relaxed)
        while true {
            var counts = Counts(seen, round: state.bits)
            let underWay = counts.granted - counts.passed - counts.failed
            guard counts.granted < rule.count, underWay < rule.concurrency else { return nil }
            counts.granted += 1
            let (exchanged, original) = word.compareExchange(
                expected: seen, desired: counts.word(round: state.bits), ordering: .acquiringAndReleasing)
            if exchanged { return ProbeTicket(round: state.bits) }
            seen = original
        }
    }

    /// Takes in what a probe said; nil gives its place back, since it said nothing. The verdict comes once a round, to the call that
    /// decides it.
    func finish(_ ticket: ProbeTicket, isSuccess: Bool?, rule: BreakerPolicy.Probe.Calls) -> Verdict? {
        var seen = word.load(ordering: .relaxed)
        while true {
            guard Counts.isOf(round: ticket.round, seen) else { return nil }
            var counts = Counts(seen, round: ticket.round)
            let before = counts.verdict(rule)
            switch isSuccess {
            case .some(true): counts.passed += 1
            case .some(false): counts.failed += 1
            case .none: counts.granted -= 1
            }
            let (exchanged, original) = word.compareExchange(
                expected: seen, desired: counts.word(round: ticket.round), ordering: .acquiringAndReleasing)
            if exchanged { return before == nil ? counts.verdict(rule) : nil }
            seen = original
        }
    }

    /// How far the round of a half-open state is.
    func progress(in state: BreakerState) -> ProbeProgress {
        let counts = Counts(word.load(ordering: .relaxed), round: state.bits)
        return ProbeProgress(granted: counts.granted, passed: counts.passed, failed: counts.failed)
    }

    private struct Counts {
        var granted: UInt32
        var passed: UInt32
        var failed: UInt32

        static func isOf(round: UInt64, _ word: UInt64) -> Bool { word >> 24 == (round >> 3) & ((1 << 40) - 1) }

        init(_ word: UInt64, round: UInt64) {
            let isSame = Self.isOf(round: round, word)
            granted = isSame ? UInt32(word >> 16 & 0xff) : 0
            passed = isSame ? UInt32(word >> 8 & 0xff) : 0
            failed = isSame ? UInt32(word & 0xff) : 0
        }

        func word(round: UInt64) -> UInt64 {
            ((round >> 3) & ((1 << 40) - 1)) << 24 | UInt64(granted) << 16 | UInt64(passed) << 8 | UInt64(failed)
        }

        func verdict(_ rule: BreakerPolicy.Probe.Calls) -> Verdict? {
            let needed = (rule.count * rule.successPercent + 99) / 100
            if passed >= needed { return .passed }
            if failed > rule.count - needed { return .failed }
            return nil
        }
    }
}

/// The probes of one round, for operators.
public struct ProbeProgress: Hashable, Sendable {
    public var granted: UInt32
    public var passed: UInt32
    public var failed: UInt32
}
