/// What holds for all proxies of a mesh (outrigger/v1 MeshPolicy, cluster-scoped). At most one for each Mesh.
public struct MeshPolicy: Hashable, Sendable {
    /// How proxies that have a certificate of the control plane's authority speak with each other, where the resources say nothing of TLS.
    public enum MutualTLS: String, Hashable, Sendable, CaseIterable {
        /// TLS and plaintext are taken; TLS is spoken with every proxy that takes it.
        case permissive = "PERMISSIVE"
        /// TLS with a certificate of the mesh, and nothing else.
        case strict = "STRICT"
        /// Plaintext.
        case disabled = "DISABLED"
    }

    /// For one node another mode than for the mesh: of who calls it, and of its own listeners.
    public struct Exception: Hashable, Sendable {
        /// With a namespace: the policy itself is in none.
        public var virtualNode: ObjectReference
        public var mode: MutualTLS

        public init(virtualNode: ObjectReference, mode: MutualTLS) {
            self.virtualNode = virtualNode
            self.mode = mode
        }
    }

    public var meta: ResourceMeta
    /// spec.meshRef.name.
    public var mesh: String
    /// spec.mtls.mode; default PERMISSIVE.
    public var mutualTLS: MutualTLS?
    /// spec.mtls.exceptions; each node once.
    public var exceptions: [Exception]

    public init(meta: ResourceMeta, mesh: String, mutualTLS: MutualTLS? = nil, exceptions: [Exception] = []) {
        self.meta = meta
        self.mesh = mesh
        self.mutualTLS = mutualTLS
        self.exceptions = exceptions
    }
}

extension MeshPolicy {
    public func mode(of node: ResourceKey) -> MutualTLS {
        exceptions.first { $0.virtualNode.key(.virtualNode, from: meta) == node }?.mode ?? mutualTLS ?? .permissive
    }
}
