/// Metrics whose values are kept elsewhere and asked for at each scrape.
public enum ScrapeMetric: Int, CaseIterable, Sendable {
    // Labelled by cluster.
    case membershipTotal
    case membershipHealthy
    case membershipExcluded
    case membershipChange
    case updateAttempt
    case updateSuccess
    case updateFailure
    case ejectionsActive
    case ejectionsEnforcedTotal
    case ejectionsOverflow
    case ejectionsDetectedConsecutive5xx
    case ejectionsEnforcedConsecutive5xx
    case ejectionsDetectedConsecutiveGatewayFailure
    case ejectionsEnforcedConsecutiveGatewayFailure
    case ejectionsDetectedSuccessRate
    case ejectionsEnforcedSuccessRate
    case ejectionsDetectedConsecutiveLocalOriginFailure
    case ejectionsEnforcedConsecutiveLocalOriginFailure
    case ejectionsDetectedLocalOriginSuccessRate
    case ejectionsEnforcedLocalOriginSuccessRate
    case ejectionsDetectedFailurePercentage
    case ejectionsEnforcedFailurePercentage
    case ejectionsDetectedLocalOriginFailurePercentage
    case ejectionsEnforcedLocalOriginFailurePercentage
    case ejectionsTotal
    case ejectionsConsecutive5xx
    case panicActive
    case healthCheckAttempt
    case healthCheckSuccess
    case healthCheckFailure
    case healthCheckNetworkFailure
    case healthCheckPassiveFailure
    case healthCheckVerifyCluster
    case healthCheckHealthy
    // Labelled by name and lookup family.
    case dnsAddresses
    case dnsStale
    case dnsAge
    case dnsLookupsTotal
    case dnsFailuresTotal
    // Labelled by cluster and address.
    case hostEjected
    case hostEjectionsTotal
    case hostWeight
    case hostFailingChecks
    case hostCheckSeconds
    // The process.
    case serverLive
    case serverState
    case serverUptime
    case serverConcurrency
    case serverMemoryAllocated
    case serverMemoryPhysicalSize
    case serverTotalConnections
    case openDescriptors
    case watchdogMiss
    case watchdogMegaMiss
    // Overload; by resource.
    case overloadLevel
    case overloadEscalations
    case overloadUsed
    case overloadLimit
    case overloadPressure
    case buildInfo
    case activeClusters
    case warmingClusters
    case activeListeners
    case warmingListeners
    case drainingListeners
    // The configuration.
    case configVersionInfo
    case configAge
    case configAppliedTotal
    case configRejectedTotal
    case configFromDisk
    case configUnconfirmed
    case xdsConnected
    case xdsConnectionAttempts
    case xdsConnectionFailures
    case xdsUpdates
    case cdsUpdateSuccess
    case cdsUpdateRejected
    case ldsUpdateSuccess
    case ldsUpdateRejected
    // Certificates.
    case daysUntilFirstCertExpiring
    case certificateExpiration
    case certificateRefused
    case certificateLoads
    // This module.
    case labelOverflowTotal
    case logBytesTotal
    case logDroppedLinesTotal
    case logWriteErrorsTotal

    enum Kind: Sendable {
        case counter
        case gauge
    }

    struct Description: Sendable {
        /// The family's name in Prometheus.
        var family: String
        var kind: Kind
        var labels: [String]
        /// What stands in /stats: `{}` for each label's value in turn.
        var stat: String
        var help: String
    }

    /// Made once: a scrape asks ten thousand times.
    private static let descriptions = allCases.map(\.made)

    var description: Description { Self.descriptions[rawValue] }

    /// The metric of a cluster that is `cluster.NAME.<stat>` in /stats; nil if there is none.
    public init?(clusterStat stat: String) {
        guard let metric = Self.allCases.first(where: { $0.description.stat == "cluster.{}.\(stat)" }) else { return nil }
        self = metric
    }

