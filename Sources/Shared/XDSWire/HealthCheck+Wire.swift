import Base
import ProxyConfig

extension HealthCheck: WireMessage {
    /// envoy.config.core.v3.HealthCheck.
    enum Fields: Int, WireField {
        case timeout = 1
        case interval = 2
        case unhealthy_threshold = 4
        case healthy_threshold = 5
        case alt_port = 6
        case http_health_check = 8
        case tcp_health_check = 9
        case grpc_health_check = 11
        case custom_health_check = 13
        case tls_options = 21
        case transport_socket_match_criteria = 23
        case name = 27
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.duration(.timeout, timeout)
        message.duration(.interval, interval)
        message.wrapped(.unhealthy_threshold, unhealthyThreshold)
        message.wrapped(.healthy_threshold, healthyThreshold)
        if let port { message.wrapped(.alt_port, port) }
        switch kind {
        case .http(let host, let path), .http2(let host, let path):
            message.message(.http_health_check, HTTPHealthCheckField.self) {
                $0.string(.host, host)
                $0.string(.path, path)
                if case .http2 = kind { $0.number(.codec_client_type, 1) }
            }
        case .grpc: message.emptyMessage(.grpc_health_check)
        case .tcp: message.emptyMessage(.tcp_health_check)
        }
    }

    static func read(_ message: MessageReader<Fields>) -> HealthCheck? {
        message.refuse(.custom_health_check, .tls_options, .transport_socket_match_criteria)
        for field in [Fields.timeout, .interval, .unhealthy_threshold, .healthy_threshold] where !message.has(field) {
            message.fail(field, expected: "a value", found: "nothing")
        }
        guard
            let kind = message.kind(),
            let timeout = message.positiveDuration(.timeout),
            let interval = message.positiveDuration(.interval),
            let unhealthy = message.wrapped(.unhealthy_threshold, in: 1...UInt32.max),
            let healthy = message.wrapped(.healthy_threshold, in: 1...UInt32.max)
        else { return nil }
        return HealthCheck(
            kind: kind, interval: interval, timeout: timeout, healthyThreshold: healthy, unhealthyThreshold: unhealthy,
            port: message.wrapped(.alt_port, in: 1...65535).map { Port($0) })
    }
}

extension MessageReader<HealthCheck.Fields> {
    fileprivate func kind() -> HealthCheck.Kind? {
        switch chosen(.http_health_check, .tcp_health_check, .grpc_health_check, .custom_health_check) {
        case .http_health_check:
            guard let http = message(.http_health_check, HTTPHealthCheckField.self) else { return nil }
            http.refuse(.send, .receive, .request_headers_to_add, .request_headers_to_remove, .expected_statuses, .service_name_matcher)
            if http.number(.method) > 1 { http.fail(.method, expected: "GET (1)", found: http.number(.method)) }
            let (host, path) = (http.string(.host), http.requiredString(.path))
            switch http.number(.codec_client_type) {
            case 0: return .http(host: host, path: path)
            case 1: return .http2(host: host, path: path)
            case let other:
                http.fail(.codec_client_type, expected: "HTTP1 (0) or HTTP2 (1)", found: other)
                return nil
            }
        case .tcp_health_check:
            message(.tcp_health_check, TCPHealthCheckField.self)?.refuse(.send, .receive, .proxy_protocol_config)
            return .tcp
        case .grpc_health_check:
            message(.grpc_health_check, GRPCHealthCheckField.self)?.refuse(.service_name, .authority, .initial_metadata)
            return .grpc
        case nil:
            fail(.http_health_check, expected: "http_health_check, tcp_health_check or grpc_health_check", found: "none of them")
            return nil
        default: return nil  // Refused.
        }
    }
}

/// envoy.config.core.v3.HealthCheck.HttpHealthCheck.
enum HTTPHealthCheckField: Int, WireField {
    case host = 1
    case path = 2
    case send = 3
    case receive = 4
    case request_headers_to_add = 6
    case request_headers_to_remove = 8
    case expected_statuses = 9
    case codec_client_type = 10
    case service_name_matcher = 11
    case method = 13
}

/// envoy.config.core.v3.HealthCheck.TcpHealthCheck.
enum TCPHealthCheckField: Int, WireField {
    case send = 1
    case receive = 2
    case proxy_protocol_config = 3
}

/// envoy.config.core.v3.HealthCheck.GrpcHealthCheck.
enum GRPCHealthCheckField: Int, WireField {
    case service_name = 1
    case authority = 2
    case initial_metadata = 3
}
