import Base
import ProxyConfig
import Reactor
import Resilience
import Telemetry

/// What the proxy is at one moment, for the pages to show. Reads no clock and no file.
struct AdminView {
    var state: ProxyState
    var now: Instant
    /// Nanoseconds from 1970 at the instant 0.
    var wallClock: Nanoseconds
    var started: Instant
    var arguments: [String]
    var snapshotPath: String
    var drainTime: Duration
    var workerCount: Int
    var logLevel: ProcessLog.Level
    var snapshot: RuntimeSnapshot?
    /// When the last worker took the snapshot over; nil = not all have.
    var appliedAt: Instant?
    /// Snapshots applied and refused since the start.
    var applications: UInt64
    var rejections: UInt64
    var rejection: (version: String, reason: String)?
    /// Listeners that wait for a certificate, and why.
    var closedListeners: [(listener: Listener, reason: String)]
    var certificates: [TLSReport]
    var registry: StatsRegistry
    var events: OutlierEventLog
    /// Nil: the configuration is a file.
    var controlPlane: ControlPlaneView?
    var overload = OverloadManager.Report()
    var checks = HealthCheckBoard()

    var clusters: [RuntimeCluster] { snapshot?.clusters ?? [] }
    var uptime: Nanoseconds { now - started }

    /// `2026-11-22T17:57:00.123Z`.
    func time(_ instant: Instant) -> String {
        Timestamp.text(instant.nanoseconds &+ wallClock.count)
    }
}

extension Supervisor {
    var adminView: AdminView {
        AdminView(
            state: state, now: loop.now, wallClock: Nanoseconds(count: Clock.realtime() - Clock.now().nanoseconds), started: started,
            arguments: CommandLine.arguments, snapshotPath: options.snapshotPath,
            drainTime: drainTime, workerCount: workerCount, logLevel: log.level, snapshot: snapshot, appliedAt: appliedAt,
            applications: applications, rejections: rejections, rejection: rejection.map { ($0.version, $0.reason) },
            closedListeners: closedListeners.map { ($0.configuration, $0.closedBecause ?? "opening") }, certificates: tls.board.report,
            registry: registry, events: outlierEvents, controlPlane: controlPlaneView, overload: overload.report, checks: healthChecks)
    }

    func perform(_ action: AdminAction) {
        switch action {
        case .drain: drain()
        case .quit:
            log.info("admin", "told to end now")
            quit()
        case .forceBreaker(let override): force(override)
        case .releaseBreaker(let target): release(target)
        case .setLogLevel(let level):
            log.level = level
            log.info("admin", "log level is now \(level)")
        }
    }
}
