import Base
import ConfigText
import MeshModel
import ProxyConfig

/// The clusters that a proxy calls: one for each listener port of each node that its routes lead to.
extension Compilation {
    /// How this proxy calls one VirtualService.
    struct CallPolicy {
        var client: ClientPolicy?
        /// The service, where the policy is the backend's own: two backends may treat one node differently.
        var owner: String?
        /// As a part of which it is called; nil for copies.
        var service: VirtualService?
    }

    /// Makes the cluster if this is its first use.
    mutating func egressCluster(_ node: VirtualNode, _ mapping: PortMapping, _ policy: CallPolicy) -> String {
        var name = Names.cluster(.egress, mesh: mesh.meshName, node: node.meshName, mapping)
        if let owner = policy.owner {
            name += "_\(owner)"
        } else if let service = policy.service, !ownClusterPolicies(service).isEmpty {
            name += "_\(service.meshName)"
        }
        guard clusters[name] == nil else { return name }

        let listener = listener(of: node, port: mapping.port)
        let path = "clusters[\(name)]"
        assume("\(path).connect_timeout", "1s", Defaults.appMesh)
        assume("\(path).healthy_panic_threshold", "50%", Defaults.appMesh)
        let policies = clusterPolicies(node, policy.service)
        if sidecar?.loadBalancing == nil, !policies.contains(where: { $0.parts.contains(.loadBalancing) }) {
            assume("\(path).lb_policy", "ROUND_ROBIN", Defaults.appMesh)
        }
        let tls = upstreamTLS(node, listener, mapping, policy.client, name)
        let (discovery, assignment) = discovery(node, mapping, name, sparesPlaintext: tls?.sparesPlaintextEndpoints == true)
        let upstreamProtocol = mapping.protocol.upstream(withTLS: tls != nil)
        if upstreamProtocol == .auto { assume("\(path).protocol", "auto", "\(Defaults.outrigger): HTTP/2 where ALPN agrees on it") }
        // Addresses of an EndpointSet may be of anything; a bare gRPC server takes PINGs for an attack.
        let isOfProxies = tls?.sparesPlaintextEndpoints == false || assignment?.localities.isEmpty == true
        var cluster =
            Cluster(
                name: name, discovery: discovery, connectTimeout: Defaults.connectTimeoutToNode,
                loadBalancing: sidecar?.loadBalancing.map(LoadBalancing.init) ?? .roundRobin, upstreamProtocol: upstreamProtocol,
                outlierDetection: outlierDetection(listener?.outlierDetection, path),
                healthChecks: healthChecks(node, listener?.healthCheck, mapping),
                panicThresholdPercent: 50, tls: tls, http2: http2(upstreamProtocol, withTLS: tls?.isEnforced == true && isOfProxies, path))
        apply(policies, to: &cluster)
        add(cluster, assignment)
        return name
    }

    private mutating func http2(_ upstreamProtocol: UpstreamProtocol, withTLS: Bool, _ path: String) -> HTTP2Options {
        var options = http2(upstreamProtocol)
        guard upstreamProtocol == .http2 || upstreamProtocol == .auto else { return options }
        if let keepalive = sidecar?.keepalive {
            options.keepalive = keepalive.interval > .zero ? HTTP2Keepalive(interval: keepalive.interval, timeout: keepalive.timeout) : nil
        } else if withTLS {
            options.keepalive = Defaults.keepalive
            assume("\(path).http2_protocol_options.connection_keepalive", "30s", Defaults.outrigger)
        }
        return options
    }

    /// The listener of a port; a listener without a port (the tutorial form) holds for every port of its node.
    func listener(of node: VirtualNode, port: Port) -> VirtualNode.Listener? {
        node.listeners.first { $0.portMapping?.port == port } ?? node.listeners.first { $0.portMapping == nil }
    }

    // MARK: Policies

