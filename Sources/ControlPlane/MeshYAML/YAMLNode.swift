/// A value of a YAML document with its place: what is left of YAML once anchors, tags and merge keys are resolved.
struct YAMLNode {
    struct Mark: Hashable {
        /// From 1.
        var line: Int
        /// From 1, in Unicode scalars.
        var column: Int
    }

    struct Entry {
        var key: String
        var mark: Mark
        var value: YAMLNode
    }

    indirect enum Content {
        /// `isPlain`: without quotes, so that it may stand for a number, a Boolean or nothing.
        case scalar(String, isPlain: Bool)
        case sequence([YAMLNode])
        /// In the file's order; no two entries with one key.
        case mapping([Entry])
    }

    var mark: Mark
    var content: Content
}

extension YAMLNode {
    /// What a scalar stands for: YAML 1.2's core schema, with decimal integers only.
    enum Scalar {
        case null
        case bool(Bool)
        case integer(Int)
        /// A number that is no `Int`: a fraction, an exponent, too many digits, another radix.
        case number(String)
        case string(String)
    }

    var scalar: Scalar? {
        guard case .scalar(let text, let isPlain) = content else { return nil }
        guard isPlain else { return .string(text) }
        switch text {
        case "", "~", "null", "Null", "NULL": return .null
        case "true", "True", "TRUE": return .bool(true)
        case "false", "False", "FALSE": return .bool(false)
        default: return Self.number(text) ?? .string(text)
        }
    }

    private static func number(_ text: String) -> Scalar? {
        guard let first = text.utf8.first, "+-.0123456789".utf8.contains(first) else { return nil }
        let digits = text.utf8.drop { $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "+") }
        let isDecimal = !digits.isEmpty && digits.allSatisfy { (0x30...0x39).contains($0) }
        // A leading zero meant octal once: nobody's guess is right, so it is not an integer.
        if isDecimal, digits.count == 1 || digits.first != UInt8(ascii: "0"), let value = Int(text) { return .integer(value) }
        if isDecimal || text.hasPrefix("0x") || text.hasPrefix("0o") { return .number(text) }
        return digits.allSatisfy { "0123456789.eE+-".utf8.contains($0) } && Double(text) != nil ? .number(text) : nil
    }

    var isNull: Bool { if case .null? = scalar { true } else { false } }

    /// The entries of a mapping; nil for anything else.
    var entries: [Entry]? { if case .mapping(let entries) = content { entries } else { nil } }

    subscript(key: String) -> YAMLNode? { entries?.first { $0.key == key }?.value }

    /// The text of a scalar, quoted or not.
    var text: String? { if case .scalar(let text, _) = content { text } else { nil } }

    /// What a message says was found: `70000`, `the string "8080"`, `a list`, `nothing`.
    var found: String {
        switch content {
        case .sequence(let items): return items.isEmpty ? "an empty list" : "a list"
        case .mapping(let entries): return entries.isEmpty ? "an empty mapping" : "a mapping"
        case .scalar(let text, let isPlain):
            if isNull { return "nothing" }
            return isPlain ? text.shortened : "the string \(text.quoted)"
        }
    }
}

extension String {
    /// At most 80 characters on one line, for messages.
    var shortened: String {
        let visible = unicodeScalars.prefix(80).map { $0.properties.generalCategory == .control ? $0.escaped(asASCII: true) : String($0) }
        return visible.joined() + (unicodeScalars.count > 80 ? "..." : "")
    }

    var quoted: String { "\"\(shortened)\"" }
}
