/// A resource of one kind, with what all have.
public protocol MeshResource: Hashable, Sendable {
    static var kind: ResourceKind { get }
    var meta: ResourceMeta { get }
}

extension MeshResource {
    public var key: ResourceKey { ResourceKey(kind: Self.kind, namespace: meta.namespace, name: meta.name) }
}

extension Mesh: MeshResource { public static var kind: ResourceKind { .mesh } }
extension VirtualNode: MeshResource { public static var kind: ResourceKind { .virtualNode } }
extension VirtualService: MeshResource { public static var kind: ResourceKind { .virtualService } }
extension VirtualRouter: MeshResource { public static var kind: ResourceKind { .virtualRouter } }
extension VirtualGateway: MeshResource { public static var kind: ResourceKind { .virtualGateway } }
extension GatewayRoute: MeshResource { public static var kind: ResourceKind { .gatewayRoute } }
extension BackendGroup: MeshResource { public static var kind: ResourceKind { .backendGroup } }
extension Sidecar: MeshResource { public static var kind: ResourceKind { .sidecar } }
extension EndpointSet: MeshResource { public static var kind: ResourceKind { .endpointSet } }
extension MeshPolicy: MeshResource { public static var kind: ResourceKind { .meshPolicy } }
extension TrafficPolicy: MeshResource { public static var kind: ResourceKind { .trafficPolicy } }

/// A resource of any kind.
public enum Resource: Hashable, Sendable {
    case mesh(Mesh)
    case virtualNode(VirtualNode)
    case virtualService(VirtualService)
    case virtualRouter(VirtualRouter)
    case virtualGateway(VirtualGateway)
    case gatewayRoute(GatewayRoute)
    case backendGroup(BackendGroup)
    case sidecar(Sidecar)
    case endpointSet(EndpointSet)
    case meshPolicy(MeshPolicy)
    case trafficPolicy(TrafficPolicy)

    public var key: ResourceKey {
        switch self {
        case .mesh(let resource): resource.key
        case .virtualNode(let resource): resource.key
        case .virtualService(let resource): resource.key
        case .virtualRouter(let resource): resource.key
        case .virtualGateway(let resource): resource.key
        case .gatewayRoute(let resource): resource.key
        case .backendGroup(let resource): resource.key
        case .sidecar(let resource): resource.key
        case .endpointSet(let resource): resource.key
        case .meshPolicy(let resource): resource.key
        case .trafficPolicy(let resource): resource.key
        }
    }
}

/// The resources of one kind, in the order of their keys: every run goes through them alike.
public struct ResourceTable<Value: MeshResource>: Hashable, Sendable, RandomAccessCollection {
    private var byKey: [ResourceKey: Value] = [:]
    private var keys: [ResourceKey] = []

    public init() {}

    public subscript(key: ResourceKey) -> Value? { byKey[key] }
    public subscript(namespace namespace: String?, name name: String) -> Value? {
        byKey[ResourceKey(kind: Value.kind, namespace: namespace, name: name)]
    }

    /// Adds a resource, or replaces the one of the same key.
    public mutating func insert(_ value: Value) {
        guard byKey.updateValue(value, forKey: value.key) == nil else { return }
        // Where it belongs by binary search: a mesh of thousands of resources loads in no time.
        var low = 0
        var high = keys.count
        while low < high {
            let middle = (low + high) / 2
            if keys[middle] < value.key { low = middle + 1 } else { high = middle }
        }
        keys.insert(value.key, at: low)
    }

    public mutating func remove(_ key: ResourceKey) {
        guard byKey.removeValue(forKey: key) != nil else { return }
        keys.remove(at: keys.firstIndex(of: key)!)
    }

    public var startIndex: Int { 0 }
    public var endIndex: Int { keys.count }
    public subscript(position: Int) -> Value { byKey[keys[position]]! }
}

/// All that was loaded, and where it stands in the files.
public struct MeshResources: Sendable {
    public var meshes = ResourceTable<Mesh>()
    public var virtualNodes = ResourceTable<VirtualNode>()
    public var virtualServices = ResourceTable<VirtualService>()
    public var virtualRouters = ResourceTable<VirtualRouter>()
    public var virtualGateways = ResourceTable<VirtualGateway>()
    public var gatewayRoutes = ResourceTable<GatewayRoute>()
    public var backendGroups = ResourceTable<BackendGroup>()
    public var sidecars = ResourceTable<Sidecar>()
    public var endpointSets = ResourceTable<EndpointSet>()
    public var meshPolicies = ResourceTable<MeshPolicy>()
    public var trafficPolicies = ResourceTable<TrafficPolicy>()
    /// By name; a namespace that no file declares has no labels.
    public var namespaces: [String: Namespace] = [:]
    public var places = SourceMap()

