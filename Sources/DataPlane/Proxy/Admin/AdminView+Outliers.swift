import Base
import ConfigText
import ProxyConfig
import Resilience

/// `/outliers`: who is out, for how long, and why.
extension AdminView {
    func outliers() -> AdminResponse {
        var text = ""
        for cluster in clusters where cluster.configuration.outlierDetection != nil { text += section(cluster) + "\n" }
        for cluster in clusters { text += checkSection(cluster) }
        let others = clusters.filter { $0.configuration.outlierDetection == nil }.map(\.name)
        if !others.isEmpty { text += "Without outlier detection: \(others.joined(separator: ", "))\n\n" }
        return AdminResponse(text + eventList())
    }

    private func section(_ cluster: RuntimeCluster) -> String {
        guard let rules = cluster.configuration.outlierDetection else { return "" }
        let statistics = cluster.detector.statistics
        let hosts = cluster.detector.hosts
        let base = Words.span(Nanoseconds(rules.baseEjectionTime))
        let longest = Words.span(Nanoseconds(rules.maxEjectionTime))
        let sweep = cluster.detector.nextSweep - now
        let panic = cluster.detector.panickingPriorities
        var text = """
            \(cluster.name)
              rule        \(Words.count(rules.consecutive5xx, "error")) in a row \(rules.consecutive5xx == 1 ? "ejects" : "eject") \
            for \(base) times the recent ejections, at most \(longest); at most \(rules.maxEjectionPercent) % of the endpoints
              now         \(statistics.active) of \(Words.count(hosts.count, "endpoint")) ejected; \
            next sweep in \(Words.span(max(.zero, sweep))), then every \(Words.span(Nanoseconds(rules.interval)))
              since start \(statistics.detected) detected, \(statistics.enforced) ejected, \(statistics.overflow) refused by the percentage

            """
        if !panic.isEmpty {
            let priorities = panic.map(String.init).joined(separator: ", ")
            text += "  PANIC       too few endpoints are available in priority \(priorities): requests go to ejected ones too\n"
        }
        guard !hosts.isEmpty else { return text + "  no endpoints\n" }
        var table = TextTable([.left, .left, .right, .right, .right, .right, .left], indent: "  ")
        table.add(["ENDPOINT", "STATE", "ERRORS", "EJECTIONS", "MULTIPLIER", "LAST CHANGE", "LAST OUTCOMES, NEWEST LAST"])
        for host in hosts {
            let state = host.ejectedUntil.map { "ejected, back in \(Words.span(max(.zero, cluster.returns(after: $0) - now)))" } ?? "in"
            table.add([
                "\(host.address)", state, "\(host.consecutiveErrors)", "\(host.ejections)", "\(host.multiplier)",
                host.lastAction.map { "\(Words.span(now - $0)) ago" } ?? "never",
                host.lastOutcomes.isEmpty ? "-" : host.lastOutcomes.joined(separator: " "),
            ])
        }
        return text + table.text
    }

    /// What active health checks say of a cluster's endpoints; empty where there are none.
    private func checkSection(_ cluster: RuntimeCluster) -> String {
        guard let report = checks.clusters[cluster.name] else { return "" }
        let hosts = cluster.hosts.hosts
        let failing = hosts.count { $0.health.isFailingChecks }
        var text = """
            \(cluster.name): health checks
              rule        \(report.check.words)
              now         \(failing) of \(Words.count(hosts.count, "endpoint")) failing
              since start \(report.counts.attempts) begun, \(report.counts.successes) passed, \(report.counts.failures) failed

            """
        guard !hosts.isEmpty else { return text + "\n" }
        var table = TextTable([.left, .left, .left, .right, .right], indent: "  ")
        table.add(["ENDPOINT", "STATE", "LAST CHECK", "TOOK", "WHEN"])
        for host in hosts {
            let last = report.hosts[host.address]?.last
            table.add([
                host.label, host.health.checks.words, last?.seen ?? "-", last.map { Words.span($0.elapsed) } ?? "-",
                last.map { "\(Words.span(now - $0.at)) ago" } ?? "never",
            ])
        }
        text += table.text
        return text + "\n"
    }

    /// The newest first: it is what one looks for.
    private func eventList() -> String {
        let events = events.recent
        guard !events.isEmpty else { return "No events since the start.\n" }
        var table = TextTable([.left, .left, .left, .left, .left, .left])
        table.add(["TIME", "ACTION", "CLUSTER", "ENDPOINT", "REASON", "DETAILS"])
        for event in events.reversed() {
            table.add([
                time(event.instant), event.action.rawValue, event.cluster, event.place, event.reason.rawValue, event.details,
            ])
        }
        return "Last \(Words.count(events.count, "event")), newest first (at most \(OutlierEventLog.recentCapacity) are kept):\n"
            + table.text
    }

