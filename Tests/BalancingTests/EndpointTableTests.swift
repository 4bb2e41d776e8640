import Balancing
import Base
import ProxyConfig
import Testing

@Suite("Members, panic and priorities")
struct EndpointTableTests {
    @Test(
        "below the threshold of available endpoints health is ignored; at it, not; 0 means never",
        arguments: [
            (4, 2, 50.0, false), (4, 1, 50, true), (4, 0, 50, true), (3, 1, 50, true), (3, 2, 50, false), (2, 1, 50, false),
            (1, 0, 50, true),
            (10, 7, 100, true), (4, 3, 100, false), (4, 1, 25, false), (4, 0, 25, true), (4, 0, 0, false),
        ] as [(Int, Int, Double, Bool)])
    func panic(total: Int, available: Int, threshold: Double, expected: Bool) {
        var random = SeededRandom(seed: 1)
        var table = table(.roundRobin, Array(repeating: 1, count: total), panic: threshold, random: &random)
        table.updateEligibility(random: &random) { $0 < available }
        #expect(table.isPanicking(priority: 0) == expected)
        #expect(table.availableCount == available && table.memberCount == total)
        let picks = (0..<total).map { _ in table.pick(random: &random) }
        if expected {
            #expect(Set(picks.map { $0?.index }) == Set(0..<total))
            #expect(picks.allSatisfy { $0?.isPanic == true })
        } else {
            #expect(picks.allSatisfy { pick in available == 0 ? pick == nil : pick.map { $0.index < available && !$0.isPanic } == true })
        }
    }

    @Test("with seven of ten available nobody panics even at a threshold of 75: 1.4 times 70 is 98, times 72 is more than 100")
    func overprovisioned() {
        var random = SeededRandom(seed: 1)
        var table = table(.roundRobin, Array(repeating: 1, count: 25), panic: 75, random: &random)
        table.updateEligibility(random: &random) { $0 < 18 }
        #expect(!table.isPanicking(priority: 0))
        table.updateEligibility(random: &random) { $0 < 17 }
        #expect(table.isPanicking(priority: 0))
    }

    @Test("panic is told once when it begins and once when it ends")
    func panicChanges() {
        var random = SeededRandom(seed: 1)
        var table = table(.roundRobin, [1, 1, 1, 1], random: &random)
        #expect(table.takePanicChanges().isEmpty)
        table.updateEligibility(random: &random) { $0 < 1 }
        table.updateEligibility(random: &random) { $0 < 1 }
        #expect(table.takePanicChanges().map { [$0.isOn ? 1 : 0, Int($0.priority), $0.available, $0.total] } == [[1, 0, 1, 4]])
        #expect(table.takePanicChanges().isEmpty)
        table.updateEligibility(random: &random) { $0 < 3 }
        #expect(table.takePanicChanges().map { [$0.isOn ? 1 : 0, Int($0.priority), $0.available, $0.total] } == [[0, 0, 3, 4]])
        table.updateEligibility(random: &random) { _ in false }
        _ = table.setMembers([], random: &random)
        #expect(table.takePanicChanges().map(\.isOn) == [true, false])
    }

    /// envoyproxy's documentation of priority levels, with 1.4 overprovisioning.
    @Test(
        "shares of two priorities by the part of each that is available",
        arguments: [
            (100, 100, 100), (72, 72, 100), (71, 71, 99), (50, 50, 70), (25, 100, 35), (25, 25, 50), (0, 100, 0), (0, 50, 0),
        ])
    func priorities(first: Int, second: Int, expectedFirstPercent: Int) {
        var random = SeededRandom(seed: 4)
        var table = EndpointTable(policy: .random, panicThresholdPercent: 0)
        let all = members(Array(repeating: 1, count: 100)) + members(Array(repeating: 1, count: 100), priority: 1)
        let indices = table.setMembers(all, random: &random)
        let eligible = Set(indices[..<first] + indices[100..<(100 + second)])
        table.updateEligibility(random: &random) { eligible.contains($0) }
        let rounds = 40_000
        var firsts = 0
        for _ in 0..<rounds {
            if let pick = table.pick(random: &random), table.member(at: pick.index).priority == 0 { firsts += 1 }
        }
        #expect(abs(firsts * 100 / rounds - expectedFirstPercent) <= 1, "\(firsts)")
    }

