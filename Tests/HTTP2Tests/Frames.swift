import HTTP2

/// Frames as a peer that obeys nothing would write them, and the ones that a session wrote.
struct Frame: Equatable, CustomStringConvertible {
    enum Kind: UInt8 {
        case data = 0
        case headers = 1
        case priority = 2
        case reset = 3
        case settings = 4
        case pushPromise = 5
        case ping = 6
        case goAway = 7
        case windowUpdate = 8
        case continuation = 9
    }

    var type: UInt8
    var flags: UInt8
    var stream: Int32
    var payload: [UInt8]

    static let endStream: UInt8 = 1
    static let acknowledgement: UInt8 = 1
    static let endHeaders: UInt8 = 4
    static let padded: UInt8 = 8

    init(_ kind: Kind, _ flags: UInt8 = 0, stream: Int32 = 0, _ payload: [UInt8] = []) {
        self.init(type: kind.rawValue, flags, stream: stream, payload)
    }

    init(type: UInt8, _ flags: UInt8 = 0, stream: Int32 = 0, _ payload: [UInt8] = []) {
        self.type = type
        self.flags = flags
        self.stream = stream
        self.payload = payload
    }

    var kind: Kind? { Kind(rawValue: type) }

    var bytes: [UInt8] {
        let length = payload.count
        return [UInt8(length >> 16 & 255), UInt8(length >> 8 & 255), UInt8(length & 255), type, flags] + number(UInt32(bitPattern: stream))
            + payload
    }

    /// For DATA the length, for what carries a code its name.
    var description: String {
        func word(_ offset: Int) -> UInt32 { payload.dropFirst(offset).prefix(4).reduce(0) { $0 << 8 | UInt32($1) } }
        func code(_ offset: Int) -> String { "\(HTTP2ErrorCode(rawValue: word(offset)).name)" }
        let end = flags & Frame.endStream != 0
        switch kind {
        case .data: return "DATA \(stream) \(payload.count)\(end ? " end" : "")"
        case .headers: return "HEADERS \(stream)\(end ? " end" : "")"
        case .priority: return "PRIORITY \(stream)"
        case .reset: return "RST_STREAM \(stream) \(code(0))"
        case .settings: return end ? "SETTINGS ack" : "SETTINGS"
        case .pushPromise: return "PUSH_PROMISE \(stream)"
        case .ping: return end ? "PING ack" : "PING"
        case .goAway: return "GOAWAY \(word(0)) \(code(4))"
        case .windowUpdate: return "WINDOW_UPDATE \(stream) \(word(0))"
        case .continuation: return "CONTINUATION \(stream)"
        case nil: return "frame \(type)"
        }
    }

    static func parse(_ bytes: [UInt8]) -> [Frame] {
        var rest = bytes[...]
        if rest.starts(with: preface) { rest = rest.dropFirst(preface.count) }
        var frames: [Frame] = []
        while rest.count >= 9 {
            let head = Array(rest.prefix(9))
            let length = Int(head[0]) << 16 | Int(head[1]) << 8 | Int(head[2])
            let stream = head[5...].reduce(0) { $0 << 8 | Int32($1) }
            frames.append(Frame(type: head[3], head[4], stream: stream, Array(rest.dropFirst(9).prefix(length))))
            rest = rest.dropFirst(9 + length)
        }
        precondition(rest.isEmpty, "a part of a frame")
        return frames
    }

    // MARK: Frames with a meaning

    static func headers(_ stream: Int32, _ fields: [(String, String)], end: Bool = true) -> Frame {
        Frame(.headers, endHeaders | (end ? endStream : 0), stream: stream, block(fields))
    }

    static func data(_ stream: Int32, _ text: String, end: Bool = false) -> Frame {
        Frame(.data, end ? endStream : 0, stream: stream, Array(text.utf8))
    }

    static func reset(_ stream: Int32, _ code: HTTP2ErrorCode = .cancel) -> Frame {
        Frame(.reset, stream: stream, number(code.rawValue))
    }

    static func windowUpdate(_ stream: Int32, _ increment: UInt32) -> Frame {
        Frame(.windowUpdate, stream: stream, number(increment))
    }

    static func settings(_ entries: [(UInt16, UInt32)] = []) -> Frame {
        Frame(.settings, entries.flatMap { [UInt8($0 >> 8), UInt8($0 & 255)] + number($1) })
    }

    static func goAway(_ last: Int32, _ code: HTTP2ErrorCode = .noError) -> Frame {
        Frame(.goAway, number(UInt32(bitPattern: last)) + number(code.rawValue))
    }

    static let settingsAcknowledged = Frame(.settings, acknowledgement)
    static let ping = Frame(.ping, [0, 1, 2, 3, 4, 5, 6, 7])

    private init(_ kind: Kind, _ payload: [UInt8]) {
        self.init(kind, 0, stream: 0, payload)
    }
}

let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

func number(_ value: UInt32) -> [UInt8] {
    [UInt8(value >> 24), UInt8(value >> 16 & 255), UInt8(value >> 8 & 255), UInt8(value & 255)]
}

/// A header block of literals that are not indexed (RFC 7541 section 6.2.2), with nothing checked.
func block(_ fields: [(String, String)]) -> [UInt8] {
    fields.flatMap { [0] + hpackString($0) + hpackString($1) }
}

func hpackString(_ text: String) -> [UInt8] {
    let bytes = Array(text.utf8)
    return hpackInteger(bytes.count, prefix: 7) + bytes
}

/// RFC 7541 section 5.1, with the bits above the prefix zero.
func hpackInteger(_ value: Int, prefix: Int) -> [UInt8] {
    let limit = 1 << prefix - 1
    if value < limit { return [UInt8(value)] }
    var bytes = [UInt8(limit)]
    var rest = value - limit
    while rest >= 128 {
        bytes.append(UInt8(rest & 127 | 128))
        rest >>= 7
    }
    return bytes + [UInt8(rest)]
}

/// The pseudo-header fields of a request.
func get(_ path: String = "/", _ fields: [(String, String)] = []) -> [(String, String)] {
    [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)] + fields
}

func post(_ fields: [(String, String)] = []) -> [(String, String)] {
    [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")] + fields
}

extension Peer {
    /// A server whose caller has sent the preface and acknowledged our SETTINGS.
    static func server(_ limits: HTTP2Limits = HTTP2Limits()) -> Peer {
        let peer = Peer(.server, limits)
        _ = peer.output()
        peer.receive(preface + Frame.settings().bytes + Frame.settingsAcknowledged.bytes)
        _ = peer.output()
        peer.lines.removeAll()
        return peer
    }

    /// A client whose server has greeted.
    static func client(_ limits: HTTP2Limits = HTTP2Limits(), settings: [(UInt16, UInt32)] = []) -> Peer {
        let peer = Peer(.client, limits)
        _ = peer.output()
        peer.receive(Frame.settings(settings).bytes + Frame.settingsAcknowledged.bytes)
        _ = peer.output()
        peer.lines.removeAll()
        return peer
    }

    func receive(_ frames: Frame...) {
        receive(frames.flatMap(\.bytes))
    }

    /// What the session writes now, a line a frame.
    func written() -> [String] {
        Frame.parse(output()).map(\.description)
    }
}
