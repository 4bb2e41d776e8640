/// `GET /v1/resources?kind=&namespace=&name=&revision=&time=`
public struct ResourceList: Hashable, Sendable, Codable {
    /// That they are of.
    public var revision: Int
    public var items: [ResourceItem]

    public init(revision: Int, items: [ResourceItem]) {
        self.revision = revision
        self.items = items
    }
}

public struct ResourceItem: Hashable, Sendable, Codable {
    public var resource: ResourceName
    public var apiVersion: String
    /// How often it was changed, from 1.
    public var generation: Int
    /// The last that changed it.
    public var revision: Int
    public var created: String
    public var changed: String
    /// YAML, as its author wrote it.
    public var document: String

    public init(
        resource: ResourceName, apiVersion: String, generation: Int, revision: Int, created: String, changed: String, document: String
    ) {
        self.resource = resource
        self.apiVersion = apiVersion
        self.generation = generation
        self.revision = revision
        self.created = created
        self.changed = changed
        self.document = document
    }
}

/// `GET /v1/history?limit=`: newest first.
public struct HistoryItem: Hashable, Sendable, Codable {
    public var revision: Int
    public var sequence: Int
    public var time: String
    public var actor: String
    public var reason: String?
    public var changes: [ResourceChange]

    public init(revision: Int, sequence: Int, time: String, actor: String, reason: String? = nil, changes: [ResourceChange]) {
        self.revision = revision
        self.sequence = sequence
        self.time = time
        self.actor = actor
        self.reason = reason
        self.changes = changes
    }
}

/// `GET /v1/diff?from=&to=`; `POST /v1/diff` with an ApplyRequest compares the mesh with files.
public struct ResourceDifference: Hashable, Sendable, Codable {
    public var change: ResourceChange
    /// A unified diff.
    public var text: String

    public init(change: ResourceChange, text: String) {
        self.change = change
        self.text = text
    }
}

/// `GET /v1/events?after=&limit=&follow=true`: one JSON object a line; with `follow` the answer does not end.
public struct EventItem: Hashable, Sendable, Codable {
    public var sequence: Int
    public var time: String
    public var actor: String
    public var reason: String?
    /// `resource.applied`.
    public var kind: String
    /// For people: `VirtualNode/cart applied`.
    public var summary: String

    public init(sequence: Int, time: String, actor: String, reason: String? = nil, kind: String, summary: String) {
        self.sequence = sequence
        self.time = time
        self.actor = actor
        self.reason = reason
        self.kind = kind
        self.summary = summary
    }
}

/// `GET /v1/nodes`: the proxies that are, or were lately, connected.
public struct NodeItem: Hashable, Sendable, Codable {
    /// `VirtualNode` or `VirtualGateway`.
    public var subject: ResourceName
    public var mesh: String
    public var instance: String
    /// `outrigger`, `envoy` or `gRPC ...`.
    public var agent: String
    /// Where other proxies reach it.
    public var address: String?
    public var isConnected: Bool
    /// `initializing`, `live`, `draining`, `lost` or `left`.
    public var state: String
    /// Of its configuration: what it should run, has accepted, runs.
    public var wanted: String?
    public var acknowledged: String?
    public var applied: String?
    public var appliedAt: String?
    /// Seconds since the proxy last knew its configuration to be the wanted one.
    public var configAge: Double?
    /// The last refusal that still matters, path, expected and found in it.
    public var rejection: String?
    public var connectedSince: String?
    public var lastSeen: String?
    public var certificateExpires: String?
    /// The SPIFFE ID in its certificate of the mesh, if it has one.
    public var identity: String?
    /// Others call it with TLS; false: in plaintext, unless its resources say otherwise.
    public var takesTLS: Bool?

    public init(subject: ResourceName, mesh: String, instance: String, agent: String, isConnected: Bool, state: String) {
        self.subject = subject
        self.mesh = mesh
        self.instance = instance
        self.agent = agent
        self.isConnected = isConnected
        self.state = state
    }
}

/// `GET /v1/status`: the whole on one page.
public struct MeshStatus: Hashable, Sendable, Codable {
    public var version: String
    public var revision: Int
    public var started: String
    public var resources: Int
    public var nodes: [NodeItem]
    /// Resources or nodes that cannot be compiled, and why: those nodes keep what they have.
    public var faults: [DiagnosticMessage]
    /// The one that runs, or the last.
    public var rollout: RolloutItem?
    /// The last revision that is compiled: what nodes want is of it, so whoever waits for a revision waits for this one first.
    public var compiledRevision: Int?
    /// Those that are not simply closed.
    public var breakers: [BreakerItem]?

    public init(
        version: String, revision: Int, started: String, resources: Int, nodes: [NodeItem], faults: [DiagnosticMessage],
        rollout: RolloutItem? = nil, compiledRevision: Int? = nil, breakers: [BreakerItem]? = nil
    ) {
        self.version = version
        self.revision = revision
        self.started = started
        self.resources = resources
        self.nodes = nodes
        self.faults = faults
        self.rollout = rollout
        self.compiledRevision = compiledRevision
        self.breakers = breakers
    }
}

