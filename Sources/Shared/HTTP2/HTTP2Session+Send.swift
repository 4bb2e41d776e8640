public import Base
internal import CNghttp2
public import HTTP

extension HTTP2Session {
    // MARK: Heads

    /// Client: sends a request. `head` may be of either protocol; what is only for one hop stays behind.
    ///
    /// - Parameters:
    ///   - extendedConnect: the range of `head.bytes` with the protocol's name ("websocket"): the request becomes an extended CONNECT
    ///     (RFC 8441), whatever its method. Only if `peerAllowsExtendedConnect`.
    /// - Returns: nil if the peer takes no more streams now, or ever (`canOpenStream`). Nothing is queued for later.
    public func request(_ head: Head, endStream: Bool, extendedConnect: Range<Int>? = nil, context: AnyObject?) -> HTTP2Stream? {
        precondition(role == .client, "a request by a server")
        guard canOpenStream else { return nil }
        let stream = pool.take()
        stream.context = context
        stream.hasEnded = endStream
        let pointer = unsafe Unmanaged.passUnretained(stream).toOpaque()
        let id = unsafe pool.fields.withRequest(head, extendedConnect: extendedConnect) { fields in
            if endStream { return unsafe nghttp2_submit_request(session, nil, fields.baseAddress, fields.count, nil, pointer) }
            var provider = unsafe bodyProvider(stream)
            return unsafe nghttp2_submit_request(session, nil, fields.baseAddress, fields.count, &provider, pointer)
        }
        guard id > 0 else {
            pool.give(stream)
            if id == NGHTTP2_ERR_NOMEM.rawValue { die(HTTP2Error(.outOfMemory, code: .internalError)) }
            return nil
        }
        open(stream, id: id)
        return stream
    }

    /// Server: sends the final response; a second one is not sent. 101 to an extended CONNECT becomes 200, as RFC 8441 section 5 has it.
    public func respond(_ stream: HTTP2Stream, _ head: Head, endStream: Bool) {
        precondition(role == .server, "a response by a client")
        guard isOpen(stream), !stream.hasResponded else { return }
        stream.hasResponded = true
        stream.hasEnded = endStream
        let status = stream.isExtendedConnect && head.status == 101 ? 200 : head.status
        let result = unsafe pool.fields.withResponse(head, status: status) { fields in
            if endStream { return unsafe nghttp2_submit_response(session, stream.id, fields.baseAddress, fields.count, nil) }
            var provider = unsafe bodyProvider(stream)
            return unsafe nghttp2_submit_response(session, stream.id, fields.baseAddress, fields.count, &provider)
        }
        if result != 0 { die(HTTP2Error(.outOfMemory, code: .internalError)) }
    }

    /// Server: sends a 1xx response other than 101, before the final one.
    public func respondInterim(_ stream: HTTP2Stream, _ head: Head) {
        guard isOpen(stream), !stream.hasResponded else { return }
        let result = unsafe pool.fields.withResponse(head, status: head.status) { fields in
            unsafe nghttp2_submit_headers(session, 0, stream.id, nil, fields.baseAddress, fields.count, nil)
        }
        if result != 0 { die(HTTP2Error(.outOfMemory, code: .internalError)) }
    }

    // MARK: Bodies

    /// Queues body bytes; they are copied. The owner bounds `stream.queuedBytes`.
    public func send(_ stream: HTTP2Stream, _ bytes: UnsafeRawBufferPointer) {
        guard isOpen(stream), !stream.hasEnded else { return }
        unsafe stream.queue.append(copying: bytes)
        queuedBytes += bytes.count
        resume(stream)
    }

    /// Ends our side. END_STREAM goes on the last DATA frame, or on the trailers if there are any that may stand there.
    public func end(_ stream: HTTP2Stream, trailers: Head? = nil) {
        guard isOpen(stream), !stream.hasEnded else { return }
        stream.hasEnded = true
        if let trailers, !trailers.fields.isEmpty {
            let copy = Head()
            copy.bytes = trailers.bytes
            copy.fields = trailers.fields
            stream.outgoingTrailers = copy
        }
        resume(stream)
    }

    /// Ends the stream at once, both ways; what is queued, a response's head included, is dropped. Its context is let go of, and no event
    /// of it follows.
    public func reset(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode) {
        guard isOpen(stream) else { return }
        stream.resetByOwner = true
        stream.context = nil
        stream.isClosed = true
        stream.wasReset = true
        queuedBytes -= stream.queue.count
        stream.queue.removeAll()
        unsafe _ = nghttp2_submit_rst_stream(session, 0, stream.id, code.rawValue)
    }

