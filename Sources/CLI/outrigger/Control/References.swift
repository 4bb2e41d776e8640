import ControlAPI
import MeshModel
import MeshYAML

/// Who names whom in a mesh.
enum References {
    /// The resources of a list, as this program reads them. What it cannot read is left out: the control plane has checked it.
    static func resources(_ items: [ResourceItem]) -> MeshResources {
        var resources = MeshResources()
        for item in items {
            let read = MeshLoader.manifest(
                item.document, file: item.resource.short, line: 1, namespace: item.resource.namespace, name: item.resource.name)
            switch read.manifest?.content {
            case .resource(let resource): resources.insert(resource)
            case .namespace(let namespace): resources.namespaces[namespace.name] = namespace
            case nil: break
            }
        }
        return resources
    }

    /// What a resource names.
    static func of(_ resource: Resource) -> Set<ResourceKey> {
        switch resource {
        case .mesh: []
        case .virtualNode(let node):
            Set(
                node.backends.compactMap { $0.virtualService.key(.virtualService, from: node.meta) }
                    + node.backendGroups.map { $0.key(.backendGroup, from: node.meta) })
        case .virtualService(let service):
            switch service.provider {
            case nil: []
            case .virtualNode(let reference): Set([reference.key(.virtualNode, from: service.meta)].compactMap(\.self))
            case .virtualRouter(let reference): Set([reference.key(.virtualRouter, from: service.meta)].compactMap(\.self))
            }
        case .virtualRouter(let router):
            Set(router.routes.flatMap { $0.rule.targets.compactMap { $0.virtualNode.key(.virtualNode, from: router.meta) } })
        case .virtualGateway: []
        case .gatewayRoute(let route):
            Set([route.rule.target.virtualService.key(.virtualService, from: route.meta)].compactMap(\.self))
        case .backendGroup(let group): Set(group.virtualServices.map { $0.key(.virtualService, from: group.meta) })
        case .sidecar(let sidecar):
            switch sidecar.subject {
            case .virtualNode(let reference): [reference.key(.virtualNode, from: sidecar.meta)]
            case .virtualGateway(let reference): [reference.key(.virtualGateway, from: sidecar.meta)]
            }
        case .endpointSet(let set): [set.virtualNode.key(.virtualNode, from: set.meta)]
        case .meshPolicy(let policy):
            Set(policy.exceptions.map { $0.virtualNode.key(.virtualNode, from: policy.meta) })
                .union([ResourceKey(kind: .mesh, namespace: nil, name: policy.mesh)])
        case .trafficPolicy(let policy):
            Set(policy.callerKeys + policy.allMirrors.map { $0.virtualNode.key(.virtualNode, from: policy.meta) }).union([policy.targetKey])
        }
    }

    /// Who names it, in the order of keys.
    static func users(of key: ResourceKey, in resources: MeshResources) -> [ResourceKey] {
        resources.all.filter { of($0).contains(key) }.map(\.key).sorted()
    }
}
