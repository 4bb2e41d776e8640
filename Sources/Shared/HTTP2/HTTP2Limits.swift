/// Which end of the connection we are.
public enum HTTP2Role: Sendable {
    case server
    case client
}

/// What one connection may cost, and what it announces in SETTINGS.
public struct HTTP2Limits: Sendable {
    /// Server: the streams that a peer may have open; more are refused.
    public var maxConcurrentStreams = 100
    /// What a peer may send on a stream before we consume it, in bytes.
    public var initialStreamWindow = 65536
    /// The same for all streams of a connection together.
    public var connectionWindow = 1 << 20
    /// The largest frame that we take, 16384 through 16777215 (RFC 9113 section 4.2).
    public var maxFrameSize = 16384
    /// The memory of HPACK in each direction, in bytes, whatever the peer would allow us.
    public var headerTableSize = 4096
    /// Names, values and 32 bytes for each field, as SETTINGS_MAX_HEADER_LIST_SIZE counts (RFC 9113 section 6.5.2).
    public var maxHeadBytes = 65536
    /// The fields of a head, pseudo-header fields excluded and each piece of a split cookie counted.
    public var maxFields = 100
    /// Server: whether SETTINGS offers extended CONNECT (RFC 8441).
    public var allowsExtendedConnect = false

    public init() {}
}