    private mutating func outlierDetection(_ policy: OutlierDetectionPolicy?, _ path: String) -> OutlierDetection? {
        guard let policy else { return nil }
        let longest = max(Defaults.maxEjectionTime, policy.baseEjectionDuration)
        assume("\(path).outlier_detection.max_ejection_time", duration(longest), Defaults.outrigger)
        return OutlierDetection(
            consecutive5xx: saturating(policy.maxServerErrors), interval: policy.interval, baseEjectionTime: policy.baseEjectionDuration,
            maxEjectionTime: longest, maxEjectionPercent: saturating(policy.maxEjectionPercent))
    }

    private func healthChecks(_ node: VirtualNode, _ policy: HealthCheckPolicy?, _ mapping: PortMapping) -> [HealthCheck] {
        guard let policy else { return [] }
        let port = policy.port ?? mapping.port
        let host = "\(discoveryName(node) ?? node.meshName):\(port)"
        let kind: HealthCheck.Kind =
            switch policy.protocol {
            case .http: .http(host: host, path: policy.path ?? "/")
            case .http2: .http2(host: host, path: policy.path ?? "/")
            case .grpc: .grpc
            case .tcp: .tcp
            }
        return [
            HealthCheck(
                kind: kind, interval: policy.interval, timeout: policy.timeout, healthyThreshold: saturating(policy.healthyThreshold ?? 2),
                unhealthyThreshold: saturating(policy.unhealthyThreshold), port: policy.port)
        ]
    }

    // MARK: Endpoints

    /// The name by which the node's hosts are found; nil where only addresses are known.
    func discoveryName(_ node: VirtualNode) -> String? {
        switch node.serviceDiscovery {
        case .dns(let dns): dns.hostname
        case .awsCloudMap(let map): "\(map.serviceName).\(map.namespaceName)"
        case nil: nil
        }
    }

    private mutating func discovery(
        _ node: VirtualNode, _ mapping: PortMapping, _ cluster: String, sparesPlaintext: Bool
    ) -> (Discovery, ClusterLoadAssignment?) {
        var fixed = fixedEndpoints(node, mapping)
        noteCall(of: node.key)
        if options.registeredNodes.contains(node.key) {
            // Another name than without TLS: the cluster is then never used with endpoints of which is not said what they speak.
            let name = sparesPlaintext ? "\(cluster)/mtls" : cluster
            if sparesPlaintext {
                for index in fixed.indices {
                    for place in fixed[index].endpoints.indices { fixed[index].endpoints[place].isPlaintext = true }
                }
            }
            add(EndpointSource(node: node.key, port: mapping.port), of: name)
            assume("clusters[\(cluster)].type", "EDS", "\(Defaults.outrigger): its proxies have registered")
            return (.eds(serviceName: name), ClusterLoadAssignment(clusterName: name, localities: fixed))
        }
        switch node.serviceDiscovery {
        case .dns(let dns):
            return byName(dns.hostname, dns.ipPreference ?? mesh.ipPreference, .v6Preferred, fixed, mapping, cluster)
        case .awsCloudMap(let map) where fixed.isEmpty:
            // The HTTP namespaces of Cloud Map have no DNS; its private ones answer to service.namespace.
            let name = "\(map.serviceName).\(map.namespaceName)"
            assume("clusters[\(cluster)].type", "STRICT_DNS", "\(Defaults.outrigger): Cloud Map is asked by DNS, as \(name)")
            if !map.attributes.isEmpty {
                let field = FieldPath.spec / "serviceDiscovery" / "awsCloudMap" / "attributes"
                warn(
                    node.key, field,
                    "DNS cannot select by attribute: every address of \(name) is used; an EndpointSet can name those that are meant"
                )
            }
            return byName(name, map.ipPreference ?? mesh.ipPreference, .v4Preferred, fixed, mapping, cluster)
        case .awsCloudMap, nil:
            if fixed.isEmpty {
                warn(node.key, "has neither serviceDiscovery nor an EndpointSet: it is called, and no host is known")
            }
            return (.eds(serviceName: cluster), ClusterLoadAssignment(clusterName: cluster, localities: fixed))
        }
    }

