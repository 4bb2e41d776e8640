/// HTTP/1.1 on the wire (RFC 9112), both directions, as bytes in and events out: no socket, no clock.
///
/// The decoders are strict: where two parsers might read a message differently, it is refused, because a proxy that guesses can be
/// made to see other requests than the server behind it does.
internal import Base
public import HTTP

/// Decodes the requests of one downstream connection.
///
/// Call `next` in a loop over the connection's buffer; `position` moves over what is consumed. A head or trailer section that is not
/// whole consumes nothing: keep its bytes, append more, and call again from the same start. After `.end` the next request begins.
/// After `.end` of a CONNECT or of a request that `wantsUpgrade`, what follows may be no HTTP: wait for the answer before the next call.
/// After an error the connection is done; every later call throws the same.
public struct RequestDecoder: Sendable {
    private enum State {
        case head
        case body
        case failed(HTTP1Error)
    }

    public let limits: MessageLimits
    private var state = State.head
    private var section = FieldSection()
    private var body = BodyDecoder()
    private var skippedEmptyLine = false

    /// Where the body of the current request ends; never `.untilClose`. Valid from `.head`, as are the three below.
    public private(set) var framing = Framing.none
    /// Whether the caller will send another request on the connection.
    public private(set) var keepsAlive = true
    /// The caller waits for `100 Continue` before it sends the body.
    public private(set) var expectsContinue = false
    /// The caller asks to switch protocols. Never for h2c, which would carry requests past us.
    public private(set) var wantsUpgrade = false

    public init(limits: MessageLimits = MessageLimits()) {
        self.limits = limits
    }

    /// Between two requests: no byte of the next one was seen by the decoder.
    public var isIdle: Bool {
        if case .head = state { section.line == 0 && section.searched == 0 && !skippedEmptyLine } else { false }
    }

    /// Decodes one event from `bytes`, of which those before `position` are done with.
    ///
    /// - Parameters:
    ///   - head: filled by the time of `.head`; the same one until then. It is emptied when a request begins.
    ///   - trailers: as `head`, filled by the time of `.end`.
    /// - Throws: what is wrong with the request. `head` then holds what was read of it.
    /// - Complexity: O(bytes) over all calls for a message, however it is cut; no allocation once the heads have grown.
    public mutating func next(
        _ bytes: RawSpan, at position: inout Int, head: Head, trailers: Head
    ) throws(HTTP1Error) -> Event {
        do throws(HTTP1Error) {
            switch state {
            case .head:
                return try decodeHead(bytes, at: &position, head: head, trailers: trailers)
            case .body:
                let event = try body.next(bytes, at: &position, limits: limits, trailers: trailers)
                if event == .end { state = .head }
                return event
            case .failed(let error):
                throw error
            }
        } catch {
            state = .failed(error)
            throw error
        }
    }

    private mutating func decodeHead(
        _ bytes: RawSpan, at position: inout Int, head: Head, trailers: Head
    ) throws(HTTP1Error) -> Event {
        if section.line == 0, section.searched == 0 {
            guard position < bytes.byteCount else { return .needMore }
            // RFC 9112 section 2.2: one empty line before a request is an old client's mistake.
            if !skippedEmptyLine, bytes.byte(position) == 0x0D {
                guard position &+ 1 < bytes.byteCount else { return .needMore }
                guard bytes.byte(position &+ 1) == 0x0A else { throw HTTP1Error(.bareLineEnd) }
                position &+= 2
                skippedEmptyLine = true
                guard position < bytes.byteCount else { return .needMore }
            }
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
            try finishHead(window, head)
        } catch {
            if head.bytes.isEmpty { head.copy(window) }
            throw error
        }
        body.start(framing)
        section.reset()
        skippedEmptyLine = false
        state = .body
        return .head
    }

