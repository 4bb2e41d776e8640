/// The counters of one endpoint, all workers together, for the page that lists endpoints.
public struct HostTotals: Hashable, Sendable {
    public var cxTotal: UInt64 = 0
    public var cxActive: Int64 = 0
    public var cxConnectFail: UInt64 = 0
    public var rqTotal: UInt64 = 0
    public var rqActive: Int64 = 0
    public var rqSuccess: UInt64 = 0
    public var rqError: UInt64 = 0
    public var rqTimeout: UInt64 = 0

    public init() {}

    mutating func add(_ stats: HostStats) {
        cxTotal &+= stats.cxTotal.value
        cxActive &+= stats.cxActive.value
        cxConnectFail &+= stats.cxConnectFail.value
        rqTotal &+= stats.rqTotal.value
        rqActive &+= stats.rqActive.value
        rqSuccess &+= stats.rqSuccess.value
        rqError &+= stats.rqError.value
        rqTimeout &+= stats.rqTimeout.value
    }
}

/// The counters of all endpoints at one moment.
public struct HostTable: Sendable {
    private var rows: [[String]: HostTotals] = [:]

    init(_ group: BlockGroup<HostStats>) {
        rows.reserveCapacity(group.entries.count)
        for (labels, entry) in group.entries {
            var totals = HostTotals()
            for case let stats? in entry.blocks { totals.add(stats) }
            rows[labels] = totals
        }
    }

    /// Zeros for an endpoint that no worker has used.
    public func totals(cluster: String, address: String) -> HostTotals {
        rows[[cluster, address]] ?? HostTotals()
    }
}
