// What a control plane of many proxies costs: a table on stdout. See ../../../README.md.
import Base
import Foundation
import Glibc

let usage = """
    usage: scale OUTRIGGERD DIRECTORY [--sizes 125,250,500,1000] [--rounds 100] [--port 15910] [--json FILE]
    DIRECTORY is where the logs of events are kept, one folder for each size: on the disk in question, and it must not exist.
    """

var words = Array(CommandLine.arguments.dropFirst())

func option(_ words: inout [String], _ name: String, _ otherwise: String) -> String {
    guard let index = words.firstIndex(of: name), index + 1 < words.count else { return otherwise }
    defer { words.removeSubrange(index...(index + 1)) }
    return words[index + 1]
}

let sizes = option(&words, "--sizes", "125,250,500,1000").split(separator: ",").compactMap { Int($0) }
let rounds = Int(option(&words, "--rounds", "100")) ?? 0
let firstPort = UInt16(option(&words, "--port", "15910")) ?? 0
let json = option(&words, "--json", "")
guard words.count == 2, !sizes.isEmpty, sizes.allSatisfy({ (10...10_000).contains($0) }), rounds > 0, firstPort > 0 else {
    print(usage)
    exit(2)
}
let (executable, directory) = (words[0], words[1])
guard !FileManager.default.fileExists(atPath: directory) else { Failure.stop("\(directory) exists") }

// A connection for each proxy.
var limit = rlimit()
unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
limit.rlim_cur = limit.rlim_max
unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)

func percentile(_ values: [Double], _ share: Double) -> Double {
    guard !values.isEmpty else { return 0 }
    let sorted = values.sorted()
    return sorted[min(sorted.count - 1, Int((Double(sorted.count) * share).rounded(.up)) - 1)]
}

func text(_ value: Double) -> String { value >= 100 ? "\(Int(value.rounded()))" : String(format: value >= 10 ? "%.1f" : "%.2f", value) }

func spread(_ values: [Double]) -> String {
    "\(text(percentile(values, 0.5))) / \(text(percentile(values, 0.99))) / \(text(values.max() ?? 0))"
}

var all: [Figures] = []
do {
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    for (number, size) in sizes.enumerated() {
        FileHandle.standardError.write(Data("\(size) proxies\n".utf8))
        let measurement = try Measurement(
            size: size, executable: executable, directory: "\(directory)/\(size)", port: firstPort + UInt16(number), rounds: rounds)
        all.append(try measurement.run())
    }
    if !json.isEmpty {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try encoder.encode(all).write(to: URL(fileURLWithPath: json))
    }
} catch {
    Failure.stop("\(error)")
}

let rows: [(String, (Figures) -> String)] = [
    ("apply of the whole mesh until its answer, ms", { text($0.applyAll) }),
    ("first connection until all have all endpoints, ms", { text($0.firstSync) }),
    ("... CPU of outriggerd, s", { text($0.firstSyncProcessor) }),
    ("memory of outriggerd before, MiB", { text($0.residentBefore) }),
    ("... with all connected, MiB", { text($0.residentAfter) }),
    ("... for each proxy (two streams), KiB", { text($0.kibibytesPerProxy) }),
    ("CPU at rest, reports every 5 s, % of a core", { text($0.idleProcessor * 100) }),
    ("a proxy drains: to the last ACK, ms (p50 / p99 / max)", { spread($0.endpointDrains) }),
    ("a proxy is ready: to the last ACK, ms", { spread($0.endpointReady) }),
    ("the only proxy of a node has left: to the last ACK, ms", { spread($0.lastProxyLeaves) }),
    ("the first one connects: to the last ACK, ms", { spread($0.firstProxyComes) }),
    ("a tenth of all drain at once: to the last ACK, ms", { text($0.tenthDrains) }),
    ("apply of one node: to the last ACK, ms", { spread($0.applyOne) }),
    ("apply of all nodes: to the last ACK, ms", { spread($0.applyEveryNode) }),
    ("restart, all come back: to the last ACK, ms", { text($0.resync) }),
    ("... CPU of outriggerd, s", { text($0.resyncProcessor) }),
    ("... responses", { "\($0.resyncResponses)" }),
    ("... of MiB", { text($0.resyncMebibytes) }),
]
print("| proxies | \(all.map { "\($0.proxies)" }.joined(separator: " | ")) |")
print("| --- |\(String(repeating: " ---: |", count: all.count))")
for (name, cell) in rows { print("| \(name) | \(all.map(cell).joined(separator: " | ")) |") }
