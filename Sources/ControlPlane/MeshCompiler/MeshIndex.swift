public import MeshModel
import Synchronization

/// The resources of a mesh, and what compilations look for in them, found once for all of them.
///
/// Made at the first look, which costs a pass over all resources.
public final class MeshIndex: Sendable {
    public let resources: MeshResources
    private let found = Mutex<Tables?>(nil)

    public init(_ resources: MeshResources) {
        self.resources = resources
    }

    /// A GatewayRoute that a gateway selects.
    struct SelectedRoute: Hashable {
        var route: GatewayRoute
        /// The names of all gateways that do.
        var gateways: [String]
    }

    /// What each list holds is in the order of keys.
    struct Tables {
        /// By the node or gateway that they are for: the first one counts.
        var sidecars: [ResourceKey: Sidecar] = [:]
        /// By node.
        var endpointSets: [ResourceKey: [EndpointSet]] = [:]
        /// By each node that a route of theirs leads to.
        var routers: [ResourceKey: [VirtualRouter]] = [:]
        /// By namespace.
        var services: [String: [VirtualService]] = [:]
        /// By gateway.
        var gatewayRoutes: [ResourceKey: [SelectedRoute]] = [:]

        /// By mesh.
        var policies: [String: MeshPolicy] = [:]
        /// By what they are attached to.
        var trafficPolicies: [ResourceKey: [TrafficPolicy]] = [:]

        fileprivate init(_ resources: MeshResources) {
            for policy in resources.meshPolicies where policies[policy.mesh] == nil { policies[policy.mesh] = policy }
            for policy in resources.trafficPolicies { trafficPolicies[policy.targetKey, default: []].append(policy) }
            for sidecar in resources.sidecars where sidecars[sidecar.subjectKey] == nil { sidecars[sidecar.subjectKey] = sidecar }
            for set in resources.endpointSets { endpointSets[set.node, default: []].append(set) }
            for router in resources.virtualRouters {
                for node in router.nodes { routers[node, default: []].append(router) }
            }
            for service in resources.virtualServices { services[service.meta.namespace, default: []].append(service) }
            for route in resources.gatewayRoutes {
                let owners = resources.virtualGateways.filter { $0.selects(route, resources) }
                let selected = SelectedRoute(route: route, gateways: owners.map(\.meta.name))
                for owner in owners { gatewayRoutes[owner.key, default: []].append(selected) }
            }
        }
    }

    var tables: Tables {
        found.withLock { found in
            if let found { return found }
            let tables = Tables(resources)
            found = tables
            return tables
        }
    }
}

/// Something of a mesh that a compilation looked at: what it found there, or that there was nothing.
public enum Reading: Hashable, Sendable {
    /// The resource of this key, and where it stands.
    case resource(ResourceKey)
    /// Which mesh the namespace belongs to.
    case membership(namespace: String)
    case sidecar(of: ResourceKey)
    case endpointSets(of: ResourceKey)
    /// The routers with a route to this node.
    case routers(to: ResourceKey)
    case services(namespace: String)
    /// What this gateway selects.
    case gatewayRoutes(of: ResourceKey)
    /// By the name of the Mesh.
    case policy(mesh: String)
    /// What is attached to this resource.
    case trafficPolicies(of: ResourceKey)
}

/// How one mesh differs from another, in the terms of readings.
///
/// What was compiled from the one is what would be compiled from the other if none of its readings is touched: a compilation sees nothing of
/// a mesh but through `MeshView`, which writes every look down.
public struct MeshChanges: Sendable {
    private(set) var readings: Set<Reading> = []
    /// Which mesh a namespace belongs to depends on all of them.
    private(set) var areMeshesChanged = false

    public var isEmpty: Bool { readings.isEmpty && !areMeshesChanged }

    /// Whether what was compiled with these readings may be something else now.
    public func touch(_ others: Set<Reading>) -> Bool {
        if areMeshesChanged { return true }
        let (few, many) = readings.count < others.count ? (readings, others) : (others, readings)
        return few.contains { many.contains($0) }
    }

