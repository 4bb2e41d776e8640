public import Base

/// What a proxy must know of gRPC over HTTP/2: who speaks it, how long a call may take, and how a call ended.
///
/// Source: "gRPC over HTTP2" (PROTOCOL-HTTP2.md) and "HTTP to gRPC Status Code Mapping" of the gRPC project. Nothing here allocates,
/// except by appending to what the caller brings.
public enum GRPC {
    /// The codes of a call's end that the proxy itself gives; an endpoint may send any other number too.
    public enum Status {
        public static let ok: UInt32 = 0
        public static let cancelled: UInt32 = 1
        public static let unknown: UInt32 = 2
        public static let invalidArgument: UInt32 = 3
        public static let deadlineExceeded: UInt32 = 4
        public static let alreadyExists: UInt32 = 6
        public static let permissionDenied: UInt32 = 7
        public static let resourceExhausted: UInt32 = 8
        public static let aborted: UInt32 = 10
        public static let unimplemented: UInt32 = 12
        public static let `internal`: UInt32 = 13
        public static let unavailable: UInt32 = 14
        public static let unauthenticated: UInt32 = 16
    }

    // MARK: Who speaks it

    /// Whether the message's content type is `application/grpc`, alone or with a message format (`+proto`) or parameters.
    ///
    /// gRPC-Web is none: its trailers stand in the body, and what calls it expects an HTTP status.
    public static func isGRPC(_ head: borrowing Head) -> Bool {
        guard let value = head.first(.contentType)?.value else { return false }
        let bytes = head.bytes
        let type = bytes.span.extracting(value)
        guard type.count >= contentType.utf8CodeUnitCount,
            type.extracting(first: contentType.utf8CodeUnitCount).equalsLowercase(contentType)
        else { return false }
        guard type.count > contentType.utf8CodeUnitCount else { return true }
        switch type[contentType.utf8CodeUnitCount] {
        case UInt8(ascii: "+"), UInt8(ascii: ";"), UInt8(ascii: " "), UInt8(ascii: "\t"): return true
        default: return false
        }
    }

    public static let contentType: StaticString = "application/grpc"

    // MARK: How long a call may take

    /// `grpc-timeout` of a request. Nil where it is absent or malformed: the call has no deadline then.
    public static func timeout(of request: borrowing Head) -> Nanoseconds? {
        guard let value = request.first(.grpcTimeout)?.value else { return nil }
        let bytes = request.bytes
        return parseTimeout(bytes.span.extracting(value))
    }

    /// Reads one to eight digits and a unit (`H M S m u n`), case-sensitive. Beyond 292 years it saturates.
    public static func parseTimeout(_ bytes: Span<UInt8>) -> Nanoseconds? {
        guard (2...maxTimeoutDigits + 1).contains(bytes.count) else { return nil }
        var number: Int64 = 0
        for index in 0..<bytes.count - 1 {
            let digit = bytes[index] &- UInt8(ascii: "0")
            guard digit < 10 else { return nil }
            number = number * 10 + Int64(digit)
        }
        let letter = bytes[bytes.count - 1]
        guard let unit = units.first(where: { $0.letter == letter }) else { return nil }
        let (product, overflow) = number.multipliedReportingOverflow(by: unit.nanoseconds)
        return Nanoseconds(count: overflow ? .max : product)
    }

    /// Appends a timeout in the finest unit in which it fits into eight digits, cut off and never rounded up.
    ///
    /// A timeout that has run out is written as one nanosecond: zero is no timeout of the protocol (its number is positive).
    public static func writeTimeout(_ timeout: Nanoseconds, into output: inout [UInt8]) {
        let count = max(timeout.count, 1)
        // Hours always fit: 292 years are two and a half million of them.
        let unit = units.first { count / $0.nanoseconds <= maxTimeoutNumber } ?? units[units.count - 1]
        append(decimal: UInt64(count / unit.nanoseconds), to: &output)
        output.append(unit.letter)
    }

    private static let maxTimeoutDigits = 8
    private static let maxTimeoutNumber: Int64 = 99_999_999

