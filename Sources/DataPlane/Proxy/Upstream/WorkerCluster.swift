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

    init(_ shared: RuntimeCluster, worker: Worker) {
        self.shared = shared
        self.worker = worker
        nameBytes = Array(shared.name.utf8)
        stats = worker.registry.cluster(shared.name, worker: worker.index)
        table = EndpointTable(
            policy: shared.configuration.loadBalancing, panicThresholdPercent: shared.configuration.panicThresholdPercent)
        unsupported = shared.configuration.unsupported
        connectTimeout = Nanoseconds(shared.configuration.connectTimeout)
        idleTime = shared.configuration.idleTimeout.map(Nanoseconds.init) ?? Self.defaultIdleTime
        if shared.configuration.discovery == .originalDestination { destinations = DestinationTable(cluster: self) }
        update(hosts: shared.hosts)
    }

    /// The same cluster, perhaps with other settings, in a new snapshot: connections and balancing state stay.
    func adopt(_ successor: RuntimeCluster) {
        guard successor !== shared else { return }
        let old = shared.configuration
        shared = successor
        unsupported = successor.configuration.unsupported
        connectTimeout = Nanoseconds(successor.configuration.connectTimeout)
        idleTime = successor.configuration.idleTimeout.map(Nanoseconds.init) ?? Self.defaultIdleTime
        let new = successor.configuration
        if old.discovery != new.discovery {
            destinations?.leave()
            destinations = new.discovery == .originalDestination ? DestinationTable(cluster: self) : nil
        }
        if old.loadBalancing != new.loadBalancing || old.panicThresholdPercent != new.panicThresholdPercent {
            table.configure(policy: new.loadBalancing, panicThresholdPercent: new.panicThresholdPercent, random: &worker.random)
        }
        update(hosts: successor.hosts)
    }

    /// Endpoints that stay keep their connections; the connections of those that left end with the stream they carry.
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

    // What a request is told that finds no endpoint.
    private(set) var unsupported: String?
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

/// An endpoint as one worker sees it: its idle connections and counters.
final class WorkerHost {
    private(set) var shared: Host
    /// In the cluster's table.
    private(set) var index: Int
    /// Keeps the cluster for as long as a connection needs it; `WorkerCluster.leave` ends the cycle.
    let cluster: WorkerCluster
    let stats: HostStats
    private(set) var isGone = false
    /// Most recently used last, and used first: the others grow old and are closed.
    private var idle: [HTTP1Upstream] = []

    init(_ shared: Host, index: Int, cluster: WorkerCluster) {
        self.shared = shared
        self.index = index
        self.cluster = cluster
        stats = cluster.worker.registry.host(cluster: cluster.shared.name, address: shared.address, worker: cluster.worker.index)
    }

    func adopt(_ shared: Host, index: Int) {
        self.shared = shared
        self.index = index
    }

    /// The endpoint is no longer a member: no new request gets here, what is under way ends in peace.
    func leave() {
        isGone = true
        let closing = idle
        idle = []
        for connection in closing { connection.close() }
    }

    /// An idle connection, or a new one on its way.
    ///
    /// - Parameters:
    ///   - mustBeNew: do not use an idle connection at all.
    ///   - mustBeAlive: look at an idle connection before it is used; costs a system call.
    func lease(mustBeNew: Bool, mustBeAlive: Bool) throws(SystemError) -> HTTP1Upstream {
        while !mustBeNew, let connection = idle.popLast() {
            connection.isIdle = false
            if mustBeAlive, !Socket.isAliveAndSilent(connection.descriptor) {
                connection.close()
                continue
            }
            return connection
        }
        let worker = cluster.worker
        let (descriptor, isConnected) = try Socket.connect(to: shared.address)
        let connection = HTTP1Upstream(adopting: descriptor, host: self, isConnected: isConnected, worker: worker)
        do {
            try worker.loop.add(connection)
        } catch {
            connection.close()
            throw error
        }
        return connection
    }

    func putIdle(_ connection: HTTP1Upstream) {
        connection.isIdle = true
        idle.append(connection)
    }

    /// A connection is closed; if it was idle, nobody may lease it any more.
    func closed(_ connection: HTTP1Upstream) {
        guard connection.isIdle, let position = idle.lastIndex(where: { $0 === connection }) else { return }
        idle.remove(at: position)
    }
}
