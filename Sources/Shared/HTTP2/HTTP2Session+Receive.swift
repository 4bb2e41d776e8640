public import Base
internal import CNghttp2
internal import HTTP

extension HTTP2Session {
    /// Takes bytes from the peer, all of them; what they say stands in `events` then.
    ///
    /// A stream whose head and reset come in the same bytes gives no event at all, so that a rapid reset costs no upstream work.
    ///
    /// - Precondition: the events of the last `receive` were removed: ranges of theirs would mean these bytes.
    /// - Throws: what ends the connection. GOAWAY is queued then: flush it and close. Events before the fault stand.
    public func receive(_ bytes: UnsafeRawBufferPointer, now: Instant) throws(HTTP2Error) {
        precondition(!eventsHaveRanges, "receive before the events were removed")
        if events.isEmpty, !departed.isEmpty { recycle() }
        if let failure { throw failure }
        guard let base = bytes.baseAddress, !isDead else { return }
        unsafe received = base
        self.now = now
        let result = unsafe nghttp2_session_mem_recv(session, base.assumingMemoryBound(to: UInt8.self), bytes.count)
        if result < 0 { die(HTTP2Error(libraryCode: Int32(truncatingIfNeeded: result))) }
        settle()
        if hasSilenced { removeSilenced() }
        if let failure { throw failure }
    }

    /// Writes the frames that receiving has made (answers, resets, GOAWAY) to `pending`, but no DATA.
    ///
    /// Resets take effect when they are written, and the library tells an error of the connection only by its GOAWAY. Now the owner hears
    /// of both at once, before he does any work for the stream.
    private func settle() {
        // An owner that does not write, since its peer does not read, leaves the rest to the library's own bound on answers.
        guard !isDead, pending.count < Self.settledBytes, unsafe nghttp2_session_want_write(session) != 0 else { return }
        while pending.count < Self.settledBytes {
            var frame: UnsafePointer<UInt8>?
            let count = unsafe nghttp2_session_mem_send(session, &frame)
            guard count > 0, let frame = unsafe frame else {
                if count < 0 { die(HTTP2Error(libraryCode: Int32(truncatingIfNeeded: count))) }
                return
            }
            unsafe pending.append(copying: frame, count: count)
        }
    }

    private static let settledBytes = 16384

    private func removeSilenced() {
        hasSilenced = false
        events.removeAll { event in
            switch event {
            case .head(let stream, _), .data(let stream, _), .trailers(let stream), .end(let stream), .malformedHead(let stream, _):
                stream.isSilenced
            default: false
            }
        }
    }

    // MARK: Header blocks

    fileprivate func beginHeaders(_ frame: UnsafePointer<nghttp2_frame>) {
        let id = unsafe frame.pointee.hd.stream_id
        if unsafe frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST {
            let stream = pool.take()
            stream.openedAt = now
            open(stream, id: id)
            unsafe _ = nghttp2_session_set_stream_user_data(session, id, Unmanaged.passUnretained(stream).toOpaque())
            // Incremental: streams take turns, whatever the caller would like.
            var turns = nghttp2_extpri(urgency: 3, inc: 1)
            unsafe _ = nghttp2_session_change_extpri_stream_priority(session, id, &turns, 1)
            block.begin(stream, isTrailers: false, pool)
        } else if let stream = stream(id), !stream.isClosed, !stream.resetByOwner, stream.refusal == nil {
            block.begin(stream, isTrailers: stream.hasHead, pool)
            if stream.hasHead { stream.trailers.removeAll() } else { stream.head.removeAll() }
        } else {
            block.end(pool)
        }
    }

    fileprivate func header(_ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>, flags: UInt8) -> Int32 {
        guard let stream = unsafe block.stream, let scratch = unsafe block.scratch else { return 0 }
        return unsafe stream._withUnsafeGuaranteedRef { stream in
            unsafe scratch._withUnsafeGuaranteedRef { scratch in unsafe header(name, value, flags: flags, stream, scratch) }
        }
    }

