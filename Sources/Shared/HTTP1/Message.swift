/// What one message may cost before it is refused.
public struct MessageLimits: Sendable {
    /// Start line and fields with their line ends; the trailer section has the same limit. Envoy allows 60 KiB, some gateways 64.
    public var maxHeadBytes = 65536
    public var maxFields = 100
    public var maxTargetBytes = 8192

    public init(maxHeadBytes: Int = 65536, maxFields: Int = 100, maxTargetBytes: Int = 8192) {
        precondition(maxHeadBytes > 0 && maxHeadBytes <= 1 << 30, "a head limit of \(maxHeadBytes) bytes")
        self.maxHeadBytes = maxHeadBytes
        self.maxFields = maxFields
        self.maxTargetBytes = maxTargetBytes
    }

    /// Longer than any registered method; a longer one is a 501.
    static let maxMethodBytes = 32
    /// RFC 9112 section 7.1.1 asks for a limit; nobody is known to need an extension.
    static let maxChunkExtensionBytes = 256
    /// Enough for 64 bits in hexadecimal.
    static let maxChunkSizeDigits = 16
    /// Of one response. A server may send 102 for progress; endless ones hold the stream for nothing.
    static let maxInterimResponses = 64
}

/// What a decoder found.
public enum Event: Equatable, Sendable {
    /// Nothing more in these bytes. Keep those that were not consumed, append to them, and call again.
    case needMore
    /// The head of a 1xx response other than 101 is complete; the final response is still to come.
    case interim
    /// The head is complete, and what it says about its body is known.
    case head
    /// Bytes of the body, as a range of the bytes that were given.
    case body(Range<Int>)
    /// The message is complete; its trailer fields, if any, are in the trailers' head.
    case end
}

/// How a message says where its body ends (RFC 9112 section 6.3).
public enum Framing: Equatable, Sendable {
    /// No body, and the head need not say so.
    case none
    /// That many bytes, announced by Content-Length.
    case length(Int64)
    case chunked
    /// A response whose body ends with the connection.
    case untilClose
}
