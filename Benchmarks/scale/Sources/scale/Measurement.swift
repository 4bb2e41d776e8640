import Base
import Foundation
import ProxyConfig
import Reactor
import XDSWire

/// What was found for one size. Times in milliseconds.
struct Figures: Codable {
    var proxies: Int
    /// The whole mesh in one command, until it is answered: on disk, and no proxy there yet.
    var applyAll = 0.0
    /// From the first connection until each proxy runs a configuration with the endpoints of all others.
    var firstSync = 0.0
    var firstSyncProcessor = 0.0
    var residentBefore = 0.0
    var residentAfter = 0.0
    var kibibytesPerProxy = 0.0
    /// CPU seconds a second, while everybody reports and nothing changes.
    var idleProcessor = 0.0
    /// From the report that says so to the last acknowledgement of those that call it.
    var endpointDrains: [Double] = []
    var endpointReady: [Double] = []
    var lastProxyLeaves: [Double] = []
    var firstProxyComes: [Double] = []
    /// A tenth of all proxies drain at once.
    var tenthDrains = 0.0
    /// From the request to the last acknowledgement: one node changed, with five callers, and all nodes.
    var applyOne: [Double] = []
    var applyEveryNode: [Double] = []
    /// outriggerd starts again and everybody comes back at once.
    var resync = 0.0
    var resyncProcessor = 0.0
    var resyncResponses = 0
    var resyncMebibytes = 0.0
    var residentAtEnd = 0.0
}

/// One size of the mesh, measured once.
final class Measurement {
    private let loop = EventLoop()
    private let mesh: RingMesh
    private let executable: String
    private let directory: String
    private let port: UInt16
    private let rounds: Int
    private var proxies: [SimulatedProxy] = []
    private var control: ControlPlane
    private var figures: Figures
    private var maxErrors = 5

    /// Beyond it something is wrong.
    private static let patience = Nanoseconds.seconds(120)
    /// Connections under way at once.
    private static let maxConnecting = 100
    /// Nothing comes any more.
    private static let quiet = Nanoseconds.milliseconds(1500)

    init(size: Int, executable: String, directory: String, port: UInt16, rounds: Int) throws {
        mesh = RingMesh(size: size)
        self.executable = executable
        self.directory = directory
        self.port = port
        self.rounds = rounds
        figures = Figures(proxies: size)
        control = try ControlPlane(executable: executable, directory: directory, port: port, loop: loop)
        proxies = (0..<size).map { SimulatedProxy($0, name: mesh.node($0), loop: loop) }
    }

    func run() throws -> Figures {
        control.waitUntilReady()
        measureStart()
        measureRest()
        measureEndpoints()
        measureChanges()
        try measureResync()
        figures.residentAtEnd = control.usage.resident
        for proxy in proxies { proxy.disconnect() }
        control.end()
        return figures
    }

    // MARK: Steps

    private func measureStart() {
        var begin = Clock.now()
        var isApplied = false
        control.apply(mesh.documents(maxErrors: maxErrors)) { isApplied = true }
        wait("apply") { isApplied }
        figures.applyAll = milliseconds(since: begin, Clock.now())

        let before = control.usage
        figures.residentBefore = before.resident
        begin = Clock.now()
        connect(proxies)
        wait("everybody knows everybody") { self.proxies.allSatisfy { $0.isSynced && self.callsAll($0) } }
        figures.firstSync = milliseconds(since: begin, proxies.map(\.lastAck).max()!)
        settle()
        figures.firstSyncProcessor = control.usage.processor - before.processor
    }

    private func measureRest() {
        let before = control.usage
        let begin = Clock.now()
        turn(for: .seconds(10))
        let after = control.usage
        figures.idleProcessor = (after.processor - before.processor) / (milliseconds(since: begin, Clock.now()) / 1000)
        figures.residentAfter = after.resident
        figures.kibibytesPerProxy = (after.resident - figures.residentBefore) * 1024 / Double(mesh.size)
    }

    private func measureEndpoints() {
        for round in 0..<rounds {
            let index = round * 7 % mesh.size
            figures.endpointDrains.append(time(callersOf: [index], endpoints: 0) { self.proxies[index].set(.draining) })
            if round % 5 == 0 {
                figures.lastProxyLeaves.append(time(callersOf: [index], endpoints: nil) { self.proxies[index].disconnect() })
                figures.firstProxyComes.append(
                    time(callersOf: [index], endpoints: 1) {
                        self.proxies[index].set(.live)
                        self.connect([self.proxies[index]])
                    })
            } else {
                figures.endpointReady.append(time(callersOf: [index], endpoints: 1) { self.proxies[index].set(.live) })
            }
        }
        let tenth = (0..<mesh.size).filter { $0 % 10 == 0 }
        figures.tenthDrains = time(callersOf: tenth, endpoints: 0) { for index in tenth { self.proxies[index].set(.draining) } }
        _ = time(callersOf: tenth, endpoints: 1) { for index in tenth { self.proxies[index].set(.live) } }
    }

