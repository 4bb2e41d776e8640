import Base
import MeshModel

/// Reads the fields of one mapping. What is null counts as absent, as in Kubernetes; what nobody asked for is reported at the end.
final class ObjectReader {
    /// One key of a set of alternatives.
    struct Choice<Value> {
        let key: String
        let type: FieldType<Value>

        init(_ key: String, _ type: FieldType<Value>) {
            self.key = key
            self.type = type
        }

        init<Raw>(_ key: String, _ type: FieldType<Raw>, _ transform: @escaping (Raw) -> Value) {
            self.key = key
            self.type = FieldType(type.expected) { type.read($0).map(transform) }
        }
    }

    let field: Field
    private let entries: [YAMLNode.Entry]
    private let values: [String: YAMLNode]
    private var known: [String] = []

    /// Nil, and a diagnostic, where the field is no mapping.
    init?(_ field: Field) {
        guard let entries = field.node.entries else {
            field.expected("a mapping")
            return nil
        }
        self.field = field
        self.entries = entries
        values = Dictionary(entries.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
    }

    func has(_ key: String) -> Bool { values[key].map { !$0.isNull } ?? false }

    func required<Value>(_ key: String, _ type: FieldType<Value>) -> Value? {
        guard let value = take(key) else {
            missing(key, type.expected)
            return nil
        }
        return type.read(value)
    }

    func optional<Value>(_ key: String, _ type: FieldType<Value>) -> Value? {
        take(key).flatMap(type.read)
    }

    /// A list that may be absent, which is as good as an empty one.
    func list<Element>(_ key: String, of type: FieldType<Element>, count: ClosedRange<Int> = 0...Int.max) -> [Element] {
        optional(key, .list(of: type, count: count)) ?? []
    }

    /// `none` and `several` replace the usual words where App Mesh had its own.
    func exactlyOne<Value>(_ choices: [Choice<Value>], none: String? = nil, several: String? = nil) -> Value? {
        let (given, value) = choose(choices, several: several)
        if given == 0 {
            let keys = choices.map(\.key)
            let expected = keys.count == 1 ? keys[0] : "exactly one of \(keys.joined(separator: ", "))"
            problem(none.map { .message($0) } ?? .mismatch(expected: expected, found: "none"))
        }
        return value
    }

    func atMostOne<Value>(_ choices: [Choice<Value>], several: String? = nil) -> Value? {
        choose(choices, several: several).value
    }

    /// All that are given are read, so that what is wrong in them is reported; which one would have counted is not guessed.
    private func choose<Value>(_ choices: [Choice<Value>], several: String?) -> (given: Int, value: Value?) {
        let given = choices.filter { has($0.key) }
        let values = choices.map { optional($0.key, $0.type) }
        if given.count > 1 {
            problem(
                several.map { .message($0) }
                    ?? .mismatch(
                        expected: "only one of \(choices.map(\.key).joined(separator: ", "))",
                        found: given.map(\.key).joined(separator: " and ")))
            return (given.count, nil)
        }
        return (given.count, values.compactMap(\.self).first)
    }

    /// Every entry, whatever its key.
    func allEntries<Value>(_ type: FieldType<Value>) -> [String: Value] {
        var result: [String: Value] = [:]
        for entry in entries {
            guard let value = take(entry.key) else {
                missing(entry.key, type.expected)
                continue
            }
            result[entry.key] = type.read(value)
        }
        return result
    }

    /// Fields that a system fills in, and that an export of it therefore has.
    func ignored(_ keys: String..., by system: String) {
        known += keys
        guard let first = entries.first(where: { keys.contains($0.key) }) else { return }
        let given = entries.map(\.key).filter(keys.contains)
        field.log.add(
            .warning, at: first.mark, given.count == 1 ? field.path / first.key : field.path,
            .message("ignored, \(system) fills it in\(given.count == 1 ? "" : ": " + given.joined(separator: ", "))"))
    }

    /// Something is wrong with the mapping as a whole, with one of its fields, or with one deeper down.
    func problem(at keys: [String] = [], _ problem: Diagnostic.Problem, severity: Diagnostic.Severity = .error) {
        var node = field.node
        var path = field.path
        for key in keys {
            node = node[key] ?? node
            path = path / key
        }
        field.log.add(severity, at: node.mark, path, problem)
    }

    func missing(_ key: String, _ expected: String) {
        problem(at: [key], .mismatch(expected: "\(expected) (required)", found: "nothing"))
    }

    /// Reports the fields that nobody asked for.
    func finish() {
        for entry in entries where !known.contains(entry.key) {
            let suggestion = Spelling.nearest(to: entry.key, among: known).map { "; did you mean \($0)?" } ?? ""
            field.log.add(
                field.log.strict ? .error : .warning, at: entry.mark, field.path / entry.key.shortened,
                .message("unknown field\(field.log.strict ? "" : ", ignored")\(suggestion)"))
        }
    }

    private func take(_ key: String) -> Field? {
        known.append(key)
        guard let node = values[key], !node.isNull else { return nil }
        return Field(node, at: field.path / key, log: field.log)
    }
}
