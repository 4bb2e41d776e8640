import Base
import ProxyConfig

extension Node: WireMessage {
    /// envoy.config.core.v3.Node.
    enum Fields: Int, WireField {
        case id = 1
        case cluster = 2
        case metadata = 3
        case locality = 4
        case user_agent_name = 6
    }

    /// What xDS has no field for stands in the metadata: `outrigger: {mesh, role, name}`.
    func write(to message: inout MessageWriter<Fields>) {
        message.string(.id, id)
        message.string(.cluster, cluster)
        message.message(.metadata, StructField.self) {
            $0.entry(outriggerMetadataKey) {
                $0.message(.struct_value, StructField.self) {
                    $0.entry("mesh") { $0.chosenString(.string_value, mesh) }
                    $0.entry("role") { $0.chosenString(.string_value, role.rawValue) }
                    $0.entry("name") { $0.chosenString(.string_value, name) }
                }
            }
        }
        if locality != Locality() { message.message(.locality, locality) }
        message.string(.user_agent_name, "outrigger")
    }

    /// Nodes that are not ours have no such metadata; then the id says it, if it has App Mesh's form.
    static func read(_ message: MessageReader<Fields>) -> Node? {
        let id = message.requiredString(.id)
        let locality = message.message(.locality, Locality.self) ?? Locality()
        let words = message.identityInMetadata() ?? message.identityInID(id)
        guard let words, let role = Role(rawValue: words.role) else {
            message.fail(.id, expected: "mesh/MESH/virtualNode/NAME or mesh/MESH/virtualGateway/NAME", found: "\"\(id)\"")
            return nil
        }
        var node = Node(mesh: words.mesh, role: role, name: words.name, locality: locality)
        node.id = id
        node.cluster = message.string(.cluster)
        return node
    }
}

extension MessageReader<Node.Fields> {
    fileprivate func identityInMetadata() -> (mesh: String, role: String, name: String)? {
        guard let ours = message(.metadata, StructField.self)?[outriggerMetadataKey]?.message(.struct_value, StructField.self) else {
            return nil
        }
        func word(_ key: String) -> String { ours[key]?.string(.string_value) ?? "" }
        guard !word("mesh").isEmpty, !word("name").isEmpty else { return nil }
        return (word("mesh"), word("role"), word("name"))
    }

    fileprivate func identityInID(_ id: String) -> (mesh: String, role: String, name: String)? {
        let parts = id.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 4, parts[0] == "mesh", !parts[1].isEmpty, !parts[3].isEmpty else { return nil }
        return (parts[1], parts[2], parts[3])
    }
}
