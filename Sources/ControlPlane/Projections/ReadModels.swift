public import EventStore

/// All read models, folded together: each event is understood once.
public struct ReadModels: Sendable {
    /// A snapshot of all of them pays after so many events: to fold these takes well under a second.
    public static let snapshotInterval = 10_000

    public private(set) var desired = DesiredState()
    public private(set) var history = History()
    public private(set) var nodes = NodeDirectory()
    public private(set) var endpoints = EndpointDirectory()
    public private(set) var rollouts = RolloutLog()
    public private(set) var certificates = CertificateLog()
    public private(set) var tokens = TokenTable()
    public private(set) var overrides = OverrideTable()

    /// The last event that all of them have folded in.
    public private(set) var sequence = 0
    /// Where the newest snapshot stands.
    public private(set) var savedSequence = 0

    public init() {}

    /// From the log: the newest snapshots, where there are such, and the events behind them.
    ///
    /// - Throws: `EventLogError`, `EventError`.
    public init(from log: some EventLog) throws {
        let end = try log.last?.sequence ?? 0
        try desired.restore(from: log, notAfter: end)
        try history.restore(from: log, notAfter: end)
        try nodes.restore(from: log, notAfter: end)
        try endpoints.restore(from: log, notAfter: end)
        try rollouts.restore(from: log, notAfter: end)
        try certificates.restore(from: log, notAfter: end)
        try tokens.restore(from: log, notAfter: end)
        try overrides.restore(from: log, notAfter: end)
        let starts = [
            desired.sequence, history.sequence, nodes.sequence, endpoints.sequence, rollouts.sequence, certificates.sequence,
            tokens.sequence, overrides.sequence,
        ]
        sequence = starts.min()!
        savedSequence = sequence
        while sequence < end {
            for event in try log.events(after: sequence, limit: Self.pageSize) { try fold(event) }
        }
        desired.settle()
    }

    private static let pageSize = 4096

    /// Folds new events in, in their order. Those that are already, are passed over.
    public mutating func apply(_ events: [StoredEvent]) throws(EventError) {
        for event in events { try fold(event) }
        desired.settle()
    }

    private mutating func fold(_ stored: StoredEvent) throws(EventError) {
        guard stored.sequence > sequence else { return }
        let event = try MeshEvent(stored)
        desired.fold(event, stored)
        history.fold(event, stored)
        nodes.fold(event, stored)
        endpoints.fold(event, stored)
        rollouts.fold(event, stored)
        certificates.fold(event, stored)
        tokens.fold(event, stored)
        overrides.fold(event, stored)
        sequence = stored.sequence
    }

    public var wantsSnapshot: Bool { sequence - savedSequence >= Self.snapshotInterval }

    /// What to hand to `EventLog.save`. Encoding takes a while in a large mesh: a copy of this value can do it on another thread.
    public func snapshots() -> [ProjectionSnapshot] {
        [
            desired.snapshot, history.snapshot, nodes.snapshot, endpoints.snapshot, rollouts.snapshot, certificates.snapshot,
            tokens.snapshot, overrides.snapshot,
        ]
    }

    /// The snapshots were made, and are being saved.
    public mutating func snapshotsTaken() {
        savedSequence = sequence
    }
}

extension Projection {
    fileprivate mutating func restore(from log: some EventLog, notAfter end: Int) throws(EventLogError) {
        if let found = try log.snapshot(named: Self.name, version: Self.version, notAfter: end), let value = Self(found) { self = value }
    }
}