    @inline(__always)
    private mutating func parseHead(_ bytes: RawSpan, _ head: Head) throws(HTTP1Error) -> Bool {
        if section.line == 0 {
            // A start line that has not ended yet is looked at again only if it can have grown too long.
            guard section.lineIsReady(bytes) || bytes.byteCount > limits.maxTargetBytes &+ MessageLimits.maxMethodBytes &+ 12 else {
                return false
            }
            guard try parseRequestLine(bytes, head) else {
                section.searched = bytes.byteCount
                return false
            }
        }
        return try section.parse(bytes, maxFields: limits.maxFields, into: head)
    }

    /// `method SP target SP HTTP/1.x CRLF`, with exactly these spaces.
    private mutating func parseRequestLine(_ bytes: RawSpan, _ head: Head) throws(HTTP1Error) -> Bool {
        let count = bytes.byteCount
        let methodEnd = bytes.endOfName(from: 0)
        guard methodEnd <= MessageLimits.maxMethodBytes else {
            throw HTTP1Error(.methodTooLong, limit: MessageLimits.maxMethodBytes)
        }
        guard methodEnd < count else { return false }
        guard methodEnd > 0, bytes.byte(methodEnd) == 0x20 else { throw HTTP1Error(.invalidRequestLine) }
        head.methodRange = 0..<methodEnd

        let targetStart = methodEnd &+ 1
        let targetEnd = bytes.endOfTarget(from: targetStart)
        guard targetEnd &- targetStart <= limits.maxTargetBytes else { throw HTTP1Error(.targetTooLong, limit: limits.maxTargetBytes) }
        guard targetEnd < count else { return false }
        head.target = targetStart..<targetEnd
        guard bytes.byte(targetEnd) == 0x20 else {
            let isLineEnd = bytes.byte(targetEnd) == 0x0D || bytes.byte(targetEnd) == 0x0A
            throw HTTP1Error(isLineEnd ? .invalidRequestLine : .invalidTarget)
        }
        guard targetEnd > targetStart else { throw HTTP1Error(.invalidRequestLine) }

        let versionStart = targetEnd &+ 1
        guard versionStart &+ 8 <= count else { return false }
        head.minorVersion = try parseVersion(bytes, versionStart, .invalidRequestLine)
        return try section.endStartLine(bytes, at: versionStart &+ 8, .invalidRequestLine)
    }

    /// What the whole head decides: target form, host, framing, persistence.
    private mutating func finishHead(_ bytes: RawSpan, _ head: Head) throws(HTTP1Error) {
        head.method = Method(bytes, head.methodRange)
        let facts = section.facts
        let isOld = head.minorVersion == 0
        if let host = facts.host, !host.isEmpty {
            guard isAuthority(bytes, host) else { throw HTTP1Error(.invalidHost) }
            head.authority = host
        } else {
            // A server of many names cannot serve a request to none (RFC 9110 section 4.2.1); the absolute form says it in the target.
            guard isOld || facts.host != nil else { throw HTTP1Error(.missingHost) }
        }
        try splitTarget(bytes, head)
        guard isOld || !head.authority.isEmpty else { throw HTTP1Error(.invalidHost) }

        if facts.isChunked {
            guard facts.contentLength == nil else { throw HTTP1Error(.contentLengthAndChunked) }
            guard !isOld, head.method != .connect else { throw HTTP1Error(.transferEncodingNotAllowed) }
            framing = .chunked
        } else if let length = facts.contentLength {
            guard length == 0 || head.method != .connect else { throw HTTP1Error(.contentLengthNotAllowed) }
            framing = .length(length)
        } else {
            framing = .none
        }
        keepsAlive = !facts.saysClose && (!isOld || facts.saysKeepAlive)
        expectsContinue = facts.expectsContinue && !isOld
        wantsUpgrade = facts.nominatesUpgrade && facts.hasUpgrade && !facts.upgradesToHTTP2 && !isOld
    }

