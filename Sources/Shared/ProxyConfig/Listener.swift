public import Base

/// An address that the proxy accepts connections on (envoy.config.listener.v3.Listener).
public struct Listener: Hashable, Sendable {
    /// traffic_direction.
    public enum Direction: String, Hashable, Sendable {
        case inbound
        case outbound
    }

    public var name: String
    public var address: SocketAddress
    public var direction: Direction
    /// The first chain whose match fits a connection serves it; none fits: the connection is closed.
    public var filterChains: [FilterChain]

    public init(name: String, address: SocketAddress, direction: Direction, filterChains: [FilterChain]) {
        self.name = name
        self.address = address
        self.direction = direction
        self.filterChains = filterChains
    }
}

/// What one kind of connection gets (envoy.config.listener.v3.FilterChain).
public struct FilterChain: Hashable, Sendable {
    public var name: String
    public var match: FilterChainMatch
    /// transport_socket with a DownstreamTlsContext; nil = plaintext.
    public var tls: DownstreamTLS?
    public var filter: NetworkFilter

    public init(name: String, match: FilterChainMatch = FilterChainMatch(), tls: DownstreamTLS? = nil, filter: NetworkFilter) {
        self.name = name
        self.match = match
        self.tls = tls
        self.filter = filter
    }
}

/// Conditions on a connection, all of which must hold; empty ones always do (envoy.config.listener.v3.FilterChainMatch).
public struct FilterChainMatch: Hashable, Sendable {
    public enum TransportProtocol: String, Hashable, Sendable {
        case plaintext = "raw_buffer"
        case tls
    }

    public var destinationPort: Port?
    public var serverNames: [String]
    public var transportProtocol: TransportProtocol?
    public var applicationProtocols: [String]

    public init(
        destinationPort: Port? = nil, serverNames: [String] = [], transportProtocol: TransportProtocol? = nil,
        applicationProtocols: [String] = []
    ) {
        self.destinationPort = destinationPort
        self.serverNames = serverNames
        self.transportProtocol = transportProtocol
        self.applicationProtocols = applicationProtocols
    }
}

/// What handles a connection's bytes.
public enum NetworkFilter: Hashable, Sendable {
    case http(HTTPConnectionManager)
    case tcp(TCPProxy)
}

/// envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.
public struct HTTPConnectionManager: Hashable, Sendable {
    public enum Codec: String, Hashable, Sendable {
        /// HTTP/2 by ALPN or by its connection preface, else HTTP/1.
        case auto
        case http1
        case http2
    }

    /// `ingress` or `egress` in App Mesh: a label of the metrics.
    public var statPrefix: String
    public var codec: Codec
    /// The name of a `RouteConfiguration` of the same snapshot.
    public var routeConfigurationName: String
    public var accessLogs: [AccessLog]
    /// Protocols that an Upgrade may switch to; App Mesh always allows `websocket`.
    public var upgradeTypes: [String]
    /// common_http_protocol_options.idle_timeout: closes a downstream connection that has had no request for so long. Nil = never.
    public var idleTimeout: Duration?
    /// request_headers_timeout: the head must be complete so long after its first byte.
    public var requestHeadersTimeout: Duration
    /// max_request_headers_kb, in bytes here. More is answered 431.
    public var maxHeaderBytes: Int
    /// common_http_protocol_options.max_headers_count.
    public var maxHeaderCount: Int
    /// use_remote_address: true where foreign callers connect (gateways): their x-forwarded-* and x-envoy-* are not believed.
    public var isEdge: Bool
    /// server_header_transformation and server_name; nil = pass the upstream's through.
    public var serverName: String?
    /// http2_protocol_options; means something unless `codec` is `.http1`.
    public var http2: HTTP2Options
    /// common_http_protocol_options.max_connection_duration: an older connection is asked to leave (HTTP/2: GOAWAY, HTTP/1.1: `connection:
    /// close`) and finishes what is open, each up to a tenth earlier, so that those that began together do not end together. Nil = none.
    public var maxConnectionAge: Duration?
    public var forwardClientCertificate: ClientCertificateForwarding

    public init(
        statPrefix: String, codec: Codec = .auto, routeConfigurationName: String, accessLogs: [AccessLog] = [],
        upgradeTypes: [String] = ["websocket"], idleTimeout: Duration? = .seconds(300), requestHeadersTimeout: Duration = .seconds(10),
        maxHeaderBytes: Int = 65536, maxHeaderCount: Int = 100, isEdge: Bool = false, serverName: String? = nil,
        http2: HTTP2Options = HTTP2Options(), maxConnectionAge: Duration? = nil,
        forwardClientCertificate: ClientCertificateForwarding = .sanitize
    ) {
        self.statPrefix = statPrefix
        self.codec = codec
        self.routeConfigurationName = routeConfigurationName
        self.accessLogs = accessLogs
        self.upgradeTypes = upgradeTypes
        self.idleTimeout = idleTimeout
        self.requestHeadersTimeout = requestHeadersTimeout
        self.maxHeaderBytes = maxHeaderBytes
        self.maxHeaderCount = maxHeaderCount
        self.isEdge = isEdge
        self.serverName = serverName
        self.http2 = http2
        self.maxConnectionAge = maxConnectionAge
        self.forwardClientCertificate = forwardClientCertificate
    }
}

/// forward_client_cert_details with set_current_client_cert_details: what a request's `x-forwarded-client-cert` becomes. In either case
/// what the caller wrote there is removed.
public enum ClientCertificateForwarding: Hashable, Sendable {
    /// SANITIZE.
    case sanitize
    /// SANITIZE_SET: where the caller showed a certificate, the field says `By=` (the URI of our own certificate, if it has one) and
    /// `Hash=` (SHA-256 of the caller's), then what is asked for here.
    case sanitizeSet(ClientCertificateDetails)
}

/// set_current_client_cert_details; `cert` and `chain` (the whole PEM in every request) are not supported.
public struct ClientCertificateDetails: Hashable, Sendable {
    public var subject: Bool
    public var uri: Bool
    public var dns: Bool

    public init(subject: Bool = true, uri: Bool = true, dns: Bool = true) {
        self.subject = subject
        self.uri = uri
        self.dns = dns
    }
}

/// envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.
public struct TCPProxy: Hashable, Sendable {
    public var statPrefix: String
    public var target: ClusterTarget
    /// Closes a connection after so long without a byte either way. Nil = never.
    public var idleTimeout: Duration?
    public var accessLogs: [AccessLog]

    public init(statPrefix: String, target: ClusterTarget, idleTimeout: Duration? = .seconds(300), accessLogs: [AccessLog] = []) {
        self.statPrefix = statPrefix
        self.target = target
        self.idleTimeout = idleTimeout
        self.accessLogs = accessLogs
    }
}

/// A file access log (envoy.extensions.access_loggers.file.v3.FileAccessLog). `/dev/stdout` is a path like any other.
public struct AccessLog: Hashable, Sendable {
    public enum Format: Hashable, Sendable {
        /// Envoy's default line.
        case standard
        /// Text with command operators (`%START_TIME%`); nothing is added at the end, not even a newline.
        case text(String)
        /// One JSON object a line; keys in this order.
        case json([Field])
    }

    public struct Field: Hashable, Sendable {
        public var key: String
        /// Text with command operators.
        public var value: String

        public init(key: String, value: String) {
            self.key = key
            self.value = value
        }
    }

    public var path: String
    public var format: Format

    public init(path: String, format: Format = .standard) {
        self.path = path
        self.format = format
    }
}
