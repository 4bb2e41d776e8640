import Base
import ProxyConfig

extension TCPProxy: WireMessage {
    /// envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.
    enum Fields: Int, WireField {
        case stat_prefix = 1
        case cluster = 2
        case downstream_idle_timeout = 3
        case upstream_idle_timeout = 4
        case access_log = 5
        case idle_timeout = 8
        case metadata_match = 9
        case weighted_clusters = 10
        case hash_policy = 11
        case tunneling_config = 12
        case max_downstream_connection_duration = 13
        case on_demand = 14
        case upstream_connect_mode = 21
    }

    /// Clusters of weight 0 are left out, since Envoy refuses them here (and here only).
    func write(to message: inout MessageWriter<Fields>) {
        message.string(.stat_prefix, statPrefix)
        switch target {
        case .cluster(let name): message.chosenString(.cluster, name)
        case .weighted(let clusters):
            message.message(.weighted_clusters, WeightedClusterField.self) {
                for cluster in clusters where cluster.weight > 0 {
                    $0.message(.clusters, TCPClusterWeightField.self) {
                        $0.string(.name, cluster.name)
                        $0.number(.weight, cluster.weight)
                    }
                }
            }
        }
        message.messages(.access_log, accessLogs)
        message.duration(.idle_timeout, idleTimeout ?? .zero)
    }

    static func read(_ message: MessageReader<Fields>) -> TCPProxy? {
        message.refuse(
            .downstream_idle_timeout, .upstream_idle_timeout, .metadata_match, .tunneling_config, .max_downstream_connection_duration,
            .on_demand)
        if message.number(.upstream_connect_mode) != 0 { message.refuse(.upstream_connect_mode) }
        guard let target = message.target() else { return nil }
        return TCPProxy(
            statPrefix: message.requiredString(.stat_prefix), target: target, idleTimeout: message.timeout(.idle_timeout) ?? .seconds(3600),
            accessLogs: message.messages(.access_log, AccessLog.self))
    }
}

/// envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight. Its weight is a plain number.
enum TCPClusterWeightField: Int, WireField {
    case name = 1
    case weight = 2
    case metadata_match = 3
}

extension MessageReader<TCPProxy.Fields> {
    fileprivate func target() -> ClusterTarget? {
        guard chosen(.cluster, .weighted_clusters, .on_demand) == .weighted_clusters else {
            let name = requiredString(.cluster)
            return name.isEmpty ? nil : .cluster(name)
        }
        guard let weighted = message(.weighted_clusters, WeightedClusterField.self) else { return nil }
        let clusters = weighted.messages(.clusters, TCPClusterWeightField.self).map { cluster in
            cluster.refuse(.metadata_match)
            return WeightedCluster(name: cluster.requiredString(.name), weight: cluster.uint32(.weight, in: 1...UInt32.max) ?? 1)
        }
        weighted.checkSum(clusters)
        return .weighted(clusters)
    }
}
