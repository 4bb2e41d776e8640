import HTTP

/// The conditions of all routes of a table, as plain values in flat arrays: walking them counts no references.
struct RouteConditions: Sendable {
    /// A string of the configuration, in `text`.
    struct Text: Sendable {
        var start: UInt32
        var count: UInt32

        var range: Range<Int> { Int(start)..<Int(start + count) }
    }

    enum Path: Sendable {
        case prefix(Text)
        case exact(Text)
        case regex(Int)
    }

    struct Entry: Sendable {
        var path: Path
        var headers: Range<Int>
        var parameters: Range<Int>
        var requiresGRPC: Bool
    }

    struct Header: Sendable {
        enum Source: Sendable {
            case method
            /// Whether the condition holds for http and for https was computed when the table was built.
            case scheme(http: Bool, https: Bool)
            case authority
            /// With the query, as in Envoy.
            case path
            case known(KnownField)
            case named(Text)
        }

        enum Condition: Sendable {
            case present
            case exact(Text)
            case prefix(Text)
            case suffix(Text)
            case regex(Int)
            case range(Int64, Int64)

            var asksForPresence: Bool { if case .present = self { true } else { false } }
        }

        var source: Source
        var condition: Condition
        var isInverted: Bool
    }

    struct Parameter: Sendable {
        var name: Text
        var exact: Text?
    }

    var entries: [Entry] = []
    var headers: [Header] = []
    var parameters: [Parameter] = []
    var regexes: [LinearRegex] = []
    var text: [UInt8] = []

    // MARK: One route

    /// Whether all conditions of route `index` hold.
    func hold(_ index: Int, _ head: Head, _ fields: Span<Head.Field>, _ bytes: Span<UInt8>, _ path: Range<Int>) -> Bool {
        let entry = entries[index]
        switch entry.path {
        case .prefix(let prefix):
            if Int(prefix.count) > path.count { return false }
            if !equals(prefix, bytes, path.lowerBound..<path.lowerBound + Int(prefix.count)) { return false }
        case .exact(let exact):
            if !equals(exact, bytes, path) { return false }
        case .regex(let number):
            if !regexes[number].matches(bytes.extracting(path)) { return false }
        }
        if entry.requiresGRPC, !isGRPC(fields, bytes) { return false }
        for index in entry.headers where !holds(headers[index], head, fields, bytes) { return false }
        for index in entry.parameters where !holds(parameters[index], bytes, path.upperBound..<head.target.upperBound) { return false }
        return true
    }

    @inline(__always)
    private func equals(_ expected: Text, _ bytes: Span<UInt8>, _ range: Range<Int>) -> Bool {
        Int(expected.count) == range.count && bytes.holds(range, sameAs: text.span, from: Int(expected.start))
    }

    /// One content-type: `application/grpc`, alone or with `+` and a codec's name.
    private func isGRPC(_ fields: Span<Head.Field>, _ bytes: Span<UInt8>) -> Bool {
        let (value, count) = lookUp(.known(.contentType), fields, bytes)
        guard count == 1, value.count >= 16 else { return false }
        guard bytes.extracting(value.lowerBound..<value.lowerBound + 16).equalsLowercase("application/grpc") else { return false }
        return value.count == 16 || bytes[value.lowerBound + 16] == UInt8(ascii: "+")
    }

    // MARK: Headers

    private func holds(_ header: Header, _ head: Head, _ fields: Span<Head.Field>, _ bytes: Span<UInt8>) -> Bool {
        switch header.source {
        case .scheme(let http, let https):
            return (head.scheme == .http ? http : https) != header.isInverted
        case .method:
            return holds(header, bytes, head.methodRange)
        case .authority:
            return holds(header, bytes, head.authority)
        case .path:
            return holds(header, bytes, head.target)
        case .known, .named:
            let (value, count) = lookUp(header.source, fields, bytes)
            // As in Envoy: a missing header fails the matcher even where it is inverted, unless presence is what it asks for.
            if count == 0 { return header.isInverted && header.condition.asksForPresence }
            if count == 1 { return self.condition(header.condition, bytes, value) != header.isInverted }
            return joined(header, fields, bytes) != header.isInverted
        }
    }

    /// A pseudo-header; an empty one is missing.
    private func holds(_ header: Header, _ bytes: Span<UInt8>, _ value: Range<Int>) -> Bool {
        if value.isEmpty { return header.isInverted && header.condition.asksForPresence }
        return condition(header.condition, bytes, value) != header.isInverted
    }

    /// The first value of a field, and how often the field is there.
    private func lookUp(_ source: Header.Source, _ fields: Span<Head.Field>, _ bytes: Span<UInt8>) -> (value: Range<Int>, count: Int) {
        var first = -1
        var count = 0
        switch source {
        case .known(let known):
            for index in fields.indices where fields[index].known == known {
                if count == 0 { first = index }
                count &+= 1
            }
        case .named(let name):
            for index in fields.indices where names(name, fields[index], bytes) {
                if count == 0 { first = index }
                count &+= 1
            }
        case .method, .scheme, .authority, .path:
            break
        }
        return (count == 0 ? 0..<0 : fields[first].value, count)
    }

    @inline(__always)
    private func names(_ source: Header.Source, _ field: Head.Field, _ bytes: Span<UInt8>) -> Bool {
        switch source {
        case .known(let known): field.known == known
        case .named(let name): names(name, field, bytes)
        case .method, .scheme, .authority, .path: false
        }
    }

