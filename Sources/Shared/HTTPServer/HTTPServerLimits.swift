public import Base

/// What callers of a server may cost. Each is a bound; what happens there stands with it.
public struct HTTPServerLimits: Sendable {
    /// At the limit the connection that has been idle longest makes room; if none is idle, the new one is closed.
    public var maxConnections = 20_000
    /// HTTP/2: more streams at once are refused (REFUSED_STREAM).
    public var maxStreamsPerConnection = 100
    /// A larger head is answered 431.
    public var maxHeadBytes = 64 * 1024
    public var maxFields = 100
    /// HTTP/2: what a caller may send on a stream before the handler takes it.
    public var streamWindow = 64 * 1024
    /// The same for all streams of a connection together.
    public var connectionWindow = 1 << 20
    /// Response bytes of one exchange that wait for the caller to read. Beyond it the caller is cut off. It must hold the largest answer.
    public var maxQueuedBytes = 16 << 20
    /// The same for all exchanges of one connection together.
    public var maxConnectionQueuedBytes = 64 << 20
    /// The same for the whole server. Beyond it, whoever is sent something while something waits for him already is cut off: a caller
    /// that reads has nothing waiting.
    public var maxTotalQueuedBytes = 1 << 30

    /// For TLS, and for the first request's head once a byte of it has come; then 408, or the connection is closed.
    public var headTimeout = Nanoseconds.seconds(10)
    /// Between two bytes of a body that `collectBody` gathers; then 408.
    public var bodyTimeout = Nanoseconds.seconds(60)
    /// How long a caller may read nothing of what waits for it; then it is cut off.
    public var writeTimeout = Nanoseconds.seconds(60)
    /// A connection without a request.
    public var idleTimeout = Nanoseconds.seconds(300)
    /// At the end of a connection: how long the caller's own end is awaited once ours has left.
    public var lingerTime = Nanoseconds.seconds(2)
    /// HTTP/2: PING while streams are open, to find callers that are gone. `.zero` = none.
    public var pingInterval = Nanoseconds.seconds(30)
    /// For the answer to PING, and to our SETTINGS; then the connection is closed.
    public var pingTimeout = Nanoseconds.seconds(20)

    public init() {}
}

/// Why an exchange was over before its handler had ended it.
public enum HTTPClosure: Hashable, Sendable, CustomStringConvertible {
    /// The caller has reset the stream; an error code of RFC 9113 section 7.
    case resetByPeer(code: UInt32)
    /// The caller has closed the connection, or it broke.
    case connectionLost(String)
    /// The caller broke the protocol.
    case protocolError(String)
    /// The caller did not read: so many bytes were waiting.
    case cutOff(waitingBytes: Int)
    /// The request's body did not come in time.
    case timedOut
    /// `collectBody` was given more than it takes, and has answered 413.
    case bodyTooLarge(limit: Int)
    /// `HTTPServer.close`.
    case serverClosed

    public var description: String {
        switch self {
        case .resetByPeer(let code): "reset by the caller (code \(code))"
        case .connectionLost(let words): words
        case .protocolError(let words): "protocol error: \(words)"
        case .cutOff(let bytes): "cut off: the caller does not read, \(bytes) bytes were waiting"
        case .timedOut: "the request's body did not come in time"
        case .bodyTooLarge(let limit): "the request's body has more than \(limit) bytes"
        case .serverClosed: "the server closes"
        }
    }
}

/// Something that an operator may want to know of, beyond a single exchange.
public struct HTTPServerIncident: Hashable, Sendable, CustomStringConvertible {
    public enum Kind: Hashable, Sendable {
        case handshakeFailed
        case protocolError
        case cutOff
        case timedOut
        /// No descriptors or memory left: callers wait in the kernel's queue for a while.
        case acceptPaused
        /// `maxConnections` is reached, and none is idle.
        case tooManyConnections
    }

    public var kind: Kind
    public var peer: SocketAddress?
    public var text: String

    public var description: String { (peer.map { "\($0): " } ?? "") + text }
}

/// What a server has counted since it began.
public struct HTTPServerCounters: Sendable {
    public var connections = 0
    public var http2Connections = 0
    public var requests = 0
    public var cutOff = 0
    public var handshakeFailures = 0
    public var protocolErrors = 0
    public var refusedConnections = 0

    public init() {}
}
