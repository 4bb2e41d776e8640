public import EventStore
import Foundation

/// A read model: a value that is folded from events, and from nothing else.
public protocol Projection: Codable, Sendable {
    /// Of its snapshots.
    static var name: String { get }
    /// Of the form of its snapshots; another one is not read, but folded anew.
    static var version: Int { get }

    /// As it is before the first event.
    init()
    /// The last event that is folded in; 0 at the beginning.
    var sequence: Int { get set }
    /// - Parameter record: When and by whom.
    mutating func apply(_ event: MeshEvent, _ record: StoredEvent)
}

extension Projection {
    /// Folds the next event in; one that is already, is passed over.
    public mutating func apply(_ stored: StoredEvent) throws(EventError) {
        guard stored.sequence > sequence else { return }
        fold(try MeshEvent(stored), stored)
    }

    mutating func fold(_ event: MeshEvent, _ stored: StoredEvent) {
        guard stored.sequence > sequence else { return }
        precondition(stored.sequence == sequence + 1, "event \(stored.sequence) behind event \(sequence)")
        apply(event, stored)
        sequence = stored.sequence
    }

    public var snapshot: ProjectionSnapshot {
        // Our own values: nothing that JSON cannot hold.
        ProjectionSnapshot(name: Self.name, version: Self.version, sequence: sequence, content: try! JSONEncoder().encode(self))
    }

    /// Nil where the snapshot is of another form.
    public init?(_ snapshot: ProjectionSnapshot) {
        guard snapshot.name == Self.name, snapshot.version == Self.version,
            let value = try? JSONDecoder().decode(Self.self, from: snapshot.content), value.sequence == snapshot.sequence
        else { return nil }
        self = value
    }
}
