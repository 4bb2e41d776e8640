import Base
import EventStore
import MeshCompiler
import Projections
import ProxyConfig
import XDSWire

/// The proxies that are connected, or were a moment ago: who they are, what they run, what they last reported.
final class Fleet {
    struct Instance {
        var key: InstanceKey
        var client: ClientNode
        var mesh: String
        /// Where other proxies reach it.
        var address: IPAddress
        var connectedSince: UnixTime?
        var lastSeen: UnixTime
        /// Streams that are open.
        var configurationStreams = 0
        var reportStream: Int?
        var wanted: String?
        var acknowledged: String?
        /// What stands between it and what it should run.
        var rejection: String?
        /// Without the endpoints, which change all the time: what was last recorded as applied.
        var recorded: String?
        var report: NodeReport?
        var reportedAt = Instant(nanoseconds: 0)

        var isConnected: Bool { configurationStreams > 0 || reportStream != nil }
    }

    private(set) var instances: [InstanceKey: Instance] = [:]

    subscript(key: InstanceKey) -> Instance? { instances[key] }

    func update(_ key: InstanceKey, _ body: (inout Instance) -> Void) {
        guard instances[key] != nil else { return }
        body(&instances[key]!)
    }

    func add(_ instance: Instance) {
        instances[instance.key] = instance
    }

    func remove(_ key: InstanceKey) {
        instances[key] = nil
    }

    var sorted: [Instance] { instances.values.sorted { $0.key < $1.key } }
}
