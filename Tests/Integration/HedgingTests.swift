import Base
import Glibc
import ProxyConfig
import Synchronization
import TestSupport
import Testing

/// Attempts beside the first: the one that answers first is the request's.
@Suite(.serialized) struct HedgingTests {
    private func withHedging(
        _ pairing: Pairing = Pairing(downstream: .http1, upstream: .http1), to ports: [UInt16], after delay: Duration = .milliseconds(100),
        retries: RetryPolicy? = nil, _ body: (Proxy) throws -> Void
    ) throws {
        try pairing.withProxy(
            to: ports, workers: 1,
            action: {
                $0.hedging = Hedging(delay: delay)
                $0.retryPolicy = retries
            }, body)
    }

    /// An origin that answers each request as `reply` says, after `delay`.
    private func origin(_ wire: Wire, after delay: UInt32, _ reply: @escaping @Sendable (Told) -> Reply) throws -> (Origin, Counter) {
        let hits = Counter()
        let origin = try Origin.speaking(wire) { request in
            hits.add()
            usleep(delay)
            return reply(request)
        }
        return (origin, hits)
    }

    @Test("a slow endpoint costs the delay, not its time; the body comes with the second attempt, too", arguments: Pairing.all)
    func slow(pairing: Pairing) throws {
        let (slow, _) = try origin(pairing.upstream, after: 3_000_000) { _ in Reply("slow") }
        let (fast, _) = try origin(pairing.upstream, after: 0) { Reply("fast \($0.body.count)") }
        try withHedging(pairing, to: [slow.port, fast.port]) { (proxy) throws in
            // No more than the budget has room for at once.
            for size in [0, 3000, 60_000] {
                let answer = try Caller(pairing.downstream, to: proxy.port).exchange(
                    Ask(method: "PUT", path: "/", body: Array(repeating: 120, count: size)))
                #expect(answer.status == 200 && answer.bodyText == "fast \(size)", "\(answer.status) \(answer.bodyText)")
            }
            let hedged = try proxy.stat("envoy_cluster_upstream_rq_hedged{envoy_cluster_name=\"origin\"}")
            #expect(hedged >= 1 && hedged <= 3, "\(hedged)")
            #expect(try proxy.stat("envoy_cluster_upstream_rq_active{envoy_cluster_name=\"origin\"}") == 0)
        }
    }

    @Test("an attempt that answers within the delay has none beside it; what must not be done twice never has")
    func none() throws {
        let (one, oneHits) = try origin(.http1, after: 0) { _ in Reply("one") }
        let (two, twoHits) = try origin(.http1, after: 0) { _ in Reply("two") }
        try withHedging(to: [one.port, two.port], after: .seconds(5)) { (proxy) throws in
            let caller = try Caller(.http1, to: proxy.port)
            for _ in 0..<10 { #expect(try caller.exchange(Ask()).status == 200) }
        }
        #expect(oneHits.value + twoHits.value == 10)
        let (slow, hits) = try origin(.http1, after: 400_000) { _ in Reply("slow") }
        try withHedging(to: [slow.port, slow.port], after: .milliseconds(50)) { (proxy) throws in
            let answer = try Caller(.http1, to: proxy.port).exchange(Ask(method: "POST", body: [120]))
            #expect(answer.bodyText == "slow")
        }
        #expect(hits.value == 1)
    }

    @Test("a bad answer beside a slow one is not the request's; with none left it is told so")
    func badBeside() throws {
        let (slow, _) = try origin(.http1, after: 800_000) { _ in Reply("slow") }
        let (bad, badHits) = try origin(.http1, after: 0) { _ in Reply(status: 503) }
        let policy = RetryPolicy(retryOn: ["5xx"], maxRetries: 0, perTryTimeout: .seconds(60))
        try withHedging(to: [slow.port, bad.port], retries: policy) { (proxy) throws in
            let answers = try (0..<2).map { _ in try Caller(.http1, to: proxy.port).exchange(Ask()) }
            // Who begins at the bad one gets its answer, for nothing is tried again; who begins at the slow one waits for it.
            #expect(answers.contains { $0.bodyText == "slow" })
            #expect(answers.allSatisfy { $0.status == 503 || $0.bodyText == "slow" }, "\(answers.map(\.status))")
        }
        #expect(badHits.value == 2)
    }

    @Test("callers that leave while two attempts are under way leave nothing behind")
    func left() throws {
        let (one, two) = (try Origin(records: false) { $0.stall() }, try Origin(records: false) { $0.stall() })
        try withHedging(to: [one.port, two.port], after: .milliseconds(50)) { (proxy) throws in
            for _ in 0..<3 {
                let caller = try proxy.connect()
                try caller.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                try eventually("two are under way") {
                    try proxy.stat("envoy_cluster_upstream_rq_active{envoy_cluster_name=\"origin\"}") == 2
                }
                caller.reset()
                try eventually("none is") { try proxy.stat("envoy_cluster_upstream_rq_active{envoy_cluster_name=\"origin\"}") == 0 }
            }
        }
    }

    @Test("a long answer of a hedge arrives whole at a caller who reads slowly")
    func longAnswer() throws {
        let body = Pattern.bytes(3_000_000)
        let (slow, _) = try origin(.http1, after: 5_000_000) { _ in Reply("slow") }
        let (fast, _) = try origin(.http1, after: 0) { _ in Reply(body: body) }
        try withHedging(to: [slow.port, fast.port]) { (proxy) throws in
            for _ in 0..<2 {
                let caller = try proxy.connect(receiveBuffer: 8192)
                try caller.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                usleep(500_000)
                let answer = try caller.readResponse()
                #expect(answer.status == 200 && answer.body == body)
            }
        }
    }
}
