// What the event log and the read models cost: a table on stdout. See ../README.md.
import EventStore
import Foundation
import Glibc
import MeshModel
import MeshYAML
import Projections

let arguments = CommandLine.arguments
guard (2...3).contains(arguments.count), let total = Int(arguments.count == 3 ? arguments[2] : "1000000"), total >= 10_000 else {
    print("usage: events DIRECTORY [EVENTS]      the directory is on the disk in question, and must not exist")
    exit(2)
}
let directory = arguments[1]
guard !FileManager.default.fileExists(atPath: directory) else {
    print("\(directory) exists")
    exit(2)
}
let clock = ContinuousClock()

func milliseconds(_ duration: Duration) -> Double {
    Double(duration.components.seconds) * 1e3 + Double(duration.components.attoseconds) / 1e15
}

func row(_ name: String, _ value: Double, _ unit: String) {
    let text = value >= 100 ? "\(Int(value.rounded()))" : value >= 1 ? String(format: "%.1f", value) : String(format: "%.4f", value)
    print("| \(name) | \(text) \(unit) |")
}

/// The middle one of several runs.
func median(_ runs: Int, _ body: () throws -> Void) rethrows -> Double {
    var times: [Double] = []
    for _ in 0..<runs { times.append(milliseconds(try clock.measure(body))) }
    return times.sorted()[runs / 2]
}

/// Of this process, in MiB.
func resident() -> Double {
    let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
    return Double(Int(text.split(separator: " ")[1]) ?? 0) * Double(sysconf(Int32(_SC_PAGESIZE))) / 1_048_576
}

func node(_ number: Int, port: Int) -> String {
    """
    apiVersion: appmesh.k8s.aws/v1beta2
    kind: VirtualNode
    metadata:
      name: node-\(number)
      namespace: shop
    spec:
      listeners:
        - portMapping: {port: \(port), protocol: http}
      serviceDiscovery: {dns: {hostname: node-\(number).local}}

    """
}

func key(_ number: Int) -> ObjectKey { ObjectKey(ResourceKey(kind: .virtualNode, namespace: "shop", name: "node-\(number)")) }
func instance(_ number: Int) -> InstanceKey { InstanceKey(node: key(number), instance: "a") }

/// What a mesh of a thousand nodes does all day: one event in ten is a user's.
func event(_ number: Int) -> MeshEvent {
    let which = number / 10 % 1000
    switch number % 10 {
    case 0:
        return .resourceApplied(
            AppliedObject(key: key(which), document: node(which, port: 1 + number / 10_000 % 60_000), file: "app.yaml", line: 1))
    case 1: return .nodeRegistered(NodeRegistration(instance: "a", node: key(which), address: "10.0.0.1", ports: [8080]))
    case 2: return .nodeReady(InstanceChange(instance: instance(which)))
    default: return .snapshotApplied(SnapshotChange(instance: instance(which), version: "9f2c33a0d1e8b7c6"))
    }
}

func batch(_ numbers: Range<Int>) -> EventBatch {
    EventBatch(
        events: numbers.map { event($0).draft }, actor: "benchmark", time: UnixTime(milliseconds: Int64(numbers.lowerBound)))
}

