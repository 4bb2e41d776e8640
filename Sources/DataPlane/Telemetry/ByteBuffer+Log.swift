import Base

/// How bytes that somebody else chose are written into a line.
enum LogStyle: UInt8 {
    /// Printable ASCII; `"`, `\` and every other byte are escaped as in C.
    case text
    /// The inside of a JSON string: valid UTF-8 stays, other bytes become U+FFFD.
    case json
}

extension ByteBuffer {
    /// Appends bytes from the network so that they can neither end a line nor leave a pair of quotes.
    mutating func append(_ bytes: Span<UInt8>, as style: LogStyle) {
        var run = 0
        var index = 0
        while index < bytes.count {
            let byte = bytes[index]
            if byte >= 0x20, byte < 0x7f, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\") {
                index += 1
                continue
            }
            append(raw: bytes.extracting(run..<index))
            index += style == .text ? appendEscaped(byte) : appendEscaped(bytes, at: index)
            run = index
        }
        append(raw: bytes.extracting(run..<index))
    }

    private mutating func append(raw bytes: Span<UInt8>) {
        unsafe append(bytes.bytes)  // Octets have no padding to read.
    }

    /// `\n`, `\"`, `\xe9`. Returns how many bytes were read.
    private mutating func appendEscaped(_ byte: UInt8) -> Int {
        append(UInt8(ascii: "\\"))
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"): append(byte)
        case UInt8(ascii: "\n"): append(UInt8(ascii: "n"))
        case UInt8(ascii: "\r"): append(UInt8(ascii: "r"))
        case UInt8(ascii: "\t"): append(UInt8(ascii: "t"))
        default:
            append(UInt8(ascii: "x"))
            appendHexDigits(byte)
        }
        return 1
    }

    /// The same in a JSON string. Returns how many bytes were read: more than one for a character beyond ASCII.
    private mutating func appendEscaped(_ bytes: Span<UInt8>, at index: Int) -> Int {
        let byte = bytes[index]
        if byte < 0x80 {
            switch byte {
            case UInt8(ascii: "\""): append("\\\"")
            case UInt8(ascii: "\\"): append("\\\\")
            case UInt8(ascii: "\n"): append("\\n")
            case UInt8(ascii: "\r"): append("\\r")
            case UInt8(ascii: "\t"): append("\\t")
            default:
                append("\\u00")
                appendHexDigits(byte)
            }
            return 1
        }
        let length = bytes.lengthOfCharacter(at: index)
        if length == 0 {
            append("\\ufffd")
            return 1
        }
        if byte == 0xc2, bytes[index + 1] < 0xa0 {  // U+0080 to U+009F: control characters too.
            append("\\u00")
            appendHexDigits(bytes[index + 1])
        } else {
            append(raw: bytes.extracting(index..<index + length))
        }
        return length
    }

    private mutating func appendHexDigits(_ byte: UInt8) {
        if byte < 16 { append(UInt8(ascii: "0")) }
        append(hexadecimal: Int(byte))
    }

    /// `10.0.0.1:80`, `[::1]:80`.
    mutating func append(_ address: SocketAddress) {
        if address.ip.isV4 {
            append(address.ip)
        } else {
            append(UInt8(ascii: "["))
            append(address.ip)
            append(UInt8(ascii: "]"))
        }
        append(UInt8(ascii: ":"))
        append(decimal: Int(address.port))
    }

    /// RFC 5952, without a String.
    mutating func append(_ ip: IPAddress) {
        switch ip {
        case .v4(let bits):
            for index in 0..<4 {
                if index > 0 { append(UInt8(ascii: ".")) }
                append(decimal: Int(bits >> (24 - 8 * UInt32(index)) & 0xff))
            }
        case .v6(let high, let low):
            if high == 0, low >> 32 == 0xffff {
                append("::ffff:")
                append(IPAddress.v4(UInt32(truncatingIfNeeded: low)))
                return
            }
            func group(_ index: Int) -> Int { Int((index < 4 ? high : low) >> (48 - 16 * UInt64(index & 3)) & 0xffff) }
            var gap = 0..<0
            var start = 0
            while start < 8 {
                var end = start
                while end < 8, group(end) == 0 { end += 1 }
                if end - start > max(gap.count, 1) { gap = start..<end }
                start = end + 1
            }
            var index = 0
            while index < 8 {
                if index == gap.lowerBound, !gap.isEmpty {
                    append("::")
                    index = gap.upperBound
                } else {
                    if index > 0, index != gap.upperBound || gap.isEmpty { append(UInt8(ascii: ":")) }
                    append(hexadecimal: group(index))
                    index += 1
                }
            }
        }
    }

    /// With leading zeros, so many digits; what does not fit is cut off in front.
    mutating func append(decimal number: Int, width: Int) {
        // Times are made of these two widths, and dividing by a constant is several times faster.
        if width == 2 {
            append(UInt8(truncatingIfNeeded: 0x30 + number / 10 % 10))
        } else if width == 3 {
            append(UInt8(truncatingIfNeeded: 0x30 + number / 100 % 10))
            append(UInt8(truncatingIfNeeded: 0x30 + number / 10 % 10))
        } else {
            var divisor = 1
            for _ in 1..<width { divisor *= 10 }
            while divisor > 1 {
                append(UInt8(truncatingIfNeeded: 0x30 + number / divisor % 10))
                divisor /= 10
            }
        }
        append(UInt8(truncatingIfNeeded: 0x30 + number % 10))
    }
}

extension Span<UInt8> {
    /// How many bytes the UTF-8 character at `index` has (RFC 3629 section 4); 0 where there is none.
    func lengthOfCharacter(at index: Int) -> Int {
        func isTail(_ offset: Int, _ range: ClosedRange<UInt8> = 0x80...0xbf) -> Bool {
            index + offset < count && range.contains(self[index + offset])
        }
        switch self[index] {
        case 0...0x7f: return 1
        case 0xc2...0xdf: return isTail(1) ? 2 : 0
        case 0xe0: return isTail(1, 0xa0...0xbf) && isTail(2) ? 3 : 0
        case 0xed: return isTail(1, 0x80...0x9f) && isTail(2) ? 3 : 0
        case 0xe1...0xef: return isTail(1) && isTail(2) ? 3 : 0
        case 0xf0: return isTail(1, 0x90...0xbf) && isTail(2) && isTail(3) ? 4 : 0
        case 0xf1...0xf3: return isTail(1) && isTail(2) && isTail(3) ? 4 : 0
        case 0xf4: return isTail(1, 0x80...0x8f) && isTail(2) && isTail(3) ? 4 : 0
        default: return 0
        }
    }
}
