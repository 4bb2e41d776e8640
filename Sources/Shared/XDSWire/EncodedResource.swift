import Base
public import ProxyConfig

/// A resource by type and name.
public struct ResourceKey: Hashable, Sendable, CustomStringConvertible {
    public var type: ResourceType
    public var name: String

    public init(_ type: ResourceType, _ name: String) {
        self.type = type
        self.name = name
    }

    /// `Cluster/cart`.
    public var description: String { "\(type.name)/\(name)" }
}

/// A resource ready to be sent (envoy.service.discovery.v3.Resource): its bytes are made once and shared by all streams.
public struct EncodedResource: Hashable, Sendable {
    /// The resource's own name.
    public var name: String
    /// The hash of its bytes. Empty only where a foreign control plane sends none.
    public var version: String
    public var message: AnyMessage

    public init(name: String, version: String, message: AnyMessage) {
        self.name = name
        self.version = version
        self.message = message
    }

    public init<Resource: WireResource>(_ resource: Resource) {
        self.init(name: resource.resourceName, message: AnyMessage(resource))
    }

    /// The version is the hash of the message.
    public init(name: String, message: AnyMessage) {
        self.init(name: name, version: ContentHash(message.value).description, message: message)
    }

    /// - Throws: the errors of the resource, or that the name in the message is another.
    public func decode(_ type: ResourceType) throws(WireErrors) -> DecodedResource {
        func fail(_ field: String, _ expected: String, _ found: String) -> WireErrors {
            let error = FieldError(path: FieldPath() / field, expected: expected, found: found)
            return WireErrors([WireError(resource: "\(type.name)/\(name)", error: error)])
        }
        guard message.typeURL == type.typeURL else {
            throw fail("type_url", type.typeURL, message.typeURL.isEmpty ? "nothing" : message.typeURL)
        }
        let decoded = try DecodedResource(type, message.value)
        guard decoded.name == name else { throw fail("name", "the name it is sent under", "\"\(decoded.name)\"") }
        return decoded
    }
}

extension Snapshot {
    /// Every resource of the snapshot, encoded, by type; each type has its list, which may be empty.
    public func encodedResources() -> [ResourceType: [EncodedResource]] {
        [
            .secret: secrets.map { EncodedResource($0) },
            .cluster: clusters.map { EncodedResource($0) },
            .clusterLoadAssignment: loadAssignments.map { EncodedResource($0) },
            .listener: listeners.map { EncodedResource($0) },
            .routeConfiguration: routeConfigurations.map { EncodedResource($0) },
        ]
    }
}

// MARK: What a resource needs beside itself

extension Listener {
    /// Route configurations, clusters of TCP proxies, secrets. Each once.
    public var references: Set<ResourceKey> {
        var keys: Set<ResourceKey> = []
        for chain in filterChains {
            switch chain.filter {
            case .http(let manager): keys.insert(ResourceKey(.routeConfiguration, manager.routeConfigurationName))
            case .tcp(let proxy): keys.formUnion(proxy.target.clusterNames.map { ResourceKey(.cluster, $0) })
            }
            if case .sds(let name) = chain.tls?.certificate { keys.insert(ResourceKey(.secret, name)) }
            if case .sds(let name) = chain.tls?.validation?.trust { keys.insert(ResourceKey(.secret, name)) }
        }
        return keys
    }
}

extension RouteConfiguration {
    /// Clusters.
    public var references: Set<ResourceKey> {
        var keys: Set<ResourceKey> = []
        for route in virtualHosts.lazy.flatMap(\.routes) {
            guard case .forward(let action) = route.action else { continue }
            keys.formUnion((action.target.clusterNames + action.mirrors.map(\.cluster)).map { ResourceKey(.cluster, $0) })
        }
        return keys
    }
}

extension Cluster {
    /// Its load assignment, secrets.
    public var references: Set<ResourceKey> {
        var keys: Set<ResourceKey> = []
        if case .eds(let name) = discovery { keys.insert(ResourceKey(.clusterLoadAssignment, name)) }
        if case .sds(let name) = tls?.certificate { keys.insert(ResourceKey(.secret, name)) }
        if case .sds(let name) = tls?.validation?.trust { keys.insert(ResourceKey(.secret, name)) }
        return keys
    }
}

extension ClusterTarget {
    var clusterNames: [String] {
        switch self {
        case .cluster(let name): [name]
        case .weighted(let targets): targets.map(\.name)
        }
    }
}

extension DecodedResource {
    /// What the resource names and cannot work without.
    public var references: Set<ResourceKey> {
        switch self {
        case .listener(let listener, let inlineRoutes):
            inlineRoutes.reduce(listener.references.subtracting(inlineRoutes.map { ResourceKey(.routeConfiguration, $0.name) })) {
                $0.union($1.references)
            }
        case .routeConfiguration(let routes): routes.references
        case .cluster(let cluster): cluster.references
        case .loadAssignment, .secret: []
        }
    }
}