do {
    print("| | |\n| --- | --- |")
    var written = 0
    var log: SQLiteEventLog! = try SQLiteEventLog(directory: directory)
    do {
        let single = 500
        let time = try clock.measure {
            for _ in 0..<single {
                _ = try log.append(batch(written..<(written + 1)))
                written += 1
            }
        }
        row("append one event, and wait for the disk", milliseconds(time) / Double(single), "ms")
        row("... a second", Double(single) / milliseconds(time) * 1000, "events")
    }
    do {
        let rounds = 50
        let time = try clock.measure {
            for _ in 0..<rounds {
                for result in log.append((0..<64).map { batch((written + $0)..<(written + $0 + 1)) }) { _ = try result.get() }
                written += 64
            }
        }
        row("64 batches that wait together, a second", Double(rounds * 64) / milliseconds(time) * 1000, "events")
    }
    let filled = try clock.measure {
        while written < total {
            let end = min(written + 5000, total)
            _ = try log.append(batch(written..<end))
            written = end
        }
    }
    row("batches of 5,000, a second", Double(total - 3700) / milliseconds(filled) * 1000, "events")
    let size = try FileManager.default.attributesOfItem(atPath: "\(directory)/events.sqlite")[.size] as? Int ?? 0
    row("size of the file with \(total) events", Double(size) / 1_048_576, "MiB")

    log = nil
    let opened = try clock.measure { log = try SQLiteEventLog(directory: directory) }
    row("open without a snapshot: check all of them", milliseconds(opened), "ms")
    var models = ReadModels()
    let before = resident()
    let replay = milliseconds(try clock.measure { models = try ReadModels(from: log) })
    row("replay all of them", replay, "ms")
    row("memory that it took", resident() - before, "MiB")

    let snapshots = models.snapshots()
    row("encode snapshots of the read models", median(5) { _ = models.snapshots() }, "ms")
    row("their size", Double(snapshots.reduce(0) { $0 + $1.content.count }) / 1_048_576, "MiB")
    try log.save(snapshots)
    _ = try log.append(batch(0..<1000))
    log = nil
    let start = try median(5) {
        log = nil
        log = try SQLiteEventLog(directory: directory)
        models = try ReadModels(from: log)
    }
    row("start: open, snapshots and 1,000 events behind them", start, "ms")

    // A question is one of these; each is asked many times, since one takes no time.
    var found = 0
    let state = models.desired
    let mesh = state.mesh
    let questions: [(String, () -> Void)] = [
        ("one object", { found += state.objects[key(7)] == nil ? 0 : 1 }),
        ("all objects of 1,000 in order", { found += state.objects.keys.sorted().count }),
        ("all nodes with their versions", { found += models.nodes.instances.values.sorted { $0.key < $1.key }.count }),
        ("one node of the mesh", { found += mesh.virtualNodes[namespace: "shop", name: "node-7"] == nil ? 0 : 1 }),
        ("the last 50 revisions", { found += models.history.revisions.suffix(50).count }),
    ]
    for (name, question) in questions {
        let time = median(5) { for _ in 0..<100 { question() } } / 100
        row("query: \(name)", time * 1000, "µs")
        row("... replays for one such query", replay / time, "")
    }
    let past = PastStates(log: log, history: models.history)
    let revision = models.history.revisions[models.history.revisions.count / 2].number
    row("state at a revision in the middle of history", try median(3) { _ = try past.state(atRevision: revision) }, "ms")
    precondition(found > 0)

    var commands = ReadModels()
    let number = 5000
    let mesh5000 = """
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: Mesh
        metadata: {name: demo}
        spec: {namespaceSelector: {}}

        """
    let text = ([mesh5000] + (0..<number).map { node($0, port: 8080) }).joined(separator: "---\n")
    let all = [ManifestFile(name: "app.yaml", bytes: Array(text.utf8))]
    let trial = try SQLiteEventLog(inMemory: ())
    row(
        "apply 5,000 documents (\(text.utf8.count / 1024) KiB): plan",
        milliseconds(
            try clock.measure {
                let plan = try Command.plan(apply: all, onto: commands.desired).get()
                let stored = try trial.append(plan.batch(actor: "user:a", time: UnixTime(milliseconds: 0))!)
                row("... fold", milliseconds(try clock.measure { try commands.apply(stored) }), "ms")
            }), "ms, with the fold")
    var port = 8080
    row(
        "apply one of 5,000 documents: plan and fold",
        try median(5) {
            port += 1
            let file = ManifestFile(name: "one.yaml", bytes: Array(node(7, port: port).utf8))
            let plan = try Command.plan(apply: [file], onto: commands.desired).get()
            try commands.apply(try trial.append(plan.batch(actor: "user:a", time: UnixTime(milliseconds: 0))!))
        }, "ms")
    row("... of it, the rules between all resources, twice", 2 * median(3) { _ = MeshValidation.validate(commands.desired.mesh) }, "ms")
} catch {
    print("events: \(error)")
    exit(1)
}
