/// HTTP/2 (RFC 9113) over libnghttp2, both ends, memory to memory: bytes and the time in, events and bytes out; no socket, no clock.
///
/// The library keeps frames, HPACK, windows and the rules of messages; the budgets that it lacks (floods, header memory, resets that we
/// are made to send), limits on heads, and the translation to and from `Head` are here.
internal import Base
internal import CNghttp2
internal import HTTP

/// One HTTP/2 connection.
///
/// `receive` records what it finds, `flush` writes what may be written, and between them the owner walks `events` and submits what it
/// likes. Nothing is called back. A session belongs to one thread.
@safe public final class HTTP2Session {
    public let role: HTTP2Role
    public let limits: HTTP2Limits

    /// What `receive` and `flush` found, in order. Walk it after each of them, then call `removeEvents`.
    public internal(set) var events: [HTTP2Event] = []
    /// Streams whose queue fell below `HTTP2Session.lowWaterBytes` or emptied in the last `flush`, and that have not been ended.
    public internal(set) var drainedStreams: [HTTP2Stream] = []
    /// Why the connection is over; GOAWAY is on its way then. Flush once more and close.
    public internal(set) var failure: HTTP2Error?
    /// What the library says to a `protocolViolation`, for logs: "DATA: stream in idle". Empty where it says nothing.
    public internal(set) var failureText = ""
    /// What the peer has written into its GOAWAY, for logs: "too_many_pings". At most 128 bytes, and any bytes.
    public internal(set) var peerGoAwayText = ""
    public internal(set) var counters = HTTP2Counters()
    /// The peer's first SETTINGS have come.
    public internal(set) var hasPeerSettings = false
    /// The peer has said GOAWAY: its existing streams go on, new ones are not taken.
    public internal(set) var hasPeerGoAway = false
    /// Body bytes in the queues of all streams.
    public internal(set) var queuedBytes = 0
    /// The highest stream that we have opened (client) or seen (server).
    public internal(set) var lastStreamID: Int32 = 0

    /// A stream with less in its queue than this is told to its owner: one more frame of the usual size.
    public static let lowWaterBytes = 16384

    let pool: HTTP2Pool
    let session: OpaquePointer
    /// Open streams, in no order.
    var streams: [HTTP2Stream] = []
    /// Closed ones that somebody may still refer to.
    var departed: [HTTP2Stream] = []
    /// Frames that were made while receiving, to be written before all others.
    var pending = ByteBuffer()
    /// Streams that are to be reset when their END_STREAM is written.
    var resetsAfterEnd = 0
    /// The library must not be called any more.
    var isDead = false
    var isShuttingDown = false

    /// What the received heads of open streams take together.
    var headerMemory = 0
    var streamsOpened = 0
    var dataFramesSent = 0
    var priorityFrames = 0
    var windowUpdates = 0
    var emptyFramesInARow = 0
    var earlyResets: RateBudget
    var provokedResets: RateBudget
    var pings: RateBudget
    var settingsFrames: RateBudget
    var unknownFrames: RateBudget

    // While `receive` runs.
    var received = unsafe UnsafeRawPointer(bitPattern: 1).unsafelyUnwrapped
    var now = Instant(nanoseconds: 0)
    var batch: UInt64 = 1
    /// Of bytes that are the caller's of `receive`.
    var eventsHaveRanges = false
    var hasSilenced = false
    /// The stream whose header block is being read; the library reads one at a time.
    var block = HeaderBlock()

    // While `flush` runs.
    var output: UnsafeMutablePointer<ByteBuffer>?
    var outputLimit = 0

    /// Queues the preface and SETTINGS.
    ///
    /// - Parameter pool: of the worker that owns the session.
    public init(role: HTTP2Role, limits: HTTP2Limits = HTTP2Limits(), pool: HTTP2Pool) {
        self.role = role
        self.limits = limits
        self.pool = pool
        earlyResets = RateBudget(limits.earlyResets)
        provokedResets = RateBudget(limits.provokedResets)
        pings = RateBudget(limits.pings)
        settingsFrames = RateBudget(limits.settings)
        unknownFrames = RateBudget(limits.unknownFrames)
        unsafe session = Library.makeSession(role, limits, pool.memory)
        unsafe nghttp2_session_set_user_data(session, Unmanaged.passUnretained(self).toOpaque())
        submitSettings()
    }

