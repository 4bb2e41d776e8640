import Base
import ConfigText
import MeshModel
import ProxyConfig

/// One run of the compiler: what it reads, and what it has made so far.
struct Compilation {
    let resources: MeshView
    let mesh: Mesh
    /// The node or gateway that the snapshot is for.
    let subject: ResourceKey
    let sidecar: Sidecar?
    let options: CompileOptions

    private(set) var clusters: [String: Cluster] = [:]
    private(set) var loadAssignments: [String: ClusterLoadAssignment] = [:]
    private(set) var endpointSources: [String: EndpointSource] = [:]
    /// Whose endpoints are asked for: whether they have registered proxies decides what is made of them.
    private(set) var calledNodes: Set<ResourceKey> = []
    private(set) var inboundAddresses: [Port: SocketAddress] = [:]
    private(set) var notes: Set<Note> = []
    private(set) var errors: [CompileError] = []

    init(resources: MeshView, mesh: Mesh, subject: ResourceKey, options: CompileOptions) {
        self.resources = resources
        self.options = options
        self.mesh = mesh
        self.subject = subject
        sidecar = resources.sidecar(of: subject)
    }

    // MARK: What the steps say

    /// A value that stands in no file, at its place in the rendered snapshot.
    mutating func assume(_ path: String, _ value: String, _ source: String) {
        notes.insert(Note(kind: .silentDefault, path: path, value: value, text: source))
    }

    /// What was assumed of a value that is not there after all.
    mutating func retract(_ path: String) {
        notes = notes.filter { $0.kind != .silentDefault || !$0.path.hasPrefix(path) }
    }

    mutating func warn(_ resource: ResourceKey, _ message: String) {
        warn(resource, FieldPath(), message)
    }

    mutating func warn(_ resource: ResourceKey, _ path: FieldPath, _ message: String) {
        let field = path.steps.isEmpty ? "" : " \(path)"
        let place = resources.location(of: path, in: resource)
        notes.insert(Note(kind: .warning, path: "\(resource)\(field)", text: message, location: place))
    }

    mutating func fail(_ resource: ResourceKey, _ message: String) {
        fail(resource, FieldPath(), message)
    }

    mutating func fail(_ resource: ResourceKey, _ path: FieldPath, _ message: String) {
        let place = resources.location(of: path, in: resource)
        let error = CompileError(location: place, resource: resource, path: path, message: message)
        if !errors.contains(error) { errors.append(error) }
    }

    mutating func add(_ cluster: Cluster, _ assignment: ClusterLoadAssignment? = nil) {
        clusters[cluster.name] = cluster
        if let assignment { loadAssignments[cluster.name] = assignment }
    }

    mutating func noteCall(of node: ResourceKey) {
        calledNodes.insert(node)
    }

    mutating func add(_ source: EndpointSource, of assignment: String) {
        endpointSources[assignment] = source
    }

    mutating func setInbound(_ port: Port, _ address: SocketAddress) {
        inboundAddresses[port] = address
    }

    /// Where all callers may come from, if nobody says where.
    var anyAddress: IPAddress { options.hostAddress ?? .anyV4 }
    /// Where only the application beside the proxy may come from, if nobody says where.
    var localAddress: IPAddress { options.hostAddress ?? .loopbackV4 }

    mutating func updateCluster(_ name: String, _ change: (inout Cluster) -> Void) {
        guard var cluster = clusters[name] else { return }
        change(&cluster)
        clusters[name] = cluster
    }

    // MARK: The whole

    mutating func snapshot(
        role: Node.Role, name: String, listeners: [Listener], routeConfigurations: [RouteConfiguration]
    ) -> Snapshot {
        assumeLimits(listeners)
        return Snapshot(
            node: Node(mesh: mesh.meshName, role: role, name: name, locality: Locality(zone: sidecar?.zone ?? "")),
            process: processSettings(),
            listeners: listeners.sorted { $0.name < $1.name },
            routeConfigurations: routeConfigurations.sorted { $0.name < $1.name },
            clusters: clusters.values.sorted { $0.name < $1.name },
            loadAssignments: loadAssignments.values.sorted { $0.clusterName < $1.clusterName })
    }

    /// What every connection manager and every HTTP/2 connection takes for granted.
    private mutating func assumeLimits(_ listeners: [Listener]) {
        for listener in listeners {
            for chain in listener.filterChains {
                guard case .http(let manager) = chain.filter else { continue }
                let path = "listeners[\(listener.name)].filter_chains[\(chain.name)].http_connection_manager"
                assume("\(path).upgrade_types", manager.upgradeTypes.joined(separator: ","), Defaults.appMesh)
                assume("\(path).idle_timeout", manager.idleTimeout.map(duration) ?? "none", Defaults.outrigger)
                assume("\(path).request_headers_timeout", duration(manager.requestHeadersTimeout), Defaults.outrigger)
                assume("\(path).max_header_bytes", "\(manager.maxHeaderBytes)", Defaults.outrigger)
                assume("\(path).max_headers_count", "\(manager.maxHeaderCount)", Defaults.outrigger)
                if case .sanitizeSet = manager.forwardClientCertificate {
                    assume("\(path).forward_client_cert_details.mode", "SANITIZE_SET", Defaults.outrigger)
                }
                if manager.codec == .auto {
                    let chosen = chain.tls == nil ? "by its first bytes" : "by ALPN"
                    assume("\(path).codec_type", "AUTO", "\(Defaults.outrigger): HTTP/2 or HTTP/1, \(chosen)")
                }
                if manager.codec != .http1 {
                    assumeLimits(
                        manager.http2, path, areStreamsGiven: listener.direction == .inbound && sidecar?.maxConcurrentStreams != nil)
                }
            }
        }
        for cluster in clusters.values where cluster.upstreamProtocol == .http2 || cluster.upstreamProtocol == .auto {
            assumeLimits(cluster.http2, "clusters[\(cluster.name)]", areStreamsGiven: false)
        }
    }

