/// Appends protobuf fields to bytes (the wire format of protobuf.dev/programming-guides/encoding).
///
/// The output is deterministic: fields stand in the order in which they are written, so equal content has equal bytes.
struct ProtobufWriter {
    private(set) var bytes: [UInt8] = []

    mutating func varint(_ field: Int, _ value: UInt64) {
        tag(field, .varint)
        appendVarint(value)
    }

    mutating func fixed64(_ field: Int, _ value: UInt64) {
        tag(field, .fixed64)
        appendLittleEndian(value)
    }

    mutating func fixed32(_ field: Int, _ value: UInt32) {
        tag(field, .fixed32)
        appendLittleEndian(value)
    }

    mutating func bytes(_ field: Int, _ value: some Collection<UInt8>) {
        tag(field, .bytes)
        appendVarint(UInt64(value.count))
        bytes.append(contentsOf: value)
    }

    mutating func packed(_ field: Int, _ values: [UInt64]) {
        let start = beginMessage(field)
        for value in values { appendVarint(value) }
        endMessage(start)
    }

    /// Opens a length-delimited field. Whatever is written until `endMessage` is its content.
    mutating func beginMessage(_ field: Int) -> Int {
        tag(field, .bytes)
        return bytes.count
    }

    /// The length goes in front of the content, which moves up by its one to five bytes: cheaper than a buffer for each level.
    mutating func endMessage(_ start: Int) {
        bytes.insert(contentsOf: Self.varintBytes(UInt64(bytes.count - start)), at: start)
    }

    private mutating func tag(_ field: Int, _ type: ProtobufWireType) {
        appendVarint(UInt64(field) << 3 | UInt64(type.rawValue))
    }

    private mutating func appendVarint(_ value: UInt64) {
        var rest = value
        while rest > 0x7f {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    private mutating func appendLittleEndian<Number: FixedWidthInteger>(_ value: Number) {
        for shift in stride(from: 0, to: Number.bitWidth, by: 8) { bytes.append(UInt8(truncatingIfNeeded: value >> shift)) }
    }

    private static func varintBytes(_ value: UInt64) -> [UInt8] {
        var writer = ProtobufWriter()
        writer.appendVarint(value)
        return writer.bytes
    }
}

enum ProtobufWireType: UInt8 {
    case varint = 0
    case fixed64 = 1
    case bytes = 2
    case groupStart = 3
    case groupEnd = 4
    case fixed32 = 5
}
