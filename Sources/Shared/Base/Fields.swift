/// Where in a document a value stands: `spec.listeners[0].portMapping.port`.
public struct FieldPath: Hashable, Sendable, CustomStringConvertible {
    public enum Step: Hashable, Sendable {
        case key(String)
        case index(Int)
    }

    public var steps: [Step]

    public init(_ steps: [Step] = []) {
        self.steps = steps
    }

    public static func / (path: FieldPath, key: String) -> FieldPath {
        FieldPath(path.steps + [.key(key)])
    }

    public subscript(index: Int) -> FieldPath {
        FieldPath(steps + [.index(index)])
    }

    public var description: String {
        var text = ""
        for step in steps {
            switch step {
            case .key(let key): text += text.isEmpty ? key : ".\(key)"
            case .index(let index): text += "[\(index)]"
            }
        }
        return text
    }
}

/// One value that is not what it must be: where, what was expected, what was found.
public struct FieldError: Error, Hashable, Sendable, CustomStringConvertible {
    public var path: FieldPath
    public var expected: String
    public var found: String

    public init(path: FieldPath, expected: String, found: String) {
        self.path = path
        self.expected = expected
        self.found = found
    }

    public var description: String { "\(path): expected \(expected), found \(found)" }
}
