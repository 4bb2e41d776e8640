/// One end of an HTTP/2 connection in a test's hands: it does what the protocol asks for unless told otherwise, and sends any frame.
///
/// Blocking, and for one thread at a time. What arrives is collected by stream while the test waits for something.
public final class HTTP2Peer {
    public enum Role: Sendable {
        case client
        case server
    }

    public let connection: RawConnection
    public let role: Role

    /// What the other side has said of itself.
    public private(set) var settings: [HTTP2Setting: UInt32] = [:]
    public private(set) var hasSettings = false
    /// The other side has acknowledged ours.
    public private(set) var isAcknowledged = false
    /// Every GOAWAY, in order.
    public private(set) var goAways: [(lastStream: UInt32, code: HTTP2Code)] = []
    /// Payloads of PING that came as questions and as answers.
    public private(set) var pings: [[UInt8]] = []
    public private(set) var pongs: [[UInt8]] = []
    /// How the connection ended; nil while it is open.
    public private(set) var end: RawConnection.End?
    public private(set) var streams: [UInt32: HTTP2Message] = [:]
    /// Streams in the order in which their heads came.
    public private(set) var arrived: [UInt32] = []

    /// Gives back windows as DATA arrives. Without it the other side stops when the windows are used up.
    public var opensWindows = true
    /// Streams whose own windows stay as they are, while the connection's opens.
    public var heldStreams: Set<UInt32> = []
    public var answersPings = true
    public var acknowledgesSettings = true
    /// Keeps bodies. Say no where they are large: then they are compared with the pattern as they come.
    public var keepsBodies = true

    private var decoder = HPACK.Decoder()
    private var buffer: [UInt8] = []
    private var start = 0
    private var connectionWindow = 65535
    private var streamWindows: [UInt32: Int] = [:]
    private var openBlock: (stream: UInt32, flags: UInt8, bytes: [UInt8])?
    private var handedOut = 0
    private var nextStream: UInt32 = 1

    public static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    /// Connects, sends the preface and our settings.
    public convenience init(to port: UInt16, receiveBuffer: CInt? = nil, settings: [HTTP2Setting: UInt32] = [:]) throws {
        try self.init(.client, over: try RawConnection(to: port, receiveBuffer: receiveBuffer), settings: settings)
    }

    /// Server: reads the caller's preface first.
    public init(_ role: Role, over connection: RawConnection, settings: [HTTP2Setting: UInt32] = [:]) throws {
        self.role = role
        self.connection = connection
        switch role {
        case .client: try connection.send(Self.preface + HTTP2Frame.settings(settings).bytes)
        case .server:
            let preface = try connection.read(exactly: Self.preface.count)
            guard preface == Self.preface else { throw TestFailure("not the preface of HTTP/2: \(shown(preface))") }
            try send(.settings(settings))
        }
    }

    // MARK: Sending

    public func send(_ frames: HTTP2Frame...) throws {
        try connection.send(frames.flatMap(\.bytes))
    }

    /// Sends as much as the windows allow, and waits for them until all is out.
    public func send(_ stream: UInt32, body: [UInt8], endStream: Bool, within limit: Duration = patience) throws {
        var sent = 0
        repeat {
            let window = min(connectionWindow, sendWindow(stream), 16384)
            if window <= 0, sent < body.count {
                guard streams[stream]?.end.isReset != true, try step(within: limit) != nil else {
                    throw TestFailure("stream \(stream) ended after \(sent) of \(body.count) bytes")
                }
                continue
            }
            let piece = body[sent..<min(body.count, sent + max(0, window))]
            sent += piece.count
            connectionWindow -= piece.count
            streamWindows[stream] = sendWindow(stream) - piece.count
            try send(.data(stream, Array(piece), endStream: endStream && sent == body.count))
        } while sent < body.count
    }

    /// Sends so many bytes of the pattern without holding them all.
    public func sendPattern(_ stream: UInt32, _ count: Int, endStream: Bool, within limit: Duration = patience) throws {
        var sent = 0
        while sent < count {
            let part = min(Pattern.block.count, count - sent)
            try send(stream, body: Array(Pattern.block[..<part]), endStream: endStream && sent + part == count, within: limit)
            sent += part
        }
    }

