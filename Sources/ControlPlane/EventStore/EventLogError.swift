/// Why a log could not be opened, read or written.
public enum EventLogError: Error, Hashable, Sendable {
    /// What is in the file is not what was written.
    case corrupt(Corruption)
    /// Another process has the directory.
    case inUse(directory: String, processID: Int?)
    /// A newer version of the program wrote the file.
    case newerSchema(path: String, found: Int, supported: Int)
    /// The log does not end where the author of the batch thought.
    case conflict(expected: Int, found: Int)
    /// A batch beyond `EventLimits`, or an empty one.
    case refused(String)
    /// The disk is full: nothing was recorded, and the next attempt may succeed.
    case full(String)
    /// The disk failed. Whether the batch was recorded is not known before the log is opened anew; until then it takes nothing.
    case failed(String)

    public struct Corruption: Hashable, Sendable {
        public var path: String
        /// Where the chain breaks; nil if the file as a whole cannot be read.
        public var sequence: Int?
        public var problem: String
        /// The newest copy in the directory's `backups`, if there is one.
        public var newestBackup: String?
    }
}

extension EventLogError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .corrupt(let corruption): corruption.description
        case .inUse(let directory, let processID):
            "\(directory) is in use by \(processID.map { "process \($0)" } ?? "another process"): one outriggerd for each data directory"
        case .newerSchema(let path, let found, let supported):
            "\(path) has schema \(found), this program knows up to \(supported): it was written by a newer outriggerd; start that one"
        case .conflict(let expected, let found): "the log was expected to end with event \(expected), it ends with event \(found)"
        case .refused(let text): text
        case .full(let text): "the disk is full, nothing was recorded: \(text)"
        case .failed(let text): "\(text); what was being recorded may be lost or not, the log must be opened anew"
        }
    }
}

extension EventLogError.Corruption: CustomStringConvertible {
    public var description: String {
        let place = sequence.map { ": event \($0)" } ?? ""
        let copy = newestBackup ?? "COPY"
        return """
            \(path) is corrupt\(place): \(problem).
            Nothing is read from it. To recover, keep the damaged file and put a copy in its place:
              mv \(path) \(path).damaged && rm -f \(path)-wal \(path)-shm && cp \(copy) \(path)
            \(newestBackup == nil ? "No copy was found in the backups directory beside it. " : "")\
            What was recorded after the copy was made must be applied again; the proxies keep what they run.
            """
    }
}
