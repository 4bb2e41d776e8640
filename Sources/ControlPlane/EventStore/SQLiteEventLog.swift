import Foundation
import GRDB
import Glibc
import Synchronization

/// The log in one SQLite file, through GRDB.
///
/// WAL with `synchronous = FULL`: a commit returns after its frames are on the disk, with one fsync for all batches of one call.
/// Triggers forbid to change or delete an event, and each has the hash of the one before in its own.
public final class SQLiteEventLog: EventLog {
    /// Of the file: tables, columns and what the hashes are made of.
    public static let schema = 1
    public static let fileName = "events.sqlite"
    public static let backupFolder = "backups"

    /// What opening looks at before it calls the log good.
    public enum Verification: Sendable {
        /// The events behind the newest snapshot: what is before was looked at when that was made.
        case sinceSnapshot
        case whole
    }

    struct Head {
        var last: StoredEvent?
        /// Set once the disk failed: what is in the file is then not known before it is opened anew.
        var failure: String?
    }

    let path: String
    let database: DatabaseQueue
    /// Written only inside of `database`, so it never lags behind a commit for those who come after it.
    private let head: Mutex<Head>
    private let lock: DirectoryLock?

    /// Opens the log of a directory, which is made if it is not there.
    ///
    /// - Throws: `.inUse`, `.corrupt`, `.newerSchema`, or `.failed` for what the system says.
    public convenience init(directory: String, verifying: Verification = .sinceSnapshot) throws(EventLogError) {
        do {
            // What users applied may hold secrets: nobody else reads it.
            try FileManager.default.createDirectory(
                atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw .failed("cannot make the directory \(directory): \(error.localizedDescription)")
        }
        let lock = try DirectoryLock(directory)
        let path = "\(directory)/\(Self.fileName)"
        try Self.make(path)
        try self.init(path: path, lock: lock, verifying: verifying)
    }

    /// A log that is gone with its object, for tests and trials.
    public convenience init(inMemory: Void) throws(EventLogError) {
        try self.init(path: ":memory:", lock: nil, verifying: .sinceSnapshot)
    }

    private init(path: String, lock: DirectoryLock?, verifying: Verification) throws(EventLogError) {
        self.path = path
        self.lock = lock
        var configuration = Configuration()
        configuration.label = "event log"
        configuration.busyMode = .timeout(5)  // For people who look into the file with another program.
        configuration.prepareDatabase { db in
            try db.execute(
                sql: """
                    PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;
                    """)
        }
        do {
            database = try DatabaseQueue(path: path, configuration: configuration)
            try database.writeWithoutTransaction { db in
                if lock == nil { try Self.makeTables(db) }
                try Self.check(db, path: path)
            }
            let last = try database.read { try Self.verify($0, path: path, how: verifying) }
            head = Mutex(Head(last: last))
        } catch {
            throw EventLogError(error, path: path)
        }
    }

    public var last: StoredEvent? { head.withLock { $0.last } }

    public func append(_ batches: [EventBatch]) -> [Result<[StoredEvent], EventLogError>] {
        do {
            return try database.writeWithoutTransaction { db in
                let known = head.withLock { $0 }
                if let failure = known.failure { throw EventLogError.failed(failure) }
                var last = known.last
                var results: [Result<[StoredEvent], EventLogError>] = []
                do {
                    try db.inTransaction(.immediate) {
                        for batch in batches { results.append(try Self.append(batch, behind: &last, to: db)) }
                        return .commit
                    }
                } catch {
                    let problem = EventLogError(error, path: path)
                    // A failed fsync may have dropped the pages that it was for: the next one would succeed without them.
                    if case .failed(let text) = problem { head.withLock { $0.failure = text } }
                    throw problem
                }
                head.withLock { $0.last = last }
                return results
            }
        } catch {
            return batches.map { _ in .failure(EventLogError(error, path: path)) }
        }
    }

    private static func append(
        _ batch: EventBatch, behind last: inout StoredEvent?, to db: Database
    ) throws -> Result<[StoredEvent], EventLogError> {
        let end = last?.sequence ?? 0
        if let expected = batch.expectedSequence, expected != end { return .failure(.conflict(expected: expected, found: end)) }
        if let problem = batch.problem { return .failure(.refused(problem)) }
        let statement = try db.cachedStatement(
            sql: """
                INSERT INTO events (sequence, batch, following, time, clock_behind, actor, reason, kind, payload, hash)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """)
        var stored: [StoredEvent] = []
        for (index, draft) in batch.events.enumerated() {
            let time = max(batch.time, last?.time ?? batch.time)
            let event = StoredEvent(
                draft, sequence: end + 1 + index, batch: end + 1, following: batch.events.count - 1 - index, time: time,
                clockBehind: time.milliseconds - batch.time.milliseconds, actor: batch.actor, reason: batch.reason,
                previousHash: last?.hash ?? .none)
            try statement.execute(arguments: [
                event.sequence, event.batch, event.following, event.time.milliseconds, event.clockBehind, event.actor, event.reason,
                event.kind, event.payload, event.hash.bytes,
            ])
            stored.append(event)
            last = event
        }
        return .success(stored)
    }

    public func events(after sequence: Int, limit: Int) throws(EventLogError) -> [StoredEvent] {
        try read { db in
            var events: [StoredEvent] = []
            var bytes = 0
            try Self.walk(db, path: path, after: sequence, limit: limit) { event in
                events.append(event)
                bytes += event.payload.count
                return bytes < Self.maxBytesOfOneRead
            }
            return events
        }
    }

    private static let maxBytesOfOneRead = 64 << 20

    public func sequence(at time: UnixTime) throws(EventLogError) -> Int {
        try read { db in
            // Times never go back, so halving finds it without an index.
            var low = 0
            var high = try Int.fetchOne(db, sql: "SELECT MAX(sequence) FROM events") ?? 0
            while low < high {
                let middle = (low + high + 1) / 2
                let found = try Int64.fetchOne(db, sql: "SELECT time FROM events WHERE sequence = ?", arguments: [middle])
                guard let found else { throw Self.corrupt(path, middle, "it is not there") }
                if found <= time.milliseconds { low = middle } else { high = middle - 1 }
            }
            return low
        }
    }

    public func verify() throws(EventLogError) {
        _ = try read { try Self.verify($0, path: path, how: .whole) }
    }

    /// Written beside and renamed, so `path` has a whole copy or what it had before. Appending goes on meanwhile.
    public func backup(to copy: String) throws(EventLogError) {
        _ = try Self.copy(path, to: copy, in: path == ":memory:" ? database : nil)
    }

    /// The same for the log of a directory that another process may be writing.
    ///
    /// - Returns: the last event of the copy, all of which was looked at.
    public static func backup(directory: String, to copy: String) throws(EventLogError) -> StoredEvent? {
        let path = "\(directory)/\(fileName)"
        guard FileManager.default.fileExists(atPath: path) else { throw .failed("\(path): there is no such log") }
        return try Self.copy(path, to: copy, in: nil)
    }

    private static func copy(_ path: String, to copy: String, in database: DatabaseQueue?) throws(EventLogError) -> StoredEvent? {
        let beside = "\(copy).new"
        do {
            try? FileManager.default.removeItem(atPath: beside)
            // What users applied may hold secrets, in the copy too.
            guard FileManager.default.createFile(atPath: beside, contents: nil, attributes: [.posixPermissions: 0o600]) else {
                throw EventLogError.failed("cannot create \(beside): \(String(errno: errno))")
            }
            let last: StoredEvent?
            do {
                let target = try DatabaseQueue(path: beside)
                // A connection of its own sees one moment of the file; through that of the log, appending would wait.
                var configuration = Configuration()
                configuration.readonly = true
                configuration.busyMode = .timeout(5)
                try (database ?? DatabaseQueue(path: path, configuration: configuration)).backup(to: target)
                last = try target.read { db in
                    try check(db, path: path)
                    return try verify(db, path: path, how: .whole)
                }
                // All of it in the one file.
                try target.writeWithoutTransaction { try $0.execute(sql: "PRAGMA journal_mode = DELETE") }
                try target.close()
            }
            try settle(beside, as: copy)
            return last
        } catch {
            try? FileManager.default.removeItem(atPath: beside)
            // A damaged source is one; but the copy's name must not stand in its place.
            throw EventLogError(error, path: path)
        }
    }

    /// For tests: as if the disk had room for this much of the file and no more; nil: for all that comes.
    func limitPages(_ pages: Int?) throws(EventLogError) {
        try read { try $0.execute(sql: "PRAGMA max_page_count = \(pages ?? 1 << 30)") }
    }

    /// Mode of the journal and of waiting, as SQLite says it.
    var settings: [String] {
        (try? read { db in try ["journal_mode", "synchronous"].map { try String.fetchOne(db, sql: "PRAGMA \($0)") ?? "" } }) ?? []
    }

    func read<Value>(_ body: (Database) throws -> Value) throws(EventLogError) -> Value {
        do {
            return try database.read(body)
        } catch {
            throw EventLogError(error, path: path)
        }
    }
}

extension EventBatch {
    fileprivate var problem: String? {
        if events.isEmpty { return "a batch without events" }
        if events.count > EventLimits.maxEvents { return "\(events.count) events in one batch, at most \(EventLimits.maxEvents)" }
        if let large = events.first(where: { $0.payload.count > EventLimits.maxPayloadBytes }) {
            return "a \(large.kind) of \(large.payload.count) bytes, at most \(EventLimits.maxPayloadBytes)"
        }
        let total = events.reduce(0) { $0 + $1.payload.count }
        if total > EventLimits.maxBatchBytes { return "\(total) bytes in one batch, at most \(EventLimits.maxBatchBytes)" }
        let words = [("actor", actor), ("reason", reason)] + events.map { ("kind", $0.kind) }
        // SQLite ends texts at a NUL, and the hash would not fit what is read back.
        for (name, word) in words where word.utf8.count > EventLimits.maxWordBytes || word.utf8.contains(0) {
            return "the \(name) must have at most \(EventLimits.maxWordBytes) bytes and no NUL"
        }
        return nil
    }
}

extension EventLogError {
    /// Any error of SQLite, GRDB or ours.
    init(_ error: any Error, path: String) {
        if let error = error as? EventLogError {
            self = error
            return
        }
        guard let error = error as? DatabaseError else {
            self = .failed("\(path): \(error)")
            return
        }
        let text = error.message ?? error.resultCode.description
        switch error.resultCode {
        case .SQLITE_CORRUPT, .SQLITE_NOTADB: self = SQLiteEventLog.corrupt(path, nil, "SQLite says: \(text)")
        case .SQLITE_FULL: self = .full("\(path): \(text)")
        default: self = .failed("\(path): \(text) (SQLite \(error.extendedResultCode.rawValue))")
        }
    }
}
