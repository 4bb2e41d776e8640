import Base
import MeshModel

/// Reads the documents of one file: what every kind has in common, and which kind reads the rest.
struct ResourceReader {
    struct Loaded {
        var resource: Resource
        var places: [FieldPath: SourceLocation]
        var origin: Origin
    }

    struct LoadedNamespace {
        var namespace: Namespace
        var origin: Origin
    }

    /// What an object was read from.
    struct Origin {
        var node: YAMLNode
        /// From 1.
        var document: Int
        /// Is it one of a List's items, and so not a document of its own?
        var isItem: Bool
    }

    static let appMesh = "appmesh.k8s.aws/v1beta2"
    static let ours = "outrigger/v1"
    /// Deep enough for a List of Lists, which nobody writes.
    private static let maxLists = 4

    let file: String
    let options: LoadOptions
    private(set) var loaded: [Loaded] = []
    /// Of resources that have errors too, so that references to them do not dangle.
    private(set) var declared: Set<ResourceKey> = []
    /// Was there a resource of ours whose name is not known?
    private(set) var hasUnnamed = false
    private(set) var namespaces: [LoadedNamespace] = []
    private(set) var diagnostics: [Diagnostic] = []
    /// Kinds of which one document without a name was seen.
    private var unnamed: Set<ResourceKind> = []

    init(file: String, options: LoadOptions) {
        self.file = file
        self.options = options
    }

    mutating func read(_ document: YAMLDocument) {
        read(document.root, document: document.number, depth: 0)
    }

    private mutating func read(_ node: YAMLNode, document: Int, depth: Int) {
        let log = ReadingLog(file: file, document: document, strict: options.strict)
        defer { diagnostics += log.diagnostics }
        guard node.entries != nil else {
            log.add(.error, at: node.mark, FieldPath(), .mismatch(expected: "a Kubernetes resource (a mapping)", found: node.found))
            return
        }
        guard let apiVersion = node["apiVersion"]?.text, let kind = node["kind"]?.text, !kind.isEmpty else {
            let key = node["apiVersion"]?.text == nil ? "apiVersion" : "kind"
            let place = node[key] ?? node
            let found = node[key].map(\.found) ?? "nothing"
            log.resource = node["kind"]?.text
            log.add(.error, at: place.mark, FieldPath() / key, .mismatch(expected: "a string (required)", found: found))
            return
        }
        let origin = Origin(node: node, document: document, isItem: depth > 0)
        if apiVersion == "v1", kind == "Namespace" { return readNamespace(origin) }
        if apiVersion == "v1", kind == "List", case .sequence(let items)? = node["items"]?.content {
            guard depth < Self.maxLists else { return }
            for item in items { read(item, document: document, depth: depth + 1) }
            return
        }
        if let kind = self.kind(kind, apiVersion: apiVersion, of: node, log: log) {
            readResource(kind, origin, log: log)
        }
    }

    /// Nil for what is none of ours; where it looks as if it should be, that is said.
    private func kind(_ name: String, apiVersion: String, of node: YAMLNode, log: ReadingLog) -> ResourceKind? {
        log.resource = name.shortened
        let version = node["apiVersion"]?.mark ?? node.mark
        let path = FieldPath() / "apiVersion"
        if apiVersion == Self.appMesh || apiVersion == Self.ours {
            if let kind = ResourceKind(rawValue: name), kind.apiVersion == apiVersion { return kind }
            let kinds = ResourceKind.allCases.filter { $0.apiVersion == apiVersion }.map(\.rawValue)
            log.resource = nil
            log.add(
                .error, at: node["kind"]?.mark ?? node.mark, FieldPath() / "kind",
                .mismatch(expected: "one of \(kinds.joined(separator: ", "))", found: name.shortened))
        } else if apiVersion.hasPrefix("appmesh.k8s.aws/") {
            let advice =
                name == ResourceKind.virtualService.rawValue
                ? "the v1beta2 form of this VirtualService needs a separate VirtualRouter" : "write it as \(Self.appMesh)"
            log.add(.error, at: version, path, .message("apiVersion \(apiVersion.shortened) is not supported; \(advice)"))
        } else if apiVersion.hasPrefix("outrigger/") {
            log.add(.error, at: version, path, .mismatch(expected: Self.ours, found: apiVersion.shortened))
        } else if let kind = ResourceKind(rawValue: name), kind != .virtualService || !apiVersion.contains("istio") {
            log.add(
                .warning, at: version, path,
                .message("not read: a \(name) of the mesh has apiVersion \(kind.apiVersion), found \(apiVersion.shortened)"))
        }
        return nil
    }

    /// Only labels matter, and nothing of it is an error: it is Kubernetes' to check.
    private mutating func readNamespace(_ origin: Origin) {
        guard let metadata = origin.node["metadata"], let name = metadata["name"]?.text, !name.isEmpty else { return }
        var labels: [String: String] = [:]
        for entry in metadata["labels"]?.entries ?? [] { labels[entry.key] = entry.value.text }
        namespaces.append(LoadedNamespace(namespace: Namespace(name: name, labels: labels), origin: origin))
    }

    private mutating func readResource(_ kind: ResourceKind, _ origin: Origin, log: ReadingLog) {
        let root = Field(origin.node, at: FieldPath(), log: log)
        log.resource = kind.rawValue
        guard let object = ObjectReader(root) else { return }
        _ = object.required("apiVersion", .string())
        _ = object.required("kind", .string())
        guard let meta = readMeta(kind, object, log: log) else {
            hasUnnamed = true
            _ = readSpec(kind, ResourceMeta(name: "", namespace: ""), object)
            return
        }
        let key = ResourceKey(kind: kind, namespace: meta.namespace, name: meta.name)
        declared.insert(key)
        let resource = readSpec(kind, meta, object)
        if let resource, !log.hasErrors { loaded.append(Loaded(resource: resource, places: log.places, origin: origin)) }
    }

