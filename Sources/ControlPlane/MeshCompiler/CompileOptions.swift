public import Base
public import MeshModel

/// What a control plane knows of a proxy and of the mesh, beyond the resources.
public struct CompileOptions: Hashable, Sendable {
    /// The proxy's own address, in place of 0.0.0.0 and of 127.0.0.1 wherever the Sidecar says nothing: several proxies then share a
    /// machine and each keeps the usual ports. Nil: the usual addresses.
    public var hostAddress: IPAddress?
    /// VirtualNodes whose proxies have registered. Their endpoints are those proxies (`CompiledNode.endpointSources`), whatever their
    /// `serviceDiscovery` says: what has registered is known to be there, and leaves when it drains.
    public var registeredNodes: Set<ResourceKey>
    /// The proxy has a certificate of its mesh (the secret `Secret.identityName`) and is given whom to trust (`Secret.bundleName`): it
    /// speaks TLS with the others that have one. Where a MeshPolicy says STRICT it does so in any case, or not at all.
    public var hasIdentity: Bool

    public init(hostAddress: IPAddress? = nil, registeredNodes: Set<ResourceKey> = [], hasIdentity: Bool = false) {
        self.hostAddress = hostAddress
        self.registeredNodes = registeredNodes
        self.hasIdentity = hasIdentity
    }
}

/// Whose proxies are the endpoints of a cluster, beside those of its load assignment.
public struct EndpointSource: Hashable, Sendable {
    public var node: ResourceKey
    /// The port that the mesh knows.
    public var port: Port

    public init(node: ResourceKey, port: Port) {
        self.node = node
        self.port = port
    }
}
