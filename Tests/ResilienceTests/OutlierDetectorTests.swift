import Base
import ProxyConfig
import Resilience
import Testing

@Suite("Runs of errors")
struct RunTests {
    @Test("the N-th error in a row ejects, at once")
    func ejects() {
        let fixture = OutlierFixture(.app(5), hosts: 4)
        fixture.fail(2, times: 4)
        #expect(fixture.ejected == [])
        fixture.fail(2, times: 1)
        #expect(fixture.ejected == [2])
        #expect(fixture.detector.statistics == .init(active: 1, detected: 1, enforced: 1, overflow: 0))
    }

    @Test("one answer that is no error starts the run anew, wherever it stands")
    func reset() {
        let fixture = OutlierFixture(.app(5), hosts: 2)
        for answer in [AttemptOutcome.ok, .grpcError(code: 5)] {
            fixture.fail(0, times: 4)
            fixture.record(answer, on: 0)
            fixture.fail(0, times: 4)
            #expect(fixture.ejected == [])
            fixture.record(.ok, on: 0)
        }
    }

    @Test("neutral outcomes neither count nor reset")
    func neutral() {
        let fixture = OutlierFixture(.app(3), hosts: 2)
        fixture.fail(0, times: 2)
        fixture.record(.goawayUnprocessed, .overloadLocal, .clientCancel(slow: false), on: 0)
        #expect(fixture.ejected == [])
        #expect(fixture.detector.hosts[0].consecutiveErrors == 2)
        fixture.fail(0, times: 1)
        #expect(fixture.ejected == [0])
    }

    @Test("errors of all kinds make one run, and each host has its own")
    func mixed() {
        let fixture = OutlierFixture(.app(4), hosts: 2)
        fixture.record(.connectFailure, .timeout, .gateway(status: 503), on: 0)
        fixture.record(.ok, .ok, on: 1)
        fixture.record(.grpcError(code: 14), on: 0)
        #expect(fixture.ejected == [0])
        #expect(fixture.events.recent[0].host?.lastOutcomes == ["connect_failure", "timeout", "503", "grpc_unavailable"])
    }

    @Test("after a long time of success one error is seen with its history")
    func historyAfterSuccess() {
        let fixture = OutlierFixture(.app(1), hosts: 1)
        for _ in 0..<100 { fixture.record(.ok, on: 0) }
        fixture.record(.resetRemote, on: 0)
        #expect(fixture.events.recent[0].host?.lastOutcomes == ["ok", "ok", "ok", "ok", "ok", "ok", "ok", "reset_remote"])
    }

    @Test("without a configuration nothing is ever ejected, and there is nothing to sweep")
    func off() {
        let fixture = OutlierFixture(nil, hosts: 2)
        fixture.fail(0, times: 100)
        #expect(fixture.ejected == [])
        #expect(fixture.detector.nextSweep == .never)
        #expect(fixture.events.recent.isEmpty)
    }

    @Test("an ejected host's errors and successes in panic change nothing")
    func whileEjected() {
        var fixture = OutlierFixture(.app(5), hosts: 1)
        fixture.fail(0)
        let until = fixture.hosts[0].ejectedUntil
        fixture.fail(0, times: 50)
        fixture.record(.ok, on: 0)
        #expect(fixture.hosts[0].ejectedUntil == until)
        #expect(fixture.detector.statistics.detected == 1)
        _ = fixture.sweepUntilBack(0, since: fixture.now)
        fixture.fail(0, times: 4)
        #expect(fixture.ejected == [])
        fixture.fail(0, times: 1)
        #expect(fixture.ejected == [0])
    }
}

@Suite("The gate")
struct GateTests {
    /// Reference: max(1, whole part of n·p/100), and none at 0 percent.
    static let limits: [(hosts: Int, percent: UInt32, ejected: Int)] = [
        (1, 0, 0), (1, 1, 1), (1, 10, 1), (1, 50, 1), (1, 67, 1), (1, 100, 1),
        (2, 0, 0), (2, 1, 1), (2, 10, 1), (2, 50, 1), (2, 67, 1), (2, 100, 2),
        (3, 0, 0), (3, 1, 1), (3, 10, 1), (3, 50, 1), (3, 67, 2), (3, 100, 3),
        (4, 0, 0), (4, 1, 1), (4, 10, 1), (4, 50, 2), (4, 67, 2), (4, 100, 4),
        (5, 0, 0), (5, 1, 1), (5, 10, 1), (5, 50, 2), (5, 67, 3), (5, 100, 5),
        (10, 0, 0), (10, 1, 1), (10, 10, 1), (10, 50, 5), (10, 67, 6), (10, 100, 10),
    ]