    /// As many bytes as the other side's windows take until none opens for `pause`.
    public func sendUntilStuck(_ stream: UInt32, pause: Duration, limit: Int) throws -> Int {
        var sent = 0
        while sent < limit {
            let window = min(connectionWindow, sendWindow(stream), 16384)
            if window > 0 {
                try send(stream, body: Array(Pattern.block[..<window]), endStream: false)
                sent += window
            } else {
                guard (try? step(within: pause)) != nil else { return sent }
            }
        }
        return sent
    }

    private func sendWindow(_ stream: UInt32) -> Int {
        streamWindows[stream] ?? Int(settings[.initialWindowSize] ?? 65535)
    }

    // MARK: Client

    /// Sends a request on a new stream and returns its number.
    @discardableResult
    public func request(
        _ method: String = "GET", _ path: String = "/", fields: [HTTP2Field] = [], body: [UInt8]? = nil, trailers: [HTTP2Field] = []
    ) throws -> UInt32 {
        let stream = try open(Self.head(method, path) + fields, endStream: body == nil && trailers.isEmpty)
        if let body { try send(stream, body: body, endStream: trailers.isEmpty) }
        if !trailers.isEmpty { try send(.headers(stream, trailers, endStream: true)) }
        return stream
    }

    /// Opens the next stream with these fields and no others.
    public func open(_ fields: [HTTP2Field], endStream: Bool) throws -> UInt32 {
        let stream = newStream()
        try send(.headers(stream, fields, endStream: endStream))
        return stream
    }

    /// A number for a stream that the test opens itself.
    public func newStream() -> UInt32 {
        defer { nextStream += 2 }
        return nextStream
    }

    public static func head(_ method: String = "GET", _ path: String = "/", authority: String = "a") -> [HTTP2Field] {
        [(":method", method), (":scheme", "http"), (":path", path), (":authority", authority)]
    }

    /// The response, when it has ended in whatever way.
    public func response(_ stream: UInt32, within limit: Duration = patience) throws -> HTTP2Message {
        try wait("the end of stream \(stream)", within: limit) { streams[stream]?.end.isOpen == false }
        return streams[stream] ?? HTTP2Message()
    }

    public func exchange(
        _ method: String = "GET", _ path: String = "/", fields: [HTTP2Field] = [], body: [UInt8]? = nil, trailers: [HTTP2Field] = [],
        within limit: Duration = patience
    ) throws -> HTTP2Message {
        try response(try request(method, path, fields: fields, body: body, trailers: trailers), within: limit)
    }

    // MARK: Server

    /// The next request whose head has come; nil when the connection ends instead.
    public func nextRequest(within limit: Duration = patience) throws -> UInt32? {
        while handedOut == arrived.count {
            guard try step(within: limit) != nil else { return nil }
        }
        defer { handedOut += 1 }
        return arrived[handedOut]
    }

    /// The same without waiting: nil where none has come yet.
    public func pendingRequest() -> UInt32? {
        guard handedOut < arrived.count else { return nil }
        defer { handedOut += 1 }
        return arrived[handedOut]
    }

    /// The request with all of its body, or as much as came before it was reset.
    public func whole(_ stream: UInt32, within limit: Duration = patience) throws -> HTTP2Message {
        try response(stream, within: limit)
    }

    public func answer(
        _ stream: UInt32, status: Int = 200, fields: [HTTP2Field] = [], body: [UInt8] = [], trailers: [HTTP2Field] = []
    ) throws {
        let hasMore = !body.isEmpty || !trailers.isEmpty
        try send(.headers(stream, [(":status", "\(status)")] + fields, endStream: !hasMore))
        if !body.isEmpty { try send(stream, body: body, endStream: trailers.isEmpty) }
        if !trailers.isEmpty { try send(.headers(stream, trailers, endStream: true)) }
    }

    // MARK: Receiving

    /// Reads frames until the condition holds.
    ///
    /// - Throws: `TestFailure` when the connection ends before, or at the deadline.
    public func wait(_ what: @autoclosure () -> String, within limit: Duration = patience, until condition: () -> Bool) throws {
        let deadline = ContinuousClock.now + limit
        while !condition() {
            let left = ContinuousClock.now.duration(to: deadline)
            guard left > .zero else { throw TestFailure("not within \(limit): \(what())") }
            guard try step(within: left) != nil || condition() else {
                throw TestFailure("the connection ended (\(goAways)) before: \(what())")
            }
        }
    }

    /// Reads frames until the connection ends, and tells how.
    @discardableResult
    public func readToEnd(within limit: Duration = patience) throws -> RawConnection.End {
        while try step(within: limit) != nil {}
        return end ?? .closed
    }

