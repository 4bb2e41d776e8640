/// How one side of a connection speaks HTTP/2 (envoy.config.core.v3.Http2ProtocolOptions).
public struct HTTP2Options: Hashable, Sendable {
    /// max_concurrent_streams, 1 through 2^31 - 1. Downstream: SETTINGS_MAX_CONCURRENT_STREAMS that we announce. Upstream: what we open
    /// on one connection at most; the peer's own limit may be lower.
    public var maxConcurrentStreams: UInt32
    /// initial_stream_window_size in bytes, 65,535 through 2^31 - 1: what the peer may send of one stream before we have passed it on.
    public var initialStreamWindow: UInt32
    /// initial_connection_window_size in bytes, 65,535 through 2^31 - 1: the same for all streams of a connection together.
    public var initialConnectionWindow: UInt32
    /// allow_connect: extended CONNECT (RFC 8441), by which a WebSocket crosses HTTP/2.
    public var allowsExtendedConnect: Bool
    /// connection_keepalive. Nil = no PING of our own.
    public var keepalive: HTTP2Keepalive?

    /// Windows far below Envoy's (16 MiB a stream): they bound what a sidecar holds for a reader that does not read.
    public init(
        maxConcurrentStreams: UInt32 = 100, initialStreamWindow: UInt32 = 65536, initialConnectionWindow: UInt32 = 1 << 20,
        allowsExtendedConnect: Bool = true, keepalive: HTTP2Keepalive? = nil
    ) {
        self.maxConcurrentStreams = maxConcurrentStreams
        self.initialStreamWindow = initialStreamWindow
        self.initialConnectionWindow = initialConnectionWindow
        self.allowsExtendedConnect = allowsExtendedConnect
        self.keepalive = keepalive
    }
}

/// envoy.config.core.v3.KeepaliveSettings.
public struct HTTP2Keepalive: Hashable, Sendable {
    /// Between PINGs on a connection that has open streams: from the first stream's beginning, then from each answer.
    public var interval: Duration
    /// An answer must come so long after the PING, else the connection is dead and its streams are reset.
    public var timeout: Duration

    public init(interval: Duration, timeout: Duration) {
        self.interval = interval
        self.timeout = timeout
    }
}
