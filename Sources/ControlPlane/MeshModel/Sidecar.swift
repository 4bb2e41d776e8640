public import Base

/// How the proxy beside one node, or of one gateway, runs on its machine: what App Mesh left to Kubernetes (outrigger/v1 Sidecar).
///
/// Without one, the defaults hold. At most one for each VirtualNode or VirtualGateway.
public struct Sidecar: Hashable, Sendable {
    /// spec.virtualNodeRef or spec.virtualGatewayRef.
    public enum Subject: Hashable, Sendable {
        case virtualNode(ObjectReference)
        case virtualGateway(ObjectReference)
    }

    /// One listener port of the node or gateway, as it is on this machine.
    public struct Inbound: Hashable, Sendable {
        /// portMapping.port: the port as the mesh knows it.
        public var port: Port
        /// Where callers reach the proxy; default: every IPv4 address, on `port` for a gateway; for a node's listeners on 15000, 15002,
        /// 15003 and so on.
        public var bind: SocketAddress?
        /// Where the application listens; default 127.0.0.1 on `port`. Without meaning for a gateway.
        public var app: SocketAddress?
        /// How the application is called if it serves TLS; nil = plaintext. Without meaning for a gateway.
        public var appTLS: AppTLS?

        public init(port: Port, bind: SocketAddress? = nil, app: SocketAddress? = nil, appTLS: AppTLS? = nil) {
            self.port = port
            self.bind = bind
            self.app = app
            self.appTLS = appTLS
        }
    }

    /// TLS between the proxy and the application beside it.
    public struct AppTLS: Hashable, Sendable {
        /// Nil: the application's certificate is not checked, as nobody but the machine's owner can listen there. Never `.acm`.
        public var validation: PeerValidation?
        /// Sent as SNI; where `validation` lists no names, the certificate must carry it.
        public var serverName: String?
        /// Ours, if the application asks. Never `.acm`.
        public var certificate: CertificateOrigin?

        public init(validation: PeerValidation? = nil, serverName: String? = nil, certificate: CertificateOrigin? = nil) {
            self.validation = validation
            self.serverName = serverName
            self.certificate = certificate
        }
    }

    /// PINGs on HTTP/2 connections towards nodes.
    public struct Keepalive: Hashable, Sendable {
        /// Zero = none.
        public var interval: Duration
        public var timeout: Duration

        public init(interval: Duration, timeout: Duration) {
            self.interval = interval
            self.timeout = timeout
        }
    }

    /// A local port that leads to one VirtualService: what interception would find out from the destination.
    public struct OutboundTCP: Hashable, Sendable {
        public var virtualService: ObjectReference
        /// The service's port; needed where it has several.
        public var port: Port?
        public var bind: SocketAddress

        public init(virtualService: ObjectReference, port: Port? = nil, bind: SocketAddress) {
            self.virtualService = virtualService
            self.port = port
            self.bind = bind
        }
    }

    public enum LoadBalancing: String, Hashable, Sendable, CaseIterable {
        case roundRobin = "ROUND_ROBIN"
        case leastRequest = "LEAST_REQUEST"
        case random = "RANDOM"
    }

    /// Files in place of a certificate that App Mesh took from AWS Certificate Manager.
    public struct Certificate: Hashable, Sendable {
        public var arn: String
        public var certificateChain: String
        public var privateKey: String

        public init(arn: String, certificateChain: String, privateKey: String) {
            self.arn = arn
            self.certificateChain = certificateChain
            self.privateKey = privateKey
        }
    }

    /// The file in place of a certificate authority that App Mesh took from AWS.
    public struct Authority: Hashable, Sendable {
        public var arn: String
        public var certificateChain: String

        public init(arn: String, certificateChain: String) {
            self.arn = arn
            self.certificateChain = certificateChain
        }
    }

