import Base
import ProxyConfig
import Reactor
import Synchronization
import Telemetry
import Transport

/// The TLS of everything that is configured: a context for each distinct configuration, made anew when its files change, or when the
/// control plane delivers other secrets. On the supervisor's thread; workers see a `RuntimeTLS` and nothing else.
///
/// What cannot be used (a key of another certificate, an expired one, a file that is gone) changes nothing: what is there keeps serving,
/// and log, metrics and `/certs` say so.
final class TLSContexts {
    /// What is known of them, for whoever wants to look, from any thread.
    let board = TLSBoard()
    /// Called when a context is there that was not there before; outside of `runtime`.
    var becameReady: () -> Void = {}

    private let loop: EventLoop
    private let log: ProcessLog
    private let wallClock: () -> Int64
    private let trusts = TLSTrustCache()
    private var entries: [TLSSource: Entry] = [:]
    /// Delivered, by name: those of the snapshot that runs, and of one that is being prepared.
    private var secrets: [String: Secret] = [:]
    /// Of these, what nobody delivers: it stays, needed or not.
    private var ownSecret: String?
    /// What is told of it.
    private var ownReport: TLSReport?
    private var watches: [String: Watch] = [:]
    private var settleTimer: LoopTimer!
    private var pollTimer: LoopTimer!

    /// A certificate and its key are two files: what changes together is looked at together, once all is quiet for so long.
    private static let settleTime = Nanoseconds.milliseconds(200)
    /// For what no watch tells: a folder that comes into being, a link far above the file that is turned, a file system without
    /// notifications, a certificate whose time comes.
    private static let pollTime = Nanoseconds.seconds(10)

    private final class Entry {
        let source: TLSSource
        let runtime: RuntimeTLS
        /// Who is configured with it, for people.
        var users: [String] = []
        /// Of the last attempt.
        var stamps: [String: FileStamp] = [:]
        /// Of what serves.
        var contents: [String: ContentHash] = [:]
        var loads: UInt64 = 0
        var refusals: UInt64 = 0
        var problem: String?
        var endIsTold = false

        init(_ source: TLSSource) {
            self.source = source
            runtime = RuntimeTLS(nil)
        }
    }

    private struct Watch {
        var folder: FileStamp
        var watch: FolderWatch
    }

    /// - Parameter wallClock: seconds since 1970.
    init(
        loop: EventLoop, log: ProcessLog = .standard, wallClock: @escaping () -> Int64 = { Clock.realtime() / 1_000_000_000 }
    ) {
        self.loop = loop
        self.log = log
        self.wallClock = wallClock
        settleTimer = LoopTimer { [unowned self] _ in check() }
        pollTimer = LoopTimer { [unowned self] _ in check() }
    }

    deinit {
        loop.cancelDeadline(settleTimer)
        loop.cancelDeadline(pollTimer)
        for watch in watches.values { loop.close(watch.watch) }
    }

    /// The TLS of a filter chain. The same for all that are configured alike, also from snapshot to snapshot: tickets stay good.
    func runtime(for tls: DownstreamTLS) -> RuntimeTLS {
        runtime(for: .server(tls))
    }

    /// The TLS of a cluster.
    func runtime(for tls: UpstreamTLS) -> RuntimeTLS {
        // What does not concern the context must not tell two of them apart.
        var tls = tls
        tls.sni = nil
        tls.isEnforced = true
        tls.sparesPlaintextEndpoints = false
        return runtime(for: .client(tls))
    }

    private func runtime(for source: TLSSource) -> RuntimeTLS {
        if let entry = entries[source] { return entry.runtime }
        let entry = Entry(source)
        entries[source] = entry
        load(entry)
        return entry.runtime
    }

