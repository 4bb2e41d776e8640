/// Finds aliases in keys before Yams sees the text.
///
/// An alias costs Yams nothing as a value: it is shared, and whoever walks the tree counts what it repeats. But keys are hashed when
/// their mapping is read, and to hash a key of a few nested aliases takes for ever. So a text with aliases must not have keys other
/// than plain names. This looks at characters only, does not know strings from structure, and so refuses some texts without
/// need; all of them have aliases, which nobody's manifest had.
enum AliasGuard {
    static func placeOfAliasInKey(_ bytes: [UInt8]) -> YAMLNode.Mark? {
        var hasAlias = false
        var suspect: Int?
        for (index, byte) in bytes.enumerated() {
            switch byte {
            case UInt8(ascii: "*") where startsToken(bytes, index):
                var end = index + 1
                while end < bytes.count, isNameByte(bytes[end]) { end += 1 }
                guard end > index + 1 else { continue }
                hasAlias = true
                if colonFollows(bytes, end) { suspect = suspect ?? index }
            case UInt8(ascii: "?") where startsToken(bytes, index):
                let next = index + 1 < bytes.count ? bytes[index + 1] : UInt8(ascii: "\n")
                if isBlank(next) || "*[{&!".utf8.contains(next) { suspect = suspect ?? index }
            case UInt8(ascii: "]"), UInt8(ascii: "}"):
                if colonFollows(bytes, index + 1), !closesAddress(bytes, index) { suspect = suspect ?? index }
            default: break
            }
        }
        return hasAlias ? suspect.map { mark(of: $0, in: bytes) } : nil
    }

    private static func startsToken(_ bytes: [UInt8], _ index: Int) -> Bool {
        index == 0 || isBlank(bytes[index - 1]) || "[{,:-?".utf8.contains(bytes[index - 1]) || bytes[index - 1] >= 0x80
    }

    private static func isBlank(_ byte: UInt8) -> Bool { " \t\r\n".utf8.contains(byte) }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        byte >= 0x80 || (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte)
            || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_")
    }

    /// Is the next thing, behind blanks and comments, a colon?
    private static func colonFollows(_ bytes: [UInt8], _ start: Int) -> Bool {
        var index = start
        while index < bytes.count {
            if isBlank(bytes[index]) {
                index += 1
            } else if bytes[index] == UInt8(ascii: "#") {
                while index < bytes.count, bytes[index] != UInt8(ascii: "\n") { index += 1 }
            } else {
                return bytes[index] == UInt8(ascii: ":")
            }
        }
        return false
    }

    /// `[::1]`: the brackets of an IPv6 address before its port.
    private static func closesAddress(_ bytes: [UInt8], _ closing: Int) -> Bool {
        guard bytes[closing] == UInt8(ascii: "]") else { return false }
        var index = closing - 1
        while index >= 0, bytes[index] != UInt8(ascii: "[") {
            guard "0123456789abcdefABCDEF:.".utf8.contains(bytes[index]) else { return false }
            index -= 1
        }
        return index >= 0
    }

    private static func mark(of offset: Int, in bytes: [UInt8]) -> YAMLNode.Mark {
        let before = bytes[..<offset]
        let lineStart = before.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
        return YAMLNode.Mark(
            line: before.count { $0 == UInt8(ascii: "\n") } + 1,
            column: String(decoding: before[lineStart...], as: UTF8.self).unicodeScalars.count + 1)
    }
}
