import Balancing
import Base
import ProxyConfig
import Resilience
import Testing

/// Many callers, many hosts, and what goes wrong only then.
@Suite("A fleet in trouble")
struct FleetTests {
    private static func fleet(_ callers: Int, _ hosts: Int, perSecond: Double, seconds: Double = 20) -> Scenario {
        var scenario = Scenario()
        scenario.callers = callers
        scenario.hosts = hosts
        scenario.seconds = seconds
        scenario.rates = [(0, perSecond)]
        return scenario
    }

    @Test("AWS's walkthrough, two workers: 4 hosts, 50 calls a second, one always 500: 5 fail, then none")
    func walkthrough() {
        for seed in Seeds.all {
            var scenario = Self.fleet(1, 4, perSecond: 50, seconds: 9)
            scenario.workers = 2
            scenario.usesRetries = false
            scenario.policy.limiter = nil
            scenario.balancing = .roundRobin
            scenario.appMesh = OutlierDetection(
                consecutive5xx: 5, interval: .seconds(30), baseEjectionTime: .seconds(10), maxEjectionPercent: 100)
            scenario.troubles = [.init(hosts: 1..<2, from: 0, to: 9, kind: .errors(every: 1))]
            #expect(Simulator.run(scenario, seed: seed).failed() == 5, "seed \(seed)")

            scenario.troubles = [.init(hosts: 1..<4, from: 0, to: 9, kind: .errors(every: 1))]
            let panic = Simulator.run(scenario, seed: seed)
            let share = Double(panic.failed(5..<9)) / Double(panic.calls(5..<9).count)
            #expect((0.7...0.8).contains(share), "seed \(seed): \(share) in panic")
            #expect(panic.panics > 100, "seed \(seed)")
        }
    }

    @Test("hosts that fail at random for a while, all the time: at most two calls of a thousand fail")
    func flapping() {
        for seed in Seeds.all {
            var dice = SeededRandom(seed: seed)
            var scenario = Self.fleet(20, 10, perSecond: 1000)
            scenario.troubles = (0..<30).map { _ in
                let start = Double(dice.below(18_000)) / 1000
                let host = dice.below(4)
                let kinds: [Scenario.Trouble.Kind] = [.errors(every: 1), .errors(every: 2), .failing(share: 0.7), .dead]
                return .init(
                    hosts: host..<host + 1, from: start, to: start + 0.5 + Double(dice.below(2000)) / 1000, kind: kinds[dice.below(4)])
            }
            let outcome = Simulator.run(scenario, seed: seed)
            #expect(outcome.failed() * 500 <= outcome.calls.count, "seed \(seed): \(outcome.failed()) of \(outcome.calls.count)")
        }
    }

    @Test("every host fails: retries add at most a fifth, with hundreds of callers as with one", arguments: [(1, 400.0), (200, 2000.0)])
    func storm(callers: Int, perSecond: Double) {
        for seed in Seeds.all {
            var scenario = Self.fleet(callers, 10, perSecond: perSecond)
            scenario.troubles = [.init(hosts: 0..<10, from: 5, to: 15, kind: .errors(every: 1))]
            let outcome = Simulator.run(scenario, seed: seed)
            let calls = outcome.calls(5..<15).count
            // Beside the fifth: what each caller has saved, and three in ten seconds.
            let bound = Double(calls) * 0.2 + Double(callers * (10 + 3 + 1))
            #expect(Double(outcome.hits.count - calls) <= bound, "seed \(seed): \(outcome.hits.count) for \(calls)")
            #expect(callers > 1 || Double(outcome.hits.count) <= 1.21 * Double(calls), "seed \(seed): \(outcome.hits.count) for \(calls)")
            #expect(outcome.failed(16..<20) == 0, "seed \(seed)")
        }
    }

    @Test("a zone goes: its callers use the other, nobody fails, and its hosts come back gently")
    func zone() {
        for seed in Seeds.all {
            var scenario = Self.fleet(100, 20, perSecond: 2000)
            scenario.zones = 2
            // Hosts are dealt to zones in turn: every other one.
            scenario.troubles = stride(from: 0, to: 20, by: 2).map { .init(hosts: $0..<$0 + 1, from: 5, to: 12, kind: .dead) }
            let outcome = Simulator.run(scenario, seed: seed)
            #expect(outcome.failed() * 1000 <= outcome.calls.count, "seed \(seed): \(outcome.failed()) of \(outcome.calls.count)")
            #expect(outcome.failed(7..<20) == 0, "seed \(seed)")
            #expect(outcome.firstGood(of: 0, after: 12).map { $0 < 13 } == true, "seed \(seed)")
        }
    }

