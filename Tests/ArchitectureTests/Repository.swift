import Foundation
import Testing

/// The repository that these tests lie in, as text.
struct Repository {
    struct File {
        /// From the repository's root.
        var path: String
        var text: String

        var name: String { String(path.split(separator: "/").last!) }
        /// Without the empty one that follows the last line feed.
        var lines: [Substring] {
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
            return lines.last == "" ? lines.dropLast() : lines
        }
    }

    /// An `import` of a Swift file.
    struct Import: CustomStringConvertible {
        var module: String
        var path: String
        var line: Int

        var description: String { "\(path):\(line): import \(module)" }
    }

    static let root = URL(filePath: #filePath).resolvingSymlinksInPath()
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// The files under a folder (or the one file) whose names end so; what git ignores and what tools make is left out.
    static func files(in folder: String, endings: [String]) throws -> [File] {
        let start = folder.isEmpty ? root : root.appending(path: folder)
        var isFolder: ObjCBool = false
        guard unsafe FileManager.default.fileExists(atPath: start.path, isDirectory: &isFolder) else { return [] }
        guard isFolder.boolValue else { return [try read(folder)] }
        guard let walk = FileManager.default.enumerator(atPath: start.path) else { return [] }
        var found: [File] = []
        while let path = walk.nextObject() as? String {
            let name = path.split(separator: "/").last!
            if name.hasPrefix(".build") || name == ".git" || name == "__pycache__" || name.hasPrefix(".venv") {
                walk.skipDescendants()
            } else if endings.contains(where: path.hasSuffix), isPlainFile(start.appending(path: path)) {
                found.append(try read(folder.isEmpty ? path : "\(folder)/\(path)"))
            }
        }
        return found.sorted { $0.path < $1.path }
    }

    static func exists(_ path: String) -> Bool {
        FileManager.default.fileExists(atPath: root.appending(path: path).path)
    }

    /// The modules under Sources: a folder each.
    static func modules(in layer: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: root.appending(path: "Sources/\(layer)").path).sorted()
    }

    static func imports(in folder: String) throws -> [Import] {
        try files(in: folder, endings: [".swift"]).flatMap { file in
            file.lines.enumerated().compactMap { index, line in
                // `@preconcurrency public import struct Foundation.Data` imports Foundation.
                guard line.contains("import "),
                    let match = line.wholeMatch(
                        of:
                            /\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:public|package|internal|fileprivate|private)\s+)?import\s+(?:(?:struct|class|enum|protocol|typealias|func|let|var)\s+)?(\w+).*/
                    )
                else { return nil }
                return Import(module: String(match.1), path: file.path, line: index + 1)
            }
        }
    }

    private static func isPlainFile(_ url: URL) -> Bool {
        (try? url.resourceValues(forKeys: [.isRegularFileKey]))?.isRegularFile ?? false
    }

    private static func read(_ path: String) throws -> File {
        File(path: path, text: String(decoding: try Data(contentsOf: root.appending(path: path)), as: UTF8.self))
    }
}
