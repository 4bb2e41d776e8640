import Base
import Glibc
import ProxyConfig
import Reactor
import Resilience
import Resolver
import Telemetry
import XDSWire

/// The main thread: takes in configuration, resolves names, brings ejected endpoints back, answers the admin interface, and ends the
/// process. Requests never wait for it.
final class Supervisor {
    let loop = EventLoop()
    let log = ProcessLog.standard
    let options: ProxyOptions
    let registry: StatsRegistry
    let logWriter: LogWriter
    let outlierEvents: OutlierEventLog
    let tls: TLSContexts
    let started: Instant
    private(set) var snapshot: RuntimeSnapshot?
    /// Listeners of the snapshot that cannot open, because a certificate is not there.
    private(set) var closedListeners: [RuntimeListener] = []
    private(set) var state = ProxyState.initializing
    /// The last configuration that was refused, and why; nil once a good one came.
    private(set) var rejection: (version: String, reason: String)?
    /// When the last worker took the running snapshot over; nil while some have not.
    private(set) var appliedAt: Instant?
    /// Snapshots taken and refused since the start.
    private(set) var applications: UInt64 = 0
    private(set) var rejections: UInt64 = 0

    private let inbox: Mailbox<SupervisorMessage>
    private let workers: [Mailbox<WorkerMessage>]
    private var threads: [pthread_t] = []
    private var builder: SnapshotBuilder
    private var openAddresses: Set<SocketAddress> = []
    /// Of what was read last, applied or refused: the same again says nothing new.
    private var lastFile: ContentHash?
    private var applied: Set<Int> = []
    /// The file changed while the workers were applying what it held before.
    private var loadIsDue = false
    /// Closed listeners may open, and the workers were applying.
    private var openingIsDue = false
    /// The last file was refused for want of a certificate.
    private var loadWaitsForCertificate = false
    private var drained: Set<Int> = []
    private var sweepTimer: LoopTimer!
    private var outlierLog: LogFile?
    private var discovery: DNSDiscovery!
    private var destinations: OriginalDestinations!
    private var admin: AdminServer?
    private var exitStatus: Int32 = 0

    init(options: ProxyOptions, workerCount: Int) throws(SystemError) {
        self.options = options
        started = loop.now
        inbox = try Mailbox<SupervisorMessage>()
        var mailboxes: [Mailbox<WorkerMessage>] = []
        for _ in 0..<workerCount { mailboxes.append(try Mailbox<WorkerMessage>()) }
        workers = mailboxes
        registry = StatsRegistry(workerCount: workerCount)
        logWriter = LogWriter()
        let logWriter = logWriter
        registry.addProvider { logWriter.addSamples(to: &$0) }
        registry.addProvider { ProcessProbe.addSamples(to: &$0) }
        let inbox = inbox
        outlierEvents = OutlierEventLog { inbox.post(.outlierEvent) }
        tls = TLSContexts(loop: loop)
        let certificates = tls.board
        registry.addProvider { certificates.scrape(into: &$0, now: Clock.realtime() / 1_000_000_000) }
        builder = SnapshotBuilder(
            logWriter: logWriter, events: outlierEvents, tls: tls, seed: UInt64(bitPattern: started.nanoseconds))
        sweepTimer = LoopTimer { [unowned self] now in sweep(now) }
        var names = ResolverOptions()
        names.servers = options.dnsServers
        discovery = DNSDiscovery(loop: loop, options: names) { [unowned self] cluster in announce(cluster) }
        destinations = OriginalDestinations(loop: loop, discovery: discovery) { [unowned self] cluster in
            announce(cluster)
        } reply: { [unowned self] worker, cluster, destination, outcome in
            workers[worker].post(.destination(destination, cluster: cluster, outcome))
        }
        tls.becameReady = { [unowned self] in certificatesCame() }
        let board = discovery.board
        registry.addProvider { samples in board.scrape(into: &samples, now: Clock.now()) }
    }

    var workerCount: Int { workers.count }
    var drainTime: Duration { options.drainTime ?? snapshot?.configuration.process.drainTime ?? .seconds(20) }

