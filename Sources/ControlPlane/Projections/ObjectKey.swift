public import MeshModel

/// Names one object of the desired state: a resource of the mesh, or a namespace.
public struct ObjectKey: Hashable, Sendable, Codable, Comparable, CustomStringConvertible {
    /// `VirtualNode`, ..., `Namespace`.
    public var kind: String
    /// Nil for what is not in a namespace: a Mesh, a Namespace.
    public var namespace: String?
    public var name: String

    public init(_ key: ResourceKey) {
        kind = key.kind.rawValue
        namespace = key.namespace
        name = key.name
    }

    public init(namespace name: String) {
        kind = Self.namespaceKind
        self.name = name
    }

    public static let namespaceKind = "Namespace"

    public var isNamespace: Bool { kind == Self.namespaceKind }

    /// Nil for a namespace, and for a kind that this version does not know.
    public var resource: ResourceKey? {
        ResourceKind(rawValue: kind).map { ResourceKey(kind: $0, namespace: namespace, name: name) }
    }

    /// `VirtualNode/shop/cart`, `Mesh/demo`.
    public var description: String { "\(kind)/\(namespace.map { "\($0)/" } ?? "")\(name)" }

    /// Namespaces first, for the others lean on their labels; then as `ResourceKey`s stand.
    public static func < (left: ObjectKey, right: ObjectKey) -> Bool {
        // Most comparisons of a sort are of one kind.
        if left.kind == right.kind { return (left.namespace ?? "", left.name) < (right.namespace ?? "", right.name) }
        return switch (left.resource, right.resource) {
        case (let left?, let right?): left < right
        case (nil, nil): (left.kind, left.namespace ?? "", left.name) < (right.kind, right.namespace ?? "", right.name)
        case (nil, _?): true
        case (_?, nil): false
        }
    }
}
