/// Which mesh a namespace belongs to.
public enum MeshMembership: Hashable, Sendable {
    case mesh(Mesh)
    /// No file declares the namespace, so its labels are not known, and there is one mesh that could select it.
    case assumed(Mesh)
    /// No Mesh exists at all: a mesh that is named `default` and lets all other traffic pass, for a tutorial must not cut it off.
    case implicit(Mesh)
    /// Meshes exist, none selects the namespace.
    case notFound
    /// Those that select the namespace, or that could if its labels are not known: at least two.
    case ambiguous([ResourceKey])

    /// Nil where the resources of the namespace cannot be used.
    public var mesh: Mesh? {
        switch self {
        case .mesh(let mesh), .assumed(let mesh), .implicit(let mesh): mesh
        case .notFound, .ambiguous: nil
        }
    }
}

extension Mesh {
    /// What resources belong to where no Mesh exists.
    public static let implicit = Mesh(meta: ResourceMeta(name: "default", namespace: ""), egressFilter: .allowAll)
}

extension MeshResources {
    /// The mesh whose `namespaceSelector` matches the namespace's labels.
    public func membership(ofNamespace namespace: String) -> MeshMembership {
        if meshes.isEmpty { return .implicit(.implicit) }
        let labels = labels(ofNamespace: namespace)
        let selecting = meshes.filter { $0.namespaceSelector?.matches(labels) ?? false }
        if selecting.count == 1 { return .mesh(selecting[0]) }
        if selecting.count > 1 { return .ambiguous(selecting.map(\.key)) }
        guard namespaces[namespace] == nil else { return .notFound }
        let possible = meshes.filter { $0.namespaceSelector != nil }
        return switch possible.count {
        case 0: .notFound
        case 1: .assumed(possible[0])
        default: .ambiguous(possible.map(\.key))
        }
    }
}
