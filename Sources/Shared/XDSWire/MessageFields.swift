import Base

/// One message's fields by number, for `MessageReader`, which knows their names.
struct MessageFields {
    /// Made only where there is something to tell: names of fields cost more than reading them.
    let makePath: () -> FieldPath
    let context: DecodingContext
    private let fields: [(number: Int, value: ProtobufValue)]
    private let depth: Int

    /// Nil (and an error) if the bytes are no protobuf message.
    init?(_ bytes: ArraySlice<UInt8>, path: @escaping () -> FieldPath, context: DecodingContext, depth: Int) {
        makePath = path
        self.context = context
        self.depth = depth
        do throws(ProtobufError) {
            guard depth < ProtobufReader.maxDepth else { throw .nestedTooDeep }
            fields = try Self.parse(bytes)
        } catch {
            context.add(path(), expected: "a protobuf message", found: error.description)
            return nil
        }
    }

    private static func parse(_ bytes: ArraySlice<UInt8>) throws(ProtobufError) -> [(number: Int, value: ProtobufValue)] {
        var reader = ProtobufReader(bytes)
        var fields: [(number: Int, value: ProtobufValue)] = []
        while let (number, value) = try reader.next() { fields.append((number, value)) }
        return fields
    }

    // MARK: Presence

    func has(_ number: Int) -> Bool {
        fields.contains { $0.number == number }
    }

    /// The member of a oneof that is set: the last one written.
    func chosen(_ members: [Int]) -> Int? {
        fields.last { members.contains($0.number) }?.number
    }

    private func all(_ number: Int) -> [ProtobufValue] {
        fields.lazy.filter { $0.number == number }.map(\.value)
    }

    private func last(_ number: Int) -> ProtobufValue? {
        fields.last { $0.number == number }?.value
    }

    // MARK: Scalars

    func string(_ number: Int, _ path: @autoclosure () -> FieldPath) -> String {
        last(number).flatMap { text($0, path()) } ?? ""
    }

    func strings(_ number: Int, _ path: @autoclosure () -> FieldPath) -> [String] {
        all(number).enumerated().compactMap { index, value in text(value, path()[index]) }
    }

    func bytes(_ number: Int, _ path: @autoclosure () -> FieldPath) -> ArraySlice<UInt8>? {
        guard let value = last(number) else { return nil }
        guard case .bytes(let bytes) = value else { return wrongType(path(), "bytes", value) }
        return bytes
    }

    func number(_ number: Int, _ path: @autoclosure () -> FieldPath) -> UInt64 {
        guard let value = last(number) else { return 0 }
        guard case .varint(let number) = value else { return wrongType(path(), "a number", value) ?? 0 }
        return number
    }

    func uint32(_ number: UInt64, in range: ClosedRange<UInt32>, _ path: @autoclosure () -> FieldPath) -> UInt32? {
        guard let value = UInt32(exactly: number), range.contains(value) else {
            context.add(path(), expected: "a number from \(range.lowerBound) through \(range.upperBound)", found: "\(number)")
            return nil
        }
        return value
    }

    func numbers(_ number: Int, _ path: @autoclosure () -> FieldPath) -> [UInt64] {
        var numbers: [UInt64] = []
        for value in all(number) {
            switch value {
            case .varint(let number): numbers.append(number)
            case .bytes(let packed):
                do throws(ProtobufError) {
                    numbers += try ProtobufReader.varints(packed)
                } catch {
                    context.add(path(), expected: "packed numbers", found: error.description)
                }
            default: let _: UInt64? = wrongType(path(), "a number", value)
            }
        }
        return numbers
    }

    func fixed64(_ number: Int, _ path: @autoclosure () -> FieldPath) -> UInt64? {
        guard let value = last(number) else { return nil }
        guard case .fixed64(let bits) = value else { return wrongType(path(), "eight bytes", value) }
        return bits
    }