    private mutating func assumeLimits(_ options: HTTP2Options, _ parent: String, areStreamsGiven: Bool) {
        let path = "\(parent).http2_protocol_options"
        if !areStreamsGiven { assume("\(path).max_concurrent_streams", "\(options.maxConcurrentStreams)", Defaults.outrigger) }
        assume("\(path).initial_stream_window_size", "\(options.initialStreamWindow)", Defaults.outrigger)
        assume("\(path).initial_connection_window_size", "\(options.initialConnectionWindow)", Defaults.outrigger)
        assume("\(path).allow_connect", "\(options.allowsExtendedConnect)", Defaults.outrigger)
    }

    private mutating func processSettings() -> ProcessSettings {
        let adminAddress = SocketAddress(localAddress, Defaults.adminPort)
        if sidecar?.adminAddress == nil { assume("process.admin_address", "\(adminAddress)", Defaults.appMesh) }
        if sidecar?.drainTime == nil { assume("process.drain_time", "20s", Defaults.appMesh) }
        return ProcessSettings(
            adminAddress: sidecar?.adminAddress ?? adminAddress, workers: sidecar?.workers,
            drainTime: sidecar?.drainTime ?? Defaults.drainTime, exposeReplyDetails: sidecar?.exposeReplyDetails ?? false,
            outlierEventLogPath: sidecar?.outlierEventLogPath, overload: overloadSettings(sidecar?.overload))
    }

    private func overloadSettings(_ overload: Sidecar.Overload?) -> OverloadSettings {
        var settings = OverloadSettings(maxMemoryBytes: overload?.maxMemoryMiB.map { $0 << 20 })
        if let rate = overload?.minBodyRate { settings.minBodyRate = rate }
        if let time = overload?.stuckTime { settings.stuckTime = time }
        return settings
    }

    /// Two listeners on one address: the second could never be bound.
    mutating func checkAddresses(_ snapshot: Snapshot) {
        var owners: [SocketAddress: String] = [:]
        var taken = snapshot.listeners.map { ($0.name, $0.address) }
        taken.append(("the admin interface", snapshot.process.adminAddress))
        for (name, address) in taken where address.port != 0 {
            if let owner = owners.updateValue(name, forKey: address) {
                let remedy = "give them addresses of their own in a Sidecar (outrigger/v1)"
                fail(subject, "\(owner == name ? "two listeners" : "\(owner) and \(name)") would both bind \(address); \(remedy)")
            }
        }
    }

    /// A listener whose connections come back to it: requests would go round until something gives way. An application on the port that
    /// its proxy listens on is the usual way to get there.
    mutating func checkLoops(_ snapshot: Snapshot) {
        for listener in snapshot.listeners {
            // What comes from the mesh to a node goes to the application, all else to the mesh.
            let leadsToApp = listener.direction == .inbound && snapshot.node.role == .virtualNode
            for cluster in snapshot.clusters where cluster.name.hasPrefix("cds_ingress_") == leadsToApp {
                for address in cluster.fixedAddresses(snapshot) where listener.address.takes(address) {
                    let remedy = leadsToApp ? "spec.inbound: bind, app" : "spec.inbound, spec.outbound"
                    fail(
                        subject,
                        "\(listener.name) binds \(listener.address), and \(cluster.name) leads to \(address), back to it; "
                            + "give one of the two another address in a Sidecar (\(remedy))")
                }
            }
        }
    }

    func accessLogs(_ file: AccessLogFile?) -> [AccessLog] {
        guard let file = sidecar?.accessLog ?? file else { return [] }
        let format: AccessLog.Format =
            switch file.format {
            case nil: .standard
            case .text(let text): .text(text)
            case .json(let fields): .json(fields.map { AccessLog.Field(key: $0.key, value: $0.value) })
            }
        return [AccessLog(path: file.path, format: format)]
    }
}

extension Cluster {
    fileprivate func fixedAddresses(_ snapshot: Snapshot) -> [SocketAddress] {
        let assignment: ClusterLoadAssignment? =
            switch discovery {
            case .fixed(let assignment), .dns(let assignment, _): assignment
            case .eds(let name): snapshot.loadAssignments.first { $0.clusterName == name }
            case .originalDestination: nil
            }
        return assignment?.localities.flatMap(\.endpoints).compactMap { endpoint in
            if case .ip(let ip) = endpoint.host { SocketAddress(ip, endpoint.port) } else { nil }
        } ?? []
    }
}

extension SocketAddress {
    /// Whether a listener bound here takes connections to the other address, as far as one can know without asking the machine.
    fileprivate func takes(_ other: SocketAddress) -> Bool {
        port == other.port && (ip == other.ip || other.ip.isLoopback && (ip == .anyV4 || ip == .v6(0, 0)))
    }
}

extension FieldPath {
    /// `FieldPath.spec / "listeners"`.
    static let spec = FieldPath([.key("spec")])
}

/// A limit of App Mesh in the 32 bits of xDS; more than that is no limit to anybody.
func saturating(_ number: Int) -> UInt32 {
    UInt32(clamping: number)
}
