import CTestTLS
import Foundation
public import Glibc
import Synchronization

/// Held while a program is started, and while a descriptor exists that it would inherit.
let spawning = Mutex(())

/// Another program: started, watched, and gone at the latest when this object goes.
public final class Program: @unchecked Sendable {
    public let pid: pid_t
    public let name: String
    private let folder: TemporaryFolder
    private let kept: TemporaryFolder?
    private let lock = NSLock()
    private var status: Int32?

    /// How a program ended.
    public struct Result: Sendable {
        /// The exit status, or 128 and the signal that ended it, as shells say it.
        public var status: Int32
        public var output: String
        public var errors: String
    }

    /// Starts a program with its output in files.
    ///
    /// - Parameters:
    ///   - command: the path or name, found in PATH.
    ///   - environment: added to ours.
    ///   - folder: stays as long as the program does.
    public init(
        _ command: String, _ arguments: [String] = [], environment: [String: String] = [:], in folder: TemporaryFolder? = nil
    ) throws {
        name = command
        kept = folder
        self.folder = try TemporaryFolder()
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe _ = posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_addopen(&actions, 1, self.folder.file("output"), O_WRONLY | O_CREAT | O_APPEND, 0o600)
        unsafe posix_spawn_file_actions_addopen(&actions, 2, self.folder.file("errors"), O_WRONLY | O_CREAT | O_APPEND, 0o600)
        // What other tests have open at this moment is not the program's: some of them count its descriptors.
        unsafe ctest_close_from(&actions, 3)
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe _ = posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        unsafe sigemptyset(&none)
        unsafe posix_spawnattr_setsigmask(&attributes, &none)
        // A group of its own, so that what the program starts can be ended with it.
        unsafe posix_spawnattr_setpgroup(&attributes, 0)
        unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK) | Int16(POSIX_SPAWN_SETPGROUP))
        let variables = ProcessInfo.processInfo.environment.merging(environment) { $1 }.map { "\($0)=\($1)" }
        var words: [UnsafeMutablePointer<CChar>?] = unsafe ([command] + arguments).map { unsafe strdup($0) } + [nil]
        var settings: [UnsafeMutablePointer<CChar>?] = unsafe variables.map { unsafe strdup($0) } + [nil]
        defer {
            unsafe words.forEach { unsafe free($0) }
            unsafe settings.forEach { unsafe free($0) }
        }
        var pid: pid_t = 0
        let problem = spawning.withLock { _ in unsafe posix_spawnp(&pid, command, &actions, &attributes, &words, &settings) }
        guard problem == 0 else { throw TestFailure("cannot start \(command): \(unsafe String(cString: strerror(problem)))") }
        self.pid = pid
    }

    deinit {
        guard exitStatus() == nil else { return }
        killFamily()
        var word: Int32 = 0
        unsafe waitpid(pid, &word, 0)
    }

    public var output: String { folder.text("output") }
    public var errors: String { folder.text("errors") }

    /// Nil while it runs.
    public func exitStatus() -> Int32? {
        lock.withLock {
            if let status { return status }
            var word: Int32 = 0
            guard unsafe waitpid(pid, &word, WNOHANG) == pid else { return nil }
            status = word & 0x7f == 0 ? word >> 8 & 0xff : 128 + word & 0x7f
            return status
        }
    }

    public func signal(_ signal: Int32) {
        if exitStatus() == nil { kill(pid, signal) }
    }

    /// Waits for its end.
    @discardableResult
    public func wait(within limit: Duration = patience) throws -> Result {
        do {
            try eventually("\(name) ends; it said: \(errors)", within: limit) { exitStatus() != nil }
        } catch {
            end()
            throw error
        }
        return Result(status: exitStatus() ?? -1, output: output, errors: errors)
    }

    /// Ends it by force, and what it started.
    public func end() {
        guard exitStatus() == nil else { return }
        killFamily()
        while exitStatus() == nil { usleep(1000) }
    }

    /// Kills it and all that it started, in whatever process groups they are.
    private func killFamily() {
        var family = [pid]
        var next = 0
        while next < family.count {
            let parent = family[next]
            let children = (try? String(contentsOfFile: "/proc/\(parent)/task/\(parent)/children", encoding: .utf8)) ?? ""
            family += children.split(separator: " ").compactMap { pid_t($0) }
            next += 1
        }
        for member in family { kill(member, SIGKILL) }
    }

    /// Resident memory in bytes, of the process alone.
    public var residentBytes: Int {
        let text = (try? String(contentsOfFile: "/proc/\(pid)/statm", encoding: .utf8)) ?? ""
        return (Int(text.split(separator: " ").dropFirst().first ?? "") ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE)))
    }

    /// Open descriptors.
    public var descriptorCount: Int {
        (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").count) ?? 0
    }

    /// Runs a program to its end.
    public static func run(
        _ command: String, _ arguments: [String] = [], environment: [String: String] = [:], within limit: Duration = patience
    ) throws -> Result {
        try Program(command, arguments, environment: environment).wait(within: limit)
    }

    /// Whether a program is installed.
    public static func exists(_ name: String) -> Bool {
        let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map(String.init) + ["/usr/sbin"]
        return folders.contains { unsafe access("\($0)/\(name)", X_OK) == 0 }
    }
}

/// A number that several threads count on.
public final class Counter: Sendable {
    private let count = Mutex(0)

    public init() {}

    public var value: Int { count.withLock { $0 } }

    public func add(_ number: Int = 1) {
        count.withLock { $0 += number }
    }
}

/// Runs code on other threads and waits for all of it.
public enum Threads {
    /// Calls `body` with 0 ..< count, each on a thread of its own. Throws the first error.
    public static func run(_ count: Int, _ body: @escaping @Sendable (Int) throws -> Void) throws {
        let crew = start(count, body)
        try crew.join()
    }

    public static func start(_ count: Int, _ body: @escaping @Sendable (Int) throws -> Void) -> Crew {
        let crew = Crew(count)
        for index in 0..<count {
            Thread.detachNewThread {
                do {
                    try body(index)
                    crew.ended(nil)
                } catch {
                    crew.ended(error)
                }
            }
        }
        return crew
    }

    /// Threads that were started together.
    public final class Crew: @unchecked Sendable {
        private let condition = NSCondition()
        private var left: Int
        private var failure: (any Error)?

        init(_ count: Int) {
            left = count
        }

        func ended(_ error: (any Error)?) {
            condition.lock()
            left -= 1
            if failure == nil { failure = error }
            condition.broadcast()
            condition.unlock()
        }

        public var isDone: Bool {
            condition.lock()
            defer { condition.unlock() }
            return left == 0
        }

        public func join(within limit: Duration = .seconds(300)) throws {
            let deadline = Date(timeIntervalSinceNow: Double(limit.milliseconds) / 1000)
            condition.lock()
            defer { condition.unlock() }
            while left > 0 {
                guard condition.wait(until: deadline) else { throw TestFailure("\(left) threads still at work after \(limit)") }
            }
            if let failure { throw failure }
        }
    }
}
