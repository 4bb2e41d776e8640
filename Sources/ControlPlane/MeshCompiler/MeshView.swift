import Base
import MeshModel

/// The mesh as one compilation sees it. Whatever it looks at is written down, so that it is known which changes do not concern it.
struct MeshView {
    fileprivate final class Log {
        var readings: Set<Reading> = []
    }

    /// Resources of one kind, by key.
    struct Table<Value: MeshResource> {
        fileprivate let all: ResourceTable<Value>
        fileprivate let log: Log

        subscript(key: ResourceKey) -> Value? {
            log.readings.insert(.resource(key))
            return all[key]
        }
    }

    private let resources: MeshResources
    private let tables: MeshIndex.Tables
    private let log = Log()

    init(_ index: MeshIndex) {
        resources = index.resources
        tables = index.tables
    }

    /// All that was looked at so far.
    var readings: Set<Reading> { log.readings }

    var virtualNodes: Table<VirtualNode> { Table(all: resources.virtualNodes, log: log) }
    var virtualServices: Table<VirtualService> { Table(all: resources.virtualServices, log: log) }
    var virtualRouters: Table<VirtualRouter> { Table(all: resources.virtualRouters, log: log) }
    var virtualGateways: Table<VirtualGateway> { Table(all: resources.virtualGateways, log: log) }
    var backendGroups: Table<BackendGroup> { Table(all: resources.backendGroups, log: log) }

    func membership(ofNamespace namespace: String) -> MeshMembership {
        log.readings.insert(.membership(namespace: namespace))
        return resources.membership(ofNamespace: namespace)
    }

    /// What the certificates of a node's or gateway's proxies call them; nil: they cannot have one.
    func identity(of key: ResourceKey) -> String? {
        if let namespace = key.namespace { log.readings.insert(.membership(namespace: namespace)) }
        return resources.identity(of: key)
    }

    func policy(of mesh: Mesh) -> MeshPolicy? {
        log.readings.insert(.policy(mesh: mesh.meta.name))
        return tables.policies[mesh.meta.name]
    }

    /// How a node is called, and what its listeners take, where its own resources say nothing of TLS.
    func mutualTLS(of node: VirtualNode, in mesh: Mesh) -> MeshPolicy.MutualTLS {
        policy(of: mesh)?.mode(of: node.key) ?? .permissive
    }

    /// What is attached to a resource, in the order of keys, whoever the callers are.
    func trafficPolicies(of target: ResourceKey) -> [TrafficPolicy] {
        log.readings.insert(.trafficPolicies(of: target))
        return tables.trafficPolicies[target] ?? []
    }

    func sidecar(of subject: ResourceKey) -> Sidecar? {
        log.readings.insert(.sidecar(of: subject))
        return tables.sidecars[subject]
    }

    func endpointSets(of node: ResourceKey) -> [EndpointSet] {
        log.readings.insert(.endpointSets(of: node))
        return tables.endpointSets[node] ?? []
    }

    func routers(to node: ResourceKey) -> [VirtualRouter] {
        log.readings.insert(.routers(to: node))
        return tables.routers[node] ?? []
    }

    func services(inNamespace namespace: String) -> [VirtualService] {
        log.readings.insert(.services(namespace: namespace))
        return tables.services[namespace] ?? []
    }

    func gatewayRoutes(of gateway: ResourceKey) -> [MeshIndex.SelectedRoute] {
        log.readings.insert(.gatewayRoutes(of: gateway))
        return tables.gatewayRoutes[gateway] ?? []
    }

    /// The place of a field, or of the nearest around it that its file has.
    func location(of path: FieldPath = FieldPath(), in key: ResourceKey) -> SourceLocation? {
        log.readings.insert(.resource(key))
        return resources.places.location(of: path, in: key)
    }
}
