import Base
import ProxyConfig
import Testing

@testable import Balancing

private typealias Policy = BalancingRules.Policy

private let ms: Int64 = 1_000_000

private func at(_ milliseconds: Int64) -> Instant { Instant(nanoseconds: 1_000_000_000 + milliseconds * ms) }

/// A table and its dice; a class, so that tests can call it inside of expectations.
private final class Fixture {
    var table: EndpointTable
    var random: SeededRandom
    let indices: [Int]

    init(_ rules: BalancingRules, _ weights: [UInt32], seed: UInt64 = 1) {
        random = SeededRandom(seed: seed)
        table = EndpointTable(rules: rules)
        indices = table.setMembers(members(weights), random: &random)
    }

    func pick(_ hash: UInt64 = 0, _ now: Instant = at(0)) -> Int? { table.pick(hash: hash, now: now, random: &random)?.index }

    func eligible(_ isEligible: (Int) -> Bool) { table.updateEligibility(random: &random, isEligible: isEligible) }

    func call(_ index: Int, from start: Int64, to end: Int64) {
        table.started(index, now: at(start))
        table.finished(index, started: at(start), latency: .milliseconds(end - start), now: at(end))
    }
}

@Suite("Laws of every policy, the new ones too")
struct EveryPolicyTests {
    static let policies: [BalancingRules.Policy] = [
        .roundRobin, .leastRequest, .random, .peakEWMA(halfLife: .seconds(1)), .ringHash(.init()), .ringHash(.init(boundPercent: 125)),
        .maglev(.init()), .maglev(.init(boundPercent: 125)),
    ]

    @Test("no pick is ineligible outside of panic, none is a host that left, and what starts ends", arguments: policies)
    func eligible(policy: BalancingRules.Policy) {
        for seed in 0..<5 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            var table = EndpointTable(
                rules: BalancingRules(policy: policy, panicThresholdPercent: 30, ramp: Ramp(duration: .seconds(1))))
            var alive: Set<Int> = []
            var underWay: [(index: Int, start: Instant)] = []
            for step in 0..<15 as Range<Int64> {
                let now = at(step * 137)
                if random.below(4) == 0 {
                    let all = members((0..<8).map { _ in UInt32(1 + random.below(5)) }) + members([1, 2, 3], priority: 1)
                    alive = Set(table.setMembers(all.filter { _ in random.below(3) > 0 }, random: &random))
                }
                let choice = random.next()
                table.updateStandings(now: now, random: &random) { index in
                    switch choice >> (UInt64(index) * 2 % 60) & 3 {
                    case 0: .unavailable
                    case 1: .probing
                    case 2: .ramping(since: at(step * 137 - Int64(index) * 100))
                    default: .available
                    }
                }
                for _ in 0..<20 {
                    guard let pick = table.pick(hash: random.next(), now: now, random: &random) else {
                        #expect(!alive.contains { table.isEligible(at: $0) }, "seed \(seed)")
                        break
                    }
                    #expect(alive.contains(pick.index) && (pick.isPanic || table.isEligible(at: pick.index)), "seed \(seed)")
                    table.started(pick.index, now: now)
                    underWay.append((pick.index, now))
                    if underWay.count > 10 {
                        let (index, start) = underWay.remove(at: random.below(underWay.count))
                        table.finished(index, started: start, latency: now - start, now: now)
                    }
                }
                if let probe = table.pickProbe() { #expect(alive.contains(probe) && !table.isEligible(at: probe), "seed \(seed)") }
            }
            for (index, start) in underWay { table.finished(index, started: start, latency: nil, now: at(9999)) }
            #expect((0..<table.indexBound).allSatisfy { table.active(at: $0) == 0 }, "seed \(seed)")
        }
    }

    @Test("over many keys shares follow weights", arguments: policies, [[1, 1, 1], [1, 3], [5, 1, 1, 1]] as [[UInt32]])
    func shares(policy: BalancingRules.Policy, weights: [UInt32]) {
        let fixture = Fixture(BalancingRules(policy: policy), weights)
        var counts = weights.map { _ in 0 }
        for key in 0..<4000 as Range<UInt64> { if let index = fixture.pick(mix(key, 7)) { counts[index] += 1 } }
        for (count, weight) in zip(counts, weights) {
            let share = Double(count) / 4000
            let fair = Double(weight) / Double(weights.reduce(0, +))
            #expect(abs(share - fair) < 0.08, "\(counts)")
        }
    }
}

