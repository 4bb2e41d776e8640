import Base

/// What a proxy tells its control plane about itself (outrigger.v1.NodeReport), on the stream `/outrigger.v1.Reports/Stream`.
///
/// Counters are absolute since the process began, so that a report which is lost loses nothing: who reads them takes differences, and
/// starts anew where `startedAt` changes. Every point in time is in milliseconds since 1970, by the proxy's clock.
public struct NodeReport: Hashable, Sendable {
    public enum State: Int, Hashable, Sendable {
        case initializing = 0
        case live = 1
        case draining = 2
    }

    public struct Applied: Hashable, Sendable {
        public var version: String
        public var at: Int64

        public init(version: String, at: Int64) {
            self.version = version
            self.at = at
        }
    }

    public struct Rejection: Hashable, Sendable {
        public var version: String
        public var reason: String
        public var at: Int64

        public init(version: String, reason: String, at: Int64) {
            self.version = version
            self.reason = reason
            self.at = at
        }
    }

    /// In the first report of a stream only.
    public var node: ClientNode?
    public var state: State
    /// When the process began: with it counters begin at 0.
    public var startedAt: Int64
    public var reportedAt: Int64
    /// The snapshot that serves; nil = none yet.
    public var applied: Applied?
    /// How long ago the control plane last said that `applied` is what it wants, in milliseconds.
    public var configurationAge: Int64
    /// The last one, even if something newer was applied since.
    public var rejection: Rejection?
    /// What serves was read from disk and no control plane has confirmed it yet.
    public var isLastGoodFromDisk: Bool
    public var clusters: [ClusterReport]
    /// Since the last report.
    public var outlierEvents: [OutlierEventReport]
    public var certificates: [CertificateReport]
    /// The proxy's own certificate in its mesh; nil = it has none that holds.
    public var identity: IdentityReport?
    public var process: ProcessReport

    public init(
        node: ClientNode? = nil, state: State, startedAt: Int64, reportedAt: Int64, applied: Applied? = nil, configurationAge: Int64 = 0,
        rejection: Rejection? = nil, isLastGoodFromDisk: Bool = false, clusters: [ClusterReport] = [],
        outlierEvents: [OutlierEventReport] = [], certificates: [CertificateReport] = [], identity: IdentityReport? = nil,
        process: ProcessReport = ProcessReport()
    ) {
        self.node = node
        self.state = state
        self.startedAt = startedAt
        self.reportedAt = reportedAt
        self.applied = applied
        self.configurationAge = configurationAge
        self.rejection = rejection
        self.isLastGoodFromDisk = isLastGoodFromDisk
        self.clusters = clusters
        self.outlierEvents = outlierEvents
        self.certificates = certificates
        self.identity = identity
        self.process = process
    }

    /// - Throws: every error with its path; also lists that are longer than `ReportLimits` allow. Fields that are not known are ignored.
    public init(decoding bytes: [UInt8]) throws(WireErrors) {
        self = try decodeMessage(Self.self, bytes[...], "NodeReport").value
    }

    public func encoded() -> [UInt8] { wireBytes(self) }
}

/// How much one report may hold. A sidecar of a large mesh has a few hundred clusters; ten times that is taken, more is refused, since the
/// control plane keeps the last report of each of its proxies.
public enum ReportLimits {
    public static let clusters = 4096
    /// Of all clusters together.
    public static let endpoints = 32768
    /// A proxy with more sends the newest.
    public static let outlierEvents = 1024
    public static let certificates = 1024
    /// Bytes of a text; a longer one is cut by who writes it.
    public static let text = 4096
}

/// What a proxy saw of one cluster.
public struct ClusterReport: Hashable, Sendable {
    public var name: String
    /// That ended.
    public var requests: UInt64
    /// Of these, those that ended with 5xx.
    public var serverErrors: UInt64
    /// Of these, gRPC calls that ended with a status other than OK.
    public var grpcErrors: UInt64
    public var latency: ReportedHistogram
    /// Open now.
    public var activeRequests: UInt64
    public var endpoints: [EndpointReport]
    /// Of the service as a whole; nil = closed, or there is none.
    public var breaker: BreakerReport?

    public init(
        name: String, requests: UInt64 = 0, serverErrors: UInt64 = 0, grpcErrors: UInt64 = 0,
        latency: ReportedHistogram = ReportedHistogram(),
        activeRequests: UInt64 = 0, endpoints: [EndpointReport] = [], breaker: BreakerReport? = nil
    ) {
        self.name = name
        self.requests = requests
        self.serverErrors = serverErrors
        self.grpcErrors = grpcErrors
        self.latency = latency
        self.activeRequests = activeRequests
        self.endpoints = endpoints
        self.breaker = breaker
    }
}

