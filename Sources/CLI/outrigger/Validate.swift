import ArgumentParser
import Base
import ConfigText
import MeshCompiler
import MeshModel
import MeshYAML

struct Validate: ParsableCommand {
    enum Output: String, ExpressibleByArgument, CaseIterable {
        case text
        case json
    }

    static let configuration = CommandConfiguration(
        abstract: "Checks a mesh and reports every error at once.",
        discussion: """
            Diagnostics go to standard error, one a line, as file:line:column: Kind/name path: what is wrong. Each VirtualNode and \
            VirtualGateway is compiled too, as 'render' would, so that what only shows there shows here.

            EXAMPLES
              outrigger validate -f mesh.yaml
              outrigger validate -f base/ overlays/prod/ --strict
              kubectl get virtualnodes -A -o yaml | outrigger validate -f - -o json
            """)

    @OptionGroup var input: MeshInput

    @Option(name: [.customShort("o"), .customLong("output")], help: ArgumentHelp("text or json.", valueName: "format"))
    var output = Output.text

    func run() throws {
        let loaded = input.load(standardInput: try input.readStandardInput())
        var report = ValidationReport(loaded, files: loaded.files.count + (input.readsStandardInput ? 1 : 0))
        if !loaded.hasErrors { report.compileAll(loaded.resources) }
        switch output {
        case .text: report.writeText()
        case .json: Console.print(report.json)
        }
        if !report.isValid { throw Failure(message: "") }
    }
}

/// What `validate` found.
struct ValidationReport {
    private let resources: MeshResources
    private let files: Int
    private var diagnostics: [Diagnostic]
    /// What the compiler warns of, with the nodes that it concerns.
    private var warnings: [Note: Set<String>] = [:]

    init(_ loaded: LoadResult, files: Int) {
        resources = loaded.resources
        self.files = files
        diagnostics = loaded.diagnostics
    }

    var isValid: Bool { !diagnostics.contains { $0.severity == .error } }

    /// Two proxies that stumble over one thing make one line.
    mutating func compileAll(_ resources: MeshResources) {
        let subjects =
            resources.virtualNodes.map { MeshCompiler.Subject.virtualNode($0.key) }
            + resources.virtualGateways.map { MeshCompiler.Subject.virtualGateway($0.key) }
        var errors: Set<CompileError> = []
        let mesh = MeshIndex(resources)
        for subject in subjects {
            switch MeshCompiler.compile(mesh, for: subject).result {
            case .success(let node):
                for var note in node.warnings(beside: diagnostics) {
                    note.value = nil
                    warnings[note, default: []].insert("\(subject.key)")
                }
            case .failure(let failure):
                for error in failure.errors where errors.insert(error).inserted { diagnostics.append(Diagnostic(error)) }
            }
        }
    }

    // MARK: Text

    func writeText() {
        for diagnostic in diagnostics { Console.write("\(diagnostic)") }
        for (warning, nodes) in warnings.sorted(by: { $0.key < $1.key }) {
            Console.write("\(warning)\(warning.location == nil ? concerned(nodes) : "")")
        }
        Console.print(summary)
    }

    private func concerned(_ nodes: Set<String>) -> String {
        let names = nodes.sorted()
        return " [" + names.prefix(3).joined(separator: ", ") + (names.count > 3 ? ", and \(names.count - 3) more" : "") + "]"
    }

    private var summary: String {
        let errors = diagnostics.count { $0.severity == .error }
        let notices = diagnostics.count - errors + warnings.count
        let found = counted(errors, "error") + (notices > 0 ? ", \(counted(notices, "warning"))" : "")
        guard isValid else { return "not valid: \(found)" }
        let kinds = resources.counts.map { "\($0.kind.rawValue) \($0.count)" }.joined(separator: ", ")
        let total = resources.counts.reduce(0) { $0 + $1.count }
        let verdict = notices > 0 ? "valid, \(counted(notices, "warning"))" : "valid"
        return "\(counted(total, "resource")) in \(counted(files, "file")): \(verdict)\(kinds.isEmpty ? "" : "\n  \(kinds)")"
    }

    // MARK: JSON

    var json: String {
        let all =
            diagnostics.map(\.asDocument)
            + warnings.sorted { $0.key < $1.key }.map { warning, nodes in
                Document.entries([
                    "severity": .text("warning"), "file": warning.location.map { .text($0.file) }, "line": number(warning.location?.line),
                    "column": number(warning.location?.column), "document": number(warning.location?.document),
                    "resource": .text(warning.path), "message": .text(warning.text), "concerns": .list(nodes.sorted().map { .text($0) }),
                ])
            }
        return JSONWriter.write(
            .entries([
                "valid": .flag(isValid), "files": .number(files),
                "resources": .map(resources.counts.map { ($0.kind.rawValue, .number($0.count)) }), "diagnostics": .list(all),
            ]))
    }
}

extension MeshResources {
    /// How many there are of each kind that there is.
    fileprivate var counts: [(kind: ResourceKind, count: Int)] {
        let all: [(kind: ResourceKind, count: Int)] = ResourceKind.allCases.map { kind in
            switch kind {
            case .mesh: (kind, meshes.count)
            case .virtualNode: (kind, virtualNodes.count)
            case .virtualService: (kind, virtualServices.count)
            case .virtualRouter: (kind, virtualRouters.count)
            case .virtualGateway: (kind, virtualGateways.count)
            case .gatewayRoute: (kind, gatewayRoutes.count)
            case .backendGroup: (kind, backendGroups.count)
            case .sidecar: (kind, sidecars.count)
            case .endpointSet: (kind, endpointSets.count)
            case .meshPolicy: (kind, meshPolicies.count)
            case .trafficPolicy: (kind, trafficPolicies.count)
            }
        }
        return all.filter { $0.count > 0 }
    }
}

extension Diagnostic {
    fileprivate init(_ error: CompileError) {
        if let place = error.location {
            self.init(.error, at: place, resource: "\(error.resource)", path: error.path, .message(error.message))
        } else {
            self.init(.error, file: "", resource: "\(error.resource)", path: error.path, .message(error.message))
        }
    }

    fileprivate var asDocument: Document {
        .entries([
            "severity": .text(severity.rawValue), "file": .text(file), "line": number(line), "column": number(column),
            "document": number(document), "resource": resource.map { .text($0) },
            "path": path.steps.isEmpty ? nil : .text("\(path)"), "expected": expected.map { .text($0) }, "found": found.map { .text($0) },
            "message": .text("\(problem)"),
        ])
    }
}

private func number(_ value: Int?) -> Document? { value.map { .number($0) } }
