public import Base
import Glibc
import HTTP
public import ProxyConfig

/// A compiled access log format: renders one record to one line, without an allocation once the buffer has its size.
public struct AccessLogFormat: Sendable {
    /// Envoy's default line, with its newline.
    static let standardLine = """
        [%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% \
        %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" \
        "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"

        """

    /// One step of writing a line.
    struct Step: Sendable {
        enum Kind: Sendable {
            case literal
            case value
            /// A JSON value of its own: a number stays a number, and what is missing is null.
            case typedValue
        }

        var kind: Kind
        var style = LogStyle.text
        /// Of a literal, in `pool`.
        var literal = 0..<0
        var operation = LogOperator.startTime
        var field = FieldName.none
        /// Where `field` is missing.
        var otherField = FieldName.none
        var maxLength = Int.max
        /// An index into `timeFormats`, or the form of a gRPC status.
        var variant = 0
    }

    /// Which field of a head is meant.
    enum FieldName: Sendable {
        case none
        case method
        case path
        case authority
        case scheme
        case status
        case known(KnownField)
        /// The name in lower case, in `pool`.
        case named(Range<Int>)
    }

    private(set) var steps: [Step] = []
    private(set) var pool: [UInt8] = []
    private(set) var timeFormats: [TimeFormat] = [.standard]
    let hostname: [UInt8]

    /// - Parameters:
    ///   - path: where the format stands, for errors.
    ///   - hostname: what `%HOSTNAME%` gives; nil = this machine's name.
    /// - Throws: the first operator that is unknown or wrongly written.
    public init(_ format: AccessLog.Format, at path: FieldPath = FieldPath(), hostname: String? = nil) throws(FieldError) {
        self.hostname = Array((hostname ?? Self.machineName()).utf8)
        switch format {
        case .standard: try appendText(Self.standardLine, style: .text, at: path)
        case .text(let text): try appendText(text, style: .text, at: path / "text")
        case .json(let fields):
            for (index, field) in fields.enumerated() {
                appendLiteral(index == 0 ? "{" : ",", style: nil)
                try appendJSON(field, at: (path / "json")[index])
            }
            appendLiteral(fields.isEmpty ? "{}\n" : "}\n", style: nil)
        }
    }

