import MeshCompiler
import MeshModel
import Projections
import ProxyConfig
import XDSWire

/// The nodes and gateways of a mesh by name. Made once for each revision: streams and reports come by the thousand.
struct SubjectIndex {
    private struct Named {
        var key: MeshModel.ResourceKey
        var meshName: String
    }

    /// By each of its names; in the order of keys.
    private var nodes: [String: [Named]] = [:]
    private var gateways: [String: [Named]] = [:]

    init(_ mesh: MeshResources = MeshResources()) {
        for node in mesh.virtualNodes { Self.add(node, to: &nodes) }
        for gateway in mesh.virtualGateways { Self.add(gateway, to: &gateways) }
    }

    private static func add(_ resource: some MeshNamed, to table: inout [String: [Named]]) {
        let named = Named(key: resource.key, meshName: resource.meshName)
        // NAME.NAMESPACE too, as people name nodes elsewhere.
        let names = [resource.meshName, resource.meta.name, "\(resource.meta.name).\(resource.meta.namespace)"]
        for name in Set(names) { table[name, default: []].append(named) }
    }

    /// Whose proxy a client is. Proxies of ours name the resource, those that App Mesh had and gRPC clients name the mesh-side name.
    ///
    /// - Returns: nil where there is none, or more than one.
    func subject(of client: ClientNode) -> MeshCompiler.Subject? {
        func find(_ table: [String: [Named]]) -> MeshModel.ResourceKey? {
            let found = (table[client.name] ?? []).filter { client.namespace.isEmpty || $0.key.namespace == client.namespace }
            // The mesh-side name says more than the Kubernetes name, which several namespaces may have.
            let exact = found.filter { $0.meshName == client.name }
            return exact.count == 1 ? exact[0].key : found.count == 1 ? found[0].key : nil
        }
        let node = client.role == .virtualGateway ? nil : find(nodes)
        let gateway = client.role == .virtualNode ? nil : find(gateways)
        switch (node, gateway) {
        case (let node?, nil): return .virtualNode(node)
        case (nil, let gateway?): return .virtualGateway(gateway)
        default: return nil
        }
    }

    /// The words between the underscores of a cluster's name; one with more was not made by us.
    private static let maxWords = 32

    /// The node that a cluster of ours stands for: its name is `cds_egress_MESH_NODE_PROTOCOL_PORT`, and each part may hold underscores.
    /// The longest node's name that is in it is meant.
    func node(ofEgressCluster name: String) -> MeshModel.ResourceKey? {
        let words = name.split(separator: "_", maxSplits: Self.maxWords + 2, omittingEmptySubsequences: false).dropFirst(2)
        // Before the node stands the mesh, behind it the protocol.
        guard words.count > 2, words.count <= Self.maxWords else { return nil }
        var best: Named?
        for first in words.indices.dropFirst() {
            for last in first..<(words.endIndex - 1) {
                let part = String(words[first].base[words[first].startIndex..<words[last].endIndex])
                guard part.utf8.count > best?.meshName.utf8.count ?? 0 else { continue }
                best = nodes[part]?.first { $0.meshName == part } ?? best
            }
        }
        return best?.key
    }
}

extension MeshCompiler.Subject {
    var objectKey: ObjectKey { ObjectKey(key) }

    init?(_ object: ObjectKey) {
        guard let key = object.resource else { return nil }
        switch key.kind {
        case .virtualNode: self = .virtualNode(key)
        case .virtualGateway: self = .virtualGateway(key)
        default: return nil
        }
    }
}
