import Base
import Telemetry

/// How much memory this process uses of what it may.
struct ProcessMemory {
    /// The folders of its cgroup and of those around it (version 2), or the one that limits memory (version 1).
    private let limits: [String]
    private let statistics: String?

    init() {
        let own = FileReader.text("/proc/self/cgroup")?.split(separator: "\n").first { $0.hasPrefix("0::") }?.dropFirst(3)
        let root = "/sys/fs/cgroup"
        var folders = [root]
        for part in (own ?? "").split(separator: "/") where part != ".." { folders.append(folders[folders.count - 1] + "/" + part) }
        limits = folders.map { $0 + "/memory.max" } + [root + "/memory/memory.limit_in_bytes"]
        statistics = folders.last { FileReader.text($0 + "/memory.stat") != nil }.map { $0 + "/memory.stat" }
    }

    /// The smallest limit of its cgroup and of those around it; nil = none. Read each time: it may be changed while we run.
    var limit: Int? {
        limits.compactMap { FileReader.text($0).flatMap { Int($0.prefix { $0 != "\n" }) } }.filter { $0 < Self.unlimited }.min()
    }

    /// Version 1 says "none" by a number near the highest.
    private static let unlimited = 1 << 60

    /// Resident, and what the kernel holds in sockets of the cgroup: both count against its limit. A sidecar's sockets are nearly all ours.
    var used: Int {
        (ProcessProbe.residentBytes() ?? 0) + socketBytes
    }

    private var socketBytes: Int {
        guard let statistics, let text = FileReader.text(statistics) else { return 0 }
        guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("sock ") }) else { return 0 }
        return Int(line.dropFirst(5)) ?? 0
    }
}

extension FileReader {
    static func text(_ path: String) -> String? {
        (try? read(path)).map { String(decoding: $0, as: UTF8.self) }
    }
}