    /// The SETTINGS of the other side have come, and its acknowledgement of ours.
    public func settle() throws {
        try wait("settings and their acknowledgement") { hasSettings && isAcknowledged }
    }

    /// What was sent has been worked on: the answer to a PING has come.
    public func roundTrip() throws {
        let count = pongs.count
        try send(.ping())
        try wait("the answer to a PING") { pongs.count > count }
    }

    /// Reads one frame and does what the protocol asks for. Nil: the connection has ended.
    ///
    /// The other side may have gone with its last frame, so an answer that cannot be sent is no failure.
    @discardableResult
    public func step(within limit: Duration = patience) throws -> HTTP2Frame? {
        guard let frame = try readFrame(within: limit) else {
            for (stream, message) in streams where message.end.isOpen { streams[stream]?.end = .cut }
            return nil
        }
        switch frame.kind {
        case .data: try received(data: frame)
        case .headers:
            var payload = frame.payload[...]
            if frame.has(HTTP2Frame.padded), let padding = payload.popFirst() { payload = payload.dropLast(Int(padding)) }
            if frame.has(HTTP2Frame.hasPriority) { payload = payload.dropFirst(5) }
            openBlock = (frame.stream, frame.flags, Array(payload))
            if frame.has(HTTP2Frame.endHeaders) { try blockEnded() }
        case .continuation:
            guard openBlock?.stream == frame.stream else { throw TestFailure("CONTINUATION of nothing: \(frame)") }
            openBlock?.bytes += frame.payload
            if frame.has(HTTP2Frame.endHeaders) { try blockEnded() }
        case .reset: streams[frame.stream, default: HTTP2Message()].end = .reset(frame.errorCode ?? .noError)
        case .settings: try received(settings: frame)
        case .ping:
            if frame.has(HTTP2Frame.acknowledgement) {
                pongs.append(frame.payload)
            } else {
                pings.append(frame.payload)
                if answersPings { try? send(.ping(frame.payload, isAnswer: true)) }
            }
        case .goAway: goAways.append((HTTP2Frame.number(frame.payload[...]) & 0x7fff_ffff, frame.errorCode ?? .noError))
        case .windowUpdate:
            let increment = Int(HTTP2Frame.number(frame.payload[...]))
            if frame.stream == 0 {
                connectionWindow += increment
            } else {
                streamWindows[frame.stream] = sendWindow(frame.stream) + increment
            }
        case .priority, .pushPromise, nil: break
        }
        return frame
    }

    private func readFrame(within limit: Duration) throws -> HTTP2Frame? {
        func has(_ count: Int) throws -> Bool {
            while buffer.count - start < count {
                let piece: [UInt8]
                do {
                    piece = try connection.receive(max: 256 << 10, within: limit)
                } catch is ConnectionReset {
                    end = .reset
                    return false
                }
                if piece.isEmpty {
                    end = .closed
                    return false
                }
                if start == buffer.count {
                    buffer = piece
                } else {
                    buffer = buffer[start...] + piece
                }
                start = 0
            }
            return true
        }
        guard end == nil, try has(9) else { return nil }
        let length = Int(buffer[start]) << 16 | Int(buffer[start + 1]) << 8 | Int(buffer[start + 2])
        guard try has(9 + length) else { return nil }
        let frame = HTTP2Frame(
            type: buffer[start + 3], flags: buffer[start + 4], stream: HTTP2Frame.number(buffer[(start + 5)...]) & 0x7fff_ffff,
            payload: Array(buffer[start + 9..<start + 9 + length]))
        start += 9 + length
        return frame
    }

    private func received(data frame: HTTP2Frame) throws {
        var payload = frame.payload[...]
        if frame.has(HTTP2Frame.padded), let padding = payload.popFirst() { payload = payload.dropLast(Int(padding)) }
        streams[frame.stream, default: HTTP2Message()].append(payload, keeps: keepsBodies)
        if frame.has(HTTP2Frame.endStream) { streams[frame.stream]?.end = .whole }
        guard opensWindows, !frame.payload.isEmpty else { return }
        let count = UInt32(frame.payload.count)
        try? send(.windowUpdate(0, count))
        if !frame.has(HTTP2Frame.endStream), !heldStreams.contains(frame.stream) { try? send(.windowUpdate(frame.stream, count)) }
    }

