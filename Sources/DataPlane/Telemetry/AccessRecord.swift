public import Base
public import HTTP

/// What the access log says about one request or one relayed connection, gathered by its stream and read once, at its end.
///
/// Everything may be missing: a local reply has no upstream, a TCP connection no heads, a broken request not even a method.
public struct AccessRecord {
    public enum ProtocolVersion: UInt8, Sendable {
        /// TCP, or nothing was understood.
        case none
        case http10
        case http11
        case http2
    }

    /// When the stream began, in nanoseconds since 1970.
    public var startTime: Int64 = 0

    public var request: Head?
    /// The final response as the caller got it.
    public var response: Head?
    public var trailers: Head?
    public var protocolVersion = ProtocolVersion.none
    /// What the caller got; 0 = no response.
    public var status = 0
    public var flags: ResponseFlags = []
    /// Envoy's details string: `via_upstream`, `route_not_found`, ...
    public var details = LogText.none
    public var connectionTerminationDetails = LogText.none

    /// Body bytes; all bytes of a relayed TCP connection.
    public var bytesReceived = 0
    public var bytesSent = 0

    /// From the start to: the end of the stream, the last byte of the request, the first byte of the upstream's response. In
    /// nanoseconds, -1 where it did not come so far.
    public var duration: Int64 = 0
    public var requestDuration: Int64 = -1
    public var responseDuration: Int64 = -1

    public var upstreamHost: SocketAddress?
    public var upstreamLocalAddress: SocketAddress?
    public var upstreamCluster: [UInt8] = []
    public var upstreamTransportFailureReason = LogText.none
    /// Requests sent upstream; 0 = none.
    public var attempts = 0
    /// What the proxy put into `x-envoy-upstream-service-time`, in milliseconds: shown by `%RESP(...)%` though it is not in the
    /// upstream's head. -1 = nothing.
    public var upstreamServiceTime: Int64 = -1
    /// The `x-request-id` that the proxy made because the caller sent none.
    public var requestID: [UInt8] = []

    public var routeName: [UInt8] = []
    public var filterChainName: [UInt8] = []

    /// The caller as x-forwarded-for tells it where that is believed, else the address of the connection.
    public var downstreamRemoteAddress: SocketAddress?
    public var downstreamDirectRemoteAddress: SocketAddress?
    public var downstreamLocalAddress: SocketAddress?
    public var downstreamPeerURISAN: [UInt8] = []
    /// SNI.
    public var requestedServerName: [UInt8] = []
    public var connectionID: UInt64 = 0

    public init() {}
}

/// A few words for the log that are mostly known when the program is built.
public enum LogText: Sendable {
    case none
    case literal(StaticString)
    case bytes([UInt8])
}