    /// From here on only what these use is kept and watched.
    func follow(_ configurations: [Snapshot]) {
        var users: [ObjectIdentifier: [String]] = [:]
        for listener in configurations.flatMap(\.listeners) {
            for tls in listener.filterChains.compactMap(\.tls) {
                users[ObjectIdentifier(runtime(for: tls)), default: []].append("listener \(listener.name)")
            }
        }
        for cluster in configurations.flatMap(\.clusters) {
            guard let tls = cluster.tls else { continue }
            users[ObjectIdentifier(runtime(for: tls)), default: []].append("cluster \(cluster.name)")
        }
        entries = entries.filter { users[ObjectIdentifier($0.value.runtime)] != nil }
        let needed = Set(entries.keys.flatMap(\.secrets))
        secrets = secrets.filter { needed.contains($0.key) || $0.key == ownSecret }
        for entry in entries.values { entry.users = users[ObjectIdentifier(entry.runtime)] ?? [] }
        publish()
        watchFolders()
        loop.setDeadline(pollTimer, entries.isEmpty ? .never : loop.now + Self.pollTime)
    }

    /// Looks whether files have changed, and takes over what can be used.
    func check() {
        var isReady = false
        for entry in entries.values.sorted(by: { $0.source.name < $1.source.name }) {
            let wasReady = entry.runtime.context != nil
            if entry.problem != nil || entry.stamps != FileStamp.all(entry.source.files) { load(entry) }
            if !wasReady, entry.runtime.context != nil { isReady = true }
            tellEnd(of: entry)
        }
        publish()
        watchFolders()
        loop.setDeadline(settleTimer, .never)
        loop.setDeadline(pollTimer, entries.isEmpty ? .never : loop.now + Self.pollTime)
        if isReady { becameReady() }
    }

    // MARK: Secrets

    /// What is wrong with secrets that are not in use yet; nothing is changed.
    func problems(in delivered: [Secret]) -> [String] {
        delivered.filter { secrets[$0.name] != $0 }.compactMap { secret in
            do throws(TLSConfigurationError) {
                let read: (String) throws -> [UInt8] = { path throws in try secret.part(path) }
                switch secret.content {
                case .certificate:
                    let tls = DownstreamTLS(certificate: .sds(name: secret.name))
                    _ = try TLSContext.server(tls.withSecretsAsFiles([secret.name: secret]), now: wallClock(), files: read)
                case .trust:
                    let tls = UpstreamTLS(validation: TLSValidation(trust: .sds(name: secret.name)))
                    _ = try TLSContext.client(tls.withSecretsAsFiles([secret.name: secret]), now: wallClock(), files: read)
                }
                return nil
            } catch {
                return "\(error)"
            }
        }
    }

    /// Takes over what the control plane delivered, beside what is there: contexts of the running snapshot change at once, for connections
    /// from now on. `follow` forgets what is not needed. Who delivers looks by himself what may open now.
    func deliver(_ delivered: [Secret]) {
        let news = delivered.filter { secrets[$0.name] != $0 }
        guard !news.isEmpty else { return }
        for secret in news { secrets[secret.name] = secret }
        let names = Set(news.map(\.name))
        for entry in entries.values.sorted(by: { $0.source.name < $1.source.name }) where !names.isDisjoint(with: entry.source.secrets) {
            load(entry)
        }
        publish()
    }

    /// The proxy's own certificate, which no configuration brings.
    ///
    /// - Parameters:
    ///   - secret: nil: there is none yet, or it has ended.
    ///   - report: for log, metrics and `/certs`.
    func setOwn(_ secret: Secret?, _ report: TLSReport) {
        ownReport = report
        if let secret {
            ownSecret = secret.name
            deliver([secret])
        }
        publish()
    }

    // MARK: Loading

    private func load(_ entry: Entry) {
        guard !waitsForOwn(entry) else { return }
        // Before reading: a change meanwhile makes another attempt.
        let stamps = FileStamp.all(entry.source.files)
        let isNews = stamps != entry.stamps
        entry.stamps = stamps
        var files: [String: Result<[UInt8], any Error>] = [:]
        for path in entry.source.files { files[path] = Result { try FileReader.read(path) } }
        for name in entry.source.secrets {
            for path in [Secret.path(name), Secret.keyPath(name)] {
                files[path] = Result {
                    guard let secret = secrets[name] else { throw SecretProblem.notDelivered }
                    return try secret.part(path)
                }
            }
        }
        let contents = files.compactMapValues { try? ContentHash($0.get()) }
        if entry.runtime.context != nil, contents == entry.contents {
            // The same again, perhaps after something bad: what serves is what lies there, and its tickets stay good.
            if entry.problem != nil { log.info("tls", "\(entry.source.name): what serves lies there again") }
            entry.problem = nil
            return
        }
        do {
            let context = try makeContext(entry.source) { path in
                guard let file = files[path] else { throw SecretProblem.notDelivered }
                return try file.get()
            }
            entry.runtime.replace(context)
            entry.contents = contents
            entry.problem = nil
            entry.endIsTold = false
            entry.loads += 1
            log.info("tls", "\(entry.source.name): \(Self.summary(of: context))")
        } catch {
            refuse(entry, "\(error)", isNews: isNews)
        }
    }

