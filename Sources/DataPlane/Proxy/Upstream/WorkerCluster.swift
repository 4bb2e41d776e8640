import Balancing
import Base
import HTTP
import ProxyConfig
import Reactor
import Resilience
import Telemetry

/// A cluster as one worker sees it: its balancing state, its connections, its counters.
final class WorkerCluster {
    private(set) var shared: RuntimeCluster
    let stats: ClusterStats
    /// The name, for logs.
    let nameBytes: [UInt8]
    @safe unowned(unsafe) let worker: Worker
    private var hosts: [WorkerHost] = []
    private var table: EndpointTable
    /// By the table's index.
    private var hostsByIndex: [WorkerHost?] = []
    private var seenEpoch: UInt64 = 0
    private var isResolved = false
    /// Of an ORIGINAL_DST cluster.
    private(set) var destinations: DestinationTable?

    private(set) var connectTimeout: Nanoseconds
    private(set) var idleTime: Nanoseconds

    /// HTTP/1 endpoints close idle connections without a word; few keep them for less than this (linkerd's choice, too).
    private static let defaultIdleTime = Nanoseconds.seconds(3)
    /// HTTP/2 endpoints say GOAWAY first, so nothing is lost by keeping a connection (Envoy's default).
    private static let multiplexedIdleTime = Nanoseconds.seconds(3600)
    private(set) var multiplexedIdleTime: Nanoseconds

    private static func idleTime(_ cluster: Cluster) -> Nanoseconds {
        cluster.idleTimeout.map(Nanoseconds.init) ?? defaultIdleTime
    }

    private static func multiplexedIdleTime(_ cluster: Cluster) -> Nanoseconds {
        cluster.idleTimeout.map(Nanoseconds.init) ?? multiplexedIdleTime
    }

    init(_ shared: RuntimeCluster, worker: Worker) {
        self.shared = shared
        self.worker = worker
        nameBytes = Array(shared.name.utf8)
        stats = worker.registry.cluster(shared.name, worker: worker.index)
        table = EndpointTable(
            policy: shared.configuration.loadBalancing, panicThresholdPercent: shared.configuration.panicThresholdPercent)
        connectTimeout = Nanoseconds(shared.configuration.connectTimeout)
        idleTime = Self.idleTime(shared.configuration)
        multiplexedIdleTime = Self.multiplexedIdleTime(shared.configuration)
        if shared.configuration.discovery == .originalDestination { destinations = DestinationTable(cluster: self) }
        update(hosts: shared.hosts)
    }

    /// The same cluster, perhaps with other settings, in a new snapshot: connections and balancing state stay.
    func adopt(_ successor: RuntimeCluster) {
        guard successor !== shared else { return }
        let old = shared.configuration
        shared = successor
        connectTimeout = Nanoseconds(successor.configuration.connectTimeout)
        idleTime = Self.idleTime(successor.configuration)
        multiplexedIdleTime = Self.multiplexedIdleTime(successor.configuration)
        let new = successor.configuration
        if old.discovery != new.discovery {
            destinations?.leave()
            destinations = new.discovery == .originalDestination ? DestinationTable(cluster: self) : nil
        }
        if old.loadBalancing != new.loadBalancing || old.panicThresholdPercent != new.panicThresholdPercent {
            table.configure(policy: new.loadBalancing, panicThresholdPercent: new.panicThresholdPercent, random: &worker.random)
        }
        update(hosts: successor.hosts)
        if old.upstreamProtocol != new.upstreamProtocol || old.tls != new.tls { for host in hosts { host.retireConnections() } }
    }

    /// Endpoints that stay keep their connections; the connections of those that left end with the stream they carry.
    func forEachHost(_ body: (WorkerHost) -> Void) {
        hosts.forEach(body)
    }

