public import Base

/// How one attempt on one endpoint ended: exactly one per attempt, decided at the end of the stream or at the first fatal event.
/// A retried request gives one for each endpoint that it tried.
public enum AttemptOutcome: Hashable, Sendable {
    /// A response below 500 (429 too) without a gRPC error; a TCP connection that opened.
    case ok
    /// A response of 500 through 599, other than the three of `gateway`.
    case http5xx(status: UInt16)
    /// A response of 502, 503 or 504.
    case gateway(status: UInt16)
    /// A grpc-status other than 0, in the head or in the trailers.
    case grpcError(code: UInt32)
    /// Refused, unreachable, or failed in the TLS handshake.
    case connectFailure
    case connectTimeout
    /// The answer did not come in time (per try, or the whole request).
    case timeout
    /// The endpoint closed or reset while it owed an answer.
    case resetRemote
    /// We closed or reset because the endpoint broke the protocol.
    case resetLocal
    /// REFUSED_STREAM, or above the last stream of a GOAWAY: not processed, so safe to try elsewhere, and no fault.
    case goawayUnprocessed
    /// Refused here, by a limit of ours: the endpoint never saw it.
    case overloadLocal
    /// Refused by the next hop because it is overloaded or its breaker is open, in its own words (`x-outrigger-overloaded`,
    /// `x-envoy-overloaded`): it says nothing about the endpoint that it did not ask, and repeating it would feed the overload.
    case overloadRemote
    /// The caller went away before the answer. `slow` when it had waited as long as a slow call takes: it gave up on the endpoint.
    case clientCancel(slow: Bool)

    /// A call that takes longer is slow. Chosen, not measured: below it people still wait.
    public static let slowCall = Nanoseconds.seconds(5)

    /// What a complete response says. Heads of 1xx are no responses: do not record them.
    public init(status: UInt16, grpcStatus: UInt32? = nil) {
        switch (grpcStatus, status) {
        case (.some(let code), _) where code != 0: self = .grpcError(code: code)
        case (_, 502...504): self = .gateway(status: status)
        case (_, 500...599): self = .http5xx(status: status)
        default: self = .ok
        }
    }

    /// A caller that went away after it had waited for `waited`.
    public static func clientCancel(after waited: Nanoseconds) -> AttemptOutcome {
        .clientCancel(slow: waited > slowCall)
    }
}

extension AttemptOutcome {
    /// What an outcome does to the endpoint's run of errors.
    public enum Verdict: Hashable, Sendable {
        case counts
        case resets
        /// Says nothing about the endpoint.
        case neutral
    }

    /// The one table of what counts.
    public func verdict(grpcErrors: GRPCErrorSet = .appMesh) -> Verdict {
        switch self {
        case .ok: .resets
        case .http5xx, .gateway: .counts
        case .grpcError(let code): grpcErrors.contains(code) ? .counts : .resets
        case .connectFailure, .connectTimeout, .timeout, .resetRemote, .resetLocal: .counts
        case .goawayUnprocessed, .overloadLocal, .overloadRemote: .neutral
        case .clientCancel(let slow): slow ? .counts : .neutral
        }
    }
}

extension AttemptOutcome {
    /// RESOURCE_EXHAUSTED: counts in rates and fails a probe, but makes no run, for a limit that was met says nothing about the next call.
    var isOverload: Bool { self == .grpcError(code: 8) }
}

/// The gRPC codes that are an endpoint's fault.
public struct GRPCErrorSet: Hashable, Sendable {
    private var bits: UInt32

    public init(_ codes: some Sequence<UInt32>) {
        bits = codes.reduce(0) { $1 < 32 ? $0 | 1 << $1 : $0 }
    }

    public func contains(_ code: UInt32) -> Bool {
        code < 32 && bits & (1 << code) != 0
    }

    /// The codes that Envoy maps to 5xx: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
    public static let appMesh = GRPCErrorSet([2, 4, 12, 13, 14, 15])
    /// Without those an application sends on purpose: DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
    public static let native = GRPCErrorSet([4, 13, 14, 15])
}
