import ConfigText
import Reactor

/// What the kernel and the allocator say of this process's memory, in bytes.
struct MemoryReport {
    /// By the keys of /proc/self/status and smaps_rollup: `VmRSS`, `Pss`, ...
    private var sizes: [String: Int] = [:]
    private var threads = 0
    private let heap = Heap.measure()

    static var now: MemoryReport {
        var report = MemoryReport()
        report.read("/proc/self/status")
        report.read("/proc/self/smaps_rollup")
        return report
    }

    /// Of the heap, by `malloc`.
    static var allocatedBytes: Int {
        let heap = Heap.measure()
        return heap.inUse + heap.mapped
    }

    /// `VmRSS:      1234 kB`; other lines are left out. A file that is not there leaves its sizes unknown.
    private mutating func read(_ path: String) {
        guard let bytes = try? FileReader.read(path) else { return }
        for line in bytes.split(separator: UInt8(ascii: "\n")) {
            let words = String(decoding: line, as: UTF8.self).split { $0 == " " || $0 == "\t" }
            guard words.count >= 2, words[0].hasSuffix(":"), let number = Int(words[1]) else { continue }
            if words[0] == "Threads:" { threads = number }
            if words.count == 3, words[2] == "kB" { sizes[String(words[0].dropLast())] = number * 1024 }
        }
    }

    func text() -> AdminResponse {
        var table = TextTable([.left, .right, .left])
        func add(_ name: String, _ size: Int?, _ meaning: String) {
            table.add([name, size.map(Words.bytes) ?? "unknown", meaning])
        }
        add("resident", sizes["VmRSS"], "in RAM now, pages shared with other processes included (RSS)")
        add("resident, peak", sizes["VmHWM"], "the most it ever was")
        add("proportional", sizes["Pss"], "in RAM now, shared pages by their share (PSS)")
        add("private dirty", sizes["Private_Dirty"], "ours alone: what ending the process would free")
        add("swapped", sizes["VmSwap"], "")
        add("virtual", sizes["VmSize"], "addresses, most without memory")
        add("heap in use", heap.inUse, "malloc: small blocks handed out")
        add("heap free", heap.free, "malloc: kept for reuse")
        add("heap mapped", heap.mapped, "malloc: large blocks, each mapped on its own")
        table.add(["threads", "\(threads)", ""])
        return AdminResponse(table.text)
    }

    /// envoy.admin.v3.Memory, and the kernel's numbers.
    func json() -> AdminResponse {
        let kernel = ["VmRSS", "VmHWM", "VmSize", "VmSwap", "Pss", "Private_Dirty"].compactMap { key in
            sizes[key].map { (key: key, value: Document.text("\($0)")) }
        }
        return AdminResponse(
            .entries([
                "allocated": .text("\(heap.inUse + heap.mapped)"), "heap_size": .text("\(heap.inUse + heap.free + heap.mapped)"),
                "pageheap_free": .text("\(heap.free)"), "total_physical_bytes": .text("\(sizes["VmRSS"] ?? 0)"),
                "kernel": .map(kernel), "threads": .number(threads),
            ]))
    }
}