    private func measureChanges() {
        for round in 0..<max(1, rounds / 5) {
            maxErrors += 1
            let index = round * 11 % mesh.size
            let wanted = UInt32(maxErrors)
            figures.applyOne.append(
                time(mesh.callers(of: index), { $0.clusters[self.mesh.cluster(index)]?.outlierDetection?.consecutive5xx == wanted }) {
                    self.control.apply(self.mesh.document(index, maxErrors: self.maxErrors)) {}
                })
        }
        for _ in 0..<3 {
            maxErrors += 1
            let wanted = UInt32(maxErrors)
            let documents = mesh.documents(maxErrors: maxErrors)
            figures.applyEveryNode.append(
                time(
                    Array(proxies.indices),
                    { proxy in proxy.clusters.values.allSatisfy { ($0.outlierDetection?.consecutive5xx ?? wanted) == wanted } }
                ) {
                    self.control.apply(documents) {}
                })
        }
    }

    private func measureResync() throws {
        settle()
        for proxy in proxies { proxy.disconnect() }
        control.end()
        control = try ControlPlane(executable: executable, directory: directory, port: port, loop: loop)
        control.waitUntilReady()
        let before = control.usage
        let begin = Clock.now()
        connect(proxies)
        wait("everybody is back") { self.proxies.allSatisfy { $0.isSynced && self.callsAll($0) } }
        settle()
        figures.resync = milliseconds(since: begin, proxies.map(\.lastAck).max()!)
        figures.resyncProcessor = control.usage.processor - before.processor
        figures.resyncResponses = proxies.reduce(0) { $0 + $1.responses }
        figures.resyncMebibytes = Double(proxies.reduce(0) { $0 + $1.receivedBytes }) / 1_048_576
    }

    // MARK: How

    private func connect(_ some: [SimulatedProxy]) {
        var waiting = some[...]
        var connecting: [SimulatedProxy] = []
        while !waiting.isEmpty || !connecting.isEmpty {
            connecting.removeAll { !$0.isConnecting }
            for proxy in waiting.prefix(Self.maxConnecting - connecting.count) {
                proxy.connect(to: control.address) { Failure.stop("\(self.mesh.node(proxy.index)): \($0)") }
                connecting.append(proxy)
            }
            waiting = waiting.dropFirst(connecting.isEmpty ? 0 : waiting.prefix { $0.isConnecting }.count)
            if !connecting.isEmpty { loop.turn(maximumWait: .milliseconds(10)) }
        }
    }

    /// The endpoints that a caller has for a node; nil: not from discovery.
    private func endpoints(_ caller: SimulatedProxy, _ index: Int) -> Int? {
        caller.assignments[mesh.cluster(index)].map { $0.localities.reduce(0) { $0 + $1.endpoints.count } }
    }

    private func callsAll(_ proxy: SimulatedProxy) -> Bool {
        (1...RingMesh.backendsOfEach).allSatisfy { endpoints(proxy, (proxy.index + $0) % mesh.size) == 1 }
    }

    /// Until all callers of these have so many endpoints of each.
    private func time(callersOf indices: [Int], endpoints: Int?, _ change: () -> Void) -> Double {
        let changed = Set(indices)
        let callers = Set(indices.flatMap { mesh.callers(of: $0) })
        return time(
            callers.sorted(),
            { caller in
                (1...RingMesh.backendsOfEach).map { (caller.index + $0) % self.mesh.size }.filter { changed.contains($0) }
                    .allSatisfy { self.endpoints(caller, $0) == endpoints }
            }, change)
    }

    /// From the change to the last acknowledgement of those concerned.
    private func time(_ concerned: [Int], _ isDone: @escaping (SimulatedProxy) -> Bool, _ change: () -> Void) -> Double {
        var left = Set(concerned)
        var last = Clock.now()
        for index in concerned {
            let proxy = proxies[index]
            proxy.onTaken = {
                guard isDone(proxy), left.remove(index) != nil else { return }
                last = max(last, proxy.lastAck)
            }
        }
        let begin = Clock.now()
        change()
        wait("\(concerned.count) proxies have a change") { left.isEmpty }
        for index in concerned { proxies[index].onTaken = nil }
        return milliseconds(since: begin, last)
    }

    private func wait(_ what: String, _ isDone: () -> Bool) {
        let limit = Clock.now() + Self.patience
        while !isDone() {
            if Clock.now() > limit { Failure.stop("\(mesh.size) proxies: waited in vain until: \(what)") }
            loop.turn(maximumWait: .milliseconds(20))
        }
    }

    /// Until nothing has come for a while.
    private func settle() {
        wait("it is quiet") { proxies.map(\.lastAck).max()! + Self.quiet < Clock.now() }
    }

    private func turn(for time: Nanoseconds) {
        let end = Clock.now() + time
        while Clock.now() < end { loop.turn(maximumWait: .milliseconds(20)) }
    }

    private func milliseconds(since begin: Instant, _ end: Instant) -> Double { Double((end - begin).count) / 1e6 }
}