    @inline(__always)
    private func header(
        _ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>, flags: UInt8, _ stream: HTTP2Stream,
        _ scratch: BlockScratch
    ) -> Int32 {
        let cost = name.count &+ value.count &+ 32
        block.bytes &+= cost
        block.fields &+= 1
        headerMemory &+= cost
        stream.headerMemory &+= cost
        guard block.bytes <= limits.maxHeadBytes, headerMemory <= limits.maxHeaderMemory, block.fields <= limits.maxFields,
            stream.refusal == nil
        else {
            if let result = passedLimit(stream, cost) { return result }
            return unsafe keep(name, value, flags: flags, stream, scratch)
        }
        return unsafe keep(name, value, flags: flags, stream, scratch)
    }

    @inline(__always)
    private func keep(
        _ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>, flags: UInt8, _ stream: HTTP2Stream,
        _ scratch: BlockScratch
    ) -> Int32 {
        if unsafe name.count > 1 && name[0] == UInt8(ascii: ":") {
            block.pseudoFields &+= 1
            return unsafe pseudoHeader(stream, scratch, name, value) ? 0 : reject(stream)
        }
        let known = unsafe KnownField(Span(_unsafeElements: name))
        let neverIndexed = UInt32(flags) & NGHTTP2_NV_FLAG_NO_INDEX.rawValue != 0
        unsafe scratch.append(name, value, known: known, neverIndexed: neverIndexed)
        if known == .contentLength, !block.isTrailers {
            // The library has checked that it is one number, and checks the body against it.
            stream.contentLength = unsafe contentLength(RawSpan(_unsafeElements: value), 0..<value.count)
        } else if known == .other, name.count == 6, unsafe Span(_unsafeElements: name).equalsToken("cookie") {
            block.cookies &+= 1
        }
        return 0
    }

    /// Nil if no limit was passed after all: pseudo-header fields do not count as fields.
    @inline(never)
    private func passedLimit(_ stream: HTTP2Stream, _ cost: Int) -> Int32? {
        // Until the block has ended; what is left of it only costs its decoding, and that has a bound too.
        guard stream.refusal == nil else {
            headerMemory &-= cost
            stream.headerMemory &-= cost
            guard block.bytes > limits.maxHeadBytes &* 4 || block.fields > limits.maxFields &* 4 else { return 0 }
            return resetBlock(stream, .enhanceYourCalm)
        }
        if block.bytes > limits.maxHeadBytes {
            let reason = block.isTrailers ? HTTP2Error.Reason.trailersTooLarge : .headTooLarge
            return refuse(stream, HTTP2Error(reason, code: .enhanceYourCalm, limit: limits.maxHeadBytes))
        }
        if headerMemory > limits.maxHeaderMemory {
            return refuse(stream, HTTP2Error(.headersTakeTooMuch, code: .enhanceYourCalm, limit: limits.maxHeaderMemory))
        }
        // The field that is being added is not one if it begins with a colon; then it is among the first few.
        guard block.fields &- block.pseudoFields > limits.maxFields else { return nil }
        return refuse(stream, HTTP2Error(.tooManyFields, code: .enhanceYourCalm, limit: limits.maxFields))
    }

