/// A name that is called, and who answers (appmesh.k8s.aws/v1beta2 VirtualService).
public struct VirtualService: Hashable, Sendable {
    public enum Provider: Hashable, Sendable {
        case virtualNode(ResourceReference)
        case virtualRouter(ResourceReference)
    }

    public var meta: ResourceMeta
    /// spec.awsName: the host name that callers use; default `name.namespace`.
    public var awsName: String?
    /// Nil: the name exists and leads nowhere.
    public var provider: Provider?

    public init(meta: ResourceMeta, awsName: String? = nil, provider: Provider? = nil) {
        self.meta = meta
        self.awsName = awsName
        self.provider = provider
    }
}

/// VirtualServices under one name, for the `backendGroups` of nodes (appmesh.k8s.aws/v1beta2 BackendGroup).
public struct BackendGroup: Hashable, Sendable {
    public var meta: ResourceMeta
    /// spec.virtualservices.
    public var virtualServices: [ObjectReference]

    public init(meta: ResourceMeta, virtualServices: [ObjectReference] = []) {
        self.meta = meta
        self.virtualServices = virtualServices
    }
}
