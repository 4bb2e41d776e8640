/// A frame of HTTP/2 as it stands on the wire (RFC 9113 section 4.1): any type, flags and payload, also wrong ones.
public struct HTTP2Frame: Equatable, Sendable {
    public enum Kind: UInt8, Sendable {
        case data, headers, priority, reset, settings, pushPromise, ping, goAway, windowUpdate, continuation
    }

    public var type: UInt8
    public var flags: UInt8
    public var stream: UInt32
    public var payload: [UInt8]

    public static let endStream: UInt8 = 0x1
    public static let acknowledgement: UInt8 = 0x1
    public static let endHeaders: UInt8 = 0x4
    public static let padded: UInt8 = 0x8
    public static let hasPriority: UInt8 = 0x20

    public init(_ kind: Kind, flags: UInt8 = 0, stream: UInt32 = 0, _ payload: [UInt8] = []) {
        self.init(type: kind.rawValue, flags: flags, stream: stream, payload: payload)
    }

    public init(type: UInt8, flags: UInt8, stream: UInt32, payload: [UInt8]) {
        self.type = type
        self.flags = flags
        self.stream = stream
        self.payload = payload
    }

    public var kind: Kind? { Kind(rawValue: type) }
    public func has(_ flag: UInt8) -> Bool { flags & flag != 0 }

    public var bytes: [UInt8] {
        Array(Self.number(UInt32(payload.count)).dropFirst()) + [type, flags] + Self.number(stream) + payload
    }

    /// Of a RST_STREAM or GOAWAY.
    public var errorCode: HTTP2Code? {
        switch kind {
        case .reset: HTTP2Code(Self.number(payload[...]))
        case .goAway where payload.count >= 8: HTTP2Code(Self.number(payload[4...]))
        default: nil
        }
    }

    // MARK: Making them

    public static func headers(
        _ stream: UInt32, _ fields: [HTTP2Field], endStream: Bool = false, endHeaders: Bool = true
    ) -> HTTP2Frame {
        block(stream, HPACK.encode(fields), endStream: endStream, endHeaders: endHeaders)
    }

    public static func block(_ stream: UInt32, _ block: [UInt8], endStream: Bool = false, endHeaders: Bool = true) -> HTTP2Frame {
        HTTP2Frame(.headers, flags: (endStream ? Self.endStream : 0) | (endHeaders ? Self.endHeaders : 0), stream: stream, block)
    }

    public static func continuation(_ stream: UInt32, _ block: [UInt8], endHeaders: Bool) -> HTTP2Frame {
        HTTP2Frame(.continuation, flags: endHeaders ? Self.endHeaders : 0, stream: stream, block)
    }

    public static func data(_ stream: UInt32, _ bytes: [UInt8], endStream: Bool = false) -> HTTP2Frame {
        HTTP2Frame(.data, flags: endStream ? Self.endStream : 0, stream: stream, bytes)
    }

    public static func reset(_ stream: UInt32, _ code: HTTP2Code) -> HTTP2Frame {
        HTTP2Frame(.reset, stream: stream, number(code.rawValue))
    }

    public static func settings(_ settings: [HTTP2Setting: UInt32] = [:]) -> HTTP2Frame {
        let sorted = settings.sorted { $0.key.rawValue < $1.key.rawValue }
        return HTTP2Frame(.settings, sorted.flatMap { [UInt8($0.key.rawValue >> 8), UInt8($0.key.rawValue & 0xff)] + number($0.value) })
    }

    public static func ping(_ opaque: [UInt8] = Array("pingpong".utf8), isAnswer: Bool = false) -> HTTP2Frame {
        HTTP2Frame(.ping, flags: isAnswer ? acknowledgement : 0, opaque)
    }

    public static func goAway(lastStream: UInt32, _ code: HTTP2Code) -> HTTP2Frame {
        HTTP2Frame(.goAway, number(lastStream) + number(code.rawValue))
    }

    public static func windowUpdate(_ stream: UInt32, _ increment: UInt32) -> HTTP2Frame {
        HTTP2Frame(.windowUpdate, stream: stream, number(increment))
    }

    public static func priority(_ stream: UInt32, dependsOn other: UInt32) -> HTTP2Frame {
        HTTP2Frame(.priority, stream: stream, number(other) + [15])
    }

    static func number(_ value: UInt32) -> [UInt8] {
        [UInt8(value >> 24), UInt8(value >> 16 & 0xff), UInt8(value >> 8 & 0xff), UInt8(value & 0xff)]
    }

    static func number(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        bytes.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
    }
}

/// An error code (RFC 9113 section 7).
public struct HTTP2Code: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public var rawValue: UInt32

    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    init(_ number: UInt32) {
        self.init(rawValue: number)
    }

    public static let noError = HTTP2Code(0)
    public static let protocolError = HTTP2Code(1)
    public static let internalError = HTTP2Code(2)
    public static let flowControlError = HTTP2Code(3)
    public static let streamClosed = HTTP2Code(5)
    public static let frameSizeError = HTTP2Code(6)
    public static let refusedStream = HTTP2Code(7)
    public static let cancel = HTTP2Code(8)
    public static let compressionError = HTTP2Code(9)
    public static let enhanceYourCalm = HTTP2Code(11)

    public var description: String {
        let names = [
            "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
            "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ]
        return rawValue < names.count ? names[Int(rawValue)] : "error \(rawValue)"
    }
}

/// The name of a setting (RFC 9113 section 6.5.2, RFC 8441).
public enum HTTP2Setting: UInt16, Hashable, Sendable {
    case headerTableSize = 1
    case enablePush
    case maxConcurrentStreams
    case initialWindowSize
    case maxFrameSize
    case maxHeaderListSize
    case enableConnectProtocol = 8
}