    /// - Complexity: A look at each resource; equal ones that share their storage are not walked through.
    public init(from before: MeshIndex, to after: MeshIndex) {
        guard before !== after else { return }
        let (old, new) = (before.resources, after.resources)
        compare(\.meshes, old, new) { changes, _ in changes.areMeshesChanged = true }
        compare(\.virtualNodes, old, new) { _, _ in }
        compare(\.backendGroups, old, new) { _, _ in }
        compare(\.virtualServices, old, new) { $0.readings.insert(.services(namespace: $1.meta.namespace)) }
        compare(\.sidecars, old, new) { $0.readings.insert(.sidecar(of: $1.subjectKey)) }
        compare(\.endpointSets, old, new) { $0.readings.insert(.endpointSets(of: $1.node)) }
        compare(\.meshPolicies, old, new) { $0.readings.insert(.policy(mesh: $1.mesh)) }
        compare(\.trafficPolicies, old, new) { $0.readings.insert(.trafficPolicies(of: $1.targetKey)) }
        compare(\.virtualRouters, old, new) { changes, router in
            for node in router.nodes { changes.readings.insert(.routers(to: node)) }
        }
        var areGatewaysChanged = false
        compare(\.virtualGateways, old, new) { _, _ in areGatewaysChanged = true }
        compare(\.gatewayRoutes, old, new) { _, _ in areGatewaysChanged = true }
        for name in Set(old.namespaces.keys).union(new.namespaces.keys) where old.namespaces[name] != new.namespaces[name] {
            readings.insert(.membership(namespace: name))
            areGatewaysChanged = true
        }
        guard areGatewaysChanged else { return }
        let (oldRoutes, newRoutes) = (before.tables.gatewayRoutes, after.tables.gatewayRoutes)
        for gateway in Set(oldRoutes.keys).union(newRoutes.keys) where oldRoutes[gateway] != newRoutes[gateway] {
            readings.insert(.gatewayRoutes(of: gateway))
        }
    }

    /// - Parameter note: what else may be seen of a resource that changed; told of it as it was and as it is.
    private mutating func compare<Value>(
        _ table: KeyPath<MeshResources, ResourceTable<Value>>, _ old: MeshResources, _ new: MeshResources,
        _ note: (inout MeshChanges, Value) -> Void
    ) {
        for before in old[keyPath: table] {
            let key = before.key
            let after = new[keyPath: table][key]
            guard before != after || old.places.places(in: key) != new.places.places(in: key) else { continue }
            readings.insert(.resource(key))
            note(&self, before)
            if let after { note(&self, after) }
        }
        for after in new[keyPath: table] where old[keyPath: table][after.key] == nil {
            readings.insert(.resource(after.key))
            note(&self, after)
        }
    }
}

extension Sidecar {
    /// The node or gateway that it is for.
    fileprivate var subjectKey: ResourceKey {
        switch subject {
        case .virtualNode(let reference): reference.key(.virtualNode, from: meta)
        case .virtualGateway(let reference): reference.key(.virtualGateway, from: meta)
        }
    }
}

extension EndpointSet {
    fileprivate var node: ResourceKey { virtualNode.key(.virtualNode, from: meta) }
}

extension VirtualRouter {
    /// Those that its routes lead to.
    fileprivate var nodes: Set<ResourceKey> {
        Set(routes.lazy.flatMap(\.rule.targets).compactMap { $0.virtualNode.key(.virtualNode, from: self.meta) })
    }
}

extension VirtualGateway {
    fileprivate func selects(_ route: GatewayRoute, _ resources: MeshResources) -> Bool {
        guard let namespaceSelector, namespaceSelector.matches(resources.labels(ofNamespace: route.meta.namespace)) else { return false }
        return gatewayRouteSelector?.matches(route.meta.labels) ?? true
    }
}
