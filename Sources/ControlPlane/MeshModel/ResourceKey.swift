/// The kinds of resource that make up a mesh.
public enum ResourceKind: String, Hashable, Sendable, CaseIterable {
    case mesh = "Mesh"
    case virtualNode = "VirtualNode"
    case virtualService = "VirtualService"
    case virtualRouter = "VirtualRouter"
    case virtualGateway = "VirtualGateway"
    case gatewayRoute = "GatewayRoute"
    case backendGroup = "BackendGroup"
    case sidecar = "Sidecar"
    case endpointSet = "EndpointSet"
    case meshPolicy = "MeshPolicy"
    case trafficPolicy = "TrafficPolicy"

    /// `appmesh.k8s.aws/v1beta2` for App Mesh's kinds, `outrigger/v1` for ours.
    public var apiVersion: String {
        switch self {
        case .mesh, .virtualNode, .virtualService, .virtualRouter, .virtualGateway, .gatewayRoute, .backendGroup: "appmesh.k8s.aws/v1beta2"
        case .sidecar, .endpointSet, .meshPolicy, .trafficPolicy: "outrigger/v1"
        }
    }

    /// All but Mesh and what belongs to one, which are for the whole cluster.
    public var isNamespaced: Bool { self != .mesh && self != .meshPolicy }
}

/// What names one resource: no two have the same.
public struct ResourceKey: Hashable, Sendable, Comparable, CustomStringConvertible {
    public var kind: ResourceKind
    /// Nil for a Mesh and a MeshPolicy.
    public var namespace: String?
    public var name: String

    public init(kind: ResourceKind, namespace: String?, name: String) {
        self.kind = kind
        self.namespace = kind.isNamespaced ? namespace : nil
        self.name = name
    }

    /// `VirtualNode/cart`: what messages call it. Without the namespace, which their place in a file makes clear.
    public var description: String { "\(kind.rawValue)/\(name)" }

    /// `VirtualNode/cart` or `VirtualNode/cart in namespace "shop"`, for the resource that is not at the place of the message.
    public var qualified: String { namespace.map { "\(self) in namespace \"\($0)\"" } ?? description }

    /// By kind in order of declaration, namespace, name: the same order in every run.
    public static func < (left: ResourceKey, right: ResourceKey) -> Bool {
        if left.kind != right.kind {
            let order = ResourceKind.allCases
            return order.firstIndex(of: left.kind)! < order.firstIndex(of: right.kind)!
        }
        return (left.namespace ?? "", left.name) < (right.namespace ?? "", right.name)
    }
}

/// The `metadata` of a resource.
public struct ResourceMeta: Hashable, Sendable {
    public var name: String
    /// Filled in by the loader where the file has none; empty for a Mesh.
    public var namespace: String
    public var labels: [String: String]
    public var annotations: [String: String]

    public init(name: String, namespace: String, labels: [String: String] = [:], annotations: [String: String] = [:]) {
        self.name = name
        self.namespace = namespace
        self.labels = labels
        self.annotations = annotations
    }
}

/// A Kubernetes Namespace as far as it matters: selectors look at its labels.
public struct Namespace: Hashable, Sendable {
    public var name: String
    public var labels: [String: String]

    public init(name: String, labels: [String: String] = [:]) {
        self.name = name
        self.labels = labels
    }
}

/// A place in a file.
public struct SourceLocation: Hashable, Sendable, CustomStringConvertible {
    /// As the user named it; `-` for standard input.
    public var file: String
    /// From 1.
    public var line: Int
    /// From 1, in characters.
    public var column: Int
    /// From 1: which document of a stream.
    public var document: Int

    public init(file: String, line: Int, column: Int, document: Int) {
        self.file = file
        self.line = line
        self.column = column
        self.document = document
    }

    public var description: String { "\(file):\(line):\(column)" }
}

/// Names another object by its Kubernetes name (`metadata.name`, never `awsName`).
public struct ObjectReference: Hashable, Sendable {
    public var name: String
    /// Nil: the namespace of the object that refers.
    public var namespace: String?

    public init(name: String, namespace: String? = nil) {
        self.name = name
        self.namespace = namespace
    }

    public func key(_ kind: ResourceKind, from referrer: ResourceMeta) -> ResourceKey {
        ResourceKey(kind: kind, namespace: namespace ?? referrer.namespace, name: name)
    }
}

/// The pair `virtualNodeRef` / `virtualNodeARN` and its siblings: exactly one of the two.
public enum ResourceReference: Hashable, Sendable {
    case object(ObjectReference)
    /// Something that lives in AWS: nothing that we know.
    case arn(String)

    /// The key of the object; nil for an ARN.
    public func key(_ kind: ResourceKind, from referrer: ResourceMeta) -> ResourceKey? {
        switch self {
        case .object(let reference): reference.key(kind, from: referrer)
        case .arn: nil
        }
    }
}
