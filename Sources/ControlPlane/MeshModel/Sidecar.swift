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

        public init(port: Port, bind: SocketAddress? = nil, app: SocketAddress? = nil) {
            self.port = port
            self.bind = bind
            self.app = app
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
    public var certificates: [Certificate]
    public var authorities: [Authority]

    public init(
        meta: ResourceMeta, subject: Subject, adminAddress: SocketAddress? = nil, workers: Int? = nil, drainTime: Duration? = nil,
        exposeReplyDetails: Bool? = nil, outlierEventLogPath: String? = nil, inbound: [Inbound] = [], outboundHTTP: SocketAddress? = nil,
        outboundTCP: [OutboundTCP] = [], accessLog: AccessLogFile? = nil, loadBalancing: LoadBalancing? = nil,
        certificates: [Certificate] = [], authorities: [Authority] = []
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
        self.certificates = certificates
        self.authorities = authorities
    }
}
