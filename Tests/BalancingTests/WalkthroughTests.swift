import Balancing
import Base
import ProxyConfig
import Resilience
import Testing

/// Workers with their tables, a detector they share and hosts that answer 200 or 500: everything between a request and its endpoint
/// but the sockets.
struct SimulatedCluster {
    struct Worker {
        var table: EndpointTable
        var random: SeededRandom
        /// By the table's index.
        var health: [HostHealth] = []
        var epoch: UInt64 = 0
    }

    struct Counts: Equatable {
        var ok = 0
        var failed = 0
        var panicked = 0
    }

    let detector: OutlierDetector
    let events = OutlierEventLog()
    private var workers: [Worker]
    private let hosts: [HostHealth]
    var bad: Set<Int> = []
    var now = Instant(nanoseconds: 0)

    init(hosts count: Int, workers workerCount: Int, policy: LoadBalancing, detection: OutlierDetection?, seed: UInt64) {
        detector = OutlierDetector(cluster: "colors", configuration: detection, events: events, now: now, seed: seed)
        let addresses = (0..<count).map { SocketAddress(.v4(0x0a00_0001 + UInt32($0)), 80) }
        let hosts = detector.setHosts(addresses, now: now)
        self.hosts = hosts
        workers = (0..<workerCount).map { index in
            var random = SeededRandom(seed: seed &* 31 &+ UInt64(index))
            var table = EndpointTable(policy: policy, panicThresholdPercent: 50)
            let indices = table.setMembers(addresses.map { EndpointTable.Member(address: $0) }, random: &random)
            precondition(indices == Array(0..<count), "a new table numbers its members in order")
            return Worker(table: table, random: random, health: hosts)
        }
    }

    /// Sends requests at a steady rate, to the workers in turn.
    mutating func run(requests: Int, perSecond: Int) -> Counts {
        var counts = Counts()
        for request in 0..<requests {
            now = now + Nanoseconds(count: 1_000_000_000 / Int64(perSecond))
            if now >= detector.nextSweep { detector.sweep(now: now) }
            let (status, isPanic) = workers[request % workers.count].send(bad: bad, to: detector, now: now)
            if status == 200 { counts.ok += 1 } else { counts.failed += 1 }
            if isPanic { counts.panicked += 1 }
        }
        return counts
    }

    var ejected: [Int] { hosts.indices.filter { hosts[$0].isEjected } }
    func reasons(_ action: OutlierEvent.Action) -> Int { events.recent.count { $0.action == action } }
}

extension SimulatedCluster.Worker {
    mutating func send(bad: Set<Int>, to detector: OutlierDetector, now: Instant) -> (status: UInt16, isPanic: Bool) {
        let current = detector.epoch
        if epoch != current {
            epoch = current
            let health = health
            table.updateEligibility(random: &random) { !health[$0].isEjected }
            for change in table.takePanicChanges() {
                detector.recordPanic(
                    change.isOn, priority: change.priority, available: change.available, total: change.total, epoch: current, now: now)
            }
        }
        guard let pick = table.pick(random: &random) else { return (503, false) }
        table.started(pick.index)
        defer { table.finished(pick.index) }
        let status: UInt16 = bad.contains(pick.index) ? 500 : 200
        detector.record(AttemptOutcome(status: status), on: health[pick.index], now: now)
        return (status, pick.isPanic)
    }
}

@Suite("AWS's outlier detection walkthrough: 4 hosts, 50 requests a second, 200 requests")
struct WalkthroughTests {
    static let detection = OutlierDetection(
        consecutive5xx: 5, interval: .seconds(30), baseEjectionTime: .seconds(10), maxEjectionPercent: 100)

    @Test("without detection one bad host of four fails 50 of 200", arguments: [1, 2])
    func without(workers: Int) {
        for seed in 0..<20 as Range<UInt64> {
            var cluster = SimulatedCluster(hosts: 4, workers: workers, policy: .roundRobin, detection: nil, seed: seed)
            cluster.bad = [1]
            #expect(cluster.run(requests: 200, perSecond: 50) == .init(ok: 150, failed: 50), "seed \(seed)")
        }
    }

    @Test(
        "with detection 5 fail and then none; a second one the same; with three bad, three are ejected and panic sends to all",
        arguments: [1, 2])
    func with(workers: Int) {
        for seed in 0..<20 as Range<UInt64> {
            var cluster = SimulatedCluster(hosts: 4, workers: workers, policy: .roundRobin, detection: Self.detection, seed: seed)
            cluster.bad = [1]
            #expect(cluster.run(requests: 200, perSecond: 50) == .init(ok: 195, failed: 5), "seed \(seed)")
            #expect(cluster.ejected == [1])

            cluster.bad = [1, 3]
            #expect(cluster.run(requests: 200, perSecond: 50) == .init(ok: 195, failed: 5), "seed \(seed)")
            #expect(cluster.run(requests: 200, perSecond: 50) == .init(ok: 200, failed: 0), "seed \(seed)")
            #expect(cluster.ejected == [1, 3])
            #expect(cluster.detector.statistics.active == 2)

            cluster.bad = [0, 1, 3]
            _ = cluster.run(requests: 50, perSecond: 50)
            #expect(cluster.ejected == [0, 1, 3], "seed \(seed)")
            let panic = cluster.run(requests: 200, perSecond: 50)
            #expect((48...52).contains(panic.ok) && panic.ok + panic.failed == 200, "seed \(seed): \(panic)")
            #expect(panic.panicked == 200)
            #expect(cluster.reasons(.eject) == 3 && cluster.reasons(.panicOn) == 1 && cluster.reasons(.panicOff) == 0)
        }
    }

    @Test("healed hosts return at the sweep, panic ends, and all four serve again")
    func healing() {
        var cluster = SimulatedCluster(hosts: 4, workers: 2, policy: .leastRequest, detection: Self.detection, seed: 3)
        cluster.bad = [0, 1, 3]
        _ = cluster.run(requests: 200, perSecond: 50)
        #expect(cluster.ejected == [0, 1, 3])
        cluster.bad = []
        _ = cluster.run(requests: 1400, perSecond: 50)
        #expect(cluster.ejected == [])
        #expect(cluster.reasons(.uneject) == 3 && cluster.reasons(.panicOff) == 1)
        #expect(cluster.run(requests: 200, perSecond: 50) == .init(ok: 200, failed: 0))
    }

    @Test("whatever the policy, hosts that always fail cost five requests each before they are out", arguments: LoadBalancing.withoutKey)
    func cost(policy: LoadBalancing) {
        for seed in 0..<50 as Range<UInt64> {
            var cluster = SimulatedCluster(hosts: 20, workers: 2, policy: policy, detection: Self.detection, seed: seed)
            cluster.bad = [2, 3, 5, 7, 11, 13, 17, 19]
            #expect(cluster.run(requests: 1400, perSecond: 50).failed == 40, "seed \(seed)")
            #expect(Set(cluster.ejected) == cluster.bad, "seed \(seed)")
        }
    }
}
