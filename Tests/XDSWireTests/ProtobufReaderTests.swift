import Base
import Testing

@testable import XDSWire

@Suite struct ProtobufReaderTests {
    @Test(
        "bytes that are no fields are refused with the reason",
        arguments: [
            ([0x08], .truncated),  // A tag without its value.
            ([0x08, 0x80], .truncated),  // A number that goes on.
            ([0x12, 0x02, 0x61], .truncated),
            ([0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], .truncated),  // A length of 2^64 - 1.
            ([0x09, 1, 2, 3, 4, 5, 6, 7], .truncated),
            ([0x0d, 1, 2, 3], .truncated),
            ([0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02], .overlongVarint),
            ([0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], .overlongVarint),
            ([0x00, 0x00], .invalidTag),  // Field 0.
            ([0x0e], .invalidTag),  // Wire type 6.
            ([0x80, 0x80, 0x80, 0x80, 0x10, 0x00], .invalidTag),  // Field 2^29.
            ([0x0c], .unbalancedGroup),
            ([0x0b, 0x14], .unbalancedGroup),
            ([0x0b], .truncated),
            ([UInt8](repeating: 0x0b, count: 101), .nestedTooDeep),
        ] as [([UInt8], ProtobufError)])
    func refused(bytes: [UInt8], expected: ProtobufError) {
        #expect(throws: expected) { try fields(bytes) }
    }

    @Test("numbers survive at every length of their encoding")
    func varints() throws {
        var numbers: [UInt64] = [0, .max, 1 << 63]
        for bits in 0..<64 { numbers += [1 << bits, (1 << bits) - 1, (1 << bits) + 1] }
        for number in numbers {
            var writer = ProtobufWriter()
            writer.varint(1, number)
            guard case .varint(number) = try #require(try fields(writer.bytes).first).value else {
                Issue.record("\(number) is lost")
                continue
            }
        }
    }

    @Test("groups are skipped, however they nest")
    func groups() throws {
        // 1 { 2 { 3: "ab" } 4: 5 } then 5: 6
        let found = try fields([0x0b, 0x13, 0x1a, 0x02, 0x61, 0x62, 0x14, 0x20, 0x05, 0x0c, 0x28, 0x06])
        #expect(found.map(\.field) == [5])
    }

    @Test("random bytes give fields or an error")
    func randomBytes() {
        var random = SeededRandom(seed: 5)
        var refused = 0
        for _ in 0..<2000 {
            let bytes = (0..<random.below(64)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            if (try? fields(bytes)) == nil { refused += 1 }
        }
        #expect(refused > 1000)
    }

    @Test("the last of several values counts, and messages are merged")
    func repeatedFields() throws {
        var writer = MessageWriter<AnyField>()
        writer.string(.type_url, "first")
        writer.string(.type_url, "last")
        let reader = try #require(MessageReader<AnyField>(writer.bytes[...], path: FieldPath(), context: DecodingContext()))
        #expect(reader.string(.type_url) == "last")

        var outer = MessageWriter<MapEntryField>()
        outer.message(.value, DurationField.self) { $0.number(.seconds, 1) }
        outer.message(.value, DurationField.self) { $0.number(.nanos, 2) }
        let merged = try #require(MessageReader<MapEntryField>(outer.bytes[...], path: FieldPath(), context: DecodingContext()))
        #expect(merged.duration(.value) == .seconds(1) + .nanoseconds(2))
    }

    @Test("repeated numbers are read packed and unpacked")
    func packed() throws {
        var writer = ProtobufWriter()
        writer.packed(1, [1, 300])
        writer.varint(1, 5)
        let context = DecodingContext()
        let reader = try #require(MessageReader<WrapperField>(writer.bytes[...], path: FieldPath(), context: context))
        #expect(reader.numbers(.value) == [1, 300, 5])
        #expect(context.errors.isEmpty)
    }

    private func fields(_ bytes: [UInt8]) throws(ProtobufError) -> [(field: Int, value: ProtobufValue)] {
        var reader = ProtobufReader(bytes[...])
        var fields: [(field: Int, value: ProtobufValue)] = []
        while let field = try reader.next() { fields.append(field) }
        return fields
    }
}
