public import Foundation

/// An append-only log of events. What an implementation must promise is in docs/decisions/0017-events-and-their-store.md.
///
/// Calls block; the control plane makes them on a thread of its own. Every call is safe from every thread.
public protocol EventLog: Sendable {
    /// The newest event; nil while the log is empty.
    var last: StoredEvent? { get throws(EventLogError) }

    /// Records batches in their order, with one wait for the disk. When it returns, what it calls recorded survives a crash of the
    /// process and of the machine.
    ///
    /// - Returns: For each batch its events, or why it was refused; one that is refused does not hinder the others.
    func append(_ batches: [EventBatch]) -> [Result<[StoredEvent], EventLogError>]

    /// The events behind a sequence, oldest first, checked against their hashes.
    ///
    /// - Parameter limit: The most to return; those that together pass 64 MiB end earlier, but never with none.
    /// - Throws: `.corrupt` where the chain is broken.
    func events(after sequence: Int, limit: Int) throws(EventLogError) -> [StoredEvent]

    /// The sequence of the newest event that is not later than the time; 0 if there is none.
    func sequence(at time: UnixTime) throws(EventLogError) -> Int

    /// Keeps what a read model looked like. Of each name some older ones stay too, denser towards the end.
    func save(_ snapshots: [ProjectionSnapshot]) throws(EventLogError)

    /// The newest snapshot of a read model that is not beyond a sequence. One that cannot be trusted any more is passed over.
    func snapshot(named name: String, version: Int, notAfter sequence: Int) throws(EventLogError) -> ProjectionSnapshot?

    /// Forgets all snapshots: read models are then folded from the first event.
    func dropSnapshots() throws(EventLogError)

    /// Checks everything, from the first event.
    func verify() throws(EventLogError)

    /// Writes a copy that is consistent and complete while the log is in use.
    func backup(to path: String) throws(EventLogError)
}

extension EventLog {
    /// One batch alone.
    public func append(_ batch: EventBatch) throws(EventLogError) -> [StoredEvent] {
        try append([batch])[0].get()
    }
}

/// A read model as it was behind an event: what start-up begins with, in place of all events before.
public struct ProjectionSnapshot: Hashable, Sendable {
    public var name: String
    /// Of the read model's form: another one is not read.
    public var version: Int
    /// Of the last event that is folded in; such a one must be in the log.
    public var sequence: Int
    public var content: Data

    public init(name: String, version: Int, sequence: Int, content: Data) {
        self.name = name
        self.version = version
        self.sequence = sequence
        self.content = content
    }
}
