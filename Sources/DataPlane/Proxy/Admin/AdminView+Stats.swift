import Base
import ProxyConfig
import Resilience
import Routing
import Telemetry

/// `/stats` and `/metrics`.
extension AdminView {
    func stats(_ request: AdminRequest) -> AdminResponse {
        if request["format"] == "prometheus" { return prometheus(request) }
        var response = AdminResponse()
        var format = StatsText.Format.text
        switch request["format"] {
        case nil, "", "text": break
        case "json":
            format = .json
            response.contentType = AdminResponse.json
        default: return AdminResponse(status: 400, "format: expected text, json or prometheus, found another word\n")
        }
        var matches: ((String) -> Bool)?
        if let filter = request["filter"], !filter.isEmpty {
            do {
                // Envoy's filter is found anywhere in a name; ours matches whole texts.
                let pattern = try LinearRegex(".*(?:\(filter)).*")
                matches = { name in pattern.matches(Array(name.utf8).span) }
            } catch {
                return AdminResponse(status: 400, "filter: expected an RE2 pattern: \(error)\n")
            }
        }
        StatsText.encode(scrape(), format: format, isUsedOnly: request.flag("usedonly"), matches: matches, into: &response.body)
        return response
    }

    func prometheus(_ request: AdminRequest) -> AdminResponse {
        var profile = MetricProfile.all
        if let words = request["profile"], !words.isEmpty {
            profile = []
            for word in words.split(separator: ",") {
                switch word {
                case "native": profile.insert(.native)
                case "envoy": profile.insert(.envoy)
                case "appmesh": profile.insert(.appMesh)
                default: return AdminResponse(status: 400, "profile: expected native, envoy, appmesh, or several with commas\n")
                }
            }
        }
        var response = AdminResponse()
        response.contentType = "\(PrometheusText.contentType)"
        PrometheusText.encode(scrape(), profile: profile, into: &response.body)
        return response
    }

    private func scrape() -> Scrape {
        registry.scrape(now: now) { samples in
            addServer(to: &samples)
            addConfiguration(to: &samples)
            for cluster in clusters { add(cluster, to: &samples) }
        }
    }

    private func addServer(to samples: inout ScrapeSamples) {
        samples.add(.serverLive, state == .live ? 1 : 0)
        // The numbers of envoy.admin.v3.ServerInfo.State.
        samples.add(.serverState, state == .live ? 0 : state == .draining ? 1 : 3)
        samples.add(.serverUptime, uptime.count / 1_000_000_000)
        samples.add(.serverConcurrency, workerCount)
        samples.add(.buildInfo, 1, labels: [ProxyProgram.version])
        samples.add(.serverMemoryAllocated, MemoryReport.allocatedBytes)
        let listeners = snapshot?.listeners.count ?? 0
        samples.add(.activeListeners, state == .draining ? 0 : listeners)
        samples.add(.drainingListeners, state == .draining ? listeners : 0)
        samples.add(.warmingListeners, closedListeners.count)
        let warming = clusters.count { !$0.hosts.isResolved }
        samples.add(.activeClusters, clusters.count - warming)
        samples.add(.warmingClusters, warming)
    }

    private func addConfiguration(to samples: inout ScrapeSamples) {
        if let snapshot { samples.add(.configVersionInfo, 1, labels: [snapshot.version]) }
        if let appliedAt { samples.add(.configAge, (now - appliedAt).seconds) }
        samples.add(.configAppliedTotal, applications)
        samples.add(.configRejectedTotal, rejections, labels: ["snapshot"])
        controlPlane?.add(to: &samples)
    }

    private func add(_ cluster: RuntimeCluster, to samples: inout ScrapeSamples) {
        let hosts = cluster.hosts.hosts
        samples.add(.membershipTotal, hosts.count, labels: [cluster.name])
        samples.add(.membershipHealthy, hosts.count { $0.health.isRoutable }, labels: [cluster.name])
        samples.add(.panicActive, cluster.detector.panickingPriorities.isEmpty ? 0 : 1, labels: [cluster.name])
        for host in hosts {
            samples.add(.hostEjected, host.health.isEjected ? 1 : 0, labels: [cluster.name, host.label])
            samples.add(.hostWeight, host.weight, labels: [cluster.name, host.label])
        }
        // As in Envoy, what follows is there only where the cluster has checks, and a detector.
        if let report = checks.clusters[cluster.name] { add(report, hosts, cluster.name, to: &samples) }
        guard cluster.configuration.outlierDetection != nil else { return }
        for (metric, stat) in zip(ScrapeMetric.outlierDetection, cluster.detector.statistics.named) {
            samples.add(metric, stat.value, labels: [cluster.name])
        }
        for host in cluster.detector.hosts {
            samples.add(.hostEjectionsTotal, host.ejections, labels: [cluster.name, "\(host.address)"])
        }
    }

    private func add(_ report: HealthCheckBoard.ClusterReport, _ hosts: [Host], _ cluster: String, to samples: inout ScrapeSamples) {
        samples.add(.healthCheckAttempt, report.counts.attempts, labels: [cluster])
        samples.add(.healthCheckSuccess, report.counts.successes, labels: [cluster])
        samples.add(.healthCheckFailure, report.counts.failures, labels: [cluster])
        samples.add(.healthCheckNetworkFailure, report.counts.networkFailures, labels: [cluster])
        samples.add(.healthCheckPassiveFailure, 0, labels: [cluster])
        samples.add(.healthCheckVerifyCluster, 0, labels: [cluster])
        samples.add(.healthCheckHealthy, hosts.count { !$0.health.isFailingChecks }, labels: [cluster])
        for host in hosts {
            samples.add(.hostFailingChecks, host.health.isFailingChecks ? 1 : 0, labels: [cluster, host.label])
            guard let last = report.hosts[host.address]?.last else { continue }
            samples.add(.hostCheckSeconds, last.elapsed.seconds, labels: [cluster, host.label])
        }
    }
}

extension ScrapeMetric {
    /// The metrics of `OutlierDetector.Statistics.named`, in its order.
    fileprivate static let outlierDetection: [ScrapeMetric] = OutlierDetector.Statistics(active: 0, detected: 0, enforced: 0, overflow: 0)
        .named.map { stat in
            guard let metric = ScrapeMetric(clusterStat: "outlier_detection.\(stat.name)") else {
                preconditionFailure("no metric for outlier_detection.\(stat.name)")
            }
            return metric
        }
}