    func outliersJSON() -> AdminResponse {
        let list = Document.list(clusters.filter { $0.configuration.outlierDetection != nil }.map(document))
        var response = AdminResponse()
        response.contentType = AdminResponse.json
        response.body.append("{\"clusters\":")
        response.body.append(JSONWriter.write(list))
        response.body.append(",\"health_checks\":")
        response.body.append(JSONWriter.write(.list(clusters.compactMap(checkDocument))))
        response.body.append(",\"events\":[")
        for (index, event) in events.recent.enumerated() {
            response.body.append(index == 0 ? "\n" : ",\n")
            event.writeJSON(into: &response.body, wallClock: wallClock)
        }
        response.body.append("]}\n")
        return response
    }

    private func checkDocument(_ cluster: RuntimeCluster) -> Document? {
        guard let report = checks.clusters[cluster.name] else { return nil }
        return .entries([
            "name": .text(cluster.name), "attempt": .number(report.counts.attempts), "success": .number(report.counts.successes),
            "failure": .number(report.counts.failures), "network_failure": .number(report.counts.networkFailures),
            "hosts": .list(
                cluster.hosts.hosts.map { host in
                    let last = report.hosts[host.address]?.last
                    return .entries([
                        "address": .text(host.label), "state": .text(host.health.checks.words),
                        "contrary": .number(report.hosts[host.address]?.contrary ?? 0),
                        "last_check": last.map { .text($0.seen) }, "last_check_at": last.map { .text(time($0.at)) },
                        "last_check_ms": last.map { .number(UInt64(clamping: $0.elapsed.milliseconds)) },
                    ])
                }),
        ])
    }

    private func document(_ cluster: RuntimeCluster) -> Document {
        let rules = cluster.configuration.outlierDetection
        return .entries([
            "name": .text(cluster.name),
            "outlier_detection": rules.map { rules in
                .entries([
                    "consecutive_5xx": .number(rules.consecutive5xx), "interval": .text(duration(rules.interval)),
                    "base_ejection_time": .text(duration(rules.baseEjectionTime)),
                    "max_ejection_time": .text(duration(rules.maxEjectionTime)),
                    "max_ejection_percent": .number(rules.maxEjectionPercent),
                    "enforcing_consecutive_5xx": .number(rules.enforcingPercent),
                ])
            },
            "next_sweep": cluster.detector.nextSweep == .never ? nil : .text(time(cluster.detector.nextSweep)),
            "panicking_priorities": .list(cluster.detector.panickingPriorities.map { .number($0) }),
            "statistics": .map(cluster.detector.statistics.named.map { ("\($0.name)", .number($0.value)) }),
            "hosts": .list(
                cluster.detector.hosts.map { host in
                    .entries([
                        "address": .text("\(host.address)"), "ejected": .flag(host.ejectedUntil != nil),
                        "ejected_until": host.ejectedUntil.map { .text(time($0)) },
                        "returns_at": host.ejectedUntil.map { .text(time(cluster.returns(after: $0))) },
                        "consecutive_errors": .number(host.consecutiveErrors), "ejections": .number(host.ejections),
                        "multiplier": .number(host.multiplier), "last_action": host.lastAction.map { .text(time($0)) },
                        "last_outcomes": .list(host.lastOutcomes.map { .text($0) }),
                    ])
                }),
        ])
    }
}

extension HostHealth.Checks {
    fileprivate var words: String {
        switch self {
        case .none: "not checked yet"
        case .waiting: "waiting for its first check"
        case .passing: "passing"
        case .failing: "failing"
        }
    }
}

extension RuntimeCluster {
    /// The first sweep from `end` of the ejection on: endpoints return only there.
    fileprivate func returns(after end: Instant) -> Instant {
        let next = detector.nextSweep
        guard let interval = configuration.outlierDetection.map({ Nanoseconds($0.interval).count }), interval > 0, end > next else {
            return max(end, next)
        }
        let sweeps = ((end - next).count + interval - 1) / interval
        return next + Nanoseconds(count: sweeps * interval)
    }
}

extension OutlierEvent {
    fileprivate var place: String {
        switch subject {
        case .host(let host): "\(host.address)"
        case .priority(let priority, _, _): "priority \(priority)"
        case .service: "the service"
        }
    }

    fileprivate var details: String {
        switch subject {
        case .host(let host):
            if let seen = host.seen { return seen }
            var facts: [String] = []
            if let time = host.ejectionTime { facts.append("for \(Words.span(time)), ejection \(host.ejections)") }
            if host.refusals > 1 { facts.append("\(host.refusals) refusals") }
            if action != .uneject { facts.append("after \(host.lastOutcomes.joined(separator: " "))") }
            return facts.joined(separator: "; ")
        case .priority(_, let available, let total): return "\(available) of \(Words.count(total, "endpoint")) available"
        case .service(let phase): return "breaker \(phase.name)"
        }
    }
}
