import Base
import ProxyConfig
import Resilience
import Testing

/// `SIMULATION_SEEDS=2000 swift test -c release --filter Simulation` runs many, `SIMULATION_SEED=17` one again.
enum Seeds {
    static var all: [UInt64] {
        if let one = environment("SIMULATION_SEED").flatMap(UInt64.init) { return [one] }
        let count = environment("SIMULATION_SEEDS").flatMap(UInt64.init) ?? 2
        return (0..<count).map { $0 }
    }
}

@Suite("One policy under all kinds of trouble: 200 calls a second, five hosts, trouble from second 5 to 15")
struct ChaosTests {
    static let during = 5.0..<15.0

    static func scenario(_ kind: Scenario.Trouble.Kind, hosts: Range<Int> = 0..<1) -> Scenario {
        var scenario = Scenario()
        scenario.troubles = [.init(hosts: hosts, from: 5, to: 15, kind: kind)]
        return scenario
    }

    static var flappingScenario: Scenario {
        var scenario = Scenario()
        scenario.troubles = [5.0, 9, 13].map { .init(hosts: 0..<2, from: $0, to: min($0 + 2, 15), kind: .errors(every: 1)) }
        return scenario
    }

    static var overloadedScenario: Scenario {
        var scenario = Scenario()
        scenario.limit = .servers(1, service: .milliseconds(20))
        scenario.rates = [(0, 100), (5, 400), (15, 100)]
        return scenario
    }

    @Test("a host answers 500: 0 failed, at most 5 hits, p99.9 at most 15 ms")
    func errors() {
        for seed in Seeds.all {
            let outcome = Simulator.run(Self.scenario(.errors(every: 1)), seed: seed)
            #expect(outcome.failed() == 0, "seed \(seed)")
            #expect(outcome.hits.count <= 5, "seed \(seed): \(outcome.hits)")
            #expect(outcome.percentile(0.999, Self.during) <= 15, "seed \(seed)")
        }
    }

    @Test("every second answer of a host is a 500: 0 failed, out within 1.5 s, back within 3 s of healing")
    func everySecond() throws {
        for seed in Seeds.all {
            let outcome = Simulator.run(Self.scenario(.errors(every: 2)), seed: seed)
            #expect(outcome.failed() == 0, "seed \(seed)")
            let out = try #require(outcome.ejections.first { $0.host == 0 }, "seed \(seed)")
            #expect(out.at <= 6.5, "seed \(seed): \(out)")
            let back = try #require(outcome.firstGood(of: 0, after: 15), "seed \(seed)")
            #expect(back <= 18, "seed \(seed): \(back)")
        }
    }

    @Test("a host hangs: 0 failed, at most 5 calls over 1 s")
    func hang() {
        for seed in Seeds.all {
            let outcome = Simulator.run(Self.scenario(.hang), seed: seed)
            #expect(outcome.failed() == 0, "seed \(seed)")
            #expect(outcome.calls.count { $0.milliseconds > 1000 } <= 5, "seed \(seed)")
        }
    }

    @Test("a host answers in 2 s: 0 failed, at most 10 hits, p99 at most 10 ms")
    func slow() {
        for seed in Seeds.all {
            let outcome = Simulator.run(Self.scenario(.slow(.seconds(2))), seed: seed)
            #expect(outcome.failed() == 0, "seed \(seed)")
            #expect(outcome.hits.count <= 10, "seed \(seed): \(outcome.hits)")
            #expect(outcome.percentile(0.99, Self.during) <= 10, "seed \(seed)")
        }
    }

    @Test("a host answers in 0.6 s, below every timeout: at most 17 slow calls, p99 below 20 ms")
    func gray() {
        for seed in Seeds.all {
            let outcome = Simulator.run(Self.scenario(.slow(.milliseconds(600))), seed: seed)
            #expect(outcome.failed() == 0, "seed \(seed)")
            #expect(outcome.calls.count { $0.milliseconds > 500 } <= 17, "seed \(seed)")
            #expect(outcome.percentile(0.99, Self.during) < 20, "seed \(seed)")
        }
    }

    @Test("a host is killed: 0 failed, at most 5 failed attempts, back within 1 s")
    func killed() throws {
        for seed in Seeds.all {
            let outcome = Simulator.run(Self.scenario(.dead), seed: seed)
            #expect(outcome.failed() == 0, "seed \(seed)")
            #expect(outcome.hits.count <= 5, "seed \(seed): \(outcome.hits)")
            let back = try #require(outcome.firstGood(of: 0, after: 15), "seed \(seed)")
            #expect(back <= 16, "seed \(seed): \(back)")
        }
    }

    @Test("two hosts flap, 2 s bad and 2 s good: 0 failed, at most 60 hits, p99 at most 18 ms")
    func flapping() {
        for seed in Seeds.all {
            let outcome = Simulator.run(Self.flappingScenario, seed: seed)
            #expect(outcome.failed() == 0, "seed \(seed)")
            #expect(outcome.hits.count <= 60, "seed \(seed): \(outcome.hits.count)")
            #expect(outcome.percentile(0.99, Self.during) <= 18, "seed \(seed)")
        }
    }

    @Test(
        "all overloaded, 400 a second over a capacity of 250: goodput 245, p99 300 ms, well within 1 s after, 1.1 attempts a call")
    func overloaded() {
        for seed in Seeds.all {
            let outcome = Simulator.run(Self.overloadedScenario, seed: seed)
            #expect(outcome.goodput(6..<15) >= 245, "seed \(seed): \(outcome.goodput(6..<15))")
            #expect(outcome.percentile(0.99, Self.during) <= 300, "seed \(seed): \(outcome.percentile(0.99, Self.during))")
            #expect(outcome.failed(16..<25) == 0, "seed \(seed): \(outcome.failed(16..<25))")
            #expect(outcome.percentile(0.99, 16..<25) <= 100, "seed \(seed)")
            #expect(outcome.attemptsPerCall <= 1.1, "seed \(seed): \(outcome.attemptsPerCall)")
            #expect(outcome.ejections.isEmpty, "seed \(seed): \(outcome.ejections)")
        }
    }
}