    /// False if the value breaks a rule that the library leaves to us.
    private func pseudoHeader(
        _ stream: HTTP2Stream, _ scratch: BlockScratch, _ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>
    ) -> Bool {
        let head = stream.head
        let source = unsafe RawSpan(_unsafeElements: value)
        let whole = 0..<value.count
        // The library knows the names and allows each once; so their lengths and second letters tell them apart.
        switch unsafe (name.count, name[1]) {
        case (5, _):  // :path
            head.target = unsafe scratch.append(value)
            return !value.isEmpty && source.endOfTarget(from: 0) == value.count
        case (7, UInt8(ascii: "m")):  // :method
            head.methodRange = unsafe scratch.append(value)
            head.method = unsafe Method(Span(_unsafeElements: value))
            return true
        case (7, UInt8(ascii: "s")) where role == .client:  // :status
            guard value.count == 3 else { return false }
            var status = 0
            for index in whole {
                let digit = source.byte(index) &- 0x30
                guard digit < 10 else { return false }
                status = status &* 10 &+ Int(digit)
            }
            head.status = status
            return status >= 100 && status != 101
        case (7, _):  // :scheme
            if source.equals(whole, "https") {
                head.scheme = .https
            } else if source.equals(whole, "http") {
                head.scheme = .http
            } else {
                return false
            }
            return true
        case (9, _):  // :protocol
            stream.protocolName = unsafe scratch.append(value)
            return !value.isEmpty && source.endOfName(from: 0) == value.count
        case (10, _):  // :authority
            head.authority = unsafe scratch.append(value)
            return isAuthority(source, whole)
        default:
            return false
        }
    }

    /// The head breaks the rules of messages: PROTOCOL_ERROR, and nobody hears of it (RFC 9113 section 8.1.1).
    private func reject(_ stream: HTTP2Stream) -> Int32 {
        counters.messagingErrors += 1
        return resetBlock(stream, .protocolError)
    }

    /// The head or the trailers pass a limit of ours.
    private func refuse(_ stream: HTTP2Stream, _ error: HTTP2Error) -> Int32 {
        counters.refusedHeads += 1
        if !block.isTrailers {
            stream.refusal = error
            // The owner answers 431 once the block has ended.
            if role == .server { return 0 }
            stream.isClosed = true
            stream.wasReset = true
            stream.resetByOwner = true
            events.append(.malformedHead(stream, error))
        }
        return resetBlock(stream, error.code)
    }

    /// Resets the stream whose block is being read, and hears no more of the block.
    private func resetBlock(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode) -> Int32 {
        // What was read of it is for the access log.
        if !block.isTrailers { unsafe block.scratch?._withUnsafeGuaranteedRef { $0.move(to: stream.head) } }
        block.end(pool)
        // Before the library does it, which would say INTERNAL_ERROR.
        unsafe _ = nghttp2_submit_rst_stream(session, 0, stream.id, code.rawValue)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
    }

    // MARK: Frames

    /// Frames of priority (RFC 9113 section 6.3, RFC 9218 section 7.1) and of unknown types change nothing and are told here only.
    fileprivate func frameBegan(_ type: UInt8) -> Int32 {
        switch UInt32(type) {
        case NGHTTP2_PRIORITY.rawValue, NGHTTP2_PRIORITY_UPDATE.rawValue: break
        case 0...NGHTTP2_CONTINUATION.rawValue: return 0
        default:
            guard !unknownFrames.take(now) else { return 0 }
            return fail(HTTP2Error(.unknownFrameFlood, code: .enhanceYourCalm, limit: limits.unknownFrames.burst))
        }
        priorityFrames &+= 1
        let limit = limits.maxPriorityFramesPerStream &* (1 &+ streamsOpened)
        guard priorityFrames > limit else { return 0 }
        return fail(HTTP2Error(.priorityFlood, code: .enhanceYourCalm, limit: limit))
    }

