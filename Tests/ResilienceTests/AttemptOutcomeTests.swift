import Base
import Resilience
import Testing

@Suite("What one attempt says about its endpoint")
struct AttemptOutcomeTests {
    @Test(
        "an outcome counts, resets the run, or says nothing",
        arguments: [
            (.ok, .resets),
            (.http5xx(status: 500), .counts),
            (.gateway(status: 503), .counts),
            (.grpcError(code: 14), .counts),
            (.grpcError(code: 5), .resets),
            (.connectFailure, .counts),
            (.connectTimeout, .counts),
            (.timeout, .counts),
            (.resetRemote, .counts),
            (.resetLocal, .counts),
            (.goawayUnprocessed, .neutral),
            (.overloadLocal, .neutral),
            (.clientCancel(slow: false), .neutral),
            (.clientCancel(slow: true), .counts),
        ] as [(AttemptOutcome, AttemptOutcome.Verdict)])
    func verdicts(outcome: AttemptOutcome, expected: AttemptOutcome.Verdict) {
        #expect(outcome.verdict() == expected)
    }

    @Test(
        "a complete response is classified by its status and its grpc-status",
        arguments: [
            (200, nil, .ok), (404, nil, .ok), (429, nil, .ok), (499, nil, .ok),
            (500, nil, .http5xx(status: 500)), (501, nil, .http5xx(status: 501)), (599, nil, .http5xx(status: 599)), (600, nil, .ok),
            (502, nil, .gateway(status: 502)), (503, nil, .gateway(status: 503)), (504, nil, .gateway(status: 504)),
            (200, 0, .ok), (503, 0, .gateway(status: 503)), (200, 13, .grpcError(code: 13)), (503, 8, .grpcError(code: 8)),
        ] as [(UInt16, UInt32?, AttemptOutcome)])
    func responses(status: UInt16, grpcStatus: UInt32?, expected: AttemptOutcome) {
        #expect(AttemptOutcome(status: status, grpcStatus: grpcStatus) == expected)
    }

    @Test(
        "the gRPC codes that count: Envoy's 5xx for App Mesh, fewer natively",
        arguments: [
            (.appMesh, [2, 4, 12, 13, 14, 15]),
            (.native, [4, 13, 14, 15]),
        ] as [(GRPCErrorSet, [UInt32])])
    func grpcCodes(set: GRPCErrorSet, expected: [UInt32]) {
        let counted = (UInt32(0)...40).filter { AttemptOutcome.grpcError(code: $0).verdict(grpcErrors: set) == .counts }
        #expect(counted == expected)
    }

    @Test("a caller that gives up counts only after longer than a slow call")
    func clientCancel() {
        #expect(AttemptOutcome.clientCancel(after: .seconds(5)) == .clientCancel(slow: false))
        #expect(AttemptOutcome.clientCancel(after: .milliseconds(5001)) == .clientCancel(slow: true))
    }
}
