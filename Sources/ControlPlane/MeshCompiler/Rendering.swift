import ConfigText
import ProxyConfig

/// A snapshot for people: the words of xDS, each message as short as it can be said.
extension CompiledNode {
    /// YAML; what nobody wrote down carries a remark, and warnings stand at the top.
    public func yaml(version: String) -> String {
        let defaults = notes.filter { $0.kind == .silentDefault }
        var remarks: [String: String] = [:]
        for note in defaults { remarks[note.path] = note.text }
        var writer = YAMLWriter(remarks: remarks)
        writer.write(snapshot.document(version: version))

        var head = "# \(snapshot.node.id)\n"
        for note in defaults where !writer.usedRemarks.contains(note.path) {
            head += "# \(note.path): \(note.value ?? "")  # \(note.text)\n"
        }
        for note in warnings { head += "# warning: \(note.path): \(note.text)\(note.value.map { " (\($0))" } ?? "")\n" }
        return head + writer.text
    }

    /// JSON: the same with a list `notes`.
    public func json(version: String) -> String {
        guard case .map(let entries) = snapshot.document(version: version) else { return "" }
        let notes = notes.map { note in
            Document.entries([
                "kind": .text(note.kind.rawValue), "path": .text(note.path), "value": note.value.map { .text($0) },
                "text": .text(note.text),
            ])
        }
        return JSONWriter.write(.map(entries + [("notes", .list(notes))]))
    }
}
