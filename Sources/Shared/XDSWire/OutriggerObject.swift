import Base

/// The keys of one object of ours in a google.protobuf.Struct.
protocol ObjectKey: RawRepresentable<String>, CaseIterable, Sendable {}

/// Writes an object of ours: `filter_metadata["outrigger"]` has what xDS has no field for. Durations are text as in protobuf's JSON,
/// since the numbers of a Struct are doubles.
struct ObjectWriter<Key: ObjectKey> {
    private var message = MessageWriter<StructField>()

    fileprivate static func write(to message: inout MessageWriter<StructField>, _ write: (inout Self) -> Void) {
        var writer = Self()
        swap(&writer.message, &message)  // The bytes move to and fro; they are never copied.
        write(&writer)
        swap(&writer.message, &message)
    }

    /// Nothing where there is no value.
    mutating func number(_ key: Key, _ value: UInt32?) {
        if let value { message.entry(key.rawValue) { $0.fixed64(.number_value, Double(value).bitPattern) } }
    }

    mutating func duration(_ key: Key, _ value: Duration?) {
        if let value { text(key, durationText(value)) }
    }

    mutating func text(_ key: Key, _ value: String) {
        message.entry(key.rawValue) { $0.chosenString(.string_value, value) }
    }

    mutating func bool(_ key: Key, _ value: Bool) {
        message.entry(key.rawValue) { $0.chosenBool(.bool_value, value) }
    }

    mutating func object<Inner: ObjectKey>(_ key: Key, _: Inner.Type, _ write: (inout ObjectWriter<Inner>) -> Void) {
        message.entry(key.rawValue) {
            $0.message(.struct_value, StructField.self) { ObjectWriter<Inner>.write(to: &$0, write) }
        }
    }
}

/// Reads an object of ours. What is wrong is recorded with its path: `metadata.outrigger.resilience.queue.capacity`.
struct ObjectReader<Key: ObjectKey> {
    let path: FieldPath
    private let context: DecodingContext
    private var values: [String: MessageReader<ValueField>] = [:]

    /// - Parameter refusesOthers: whether a key that `Key` does not have is an error: it would be a setting that is dropped in silence.
    fileprivate init(_ message: MessageReader<StructField>, path: FieldPath, refusesOthers: Bool) {
        self.path = path
        context = message.context
        for (key, value) in message.entries() {
            if Key(rawValue: key) != nil {
                values[key] = value
            } else if refusesOthers {
                context.add(path / key, expected: "one of \(Key.allCases.map(\.rawValue).joined(separator: ", "))", found: key)
            }
        }
    }

    func has(_ key: Key) -> Bool { values[key.rawValue] != nil }

    func fail(_ key: Key, expected: String, found: some CustomStringConvertible) {
        context.add(path / key.rawValue, expected: expected, found: found.description)
    }

    /// Nil if it is not there (or wrong, which is an error).
    func number(_ key: Key, in range: ClosedRange<UInt32> = 0...UInt32.max) -> UInt32? {
        guard let value = value(key, .number_value, "a number") else { return nil }
        let number = value.double(.number_value)
        guard let whole = UInt32(exactly: number), range.contains(whole) else {
            fail(key, expected: "a whole number from \(range.lowerBound) through \(range.upperBound)", found: number)
            return nil
        }
        return whole
    }

    /// A number without which there is nothing to make.
    func required(_ key: Key, in range: ClosedRange<UInt32> = 0...UInt32.max) -> UInt32? {
        if !has(key) { fail(key, expected: "a value", found: "nothing") }
        return number(key, in: range)
    }

    /// Above 0.
    func duration(_ key: Key) -> Duration? {
        guard let value = value(key, .string_value, "a duration such as \"1.5s\"") else { return nil }
        let text = value.string(.string_value)
        guard let duration = readDuration(text), duration > .zero else {
            fail(key, expected: "a duration above 0 such as \"1.5s\"", found: "\"\(text)\"")
            return nil
        }
        return duration
    }

