import Base
import Glibc
import ProxyConfig
import Synchronization
import TestSupport
import Testing

/// Attempts that fail and are made again: which, where, how often, and what callers and endpoints see of it.
@Suite(.serialized) struct RetryTests {
    private static let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    private static let bad = "HTTP/1.1 503 X\r\nContent-Length: 3\r\n\r\nbad"

    private static func policy(
        _ words: [String] = ["5xx", "connect-failure", "reset", "refused-stream"], retries: Int = 2, perTry: Duration? = nil,
        onlyIdempotent: Bool = false
    ) -> RetryPolicy {
        RetryPolicy(retryOn: words, maxRetries: retries, perTryTimeout: perTry, onlyIdempotent: onlyIdempotent)
    }

    /// An origin that answers each request with what `answer` says of its number, from 0 on.
    private static func origin(_ answer: @escaping @Sendable (Int) -> String) throws -> (Origin, Counter) {
        let hits = Counter()
        let origin = try Origin.http { _ in
            hits.add()
            return Array(answer(hits.value - 1).utf8)
        }
        return (origin, hits)
    }

    private func withRetries(
        to ports: [UInt16], _ policy: RetryPolicy?, workers: Int = 1, cluster: @escaping (inout Cluster) -> Void = { _ in },
        _ body: (Proxy) throws -> Void
    ) throws {
        try withProxy(
            {
                Config.http(
                    listen: $0, to: ports, admin: $1, process: { $0.workers = workers }, action: { $0.retryPolicy = policy },
                    cluster: cluster)
            }, body)
    }

    @Test("a 503 is tried again on another endpoint, and the caller sees none of it")
    func anotherEndpoint() throws {
        let (good, goodHits) = try Self.origin { _ in ok("good") }
        let (bad, badHits) = try Self.origin { _ in Self.bad }
        try withRetries(to: [bad.port, good.port], Self.policy()) { (proxy) throws in
            let caller = try proxy.connect()
            // Few, for the budget allows no more at once.
            for _ in 0..<3 {
                let answer = try caller.exchange(Self.get)
                #expect(answer.status == 200 && answer.bodyText == "good")
            }
            #expect(badHits.value >= 1 && goodHits.value == 3)
            #expect(try proxy.stat("envoy_cluster_upstream_rq_retry{envoy_cluster_name=\"origin\"}") == badHits.value)
            #expect(try proxy.stat("envoy_cluster_upstream_rq_retry_success{envoy_cluster_name=\"origin\"}") == badHits.value)
        }
        // The connection whose answer nobody wanted serves the next request.
        #expect(bad.connections.count == 1)
    }

    @Test("what the policy does not name is not tried again")
    func notNamed() throws {
        let (origin, hits) = try Self.origin { _ in Self.bad }
        try withRetries(to: [origin.port], Self.policy(["connect-failure"])) { (proxy) throws in
            #expect(try proxy.exchange(Self.get).status == 503)
        }
        #expect(hits.value == 1)
    }

    @Test("the last answer of all goes to the caller, with the flag URX")
    func limit() throws {
        let (origin, hits) = try Self.origin { "HTTP/1.1 503 X\r\nContent-Length: 1\r\n\r\n\($0)" }
        try withRetries(to: [origin.port], Self.policy(retries: 2)) { (proxy) throws in
            let answer = try proxy.exchange(Self.get)
            #expect(answer.status == 503 && answer.bodyText == "2")
            #expect(try proxy.stat("envoy_cluster_upstream_rq_retry_limit_exceeded{envoy_cluster_name=\"origin\"}") == 1)
        }
        #expect(hits.value == 3)
    }

