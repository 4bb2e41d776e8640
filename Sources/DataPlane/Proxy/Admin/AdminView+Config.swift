import Base
import ConfigText
import ProxyConfig
import Resilience

/// Pages about the configuration.
extension AdminView {
    /// Envoy's form: `name::address`.
    func listeners() -> AdminResponse {
        AdminResponse((snapshot?.listeners ?? []).map { "\($0.configuration.name)::\($0.configuration.address)\n" }.joined())
    }

    /// envoy.admin.v3.Listeners.
    func listenersJSON() -> AdminResponse {
        AdminResponse(
            .entries([
                "listener_statuses": .list(
                    (snapshot?.listeners ?? []).map {
                        .entries(["name": .text($0.configuration.name), "local_address": $0.configuration.address.document])
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