    private static func machineName() -> String {
        var name = [CChar](repeating: 0, count: 256)
        guard unsafe gethostname(&name, name.count - 1) == 0 else { return "-" }
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    // MARK: Compiling

    /// - Parameter style: nil = as it stands.
    private mutating func appendLiteral(_ text: some Sequence<UInt8>, style: LogStyle?) {
        let start = pool.count
        if style == .json {
            var escaped = ByteBuffer()
            let raw = Array(text)
            escaped.append(raw.span, as: .json)
            unsafe pool.append(contentsOf: escaped.unsafeBytes)
        } else {
            pool.append(contentsOf: text)
        }
        guard pool.count > start else { return }
        if let last = steps.indices.last, steps[last].kind == .literal, steps[last].literal.upperBound == start {
            steps[last].literal = steps[last].literal.lowerBound..<pool.count
        } else {
            steps.append(Step(kind: .literal, literal: start..<pool.count))
        }
    }

    private mutating func appendLiteral(_ text: String, style: LogStyle?) {
        appendLiteral(text.utf8, style: style)
    }

    private mutating func appendJSON(_ field: AccessLog.Field, at path: FieldPath) throws(FieldError) {
        appendLiteral("\"", style: nil)
        appendLiteral(field.key, style: .json)
        appendLiteral("\":", style: nil)
        var inner = self
        inner.steps = []
        try inner.appendText(field.value, style: .json, at: path / field.key)
        if inner.steps.count == 1, inner.steps[0].kind == .value {
            inner.steps[0].kind = .typedValue
            let step = inner.steps[0]
            inner.steps = steps
            inner.steps.append(step)
            self = inner
        } else {
            appendLiteral("\"", style: nil)
            try appendText(field.value, style: .json, at: path / field.key)
            appendLiteral("\"", style: nil)
        }
    }

    private mutating func appendText(_ text: String, style: LogStyle, at path: FieldPath) throws(FieldError) {
        var rest = Array(text.utf8)[...]
        while let percent = rest.firstIndex(of: UInt8(ascii: "%")) {
            appendLiteral(rest[..<percent], style: style)
            rest = rest[(percent + 1)...]
            if rest.first == UInt8(ascii: "%") {
                appendLiteral("%", style: style)
                rest = rest.dropFirst()
            } else {
                steps.append(try operatorStep(&rest, style: style, at: path))
            }
        }
        appendLiteral(rest, style: style)
    }

    /// Reads `NAME%`, `NAME(ARGUMENT)%` or `NAME(ARGUMENT):LENGTH%`: what stands behind the first percent sign.
    private mutating func operatorStep(
        _ rest: inout ArraySlice<UInt8>, style: LogStyle, at path: FieldPath
    ) throws(FieldError) -> Step {
        let whole = rest
        let nameEnd = rest.firstIndex { !(0x41...0x5a).contains($0) && $0 != UInt8(ascii: "_") } ?? rest.endIndex
        let name = String(decoding: rest[..<nameEnd], as: UTF8.self)
        rest = rest[nameEnd...]
        var argument: String?
        if rest.first == UInt8(ascii: "("), let close = rest.firstIndex(of: UInt8(ascii: ")")) {
            argument = String(decoding: rest[(nameEnd + 1)..<close], as: UTF8.self)
            rest = rest[(close + 1)...]
        }
        var length: String?
        if rest.first == UInt8(ascii: ":") {
            let end = rest.firstIndex(of: UInt8(ascii: "%")) ?? rest.endIndex
            length = String(decoding: rest[(rest.startIndex + 1)..<end], as: UTF8.self)
            rest = rest[end...]
        }
        let found = "%" + String(decoding: whole[..<rest.startIndex], as: UTF8.self) + (rest.isEmpty ? "" : "%")
        func fail(_ expected: String) -> FieldError { FieldError(path: path, expected: expected, found: found) }

        guard rest.popFirst() == UInt8(ascii: "%") else {
            throw FieldError(
                path: path, expected: "%OPERATOR%, %OPERATOR(ARGUMENT)% or %% for a percent sign",
                found: "%" + String(decoding: whole, as: UTF8.self))
        }
        guard let operation = LogOperator(rawValue: name) else { throw fail("a command operator of docs/access-log.md") }
        var step = Step(kind: .value, style: style, operation: operation)
        if let length {
            guard operation.argument == .field, let count = Int(length), count > 0 else {
                throw fail("a length above 0, behind an operator that takes the name of a field")
            }
            step.maxLength = count
        }
        switch (operation.argument, argument) {
        case (.none, nil): break
        case (.none, _?): throw fail("%\(name)% without an argument")
        case (.field, let names?):
            let parts = names.split(separator: "?", omittingEmptySubsequences: false)
            guard (1...2).contains(parts.count), !parts.contains("") else { throw fail("%\(name)(FIELD)% or %\(name)(FIELD?OTHER)%") }
            step.field = fieldName(parts[0])
            if parts.count == 2 { step.otherField = fieldName(parts[1]) }
        case (.field, nil): throw fail("%\(name)(FIELD)%")
        case (.time, nil), (.time, ""?): break
        case (.time, let text?):
            guard let format = TimeFormat(text) else { throw fail("a time format of docs/access-log.md") }
            step.variant = timeFormats.count
            timeFormats.append(format)
        case (.grpc, nil), (.grpc, "CAMEL_STRING"?): break
        case (.grpc, "SNAKE_STRING"?): step.variant = 1
        case (.grpc, "NUMBER"?): step = Step(kind: .value, style: style, operation: .grpcStatusNumber)
        case (.grpc, _?): throw fail("CAMEL_STRING, SNAKE_STRING or NUMBER")
        }
        return step
    }

    private mutating func fieldName(_ text: Substring) -> FieldName {
        let name = Array(text.lowercased().utf8)
        switch text.lowercased() {
        case ":method": return .method
        case ":path": return .path
        case ":authority", "host": return .authority
        case ":scheme": return .scheme
        case ":status": return .status
        default: break
        }
        let known = KnownField(name.span)
        guard known == .other else { return .known(known) }
        let start = pool.count
        pool += name
        return .named(start..<pool.count)
    }
}
