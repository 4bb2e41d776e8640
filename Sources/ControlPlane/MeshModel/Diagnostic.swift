public import Base

/// One thing about the input that is wrong, or that its author should know, and where it stands.
public struct Diagnostic: Hashable, Sendable {
    public enum Severity: String, Hashable, Sendable {
        /// Nothing of the file is applied.
        case error
        case warning
    }

    public enum Problem: Hashable, Sendable {
        case mismatch(expected: String, found: String)
        /// What does not fit into expected and found.
        case message(String)
    }

    public var severity: Severity
    /// As the user named it; `-` for standard input.
    public var file: String
    /// From 1. Nil, as is the column, for what concerns the whole file.
    public var line: Int?
    public var column: Int?
    /// From 1: which document of the file.
    public var document: Int?
    /// `VirtualNode/cart`, or `VirtualNode` where it has no name; nil for what concerns no resource.
    public var resource: String?
    /// Empty for what concerns the whole resource.
    public var path: FieldPath
    public var problem: Problem

    public init(
        _ severity: Severity, file: String, line: Int? = nil, column: Int? = nil, document: Int? = nil, resource: String? = nil,
        path: FieldPath = FieldPath(), _ problem: Problem
    ) {
        self.severity = severity
        self.file = file
        self.line = line
        self.column = column
        self.document = document
        self.resource = resource
        self.path = path
        self.problem = problem
    }

    public init(
        _ severity: Severity, at place: SourceLocation, resource: String? = nil, path: FieldPath = FieldPath(), _ problem: Problem
    ) {
        self.init(
            severity, file: place.file, line: place.line, column: place.column, document: place.document, resource: resource, path: path,
            problem)
    }

    public var expected: String? { if case .mismatch(let expected, _) = problem { expected } else { nil } }
    public var found: String? { if case .mismatch(_, let found) = problem { found } else { nil } }
}

extension Diagnostic.Problem: CustomStringConvertible {
    public var description: String {
        switch self {
        case .mismatch(let expected, let found): "expected \(expected), found \(found)"
        case .message(let text): text
        }
    }
}

extension Diagnostic: CustomStringConvertible {
    /// `app.yaml:7:13: VirtualNode/cart spec.listeners[0].portMapping.port: expected a port from 1 through 65535, found 70000`;
    /// a warning has `warning: ` before the resource.
    public var description: String {
        var text = file
        if let line { text += ":\(line)" }
        if let column { text += ":\(column)" }
        text += ": "
        if severity == .warning { text += "warning: " }
        let subject = [resource, path.steps.isEmpty ? nil : path.description].compactMap(\.self).joined(separator: " ")
        if !subject.isEmpty { text += "\(subject): " }
        return text + problem.description
    }
}

extension Diagnostic: Encodable {
    private enum Key: String, CodingKey {
        case severity, file, line, column, document, resource, path, expected, found, message
    }

    /// For machines: absent parts are left out; `message` is always there, as people see it.
    public func encode(to encoder: any Encoder) throws {
        var object = encoder.container(keyedBy: Key.self)
        try object.encode(severity.rawValue, forKey: .severity)
        try object.encode(file, forKey: .file)
        try object.encodeIfPresent(line, forKey: .line)
        try object.encodeIfPresent(column, forKey: .column)
        try object.encodeIfPresent(document, forKey: .document)
        try object.encodeIfPresent(resource, forKey: .resource)
        if !path.steps.isEmpty { try object.encode(path.description, forKey: .path) }
        try object.encodeIfPresent(expected, forKey: .expected)
        try object.encodeIfPresent(found, forKey: .found)
        try object.encode(problem.description, forKey: .message)
    }
}
