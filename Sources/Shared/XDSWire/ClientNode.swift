public import Base
public import ProxyConfig

/// The node of an ADS stream or of a report as it comes in: who asks, with what program, and where it can be reached
/// (envoy.config.core.v3.Node). A snapshot's `Node` has none of what may change while its content stays the same.
public struct ClientNode: Hashable, Sendable {
    /// What program asks, as `user_agent_name` says.
    public enum Program: Hashable, Sendable {
        case outrigger
        case envoy
        /// A gRPC client, which reads xDS by itself.
        case grpc
        case other
    }

    public var id: String
    public var cluster: String
    /// Empty where the client knows its VirtualNode by namespace and name only.
    public var mesh: String
    /// Nil where the client does not know whether it is a node's or a gateway's.
    public var role: Node.Role?
    /// The mesh-side name of the VirtualNode or VirtualGateway.
    public var name: String
    /// Of the VirtualNode's resource. Empty = not said.
    public var namespace: String
    /// Which of the proxies of one VirtualNode. Empty = the only one.
    public var instance: String
    /// Where other proxies reach this one.
    public var address: IPAddress?
    /// What stands in place of 0.0.0.0 and 127.0.0.1 in this instance's listeners.
    public var host: IPAddress?
    public var locality: Locality
    public var userAgentName: String
    public var userAgentVersion: String
    public var clientFeatures: [String]

    /// A node that knows all its names.
    public init(
        _ node: Node, namespace: String = "", instance: String = "", address: IPAddress? = nil, host: IPAddress? = nil,
        userAgentVersion: String = ""
    ) {
        id = node.id
        cluster = node.cluster
        mesh = node.mesh
        role = node.role
        name = node.name
        self.namespace = namespace
        self.instance = instance
        self.address = address
        self.host = host
        locality = node.locality
        userAgentName = ClientNode.ownUserAgent
        self.userAgentVersion = userAgentVersion
        clientFeatures = []
    }

    /// A proxy that is told its name, and perhaps its namespace, and leaves it to the control plane to find the mesh. Its id is
    /// `namespace/name`, or the name.
    public init(
        name: String, namespace: String = "", instance: String = "", address: IPAddress? = nil, host: IPAddress? = nil,
        locality: Locality = Locality(), userAgentVersion: String = ""
    ) {
        id = namespace.isEmpty ? name : "\(namespace)/\(name)"
        cluster = id
        mesh = ""
        role = nil
        self.name = name
        self.namespace = namespace
        self.instance = instance
        self.address = address
        self.host = host
        self.locality = locality
        userAgentName = ClientNode.ownUserAgent
        self.userAgentVersion = userAgentVersion
        clientFeatures = []
    }

    static let ownUserAgent = "outrigger"

    /// The node of a snapshot; nil where mesh or role are not known.
    public var node: Node? {
        guard let role, !mesh.isEmpty else { return nil }
        var node = Node(mesh: mesh, role: role, name: name, locality: locality)
        node.id = id
        node.cluster = cluster
        return node
    }

    public var program: Program {
        if userAgentName == Self.ownUserAgent { return .outrigger }
        if userAgentName == "envoy" { return .envoy }
        return userAgentName.hasPrefix("gRPC ") ? .grpc : .other
    }
}

extension ClientNode: WireMessage {
    /// envoy.config.core.v3.Node.
    enum Fields: Int, WireField {
        case id = 1
        case cluster = 2
        case metadata = 3
        case locality = 4
        case user_agent_name = 6
        case user_agent_version = 7
        case user_agent_build_version = 8
        case client_features = 10
    }

