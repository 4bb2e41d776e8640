public import Base

/// Addresses of a VirtualNode, beside what its service discovery finds (outrigger/v1 EndpointSet). Several sets of one node add up.
public struct EndpointSet: Hashable, Sendable {
    public struct Endpoint: Hashable, Sendable {
        public var ip: IPAddress
        /// Default: the port of the node's listener that is called.
        public var port: Port?
        /// 1 through 128; default 1.
        public var weight: Int?
        public var zone: String?

        public init(ip: IPAddress, port: Port? = nil, weight: Int? = nil, zone: String? = nil) {
            self.ip = ip
            self.port = port
            self.weight = weight
            self.zone = zone
        }
    }

    public var meta: ResourceMeta
    /// spec.virtualNodeRef.
    public var virtualNode: ObjectReference
    /// 1 through 1000.
    public var endpoints: [Endpoint]

    public init(meta: ResourceMeta, virtualNode: ObjectReference, endpoints: [Endpoint] = []) {
        self.meta = meta
        self.virtualNode = virtualNode
        self.endpoints = endpoints
    }
}
