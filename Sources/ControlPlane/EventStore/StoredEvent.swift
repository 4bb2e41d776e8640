/// The append-only log of all that ever happened to the mesh, and its implementation in one SQLite file.
public import Foundation

/// A moment of the wall clock.
public struct UnixTime: Hashable, Comparable, Sendable, Codable {
    /// Since 1970-01-01T00:00:00Z.
    public var milliseconds: Int64

    public init(milliseconds: Int64) {
        self.milliseconds = milliseconds
    }

    public init(from decoder: any Decoder) throws {
        milliseconds = try decoder.singleValueContainer().decode(Int64.self)
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(milliseconds)
    }

    public static func < (left: UnixTime, right: UnixTime) -> Bool { left.milliseconds < right.milliseconds }
}

/// What somebody wants to be recorded.
public struct EventDraft: Hashable, Sendable {
    /// What happened, in a word that never changes its meaning: `resource.applied`.
    public var kind: String
    /// JSON.
    public var payload: Data

    public init(kind: String, payload: Data) {
        self.kind = kind
        self.payload = payload
    }
}

/// Events that are recorded together or not at all.
public struct EventBatch: Hashable, Sendable {
    /// 1 through `EventLimits.maxEvents`.
    public var events: [EventDraft]
    /// Who wanted it: `user:alice`, `node:shop/cart`, `system`.
    public var actor: String
    /// In the words of the actor; may be empty.
    public var reason: String
    /// The clock of the machine. The log never goes back: a batch gets the time of the last event where that is later.
    public var time: UnixTime
    /// Refuses the batch unless the log ends with this sequence; nil: whatever it ends with. 0: the log is empty.
    public var expectedSequence: Int?

    public init(events: [EventDraft], actor: String, reason: String = "", time: UnixTime, expectedSequence: Int? = nil) {
        self.events = events
        self.actor = actor
        self.reason = reason
        self.time = time
        self.expectedSequence = expectedSequence
    }
}

/// What a batch may hold. A batch beyond is refused with `EventLogError.tooLarge`; the log itself is bounded by its disk.
public enum EventLimits {
    /// As many as a file of manifests has documents, and as many deletions.
    public static let maxEvents = 20_000
    /// The largest manifest, escaped for JSON.
    public static let maxPayloadBytes = 32 << 20
    /// Of all payloads of one batch together.
    public static let maxBatchBytes = 64 << 20
    /// Of actor, reason and kind, each.
    public static let maxWordBytes = 4096
}

/// One fact, recorded.
public struct StoredEvent: Hashable, Sendable {
    /// 1, 2, 3 ... without a gap.
    public var sequence: Int
    /// The sequence of the first event of its batch.
    public var batch: Int
    /// How many events of its batch stand behind this one: 0 for the last.
    public var following: Int
    /// Never earlier than that of the event before.
    public var time: UnixTime
    /// By how many milliseconds the clock was behind the event before it; 0 as long as nobody sets it back.
    public var clockBehind: Int64
    public var actor: String
    public var reason: String
    public var kind: String
    /// JSON.
    public var payload: Data
    public var previousHash: EventHash
    public var hash: EventHash

    /// Links an event to the one before: computes its hash.
    public init(
        _ draft: EventDraft, sequence: Int, batch: Int, following: Int, time: UnixTime, clockBehind: Int64 = 0, actor: String,
        reason: String, previousHash: EventHash
    ) {
        self.sequence = sequence
        self.batch = batch
        self.following = following
        self.time = time
        self.clockBehind = clockBehind
        self.actor = actor
        self.reason = reason
        kind = draft.kind
        payload = draft.payload
        self.previousHash = previousHash
        hash = .none
        hash = computedHash
    }

    /// As it was read: `hash` is what stands there.
    init(
        sequence: Int, batch: Int, following: Int, time: UnixTime, clockBehind: Int64, actor: String, reason: String, kind: String,
        payload: Data, previousHash: EventHash, hash: EventHash
    ) {
        self.sequence = sequence
        self.batch = batch
        self.following = following
        self.time = time
        self.clockBehind = clockBehind
        self.actor = actor
        self.reason = reason
        self.kind = kind
        self.payload = payload
        self.previousHash = previousHash
        self.hash = hash
    }
}