    fileprivate func frameReceived(_ frame: UnsafePointer<nghttp2_frame>) -> Int32 {
        let header = unsafe frame.pointee.hd
        let isEnd = header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0
        let isAcknowledgement = header.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) != 0
        switch UInt32(header.type) {
        case NGHTTP2_HEADERS.rawValue:
            headersEnded(isEnd)
        case NGHTTP2_DATA.rawValue:
            return unsafe dataEnded(header, padding: frame.pointee.data.padlen, isEnd)
        case NGHTTP2_RST_STREAM.rawValue:
            return resetReceived(header.stream_id)
        case NGHTTP2_SETTINGS.rawValue:
            guard !isAcknowledgement else {
                events.append(.settingsAcknowledged)
                break
            }
            counters.settingsReceived += 1
            guard settingsFrames.take(now) else {
                return fail(HTTP2Error(.settingsFlood, code: .enhanceYourCalm, limit: limits.settings.burst))
            }
            hasPeerSettings = true
            events.append(.settings)
        case NGHTTP2_PING.rawValue:
            guard !isAcknowledgement else {
                events.append(.pong)
                break
            }
            counters.pingsReceived += 1
            guard pings.take(now) else { return fail(HTTP2Error(.pingFlood, code: .enhanceYourCalm, limit: limits.pings.burst)) }
        case NGHTTP2_WINDOW_UPDATE.rawValue:
            windowUpdates &+= 1
            let limit = 5 &+ 2 &* (streamsOpened &+ limits.maxWindowUpdatesPerDataFrame &* dataFramesSent)
            guard windowUpdates <= limit else { return fail(HTTP2Error(.windowUpdateFlood, code: .enhanceYourCalm, limit: limit)) }
        case NGHTTP2_GOAWAY.rawValue:
            hasPeerGoAway = true
            let goAway = unsafe frame.pointee.goaway
            unsafe peerGoAwayText = Self.text(goAway)
            unsafe events.append(.goAway(lastStream: goAway.last_stream_id, code: HTTP2ErrorCode(rawValue: goAway.error_code)))
        default:
            break
        }
        return 0
    }

    private func dataEnded(_ header: nghttp2_frame_hd, padding: Int, _ isEnd: Bool) -> Int32 {
        if isEnd {
            if let stream = stream(header.stream_id), isHeard(stream) { events.append(.end(stream)) }
        } else if header.length <= padding {
            emptyFramesInARow += 1
            guard emptyFramesInARow <= limits.maxEmptyFrames else {
                return fail(HTTP2Error(.emptyFrameFlood, code: .enhanceYourCalm, limit: limits.maxEmptyFrames))
            }
            return 0
        }
        emptyFramesInARow = 0
        pings.earn()
        return 0
    }

    private func resetReceived(_ id: Int32) -> Int32 {
        counters.resetsReceived += 1
        guard let stream = stream(id) else { return 0 }
        stream.resetByPeer = true
        guard role == .server, !stream.hasResponded, now - stream.openedAt <= limits.earlyResetAge, !earlyResets.take(now) else { return 0 }
        silence(stream)
        return fail(HTTP2Error(.resetFlood, code: .enhanceYourCalm, limit: limits.earlyResets.burst))
    }

    private func headersEnded(_ endStream: Bool) {
        guard let unretained = unsafe block.stream else { return }
        let stream = unsafe unretained.takeUnretainedValue()
        let isTrailers = block.isTrailers
        let cookies = block.cookies
        unsafe block.scratch?._withUnsafeGuaranteedRef { $0.move(to: isTrailers ? stream.trailers : stream.head) }
        block.end(pool)
        if isTrailers {
            trailersEnded(stream)
            if endStream { events.append(.end(stream)) }
            return
        }
        let head = stream.head
        head.isHTTP2 = true
        head.minorVersion = 0
        if let refusal = stream.refusal {
            stream.headBatch = batch
            events.append(.malformedHead(stream, refusal))
            return
        }
        if cookies > 1 { head.joinCookies() }
        if role == .server {
            guard head.settleAuthority(needsPort: head.method == .connect && !stream.isExtendedConnect) else {
                counters.messagingErrors += 1
                unsafe _ = nghttp2_submit_rst_stream(session, 0, stream.id, HTTP2ErrorCode.protocolError.rawValue)
                return
            }
        } else if head.status < 200 {
            interim(stream)
            return
        }
        stream.hasHead = true
        stream.headBatch = batch
        events.append(.head(stream, endStream: endStream))
    }

    private func trailersEnded(_ stream: HTTP2Stream) {
        let trailers = stream.trailers
        trailers.isHTTP2 = true
        trailers.fields.removeAll { !$0.isAllowedInTrailers(trailers) }
        if !trailers.fields.isEmpty { events.append(.trailers(stream)) }
    }

    private func interim(_ stream: HTTP2Stream) {
        stream.interimCount += 1
        guard stream.interimCount <= Self.maxInterimResponses else {
            unsafe _ = nghttp2_submit_rst_stream(session, 0, stream.id, HTTP2ErrorCode.enhanceYourCalm.rawValue)
            return
        }
        let head = Head()
        swap(&head.bytes, &stream.head.bytes)
        swap(&head.fields, &stream.head.fields)
        head.status = stream.head.status
        head.isHTTP2 = true
        head.minorVersion = 0
        stream.head.removeAll()
        events.append(.interim(stream, head))
    }

    /// As HTTP/1 has it: a server may send 102 for progress; endless ones hold the stream for nothing.
    private static let maxInterimResponses = 64

    fileprivate func dataReceived(_ id: Int32, _ data: UnsafePointer<UInt8>, _ count: Int) {
        guard let stream = stream(id), isHeard(stream) else {
            unsafe _ = nghttp2_session_consume(session, id, count)
            return
        }
        stream.unconsumed += count
        let start = unsafe UnsafeRawPointer(data) - received
        eventsHaveRanges = true
        events.append(.data(stream, start..<start + count))
    }

    // MARK: Streams

    func stream(_ id: Int32) -> HTTP2Stream? {
        guard let pointer = unsafe nghttp2_session_get_stream_user_data(session, id) else { return nil }
        return unsafe Unmanaged<HTTP2Stream>.fromOpaque(pointer).takeUnretainedValue()
    }

    /// Whether the owner wants to know of what comes on the stream.
    private func isHeard(_ stream: HTTP2Stream) -> Bool {
        !stream.isClosed && stream.hasHead && !stream.resetByOwner
    }

    /// Takes back what was told of a request in this batch, if that is all. False if the owner knows of it already.
    @discardableResult
    private func silence(_ stream: HTTP2Stream) -> Bool {
        guard role == .server, stream.headBatch == batch else { return false }
        stream.isSilenced = true
        hasSilenced = true
        return true
    }

    fileprivate func streamClosed(_ id: Int32, _ code: UInt32) {
        guard let stream = stream(id) else { return }
        if block.isOf(stream) { block.end(pool) }
        let isClean = code == 0 && !stream.resetByPeer && !stream.resetByOwner
        stream.isClosed = true
        stream.wasReset = !isClean
        stream.isDeferred = false
        if isClean { earlyResets.earn() }
        if !isClean, !stream.resetByOwner {
            if !silence(stream), role == .client || stream.headBatch != 0 {
                let code = HTTP2ErrorCode(rawValue: code)
                events.append(
                    .closed(stream, code: code, byPeer: stream.resetByPeer, isUnprocessed: role == .client && code == .refusedStream))
            }
        }
        depart(stream)
    }
}

