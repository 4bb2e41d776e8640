import Base
import Resilience
import Testing

struct WatchdogTests {
    private static func at(_ seconds: Double) -> Instant { Instant(nanoseconds: 1_000_000_000_000 + Int64(seconds * 1e9)) }

    /// Looks once a second, from second 1 on, at a worker whose turns began as given (nil = it waits).
    private static func findings(_ turns: [Double?], endTime: Nanoseconds? = .seconds(5)) -> [[Watchdog.Finding]] {
        var watchdog = Watchdog(workers: 1, endTime: endTime)
        return turns.enumerated().map { index, turn in
            watchdog.look(at: [turn.map(at)], now: at(Double(index + 1)), elapsed: .seconds(1))
        }
    }

    @Test("a worker that comes and goes is never found")
    func busy() {
        #expect(Self.findings([nil, 1.99, nil, 3.9, 4.6, 5.7, nil]).joined().isEmpty)
    }

    @Test("a turn that lasts is missed, then stuck, once each; then the process must end")
    func stuck() {
        let found = Self.findings([nil, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5])
        #expect(found[0] == [])
        #expect(found[1] == [.missed(worker: 0)])
        #expect(found[2] == [])
        #expect(found[3] == [.stuck(worker: 0, for: .milliseconds(2500))])
        #expect(found[4] == [])
        #expect(found[5] == [])
        #expect(found[6] == [.mustEnd(worker: 0, for: .milliseconds(5500))])
    }

    @Test("one that goes on is told of, and may be stuck again")
    func recovers() {
        let found = Self.findings([0.5, 0.5, 0.5, nil, 4.5, 4.5, 4.5], endTime: nil)
        #expect(found[2] == [.stuck(worker: 0, for: .milliseconds(2500))])
        #expect(found[3] == [.recovered(worker: 0, after: .milliseconds(2500))])
        #expect(found[4] == [.missed(worker: 0)])
        #expect(found[6] == [.stuck(worker: 0, for: .milliseconds(2500))])
    }

    @Test("without an end time nothing ends, however long")
    func endless() {
        let found = Self.findings(Array(repeating: 0.5, count: 100), endTime: nil).joined()
        #expect(found.count == 2)
    }

    @Test("after the whole process stood still, nobody is stuck")
    func frozen() {
        var watchdog = Watchdog(workers: 1, endTime: .seconds(5))
        let before = watchdog.look(at: [Self.at(0.9)], now: Self.at(1), elapsed: .seconds(1))
        #expect(before == [])
        // SIGSTOP for an hour, in the middle of a turn: the watcher stood still with the worker.
        let after = watchdog.look(at: [Self.at(0.9)], now: Self.at(3601), elapsed: .seconds(3600))
        #expect(after == [.missed(worker: 0)])
        let later = watchdog.look(at: [nil], now: Self.at(3602), elapsed: .seconds(1))
        #expect(later == [])
    }

    @Test("each worker is watched for itself")
    func several() {
        var watchdog = Watchdog(workers: 2, endTime: nil)
        var found: [Watchdog.Finding] = []
        for second in 1...4 {
            found += watchdog.look(at: [nil, Self.at(0.5)], now: Self.at(Double(second)), elapsed: .seconds(1))
        }
        #expect(found == [.missed(worker: 1), .stuck(worker: 1, for: .milliseconds(2500))])
    }
}
