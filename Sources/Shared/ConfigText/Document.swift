/// A value as YAML and JSON have it, with keys in the order in which they are read best.
public indirect enum Document {
    case text(String)
    case number(String)
    case flag(Bool)
    case list([Document])
    case map([(key: String, value: Document)])

    /// A map without the entries that have no value.
    public static func entries(_ entries: KeyValuePairs<String, Document?>) -> Document {
        .map(entries.compactMap { key, value in value.map { (key, $0) } })
    }

    public static func number(_ value: some BinaryInteger) -> Document { .number(String(value)) }

    /// Nil for an empty list, which then is not shown.
    public static func nonEmpty(_ values: [Document]) -> Document? { values.isEmpty ? nil : .list(values) }

    /// What tells the elements of a list apart.
    fileprivate var name: String? {
        if case .map(let entries) = self, let first = entries.first, first.key == "name", case .text(let name) = first.value {
            name
        } else {
            nil
        }
    }

    fileprivate var isEmpty: Bool {
        switch self {
        case .list(let values): values.isEmpty
        case .map(let entries): entries.isEmpty
        case .text, .number, .flag: false
        }
    }
}

// MARK: YAML

/// Writes a document as YAML, with remarks at the end of the lines that they are about.
public struct YAMLWriter {
    private let remarks: [String: String]
    public private(set) var text = ""
    /// The paths whose remarks have found their line.
    public private(set) var usedRemarks: Set<String> = []

    /// - Parameter remarks: by path: `clusters[NAME].connect_timeout`.
    public init(remarks: [String: String] = [:]) {
        self.remarks = remarks
    }

    public mutating func write(_ document: Document) {
        write(document, path: "", indent: 0)
    }

    private mutating func write(_ document: Document, path: String, indent: Int) {
        switch document {
        case .map(let entries):
            for (index, entry) in entries.enumerated() {
                // The first entry of a list's element stands behind its dash.
                if index > 0 || text.hasSuffix("\n") || text.isEmpty { text += String(repeating: " ", count: indent) }
                text += "\(entry.key):"
                write(value: entry.value, path: path.isEmpty ? entry.key : "\(path).\(entry.key)", indent: indent)
            }
        case .list(let values):
            for (index, value) in values.enumerated() {
                text += String(repeating: " ", count: indent) + "- "
                let place = "\(path)[\(value.name ?? String(index))]"
                switch value {
                case .map, .list: write(value, path: place, indent: indent + 2)
                case .text, .number, .flag: writeScalar(value, path: place)
                }
            }
        case .text, .number, .flag:
            writeScalar(document, path: path)
        }
    }

    private mutating func write(value: Document, path: String, indent: Int) {
        switch value {
        case .text, .number, .flag:
            text += " "
            writeScalar(value, path: path)
        case .list, .map:
            if value.isEmpty {
                text += value.isList ? " []" : " {}"
                endLine(path)
            } else {
                endLine(path)
                write(value, path: path, indent: indent + 2)
            }
        }
    }

    private mutating func writeScalar(_ value: Document, path: String) {
        switch value {
        case .text(let string): text += Self.scalar(string)
        case .number(let digits): text += digits
        case .flag(let flag): text += flag ? "true" : "false"
        case .list, .map: break
        }
        endLine(path)
    }

    private mutating func endLine(_ path: String) {
        if let remark = remarks[path] {
            text += "  # \(remark)"
            usedRemarks.insert(path)
        }
        text += "\n"
    }

    /// Plain where YAML would read the same string back, else quoted.
    private static func scalar(_ string: String) -> String {
        let plain = string.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
            case UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "/"), UInt8(ascii: ":"), UInt8(ascii: "@"): true
            default: false
            }
        }
        let words: Set = ["", "true", "false", "null", "yes", "no", "on", "off", "y", "n", ".inf", "-.inf", ".nan", "-", "."]
        // `1`, `1e3` and `12:30` would be numbers to one reader or another; an address has two dots more.
        let isNumeric =
            string.first.map { $0.isNumber || $0 == "-" || $0 == "." } ?? false
            && string.allSatisfy { $0.isNumber || "-+.eExXoO_:abcdefABCDEF".contains($0) } && string.count { $0 == "." } < 2
        let isUnsafe =
            words.contains(string.lowercased()) || isNumeric || string.hasSuffix(":") || string.hasPrefix("- ") || string.hasPrefix("@")
        return plain && !isUnsafe ? string : JSONWriter.quoted(string)
    }
}

extension Document {
    fileprivate var isList: Bool { if case .list = self { true } else { false } }
}

// MARK: JSON

/// Writes a document as JSON, two spaces a level.
public enum JSONWriter {
    public static func write(_ document: Document) -> String { write(document, "") + "\n" }

    private static func write(_ document: Document, _ indent: String) -> String {
        let inner = indent + "  "
        switch document {
        case .text(let string): return quoted(string)
        case .number(let digits): return digits
        case .flag(let flag): return flag ? "true" : "false"
        case .list(let values):
            guard !values.isEmpty else { return "[]" }
            return "[\n" + values.map { inner + write($0, inner) }.joined(separator: ",\n") + "\n\(indent)]"
        case .map(let entries):
            guard !entries.isEmpty else { return "{}" }
            let lines = entries.map { "\(inner)\(quoted($0.key)): \(write($0.value, inner))" }
            return "{\n" + lines.joined(separator: ",\n") + "\n\(indent)}"
        }
    }

    /// Valid in YAML too.
    static func quoted(_ string: String) -> String {
        var text = "\""
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case _ where scalar.value < 0x20 || scalar.value == 0x7f:
                let digits = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text + "\""
    }
}
