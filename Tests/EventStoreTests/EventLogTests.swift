import Foundation
import GRDB
import Glibc
import TestSupport
import Testing

@testable import EventStore

/// Batches of texts, for tests that care for their order only.
func batch(_ texts: String..., time: Int64 = 1000, expecting expected: Int? = nil) -> EventBatch {
    EventBatch(
        events: texts.map { EventDraft(kind: "test", payload: Data($0.utf8)) }, actor: "user:alice", reason: "to see",
        time: UnixTime(milliseconds: time), expectedSequence: expected)
}

func texts(_ events: [StoredEvent]) -> [String] { events.map { String(decoding: $0.payload, as: UTF8.self) } }

@Suite("The event log")
struct EventLogTests {
    @Test("what is appended is read again, from the same log and from one opened later")
    func appendAndRead() throws {
        let folder = try TemporaryFolder()
        var stored: [StoredEvent] = []
        do {
            let log = try SQLiteEventLog(directory: folder.file("data"))
            #expect(log.last == nil)
            #expect(try log.events(after: 0, limit: 10).isEmpty)
            stored = try log.append(batch("a", "b", "c")) + log.append(batch("d", time: 2000))
            #expect(try log.events(after: 0, limit: 10) == stored)
            #expect(try texts(log.events(after: 1, limit: 2)) == ["b", "c"])
            #expect(try log.events(after: 4, limit: 10).isEmpty)
            #expect(try log.events(after: 99, limit: 10).isEmpty)
        }
        let again = try SQLiteEventLog(directory: folder.file("data"), verifying: .whole)
        #expect(try again.events(after: 0, limit: 10) == stored)
        #expect(again.last == stored.last)
        #expect(stored.map(\.sequence) == [1, 2, 3, 4])
        #expect(stored.map(\.batch) == [1, 1, 1, 4])
        #expect(stored.map(\.following) == [2, 1, 0, 0])
        #expect(stored[0].actor == "user:alice" && stored[0].reason == "to see" && stored[0].kind == "test")
    }

    @Test("each event's hash covers the hash before it")
    func chain() throws {
        let stored = try SQLiteEventLog(inMemory: ()).append(batch("a", "b"))
        #expect(stored[0].previousHash == .none)
        #expect(stored[1].previousHash == stored[0].hash)
        let other = try SQLiteEventLog(inMemory: ()).append(batch("A", "b"))
        #expect(other[1].hash != stored[1].hash)
    }

    @Test("batches that wait together are recorded together, each with its own answer")
    func groupCommit() throws {
        let log = try SQLiteEventLog(inMemory: ())
        let results = log.append([batch("a", "b"), batch("refused", expecting: 1), batch("c", expecting: 2), batch()])
        #expect(try texts(results[0].get()) == ["a", "b"])
        #expect(results[1] == .failure(.conflict(expected: 1, found: 2)))
        #expect(try texts(results[2].get()) == ["c"])
        #expect(results[3] == .failure(.refused("a batch without events")))
        #expect(try texts(log.events(after: 0, limit: 10)) == ["a", "b", "c"])
        #expect(log.last?.sequence == 3)
    }

    @Test(
        "a batch beyond the limits is refused whole",
        arguments: [
            (EventBatch(events: [EventDraft(kind: "k\0", payload: Data())], actor: "", time: UnixTime(milliseconds: 0)), "the kind"),
            (
                EventBatch(
                    events: [EventDraft(kind: "k", payload: Data())], actor: String(repeating: "a", count: 4097),
                    time: UnixTime(milliseconds: 0)), "the actor"
            ),
            (
                EventBatch(
                    events: Array(repeating: EventDraft(kind: "k", payload: Data()), count: 20_001), actor: "",
                    time: UnixTime(milliseconds: 0)), "20001 events"
            ),
            (
                EventBatch(
                    events: [EventDraft(kind: "k", payload: Data(count: 32 << 20 + 1))], actor: "", time: UnixTime(milliseconds: 0)),
                "a k of"
            ),
        ])
    func limits(batch: EventBatch, problem: String) throws {
        let log = try SQLiteEventLog(inMemory: ())
        guard case .failure(.refused(let text)) = log.append([batch])[0] else {
            Issue.record("it was taken")
            return
        }
        #expect(text.hasPrefix(problem))
        #expect(log.last == nil)
    }

    @Test("a clock that is set back does not set the log back, and the log says by how much it was")
    func clockBack() throws {
        let log = try SQLiteEventLog(inMemory: ())
        for time in [5000, 3000, 3500, 6000] as [Int64] { _ = try log.append(batch("x", time: time)) }
        let events = try log.events(after: 0, limit: 10)
        #expect(events.map(\.time.milliseconds) == [5000, 5000, 5000, 6000])
        #expect(events.map(\.clockBehind) == [0, 2000, 1500, 0])
    }

    @Test(
        "the last event at a time",
        arguments: [(0, 0), (999, 0), (1000, 2), (1500, 2), (2000, 4), (3999, 4), (4000, 5), (9000, 5)] as [(Int64, Int)])
    func sequenceAtTime(time: Int64, expected: Int) throws {
        let log = try SQLiteEventLog(inMemory: ())
        _ = log.append([batch("a", "b", time: 1000), batch("c", time: 2000), batch("d", time: 2000), batch("e", time: 4000)])
        #expect(try log.sequence(at: UnixTime(milliseconds: time)) == expected)
        #expect(try SQLiteEventLog(inMemory: ()).sequence(at: UnixTime(milliseconds: time)) == 0)
    }