    public init() {}

    public mutating func insert(_ resource: Resource) {
        switch resource {
        case .mesh(let resource): meshes.insert(resource)
        case .virtualNode(let resource): virtualNodes.insert(resource)
        case .virtualService(let resource): virtualServices.insert(resource)
        case .virtualRouter(let resource): virtualRouters.insert(resource)
        case .virtualGateway(let resource): virtualGateways.insert(resource)
        case .gatewayRoute(let resource): gatewayRoutes.insert(resource)
        case .backendGroup(let resource): backendGroups.insert(resource)
        case .sidecar(let resource): sidecars.insert(resource)
        case .endpointSet(let resource): endpointSets.insert(resource)
        case .meshPolicy(let resource): meshPolicies.insert(resource)
        case .trafficPolicy(let resource): trafficPolicies.insert(resource)
        }
    }

    /// Takes a resource out, with its places.
    public mutating func remove(_ key: ResourceKey) {
        places.remove(key)
        switch key.kind {
        case .mesh: meshes.remove(key)
        case .virtualNode: virtualNodes.remove(key)
        case .virtualService: virtualServices.remove(key)
        case .virtualRouter: virtualRouters.remove(key)
        case .virtualGateway: virtualGateways.remove(key)
        case .gatewayRoute: gatewayRoutes.remove(key)
        case .backendGroup: backendGroups.remove(key)
        case .sidecar: sidecars.remove(key)
        case .endpointSet: endpointSets.remove(key)
        case .meshPolicy: meshPolicies.remove(key)
        case .trafficPolicy: trafficPolicies.remove(key)
        }
    }

    public subscript(key: ResourceKey) -> Resource? {
        switch key.kind {
        case .mesh: meshes[key].map { .mesh($0) }
        case .virtualNode: virtualNodes[key].map { .virtualNode($0) }
        case .virtualService: virtualServices[key].map { .virtualService($0) }
        case .virtualRouter: virtualRouters[key].map { .virtualRouter($0) }
        case .virtualGateway: virtualGateways[key].map { .virtualGateway($0) }
        case .gatewayRoute: gatewayRoutes[key].map { .gatewayRoute($0) }
        case .backendGroup: backendGroups[key].map { .backendGroup($0) }
        case .sidecar: sidecars[key].map { .sidecar($0) }
        case .endpointSet: endpointSets[key].map { .endpointSet($0) }
        case .meshPolicy: meshPolicies[key].map { .meshPolicy($0) }
        case .trafficPolicy: trafficPolicies[key].map { .trafficPolicy($0) }
        }
    }

    /// A namespace that no file declares still has a name, and Kubernetes labels it with that.
    public func labels(ofNamespace name: String) -> [String: String] {
        var labels = namespaces[name]?.labels ?? [:]
        labels["kubernetes.io/metadata.name"] = name
        return labels
    }
}

extension MeshResources {
    /// The resources whose keys `include` accepts, with their places, and all namespaces.
    public func filtered(_ include: (ResourceKey) -> Bool) -> MeshResources {
        var result = MeshResources()
        result.namespaces = namespaces
        result.places = places
        for resource in all {
            if include(resource.key) { result.insert(resource) } else { result.places.remove(resource.key) }
        }
        return result
    }

    /// Every resource, in the order of keys.
    public var all: [Resource] {
        var result: [Resource] = []
        result += meshes.map { .mesh($0) }
        result += virtualNodes.map { .virtualNode($0) }
        result += virtualServices.map { .virtualService($0) }
        result += virtualRouters.map { .virtualRouter($0) }
        result += virtualGateways.map { .virtualGateway($0) }
        result += gatewayRoutes.map { .gatewayRoute($0) }
        result += backendGroups.map { .backendGroup($0) }
        result += sidecars.map { .sidecar($0) }
        result += endpointSets.map { .endpointSet($0) }
        result += meshPolicies.map { .meshPolicy($0) }
        result += trafficPolicies.map { .trafficPolicy($0) }
        return result
    }
}