    @Test("of n failing hosts at most p percent are ejected, but at least one", arguments: limits)
    func percent(hosts: Int, percent: UInt32, ejected: Int) {
        let fixture = OutlierFixture(.app(percent: percent), hosts: hosts)
        for host in 0..<hosts { fixture.fail(host) }
        #expect(fixture.ejected.count == ejected)
        let statistics = fixture.detector.statistics
        #expect(
            statistics
                == .init(active: UInt64(ejected), detected: UInt64(hosts), enforced: UInt64(ejected), overflow: UInt64(hosts - ejected)))
    }

    @Test("0 percent only detects, says so, and detects again after N more errors")
    func detectOnly() {
        let fixture = OutlierFixture(.app(5, percent: 0), hosts: 3)
        fixture.fail(0, times: 14)
        #expect(fixture.ejected == [])
        #expect(fixture.detector.statistics == .init(active: 0, detected: 2, enforced: 0, overflow: 2))
        #expect(fixture.events.recent.map(\.reason) == [.detectOnly])
    }

    @Test("enforcing 0 percent only detects")
    func neverEnforced() {
        let fixture = OutlierFixture(.app(enforcing: 0), hosts: 3)
        fixture.fail(0)
        #expect(fixture.ejected == [])
        #expect(fixture.detector.statistics == .init(active: 0, detected: 1, enforced: 0, overflow: 0))
        #expect(fixture.events.recent.map(\.reason) == [.enforcingPercent])
    }

    @Test("enforcing 30 percent ejects about three of ten")
    func sometimesEnforced() {
        let fixture = OutlierFixture(.app(1, enforcing: 30), hosts: 1000)
        for host in 0..<1000 { fixture.fail(host, times: 1) }
        #expect((250...350).contains(fixture.ejected.count), "\(fixture.ejected.count)")
    }

    @Test("a refused host is ejected by its next run once there is room")
    func roomAgain() {
        var fixture = OutlierFixture(.app(percent: 50), hosts: 2)
        fixture.fail(0)
        fixture.fail(1)
        #expect(fixture.ejected == [0])
        _ = fixture.sweepUntilBack(0, since: fixture.now)
        fixture.fail(1)
        #expect(fixture.ejected == [1])
    }

    @Test("a host that goes on failing while refused makes one event an interval, with the number of refusals")
    func suppressedOncePerInterval() {
        var fixture = OutlierFixture(.app(5, percent: 50), hosts: 2)
        fixture.fail(0)
        fixture.fail(1, times: 50)
        fixture.advance(.seconds(10))
        fixture.fail(1)
        let refused = fixture.events.recent.filter { $0.action == .suppressed }
        #expect(refused.map { $0.host?.refusals } == [1, 10])
        #expect(refused.allSatisfy { $0.reason == .maxEjectionPercent && !$0.isEnforced && $0.host?.address == fixture.hosts[1].address })
        #expect(fixture.detector.statistics.overflow == 11)
    }
}

@Suite("How long an ejection takes")
struct EjectionTimeTests {
    @Test("30, 60, ..., 300, 300 seconds for a host that always fails, then one step less for each quiet interval")
    func backoff() {
        var fixture = OutlierFixture(.app(interval: .seconds(10), base: .seconds(30)), hosts: 2)
        var times: [Duration] = []
        for _ in 0..<12 {
            let start = fixture.now
            fixture.fail(0)
            times.append(fixture.sweepUntilBack(0, since: start))
        }
        #expect(times == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300].map { .seconds($0) })
        #expect(fixture.detector.hosts[0].ejections == 12)

        var multipliers: [UInt32] = []
        for _ in 0..<11 {
            fixture.now = fixture.detector.nextSweep
            fixture.detector.sweep(now: fixture.now)
            multipliers.append(fixture.detector.hosts[0].multiplier)
        }
        #expect(multipliers == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0])
    }

    @Test("the sweep that brings a host back does not forgive it yet")
    func noDecayAtReturn() {
        var fixture = OutlierFixture(.app(), hosts: 2)
        fixture.fail(0)
        _ = fixture.sweepUntilBack(0, since: fixture.now)
        #expect(fixture.detector.hosts[0].multiplier == 1)
    }

