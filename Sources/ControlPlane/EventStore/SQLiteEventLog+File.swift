import Foundation
import GRDB
import Glibc

/// The file: its tables, and whether what stands in them is what was written.
extension SQLiteEventLog {
    /// `Outr` in ASCII, in the header of the file.
    private static let applicationID = 0x4F75_7472

    private static let tables = """
        CREATE TABLE events (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,  -- So that SQLite remembers the highest, should the last rows be lost.
            batch INTEGER NOT NULL,
            following INTEGER NOT NULL,
            time INTEGER NOT NULL,
            clock_behind INTEGER NOT NULL,
            actor TEXT NOT NULL,
            reason TEXT NOT NULL,
            kind TEXT NOT NULL,
            payload BLOB NOT NULL,
            hash BLOB NOT NULL
        ) STRICT;
        CREATE TRIGGER events_stay_as_they_are BEFORE UPDATE ON events
            BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
        CREATE TRIGGER events_stay BEFORE DELETE ON events
            BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;
        CREATE TABLE snapshots (
            name TEXT NOT NULL,
            sequence INTEGER NOT NULL,
            version INTEGER NOT NULL,
            event_hash BLOB NOT NULL,  -- Of the event of that sequence: ties the snapshot to this log.
            digest BLOB NOT NULL,
            content BLOB NOT NULL,
            PRIMARY KEY (name, sequence)
        ) STRICT;
        """

    /// A new log gets its name once it is whole. So a file of that name that is empty has lost something, and is never taken for new:
    /// an empty mesh would go out to every proxy.
    static func make(_ path: String) throws(EventLogError) {
        let files = FileManager.default
        guard !files.fileExists(atPath: path) else {
            let size = (try? files.attributesOfItem(atPath: path)[.size] as? Int) ?? 0
            // SQLite takes less than its header for no database at all.
            guard size >= 512 else { throw corrupt(path, nil, "it has \(size) bytes: it was cut") }
            return
        }
        guard !files.fileExists(atPath: "\(path)-wal") else { throw corrupt(path, nil, "it is gone, and its \(path)-wal is still there") }
        let beside = "\(path).new"
        do {
            try? files.removeItem(atPath: beside)
            guard files.createFile(atPath: beside, contents: nil, attributes: [.posixPermissions: 0o600]) else {
                throw EventLogError.failed("cannot create \(beside): \(String(errno: errno))")
            }
            let database = try DatabaseQueue(path: beside)
            try database.writeWithoutTransaction { try makeTables($0) }
            try database.close()
            try settle(beside, as: path)
        } catch {
            throw EventLogError(error, path: path)
        }
    }

    static func makeTables(_ db: Database) throws {
        try db.inTransaction(.immediate) {
            try db.execute(sql: tables)
            try db.execute(sql: "PRAGMA application_id = \(applicationID); PRAGMA user_version = \(schema)")
            return .commit
        }
    }

    /// Gives a file that is written its name, for good.
    static func settle(_ beside: String, as path: String) throws(EventLogError) {
        try sync(beside)
        guard unsafe rename(beside, path) == 0 else { throw .failed("cannot rename \(beside): \(String(errno: errno))") }
        try sync(URL(fileURLWithPath: path).deletingLastPathComponent().path)
    }

