import Foundation
import Glibc
import MeshYAML

/// Tells when files, or what directories hold, have changed. It polls: that works on every file system, and sees the renamed
/// directories and switched links by which editors and Kubernetes put new content in place.
struct FileWatch {
    private struct Mark: Hashable {
        var path: String
        var inode: UInt64
        var device: UInt64
        var size: Int64
        var seconds: Int
        var nanoseconds: Int
    }

    private let paths: [String]
    private var known: Set<Mark>
    /// What the last look saw; a change counts when two looks saw the same, so that a file is not read while it is being written.
    private var seen: Set<Mark>

    init(paths: [String]) {
        self.paths = paths.filter { $0 != MeshLoader.standardInputPath }
        known = []
        seen = []
        known = marks()
        seen = known
    }

    /// True once for each change, as soon as the files rest.
    mutating func hasChanged() -> Bool {
        let now = marks()
        defer { seen = now }
        guard now == seen, now != known else { return false }
        known = now
        return true
    }

    /// The change that was told could not be used: tell it again.
    mutating func forget() {
        known = []
    }

    private func marks() -> Set<Mark> {
        var found: Set<Mark> = []
        for path in paths { Self.mark(path, depth: 0, into: &found) }
        return found
    }

    private static func mark(_ path: String, depth: Int, into found: inout Set<Mark>) {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { return }
        found.insert(
            Mark(
                path: path, inode: UInt64(status.st_ino), device: UInt64(status.st_dev), size: Int64(status.st_size),
                seconds: status.st_mtim.tv_sec, nanoseconds: status.st_mtim.tv_nsec))
        guard status.st_mode & S_IFMT == S_IFDIR, depth < 32, found.count < 10_000 else { return }
        for name in (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? [] where !name.hasPrefix(".") {
            mark("\(path)/\(name)", depth: depth + 1, into: &found)
        }
    }
}
