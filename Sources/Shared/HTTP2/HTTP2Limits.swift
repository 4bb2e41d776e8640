public import Base

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
    /// The same for all streams of a connection together; at least 65535 (RFC 9113 section 6.9.2).
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

    // Budgets against floods. A peer that passes one is told ENHANCE_YOUR_CALM, and the connection is over.

    /// What the heads of all open streams may take together, in the measure of `maxHeadBytes`. A compressed reference of one byte can
    /// stand for 4 KiB of it.
    public var maxHeaderMemory = 1 << 20
    /// CONTINUATION frames behind one HEADERS frame.
    public var maxContinuations = 8
    /// Server: resets of requests that were not answered yet and not older than `earlyResetAge`. Those cost us and the upstream work and the
    /// caller nothing (CVE-2023-44487). Every exchange that ends well earns one, so beyond the rate up to half of the requests may be
    /// cancelled early, as callers do who hedge.
    public var earlyResets = RateLimit(burst: 200, perSecond: 100)
    public var earlyResetAge = Nanoseconds.milliseconds(100)
    /// Server: all resets, whenever they come. A caller whose deadlines pass while an upstream is slow resets everything it has open,
    /// again and again, so this is far above the library's own default.
    public var resets = RateLimit(burst: 10_000, perSecond: 1000)
    /// Resets that the peer's mistakes make us send (CVE-2025-8671).
    public var provokedResets = RateLimit(burst: 200, perSecond: 100)
    /// Every DATA frame, ours or the peer's, earns one: gRPC measures the path with a PING for each round trip that carries data.
    public var pings = RateLimit(burst: 1000, perSecond: 100)
    /// gRPC announces new windows whenever its estimate of the path changes.
    public var settings = RateLimit(burst: 100, perSecond: 10)
    /// PRIORITY frames over the whole connection, for each stream opened and one more. As Envoy.
    public var maxPriorityFramesPerStream = 100
    /// WINDOW_UPDATE frames over the whole connection: `5 + 2 × (streams opened + this × DATA frames that we sent)`. As Envoy.
    public var maxWindowUpdatesPerDataFrame = 10
    /// DATA frames in a row that carry nothing and end nothing.
    public var maxEmptyFrames = 10
    /// Frames of types that RFC 9113 does not have. They must be ignored, which is work for nothing: a few grease (RFC 8701), nobody sends many.
    public var unknownFrames = RateLimit(burst: 100, perSecond: 10)

    public init() {}
}

/// How often something may happen: `burst` times at once, `perSecond` for long.
public struct RateLimit: Hashable, Sendable {
    public var burst: Int
    public var perSecond: Int

    public init(burst: Int, perSecond: Int) {
        precondition(burst > 0 && perSecond >= 0, "a rate limit of \(burst) at once and \(perSecond) a second")
        self.burst = burst
        self.perSecond = perSecond
    }
}

/// What is left of a rate limit. Time is only looked at when the burst is used up, so the good path is a subtraction.
struct RateBudget {
    private let limit: RateLimit
    private var left: Int
    /// When `left` was last full or made; nil before the first use.
    private var refilled: Instant?

    init(_ limit: RateLimit) {
        self.limit = limit
        left = limit.burst
    }

    /// False when the budget is used up.
    mutating func take(_ now: Instant) -> Bool {
        if left == 0 { refill(now) }
        if refilled == nil { refilled = now }
        guard left > 0 else { return false }
        left &-= 1
        return true
    }

    mutating func earn() {
        if left < limit.burst { left &+= 1 }
    }

    private mutating func refill(_ now: Instant) {
        guard let before = refilled, limit.perSecond > 0 else { return }
        let earned = (now - before).count / (1_000_000_000 / Int64(limit.perSecond))
        guard earned > 0 else { return }
        left = Int(min(earned, Int64(limit.burst)))
        refilled = now
    }
}
