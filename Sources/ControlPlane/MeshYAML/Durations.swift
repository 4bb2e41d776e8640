import Base

extension FieldType where Value == Duration {
    /// google.protobuf.Duration holds no more (10,000 years), so that no proxy ever did. Nobody behind this has to fear overflow.
    fileprivate static var maxSeconds: Int { 315_576_000_000 }

    fileprivate static var example: String { "a duration such as 30s or {unit: s, value: 30}" }

    /// `{unit: s|ms, value: 30}`, App Mesh's form, or `1m30s`.
    static var duration: FieldType {
        FieldType(example) { field in
            switch field.node.content {
            case .mapping:
                return FieldType.object(Duration.read).read(field)
            case .scalar(let text, _):
                do throws(DurationProblem) {
                    return try Duration(short: text)
                } catch {
                    field.error(error.description(of: text))
                    return nil
                }
            case .sequence:
                field.expected(example)
                return nil
            }
        }
    }
}

extension FieldType where Value == Duration {
    static var positiveDuration: FieldType { duration("at least 1ms") { $0 > .zero } }

    /// Of seconds at least; zero is "none".
    static var durationOrNone: FieldType { duration("0s (none) or at least 1s") { $0 == .zero || $0 >= .seconds(1) } }

    private static func duration(_ expected: String, _ isTaken: @escaping (Duration) -> Bool) -> FieldType {
        FieldType(example) { field in
            guard let value = duration.read(field) else { return nil }
            guard isTaken(value) else {
                field.expected(expected)
                return nil
            }
            return value
        }
    }
}

private enum DurationUnit: String, CaseIterable {
    case s
    case ms
}

extension Duration {
    fileprivate static func read(_ object: ObjectReader) -> Duration? {
        let unit = object.required("unit", .oneOf([DurationUnit.s, .ms]))
        let value = object.required("value", .integer(0...FieldType<Duration>.maxSeconds * (unit == .ms ? 1_000 : 1)))
        guard let unit, let value else { return nil }
        return unit == .s ? .seconds(value) : .milliseconds(value)
    }

    /// `30s`, `1.5s`, `1m30s`: units ms, s, m, h; the sum a whole number of milliseconds.
    init(short text: String) throws(DurationProblem) {
        var rest = text.utf8[...]
        guard !rest.isEmpty else { throw .empty }
        if rest.first == UInt8(ascii: "-") { throw .negative }
        // In billionths of a millisecond: exact for every text that is accepted.
        var total: Int128 = 0
        while !rest.isEmpty {
            let whole = rest.prefix { (0x30...0x39).contains($0) }
            rest = rest.dropFirst(whole.count)
            var fraction = rest[rest.startIndex..<rest.startIndex]
            if rest.first == UInt8(ascii: ".") {
                fraction = rest.dropFirst().prefix { (0x30...0x39).contains($0) }
                guard !fraction.isEmpty else { throw .notADuration }
                rest = rest.dropFirst(1 + fraction.count)
            }
            guard !whole.isEmpty else { throw .notADuration }
            let letters = rest.prefix { !(0x30...0x39).contains($0) && $0 != UInt8(ascii: ".") }
            rest = rest.dropFirst(letters.count)
            let milliseconds: Int128
            switch String(decoding: letters, as: UTF8.self) {
            case "ms": milliseconds = 1
            case "s": milliseconds = 1_000
            case "m": milliseconds = 60_000
            case "h": milliseconds = 3_600_000
            case "": throw .noUnit
            case let unit: throw .unknownUnit(unit)
            }
            while fraction.last == UInt8(ascii: "0") { fraction.removeLast() }
            guard whole.count <= 15 else { throw .tooLong }
            guard fraction.count <= 9 else { throw .tooFine }
            let digits = String(decoding: whole, as: UTF8.self) + String(decoding: fraction, as: UTF8.self)
            var scale: Int128 = 1_000_000_000
            for _ in 0..<fraction.count { scale /= 10 }
            // Fifteen and nine digits always fit.
            total += Int128(digits)! * scale * milliseconds
        }
        guard total % 1_000_000_000 == 0 else { throw .tooFine }
        let milliseconds = total / 1_000_000_000
        guard milliseconds <= Int128(FieldType<Duration>.maxSeconds) * 1_000 else { throw .tooLong }
        self = .milliseconds(Int64(milliseconds))
    }
}

/// What is wrong with the short form of a duration.
enum DurationProblem: Error, Equatable {
    case empty
    case notADuration
    case noUnit
    case unknownUnit(String)
    case negative
    case tooFine
    case tooLong

    func description(of text: String) -> String {
        switch self {
        case .empty: "expected a duration such as 30s or {unit: s, value: 30}, found an empty string"
        case .notADuration: "\(text.quoted) is not a duration (use 30s or {unit: s, value: 30})"
        case .noUnit: "\(text.quoted) has no unit (use 30s or {unit: s, value: 30})"
        case .unknownUnit(let unit): "\(text.quoted): unknown unit \(unit.quoted) (use ms, s, m or h)"
        case .negative: "\(text.quoted): must not be negative"
        case .tooFine: "\(text.quoted): finer than 1 ms"
        case .tooLong: "\(text.quoted): too long"
        }
    }
}