    /// The four forms of RFC 9112 section 3.2. The authority of an absolute form wins over Host; its scheme is not believed.
    private func splitTarget(_ bytes: RawSpan, _ head: Head) throws(HTTP1Error) {
        let target = head.target
        let first = bytes.byte(target.lowerBound)
        if head.method == .connect {
            guard isAuthority(bytes, target, needsPort: true) else { throw HTTP1Error(.invalidTarget) }
            head.authority = target
            head.target = target.upperBound..<target.upperBound
            return
        }
        if first == UInt8(ascii: "/") { return }
        if first == UInt8(ascii: "*"), target.count == 1, head.method == .options { return }

        let schemeEnd = bytes.endOfName(from: target.lowerBound)
        let scheme = target.lowerBound..<min(schemeEnd, target.upperBound)
        guard bytes.equals(scheme, "http") || bytes.equals(scheme, "https"), schemeEnd &+ 3 < target.upperBound,
            bytes.byte(schemeEnd) == UInt8(ascii: ":"), bytes.byte(schemeEnd &+ 1) == UInt8(ascii: "/"),
            bytes.byte(schemeEnd &+ 2) == UInt8(ascii: "/")
        else { throw HTTP1Error(.invalidTarget) }
        let authorityStart = schemeEnd &+ 3
        var authorityEnd = authorityStart
        while authorityEnd < target.upperBound, bytes.byte(authorityEnd) != UInt8(ascii: "/"), bytes.byte(authorityEnd) != UInt8(ascii: "?")
        {
            authorityEnd &+= 1
        }
        guard isAuthority(bytes, authorityStart..<authorityEnd) else { throw HTTP1Error(.invalidTarget) }
        head.authority = authorityStart..<authorityEnd
        if authorityEnd < target.upperBound, bytes.byte(authorityEnd) == UInt8(ascii: "/") {
            head.target = authorityEnd..<target.upperBound
        } else {
            // The path is empty, which means `/` (RFC 9110 section 4.2.3), so one is made behind the head.
            let start = head.bytes.count
            head.bytes.append(head.method == .options && authorityEnd == target.upperBound ? UInt8(ascii: "*") : UInt8(ascii: "/"))
            head.copy(bytes.extracting(authorityEnd..<target.upperBound))
            head.target = start..<head.bytes.count
        }
    }
}

extension FieldSection {
    /// The line end behind a start line; moves on to the first field. False if it has not come yet.
    @inline(__always)
    mutating func endStartLine(_ bytes: RawSpan, at end: Int, _ reason: HTTP1Error.Reason) throws(HTTP1Error) -> Bool {
        guard end < bytes.byteCount else { return false }
        guard bytes.byte(end) == 0x0D else { throw HTTP1Error(bytes.byte(end) == 0x0A ? .bareLineEnd : reason) }
        guard end &+ 1 < bytes.byteCount else { return false }
        guard bytes.byte(end &+ 1) == 0x0A else { throw HTTP1Error(.bareLineEnd) }
        line = end &+ 2
        return true
    }
}

extension Method {
    @inline(__always)
    init(_ bytes: RawSpan, _ range: Range<Int>) {
        self.init(Span(_bytes: bytes.extracting(range)))
    }
}

/// `HTTP/1.0` or `HTTP/1.1` at `start`, as its minor version.
@inline(__always)
func parseVersion(_ bytes: RawSpan, _ start: Int, _ reason: HTTP1Error.Reason) throws(HTTP1Error) -> Int {
    let word = bytes.word(start)
    if word == 0x312E_312F_5054_5448 { return 1 }
    if word == 0x302E_312F_5054_5448 { return 0 }
    let isVersion =
        word & 0x00FF_00FF_FFFF_FFFF == 0x002E_002F_5054_5448 && isDigit(bytes.byte(start &+ 5)) && isDigit(bytes.byte(start &+ 7))
    throw HTTP1Error(isVersion ? .unsupportedVersion : reason)
}

/// The field that takes most of a head that is too large, as its name's range; it may be the one that has not ended.
func largestField(_ head: Head, _ line: Int, _ bytes: RawSpan) -> Range<Int> {
    var largest = 0..<0
    var size = 0
    for field in head.fields where Int(field.valueEnd - field.nameStart) > size {
        size = Int(field.valueEnd - field.nameStart)
        largest = field.name
    }
    if line > 0, bytes.byteCount - line > size {
        let end = bytes.endOfName(from: line)
        if end < bytes.byteCount { largest = line..<end }
    }
    return largest
}
