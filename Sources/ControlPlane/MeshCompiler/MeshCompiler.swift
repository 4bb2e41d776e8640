public import Base
public import MeshModel
public import ProxyConfig

/// Makes of the mesh's resources what one proxy runs.
///
/// Pure and deterministic: the same resources give the same snapshot, in whatever order their files were read.
public enum MeshCompiler {
    /// Whose proxy it is.
    public enum Subject: Hashable, Sendable {
        case virtualNode(ResourceKey)
        case virtualGateway(ResourceKey)

        public var key: ResourceKey {
            switch self {
            case .virtualNode(let key), .virtualGateway(let key): key
            }
        }
    }

    /// - Returns: the snapshot with what was assumed on the way, or every reason why there is none.
    public static func compile(
        _ resources: MeshResources, for subject: Subject, options: CompileOptions = CompileOptions()
    ) -> Result<CompiledNode, CompileErrors> {
        compile(MeshIndex(resources), for: subject, options: options).result
    }

    /// The same for one of several subjects of a mesh.
    public static func compile(
        _ mesh: MeshIndex, for subject: Subject, options: CompileOptions = CompileOptions()
    ) -> CompileOutcome {
        let view = MeshView(mesh)
        let result = compile(view, subject, options)
        return CompileOutcome(result: result, readings: view.readings)
    }

    private static func compile(_ resources: MeshView, _ subject: Subject, _ options: CompileOptions) -> Result<CompiledNode, CompileErrors>
    {
        let key = subject.key
        switch subject {
        case .virtualNode:
            guard let node = resources.virtualNodes[key] else { return .failure(.unknown(key)) }
            return compile(resources, key, node.meta.namespace, options) { $0.compile(node) }
        case .virtualGateway:
            guard let gateway = resources.virtualGateways[key] else { return .failure(.unknown(key)) }
            return compile(resources, key, gateway.meta.namespace, options) { $0.compile(gateway) }
        }
    }

    private static func compile(
        _ resources: MeshView, _ key: ResourceKey, _ namespace: String, _ options: CompileOptions,
        _ body: (inout Compilation) -> Snapshot
    ) -> Result<CompiledNode, CompileErrors> {
        let mesh: Mesh
        switch resources.membership(ofNamespace: namespace) {
        case .mesh(let found), .assumed(let found), .implicit(let found):
            mesh = found
        case .notFound:
            return .failure(.one(resources, key, "failed to find matching mesh for namespace: \(namespace), expecting 1 but found 0"))
        case .ambiguous(let found):
            let names = found.map(\.name).joined(separator: ",")
            let message = "found multiple matching meshes for namespace: \(namespace), expecting 1 but found \(found.count): \(names)"
            return .failure(.one(resources, key, message))
        }
        var compilation = Compilation(resources: resources, mesh: mesh, subject: key, options: options)
        let snapshot = body(&compilation)
        compilation.checkAddresses(snapshot)
        compilation.checkLoops(snapshot)
        guard compilation.errors.isEmpty else { return .failure(CompileErrors(compilation.errors)) }
        let notes = compilation.notes.union(Honoured.warnings(for: snapshot))
        return .success(
            CompiledNode(
                snapshot: snapshot, notes: notes.sorted(), endpointSources: compilation.endpointSources,
                calledNodes: compilation.calledNodes, inboundAddresses: compilation.inboundAddresses))
    }
}

/// What came of one compilation, and what it depends on.
public struct CompileOutcome: Sendable {
    public var result: Result<CompiledNode, CompileErrors>
    /// All that it looked at in the mesh: as long as changes touch none of it, it stays as it is (`MeshChanges.touch`).
    public var readings: Set<Reading>
}

/// What one proxy runs, and what nobody wrote down but is so.
public struct CompiledNode: Hashable, Sendable {
    public var snapshot: Snapshot
    /// Sorted.
    public var notes: [Note]
    /// By load assignment: the registered proxies that belong to it. Only with `CompileOptions.registeredNodes`.
    public var endpointSources: [String: EndpointSource]
    /// The nodes that it calls: with other `CompileOptions.registeredNodes` it is the same as long as none of these is concerned.
    public var calledNodes: Set<ResourceKey>
    /// By port as the mesh knows it: where the proxy takes what is meant for its node. Empty for a gateway.
    public var inboundAddresses: [Port: SocketAddress]

