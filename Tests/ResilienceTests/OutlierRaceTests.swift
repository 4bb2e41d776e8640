import Base
import Glibc
import ProxyConfig
import Synchronization
import Testing

@testable import Resilience

@Suite("Workers race")
struct OutlierRaceTests {
    /// Runs `body` on real threads that start together.
    static func race(threads: Int, _ body: @escaping @Sendable (Int) -> Void) {
        final class Job: Sendable {
            let index: Int
            let body: @Sendable (Int) -> Void
            let gate: Gate
            init(_ index: Int, _ gate: Gate, _ body: @escaping @Sendable (Int) -> Void) {
                self.index = index
                self.body = body
                self.gate = gate
            }
        }
        final class Gate: Sendable {
            let missing: Atomic<Int>
            init(_ count: Int) { missing = Atomic(count) }
        }
        let gate = Gate(threads)
        var handles: [pthread_t] = []
        for index in 0..<threads {
            var handle = pthread_t()
            let job = unsafe Unmanaged.passRetained(Job(index, gate, body)).toOpaque()
            let result = unsafe pthread_create(
                &handle, nil,
                { argument in
                    guard let argument = unsafe argument else { return nil }
                    let job = unsafe Unmanaged<Job>.fromOpaque(argument).takeRetainedValue()
                    job.gate.missing.subtract(1, ordering: .acquiringAndReleasing)
                    while job.gate.missing.load(ordering: .acquiring) > 0 { sched_yield() }
                    job.body(job.index)
                    return nil
                }, job)
            precondition(result == 0, "pthread_create: \(result)")
            handles.append(handle)
        }
        for handle in handles { pthread_join(handle, nil) }
    }

    @Test("one host, errors from all threads: exactly one ejection, one event")
    func oneEjection() {
        for round in 0..<50 {
            let fixture = OutlierFixture(.app(5), hosts: 2, seed: UInt64(round))
            Self.race(threads: 4) { _ in fixture.fail(0, times: 200) }
            #expect(fixture.actions == [.eject], "round \(round)")
            #expect(fixture.detector.statistics == .init(active: 1, detected: 1, enforced: 1, overflow: 0), "round \(round)")
        }
    }

    @Test("no error is lost: N errors over all threads eject, N - 1 do not", arguments: [(threshold: 800, ejects: true), (801, false)])
    func exactCount(threshold: UInt32, ejects: Bool) {
        for round in 0..<20 {
            let fixture = OutlierFixture(.app(threshold), hosts: 1)
            Self.race(threads: 4) { _ in fixture.fail(0, times: 200) }
            #expect(fixture.ejected == (ejects ? [0] : []), "round \(round)")
        }
    }

    @Test("never more than the percentage, while hosts fail, return, leave and join")
    func neverAboveCap() {
        final class Shared: Sendable {
            let hosts: Mutex<[HostHealth]>
            let clock: Atomic<Int64>
            /// Of the reporting threads, so that the sweeping one does not run far ahead of them.
            let rounds = Atomic<Int>(0)
            let isDone = Atomic<Bool>(false)
            let highest = Atomic<UInt64>(0)

            init(_ fixture: OutlierFixture) {
                hosts = Mutex(fixture.hosts)
                clock = Atomic(fixture.now.nanoseconds)
            }
        }
        let fixture = OutlierFixture(.app(2, interval: .milliseconds(1), base: .milliseconds(4), percent: 40), hosts: 10)
        let detector = fixture.detector
        let events = fixture.events
        let shared = Shared(fixture)
        Self.race(threads: 3) { thread in
            var random = SeededRandom(seed: UInt64(thread))
            guard thread == 0 else {
                while !shared.isDone.load(ordering: .relaxed) {
                    let hosts = shared.hosts.withLock { $0 }
                    let now = Instant(nanoseconds: shared.clock.load(ordering: .relaxed))
                    for _ in 0..<100 { detector.record(.timeout, on: hosts[random.below(hosts.count)], now: now) }
                    shared.rounds.add(1, ordering: .relaxed)
                }
                return
            }
            // Until everything has happened often enough; the bound is for a defect.
            let addresses = OutlierFixture.addresses(12)
            var left = 0
            for step in 1...100_000 where left < 8 {
                let now = Instant(nanoseconds: shared.clock.add(100_000, ordering: .relaxed).newValue)
                detector.sweep(now: now)
                shared.highest.max(detector.statistics.active, ordering: .relaxed)
                if step.isMultiple(of: 50) {
                    let members = step.isMultiple(of: 100) ? addresses[..<10] : addresses[2...]
                    let hosts = detector.setHosts(Array(members), now: now)
                    shared.hosts.withLock { $0 = hosts }
                    left += events.drain().count { $0.reason == .hostLeft }
                }
                let rounds = shared.rounds.load(ordering: .relaxed)
                while shared.rounds.load(ordering: .relaxed) == rounds { sched_yield() }
            }
            shared.isDone.store(true, ordering: .relaxed)
        }
        #expect(shared.highest.load(ordering: .relaxed) == 4)
        let statistics = detector.statistics
        #expect(statistics.active == UInt64(detector.hosts.count { $0.ejectedUntil != nil }))
        #expect(statistics.detected == statistics.enforced + statistics.overflow)
        #expect(statistics.enforced >= 8 && statistics.overflow > 0)
    }

    @Test("slots are given out no more often than allowed, and none is lost")
    func slots() {
        final class Shared: Sendable {
            let slots = EjectionSlots()
            let inside = Atomic<Int>(0)
            let highest = Atomic<Int>(0)
        }
        let shared = Shared()
        shared.slots.allow(3)
        Self.race(threads: 4) { _ in
            for _ in 0..<200_000 where shared.slots.take() {
                shared.highest.max(shared.inside.add(1, ordering: .relaxed).newValue, ordering: .relaxed)
                shared.inside.subtract(1, ordering: .relaxed)
                shared.slots.giveBack()
            }
        }
        #expect(shared.slots.taken == 0 && shared.slots.hasRoom)
        #expect((1...3).contains(shared.highest.load(ordering: .relaxed)))
    }
}