    /// Runs until the process is told to end; returns its exit status.
    func run() -> Int32 {
        do {
            try inbox.attach(to: loop) { [unowned self] message in receive(message) }
            try loop.add(try SignalSource { [unowned self] signal in received(signal) })
            try loop.add(try FolderWatch(folder: options.snapshotFolder) { [unowned self] in loadSnapshot() })
        } catch {
            log.error("main", "cannot watch \(options.snapshotFolder): \(error)")
            return 1
        }
        loadSnapshot()
        guard snapshot != nil else { return 1 }
        do {
            admin = try AdminServer(supervisor: self, address: snapshot!.configuration.process.adminAddress)
        } catch {
            log.error("admin", "cannot listen on \(snapshot!.configuration.process.adminAddress): \(error)")
            return 1
        }
        startWorkers()
        loop.run()
        stopWorkers()
        _ = logWriter.stop(within: .seconds(2))
        return exitStatus
    }

    // MARK: Configuration

    /// Reads the snapshot file and applies it if it says something new. A bad one changes nothing.
    func loadSnapshot() {
        guard state != .draining else { return }
        // The workers close the old listeners while they apply: before that their addresses would look taken.
        guard snapshot == nil || applied.count == workers.count else { return loadIsDue = true }
        let bytes: [UInt8]
        do {
            bytes = try FileReader.read(options.snapshotPath)
        } catch {
            return reject(version: "-", "\(options.snapshotPath): \(error)")
        }
        let file = ContentHash(bytes)
        guard file != lastFile else { return }
        lastFile = file
        loadWaitsForCertificate = false
        do {
            let configuration = try SnapshotFile.decode(bytes)
            // The content's version, which `outrigger render` and a control plane name too; the file's is for what cannot be read.
            let version = SnapshotFile.version(of: configuration)
            if version == snapshot?.version {
                rejection = nil
            } else {
                try apply(configuration, version: version)
            }
        } catch {
            reject(version: "\(file)", "\(options.snapshotPath): \(error)")
        }
    }

    private func reject(version: String, _ reason: String) {
        rejection = (version, reason)
        rejections += 1
        // What was prepared for it is not needed.
        if let snapshot, !loadWaitsForCertificate { tls.follow([snapshot.configuration]) }
        let consequence = snapshot.map { "keeping version \($0.version)" } ?? "nothing to serve"
        log.error("config", "snapshot \(version) refused, \(consequence): \(reason)")
    }

    private func apply(_ configuration: Snapshot, version: String) throws(SnapshotErrors) {
        var prepared = try builder.prepare(configuration, version: version)
        let closed = try listenersToClose(prepared.listeners, configuration)
        prepared.listeners.removeAll { $0.closedBecause != nil }
        let sockets = try openSockets(prepared.listeners)
        for warning in prepared.warnings { log.warning("config", warning) }
        for listener in closed { log.error("listener", "\(listener.configuration.name) stays closed: \(listener.closedBecause ?? "")") }
        closedListeners = closed
        let next = builder.finish(prepared, previous: snapshot, now: Clock.now())
        rejection = nil
        registry.setNode(configuration.node)
        applications += 1
        outlierLog = configuration.process.outlierEventLogPath.map { logWriter.file($0) }
        post(next, sockets)
        tls.follow([configuration])
        discovery.follow(next)
        destinations.follow(next)
        scheduleSweep()
    }

    /// Those of a new configuration whose certificate is not there.
    ///
    /// - Throws: one of them serves now with a certificate that it has: a wrong path must not end that.
    private func listenersToClose(
        _ listeners: [RuntimeListener], _ configuration: Snapshot
    ) throws(SnapshotErrors) -> [RuntimeListener] {
        let closed = listeners.filter { $0.closedBecause != nil }
        let secured = Set((snapshot?.listeners ?? []).filter { $0.chains.allSatisfy { $0.tls != nil } }.map(\.configuration.address))
        let errors = closed.filter { secured.contains($0.configuration.address) }
            .map { "listener \($0.configuration.name): \($0.closedBecause ?? "")" }
        guard let snapshot, !errors.isEmpty else { return closed }
        loadWaitsForCertificate = true
        tls.follow([snapshot.configuration, configuration])
        throw SnapshotErrors(errors: errors)
    }