    @Test("a host that comes back is not overrun: in its first second it gets at most three quarters of its fair share, probes and all")
    func thunderingReturn() {
        for seed in Seeds.all {
            var scenario = Self.fleet(50, 5, perSecond: 1000)
            scenario.balancing = .leastRequest
            scenario.troubles = [.init(hosts: 0..<1, from: 5, to: 10, kind: .errors(every: 1))]
            let outcome = Simulator.run(scenario, seed: seed)
            guard let back = outcome.firstGood(of: 0, after: 10) else { Issue.record("seed \(seed): never back"); continue }
            let first = outcome.goodAnswers.count { $0.host == 0 && $0.at < back + 1 && $0.at >= back }
            #expect(first <= 1000 / 5 * 3 / 4, "seed \(seed): \(first)")
            #expect(outcome.failed(back..<20) == 0, "seed \(seed)")
        }
    }

    @Test("errors that all hosts have in common eject nobody: 30 percent of all calls fail")
    func common() {
        for seed in Seeds.all {
            var scenario = Self.fleet(1, 5, perSecond: 400)
            scenario.troubles = [.init(hosts: 0..<5, from: 2, to: 18, kind: .failing(share: 0.3))]
            let outcome = Simulator.run(scenario, seed: seed)
            // Chance makes a window now and then in which one looks much worse.
            #expect(outcome.ejections.count { $0.reason != .probeFailed } <= 10, "seed \(seed): \(outcome.ejections)")
        }
    }

    @Test("against no breaker: mean latency at least halved where a host hangs, and 99.99 percent succeed")
    func headline() {
        for seed in Seeds.all {
            for kind in [
                Scenario.Trouble.Kind.hang, .slow(.seconds(2)), .slow(.milliseconds(600)), .errors(every: 1), .failing(share: 0.5),
            ] {
                let with = ChaosTests.scenario(kind)
                var without = with
                without.usesBreakers = false
                without.usesRetries = false
                without.balancing = .roundRobin
                without.policy.limiter = nil
                let (good, bad) = (Simulator.run(with, seed: seed), Simulator.run(without, seed: seed))
                let succeeded = 1 - Double(good.failed()) / Double(good.calls.count)
                #expect(succeeded >= 0.9999, "seed \(seed), \(kind): \(succeeded)")
                switch kind {
                case .hang, .slow: #expect(good.mean(5..<15) * 2 <= bad.mean(5..<15), "seed \(seed), \(kind)")
                case .errors, .failing, .dead: #expect(bad.failed() > 100, "seed \(seed), \(kind)")
                }
            }
        }
    }

    @Test("a service's breaker: while all hosts fail few calls reach them, and it closes within seconds of their healing")
    func serviceBreaker() {
        for seed in Seeds.all {
            var scenario = Self.fleet(1, 5, perSecond: 200, seconds: 30)
            scenario.service = BreakerPolicy(
                trip: .init(window: .time(.seconds(2))), open: .init(base: .seconds(1), longest: .seconds(4)),
                ramp: Ramp(duration: .seconds(2)))
            scenario.troubles = [.init(hosts: 0..<5, from: 5, to: 15, kind: .errors(every: 1))]
            let outcome = Simulator.run(scenario, seed: seed)
            #expect(outcome.hits.count < 600, "seed \(seed): \(outcome.hits.count)")
            #expect(outcome.failed(23..<30) == 0, "seed \(seed): \(outcome.failed(23..<30))")
        }
    }

    @Test("the same seed gives the same run, another one another")
    func deterministic() {
        let scenario = ChaosTests.scenario(.failing(share: 0.5))
        let (one, same, other) = (Simulator.run(scenario, seed: 1), Simulator.run(scenario, seed: 1), Simulator.run(scenario, seed: 2))
        #expect(one.calls.map(\.milliseconds) == same.calls.map(\.milliseconds))
        #expect(one.calls.map(\.milliseconds) != other.calls.map(\.milliseconds))
    }
}