    /// Before the proxy has joined its mesh nothing is wrong with what needs its certificate.
    private func waitsForOwn(_ entry: Entry) -> Bool {
        guard ownReport != nil, secrets[Secret.identityName] == nil, entry.source.secrets.contains(Secret.identityName) else {
            return false
        }
        let problem = "waits for the certificate of this proxy in its mesh"
        if entry.runtime.problem != problem { log.info("tls", "\(entry.source.name): \(problem)") }
        entry.runtime.fail(problem)
        return true
    }

    private func makeContext(_ source: TLSSource, _ read: (String) throws -> [UInt8]) throws(TLSConfigurationError) -> TLSContext {
        switch source {
        case .server(let tls): try TLSContext.server(tls.withSecretsAsFiles(secrets), now: wallClock(), trusts: trusts, files: read)
        case .client(let tls): try TLSContext.client(tls.withSecretsAsFiles(secrets), now: wallClock(), trusts: trusts, files: read)
        }
    }

    private func refuse(_ entry: Entry, _ problem: String, isNews: Bool) {
        // The same trouble with the same files was told.
        guard isNews || problem != entry.problem else { return }
        entry.problem = problem
        entry.refusals += 1
        if let context = entry.runtime.context {
            log.error("tls", "\(problem); keeping what serves: \(Self.summary(of: context))")
        } else {
            entry.runtime.fail(problem)
            log.error("tls", "\(problem); nothing is served with it, and never plaintext instead")
        }
    }

    /// A certificate that ended while nothing newer lies there: told once, though others will refuse it from now on.
    private func tellEnd(of entry: Entry) {
        guard !entry.endIsTold, let context = entry.runtime.context, let end = context.chainExpiry, end <= wallClock() else { return }
        entry.endIsTold = true
        log.error("tls", "\(entry.source.name): \(Self.summary(of: context)): it has ended, and nothing newer lies there")
    }

    private static func summary(of context: TLSContext) -> String {
        guard let leaf = context.certificates.first, let end = context.chainExpiry else {
            return "\(context.trust?.certificates.count ?? 0) trusted certificates, none of our own"
        }
        return "certificate \(leaf.serial) (\(leaf.subject)), good until \(Timestamp.text(end * 1_000_000_000))"
    }

    private func publish() {
        board.publish(
            entries.values.sorted { $0.source.name < $1.source.name }.map { entry in
                let context = entry.runtime.context
                return TLSReport(
                    source: entry.source.name, users: entry.users, loads: entry.loads, refusals: entry.refusals, problem: entry.problem,
                    isReady: context != nil, chainPath: entry.source.chainPath ?? "", trustPath: entry.source.trustPath ?? "",
                    chain: context?.certificates ?? [], authorities: context?.trust?.certificates ?? [])
            } + (ownReport.map { [$0] } ?? []))
    }

    // MARK: Watching

    private func watchFolders() {
        var wanted: Set<String> = []
        for path in entries.values.flatMap(\.source.files) { wanted.formUnion(FileStamp.folders(leadingTo: path)) }
        for (folder, watch) in watches {
            // A folder that was replaced by another of its name tells nothing any more.
            if !wanted.contains(folder) || FileStamp(folder)?.identity != watch.folder.identity {
                loop.close(watch.watch)
                watches[folder] = nil
            }
        }
        for folder in wanted where watches[folder] == nil {
            guard let stamp = FileStamp(folder) else { continue }
            do {
                let watch = try FolderWatch(folder: folder) { [unowned self] in loop.setDeadline(settleTimer, loop.now + Self.settleTime) }
                try loop.add(watch)
                watches[folder] = Watch(folder: stamp, watch: watch)
            } catch {
                log.warning("tls", "cannot watch \(folder): \(error); looking every \(Self.pollTime.seconds) seconds")
            }
        }
    }
}

