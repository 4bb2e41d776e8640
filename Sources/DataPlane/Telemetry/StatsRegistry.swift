public import Base
public import ProxyConfig
import Synchronization

/// Names the blocks of all workers and adds them up for whoever looks.
///
/// Cold: workers ask it once for every thing a snapshot names and keep what they get. The same name and worker gives the same block,
/// so counters survive a change of configuration. A block that nobody but the registry holds any more has left the configuration,
/// and no stream uses it; it is shown for a grace time, so that the last scrape sees it, and then forgotten.
public final class StatsRegistry: Sendable {
    /// How many things of one kind (routes, hosts, ...) get series of their own. Prometheus servers suffer from some ten thousand
    /// series per target; what comes later counts in one shared block labelled `other`, and `label_overflow_total` tells.
    public static let labelSetLimit = 5000

    /// How long a thing is shown after it left: two scrapes at the usual intervals.
    public static let grace = Nanoseconds.seconds(120)

    public let workerCount: Int
    let protocolErrorReasons: [String]
    private let state: Mutex<State>

    struct State: ~Copyable {
        var node: Node?
        var listeners = BlockGroup<ListenerStats>(kind: .listener)
        var http = BlockGroup<DownstreamHTTPStats>(kind: .http)
        var tcp = BlockGroup<TCPStats>(kind: .tcp)
        var clusters = BlockGroup<ClusterStats>(kind: .cluster)
        var hosts = BlockGroup<HostStats>(kind: .host)
        var routes = BlockGroup<RouteStats>(kind: .route)
        var workers = BlockGroup<WorkerStats>(kind: .worker)
        var providers: [@Sendable (inout ScrapeSamples) -> Void] = []
    }

    /// - Parameter protocolErrorReasons: names of the codecs' reasons, at the index of their raw value; a label, so snake_case.
    public init(workerCount: Int, protocolErrorReasons: [String] = []) {
        self.workerCount = workerCount
        self.protocolErrorReasons = protocolErrorReasons
        state = Mutex(State())
    }

    /// Who this proxy is: labels of App Mesh's metrics.
    public func setNode(_ node: Node) {
        state.withLock { $0.node = node }
    }

    // MARK: Blocks, for workers

    /// - Parameter address: as the listener was configured; `10.0.0.1:80` is shown as `10.0.0.1_80`, as Envoy does.
    public func listener(_ address: SocketAddress, worker: Int) -> ListenerStats {
        let name = String("\(address)".map { $0 == ":" ? "_" : $0 })
        return state.withLock { $0.listeners.block([name], worker, of: workerCount, make: ListenerStats.init) }
    }

    public func http(statPrefix: String, worker: Int) -> DownstreamHTTPStats {
        state.withLock { $0.http.block([statPrefix], worker, of: workerCount, make: DownstreamHTTPStats.init) }
    }

    public func tcp(statPrefix: String, worker: Int) -> TCPStats {
        state.withLock { $0.tcp.block([statPrefix], worker, of: workerCount, make: TCPStats.init) }
    }

    public func cluster(_ name: String, worker: Int) -> ClusterStats {
        state.withLock { $0.clusters.block([name], worker, of: workerCount, make: ClusterStats.init) }
    }

    public func host(cluster: String, address: SocketAddress, worker: Int) -> HostStats {
        state.withLock { $0.hosts.block([cluster, "\(address)"], worker, of: workerCount, make: HostStats.init) }
    }

    public func route(_ labels: RouteLabels, worker: Int) -> RouteStats {
        let values = [labels.side.rawValue, labels.virtualHost, labels.route, labels.target]
        return state.withLock { $0.routes.block(values, worker, of: workerCount, make: RouteStats.init) }
    }

    public func worker(_ index: Int) -> WorkerStats {
        state.withLock { $0.workers.block(["\(index)"], index, of: workerCount, make: WorkerStats.init) }
    }

    // MARK: Everything else

    /// Adds a source of values that others keep (outlier detection, membership, the process): called at each scrape, on the thread
    /// that scrapes, without a lock held.
    public func addProvider(_ provider: @escaping @Sendable (inout ScrapeSamples) -> Void) {
        state.withLock { $0.providers.append(provider) }
    }

    /// Forgets what has been unused for the grace time. Every scrape does it too; call it when a snapshot was swapped.
    public func sweep(now: Instant) {
        state.withLock { $0.sweep(now: now) }
    }

    /// The counters of all endpoints, as of now.
    public func hostTable() -> HostTable {
        // Copied out, so that a worker that applies a snapshot does not wait for the adding.
        HostTable(state.withLock { $0.hosts })
    }

    /// The counters of all clusters and their endpoints, as of now.
    public func clusterTable() -> ClusterTable {
        let (clusters, hosts, listeners) = state.withLock { ($0.clusters, $0.hosts, $0.listeners) }
        return ClusterTable(clusters: clusters, hosts: hosts, listeners: listeners)
    }

    /// Adds up everything, as of now. Costs some milliseconds with a thousand clusters: for the admin thread.
    ///
    /// - Parameter adding: what a provider does, for values that belong to the thread that scrapes.
    public func scrape(now: Instant, adding own: (inout ScrapeSamples) -> Void = { _ in }) -> Scrape {
        // The lock is held only to copy the lists of blocks, since a worker that applies a snapshot waits for it.
        let (groups, providers, node) = state.withLock { state in
            state.sweep(now: now)
            let groups = Groups(
                listeners: state.listeners, http: state.http, tcp: state.tcp, clusters: state.clusters, hosts: state.hosts,
                routes: state.routes, workers: state.workers)
            return (groups, state.providers, state.node)
        }
        var samples = ScrapeSamples()
        for provider in providers { provider(&samples) }
        own(&samples)
        for (kind, count) in groups.overflows where count > 0 { samples.add(.labelOverflowTotal, count, labels: [kind.rawValue]) }
        return Scrape(tables: groups.tables(), samples: samples, node: node, protocolErrorReasons: protocolErrorReasons)
    }