@Suite("Consistent hashing")
struct ConsistentHashTests {
    static let policies: [BalancingRules.Policy] = [.ringHash(.init()), .maglev(.init())]

    private static func owners(_ fixture: Fixture) -> [Int?] { (0..<4000).map { fixture.pick(mix($0, 3)) } }

    @Test("a key keeps its endpoint; when one leaves its keys move, and few others; when it returns all is as before", arguments: policies)
    func stability(policy: BalancingRules.Policy) {
        let fixture = Fixture(BalancingRules(policy: policy), Array(repeating: 1, count: 10))
        let before = Self.owners(fixture)
        #expect(Self.owners(fixture) == before)
        fixture.eligible { $0 != 3 }
        let without = Self.owners(fixture)
        let moved = zip(before, without).count { $0 != $1 && $0 != 3 }
        if case .ringHash = policy { #expect(moved == 0) } else { #expect(moved < 4000 / 20, "\(moved)") }
        fixture.eligible { _ in true }
        #expect(Self.owners(fixture) == before)
    }

    @Test("every process and every order of members gives the same owner", arguments: policies)
    func agreement(policy: BalancingRules.Policy) {
        var random = SeededRandom(seed: 9)
        let all = members(Array(repeating: 1, count: 8))
        var one = EndpointTable(rules: BalancingRules(policy: policy))
        var other = EndpointTable(rules: BalancingRules(policy: policy))
        _ = one.setMembers(all, random: &random)
        _ = other.setMembers(all.reversed(), random: &random)
        for key in 0..<1000 as Range<UInt64> {
            let first = one.pick(hash: mix(key, 1), now: at(0), random: &random).map { one.member(at: $0.index).address }
            let second = other.pick(hash: mix(key, 1), now: at(0), random: &random).map { other.member(at: $0.index).address }
            #expect(first == second)
        }
    }

    @Test("with a bound of 125 percent one hot key spreads over the endpoints as far as it must", arguments: [true, false])
    func bounded(isRing: Bool) {
        let hash = BalancingRules.ConsistentHash(boundPercent: 125)
        let fixture = Fixture(BalancingRules(policy: isRing ? .ringHash(hash) : .maglev(hash)), Array(repeating: 1, count: 10))
        var active = Array(repeating: 0, count: 10)
        for _ in 0..<100 {
            guard let index = fixture.pick(42) else { continue }
            fixture.table.started(index, now: at(0))
            active[index] += 1
        }
        #expect(active.max() == 13, "\(active)")
        #expect(active.count { $0 > 0 } >= 8)
    }

    @Test("a retry of a key goes to another endpoint, the same one each time", arguments: policies)
    func retry(policy: BalancingRules.Policy) {
        let fixture = Fixture(BalancingRules(policy: policy), Array(repeating: 1, count: 10))
        var elsewhere = 0
        for key in 0..<200 as Range<UInt64> {
            guard let first = fixture.pick(mix(key, 5)) else { continue }
            var tried = TriedEndpoints()
            tried.insert(first)
            let second = fixture.table.pick(excluding: tried, hash: mix(key, 5), now: at(0), random: &fixture.random)?.index
            let again = fixture.table.pick(excluding: tried, hash: mix(key, 5), now: at(0), random: &fixture.random)?.index
            #expect(second != first)
            if second == again { elsewhere += 1 }
        }
        // Where mixing twice hits the tried one again, chance decides.
        #expect(elsewhere > 190, "\(elsewhere)")
    }
}

@Suite("Peak EWMA")
struct PeakEWMATests {
    @Test(
        "2 to the minus x, within 0.1 percent",
        arguments: [(0, 1), (0.5, 0.707107), (1, 0.5), (1.25, 0.420448), (3, 0.125), (10.9, 0.00052332), (100, 0)])
    func halves(x: Double, expected: Double) {
        #expect(abs(halving(x) - expected) <= expected * 0.001 + 1e-12)
    }

    @Test("a peak counts at once and fades by half in each half-life, also unasked")
    func peaks() {
        let fixture = Fixture(BalancingRules(policy: .peakEWMA(halfLife: .seconds(1))), [1, 1])
        fixture.call(0, from: 0, to: 5)
        fixture.call(0, from: 10, to: 610)
        #expect(fixture.table.expectedLatency(at: 0, now: at(610)).milliseconds == 600)
        #expect(abs(fixture.table.expectedLatency(at: 0, now: at(1610)).seconds - 0.3) < 0.002)
        #expect(abs(fixture.table.expectedLatency(at: 0, now: at(4610)).seconds - 0.0375) < 0.0004)
        fixture.call(0, from: 4610, to: 4615)
        // A fast answer after a long time: nearly all of what faded is filled with it.
        #expect(abs(fixture.table.expectedLatency(at: 0, now: at(4615)).seconds - 0.042) < 0.001)
    }

