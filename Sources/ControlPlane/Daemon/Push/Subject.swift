import MeshCompiler
import MeshModel
import Projections
import ProxyConfig
import XDSWire

extension MeshResources {
    /// Whose proxy a client is. Proxies of ours name the resource, those that App Mesh had and gRPC clients name the mesh-side name.
    ///
    /// - Returns: nil where there is none, or more than one.
    func subject(of client: ClientNode) -> MeshCompiler.Subject? {
        func find<Resource: MeshNamed>(_ table: ResourceTable<Resource>) -> MeshModel.ResourceKey? {
            let found = table.filter { resource in
                if !client.namespace.isEmpty, resource.meta.namespace != client.namespace { return false }
                // NAME.NAMESPACE too, as people name nodes elsewhere.
                let names = [resource.meshName, resource.meta.name, "\(resource.meta.name).\(resource.meta.namespace)"]
                return names.contains(client.name)
            }
            // The mesh-side name says more than the Kubernetes name, which several namespaces may have.
            let exact = found.filter { $0.meshName == client.name }
            return exact.count == 1 ? exact[0].key : found.count == 1 ? found[0].key : nil
        }
        let node = client.role == .virtualGateway ? nil : find(virtualNodes)
        let gateway = client.role == .virtualNode ? nil : find(virtualGateways)
        switch (node, gateway) {
        case (let node?, nil): return .virtualNode(node)
        case (nil, let gateway?): return .virtualGateway(gateway)
        default: return nil
        }
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