    private struct Groups: Sendable {
        var listeners: BlockGroup<ListenerStats>
        var http: BlockGroup<DownstreamHTTPStats>
        var tcp: BlockGroup<TCPStats>
        var clusters: BlockGroup<ClusterStats>
        var hosts: BlockGroup<HostStats>
        var routes: BlockGroup<RouteStats>
        var workers: BlockGroup<WorkerStats>

        var overflows: [(BlockKind, UInt64)] {
            [
                (.listener, listeners.overflows), (.http, http.overflows), (.tcp, tcp.overflows), (.cluster, clusters.overflows),
                (.host, hosts.overflows), (.route, routes.overflows), (.worker, workers.overflows),
            ]
        }

        func tables() -> [StatTable] {
            [
                StatTable(listeners), StatTable(http), StatTable(tcp), StatTable(clusters), StatTable(hosts), StatTable(routes),
                StatTable(workers),
            ]
        }
    }
}

extension StatsRegistry.State {
    fileprivate mutating func sweep(now: Instant) {
        listeners.sweep(now: now)
        http.sweep(now: now)
        tcp.sweep(now: now)
        clusters.sweep(now: now)
        hosts.sweep(now: now)
        routes.sweep(now: now)
        workers.sweep(now: now)
    }
}

/// What the metrics of a request are labelled with.
public struct RouteLabels: Hashable, Sendable {
    public var side: Listener.Direction
    /// App Mesh: the virtual service (outbound).
    public var virtualHost: String
    /// Empty where no route matched.
    public var route: String
    /// The cluster; empty where none was chosen.
    public var target: String

    public init(side: Listener.Direction, virtualHost: String, route: String, target: String) {
        self.side = side
        self.virtualHost = virtualHost
        self.route = route
        self.target = target
    }
}

/// What has blocks, and how it is named.
enum BlockKind: String, CaseIterable, Sendable {
    case listener
    case http
    case tcp
    case cluster
    case host
    case route
    case worker

    /// What stands before a metric's name in Prometheus.
    var family: StaticString {
        switch self {
        case .listener: "envoy_listener_"
        case .http: "envoy_http_"
        case .tcp: "envoy_tcp_"
        case .cluster: "envoy_cluster_"
        case .host: "outrigger_host_"
        case .route: "outrigger_"
        case .worker: "outrigger_worker_"
        }
    }

    var labels: [String] {
        switch self {
        case .listener: ["envoy_listener_address"]
        case .http: ["envoy_http_conn_manager_prefix"]
        case .tcp: ["envoy_tcp_prefix"]
        case .cluster: ["envoy_cluster_name"]
        case .host: ["cluster", "address"]
        case .route: ["side", "virtual_host", "route", "target"]
        case .worker: ["worker"]
        }
    }

    /// What stands before a metric's name in /stats, with the dot.
    func scope(_ values: [String]) -> String {
        switch self {
        case .listener, .http, .tcp, .cluster: "\(rawValue).\(values[0])."
        case .host: "cluster.\(values[0]).host.\(values[1])."
        case .route: "route.\(values.joined(separator: "."))."
        case .worker: "server.worker_\(values[0])."
        }
    }
}

/// The blocks of one kind, by label values and worker.
struct BlockGroup<Block: StatBlock>: Sendable {
    struct Entry: Sendable {
        var blocks: [Block?]
        var unusedSince: Instant?
    }

    let kind: BlockKind
    private(set) var entries: [[String]: Entry] = [:]
    /// How often a thing had to share the block `other`.
    private(set) var overflows: UInt64 = 0

    init(kind: BlockKind) {
        self.kind = kind
    }

    mutating func block(_ values: [String], _ worker: Int, of workerCount: Int, make: () -> Block) -> Block {
        precondition(worker >= 0 && worker < workerCount, "worker \(worker) of \(workerCount)")
        var key = values
        if entries[key] == nil, entries.count >= StatsRegistry.labelSetLimit {
            overflows += 1
            key = values.map { _ in "other" }
        }
        if let known = entries[key]?.blocks[worker] {
            entries[key]?.unusedSince = nil
            return known
        }
        let made = make()
        entries[key, default: Entry(blocks: Array(repeating: nil, count: workerCount))].blocks[worker] = made
        entries[key]?.unusedSince = nil
        return made
    }

    mutating func sweep(now: Instant) {
        var forgotten: [[String]] = []
        // Not `entries.indices`: it holds a copy of the dictionary, and with it a second reference to every block.
        var index = entries.startIndex
        while index < entries.endIndex {
            if !entries.values[index].isUnused() {
                entries.values[index].unusedSince = nil
            } else if let since = entries.values[index].unusedSince {
                if now - since >= StatsRegistry.grace { forgotten.append(entries.keys[index]) }
            } else {
                entries.values[index].unusedSince = now
            }
            entries.formIndex(after: &index)
        }
        for key in forgotten { entries[key] = nil }
    }
}

extension BlockGroup.Entry {
    /// Whether the registry alone holds all the blocks. Nobody can get one meanwhile: the registry's lock is held.
    fileprivate mutating func isUnused() -> Bool {
        for index in blocks.indices where blocks[index] != nil {
            if !isKnownUniquelyReferenced(&blocks[index]) { return false }
        }
        return true
    }
}
