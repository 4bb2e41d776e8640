import Base
import HTTP
import HTTP1
import HTTP2
import Reactor
import Resilience
import Telemetry
import Transport

/// Why an attempt came to nothing, and what each reason means to everyone who is told: the endpoint's health, the log, the caller.
enum UpstreamFailure {
    case connect(SystemError)
    case connectTimeout
    /// The TLS handshake failed: the endpoint is not who it should be, or speaks no TLS.
    case tls(TLSError)
    /// The endpoint closed or reset the connection while it owed an answer. `beforeAnyByte`: nothing of an answer had come.
    case closed(SystemError?, beforeAnyByte: Bool)
    /// A record that could not be opened, or an alert.
    case tlsBroken(TLSError, beforeAnyByte: Bool)
    case malformed(HTTP1Error)
    /// The HTTP/2 connection is over because the endpoint broke the protocol.
    case protocolError(HTTP2Error)
    /// RST_STREAM.
    case reset(HTTP2ErrorCode)
    /// REFUSED_STREAM, or above the last stream of a GOAWAY: the endpoint has not looked at it.
    case unprocessed(HTTP2ErrorCode)
    /// An upgrade towards an HTTP/2 endpoint that does not offer extended CONNECT (RFC 8441).
    case noExtendedConnect

    init(_ failure: OpenFailure) {
        switch failure {
        case .system(let error): self = .connect(error)
        case .tls(let error): self = .tls(error)
        }
    }

    /// What it says about the endpoint.
    var outcome: AttemptOutcome {
        switch self {
        // Without a descriptor for it the endpoint was never asked: no fault of its own.
        case .connect(let error): error.isExhaustion ? .overloadLocal : .connectFailure
        case .tls: .connectFailure
        case .connectTimeout: .connectTimeout
        case .closed, .reset: .resetRemote
        case .tlsBroken, .malformed, .protocolError: .resetLocal
        case .unprocessed: .goawayUnprocessed
        case .noExtendedConnect: .overloadLocal
        }
    }

    var flag: ResponseFlags {
        switch self {
        case .connect, .connectTimeout, .tls: .upstreamConnectionFailure
        case .closed, .tlsBroken: .upstreamConnectionTermination
        case .reset, .unprocessed: .upstreamRemoteReset
        case .malformed, .protocolError, .noExtendedConnect: .upstreamProtocolError
        }
    }

    /// The endpoint broke off (upstream_rq_rx_reset).
    var isReset: Bool {
        switch self {
        case .closed, .reset, .unprocessed: true
        default: false
        }
    }

    /// Of a caller who has seen nothing yet.
    var status: Int {
        switch self {
        case .malformed, .protocolError: 502
        default: 503
        }
    }

    /// Envoy's words, which people search for.
    var details: StaticString {
        switch self {
        case .connect, .tls: "upstream_reset_before_response_started{connection_failure}"
        case .connectTimeout: "upstream_reset_before_response_started{connection_timeout}"
        case .closed, .tlsBroken: "upstream_reset_before_response_started{connection_termination}"
        case .malformed(let error): error.details
        case .protocolError: "upstream_reset_before_response_started{protocol_error}"
        case .reset: "upstream_reset_before_response_started{remote_reset}"
        case .unprocessed: "upstream_reset_before_response_started{remote_refused_stream_reset}"
        case .noExtendedConnect: "upstream_has_no_extended_connect"
        }
    }

    var detailsAfterResponse: StaticString {
        switch self {
        case .malformed, .protocolError: "upstream_reset_after_response_started{protocol_error}"
        case .reset, .unprocessed: "upstream_reset_after_response_started{remote_reset}"
        default: "upstream_reset_after_response_started{connection_termination}"
        }
    }

    /// The access log's UPSTREAM_TRANSPORT_FAILURE_REASON.
    var transportReason: LogText {
        switch self {
        case .tls(let error), .tlsBroken(let error, _): .bytes(Array("TLS_error: \(error)".utf8))
        case .connect(let error): .bytes(Array("\(error)".utf8))
        default: .none
        }
    }

    /// For the caller.
    func text(host: SocketAddress?) -> String {
        let place = host.map { "\($0)" } ?? "-"
        return switch self {
        case .connect(let error): "upstream connect error: \(place): \(error)"
        case .connectTimeout: "upstream connect timeout: \(place)"
        case .tls(let error): "upstream TLS error: \(place): \(error)"
        case .closed(let error, _): "upstream closed the connection before its response\(error.map { ": \($0)" } ?? "")"
        case .tlsBroken(let error, _): "upstream broke TLS before its response: \(error)"
        case .malformed(let error): "upstream sent a malformed response: \(error.details)"
        case .protocolError(let error): "upstream broke HTTP/2: \(error.message)"
        case .reset(let code): "upstream reset the stream: \(code.name)"
        case .unprocessed(let code): "upstream refused the stream: \(code.name)"
        case .noExtendedConnect: "upstream \(place) speaks HTTP/2 without extended CONNECT, which an upgrade needs"
        }
    }
}

extension TLSError {
    /// A certificate was refused or is missing: trust, not transport.
    var isVerification: Bool {
        switch self {
        case .certificateRefused, .noCertificate: true
        default: false
        }
    }
}