    @Test(
        "nothing changes or deletes an event", arguments: ["UPDATE events SET actor = 'mallory'", "DELETE FROM events WHERE sequence = 1"])
    func appendOnly(statement: String) throws {
        let folder = try TemporaryFolder()
        let log = try SQLiteEventLog(directory: folder.path)
        _ = try log.append(batch("a", "b"))
        #expect(throws: DatabaseError.self) {
            try DatabaseQueue(path: folder.file("events.sqlite")).write { try $0.execute(sql: statement) }
        }
        try log.verify()
    }

    @Test("one log for each directory at a time; its end, however it comes, lets the next one in")
    func lock() throws {
        let folder = try TemporaryFolder()
        var first: SQLiteEventLog? = try SQLiteEventLog(directory: folder.path)
        let expected = EventLogError.inUse(directory: folder.path, processID: Int(getpid()))
        #expect(throws: expected) { try SQLiteEventLog(directory: folder.path) }
        #expect(expected.description.contains("is in use by process \(getpid())"))
        withExtendedLifetime(first) {}
        first = nil
        _ = try SQLiteEventLog(directory: folder.path)
    }

    @Test("nobody else may read the directory or the file")
    func permissions() throws {
        let folder = try TemporaryFolder()
        let log = try SQLiteEventLog(directory: folder.file("data"))
        _ = try log.append(batch("secret"))
        for (name, mode) in [("data", 0o700), ("data/events.sqlite", 0o600), ("data/events.sqlite-wal", 0o600)] {
            let found = try FileManager.default.attributesOfItem(atPath: folder.file(name))[.posixPermissions] as? Int
            #expect(found == mode, "\(name)")
        }
    }

    @Test("a commit waits for the disk")
    func synchronous() throws {
        let folder = try TemporaryFolder()
        let log = try SQLiteEventLog(directory: folder.path)
        _ = try log.append(batch("a"))
        // 2 is FULL: with WAL the log of the transaction is synced at each commit.
        #expect(log.settings == ["wal", "2"])
    }

    @Test("a copy that is made while the log is written is whole, and opens in its place")
    func backup() throws {
        let folder = try TemporaryFolder()
        let log = try SQLiteEventLog(directory: folder.file("data"))
        for index in 0..<50 { _ = try log.append(batch("\(index)")) }
        let copied = Counter()
        let crew = Threads.start(1) { _ in
            while copied.value == 0 { _ = try log.append(batch("more", "and more")) }
        }
        try FileManager.default.createDirectory(atPath: folder.file("other"), withIntermediateDirectories: false)
        for _ in 0..<3 { try log.backup(to: folder.file("other/events.sqlite")) }
        copied.add()
        try crew.join()

        let other = try SQLiteEventLog(directory: folder.file("other"), verifying: .whole)
        let end = try #require(other.last?.sequence)
        #expect(end >= 50)
        #expect(try other.events(after: 0, limit: .max) == log.events(after: 0, limit: end))
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.file("other")).filter { $0.hasSuffix(".new") } == [])
    }

    @Test("many threads append and none loses an event")
    func threads() throws {
        let folder = try TemporaryFolder()
        let log = try SQLiteEventLog(directory: folder.path)
        try Threads.run(4) { thread in
            for index in 0..<25 { _ = try log.append(batch("\(thread).\(index)", "\(thread).\(index)+")) }
        }
        let events = try log.events(after: 0, limit: .max)
        #expect(Set(texts(events)).count == 200)
        try log.verify()
    }
}

@Suite("Snapshots of read models")
struct SnapshotTests {
    func snapshot(_ sequence: Int, _ text: String, name: String = "model", version: Int = 1) -> ProjectionSnapshot {
        ProjectionSnapshot(name: name, version: version, sequence: sequence, content: Data(text.utf8))
    }

    func log(_ count: Int) throws -> SQLiteEventLog {
        let log = try SQLiteEventLog(inMemory: ())
        for index in 0..<count { _ = try log.append(batch("\(index)")) }
        return log
    }

    @Test("the newest that is asked for is found")
    func newest() throws {
        let log = try log(10)
        try log.save([snapshot(2, "two"), snapshot(5, "five"), snapshot(5, "other", name: "other"), snapshot(8, "eight", version: 2)])
        #expect(try log.snapshot(named: "model", version: 1, notAfter: 10) == snapshot(5, "five"))
        #expect(try log.snapshot(named: "model", version: 1, notAfter: 4) == snapshot(2, "two"))
        #expect(try log.snapshot(named: "model", version: 1, notAfter: 1) == nil)
        #expect(try log.snapshot(named: "model", version: 2, notAfter: 10) == snapshot(8, "eight", version: 2))
        #expect(try log.snapshot(named: "model", version: 3, notAfter: 10) == nil)
        try log.dropSnapshots()
        #expect(try log.snapshot(named: "model", version: 1, notAfter: 10) == nil)
        #expect(try log.events(after: 0, limit: 20).count == 10)
    }

    @Test("behind the end of the log there can be none")
    func beyond() throws {
        let log = try log(3)
        #expect(throws: EventLogError.refused("a snapshot behind event 4, which is not in the log")) { try log.save([snapshot(4, "four")]) }
    }

    @Test("of many, eight stay: the newest, and others that are denser towards the end")
    func thinOut() throws {
        let log = try log(256)
        for sequence in 1...256 { try log.save([snapshot(sequence, "\(sequence)")]) }
        let kept = try (1...256).filter { sequence in
            try log.snapshot(named: "model", version: 1, notAfter: sequence)?.sequence == sequence
        }
        #expect(kept.count == 8)
        #expect(kept.last == 256)
        #expect(kept[0] < 192, "\(kept)")
        #expect(zip(kept, kept.dropFirst()).allSatisfy { 256 - $0 >= 256 - $1 })
        #expect(kept[6] - kept[5] <= kept[2] - kept[1], "\(kept)")
    }
}
