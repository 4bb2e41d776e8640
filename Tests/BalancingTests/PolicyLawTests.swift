import Balancing
import Base
import ProxyConfig
import Testing

/// Endpoints `10.0.0.1` and up, one for each weight.
func members(_ weights: [UInt32], priority: UInt32 = 0) -> [EndpointTable.Member] {
    weights.enumerated().map { index, weight in
        EndpointTable.Member(
            address: SocketAddress(.v4(0x0a00_0001 + priority << 16 + UInt32(index)), 80), weight: weight, priority: priority)
    }
}

func table(_ policy: LoadBalancing, _ weights: [UInt32], panic: Double = 50, random: inout SeededRandom) -> EndpointTable {
    var table = EndpointTable(policy: policy, panicThresholdPercent: panic)
    _ = table.setMembers(members(weights), random: &random)
    return table
}

@Suite("What every policy keeps")
struct PolicyLawTests {
    @Test(
        "no policy picks an ineligible endpoint outside panic, or one that left; in panic the pick says so",
        arguments: LoadBalancing.allCases)
    func eligible(policy: LoadBalancing) throws {
        for seed in 0..<60 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            var table = EndpointTable(policy: policy, panicThresholdPercent: Double(random.below(101)))
            var alive: Set<Int> = []
            var underWay: [Int] = []
            for _ in 0..<30 {
                if random.below(4) == 0 {
                    let all = members((0..<8).map { _ in UInt32(1 + random.below(5)) }) + members([1, 2, 3], priority: 1)
                    alive = Set(table.setMembers(all.filter { _ in random.below(3) > 0 }, random: &random))
                }
                let choice = random.next()
                table.updateEligibility(random: &random) { choice >> UInt64($0) & 1 == 1 }
                for _ in 0..<20 {
                    guard let pick = table.pick(random: &random) else {
                        #expect(!alive.contains { table.isEligible(at: $0) }, "seed \(seed): nothing picked")
                        continue
                    }
                    let member = table.member(at: pick.index)
                    try #require(alive.contains(pick.index), "seed \(seed)")
                    try #require(table.isEligible(at: pick.index) || pick.isPanic, "seed \(seed)")
                    try #require(pick.isPanic == table.isPanicking(priority: member.priority), "seed \(seed)")
                    table.started(pick.index)
                    underWay.append(pick.index)
                }
                while underWay.count > 30 { table.finished(underWay.remove(at: random.below(underWay.count))) }
            }
            while let index = underWay.popLast() { table.finished(index) }
            #expect((0..<table.indexBound).allSatisfy { table.active(at: $0) == 0 }, "seed \(seed)")
        }
    }

    @Test(
        "shares follow weights when nobody is busy", arguments: LoadBalancing.withoutKey,
        [[1, 1, 1], [1, 3], [5, 1, 1, 1], [10, 20, 30, 40]])
    func shares(policy: LoadBalancing, weights: [UInt32]) {
        var random = SeededRandom(seed: 11)
        var table = table(policy, weights, random: &random)
        var counts = weights.map { _ in 0 }
        let rounds = 60_000
        for _ in 0..<rounds {
            if let pick = table.pick(random: &random) { counts[pick.index] += 1 }
        }
        let sum = weights.reduce(0, +)
        for (count, weight) in zip(counts, weights) {
            let expected = Double(rounds) * Double(weight) / Double(sum)
            #expect(abs(Double(count) - expected) < 0.02 * Double(rounds), "\(counts)")
        }
    }

    @Test("nothing to choose from: nil; one: that one", arguments: LoadBalancing.allCases)
    func few(policy: LoadBalancing) {
        var random = SeededRandom(seed: 1)
        var table = EndpointTable(policy: policy, panicThresholdPercent: 50)
        #expect(table.pick(random: &random) == nil)
        #expect(table.pick(excluding: TriedEndpoints(), random: &random) == nil)
        let index = table.setMembers(members([7]), random: &random)[0]
        for _ in 0..<10 { #expect(table.pick(random: &random)?.index == index) }
        _ = table.setMembers([], random: &random)
        #expect(table.pick(random: &random) == nil)
    }

    @Test("a retry goes to an endpoint that was not tried, and says so when there is none", arguments: LoadBalancing.allCases)
    func excluding(policy: LoadBalancing) throws {
        for seed in 0..<200 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            var table = table(policy, [100, 1, 1, 1], random: &random)
            var tried = TriedEndpoints()
            for _ in 0..<4 {
                let pick = try #require(table.pick(excluding: tried, random: &random))
                #expect(!tried.contains(pick.index) && !pick.isRepeat, "seed \(seed)")
                tried.insert(pick.index)
            }
            let fifth = try #require(table.pick(excluding: tried, random: &random))
            #expect(fifth.isRepeat)
        }
    }

    @Test("of what a request tried eight are remembered, each once")
    func tried() {
        var tried = TriedEndpoints()
        for index in [3, 3, 70_000, 0] { tried.insert(index) }
        #expect(tried.count == 3)
        #expect(tried.contains(70_000) && tried.contains(0) && !tried.contains(1))
        for index in 10..<30 { tried.insert(index) }
        #expect(tried.count == 8)
    }
}

@Suite("Weighted round robin")
struct WeightedRoundRobinTests {
    static func picks(_ count: Int, _ table: inout EndpointTable, _ random: inout SeededRandom) -> [Int] {
        (0..<count).compactMap { _ in table.pick(random: &random)?.index }
    }