extension HTTP2Error {
    /// What a fatal error of the library means.
    init(libraryCode: Int32) {
        switch libraryCode {
        case NGHTTP2_ERR_BAD_CLIENT_MAGIC.rawValue: self.init(.badPreface, code: .protocolError)
        case NGHTTP2_ERR_FLOODED.rawValue: self.init(.outboundFlood, code: .enhanceYourCalm)
        case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS.rawValue: self.init(.tooManyContinuations, code: .enhanceYourCalm)
        case NGHTTP2_ERR_NOMEM.rawValue: self.init(.outOfMemory, code: .internalError)
        default: self.init(.libraryFailure, code: .internalError)
        }
    }
}

extension Head {
    /// `:authority` and Host must name the same (RFC 9113 section 8.3.1), and one of them must name something. What they name has been
    /// looked at but for the port, which only CONNECT must have.
    func settleAuthority(needsPort: Bool) -> Bool {
        let bytes = bytes
        let source = bytes.rawBytes
        if let host = first(.host)?.value {
            if authority.isEmpty {
                guard isAuthority(source, host) else { return false }
                authority = host
            } else {
                guard host.count == authority.count, source.equalsIgnoringCase(host, authority) else { return false }
                fields.removeAll { $0.known == .host }
            }
        }
        return !authority.isEmpty && (!needsPort || isAuthority(source, authority, needsPort: true))
    }

