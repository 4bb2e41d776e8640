import Base
public import ProxyConfig

/// What a snapshot file holds: who it is for, how its process runs, and the responses of a state-of-the-world ADS stream.
struct SnapshotContent {
    var node: Node
    var process: ProcessSettings
    var responses: [DiscoveryResponse]

    init(_ snapshot: Snapshot) {
        self.init(node: snapshot.node, process: snapshot.process, responses: snapshot.discoveryResponses())
    }

    init(node: Node, process: ProcessSettings, responses: [DiscoveryResponse]) {
        self.node = node
        self.process = process
        self.responses = responses
    }

    func snapshot() throws(WireErrors) -> Snapshot {
        try Snapshot(node: node, process: process, responses: responses)
    }
}

extension Snapshot {
    /// One response for each type of resource, in the order in which they are pushed; for secrets only where there are any.
    public func discoveryResponses() -> [DiscoveryResponse] {
        ResourceType.allCases.compactMap { type in
            switch type {
            case .secret: secrets.isEmpty ? nil : DiscoveryResponse(secrets)
            case .cluster: DiscoveryResponse(clusters)
            case .clusterLoadAssignment: DiscoveryResponse(loadAssignments)
            case .listener: DiscoveryResponse(listeners)
            case .routeConfiguration: DiscoveryResponse(routeConfigurations)
            }
        }
    }

    /// Puts a snapshot together from responses that are whole (state of the world), in any order.
    ///
    /// - Throws: the errors of all resources; if there are none, every reference to a resource that is not there.
    public init(node: Node, process: ProcessSettings = ProcessSettings(), responses: [DiscoveryResponse]) throws(WireErrors) {
        var resources: [DecodedResource] = []
        var errors: [WireError] = []
        for response in responses {
            do throws(WireErrors) {
                resources += try response.decodeResources()
            } catch {
                errors += error.errors
            }
        }
        if !errors.isEmpty { throw WireErrors(errors) }
        try self.init(node: node, process: process, resources: resources)
    }

    /// Puts a snapshot together from resources that came one by one, in any order.
    ///
    /// - Throws: every reference to a resource that is not there, every name that stands twice, every listener on the address of another.
    public init(
        node: Node, process: ProcessSettings = ProcessSettings(), resources: some Sequence<DecodedResource>
    ) throws(WireErrors) {
        self.init(node: node, process: process)
        for resource in resources { add(resource) }
        let errors = referenceErrors()
        if !errors.isEmpty { throw WireErrors(errors) }
    }

    private mutating func add(_ resource: DecodedResource) {
        switch resource {
        case .listener(let listener, let inlineRoutes):
            listeners.append(listener)
            routeConfigurations += inlineRoutes
        case .routeConfiguration(let routes): routeConfigurations.append(routes)
        case .cluster(let cluster): clusters.append(cluster)
        case .loadAssignment(let assignment): loadAssignments.append(assignment)
        case .secret(let secret): secrets.append(secret)
        }
    }

