import Base
import Glibc
import ProxyConfig
import Resilience
import Synchronization
import Testing

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
        let fixture = OutlierFixture(.app(2, interval: .milliseconds(1), base: .milliseconds(1), percent: 40), hosts: 10)
        let detector = fixture.detector
        let hosts = fixture.hosts
        let start = fixture.now
        Self.race(threads: 3) { thread in
            var random = SeededRandom(seed: UInt64(thread))
            for step in 0..<20_000 {
                let now = start + Nanoseconds(count: Int64(step) * 10_000)
                if thread == 0 {
                    detector.sweep(now: now)
                    if step % 100 == 0 { _ = detector.setHosts(OutlierFixture.addresses(step % 200 == 0 ? 10 : 12), now: now) }
                } else {
                    detector.record(.timeout, on: hosts[random.below(10)], now: now)
                }
            }
        }
        #expect(detector.statistics.active <= 4)
        #expect(detector.statistics.active == UInt64(hosts.count(where: \.isEjected)))
        let statistics = detector.statistics
        #expect(statistics.detected == statistics.enforced + statistics.overflow)
        #expect(statistics.enforced > 10 && statistics.overflow > 10)
    }
}
