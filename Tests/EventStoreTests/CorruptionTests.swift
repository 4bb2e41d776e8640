import EventStore
import Foundation
import GRDB
import TestSupport
import Testing

@Suite("A log that is not as it was written")
struct CorruptionTests {
    /// Thirty events in ten batches of three, with a snapshot behind the 15th, and nothing left in the WAL.
    static func make() throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        do {
            let log = try SQLiteEventLog(directory: folder.path)
            for index in 0..<10 { _ = try log.append(batch("first of \(index)", "second of \(index)", "third of \(index)")) }
            try log.save([ProjectionSnapshot(name: "model", version: 1, sequence: 15, content: Data("fifteen".utf8))])
        }
        try tamper(folder, "PRAGMA wal_checkpoint(TRUNCATE)")
        return folder
    }

    /// Like somebody with another program, who does not mind the triggers.
    static func tamper(_ folder: TemporaryFolder, _ statements: String) throws {
        let database = try DatabaseQueue(path: folder.file("events.sqlite"))
        try database.writeWithoutTransaction { db in
            try db.execute(sql: "DROP TRIGGER IF EXISTS events_stay_as_they_are; DROP TRIGGER IF EXISTS events_stay; \(statements)")
        }
        try database.close()
    }

    static func problem(_ folder: TemporaryFolder, _ how: SQLiteEventLog.Verification) -> EventLogError? {
        do throws(EventLogError) {
            _ = try SQLiteEventLog(directory: folder.path, verifying: how)
            return nil
        } catch {
            return error
        }
    }

    @Test(
        "is refused, with the place and what to do",
        arguments: [
            ("UPDATE events SET payload = 'second of 6 ' WHERE sequence = 20", 20, "a column holds what was never written"),
            ("UPDATE events SET payload = x'7b7d' WHERE sequence = 20", 20, "its content does not match its hash"),
            ("UPDATE events SET actor = 'user:mallory' WHERE sequence = 30", 30, "its content does not match its hash"),
            ("UPDATE events SET time = 999 WHERE sequence = 20", 20, "its content does not match its hash"),
            ("UPDATE events SET hash = zeroblob(32) WHERE sequence = 20", 20, "its content does not match its hash"),
            ("UPDATE events SET hash = x'00' WHERE sequence = 20", 20, "a column holds what was never written"),
            ("DELETE FROM events WHERE sequence = 20", 20, "it is not there"),
            ("DELETE FROM events WHERE sequence = 30", 29, "1 events of its batch are missing"),
            ("DELETE FROM events WHERE sequence > 27", 30, "it was the last event and is not there"),
            (
                "DELETE FROM events WHERE sequence = 30; UPDATE sqlite_sequence SET seq = 29", 29, "1 events of its batch are missing"
            ),
            ("DELETE FROM events", 30, "it was the last event and is not there"),
            ("DELETE FROM events WHERE sequence = 15", 15, "it is not there"),
            ("UPDATE events SET hash = zeroblob(32) WHERE sequence = 15", 15, "its content does not match its hash"),
        ] as [(String, Int, String)])
    func tampered(statement: String, sequence: Int, problem: String) throws {
        let folder = try Self.make()
        try Self.tamper(folder, statement.replacing("'second of 6 '", with: "CAST('second of 6 ' AS BLOB)"))
        let error = try #require(Self.problem(folder, .sinceSnapshot))
        guard case .corrupt(let corruption) = error else {
            Issue.record("\(error)")
            return
        }
        #expect(corruption.sequence == sequence)
        // A payload of another length is found by its hash.
        #expect(corruption.problem == (statement.contains("second of 6") ? "its content does not match its hash" : problem))
        #expect(corruption.path == folder.file("events.sqlite"))
        #expect(error.description.contains("To recover"))
    }

    @Test("is found by a look at everything, also where a snapshot spares the usual look; and when it is read")
    func beforeSnapshot() throws {
        let folder = try Self.make()
        try Self.tamper(folder, "UPDATE events SET payload = x'00' WHERE sequence = 5")
        guard case .corrupt(let found)? = Self.problem(folder, .whole) else {
            Issue.record("not found")
            return
        }
        #expect(found.sequence == 5)
        let log = try SQLiteEventLog(directory: folder.path)
        #expect(throws: EventLogError.self) { try log.verify() }
        #expect(throws: EventLogError.self) { try log.events(after: 0, limit: 10) }
        #expect(try log.events(after: 5, limit: 10).count == 10)
    }

    @Test("one bit in any page of the file: found, or where no event is")
    func flippedBits() throws {
        let folder = try Self.make()
        let path = folder.file("events.sqlite")
        let whole = try #require(FileManager.default.contents(atPath: path))
        let events = try {
            let log = try SQLiteEventLog(directory: folder.path)
            return try log.events(after: 0, limit: .max)
        }()
        var found = 0
        // Every 97th byte: all pages, and all kinds of places in them.
        for offset in stride(from: 0, to: whole.count, by: 97) {
            var damaged = whole
            damaged[offset] ^= 1 << UInt8(offset % 8)
            try damaged.write(to: URL(fileURLWithPath: path))
            for ending in ["-wal", "-shm"] { try? FileManager.default.removeItem(atPath: path + ending) }
            do throws(EventLogError) {
                let log = try SQLiteEventLog(directory: folder.path, verifying: .whole)
                let read = try log.events(after: 0, limit: .max)
                #expect(read == events, "byte \(offset): read as if nothing had happened")
            } catch {
                found += 1
            }
        }
        #expect(found > 10)
    }

    @Test("a file that was cut is refused", arguments: [0, 1, 100, 511, 512, 4096, 6000, 8192, 12288])
    func truncated(length: Int) throws {
        let folder = try Self.make()
        let url = URL(fileURLWithPath: folder.file("events.sqlite"))
        let whole = try Data(contentsOf: url)
        try #require(length < whole.count)
        try whole.prefix(length).write(to: url)
        guard case .corrupt? = Self.problem(folder, .sinceSnapshot) else {
            Issue.record("it was taken, or refused for another reason")
            return
        }
    }

    @Test("a log that is gone, but for its WAL, is no new log")
    func gone() throws {
        let folder = try TemporaryFolder()
        _ = FileManager.default.createFile(atPath: folder.file("events.sqlite-wal"), contents: Data())
        #expect(try #require(Self.problem(folder, .sinceSnapshot)).description.contains("it is gone"))
    }

    @Test("the message names the newest copy")
    func newestBackup() throws {
        let folder = try Self.make()
        try FileManager.default.createDirectory(atPath: folder.file("backups"), withIntermediateDirectories: false)
        for (name, age) in [("old.sqlite", 200.0), ("new.sqlite", 100.0), ("notes.txt", 0.0)] {
            _ = FileManager.default.createFile(
                atPath: folder.file("backups/\(name)"), contents: Data(), attributes: [.modificationDate: Date(timeIntervalSinceNow: -age)])
        }
        try Self.tamper(folder, "DELETE FROM events WHERE sequence = 20")
        let text = try #require(Self.problem(folder, .sinceSnapshot)?.description)
        #expect(text.contains("cp \(folder.file("backups/new.sqlite")) \(folder.file("events.sqlite"))"))
    }

    @Test("a copy put in its place works, as the message says")
    func recovery() throws {
        let folder = try Self.make()
        do { try SQLiteEventLog(directory: folder.path).backup(to: folder.file("copy.sqlite")) }
        try Self.tamper(folder, "DELETE FROM events WHERE sequence = 20")
        #expect(Self.problem(folder, .sinceSnapshot) != nil)
        for ending in ["-wal", "-shm", ""] { try? FileManager.default.removeItem(atPath: folder.file("events.sqlite\(ending)")) }
        try FileManager.default.copyItem(atPath: folder.file("copy.sqlite"), toPath: folder.file("events.sqlite"))
        let log = try SQLiteEventLog(directory: folder.path, verifying: .whole)
        #expect(try log.append(batch("goes on"))[0].sequence == 31)
    }

    @Test(
        "a file of a newer version, of another program or of none is refused and stays as it is",
        arguments: [("PRAGMA user_version = 2", "has schema 2"), ("PRAGMA application_id = 7", "not of outriggerd")])
    func foreign(statement: String, problem: String) throws {
        let folder = try Self.make()
        try Self.tamper(folder, statement)
        #expect(try #require(Self.problem(folder, .sinceSnapshot)).description.contains(problem))
        try Data(String(repeating: "This is no database. ", count: 50).utf8).write(to: URL(fileURLWithPath: folder.file("events.sqlite")))
        #expect(try #require(Self.problem(folder, .sinceSnapshot)).description.contains("file is not a database"))
    }

    @Test("a snapshot that is damaged, or behind an event that is another, is passed over")
    func snapshots() throws {
        let folder = try Self.make()
        try Self.tamper(folder, "UPDATE snapshots SET content = CAST('sixteen' AS BLOB)")
        #expect(try SQLiteEventLog(directory: folder.path).snapshot(named: "model", version: 1, notAfter: 30) == nil)
        try Self.tamper(folder, "UPDATE snapshots SET content = CAST('fifteen' AS BLOB)")
        #expect(try SQLiteEventLog(directory: folder.path).snapshot(named: "model", version: 1, notAfter: 30) != nil)
        try Self.tamper(folder, "UPDATE snapshots SET event_hash = zeroblob(32)")
        #expect(try SQLiteEventLog(directory: folder.path).snapshot(named: "model", version: 1, notAfter: 30) == nil)
    }
}
