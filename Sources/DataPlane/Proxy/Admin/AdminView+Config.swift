import Base
import ConfigText
import ProxyConfig
import Resilience
import Telemetry
import Transport

/// Pages about the configuration.
extension AdminView {
    /// Envoy's form: `name::address`; behind the address why a listener is closed.
    func listeners() -> AdminResponse {
        let open = (snapshot?.listeners ?? []).map { "\($0.configuration.name)::\($0.configuration.address)\n" }
        let closed = closedListeners.map { "\($0.listener.name)::\($0.listener.address)::closed: \($0.reason)\n" }
        return AdminResponse((open + closed).joined())
    }

    /// envoy.admin.v3.Listeners.
    func listenersJSON() -> AdminResponse {
        AdminResponse(
            .entries([
                "listener_statuses": .list(
                    (snapshot?.listeners ?? []).map {
                        .entries(["name": .text($0.configuration.name), "local_address": $0.configuration.address.document])
                    }
                        + closedListeners.map {
                            .entries([
                                "name": .text($0.listener.name), "local_address": $0.listener.address.document,
                                "outrigger": .entries(["closed": .text($0.reason)]),
                            ])
                        })
            ]))
    }

    /// envoy.admin.v3.Certificates, and what it has no field for under `outrigger`. Public parts only: no key is ever shown.
    func certs() -> AdminResponse {
        let today = (now.nanoseconds &+ wallClock.count) / 1_000_000_000
        return AdminResponse(
            .entries([
                "certificates": .list(
                    certificates.map { report in
                        .entries([
                            "ca_cert": .list(report.authorities.map { $0.document(path: report.trustPath, now: today) }),
                            "cert_chain": .list(report.chain.map { $0.document(path: report.chainPath, now: today) }),
                            "outrigger": .entries([
                                "used_by": .list(report.users.map { .text($0) }), "loads": .number(report.loads),
                                "refusals": .number(report.refusals), "problem": report.problem.map { .text($0) },
                            ]),
                        ])
                    })
            ]))
    }

    /// The snapshot in the words of `outrigger render`, with the endpoints that discovery found.
    func configDump() -> AdminResponse {
        guard let snapshot, case .map(let entries) = snapshot.configuration.document(version: snapshot.version) else {
            return AdminResponse(status: 503, "no configuration yet\n")
        }
        let endpoints = clusters.map { cluster -> Document in
            let set = cluster.hosts
            return .entries([
                "cluster": .text(cluster.name), "resolved": .flag(set.isResolved),
                "endpoints": .list(
                    set.hosts.map { host in
                        .entries([
                            "address": .text(host.label), "hostname": host.hostname.isEmpty ? nil : .text(host.hostname),
                            "weight": .number(host.weight), "priority": .number(host.priority),
                            "zone": host.locality.zone.isEmpty ? nil : .text(host.locality.zone),
                            "ejected": host.health.isEjected ? .flag(true) : nil,
                            "failing_checks": host.health.isFailingChecks ? .flag(true) : nil,
                        ])
                    }),
            ])
        }
        // The version stands first, and what belongs to it right behind.
        return AdminResponse(.map(entries.prefix(1) + [("config", configState)] + entries.dropFirst() + [("endpoints", .list(endpoints))]))
    }
}

extension SocketAddress {
    /// envoy.config.core.v3.Address.
    var document: Document {
        .entries(["socket_address": .entries(["address": .text("\(ip)"), "port_value": .number(port)])])
    }
}

extension TLSCertificate {
    /// envoy.admin.v3.CertificateDetails.
    fileprivate func document(path: String, now: Int64) -> Document {
        let names =
            uriNames.map { Document.entries(["uri": .text($0)]) } + dnsNames.map { Document.entries(["dns": .text($0)]) }
            + ipAddresses.map { Document.entries(["ip_address": .text($0)]) }
        return .entries([
            "path": .text(path), "serial_number": .text(serial), "subject_alt_names": .list(names),
            "days_until_expiration": .text("\(max(0, notAfter - now) / 86_400)"),
            "valid_from": .text(Timestamp.text(notBefore * 1_000_000_000)),
            "expiration_time": .text(Timestamp.text(notAfter * 1_000_000_000)),
            "outrigger": .entries(["subject": .text(subject), "issuer": .text(issuer), "sha256": .text(digest)]),
        ])
    }
}