    private var made: Description {
        switch self {
        case .membershipTotal: cluster("membership_total", .gauge, "Endpoints of the cluster.")
        case .membershipHealthy: cluster("membership_healthy", .gauge, "Endpoints that may be picked.")
        case .membershipExcluded: cluster("membership_excluded", .gauge, "Endpoints left out of balancing, ejected ones not counted.")
        case .membershipChange: cluster("membership_change", .counter, "Changes of the set of endpoints.")
        case .updateAttempt: cluster("update_attempt", .counter, "Lookups of the cluster's endpoints.")
        case .updateSuccess: cluster("update_success", .counter, "Lookups that gave an answer.")
        case .updateFailure: cluster("update_failure", .counter, "Lookups that failed; the last answer is kept.")
        case .ejectionsActive: cluster("outlier_detection.ejections_active", .gauge, "Endpoints ejected now.")
        case .ejectionsEnforcedTotal: cluster("outlier_detection.ejections_enforced_total", .counter, "Ejections.")
        case .ejectionsOverflow: cluster("outlier_detection.ejections_overflow", .counter, "Ejections refused by maxEjectionPercent.")
        case .ejectionsDetectedConsecutive5xx:
            cluster("outlier_detection.ejections_detected_consecutive_5xx", .counter, "Times an endpoint had its Nth error in a row.")
        case .ejectionsEnforcedConsecutive5xx:
            cluster("outlier_detection.ejections_enforced_consecutive_5xx", .counter, "Ejections for errors in a row.")
        case .ejectionsDetectedConsecutiveGatewayFailure: absent("detected_consecutive_gateway_failure")
        case .ejectionsEnforcedConsecutiveGatewayFailure: absent("enforced_consecutive_gateway_failure")
        case .ejectionsDetectedSuccessRate: absent("detected_success_rate")
        case .ejectionsEnforcedSuccessRate: absent("enforced_success_rate")
        case .ejectionsDetectedConsecutiveLocalOriginFailure: absent("detected_consecutive_local_origin_failure")
        case .ejectionsEnforcedConsecutiveLocalOriginFailure: absent("enforced_consecutive_local_origin_failure")
        case .ejectionsDetectedLocalOriginSuccessRate: absent("detected_local_origin_success_rate")
        case .ejectionsEnforcedLocalOriginSuccessRate: absent("enforced_local_origin_success_rate")
        case .ejectionsDetectedFailurePercentage: absent("detected_failure_percentage")
        case .ejectionsEnforcedFailurePercentage: absent("enforced_failure_percentage")
        case .ejectionsDetectedLocalOriginFailurePercentage: absent("detected_local_origin_failure_percentage")
        case .ejectionsEnforcedLocalOriginFailurePercentage: absent("enforced_local_origin_failure_percentage")
        case .ejectionsTotal:
            cluster("outlier_detection.ejections_total", .counter, "Envoy's deprecated name: runs detected, those refused not counted.")
        case .ejectionsConsecutive5xx:
            cluster("outlier_detection.ejections_consecutive_5xx", .counter, "The same as ejections_total.")
        case .panicActive:
            Description(
                family: "outrigger_panic_active", kind: .gauge, labels: ["cluster"], stat: "cluster.{}.panic_active",
                help: "1 while health is ignored because too few endpoints are left.")
        case .healthCheckAttempt: cluster("health_check.attempt", .counter, "Active health checks begun.")
        case .healthCheckSuccess: cluster("health_check.success", .counter, "Active health checks that passed.")
        case .healthCheckFailure: cluster("health_check.failure", .counter, "Active health checks that failed, for whatever reason.")
        case .healthCheckNetworkFailure:
            cluster("health_check.network_failure", .counter, "Of the failed checks: no connection, or no whole answer in time.")
        case .healthCheckPassiveFailure:
            cluster("health_check.passive_failure", .counter, "0: requests are outlier detection's business.")
        case .healthCheckVerifyCluster:
            cluster("health_check.verify_cluster", .counter, "0: the name of the service is not compared.")
        case .healthCheckHealthy: cluster("health_check.healthy", .gauge, "Endpoints that do not fail their active health checks.")
        case .dnsAddresses: dns("addresses", .gauge, "Addresses that stand for the name.")
        case .dnsStale: dns("stale", .gauge, "1 while lookups fail and the last good answer is kept.")
        case .dnsAge: dns("age_seconds", .gauge, "Seconds since the last good answer.")
        case .dnsLookupsTotal: dns("lookups_total", .counter, "Lookups that came to an end.")
        case .dnsFailuresTotal: dns("failures_total", .counter, "Lookups that failed, by reason.", labels: ["name", "family", "reason"])
        case .hostEjected: host("ejected", .gauge, "1 while the endpoint is ejected.")
        case .hostEjectionsTotal: host("ejections_total", .counter, "Ejections of the endpoint.")
        case .hostWeight: host("weight", .gauge, "Weight of the endpoint in balancing.")
        case .hostFailingChecks: host("failing_checks", .gauge, "1 while the endpoint fails its active health checks, or is new and waits.")
        case .hostCheckSeconds: host("check_seconds", .gauge, "How long the endpoint's last active health check took.")
        case .serverLive: server("live", .gauge, "1 while the proxy serves, 0 while it drains.")
        case .serverState: server("state", .gauge, "0 live, 1 draining, 2 pre-initializing, 3 initializing.")
        case .serverUptime: server("uptime", .gauge, "Seconds since the start.")
        case .serverConcurrency: server("concurrency", .gauge, "Workers.")
        case .serverMemoryAllocated: server("memory_allocated", .gauge, "Bytes of heap in use.")
        case .serverMemoryPhysicalSize: server("memory_physical_size", .gauge, "Bytes of resident memory.")
        case .serverTotalConnections: server("total_connections", .gauge, "Connections of callers open.")
        case .openDescriptors: own("process_open_fds", .gauge, [], "server.open_fds", "File descriptors open.")
        case .watchdogMiss:
            server("watchdog_miss", .counter, "Times that a worker was seen in one turn of its loop for half a second or more.")
        case .watchdogMegaMiss: server("watchdog_mega_miss", .counter, "The same, for 2 seconds or more: each has a stack in the log.")
        case .overloadLevel:
            own(
                "overload_level", .gauge, [], "overload.level",
                "0 normal, 1 closing idle connections, 2 ending keep-alive, 3 refusing requests, 4 resetting streams.")
        case .overloadEscalations:
            own("overload_escalations_total", .counter, [], "overload.escalations", "Times that a higher level of overload began.")
        case .overloadUsed:
            own("overload_used", .gauge, ["resource"], "overload.{}.used", "Descriptors, or bytes of memory, in use.")
        case .overloadLimit:
            own("overload_limit", .gauge, ["resource"], "overload.{}.limit", "How many there are for traffic.")
        case .overloadPressure:
            own("overload_pressure_percent", .gauge, ["resource"], "overload.{}.pressure_percent", "Part of the limit that is in use.")
        case .buildInfo: own("build_info", .gauge, ["version"], "server.build.{}", "1; the label tells the version.")
        case .activeClusters: manager("cluster_manager.active_clusters", "Clusters that serve.")
        case .warmingClusters: manager("cluster_manager.warming_clusters", "Clusters that wait for their endpoints.")
        case .activeListeners: manager("listener_manager.total_listeners_active", "Listeners that accept.")
        case .warmingListeners:
            manager("listener_manager.total_listeners_warming", "Listeners that stay closed until their certificate is there.")
        case .drainingListeners: manager("listener_manager.total_listeners_draining", "Listeners that finish what is open.")
        case .configVersionInfo:
            own("config_version_info", .gauge, ["version"], "config.version.{}", "1; the label tells the snapshot that is applied.")
        case .configAge: own("config_age_seconds", .gauge, [], "config.age_seconds", "Seconds since the snapshot was applied.")
        case .configAppliedTotal: own("config_applied_total", .counter, [], "config.applied", "Snapshots applied.")
        case .configRejectedTotal:
            own("config_rejected_total", .counter, ["kind"], "config.rejected.{}", "Snapshots refused, by kind of the resource at fault.")
        case .configFromDisk:
            own(
                "config_from_disk", .gauge, [], "config.from_disk",
                "1 while what runs was kept by an earlier process, and the control plane has not confirmed it.")
        case .configUnconfirmed:
            own(
                "config_unconfirmed_seconds", .gauge, [], "config.unconfirmed_seconds",
                "Seconds since the control plane last said that what runs is what it wants.")
        case .xdsConnected:
            Description(
                family: "envoy_control_plane_connected_state", kind: .gauge, labels: [], stat: "control_plane.connected_state",
                help: "1 while the control plane is connected and answers.")
        case .xdsConnectionAttempts:
            own(
                "xds_connection_attempts_total", .counter, [], "control_plane.connection_attempts",
                "Connections begun to the control plane.")
        case .xdsConnectionFailures:
            own(
                "xds_connection_failures_total", .counter, [], "control_plane.connection_failures",
                "Attempts and connections to the control plane that ended.")
        case .xdsUpdates:
            own(
                "xds_updates_total", .counter, ["type", "result"], "control_plane.updates.{}.{}",
                "Responses of the control plane, by type of resource; result: accepted (ACK) or rejected (NACK).")
        case .cdsUpdateSuccess: update("cluster_manager.cds.update_success", "Responses with clusters that were accepted.")
        case .cdsUpdateRejected: update("cluster_manager.cds.update_rejected", "Responses with clusters that were refused.")
        case .ldsUpdateSuccess: update("listener_manager.lds.update_success", "Responses with listeners that were accepted.")
        case .ldsUpdateRejected: update("listener_manager.lds.update_rejected", "Responses with listeners that were refused.")
        case .daysUntilFirstCertExpiring:
            server("days_until_first_cert_expiring", .gauge, "Days until the first of all certificates ends, trusted ones too.")
        case .certificateExpiration:
            own(
                "certificate_expiration_timestamp_seconds", .gauge, ["path", "kind"], "tls.{}.{}.expiration_unix_time_seconds",
                "When the first certificate of a file ends, in seconds since 1970; kind: certificate (ours) or authority (trusted).")
        case .certificateRefused:
            own(
                "certificate_refused", .gauge, ["source"], "tls.{}.refused",
                "1 while what lies in the files cannot be used: what was there before serves, or nothing.")
        case .certificateLoads:
            own(
                "certificate_loads_total", .counter, ["source", "result"], "tls.{}.loads.{}",
                "Certificates, keys and trust taken from their files (success), or refused (failure).")
        case .labelOverflowTotal:
            own(
                "label_overflow_total", .counter, ["kind"], "stats.label_overflow.{}",
                "Times a thing got no series of its own because there were too many.")
        case .logBytesTotal: own("log_bytes_total", .counter, ["path"], "log.{}.bytes", "Bytes written to a log file.")
        case .logDroppedLinesTotal:
            own("log_dropped_lines_total", .counter, ["path"], "log.{}.dropped_lines", "Lines lost because the file could not take them.")
        case .logWriteErrorsTotal:
            own("log_write_errors_total", .counter, ["path"], "log.{}.write_errors", "Failed opens and writes of a log file.")
        }
    }