    func requiredDuration(_ key: Key) -> Duration? {
        if !has(key) { fail(key, expected: "a value", found: "nothing") }
        return duration(key)
    }

    func word<Word: RawRepresentable<String> & CaseIterable>(_ key: Key, _: Word.Type) -> Word? {
        guard let value = value(key, .string_value, "a word") else { return nil }
        let text = value.string(.string_value)
        let word = Word(rawValue: text)
        if word == nil {
            fail(key, expected: "one of \(Word.allCases.map(\.rawValue).joined(separator: ", "))", found: "\"\(text)\"")
        }
        return word
    }

    func bool(_ key: Key) -> Bool? {
        value(key, .bool_value, "true or false")?.bool(.bool_value)
    }

    func object<Inner: ObjectKey>(_ key: Key, _: Inner.Type) -> ObjectReader<Inner>? {
        guard let message = value(key, .struct_value, "an object")?.message(.struct_value, StructField.self) else { return nil }
        return ObjectReader<Inner>(message, path: path / key.rawValue, refusesOthers: true)
    }

    private func value(_ key: Key, _ kind: ValueField, _ expected: String) -> MessageReader<ValueField>? {
        guard let value = values[key.rawValue] else { return nil }
        let found = value.chosen(.null_value, .number_value, .string_value, .bool_value, .struct_value, .list_value)
        guard found == kind else {
            fail(key, expected: expected, found: found.map { "a \(fieldName($0))" } ?? "nothing")
            return nil
        }
        return value
    }
}

extension MessageWriter<MetadataField> {
    /// `filter_metadata["outrigger"]`.
    mutating func outrigger<Key: ObjectKey>(_: Key.Type, _ write: (inout ObjectWriter<Key>) -> Void) {
        message(.filter_metadata, MapEntryField.self) {
            $0.string(.key, outriggerMetadataKey)
            $0.message(.value, StructField.self) { ObjectWriter<Key>.write(to: &$0, write) }
        }
    }
}

extension MessageReader<MetadataField> {
    /// Our own part. Others may have put something beside it, so unknown keys of this level are ignored.
    func outrigger<Key: ObjectKey>(_: Key.Type) -> ObjectReader<Key>? {
        self[outriggerMetadataKey].map { ObjectReader($0, path: path / outriggerMetadataKey, refusesOthers: false) }
    }
}

/// To the nanosecond: `15s`, `0.25s`.
func durationText(_ value: Duration) -> String {
    let (seconds, attoseconds) = value.components
    var digits = Array(String(attoseconds / 1_000_000_000).utf8)
    guard digits != [UInt8(ascii: "0")] else { return "\(seconds)s" }
    digits.insert(contentsOf: repeatElement(UInt8(ascii: "0"), count: 9 - digits.count), at: 0)
    while digits.last == UInt8(ascii: "0") { digits.removeLast() }
    return "\(seconds).\(String(decoding: digits, as: UTF8.self))s"
}

/// The reverse; nil if it is none, or longer than protobuf allows (10,000 years).
func readDuration(_ text: String) -> Duration? {
    guard text.utf8.last == UInt8(ascii: "s") else { return nil }
    let parts = text.utf8.dropLast().split(separator: UInt8(ascii: "."), maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.allSatisfy({ !$0.isEmpty && $0.allSatisfy((UInt8(ascii: "0")...UInt8(ascii: "9")).contains) }),
        let seconds = Int64(String(parts[0]) ?? ""), seconds <= 315_576_000_000
    else { return nil }
    guard parts.count == 2 else { return .seconds(seconds) }
    let digits = String(parts[1]) ?? ""
    guard digits.utf8.count <= 9, let fraction = Int64(digits + String(repeating: "0", count: 9 - digits.utf8.count)) else { return nil }
    return .seconds(seconds) + .nanoseconds(fraction)
}
