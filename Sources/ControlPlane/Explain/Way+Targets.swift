import Base
import ConfigText
import ControlAPI
import MeshCompiler
import MeshModel
import ProxyConfig

/// Clusters: what is called, under which policies, at which addresses.
extension Way {
    /// How many endpoints of a cluster are named; more are counted.
    private static let maxEndpoints = 16

    mutating func walk(_ target: ClusterTarget) {
        let clusters: [WeightedCluster] =
            switch target {
            case .cluster(let name): [WeightedCluster(name: name, weight: 1)]
            case .weighted(let all): all
            }
        let total = clusters.reduce(0) { $0 + UInt64($1.weight) }
        var isReachable = false
        for choice in clusters {
            let share: String
            if clusters.count == 1 {
                share = "all of these requests"
            } else {
                share = "weight \(choice.weight) of \(total): \(percent(UInt64(choice.weight), total)) of these requests"
            }
            guard let cluster = snapshot.clusters.first(where: { $0.name == choice.name }) else {
                add("target", choice.name, [share, "the cluster is not known: 503"])
                continue
            }
            add("target", cluster.name, [share])
            add("policy", cluster.name, policies(cluster), defaultsOf: "clusters[\(cluster.name)]")
            if addEndpoints(cluster), choice.weight > 0 { isReachable = true }
        }
        if !isReachable { localReply = "503: no endpoint is known" }
    }

    private func percent(_ part: UInt64, _ total: UInt64) -> String {
        guard total > 0 else { return "0%" }
        // In tenths, cut off: 33.3%.
        let tenths = part * 1000 / total
        return tenths % 10 == 0 ? "\(tenths / 10)%" : "\(tenths / 10).\(tenths % 10)%"
    }

    private func policies(_ cluster: Cluster) -> [String] {
        let timeout = duration(cluster.connectTimeout)
        var lines = ["\(cluster.upstreamProtocol.words), \(cluster.loadBalancing.words), connect timeout \(timeout)"]
        lines += balancingWords(cluster)
        lines.append(tls(cluster.tls))
        if let outlier = cluster.outlierDetection {
            lines.append(
                "outlier detection: \(outlier.consecutive5xx) errors in a row eject an endpoint for \(duration(outlier.baseEjectionTime)), "
                    + "at most \(outlier.maxEjectionPercent)% of them")
        } else if cluster.resilience?.endpoint == nil {
            lines.append("outlier detection: none")
        }
        lines += resilienceWords(cluster)
        let limits = [
            cluster.circuitBreakers.maxConnections.map { "\($0) connections" },
            cluster.circuitBreakers.maxPendingRequests.map { "\($0) waiting requests" },
            cluster.circuitBreakers.maxRequests.map { "\($0) requests at once" },
        ].compactMap(\.self)
        lines.append("connection pool: \(limits.isEmpty ? "no limits on this side" : "at most " + limits.joined(separator: ", "))")
        if !cluster.healthChecks.isEmpty {
            let checks = cluster.healthChecks.map { "every \(duration($0.interval))" }.joined(separator: ", ")
            lines.append("health checks: \(checks)")
        }
        return lines
    }

    private func tls(_ tls: UpstreamTLS?) -> String {
        guard let tls else { return "plaintext" }
        var parts = [tls.isEnforced ? "TLS" : "TLS where the endpoint speaks it, else plaintext (enforce: false)"]
        if tls.certificate == .sds(name: Secret.identityName) { parts = ["mutual TLS of the mesh"] }
        if tls.sparesPlaintextEndpoints { parts.append("plaintext with endpoints that take none") }
        switch tls.validation {
        case nil:
            parts.append("the endpoint's certificate is not checked")
        case .some(let validation):
            let names = validation.subjectAlternativeNames
            parts.append("the endpoint's certificate must be of \(validation.trust.words)")
            if !names.isEmpty { parts.append("with the name \(names.joined(separator: " or "))") }
        }
        if let certificate = tls.certificate { parts.append("ours is \(certificate.words)") }
        if let sni = tls.sni { parts.append("SNI \(sni)") }
        return parts.joined(separator: ", ")
    }

    // MARK: Endpoints

    /// - Returns: whether there can be one.
    private mutating func addEndpoints(_ cluster: Cluster) -> Bool {
        switch cluster.discovery {
        case .originalDestination:
            add("endpoint", request.authority, ["outside of the mesh: where the caller's Host says (egress filter ALLOW_ALL)"])
            return true
        case .fixed(let assignment):
            return list(assignment, "named in the mesh's files", cluster)
        case .dns(let assignment, let options):
            return list(assignment, "every address that DNS gives for the name is one (\(options.family.rawValue))", cluster)
        case .eds(let name):
            let assignment = assignments[name] ?? ClusterLoadAssignment(clusterName: name, localities: [])
            if let source = node.endpointSources[name] {
                return list(assignment, "the registered proxies of \(source.node.qualified), port \(source.port)", cluster)
            }
            return list(assignment, "of EndpointSets", cluster)
        }
    }

    private mutating func list(_ assignment: ClusterLoadAssignment, _ source: String, _ cluster: Cluster) -> Bool {
        var lines: [String] = []
        var count = 0
        for locality in assignment.localities.sorted(by: { $0.priority < $1.priority }) {
            for endpoint in locality.endpoints {
                count += 1
                guard count <= Self.maxEndpoints else { continue }
                let zone = locality.locality.zone.isEmpty ? "" : " in \(locality.locality.zone)"
                let priority = locality.priority > 0 ? ", priority \(locality.priority)" : ""
                var line = "\(endpoint.words)\(zone)\(endpoint.weight == 1 ? "" : ", weight \(endpoint.weight)")\(priority)"
                if cluster.tls?.sparesPlaintextEndpoints == true {
                    line += endpoint.isPlaintext ? ", in plaintext: it has no certificate of the mesh, or no proxy" : ", with TLS"
                }
                lines.append(line)
            }
        }
        if count > Self.maxEndpoints { lines.append("and \(count - Self.maxEndpoints) more") }
        if count == 0 { lines.append("none is known") }
        add("endpoint", cluster.name, [source] + lines)
        return count > 0
    }
}

extension Endpoint {
    fileprivate var words: String {
        switch host {
        case .ip(let ip): "\(SocketAddress(ip, port))"
        case .name(let name): "\(name):\(port)"
        }
    }
}

extension LoadBalancing {
    fileprivate var words: String {
        switch self {
        case .roundRobin: "round robin"
        case .leastRequest: "least request"
        case .random: "random"
        case .peakEWMA: "peak EWMA (by latency)"
        case .ringHash: "ring hash"
        case .maglev: "Maglev hash"
        }
    }
}

extension UpstreamProtocol {
    fileprivate var words: String {
        switch self {
        case .http1: "HTTP/1.1"
        case .http2: "HTTP/2"
        case .auto: "HTTP/2 or HTTP/1.1 by ALPN"
        case .tcp: "TCP"
        }
    }
}

extension TrustSource {
    fileprivate var words: String {
        switch self {
        case .file(let path): "an authority in \(path)"
        case .sds(let name): "an authority in the secret \(name)"
        case .unresolved(let arns): "\(arns.joined(separator: ", ")), for which no file is known: the connection fails"
        }
    }
}

extension CertificateSource {
    fileprivate var words: String {
        switch self {
        case .file(let chain, _): chain
        case .sds(let name): "the secret \(name)"
        case .unresolved(let arn): "\(arn), for which no file is known: the connection fails"
        }
    }
}
