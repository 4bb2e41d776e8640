import Base
import ProxyConfig
import Reactor
import Resilience
import Telemetry
import Transport
import XDSWire

/// What is told to the control plane, made of what the proxy knows of itself.
struct NodeReportMaker {
    /// Nanoseconds from 1970 at the instant 0.
    var wallClock: Nanoseconds
    var now: Instant
    var registry: StatsRegistry
    var snapshot: RuntimeSnapshot?
    var certificates: [TLSReport]

    /// Milliseconds since 1970.
    func time(_ instant: Instant) -> Int64 {
        (instant.nanoseconds &+ wallClock.count) / 1_000_000
    }

    /// Clusters in the order of their names as far as there is room; so are endpoints.
    func clusters() -> [ClusterReport] {
        let table = registry.clusterTable()
        var room = ReportLimits.endpoints
        let clusters = (snapshot?.clusters ?? []).sorted { $0.name < $1.name }.prefix(ReportLimits.clusters)
        return clusters.map { cluster in
            let totals = table.totals(cluster.name)
            let hosts = cluster.detector.hosts(now: now).prefix(room)
            room -= hosts.count
            return ClusterReport(
                name: String(cut: cluster.name), requests: totals.completed, serverErrors: totals.serverErrors,
                grpcErrors: totals.grpcFailures, latency: ReportedHistogram(totals.latency),
                activeRequests: UInt64(clamping: totals.active),
                endpoints: hosts.map { host in
                    let counters = table.hosts.totals(cluster: cluster.name, address: "\(host.address)")
                    return EndpointReport(
                        address: "\(host.address)", requests: counters.rqTotal, errors: counters.rqError, ejection: ejection(of: host),
                        breaker: report(of: BreakerFacts(host, of: cluster, now: now)))
                }, breaker: cluster.breaker.flatMap { report(of: BreakerFacts($0.report(now: now), of: $0, now: now)) })
        }
    }

    private func ejection(of host: OutlierDetector.HostReport) -> EndpointReport.Ejection? {
        guard let until = host.ejectedUntil else { return nil }
        return EndpointReport.Ejection(
            since: time(host.lastAction ?? now), until: time(until),
            reason: (host.lastReason ?? .consecutiveErrors).rawValue)
    }

    private func report(of facts: BreakerFacts) -> BreakerReport? {
        guard !facts.isClosed else { return nil }
        return BreakerReport(
            state: facts.state.phase.name, reason: facts.reason ?? "", since: facts.since.map(time) ?? 0, until: facts.until.map(time) ?? 0,
            closes: facts.closes ?? "")
    }

    /// The newest, as far as there is room.
    func events(_ events: [OutlierEvent]) -> [OutlierEventReport] {
        events.suffix(ReportLimits.outlierEvents).map { event in
            OutlierEventReport(
                at: time(event.instant), cluster: String(cut: event.cluster), endpoint: event.host.map { "\($0.address)" } ?? "",
                action: event.action.rawValue, reason: event.reason.rawValue, ejections: UInt64(event.host?.ejections ?? 0),
                ejectedFor: event.host?.ejectionTime?.milliseconds ?? 0)
        }
    }

    /// Ours, with the first end of each chain.
    func certificateReports() -> [CertificateReport] {
        var ends: [String: Int64] = [:]
        for report in certificates {
            guard let end = report.chain.map(\.notAfter).min() else { continue }
            ends[report.chainPath] = min(end, ends[report.chainPath] ?? .max)
        }
        return ends.sorted { $0.key < $1.key }.prefix(ReportLimits.certificates).map {
            CertificateReport(name: String(cut: $0.key), notAfter: $0.value * 1000)
        }
    }

    func process() -> ProcessReport {
        ProcessReport(
            residentMemory: UInt64(clamping: ProcessProbe.residentBytes() ?? 0), cpuSeconds: ProcessProbe.processorSeconds(),
            openConnections: UInt64(clamping: registry.clusterTable().downstreamConnections))
    }
}

extension String {
    /// As much of it as a report may hold.
    init(cut text: String) {
        self = text.utf8.count <= ReportLimits.text ? text : Self(decoding: text.utf8.prefix(ReportLimits.text - 3), as: UTF8.self) + "..."
        // Half a character at the end became one of three bytes.
        while utf8.count > ReportLimits.text { removeLast() }
    }
}

extension ReportedHistogram {
    init(_ reading: HistogramReading) {
        self.init(
            lowestExponent: reading.range.lowestExponent, buckets: reading.buckets, sum: reading.sum, largest: reading.largest)
    }
}
