import Base
import HTTP
import Testing

@testable import Telemetry

@Suite struct StatsRegistryTests {
    let registry = StatsRegistry(workerCount: 2)

    @Test("the same name and worker gives the same block; another worker or name gives another")
    func identity() {
        let first = registry.cluster("a", worker: 0)
        #expect(registry.cluster("a", worker: 0) === first)
        #expect(registry.cluster("a", worker: 1) !== first)
        #expect(registry.cluster("b", worker: 0) !== first)
    }

    @Test("counters survive a swap that lets go of the block and takes it again within the grace time")
    func survivesSwap() {
        do {
            let block = registry.cluster("a", worker: 0)
            block.upstreamRqTotal.add(7)
        }
        registry.sweep(now: Instant(nanoseconds: 0))
        registry.sweep(now: Instant(nanoseconds: 0) + .seconds(119))
        #expect(registry.cluster("a", worker: 0).upstreamRqTotal.value == 7)
        // Taken again: the grace time starts anew.
        registry.sweep(now: Instant(nanoseconds: 0) + .seconds(121))
        #expect(registry.cluster("a", worker: 0).upstreamRqTotal.value == 7)
    }

    @Test("a block that somebody holds is never forgotten; one that nobody holds is, after the grace time")
    func grace() {
        let held = registry.cluster("held", worker: 1)
        held.upstreamRqTotal.increment()
        registry.cluster("left", worker: 0).upstreamRqTotal.increment()
        for second in 0...300 as ClosedRange<Int64> { registry.sweep(now: Instant(nanoseconds: 0) + Nanoseconds.seconds(second)) }
        #expect(registry.cluster("left", worker: 0).upstreamRqTotal.value == 0)
        #expect(registry.cluster("held", worker: 1) === held)
    }

    @Test("beyond the limit of label sets everything counts in one block")
    func overflow() {
        var held: [HostStats] = []
        for index in 0..<StatsRegistry.labelSetLimit {
            held.append(registry.host(cluster: "a", address: SocketAddress(.v4(UInt32(index)), 80), worker: 0))
        }
        let late = registry.host(cluster: "b", address: SocketAddress(.loopbackV4, 80), worker: 0)
        let later = registry.host(cluster: "b", address: SocketAddress(.loopbackV4, 81), worker: 0)
        #expect(late === later)
        #expect(late !== held[0])
        #expect(registry.host(cluster: "a", address: SocketAddress(.v4(17), 80), worker: 0) === held[17])
    }

    @Test("codes are counted by name until the table is full, and by class for ever")
    func statusCodes() {
        let counters = StatusCounters()
        for status in 200..<300 { counters.record(status) }
        counters.record(200)
        counters.record(999)
        #expect(counters.count(of: 200) == 2)
        #expect(counters.count(of: 200 + StatusCounters.codeSlots - 1) == 1)
        #expect(counters.count(of: 200 + StatusCounters.codeSlots) == 0)
        #expect(counters.count(ofClass: 2) == 101)
        #expect(counters.completed.value == 102)
    }

    @Test(
        "one flag stands for a set: the cause, not that retries ended",
        arguments: [
            ([], 0),
            ([.noHealthyUpstream], 1),
            ([.upstreamConnectionFailure, .retryLimitExceeded], 2),
            ([.upstreamRequestTimeout, .retryLimitExceeded], 10),
            ([.retryLimitExceeded], 5),
            ([.keepAliveRace], 21),
        ] as [(ResponseFlags, Int)])
    func flagColumn(flags: ResponseFlags, column: Int) {
        #expect(RouteStats.column(flags) == column)
    }

    @Test("every flag has a column of its own")
    func flagColumns() {
        let columns = ResponseFlags.letters.map { RouteStats.column($0.flag) }
        #expect(Set(columns).count == ResponseFlags.letters.count)
        #expect(columns.allSatisfy { $0 > 0 && $0 < RouteStats.flagColumns })
    }
}
