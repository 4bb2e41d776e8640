import Base
import ProxyConfig
import Synchronization
import Testing

@testable import Resilience

/// A service's breaker with a clock that a test moves by hand.
private final class Service {
    let breaker: CircuitBreaker
    let changes: Changes
    var now = Instant(nanoseconds: 1_000_000_000)
    var random = SeededRandom(seed: 1)

    final class Changes: Sendable {
        let all = Mutex<[CircuitBreaker.Change]>([])
        var reasons: [BreakerReason] { all.withLock { $0.map(\.reason) } }
        var phases: [BreakerState.Phase] { all.withLock { $0.map(\.new.phase) } }
    }

    init(_ policy: BreakerPolicy, taking old: CircuitBreaker? = nil) {
        let changes = Changes()
        self.changes = changes
        breaker = CircuitBreaker(name: "cart", policy: policy, taking: old) { change in changes.all.withLock { $0.append(change) } }
    }

    func admit(mayProbe: Bool = true) -> CircuitBreaker.Admission {
        breaker.admit(mayProbe: mayProbe, now: now, random: &random)
    }

    /// A call of 1 ms, if it is admitted. Whether it was.
    @discardableResult
    func call(_ outcome: AttemptOutcome = .ok, takes: Duration = .milliseconds(1)) -> Bool {
        let admission = admit()
        if case .refuse = admission { return false }
        breaker.record(outcome, elapsed: Nanoseconds(takes), admission: admission, now: now, random: &random)
        return true
    }

    func advance(_ span: Duration) { now = now + span }
}

extension BreakerPolicy {
    fileprivate static func test(
        trip: Trip = Trip(), open: Open = Open(base: .seconds(5), longest: .seconds(60), jitterPercent: 0),
        probe: Probe = .calls(.init(count: 3, concurrency: 1, longestWait: .seconds(10))), ramp: Ramp = .none, mode: Mode = .enforce
    ) -> BreakerPolicy {
        BreakerPolicy(mode: mode, trip: trip, open: open, probe: probe, ramp: ramp)
    }
}

private let fault = AttemptOutcome.http5xx(status: 500)

@Suite("A service's breaker")
struct CircuitBreakerTests {
    @Test("opens at the failure rate, not below, and not with fewer calls than the minimum")
    func failureRate() {
        let service = Service(.test())
        for _ in 0..<10 { service.call() }
        for _ in 0..<9 { service.call(fault) }
        #expect(service.breaker.state == .closed)  // 19 calls.
        service.call(fault)
        #expect(service.breaker.state.phase == .open)
        #expect(service.changes.reasons == [.failureRate])

        let better = Service(.test())
        for call in 0..<1000 { better.call(call * 45 % 100 < 45 ? fault : .ok) }
        #expect(better.breaker.state == .closed)
    }

    @Test("opens when too many calls are slow; a slow failure counts as both; at the limit is not slow")
    func slowRate() {
        let service = Service(.test(trip: .init(failurePercent: nil, slowPercent: 80, minimumCalls: 10)))
        for _ in 0..<20 { service.call(takes: .seconds(5)) }
        #expect(service.breaker.state == .closed)
        for _ in 0..<79 { service.call(fault, takes: .seconds(6)) }
        #expect(service.breaker.state == .closed)
        service.call(takes: .seconds(6))
        #expect(service.changes.reasons == [.slowRate])
    }

    @Test("opens after a run of errors; a success between them starts it anew; neutral outcomes do nothing")
    func run() {
        let service = Service(.test(trip: .init(consecutiveErrors: 3, failurePercent: nil)))
        for _ in 0..<2 { service.call(fault) }
        service.call(.ok)
        for _ in 0..<2 { service.call(fault) }
        for outcome in [AttemptOutcome.overloadLocal, .overloadRemote, .goawayUnprocessed, .clientCancel(slow: false)] {
            service.call(outcome)
        }
        #expect(service.breaker.state == .closed)
        service.call(fault)
        #expect(service.changes.reasons == [.consecutiveErrors])
    }

    @Test("open refuses everything and says for how long; then one probe at a time, three must pass; then it is closed")
    func probing() {
        let service = Service(.test(trip: .init(consecutiveErrors: 1)))
        service.call(fault)
        service.advance(.seconds(2))
        #expect(service.admit() == .refuse(retryAfter: .seconds(3)))
        service.advance(.seconds(3))
        for probe in 0..<3 {
            #expect(service.admit(mayProbe: false) == .refuse(retryAfter: .zero), "probe \(probe)")
            let admission = service.admit()
            guard case .probe = admission else { Issue.record("probe \(probe): \(admission)"); return }
            #expect(service.admit() == .refuse(retryAfter: .zero))
            service.breaker.record(.ok, elapsed: .zero, admission: admission, now: service.now, random: &service.random)
        }
        #expect(service.breaker.state == .closed)
        #expect(service.changes.reasons == [.consecutiveErrors, .timeOver, .probesPassed])
        #expect(service.breaker.report(now: service.now).probes == 3)
    }

    @Test("one failed probe opens it again, for twice as long; after long good behaviour the first time counts again")
    func backoff() {
        let service = Service(.test(trip: .init(consecutiveErrors: 1)))
        var times: [Double] = []
        for _ in 0..<6 {
            service.call(fault)
            times.append((service.breaker.state.instant - service.now).seconds)
            service.now = service.breaker.state.instant
        }
        #expect(times == [5, 10, 20, 40, 60, 60])
        for _ in 0..<3 { service.call() }
        #expect(service.breaker.state == .closed)
        service.advance(.seconds(119))
        service.call(fault)
        #expect((service.breaker.state.instant - service.now).seconds == 60)
        service.now = service.breaker.state.instant
        for _ in 0..<3 { service.call() }
        service.advance(.seconds(120))
        service.call(fault)
        #expect((service.breaker.state.instant - service.now).seconds == 5)
    }

