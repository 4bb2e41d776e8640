import Base
import Glibc
import HTTP
import HTTP2
import ProxyConfig
import Reactor
import Synchronization
import Telemetry
import Transport

/// What the supervisor tells a worker.
enum WorkerMessage: Sendable {
    /// Run this snapshot from now on. `sockets`: a listening socket of this worker for each listener that is new, by listener address.
    case apply(RuntimeSnapshot, sockets: [SocketAddress: CInt])
    case hosts(RuntimeCluster)
    /// Where requests to an ORIGINAL_DST cluster may go; its endpoints come before it, by `hosts`.
    case destination(Destination, cluster: String, OriginalDestinations.Outcome)
    /// Take nothing new; end when nothing is open, or at the latest at the given time.
    case drain(deadline: Instant)
    /// The process is overloaded, or is no longer; repeated while it is.
    case overload(OverloadOrder)
    case stop
}

/// What a worker tells the supervisor.
enum SupervisorMessage: Sendable {
    case applied(worker: Int, version: String)
    case acceptPaused(worker: Int, listener: String, error: SystemError)
    case drained(worker: Int)
    /// A request of an ORIGINAL_DST cluster wants to go there.
    case destination(Destination, cluster: String, worker: Int)
    /// An endpoint was ejected, or something else about health is to be told.
    case outlierEvent
    /// A caller's connection was refused, or broke a protocol.
    case refusal(Refusal)
}

/// A caller's connection that came to nothing, for the log.
struct Refusal: Sendable {
    var listener: String
    var peer: SocketAddress
    var reason: String
    /// Others of this worker that were not reported, because there were too many.
    var unreported = 0
}

