/// One version of a service: where its hosts are, what it listens on, whom it calls (appmesh.k8s.aws/v1beta2 VirtualNode).
public struct VirtualNode: Hashable, Sendable {
    public struct Listener: Hashable, Sendable {
        /// Nil: the tutorial form. No port is opened; the policies hold for every port of the node. Only ever the one listener.
        public var portMapping: PortMapping?
        public var healthCheck: HealthCheckPolicy?
        public var outlierDetection: OutlierDetectionPolicy?
        public var connectionPool: ConnectionPool?
        public var timeout: ListenerTimeout?
        public var tls: ListenerTLS?

        public init(
            portMapping: PortMapping? = nil, healthCheck: HealthCheckPolicy? = nil, outlierDetection: OutlierDetectionPolicy? = nil,
            connectionPool: ConnectionPool? = nil, timeout: ListenerTimeout? = nil, tls: ListenerTLS? = nil
        ) {
            self.portMapping = portMapping
            self.healthCheck = healthCheck
            self.outlierDetection = outlierDetection
            self.connectionPool = connectionPool
            self.timeout = timeout
            self.tls = tls
        }
    }

    public enum ServiceDiscovery: Hashable, Sendable {
        case dns(DNSDiscovery)
        case awsCloudMap(CloudMapDiscovery)
    }

    public struct DNSDiscovery: Hashable, Sendable {
        public enum ResponseType: String, Hashable, Sendable, CaseIterable {
            case loadBalancer = "LOADBALANCER"
            case endpoints = "ENDPOINTS"
        }

        public var hostname: String
        /// Default LOADBALANCER. To us every address is an endpoint either way.
        public var responseType: ResponseType?
        public var ipPreference: IPPreference?

        public init(hostname: String, responseType: ResponseType? = nil, ipPreference: IPPreference? = nil) {
            self.hostname = hostname
            self.responseType = responseType
            self.ipPreference = ipPreference
        }
    }

    public struct CloudMapDiscovery: Hashable, Sendable {
        public var namespaceName: String
        public var serviceName: String
        /// What an instance must carry, all of it; in the file's order.
        public var attributes: [Attribute]
        public var ipPreference: IPPreference?

        public init(namespaceName: String, serviceName: String, attributes: [Attribute] = [], ipPreference: IPPreference? = nil) {
            self.namespaceName = namespaceName
            self.serviceName = serviceName
            self.attributes = attributes
            self.ipPreference = ipPreference
        }
    }

    public struct Attribute: Hashable, Sendable {
        public var key: String
        public var value: String

        public init(key: String, value: String) {
            self.key = key
            self.value = value
        }
    }

    /// A VirtualService that this node calls.
    public struct Backend: Hashable, Sendable {
        public var virtualService: ResourceReference
        /// Nil: `backendDefaults`.
        public var clientPolicy: ClientPolicy?

        public init(virtualService: ResourceReference, clientPolicy: ClientPolicy? = nil) {
            self.virtualService = virtualService
            self.clientPolicy = clientPolicy
        }
    }

    public var meta: ResourceMeta
    /// spec.awsName; default `name_namespace`.
    public var awsName: String?
    /// Pods of the same namespace. Kept for Kubernetes; without effect elsewhere.
    public var podSelector: LabelSelector?
    public var listeners: [Listener]
    public var serviceDiscovery: ServiceDiscovery?
    public var backends: [Backend]
    /// BackendGroups whose members are backends too; the name `*` stands for every VirtualService of that namespace.
    public var backendGroups: [ObjectReference]
    /// spec.backendDefaults.clientPolicy.
    public var backendDefaults: ClientPolicy?
    /// spec.logging.accessLog.file.
    public var accessLog: AccessLogFile?

    public init(
        meta: ResourceMeta, awsName: String? = nil, podSelector: LabelSelector? = nil, listeners: [Listener] = [],
        serviceDiscovery: ServiceDiscovery? = nil, backends: [Backend] = [], backendGroups: [ObjectReference] = [],
        backendDefaults: ClientPolicy? = nil, accessLog: AccessLogFile? = nil
    ) {
        self.meta = meta
        self.awsName = awsName
        self.podSelector = podSelector
        self.listeners = listeners
        self.serviceDiscovery = serviceDiscovery
        self.backends = backends
        self.backendGroups = backendGroups
        self.backendDefaults = backendDefaults
        self.accessLog = accessLog
    }
}
