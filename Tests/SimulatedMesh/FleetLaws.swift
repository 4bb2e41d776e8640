import Balancing
import Base
import ProxyConfig
import Resilience

/// Many callers, many hosts, and what goes wrong only then.
extension Law {
    static let fleet: [Law] = [
        Law("AWS's walkthrough, two workers: 4 hosts, 50 calls a second, one always 500: 5 fail, then none") { seed, findings in
            var scenario = Scenario.fleet(1, 4, perSecond: 50, seconds: 9)
            scenario.workers = 2
            scenario.usesRetries = false
            scenario.policy.limiter = nil
            scenario.balancing = .roundRobin
            scenario.appMesh = OutlierDetection(
                consecutive5xx: 5, interval: .seconds(30), baseEjectionTime: .seconds(10), maxEjectionPercent: 100)
            scenario.troubles = [.init(hosts: 1..<2, from: 0, to: 9, kind: .errors(every: 1))]
            findings.equal(5, Simulator.run(scenario, seed: seed).failed(), "failed")

            scenario.troubles = [.init(hosts: 1..<4, from: 0, to: 9, kind: .errors(every: 1))]
            let panic = Simulator.run(scenario, seed: seed)
            let share = Double(panic.failed(5..<9)) / Double(panic.calls(5..<9).count)
            findings.atLeast(0.7, share, "failed in panic")
            findings.atMost(0.8, share, "failed in panic")
            findings.atLeast(100, panic.panics, "picks in panic")
        },
        Law("hosts that fail at random for a while, all the time: at most two calls of a thousand fail", cost: 16) { seed, findings in
            var dice = SeededRandom(seed: seed)
            var scenario = Scenario.fleet(20, 10, perSecond: 1000)
            scenario.troubles = (0..<30).map { _ in
                let start = Double(dice.below(18_000)) / 1000
                let host = dice.below(4)
                let kinds: [Scenario.Trouble.Kind] = [.errors(every: 1), .errors(every: 2), .failing(share: 0.7), .dead]
                return .init(
                    hosts: host..<host + 1, from: start, to: start + 0.5 + Double(dice.below(2000)) / 1000, kind: kinds[dice.below(4)])
            }
            let outcome = Simulator.run(scenario, seed: seed)
            findings.atMost(outcome.calls.count / 500, outcome.failed(), "failed of \(outcome.calls.count)")
        },
        storm(callers: 1, perSecond: 400, cost: 6, "every host fails: one caller makes at most 1.2 attempts a call"),
        storm(callers: 200, perSecond: 2000, cost: 32, "every host fails: hundreds of callers make at most 1.2 attempts a call"),
        Law("a zone goes: its callers use the other, nobody fails, and its hosts come back gently", cost: 32) { seed, findings in
            var scenario = Scenario.fleet(100, 20, perSecond: 2000)
            scenario.zones = 2
            // Hosts are dealt to zones in turn: every other one.
            scenario.troubles = stride(from: 0, to: 20, by: 2).map { .init(hosts: $0..<$0 + 1, from: 5, to: 12, kind: .dead) }
            let outcome = Simulator.run(scenario, seed: seed)
            findings.atMost(outcome.calls.count / 1000, outcome.failed(), "failed of \(outcome.calls.count)")
            findings.equal(0, outcome.failed(7..<20), "failed from second 7 on")
            findings.by(13, outcome.firstGood(of: 0, after: 12), "back")
        },
        Law(
            "a host that comes back is not overrun: in its first second it gets at most three quarters of its fair share, probes and all",
            cost: 16
        ) { seed, findings in
            var scenario = Scenario.fleet(50, 5, perSecond: 1000)
            scenario.balancing = .leastRequest
            scenario.troubles = [.init(hosts: 0..<1, from: 5, to: 10, kind: .errors(every: 1))]
            let outcome = Simulator.run(scenario, seed: seed)
            let back = outcome.firstGood(of: 0, after: 10)
            findings.by(20, back, "back")
            guard let back else { return }
            findings.atMost(
                1000 / 5 * 3 / 4, outcome.goodAnswers.count { $0.host == 0 && $0.at < back + 1 && $0.at >= back }, "answers")
            findings.equal(0, outcome.failed(back..<20), "failed after it")
        },
        Law("errors that all hosts have in common eject nobody: 30 percent of all calls fail", cost: 6) { seed, findings in
            var scenario = Scenario.fleet(1, 5, perSecond: 400)
            scenario.troubles = [.init(hosts: 0..<5, from: 2, to: 18, kind: .failing(share: 0.3))]
            let outcome = Simulator.run(scenario, seed: seed)
            // Chance makes a window now and then in which one looks much worse.
            findings.atMost(10, outcome.ejections.count { $0.reason != .probeFailed }, "ejections")
        },
        Law("k hosts of n that always fail are ejected by their success rate if and only if (n - k) / k is more than 1.9 squared") {
            seed, findings in
            var dice = SeededRandom(seed: seed)
            let hosts = 5 + dice.below(16)
            let bad = 1 + dice.below(hosts / 2)
            var scenario = Scenario.fleet(1, hosts, perSecond: Double(20 * hosts), seconds: 12)
            scenario.usesRetries = false
            scenario.balancing = .roundRobin
            scenario.policy.limiter = nil
            scenario.policy.endpoint = EndpointPolicy(
                breaker: BreakerPolicy(trip: .init(failurePercent: nil), open: .init(base: .seconds(30)), probe: .none),
                maxEjectionPercent: 100, minimumDeviationPercent: 0, successRate: .init())
            scenario.troubles = [.init(hosts: 0..<bad, from: 0, to: 12, kind: .errors(every: 1))]
            let outcome = Simulator.run(scenario, seed: seed)
            let expected = Double(hosts - bad) / Double(bad) > 1.9 * 1.9 ? Array(0..<bad) : []
            findings.equal(expected, outcome.ejections.map(\.host).sorted(), "ejected, \(bad) bad of \(hosts)")
        },
        Law("against no breaker: mean latency at least halved where a host hangs, and 99.99 percent succeed", cost: 18) { seed, findings in
            for kind in [
                Scenario.Trouble.Kind.hang, .slow(.seconds(2)), .slow(.milliseconds(600)), .errors(every: 1), .failing(share: 0.5),
            ] {
                let with = Scenario.trouble(kind)
                var without = with
                without.usesBreakers = false
                without.usesRetries = false
                without.balancing = .roundRobin
                without.policy.limiter = nil
                let (good, bad) = (Simulator.run(with, seed: seed), Simulator.run(without, seed: seed))
                findings.atLeast(0.9999, 1 - Double(good.failed()) / Double(good.calls.count), "\(kind): succeeded")
                switch kind {
                case .hang, .slow: findings.atMost(bad.mean(5..<15) / 2, good.mean(5..<15), "\(kind): mean")
                case .errors, .failing, .dead: findings.atLeast(100, bad.failed(), "\(kind): failed without")
                }
            }
        },
        Law("a service's breaker: while all hosts fail few calls reach them, and it closes within seconds of their healing", cost: 2) {
            seed, findings in
            var scenario = Scenario.fleet(1, 5, perSecond: 200, seconds: 30)
            scenario.service = BreakerPolicy(
                trip: .init(window: .time(.seconds(2))), open: .init(base: .seconds(1), longest: .seconds(4)),
                ramp: Ramp(duration: .seconds(2)))
            scenario.troubles = [.init(hosts: 0..<5, from: 5, to: 15, kind: .errors(every: 1))]
            let outcome = Simulator.run(scenario, seed: seed)
            findings.atMost(600, outcome.hits.count, "hits")
            findings.equal(0, outcome.failed(23..<30), "failed from second 23 on")
        },
        Law("the same seed gives the same run, another one another", cost: 8) { seed, findings in
            let scenario = Scenario.trouble(.failing(share: 0.5))
            let runs = [seed, seed, seed + 1].map { Simulator.run(scenario, seed: $0).calls.map(\.milliseconds) }
            findings.equal(true, runs[0] == runs[1], "the same seed, the same run")
            findings.equal(false, runs[0] == runs[2], "another seed, the same run")
        },
    ]

    private static func storm(callers: Int, perSecond: Double, cost: Int, _ sentence: String) -> Law {
        Law(sentence, cost: cost) { seed, findings in
            var scenario = Scenario.fleet(callers, 10, perSecond: perSecond)
            scenario.troubles = [.init(hosts: 0..<10, from: 5, to: 15, kind: .errors(every: 1))]
            let outcome = Simulator.run(scenario, seed: seed)
            let calls = outcome.calls(5..<15).count
            // Ten seconds are known to a second: a hundredth more, for a caller that made more calls before than in the storm.
            findings.atMost(1.21, Double(outcome.hits.count) / Double(calls), "attempts a call")
            findings.equal(0, outcome.failed(16..<20), "failed from second 16 on")
        }
    }
}

extension Scenario {
    static func fleet(_ callers: Int, _ hosts: Int, perSecond: Double, seconds: Double = 20) -> Scenario {
        var scenario = Scenario()
        scenario.callers = callers
        scenario.hosts = hosts
        scenario.seconds = seconds
        scenario.rates = [(0, perSecond)]
        return scenario
    }
}
