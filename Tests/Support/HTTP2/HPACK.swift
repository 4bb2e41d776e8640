/// A field of HTTP/2 as a test writes it, pseudo fields too.
public typealias HTTP2Field = (name: String, value: String)

/// Header compression (RFC 7541) apart from the code that is tested: writes literals only, reads everything.
public enum HPACK {
    /// Fields that no table remembers, without Huffman codes: any bytes can be said, also those that nobody may say.
    public static func encode(_ fields: [HTTP2Field]) -> [UInt8] {
        fields.flatMap { field in [0x00] + string(field.name) + string(field.value) }
    }

    /// One field that enters the dynamic table (RFC 7541 section 6.2.1).
    public static func indexing(_ field: HTTP2Field) -> [UInt8] {
        [0x40] + string(field.name) + string(field.value)
    }

    /// A reference to an entry: 1 through 61 are static, 62 is the newest of the dynamic table.
    public static func indexed(_ index: Int) -> [UInt8] {
        integer(index, prefix: 7, first: 0x80)
    }

    /// A change of the dynamic table's size (section 6.3).
    public static func tableSize(_ size: Int) -> [UInt8] {
        integer(size, prefix: 5, first: 0x20)
    }

    private static func string(_ text: String) -> [UInt8] {
        integer(text.utf8.count, prefix: 7, first: 0x00) + Array(text.utf8)
    }

    static func integer(_ value: Int, prefix: Int, first: UInt8) -> [UInt8] {
        let limit = 1 << prefix - 1
        guard value >= limit else { return [first | UInt8(value)] }
        var bytes = [first | UInt8(limit)]
        var rest = value - limit
        while rest >= 128 {
            bytes.append(UInt8(rest & 0x7f) | 0x80)
            rest >>= 7
        }
        return bytes + [UInt8(rest)]
    }

    /// What one side of a connection remembers while it reads header blocks.
    public struct Decoder {
        private var table: [HTTP2Field] = []
        private var size = 0
        private var maxSize = 4096

        public init() {}

        public mutating func decode(_ block: [UInt8]) throws -> [HTTP2Field] {
            var reader = Reader(bytes: block)
            var fields: [HTTP2Field] = []
            while let first = reader.peek {
                if first & 0x80 != 0 {
                    fields.append(try entry(try reader.integer(prefix: 7)))
                } else if first & 0xe0 == 0x20 {
                    maxSize = try reader.integer(prefix: 5)
                    evict(for: 0)
                } else {
                    let isRemembered = first & 0xc0 == 0x40
                    let index = try reader.integer(prefix: isRemembered ? 6 : 4)
                    let name = index == 0 ? try reader.string() : try entry(index).name
                    let field: HTTP2Field = (name, try reader.string())
                    if isRemembered { remember(field) }
                    fields.append(field)
                }
            }
            return fields
        }

        private func entry(_ index: Int) throws -> HTTP2Field {
            guard index > 0, index <= HPACK.staticTable.count + table.count else { throw TestFailure("HPACK: no entry \(index)") }
            return index <= HPACK.staticTable.count ? HPACK.staticTable[index - 1] : table[index - HPACK.staticTable.count - 1]
        }

        private mutating func remember(_ field: HTTP2Field) {
            let needed = Self.size(of: field)
            evict(for: needed)
            guard needed <= maxSize else { return }
            table.insert(field, at: 0)
            size += needed
        }

        private mutating func evict(for needed: Int) {
            while size + needed > maxSize, let last = table.popLast() { size -= Self.size(of: last) }
        }

        private static func size(of field: HTTP2Field) -> Int { field.name.utf8.count + field.value.utf8.count + 32 }
    }

    private struct Reader {
        let bytes: [UInt8]
        var index = 0

        var peek: UInt8? { index < bytes.count ? bytes[index] : nil }

        mutating func byte() throws -> UInt8 {
            guard index < bytes.count else { throw TestFailure("HPACK: the block ends too early") }
            defer { index += 1 }
            return bytes[index]
        }

        mutating func integer(prefix: Int) throws -> Int {
            let limit = 1 << prefix - 1
            var value = Int(try byte()) & limit
            guard value == limit else { return value }
            var shift = 0
            while true {
                let next = try byte()
                guard shift <= 28 else { throw TestFailure("HPACK: number too large") }
                value += Int(next & 0x7f) << shift
                shift += 7
                if next & 0x80 == 0 { return value }
            }
        }

        mutating func string() throws -> String {
            let isHuffman = (peek ?? 0) & 0x80 != 0
            let count = try integer(prefix: 7)
            guard index + count <= bytes.count else { throw TestFailure("HPACK: the block ends too early") }
            defer { index += count }
            let piece = bytes[index..<index + count]
            return String(decoding: isHuffman ? try HPACK.huffman(piece) : Array(piece), as: UTF8.self)
        }
    }

    // MARK: Huffman (RFC 7541 appendix B)

    private static func huffman(_ bytes: ArraySlice<UInt8>) throws -> [UInt8] {
        var output: [UInt8] = []
        var code = 0
        var length = 0
        for byte in bytes {
            for bit in stride(from: 7, through: 0, by: -1) {
                code = code << 1 | Int(byte) >> bit & 1
                length += 1
                if let symbol = symbols[code | 1 << length] {
                    guard symbol < 256 else { throw TestFailure("HPACK: end of string inside a string") }
                    output.append(UInt8(symbol))
                    code = 0
                    length = 0
                }
            }
        }
        guard length < 8, code == 1 << length - 1 else { throw TestFailure("HPACK: padding that is no beginning of the end") }
        return output
    }

    /// From a code with a one before its first bit to its symbol. The code is canonical, so the lengths tell all of it.
    private static let symbols: [Int: Int] = {
        var symbols: [Int: Int] = [:]
        var code = 0
        var length = 0
        for symbol in lengths.indices.sorted(by: { (lengths[$0], $0) < (lengths[$1], $1) }) {
            if length > 0 { code = (code + 1) << (lengths[symbol] - length) }
            length = lengths[symbol]
            symbols[code | 1 << length] = symbol
        }
        return symbols
    }()

    /// Bits of each byte's code, and of the end of the string.
    private static let lengths: [Int] = [
        13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
        6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
        13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
        15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
        20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
        22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
        26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
        20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
        30,
    ]

    // MARK: The static table (appendix A)

    private static let staticTable: [HTTP2Field] = [
        (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"), (":scheme", "http"),
        (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
        (":status", "404"), (":status", "500"), ("accept-charset", ""), ("accept-encoding", "gzip, deflate"), ("accept-language", ""),
        ("accept-ranges", ""), ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
        ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
        ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""),
        ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
        ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""),
        ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""),
        ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
        ("via", ""), ("www-authenticate", ""),
    ]
}
