import Base
import ProxyConfig

/// envoy.config.core.v3.HeaderValueOption.
enum HeaderValueOptionField: Int, WireField {
    case header = 1
    /// Deprecated: read, but never written.
    case append = 2
    case append_action = 3
    case keep_empty_value = 4
}

/// envoy.config.core.v3.HeaderValue.
enum HeaderValueField: Int, WireField {
    case key = 1
    case value = 2
    case raw_value = 3
}

/// HeaderValueOption.HeaderAppendAction.
private enum AppendAction {
    static let add = 0
    static let overwriteOrAdd = 2
}

extension MessageWriter {
    /// Envoy removes before it adds, as we do.
    mutating func headerChanges(_ changes: HeaderChanges, add: Field, remove: Field) {
        for field in changes.set { header(add, field, AppendAction.overwriteOrAdd) }
        for field in changes.add { header(add, field, AppendAction.add) }
        strings(remove, changes.remove)
    }

    /// In values Envoy expands what stands between percent signs; two of them are one.
    private mutating func header(_ list: Field, _ field: HeaderChanges.Field, _ action: Int) {
        message(list, HeaderValueOptionField.self) {
            $0.message(.header, HeaderValueField.self) {
                $0.string(.key, field.name)
                $0.string(.value, field.value.split(separator: "%", omittingEmptySubsequences: false).joined(separator: "%%"))
            }
            $0.number(.append_action, action)
            if field.value.isEmpty { $0.bool(.keep_empty_value, true) }
        }
    }
}

extension MessageReader {
    func headerChanges(add: Field, remove: Field) -> HeaderChanges {
        var changes = HeaderChanges()
        for (index, name) in strings(remove).enumerated() {
            if let name = checked(name, path(remove)[index]) { changes.remove.append(name) }
        }
        for option in messages(add, HeaderValueOptionField.self) {
            guard let header = option.required(.header, HeaderValueField.self) else { continue }
            header.refuse(.raw_value)
            let field = checked(header.requiredString(.key), header.path(.key)).flatMap { name in
                header.literalValue().map { HeaderChanges.Field(name: name, value: $0) }
            }
            guard let field else { continue }
            // Envoy does nothing with an empty value unless told to keep it.
            if field.value.isEmpty, !option.bool(.keep_empty_value) { continue }
            switch option.appendAction() {
            case AppendAction.add: changes.add.append(field)
            case AppendAction.overwriteOrAdd: changes.set.append(field)
            case let other:
                option.fail(
                    .append_action, expected: "APPEND_IF_EXISTS_OR_ADD (0) or OVERWRITE_IF_EXISTS_OR_ADD (2)", found: other)
            }
        }
        return changes
    }

    private func checked(_ name: String, _ path: @autoclosure () -> FieldPath) -> String? {
        let lower = name.lowercased()
        if HeaderChanges.mayChange(lower) { return lower }
        context.add(
            path(), expected: "the name of a header that neither frames the message nor belongs to one hop", found: "\"\(name)\"")
        return nil
    }
}

extension MessageReader<HeaderValueOptionField> {
    fileprivate func appendAction() -> Int {
        if let append = wrappedBool(.append) { return append ? AppendAction.add : AppendAction.overwriteOrAdd }
        return Int(truncatingIfNeeded: number(.append_action))
    }
}

extension MessageReader<HeaderValueField> {
    /// Without its escapes; nil (and an error) where it has commands, or what no value may have.
    fileprivate func literalValue() -> String? {
        let text = string(.value)
        var value = ""
        var characters = text.unicodeScalars.makeIterator()
        while let character = characters.next() {
            if character == "%", characters.next() != "%" {
                fail(.value, expected: "a value without commands (%% is a percent sign)", found: "\"\(text)\"")
                return nil
            }
            value.unicodeScalars.append(character)
        }
        if HeaderChanges.isValue(value) { return value }
        fail(.value, expected: "a value without control characters, and without blanks at its ends", found: "\"\(text)\"")
        return nil
    }
}