    @inline(__always)
    private func names(_ name: Text, _ field: Head.Field, _ bytes: Span<UInt8>) -> Bool {
        guard field.nameEnd &- field.nameStart == name.count, field.known == .other else { return false }
        var place = Int(field.nameStart)
        for index in name.range {
            var byte = bytes[place]
            if byte &- 0x41 < 26 { byte |= 0x20 }
            if byte != text[index] { return false }
            place &+= 1
        }
        return true
    }

    /// Whether one value fulfils a condition.
    func condition(_ condition: Header.Condition, _ bytes: Span<UInt8>, _ value: Range<Int>) -> Bool {
        switch condition {
        case .present:
            return true
        case .exact(let expected):
            return equals(expected, bytes, value)
        case .prefix(let expected):
            let count = Int(expected.count)
            return count <= value.count && equals(expected, bytes, value.lowerBound..<value.lowerBound + count)
        case .suffix(let expected):
            let count = Int(expected.count)
            return count <= value.count && equals(expected, bytes, value.upperBound - count..<value.upperBound)
        case .regex(let number):
            return regexes[number].matches(bytes.extracting(value))
        case .range(let start, let end):
            guard let number = Self.integer(bytes, value) else { return false }
            return start <= number && number < end
        }
    }

    /// Digits with or without a sign before them, and nothing else.
    private static func integer(_ bytes: Span<UInt8>, _ value: Range<Int>) -> Int64? {
        var index = value.lowerBound
        var isNegative = false
        if index < value.upperBound, bytes[index] == UInt8(ascii: "-") || bytes[index] == UInt8(ascii: "+") {
            isNegative = bytes[index] == UInt8(ascii: "-")
            index += 1
        }
        guard index < value.upperBound else { return nil }
        // Summed up below zero, where there is room for Int64.min.
        var number: Int64 = 0
        while index < value.upperBound {
            let digit = bytes[index] &- 0x30
            guard digit < 10 else { return nil }
            let (product, overflow) = number.multipliedReportingOverflow(by: 10)
            let (sum, overflowed) = product.subtractingReportingOverflow(Int64(digit))
            if overflow || overflowed { return nil }
            number = sum
            index += 1
        }
        if isNegative { return number }
        return number == .min ? nil : -number
    }

    // MARK: Headers that stand several times

    /// Whether the values, joined with commas, fulfil the condition. They are walked where they stand.
    private func joined(_ header: Header, _ fields: Span<Head.Field>, _ bytes: Span<UInt8>) -> Bool {
        switch header.condition {
        case .present:
            return true
        case .range:
            return false  // A comma is in no integer.
        case .exact(let expected):
            return joinedEquals(expected, header.source, fields, bytes, from: 0, isWhole: true)
        case .prefix(let expected):
            return joinedEquals(expected, header.source, fields, bytes, from: 0, isWhole: false)
        case .suffix(let expected):
            var length = -1
            for index in fields.indices where names(header.source, fields[index], bytes) {
                length += 1 + fields[index].value.count
            }
            let start = length - Int(expected.count)
            return start >= 0 && joinedEquals(expected, header.source, fields, bytes, from: start, isWhole: true)
        case .regex(let number):
            let regex = regexes[number]
            if regex.table.isEmpty {
                var run = ParallelRun()
                return joinedMatches(&run, regex, header.source, fields, bytes)
            }
            var run = TableRun()
            return joinedMatches(&run, regex, header.source, fields, bytes)
        }
    }

    /// Whether the joined value continues with `expected` at `start`, and (`isWhole`) ends with it.
    private func joinedEquals(
        _ expected: Text, _ source: Header.Source, _ fields: Span<Head.Field>, _ bytes: Span<UInt8>, from start: Int, isWhole: Bool
    ) -> Bool {
        var position = 0
        let end = start + Int(expected.count)
        func accepts(_ byte: UInt8) -> Bool {
            defer { position += 1 }
            if position < start { return true }
            if position >= end { return !isWhole }
            return text[Int(expected.start) + position - start] == byte
        }
        var isFirst = true
        for index in fields.indices where names(source, fields[index], bytes) {
            if !isFirst, !accepts(UInt8(ascii: ",")) { return false }
            isFirst = false
            for place in fields[index].value where !accepts(bytes[place]) { return false }
        }
        return position >= end
    }

    private func joinedMatches<Run: RegexRun>(
        _ run: inout Run, _ regex: LinearRegex, _ source: Header.Source, _ fields: Span<Head.Field>, _ bytes: Span<UInt8>
    ) -> Bool {
        let comma: InlineArray<1, UInt8> = [UInt8(ascii: ",")]
        run.start(regex)
        var isFirst = true
        for index in fields.indices where names(source, fields[index], bytes) {
            if !isFirst { run.feed(comma.span, regex) }
            isFirst = false
            run.feed(bytes.extracting(fields[index].value), regex)
        }
        return run.finish(regex)
    }

    // MARK: Query parameters

    /// Whether the query has the parameter. Compared as the bytes came, undecoded, and where a name stands several times its first value
    /// counts: both as in Envoy.
    private func holds(_ parameter: Parameter, _ bytes: Span<UInt8>, _ query: Range<Int>) -> Bool {
        // The range starts with the question mark, or is empty.
        var start = query.lowerBound + 1
        while start <= query.upperBound {
            var end = start
            var equal = -1
            while end < query.upperBound, bytes[end] != UInt8(ascii: "&") {
                if equal < 0, bytes[end] == UInt8(ascii: "=") { equal = end }
                end += 1
            }
            if equals(parameter.name, bytes, start..<(equal < 0 ? end : equal)), start < end {
                guard let exact = parameter.exact else { return true }
                return equals(exact, bytes, equal < 0 ? end..<end : equal + 1..<end)
            }
            start = end + 1
        }
        return false
    }
}
