import Base
import ProxyConfig

extension HTTP2Options: WireMessage {
    /// envoy.config.core.v3.Http2ProtocolOptions.
    enum Fields: Int, WireField {
        case max_concurrent_streams = 2
        case initial_stream_window_size = 3
        case initial_connection_window_size = 4
        case allow_connect = 5
        case custom_settings_parameters = 13
        case connection_keepalive = 15
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.wrapped(.max_concurrent_streams, maxConcurrentStreams)
        message.wrapped(.initial_stream_window_size, initialStreamWindow)
        message.wrapped(.initial_connection_window_size, initialConnectionWindow)
        message.bool(.allow_connect, allowsExtendedConnect)
        if let keepalive {
            message.message(.connection_keepalive, HTTP2KeepaliveField.self) {
                $0.duration(.interval, keepalive.interval)
                $0.duration(.timeout, keepalive.timeout)
            }
        }
    }

    /// Sizes that are not there are ours, not Envoy's (1024 streams, windows of 16 and 24 MiB): they bound our memory, not the sender's.
    /// What would make the peers' SETTINGS other than asked is refused; Envoy's own budgets against floods are ignored, ours hold.
    static func read(_ message: MessageReader<Fields>) -> HTTP2Options? {
        message.refuse(.custom_settings_parameters)
        let ours = HTTP2Options()
        let keepalive = message.message(.connection_keepalive, HTTP2KeepaliveField.self)
        let timeout = keepalive?.positiveDuration(.timeout)
        if let keepalive, !keepalive.has(.timeout) { keepalive.fail(.timeout, expected: "a duration above 0", found: "nothing") }
        // Without an interval Envoy sends a PING only before it uses an idle connection again, which we do not.
        let interval = keepalive?.positiveDuration(.interval)
        return HTTP2Options(
            maxConcurrentStreams: message.wrapped(.max_concurrent_streams, in: 1...UInt32(Int32.max)) ?? ours.maxConcurrentStreams,
            initialStreamWindow: message.wrapped(.initial_stream_window_size, in: 65535...UInt32(Int32.max)) ?? ours.initialStreamWindow,
            initialConnectionWindow: message.wrapped(.initial_connection_window_size, in: 65535...UInt32(Int32.max))
                ?? ours.initialConnectionWindow,
            allowsExtendedConnect: message.bool(.allow_connect),
            keepalive: interval.flatMap { interval in timeout.map { HTTP2Keepalive(interval: interval, timeout: $0) } })
    }
}

/// envoy.config.core.v3.KeepaliveSettings.
enum HTTP2KeepaliveField: Int, WireField {
    case interval = 1
    case timeout = 2
}
