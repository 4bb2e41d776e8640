public import EventStore

/// Where the managed proxies of each node can be reached: what discovery hands out beside DNS and EndpointSets.
public struct EndpointDirectory: Projection, Equatable {
    public static let name = "endpoints"
    public static let version = 2

    public struct Endpoint: Hashable, Sendable, Codable {
        public var instance: String
        public var address: String
        public var ports: [Int]
        public var zone: String?
        /// With its own certificate of the mesh.
        public var takesTLS: Bool
        /// Gets no new requests, finishes those it has.
        public var isDraining: Bool
    }

    private struct Registered: Hashable, Codable {
        var endpoint: Endpoint
        /// Registered is not yet ready to be called.
        var isReady: Bool
    }

    public var sequence = 0
    /// Counts the changes of what `endpoints` gives.
    public private(set) var generation = 0
    private var nodes: [ObjectKey: [String: Registered]] = [:]

    public init() {}

    /// Those that are ready or drain, in the order of instances.
    public func endpoints(of node: ObjectKey) -> [Endpoint] {
        (nodes[node] ?? [:]).values.filter(\.isReady).map(\.endpoint).sorted { $0.instance < $1.instance }
    }

    public func hasEndpoints(_ node: ObjectKey) -> Bool {
        nodes[node]?.values.contains(where: \.isReady) ?? false
    }

    /// The nodes that have any.
    public var nodesWithEndpoints: [ObjectKey] {
        nodes.filter { $0.value.values.contains(where: \.isReady) }.keys.sorted()
    }

    public mutating func apply(_ event: MeshEvent, _ record: StoredEvent) {
        switch event {
        case .nodeRegistered(let node):
            let endpoint = Endpoint(
                instance: node.instance, address: node.address, ports: node.ports, zone: node.zone, takesTLS: node.takesTLS ?? false,
                isDraining: false)
            // Whoever registers again as before (its stream was lost for a moment) stays what it was.
            let before = nodes[node.node]?[node.instance]
            if let before, before.endpoint == endpoint { return }
            nodes[node.node, default: [:]][node.instance] = Registered(endpoint: endpoint, isReady: false)
            if before?.isReady == true { generation += 1 }
        case .nodeReady(let change):
            update(change.instance) { $0 = Registered(endpoint: $0.endpoint.with(isDraining: false), isReady: true) }
        case .nodeDraining(let change): update(change.instance) { $0.endpoint.isDraining = true }
        case .nodeLeft(let change):
            guard let gone = nodes[change.instance.node]?.removeValue(forKey: change.instance.instance) else { return }
            if nodes[change.instance.node]?.isEmpty == true { nodes[change.instance.node] = nil }
            if gone.isReady { generation += 1 }
        default: break
        }
    }

    private mutating func update(_ key: InstanceKey, _ body: (inout Registered) -> Void) {
        guard let before = nodes[key.node]?[key.instance] else { return }
        var after = before
        body(&after)
        nodes[key.node]?[key.instance] = after
        if after != before, before.isReady || after.isReady { generation += 1 }
    }
}

extension EndpointDirectory.Endpoint {
    fileprivate func with(isDraining: Bool) -> Self {
        var copy = self
        copy.isDraining = isDraining
        return copy
    }
}