    @Test("a probe that never ends blocks for its longest wait, one that says nothing for no time; a late one decides nothing")
    func lostProbe() {
        let service = Service(.test(trip: .init(consecutiveErrors: 1), probe: .calls(.init(count: 1, longestWait: .seconds(10)))))
        service.call(fault)
        service.advance(.seconds(5))
        let cancelled = service.admit()
        service.breaker.record(.clientCancel(slow: false), elapsed: .zero, admission: cancelled, now: service.now, random: &service.random)
        let lost = service.admit()
        guard case .probe = lost else { Issue.record("\(lost)"); return }
        service.advance(.milliseconds(9_999))
        #expect(service.admit() == .refuse(retryAfter: .zero))
        service.advance(.milliseconds(1))
        let second = service.admit()
        guard case .probe = second else { Issue.record("\(second)"); return }
        service.breaker.record(fault, elapsed: .zero, admission: lost, now: service.now, random: &service.random)
        #expect(service.breaker.state.phase == .halfOpen)
        service.breaker.record(.ok, elapsed: .zero, admission: second, now: service.now, random: &service.random)
        #expect(service.breaker.state == .closed)
    }

    @Test(
        "of n probes a share must pass; it opens as soon as that cannot be reached",
        arguments: [(5, 60, [true, false, true, false, true], true), (5, 60, [false, false, false], false), (1, 100, [true], true)])
    func share(count: UInt32, percent: UInt32, results: [Bool], closes: Bool) {
        let service = Service(
            .test(trip: .init(consecutiveErrors: 1), probe: .calls(.init(count: count, concurrency: 5, successPercent: percent))))
        service.call(fault)
        service.advance(.seconds(5))
        for (index, result) in results.enumerated() {
            #expect(service.breaker.state.phase == (index == 0 ? .open : .halfOpen))
            service.call(result ? .ok : fault)
        }
        #expect(service.breaker.state.phase == (closes ? .closed : .open))
    }

    @Test("on the ramp a growing share passes, and what fails opens it again")
    func ramp() {
        let service = Service(
            .test(trip: .init(consecutiveErrors: 1), probe: .none, ramp: Ramp(duration: .seconds(10), startPercent: 10)))
        service.call(fault)
        service.advance(.seconds(5))
        for (second, expected) in [(0, 0.1), (1, 0.1), (3, 0.3), (5, 0.5), (9, 0.9), (10, 1.0)] {
            let passed = (0..<2000).count { _ in service.admit() == .pass }
            #expect(abs(Double(passed) / 2000 - expected) < 0.04, "after \(second) s: \(passed)")
            service.advance(.seconds([1, 2, 2, 4, 1, 0][[0, 1, 3, 5, 9, 10].firstIndex(of: second) ?? 0]))
        }
        #expect(service.breaker.state == .closed)
        #expect(service.changes.phases == [.open, .ramping, .closed])
    }

    @Test("observing it counts and tells once a window, and refuses nobody", arguments: [true, false])
    func observing(byPolicy: Bool) {
        let service = Service(.test(mode: byPolicy ? .observe : .enforce))
        if !byPolicy { service.breaker.force(.observing, until: service.now + Duration.seconds(60), now: service.now) }
        for _ in 0..<40 { #expect(service.call(fault)) }
        #expect(service.breaker.report(now: service.now).observed == 2)
        #expect(!service.breaker.state.isRefusing)
        #expect(service.changes.all.withLock { $0.count { !$0.isEnforced } } == 2)
    }

    @Test("forced open refuses until its time is over or it is released; disabled counts nothing")
    func forced() {
        let service = Service(.test(trip: .init(consecutiveErrors: 1)))
        service.breaker.force(.forcedOpen, until: service.now + Duration.seconds(60), now: service.now)
        #expect(service.admit() == .refuse(retryAfter: .seconds(60)))
        service.advance(.seconds(60))
        #expect(service.admit() == .pass)
        service.breaker.force(.disabled, until: service.now + Duration.seconds(60), now: service.now)
        for _ in 0..<100 { #expect(service.call(fault)) }
        service.breaker.release(now: service.now)
        #expect(service.breaker.state == .closed)
        service.call(fault)
        #expect(service.breaker.state.phase == .open)
    }

    @Test("a new policy takes over what the old one knew")
    func takeOver() {
        let service = Service(.test(trip: .init(consecutiveErrors: 1)))
        service.call(fault)
        let next = Service(.test(trip: .init(consecutiveErrors: 7)), taking: service.breaker)
        next.now = service.now
        #expect(next.breaker.state == service.breaker.state)
        #expect(next.admit() == .refuse(retryAfter: .seconds(5)))
        #expect(next.breaker.report(now: next.now).opened == 1)
    }

    @Test("however many threads fail at once, it opens once")
    func race() {
        for round in 0..<20 {
            let service = Service(.test(trip: .init(consecutiveErrors: 5)))
            let breaker = service.breaker
            OutlierRaceTests.race(threads: 4) { thread in
                var random = SeededRandom(seed: UInt64(thread))
                for _ in 0..<100 {
                    let now = Instant(nanoseconds: 1_000_000_000)
                    let admission = breaker.admit(now: now, random: &random)
                    if case .refuse = admission { continue }
                    breaker.record(fault, elapsed: .zero, admission: admission, now: now, random: &random)
                }
            }
            #expect(service.changes.phases == [.open], "round \(round)")
        }
    }
}
