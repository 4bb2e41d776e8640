/// An endpoint's run of errors and its last outcomes in one 64-bit word, so that one compare-and-swap changes both.
///
/// Bits 0 through 39 hold the last eight outcomes, five bits each, the latest lowest; bits 40 through 63 the run, which stops
/// counting at 16,777,215: a threshold more than one above is never reached.
struct OutcomeHistory: Hashable {
    static let capacity = 8
    static let longestRun: UInt32 = (1 << 24) - 1
    /// Eight successes and no run: one more success changes nothing, so it needs no write. Written out, for what is computed at the first
    /// use costs a question at each.
    static var quietWord: UInt64 { 0b00001_00001_00001_00001_00001_00001_00001_00001 }

    var word: UInt64

    init(word: UInt64 = 0) {
        self.word = word
    }

    var run: UInt32 { UInt32(truncatingIfNeeded: word >> 40) }

    func adding(_ outcome: Outcome, run: UInt32) -> OutcomeHistory {
        let outcomes = (word << 5 | UInt64(outcome.rawValue)) & ((1 << 40) - 1)
        return OutcomeHistory(word: UInt64(min(run, Self.longestRun)) << 40 | outcomes)
    }

    var withoutRun: OutcomeHistory { OutcomeHistory(word: word & ((1 << 40) - 1)) }

    /// Oldest first; fewer than eight at the start of a life.
    var outcomes: [Outcome] {
        (0..<Self.capacity).reversed().compactMap { Outcome(rawValue: UInt8(truncatingIfNeeded: word >> (5 * UInt64($0)) & 31)) }
    }
}

extension OutcomeHistory {
    /// An `AttemptOutcome` in five bits, and its name in events. 0 stands for "none yet".
    enum Outcome: UInt8, CaseIterable {
        case ok = 1
        case http500, http501, http502, http503, http504, http5xx
        case grpcUnknown, grpcDeadlineExceeded, grpcUnimplemented, grpcInternal, grpcUnavailable, grpcDataLoss, grpcOther
        case connectFailure, connectTimeout, timeout, resetRemote, resetLocal, clientCancelSlow

        /// Nil for outcomes that say nothing about the endpoint.
        init?(_ outcome: AttemptOutcome) {
            switch outcome {
            case .ok: self = .ok
            case .http5xx(500): self = .http500
            case .http5xx(501): self = .http501
            case .http5xx: self = .http5xx
            case .gateway(502): self = .http502
            case .gateway(503): self = .http503
            case .gateway: self = .http504
            case .grpcError(2): self = .grpcUnknown
            case .grpcError(4): self = .grpcDeadlineExceeded
            case .grpcError(12): self = .grpcUnimplemented
            case .grpcError(13): self = .grpcInternal
            case .grpcError(14): self = .grpcUnavailable
            case .grpcError(15): self = .grpcDataLoss
            case .grpcError: self = .grpcOther
            case .connectFailure: self = .connectFailure
            case .connectTimeout: self = .connectTimeout
            case .timeout: self = .timeout
            case .resetRemote: self = .resetRemote
            case .resetLocal: self = .resetLocal
            case .clientCancel(slow: true): self = .clientCancelSlow
            case .goawayUnprocessed, .overloadLocal, .overloadRemote, .clientCancel(slow: false): return nil
            }
        }

        var name: String {
            switch self {
            case .ok: "ok"
            case .http500: "500"
            case .http501: "501"
            case .http502: "502"
            case .http503: "503"
            case .http504: "504"
            case .http5xx: "5xx"
            case .grpcUnknown: "grpc_unknown"
            case .grpcDeadlineExceeded: "grpc_deadline_exceeded"
            case .grpcUnimplemented: "grpc_unimplemented"
            case .grpcInternal: "grpc_internal"
            case .grpcUnavailable: "grpc_unavailable"
            case .grpcDataLoss: "grpc_data_loss"
            case .grpcOther: "grpc_other"
            case .connectFailure: "connect_failure"
            case .connectTimeout: "connect_timeout"
            case .timeout: "timeout"
            case .resetRemote: "reset_remote"
            case .resetLocal: "reset_local"
            case .clientCancelSlow: "client_cancel_slow"
            }
        }
    }
}
