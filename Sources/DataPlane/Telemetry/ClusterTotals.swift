import Base

/// What a control plane is told of one cluster, all workers together.
public struct ClusterTotals: Sendable {
    /// Requests that an endpoint answered.
    public var completed: UInt64 = 0
    /// Of these, 5xx.
    public var serverErrors: UInt64 = 0
    /// gRPC calls that ended with a status other than OK.
    public var grpcFailures: UInt64 = 0
    public var active: Int64 = 0
    public var latency = HistogramReading(.requests)

    mutating func add(_ stats: ClusterStats) {
        completed &+= stats.upstreamRq.completed.value
        serverErrors &+= stats.upstreamRq.count(ofClass: 5)
        grpcFailures &+= stats.grpcFailure.value
        active &+= stats.upstreamRqActive.value
        latency.add(stats.upstreamRqTime)
    }
}

/// The counters of clusters and endpoints at one moment.
public struct ClusterTable: Sendable {
    public let hosts: HostTable
    /// Connections of callers that are open.
    public private(set) var downstreamConnections: Int64 = 0
    private let clusters: BlockGroup<ClusterStats>

    init(clusters: BlockGroup<ClusterStats>, hosts: BlockGroup<HostStats>, listeners: BlockGroup<ListenerStats>) {
        self.clusters = clusters
        self.hosts = HostTable(hosts)
        for entry in listeners.entries.values {
            for case let stats? in entry.blocks { downstreamConnections &+= stats.downstreamCxActive.value }
        }
    }

    /// Zeros for a cluster that no worker has.
    public func totals(_ cluster: String) -> ClusterTotals {
        var totals = ClusterTotals()
        for case let stats? in clusters.entries[[cluster]]?.blocks ?? [] { totals.add(stats) }
        return totals
    }
}
