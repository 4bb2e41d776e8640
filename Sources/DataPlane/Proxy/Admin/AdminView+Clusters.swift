import Base
import ConfigText
import ProxyConfig
import Resilience
import Telemetry

/// `/clusters`, in Envoy's two forms: people grep them, scripts read them.
extension AdminView {
    /// `cluster::key::value` and `cluster::address::key::value`.
    func clustersText() -> AdminResponse {
        var response = AdminResponse()
        let totals = registry.hostTable()
        for cluster in clusters { response.body.append(cluster, totals, checks.clusters[cluster.name]) }
        return response
    }

    /// envoy.admin.v3.Clusters.
    func clustersJSON() -> AdminResponse {
        let totals = registry.hostTable()
        return AdminResponse(
            .entries([
                "cluster_statuses": .list(
                    clusters.map { cluster in
                        .entries([
                            "name": .text(cluster.name), "observability_name": .text(cluster.name), "added_via_api": .flag(true),
                            "eds_service_name": cluster.configuration.edsServiceName.map { .text($0) },
                            "host_statuses": .nonEmpty(
                                cluster.hosts.hosts.map { $0.status(totals.totals(cluster: cluster.name, address: $0.label)) }),
                            "circuit_breakers": .entries(["thresholds": .list([cluster.configuration.circuitBreakers.thresholds])]),
                        ])
                    })
            ]))
    }
}

extension ByteBuffer {
    fileprivate mutating func append(_ cluster: RuntimeCluster, _ totals: HostTable, _ checks: HealthCheckBoard.ClusterReport?) {
        let name = Array("\(cluster.name)::".utf8)
        let configuration = cluster.configuration
        line(name, "observability_name", cluster.name)
        line(name, "default_priority::max_connections", limit(configuration.circuitBreakers.maxConnections))
        line(name, "default_priority::max_pending_requests", limit(configuration.circuitBreakers.maxPendingRequests))
        line(name, "default_priority::max_requests", limit(configuration.circuitBreakers.maxRequests))
        line(name, "added_via_api", "true")
        if let service = configuration.edsServiceName { line(name, "eds_service_name", service) }
        for host in cluster.hosts.hosts {
            let prefix = name + Array("\(host.label)::".utf8)
            let total = totals.totals(cluster: cluster.name, address: host.label)
            line(prefix, "cx_active", Int(total.cxActive))
            line(prefix, "cx_connect_fail", Int(clamping: total.cxConnectFail))
            line(prefix, "cx_total", Int(clamping: total.cxTotal))
            line(prefix, "rq_active", Int(total.rqActive))
            line(prefix, "rq_error", Int(clamping: total.rqError))
            line(prefix, "rq_success", Int(clamping: total.rqSuccess))
            line(prefix, "rq_timeout", Int(clamping: total.rqTimeout))
            line(prefix, "rq_total", Int(clamping: total.rqTotal))
            line(prefix, "hostname", host.hostname)
            line(prefix, "health_flags", host.healthFlags)
            if let last = checks?.hosts[host.address]?.last { line(prefix, "last_health_check", last.seen) }
            line(prefix, "weight", Int(host.weight))
            line(prefix, "region", host.locality.region)
            line(prefix, "zone", host.locality.zone)
            line(prefix, "sub_zone", host.locality.subZone)
            line(prefix, "canary", "false")
            line(prefix, "priority", Int(host.priority))
            // Envoy's word for "no success rate detection".
            line(prefix, "success_rate", "-1")
            line(prefix, "local_origin_success_rate", "-1")
        }
    }

    private mutating func line(_ prefix: [UInt8], _ key: StaticString, _ value: Int) {
        append(prefix)
        append(key)
        append("::")
        append(decimal: value)
        append(UInt8(ascii: "\n"))
    }

    private mutating func line(_ prefix: [UInt8], _ key: StaticString, _ value: String) {
        append(prefix)
        append(key)
        append("::")
        append(value)
        append(UInt8(ascii: "\n"))
    }

    private func limit(_ limit: UInt32?) -> String { limit.map { "\($0)" } ?? "unlimited" }
}

extension Host {
    /// Envoy's words, the active checks first; one that waits for its first check is `/pending_active_hc` too.
    fileprivate var healthFlags: String {
        let checks = health.checks == .waiting ? "/failed_active_hc/pending_active_hc" : health.isFailingChecks ? "/failed_active_hc" : ""
        let flags = checks + (health.isEjected ? "/failed_outlier_check" : "")
        return flags.isEmpty ? "healthy" : flags
    }

    /// envoy.admin.v3.HostStatus.
    fileprivate func status(_ totals: HostTotals) -> Document {
        func stat(_ name: String, _ type: String, _ value: some BinaryInteger) -> Document {
            .entries(["type": .text(type), "value": .text("\(value)"), "name": .text(name)])
        }
        return .entries([
            "address": address.document,
            "stats": .list([
                stat("cx_connect_fail", "COUNTER", totals.cxConnectFail), stat("cx_total", "COUNTER", totals.cxTotal),
                stat("rq_error", "COUNTER", totals.rqError), stat("rq_success", "COUNTER", totals.rqSuccess),
                stat("rq_timeout", "COUNTER", totals.rqTimeout), stat("rq_total", "COUNTER", totals.rqTotal),
                stat("cx_active", "GAUGE", totals.cxActive), stat("rq_active", "GAUGE", totals.rqActive),
            ]),
            "health_status": .entries([
                "eds_health_status": .text("HEALTHY"), "failed_active_health_check": health.isFailingChecks ? .flag(true) : nil,
                "pending_active_hc": health.checks == .waiting ? .flag(true) : nil,
                "failed_outlier_check": health.isEjected ? .flag(true) : nil,
            ]),
            "weight": .number(weight), "priority": .number(priority), "hostname": hostname.isEmpty ? nil : .text(hostname),
            "locality": .entries([
                "region": locality.region.isEmpty ? nil : .text(locality.region),
                "zone": locality.zone.isEmpty ? nil : .text(locality.zone),
                "sub_zone": locality.subZone.isEmpty ? nil : .text(locality.subZone),
            ]),
        ])
    }
}

extension CircuitBreakers {
    /// envoy.config.cluster.v3.CircuitBreakers.Thresholds; a limit that is not there does not limit.
    fileprivate var thresholds: Document {
        .entries([
            "priority": .text("DEFAULT"), "max_connections": maxConnections.map { .number($0) },
            "max_pending_requests": maxPendingRequests.map { .number($0) }, "max_requests": maxRequests.map { .number($0) },
        ])
    }
}

extension Cluster {
    fileprivate var edsServiceName: String? {
        if case .eds(let name) = discovery { name } else { nil }
    }
}
