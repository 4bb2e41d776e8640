/// An error code of RFC 9113 section 7, as RST_STREAM and GOAWAY carry it; a peer may send any number.
public struct HTTP2ErrorCode: RawRepresentable, Hashable, Sendable {
    public var rawValue: UInt32

    @inlinable
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    public static let noError = HTTP2ErrorCode(rawValue: 0x0)
    public static let protocolError = HTTP2ErrorCode(rawValue: 0x1)
    public static let internalError = HTTP2ErrorCode(rawValue: 0x2)
    public static let flowControlError = HTTP2ErrorCode(rawValue: 0x3)
    public static let settingsTimeout = HTTP2ErrorCode(rawValue: 0x4)
    public static let streamClosed = HTTP2ErrorCode(rawValue: 0x5)
    public static let frameSizeError = HTTP2ErrorCode(rawValue: 0x6)
    public static let refusedStream = HTTP2ErrorCode(rawValue: 0x7)
    public static let cancel = HTTP2ErrorCode(rawValue: 0x8)
    public static let compressionError = HTTP2ErrorCode(rawValue: 0x9)
    public static let connectError = HTTP2ErrorCode(rawValue: 0xA)
    public static let enhanceYourCalm = HTTP2ErrorCode(rawValue: 0xB)
    public static let inadequateSecurity = HTTP2ErrorCode(rawValue: 0xC)
    public static let http11Required = HTTP2ErrorCode(rawValue: 0xD)

    /// The name of the registry, in lower case; `unknown` for a number that is not in it.
    public var name: StaticString {
        switch rawValue {
        case 0x0: "no_error"
        case 0x1: "protocol_error"
        case 0x2: "internal_error"
        case 0x3: "flow_control_error"
        case 0x4: "settings_timeout"
        case 0x5: "stream_closed"
        case 0x6: "frame_size_error"
        case 0x7: "refused_stream"
        case 0x8: "cancel"
        case 0x9: "compression_error"
        case 0xA: "connect_error"
        case 0xB: "enhance_your_calm"
        case 0xC: "inadequate_security"
        case 0xD: "http_1_1_required"
        default: "unknown"
        }
    }
}

/// Why a connection is over, or a head was refused.
///
/// Trivial, as `HTTP1Error` is: it costs the good path nothing.
public struct HTTP2Error: Error, Hashable, Sendable {
    public enum Reason: UInt8, CaseIterable, Sendable {
        /// The peer broke framing, compression or stream states; `code` says how.
        case protocolViolation
        /// A caller did not begin with the connection preface: it speaks something else.
        case badPreface
        case tooManyContinuations
        /// More answers to PING and SETTINGS wait than the peer reads.
        case outboundFlood
        case resetFlood
        /// The peer makes us reset streams (CVE-2025-8671).
        case provokedResetFlood
        case pingFlood
        case settingsFlood
        case priorityFlood
        case windowUpdateFlood
        case emptyFrameFlood
        case unknownFrameFlood
        /// A head began and did not end in time.
        case headTimeout
        case headTooLarge
        case tooManyFields
        /// The heads of all streams together.
        case headersTakeTooMuch
        case trailersTooLarge
        case outOfMemory
        case libraryFailure
    }

    public var reason: Reason
    /// What the peer is told.
    public var code: HTTP2ErrorCode
    /// The limit that was passed, in the unit of the reason; 0 where there was none.
    public var limit: Int

    public init(_ reason: Reason, code: HTTP2ErrorCode, limit: Int = 0) {
        self.reason = reason
        self.code = code
        self.limit = limit
    }

    /// What a refused request is answered with. A refused response is a 502.
    public var status: Int {
        switch reason {
        case .headTooLarge, .tooManyFields, .headersTakeTooMuch: 431
        default: 400
        }
    }

    /// The stable name of the reason, for logs, metrics and `x-outrigger-details`.
    public var details: StaticString {
        switch reason {
        case .protocolViolation: "http2.protocol_violation"
        case .badPreface: "http2.bad_preface"
        case .tooManyContinuations: "http2.too_many_continuations"
        case .outboundFlood: "http2.outbound_flood"
        case .resetFlood: "http2.reset_flood"
        case .provokedResetFlood: "http2.provoked_reset_flood"
        case .pingFlood: "http2.ping_flood"
        case .settingsFlood: "http2.settings_flood"
        case .priorityFlood: "http2.priority_flood"
        case .windowUpdateFlood: "http2.window_update_flood"
        case .emptyFrameFlood: "http2.empty_frame_flood"
        case .unknownFrameFlood: "http2.unknown_frame_flood"
        case .headTimeout: "http2.request_header_timeout"
        case .headTooLarge: "http2.headers_too_large"
        case .tooManyFields: "http2.too_many_headers"
        case .headersTakeTooMuch: "http2.header_memory_exceeded"
        case .trailersTooLarge: "http2.trailers_too_large"
        case .outOfMemory: "http2.out_of_memory"
        case .libraryFailure: "http2.library_failure"
        }
    }

    /// For people: `http2.protocol_violation (flow_control_error)`. Not for the hot path.
    public var message: String {
        limit > 0 ? "\(details) (limit \(limit))" : "\(details) (\(code.name))"
    }
}