    private func cluster(_ name: String, _ kind: Kind, _ help: String) -> Description {
        Description(
            family: "envoy_cluster_" + Self.underscored(name), kind: kind, labels: ["envoy_cluster_name"], stat: "cluster.{}." + name,
            help: help)
    }

    /// A counter of a detector that we do not have, for dashboards that ask for it.
    private func absent(_ name: String) -> Description {
        cluster("outlier_detection.ejections_" + name, .counter, "0: a detector that is not in this release.")
    }

    private func host(_ name: String, _ kind: Kind, _ help: String) -> Description {
        Description(
            family: "outrigger_host_" + name, kind: kind, labels: ["cluster", "address"], stat: "cluster.{}.host.{}." + name, help: help)
    }

    private func dns(_ name: String, _ kind: Kind, _ help: String, labels: [String] = ["name", "family"]) -> Description {
        Description(
            family: "outrigger_dns_" + name, kind: kind, labels: labels,
            stat: "dns.{}.{}." + (labels.count > 2 ? name + ".{}" : name), help: help)
    }

    private func server(_ name: String, _ kind: Kind, _ help: String) -> Description {
        Description(family: "envoy_server_" + name, kind: kind, labels: [], stat: "server." + name, help: help)
    }

    private func update(_ name: String, _ help: String) -> Description {
        Description(family: "envoy_" + Self.underscored(name), kind: .counter, labels: [], stat: name, help: help)
    }

