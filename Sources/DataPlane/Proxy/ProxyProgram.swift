import Base
import Glibc
import HTTP2
import ProxyConfig
import Reactor
import Telemetry
import XDSWire

/// What the command line of `outrigger-proxy` says.
struct ProxyOptions {
    var snapshotPath = ""
    var workers: Int?
    var drainTime: Duration?
    var dnsServers: [SocketAddress] = []
    var logLevel = ProcessLog.Level.info

    /// The folder that is watched for a new file.
    var snapshotFolder: String {
        guard let slash = snapshotPath.lastIndex(of: "/") else { return "." }
        return slash == snapshotPath.startIndex ? "/" : String(snapshotPath[..<slash])
    }

    static let usage = """
        usage: outrigger-proxy --snapshot FILE [--workers N] [--drain-time SECONDS] [--dns-servers LIST] [--log-level LEVEL]

        Runs the snapshot in FILE, and follows the file: write a new one beside it and rename it over the old one.
        `outrigger render -o snapshot` makes snapshots from App Mesh YAML; `outrigger run` does both.

          --snapshot FILE        the configuration to run
          --workers N            threads that carry traffic, 1 to 64 (default: the snapshot's, else the CPU quota, at most 2)
          --drain-time SECONDS   how long SIGTERM waits for open requests (default: the snapshot's, else 20)
          --dns-servers LIST     asked instead of the machine's: IP[:PORT], several with commas between them
          --log-level LEVEL      trace, debug, info, warning, error or off (default: info)
          --version              prints the version

        Signals: SIGTERM or SIGINT drains, a second one ends at once; SIGHUP reads FILE again; SIGUSR1 reopens log files.
        """

    /// - Throws: a sentence for the person who typed it.
    init(_ arguments: [String]) throws(UsageError) {
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            var name = argument
            var inlineValue: String?
            if argument.hasPrefix("--"), let equals = argument.firstIndex(of: "=") {
                name = String(argument[..<equals])
                inlineValue = String(argument[argument.index(after: equals)...])
            }
            func value() throws(UsageError) -> String {
                if let inlineValue { return inlineValue }
                guard let next = rest.popFirst() else { throw UsageError(text: "\(name) needs a value") }
                return next
            }
            switch name {
            case "--snapshot": snapshotPath = try value()
            case "--workers":
                let text = try value()
                guard let count = Int(text), (1...64).contains(count) else {
                    throw UsageError(text: "--workers: expected a number from 1 through 64, found \"\(text)\"")
                }
                workers = count
            case "--drain-time":
                let text = try value()
                guard let seconds = Int(text), (0...86400).contains(seconds) else {
                    throw UsageError(text: "--drain-time: expected seconds from 0 through 86400, found \"\(text)\"")
                }
                drainTime = .seconds(seconds)
            case "--dns-servers":
                let text = try value()
                for word in text.split(separator: ",", omittingEmptySubsequences: false) {
                    guard let server = SocketAddress(word) ?? IPAddress(word).map({ SocketAddress($0, 53) }), server.port > 0 else {
                        throw UsageError(text: "--dns-servers: expected IP or IP:PORT, found \"\(word)\"")
                    }
                    dnsServers.append(server)
                }
            case "--log-level":
                let text = try value()
                guard let level = ProcessLog.Level(text) else {
                    throw UsageError(text: "--log-level: expected trace, debug, info, warning, error or off, found \"\(text)\"")
                }
                logLevel = level
            default: throw UsageError(text: "unknown argument \"\(argument)\"")
            }
        }
        guard !snapshotPath.isEmpty else { throw UsageError(text: "--snapshot FILE is missing") }
    }
}

struct UsageError: Error {
    var text: String
}

/// The program `outrigger-proxy`.
public enum ProxyProgram {
    public static let version = "0.1.0"

    /// Runs until told to end; returns the exit status: 0 ended as told, 1 could not start, 2 wrong usage.
    public static func run(arguments: [String]) -> Int32 {
        if arguments.contains("--help") || arguments.contains("-h") {
            print(ProxyOptions.usage)
            return 0
        }
        if arguments.contains("--version") {
            print("outrigger-proxy \(version)")
            return 0
        }
        let options: ProxyOptions
        do {
            options = try ProxyOptions(arguments)
        } catch {
            printError("outrigger-proxy: \(error.text)\n\n\(ProxyOptions.usage)")
            return 2
        }
        ProcessLog.standard.level = options.logLevel
        if let problem = HTTP2Session.checkLibrary() {
            ProcessLog.standard.error("main", "cannot start: \(problem)")
            return 1
        }
        do {
            return try Supervisor(options: options, workerCount: options.workers ?? workersOfSnapshot(options) ?? CPUQuota.defaultWorkers())
                .run()
        } catch {
            ProcessLog.standard.error("main", "cannot start: \(error)")
            return 1
        }
    }
}

/// The snapshot's own word on how many threads to start. What is wrong with the file, the supervisor tells when it reads it.
private func workersOfSnapshot(_ options: ProxyOptions) -> Int? {
    guard let bytes = try? FileReader.read(options.snapshotPath) else { return nil }
    return try? SnapshotFile.decode(bytes).process.workers
}

private func printError(_ text: String) {
    let line = Array((text + "\n").utf8)
    unsafe line.withUnsafeBytes { bytes in _ = unsafe write(2, bytes.baseAddress, bytes.count) }
}
