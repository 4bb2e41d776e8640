import Base
import Testing

@testable import Reactor

private final class Recorder: Timed {
    var firedAt: [Int64] = []

    override func deadlineReached(now: Instant) {
        firedAt.append(now.nanoseconds)
    }
}

@Suite struct TimerWheelTests {
    private static let tick: Int64 = 1 << 22

    private func advance(_ wheel: inout TimerWheel, to now: Instant) {
        while let due = wheel.nextExpired(now: now) { due.deadlineReached(now: now) }
    }

    @Test("A deadline fires once, never early and at most two ticks late, however the clock steps", arguments: 0..<50)
    func firesOnce(seed: Int) {
        var random = SeededRandom(seed: UInt64(seed))
        let start = Int64(random.below(1 << 50))
        var wheel = TimerWheel(now: Instant(nanoseconds: start))
        var expected: [(Recorder, Int64)] = []
        var now = start
        for _ in 0..<400 {
            if random.below(3) > 0 {
                let recorder = Recorder()
                let span = Int64(random.below(1 << (20 + random.below(24))))
                wheel.set(recorder, Instant(nanoseconds: now + span))
                expected.append((recorder, now + span))
            }
            // As the loop does: never sleep past what the wheel asks for.
            let step = Int64(random.below(1 << (16 + random.below(22))))
            let wanted = min(now + step, wheel.nextExpiry()?.nanoseconds ?? .max)
            now = max(now, wanted)
            advance(&wheel, to: Instant(nanoseconds: now))
            for (recorder, deadline) in expected where deadline + 2 * Self.tick <= now {
                #expect(recorder.firedAt.count == 1, "seed \(seed)")
            }
        }
        for (recorder, deadline) in expected {
            for fired in recorder.firedAt {
                #expect(fired >= deadline && fired <= deadline + 2 * Self.tick, "seed \(seed): due \(deadline), fired \(fired)")
            }
            wheel.cancel(recorder)
        }
    }

    @Test("A deadline that moved later fires at the later time only")
    func movesLater() {
        var wheel = TimerWheel(now: Instant(nanoseconds: 0))
        let recorder = Recorder()
        for second in 1...100 {
            wheel.set(recorder, Instant(nanoseconds: Int64(second) * 1_000_000_000))
        }
        advance(&wheel, to: Instant(nanoseconds: 99_000_000_000))
        #expect(recorder.firedAt.isEmpty)
        advance(&wheel, to: Instant(nanoseconds: 100_010_000_000))
        #expect(recorder.firedAt.count == 1)
        #expect(wheel.nextExpiry() == nil)
    }

    @Test("A deadline that moved earlier fires at the earlier time")
    func movesEarlier() {
        var wheel = TimerWheel(now: Instant(nanoseconds: 0))
        let recorder = Recorder()
        wheel.set(recorder, Instant(nanoseconds: 3_600_000_000_000))
        wheel.set(recorder, Instant(nanoseconds: 1_000_000_000))
        advance(&wheel, to: Instant(nanoseconds: 1_010_000_000))
        #expect(recorder.firedAt.count == 1)
    }

    @Test("Cancelled, or set to never, it does not fire, and nothing is left to wake up for")
    func cancelled() {
        var wheel = TimerWheel(now: Instant(nanoseconds: 0))
        let recorder = Recorder()
        wheel.set(recorder, Instant(nanoseconds: 1_000_000_000))
        wheel.cancel(recorder)
        #expect(wheel.nextExpiry() == nil)
        wheel.set(recorder, Instant(nanoseconds: 1_000_000_000))
        wheel.set(recorder, .never)
        advance(&wheel, to: Instant(nanoseconds: 5_000_000_000))
        #expect(recorder.firedAt.isEmpty)
        #expect(wheel.nextExpiry() == nil)
    }
}
