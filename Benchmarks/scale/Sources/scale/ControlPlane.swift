import Base
import Foundation
import HTTP
import HTTPClient
import Reactor

/// What ends the benchmark.
enum Failure {
    static func stop(_ text: String) -> Never {
        FileHandle.standardError.write(Data("scale: \(text)\n".utf8))
        unsafe ControlPlane.running?.end()
        exit(1)
    }
}

/// An `outriggerd` of our own, and what it costs.
final class ControlPlane {
    nonisolated(unsafe) static var running: ControlPlane?

    let address: SocketAddress
    private let process = Process()
    private let loop: EventLoop
    private var connection: HTTPClientConnection?

    init(executable: String, directory: String, port: UInt16, loop: EventLoop) throws {
        self.loop = loop
        address = SocketAddress(.loopbackV4, port)
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = ["--data-dir", directory, "--listen", "\(address)", "--log-level", "warning"]
        try process.run()
        unsafe ControlPlane.running = self
    }

    /// SIGTERM, and waits for the end.
    func end() {
        connection?.close()
        connection = nil
        process.terminate()
        process.waitUntilExit()
        unsafe ControlPlane.running = nil
    }

    // MARK: What it costs

    struct Usage {
        /// User and system, in seconds.
        var processor: Double
        /// In MiB.
        var resident: Double
    }

    var usage: Usage {
        let path = "/proc/\(process.processIdentifier)"
        let statm = (try? String(contentsOfFile: "\(path)/statm", encoding: .utf8)) ?? ""
        let stat = (try? String(contentsOfFile: "\(path)/stat", encoding: .utf8)) ?? ""
        // The program's name, in parentheses, is the second field; utime and stime are the 14th and 15th (proc(5)).
        let fields = stat.split(separator: ")").last?.split(separator: " ") ?? []
        guard fields.count > 12, let pages = statm.split(separator: " ").dropFirst().first.flatMap({ Double($0) }) else {
            Failure.stop("outriggerd is not there any more")
        }
        let ticks = (Double(fields[11]) ?? 0) + (Double(fields[12]) ?? 0)
        return Usage(
            processor: ticks / Double(sysconf(Int32(_SC_CLK_TCK))), resident: pages * Double(sysconf(Int32(_SC_PAGESIZE))) / 1_048_576)
    }

    // MARK: Its API

    /// Waits for its first answer.
    func waitUntilReady() {
        let limit = Clock.now() + .seconds(30)
        while Clock.now() < limit {
            if request("GET", "/ready") == 200 { return }
            loop.turn(maximumWait: .milliseconds(20))
        }
        Failure.stop("outriggerd does not begin")
    }

    /// Has the proxies go on meanwhile.
    ///
    /// - Returns: the status; nil: no answer.
    @discardableResult
    func request(_ method: String, _ path: String, _ body: [UInt8] = []) -> Int? {
        var status: Int??
        begin(method, path, body) { status = .some($0) }
        while status == nil { loop.turn(maximumWait: .milliseconds(100)) }
        return status ?? nil
    }

    /// - Parameter then: gets the status, or nil and what went wrong.
    func begin(_ method: String, _ path: String, _ body: [UInt8] = [], then: @escaping (Int?) -> Void) {
        if connection?.isUsable != true {
            let fresh = HTTPClientConnection(loop: loop, address: address)
            fresh.open()
            connection = fresh
        }
        let stream = connection!.request(
            method: method, path: path, authority: "\(address)", headers: [("content-type", "application/json")], endStream: body.isEmpty)
        var status: Int?
        var answer: [UInt8] = []
        stream.onHead = { status = $0.status }
        stream.onBody = { answer += $0 }
        stream.onEnd = { _ in
            if let status, status >= 400, status != 503 {
                Failure.stop("\(path): \(status) \(String(decoding: answer.prefix(2000), as: UTF8.self))")
            }
            then(status)
        }
        stream.onFailed = { _ in then(nil) }
        if !body.isEmpty {
            stream.send(body)
            stream.end()
        }
    }

    func apply(_ documents: String, then: @escaping () -> Void) {
        let body = try! JSONSerialization.data(withJSONObject: ["files": [["name": "mesh.yaml", "text": documents]]])
        begin("POST", "/v1/apply", Array(body)) { status in
            guard status == 200 else { Failure.stop("apply was not answered") }
            then()
        }
    }
}
