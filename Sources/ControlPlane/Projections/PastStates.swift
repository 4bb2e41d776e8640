public import EventStore

/// Why a state of the past cannot be shown.
public struct UnknownRevision: Error, Hashable, Sendable, CustomStringConvertible {
    public var revision: Int
    public var newest: Int

    public var description: String { "there is no revision \(revision); the newest is \(newest)" }
}

/// What was desired at another time, folded from the nearest snapshot before it. Reads the log: call it where that may take a while.
public struct PastStates<Log: EventLog>: Sendable {
    private let log: Log
    private let history: History

    public init(log: Log, history: History) {
        self.log = log
        self.history = history
    }

    /// The desired state as the revision left it; revision 0 is empty. It is not settled: texts cost nothing, the mesh is parsed on use.
    ///
    /// - Throws: `UnknownRevision`, `EventLogError`, `EventError`.
    public func state(atRevision revision: Int) throws -> DesiredState {
        guard (0...history.count).contains(revision) else { throw UnknownRevision(revision: revision, newest: history.count) }
        if revision == 0 { return DesiredState() }
        if let known = history[revision] {
            var state = try snapshot(notAfter: known.last) ?? DesiredState()
            // Only the batches that made revisions are read, if history has all of them.
            if state.revision == revision || history[state.revision + 1] != nil {
                while state.revision < revision {
                    let next = history[state.revision + 1]!
                    try fold(&state, from: next.first, through: next.last)
                }
                return state
            }
        }
        // Older than history: nobody knows where it is but the log.
        var state = DesiredState()
        var isReached = false
        let end = try log.last?.sequence ?? 0
        while !isReached, state.sequence < end {
            for stored in try log.events(after: state.sequence, limit: Self.pageSize) {
                var next = state
                try next.apply(stored)
                if next.revision > revision {
                    isReached = true
                    break
                }
                state = next
            }
        }
        return state
    }

    /// The desired state as it was at a time.
    public func state(at time: UnixTime) throws -> DesiredState {
        let sequence = try log.sequence(at: time)
        if let revision = history.revisions.last(where: { $0.last <= sequence }) {
            return try state(atRevision: revision.number)
        }
        var state = try snapshot(notAfter: sequence) ?? DesiredState()
        try fold(&state, from: state.sequence + 1, through: sequence)
        return state
    }

    private static var pageSize: Int { 4096 }

    private func snapshot(notAfter sequence: Int) throws -> DesiredState? {
        try log.snapshot(named: DesiredState.name, version: DesiredState.version, notAfter: sequence).flatMap { DesiredState($0) }
    }

    private func fold(_ state: inout DesiredState, from first: Int, through last: Int) throws {
        // Events in between concern other read models.
        state.sequence = max(state.sequence, first - 1)
        while state.sequence < last {
            let page = try log.events(after: state.sequence, limit: min(Self.pageSize, last - state.sequence))
            if page.isEmpty { return }
            for stored in page { try state.apply(stored) }
        }
    }
}
