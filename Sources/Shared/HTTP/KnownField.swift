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
    case grpcTimeout
    case attemptCount
    case upstreamServiceTime
    case envoyOriginalPath
    case envoyOverloaded
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
        case .grpcTimeout: "grpc-timeout"
        case .attemptCount: "x-envoy-attempt-count"
        case .upstreamServiceTime: "x-envoy-upstream-service-time"
        case .envoyOriginalPath: "x-envoy-original-path"
        case .envoyOverloaded: "x-envoy-overloaded"
        case .outriggerDetails: "x-outrigger-details"
        case .http2Settings: "http2-settings"
        }
    }

    /// Finds the name that `bytes` hold, in any case. They are token characters; others may be mistaken for a name.
    ///
    /// Length and first letter leave one candidate, so every name costs at most one comparison.
    public init(_ bytes: Span<UInt8>) {
        let candidate = Self.candidate(bytes)
        self = candidate != .other && bytes.equalsToken(candidate.name) ? candidate : .other
    }

    @inline(__always)
    private static func candidate(_ bytes: Span<UInt8>) -> KnownField {
        guard bytes.count > 1 else { return .other }
        let first = bytes[0] | 0x20
        func begins(_ letter: Unicode.Scalar) -> Bool { first == UInt8(truncatingIfNeeded: letter.value) }
        switch bytes.count {
        case 2: return .te
        case 4: return begins("h") ? .host : .date
        case 6: return begins("s") ? .server : .expect
        case 7: return begins("u") ? .upgrade : .trailer
        case 9: return .forwarded
        case 10: return begins("c") ? .connection : begins("u") ? .userAgent : .keepAlive
        case 11: return .grpcStatus
        case 12: return begins("c") ? .contentType : begins("x") ? .requestID : .grpcTimeout
        case 14: return begins("c") ? .contentLength : .http2Settings
        case 15: return begins("x") ? .forwardedFor : .other
        case 16: return begins("x") ? .forwardedHost : .proxyConnection
        case 17: return begins("x") ? .forwardedProto : .transferEncoding
        case 18: return begins("x") ? .envoyOverloaded : .proxyAuthenticate
        case 19: return begins("x") ? .outriggerDetails : .proxyAuthorization
        case 21: return bytes[8] | 0x20 == UInt8(ascii: "o") ? .envoyOriginalPath : .attemptCount
        case 23: return .forwardedClientCert
        case 29: return .upstreamServiceTime
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
    public func equalsToken(_ text: StaticString) -> Bool {
        let length = text.utf8CodeUnitCount
        guard count == length else { return false }
        let other = unsafe UnsafeRawPointer(text.utf8Start)
        // Every load lies inside of both: the counts are the same, and the last one is moved back to end with them.
        return unsafe withUnsafeBytes { mine in
            guard length >= 8 else {
                for index in 0..<length where unsafe mine[index] | 0x20 != other.load(fromByteOffset: index, as: UInt8.self) {
                    return false
                }
                return true
            }
            var index = 0
            while true {
                let left = unsafe mine.loadUnaligned(fromByteOffset: index, as: UInt64.self) | 0x2020_2020_2020_2020
                guard unsafe left == other.loadUnaligned(fromByteOffset: index, as: UInt64.self) else { return false }
                guard index < length - 8 else { return true }
                index = Swift.min(index + 8, length - 8)
            }
        }
    }
}
