public import EventStore

/// What operators have forced breakers to, by proxies' nodes, until it ends.
public struct OverrideTable: Projection, Equatable {
    public static let name = "overrides"
    public static let version = 1

    public struct Key: Hashable, Sendable, Codable, Comparable, CustomStringConvertible {
        /// The VirtualNode or VirtualGateway whose proxies are meant.
        public var node: ObjectKey
        public var cluster: String
        /// `10.0.0.1:8080`; nil = the service as a whole.
        public var endpoint: String?

        public init(node: ObjectKey, cluster: String, endpoint: String? = nil) {
            self.node = node
            self.cluster = cluster
            self.endpoint = endpoint
        }

        /// `breaker of VirtualNode/shop/front cds_egress_... 10.0.0.1:80`.
        public var description: String { "breaker of \(node): \(cluster)\(endpoint.map { " \($0)" } ?? "")" }

        public static func < (left: Key, right: Key) -> Bool {
            if left.node != right.node { return left.node < right.node }
            return (left.cluster, left.endpoint ?? "") < (right.cluster, right.endpoint ?? "")
        }
    }

    public struct Entry: Hashable, Sendable, Codable {
        public var forced: BreakerForce
        public var actor: String
        public var reason: String
        public var time: UnixTime
    }

    public var sequence = 0
    /// Those that have not ended as of the newest event, and maybe some that have.
    public private(set) var entries: [Key: Entry] = [:]

    public init() {}

    /// Those that hold now, in order.
    public func current(now: UnixTime) -> [(key: Key, value: Entry)] {
        entries.filter { $0.value.forced.until > now }.sorted { $0.key < $1.key }
    }

    /// When the next one ends; nil = there is none.
    public func nextEnd(after now: UnixTime) -> UnixTime? {
        entries.values.map(\.forced.until).filter { $0 > now }.min()
    }

    public mutating func apply(_ event: MeshEvent, _ record: StoredEvent) {
        switch event {
        case .breakerForced(let forced):
            entries = entries.filter { $0.value.forced.until > record.time }
            entries[forced.target] = Entry(forced: forced, actor: record.actor, reason: record.reason, time: record.time)
        case .breakerReleased(let release): entries[release.target] = nil
        default: return
        }
    }
}
