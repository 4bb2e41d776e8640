public import ArgumentParser
import Base
import CertificateAuthority
import EventStore
import Foundation
import HTTP2
import HTTPServer
import Projections
import ProxyConfig
import Reactor
import Telemetry
import Transport

/// The program `outriggerd`: options, start and end.
public struct DaemonProgram: ParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "outriggerd",
        abstract: "The control plane: holds the mesh, pushes configuration to its proxies, hears their reports, answers `outrigger`.",
        discussion: """
            One port for everything: xDS v3 (ADS over gRPC), reports, the REST API, /metrics, /ready, /openapi.json.
            SIGTERM ends it; proxies keep serving what they have, and come back when it does.
            `outriggerd backup --data-dir FOLDER FILE` copies the log of a running or stopped one.
            """,
        version: MeshQueries.version)

    @Option(name: .customLong("data-dir"), help: ArgumentHelp("Where the log of events is kept.", valueName: "folder"))
    var dataDirectory: String

    @Option(help: ArgumentHelp("Where to listen. Beyond loopback TLS is needed.", valueName: "ip:port"))
    var listen: String = "127.0.0.1:15010"

    @Option(name: .customLong("tls-certificate"), help: ArgumentHelp("The server's certificate chain, PEM.", valueName: "file"))
    var certificate: String?

    @Option(name: .customLong("tls-key"), help: ArgumentHelp("Its private key, PEM.", valueName: "file"))
    var key: String?

    @Option(
        name: .customLong("client-ca"),
        help: ArgumentHelp(
            "Authorities of client certificates, PEM: a proxy with one gets its own node's configuration only.", valueName: "file"))
    var clientAuthority: String?

    @Flag(name: .customLong("require-token"), help: "Callers of the API on this machine need a token, too.")
    var requiresToken = false

    @Option(
        name: .customLong("require-identity"),
        help: ArgumentHelp(
            "From which proxies a certificate is wanted that says whose they are: always, remote (not on this machine) or never.",
            valueName: "when"))
    var proof: String = "remote"

    @Option(
        name: .customLong("lost-after"),
        help: ArgumentHelp("A proxy whose stream is lost so long is no endpoint any more.", valueName: "seconds"))
    var lostAfter: Double = 15

    @Option(name: .customLong("report-interval"), help: ArgumentHelp("How often proxies report.", valueName: "seconds"))
    var reportInterval: Double = 5

    @Option(
        name: .customLong("certificate-life"),
        help: ArgumentHelp("How long the certificates of joined proxies hold; they renew at half of it.", valueName: "seconds"))
    var certificateLife: Int64 = 86_400

    @Flag(
        name: .customLong("new-authority"),
        help: "Another root signs from this start on. The one before stays trusted until its last certificate has ended.")
    var changesAuthority = false

    @Flag(help: "Checks the whole log before starting, not only what came after the last snapshot.")
    var verify = false

    @Option(name: .customLong("log-level"), help: ArgumentHelp("trace, debug, info, warning, error or off.", valueName: "level"))
    var logLevel: String = "info"

    public init() {}

    /// Runs until told to end; does not return.
    public static func start() -> Never {
        // Not subcommands: they would need the options of the program itself.
        if CommandLine.arguments.dropFirst().first == BackupProgram.configuration.commandName {
            BackupProgram.main(Array(CommandLine.arguments.dropFirst(2)))
            Foundation.exit(0)
        }
        main(nil)
        Foundation.exit(0)
    }

    public func validate() throws {
        guard let address = SocketAddress(listen) else {
            throw ValidationError("--listen: expected IP:PORT, found \"\(listen)\"")
        }
        guard (certificate == nil) == (key == nil) else {
            throw ValidationError("--tls-certificate and --tls-key belong together")
        }
        guard address.ip.isLoopback || certificate != nil else {
            throw ValidationError("--listen \(listen): beyond loopback --tls-certificate and --tls-key are needed")
        }
        guard clientAuthority == nil || certificate != nil else {
            throw ValidationError("--client-ca means nothing without --tls-certificate and --tls-key")
        }
        guard let proof = Controller.Proof(rawValue: proof) else {
            throw ValidationError("--require-identity: expected always, remote or never, found \"\(proof)\"")
        }
        guard proof != .always || certificate != nil else {
            throw ValidationError("--require-identity always: without --tls-certificate and --tls-key no proxy can show a certificate")
        }
        guard (0.1...86400).contains(lostAfter) else {
            throw ValidationError("--lost-after: expected 0.1 through 86400, found \(lostAfter)")
        }
        guard (0.1...3600).contains(reportInterval) else {
            throw ValidationError("--report-interval: expected 0.1 through 3600, found \(reportInterval)")
        }
        guard CertificateAuthority.leafLives.contains(certificateLife) else {
            let lives = CertificateAuthority.leafLives
            throw ValidationError("--certificate-life: expected \(lives.lowerBound) through \(lives.upperBound), found \(certificateLife)")
        }
        guard ProcessLog.Level(logLevel) != nil else {
            throw ValidationError("--log-level: expected trace, debug, info, warning, error or off, found \"\(logLevel)\"")
        }
    }

    public func run() throws {
        ProcessLog.standard.level = ProcessLog.Level(logLevel) ?? .info
        if let problem = HTTP2Session.checkLibrary() {
            Log.error("main", "cannot start: \(problem)")
            throw ExitCode(1)
        }
        do {
            try serve()
        } catch let code as ExitCode {
            throw code
        } catch {
            Log.error("main", "cannot start: \(error)")
            throw ExitCode(1)
        }
    }

    private func serve() throws {
        let loop = EventLoop()
        // Before any other thread begins: they must not take signals.
        var end: () -> Void = { loop.stop() }
        try loop.add(
            try SignalSource { signal in
                switch signal {
                case .terminate: end()
                case .reload, .reopenLogs: break
                }
            })
        let store = try Workshop(name: "store", loop: loop)
        let compiler = try Workshop(name: "compiler", loop: loop)
        let log = try SQLiteEventLog(directory: dataDirectory, verifying: verify ? .whole : .sinceSnapshot)
        let journal = try Journal(log: log, store: store) { .now }
        var options = Controller.Options()
        options.lostAfter = Nanoseconds(count: Int64(lostAfter * 1e9))
        options.reportInterval = Nanoseconds(count: Int64(reportInterval * 1e9))
        options.trustsLoopback = !requiresToken
        options.proof = Controller.Proof(rawValue: proof) ?? .remote
        let lastMoment = LoopTimer { _ in loop.stop() }
        let controller = Controller(loop: loop, journal: journal, workshop: compiler, options: options)
        let authority = try CertificateAuthority(
            directory: "\(dataDirectory)/ca", leafLife: certificateLife, now: journal.now.milliseconds / 1000)
        let joins = try JoinService(controller, authority, changesRoot: changesAuthority)
        let api = APIServer(controller, joins: joins)
        let server = HTTPServer(loop: loop) { api.handle($0) }
        server.onIncident = { controller.strangers.warning("http", "\($0)") }
        let tls = try certificate.flatMap { chain in
            try key.map { try joins.serverContext(chain: chain, key: $0, clientAuthority: clientAuthority) }
        }
        let address: SocketAddress
        do throws(SystemError) {
            address = try server.listen(on: SocketAddress(listen)!, tls: tls)
        } catch {
            Log.error("main", "cannot listen on \(listen): \(error)")
            throw ExitCode(1)
        }
        end = {
            Log.info("main", "ending; the proxies keep what they have")
            controller.ads.end()
            controller.reports.end()
            server.drain { loop.stop() }
            // Followers of events would stay for ever.
            loop.setDeadline(lastMoment, loop.now + .seconds(2))
        }
        let state = journal.models
        Log.info(
            "main",
            "outriggerd \(MeshQueries.version) listens on \(address)\(tls == nil ? "" : " with TLS"): revision \(state.desired.revision), "
                + "\(state.desired.objects.count) resources, \(state.sequence) events")
        loop.run()
        loop.cancelDeadline(lastMoment)
        server.close()
        journal.close()
        withExtendedLifetime(api) {}
    }
}
