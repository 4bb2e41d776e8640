import HTTP

/// What stands in a request's target, decoded (RFC 3986), and text as JSON has it (RFC 8259).
enum URLText {
    static func segments(_ path: String) -> [String]? {
        var segments: [String] = []
        for part in path.utf8.dropFirst(path.utf8.first == UInt8(ascii: "/") ? 1 : 0).split(
            separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        {
            guard let segment = decoded(part, plusIsSpace: false) else { return nil }
            segments.append(segment)
        }
        return segments
    }

    static func query(_ text: String) -> [(name: String, value: String)]? {
        var items: [(String, String)] = []
        for part in text.utf8.split(separator: UInt8(ascii: "&")) {
            let pieces = part.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = decoded(pieces[0], plusIsSpace: true) else { return nil }
            guard let value = pieces.count == 2 ? decoded(pieces[1], plusIsSpace: true) : "" else { return nil }
            items.append((name, value))
        }
        return items
    }

    /// - Parameter plusIsSpace: as forms write a query (WHATWG URL, application/x-www-form-urlencoded).
    private static func decoded(_ text: Substring.UTF8View, plusIsSpace: Bool) -> String? {
        var bytes: [UInt8] = []
        var index = text.startIndex
        while index < text.endIndex {
            let byte = text[index]
            text.formIndex(after: &index)
            switch byte {
            case UInt8(ascii: "+") where plusIsSpace: bytes.append(0x20)
            case UInt8(ascii: "%"):
                guard index < text.endIndex, let high = hexadecimalValue(text[index]) else { return nil }
                text.formIndex(after: &index)
                guard index < text.endIndex, let low = hexadecimalValue(text[index]) else { return nil }
                text.formIndex(after: &index)
                bytes.append(high << 4 | low)
            default: bytes.append(byte)
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }

    /// `text` as a JSON string, with its quotes.
    static func json(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\u{0}"..<" ": result += "\\u00" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