    @Test(
        "any full cycle gives each endpoint its weight, within one",
        arguments: [[1], [1, 1], [1, 1, 1, 1, 1], [3, 7], [5, 1, 1], [1, 2, 3, 4, 5, 6, 7], [128, 1, 64], [20_000, 1]] as [[UInt32]])
    func fullCycle(weights: [UInt32]) {
        let cycle = Int(weights.reduce(0, +))
        for seed in 0..<(cycle > 1000 ? 1 : 50) as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            var table = table(.roundRobin, weights, random: &random)
            _ = Self.picks(random.below(3 * cycle), &table, &random)
            var counts = weights.map { _ in 0 }
            for index in Self.picks(cycle, &table, &random) { counts[index] += 1 }
            for (count, weight) in zip(counts, weights) {
                #expect(abs(count - Int(weight)) <= 1, "seed \(seed): \(counts)")
            }
        }
    }

    @Test("equal weights: always the same order, nobody twice before everybody once")
    func rotation() {
        var random = SeededRandom(seed: 3)
        var table = table(.roundRobin, [2, 2, 2, 2, 2], random: &random)
        let picks = Self.picks(500, &table, &random)
        #expect(Set(picks[..<5]).count == 5)
        #expect(picks.indices.dropFirst(5).allSatisfy { picks[$0] == picks[$0 - 5] })
    }

    @Test("a heavy endpoint's turns are mixed with the others'")
    func noClumping() {
        for seed in 0..<100 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            var table = table(.roundRobin, [5, 1, 1, 1], random: &random)
            let isHeavy = Self.picks(80, &table, &random).map { $0 == 0 }
            #expect(isHeavy.split(separator: false).map(\.count).max() ?? 0 <= 3, "seed \(seed)")
            #expect(isHeavy.split(separator: true).map(\.count).max() ?? 0 <= 2, "seed \(seed)")
        }
    }

    @Test("workers start at different places")
    func randomStart() {
        var firsts = [0, 0, 0, 0]
        for seed in 0..<1000 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            var table = table(.roundRobin, [1, 1, 1, 1], random: &random)
            firsts[Self.picks(1, &table, &random)[0]] += 1
        }
        #expect(firsts.allSatisfy { (200...300).contains($0) }, "\(firsts)")
    }

    @Test("who stays keeps its turn when another leaves or returns, and who returns does not catch up")
    func keepsPositions() {
        for seed in 0..<50 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            var table = table(.roundRobin, [1, 1, 1, 1], random: &random)
            let order = Self.picks(4, &table, &random)
            table.updateEligibility(random: &random) { $0 != order[1] }
            #expect(
                Self.picks(300, &table, &random).prefix(6) == [order[0], order[2], order[3], order[0], order[2], order[3]], "seed \(seed)")
            table.updateEligibility(random: &random) { _ in true }
            let after = Self.picks(8, &table, &random)
            #expect(after.count { $0 == order[1] } <= 3, "seed \(seed): \(after)")
            #expect(after.filter { $0 != order[1] }.prefix(3) == [order[0], order[2], order[3]], "seed \(seed)")
        }
    }
}

@Suite("Least request")
struct LeastRequestTests {
    @Test("of two, always the less busy one")
    func lessBusy() {
        var random = SeededRandom(seed: 5)
        var table = table(.leastRequest, [1, 1], random: &random)
        for _ in 0..<3 { table.started(0) }
        for _ in 0..<2 { table.started(1) }
        #expect((0..<100).allSatisfy { _ in table.pick(random: &random)?.index == 1 })
        table.finished(0)
        table.finished(0)
        #expect((0..<100).allSatisfy { _ in table.pick(random: &random)?.index == 0 })
    }

    @Test("an endpoint of weight 3 carries three times the requests before it counts as busier")
    func weighted() {
        var random = SeededRandom(seed: 5)
        var table = table(.leastRequest, [3, 1], random: &random)
        table.started(1)
        table.started(0)
        table.started(0)
        #expect((0..<100).allSatisfy { _ in table.pick(random: &random)?.index == 0 })
        for _ in 0..<2 { table.started(0) }
        #expect((0..<100).allSatisfy { _ in table.pick(random: &random)?.index == 1 })
    }

    @Test("a slow endpoint gets fewer requests than a random choice would give it")
    func slowEndpoint() {
        var random = SeededRandom(seed: 9)
        var table = table(.leastRequest, [1, 1, 1, 1, 1], random: &random)
        var counts = [0, 0, 0, 0, 0]
        var ends: [(at: Int, index: Int)] = []
        for turn in 0..<10_000 {
            for end in ends where end.at == turn { table.finished(end.index) }
            ends.removeAll { $0.at == turn }
            guard let pick = table.pick(random: &random) else { continue }
            table.started(pick.index)
            counts[pick.index] += 1
            ends.append((turn + (pick.index == 0 ? 100 : 5), pick.index))
        }
        // A tenth of the share that chance gives would be 200; it holds about as many requests as the others.
        #expect(counts[0] < 600, "\(counts)")
        #expect(counts[1...].allSatisfy { $0 > 2000 }, "\(counts)")
    }
}

extension LoadBalancing {
    /// Those that spread the requests of one key, too.
    static let withoutKey = allCases.filter { $0 != .ringHash && $0 != .maglev }
}