    @Test("an endpoint that owes answers is as slow as they are old")
    func hanging() {
        let fixture = Fixture(BalancingRules(policy: .peakEWMA(halfLife: .seconds(1))), [1, 1])
        fixture.call(0, from: 0, to: 5)
        fixture.call(1, from: 0, to: 5)
        fixture.table.started(0, now: at(10))
        #expect(fixture.table.expectedLatency(at: 0, now: at(510)).milliseconds == 500)
        #expect((0..<100).allSatisfy { _ in fixture.pick(0, at(510)) == 1 })
        #expect(fixture.table.slowCount(above: .milliseconds(250), now: at(510)) == (slow: 1, available: 2))
    }

    @Test("errors come fast, and who fails is not preferred for it", arguments: [true, false])
    func failing(hasAnswered: Bool) {
        let fixture = Fixture(BalancingRules(policy: .peakEWMA(halfLife: .milliseconds(500))), [1, 1])
        fixture.call(0, from: 0, to: 2)
        if hasAnswered { fixture.call(1, from: 0, to: 2) }
        var failed = 0
        for now in stride(from: 100, to: 10_100, by: 10) as StrideTo<Int64> {
            if fixture.pick(0, at(now)) == 1 {
                failed += 1
                fixture.table.started(1, now: at(now))
                fixture.table.finished(1, started: at(now), latency: nil, now: at(now + 1))
            } else {
                fixture.call(0, from: now, to: now + 2)
            }
        }
        #expect(failed < 600, "\(failed) of 1000")
    }

    @Test("a slow endpoint among five loses nearly all of its requests, and gets them back when it heals")
    func avoids() {
        let fixture = Fixture(BalancingRules(policy: .peakEWMA(halfLife: .seconds(2))), Array(repeating: 1, count: 5))
        var ends: [(at: Int64, start: Int64, index: Int)] = []
        var slow = 0
        var healed = 0
        for now in stride(from: 0, to: 30_000, by: 5) as StrideTo<Int64> {
            for end in ends where end.at <= now {
                fixture.table.finished(end.index, started: at(end.start), latency: .milliseconds(end.at - end.start), now: at(now))
            }
            ends.removeAll { $0.at <= now }
            guard let index = fixture.pick(0, at(now)) else { continue }
            let isSlow = index == 0 && (5000..<15_000).contains(now)
            if isSlow { slow += 1 }
            if index == 0, now > 25_000 { healed += 1 }
            fixture.table.started(index, now: at(now))
            ends.append((now + (isSlow ? 600 : 5), now, index))
        }
        #expect(slow <= 17, "\(slow)")
        #expect(healed > 100, "\(healed)")
    }
}

@Suite("The ramp, probes and zones")
struct StandingTests {
    private static func fixture(_ policy: BalancingRules.Policy, hosts: Int) -> Fixture {
        Fixture(BalancingRules(policy: policy, ramp: Ramp(duration: .seconds(10), startPercent: 10)), Array(repeating: 1, count: hosts))
    }

    @Test(
        "who comes back gets a tenth of its share, then a growing part, then all",
        arguments: [BalancingRules.Policy.roundRobin, .random, .ringHash(.init()), .maglev(.init())])
    func ramp(policy: BalancingRules.Policy) {
        let fixture = Self.fixture(policy, hosts: 4)
        fixture.table.updateStandings(now: at(0), random: &fixture.random) { $0 == 2 ? .ramping(since: at(0)) : .available }
        for (second, share) in [(0, 0.1), (3, 0.3), (6, 0.6), (11, 1.0)] as [(Int64, Double)] {
            let picks = (0..<2000).count { fixture.pick(mix($0, 11), at(second * 1000)) == 2 }
            let expected = share / (3 + share)
            #expect(abs(Double(picks) / 2000 - expected) < 0.05, "after \(second) s: \(picks)")
        }
        #expect(fixture.table.share(at: 2) == 1)
    }