    @Test("the multiplier stops at the first that reaches the cap: base 2 s, cap 7 s: 2, 4, 6, 7, 7; then four quiet intervals")
    func capIsNotOvershot() {
        var fixture = OutlierFixture(.app(interval: .seconds(1), base: .seconds(2), longest: .seconds(7)), hosts: 2)
        var times: [Duration] = []
        for _ in 0..<5 {
            let start = fixture.now
            fixture.fail(0)
            times.append(fixture.sweepUntilBack(0, since: start))
        }
        #expect(times == [2, 4, 6, 7, 7].map { .seconds($0) })
        #expect(fixture.detector.hosts[0].multiplier == 4)
    }

    @Test(
        "a host returns at the sweep after: 10 s with sweeps every 30 s take 10 s to below 40 s",
        arguments: [(0, 30), (5, 25), (19, 11), (20, 10), (21, 39), (29, 31)])
    func sweepRounding(startSecond: Int, expectedSeconds: Int) {
        var fixture = OutlierFixture(.app(interval: .seconds(30), base: .seconds(10)), hosts: 2)
        fixture.advance(.seconds(startSecond))
        let start = fixture.now
        fixture.fail(0)
        #expect(fixture.sweepUntilBack(0, since: start) == .seconds(expectedSeconds))
    }

    @Test("a sweep before its time does nothing; a late one does not shift those after it")
    func sweepGrid() {
        var fixture = OutlierFixture(.app(interval: .seconds(10), base: .seconds(5)), hosts: 2)
        let start = fixture.now
        fixture.fail(0)
        fixture.detector.sweep(now: start + Duration.seconds(9))
        #expect(fixture.ejected == [0])
        fixture.now = start + Duration.milliseconds(34_500)
        fixture.detector.sweep(now: fixture.now)
        #expect(fixture.ejected == [])
        #expect(fixture.detector.nextSweep == start + Duration.seconds(40))
    }

    @Test("jitter lengthens an ejection by up to a tenth, never shortens it, and follows the seed")
    func jitter() {
        func times(seed: UInt64) -> [Nanoseconds] {
            let fixture = OutlierFixture(.app(1, base: .seconds(100)), hosts: 500, jitterPercent: 10, seed: seed)
            for host in 0..<500 { fixture.fail(host, times: 1) }
            return fixture.hosts.compactMap { host in host.ejectedUntil.map { $0 - fixture.now } }
        }
        let seconds = times(seed: 7).map(\.seconds)
        #expect(seconds.count == 500)
        #expect(seconds.allSatisfy { (100...110).contains($0) })
        #expect(seconds.min() ?? 0 < 100.5 && seconds.max() ?? 0 > 109.5)
        #expect(times(seed: 7) == times(seed: 7))
        #expect(times(seed: 7) != times(seed: 8))
    }
}

@Suite("Members and configuration change while hosts are ejected")
struct ChangeTests {
    @Test("a host that leaves while ejected gives its place back, with an event")
    func leaves() {
        var fixture = OutlierFixture(.app(percent: 50), hosts: 2)
        fixture.fail(0)
        let old = fixture.hosts[0]
        fixture.hosts = fixture.detector.setHosts(Array(OutlierFixture.addresses(3)[1...]), now: fixture.now)
        #expect(fixture.detector.statistics.active == 0)
        #expect(fixture.events.recent.map(\.reason) == [.consecutiveErrors, .hostLeft])
        // A worker that has not heard of it yet still reports.
        for _ in 0..<20 { fixture.detector.record(.timeout, on: old, now: fixture.now) }
        #expect(fixture.detector.statistics == .init(active: 0, detected: 1, enforced: 1, overflow: 0))
        fixture.fail(0)
        #expect(fixture.ejected == [0])
    }

    @Test("who stays keeps everything, in whatever order it is named, and however often")
    func stays() {
        var fixture = OutlierFixture(.app(), hosts: 3)
        fixture.fail(1)
        fixture.fail(2, times: 4)
        let addresses = OutlierFixture.addresses(3)
        let epoch = fixture.detector.epoch
        let again = fixture.detector.setHosts([addresses[2], addresses[1], addresses[0], addresses[1]], now: fixture.now)
        #expect(again[0] === fixture.hosts[2] && again[1] === fixture.hosts[1] && again[3] === again[1])
        #expect(fixture.detector.epoch == epoch)
        fixture.hosts = again
        #expect(fixture.ejected == [1, 3])
        fixture.fail(0, times: 1)
        #expect(fixture.ejected == [0, 1, 3])
        #expect(fixture.detector.statistics.active == 2)
        #expect(fixture.detector.hosts.count == 3)
    }