    /// What xDS has no field for stands in the metadata, under `outrigger`. Empty values are left out.
    func write(to message: inout MessageWriter<Fields>) {
        message.string(.id, id)
        message.string(.cluster, cluster)
        let entries = [
            ("mesh", mesh), ("role", role?.rawValue ?? ""), ("name", name), ("namespace", namespace), ("instance", instance),
            ("address", address?.description ?? ""), ("host", host?.description ?? ""),
        ].filter { !$0.1.isEmpty }
        message.message(.metadata, StructField.self) {
            $0.entry(outriggerMetadataKey) {
                $0.message(.struct_value, StructField.self) {
                    for (key, value) in entries { $0.entry(key) { $0.chosenString(.string_value, value) } }
                }
            }
        }
        if locality != Locality() { message.message(.locality, locality) }
        message.string(.user_agent_name, userAgentName)
        message.string(.user_agent_version, userAgentVersion)
        message.strings(.client_features, clientFeatures)
    }

    /// A node without our metadata (Envoy's, a gRPC client's) is what its id says: `mesh/MESH/virtualNode/NAME`, and behind one more
    /// slash its instance. An ARN of App Mesh, which ends so, will do. Anything else is refused: nobody could say what to send it.
    static func read(_ message: MessageReader<Fields>) -> ClientNode? {
        let id = message.requiredString(.id)
        let ours = message.message(.metadata, StructField.self)?[outriggerMetadataKey]?.message(.struct_value, StructField.self)
        func word(_ key: String) -> String { ours?[key]?.string(.string_value) ?? "" }
        var node = ClientNode(
            name: word("name"), namespace: word("namespace"), instance: word("instance"),
            locality: message.message(.locality, Locality.self) ?? Locality())
        node.id = id
        node.cluster = message.string(.cluster)
        node.mesh = word("mesh")
        if !word("role").isEmpty {
            node.role = Node.Role(rawValue: word("role"))
            if node.role == nil { message.fail(.metadata, expected: "the role virtualNode or virtualGateway", found: word("role")) }
        }
        if node.name.isEmpty {
            guard node.takeIdentity(from: id) else {
                message.fail(.id, expected: "mesh/MESH/virtualNode/NAME or mesh/MESH/virtualGateway/NAME", found: "\"\(id)\"")
                return nil
            }
        }
        func address(_ key: String) -> IPAddress? {
            if word(key).isEmpty { return nil }
            let address = IPAddress(word(key))
            if address == nil { message.fail(.metadata, expected: "an IP address as \(key)", found: "\"\(word(key))\"") }
            return address
        }
        node.address = address("address")
        node.host = address("host")
        node.userAgentName = message.string(.user_agent_name)
        node.userAgentVersion = message.userAgentVersion()
        node.clientFeatures = message.strings(.client_features)
        return node
    }

    private mutating func takeIdentity(from id: String) -> Bool {
        // arn:aws:appmesh:REGION:ACCOUNT:mesh/...
        let path = id.hasPrefix("arn:") ? String(id.split(separator: ":", maxSplits: 5).last ?? "") : id
        let parts = path.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard (4...5).contains(parts.count), parts[0] == "mesh", !parts[1].isEmpty, let role = Node.Role(rawValue: parts[2]),
            !parts[3].isEmpty
        else { return false }
        mesh = parts[1]
        self.role = role
        name = parts[3]
        if parts.count == 5, instance.isEmpty { instance = parts[4] }
        return true
    }
}

/// envoy.config.core.v3.BuildVersion.
enum BuildVersionField: Int, WireField {
    case version = 1
}

/// envoy.type.v3.SemanticVersion.
enum SemanticVersionField: Int, WireField {
    case major_number = 1
    case minor_number = 2
    case patch = 3
}

extension MessageReader<ClientNode.Fields> {
    /// Envoy gives numbers, others text.
    fileprivate func userAgentVersion() -> String {
        guard
            let version = message(.user_agent_build_version, BuildVersionField.self)?.message(.version, SemanticVersionField.self)
        else { return string(.user_agent_version) }
        return "\(version.number(.major_number)).\(version.number(.minor_number)).\(version.number(.patch))"
    }
}
