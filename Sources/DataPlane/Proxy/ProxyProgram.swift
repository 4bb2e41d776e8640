import Base
import Glibc
import HTTP2
import ProxyConfig
import Reactor
import Telemetry
import XDSWire

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
            let token = unsafe getenv("OUTRIGGER_JOIN_TOKEN").map { unsafe String(cString: $0) }
            options = try ProxyOptions(arguments, joinToken: token?.isEmpty == true ? nil : token)
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
    let path = options.controlPlane == nil ? options.snapshotPath : options.controlPlane?.statePath
    guard let path, let bytes = try? FileReader.read(path) else { return nil }
    return try? SnapshotFile.decode(bytes).process.workers
}

private func printError(_ text: String) {
    let line = Array((text + "\n").utf8)
    unsafe line.withUnsafeBytes { bytes in _ = unsafe write(2, bytes.baseAddress, bytes.count) }
}