    /// Certificates are there that were not: what waited for them goes on.
    private func certificatesCame() {
        openClosedListeners()
        guard loadWaitsForCertificate else { return }
        lastFile = nil
        loadSnapshot()
    }

    private func openClosedListeners() {
        guard let snapshot, state != .draining else { return }
        // Until all workers have applied, an address of before may be taken still.
        guard applied.count == workers.count else { return openingIsDue = true }
        let opening = closedListeners.filter { $0.closedBecause == nil }
        guard !opening.isEmpty else { return }
        let sockets: [SocketAddress: [CInt]]
        do {
            sockets = try openSockets(opening)
        } catch {
            return log.error("listener", "\(error); SIGHUP tries again")
        }
        for listener in opening { log.info("listener", "\(listener.configuration.name) opens: its certificate is there") }
        closedListeners.removeAll { listener in opening.contains { $0 === listener } }
        post(
            RuntimeSnapshot(
                version: snapshot.version, configuration: snapshot.configuration, listeners: snapshot.listeners + opening,
                clusters: snapshot.clusters), sockets)
    }

    /// Hands a snapshot to the workers, with a socket for each of them and each new address.
    private func post(_ next: RuntimeSnapshot, _ sockets: [SocketAddress: [CInt]]) {
        snapshot = next
        openAddresses = Set(next.listeners.map(\.configuration.address))
        applied = []
        appliedAt = nil
        for (index, worker) in workers.enumerated() { worker.post(.apply(next, sockets: sockets.mapValues { $0[index] })) }
    }

    /// A listening socket for every worker, for each address that is new. All or none.
    private func openSockets(_ listeners: [RuntimeListener]) throws(SnapshotErrors) -> [SocketAddress: [CInt]] {
        var sockets: [SocketAddress: [CInt]] = [:]
        var errors: [String] = []
        for listener in listeners where !openAddresses.contains(listener.configuration.address) {
            let address = listener.configuration.address
            do {
                // SO_REUSEPORT would let us share the port of another process unseen: look first whether it is free.
                try Socket.probe(address)
                var opened: [CInt] = []
                for _ in workers { opened.append(try Socket.listen(on: address, reusePort: true)) }
                sockets[address] = opened
            } catch {
                errors.append("listener \(listener.configuration.name): cannot listen on \(address): \(error)")
            }
        }
        if errors.isEmpty { return sockets }
        for socket in sockets.values.joined() { Socket.close(socket) }
        throw SnapshotErrors(errors: errors)
    }

    /// A cluster's endpoints changed.
    private func announce(_ cluster: RuntimeCluster) {
        for worker in workers { worker.post(.hosts(cluster)) }
    }

    // MARK: Outlier detection

    private func scheduleSweep() {
        let next = snapshot?.clusters.map(\.detector.nextSweep).min() ?? .never
        loop.setDeadline(sweepTimer, next)
    }

    private func sweep(_ now: Instant) {
        for cluster in snapshot?.clusters ?? [] where cluster.detector.nextSweep <= now { cluster.detector.sweep(now: now) }
        scheduleSweep()
    }

    private func writeOutlierEvents() {
        let offset = Clock.realtime() - Clock.now().nanoseconds
        for event in outlierEvents.drain() {
            var line = ByteBuffer()
            event.writeJSON(into: &line, wallClock: Nanoseconds(count: offset))
            line.append(UInt8(ascii: "\n"))
            log.info("outlier", event.words)
            outlierLog?.submit(&line)
        }
    }

    // MARK: Workers

    private func startWorkers() {
        for (index, mailbox) in workers.enumerated() {
            let registry = registry
            let inbox = inbox
            let seed = UInt64(bitPattern: Clock.realtime()) &+ UInt64(index) &* 0x9e37_79b9_7f4a_7c15
            threads.append(
                startThread(name: "worker-\(index)") {
                    Worker(index: index, registry: registry, supervisor: inbox, seed: seed).run(mailbox: mailbox)
                })
        }
    }

    private func stopWorkers() {
        for worker in workers { worker.post(.stop) }
        for thread in threads { pthread_join(thread, nil) }
    }

