/// The header fields that the proxy itself looks at, interned when a head is parsed so that nobody compares names twice.
///
/// Everything else is `.other` and travels untouched.
public enum KnownField: UInt8, CaseIterable, Sendable {
    case other
    case host
    case connection
    case contentLength
    case transferEncoding
    case upgrade
    case expect
    case te
    case trailer
    case keepAlive
    case proxyConnection
    case proxyAuthenticate
    case proxyAuthorization
    case contentType
    case userAgent
    case server
    case date
    case forwarded
    case forwardedFor
    case forwardedProto
    case forwardedHost
    case forwardedClientCert
    case requestID
    case grpcStatus
    case grpcMessage
    case grpcTimeout
    case attemptCount
    case upstreamServiceTime
    case envoyOriginalPath
    case envoyOverloaded
    case expectedTimeout
    case outriggerDetails
    case http2Settings

    /// The name in lower case; empty for `.other`.
    public var name: StaticString {
        switch self {
        case .other: ""
        case .host: "host"
        case .connection: "connection"
        case .contentLength: "content-length"
        case .transferEncoding: "transfer-encoding"
        case .upgrade: "upgrade"
        case .expect: "expect"
        case .te: "te"
        case .trailer: "trailer"
        case .keepAlive: "keep-alive"
        case .proxyConnection: "proxy-connection"
        case .proxyAuthenticate: "proxy-authenticate"
        case .proxyAuthorization: "proxy-authorization"
        case .contentType: "content-type"
        case .userAgent: "user-agent"
        case .server: "server"
        case .date: "date"
        case .forwarded: "forwarded"
        case .forwardedFor: "x-forwarded-for"
        case .forwardedProto: "x-forwarded-proto"
        case .forwardedHost: "x-forwarded-host"
        case .forwardedClientCert: "x-forwarded-client-cert"
        case .requestID: "x-request-id"
        case .grpcStatus: "grpc-status"
        case .grpcMessage: "grpc-message"
        case .grpcTimeout: "grpc-timeout"
        case .attemptCount: "x-envoy-attempt-count"
        case .upstreamServiceTime: "x-envoy-upstream-service-time"
        case .envoyOriginalPath: "x-envoy-original-path"
        case .envoyOverloaded: "x-envoy-overloaded"
        case .expectedTimeout: "x-envoy-expected-rq-timeout-ms"
        case .outriggerDetails: "x-outrigger-details"
        case .http2Settings: "http2-settings"
        }
    }

    /// Finds the name that `bytes` hold, in any case. They are token characters; others may be mistaken for a name.
    ///
    /// Length and first letter leave one candidate, so every name costs at most one comparison.
    public init(_ bytes: Span<UInt8>) {
        // Looked at as memory, once: the span's own count is a call here.
        self = unsafe bytes.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return .other }
            return unsafe Self.lookUp(start, bytes.count)
        }
    }

    @inline(__always)
    private static func lookUp(_ start: UnsafeRawPointer, _ count: Int) -> KnownField {
        guard count > 1 else { return .other }
        @inline(__always) func letter(_ index: Int) -> UInt8 { unsafe start.load(fromByteOffset: index, as: UInt8.self) | 0x20 }
        let first = letter(0)
        // Inlined with a constant, so that each comparison is one of words with constants.
        @inline(__always) func match(_ candidate: KnownField) -> KnownField {
            unsafe equalsToken(start, count, candidate.name) ? candidate : .other
        }
        switch count {
        case 2: return match(.te)
        case 4: return first == UInt8(ascii: "h") ? match(.host) : match(.date)
        case 6: return first == UInt8(ascii: "s") ? match(.server) : match(.expect)
        case 7: return first == UInt8(ascii: "u") ? match(.upgrade) : match(.trailer)
        case 9: return match(.forwarded)
        case 10: return first == UInt8(ascii: "c") ? match(.connection) : first == UInt8(ascii: "u") ? match(.userAgent) : match(.keepAlive)
        case 11: return match(.grpcStatus)
        case 12:
            switch first {
            case UInt8(ascii: "c"): return match(.contentType)
            case UInt8(ascii: "x"): return match(.requestID)
            default: return letter(5) == UInt8(ascii: "t") ? match(.grpcTimeout) : match(.grpcMessage)
            }
        case 14: return first == UInt8(ascii: "c") ? match(.contentLength) : match(.http2Settings)
        case 15: return match(.forwardedFor)
        case 16: return first == UInt8(ascii: "x") ? match(.forwardedHost) : match(.proxyConnection)
        case 17: return first == UInt8(ascii: "x") ? match(.forwardedProto) : match(.transferEncoding)
        case 18: return first == UInt8(ascii: "x") ? match(.envoyOverloaded) : match(.proxyAuthenticate)
        case 19: return first == UInt8(ascii: "x") ? match(.outriggerDetails) : match(.proxyAuthorization)
        case 21: return letter(8) == UInt8(ascii: "o") ? match(.envoyOriginalPath) : match(.attemptCount)
        case 23: return match(.forwardedClientCert)
        case 29: return match(.upstreamServiceTime)
        case 30: return match(.expectedTimeout)
        default: return .other
        }
    }
}

extension Span<UInt8> {
    /// Whether the bytes are `text`, which is in lower case, when upper-case letters are taken as lower-case ones.
    @inlinable
    public func equalsLowercase(_ text: StaticString) -> Bool {
        guard count == text.utf8CodeUnitCount else { return false }
        let other = unsafe text.utf8Start
        for index in indices {
            var byte = self[index]
            if byte &- 0x41 < 26 { byte |= 0x20 }
            if unsafe byte != other[index] { return false }
        }
        return true
    }

    /// The same, eight bytes at a time, for bytes without control characters and a text of letters, digits and hyphens.
    ///
    /// Setting bit 5 then makes lower case of letters and leaves the text's other characters what only they become.
    @inlinable
    @inline(__always)
    public func equalsToken(_ text: StaticString) -> Bool {
        unsafe withUnsafeBytes { mine in
            guard let start = mine.baseAddress else { return text.utf8CodeUnitCount == 0 }
            return unsafe HTTP.equalsToken(start, mine.count, text)
        }
    }
}

/// `Span.equalsToken` for memory.
@inlinable
@inline(__always)
func equalsToken(_ mine: UnsafeRawPointer, _ count: Int, _ text: StaticString) -> Bool {
    let length = text.utf8CodeUnitCount
    guard count == length else { return false }
    let other = unsafe UnsafeRawPointer(text.utf8Start)
    // Every load lies inside of both, whose lengths are the same: the last one is moved back to end where they do.
    func equalWords(_ index: Int) -> Bool {
        let word = unsafe mine.loadUnaligned(fromByteOffset: index, as: UInt64.self) | 0x2020_2020_2020_2020
        return unsafe word == other.loadUnaligned(fromByteOffset: index, as: UInt64.self)
    }
    func equalHalves(_ index: Int) -> Bool {
        let word = unsafe mine.loadUnaligned(fromByteOffset: index, as: UInt32.self) | 0x2020_2020
        return unsafe word == other.loadUnaligned(fromByteOffset: index, as: UInt32.self)
    }
    if length >= 8 {
        var index = 0
        while index <= length - 8 {
            guard equalWords(index) else { return false }
            index += 8
        }
        return index == length || equalWords(length - 8)
    }
    if length >= 4 { return equalHalves(0) && equalHalves(length - 4) }
    for index in 0..<length
    where unsafe mine.load(fromByteOffset: index, as: UInt8.self) | 0x20 != other.load(fromByteOffset: index, as: UInt8.self) {
        return false
    }
    return true
}
