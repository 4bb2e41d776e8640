import Foundation
import GRDB

/// Snapshots of read models: made from the log, and of no worth beside it.
extension SQLiteEventLog {
    /// Of each read model, which has some megabytes in a mesh of thousands of manifests. They lie the denser the later, so that most
    /// questions about the past, which are about yesterday, find one near.
    private static let snapshotsKept = 8

    public func save(_ snapshots: [ProjectionSnapshot]) throws(EventLogError) {
        do {
            try database.write { db in
                for snapshot in snapshots {
                    let hash = try Data.fetchOne(db, sql: "SELECT hash FROM events WHERE sequence = ?", arguments: [snapshot.sequence])
                    guard let hash else {
                        throw EventLogError.refused("a snapshot behind event \(snapshot.sequence), which is not in the log")
                    }
                    try db.execute(
                        sql: """
                            INSERT OR REPLACE INTO snapshots (name, sequence, version, event_hash, digest, content)
                            VALUES (?, ?, ?, ?, ?, ?)
                            """,
                        arguments: [
                            snapshot.name, snapshot.sequence, snapshot.version, hash, EventHash(of: snapshot.content).bytes,
                            snapshot.content,
                        ])
                    try Self.thinOut(snapshot.name, in: db)
                }
            }
        } catch {
            throw EventLogError(error, path: path)
        }
    }

    /// Drops those that are nearest to their neighbours, seen from the end.
    private static func thinOut(_ name: String, in db: Database) throws {
        var sequences = try Int.fetchAll(db, sql: "SELECT sequence FROM snapshots WHERE name = ? ORDER BY sequence", arguments: [name])
        while sequences.count > snapshotsKept {
            let end = Double(sequences.last! + 1)
            let gaps = sequences.indices.dropLast().map { index in
                let before = Double(index == 0 ? 0 : sequences[index - 1])
                return (Double(sequences[index + 1]) - before) / (end - before)
            }
            let nearest = gaps.indices.min { gaps[$0] < gaps[$1] }!
            try db.execute(sql: "DELETE FROM snapshots WHERE name = ? AND sequence = ?", arguments: [name, sequences.remove(at: nearest)])
        }
    }

    public func snapshot(named name: String, version: Int, notAfter sequence: Int) throws(EventLogError) -> ProjectionSnapshot? {
        try read { db in
            let rows = try Row.fetchCursor(
                db,
                sql: """
                    SELECT s.sequence, s.digest, s.content FROM snapshots s
                    JOIN events e ON e.sequence = s.sequence AND e.hash = s.event_hash
                    WHERE s.name = ? AND s.version = ? AND s.sequence <= ? ORDER BY s.sequence DESC
                    """, arguments: [name, version, sequence])
            while let row = try rows.next() {
                guard let sequence = Int.fromDatabaseValue(row[0] as DatabaseValue),
                    let digest = Data.fromDatabaseValue(row[1] as DatabaseValue).flatMap({ EventHash($0) }),
                    let content = Data.fromDatabaseValue(row[2] as DatabaseValue), EventHash(of: content) == digest
                else { continue }
                return ProjectionSnapshot(name: name, version: version, sequence: sequence, content: content)
            }
            return nil
        }
    }

    public func dropSnapshots() throws(EventLogError) {
        do {
            try database.write { try $0.execute(sql: "DELETE FROM snapshots") }
        } catch {
            throw EventLogError(error, path: path)
        }
    }
}