/// `GET /v1/outliers`: endpoints that are ejected now.
public struct OutlierItem: Hashable, Sendable, Codable {
    /// `namespace/node` of those that are called.
    public var service: String
    public var endpoint: String
    public var reason: String
    public var since: String
    public var until: String?
    /// The proxies that leave it alone.
    public var ejectedBy: [String]
    /// Of the proxies that call the endpoint's cluster.
    public var callers: Int

    public init(
        service: String, endpoint: String, reason: String, since: String, until: String? = nil, ejectedBy: [String], callers: Int
    ) {
        self.service = service
        self.endpoint = endpoint
        self.reason = reason
        self.since = since
        self.until = until
        self.ejectedBy = ejectedBy
        self.callers = callers
    }
}

/// `GET /v1/services?window=SECONDS`: rates and latencies, as the callers saw them.
public struct ServiceItem: Hashable, Sendable, Codable {
    public var service: String
    public var requestsPerSecond: Double
    /// 5xx and gRPC errors, percent of requests.
    public var errorPercent: Double
    public var p50Milliseconds: Double?
    public var p99Milliseconds: Double?
    public var active: Int
    public var endpoints: Int
    public var ejected: Int
    public var callers: Int
    /// Callers whose breaker of the service as a whole is open.
    public var breakersOpen: Int?

    public init(
        service: String, requestsPerSecond: Double, errorPercent: Double, p50Milliseconds: Double? = nil, p99Milliseconds: Double? = nil,
        active: Int, endpoints: Int, ejected: Int, callers: Int, breakersOpen: Int? = nil
    ) {
        self.service = service
        self.requestsPerSecond = requestsPerSecond
        self.errorPercent = errorPercent
        self.p50Milliseconds = p50Milliseconds
        self.p99Milliseconds = p99Milliseconds
        self.active = active
        self.endpoints = endpoints
        self.ejected = ejected
        self.callers = callers
        self.breakersOpen = breakersOpen
    }
}

/// `GET /v1/rollouts`, `GET /v1/rollouts/ID`; `POST /v1/rollouts/ID/stop` stops one where it is and compensates.
public struct RolloutItem: Hashable, Sendable, Codable {
    public var id: String
    public var revision: Int
    /// The revision that is gone back to.
    public var from: Int
    /// `running`, `completed`, `compensated` or `stopped`.
    public var state: String
    public var stages: [String]
    /// From 0.
    public var stage: Int
    /// Proxies that have it.
    public var reached: Int
    public var of: Int
    public var started: String
    public var ended: String?
    public var reason: String?

    public init(
        id: String, revision: Int, from: Int, state: String, stages: [String], stage: Int, reached: Int, of: Int, started: String,
        ended: String? = nil, reason: String? = nil
    ) {
        self.id = id
        self.revision = revision
        self.from = from
        self.state = state
        self.stages = stages
        self.stage = stage
        self.reached = reached
        self.of = of
        self.started = started
        self.ended = ended
        self.reason = reason
    }
}

/// `GET /v1/compiled?node=NAME|gateway=NAME[&instance=NAME]`: what a proxy of the node is to run, as YAML for people, its silent defaults
/// as comments.
public struct CompiledText: Hashable, Sendable, Codable {
    public var version: String
    public var text: String
    /// The proxy whose it is: the one asked for, else the first that is connected; absent: none is.
    public var instance: String?

    public init(version: String, text: String, instance: String? = nil) {
        self.version = version
        self.text = text
        self.instance = instance
    }
}

/// `POST /v1/explain`: what would happen to a request.
public struct ExplainRequest: Hashable, Sendable, Codable {
    /// `NAME`, `NAME.NAMESPACE` or `NAMESPACE/NAME` of the VirtualNode that calls, or of the VirtualGateway that is called.
    public var from: String
    /// Which of its proxies; absent: the first that is connected.
    public var instance: String?
    public var method: String
    /// `http://color.local:8080/x?y=z`
    public var url: String
    public var headers: [HeaderField]

    public init(from: String, instance: String? = nil, method: String, url: String, headers: [HeaderField] = []) {
        self.from = from
        self.instance = instance
        self.method = method
        self.url = url
        self.headers = headers
    }
}

public struct HeaderField: Hashable, Sendable, Codable {
    public var name: String
    public var value: String

    public init(name: String, value: String) {
        self.name = name
        self.value = value
    }
}

public struct Explanation: Hashable, Sendable, Codable {
    public struct Step: Hashable, Sendable, Codable {
        /// `listener`, `virtual host`, `route`, `target`, `policy`, `endpoint`.
        public var what: String
        public var name: String
        /// For people; several lines where there is much to say.
        public var text: String
        /// Values that nobody wrote down.
        public var silentDefaults: [String]

        public init(what: String, name: String, text: String, silentDefaults: [String] = []) {
            self.what = what
            self.name = name
            self.text = text
            self.silentDefaults = silentDefaults
        }
    }

    public var steps: [Step]
    /// The answer that the proxy itself gives, if it comes to that: `404: no route ...`.
    public var localReply: String?

    public init(steps: [Step], localReply: String? = nil) {
        self.steps = steps
        self.localReply = localReply
    }
}
