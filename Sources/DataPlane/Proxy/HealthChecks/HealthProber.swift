import Base
import HTTPTransport
import ProxyConfig
import Reactor
import Resilience

/// Checks the endpoints of all clusters that ask for it, once for the process, and connects to those that could not be connected to.
///
/// It follows the endpoints of the running snapshot: who stays keeps its results and its connection, who leaves is asked no more.
/// Confined to the supervisor's thread; a check costs no worker anything.
final class HealthProber {
    let board = HealthCheckBoard()
    /// Whether the process is short of descriptors: then no connection is kept for the next check.
    var isShort: () -> Bool = { false }

    private let loop: EventLoop
    private let slots: ProbeSlots
    private let buffers = LinkBuffers(bytes: 16 * 1024)
    private var random: SeededRandom
    private var clusters: [String: CheckedCluster] = [:]
    private var reconnections: [String: Reconnections] = [:]

    init(loop: EventLoop, seed: UInt64, slots: ProbeSlots = ProbeSlots()) {
        self.loop = loop
        self.slots = slots
        random = SeededRandom(seed: seed)
    }

    deinit {
        for checked in clusters.values.flatMap(\.hosts.values) {
            loop.cancelDeadline(checked)
            checked.forget()
        }
        for others in reconnections.values { others.stop() }
    }

    /// Goes over to another snapshot.
    func follow(_ snapshot: RuntimeSnapshot) {
        let names = Set(snapshot.clusters.map(\.name))
        for (name, cluster) in clusters where !names.contains(name) { drop(cluster) }
        for (name, others) in reconnections where !names.contains(name) {
            others.stop()
            reconnections[name] = nil
        }
        for cluster in snapshot.clusters { update(cluster) }
    }

    /// A cluster's endpoints, or its settings, are others. Called before the workers hear of it.
    func update(_ shared: RuntimeCluster) {
        reconnections[shared.name]?.shared = shared
        guard let check = shared.configuration.healthChecks.first else {
            if let cluster = clusters[shared.name] { drop(cluster) }
            return
        }
        let cluster = clusters[shared.name] ?? CheckedCluster(shared, check)
        clusters[shared.name] = cluster
        let isOther = cluster.adopt(shared, check)
        board.clusters[shared.name, default: HealthCheckBoard.ClusterReport(check: check)].check = check
        var known = cluster.hosts
        cluster.hosts = [:]
        for host in shared.hosts.hosts {
            if let checked = known.removeValue(forKey: host.address) {
                // Where outlier detection is of another kind now, its endpoints begin anew; what checks said holds on.
                if checked.host.health !== host.health { shared.detector.beginChecks(of: host.health, as: checked.host.health.checks) }
                cluster.hosts[host.address] = checked
                checked.adopt(host, rules: HealthCheckState.Rules(check), isOther: isOther)
                scheduleSooner(checked)
            } else {
                add(host, to: cluster)
            }
        }
        for checked in known.values { leave(checked, cluster) }
    }

    private func add(_ host: Host, to cluster: CheckedCluster) {
        let checked = CheckedHost(host, HealthCheckState.Rules(cluster.check)) { [unowned self, unowned cluster] checked in
            check(checked, of: cluster)
        }
        cluster.hosts[host.address] = checked
        cluster.shared.detector.beginChecks(of: host.health)
        report(checked, of: cluster)
        schedule(checked)
    }

    private func leave(_ checked: CheckedHost, _ cluster: CheckedCluster) {
        loop.cancelDeadline(checked)
        checked.forget()
        board.clusters[cluster.shared.name]?.hosts[checked.host.address] = nil
    }

    private func drop(_ cluster: CheckedCluster) {
        for checked in cluster.hosts.values {
            cluster.shared.detector.endChecks(of: checked.host.health)
            loop.cancelDeadline(checked)
            checked.forget()
        }
        clusters[cluster.shared.name] = nil
        board.clusters[cluster.shared.name] = nil
    }

    // MARK: Checks

    private func schedule(_ checked: CheckedHost) {
        loop.setDeadline(checked, checked.state.nextCheck(now: loop.now, draw: random.next()))
    }

    /// The interval may be shorter now, or what was under way was broken off.
    private func scheduleSooner(_ checked: CheckedHost) {
        guard checked.probe == nil else { return }
        let next = checked.state.nextCheck(now: loop.now, draw: random.next())
        if next < checked.deadline { loop.setDeadline(checked, next) }
    }