    /// Every reference between resources that leads nowhere, every name that stands twice, and every listener on the address of another.
    ///
    /// A secret that is not there is no error: what needs it stays closed and says so, as in Envoy, and the rest can serve.
    func referenceErrors() -> [WireError] {
        let routes = Set(routeConfigurations.map(\.name))
        let clusterNames = Set(clusters.map(\.name))
        let assignments = Set(loadAssignments.map(\.clusterName))
        var addresses: Set<SocketAddress> = []
        var errors: [WireError] = []

        func fail(_ resource: String, _ path: FieldPath, _ expected: String, _ found: String) {
            errors.append(WireError(resource: resource, error: FieldError(path: path, expected: expected, found: "\"\(found)\"")))
        }
        func check(_ target: ClusterTarget, _ resource: String, _ path: FieldPath) {
            switch target {
            case .cluster(let name):
                if !clusterNames.contains(name) { fail(resource, path / "cluster", "the name of a cluster of this snapshot", name) }
            case .weighted(let targets):
                for (index, target) in targets.enumerated() where !clusterNames.contains(target.name) {
                    let path = (path / "weighted_clusters" / "clusters")[index] / "name"
                    fail(resource, path, "the name of a cluster of this snapshot", target.name)
                }
            }
        }

        func checkNames(_ type: ResourceType, _ names: [String], _ field: String = "name") {
            var seen: Set<String> = []
            for name in names where !seen.insert(name).inserted {
                fail("\(type.name)/\(name)", FieldPath() / field, "a name of its own", name)
            }
        }

        checkNames(.listener, listeners.map(\.name))
        checkNames(.routeConfiguration, routeConfigurations.map(\.name))
        checkNames(.cluster, clusters.map(\.name))
        checkNames(.clusterLoadAssignment, loadAssignments.map(\.clusterName), "cluster_name")
        checkNames(.secret, secrets.map(\.name))
        for listener in listeners {
            let resource = "Listener/\(listener.name)"
            if listener.address.port != 0, !addresses.insert(listener.address).inserted {
                fail(resource, FieldPath() / "address", "an address of its own", listener.address.description)
            }
            for (index, chain) in listener.filterChains.enumerated() {
                let path = ((FieldPath() / "filter_chains")[index] / "filters")[0] / "typed_config"
                switch chain.filter {
                case .http(let manager) where !routes.contains(manager.routeConfigurationName):
                    fail(
                        resource, path / "rds" / "route_config_name", "the name of a route configuration of this snapshot",
                        manager.routeConfigurationName)
                case .http: break
                case .tcp(let proxy): check(proxy.target, resource, path)
                }
            }
        }
        for configuration in routeConfigurations {
            for (hostIndex, host) in configuration.virtualHosts.enumerated() {
                for (index, route) in host.routes.enumerated() {
                    guard case .forward(let action) = route.action else { continue }
                    let path = ((FieldPath() / "virtual_hosts")[hostIndex] / "routes")[index] / "route"
                    let resource = "RouteConfiguration/\(configuration.name)"
                    check(action.target, resource, path)
                    for (index, mirror) in action.mirrors.enumerated() where !clusterNames.contains(mirror.cluster) {
                        let path = (path / "request_mirror_policies")[index] / "cluster"
                        fail(resource, path, "the name of a cluster of this snapshot", mirror.cluster)
                    }
                }
            }
        }
        for cluster in clusters {
            guard case .eds(let name) = cluster.discovery, !assignments.contains(name) else { continue }
            let path = FieldPath() / "eds_cluster_config" / "service_name"
            fail("Cluster/\(cluster.name)", path, "the name of a load assignment of this snapshot", name)
        }
        return errors
    }
}

extension SnapshotContent: WireMessage {
    enum Fields: Int, WireField {
        case node = 1
        case process = 2
        case responses = 3
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.message(.node, node)
        message.message(.process, process)
        message.messages(.responses, responses)
    }

    static func read(_ message: MessageReader<Fields>) -> SnapshotContent? {
        let (node, process) = (message.required(.node, Node.self), message.required(.process, ProcessSettings.self))
        let responses = message.messages(.responses, DiscoveryResponse.self)
        guard let node, let process else { return nil }
        return SnapshotContent(node: node, process: process, responses: responses)
    }
}

extension ProcessSettings: WireMessage {
    /// A message of our own.
    enum Fields: Int, WireField {
        case admin_address = 1
        case workers = 2
        case drain_time = 3
        case expose_reply_details = 4
        case outlier_event_log_path = 5
        case max_memory_bytes = 6
        case min_body_rate = 7
        case stuck_time = 8
        case overrides = 9
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.message(.admin_address, adminAddress)
        if let workers { message.wrapped(.workers, workers) }
        message.duration(.drain_time, drainTime)
        message.bool(.expose_reply_details, exposeReplyDetails)
        message.string(.outlier_event_log_path, outlierEventLogPath ?? "")
        if let bytes = overload.maxMemoryBytes { message.number(.max_memory_bytes, bytes) }
        if overload.minBodyRate != OverloadSettings.defaultMinBodyRate { message.wrapped(.min_body_rate, overload.minBodyRate) }
        if overload.stuckTime != OverloadSettings.defaultStuckTime { message.duration(.stuck_time, overload.stuckTime) }
        message.messages(.overrides, overrides)
    }

    static func read(_ message: MessageReader<Fields>) -> ProcessSettings? {
        let path = message.string(.outlier_event_log_path)
        let workers = message.wrapped(.workers, in: 1...1024).map { Int($0) }
        if !message.has(.drain_time) { message.fail(.drain_time, expected: "a value", found: "nothing") }
        let drainTime = message.duration(.drain_time)
        var overload = OverloadSettings()
        if message.has(.max_memory_bytes) { overload.maxMemoryBytes = Int(clamping: message.number(.max_memory_bytes)) }
        if let rate = message.wrapped(.min_body_rate) { overload.minBodyRate = Int(rate) }
        if let time = message.duration(.stuck_time) { overload.stuckTime = time }
        guard let address = message.required(.admin_address, SocketAddress.self), let drainTime else { return nil }
        return ProcessSettings(
            adminAddress: address, workers: workers, drainTime: drainTime, exposeReplyDetails: message.bool(.expose_reply_details),
            outlierEventLogPath: path.isEmpty ? nil : path, overload: overload,
            overrides: message.messages(.overrides, BreakerOverride.self))
    }
}