    /// Makes one field of the pieces, where the first of them stood (RFC 9113 section 8.2.3).
    func joinCookies() {
        let start = bytes.count
        var first: Int?
        var isSensitive = false
        var kept = 0
        for index in fields.indices {
            let field = fields[index]
            if field.known == .other, equals(field.name, "cookie") {
                if first == nil {
                    first = kept
                    bytes.append(contentsOf: "cookie: ".utf8)
                } else {
                    bytes.append(contentsOf: "; ".utf8)
                    isSensitive = isSensitive || field.neverIndexed
                    bytes.append(contentsOf: Array(bytes[field.value]))
                    continue
                }
                isSensitive = field.neverIndexed
                bytes.append(contentsOf: Array(bytes[field.value]))
            }
            fields[kept] = field
            kept += 1
        }
        fields.removeSubrange(kept...)
        guard let first else { return }
        var joined = Field(name: start..<start + 6, value: start + 8..<bytes.count, known: .other)
        joined.neverIndexed = isSensitive
        bytes.append(contentsOf: "\r\n".utf8)
        fields[first] = joined
    }
}

// MARK: What the library calls

// The session's user data is the session, which deletes it before it goes, so it outlives every call.

let onBeginHeaders: nghttp2_on_begin_headers_callback = { _, frame, owner in
    unsafe Unmanaged<HTTP2Session>.fromOpaque(owner.unsafelyUnwrapped)._withUnsafeGuaranteedRef { session in
        unsafe session.beginHeaders(frame.unsafelyUnwrapped)
    }
    return 0
}

let onHeader: nghttp2_on_header_callback = { _, _, name, nameLength, value, valueLength, flags, owner in
    unsafe Unmanaged<HTTP2Session>.fromOpaque(owner.unsafelyUnwrapped)._withUnsafeGuaranteedRef { session in
        unsafe session.header(
            UnsafeBufferPointer(start: name, count: nameLength), UnsafeBufferPointer(start: value, count: valueLength), flags: flags)
    }
}

/// Strict: a field that the library would skip makes the message malformed (RFC 9113 section 8.2.1).
let onInvalidHeader: nghttp2_on_invalid_header_callback = { _, _, _, _, _, _, _, owner in
    unsafe Unmanaged<HTTP2Session>.fromOpaque(owner.unsafelyUnwrapped)._withUnsafeGuaranteedRef { session in
        session.counters.messagingErrors += 1
    }
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
}

let onBeginFrame: nghttp2_on_begin_frame_callback = { _, header, owner in
    unsafe Unmanaged<HTTP2Session>.fromOpaque(owner.unsafelyUnwrapped)._withUnsafeGuaranteedRef { session in
        unsafe session.frameBegan(header.unsafelyUnwrapped.pointee.type)
    }
}

let onFrame: nghttp2_on_frame_recv_callback = { _, frame, owner in
    unsafe Unmanaged<HTTP2Session>.fromOpaque(owner.unsafelyUnwrapped)._withUnsafeGuaranteedRef { session in
        unsafe session.frameReceived(frame.unsafelyUnwrapped)
    }
}

let onData: nghttp2_on_data_chunk_recv_callback = { _, _, id, data, count, owner in
    unsafe Unmanaged<HTTP2Session>.fromOpaque(owner.unsafelyUnwrapped)._withUnsafeGuaranteedRef { session in
        unsafe session.dataReceived(id, data.unsafelyUnwrapped, count)
    }
    return 0
}

let onStreamClose: nghttp2_on_stream_close_callback = { _, id, code, owner in
    unsafe Unmanaged<HTTP2Session>.fromOpaque(owner.unsafelyUnwrapped)._withUnsafeGuaranteedRef { session in
        session.streamClosed(id, code)
    }
    return 0
}
