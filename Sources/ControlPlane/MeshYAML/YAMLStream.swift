import MeshModel
import Yams

/// One document of a file.
struct YAMLDocument {
    /// From 1, empty documents counted.
    var number: Int
    var root: YAMLNode
}

/// Reads the documents of a text. An error ends its document only: reading goes on at the next `---`.
struct YAMLStream {
    static let maxBytes = 16 << 20
    /// Deeper is an attack or a mistake; the kinds need twelve levels, a Kubernetes CustomResourceDefinition about forty.
    static let maxDepth = 100
    static let maxDocuments = 10_000
    /// Values in a file, those that aliases repeat counted each time: about 10,000 resources.
    static let maxValues = 300_000
    /// Syntax errors in one file; each costs a new look at the rest of it.
    private static let maxErrors = 20

    private let file: String
    private(set) var documents: [YAMLDocument] = []
    private(set) var diagnostics: [Diagnostic] = []
    private var valuesLeft = Self.maxValues
    private let implicit = Tag(.implicit)

    init(_ bytes: [UInt8], file: String) {
        self.file = file
        guard bytes.count <= Self.maxBytes else {
            fail(nil, "the file has more than \(Self.maxBytes >> 20) MiB")
            return
        }
        if bytes.starts(with: [0xff, 0xfe]) || bytes.starts(with: [0xfe, 0xff]) {
            fail(nil, "the file is in UTF-16; save it as UTF-8")
            return
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            fail(Self.placeOfInvalidByte(bytes), "a byte that is not UTF-8")
            return
        }
        if let place = AliasGuard.placeOfAliasInKey(bytes) {
            fail(place, "a file with aliases must not have keys that are aliases, lists or mappings")
            return
        }
        read(text.unicodeScalars.first == "\u{feff}" ? String(text.unicodeScalars.dropFirst()) : text)
    }

    private mutating func read(_ text: String) {
        var rest = text
        var linesBefore = 0
        var number = 0
        while true {
            do {
                // Without rules Yams takes every scalar for a string; its regular expressions would cost more than all else.
                let parser = try Parser(yaml: rest, resolver: .basic, encoding: .utf8)
                while let node = try parser.nextRoot() {
                    number += 1
                    guard number <= Self.maxDocuments else {
                        fail(nil, "more than \(Self.maxDocuments) documents")
                        return
                    }
                    add(node, number: number, linesBefore: linesBefore)
                    if valuesLeft < 0 { return }
                }
                return
            } catch {
                number += 1
                let problem = SyntaxProblem(error, in: rest)
                let mark = problem.mark.map { YAMLNode.Mark(line: $0.line + linesBefore, column: $0.column) }
                fail(mark, problem.text, document: number)
                guard let line = problem.mark?.line, diagnostics.count < Self.maxErrors else { return }
                guard let next = Self.nextDocument(in: rest, after: line) else { return }
                rest = next.text
                linesBefore += next.linesBefore
            }
        }
    }

    private mutating func add(_ node: Node, number: Int, linesBefore: Int) {
        let root = convert(node, depth: 1, linesBefore: linesBefore, document: number)
        if let root, !root.isNull { documents.append(YAMLDocument(number: number, root: root)) }
    }

    /// Nil when a limit is passed, which is then in the diagnostics.
    private mutating func convert(_ node: Node, depth: Int, linesBefore: Int, document: Int) -> YAMLNode? {
        let mark = YAMLNode.Mark(line: (node.mark?.line ?? 1) + linesBefore, column: node.mark?.column ?? 1)
        guard valuesLeft > 0 else {
            if valuesLeft == 0 { fail(mark, "more than \(Self.maxValues) values, those that aliases repeat counted each time") }
            valuesLeft = -1
            return nil
        }
        valuesLeft -= 1
        guard depth <= Self.maxDepth else {
            fail(mark, "more than \(Self.maxDepth) levels of lists and mappings", document: document)
            return nil
        }
        switch node {
        case .scalar(let scalar):
            let isPlain = scalar.style == .plain && scalar.tag == implicit
            return YAMLNode(mark: mark, content: .scalar(scalar.string, isPlain: isPlain))
        case .sequence(let sequence):
            var items: [YAMLNode] = []
            for item in sequence {
                guard let item = convert(item, depth: depth + 1, linesBefore: linesBefore, document: document) else { return nil }
                items.append(item)
            }
            return YAMLNode(mark: mark, content: .sequence(items))
        case .mapping(let mapping):
            var entries: [YAMLNode.Entry] = []
            var merged: [YAMLNode] = []
            for (key, value) in mapping {
                guard case .scalar(let scalar) = key, let keyMark = key.mark else {
                    fail(mark, "a key must be a scalar, not a list or a mapping", document: document)
                    return nil
                }
                guard let value = convert(value, depth: depth + 1, linesBefore: linesBefore, document: document) else { return nil }
                if scalar.string == "<<", scalar.style == .plain {
                    merged.append(value)
                } else {
                    let place = YAMLNode.Mark(line: keyMark.line + linesBefore, column: keyMark.column)
                    entries.append(YAMLNode.Entry(key: scalar.string, mark: place, value: value))
                }
            }
            for value in merged { merge(value, into: &entries, document: document) }
            return YAMLNode(mark: mark, content: .mapping(entries))
        case .alias:
            // Yams makes these only when it writes.
            fail(mark, "an alias that is not resolved", document: document)
            return nil
        }
    }

    /// `<<`: the entries of one mapping, or of a list of them, where the mapping has none of its own; the first one wins.
    private mutating func merge(_ value: YAMLNode, into entries: inout [YAMLNode.Entry], document: Int) {
        switch value.content {
        case .mapping(let others):
            var known = Set(entries.map(\.key))
            for entry in others where known.insert(entry.key).inserted { entries.append(entry) }
        case .sequence(let values) where values.allSatisfy { $0.entries != nil }:
            for value in values { merge(value, into: &entries, document: document) }
        default:
            fail(value.mark, "<<: expected a mapping or a list of mappings, found \(value.found)", document: document)
        }
    }

    private mutating func fail(_ mark: YAMLNode.Mark?, _ text: String, document: Int? = nil) {
        diagnostics.append(
            Diagnostic(.error, file: file, line: mark?.line, column: mark?.column, document: document, .message(text)))
    }

    /// The text from the first line that starts with `---`, behind `line` (from 1).
    private static func nextDocument(in text: String, after line: Int) -> (text: String, linesBefore: Int)? {
        var number = 0
        var start = text.utf8.startIndex
        while start < text.utf8.endIndex {
            number += 1
            let end = text.utf8[start...].firstIndex(of: UInt8(ascii: "\n")).map(text.utf8.index(after:)) ?? text.utf8.endIndex
            let content = text.utf8[start..<end]
            if number > line, content.starts(with: "---".utf8), content.count == 3 || " \t\r\n".utf8.contains(content.dropFirst(3).first!) {
                return (String(text[start...]), number - 1)
            }
            start = end
        }
        return nil
    }

    private static func placeOfInvalidByte(_ bytes: [UInt8]) -> YAMLNode.Mark? {
        var line = 1
        for content in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            if String(validating: content, as: UTF8.self) == nil {
                // The longest valid beginning: cut from the first byte that decoding has to replace.
                let column = String(decoding: content, as: UTF8.self).unicodeScalars.prefix { $0 != "\u{fffd}" }.count + 1
                return YAMLNode.Mark(line: line, column: column)
            }
            line += 1
        }
        return nil
    }
}