    private func check(_ checked: CheckedHost, of cluster: CheckedCluster) {
        guard checked.probe == nil else { return }
        board.clusters[cluster.shared.name]?.counts.attempts += 1
        let probe = Probe(
            loop: loop, cluster: cluster.shared, host: checked.host, port: cluster.check.port,
            request: cluster.check.request(to: checked.host, of: cluster.shared), timeout: checked.state.rules.timeout,
            connection: checked.connection, buffers: buffers
        ) { [unowned self, unowned checked, unowned cluster] end in ended(end, checked, of: cluster) }
        checked.connection = nil
        checked.probe = probe
        slots.run(probe)
    }

    private func ended(_ end: ProbeEnd, _ checked: CheckedHost, of cluster: CheckedCluster) {
        let probe = checked.probe
        if isShort() { probe?.connection?.giveUp() } else { checked.connection = probe?.connection }
        checked.probe = nil
        if let result = end.result {
            let outcome = checked.state.take(result)
            count(result, of: cluster.shared.name)
            checked.last = HealthCheckBoard.Last(result: result, seen: end.seen, at: loop.now, elapsed: probe?.elapsed ?? .zero)
            cluster.shared.detector.checked(checked.host.health, outcome, seen: end.seen, now: loop.now)
            report(checked, of: cluster)
        }
        schedule(checked)
    }

    private func count(_ result: HealthCheckResult, of cluster: String) {
        var counts = board.clusters[cluster]?.counts ?? HealthCheckBoard.Counts()
        if result.hasPassed { counts.successes += 1 } else { counts.failures += 1 }
        if result == .unreachable || result == .timedOut { counts.networkFailures += 1 }
        board.clusters[cluster]?.counts = counts
    }

    private func report(_ checked: CheckedHost, of cluster: CheckedCluster) {
        board.clusters[cluster.shared.name]?.hosts[checked.host.address] = HealthCheckBoard.HostReport(
            standing: checked.state.standing, contrary: checked.state.contrary, last: checked.last)
    }

    // MARK: Endpoints that could not be connected to

    /// An endpoint of this cluster was ejected. Where its policy says so, connections are made to those that could not be connected to, until
    /// there are none.
    func ejected(in shared: RuntimeCluster) {
        guard reconnections[shared.name] == nil, shared.detector.connectionProbeInterval != nil else { return }
        reconnections[shared.name] = Reconnections(shared, loop: loop, slots: slots, buffers: buffers) { [unowned self] in
            reconnections[shared.name] = nil
        }
    }
}

/// A cluster whose endpoints are checked.
private final class CheckedCluster {
    var shared: RuntimeCluster
    var check: HealthCheck
    var hosts: [SocketAddress: CheckedHost] = [:]

    init(_ shared: RuntimeCluster, _ check: HealthCheck) {
        self.shared = shared
        self.check = check
    }

    /// Whether what is asked, or how, is something else now: then what was found before says nothing of it.
    func adopt(_ shared: RuntimeCluster, _ check: HealthCheck) -> Bool {
        let isOther =
            self.check.kind != check.kind || self.check.port != check.port || self.shared.configuration.tls != shared.configuration.tls
        self.shared = shared
        self.check = check
        return isOther
    }
}

/// An endpoint that is checked; its deadline is the next check.
private final class CheckedHost: Timed {
    private(set) var host: Host
    var state: HealthCheckState
    var last: HealthCheckBoard.Last?
    /// On its way, or waiting for a place.
    var probe: Probe?
    /// Kept for the next check.
    var connection: ProbeConnection?
    private let isDue: (CheckedHost) -> Void

    init(_ host: Host, _ rules: HealthCheckState.Rules, isDue: @escaping (CheckedHost) -> Void) {
        self.host = host
        state = HealthCheckState(rules)
        self.isDue = isDue
    }

    /// - Parameter isOther: it begins anew: the first result decides.
    func adopt(_ host: Host, rules: HealthCheckState.Rules, isOther: Bool) {
        let wasPlaintext = self.host.isPlaintext
        self.host = host
        state.rules = rules
        if isOther || wasPlaintext != host.isPlaintext { forget() }
        if isOther { state = HealthCheckState(rules) }
    }

    /// Ends what is under way, and lets go of the connection.
    func forget() {
        probe?.cancel()
        probe = nil
        connection?.giveUp()
        connection = nil
    }

    override func deadlineReached(now: Instant) {
        isDue(self)
    }
}

extension HealthCheck {
    fileprivate func request(to host: Host, of cluster: RuntimeCluster) -> ProbeRequest {
        switch kind {
        case .http(let name, let path): .http(host: name.isEmpty ? cluster.name : name, path: path, http2: false)
        case .http2(let name, let path): .http(host: name.isEmpty ? cluster.name : name, path: path, http2: true)
        case .grpc: .grpc(authority: host.hostname.isEmpty ? host.label : "\(host.hostname):\(host.address.port)")
        case .tcp: .connection
        }
    }
}
