import Balancing
import Base
import ProxyConfig
import Reactor
import Resilience
import Routing
import Telemetry
import XDSClient

/// What is wrong with a snapshot, all of it at once. The snapshot before it keeps serving.
struct SnapshotErrors: Error, CustomStringConvertible {
    /// With the type of the resource at fault.
    var errors: [ADSClient.Problem]

    var description: String { errors.map(\.text).joined(separator: "\n") }
}

/// Makes a decoded snapshot ready to run, in two steps: `prepare` checks and compiles and changes nothing; `finish`, once the listeners'
/// sockets are open, takes over from the snapshot before it what survives.
struct SnapshotBuilder {
    let logWriter: LogWriter
    let events: OutlierEventLog
    let tls: TLSContexts
    var seed: UInt64
    /// Clusters that need a breaker of the service without a policy for one: an operator has it in hand.
    var forcedServices: Set<String> = []

    struct Prepared {
        var configuration: Snapshot
        var version: String
        var listeners: [RuntimeListener]
        /// What this build leaves out, for people.
        var warnings: [String]
    }

    /// - Parameters:
    ///   - previous: the snapshot that runs, and the listeners of it that wait for a certificate: where nothing changed but endpoints,
    ///     secrets and the settings of clusters, their tables are taken over.
    func prepare(
        _ configuration: Snapshot, version: String, previous: RuntimeSnapshot? = nil, closed: [RuntimeListener] = []
    ) throws(SnapshotErrors) -> Prepared {
        if let previous, previous.configuration.listeners == configuration.listeners,
            previous.configuration.routeConfigurations == configuration.routeConfigurations,
            previous.configuration.clusters.map(\.name) == configuration.clusters.map(\.name)
        {
            return Prepared(
                configuration: configuration, version: version, listeners: previous.listeners + closed, warnings: [])
        }
        var errors: [ADSClient.Problem] = []
        func fail(_ type: DiscoveredType, _ text: String) {
            errors.append(ADSClient.Problem(type: type, text: text))
        }
        let warnings: [String] = []
        var indices: [String: Int] = [:]
        for (index, cluster) in configuration.clusters.enumerated() {
            if indices.updateValue(index, forKey: cluster.name) != nil {
                fail(.cluster, "cluster \(cluster.name): expected a name of its own, found a second cluster with it")
            }
        }
        var tables: [String: RouteTable] = [:]
        var brokenTables: Set<String> = []
        for routes in configuration.routeConfigurations {
            do {
                tables[routes.name] = try RouteTable(routes)
            } catch {
                fail(.routeConfiguration, "\(error)")
                brokenTables.insert(routes.name)
            }
        }
        var listeners: [RuntimeListener] = []
        var addresses: Set<SocketAddress> = []
        for listener in configuration.listeners {
            guard addresses.insert(listener.address).inserted else {
                fail(.listener, "listener \(listener.name): expected an address of its own, found \(listener.address) a second time")
                continue
            }
            do {
                var chains: [RuntimeFilterChain] = []
                for chain in listener.filterChains {
                    // The listener is not at fault.
                    if case .http(let manager) = chain.filter, brokenTables.contains(manager.routeConfigurationName) { continue }
                    chains.append(
                        RuntimeFilterChain(
                            configuration: chain, tls: chain.tls.map { tls.runtime(for: $0) },
                            filter: try makeFilter(chain.filter, listener, tables, indices)))
                }
                listeners.append(RuntimeListener(configuration: listener, chains: chains))
            } catch {
                fail(.listener, "listener \(listener.name): \(error)")
            }
        }
        guard errors.isEmpty else { throw SnapshotErrors(errors: errors) }
        return Prepared(configuration: configuration, version: version, listeners: listeners, warnings: warnings)
    }

