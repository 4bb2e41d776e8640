import Base
import HTTP
import ProxyConfig
import Resilience
import Routing
import Synchronization
import Telemetry

/// One endpoint of a cluster, shared by all workers.
final class Host: Sendable {
    let address: SocketAddress
    /// The name it was resolved from; empty for an address that was given as such.
    let hostname: String
    let weight: UInt32
    let priority: UInt32
    let locality: Locality
    let health: HostHealth
    /// The address as logs and metrics show it.
    let label: String

    init(address: SocketAddress, hostname: String, weight: UInt32, priority: UInt32, locality: Locality, health: HostHealth) {
        self.address = address
        self.hostname = hostname
        self.weight = weight
        self.priority = priority
        self.locality = locality
        self.health = health
        label = "\(address)"
    }
}

/// The endpoints of a cluster at one moment. Replaced whole.
final class HostSet: Sendable {
    let hosts: [Host]
    /// Some answer about the endpoints has arrived; before it an empty set says nothing.
    let isResolved: Bool

    init(hosts: [Host], isResolved: Bool) {
        self.hosts = hosts
        self.isResolved = isResolved
    }
}

/// A cluster as all threads share it: configuration, ejections, current endpoints. It survives a new snapshot that keeps its name.
final class RuntimeCluster: Sendable {
    let name: String
    let configuration: Cluster
    let detector: OutlierDetector
    private let current: Mutex<HostSet>

    init(configuration: Cluster, detector: OutlierDetector, hosts: HostSet) {
        name = configuration.name
        self.configuration = configuration
        self.detector = detector
        current = Mutex(hosts)
    }

    var hosts: HostSet {
        get { current.withLock { $0 } }
        set { current.withLock { $0 = newValue } }
    }
}

/// An access log: its compiled format and its file.
struct RuntimeAccessLog: Sendable {
    let format: AccessLogFormat
    let file: LogFile
}

/// What an HTTP connection of a listener gets.
final class RuntimeHTTPFilter: Sendable {
    let configuration: HTTPConnectionManager
    let direction: Listener.Direction
    let routes: RouteTable
    /// For each of `routes.clusterNames` the cluster's place in the snapshot; nil = it has none of that name.
    let clusterIndices: [Int?]
    let accessLogs: [RuntimeAccessLog]
    let upgradeTypes: [[UInt8]]

    init(
        configuration: HTTPConnectionManager, direction: Listener.Direction, routes: RouteTable, clusterIndices: [Int?],
        accessLogs: [RuntimeAccessLog]
    ) {
        self.configuration = configuration
        self.direction = direction
        self.routes = routes
        self.clusterIndices = clusterIndices
        self.accessLogs = accessLogs
        upgradeTypes = configuration.upgradeTypes.map { Array($0.lowercased().utf8) }
    }
}

/// What a TCP connection of a listener gets.
final class RuntimeTCPFilter: Sendable {
    let configuration: TCPProxy
    /// Cluster places in the snapshot with their weights, and the sum of these.
    let targets: [(cluster: Int, weight: UInt64)]
    let totalWeight: UInt64
    let accessLogs: [RuntimeAccessLog]

    init(configuration: TCPProxy, targets: [(cluster: Int, weight: UInt64)], accessLogs: [RuntimeAccessLog]) {
        self.configuration = configuration
        self.targets = targets
        totalWeight = targets.reduce(0) { $0 + $1.weight }
        self.accessLogs = accessLogs
    }

    /// The cluster for one connection, chosen by weight; nil if there is none with weight.
    func choose(random: UInt64) -> Int? {
        guard totalWeight > 0 else { return nil }
        var point = random.multipliedFullWidth(by: totalWeight).high
        for target in targets {
            if point < target.weight { return target.cluster }
            point -= target.weight
        }
        return nil
    }
}

enum RuntimeFilter: Sendable {
    case http(RuntimeHTTPFilter)
    case tcp(RuntimeTCPFilter)
}

/// A listener that this build can serve.
final class RuntimeListener: Sendable {
    let configuration: Listener
    let filter: RuntimeFilter

    init(configuration: Listener, filter: RuntimeFilter) {
        self.configuration = configuration
        self.filter = filter
    }
}

/// A snapshot made ready to run: tables compiled, names resolved to places. Built by the supervisor beside the old one, then handed to
/// every worker; nothing in it changes but the endpoints and the health of clusters.
final class RuntimeSnapshot: Sendable {
    let version: String
    let configuration: Snapshot
    let listeners: [RuntimeListener]
    let clusters: [RuntimeCluster]

    init(version: String, configuration: Snapshot, listeners: [RuntimeListener], clusters: [RuntimeCluster]) {
        self.version = version
        self.configuration = configuration
        self.listeners = listeners
        self.clusters = clusters
    }
}