    /// Resets the stream behind everything that was sent and ended: what the peer still sends on it nobody wants, and is not told
    /// (RFC 9113 section 8.1). At once if our side was not ended, or is written to its end.
    public func resetAfterEnd(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode) {
        guard isOpen(stream), stream.codeAfterEnd == nil else { return }
        guard stream.hasEnded, unsafe nghttp2_session_get_stream_local_close(session, stream.id) == 0 else { return reset(stream, code) }
        stream.resetByOwner = true
        stream.context = nil
        stream.codeAfterEnd = code
        resetsAfterEnd += 1
    }

    /// Gives received body bytes back: both windows open again. For a closed stream the connection's.
    public func consume(_ stream: HTTP2Stream, _ bytes: Int) {
        let count = min(bytes, stream.unconsumed)
        guard count > 0, !isDead else { return }
        stream.unconsumed -= count
        if stream.isClosed {
            unsafe _ = nghttp2_session_consume_connection(session, count)
        } else {
            unsafe _ = nghttp2_session_consume(session, stream.id, count)
        }
    }

    private func isOpen(_ stream: HTTP2Stream) -> Bool {
        !stream.isClosed && !isDead
    }

    private func resume(_ stream: HTTP2Stream) {
        guard stream.isDeferred else { return }
        stream.isDeferred = false
        unsafe _ = nghttp2_session_resume_data(session, stream.id)
    }

    // MARK: The connection

    /// Sends PING; `pong` answers.
    public func ping() {
        guard !isDead else { return }
        unsafe _ = nghttp2_submit_ping(session, 0, nil)
    }

    /// Server, the first step of a graceful end: GOAWAY that still allows every stream. Requests that are under way get through;
    /// call `goAway` a round trip later (RFC 9113 section 6.8).
    public func announceShutdown() {
        guard !isDead, role == .server else { return }
        unsafe _ = nghttp2_submit_shutdown_notice(session)
    }

    /// GOAWAY with the last stream that we took. With `noError` open streams go on to their end; any other code ends all.
    public func goAway(_ code: HTTP2ErrorCode) {
        guard !isDead else { return }
        isShuttingDown = true
        if code == .noError {
            let last = unsafe nghttp2_session_get_last_proc_stream_id(session)
            unsafe _ = nghttp2_submit_goaway(session, 0, last, code.rawValue, nil, 0)
        } else {
            unsafe _ = nghttp2_session_terminate_session(session, code.rawValue)
        }
    }

    /// Appends what may be sent now to `output`, until `limit` bytes are reached; a frame may pass it.
    ///
    /// Streams take turns, a frame each.
    ///
    /// - Returns: whether more is waiting that could be sent at once.
    public func flush(into output: inout ByteBuffer, limit: Int) -> Bool {
        if !pending.isEmpty {
            output.append(pending.bytes)
            pending.release()
        }
        guard !isDead else { return false }
        let end = limit > Int.max - output.count ? Int.max : output.count + limit
        unsafe withUnsafeMutablePointer(to: &output) { pointer in
            unsafe self.output = pointer
            outputLimit = end
            while unsafe pointer.pointee.count < end {
                var frame: UnsafePointer<UInt8>?
                let count = unsafe nghttp2_session_mem_send(session, &frame)
                guard count > 0, let frame = unsafe frame else {
                    if count < 0 { die(HTTP2Error(libraryCode: Int32(truncatingIfNeeded: count))) }
                    break
                }
                unsafe pointer.pointee.append(copying: frame, count: count)
            }
            unsafe self.output = nil
        }
        return wantsToWrite
    }

    private func bodyProvider(_ stream: HTTP2Stream) -> nghttp2_data_provider {
        unsafe nghttp2_data_provider(
            source: nghttp2_data_source(ptr: Unmanaged.passUnretained(stream).toOpaque()), read_callback: readBody)
    }

    // MARK: What the library asks and tells while it writes

    fileprivate func bodyLength(_ stream: HTTP2Stream, atMost length: Int, _ flags: UnsafeMutablePointer<UInt32>) -> Int {
        // Nothing is taken while `receive` settles, nor beyond the limit: the library asks again.
        guard let output = unsafe output, unsafe output.pointee.count < outputLimit else { return Int(NGHTTP2_ERR_PAUSE.rawValue) }
        let queued = stream.queue.count
        if queued == 0, !stream.hasEnded {
            stream.isDeferred = true
            return Int(NGHTTP2_ERR_DEFERRED.rawValue)
        }
        var set = NGHTTP2_DATA_FLAG_NO_COPY.rawValue
        if queued <= length, stream.hasEnded {
            set |= NGHTTP2_DATA_FLAG_EOF.rawValue
            if let trailers = stream.outgoingTrailers, submitTrailers(stream, trailers) {
                set |= NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue
            }
        }
        unsafe flags.pointee |= set
        return min(queued, length)
    }

