import Base
import MeshModel

/// What reading one resource has found out: its diagnostics, and where its fields stand.
final class ReadingLog {
    let file: String
    let document: Int
    let strict: Bool
    /// The name of the resource in messages.
    var resource: String?
    private(set) var diagnostics: [Diagnostic] = []
    private(set) var places: [FieldPath: SourceLocation] = [:]

    init(file: String, document: Int, strict: Bool) {
        self.file = file
        self.document = document
        self.strict = strict
    }

    var hasErrors: Bool { diagnostics.contains { $0.severity == .error } }

    func note(_ path: FieldPath, at mark: YAMLNode.Mark) {
        places[path] = SourceLocation(file: file, line: mark.line, column: mark.column, document: document)
    }

    func add(_ severity: Diagnostic.Severity, at mark: YAMLNode.Mark, _ path: FieldPath, _ problem: Diagnostic.Problem) {
        diagnostics.append(
            Diagnostic(
                severity, file: file, line: mark.line, column: mark.column, document: document, resource: resource, path: path, problem))
    }
}