    private func manager(_ name: String, _ help: String) -> Description {
        Description(family: "envoy_" + Self.underscored(name), kind: .gauge, labels: [], stat: name, help: help)
    }

    private func own(_ name: String, _ kind: Kind, _ labels: [String], _ stat: String, _ help: String) -> Description {
        Description(family: "outrigger_" + name, kind: kind, labels: labels, stat: stat, help: help)
    }

    private static func underscored(_ name: String) -> String {
        String(name.map { $0 == "." ? "_" : $0 })
    }
}

/// What the providers of one scrape have said.
public struct ScrapeSamples: Sendable {
    /// By metric and the values of its labels.
    private(set) var values = [[[String]: Double]](repeating: [:], count: ScrapeMetric.allCases.count)

    init() {}

    /// Values for the same labels add up, so that several workers may each give their part.
    ///
    /// - Parameter labels: the values of the metric's labels, in the order of docs/metrics.md. Beyond
    ///   `StatsRegistry.labelSetLimit` label sets of one metric the rest is left out.
    public mutating func add(_ metric: ScrapeMetric, _ value: some BinaryInteger, labels: [String] = []) {
        add(metric, Double(value), labels: labels)
    }

    public mutating func add(_ metric: ScrapeMetric, _ value: Double, labels: [String] = []) {
        precondition(labels.count == metric.description.labels.count, "\(metric) takes labels \(metric.description.labels), got \(labels)")
        guard values[metric.rawValue].count < StatsRegistry.labelSetLimit || values[metric.rawValue][labels] != nil else { return }
        values[metric.rawValue][labels, default: 0] += value
    }

    subscript(metric: ScrapeMetric) -> [[String]: Double] { values[metric.rawValue] }
}
