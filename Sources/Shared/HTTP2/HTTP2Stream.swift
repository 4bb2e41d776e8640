internal import Base
public import HTTP

/// One request and its response on a connection.
///
/// The session keeps it while it is open; after that it lives as long as somebody refers to it, and is used again for another request
/// when nobody does. So let go of it once it is over.
public final class HTTP2Stream {
    /// The stream identifier of RFC 9113 section 5.1.1.
    public internal(set) var id: Int32 = 0
    /// The received head. Take it by `swap(&stream.head, &mine)`; nothing is copied.
    public var head = Head()
    /// The received trailers, without those that must not stand there. May be taken in the same way.
    public var trailers = Head()
    /// The owner's object for this stream; strong. The session lets go of it when the stream is used again, and at `reset`.
    public var context: AnyObject?
    /// Both sides have ended it, or it was reset. Sending and resetting do nothing any more; `consume` gives the connection its bytes back.
    public internal(set) var isClosed = false
    /// Of the received head; nil where it has none.
    public internal(set) var contentLength: Int64?
    /// The name behind `:protocol`, as a range of the head's bytes; empty where there is none (RFC 8441).
    public internal(set) var protocolName = 0..<0
    /// Whether a reset, ours or the peer's, ended it.
    public internal(set) var wasReset = false

    /// Body bytes in frames that were written so far. It stands still while the peer's window does: the owner's timers compare.
    public internal(set) var sentBytes = 0

    /// Body bytes that were taken by `send` and are in no frame yet.
    public var queuedBytes: Int { queue.count }
    /// Gives the memory of an empty queue back. For owners of many streams that are open for long and seldom send.
    public func releaseQueue() {
        if queue.isEmpty { queue.release() }
    }

    public var isExtendedConnect: Bool { !protocolName.isEmpty }

    // What the session knows of it.
    var queue = ByteBuffer()
    /// What `send` gets after the body; empty where there are none.
    var outgoingTrailers: Head?
    /// The position in the session's list.
    var index = -1
    /// Received body bytes that the owner has not given back.
    var unconsumed = 0
    /// What its received head and trailers count in the connection's header memory.
    var headerMemory = 0
    /// When its head began (server).
    var openedAt = Instant(nanoseconds: 0)
    /// The batch of events in which the head was told; 0 before.
    var headBatch: UInt64 = 0
    var interimCount = 0
    /// Why the head that is being received is refused.
    var refusal: HTTP2Error?
    /// The owner has called `end`.
    var hasEnded = false
    /// The library waits for `nghttp2_session_resume_data`.
    var isDeferred = false
    var isDrained = false
    /// RST_STREAM came.
    var resetByPeer = false
    /// The owner called `reset`.
    var resetByOwner = false
    /// What the peer is told behind our END_STREAM.
    var codeAfterEnd: HTTP2ErrorCode?
    /// The final head has come.
    var hasHead = false
    var hasResponded = false
    /// Its events of this batch are to be taken out.
    var isSilenced = false

    init() {}

    /// Forgets the exchange, keeps the memory: all of it of the heads, and a little of the queue.
    func reuse() {
        forget(&head)
        forget(&trailers)
        context = nil
        isClosed = false
        contentLength = nil
        protocolName = 0..<0
        wasReset = false
        if queue.allocatedBytes > Self.keptQueueBytes { queue.release() } else { queue.removeAll() }
        outgoingTrailers = nil
        index = -1
        unconsumed = 0
        headerMemory = 0
        sentBytes = 0
        headBatch = 0
        interimCount = 0
        refusal = nil
        hasEnded = false
        isDeferred = false
        isDrained = false
        resetByPeer = false
        resetByOwner = false
        codeAfterEnd = nil
        hasHead = false
        hasResponded = false
        isSilenced = false
    }

    private func forget(_ head: inout Head) {
        if head.bytes.capacity > Self.keptHeadBytes { head = Head() } else { head.removeAll() }
    }

    /// Four times what a head with a token of a few kilobytes needs.
    private static let keptHeadBytes = 16384
    /// Room for a message or two; 1,000 pooled streams then keep 16 MiB at the very most.
    private static let keptQueueBytes = 16384
}
