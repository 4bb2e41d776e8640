/// What encloses all: which namespaces belong to the mesh, and what may leave it (appmesh.k8s.aws/v1beta2 Mesh, cluster-scoped).
public struct Mesh: Hashable, Sendable {
    public enum EgressFilter: String, Hashable, Sendable, CaseIterable {
        case allowAll = "ALLOW_ALL"
        case dropAll = "DROP_ALL"
    }

    public var meta: ResourceMeta
    /// spec.awsName; default `metadata.name`.
    public var awsName: String?
    /// spec.namespaceSelector; absent = no namespace.
    public var namespaceSelector: LabelSelector?
    /// spec.egressFilter.type; default DROP_ALL.
    public var egressFilter: EgressFilter?
    /// spec.meshOwner: twelve digits of an AWS account. Kept, without effect.
    public var meshOwner: String?
    /// spec.meshServiceDiscovery.ipPreference.
    public var ipPreference: IPPreference?

    public init(
        meta: ResourceMeta, awsName: String? = nil, namespaceSelector: LabelSelector? = nil, egressFilter: EgressFilter? = nil,
        meshOwner: String? = nil, ipPreference: IPPreference? = nil
    ) {
        self.meta = meta
        self.awsName = awsName
        self.namespaceSelector = namespaceSelector
        self.egressFilter = egressFilter
        self.meshOwner = meshOwner
        self.ipPreference = ipPreference
    }
}

/// Which address family is used, or used first, where names are resolved.
public enum IPPreference: String, Hashable, Sendable, CaseIterable {
    case v4Only = "IPv4_ONLY"
    case v6Only = "IPv6_ONLY"
    case v4Preferred = "IPv4_PREFERRED"
    case v6Preferred = "IPv6_PREFERRED"
}