    @Test(
        "who returns within the grace time is in, but its next ejection is as long as if it had stayed", arguments: [(299, 60), (301, 30)])
    func rejoins(awaySeconds: Int, expectedSeconds: Int) throws {
        var fixture = OutlierFixture(.app(), hosts: 2)
        fixture.fail(0)
        let addresses = OutlierFixture.addresses(2)
        _ = fixture.detector.setHosts([addresses[1]], now: fixture.now)
        fixture.advance(.seconds(awaySeconds))
        fixture.detector.sweep(now: fixture.now)
        fixture.hosts = fixture.detector.setHosts(addresses, now: fixture.now)
        #expect(fixture.ejected == [])
        fixture.fail(0, times: 4)
        #expect(fixture.ejected == [])
        fixture.fail(0, times: 1)
        let until = try #require(fixture.hosts[0].ejectedUntil)
        #expect((until - fixture.now).duration == .seconds(expectedSeconds))
    }

    @Test("a lower threshold ejects with the next error of a run that is already longer")
    func lowerThreshold() {
        let fixture = OutlierFixture(.app(10), hosts: 2)
        fixture.fail(0, times: 8)
        fixture.detector.update(configuration: .app(3), now: fixture.now)
        #expect(fixture.ejected == [])
        fixture.fail(0, times: 1)
        #expect(fixture.ejected == [0])
    }

    @Test("a new base time holds for hosts that are out", arguments: [(20, 20), (60, 60)])
    func newBase(baseSeconds: Int, expectedSeconds: Int) {
        var fixture = OutlierFixture(.app(), hosts: 2)
        let start = fixture.now
        fixture.fail(0)
        fixture.advance(.seconds(5))
        fixture.detector.update(configuration: .app(base: .seconds(baseSeconds)), now: fixture.now)
        #expect(fixture.sweepUntilBack(0, since: start) == .seconds(expectedSeconds))
    }

    @Test("a new interval moves the next sweep")
    func newInterval() {
        var fixture = OutlierFixture(.app(interval: .seconds(30)), hosts: 2)
        let start = fixture.now
        fixture.advance(.seconds(5))
        fixture.detector.update(configuration: .app(interval: .seconds(10)), now: fixture.now)
        #expect(fixture.detector.nextSweep == start + Duration.seconds(10))
        fixture.detector.update(configuration: .app(interval: .seconds(2)), now: fixture.now)
        #expect(fixture.detector.nextSweep == fixture.now)
    }

    @Test("a lower percentage throws nobody back in, and lets nobody out until enough returned")
    func lowerPercent() {
        let fixture = OutlierFixture(.app(), hosts: 4)
        for host in 0..<3 { fixture.fail(host) }
        fixture.detector.update(configuration: .app(percent: 50), now: fixture.now)
        fixture.fail(3)
        #expect(fixture.ejected == [0, 1, 2])
        #expect(fixture.detector.statistics.overflow == 1)
    }

    @Test("detection taken away brings all back at once; given again it starts at nothing")
    func switchedOff() {
        let fixture = OutlierFixture(.app(), hosts: 2)
        fixture.fail(0)
        fixture.detector.update(configuration: nil, now: fixture.now)
        #expect(fixture.ejected == [])
        #expect(fixture.events.recent.map(\.reason) == [.consecutiveErrors, .detectionOff])
        #expect(fixture.detector.statistics.active == 0)
        fixture.detector.update(configuration: .app(), now: fixture.now)
        #expect(fixture.detector.nextSweep == fixture.now + Duration.seconds(10))
        fixture.fail(0)
        #expect(fixture.ejected == [0])
    }

    @Test("the epoch changes at every eject, return and change of members, and at nothing else")
    func epoch() {
        var fixture = OutlierFixture(.app(percent: 50), hosts: 2)
        var epochs = [fixture.detector.epoch]
        fixture.fail(0)
        epochs.append(fixture.detector.epoch)
        _ = fixture.sweepUntilBack(0, since: fixture.now)
        epochs.append(fixture.detector.epoch)
        fixture.hosts = fixture.detector.setHosts(OutlierFixture.addresses(3), now: fixture.now)
        epochs.append(fixture.detector.epoch)
        #expect(Set(epochs).count == epochs.count)

        fixture.record(.ok, .timeout, on: 1)
        fixture.now = fixture.detector.nextSweep
        fixture.detector.sweep(now: fixture.now)
        #expect(fixture.detector.epoch == epochs.last)
    }
}
