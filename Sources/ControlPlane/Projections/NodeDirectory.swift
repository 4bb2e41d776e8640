public import EventStore

/// The proxies: who is there, and which snapshot each wants, has taken, runs or refused.
public struct NodeDirectory: Projection, Equatable {
    public static let name = "nodes"
    public static let version = 2

    /// Of those that left: enough to see what happened to a deployment. The longest gone is forgotten first.
    public static let maxLeft = 1000

    public enum State: String, Hashable, Sendable, Codable {
        case registered
        case ready
        case draining
        case left
    }

    public struct Refusal: Hashable, Sendable, Codable {
        public var version: String
        public var reason: String
        public var time: UnixTime
    }

    public struct Instance: Hashable, Sendable, Codable {
        public var key: InstanceKey
        public var address: String
        public var ports: [Int]
        public var zone: String?
        public var takesTLS: Bool
        public var state: State
        /// Why it drains or left, where that is known.
        public var reason: String
        /// What it is meant to run.
        public var wanted: String?
        public var acknowledged: String?
        public var applied: String?
        public var appliedAt: UnixTime?
        /// The last refusal; gone once a later snapshot is taken.
        public var refused: Refusal?
        /// Of this registration.
        public var since: UnixTime
        /// The time of the last event about it.
        public var lastSeen: UnixTime
    }

    public var sequence = 0
    public private(set) var instances: [InstanceKey: Instance] = [:]
    /// Those that left, the longest gone first.
    private var left: [InstanceKey] = []

    public init() {}

    public func instances(of node: ObjectKey) -> [Instance] {
        instances.values.filter { $0.key.node == node }.sorted { $0.key < $1.key }
    }

    public mutating func apply(_ event: MeshEvent, _ record: StoredEvent) {
        switch event {
        case .nodeRegistered(let node):
            let key = InstanceKey(node: node.node, instance: node.instance)
            var instance =
                instances[key]
                ?? Instance(
                    key: key, address: "", ports: [], zone: nil, takesTLS: false, state: .registered, reason: "", wanted: nil,
                    acknowledged: nil,
                    applied: nil, appliedAt: nil, refused: nil, since: record.time, lastSeen: record.time)
            // Whoever registers again as before (its stream was lost for a moment) stays what it was, as in `EndpointDirectory`.
            let takesTLS = node.takesTLS ?? false
            let isSame =
                instance.address == node.address && instance.ports == node.ports && instance.zone == node.zone
                && instance.takesTLS == takesTLS
            if instance.state == .left { left.removeAll { $0 == key } }
            if !isSame || instance.state == .left {
                instance.state = .registered
                instance.since = record.time
            }
            instance.address = node.address
            instance.ports = node.ports
            instance.zone = node.zone
            instance.takesTLS = takesTLS
            instance.reason = ""
            instance.lastSeen = record.time
            instances[key] = instance
        case .nodeReady(let change): update(change.instance, record) { $0.move(to: .ready, change) }
        case .nodeDraining(let change): update(change.instance, record) { $0.move(to: .draining, change) }
        case .nodeLeft(let change):
            guard let instance = instances[change.instance], instance.state != .left else { return }
            update(change.instance, record) { $0.move(to: .left, change) }
            left.append(change.instance)
            if left.count > Self.maxLeft { instances[left.removeFirst()] = nil }
        case .snapshotWanted(let change): update(change.instance, record) { $0.wanted = change.version }
        case .snapshotAcknowledged(let change):
            update(change.instance, record) {
                $0.acknowledged = change.version
                $0.refused = nil
            }
        case .snapshotRefused(let change):
            update(change.instance, record) { $0.refused = Refusal(version: change.version, reason: change.reason, time: record.time) }
        case .snapshotApplied(let change):
            update(change.instance, record) {
                $0.applied = change.version
                $0.appliedAt = record.time
                if $0.refused?.version == change.version { $0.refused = nil }
            }
        default: break
        }
    }

    /// Events about instances that are forgotten say nothing any more.
    private mutating func update(_ key: InstanceKey, _ record: StoredEvent, _ body: (inout Instance) -> Void) {
        guard var instance = instances[key] else { return }
        body(&instance)
        instance.lastSeen = record.time
        instances[key] = instance
    }
}

extension NodeDirectory.Instance {
    fileprivate mutating func move(to state: NodeDirectory.State, _ change: InstanceChange) {
        self.state = state
        reason = change.reason
    }
}
