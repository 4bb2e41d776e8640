/// Just enough of RFC 8259 to tell whether a line is a JSON object and what it says.
public enum JSON: Equatable, Sendable {
    case null
    case bool(Bool)
    case number(String)
    case string(String)
    case array([JSON])
    case object([String: JSON])

    public struct Malformed: Error {
        public var offset: Int

        public init(offset: Int) {
            self.offset = offset
        }
    }

    public init(_ text: some Sequence<UInt8>) throws {
        var parser = Parser(bytes: Array(text))
        self = try parser.value()
        parser.skipSpace()
        guard parser.index == parser.bytes.count else { throw Malformed(offset: parser.index) }
    }

    public subscript(key: String) -> JSON? {
        if case .object(let members) = self { members[key] } else { nil }
    }

    private struct Parser {
        var bytes: [UInt8]
        var index = 0

        mutating func skipSpace() {
            while index < bytes.count, [0x20, 0x09, 0x0a, 0x0d].contains(bytes[index]) { index += 1 }
        }

        mutating func take(_ text: String) -> Bool {
            guard bytes[index...].starts(with: text.utf8) else { return false }
            index += text.utf8.count
            return true
        }

        mutating func expect(_ text: String) throws {
            skipSpace()
            guard take(text) else { throw Malformed(offset: index) }
        }

        mutating func value() throws -> JSON {
            skipSpace()
            guard index < bytes.count else { throw Malformed(offset: index) }
            switch bytes[index] {
            case UInt8(ascii: "{"): return try object()
            case UInt8(ascii: "["): return try array()
            case UInt8(ascii: "\""): return .string(try string())
            default:
                if take("null") { return .null }
                if take("true") { return .bool(true) }
                if take("false") { return .bool(false) }
                return try number()
            }
        }

        mutating func object() throws -> JSON {
            try expect("{")
            var members: [String: JSON] = [:]
            skipSpace()
            if take("}") { return .object(members) }
            repeat {
                skipSpace()
                let key = try string()
                guard members[key] == nil else { throw Malformed(offset: index) }
                try expect(":")
                members[key] = try value()
                skipSpace()
            } while take(",")
            try expect("}")
            return .object(members)
        }

        mutating func array() throws -> JSON {
            try expect("[")
            var elements: [JSON] = []
            skipSpace()
            if take("]") { return .array(elements) }
            repeat {
                elements.append(try value())
                skipSpace()
            } while take(",")
            try expect("]")
            return .array(elements)
        }

        mutating func number() throws -> JSON {
            let start = index
            while index < bytes.count, "+-0123456789.eE".utf8.contains(bytes[index]) { index += 1 }
            let text = String(decoding: bytes[start..<index], as: UTF8.self)
            let digits = text.first == "-" ? text.dropFirst() : text[...]
            guard Double(text) != nil, digits.first?.isNumber == true, !(digits.first == "0" && digits.dropFirst().first?.isNumber == true)
            else { throw Malformed(offset: start) }
            return .number(text)
        }

        mutating func string() throws -> String {
            guard take("\"") else { throw Malformed(offset: index) }
            var units: [UInt8] = []
            while index < bytes.count {
                let byte = bytes[index]
                index += 1
                switch byte {
                case UInt8(ascii: "\""):
                    guard let text = String(validating: units, as: UTF8.self) else { throw Malformed(offset: index) }
                    return text
                case 0..<0x20: throw Malformed(offset: index)
                case UInt8(ascii: "\\"): units += try escape()
                default: units.append(byte)
                }
            }
            throw Malformed(offset: index)
        }

        mutating func escape() throws -> [UInt8] {
            guard index < bytes.count else { throw Malformed(offset: index) }
            defer { index += 1 }
            switch bytes[index] {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [bytes[index]]
            case UInt8(ascii: "n"): return [0x0a]
            case UInt8(ascii: "r"): return [0x0d]
            case UInt8(ascii: "t"): return [0x09]
            case UInt8(ascii: "b"): return [0x08]
            case UInt8(ascii: "f"): return [0x0c]
            case UInt8(ascii: "u"):
                guard index + 4 < bytes.count, let code = UInt32(String(decoding: bytes[index + 1...index + 4], as: UTF8.self), radix: 16),
                    let scalar = Unicode.Scalar(code)
                else { throw Malformed(offset: index) }
                index += 4
                return Array(String(scalar).utf8)
            default: throw Malformed(offset: index)
            }
        }
    }
}
