import Base
import MeshModel
import Routing

/// A value at its place in a resource.
struct Field {
    let node: YAMLNode
    let path: FieldPath
    let log: ReadingLog

    init(_ node: YAMLNode, at path: FieldPath, log: ReadingLog) {
        self.node = node
        self.path = path
        self.log = log
        log.note(path, at: node.mark)
    }

    func expected(_ expected: String) {
        log.add(.error, at: node.mark, path, .mismatch(expected: expected, found: node.found))
    }

    func error(_ text: String) {
        log.add(.error, at: node.mark, path, .message(text))
    }
}

/// How a field is read: what it takes, in words, and the reading itself, which reports what is wrong and then yields nil.
struct FieldType<Value> {
    let expected: String
    let read: (Field) -> Value?

    init(_ expected: String, _ read: @escaping (Field) -> Value?) {
        self.expected = expected
        self.read = read
    }

    /// A scalar that `convert` understands; anything else is what was not expected.
    static func scalar(_ expected: String, _ convert: @escaping (YAMLNode.Scalar) -> Value?) -> FieldType {
        FieldType(expected) { field in
            guard let value = field.node.scalar.flatMap(convert) else {
                field.expected(expected)
                return nil
            }
            return value
        }
    }

    /// A string that `convert` understands.
    static func text(_ expected: String, _ convert: @escaping (String) -> Value?) -> FieldType {
        .scalar(expected) { if case .string(let text) = $0 { convert(text) } else { nil } }
    }

    /// A mapping, read by `read`, which names every field that it knows.
    static func object(_ read: @escaping (ObjectReader) -> Value?) -> FieldType {
        FieldType("a mapping") { field in
            guard let object = ObjectReader(field) else { return nil }
            let value = read(object)
            object.finish()
            return value
        }
    }
}

extension FieldType where Value == String {
    /// `length` counts characters.
    static func string(_ length: ClosedRange<Int> = 0...Int.max, _ name: String = "a string") -> FieldType {
        let expected =
            switch (length.lowerBound, length.upperBound) {
            case (0, .max): name
            case (1, .max): "\(name) that is not empty"
            case (let low, let high): "\(name) of \(low) through \(high) characters"
            }
        return FieldType(expected) { field in
            guard case .string(let text) = field.node.scalar, length.contains(text.unicodeScalars.count) else {
                field.expectedString(expected)
                return nil
            }
            return text
        }
    }

    /// RE2's syntax, as the proxy will read it.
    static func regex(_ length: ClosedRange<Int>) -> FieldType {
        let string = string(length)
        return FieldType(string.expected) { field in
            guard let pattern = string.read(field) else { return nil }
            do throws(RegexError) {
                _ = try LinearRegex(pattern)
                return pattern
            } catch {
                field.error("not a regular expression of RE2: \(error)")
                return nil
            }
        }
    }

    /// A string that is not empty.
    static var name: FieldType { .string(1...Int.max) }
}

extension Field {
    /// Numbers and Booleans are no strings: Kubernetes refused them too.
    func expectedString(_ expected: String) {
        let found =
            switch node.scalar {
            case .integer, .number: "the number \(node.found) without quotes"
            case .bool: "the Boolean \(node.found) without quotes"
            case .string(let text):
                text.isEmpty ? "an empty string" : text.unicodeScalars.count > 80 ? "\(text.unicodeScalars.count) characters" : text.quoted
            case .null, nil: node.found
            }
        log.add(.error, at: node.mark, path, .mismatch(expected: expected, found: found))
    }
}

extension FieldType where Value == Bool {
    /// Kubernetes' YAML knew `yes` and `on` too; as values of strings they are strings here.
    static var bool: FieldType {
        FieldType("true or false") { field in
            if case .bool(let value) = field.node.scalar { return value }
            if case .scalar(let text, isPlain: true) = field.node.content {
                if ["yes", "Yes", "YES", "on", "On", "ON"].contains(text) { return true }
                if ["no", "No", "NO", "off", "Off", "OFF"].contains(text) { return false }
            }
            field.expected("true or false")
            return nil
        }
    }
}

extension FieldType where Value == Int {
    static func integer(_ range: ClosedRange<Int>) -> FieldType {
        let expected =
            switch (range.lowerBound, range.upperBound) {
            case (let low, .max): "an integer of at least \(low)"
            case (let low, let high): "an integer from \(low) through \(high)"
            }
        return .scalar(expected) { if case .integer(let value) = $0, range.contains(value) { value } else { nil } }
    }

    static func integer(atLeast low: Int) -> FieldType { integer(low...Int.max) }

    static var anyInteger: FieldType {
        .scalar("an integer") { if case .integer(let value) = $0 { value } else { nil } }
    }
}

extension FieldType where Value == Port {
    static var port: FieldType {
        .scalar("a port from 1 through 65535") {
            if case .integer(let number) = $0, number > 0 { Port(exactly: number) } else { nil }
        }
    }
}

extension FieldType where Value == SocketAddress {
    /// Where something is reached.
    static var socketAddress: FieldType {
        .text("an IP address and a port, such as 127.0.0.1:8080 or \"[::1]:8080\"") { text in
            SocketAddress(text).flatMap { $0.port > 0 ? $0 : nil }
        }
    }

    /// Where something listens: port 0 lets the kernel choose.
    static var bindAddress: FieldType {
        .text("an IP address and a port, such as 0.0.0.0:15000 or \"[::]:15000\"") { SocketAddress($0) }
    }
}

extension FieldType where Value == [String: String] {
    static var stringMap: FieldType {
        FieldType("a mapping of strings") { field in
            guard let object = ObjectReader(field) else { return nil }
            return object.allEntries(.string())
        }
    }
}

extension FieldType where Value: RawRepresentable & CaseIterable, Value.RawValue == String {
    /// One of an enum's raw values, or of those that `allowed` lists.
    static func oneOf(_ allowed: [Value] = Array(Value.allCases)) -> FieldType {
        let expected = allowed.count == 1 ? allowed[0].rawValue : "one of " + allowed.map(\.rawValue).joined(separator: ", ")
        return .text(expected) { text in allowed.first { $0.rawValue == text } }
    }
}

extension FieldType {
    /// A list. Elements that cannot be read are reported and left out.
    static func list<Element>(of type: FieldType<Element>, count: ClosedRange<Int> = 0...Int.max) -> FieldType where Value == [Element] {
        let expected =
            switch (count.lowerBound, count.upperBound) {
            case (0, .max): "a list"
            case (let low, .max): "a list of at least \(low)"
            case (let low, let high): low == high ? "a list of \(low)" : "a list of \(low) through \(high)"
            }
        return FieldType(expected) { field in
            guard case .sequence(let items) = field.node.content else {
                field.expected(expected)
                return nil
            }
            if !count.contains(items.count) {
                field.log.add(.error, at: field.node.mark, field.path, .mismatch(expected: expected, found: "\(items.count)"))
                // Whatever is wrong inside of the first ones is reported too; a list of a million is not gone through.
                if items.count > count.upperBound { return nil }
            }
            return items.enumerated().compactMap { index, item in
                let element = Field(item, at: field.path[index], log: field.log)
                if item.isNull {
                    element.expected(type.expected)
                    return nil
                }
                return type.read(element)
            }
        }
    }
}
