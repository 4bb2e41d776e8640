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

    /// Finds the name of `bytes[range]`, in any case. One switch on the length, then at most three comparisons.
    @inline(__always)
    public init(_ bytes: Span<UInt8>) {
        self = Self.lookUp(bytes)
    }

    private static func lookUp(_ bytes: Span<UInt8>) -> KnownField {
        func matches(_ field: KnownField) -> Bool { bytes.equalsLowercase(field.name) }
        switch bytes.count {
        case 2: return matches(.te) ? .te : .other
        case 4:
            if matches(.host) { return .host }
            return matches(.date) ? .date : .other
        case 6:
            if matches(.expect) { return .expect }
            return matches(.server) ? .server : .other
        case 7:
            if matches(.upgrade) { return .upgrade }
            return matches(.trailer) ? .trailer : .other
        case 9: return matches(.forwarded) ? .forwarded : .other
        case 10:
            if matches(.connection) { return .connection }
            if matches(.userAgent) { return .userAgent }
            return matches(.keepAlive) ? .keepAlive : .other
        case 11: return matches(.grpcStatus) ? .grpcStatus : .other
        case 12:
            if matches(.contentType) { return .contentType }
            if matches(.requestID) { return .requestID }
            return matches(.grpcTimeout) ? .grpcTimeout : .other
        case 14: return matches(.contentLength) ? .contentLength : (matches(.http2Settings) ? .http2Settings : .other)
        case 15: return matches(.forwardedFor) ? .forwardedFor : .other
        case 16:
            if matches(.proxyConnection) { return .proxyConnection }
            return matches(.forwardedHost) ? .forwardedHost : .other
        case 17:
            if matches(.transferEncoding) { return .transferEncoding }
            return matches(.forwardedProto) ? .forwardedProto : .other
        case 18:
            if matches(.proxyAuthenticate) { return .proxyAuthenticate }
            return matches(.envoyOverloaded) ? .envoyOverloaded : .other
        case 19:
            if matches(.proxyAuthorization) { return .proxyAuthorization }
            return matches(.outriggerDetails) ? .outriggerDetails : .other
        case 21:
            if matches(.envoyOriginalPath) { return .envoyOriginalPath }
            return matches(.attemptCount) ? .attemptCount : .other
        case 23: return matches(.forwardedClientCert) ? .forwardedClientCert : .other
        case 29: return matches(.upstreamServiceTime) ? .upstreamServiceTime : .other
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
}