    /// Clusters that keep their name keep their endpoints' health and ejections.
    mutating func finish(_ prepared: Prepared, previous: RuntimeSnapshot?, now: Instant) -> RuntimeSnapshot {
        let known = Dictionary((previous?.clusters ?? []).map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        var clusters: [RuntimeCluster] = []
        for cluster in prepared.configuration.clusters {
            clusters.append(makeCluster(cluster, prepared.configuration, known[cluster.name], now: now))
        }
        return RuntimeSnapshot(
            version: prepared.version, configuration: prepared.configuration, listeners: prepared.listeners, clusters: clusters)
    }

    private mutating func makeCluster(_ cluster: Cluster, _ snapshot: Snapshot, _ previous: RuntimeCluster?, now: Instant) -> RuntimeCluster
    {
        var seeds = HostSeed.fixed(in: cluster.localities(snapshot))
        var isResolved = true
        if case .dns(let assignment, _) = cluster.discovery {
            // Names that were resolved before the change stay resolved: serving goes on while they are asked for again.
            if let previous, case .dns(let before, _) = previous.configuration.discovery {
                let names = Set(before.names).intersection(assignment.names)
                seeds += previous.hosts.hosts.filter { names.contains($0.hostname) }.map(HostSeed.init)
            }
            isResolved = assignment.names.isEmpty || !seeds.isEmpty
        }
        if cluster.discovery == .originalDestination, let previous, previous.configuration.discovery == .originalDestination {
            seeds = previous.hosts.hosts.map(HostSeed.init)
        }
        let balancing = BalancingRules(cluster, locality: snapshot.node.locality)
        let hasBreaker = cluster.resilience?.service != nil || forcedServices.contains(cluster.name)
        if let previous, previous.configuration == cluster, previous.balancing == balancing, (previous.breaker != nil) == hasBreaker,
            previous.hosts.hosts.map(HostSeed.init) == seeds
        {
            return previous
        }
        let detector = makeDetector(cluster, previous, now: now)
        return RuntimeCluster(
            configuration: cluster, tls: cluster.tls.map { tls.runtime(for: $0) }, detector: detector,
            breaker: makeBreaker(cluster, previous?.breaker),
            usage: previous?.usage ?? ClusterUsage(), balancing: balancing,
            hosts: HostSeed.hosts(seeds, detector: detector, isResolved: isResolved, now: now))
    }

    /// What is known of endpoints stays known, unless the meaning of errors is another one: App Mesh's gRPC codes, or ours.
    private mutating func makeDetector(_ cluster: Cluster, _ previous: RuntimeCluster?, now: Instant) -> OutlierDetector {
        let policy = cluster.resilience?.endpoint
        let detector: OutlierDetector
        if let previous, (previous.configuration.resilience?.endpoint == nil) == (policy == nil) {
            detector = previous.detector
            if policy == nil { detector.update(configuration: cluster.outlierDetection, now: now) }
        } else {
            seed &+= 0x9e37_79b9_7f4a_7c15
            detector = OutlierDetector(
                cluster: cluster.name, configuration: policy == nil ? cluster.outlierDetection : nil, events: events, now: now, seed: seed,
                grpcErrors: policy == nil ? .appMesh : .native)
        }
        if let policy { detector.update(policy: policy, now: now) }
        return detector
    }

    private func makeBreaker(_ cluster: Cluster, _ previous: CircuitBreaker?) -> CircuitBreaker? {
        guard let policy = cluster.resilience?.service ?? (forcedServices.contains(cluster.name) ? .byHand : nil) else { return nil }
        if let previous, previous.policy == policy { return previous }
        let (name, events) = (cluster.name, events)
        return CircuitBreaker(name: name, policy: policy, taking: previous) { events.append(OutlierEvent(cluster: name, $0)) }
    }

    private func makeFilter(
        _ filter: NetworkFilter, _ listener: Listener, _ tables: [String: RouteTable], _ indices: [String: Int]
    ) throws(FieldError) -> RuntimeFilter {
        switch filter {
        case .http(let configuration):
            guard let routes = tables[configuration.routeConfigurationName] else {
                throw FieldError(
                    path: FieldPath([.key("routeConfigurationName")]), expected: "a route configuration of the snapshot",
                    found: configuration.routeConfigurationName)
            }
            return .http(
                RuntimeHTTPFilter(
                    configuration: configuration, direction: listener.direction, routes: routes,
                    clusterIndices: routes.clusterNames.map { indices[$0] }, policies: try policies(of: routes),
                    accessLogs: try accessLogs(configuration.accessLogs)))
        case .tcp(let configuration):
            var targets: [(cluster: Int, weight: UInt64)] = []
            let wanted: [WeightedCluster] =
                switch configuration.target {
                case .cluster(let name): [WeightedCluster(name: name, weight: 1)]
                case .weighted(let clusters): clusters
                }
            for target in wanted where target.weight > 0 {
                guard let index = indices[target.name] else {
                    throw FieldError(path: FieldPath([.key("target")]), expected: "a cluster of the snapshot", found: target.name)
                }
                targets.append((index, UInt64(target.weight)))
            }
            return .tcp(
                RuntimeTCPFilter(configuration: configuration, targets: targets, accessLogs: try accessLogs(configuration.accessLogs)))
        }
    }

    private func policies(of table: RouteTable) throws(FieldError) -> [RoutePolicy] {
        var policies: [RoutePolicy] = []
        for route in table.routes {
            do {
                policies.append(try RoutePolicy(route.configuration))
            } catch {
                throw FieldError(
                    path: FieldPath() / "routes" / route.name / "fault" / "headers", expected: "matchers of headers", found: "\(error)")
            }
        }
        return policies
    }

    private func accessLogs(_ logs: [AccessLog]) throws(FieldError) -> [RuntimeAccessLog] {
        var compiled: [RuntimeAccessLog] = []
        for log in logs {
            compiled.append(RuntimeAccessLog(format: try AccessLogFormat(log.format), file: logWriter.file(log.path)))
        }
        return compiled
    }
}

/// An endpoint before it has its health: what discovery says of it.
struct HostSeed: Hashable {
    var address: SocketAddress
    var hostname: String
    var weight: UInt32
    var priority: UInt32
    var locality: Locality
    var isPlaintext: Bool