    func duration(_ number: Int, _ path: @autoclosure @escaping () -> FieldPath) -> Duration? {
        guard let fields = message(number, path()) else { return nil }
        let message = MessageReader<DurationField>(fields)
        let (seconds, nanos) = (message.signed(.seconds), message.signed(.nanos))
        // The upper bound is protobuf's own: 10,000 years.
        guard (0...315_576_000_000).contains(seconds), (0...999_999_999).contains(nanos) else {
            context.add(path(), expected: "a duration from 0 s through 315576000000 s", found: "\(seconds) s and \(nanos) ns")
            return nil
        }
        return .seconds(seconds) + .nanoseconds(nanos)
    }

    private func text(_ value: ProtobufValue, _ path: @autoclosure () -> FieldPath) -> String? {
        guard case .bytes(let bytes) = value else { return wrongType(path(), "text", value) }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            context.add(path(), expected: "text in UTF-8", found: "other bytes")
            return nil
        }
        return text
    }

    // MARK: Messages

    func message(_ number: Int, _ path: @autoclosure @escaping () -> FieldPath) -> MessageFields? {
        let parts = all(number)
        guard let first = parts.first else { return nil }
        guard parts.count > 1 else { return open(first, path()) }
        var merged: [UInt8] = []
        for part in parts {
            guard case .bytes(let bytes) = part else { return wrongType(path(), "a message", part) }
            merged += bytes
        }
        return open(.bytes(merged[...]), path())
    }

    func messages(_ number: Int, _ path: @autoclosure @escaping () -> FieldPath) -> [MessageFields] {
        all(number).enumerated().compactMap { index, value in open(value, path()[index]) }
    }

    func any(_ number: Int, _ path: @autoclosure @escaping () -> FieldPath) -> AnyReader? {
        message(number, path()).map { AnyReader(MessageReader($0), path: path(), depth: depth + 1) }
    }

    func anys(_ number: Int, _ path: @autoclosure @escaping () -> FieldPath) -> [AnyReader] {
        messages(number, path()).map { AnyReader(MessageReader($0), path: $0.makePath(), depth: depth + 1) }
    }

    private func open(_ value: ProtobufValue, _ path: @autoclosure @escaping () -> FieldPath) -> MessageFields? {
        guard case .bytes(let bytes) = value else { return wrongType(path(), "a message", value) }
        return MessageFields(bytes, path: path, context: context, depth: depth + 1)
    }

    private func wrongType<Value>(_ path: FieldPath, _ expected: String, _ value: ProtobufValue) -> Value? {
        let found =
            switch value {
            case .varint: "a number"
            case .fixed64: "eight bytes"
            case .fixed32: "four bytes"
            case .bytes: "a string of bytes"
            }
        context.add(path, expected: expected, found: found)
        return nil
    }
}

/// A field as the .proto file names it.
@inline(never) @_semantics("optimize.sil.specialize.generic.never")
func fieldName<Field: WireField>(_ field: Field) -> String {
    "\(field)"
}

/// A message of which only the type's name is known until it is opened.
struct AnyReader {
    /// The full name of the message type: what stands behind the last slash of the URL.
    let typeName: String
    private let makePath: () -> FieldPath
    private let value: ArraySlice<UInt8>
    private let context: DecodingContext
    private let depth: Int

    init(_ message: MessageReader<AnyField>, path: @autoclosure @escaping () -> FieldPath, depth: Int) {
        let url = message.requiredString(.type_url)
        typeName = url.split(separator: "/").last.map(String.init) ?? ""
        value = message.bytes(.value) ?? []
        makePath = path
        context = message.context
        self.depth = depth
    }

    var path: FieldPath { makePath() }
    var type: AnyType? { AnyType(rawValue: typeName) }

    func open<Field: WireField>(_: Field.Type) -> MessageReader<Field>? {
        MessageReader<Field>(value, path: path, context: context, depth: depth)
    }

    func fail(expected: String) {
        context.add(path / "type_url", expected: expected, found: typeName.isEmpty ? "nothing" : typeName)
    }
}