extension RuntimeListener {
    /// Why it cannot open: a chain has no certificate yet. Not even for the others of its chains: a caller of a port that asks for TLS
    /// must never be served without. Nil = it can.
    var closedBecause: String? {
        for tls in chains.compactMap(\.tls) where tls.context == nil { return tls.problem ?? "its certificate is not loaded" }
        return nil
    }
}

/// What a context is made from.
enum TLSSource: Hashable {
    case server(DownstreamTLS)
    case client(UpstreamTLS)

    private var certificate: CertificateSource? {
        switch self {
        case .server(let tls): tls.certificate
        case .client(let tls): tls.certificate
        }
    }

    private var trust: TrustSource? {
        switch self {
        case .server(let tls): tls.validation?.trust
        case .client(let tls): tls.validation?.trust
        }
    }

    /// Of a secret: `secret NAME`.
    var chainPath: String? {
        switch certificate {
        case .file(let chain, _): chain
        case .sds(let name): Secret.path(name)
        case .unresolved, nil: nil
        }
    }

    var trustPath: String? {
        switch trust {
        case .file(let path): path
        case .sds(let name): Secret.path(name)
        case .unresolved, nil: nil
        }
    }

    /// Each once.
    var files: [String] {
        var files: [String] = []
        if case .file(let chain, let key) = certificate { files = chain == key ? [chain] : [chain, key] }
        if case .file(let path) = trust, !files.contains(path) { files.append(path) }
        return files
    }

    /// The names of the secrets that it needs.
    var secrets: [String] {
        var names: [String] = []
        if case .sds(let name) = certificate { names.append(name) }
        if case .sds(let name) = trust, !names.contains(name) { names.append(name) }
        return names
    }

    /// For logs and labels: where the certificate comes from, or the trust where there is none of our own.
    var name: String {
        switch (certificate, trust) {
        case (.file(let chain, _), _): chain
        case (.sds(let name), _): Secret.path(name)
        case (.unresolved(let arn), _): arn
        case (nil, .file(let path)): path
        case (nil, .sds(let name)): Secret.path(name)
        case (nil, .unresolved(let arns)): arns.joined(separator: ",")
        case (nil, nil): "-"
        }
    }
}

/// One context, as metrics and `/certs` show it.
struct TLSReport: Sendable {
    var source: String
    var users: [String]
    /// Contexts made, and attempts that were refused.
    var loads: UInt64
    var refusals: UInt64
    /// Why the last attempt was refused; nil = what lies there is what serves.
    var problem: String?
    var isReady: Bool
    var chainPath: String
    var trustPath: String
    var chain: [TLSCertificate]
    var authorities: [TLSCertificate]
}

/// The reports of all contexts, for other threads.
final class TLSBoard: Sendable {
    private let reports = Mutex<[TLSReport]>([])

    var report: [TLSReport] { reports.withLock { $0 } }

    func publish(_ reports: [TLSReport]) {
        self.reports.withLock { $0 = reports }
    }

    /// For `StatsRegistry.addProvider`.
    ///
    /// - Parameter now: seconds since 1970.
    func scrape(into samples: inout ScrapeSamples, now: Int64) {
        var ends: [[String]: Int64] = [:]
        func note(_ certificates: [TLSCertificate], _ path: String, _ kind: String) {
            guard let end = certificates.map(\.notAfter).min() else { return }
            ends[[path, kind]] = end
        }
        // Several contexts may have one source: they count together.
        for report in report {
            samples.add(.certificateLoads, report.loads, labels: [report.source, "success"])
            samples.add(.certificateLoads, report.refusals, labels: [report.source, "failure"])
            samples.add(.certificateRefused, report.problem == nil ? 0 : 1, labels: [report.source])
            note(report.chain, report.chainPath, "certificate")
            note(report.authorities, report.trustPath, "authority")
        }
        for (labels, end) in ends { samples.add(.certificateExpiration, end, labels: labels) }
        if let first = ends.values.min() { samples.add(.daysUntilFirstCertExpiring, max(0, first - now) / 86_400) }
    }
}
