public import Base
public import MeshModel

/// A file as it was handed in: nothing is read from the disk.
public struct ManifestFile: Hashable, Sendable {
    /// As the user named it; `-` for standard input.
    public var name: String
    public var bytes: [UInt8]

    public init(name: String, bytes: [UInt8]) {
        self.name = name
        self.bytes = bytes
    }
}

/// One object of a file, with the text that its author wrote for it.
public struct Manifest: Sendable {
    public enum Content: Hashable, Sendable {
        case resource(Resource)
        /// Only its labels mean something.
        case namespace(Namespace)
    }

    public var content: Content
    /// YAML that is this object and nothing else; read on its own it gives the same. Comments stay, but for those in a List that is not
    /// written line by line.
    public var text: String
    /// The line of the file at which the text starts, from 1.
    public var line: Int
    /// Where the object stands.
    public var location: SourceLocation
    /// Where its fields stand; empty for a namespace.
    public var places: [FieldPath: SourceLocation]
}

/// What came of reading the objects of files one by one. Rules between them are not looked at.
public struct ManifestResult: Sendable {
    /// In the order of files and lines. Of a file with errors, those that could be read.
    public var manifests: [Manifest]
    /// Resources that are named in the files, also those that could not be read.
    public var declared: Set<ResourceKey>
    public var diagnostics: [Diagnostic]
    /// False where something could not be read whose name is not known.
    public var isComplete: Bool
}

extension MeshLoader {
    /// Reads each object of the files with its text.
    public static func manifests(in files: [ManifestFile], options: LoadOptions = LoadOptions()) -> ManifestResult {
        var result = ManifestResult(manifests: [], declared: [], diagnostics: [], isComplete: true)
        for file in files {
            let stream = YAMLStream(file.bytes, file: file.name)
            var reader = ResourceReader(file: file.name, options: options)
            for document in stream.documents { reader.read(document) }
            result.declared.formUnion(reader.declared)
            result.diagnostics += stream.diagnostics + reader.diagnostics
            if !stream.diagnostics.isEmpty || reader.hasUnnamed { result.isComplete = false }
            let text = FileText(file)
            let resources = reader.loaded.map { loaded in
                manifest(.resource(loaded.resource), loaded.origin, loaded.places, in: text)
            }
            let namespaces = reader.namespaces.map { manifest(.namespace($0.namespace), $0.origin, [:], in: text) }
            result.manifests += (resources + namespaces).sorted {
                ($0.location.line, $0.location.column) < ($1.location.line, $1.location.column)
            }
        }
        return result
    }

    /// Reads the text of a manifest again.
    ///
    /// - Parameters:
    ///   - line: The line of the file at which the text started, from 1: places count from it.
    ///   - name: Of the object, as is `namespace`, should the text not have it.
    /// - Returns: Nil, and why, where this program cannot read it as one object.
    public static func manifest(
        _ text: String, file: String, line: Int, namespace: String?, name: String
    ) -> (manifest: Manifest?, diagnostics: [Diagnostic]) {
        let options = LoadOptions(defaultNamespace: namespace ?? "default", defaultName: name)
        let stream = YAMLStream(Array(text.utf8), file: file)
        var reader = ResourceReader(file: file, options: options)
        for document in stream.documents { reader.read(document) }
        var diagnostics = stream.diagnostics + reader.diagnostics
        for index in diagnostics.indices { diagnostics[index].line? += line - 1 }
        guard stream.documents.count == 1, reader.loaded.count + reader.namespaces.count == 1 else { return (nil, diagnostics) }
        let origin = reader.loaded.first?.origin ?? reader.namespaces[0].origin
        let places = (reader.loaded.first?.places ?? [:]).mapValues { place in
            var place = place
            place.line += line - 1
            return place
        }
        let location = SourceLocation(file: file, line: origin.node.mark.line + line - 1, column: origin.node.mark.column, document: 1)
        let content = reader.loaded.first.map { Manifest.Content.resource($0.resource) } ?? .namespace(reader.namespaces[0].namespace)
        return (Manifest(content: content, text: text, line: line, location: location, places: places), diagnostics)
    }

    private static func manifest(
        _ content: Manifest.Content, _ origin: ResourceReader.Origin, _ places: [FieldPath: SourceLocation], in text: FileText
    ) -> Manifest {
        let mark = origin.node.mark
        let location = SourceLocation(file: text.name, line: mark.line, column: mark.column, document: origin.document)
        let (namespace, name): (String?, String) =
            switch content {
            case .resource(let resource): (resource.key.namespace, resource.key.name)
            case .namespace(let namespace): (nil, namespace.name)
            }
        let cut = origin.isItem ? text.item(at: mark) : text.document(around: mark.line)
        // A piece of a List may lean on what is outside of it: an anchor, an indentation that is no block. Then it is written anew.
        let again = manifest(cut.text, file: text.name, line: cut.line, namespace: namespace, name: name).manifest
        if again?.content == content {
            return Manifest(content: content, text: cut.text, line: cut.line, location: location, places: places)
        }
        return Manifest(content: content, text: origin.node.yaml, line: mark.line, location: location, places: places)
    }
}

