import Foundation
import Glibc
import MeshModel

/// Why a file could not be read.
enum FileProblem: Error, CustomStringConvertible {
    case system(String)
    case tooLong

    var description: String {
        switch self {
        case .system(let reason): "cannot be read: \(reason)"
        case .tooLong: "the file has more than \(YAMLStream.maxBytes >> 20) MiB"
        }
    }
}

/// Turns the paths that a user gave into files, and reads them.
struct FileFinder {
    /// Directories below directories; a loop of links ends here.
    private static let maxDepth = 32
    private static let maxFiles = 10_000
    private static let endings = [".yaml", ".yml", ".json"]

    /// Each once, in the order of the paths and, in a directory, of names.
    private(set) var files: [String] = []
    private(set) var diagnostics: [Diagnostic] = []
    private var seen: Set<String> = []

    mutating func add(_ paths: [String]) {
        for path in paths {
            if path == MeshLoader.standardInputPath {
                append(path)
                continue
            }
            guard Self.isDirectory(path) else {
                // What is not there, or cannot be read, says so when it is read.
                append(path)
                continue
            }
            let before = seen.count
            walk(path, depth: 0)
            if seen.count == before, !diagnostics.contains(where: { $0.file.hasPrefix(path) }) {
                fail(path, "the directory has no \(Self.endings.map { "*" + $0 }.joined(separator: ", "))")
            }
        }
    }

    private mutating func walk(_ directory: String, depth: Int) {
        guard depth <= Self.maxDepth else {
            fail(directory, "more than \(Self.maxDepth) levels of directories")
            return
        }
        let names: [String]
        do {
            names = try FileManager.default.contentsOfDirectory(atPath: directory).sorted()
        } catch {
            fail(directory, "cannot be read: \(Self.reason())")
            return
        }
        for name in names where !name.hasPrefix(".") {
            let path = directory.hasSuffix("/") ? directory + name : "\(directory)/\(name)"
            if Self.isDirectory(path) {
                walk(path, depth: depth + 1)
            } else if Self.endings.contains(where: name.hasSuffix) {
                append(path)
            }
            if files.count > Self.maxFiles { return }
        }
    }

    private mutating func append(_ path: String) {
        let identity = path == MeshLoader.standardInputPath ? path : URL(fileURLWithPath: path).resolvingSymlinksInPath().path
        guard seen.insert(identity).inserted else { return }
        files.append(path)
        if files.count == Self.maxFiles + 1 { fail(path, "more than \(Self.maxFiles) files") }
    }

    private mutating func fail(_ path: String, _ text: String) {
        diagnostics.append(Diagnostic(.error, file: path, .message(text)))
    }

    private static func isDirectory(_ path: String) -> Bool {
        var isDirectory: ObjCBool = false
        return unsafe FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) && isDirectory.boolValue
    }

    /// Reads in pieces, so that a pipe works and an endless device does no harm.
    static func read(_ path: String, atMost limit: Int) throws(FileProblem) -> [UInt8] {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .system(reason()) }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = unsafe piece.withUnsafeMutableBytes { unsafe Glibc.read(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw .system(reason()) }
            if count == 0 { return bytes }
            bytes += piece[..<count]
            guard bytes.count <= limit else { throw .tooLong }
        }
    }

    private static func reason() -> String {
        unsafe String(cString: strerror(errno))
    }
}
