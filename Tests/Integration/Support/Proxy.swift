import Base
import Foundation
import Glibc
import ProxyConfig
import TestSupport
import XDSWire

/// The built `outrigger-proxy` on a snapshot of the test's own.
final class Proxy {
    let program: Program
    let folder: TemporaryFolder
    /// Of the first listener.
    let port: UInt16
    let admin: UInt16

    /// Where the built programs are: `$OUTRIGGER_BIN`, else the package's debug build.
    static var binaries: String {
        ProcessInfo.processInfo.environment["OUTRIGGER_BIN"]
            ?? URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().path + "/.build/debug"
    }

    static var executable: String { "\(binaries)/outrigger-proxy" }

    /// Starts the proxy and waits until its listeners accept.
    ///
    /// - Parameters:
    ///   - limits: words that are put before the command and exec it.
    ///   - make: the snapshot, from a port for the first listener and one for the admin interface.
    init(
        arguments: [String] = [], limits: [String] = [], folder: TemporaryFolder? = nil,
        _ make: (_ port: UInt16, _ admin: UInt16) -> Snapshot
    ) throws {
        let folder = try folder ?? TemporaryFolder()
        self.folder = folder
        port = try Ports.free()
        admin = try Ports.free()
        let snapshot = make(port, admin)
        try folder.replace("snapshot", with: SnapshotFile.encode(snapshot))
        let words = limits + [Self.executable, "--snapshot", folder.file("snapshot")] + arguments
        program = try Program(words[0], Array(words.dropFirst()))
        try waitForLog("applied by")
    }

    /// Everything it said.
    var log: String { program.errors + program.output }

    func waitForLog(_ text: String, within limit: Duration = patience) throws {
        try eventually("the proxy says \"\(text)\"; it said:\n\(log)", within: limit) {
            if let status = program.exitStatus(), !log.contains(text) { throw TestFailure("the proxy ended with \(status):\n\(log)") }
            return log.contains(text)
        }
    }

    /// Puts another snapshot in place; does not wait.
    func write(_ snapshot: Snapshot) throws {
        try folder.replace("snapshot", with: SnapshotFile.encode(snapshot))
    }

    /// What was put in place last.
    func written() throws -> Snapshot {
        try SnapshotFile.decode(Array(FileManager.default.contents(atPath: folder.file("snapshot")) ?? Data()))
    }

    /// Puts another snapshot in place and waits until all workers run it.
    func apply(_ snapshot: Snapshot) throws {
        try write(snapshot)
        try waitForLog("version \(SnapshotFile.version(of: snapshot)) applied by")
    }

    func connect(receiveBuffer: CInt? = nil) throws -> RawConnection {
        try RawConnection(to: port, receiveBuffer: receiveBuffer)
    }

    /// One request on a connection of its own.
    func exchange(_ request: String) throws -> HTTPMessage {
        try connect().exchange(request)
    }

    /// The body of an admin page.
    func adminText(_ path: String) throws -> String {
        let answer = try RawConnection(to: admin).exchange("GET \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        guard answer.status == 200 else { throw TestFailure("\(path): \(answer.headText)") }
        return answer.bodyText
    }

    /// The value of one line of the metrics, named as Prometheus reads it, labels too; 0 where there is none.
    func stat(_ line: String) throws -> Int {
        let text = try adminText("/stats?format=prometheus")
        guard let found = text.split(separator: "\n").first(where: { $0.hasPrefix("\(line) ") }) else { return 0 }
        return Int(found.dropFirst(line.count + 1)) ?? -1
    }

    /// 0 under a sanitizer (scripts/sanitize), whose shadow memory is not the proxy's: bounds on memory are for plain builds.
    var residentBytes: Int {
        ProcessInfo.processInfo.environment["OUTRIGGER_SANITIZER"] == nil ? program.residentBytes : 0
    }

    /// SIGTERM, and the exit status.
    func stop(within limit: Duration = patience) throws -> Int32 {
        program.signal(SIGTERM)
        return try program.wait(within: limit).status
    }
}

/// Runs `body` with a proxy; afterwards the proxy must be alive, and end with status 0 when told to.
func withProxy(
    arguments: [String] = [], limits: [String] = [], _ make: (_ port: UInt16, _ admin: UInt16) -> Snapshot, _ body: (Proxy) throws -> Void
) throws {
    let proxy = try Proxy(arguments: arguments, limits: limits, make)
    defer { proxy.program.end() }
    do {
        try body(proxy)
    } catch {
        throw TestFailure("\(error)\nThe proxy \(proxy.program.exitStatus().map { "ended with \($0)" } ?? "runs") and said:\n\(proxy.log)")
    }
    if let status = proxy.program.exitStatus() { throw TestFailure("the proxy ended by itself with status \(status):\n\(proxy.log)") }
    proxy.program.signal(SIGTERM)
    // What is still open is not worth waiting for.
    proxy.program.signal(SIGTERM)
    let status = try proxy.program.wait().status
    if status != 0 { throw TestFailure("the proxy ended with status \(status):\n\(proxy.log)") }
}

/// A proxy before one origin, with the usual settings.
func withProxy(to origin: Origin..., body: (Proxy) throws -> Void) throws {
    try withProxy({ Config.http(listen: $0, to: origin.map(\.port), admin: $1) }, body)
}
