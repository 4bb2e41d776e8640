public import Base

/// One consistent set of configuration for one proxy: all it serves, and nothing that it does not.
///
/// The types of this module mirror the xDS v3 messages of the same names; `XDSWire` gives them their wire form. They are values:
/// equal content is equal, and a snapshot is applied whole or not at all.
public struct Snapshot: Hashable, Sendable {
    public var node: Node
    public var process: ProcessSettings
    public var listeners: [Listener]
    public var routeConfigurations: [RouteConfiguration]
    public var clusters: [Cluster]
    /// Endpoints of the clusters whose discovery is `.eds`.
    public var loadAssignments: [ClusterLoadAssignment]
    /// What listeners and clusters name as `.sds`. One that is not here closes what needs it; the rest serves.
    public var secrets: [Secret]

    public init(
        node: Node, process: ProcessSettings = ProcessSettings(), listeners: [Listener] = [],
        routeConfigurations: [RouteConfiguration] = [],
        clusters: [Cluster] = [], loadAssignments: [ClusterLoadAssignment] = [], secrets: [Secret] = []
    ) {
        self.node = node
        self.process = process
        self.listeners = listeners
        self.routeConfigurations = routeConfigurations
        self.clusters = clusters
        self.loadAssignments = loadAssignments
        self.secrets = secrets
    }
}

/// Who a proxy is (envoy.config.core.v3.Node).
public struct Node: Hashable, Sendable {
    public enum Role: String, Hashable, Sendable {
        case virtualNode
        case virtualGateway
    }

    /// `mesh/<mesh>/virtualNode/<name>` or `mesh/<mesh>/virtualGateway/<name>`, as App Mesh's own proxies called themselves.
    public var id: String
    /// The same words; Envoy shows it as the service cluster.
    public var cluster: String
    public var mesh: String
    public var role: Role
    /// The mesh-side name of the VirtualNode or VirtualGateway.
    public var name: String
    public var locality: Locality

    public init(mesh: String, role: Role, name: String, locality: Locality = Locality()) {
        let id = "mesh/\(mesh)/\(role.rawValue)/\(name)"
        self.id = id
        self.cluster = id
        self.mesh = mesh
        self.role = role
        self.name = name
        self.locality = locality
    }
}

/// What a proxy process takes at start and no xDS resource carries (the job of Envoy's bootstrap).
public struct ProcessSettings: Hashable, Sendable {
    /// Where the admin interface listens.
    public var adminAddress: SocketAddress
    /// Worker threads; nil = from the cgroup's CPU quota, at most 2.
    public var workers: Int?
    /// How long a drain waits for open requests and connections before it closes them.
    public var drainTime: Duration
    /// Adds `x-outrigger-details` (flag and cause) to local replies.
    public var exposeReplyDetails: Bool
    /// Appends outlier events, one JSON object a line; nil = the process log only.
    public var outlierEventLogPath: String?
    public var overload: OverloadSettings
    /// What operators want of breakers, until it ends.
    public var overrides: [BreakerOverride]

    public init(
        adminAddress: SocketAddress = SocketAddress(.loopbackV4, 9901), workers: Int? = nil, drainTime: Duration = .seconds(20),
        exposeReplyDetails: Bool = false, outlierEventLogPath: String? = nil, overload: OverloadSettings = OverloadSettings(),
        overrides: [BreakerOverride] = []
    ) {
        self.adminAddress = adminAddress
        self.workers = workers
        self.drainTime = drainTime
        self.exposeReplyDetails = exposeReplyDetails
        self.outlierEventLogPath = outlierEventLogPath
        self.overload = overload
        self.overrides = overrides
    }
}
