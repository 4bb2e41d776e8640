/// What a client says first (RFC 8446 section 4.1.2), as far as it decides which filter chain it gets: read before there is a context.
///
/// The bytes are a stranger's. Whatever passes here, OpenSSL judges again.
public struct ClientHello: Hashable, Sendable {
    /// SNI (RFC 6066 section 3), in lower case.
    public var serverName: String?
    /// ALPN (RFC 7301), in the client's order.
    public var protocols: [String]

    /// More is refused: with every known extension a hello has some 2 KiB, post-quantum keys included.
    public static let maxBytes = 16 * 1024

    public init(serverName: String? = nil, protocols: [String] = []) {
        self.serverName = serverName
        self.protocols = protocols
    }

    public enum Reading: Hashable, Sendable {
        /// So far it is the beginning of one.
        case needMore
        /// The connection starts with something else.
        case notTLS
        case complete(ClientHello)
        /// TLS, but no ClientHello that we would serve.
        case malformed
    }

    /// Reads all bytes that have come since the connection began; what follows the hello is not looked at. Until the hello is whole this
    /// costs O(records) and allocates nothing.
    public static func read(_ bytes: UnsafeRawBufferPointer) -> Reading {
        var position = 0
        var header: [4 of UInt8] = [0, 0, 0, 0]
        // Bytes of the handshake message seen so far: a hello may be cut into records at any place (RFC 8446 section 5.1).
        var seen = 0
        while position < bytes.count {
            guard unsafe bytes[position] == RecordHeader.handshake else { return position == 0 ? .notTLS : .malformed }
            if position + 1 < bytes.count, unsafe bytes[position + 1] != 3 { return position == 0 ? .notTLS : .malformed }
            guard position + RecordHeader.count <= bytes.count else { return .needMore }
            let length = unsafe Int(bytes[position + 3]) << 8 | Int(bytes[position + 4])
            guard (1...RecordHeader.maxLength).contains(length) else { return .malformed }
            position += RecordHeader.count
            let fragment = min(length, bytes.count - position)
            var index = 0
            while index < fragment, seen + index < 4 {
                unsafe header[seen + index] = bytes[position + index]
                index += 1
            }
            seen += fragment
            position += fragment
            guard seen == 0 || header[0] == 1 else { return .malformed }
            guard seen >= 4 else { continue }
            let end = 4 + (Int(header[1]) << 16 | Int(header[2]) << 8 | Int(header[3]))
            guard end <= maxBytes else { return .malformed }
            if seen >= end { return unsafe parse(bytes, end: end) }
        }
        return .needMore
    }

    private enum RecordHeader {
        static let count = 5
        static let handshake: UInt8 = 22
        static let maxLength = 16_384
    }

    /// The message's `end` bytes are there. Records are copied together only if there are several.
    private static func parse(_ bytes: UnsafeRawBufferPointer, end: Int) -> Reading {
        let first = unsafe Int(bytes[3]) << 8 | Int(bytes[4])
        if first >= end {
            return unsafe parse(body: Cursor(UnsafeRawBufferPointer(rebasing: bytes[RecordHeader.count + 4..<RecordHeader.count + end])))
        }
        var message: [UInt8] = []
        var position = 0
        while message.count < end {
            let length = unsafe Int(bytes[position + 3]) << 8 | Int(bytes[position + 4])
            position += RecordHeader.count
            unsafe message.append(contentsOf: bytes[position..<min(position + length, bytes.count)])
            position += length
        }
        return unsafe message.withUnsafeBytes { unsafe parse(body: Cursor(UnsafeRawBufferPointer(rebasing: $0[4..<end]))) }
    }

    private static func parse(body: Cursor) -> Reading {
        var body = body
        // legacy_version, random; then session id, cipher suites, compression methods.
        guard body.skip(2 + 32), body.vector(lengthBytes: 1) != nil, body.vector(lengthBytes: 2) != nil, body.vector(lengthBytes: 1) != nil
        else { return .malformed }
        var hello = ClientHello()
        if body.isEmpty { return .complete(hello) }
        guard var extensions = body.vector(lengthBytes: 2), body.isEmpty else { return .malformed }
        var hasNames = false
        var hasProtocols = false
        while !extensions.isEmpty {
            guard let type = extensions.number(bytes: 2), var content = extensions.vector(lengthBytes: 2) else { return .malformed }
            switch type {
            case 0:
                guard !hasNames, hello.readNames(&content) else { return .malformed }
                hasNames = true
            case 16:
                guard !hasProtocols, hello.readProtocols(&content) else { return .malformed }
                hasProtocols = true
            default: break
            }
        }
        return .complete(hello)
    }

    /// RFC 6066 section 3. Only host names exist (type 0), and there is one.
    private mutating func readNames(_ content: inout Cursor) -> Bool {
        guard var list = content.vector(lengthBytes: 2), content.isEmpty, list.number(bytes: 1) == 0,
            var name = list.vector(lengthBytes: 2),
            list.isEmpty, (1...255).contains(name.count)
        else { return false }
        var text: [UInt8] = []
        while let byte = name.number(bytes: 1) {
            // Printable and no space: what chains are matched with, and what logs show.
            guard (0x21...0x7E).contains(byte) else { return false }
            text.append(UInt8(byte) | ((0x41...0x5A).contains(byte) ? 0x20 : 0))
        }
        serverName = String(decoding: text, as: UTF8.self)
        return true
    }

    private mutating func readProtocols(_ content: inout Cursor) -> Bool {
        guard var list = content.vector(lengthBytes: 2), content.isEmpty, !list.isEmpty else { return false }
        while !list.isEmpty {
            guard let name = list.vector(lengthBytes: 1), !name.isEmpty else { return false }
            protocols.append(name.text)
        }
        return true
    }
}

/// Reads numbers and counted vectors off the front of bytes.
@safe private struct Cursor {
    private var rest: UnsafeRawBufferPointer

    init(_ bytes: UnsafeRawBufferPointer) {
        unsafe rest = bytes
    }

    var count: Int { unsafe rest.count }
    var isEmpty: Bool { unsafe rest.isEmpty }
    var text: String { unsafe String(decoding: rest, as: UTF8.self) }

    mutating func skip(_ count: Int) -> Bool {
        guard self.count >= count else { return false }
        unsafe rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        return true
    }

    mutating func number(bytes: Int) -> Int? {
        guard count >= bytes else { return nil }
        var number = 0
        for index in 0..<bytes { unsafe number = number << 8 | Int(rest[index]) }
        return skip(bytes) ? number : nil
    }

    mutating func vector(lengthBytes: Int) -> Cursor? {
        guard let length = number(bytes: lengthBytes), count >= length else { return nil }
        let vector = unsafe Cursor(UnsafeRawBufferPointer(rebasing: rest[..<length]))
        return skip(length) ? vector : nil
    }
}