/// A breaker that is not simply closed.
public struct BreakerReport: Hashable, Sendable {
    /// `open`, `half-open`, `ramping`, `forced-open`, `disabled` or `observing`; a newer proxy may know more.
    public var state: String
    /// As the outlier log has it.
    public var reason: String
    public var since: Int64
    /// When time moves it next; 0 = time does not.
    public var until: Int64
    /// What closes it, for people.
    public var closes: String

    public init(state: String, reason: String = "", since: Int64 = 0, until: Int64 = 0, closes: String = "") {
        self.state = state
        self.reason = reason
        self.since = since
        self.until = until
        self.closes = closes
    }
}

public struct EndpointReport: Hashable, Sendable {
    public struct Ejection: Hashable, Sendable {
        public var since: Int64
        /// The earliest return; the next sweep after it does it.
        public var until: Int64
        /// As the outlier log has it: `consecutive_errors`.
        public var reason: String

        public init(since: Int64, until: Int64, reason: String) {
            self.since = since
            self.until = until
            self.reason = reason
        }
    }

    /// `10.0.0.1:8080`.
    public var address: String
    public var requests: UInt64
    public var errors: UInt64
    /// Nil = it takes requests.
    public var ejection: Ejection?
    /// Nil = closed.
    public var breaker: BreakerReport?

    public init(
        address: String, requests: UInt64 = 0, errors: UInt64 = 0, ejection: Ejection? = nil, breaker: BreakerReport? = nil
    ) {
        self.address = address
        self.requests = requests
        self.errors = errors
        self.ejection = ejection
        self.breaker = breaker
    }
}

/// One line of the outlier log.
public struct OutlierEventReport: Hashable, Sendable {
    public var at: Int64
    public var cluster: String
    /// Empty where the event is about the whole cluster.
    public var endpoint: String
    /// `EJECT`, `UNEJECT`, `PROBE`, `SUPPRESSED`, `PANIC_ON`, `PANIC_OFF`, ...; a newer proxy may know more.
    public var action: String
    public var reason: String
    /// How often this endpoint was ejected so far.
    public var ejections: UInt64
    /// EJECT: for how many milliseconds.
    public var ejectedFor: Int64

    public init(
        at: Int64, cluster: String, endpoint: String = "", action: String, reason: String, ejections: UInt64 = 0, ejectedFor: Int64 = 0
    ) {
        self.at = at
        self.cluster = cluster
        self.endpoint = endpoint
        self.action = action
        self.reason = reason
        self.ejections = ejections
        self.ejectedFor = ejectedFor
    }
}

public struct CertificateReport: Hashable, Sendable {
    /// The secret or the file it comes from.
    public var name: String
    /// The first end in its chain.
    public var notAfter: Int64

    public init(name: String, notAfter: Int64) {
        self.name = name
        self.notAfter = notAfter
    }
}

public struct IdentityReport: Hashable, Sendable {
    /// In hexadecimal.
    public var serial: String
    public var notAfter: Int64
    /// Those inbound listeners that are to use it take TLS with it now; there is one at least.
    public var isServed: Bool

    public init(serial: String, notAfter: Int64, isServed: Bool) {
        self.serial = serial
        self.notAfter = notAfter
        self.isServed = isServed
    }
}

public struct ProcessReport: Hashable, Sendable {
    /// Bytes.
    public var residentMemory: UInt64
    public var cpuSeconds: Double
    /// Accepted and not yet closed.
    public var openConnections: UInt64

    public init(residentMemory: UInt64 = 0, cpuSeconds: Double = 0, openConnections: UInt64 = 0) {
        self.residentMemory = residentMemory
        self.cpuSeconds = cpuSeconds
        self.openConnections = openConnections
    }
}

/// What the control plane answers, seldom (outrigger.v1.ReportReply).
public struct ReportReply: Hashable, Sendable {
    /// Milliseconds between reports; 0 = as it was.
    public var interval: UInt64

    public init(interval: UInt64 = 0) {
        self.interval = interval
    }

    public init(decoding bytes: [UInt8]) throws(WireErrors) {
        self = try decodeMessage(Self.self, bytes[...], "ReportReply").value
    }

    public func encoded() -> [UInt8] { wireBytes(self) }
}