    deinit {
        unsafe nghttp2_session_del(session)
    }

    /// What makes the loaded libnghttp2 unfit, for people; nil if it will do. Ask at start-up, and do not start otherwise.
    public static func checkLibrary() -> String? {
        Library.fault()
    }

    private func submitSettings() {
        var settings: [nghttp2_settings_entry] = []
        func add(_ id: nghttp2_settings_id, _ value: Int) {
            settings.append(nghttp2_settings_entry(settings_id: Int32(id.rawValue), value: UInt32(value)))
        }
        switch role {
        case .server:
            add(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits.maxConcurrentStreams)
            // No tree of dependencies, which RFC 9113 section 5.3 has given up and which callers have used to make servers work.
            add(NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1)
            if limits.allowsExtendedConnect { add(NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1) }
        case .client:
            add(NGHTTP2_SETTINGS_ENABLE_PUSH, 0)
        }
        add(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, limits.initialStreamWindow)
        if limits.maxFrameSize != 16384 { add(NGHTTP2_SETTINGS_MAX_FRAME_SIZE, limits.maxFrameSize) }
        if limits.headerTableSize != 4096 { add(NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, limits.headerTableSize) }
        add(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, limits.maxHeadBytes)
        var result = unsafe nghttp2_submit_settings(session, 0, settings, settings.count)
        precondition(result == 0, "SETTINGS were refused: \(result)")
        if limits.connectionWindow > 65535 {
            result = unsafe nghttp2_session_set_local_window_size(session, 0, 0, Int32(limits.connectionWindow))
            precondition(result == 0, "a connection window of \(limits.connectionWindow) bytes was refused: \(result)")
        }
    }

    // MARK: State

    public var openStreams: Int { streams.count }