    /// Finest first.
    private static let units: [(letter: UInt8, nanoseconds: Int64)] = [
        (UInt8(ascii: "n"), 1),
        (UInt8(ascii: "u"), 1_000),
        (UInt8(ascii: "m"), 1_000_000),
        (UInt8(ascii: "S"), 1_000_000_000),
        (UInt8(ascii: "M"), 60_000_000_000),
        (UInt8(ascii: "H"), 3_600_000_000_000),
    ]

    // MARK: How a call ended

    /// `grpc-status` of a response's head or of its trailers; nil where there is none.
    ///
    /// What is no number of 32 bits is UNKNOWN: an end was announced, and nobody can say which.
    public static func status(in head: borrowing Head) -> UInt32? {
        guard let value = head.first(.grpcStatus)?.value else { return nil }
        guard !value.isEmpty else { return Status.unknown }
        var number: UInt32 = 0
        for index in value {
            let digit = head.bytes[index] &- UInt8(ascii: "0")
            guard digit < 10 else { return Status.unknown }
            let (product, overflow) = number.multipliedReportingOverflow(by: 10)
            let (sum, overflowed) = product.addingReportingOverflow(UInt32(digit))
            guard !overflow, !overflowed else { return Status.unknown }
            number = sum
        }
        return number
    }

    /// What a caller makes of a response that has no `grpc-status`: the mapping of the gRPC project, for callers alone.
    public static func status(ofHTTP status: Int) -> UInt32 {
        switch status {
        case 400: Status.internal
        case 401: Status.unauthenticated
        case 403: Status.permissionDenied
        case 404: Status.unimplemented
        case 429, 502, 503, 504: Status.unavailable
        default: Status.unknown
        }
    }

    /// What we tell a gRPC caller where we would have told an HTTP caller `status`.
    ///
    /// It is the mapping above, but for what we know better than somebody who has nothing but a number:
    ///
    /// | status | where | code |
    /// | --- | --- | --- |
    /// | 504, 408 | a timeout of the route or of the stream | DEADLINE_EXCEEDED: the time ran out, the service may be well |
    /// | 503 with UO or OM | a limit of this proxy is reached | RESOURCE_EXHAUSTED: who calls again at once makes it worse |
    /// | 413, 414, 431 | body, path or head too large | RESOURCE_EXHAUSTED, as gRPC's own libraries say of large metadata |
    /// | 429 | a rate limit | RESOURCE_EXHAUSTED: it is the caller's quota, not the service's absence |
    /// | 501 | a method or an upgrade that is not supported | UNIMPLEMENTED |
    /// | 503, 502 | no endpoint, no connection, reset, malformed response, breaker open | UNAVAILABLE (the mapping) |
    /// | 404 | no route | UNIMPLEMENTED (the mapping) |
    /// | 400 | a malformed request | INTERNAL (the mapping) |
    public static func status(ofLocalReply status: Int, flags: ResponseFlags = []) -> UInt32 {
        switch status {
        case 408, 504: Status.deadlineExceeded
        case 413, 414, 429, 431: Status.resourceExhausted
        case 501: Status.unimplemented
        case 503 where !flags.isDisjoint(with: [.upstreamOverflow, .overloadManager]): Status.resourceExhausted
        default: self.status(ofHTTP: status)
        }
    }

    /// Appends `text` as the value of `grpc-message`: printable ASCII but `%` as it is, every other byte as `%XX`.
    public static func encodeMessage(_ text: Span<UInt8>, into output: inout [UInt8]) {
        for index in text.indices {
            let byte = text[index]
            if byte >= 0x20, byte <= 0x7E, byte != UInt8(ascii: "%") {
                output.append(byte)
            } else {
                output.append(UInt8(ascii: "%"))
                output.append(hexDigit(byte >> 4))
                output.append(hexDigit(byte & 0xF))
            }
        }
    }

    private static func hexDigit(_ value: UInt8) -> UInt8 {
        value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "A") + value - 10
    }

    private static func append(decimal number: UInt64, to output: inout [UInt8]) {
        if number >= 10 { append(decimal: number / 10, to: &output) }
        output.append(UInt8(ascii: "0") + UInt8(number % 10))
    }
}
