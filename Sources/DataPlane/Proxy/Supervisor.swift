import Base
import Glibc
import ProxyConfig
import Reactor
import Resilience
import Resolver
import Telemetry
import XDSClient
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
    private(set) var rejection: (version: String, reason: String, at: Instant)?
    /// When the last worker took the running snapshot over; nil while some have not.
    private(set) var appliedAt: Instant?
    /// Callers may come with TLS for the proxy's own certificate: all workers open it, and will after what is being applied.
    private(set) var servesIdentity = false
    /// What runs was read from the state file, and no control plane has confirmed it.
    var runsFromDisk = false
    /// When the state file that runs was written, in nanoseconds since 1970.
    var writtenAt: Int64?
    /// To the control plane, if there is one.
    private(set) var link: ControlPlaneLink?
    private(set) var stateFile: StateFile?
    /// Came from the control plane while the workers were applying.
    var waitingOffer: ADSClient.Offer?
    /// That no report has told; the newest.
    var unreportedEvents: [OutlierEvent] = []
    /// Snapshots taken and refused since the start.
    private(set) var applications: UInt64 = 0
    private(set) var rejections: UInt64 = 0

    private let inbox: Mailbox<SupervisorMessage>
    private let workers: [Mailbox<WorkerMessage>]
    private let heartbeats: [Heartbeat]
    let overload: OverloadManager
    private(set) var overrides: BreakerOverrides!
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
    private let prober: HealthProber
    private var destinations: OriginalDestinations!
    private var admin: AdminServer?
    /// Where the admin interface listens, as it was asked for.
    private var adminAddress: SocketAddress?
    /// Where it could not.
    private var refusedAdminAddress: SocketAddress?
    private var drainTimer: LoopTimer!
    private var exitStatus: Int32 = 0

    init(options: ProxyOptions, workerCount: Int) throws(SystemError) {
        self.options = options
        started = loop.now
        inbox = try Mailbox<SupervisorMessage>()
        var mailboxes: [Mailbox<WorkerMessage>] = []
        for _ in 0..<workerCount { mailboxes.append(try Mailbox<WorkerMessage>()) }
        workers = mailboxes
        heartbeats = mailboxes.map { _ in Heartbeat() }
        registry = StatsRegistry(workerCount: workerCount)
        overload = OverloadManager(
            loop: loop, workers: workers, heartbeats: heartbeats, registry: registry, log: log, maxMemoryBytes: options.maxMemoryBytes)
        logWriter = LogWriter()
        let logWriter = logWriter
        registry.addProvider { logWriter.addSamples(to: &$0) }
        registry.addProvider { ProcessProbe.addSamples(to: &$0) }
        let inbox = inbox
        outlierEvents = OutlierEventLog { inbox.post(.outlierEvent) }
        tls = TLSContexts(loop: loop)
        prober = HealthProber(loop: loop, seed: UInt64(bitPattern: Clock.realtime()))
        let certificates = tls.board
        registry.addProvider { certificates.scrape(into: &$0, now: Clock.realtime() / 1_000_000_000) }
        builder = SnapshotBuilder(
            logWriter: logWriter, events: outlierEvents, tls: tls, seed: UInt64(bitPattern: started.nanoseconds))
        overrides = BreakerOverrides(loop: loop) { [unowned self] in snapshot?.clusters ?? [] }
        sweepTimer = LoopTimer { [unowned self] now in sweep(now) }
        drainTimer = LoopTimer { [unowned self] _ in drainWorkers() }
        var names = ResolverOptions()
        names.servers = options.dnsServers
        discovery = DNSDiscovery(loop: loop, options: names) { [unowned self] cluster in announce(cluster) }
        destinations = OriginalDestinations(loop: loop, discovery: discovery) { [unowned self] cluster in
            announce(cluster)
        } reply: { [unowned self] worker, cluster, destination, outcome in
            workers[worker].post(.destination(destination, cluster: cluster, outcome))
        }
        prober.isShort = { [unowned self] in overload.report.level >= .trim }
        tls.becameReady = { [unowned self] in certificatesCame() }
        let board = discovery.board
        registry.addProvider { samples in board.scrape(into: &samples, now: Clock.now()) }
    }

    var workerCount: Int { workers.count }
    /// Every worker runs `snapshot`.
    var isApplied: Bool { applied.count == workers.count }
    var drainTime: Duration { options.drainTime ?? snapshot?.configuration.process.drainTime ?? .seconds(20) }

    /// Runs until the process is told to end; returns its exit status.
    func run() -> Int32 {
        do {
            try inbox.attach(to: loop) { [unowned self] message in receive(message) }
            try loop.add(try SignalSource { [unowned self] signal in received(signal) })
        } catch {
            log.error("main", "cannot start: \(error)")
            return 1
        }
        guard options.controlPlane == nil ? startFromFile() : startManaged() else { return 1 }
        startWorkers()
        overload.start()
        link?.start()
        loop.run()
        link?.stop()
        stateFile?.write()
        stopWorkers()
        _ = logWriter.stop(within: .seconds(2))
        return exitStatus
    }

    /// False where there is nothing to run, and nobody to wait for.
    private func startFromFile() -> Bool {
        do {
            try loop.add(try FolderWatch(folder: options.snapshotFolder) { [unowned self] in loadSnapshot() })
        } catch {
            log.error("main", "cannot watch \(options.snapshotFolder): \(error)")
            return false
        }
        loadSnapshot()
        guard let snapshot else { return false }
        return openAdmin(options.adminAddress ?? snapshot.configuration.process.adminAddress)
    }

    /// Runs what was kept, if there is something; a control plane may come later.
    private func startManaged() -> Bool {
        guard let controlPlane = options.controlPlane else { return false }
        stateFile = controlPlane.statePath.map { path in StateFile(path: path, loop: loop) { [log] in log.warning("xds", $0) } }
        var defaults = ProcessSettings()
        if let drainTime = options.drainTime { defaults.drainTime = drainTime }
        // Before any configuration has come: several on one machine wait beside each other.
        if let host = controlPlane.node.host { defaults.adminAddress = SocketAddress(host, defaults.adminAddress.port) }
        let identity = ProxyIdentity(options: controlPlane, loop: loop, tls: tls) { [unowned self] in certificatesCame() }
        link = ControlPlaneLink(
            options: controlPlane, defaults: defaults, loop: loop, process: self, seed: UInt64(bitPattern: Clock.realtime()),
            identity: identity
        ) { [unowned self] name, completion in discovery.resolve(name, family: .all, completion: completion) }
        runKept()
        return openAdmin(options.adminAddress ?? snapshot?.configuration.process.adminAddress ?? defaults.adminAddress)
    }

    /// Listens for the admin interface; at another address than before the old one closes.
    private func openAdmin(_ address: SocketAddress) -> Bool {
        guard address != adminAddress else { return true }
        // Tried, and told, once.
        guard address != refusedAdminAddress else { return false }
        do {
            let next = try AdminServer(supervisor: self, address: address)
            admin?.close()
            admin = next
            adminAddress = address
            refusedAdminAddress = nil
            return true
        } catch {
            refusedAdminAddress = address
            let consequence = adminAddress.map { "; it stays at \($0)" } ?? ""
            log.error("admin", "cannot listen on \(address): \(error)\(consequence)")
            return false
        }
    }

    // MARK: Configuration

    /// Reads the snapshot file and applies it if it says something new. A bad one changes nothing.
    func loadSnapshot() {
        guard state != .draining, options.controlPlane == nil else { return }
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

    func reject(version: String, _ reason: String) {
        rejection = (version, reason, loop.now)
        rejections += 1
        // What was prepared for it is not needed.
        if let snapshot, !loadWaitsForCertificate { tls.follow([snapshot.configuration]) }
        let consequence = snapshot.map { "keeping version \($0.version)" } ?? "nothing to serve"
        log.error("config", "snapshot \(version) refused, \(consequence): \(reason)")
    }

    /// The running configuration is the one that is wanted, again.
    func forgetRejection() {
        rejection = nil
    }

    /// Makes a snapshot run; `isApplied` is true once every worker has it.
    ///
    /// - Throws: everything that is wrong with it; what ran before runs on.
    func apply(_ configuration: Snapshot, version: String) throws(SnapshotErrors) {
        let problems = tls.problems(in: configuration.secrets)
        guard problems.isEmpty else {
            throw SnapshotErrors(errors: problems.map { ADSClient.Problem(type: .secret, text: $0) })
        }
        tls.deliver(configuration.secrets)
        overrides.follow(configuration.process.overrides)
        builder.forcedServices = overrides.services
        var prepared = try builder.prepare(configuration, version: version, previous: snapshot, closed: closedListeners)
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
        overload.follow(configuration.process.overload)
        prober.follow(next)
        post(next, sockets)
        tls.follow([configuration])
        discovery.follow(next)
        destinations.follow(next)
        scheduleSweep()
        overrides.settle()
        // At the start, and for good where the configuration is a file, `run` does it.
        if link != nil, adminAddress != nil, options.adminAddress == nil { _ = openAdmin(configuration.process.adminAddress) }
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
            .map { ADSClient.Problem(type: .listener, text: "listener \($0.configuration.name): \($0.closedBecause ?? "")") }
        guard let snapshot, !errors.isEmpty else { return closed }
        loadWaitsForCertificate = true
        tls.follow([snapshot.configuration, configuration])
        throw SnapshotErrors(errors: errors)
    }

    /// Certificates are there that were not: what waited for them goes on.
    private func certificatesCame() {
        link?.reportSoon()
        openClosedListeners()
        guard loadWaitsForCertificate else { return }
        lastFile = nil
        loadSnapshot()
        link?.retryRefused()
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
        servesIdentity = servesIdentity && opensIdentity
        for (index, worker) in workers.enumerated() { worker.post(.apply(next, sockets: sockets.mapValues { $0[index] })) }
    }

    /// A listening socket for every worker, for each address that is new. All or none.
    private func openSockets(_ listeners: [RuntimeListener]) throws(SnapshotErrors) -> [SocketAddress: [CInt]] {
        var sockets: [SocketAddress: [CInt]] = [:]
        var errors: [ADSClient.Problem] = []
        for listener in listeners where !openAddresses.contains(listener.configuration.address) {
            let address = listener.configuration.address
            do {
                // SO_REUSEPORT would let us share the port of another process unseen: look first whether it is free.
                try Socket.probe(address)
                var opened: [CInt] = []
                for _ in workers { opened.append(try Socket.listen(on: address, reusePort: true)) }
                sockets[address] = opened
            } catch {
                let text = "listener \(listener.configuration.name): cannot listen on \(address): \(error)"
                errors.append(ADSClient.Problem(type: .listener, text: text))
            }
        }
        if errors.isEmpty { return sockets }
        for socket in sockets.values.joined() { Socket.close(socket) }
        throw SnapshotErrors(errors: errors)
    }

    /// A cluster's endpoints changed.
    private func announce(_ cluster: RuntimeCluster) {
        prober.update(cluster)
        for worker in workers { worker.post(.hosts(cluster)) }
        overrides.settle()
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
        let events = outlierEvents.drain()
        if link != nil, !events.isEmpty {
            unreportedEvents = (unreportedEvents + events).suffix(ReportLimits.outlierEvents)
            link?.reportSoon()
        }
        for event in events {
            var line = ByteBuffer()
            event.writeJSON(into: &line, wallClock: Nanoseconds(count: offset))
            line.append(UInt8(ascii: "\n"))
            log.info("outlier", event.words)
            outlierLog?.submit(&line)
        }
        let ejecting = Set(events.lazy.filter { $0.action == .eject }.map(\.cluster))
        for cluster in snapshot?.clusters ?? [] where ejecting.contains(cluster.name) { prober.ejected(in: cluster) }
    }

    /// What health checks found.
    var healthChecks: HealthCheckBoard { prober.board }

    // MARK: Workers

    private func startWorkers() {
        for (index, mailbox) in workers.enumerated() {
            let registry = registry
            let inbox = inbox
            let heartbeat = heartbeats[index]
            let seed = UInt64(bitPattern: Clock.realtime()) &+ UInt64(index) &* 0x9e37_79b9_7f4a_7c15
            threads.append(
                startThread(name: "worker-\(index)") {
                    Worker(index: index, registry: registry, supervisor: inbox, heartbeat: heartbeat, seed: seed).run(mailbox: mailbox)
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
                takeWaitingOffer()
            }
            appliedAt = loop.now
            servesIdentity = opensIdentity
            if state == .initializing { state = .live }
            keepApplied()
            link?.reportSoon()
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
            link?.retryRefused()
        case .reopenLogs: logWriter.reopen()
        }
    }

    /// Takes nothing new, lets what is open end, then ends the process; at the latest after the drain time.
    ///
    /// Before that, for the drain delay, it says only that it will: callers who hear of it go elsewhere, and none finds a closed port.
    func drain() {
        guard state != .draining else { return }
        state = .draining
        link?.reportSoon()
        let delay = options.drainDelay ?? (link?.isConnected == true ? .seconds(1) : .zero)
        guard delay > .zero else { return drainWorkers() }
        log.info("main", "draining: telling it for \(delay), then closing")
        loop.setDeadline(drainTimer, loop.now + delay)
    }

    private func drainWorkers() {
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
            if let seen = host.seen { return "\(action.rawValue) \(host.address) of \(cluster): \(reason.rawValue) (\(seen))" }
            var facts = ["ejections \(host.ejections)"]
            if let time = host.ejectionTime { facts.append("for \(time.milliseconds) ms") }
            if host.refusals > 1 { facts.append("\(host.refusals) refusals") }
            if action != .uneject { facts.append("last \(host.lastOutcomes.joined(separator: " "))") }
            return "\(action.rawValue) \(host.address) of \(cluster): \(reason.rawValue) (\(facts.joined(separator: ", ")))"
        case .priority(let priority, let available, let total):
            return "\(action.rawValue) \(cluster) priority \(priority): \(available) of \(total) endpoints available"
        case .service(let phase):
            return "\(action.rawValue) \(cluster): the service's breaker is \(phase.name): \(reason.rawValue)"
        }
    }
}

/// How far the process is (envoy.admin.v3.ServerInfo.State).
enum ProxyState: String {
    case initializing = "INITIALIZING"
    case live = "LIVE"
    case draining = "DRAINING"
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