/// One thread, one epoll set, one share of the connections. Workers share nothing but immutable snapshots, the health of endpoints and
/// what they say through mailboxes.
@safe final class Worker {
    let index: Int
    let loop: EventLoop
    let registry: StatsRegistry
    let stats: WorkerStats
    let buffers = BufferPool()
    let http2Pool = HTTP2Pool()
    /// Every read of this worker goes here; connections keep only what is left over.
    @safe let input: UnsafeMutableRawBufferPointer
    /// Where TLS puts what it opened.
    private(set) lazy var plaintext = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.inputBytes, alignment: 64)
    var random: SeededRandom
    private(set) var isDraining = false
    private(set) var exposesReplyDetails = false
    var overload = WorkerOverload()

    private let supervisor: Mailbox<SupervisorMessage>
    private var snapshot: RuntimeSnapshot?
    private var clusters: [WorkerCluster] = []
    private var listeners: [WorkerListener] = []
    private var spareStreams: [Stream] = []
    private var spareDownstreamSides: [HTTP2DownstreamSide] = []
    private var spareUpstreamSides: [HTTP2UpstreamSide] = []
    private var waitingFlushes: [any HTTP2Connection] = []
    private var refusalsReported = 0
    private var refusalsUnreported = 0
    private var refusalSecond: Int64 = 0
    private var connectionCount = 0
    private var drainTimer: LoopTimer?
    private var waitingLogs: [AccessLogBatches] = []

    /// One read. Large enough for few system calls, small enough to stay in the cache (reference: nginx unbuffered at 32 KiB).
    private static let inputBytes = 64 * 1024
    /// What a busy worker of HTTP/2 has open at once, some 3 KiB each: with fewer, every other request of such a worker would allocate.
    private static let maxSpareStreams = 512

    init(index: Int, registry: StatsRegistry, supervisor: Mailbox<SupervisorMessage>, heartbeat: Heartbeat, seed: UInt64) {
        self.index = index
        loop = EventLoop(heartbeat: heartbeat)
        self.registry = registry
        self.supervisor = supervisor
        stats = registry.worker(index)
        random = SeededRandom(seed: seed)
        input = .allocate(byteCount: Self.inputBytes, alignment: 64)
    }

    deinit {
        unsafe input.deallocate()
    }

    /// Runs on the calling thread until it is told to stop.
    func run(mailbox: Mailbox<WorkerMessage>) {
        do {
            try mailbox.attach(to: loop) { [unowned self] message in receive(message) }
        } catch {
            fatalError("worker \(index): cannot watch its mailbox: \(error)")
        }
        loop.onTurnEnd = { [unowned self] in turnEnded() }
        loop.run()
    }

    private func receive(_ message: WorkerMessage) {
        switch message {
        case .apply(let snapshot, let sockets): apply(snapshot, sockets)
        case .hosts(let cluster): clusters.first { $0.shared.name == cluster.name }?.update(hosts: cluster.hosts)
        case .destination(let destination, let cluster, let outcome):
            clusters.first { $0.shared.name == cluster }?.destinations?.answered(destination, outcome)
        case .drain(let deadline): drain(deadline)
        case .overload(let order): follow(order)
        case .stop: loop.stop()
        }
    }

    // MARK: Configuration

    /// Swaps to a snapshot between two batches of events: every request sees one snapshot, from its head to its end.
    private func apply(_ next: RuntimeSnapshot, _ sockets: [SocketAddress: CInt]) {
        var known = Dictionary(uniqueKeysWithValues: clusters.map { ($0.shared.name, $0) })
        clusters = next.clusters.map { shared in
            guard let cluster = known.removeValue(forKey: shared.name) else { return WorkerCluster(shared, worker: self) }
            cluster.adopt(shared)
            return cluster
        }
        for cluster in known.values { cluster.leave() }
        if let snapshot, snapshot.listeners.count == next.listeners.count, zip(snapshot.listeners, next.listeners).allSatisfy({ $0 === $1 })
        {
            // Other endpoints, most likely: listeners and routes go on as they are.
            return finishApplying(next)
        }

        var open = Dictionary(uniqueKeysWithValues: listeners.map { ($0.address, $0) })
        listeners = []
        for shared in next.listeners {
            let filters = shared.chains.map { workerFilter($0.filter) }
            if let listener = open.removeValue(forKey: shared.configuration.address) {
                listener.adopt(shared, filters)
                listeners.append(listener)
            } else if let socket = sockets[shared.configuration.address] {
                let listener = WorkerListener(adopting: socket, shared: shared, filters: filters, worker: self)
                do {
                    try loop.add(listener, isListener: true)
                    listeners.append(listener)
                } catch {
                    fatalError("worker \(index): cannot watch the listener \(shared.configuration.address): \(error)")
                }
            }
        }
        for listener in open.values { listener.remove() }
        spareStreams.removeAll()  // They hold on to the tables of the snapshot they last served.
        finishApplying(next)
    }

    private func finishApplying(_ next: RuntimeSnapshot) {
        exposesReplyDetails = next.configuration.process.exposeReplyDetails
        snapshot = next
        supervisor.post(.applied(worker: index, version: next.version))
    }

    private func workerFilter(_ filter: RuntimeFilter) -> WorkerFilter {
        switch filter {
        case .http(let shared):
            .http(WorkerHTTPFilter(shared, clusters: shared.clusterIndices.map { $0.map { clusters[$0] } }, worker: self))
        case .tcp(let shared): .tcp(WorkerTCPFilter(shared, clusters: clusters, worker: self))
        }
    }

    // MARK: Draining

    private func drain(_ deadline: Instant) {
        guard !isDraining else { return }
        isDraining = true
        for listener in listeners { listener.drain(within: deadline - loop.now) }
        let timer = LoopTimer { [unowned self] _ in finishDraining() }
        drainTimer = timer
        loop.setDeadline(timer, deadline)
        finishIfDrained()
    }

    private func finishIfDrained() {
        if isDraining, connectionCount == 0 { finishDraining() }
    }

    private func finishDraining() {
        supervisor.post(.drained(worker: index))
    }

    func connectionOpened() {
        connectionCount += 1
        stats.connectionsActive.increment()
    }

    func connectionClosed() {
        connectionCount -= 1
        stats.connectionsActive.decrement()
        finishIfDrained()
    }

    func acceptFailed(_ listener: WorkerListener, _ error: SystemError) {
        supervisor.post(.acceptPaused(worker: index, listener: listener.name, error: error))
    }

    // MARK: Everything there is

    func forEachDownstream(_ body: (DownstreamConnection) -> Void) {
        for listener in listeners { listener.forEachConnection(body) }
    }

    /// Half of those that rest, the oldest: the others are for the next requests, which would otherwise need new ones.
    func closeIdleUpstreams() {
        for cluster in clusters { cluster.forEachHost { $0.closeOldestIdle() } }
    }

    func ask(for destination: Destination, cluster: String) {
        supervisor.post(.destination(destination, cluster: cluster, worker: index))
    }

    // MARK: Streams

    func takeStream() -> Stream {
        stats.streamsActive.increment()
        watchProgress()
        return spareStreams.popLast() ?? Stream(worker: self)
    }

    func give(_ stream: Stream) {
        stats.streamsActive.decrement()
        // Else the timer wheel would hold it until its request would have timed out: 300 MB at 40,000 requests a second.
        guard spareStreams.count < Self.maxSpareStreams else { return loop.cancelDeadline(stream) }
        spareStreams.append(stream)
    }

    func takeDownstreamSide() -> HTTP2DownstreamSide {
        spareDownstreamSides.popLast() ?? HTTP2DownstreamSide()
    }

    func give(_ side: HTTP2DownstreamSide) {
        if spareDownstreamSides.count < Self.maxSpareStreams { spareDownstreamSides.append(side) }
    }

    func takeUpstreamSide() -> HTTP2UpstreamSide {
        spareUpstreamSides.popLast() ?? HTTP2UpstreamSide()
    }

    func give(_ side: HTTP2UpstreamSide) {
        if spareUpstreamSides.count < Self.maxSpareStreams { spareUpstreamSides.append(side) }
    }

    func flushAtTurnEnd(_ connection: any HTTP2Connection) {
        waitingFlushes.append(connection)
    }

    /// Tells the log of a caller that was sent away: at most a few a second, so that nobody can fill it.
    func report(_ listener: String, _ peer: SocketAddress, _ reason: @autoclosure () -> String) {
        let second = loop.now.nanoseconds / 1_000_000_000
        if second != refusalSecond {
            refusalSecond = second
            refusalsReported = 0
        }
        guard refusalsReported < Self.refusalsPerSecond else {
            refusalsUnreported += 1
            return
        }
        refusalsReported += 1
        supervisor.post(.refusal(Refusal(listener: listener, peer: peer, reason: reason(), unreported: refusalsUnreported)))
        refusalsUnreported = 0
    }

    private static let refusalsPerSecond = 5

    func submitAtTurnEnd(_ logs: AccessLogBatches) {
        waitingLogs.append(logs)
    }

    private func turnEnded() {
        // Flushing one may make another dirty: a stream that ends on one side ends on the other.
        var index = 0
        while index < waitingFlushes.count {
            waitingFlushes[index].flushSession()
            index += 1
        }
        waitingFlushes.removeAll(keepingCapacity: true)
        stats.loopTurns.increment()
        stats.loopTurn.record(nanoseconds: loop.lastTurn.count)
        stats.busyNanoseconds.add(UInt64(loop.lastTurn.count))
        guard !waitingLogs.isEmpty else { return }
        for logs in waitingLogs { logs.submit() }
        waitingLogs.removeAll(keepingCapacity: true)
    }
}