    private func blockEnded() throws {
        guard let block = openBlock else { return }
        openBlock = nil
        let fields = try decoder.decode(block.bytes)
        if streams[block.stream] == nil || streams[block.stream]?.fields.isEmpty == true { arrived.append(block.stream) }
        streams[block.stream, default: HTTP2Message()].received(fields)
        if block.flags & HTTP2Frame.endStream != 0 { streams[block.stream]?.end = .whole }
    }

    private func received(settings frame: HTTP2Frame) throws {
        if frame.has(HTTP2Frame.acknowledgement) {
            isAcknowledged = true
            return
        }
        hasSettings = true
        let before = Int(settings[.initialWindowSize] ?? 65535)
        for index in stride(from: 0, to: frame.payload.count, by: 6) {
            let name = UInt16(frame.payload[index]) << 8 | UInt16(frame.payload[index + 1])
            if let setting = HTTP2Setting(rawValue: name) { settings[setting] = HTTP2Frame.number(frame.payload[(index + 2)...]) }
        }
        let change = Int(settings[.initialWindowSize] ?? 65535) - before
        for stream in streamWindows.keys { streamWindows[stream, default: 0] += change }
        if acknowledgesSettings { try? send(HTTP2Frame(.settings, flags: HTTP2Frame.acknowledgement)) }
    }
}

/// A request or response of HTTP/2 as far as it has come.
public struct HTTP2Message: Sendable {
    public enum End: Equatable, Sendable {
        case open
        /// END_STREAM.
        case whole
        case reset(HTTP2Code)
        /// The connection ended before the stream.
        case cut

        public var isOpen: Bool { self == .open }
        public var isReset: Bool { if case .reset = self { true } else { false } }
    }

    /// Of the request or the final response.
    public var fields: [HTTP2Field] = []
    /// 1xx.
    public var interims: [[HTTP2Field]] = []
    public var body: [UInt8] = []
    public var bodyCount = 0
    /// Whether the body was the pattern so far.
    public var isPattern = true
    public var trailers: [HTTP2Field] = []
    public var end = End.open

    public init() {}

    public var status: Int { Int(value(":status") ?? "") ?? 0 }
    public var method: String { value(":method") ?? "" }
    public var path: String { value(":path") ?? "" }
    public var bodyText: String { String(decoding: body, as: UTF8.self) }
    public var isWhole: Bool { end == .whole }

    public func value(_ name: String) -> String? { fields.first { $0.name == name }?.value }
    public func values(_ name: String) -> [String] { fields.filter { $0.name == name }.map(\.value) }
    public func trailer(_ name: String) -> String? { trailers.first { $0.name == name }?.value }

    mutating func received(_ block: [HTTP2Field]) {
        let status = block.first { $0.name == ":status" }?.value
        if let status, status.hasPrefix("1"), status != "101" {
            interims.append(block)
        } else if fields.isEmpty {
            fields = block
        } else {
            trailers = block
        }
    }

    mutating func append(_ piece: ArraySlice<UInt8>, keeps: Bool) {
        if isPattern { isPattern = Pattern.matches(Array(piece), at: bodyCount) }
        bodyCount += piece.count
        if keeps { body += piece }
    }
}

extension Origin {
    /// An HTTP/2 server that answers every request, when it is whole, with what `answer` says.
    public static func http2(
        port: UInt16 = 0, records: Bool = false, settings: [HTTP2Setting: UInt32] = [:],
        _ answer: @escaping @Sendable (HTTP2Message) throws -> HTTP2Answer
    ) throws -> Origin {
        try Origin(port: port, records: records) { connection in
            let peer = try HTTP2Peer(.server, over: connection, settings: settings)
            while let stream = try peer.nextRequest(within: .seconds(600)) {
                let request = try peer.whole(stream)
                guard request.isWhole else { continue }
                let reply = try answer(request)
                try peer.answer(stream, status: reply.status, fields: reply.fields, body: reply.body, trailers: reply.trailers)
            }
        }
    }
}

public struct HTTP2Answer: Sendable {
    public var status: Int
    public var fields: [HTTP2Field]
    public var body: [UInt8]
    public var trailers: [HTTP2Field]

    public init(status: Int = 200, fields: [HTTP2Field] = [], body: [UInt8] = Array("ok".utf8), trailers: [HTTP2Field] = []) {
        self.status = status
        self.fields = fields
        self.body = body
        self.trailers = trailers
    }
}