    /// Of a file or a directory, which FileHandle cannot open.
    private static func sync(_ path: String) throws(EventLogError) {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .failed("cannot open \(path): \(String(errno: errno))") }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw .failed("cannot sync \(path): \(String(errno: errno))") }
    }

    static func check(_ db: Database, path: String) throws {
        let found = try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0
        let application = try Int.fetchOne(db, sql: "PRAGMA application_id") ?? 0
        guard application == applicationID else { throw corrupt(path, nil, "it is a database, but not of outriggerd") }
        guard found <= schema else { throw EventLogError.newerSchema(path: path, found: found, supported: schema) }
    }

    /// - Returns: The last event.
    static func verify(_ db: Database, path: String, how: Verification) throws -> StoredEvent? {
        if how == .whole, let problem = try String.fetchOne(db, sql: "PRAGMA quick_check(1)"), problem != "ok" {
            throw corrupt(path, nil, "SQLite says: \(problem)")
        }
        var start = 0
        if how == .sinceSnapshot {
            // Each snapshot must stand behind an event that is still the same. Where one does not, everything is looked at: either an
            // event is wrong, which is then found, or the snapshot, which is passed over when it is asked for.
            let broken = try Int.fetchOne(
                db,
                sql: """
                    SELECT COUNT(*) FROM snapshots s
                    WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.sequence = s.sequence AND e.hash = s.event_hash)
                    """)
            if broken == 0 { start = try Int.fetchOne(db, sql: "SELECT MAX(sequence) FROM snapshots") ?? 0 }
        }
        // The anchor itself is looked at, too: it may be the last event.
        start = max(start - 1, 0)
        var last: StoredEvent?
        try walk(db, path: path, after: start, limit: .max) { event in
            last = event
            return true
        }
        if let last, last.following > 0 { throw corrupt(path, last.sequence, "\(last.following) events of its batch are missing") }
        let highest = try Int.fetchOne(db, sql: "SELECT seq FROM sqlite_sequence WHERE name = 'events'") ?? 0
        guard highest == last?.sequence ?? 0 else {
            throw corrupt(path, highest, "it was the last event and is not there")
        }
        return last
    }

    /// Hands over events in their order, each checked: no gap, no half batch in between, the hash that its content gives.
    ///
    /// - Parameter body: False ends the walk.
    static func walk(_ db: Database, path: String, after sequence: Int, limit: Int, _ body: (StoredEvent) -> Bool) throws {
        var previous = EventHash.none
        if sequence > 0 {
            let bytes = try Data.fetchOne(db, sql: "SELECT hash FROM events WHERE sequence = ?", arguments: [sequence])
            guard let bytes else {
                // Behind the end of the log there is nothing; inside of it there must be something.
                let isBehind = try Int.fetchOne(db, sql: "SELECT COUNT(*) FROM events WHERE sequence > ?", arguments: [sequence]) == 0
                if isBehind { return }
                throw corrupt(path, sequence, "it is not there")
            }
            guard let hash = EventHash(bytes) else { throw corrupt(path, sequence, "its hash is no hash") }
            previous = hash
        }
        let statement = try db.cachedStatement(
            sql: """
                SELECT sequence, batch, following, time, clock_behind, actor, reason, kind, payload, hash FROM events
                WHERE sequence > ? ORDER BY sequence LIMIT ?
                """)
        let rows = try Row.fetchCursor(statement, arguments: [sequence, limit])
        var before: StoredEvent?
        var expected = sequence + 1
        while let row = try rows.next() {
            guard let event = StoredEvent(row, previousHash: previous) else {
                throw corrupt(path, expected, "a column holds what was never written")
            }
            guard event.sequence == expected else { throw corrupt(path, expected, "it is not there") }
            if let problem = event.problem(behind: before) { throw corrupt(path, event.sequence, problem) }
            guard body(event) else { return }
            before = event
            previous = event.hash
            expected += 1
        }
    }

    static func corrupt(_ path: String, _ sequence: Int?, _ problem: String) -> EventLogError {
        let folder = URL(fileURLWithPath: path).deletingLastPathComponent().appendingPathComponent(backupFolder)
        let key = URLResourceKey.contentModificationDateKey
        let copies = (try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: [key])) ?? []
        let dated = copies.filter { $0.pathExtension == "sqlite" }.map {
            ((try? $0.resourceValues(forKeys: [key]).contentModificationDate) ?? .distantPast, $0.path)
        }
        return .corrupt(
            EventLogError.Corruption(path: path, sequence: sequence, problem: problem, newestBackup: dated.max { $0 < $1 }?.1))
    }
}

extension StoredEvent {
    /// Nil where a column has a type that it was never written with: GRDB's usual reading would end the process.
    fileprivate init?(_ row: Row, previousHash: EventHash) {
        func value<Value: DatabaseValueConvertible>(_ index: Int, _: Value.Type) -> Value? {
            Value.fromDatabaseValue(row[index] as DatabaseValue)
        }
        guard let sequence = value(0, Int.self), let batch = value(1, Int.self), let following = value(2, Int.self),
            let time = value(3, Int64.self), let clockBehind = value(4, Int64.self), let actor = value(5, String.self),
            let reason = value(6, String.self), let kind = value(7, String.self), let payload = value(8, Data.self),
            let hash = value(9, Data.self).flatMap({ EventHash($0) })
        else { return nil }
        self.init(
            sequence: sequence, batch: batch, following: following, time: UnixTime(milliseconds: time), clockBehind: clockBehind,
            actor: actor, reason: reason, kind: kind, payload: payload, previousHash: previousHash, hash: hash)
    }

    /// What cannot be, given the event before; nil where that is not known (the first that is looked at) only the hash counts.
    fileprivate func problem(behind before: StoredEvent?) -> String? {
        guard hash == computedHash else { return "its content does not match its hash" }
        guard let before else { return nil }
        let continues = before.following > 0 && batch == before.batch && following == before.following - 1
        let begins = before.following == 0 && batch == sequence
        if !continues && !begins { return "it is of another batch than its place says" }
        return time < before.time ? "it is earlier than the event before" : nil
    }
}