    private mutating func byName(
        _ hostname: String, _ preference: IPPreference?, _ usual: DNSOptions.Family, _ fixed: [LocalityEndpoints], _ mapping: PortMapping,
        _ cluster: String
    ) -> (Discovery, ClusterLoadAssignment?) {
        // RFC 6761 §6.3: localhost names are the loopback interface, and App Mesh spoke IPv4 to local programs. Asking a resolver
        // would add ::1, where most of them do not listen.
        let isLocal = hostname == "localhost" || hostname.hasSuffix(".localhost")
        if let ip = isLocal ? IPAddress.loopbackV4 : IPAddress(hostname) {
            if isLocal { assume("clusters[\(cluster)].type", "STATIC", "\(Defaults.outrigger): localhost is 127.0.0.1") }
            let localities = merge(fixed, Endpoint(host: .ip(ip), port: mapping.port))
            return (.fixed(ClusterLoadAssignment(clusterName: cluster, localities: localities)), nil)
        }
        let family = preference.map(DNSOptions.Family.init) ?? usual
        if preference == nil { assume("clusters[\(cluster)].dns_lookup_family", family.xDSName, Defaults.appMesh) }
        let localities = merge(fixed, Endpoint(host: .name(hostname), port: mapping.port))
        return (.dns(ClusterLoadAssignment(clusterName: cluster, localities: localities), DNSOptions(family: family)), nil)
    }

    private func merge(_ fixed: [LocalityEndpoints], _ endpoint: Endpoint) -> [LocalityEndpoints] {
        var localities = fixed
        if let index = localities.firstIndex(where: { $0.locality == Locality() }) {
            localities[index].endpoints.insert(endpoint, at: 0)
            localities[index].weight += 1
        } else {
            localities.insert(LocalityEndpoints(endpoints: [endpoint]), at: 0)
        }
        return localities
    }

    /// What the EndpointSets of a node name for one of its ports, by zone. A locality weighs what its endpoints weigh, so that zones
    /// of different size do not tilt the shares.
    private mutating func fixedEndpoints(_ node: VirtualNode, _ mapping: PortMapping) -> [LocalityEndpoints] {
        let otherPorts = Set(node.listeners.compactMap(\.portMapping?.port)).subtracting([mapping.port])
        var zones: [String: [SocketAddress: UInt32]] = [:]
        for set in resources.endpointSets(of: node.key) {
            for (index, endpoint) in set.endpoints.enumerated() {
                // A port that is another listener's is meant for that one.
                if let port = endpoint.port, otherPorts.contains(port) { continue }
                let address = SocketAddress(endpoint.ip, endpoint.port ?? mapping.port)
                if zones.values.contains(where: { $0[address] != nil }) {
                    warn(set.key, (FieldPath.spec / "endpoints")[index], "\(address) stands more than once: the first counts")
                    continue
                }
                zones[endpoint.zone ?? "", default: [:]][address] = saturating(endpoint.weight ?? 1)
            }
        }
        return zones.sorted { $0.key < $1.key }.map { zone, weights in
            let endpoints = weights.sorted { $0.key.order < $1.key.order }.map { address, weight in
                Endpoint(host: .ip(address.ip), port: address.port, weight: weight)
            }
            return LocalityEndpoints(locality: Locality(zone: zone), weight: weights.values.reduce(0, +), endpoints: endpoints)
        }
    }
}

extension SocketAddress {
    /// Version 4 before 6, each by number.
    fileprivate var order: (Int, UInt64, UInt64, Port) {
        switch ip {
        case .v4(let bits): (4, 0, UInt64(bits), port)
        case .v6(let high, let low): (6, high, low, port)
        }
    }
}

extension LoadBalancing {
    init(_ policy: Sidecar.LoadBalancing) {
        self =
            switch policy {
            case .roundRobin: .roundRobin
            case .leastRequest: .leastRequest
            case .random: .random
            }
    }
}

extension DNSOptions.Family {
    init(_ preference: IPPreference) {
        self =
            switch preference {
            case .v4Only: .v4Only
            case .v6Only: .v6Only
            case .v4Preferred: .v4Preferred
            case .v6Preferred: .v6Preferred
            }
    }
}