    /// What the peer allows us; 100 until its SETTINGS have come.
    public var peerMaxConcurrentStreams: Int {
        guard !isDead else { return 0 }
        return unsafe Int(nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS))
    }

    /// Whether the peer, a server, takes extended CONNECT (RFC 8441).
    public var peerAllowsExtendedConnect: Bool {
        guard !isDead else { return false }
        return unsafe nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1
    }

    /// Client: whether `request` would return a stream now.
    public var canOpenStream: Bool {
        guard role == .client, !isDead, failure == nil, !hasPeerGoAway, !isShuttingDown else { return false }
        return unsafe streams.count < peerMaxConcurrentStreams && nghttp2_session_check_request_allowed(session) != 0
    }

    /// Client: requests that are not written yet and will not be before others end, for SETTINGS that came meanwhile allow fewer streams.
    ///
    /// The library keeps them for as long as that takes. Who can send them elsewhere asks for them when SETTINGS have come, and resets them.
    public var heldBackStreams: [HTTP2Stream] {
        guard role == .client, !isDead, streams.count > peerMaxConcurrentStreams else { return [] }
        // The library knows a stream from when it writes its head.
        var unwritten = streams.filter { unsafe nghttp2_session_find_stream(session, $0.id) == nil }
        let room = peerMaxConcurrentStreams - (streams.count - unwritten.count)
        unwritten.removeAll { $0.isClosed }
        unwritten.sort { $0.id < $1.id }
        return Array(unwritten.dropFirst(max(0, room)))
    }

    /// A header block has begun and its last frame has not come.
    public var isReadingHead: Bool { block.isOpen }

    /// Whether `flush` would write anything.
    public var wantsToWrite: Bool {
        guard pending.isEmpty else { return true }
        return unsafe !isDead && nghttp2_session_want_write(session) != 0
    }

    /// Nothing will be read or written any more: GOAWAY is sent or received and the last stream has ended.
    public var isFinished: Bool {
        guard pending.isEmpty else { return false }
        return unsafe isDead || (nghttp2_session_want_read(session) == 0 && nghttp2_session_want_write(session) == 0)
    }

    /// Every open stream that was told, for the owner to abort when the connection is lost. The session is of no use afterwards.
    public func abandonStreams() -> [HTTP2Stream] {
        let all = streams.filter { role == .client || $0.headBatch != 0 }
        streams.removeAll()
        for stream in all {
            stream.isClosed = true
            stream.index = -1
        }
        departed.removeAll()
        events.removeAll()
        drainedStreams.removeAll()
        isDead = true
        pending.release()
        return all
    }

    // MARK: Events

    /// Forgets the events, keeps their memory.
    public func removeEvents() {
        // Also where a reset in the same bytes has taken every event back.
        eventsHaveRanges = false
        if !events.isEmpty {
            events.removeAll(keepingCapacity: true)
            batch &+= 1
        }
        if !departed.isEmpty { recycle() }
    }

    public func removeDrainedStreams() {
        for stream in drainedStreams { stream.isDrained = false }
        drainedStreams.removeAll(keepingCapacity: true)
    }

    // MARK: Streams

    func open(_ stream: HTTP2Stream, id: Int32) {
        stream.id = id
        stream.index = streams.count
        streams.append(stream)
        streamsOpened += 1
        if id > lastStreamID { lastStreamID = id }
    }

    /// Takes a closed stream out of the list.
    func depart(_ stream: HTTP2Stream) {
        let index = stream.index
        guard index >= 0 else { return }
        stream.index = -1
        headerMemory -= stream.headerMemory
        if stream.codeAfterEnd != nil { resetsAfterEnd -= 1 }
        queuedBytes -= stream.queue.count
        stream.queue.removeAll()
        let last = streams.removeLast()
        if last !== stream {
            streams[index] = last
            last.index = index
        }
        departed.append(stream)
    }

    /// Puts closed streams that nobody refers to any more back into the pool, and gives the connection the bytes that they still held.
    ///
    /// One that somebody still refers to is left to him, unless it holds bytes: those must come back.
    func recycle() {
        // The owner's object often refers to the stream, so it goes first.
        for stream in departed { stream.context = nil }
        var kept = 0
        for index in departed.indices {
            if isKnownUniquelyReferenced(&departed[index]) {
                let stream = departed[index]
                if stream.unconsumed > 0 {
                    unsafe _ = nghttp2_session_consume_connection(session, stream.unconsumed)
                }
                pool.give(stream)
            } else if departed[index].unconsumed > 0 {
                departed.swapAt(kept, index)
                kept += 1
            }
        }
        departed.removeSubrange(kept...)
    }

    static func text(_ goAway: nghttp2_goaway) -> String {
        guard let start = unsafe goAway.opaque_data else { return "" }
        return unsafe String(decoding: UnsafeBufferPointer(start: start, count: min(goAway.opaque_data_len, 128)), as: UTF8.self)
    }

    /// For callbacks: ends the connection, and with it what the library is doing. The first reason stands.
    func fail(_ error: HTTP2Error) -> Int32 {
        if failure == nil { failure = error }
        return NGHTTP2_ERR_CALLBACK_FAILURE.rawValue
    }

    /// The library has given up in the middle: it must not be called again, so GOAWAY is written by hand (RFC 9113 section 6.8).
    func die(_ error: HTTP2Error) {
        let error = failure ?? error
        failure = error
        guard !isDead else { return }
        isDead = true
        for byte: UInt8 in [0, 0, 8, 7, 0, 0, 0, 0, 0] { pending.append(byte) }
        for word in [role == .server ? UInt32(bitPattern: lastStreamID) : 0, error.code.rawValue] {
            for shift: UInt32 in [24, 16, 8, 0] { pending.append(UInt8(truncatingIfNeeded: word >> shift)) }
        }
    }
}

/// What a session has counted, for metrics.
public struct HTTP2Counters: Sendable {
    public var resetsReceived = 0
    /// By the owner's wish or by the rules.
    public var resetsSent = 0
    /// Of those, what the peer's mistakes made us send.
    public var resetsProvoked = 0
    /// Messages that broke the rules of RFC 9113 section 8.
    public var messagingErrors = 0
    /// Heads that passed a limit of ours.
    public var refusedHeads = 0
    /// Requests that the library refused since too many streams were open.
    public var refusedStreams = 0
    public var pingsReceived = 0
    public var settingsReceived = 0
}
