internal import Base
public import HTTP

/// Decodes the responses of one upstream connection, one expected response at a time.
///
/// Driven as `RequestDecoder` is. Say what is expected before the request goes out; bytes that nobody asked for are an error, so that
/// they can never become the answer to the next request.
public struct ResponseDecoder: Sendable {
    private enum State {
        case idle
        case head
        case body
        case tunnel
        case failed(HTTP1Error)
    }

    public let limits: MessageLimits
    private var state = State.idle
    private var section = FieldSection()
    private var body = BodyDecoder()
    private var method = Method.other
    private var mayUpgrade = false
    private var interimResponses = 0

    /// Where the body of the current response ends. Valid from `.head`, as are the two below.
    public private(set) var framing = Framing.none
    /// Whether the connection may carry another request once this response has ended.
    public private(set) var keepsAlive = true
    /// The response opened a tunnel (101, or 2xx to CONNECT): everything behind its head is raw bytes, which the owner takes itself.
    public var isTunnel: Bool {
        if case .tunnel = state { true } else { false }
    }

    public init(limits: MessageLimits = MessageLimits()) {
        self.limits = limits
    }

    /// No response is expected, so the connection can take a request.
    public var isIdle: Bool {
        if case .idle = state { true } else { false }
    }

    /// A request with this method goes out; `upgrade` if it asks to switch protocols.
    public mutating func expectResponse(to method: Method, upgrade: Bool = false) {
        guard case .idle = state else { preconditionFailure("a second response is expected before the first one has ended") }
        self.method = method
        mayUpgrade = upgrade
        interimResponses = 0
        state = .head
    }

    /// Decodes one event from `bytes`, of which those before `position` are done with. As `RequestDecoder.next`.
    public mutating func next(
        _ bytes: RawSpan, at position: inout Int, head: Head, trailers: Head
    ) throws(HTTP1Error) -> Event {
        do throws(HTTP1Error) {
            switch state {
            case .idle:
                guard position == bytes.byteCount else { throw HTTP1Error(.unexpectedBytes) }
                return .needMore
            case .head:
                return try decodeHead(bytes, at: &position, head: head, trailers: trailers)
            case .body:
                let event = try body.next(bytes, at: &position, limits: limits, trailers: trailers)
                if event == .end { state = .idle }
                return event
            case .tunnel:
                return .needMore
            case .failed(let error):
                throw error
            }
        } catch {
            state = .failed(error)
            throw error
        }
    }

    /// The upstream closed its side.
    ///
    /// - Returns: true if that completes a response whose body ends with the connection, false if no response was open.
    /// - Throws: `.truncated` if a response was missing or not whole.
    public mutating func finish() throws(HTTP1Error) -> Bool {
        switch state {
        case .idle, .tunnel:
            return false
        case .body where body.isUntilClose:
            state = .idle
            return true
        case .head, .body:
            let error = HTTP1Error(.truncated)
            state = .failed(error)
            throw error
        case .failed(let error):
            throw error
        }
    }

    private mutating func decodeHead(
        _ bytes: RawSpan, at position: inout Int, head: Head, trailers: Head
    ) throws(HTTP1Error) -> Event {
        if section.line == 0, section.searched == 0 {
            guard position < bytes.byteCount else { return .needMore }
            head.removeAll()
            if !trailers.bytes.isEmpty || !trailers.fields.isEmpty { trailers.removeAll() }
        }
        let start = position
        let window = bytes.extracting(start..<min(bytes.byteCount, start &+ limits.maxHeadBytes))
        do throws(HTTP1Error) {
            guard try parseHead(window, head) else {
                guard window.byteCount == limits.maxHeadBytes else { return .needMore }
                throw HTTP1Error(.headTooLarge, limit: limits.maxHeadBytes, fieldName: largestField(head, section.line, window))
            }
            position = start &+ section.line
            head.copy(window.extracting(0..<section.line))
            let facts = section.facts
            section.reset()
            return try finishHead(facts, head)
        } catch {
            if head.bytes.isEmpty { head.copy(window) }
            throw error
        }
    }

    @inline(__always)
    private mutating func parseHead(_ bytes: RawSpan, _ head: Head) throws(HTTP1Error) -> Bool {
        if section.line == 0 {
            guard section.lineIsReady(bytes) else { return false }
            guard try parseStatusLine(bytes, head) else {
                section.searched = bytes.byteCount
                return false
            }
        }
        return try section.parse(bytes, maxFields: limits.maxFields, into: head)
    }

    /// `HTTP/1.x SP status [SP reason] CRLF`. The space before an empty reason is forgiven: many leave it out, and it decides nothing.
    private mutating func parseStatusLine(_ bytes: RawSpan, _ head: Head) throws(HTTP1Error) -> Bool {
        let count = bytes.byteCount
        guard count >= 8 else { return false }
        head.minorVersion = try parseVersion(bytes, 0, .invalidStatusLine)
        guard count > 12 else { return false }
        guard bytes.byte(8) == 0x20, isDigit(bytes.byte(9)), isDigit(bytes.byte(10)), isDigit(bytes.byte(11)) else {
            throw HTTP1Error(.invalidStatusLine)
        }
        let status = Int(bytes.byte(9)) &* 100 &+ Int(bytes.byte(10)) &* 10 &+ Int(bytes.byte(11)) &- 0x30 &* 111
        guard status >= 100, status <= 599 else { throw HTTP1Error(.invalidStatusLine) }
        head.status = status
        var end = 12
        if bytes.byte(12) == 0x20 {
            end = bytes.endOfValue(from: 13)
            head.reason = 13..<end
        }
        return try section.endStartLine(bytes, at: end, .invalidStatusLine)
    }

    /// What the whole head decides (RFC 9112 section 6.3, in its order).
    private mutating func finishHead(_ facts: FieldFacts, _ head: Head) throws(HTTP1Error) -> Event {
        if facts.isChunked {
            guard facts.contentLength == nil else { throw HTTP1Error(.contentLengthAndChunked) }
            guard head.minorVersion == 1 else { throw HTTP1Error(.transferEncodingNotAllowed) }
        }
        keepsAlive = !facts.saysClose && (head.minorVersion == 1 || facts.saysKeepAlive)
        framing = .none

        if head.status == 101 {
            guard mayUpgrade, facts.hasUpgrade else { throw HTTP1Error(.unexpectedUpgrade) }
            return openTunnel(head)
        }
        if head.status < 200 {
            interimResponses += 1
            guard interimResponses <= MessageLimits.maxInterimResponses else {
                throw HTTP1Error(.tooManyInterimResponses, limit: MessageLimits.maxInterimResponses)
            }
            removeFraming(head)
            return .interim
        }
        if method == .connect, head.status < 300 { return openTunnel(head) }

        if head.status == 204 {
            removeFraming(head)
        } else if method == .head || head.status == 304 {
            // Content-Length stays: it tells the size that a GET would have had.
        } else if facts.isChunked {
            framing = .chunked
        } else if let length = facts.contentLength {
            framing = .length(length)
        } else {
            framing = .untilClose
            keepsAlive = false
        }
        body.start(framing)
        state = .body
        return .head
    }

    private mutating func openTunnel(_ head: Head) -> Event {
        removeFraming(head)
        keepsAlive = false
        state = .tunnel
        return .head
    }

    /// RFC 9110 section 8.6: these responses have neither field; one that came anyway must not mislead the next reader.
    private func removeFraming(_ head: Head) {
        head.fields.removeAll { $0.known == .contentLength || $0.known == .transferEncoding }
    }
}
