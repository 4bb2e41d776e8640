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
    /// When time alone changes what an endpoint may get.
    private var standingsDue = Instant.never
    /// Since when some endpoint wants probes.
    private var probingSince = Instant.never
    private var isResolved = false
    /// Of an ORIGINAL_DST cluster.
    private(set) var destinations: DestinationTable?

    // What `Stream+Admission` and `Stream+Retries` go by.
    var retryBudget: RetryBudget
    var limiter: ConcurrencyLimiter?
    /// Another one for each other limiter.
    private(set) var limiterGeneration = 1
    var queue: AdmissionQueue<QueuedStream>
    var isAdmitting = false
    /// Of this worker, from admission to the end; those that wait too.
    private(set) var requestsUnderWay = 0
    private(set) var isLimited = false
    /// Whether a request's key decides where it goes.
    private(set) var isConsistent = false

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
        table = EndpointTable(rules: shared.balancing)
        connectTimeout = Nanoseconds(shared.configuration.connectTimeout)
        idleTime = Self.idleTime(shared.configuration)
        multiplexedIdleTime = Self.multiplexedIdleTime(shared.configuration)
        retryBudget = RetryBudget(now: worker.loop.now)
        queue = AdmissionQueue(shared.configuration.queueLimits)
        isConsistent = shared.balancing.isConsistent
        configureLimits(shared.configuration.resilience?.limiter)
        if shared.configuration.discovery == .originalDestination { destinations = DestinationTable(cluster: self) }
        update(hosts: shared.hosts)
    }

    /// The same cluster, perhaps with other settings, in a new snapshot: connections and balancing state stay.
    func adopt(_ successor: RuntimeCluster) {
        guard successor !== shared else { return }
        let before = shared
        let old = before.configuration
        shared = successor
        connectTimeout = Nanoseconds(successor.configuration.connectTimeout)
        idleTime = Self.idleTime(successor.configuration)
        multiplexedIdleTime = Self.multiplexedIdleTime(successor.configuration)
        let new = successor.configuration
        if old.discovery != new.discovery {
            destinations?.leave()
            destinations = new.discovery == .originalDestination ? DestinationTable(cluster: self) : nil
        }
        if before.balancing != successor.balancing { table.configure(rules: successor.balancing, random: &worker.random) }
        isConsistent = successor.balancing.isConsistent
        if old.resilience?.limiter != new.resilience?.limiter || old.circuitBreakers != new.circuitBreakers {
            configureLimits(new.resilience?.limiter)
        }
        // Who waits in the old queue would never be called.
        if old.queueLimits != new.queueLimits, queue.count == 0 { queue = AdmissionQueue(new.queueLimits) }
        retryBudget.configure(new.resilience?.retryBudget ?? RetryBudgetLimits())
        update(hosts: successor.hosts)
        if old.upstreamProtocol != new.upstreamProtocol || old.tls != new.tls { for host in hosts { host.retireConnections() } }
    }

    private func configureLimits(_ adaptive: AdaptiveLimit?) {
        limiterGeneration += 1
        limiter = adaptive.map { ConcurrencyLimiter(rules: .init($0), now: worker.loop.now) }
        isLimited = limiter != nil || shared.configuration.circuitBreakers.maxRequests != nil
        retryBudget.configure(shared.configuration.resilience?.retryBudget ?? RetryBudgetLimits())
    }

    /// Endpoints that stay keep their connections; the connections of those that left end with the stream they carry.
    func forEachHost(_ body: (WorkerHost) -> Void) {
        hosts.forEach(body)
    }

    func update(hosts set: HostSet) {
        // Those of a cluster that begins are not held back: there is nobody else.
        let isFirst = hosts.isEmpty
        isResolved = set.isResolved
        var known = Dictionary(uniqueKeysWithValues: hosts.map { ($0.shared.address, $0) })
        let indices = table.setMembers(
            set.hosts.map { EndpointTable.Member(address: $0.address, weight: $0.weight, priority: $0.priority, locality: $0.locality) },
            random: &worker.random)
        hosts = zip(set.hosts, indices).map { shared, index in
            guard let host = known.removeValue(forKey: shared.address) else {
                return WorkerHost(shared, index: index, cluster: self, joined: isFirst ? .never : worker.loop.now)
            }
            host.adopt(shared, index: index)
            return host
        }
        hostsByIndex = Array(repeating: nil, count: table.indexBound)
        for host in hosts { hostsByIndex[host.index] = host }
        refreshStandings(now: worker.loop.now, random: &worker.random)
        // Last: who waits for one of them picks another.
        for host in known.values { host.leave() }
        destinations?.update(hosts: hosts)
    }

    /// Asks what each endpoint may get: its breaker moved, or time went by.
    private func refreshStandings(now: Instant, random: inout SeededRandom) {
        let detector = shared.detector
        for host in hosts where host.shared.health.state != .closed { detector.advance(host.shared.health, now: now) }
        seenEpoch = detector.epoch
        standingsDue = .never
        let hosts = hostsByIndex
        var due = Instant.never
        table.updateStandings(now: now, random: &random) { index in
            guard let host = hosts[index] else { return .unavailable }
            for change in [detector.nextChange(of: host.shared.health), host.rampEnd] where change > now { due = min(due, change) }
            return host.standing(now: now)
        }
        standingsDue = due
        probingSince = table.wantsProbes ? min(probingSince, now) : .never
        for change in table.takePanicChanges() {
            detector.recordPanic(
                change.isOn, priority: change.priority, available: change.available, total: change.total, epoch: seenEpoch, now: now)
        }
    }

    // MARK: Attempts

    /// The endpoint for the next attempt of a request, another one than before if there is one; nil if there is none to be had.
    ///
    /// None of an ORIGINAL_DST cluster: its endpoints are not equally good, each request has its own (`destinations`).
    ///
    /// - Parameters:
    ///   - mayProbe: it can be made again elsewhere, so it may find out whether an endpoint is well again.
    ///   - hash: what a consistent policy goes by.
    func pick(for attempts: inout Attempts, mayProbe: Bool, hash: UInt64) -> WorkerHost? {
        guard destinations == nil else { return nil }
        let now = worker.loop.now
        if shared.detector.epoch != seenEpoch || now >= standingsDue { refreshStandings(now: now, random: &worker.random) }
        attempts.ticket = .none
        if table.wantsProbes, attempts.tried.isEmpty, mayProbe || now - probingSince > Self.probePatience,
            let index = table.pickProbe(), let host = hostsByIndex[index],
            let ticket = shared.detector.probe(host.shared.health, now: now)
        {
            attempts.ticket = ticket
            attempts.tried.insert(index)
            return host
        }
        let picked =
            attempts.tried.isEmpty
            ? table.pick(hash: hash, now: now, random: &worker.random)
            : table.pick(excluding: attempts.tried, hash: hash, now: now, random: &worker.random)
        guard let picked else { return nil }
        if picked.isPanic { stats.lbHealthyPanic.increment() }
        attempts.tried.insert(picked.index)
        return hostsByIndex[picked.index]
    }

    /// Where no request that can be risked comes along, any other must do, or the endpoint would never return.
    private static let probePatience = Nanoseconds.seconds(1)

    /// The endpoint for a connection that is one attempt.
    func pick() -> WorkerHost? {
        var attempts = Attempts()
        return pick(for: &attempts, mayProbe: false, hash: worker.random.next())
    }

    /// Whether an endpoint is left that a request did not try.
    func hasOthers(than tried: TriedEndpoints) -> Bool {
        destinations == nil && table.availableCount > tried.count
    }

    /// Whether an attempt that has used up its time should be given up for another (`Deadlines.perTryTimeoutHolds`).
    func perTryTimeoutHolds(_ time: Nanoseconds) -> Bool {
        let (slow, available) = table.slowCount(above: Nanoseconds(count: time.count / 2), now: worker.loop.now)
        return Deadlines.perTryTimeoutHolds(slow: slow, available: available)
    }

    func started(_ host: WorkerHost) {
        table.started(host.index, now: worker.loop.now)
        stats.upstreamRqTotal.increment()
        stats.upstreamRqActive.increment()
        host.stats.rqTotal.increment()
        host.stats.rqActive.increment()
    }

    /// - Parameter latency: nil if it says nothing about the endpoint: an error comes fast.
    func answered(_ host: WorkerHost, started: Instant, latency: Nanoseconds?) {
        table.answered(host.index, started: started, latency: latency, now: worker.loop.now)
    }

    /// After `answered`.
    func finished(_ host: WorkerHost) {
        table.released(host.index)
        stats.upstreamRqActive.decrement()
        host.stats.rqActive.decrement()
    }

    /// Takes in how an attempt ended.
    ///
    /// - Parameter waited: for its answer to begin.
    func record(_ outcome: AttemptOutcome, on host: WorkerHost, waited: Nanoseconds = .zero, ticket: ProbeTicket = .none) {
        shared.detector.record(outcome, on: host.shared.health, elapsed: waited, ticket: ticket, now: worker.loop.now)
        if case .ok = outcome {
            host.stats.rqSuccess.increment()
        } else if outcome.verdict() == .counts {
            host.stats.rqError.increment()
        }
    }

    func requestBegan() {
        requestsUnderWay += 1
        retryBudget.requestStarted(requests: requestsUnderWay)
    }

    func requestEnded() {
        requestsUnderWay -= 1
    }

    /// What a new connection speaks is known only when it is open.
    var negotiates: Bool {
        guard let tls = shared.configuration.tls else { return false }
        return shared.configuration.upstreamProtocol == .auto || !tls.isEnforced
    }

    /// Each connection of a TCP listener needs one of its own (max_connections).
    var mayOpenTunnel: Bool {
        guard let most = shared.configuration.circuitBreakers.maxConnections else { return true }
        return shared.usage.connections.value < Int(most)
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
        let left = hosts
        hosts = []
        hostsByIndex = []
        _ = table.setMembers([], random: &worker.random)
        for host in left { host.leave() }
        destinations?.leave()
    }
}

extension Cluster {
    /// Without a policy of its own nobody waits: App Mesh's limits refuse at once.
    fileprivate var queueLimits: QueueLimits { resilience?.queue ?? QueueLimits(capacity: 0) }
}

extension BalancingRules {
    fileprivate var isConsistent: Bool {
        switch policy {
        case .ringHash, .maglev: true
        case .roundRobin, .leastRequest, .random, .peakEWMA: false
        }
    }
}