    /// False if none of them may be sent.
    private func submitTrailers(_ stream: HTTP2Stream, _ trailers: Head) -> Bool {
        stream.outgoingTrailers = nil
        return unsafe pool.fields.withTrailers(trailers) { fields in
            guard fields.count > 0 else { return false }
            return unsafe nghttp2_submit_trailer(session, stream.id, fields.baseAddress, fields.count) == 0
        }
    }

    fileprivate func writeBody(_ stream: HTTP2Stream, _ header: UnsafePointer<UInt8>, _ count: Int) {
        guard let output = unsafe output else { return }
        unsafe output.pointee.append(copying: header, count: 9)
        unsafe output.pointee.append(copying: UnsafeRawBufferPointer(rebasing: stream.queue.unsafeBytes[0..<count]))
        stream.queue.consume(count)
        stream.sentBytes += count
        queuedBytes -= count
        dataFramesSent += 1
        pings.earn()
        if !stream.hasEnded, !stream.isDrained, stream.queue.count < Self.lowWaterBytes {
            stream.isDrained = true
            drainedStreams.append(stream)
        }
    }

    fileprivate func frameSent(_ frame: UnsafePointer<nghttp2_frame>) -> Int32 {
        let header = unsafe frame.pointee.hd
        if resetsAfterEnd > 0, UInt32(header.flags) & NGHTTP2_FLAG_END_STREAM.rawValue != 0, let stream = stream(header.stream_id),
            let code = stream.codeAfterEnd
        {
            reset(stream, code)
        }
        switch UInt32(header.type) {
        case NGHTTP2_RST_STREAM.rawValue:
            counters.resetsSent += 1
            if let stream = stream(header.stream_id), stream.resetByOwner { return 0 }
            if unsafe frame.pointee.rst_stream.error_code == HTTP2ErrorCode.refusedStream.rawValue {
                // Of a caller who does not know our limit yet. Until SETTINGS are acknowledged that is no mistake.
                counters.refusedStreams += 1
                return 0
            }
            counters.resetsProvoked += 1
            guard provokedResets.take(now) else {
                return fail(HTTP2Error(.provokedResetFlood, code: .enhanceYourCalm, limit: limits.provokedResets.burst))
            }
        case NGHTTP2_GOAWAY.rawValue:
            // An error of the connection that the library found; it tells nobody else.
            let code = unsafe HTTP2ErrorCode(rawValue: frame.pointee.goaway.error_code)
            guard code != .noError, failure == nil, !isShuttingDown else { break }
            unsafe failureText = Self.text(frame.pointee.goaway)
            // It says INTERNAL_ERROR for too many resets, and has no other use for that.
            let isFlood = code == .internalError && counters.resetsReceived >= limits.resets.burst
            failure =
                isFlood
                ? HTTP2Error(.resetFlood, code: code, limit: limits.resets.burst) : HTTP2Error(.protocolViolation, code: code)
        default:
            break
        }
        return 0
    }
}

// MARK: What the library calls

let readBody: nghttp2_data_source_read_callback = { _, _, _, length, flags, source, owner in
    unsafe Unmanaged<HTTP2Session>.fromOpaque(owner.unsafelyUnwrapped)._withUnsafeGuaranteedRef { session in
        // The session keeps the stream until the library has closed it.
        unsafe Unmanaged<HTTP2Stream>.fromOpaque(source.unsafelyUnwrapped.pointee.ptr)._withUnsafeGuaranteedRef { stream in
            unsafe session.bodyLength(stream, atMost: length, flags.unsafelyUnwrapped)
        }
    }
}

let sendData: nghttp2_send_data_callback = { _, _, header, length, source, owner in
    unsafe Unmanaged<HTTP2Session>.fromOpaque(owner.unsafelyUnwrapped)._withUnsafeGuaranteedRef { session in
        unsafe Unmanaged<HTTP2Stream>.fromOpaque(source.unsafelyUnwrapped.pointee.ptr)._withUnsafeGuaranteedRef { stream in
            unsafe session.writeBody(stream, header.unsafelyUnwrapped, length)
        }
    }
    return 0
}

let onFrameSent: nghttp2_on_frame_send_callback = { _, frame, owner in
    unsafe Unmanaged<HTTP2Session>.fromOpaque(owner.unsafelyUnwrapped)._withUnsafeGuaranteedRef { session in
        unsafe session.frameSent(frame.unsafelyUnwrapped)
    }
}