    @Test("all priorities in panic share by their number of endpoints")
    func totalPanic() {
        var random = SeededRandom(seed: 4)
        var table = EndpointTable(policy: .roundRobin, panicThresholdPercent: 50)
        _ = table.setMembers(
            members(Array(repeating: 1, count: 30)) + members(Array(repeating: 1, count: 10), priority: 1), random: &random)
        table.updateEligibility(random: &random) { _ in false }
        var firsts = 0
        for _ in 0..<40_000 {
            if let pick = table.pick(random: &random), table.member(at: pick.index).priority == 0 { firsts += 1 }
        }
        #expect((29_400...30_600).contains(firsts), "\(firsts)")
    }

    @Test("an index stays with its endpoint while it is a member or has requests under way")
    func indices() throws {
        var random = SeededRandom(seed: 2)
        var table = EndpointTable(policy: .roundRobin, panicThresholdPercent: 50)
        let all = members([1, 1, 1, 1])
        let first = table.setMembers([all[0], all[1]], random: &random)
        table.started(first[0])
        table.started(first[1])

        // 0 leaves with a request under way, 2 comes: it must not get 0's index.
        let second = table.setMembers([all[2], all[1]], random: &random)
        #expect(second[1] == first[1])
        #expect(!first.contains(second[0]))
        #expect(table.member(at: first[0]) == all[0] && table.active(at: first[0]) == 1)

        // It returns before that request ended: the same index, the same request.
        let third = table.setMembers(all, random: &random)
        #expect(third[0] == first[0] && table.active(at: third[0]) == 1)

        _ = table.setMembers([all[1]], random: &random)
        table.finished(first[0])
        let last = table.setMembers([all[1], all[3]], random: &random)
        #expect(table.indexBound == 4, "indices are used again")
        #expect(table.active(at: last[1]) == 0)
        table.finished(first[1])
    }

    @Test("who stays keeps eligibility; who is new, or left and returns, is eligible; a repeated name counts once")
    func membership() {
        var random = SeededRandom(seed: 2)
        var table = EndpointTable(policy: .roundRobin, panicThresholdPercent: 0)
        let all = members([1, 1, 1])
        var indices = table.setMembers([all[0], all[1], all[0]], random: &random)
        #expect(indices[0] == indices[2] && table.memberCount == 2)
        table.started(indices[0])
        table.updateEligibility(random: &random) { _ in false }
        indices = table.setMembers([all[0], all[2]], random: &random)
        #expect(!table.isEligible(at: indices[0]) && table.isEligible(at: indices[1]))
        _ = table.setMembers([all[2]], random: &random)
        indices = table.setMembers([all[0]], random: &random)
        #expect(table.isEligible(at: indices[0]) && table.active(at: indices[0]) == 1)
    }

    @Test("the same address in two priorities is two endpoints")
    func twoPriorities() {
        var random = SeededRandom(seed: 2)
        var table = EndpointTable(policy: .roundRobin, panicThresholdPercent: 0)
        let address = SocketAddress(.loopbackV4, 80)
        let indices = table.setMembers([.init(address: address), .init(address: address, priority: 1)], random: &random)
        #expect(Set(indices).count == 2 && table.memberCount == 2)
    }

    @Test("a new weight, policy or threshold holds from the next pick")
    func reconfigured() {
        var random = SeededRandom(seed: 2)
        var table = table(.random, [1, 1], random: &random)
        _ = table.setMembers(members([3, 1]), random: &random)
        table.configure(policy: .roundRobin, panicThresholdPercent: 0, random: &random)
        let picks = (0..<400).compactMap { _ in table.pick(random: &random)?.index }
        #expect((299...301).contains(picks.count { $0 == 0 }))
        table.updateEligibility(random: &random) { _ in false }
        #expect(table.pick(random: &random) == nil)
        table.configure(policy: .leastRequest, panicThresholdPercent: 50, random: &random)
        #expect(table.pick(random: &random)?.isPanic == true)
    }
}
