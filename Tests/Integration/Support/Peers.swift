import Foundation
import TestSupport

/// The Python programs beside these tests, and the environment that has what they import.
enum Peers {
    /// Where `scripts/test` has put grpcio and websockets; empty = the tests that need them are skipped.
    static let venv = ProcessInfo.processInfo.environment["OUTRIGGER_TOOLS_VENV"] ?? ""

    static var python: String { "\(venv)/bin/python" }

    static func path(_ name: String) -> String {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Peers/\(name)"
    }

    /// Starts a server that says its port in its first line.
    static func start(_ name: String, _ arguments: [String] = []) throws -> (program: Program, port: UInt16) {
        let program = try Program(python, [path(name)] + arguments)
        try eventually("\(name) says its port; it said \(program.errors)") {
            if let status = program.exitStatus() { throw TestFailure("\(name) ended with \(status): \(program.errors)") }
            return program.output.hasSuffix("\n")
        }
        guard let port = UInt16(program.output.dropLast()) else { throw TestFailure("\(name) said \(program.output)") }
        return (program, port)
    }

    /// Runs a client to its end and returns its last line.
    static func run(_ name: String, _ arguments: [String], within limit: Duration = .seconds(120)) throws -> String {
        let result = try Program.run(python, [path(name)] + arguments, within: limit)
        guard result.status == 0 else { throw TestFailure("\(name) \(arguments) ended with \(result.status): \(result.errors)") }
        return String(result.output.dropLast())
    }

    /// One command of `grpc_client.py`.
    static func grpc(_ port: UInt16, _ words: String...) throws -> String {
        try run("grpc_client.py", ["\(port)"] + words)
    }
}
