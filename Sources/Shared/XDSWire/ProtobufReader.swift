/// Why bytes are not a protobuf message.
enum ProtobufError: Error, Hashable, CustomStringConvertible {
    case truncated
    case overlongVarint
    case invalidTag
    case unbalancedGroup
    case nestedTooDeep

    var description: String {
        switch self {
        case .truncated: "bytes that end inside a field"
        case .overlongVarint: "a number of more than 64 bits"
        case .invalidTag: "an impossible field number or wire type"
        case .unbalancedGroup: "a group without its other end"
        case .nestedTooDeep: "more than \(ProtobufReader.maxDepth) levels of nesting"
        }
    }
}

/// One field's value as the wire has it; what it means only the message knows.
enum ProtobufValue {
    case varint(UInt64)
    case fixed64(UInt64)
    case bytes(ArraySlice<UInt8>)
    case fixed32(UInt32)
}

/// Reads the fields of one protobuf message, one after the other. Any bytes whatever give fields or an error, never a trap.
struct ProtobufReader {
    /// The limit of Google's own implementations.
    static let maxDepth = 100

    private let bytes: ArraySlice<UInt8>
    private var position: Int

    init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        position = bytes.startIndex
    }

    /// The next field, or nil at the end. Groups (a form that proto3 gave up) are skipped whole.
    mutating func next() throws(ProtobufError) -> (field: Int, value: ProtobufValue)? {
        while position < bytes.endIndex {
            let (field, type) = try tag()
            if type == .groupStart {
                try skipGroup(field)
            } else {
                return (field, try value(type))
            }
        }
        return nil
    }

    /// The numbers of a packed field.
    static func varints(_ bytes: ArraySlice<UInt8>) throws(ProtobufError) -> [UInt64] {
        var reader = ProtobufReader(bytes)
        var values: [UInt64] = []
        while reader.position < bytes.endIndex { values.append(try reader.varint()) }
        return values
    }

    private mutating func tag() throws(ProtobufError) -> (Int, ProtobufWireType) {
        let tag = try varint()
        guard tag <= UInt32.max, tag >> 3 > 0, let type = ProtobufWireType(rawValue: UInt8(tag & 7)) else { throw .invalidTag }
        return (Int(tag >> 3), type)
    }

    private mutating func value(_ type: ProtobufWireType) throws(ProtobufError) -> ProtobufValue {
        switch type {
        case .varint: return .varint(try varint())
        case .fixed64: return .fixed64(littleEndian(try take(8)))
        case .fixed32: return .fixed32(UInt32(truncatingIfNeeded: littleEndian(try take(4))))
        case .bytes: return .bytes(try take(try varint()))
        case .groupStart, .groupEnd: throw .unbalancedGroup
        }
    }

    private mutating func skipGroup(_ field: Int) throws(ProtobufError) {
        var open = [field]
        while let innermost = open.last {
            let (field, type) = try tag()
            switch type {
            case .groupStart:
                guard open.count < Self.maxDepth else { throw .nestedTooDeep }
                open.append(field)
            case .groupEnd:
                guard field == innermost else { throw .unbalancedGroup }
                open.removeLast()
            default:
                _ = try value(type)
            }
        }
    }

    private mutating func varint() throws(ProtobufError) -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            guard position < bytes.endIndex else { throw .truncated }
            let byte = bytes[position]
            position += 1
            guard shift < 63 || byte <= 1 else { throw .overlongVarint }
            value |= UInt64(byte & 0x7f) << shift
            if byte < 0x80 { return value }
        }
        throw .overlongVarint
    }

    private mutating func take(_ count: UInt64) throws(ProtobufError) -> ArraySlice<UInt8> {
        guard count <= UInt64(bytes.endIndex - position) else { throw .truncated }
        let start = position
        position += Int(count)
        return bytes[start..<position]
    }

    private func littleEndian(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}
