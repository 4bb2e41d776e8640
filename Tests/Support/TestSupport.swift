/// What tests share: sockets with deadlines, scriptable origins, and other programs with a time limit.
import Foundation
import Glibc

/// Something that a test waited for did not come, or came otherwise.
public struct TestFailure: Error, CustomStringConvertible {
    public var description: String

    public init(_ description: String) {
        self.description = description
    }
}

/// How long tests wait for what must come. Generous, because the machine may be busy; what waits for it ends as soon as it is there.
public let patience = Duration.seconds(60)

/// Asks every few milliseconds until the condition holds.
///
/// - Throws: `TestFailure` at the deadline, with `what`.
public func eventually(
    _ what: @autoclosure () -> String, within limit: Duration = patience, every pause: Duration = .milliseconds(5),
    _ condition: () throws -> Bool
) throws {
    let deadline = ContinuousClock.now + limit
    while try !condition() {
        guard ContinuousClock.now < deadline else { throw TestFailure("not within \(limit): \(what())") }
        usleep(UInt32(pause.milliseconds) * 1000)
    }
}

extension Duration {
    /// Whole milliseconds, rounded down.
    public var milliseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds * 1000 + attoseconds / 1_000_000_000_000_000
    }
}

/// A folder of one test, gone with it.
public final class TemporaryFolder: Sendable {
    public let path: String

    public init() throws {
        var template = Array("\(NSTemporaryDirectory())/outrigger-test-XXXXXX\0".utf8CString)
        guard unsafe template.withUnsafeMutableBufferPointer({ unsafe mkdtemp($0.baseAddress!) }) != nil else {
            throw TestFailure("mkdtemp: errno \(errno)")
        }
        path = String(decoding: template.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }

    public func file(_ name: String) -> String { "\(path)/\(name)" }

    /// Writes beside the file and renames, so that readers see the old content or the new.
    public func replace(_ name: String, with bytes: [UInt8]) throws {
        let beside = file(".\(name).new")
        guard FileManager.default.createFile(atPath: beside, contents: Data(bytes)) else { throw TestFailure("cannot write \(beside)") }
        guard unsafe rename(beside, file(name)) == 0 else { throw TestFailure("cannot rename \(beside): errno \(errno)") }
    }

    public func text(_ name: String) -> String {
        String(decoding: FileManager.default.contents(atPath: file(name)) ?? Data(), as: UTF8.self)
    }
}

/// Bytes as text that shows what does not print, for failure messages.
public func shown(_ bytes: some Collection<UInt8>, limit: Int = 400) -> String {
    var text = ""
    for byte in bytes.prefix(limit) {
        switch byte {
        case 0x0A: text += "\\n\n"
        case 0x0D: text += "\\r"
        case 0x20..<0x7F: text.unicodeScalars.append(Unicode.Scalar(byte))
        default: text += "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
    }
    return bytes.count > limit ? text + "... (\(bytes.count) bytes)" : text
}