    /// spec.overload: where the process begins to protect itself.
    public struct Overload: Hashable, Sendable {
        /// Memory that the process may use; default: what its cgroup allows.
        public var maxMemoryMiB: Int?
        /// Bytes a second that a body has to move to count as moving; 0 = any count. Default 500.
        public var minBodyRate: Int?
        /// The process ends when a worker has been stuck for so long; zero = never. Default 10 s.
        public var stuckTime: Duration?

        public init(maxMemoryMiB: Int? = nil, minBodyRate: Int? = nil, stuckTime: Duration? = nil) {
            self.maxMemoryMiB = maxMemoryMiB
            self.minBodyRate = minBodyRate
            self.stuckTime = stuckTime
        }
    }

    public var meta: ResourceMeta
    public var subject: Subject
    /// spec.admin.address; default 127.0.0.1:9901. Port 0: the kernel chooses.
    public var adminAddress: SocketAddress?
    /// 1 through 64; default: from the CPU quota, at most 2.
    public var workers: Int?
    /// How long open requests may finish after SIGTERM; default 20 s, as App Mesh's LISTENER_DRAIN.
    public var drainTime: Duration?
    /// Answers of the proxy itself name their cause in a header field; default false.
    public var exposeReplyDetails: Bool?
    /// spec.outlierEventLog.path: one JSON object a line for each ejection and return.
    public var outlierEventLogPath: String?
    public var inbound: [Inbound]
    /// spec.outbound.http.bind: where the application sends its HTTP requests, chosen by Host; default 127.0.0.1:15001.
    public var outboundHTTP: SocketAddress?
    /// spec.outbound.tcp.
    public var outboundTCP: [OutboundTCP]
    /// Replaces `logging.accessLog.file` of the node or gateway.
    public var accessLog: AccessLogFile?
    /// For the clusters that this proxy calls; default ROUND_ROBIN.
    public var loadBalancing: LoadBalancing?
    /// spec.http2.maxConcurrentStreams: what one connection of a caller may have open; default 1024, of a gateway 100.
    public var maxConcurrentStreams: Int?
    /// spec.http2.keepalive; default: every 30 s towards nodes that must speak TLS, else none.
    public var keepalive: Keepalive?
    /// How old a connection of a caller gets before it is asked to leave; default: no limit.
    public var maxConnectionAge: Duration?
    public var overload: Overload?
    /// Where the proxy stands, as EndpointSets name zones; default: nowhere.
    public var zone: String?
    public var certificates: [Certificate]
    public var authorities: [Authority]

    public init(
        meta: ResourceMeta, subject: Subject, adminAddress: SocketAddress? = nil, workers: Int? = nil, drainTime: Duration? = nil,
        exposeReplyDetails: Bool? = nil, outlierEventLogPath: String? = nil, inbound: [Inbound] = [], outboundHTTP: SocketAddress? = nil,
        outboundTCP: [OutboundTCP] = [], accessLog: AccessLogFile? = nil, loadBalancing: LoadBalancing? = nil,
        maxConcurrentStreams: Int? = nil, keepalive: Keepalive? = nil, maxConnectionAge: Duration? = nil, overload: Overload? = nil,
        zone: String? = nil, certificates: [Certificate] = [], authorities: [Authority] = []
    ) {
        self.meta = meta
        self.subject = subject
        self.adminAddress = adminAddress
        self.workers = workers
        self.drainTime = drainTime
        self.exposeReplyDetails = exposeReplyDetails
        self.outlierEventLogPath = outlierEventLogPath
        self.inbound = inbound
        self.outboundHTTP = outboundHTTP
        self.outboundTCP = outboundTCP
        self.accessLog = accessLog
        self.loadBalancing = loadBalancing
        self.maxConcurrentStreams = maxConcurrentStreams
        self.keepalive = keepalive
        self.maxConnectionAge = maxConnectionAge
        self.overload = overload
        self.zone = zone
        self.certificates = certificates
        self.authorities = authorities
    }
}