    func update(hosts set: HostSet) {
        isResolved = set.isResolved
        var known = Dictionary(uniqueKeysWithValues: hosts.map { ($0.shared.address, $0) })
        let indices = table.setMembers(
            set.hosts.map { EndpointTable.Member(address: $0.address, weight: $0.weight, priority: $0.priority, locality: $0.locality) },
            random: &worker.random)
        hosts = zip(set.hosts, indices).map { shared, index in
            guard let host = known.removeValue(forKey: shared.address) else { return WorkerHost(shared, index: index, cluster: self) }
            host.adopt(shared, index: index)
            return host
        }
        for host in known.values { host.leave() }
        hostsByIndex = Array(repeating: nil, count: table.indexBound)
        for host in hosts { hostsByIndex[host.index] = host }
        refreshEligibility(epoch: shared.detector.epoch, random: &worker.random)
        destinations?.update(hosts: hosts)
    }

    private func refreshEligibility(epoch: UInt64, random: inout SeededRandom) {
        seenEpoch = epoch
        let hosts = hostsByIndex
        table.updateEligibility(random: &random) { index in hosts[index].map { !$0.shared.health.isEjected } ?? false }
        for change in table.takePanicChanges() {
            shared.detector.recordPanic(
                change.isOn, priority: change.priority, available: change.available, total: change.total, epoch: epoch, now: worker.loop.now
            )
        }
    }

    /// The endpoint for the next attempt; nil if there is none to be had.
    ///
    /// None of an ORIGINAL_DST cluster: its endpoints are not equally good, each request has its own (`destinations`).
    func pick(random: inout SeededRandom) -> WorkerHost? {
        guard destinations == nil else { return nil }
        let epoch = shared.detector.epoch
        if epoch != seenEpoch { refreshEligibility(epoch: epoch, random: &random) }
        guard let pick = table.pick(random: &random) else { return nil }
        if pick.isPanic { stats.lbHealthyPanic.increment() }
        return hostsByIndex[pick.index]
    }

    func started(_ host: WorkerHost) {
        table.started(host.index)
        stats.upstreamRqTotal.increment()
        stats.upstreamRqActive.increment()
        host.stats.rqTotal.increment()
        host.stats.rqActive.increment()
    }

    func finished(_ host: WorkerHost) {
        table.finished(host.index)
        stats.upstreamRqActive.decrement()
        host.stats.rqActive.decrement()
    }

    /// Takes in how an attempt ended.
    func record(_ outcome: AttemptOutcome, on host: WorkerHost, elapsed: Nanoseconds, responded: Bool) {
        shared.detector.record(outcome, on: host.shared.health, now: worker.loop.now)
        if case .ok = outcome {
            host.stats.rqSuccess.increment()
        } else if outcome.verdict() == .counts {
            host.stats.rqError.increment()
        }
        if responded { stats.upstreamRqTime.record(nanoseconds: elapsed.count) }
    }

    /// What a new connection speaks is known only when it is open.
    var negotiates: Bool {
        guard let tls = shared.configuration.tls else { return false }
        return shared.configuration.upstreamProtocol == .auto || !tls.isEnforced
    }

    // What a request is told that finds no endpoint.
    /// Why nothing can be sent: the cluster wants TLS, and its certificate or trust is not there. Never plaintext instead.
    var unsupported: String? {
        guard let tls = shared.tls, tls.context == nil else { return nil }
        return "no TLS towards \(shared.name): \(tls.problem ?? "its context is not loaded")"
    }
    var noHostFlag: ResponseFlags { isResolved ? .noHealthyUpstream : [.noHealthyUpstream, .dnsResolutionFailure] }
    var noHostDetails: StaticString { isResolved ? "no_healthy_upstream" : "dns_resolution_failure" }
    var noHostText: String {
        isResolved
            ? "no healthy upstream: \(shared.name) has \(hosts.count) endpoints, none to be used"
            : "no upstream: \(shared.name) is not resolved yet"
    }

    /// The cluster is in no snapshot any more: connections end with their streams.
    func leave() {
        for host in hosts { host.leave() }
        hosts = []
        hostsByIndex = []
        _ = table.setMembers([], random: &worker.random)
        destinations?.leave()
    }
}
