internal import CNghttp2
internal import Glibc

/// What we need of libnghttp2, and how its sessions are made.
enum Library {
    /// One set of callbacks for all sessions: they know their session by its user data.
    private nonisolated(unsafe) static let callbacks: OpaquePointer = {
        var made: OpaquePointer?
        let result = unsafe nghttp2_session_callbacks_new(&made)
        guard result == 0, let callbacks = unsafe made else { fatalError("out of memory: nghttp2 callbacks") }
        unsafe nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, onBeginHeaders)
        unsafe nghttp2_session_callbacks_set_on_header_callback(callbacks, onHeader)
        unsafe nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, onInvalidHeader)
        unsafe nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, onBeginFrame)
        unsafe nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, onFrame)
        unsafe nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, onData)
        unsafe nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, onStreamClose)
        unsafe nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, onFrameSent)
        unsafe nghttp2_session_callbacks_set_send_data_callback(callbacks, sendData)
        // Frames of other types are none of ours; asked for only so that the library tells when one begins.
        unsafe nghttp2_session_callbacks_set_unpack_extension_callback(callbacks) { _, _, _, _ in NGHTTP2_ERR_CANCEL.rawValue }
        return unsafe callbacks
    }()

    /// Two limits came late, by security fixes that distributions carried back to versions of any number, so only asking tells.
    private static let needed: [(symbol: String, fix: String)] = [
        ("nghttp2_option_set_stream_reset_rate_limit", "CVE-2023-44487"), ("nghttp2_option_set_max_continuations", "CVE-2024-28182"),
    ]

    /// What the library that this process has loaded lacks, for people; nil if it will do.
    static func fault() -> String? {
        let missing = needed.filter { unsafe dlsym(nil, $0.symbol) == nil }
        guard !missing.isEmpty else { return nil }
        let version = unsafe nghttp2_version(0).map { unsafe String(cString: $0.pointee.version_str) } ?? "unknown"
        return """
            libnghttp2 \(version) lacks \(missing.map { "\($0.symbol) (the fix of \($0.fix))" }.joined(separator: " and ")), without which a \
            caller could exhaust the proxy; install 1.61 or later, or a distribution's version with these fixes (Debian 12: \
            libnghttp2-14 1.52.0-1+deb12u2 or later)
            """
    }

    /// - Parameter memory: lives longer than the session.
    static func makeSession(_ role: HTTP2Role, _ limits: HTTP2Limits, _ memory: LibraryMemory) -> OpaquePointer {
        var madeOptions: OpaquePointer?
        guard unsafe nghttp2_option_new(&madeOptions) == 0, let options = unsafe madeOptions else {
            fatalError("out of memory: nghttp2 options")
        }
        defer { unsafe nghttp2_option_del(options) }
        unsafe nghttp2_option_set_no_auto_window_update(options, 1)
        // A server may allow fewer than we would open before we know; 100 is what RFC 9113 section 6.5.2 says it should at least.
        unsafe nghttp2_option_set_peer_max_concurrent_streams(options, 100)
        unsafe nghttp2_option_set_no_closed_streams(options, 1)
        unsafe nghttp2_option_set_max_deflate_dynamic_table_size(options, limits.headerTableSize)
        unsafe nghttp2_option_set_max_continuations(options, limits.maxContinuations)
        unsafe nghttp2_option_set_stream_reset_rate_limit(options, UInt64(limits.resets.burst), UInt64(limits.resets.perSecond))
        unsafe nghttp2_option_set_max_send_header_block_length(options, 1 << 20)
        for type in UInt8(NGHTTP2_CONTINUATION.rawValue + 1)...255 { unsafe nghttp2_option_set_user_recv_extension_type(options, type) }

        var made: OpaquePointer?
        var functions = unsafe memory.functions
        let result =
            switch role {
            case .server: unsafe nghttp2_session_server_new3(&made, callbacks, nil, options, &functions)
            case .client: unsafe nghttp2_session_client_new3(&made, callbacks, nil, options, &functions)
            }
        guard result == 0, let session = unsafe made else { fatalError("out of memory: an nghttp2 session") }
        return unsafe session
    }
}
