/// The head of one request or response: start line and fields, in the order and case in which they came.
///
/// A head owns a copy of its bytes (some 500 of them, 20 ns), so it lives as long as its stream: routing, retries and the access log
/// read it when the connection's buffer is long gone. It is reused: after `removeAll()` nothing is allocated again. Both codecs
/// fill it, HTTP/1 from text and HTTP/2 from decoded fields.
public final class Head {
    /// One field, as ranges into `bytes`. The name is in the case in which it came.
    public struct Field: Sendable {
        public var nameStart: UInt32
        public var nameEnd: UInt32
        public var valueStart: UInt32
        public var valueEnd: UInt32
        public var known: KnownField
        /// HTTP/2: the sender forbids compression contexts to remember the value, on every hop (RFC 7541 section 6.2.3).
        public var neverIndexed = false

        @inline(__always)
        public init(name: Range<Int>, value: Range<Int>, known: KnownField) {
            nameStart = UInt32(truncatingIfNeeded: name.lowerBound)
            nameEnd = UInt32(truncatingIfNeeded: name.upperBound)
            valueStart = UInt32(truncatingIfNeeded: value.lowerBound)
            valueEnd = UInt32(truncatingIfNeeded: value.upperBound)
            self.known = known
        }

        @inline(__always) public var name: Range<Int> { Int(nameStart)..<Int(nameEnd) }
        @inline(__always) public var value: Range<Int> { Int(valueStart)..<Int(valueEnd) }
    }

    public enum Scheme: UInt8, Sendable {
        case http
        case https
    }

    /// What the ranges point into.
    public var bytes: [UInt8] = []
    public var fields: [Field] = []

    /// Request: the method's bytes; `method` where it is a registered one.
    public var methodRange = 0..<0
    public var method = Method.other
    public var scheme = Scheme.http
    /// Request: path and query as they came (`:path`; the path of an absolute-form target). `*` for OPTIONS *.
    public var target = 0..<0
    /// Request: the host with its port, from the absolute-form target or the Host field (`:authority`). Empty where there was none.
    public var authority = 0..<0
    /// Response: 100 through 599.
    public var status = 0
    /// Response: the reason phrase as it came; empty where there was none, as in HTTP/2.
    public var reason = 0..<0
    /// HTTP/1.x minor version, or 0 with `isHTTP2`.
    public var minorVersion = 1
    public var isHTTP2 = false

    public init() {}

    /// Forgets the message, keeps the memory.
    public func removeAll() {
        // A head that was not whole when its connection ended has fields and no bytes yet.
        guard !bytes.isEmpty || !fields.isEmpty || status != 0 else { return }
        bytes.removeAll(keepingCapacity: true)
        fields.removeAll(keepingCapacity: true)
        methodRange = 0..<0
        method = .other
        scheme = .http
        target = 0..<0
        authority = 0..<0
        status = 0
        reason = 0..<0
        minorVersion = 1
        isHTTP2 = false
    }

    /// The path without its query.
    public var path: Range<Int> {
        var index = target.lowerBound
        while index < target.upperBound, bytes[index] != UInt8(ascii: "?") { index += 1 }
        return target.lowerBound..<index
    }

    /// The query without its question mark; empty where there is none.
    public var query: Range<Int> {
        let end = path.upperBound
        return end < target.upperBound ? end + 1..<target.upperBound : end..<end
    }

    /// The first field of this known name.
    public func first(_ known: KnownField) -> Field? {
        for field in fields where field.known == known { return field }
        return nil
    }

    public func contains(_ known: KnownField) -> Bool {
        for field in fields where field.known == known { return true }
        return false
    }

    /// Whether the field's name is `name`, which is in lower case.
    public func isNamed(_ field: Field, _ name: [UInt8]) -> Bool {
        guard field.name.count == name.count else { return false }
        let start = field.name.lowerBound
        for offset in name.indices {
            let byte = bytes[start + offset]
            guard (byte &- 0x41 < 26 ? byte | 0x20 : byte) == name[offset] else { return false }
        }
        return true
    }

    /// Becomes the same message.
    public func copy(_ other: Head) {
        bytes = other.bytes
        fields = other.fields
        methodRange = other.methodRange
        method = other.method
        scheme = other.scheme
        target = other.target
        authority = other.authority
        status = other.status
        reason = other.reason
        minorVersion = other.minorVersion
        isHTTP2 = other.isHTTP2
    }

    /// A range as text, for logs and tests; not for the hot path.
    public func string(_ range: Range<Int>) -> String {
        String(decoding: bytes[range], as: UTF8.self)
    }

    /// Whether `range` holds `text` (lower case), in any case.
    public func equals(_ range: Range<Int>, _ text: StaticString) -> Bool {
        let bytes = bytes
        return bytes.span.extracting(range).equalsLowercase(text)
    }

    /// Appends a field that is not yet in `bytes` and returns its index.
    @discardableResult
    public func append(name: StaticString, value: some Sequence<UInt8>, known: KnownField = .other) -> Int {
        let start = bytes.count
        unsafe bytes.append(contentsOf: UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
        let middle = bytes.count
        bytes.append(contentsOf: value)
        fields.append(Field(name: start..<middle, value: middle..<bytes.count, known: known))
        return fields.count - 1
    }
}

/// A request method (RFC 9110 section 9); its bytes stand in the head.
public enum Method: UInt8, Sendable {
    case other
    case get
    case head
    case post
    case put
    case delete
    case connect
    case options
    case trace
    case patch

    public init(_ bytes: Span<UInt8>) {
        // Methods are case-sensitive (RFC 9110 section 9.1).
        func matches(_ text: StaticString) -> Bool {
            guard bytes.count == text.utf8CodeUnitCount else { return false }
            for index in bytes.indices where unsafe bytes[index] != text.utf8Start[index] { return false }
            return true
        }
        switch bytes.count {
        case 3: self = matches("GET") ? .get : matches("PUT") ? .put : .other
        case 4: self = matches("POST") ? .post : matches("HEAD") ? .head : .other
        case 5: self = matches("PATCH") ? .patch : matches("TRACE") ? .trace : .other
        case 6: self = matches("DELETE") ? .delete : .other
        case 7: self = matches("OPTIONS") ? .options : matches("CONNECT") ? .connect : .other
        default: self = .other
        }
    }
}