    @Test("a body goes out again, whole, with each attempt", arguments: [1, 1000, 65_536])
    func body(size: Int) throws {
        let bodies = Mutex<[String]>([])
        let origin = try Origin.http { request in
            let count = bodies.withLock { bodies in
                bodies.append(request.bodyText)
                return bodies.count
            }
            return Array((count == 1 ? Self.bad : ok("fine")).utf8)
        }
        let text = String((0..<size).map { _ in "abcdefghij".randomElement()! })
        try withRetries(to: [origin.port], Self.policy()) { (proxy) throws in
            let answer = try proxy.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \(size)\r\n\r\n\(text)")
            #expect(answer.status == 200 && answer.bodyText == "fine")
        }
        #expect(bodies.withLock { $0 } == [text, text])
    }

    @Test("a body of more than 64 KiB is sent once: its failure is the caller's")
    func longBody() throws {
        let (origin, hits) = try Self.origin { _ in Self.bad }
        let text = String(repeating: "x", count: 200_000)
        try withRetries(to: [origin.port], Self.policy()) { (proxy) throws in
            #expect(try proxy.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \(text.count)\r\n\r\n\(text)").status == 503)
        }
        #expect(hits.value == 1)
    }

    @Test("where only what may be done twice is tried again, a POST is not, but for a connection that nobody took")
    func onlyIdempotent() throws {
        let (origin, hits) = try Self.origin { _ in Self.bad }
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
        try withRetries(to: [origin.port], Self.policy(onlyIdempotent: true)) { (proxy) throws in
            #expect(try proxy.exchange(post).status == 503)
            #expect(hits.value == 1)
            #expect(try proxy.exchange(Self.get).status == 503)
            #expect(hits.value == 4)
        }
        let (good, _) = try Self.origin { _ in ok() }
        try withRetries(to: [try Ports.free(), good.port], Self.policy(onlyIdempotent: true)) { (proxy) throws in
            for _ in 0..<6 { #expect(try proxy.exchange(post).status == 200) }
        }
    }

    @Test("an endpoint that nobody can connect to fails no call where another is")
    func connectFailure() throws {
        let (good, _) = try Self.origin { _ in ok() }
        try withRetries(to: [try Ports.free(), good.port], Self.policy(["connect-failure"])) { (proxy) throws in
            for _ in 0..<20 { #expect(try proxy.exchange(Self.get).status == 200) }
        }
    }

    @Test("a connection reset instead of an answer is tried again")
    func reset() throws {
        let dying = try Origin { connection in
            _ = try connection.readRequest(within: .seconds(10))
            connection.reset()
        }
        let (good, _) = try Self.origin { _ in ok() }
        try withRetries(to: [dying.port, good.port], Self.policy(["reset"])) { (proxy) throws in
            for _ in 0..<3 { #expect(try proxy.exchange(Self.get).status == 200) }
        }
    }

    @Test("an answer that says it is overloaded is never tried again")
    func overloaded() throws {
        let (origin, hits) = try Self.origin { _ in "HTTP/1.1 503 X\r\nx-envoy-overloaded: true\r\nContent-Length: 0\r\n\r\n" }
        try withRetries(to: [origin.port], Self.policy()) { (proxy) throws in
            #expect(try proxy.exchange(Self.get).status == 503)
        }
        #expect(hits.value == 1)
    }

    @Test("Retry-After beyond the request's time ends the tries")
    func retryAfter() throws {
        let (origin, hits) = try Self.origin { _ in "HTTP/1.1 503 X\r\nRetry-After: 100000\r\nContent-Length: 0\r\n\r\n" }
        try withRetries(to: [origin.port], Self.policy()) { (proxy) throws in
            #expect(try proxy.exchange(Self.get).status == 503)
        }
        #expect(hits.value == 1)
    }

    @Test("an endpoint that does not answer costs its time, not the request's")
    func perTryTimeout() throws {
        let silent = try Origin { connection in connection.stall() }
        let (good, _) = try Self.origin { _ in ok("good") }
        try withRetries(to: [silent.port, good.port], Self.policy(perTry: .milliseconds(200))) { (proxy) throws in
            for _ in 0..<3 {
                let answer = try proxy.exchange(Self.get)
                #expect(answer.status == 200 && answer.bodyText == "good")
            }
            #expect(try proxy.stat("envoy_cluster_upstream_rq_per_try_timeout{envoy_cluster_name=\"origin\"}") >= 1)
        }
    }

    @Test("the per-try timeout yields where every endpoint is slow: another attempt would be as slow")
    func perTryYields() throws {
        let hits = Counter()
        let origin = try Origin { connection in
            while try connection.readRequest(within: .seconds(10)) != nil {
                hits.add()
                usleep(600_000)
                try connection.send(ok("late"))
            }
        }
        try withRetries(to: [origin.port], Self.policy(perTry: .milliseconds(200))) { (proxy) throws in
            let answer = try proxy.exchange(Self.get)
            #expect(answer.status == 200 && answer.bodyText == "late")
            #expect(try proxy.stat("envoy_cluster_upstream_rq_per_try_timeout_yielded{envoy_cluster_name=\"origin\"}") == 1)
        }
        #expect(hits.value == 1)
    }

    @Test("the budget bounds retries: of a thousand calls to a dead service few are made again")
    func budget() throws {
        let (origin, hits) = try Self.origin { _ in Self.bad }
        try withRetries(to: [origin.port], Self.policy(retries: 5)) { (proxy) throws in
            let caller = try proxy.connect()
            for _ in 0..<1000 { #expect(try caller.exchange(Self.get).status == 503) }
            #expect(try proxy.stat("envoy_cluster_upstream_rq_retry_overflow{envoy_cluster_name=\"origin\"}") > 500)
        }
        #expect(hits.value < 1000 + 1000 / 4 + 20, "\(hits.value) attempts for 1000 calls")
    }

    @Test("each attempt counts for ejection: a bad endpoint is out after its run, and no call failed")
    func ejection() throws {
        let (good, _) = try Self.origin { _ in ok() }
        let (bad, hits) = try Self.origin { _ in Self.bad }
        try withRetries(
            to: [bad.port, good.port], Self.policy(),
            cluster: {
                $0.outlierDetection = OutlierDetection(
                    consecutive5xx: 3, interval: .seconds(600), baseEjectionTime: .seconds(600), maxEjectionTime: .seconds(600),
                    maxEjectionPercent: 100)
            }
        ) { (proxy) throws in
            let caller = try proxy.connect()
            for _ in 0..<100 { #expect(try caller.exchange(Self.get).status == 200) }
        }
        #expect(hits.value == 3)
    }

    @Test("the next hop learns how long it may take, and what the hop before says shortens it")
    func deadlines() throws {
        let heads = Mutex<[String]>([])
        let origin = try Origin.http { request in
            heads.withLock { $0.append(request.value("x-envoy-expected-rq-timeout-ms") ?? "none") }
            return Array(ok().utf8)
        }
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1, action: { $0.timeout = .seconds(60) }) }) { (proxy) throws in
            _ = try proxy.exchange(Self.get)
            _ = try proxy.exchange("GET / HTTP/1.1\r\nHost: a\r\nx-envoy-expected-rq-timeout-ms: 5000\r\n\r\n")
        }
        let seen = heads.withLock { $0.map { Int($0) ?? -1 } }
        #expect(seen.count == 2 && seen[0] == 60_000 && (1...5000).contains(seen[1]), "\(seen)")
    }

    @Test("a caller's short deadline ends the request here")
    func shortDeadline() throws {
        let silent = try Origin { connection in connection.stall() }
        try withProxy(to: silent) { (proxy) throws in
            #expect(try proxy.exchange("GET / HTTP/1.1\r\nHost: a\r\nx-envoy-expected-rq-timeout-ms: 100\r\n\r\n").status == 504)
        }
    }

    // MARK: Both protocols

    @Test(
        "any pairing of protocols tries again with the whole body, with and without a body in the bad answer", arguments: Pairing.all,
        [0, 3])
    func pairings(pairing: Pairing, badBody: Int) throws {
        let bodies = Mutex<[Int]>([])
        let count = Counter()
        let origin = try Origin.speaking(pairing.upstream) { request in
            bodies.withLock { $0.append(request.body.count) }
            count.add()
            return count.value % 3 == 1
                ? Reply(status: 503, body: Array(repeating: 98, count: badBody)) : Reply("fine \(request.body.count)")
        }
        try pairing.withProxy(to: [origin.port], workers: 1, action: { $0.retryPolicy = Self.policy() }) { (proxy) throws in
            let caller = try Caller(pairing.downstream, to: proxy.port)
            // Each third attempt fails: with the second one of a request another one begins well.
            for size in [0, 5000, 60_000] {
                let answer = try caller.exchange(Ask(method: "PUT", path: "/", body: Array(repeating: 120, count: size)))
                #expect(answer.status == 200 && answer.bodyText == "fine \(size)", "\(size): \(answer.status) \(answer.bodyText)")
            }
        }
        #expect(bodies.withLock { $0 } == [0, 0, 5000, 60_000, 60_000])
        // The answer that nobody wanted costs no connection.
        #expect(origin.connections.count == 1)
    }

    @Test("gRPC: UNAVAILABLE without a message is tried again, a pushback obeyed, another code is the caller's")
    func grpc() throws {
        let hits = Mutex<[String: Int]>([:])
        let origin = try Origin.http2 { request in
            let number = hits.withLock { hits in
                hits[request.path, default: 0] += 1
                return hits[request.path] ?? 0
            }
            func refusal(_ code: Int, _ fields: [HTTP2Field] = []) -> HTTP2Answer {
                HTTP2Answer(fields: [("content-type", "application/grpc"), ("grpc-status", "\(code)")] + fields, body: [])
            }
            switch request.path {
            case "/a.B/Once" where number == 1: return refusal(14)
            case "/a.B/Never": return refusal(14, [("grpc-retry-pushback-ms", "-1")])
            case "/a.B/Denied": return refusal(7)
            default:
                return HTTP2Answer(
                    fields: [("content-type", "application/grpc")], body: [0, 0, 0, 0, 0], trailers: [("grpc-status", "0")])
            }
        }
        let pairing = Pairing(downstream: .http2, upstream: .http2)
        try pairing.withProxy(to: [origin.port], workers: 1, action: { $0.retryPolicy = Self.policy(["unavailable"]) }) { (proxy) throws in
            let caller = try Caller(.http2, to: proxy.port)
            func call(_ path: String) throws -> String? {
                let answer = try caller.exchange(
                    Ask(
                        method: "POST", path: path, fields: [("content-type", "application/grpc"), ("te", "trailers")],
                        body: [0, 0, 0, 0, 0]))
                return answer.trailer("grpc-status") ?? answer.value("grpc-status")
            }
            #expect(try call("/a.B/Once") == "0")
            #expect(try call("/a.B/Never") == "14")
            #expect(try call("/a.B/Denied") == "7")
        }
        #expect(hits.withLock { $0 } == ["/a.B/Once": 2, "/a.B/Never": 1, "/a.B/Denied": 1])
    }

    @Test("many calls at once on one HTTP/2 connection, of which some are tried again, all end well", arguments: Wire.allCases)
    func crowd(upstream: Wire) throws {
        let count = Counter()
        let origin = try Origin.speaking(upstream) { request in
            count.add()
            return count.value % 10 == 0 ? Reply(status: 503, body: Array("bad".utf8)) : Reply("fine \(request.path)")
        }
        let pairing = Pairing(downstream: .http2, upstream: upstream)
        try pairing.withProxy(to: [origin.port], workers: 1, action: { $0.retryPolicy = Self.policy() }) { (proxy) throws in
            let peer = try HTTP2Peer(.client, over: try proxy.connect())
            for round in 0..<10 {
                let streams = try (0..<30).map { try peer.open(HTTP2Peer.head("GET", "/\(round)/\($0)"), endStream: true) }
                for (number, stream) in streams.enumerated() {
                    let answer = try peer.response(stream)
                    #expect(answer.status == 200 && String(decoding: answer.body, as: UTF8.self) == "fine /\(round)/\(number)")
                }
            }
        }
    }
}