    private func receive(_ message: SupervisorMessage) {
        switch message {
        case .applied(let worker, let version):
            guard version == snapshot?.version else { return }
            applied.insert(worker)
            guard applied.count == workers.count else { return }
            defer {
                if loadIsDue {
                    loadIsDue = false
                    loadSnapshot()
                }
                if openingIsDue {
                    openingIsDue = false
                    openClosedListeners()
                }
            }
            appliedAt = loop.now
            if state == .initializing { state = .live }
            log.info("config", "version \(version) applied by \(workers.count) worker\(workers.count == 1 ? "" : "s")")
        case .acceptPaused(let worker, let listener, let error):
            log.warning("listener", "\(listener): worker \(worker) cannot accept: \(error); serving what is open, trying again")
        case .drained(let worker):
            drained.insert(worker)
            if drained.count == workers.count {
                log.info("main", "drained; ending")
                loop.stop()
            }
        case .outlierEvent:
            writeOutlierEvents()
        case .refusal(let refusal):
            let more = refusal.unreported == 0 ? "" : " (\(refusal.unreported) more were not written)"
            log.warning("listener", "\(refusal.listener): \(refusal.peer): \(refusal.reason)\(more)")
        case .destination(let destination, let cluster, let worker):
            destinations.wanted(destination, cluster: cluster, worker: worker)
        }
    }

    // MARK: The end

    private func received(_ signal: Signal) {
        switch signal {
        case .terminate where state == .draining:
            log.info("main", "second signal: ending now")
            loop.stop()
        case .terminate: drain()
        case .reload:
            // What was refused may be right by now: a port may be free that was not.
            lastFile = nil
            loadSnapshot()
            tls.check()
            openClosedListeners()
        case .reopenLogs: logWriter.reopen()
        }
    }

    /// Takes nothing new, lets what is open end, then ends the process; at the latest after the drain time.
    func drain() {
        guard state != .draining else { return }
        state = .draining
        log.info("main", "draining for at most \(drainTime)")
        for worker in workers { worker.post(.drain(deadline: Clock.now() + drainTime)) }
    }

    /// Ends at once.
    func quit() {
        loop.stop()
    }
}

extension OutlierEvent {
    /// For people: `EJECT 127.0.0.1:9001 of cds_egress_...: consecutive 5xx (ejection 1, 10.4 s; last outcomes ...)`.
    fileprivate var words: String {
        switch subject {
        case .host(let host):
            var facts = ["ejections \(host.ejections)"]
            if let time = host.ejectionTime { facts.append("for \(time.milliseconds) ms") }
            if host.refusals > 1 { facts.append("\(host.refusals) refusals") }
            if action != .uneject { facts.append("last \(host.lastOutcomes.joined(separator: " "))") }
            return "\(action.rawValue) \(host.address) of \(cluster): \(reason.rawValue) (\(facts.joined(separator: ", ")))"
        case .priority(let priority, let available, let total):
            return "\(action.rawValue) \(cluster) priority \(priority): \(available) of \(total) endpoints available"
        }
    }
}

/// How far the process is (envoy.admin.v3.ServerInfo.State).
enum ProxyState: String {
    case initializing = "INITIALIZING"
    case live = "LIVE"
    case draining = "DRAINING"
}

/// A timer that is not a connection.
final class LoopTimer: Timed {
    private let action: (Instant) -> Void

    init(_ action: @escaping (Instant) -> Void) {
        self.action = action
    }

    override func deadlineReached(now: Instant) {
        action(now)
    }
}

/// Starts a thread. Nonisolated on purpose: a closure made on the main actor would trap on another thread.
nonisolated func startThread(name: String, _ body: @escaping @Sendable () -> Void) -> pthread_t {
    final class Start {
        let name: String
        let body: @Sendable () -> Void

        init(_ name: String, _ body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
    var thread = pthread_t()
    let start = unsafe Unmanaged.passRetained(Start(name, body)).toOpaque()
    let result = unsafe pthread_create(
        &thread, nil,
        { argument in
            // Retained for this one call above.
            let start = unsafe Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
            nameThread(start.name)
            start.body()
            return nil
        }, start)
    precondition(result == 0, "pthread_create: \(SystemError(result))")
    return thread
}
