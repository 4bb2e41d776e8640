import EventStore
import Foundation
import Projections
import Reactor

/// The log of events and what was folded from it. Everything that changes the mesh goes through here: it is recorded first, and true then.
final class Journal {
    /// As of the newest event that is on disk.
    private(set) var models: ReadModels
    /// Told of every batch that was folded in, in order.
    var onEvents: (([StoredEvent]) -> Void)?

    let log: SQLiteEventLog
    private let store: Workshop
    private var pending: [(batch: EventBatch, then: (Result<[StoredEvent], EventLogError>) -> Void)] = []
    private var isWriting = false
    private var isSaving = false
    private let wallClock: () -> UnixTime

    /// - Throws: `EventLogError`, `EventError`: the log cannot be used as it is.
    init(log: SQLiteEventLog, store: Workshop, wallClock: @escaping () -> UnixTime) throws {
        self.log = log
        self.store = store
        self.wallClock = wallClock
        models = try ReadModels(from: log)
    }

    var now: UnixTime { wallClock() }

    /// Records events, together or not at all. Batches that come while the disk is busy wait for it together.
    func record(
        _ events: [MeshEvent], actor: String, reason: String = "",
        then: @escaping (Result<[StoredEvent], EventLogError>) -> Void = { _ in }
    ) {
        guard !events.isEmpty else { return then(.success([])) }
        pending.append((EventBatch(events: events.map(\.draft), actor: actor, reason: reason, time: now), then))
        write()
    }

    private func write() {
        guard !isWriting, !pending.isEmpty else { return }
        isWriting = true
        let batches = pending
        pending = []
        let work = batches.map(\.batch)
        store.run { [log] in
            log.append(work)
        } then: { [weak self] results in
            self?.wrote(batches.map(\.then), results)
        }
    }

    private func wrote(
        _ callers: [(Result<[StoredEvent], EventLogError>) -> Void], _ results: [Result<[StoredEvent], EventLogError>]
    ) {
        isWriting = false
        for (caller, result) in zip(callers, results) {
            if case .success(let events) = result {
                do throws(EventError) {
                    try models.apply(events)
                } catch {
                    preconditionFailure("an event of our own cannot be read: \(error)")
                }
                onEvents?(events)
            }
            caller(result)
        }
        saveSnapshots()
        write()
    }

    private func saveSnapshots() {
        guard models.wantsSnapshot, !isSaving else { return }
        isSaving = true
        let copy = models
        models.snapshotsTaken()
        store.run { [log] in
            Result { try log.save(copy.snapshots()) }.failureText
        } then: { [weak self] problem in
            self?.isSaving = false
            if let problem { Log.warning("store", "read models could not be saved, the next start takes longer: \(problem)") }
        }
    }

    /// Reads the log beside the loop.
    func read<Value: Sendable>(
        _ work: @escaping @Sendable (SQLiteEventLog) throws -> Value, then: @escaping (Result<Value, any Error>) -> Void
    ) {
        store.run { [log] in
            Result { try work(log) }
        } then: {
            then($0)
        }
    }

    /// Everything that was recorded is on disk when this returns; what was not begun is lost, and its callers were told nothing.
    func close() {
        store.finish()
    }
}

extension Result where Success == Void {
    fileprivate var failureText: String? {
        if case .failure(let error) = self { "\(error)" } else { nil }
    }
}