    init(address: SocketAddress, hostname: String, weight: UInt32, priority: UInt32, locality: Locality, isPlaintext: Bool = false) {
        self.address = address
        self.hostname = hostname
        self.weight = weight
        self.priority = priority
        self.locality = locality
        self.isPlaintext = isPlaintext
    }

    init(_ host: Host) {
        self.init(
            address: host.address, hostname: host.hostname, weight: host.weight, priority: host.priority, locality: host.locality,
            isPlaintext: host.isPlaintext)
    }

    /// The endpoints that are given as addresses.
    static func fixed(in localities: [LocalityEndpoints]) -> [HostSeed] {
        localities.flatMap { locality in
            locality.endpoints.compactMap { endpoint in
                guard case .ip(let ip) = endpoint.host else { return nil }
                return HostSeed(
                    address: SocketAddress(ip, endpoint.port), hostname: "", weight: endpoint.weight, priority: locality.priority,
                    locality: locality.locality, isPlaintext: endpoint.isPlaintext)
            }
        }
    }

    /// Gives each address its health, old or new. An address that is named twice is one endpoint: the first wins.
    static func hosts(_ seeds: [HostSeed], detector: OutlierDetector, isResolved: Bool, now: Instant) -> HostSet {
        var seen: Set<SocketAddress> = []
        let unique = seeds.filter { seen.insert($0.address).inserted }
        let health = detector.setHosts(unique.map(\.address), now: now)
        let hosts = zip(unique, health).map { seed, health in
            Host(
                address: seed.address, hostname: seed.hostname, weight: seed.weight, priority: seed.priority, locality: seed.locality,
                isPlaintext: seed.isPlaintext, health: health)
        }
        return HostSet(hosts: hosts, isResolved: isResolved)
    }
}

extension ClusterLoadAssignment {
    /// The host names in it, each once, sorted.
    var names: [String] {
        var names: Set<String> = []
        for locality in localities {
            for endpoint in locality.endpoints {
                if case .name(let name) = endpoint.host { names.insert(name) }
            }
        }
        return names.sorted()
    }
}

extension Cluster {
    /// Where its endpoints stand: in itself, or in the snapshot under its service name.
    func localities(_ snapshot: Snapshot) -> [LocalityEndpoints] {
        switch discovery {
        case .fixed(let assignment), .dns(let assignment, _): assignment.localities
        case .eds(let name): snapshot.loadAssignments.first { $0.clusterName == name }?.localities ?? []
        case .originalDestination: []
        }
    }
}

extension BalancingRules {
    /// - Parameter locality: the proxy's own.
    init(_ cluster: Cluster, locality: Locality) {
        let options = cluster.balancing
        let zone = options.preferredZoneSize.map { ZonePreference(local: locality, minimumHosts: Int($0)) }
        self.init(
            policy: Policy(cluster.loadBalancing, options), panicThresholdPercent: cluster.panicThresholdPercent,
            zone: locality == Locality() ? nil : zone,
            ramp: options.slowStart == .none ? cluster.resilience?.endpoint?.breaker.ramp ?? .none : options.slowStart)
    }
}
