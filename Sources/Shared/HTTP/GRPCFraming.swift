/// The five bytes that gRPC puts before each message: whether it is compressed, and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
extension GRPC {
    public static let messageHeaderBytes = 5

    /// `message` as it stands in a body.
    public static func frame(_ message: [UInt8]) -> [UInt8] {
        precondition(message.count <= UInt32.max, "a message of \(message.count) bytes")
        var framed: [UInt8] = []
        framed.reserveCapacity(messageHeaderBytes + message.count)
        framed.append(0)
        for shift: UInt32 in [24, 16, 8, 0] { framed.append(UInt8(truncatingIfNeeded: UInt32(message.count) >> shift)) }
        framed.append(contentsOf: message)
        return framed
    }

    /// How a call ends: a code and words for people.
    public struct Failure: Error, Hashable, Sendable, CustomStringConvertible {
        /// One of `Status`, or any other number that a server sent.
        public var status: UInt32
        public var message: String

        public init(_ status: UInt32, _ message: String) {
            self.status = status
            self.message = message
        }

        public var description: String { "\(GRPC.name(ofStatus: status)): \(message)" }
    }

    /// Reads messages out of a body that comes in pieces of any size.
    ///
    /// Between messages it holds no memory; within one, what has come of it, at most `maxMessageBytes` and five.
    public struct MessageReader: Sendable {
        private let maxMessageBytes: Int
        private var held: [UInt8] = []
        /// Of `held`, already given out.
        private var start = 0

        public init(maxMessageBytes: Int) {
            self.maxMessageBytes = maxMessageBytes
        }

        /// Takes a piece; `next` gives the messages that are whole with it.
        public mutating func append(_ piece: [UInt8]) {
            if start == held.count {
                held = piece
            } else {
                held.removeSubrange(..<start)
                held += piece
            }
            start = 0
        }

        /// The next message, nil until more has come.
        ///
        /// - Throws: UNIMPLEMENTED for a compressed message (no encoding was offered), RESOURCE_EXHAUSTED for one that is too long, INTERNAL
        ///   for a flag that nobody knows. The reader is of no use then.
        public mutating func next() throws(Failure) -> [UInt8]? {
            let count = held.count - start
            guard count >= GRPC.messageHeaderBytes else { return release() }
            switch held[start] {
            case 0: break
            case 1: throw Failure(Status.unimplemented, "compressed messages are not supported: expected flag 0, found 1")
            case let flag: throw Failure(Status.internal, "a message begins with flag \(flag): expected 0")
            }
            var length = 0
            for byte in held[start + 1..<start + GRPC.messageHeaderBytes] { length = length << 8 | Int(byte) }
            guard length <= maxMessageBytes else {
                throw Failure(Status.resourceExhausted, "a message of \(length) bytes: at most \(maxMessageBytes) are taken")
            }
            guard count >= GRPC.messageHeaderBytes + length else { return nil }
            let first = start + GRPC.messageHeaderBytes
            start = first + length
            return Array(held[first..<start])
        }

        /// Nothing of a message is held: the body may end here.
        public var isBetweenMessages: Bool { start == held.count }

        private mutating func release() -> [UInt8]? {
            if isBetweenMessages, !held.isEmpty {
                held = []
                start = 0
            }
            return nil
        }
    }

    /// `UNAVAILABLE` for 14; the number itself where it has no name.
    public static func name(ofStatus status: UInt32) -> String {
        statusNames.indices.contains(Int(status)) ? statusNames[Int(status)] : "code \(status)"
    }

    private static let statusNames = [
        "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
        "UNAUTHENTICATED",
    ]

    /// What a caller makes of a stream that the other side has reset: the mapping of the gRPC project (PROTOCOL-HTTP2, "Errors").
    public static func status(ofReset code: UInt32) -> UInt32 {
        switch code {
        case 0x7: Status.unavailable
        case 0x8: Status.cancelled
        case 0xB: Status.resourceExhausted
        case 0xC: Status.permissionDenied
        default: Status.internal
        }
    }

    /// `text` as the value of `grpc-message`.
    public static func encodedMessage(_ text: String) -> String {
        var output: [UInt8] = []
        encodeMessage(Array(text.utf8).span, into: &output)
        return String(decoding: output, as: UTF8.self)
    }

    /// The other way; `%` that begins no escape stays as it is.
    public static func decodedMessage(_ value: String) -> String {
        let bytes = Array(value.utf8)
        var output: [UInt8] = []
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "%"), index + 2 < bytes.count, let high = hexadecimalValue(bytes[index + 1]),
                let low = hexadecimalValue(bytes[index + 2])
            {
                output.append(high << 4 | low)
                index += 3
            } else {
                output.append(bytes[index])
                index += 1
            }
        }
        return String(decoding: output, as: UTF8.self)
    }
}