    @Test("if more than half would ramp nobody does")
    func manyRamp() {
        let fixture = Self.fixture(.roundRobin, hosts: 4)
        fixture.table.updateStandings(now: at(0), random: &fixture.random) { $0 < 3 ? .ramping(since: at(0)) : .available }
        #expect((0..<4).allSatisfy { fixture.table.share(at: $0) == 1 })
        fixture.table.updateStandings(now: at(0), random: &fixture.random) { $0 < 2 ? .ramping(since: at(0)) : .available }
        #expect((0..<4).map { fixture.table.share(at: $0) } == [0.1, 0.1, 1, 1])
    }

    @Test("who comes back is as slow as nine of ten others, until it shows what it is")
    func seed() {
        let fixture = Self.fixture(.peakEWMA(halfLife: .seconds(1)), hosts: 11)
        for index in 1..<11 { fixture.call(index, from: 0, to: Int64(index) * 10) }
        fixture.table.updateStandings(now: at(100), random: &fixture.random) { $0 == 0 ? .ramping(since: at(100)) : .available }
        #expect((90...105).contains(fixture.table.expectedLatency(at: 0, now: at(100)).milliseconds))
    }

    @Test("endpoints that want probes are offered in turn, never picked otherwise, and not twice to one request")
    func probes() {
        let fixture = Self.fixture(.roundRobin, hosts: 5)
        #expect(fixture.table.pickProbe() == nil)
        fixture.table.updateStandings(now: at(0), random: &fixture.random) { $0 < 2 ? .probing : .available }
        #expect(Set((0..<2).map { _ in fixture.table.pickProbe() }) == [0, 1])
        var tried = TriedEndpoints()
        tried.insert(0)
        #expect((0..<4).allSatisfy { _ in fixture.table.pickProbe(excluding: tried) == 1 })
        tried.insert(1)
        #expect(fixture.table.pickProbe(excluding: tried) == nil)
        #expect((0..<100).allSatisfy { _ in (fixture.pick() ?? 0) >= 2 })
    }

    static func zoned(local: Int, remote: Int, minimumHosts: Int = 2, seed: UInt64 = 1) -> (EndpointTable, SeededRandom) {
        var random = SeededRandom(seed: seed)
        let home = Locality(region: "eu", zone: "a")
        var table = EndpointTable(
            rules: BalancingRules(policy: .random, zone: .init(local: home, minimumHosts: minimumHosts)))
        var all = members(Array(repeating: 1, count: local + remote))
        for index in all.indices { all[index].locality = Locality(region: "eu", zone: index < local ? "a" : "b", subZone: "\(index % 2)") }
        _ = table.setMembers(all, random: &random)
        return (table, random)
    }

    @Test(
        "the caller's zone serves while enough of it is well; the rest goes to the others; an empty zone loses nothing",
        arguments: [(4, 4, 4, 100), (4, 3, 4, 100), (4, 2, 4, 70), (4, 1, 4, 35), (4, 0, 4, 0), (1, 1, 4, 20), (0, 0, 4, 0)])
    func zone(local: Int, wellLocal: Int, remote: Int, expectedLocalPercent: Int) {
        var (table, random) = Self.zoned(local: local, remote: remote)
        table.updateEligibility(random: &random) { $0 >= local || $0 < wellLocal }
        var picks = 0
        for _ in 0..<4000 { if let pick = table.pick(random: &random), pick.index < local { picks += 1 } }
        #expect(abs(picks * 100 / 4000 - expectedLocalPercent) <= 3, "\(picks)")
        #expect(!table.isPanicking(priority: 0))
    }

    @Test("a retry leaves the zone")
    func zoneRetry() {
        var (table, random) = Self.zoned(local: 4, remote: 4)
        var tried = TriedEndpoints()
        let first = table.pick(excluding: tried, hash: 0, now: at(0), random: &random)?.index ?? 0
        #expect(first < 4)
        tried.insert(first)
        for _ in 0..<50 {
            let second = table.pick(excluding: tried, hash: 0, now: at(0), random: &random)?.index ?? 0
            #expect(second >= 4)
        }
    }

    @Test("both zones of a priority in panic are one panic, told once")
    func zonePanic() {
        var (table, random) = Self.zoned(local: 4, remote: 4)
        table.updateEligibility(random: &random) { $0 == 0 || $0 == 4 }
        #expect(table.takePanicChanges().map(\.isOn) == [true])
        table.updateEligibility(random: &random) { $0 == 0 || $0 >= 4 }
        #expect(table.takePanicChanges().map(\.isOn) == [false])
    }
}
