import Balancing
import Base
import HTTP
import ProxyConfig
import Resilience
import Routing
import Synchronization
import Telemetry
import Transport

/// One endpoint of a cluster, shared by all workers.
final class Host: Sendable {
    let address: SocketAddress
    /// The name it was resolved from; empty for an address that was given as such.
    let hostname: String
    let weight: UInt32
    let priority: UInt32
    let locality: Locality
    /// Called without TLS where the cluster spares such endpoints.
    let isPlaintext: Bool
    let health: HostHealth
    /// The address as logs and metrics show it.
    let label: String

    init(
        address: SocketAddress, hostname: String, weight: UInt32, priority: UInt32, locality: Locality, isPlaintext: Bool = false,
        health: HostHealth
    ) {
        self.address = address
        self.hostname = hostname
        self.weight = weight
        self.priority = priority
        self.locality = locality
        self.isPlaintext = isPlaintext
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
    /// Nil = plaintext.
    let tls: RuntimeTLS?
    let detector: OutlierDetector
    /// Of the service as a whole; nil = it has none.
    let breaker: CircuitBreaker?
    let usage: ClusterUsage
    let balancing: BalancingRules
    private let current: Mutex<HostSet>

    init(
        configuration: Cluster, tls: RuntimeTLS? = nil, detector: OutlierDetector, breaker: CircuitBreaker? = nil,
        usage: ClusterUsage = ClusterUsage(), balancing: BalancingRules, hosts: HostSet
    ) {
        name = configuration.name
        self.configuration = configuration
        self.tls = tls
        self.detector = detector
        self.breaker = breaker
        self.usage = usage
        self.balancing = balancing
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
    /// By `CompiledRoute.index`.
    let policies: [RoutePolicy]
    /// For each of `routes.clusterNames` the cluster's place in the snapshot; nil = it has none of that name.
    let clusterIndices: [Int?]
    let accessLogs: [RuntimeAccessLog]
    let upgradeTypes: [[UInt8]]

    init(
        configuration: HTTPConnectionManager, direction: Listener.Direction, routes: RouteTable, clusterIndices: [Int?],
        policies: [RoutePolicy], accessLogs: [RuntimeAccessLog]
    ) {
        self.configuration = configuration
        self.direction = direction
        self.routes = routes
        self.policies = policies
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

/// A filter chain made ready to run.
final class RuntimeFilterChain: Sendable {
    let configuration: FilterChain
    /// Nil = plaintext.
    let tls: RuntimeTLS?
    let filter: RuntimeFilter

    init(configuration: FilterChain, tls: RuntimeTLS?, filter: RuntimeFilter) {
        self.configuration = configuration
        self.tls = tls
        self.filter = filter
    }

    /// No byte is needed to choose it, if it is the only one.
    var needsNoBytes: Bool { tls == nil && configuration.match == FilterChainMatch() }

    /// How specific its match is for a connection, as Envoy orders it: server name, transport protocol, application protocols. Nil: it
    /// does not fit. `hello` is nil for plaintext.
    func rank(_ hello: ClientHello?) -> Int? {
        let match = configuration.match
        switch match.transportProtocol {
        case .tls where hello == nil: return nil
        case .plaintext where hello != nil: return nil
        default: break
        }
        // A chain with TLS of its own cannot serve plaintext; one without passes TLS on as it is, where it says so.
        if hello == nil ? tls != nil : tls == nil && match.transportProtocol != .tls { return nil }
        var rank = match.transportProtocol == nil ? 0 : 2
        if !match.applicationProtocols.isEmpty {
            guard let hello, !Set(hello.protocols).isDisjoint(with: match.applicationProtocols) else { return nil }
            rank += 1
        }
        if !match.serverNames.isEmpty {
            guard let name = hello?.serverName, let best = match.serverNames.compactMap({ $0.specificity(for: name) }).max() else {
                return nil
            }
            rank += best * 4
        }
        return rank
    }
}

extension String {
    /// How closely this pattern (`example.com`, `*.example.com`) names `name`, which is in lower case; nil: not at all.
    fileprivate func specificity(for name: String) -> Int? {
        if lowercased() == name { return 2 * utf8.count + 1 }
        guard hasPrefix("*."), name.hasSuffix(dropFirst().lowercased()) else { return nil }
        return 2 * utf8.count
    }
}

/// A listener made ready to run.
final class RuntimeListener: Sendable {
    let configuration: Listener
    let chains: [RuntimeFilterChain]

    init(configuration: Listener, chains: [RuntimeFilterChain]) {
        self.configuration = configuration
        self.chains = chains
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
