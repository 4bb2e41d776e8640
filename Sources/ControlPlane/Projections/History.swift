public import EventStore

/// The revisions: which command made each, and what it changed.
public struct History: Projection, Equatable {
    public static let name = "history"
    public static let version = 1

    /// About a megabyte. Older ones are still in the log, where `PastStates` finds them.
    public static let maxRevisions = 10_000
    /// Of each revision; more are counted only.
    public static let maxChanges = 200

    public struct Change: Hashable, Sendable, Codable {
        public var key: ObjectKey
        public var action: ChangePlan.Action

        public init(key: ObjectKey, action: ChangePlan.Action) {
            self.key = key
            self.action = action
        }
    }

    public struct Revision: Hashable, Sendable, Codable {
        public var number: Int
        /// Of the first and the last event of its batch that concern the desired state.
        public var first: Int
        public var last: Int
        public var time: UnixTime
        public var actor: String
        public var reason: String
        /// The revision that this one went back to.
        public var rollbackTo: Int?
        /// At most `maxChanges`.
        public var changes: [Change]
        public var changeCount: Int
    }

    public var sequence = 0
    /// Oldest first, without a gap.
    public private(set) var revisions: [Revision] = []
    /// The number of the newest.
    public private(set) var count = 0
    /// What exists: tells what is created from what is configured.
    private var existing: Set<ObjectKey> = []
    private var batch = 0
    /// Of the batch under way, should its note stand before its changes.
    private var note: CommandNote?

    public init() {}

    public subscript(number: Int) -> Revision? {
        guard let first = revisions.first?.number, number >= first, number - first < revisions.count else { return nil }
        return revisions[number - first]
    }

    public mutating func apply(_ event: MeshEvent, _ record: StoredEvent) {
        if record.sequence == record.batch { note = nil }
        switch event {
        case .resourceApplied(let object), .namespaceApplied(let object):
            add(object.key, existing.insert(object.key).inserted ? .created : .configured, record)
        case .resourceDeleted(let key), .namespaceDeleted(let key):
            existing.remove(key)
            add(key, .deleted, record)
        case .commandNote(let command):
            note = command
            if batch == record.batch, let revision = command.revision { revisions[revisions.count - 1].rollbackTo = revision }
        default: break
        }
    }

    private mutating func add(_ key: ObjectKey, _ action: ChangePlan.Action, _ record: StoredEvent) {
        if batch != record.batch {
            batch = record.batch
            count += 1
            revisions.append(
                Revision(
                    number: count, first: record.sequence, last: record.sequence, time: record.time, actor: record.actor,
                    reason: record.reason, rollbackTo: note?.revision, changes: [], changeCount: 0))
            // In steps, for each moves all that stay.
            if revisions.count >= Self.maxRevisions + Self.maxRevisions / 10 {
                revisions.removeFirst(revisions.count - Self.maxRevisions)
            }
        }
        let newest = revisions.count - 1
        revisions[newest].last = record.sequence
        revisions[newest].changeCount += 1
        if revisions[newest].changes.count < Self.maxChanges { revisions[newest].changes.append(Change(key: key, action: action)) }
    }
}