    public init(
        snapshot: Snapshot, notes: [Note], endpointSources: [String: EndpointSource] = [:],
        calledNodes: Set<ResourceKey> = [], inboundAddresses: [Port: SocketAddress] = [:]
    ) {
        self.snapshot = snapshot
        self.notes = notes
        self.endpointSources = endpointSources
        self.calledNodes = calledNodes
        self.inboundAddresses = inboundAddresses
    }

    public var warnings: [Note] { notes.filter { $0.kind == .warning } }
}

/// Something that a reader of the resources would not see in them.
public struct Note: Hashable, Sendable, Comparable, CustomStringConvertible {
    public enum Kind: String, Hashable, Sendable {
        /// A value that stands in no file.
        case silentDefault = "default"
        /// Something that does not do what its author may expect.
        case warning
    }

    public var kind: Kind
    /// Of a default: its place in the rendered snapshot (`clusters[NAME].connect_timeout`). Of a warning: the resource and field, or
    /// the feature, that it is about.
    public var path: String
    /// Of a default: the value. Of a warning about a feature: where the snapshot asks for it.
    public var value: String?
    /// Of a default: who chose it ("App Mesh default"). Of a warning: the sentence.
    public var text: String
    /// Of a warning about a resource: the line to look at.
    public var location: SourceLocation?

    public init(kind: Kind, path: String, value: String? = nil, text: String, location: SourceLocation? = nil) {
        self.kind = kind
        self.path = path
        self.value = value
        self.text = text
        self.location = location
    }

    /// `mesh.yaml:40:9: warning: VirtualRouter/cart spec.routes[0]: ...`; a default is `path: value (App Mesh default)`.
    public var description: String {
        let place = location.map { "\($0): " } ?? ""
        switch kind {
        case .silentDefault: return "\(path): \(value ?? "") (\(text))"
        case .warning: return "\(place)warning: \(path): \(text)\(value.map { " (\($0))" } ?? "")"
        }
    }

    /// Warnings last, each kind by path, text, value and place.
    public static func < (left: Note, right: Note) -> Bool {
        if left.kind != right.kind { return left.kind == .silentDefault }
        let (first, second) = ((left.path, left.text, left.value ?? ""), (right.path, right.text, right.value ?? ""))
        guard first == second else { return first < second }
        // Two resources of one name, in two namespaces: equal input gives an equal order.
        let (place, other) = (left.location, right.location)
        return (place?.file ?? "", place?.line ?? 0, place?.column ?? 0) < (other?.file ?? "", other?.line ?? 0, other?.column ?? 0)
    }
}

/// Why a node has no snapshot.
public struct CompileError: Error, Hashable, Sendable, CustomStringConvertible {
    public var location: SourceLocation?
    public var resource: ResourceKey
    public var path: FieldPath
    public var message: String

    public init(location: SourceLocation?, resource: ResourceKey, path: FieldPath = FieldPath(), message: String) {
        self.location = location
        self.resource = resource
        self.path = path
        self.message = message
    }

    /// `mesh.yaml:12:3: VirtualNode/cart spec.listeners[0]: ...`
    public var description: String {
        let place = location.map { "\($0): " } ?? ""
        return "\(place)\(resource)\(path.steps.isEmpty ? "" : " \(path)"): \(message)"
    }
}

/// Every error of one compilation; at least one.
public struct CompileErrors: Error, Hashable, Sendable {
    public var errors: [CompileError]

    public init(_ errors: [CompileError]) {
        self.errors = errors
    }

    static func unknown(_ key: ResourceKey) -> CompileErrors {
        CompileErrors([CompileError(location: nil, resource: key, message: "no such resource in namespace \"\(key.namespace ?? "")\"")])
    }

    fileprivate static func one(_ resources: MeshView, _ key: ResourceKey, _ message: String) -> CompileErrors {
        CompileErrors([CompileError(location: resources.location(in: key), resource: key, message: message)])
    }
}
