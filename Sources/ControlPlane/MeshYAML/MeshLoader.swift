import Base
public import MeshModel

/// How files are read.
public struct LoadOptions: Hashable, Sendable {
    /// Unknown fields are errors, not warnings.
    public var strict: Bool
    /// Of resources that name none.
    public var defaultNamespace: String
    /// Of resources without a name, one of each kind in each file; nil: the file's name without its ending.
    public var defaultName: String?

    public init(strict: Bool = false, defaultNamespace: String = "default", defaultName: String? = nil) {
        self.strict = strict
        self.defaultNamespace = defaultNamespace
        self.defaultName = defaultName
    }
}

/// What came of reading files.
public struct LoadResult: Sendable {
    /// Of the files without an error; of the others nothing.
    public var resources: MeshResources
    /// All that is wrong and worth knowing, in the order of files and lines.
    public var diagnostics: [Diagnostic]
    /// The files that were read, in order: what to watch for changes.
    public var files: [String]

    public var hasErrors: Bool { diagnostics.contains { $0.severity == .error } }
}

/// Reads a mesh from YAML: every error of every file at once.
public enum MeshLoader {
    /// Stands for standard input, as a path and in places.
    public static let standardInputPath = "-"

    /// - Parameters:
    ///   - paths: Files, directories (walked for `*.yaml`, `*.yml` and `*.json`, in the order of names) and `-`.
    ///   - standardInput: The text that `-` stands for.
    public static func load(paths: [String], standardInput: String? = nil, options: LoadOptions = LoadOptions()) -> LoadResult {
        let read = read(paths: paths, standardInput: standardInput)
        let sources = read.files.map { Source(file: $0.name, bytes: $0.bytes) }
        var result = load(sources, options: options, isComplete: read.diagnostics.isEmpty)
        result.diagnostics = read.diagnostics + result.diagnostics
        result.files = read.found.filter { $0 != standardInputPath }
        return result
    }

    /// Reads the files that `paths` stand for, and looks at nothing in them.
    ///
    /// - Returns: the texts; the names of all files, also of those that cannot be read; and why they cannot.
    public static func read(
        paths: [String], standardInput: String? = nil
    ) -> (files: [ManifestFile], found: [String], diagnostics: [Diagnostic]) {
        var finder = FileFinder()
        finder.add(paths)
        var files: [ManifestFile] = []
        var diagnostics = finder.diagnostics
        for path in finder.files {
            if path == standardInputPath {
                if let standardInput {
                    files.append(ManifestFile(name: path, bytes: Array(standardInput.utf8)))
                } else {
                    diagnostics.append(Diagnostic(.error, file: path, .message("there is no standard input to read")))
                }
                continue
            }
            do throws(FileProblem) {
                files.append(ManifestFile(name: path, bytes: try FileFinder.read(path, atMost: YAMLStream.maxBytes)))
            } catch {
                diagnostics.append(Diagnostic(.error, file: path, .message(error.description)))
            }
        }
        return (files, finder.files, diagnostics)
    }

    struct Source {
        var file: String
        var bytes: [UInt8]
    }

    /// - Parameter isComplete: False where there were more files, which could not be read.
    static func load(_ sources: [Source], options: LoadOptions, isComplete: Bool = true) -> LoadResult {
        var diagnostics: [Diagnostic] = []
        var everything = MeshResources()
        var namespaces: [String: Namespace] = [:]
        var declared: Set<ResourceKey> = []
        var isComplete = isComplete
        for source in sources {
            let stream = YAMLStream(source.bytes, file: source.file)
            var reader = ResourceReader(file: source.file, options: options)
            for document in stream.documents { reader.read(document) }
            diagnostics += stream.diagnostics + reader.diagnostics
            for namespace in reader.namespaces.map(\.namespace) {
                namespaces[namespace.name, default: Namespace(name: namespace.name)].labels.merge(namespace.labels) { $1 }
            }
            declared.formUnion(reader.declared)
            // What a document holds that could not be read, nobody knows.
            if !stream.diagnostics.isEmpty || reader.hasUnnamed { isComplete = false }
            for loaded in reader.loaded {
                let key = loaded.resource.key
                let place = loaded.places[FieldPath()]!
                if let first = everything.places.location(in: key) {
                    diagnostics.append(
                        Diagnostic(.error, at: place, resource: "\(key)", .message("already defined at \(first)")))
                    continue
                }
                everything.insert(loaded.resource)
                everything.places.set(loaded.places, for: key)
            }
        }
        everything.namespaces = namespaces
        diagnostics += MeshValidation.validate(everything, alsoDeclared: declared, isComplete: isComplete)

        let order = Dictionary(sources.enumerated().map { ($1.file, $0) }, uniquingKeysWith: { first, _ in first })
        // Stable: what stands at one place keeps the order in which it was found.
        let sorted = diagnostics.enumerated().sorted { left, right in
            let leftKey = (order[left.element.file] ?? 0, left.element.line ?? 0, left.element.column ?? 0, left.offset)
            let rightKey = (order[right.element.file] ?? 0, right.element.line ?? 0, right.element.column ?? 0, right.offset)
            return leftKey < rightKey
        }
        let broken = Set(diagnostics.filter { $0.severity == .error }.map(\.file))
        return LoadResult(
            resources: everything.filtered { key in everything.places.location(in: key).map { !broken.contains($0.file) } ?? false },
            diagnostics: sorted.map(\.element), files: sources.map(\.file))
    }
}
