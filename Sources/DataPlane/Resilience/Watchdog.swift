public import Base

/// Finds workers that do not return to their loop. Looked at by another thread, about once a second.
///
/// Only time that the watcher has seen counts: after the machine, or the whole process, stood still, nobody is stuck.
public struct Watchdog: Sendable {
    public enum Finding: Hashable, Sendable {
        /// In one turn of its loop for longer than `missTime`.
        case missed(worker: Int)
        /// For longer than `stuckTime`: told once for each turn.
        case stuck(worker: Int, for: Nanoseconds)
        /// For longer than the process is to live with it.
        case mustEnd(worker: Int, for: Nanoseconds)
        /// It was stuck, and goes on.
        case recovered(worker: Int, after: Nanoseconds)
    }

    private struct Watch {
        var turn: Instant?
        var seen = Nanoseconds.zero
        var wasMissed = false
        var wasStuck = false
    }

    public static let missTime = Nanoseconds.milliseconds(500)
    public static let stuckTime = Nanoseconds.seconds(2)
    /// Of the time since the last look so much counts.
    private static let longestStep = Nanoseconds.milliseconds(1500)

    /// Nil = never.
    public var endTime: Nanoseconds?
    private var watches: [Watch]

    public init(workers: Int, endTime: Nanoseconds?) {
        watches = Array(repeating: Watch(), count: workers)
        self.endTime = endTime
    }

    /// - Parameters:
    ///   - turns: of each worker: when its turn began; nil = it waits for events.
    ///   - elapsed: since the last look.
    public mutating func look(at turns: [Instant?], now: Instant, elapsed: Nanoseconds) -> [Finding] {
        var findings: [Finding] = []
        let step = min(elapsed, Self.longestStep)
        for (index, turn) in turns.enumerated() where index < watches.count {
            if let turn, turn == watches[index].turn {
                watches[index].seen.count += step.count
            } else {
                if watches[index].wasStuck { findings.append(.recovered(worker: index, after: watches[index].seen)) }
                watches[index] = Watch(turn: turn)
                if let turn { watches[index].seen = min(step, max(.zero, now - turn)) }
            }
            let seen = watches[index].seen
            if seen >= Self.missTime, !watches[index].wasMissed {
                watches[index].wasMissed = true
                findings.append(.missed(worker: index))
            }
            if seen >= Self.stuckTime, !watches[index].wasStuck {
                watches[index].wasStuck = true
                findings.append(.stuck(worker: index, for: seen))
            }
            if let endTime, seen >= endTime { findings.append(.mustEnd(worker: index, for: seen)) }
        }
        return findings
    }
}