    private func readSpec(_ kind: ResourceKind, _ meta: ResourceMeta, _ object: ObjectReader) -> Resource? {
        object.ignored("status", by: "the system")
        // `spec: {}` of a Mesh may be left out; the kinds that need more say so field by field.
        let empty = YAMLNode(mark: object.field.node.mark, content: .mapping([]))
        let type = FieldType<Resource>.object { Self.resource(kind, meta, $0) }
        let spec =
            object.has("spec") ? object.optional("spec", type) : type.read(Field(empty, at: FieldPath() / "spec", log: object.field.log))
        object.finish()
        return spec
    }

    private static func resource(_ kind: ResourceKind, _ meta: ResourceMeta, _ spec: ObjectReader) -> Resource? {
        switch kind {
        case .mesh: Mesh(meta, spec).map { .mesh($0) }
        case .virtualNode: VirtualNode(meta, spec).map { .virtualNode($0) }
        case .virtualService: VirtualService(meta, spec).map { .virtualService($0) }
        case .virtualRouter: VirtualRouter(meta, spec).map { .virtualRouter($0) }
        case .virtualGateway: VirtualGateway(meta, spec).map { .virtualGateway($0) }
        case .gatewayRoute: GatewayRoute(meta, spec).map { .gatewayRoute($0) }
        case .backendGroup: BackendGroup(meta, spec).map { .backendGroup($0) }
        case .sidecar: Sidecar(meta, spec).map { .sidecar($0) }
        case .endpointSet: EndpointSet(meta, spec).map { .endpointSet($0) }
        case .meshPolicy: MeshPolicy(meta, spec).map { .meshPolicy($0) }
        case .trafficPolicy: TrafficPolicy(meta, spec).map { .trafficPolicy($0) }
        }
    }

    /// Nil where the resource has no usable name, which is then reported.
    private mutating func readMeta(_ kind: ResourceKind, _ object: ObjectReader, log: ReadingLog) -> ResourceMeta? {
        var name: String?
        var namespace: String?
        var labels: [String: String] = [:]
        var annotations: [String: String] = [:]
        var hasName = false
        _ = object.optional(
            "metadata",
            FieldType<Bool>.object { metadata in
                hasName = metadata.has("name")
                name = metadata.optional("name", .resourceName)
                if let name { log.resource = "\(kind.rawValue)/\(name)" }
                namespace = metadata.optional("namespace", .resourceName)
                labels = metadata.optional("labels", .stringMap) ?? [:]
                annotations = metadata.optional("annotations", .stringMap) ?? [:]
                metadata.ignored(
                    "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
                    "selfLink", "managedFields", "ownerReferences", "finalizers", by: "Kubernetes")
                return true
            })
        if !hasName { name = makeUpName(kind, object, log: log) }
        guard let name else { return nil }
        log.resource = "\(kind.rawValue)/\(name)"
        let place = kind.isNamespaced ? namespace ?? options.defaultNamespace : ""
        return ResourceMeta(name: name, namespace: place, labels: labels, annotations: annotations)
    }

    /// Tutorials leave `metadata` out: the first such document of a kind is named by the user or after its file.
    private mutating func makeUpName(_ kind: ResourceKind, _ object: ObjectReader, log: ReadingLog) -> String? {
        let path = FieldPath() / "metadata" / "name"
        let mark = (object.field.node["metadata"] ?? object.field.node).mark
        guard unnamed.insert(kind).inserted else {
            log.add(.error, at: mark, path, .message("required when a file holds more than one unnamed \(kind.rawValue)"))
            return nil
        }
        if let name = options.defaultName {
            log.resource = "\(kind.rawValue)/\(name)"
            return name
        }
        guard file != MeshLoader.standardInputPath else {
            log.add(.error, at: mark, path, .message("required on standard input (or give a name with --name)"))
            return nil
        }
        let stem = Self.stem(of: file)
        guard ResourceName.isValid(stem) else {
            log.add(.error, at: mark, path, .message("required: the file's name \(stem.quoted) cannot be a resource's name"))
            return nil
        }
        log.resource = "\(kind.rawValue)/\(stem)"
        log.add(.warning, at: mark, path, .message("missing, using \(stem.quoted) from the file name"))
        return stem
    }

    /// `dir/app.yaml` → `app`.
    private static func stem(of path: String) -> String {
        let name = path.split(separator: "/").last.map(String.init) ?? path
        return name.lastIndex(of: ".").map { String(name[..<$0]) } ?? name
    }
}

/// What Kubernetes takes for `metadata.name`: a DNS subdomain name (RFC 1123).
enum ResourceName {
    static func isValid(_ name: String) -> Bool {
        (1...253).contains(name.utf8.count) && isEdge(name.utf8.first!) && isEdge(name.utf8.last!)
            && name.utf8.allSatisfy { isEdge($0) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: ".") }
    }

    private static func isEdge(_ byte: UInt8) -> Bool { (0x61...0x7a).contains(byte) || (0x30...0x39).contains(byte) }
}

extension FieldType where Value == String {
    fileprivate static var resourceName: FieldType {
        let expected = "a name of lower-case letters, digits, \"-\" and \".\", at most 253"
        return FieldType(expected) { field in
            guard case .string(let text) = field.node.scalar, ResourceName.isValid(text) else {
                field.expectedString(expected)
                return nil
            }
            return text
        }
    }
}