/// The lines of a file, to cut objects out of.
private struct FileText {
    let name: String
    /// With their line ends.
    private let lines: [Substring]
    /// Indices of lines that end a document or begin one: `---` and `...` stand at the start of a line nowhere else, not even in a
    /// block of text (YAML 1.2.2 section 9.1.2).
    private let markers: [Int]

    init(_ file: ManifestFile) {
        name = file.name
        var text = String(decoding: file.bytes, as: UTF8.self)
        if text.unicodeScalars.first == "\u{feff}" { text = String(text.unicodeScalars.dropFirst()) }
        var lines: [Substring] = []
        var rest = text[...]
        while !rest.isEmpty {
            // "\r\n" is one Character, so lines are found in the bytes.
            let end = rest.utf8.firstIndex(of: UInt8(ascii: "\n")).map { rest.utf8.index(after: $0) } ?? rest.endIndex
            lines.append(rest[..<end])
            rest = rest[end...]
        }
        self.lines = lines
        markers = lines.indices.filter { lines[$0].isMarker("---") || lines[$0].isMarker("...") }
    }

    /// The document with the line, from 1, without its markers.
    func document(around line: Int) -> (text: String, line: Int) {
        let index = line - 1
        var start = 0
        var beginning: Substring = ""
        // How many markers stand at the line or before it, by halving: a file may have thousands.
        var low = 0
        var high = markers.count
        while low < high {
            let middle = (low + high) / 2
            if markers[middle] <= index { low = middle + 1 } else { high = middle }
        }
        if low > 0 {
            let marker = markers[low - 1]
            start = marker + 1
            let behind = lines[marker].dropFirst(3)
            if lines[marker].isMarker("---"), !behind.allSatisfy(\.isWhitespace) {
                start = marker
                beginning = behind
            }
        }
        let end = low < markers.count ? markers[low] : lines.count
        let rest = lines[(beginning.isEmpty ? start : start + 1)..<end].joined()
        return (beginning + rest, start + 1)
    }

    /// The item of a List that starts at the mark: its lines, as far to the left as they go.
    func item(at mark: YAMLNode.Mark) -> (text: String, line: Int) {
        let indent = mark.column - 1
        var text = ""
        for (offset, line) in lines[(mark.line - 1)...].enumerated() {
            let scalars = line.unicodeScalars
            if offset > 0, !line.allSatisfy(\.isWhitespace), !scalars.prefix(indent).allSatisfy({ $0 == " " }) { break }
            text += line.allSatisfy(\.isWhitespace) ? "\n" : String(scalars.dropFirst(indent))
        }
        return (text, mark.line)
    }
}

extension Substring {
    fileprivate func isMarker(_ marker: String) -> Bool {
        guard utf8.starts(with: marker.utf8) else { return false }
        return utf8.dropFirst(3).first.map { " \t\r\n".utf8.contains($0) } ?? true
    }
}

extension YAMLNode {
    /// The value as YAML, written line by line, without anchors.
    var yaml: String {
        var text = ""
        write(to: &text, indent: 0)
        return text
    }

    private func write(to text: inout String, indent: Int) {
        let margin = String(repeating: " ", count: indent)
        switch content {
        case .scalar("", isPlain: true): text += "null\n"
        // Folded lines have become one, or line ends that only quotes can hold.
        case .scalar(let value, let isPlain): text += (isPlain && !value.utf8.contains(0x0a) ? value : value.inQuotes) + "\n"
        case .sequence(let items):
            if items.isEmpty { text += "[]\n" }
            for (index, item) in items.enumerated() {
                text += (index == 0 ? "" : margin) + "- "
                item.write(to: &text, indent: indent + 2)
            }
        case .mapping(let entries):
            if entries.isEmpty { text += "{}\n" }
            for (index, entry) in entries.enumerated() {
                text += (index == 0 ? "" : margin) + entry.key.asKey + ":"
                switch entry.value.content {
                case .scalar(let value, true) where value.isEmpty: text += "\n"
                case .sequence(let items) where !items.isEmpty: entry.value.writeBelow(to: &text, indent: indent)
                case .mapping(let entries) where !entries.isEmpty: entry.value.writeBelow(to: &text, indent: indent)
                default:
                    text += " "
                    entry.value.write(to: &text, indent: indent)
                }
            }
        }
    }

    private func writeBelow(to text: inout String, indent: Int) {
        text += "\n" + String(repeating: " ", count: indent + 2)
        write(to: &text, indent: indent + 2)
    }
}

extension String {
    fileprivate var asKey: String {
        let isPlain =
            !isEmpty && utf8.allSatisfy { "-_./".utf8.contains($0) || (0x30...0x39).contains($0) || (0x41...0x5a).contains($0 & 0xdf) }
        return isPlain && utf8.first != UInt8(ascii: "-") && utf8.first != UInt8(ascii: ".") ? self : inQuotes
    }

    /// As a double-quoted scalar, with JSON's escapes.
    fileprivate var inQuotes: String {
        var text = "\""
        for scalar in unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case "\u{0}"..<"\u{20}", "\u{7f}"..."\u{9f}", "\u{2028}", "\u{2029}", "\u{feff}":
                let digits = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text + "\""
    }
}
