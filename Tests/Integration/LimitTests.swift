import Base
import Glibc
import ProxyConfig
import Synchronization
import TestSupport
import Testing

/// Limits, queues and breakers on the path of requests: who is let through, who waits, who is told no, and how.
@Suite(.serialized) struct LimitTests {
    private static let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    /// An origin whose answers wait until the test opens a gate.
    private final class Gate: Sendable {
        let underWay = Counter()
        let origin: Origin

        init() throws {
            let (isOpen, underWay) = (isOpenBox, underWay)
            origin = try Origin { connection in
                while try connection.readRequest(within: .seconds(60)) != nil {
                    underWay.add()
                    try eventually("the gate opens") { isOpen.value > 0 }
                    try connection.send(ok())
                }
            }
        }

        private let isOpenBox = Counter()
        func open() { isOpenBox.add() }
    }

    private func withCluster(
        _ ports: [UInt16], workers: Int = 1, action: @escaping (inout ForwardAction) -> Void = { _ in },
        _ cluster: @escaping (inout Cluster) -> Void, _ body: (Proxy) throws -> Void
    ) throws {
        try withProxy(
            { Config.http(listen: $0, to: ports, admin: $1, process: { $0.workers = workers }, action: action, cluster: cluster) }, body)
    }

    // MARK: App Mesh's connectionPool

    @Test("beyond maxRequests a request is told no at once: 503, UO, and not to be tried again")
    func maxRequests() throws {
        let gate = try Gate()
        try withCluster([gate.origin.port], { $0.circuitBreakers.maxRequests = 2 }) { (proxy) throws in
            let callers = try (0..<2).map { _ in try proxy.connect() }
            for caller in callers { try caller.send(Self.get) }
            try eventually("two are under way") { gate.underWay.value == 2 }
            let refused = try proxy.exchange(Self.get)
            #expect(refused.status == 503 && refused.value("x-envoy-overloaded") == "true")
            #expect(refused.value("x-outrigger-details")?.hasPrefix("UO ") == true, "\(refused.headText)")
            gate.open()
            for caller in callers { #expect(try caller.readResponse().status == 200) }
            #expect(try proxy.exchange(Self.get).status == 200)
            #expect(gate.underWay.value == 3)
        }
    }

    @Test("a limit holds for all workers together")
    func acrossWorkers() throws {
        let gate = try Gate()
        try withCluster([gate.origin.port], workers: 2, { $0.circuitBreakers.maxRequests = 3 }) { (proxy) throws in
            let callers = try (0..<12).map { _ in try proxy.connect() }
            for caller in callers { try caller.send(Self.get) }
            try eventually("three are under way, nine were refused") {
                try gate.underWay.value == 3
                    && proxy.stat("envoy_cluster_upstream_rq_pending_overflow{envoy_cluster_name=\"origin\"}") == 9
            }
            gate.open()
            let statuses = try callers.map { try $0.readResponse().status }
            #expect(statuses.count { $0 == 200 } == 3 && statuses.count { $0 == 503 } == 9, "\(statuses)")
        }
    }

    @Test("with maxConnections 1 requests go one after the other on one connection; beyond maxPendingRequests they are told no")
    func maxConnections() throws {
        let gate = try Gate()
        try withCluster(
            [gate.origin.port],
            {
                $0.circuitBreakers.maxConnections = 1
                $0.circuitBreakers.maxPendingRequests = 2
            }
        ) { (proxy) throws in
            let callers = try (0..<3).map { _ in try proxy.connect() }
            for caller in callers { try caller.send(Self.get) }
            try eventually("one is under way, two wait") {
                try gate.underWay.value == 1
                    && proxy.stat("envoy_cluster_upstream_rq_pending_active{envoy_cluster_name=\"origin\"}") == 2
            }
            #expect(try proxy.exchange(Self.get).status == 503)
            // Who goes away while it waits makes room.
            let leaving = callers[2]
            leaving.close()
            gate.open()
            for caller in callers[..<2] { #expect(try caller.readResponse().status == 200) }
            for _ in 0..<5 { #expect(try proxy.exchange(Self.get).status == 200) }
            #expect(gate.origin.connections.count == 1)
            #expect(try proxy.stat("envoy_cluster_upstream_rq_pending_active{envoy_cluster_name=\"origin\"}") == 0)
        }
    }

    @Test("a TCP connection beyond maxConnections is closed")
    func tcpConnections() throws {
        let origin = try Origin { connection in
            try connection.send("hello")
            connection.stall()
        }
        try withProxy({ Config.tcp(listen: $0, to: [origin.port], admin: $1, cluster: { $0.circuitBreakers.maxConnections = 1 }) }) {
            (proxy) throws in
            let first = try proxy.connect()
            #expect(try first.read(exactly: 5) == Array("hello".utf8))
            let second = try proxy.connect()
            #expect(try second.readToEnd().0 == [])
            first.reset()
            try eventually("there is room again") { try proxy.stat("envoy_cluster_upstream_cx_active{envoy_cluster_name=\"origin\"}") == 0 }
            let third = try proxy.connect()
            try eventually("the third one is served") { origin.connections.count == 2 }
            third.close()
        }
    }

    // MARK: Queue

    @Test("with a queue a request beyond the limit waits for its turn")
    func queue() throws {
        let gate = try Gate()
        try withCluster(
            [gate.origin.port],
            {
                $0.circuitBreakers.maxRequests = 1
                $0.resilience = ResiliencePolicy(queue: QueueLimits(capacity: 2, longestWait: .seconds(60), pressureAfter: .seconds(60)))
            }
        ) { (proxy) throws in
            let callers = try (0..<3).map { _ in try proxy.connect() }
            for caller in callers { try caller.send(Self.get) }
            try eventually("two wait") { try proxy.stat("envoy_cluster_upstream_rq_pending_active{envoy_cluster_name=\"origin\"}") == 2 }
            #expect(try proxy.exchange(Self.get).status == 503)
            gate.open()
            for caller in callers { #expect(try caller.readResponse().status == 200) }
        }
    }

    @Test("who waits too long in the queue is told no, and who leaves it is forgotten")
    func queueTimeout() throws {
        let gate = try Gate()
        try withCluster(
            [gate.origin.port],
            {
                $0.circuitBreakers.maxRequests = 1
                $0.resilience = ResiliencePolicy(queue: QueueLimits(capacity: 2, longestWait: .milliseconds(100)))
            }
        ) { (proxy) throws in
            let first = try proxy.connect()
            try first.send(Self.get)
            try eventually("one is under way") { gate.underWay.value == 1 }
            let refused = try proxy.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            #expect(refused.status == 503 && refused.value("x-outrigger-details") == "UO queue_timeout", "\(refused.headText)")
            gate.open()
            #expect(try first.readResponse().status == 200)
        }
    }

    // MARK: The breaker of a service

    @Test("an open service breaker answers here: 503, CB, Retry-After; a probe that succeeds closes it")
    func serviceBreaker() throws {
        let isBad = Counter()
        let hits = Counter()
        let origin = try Origin.http { _ in
            hits.add()
            return Array((isBad.value == 0 ? "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n" : ok()).utf8)
        }
        let breaker = BreakerPolicy(
            trip: .init(consecutiveErrors: 3, failurePercent: nil), open: .init(base: .seconds(2), jitterPercent: 0),
            probe: .calls(.init(count: 1)), ramp: .none)
        try withCluster([origin.port], { $0.resilience = ResiliencePolicy(service: breaker) }) { (proxy) throws in
            let caller = try proxy.connect()
            for _ in 0..<3 { #expect(try caller.exchange(Self.get).status == 500) }
            let refused = try caller.exchange(Self.get)
            #expect(refused.status == 503 && refused.value("x-outrigger-details") == "CB service_breaker_open", "\(refused.headText)")
            #expect(["1", "2"].contains(refused.value("retry-after")) && refused.value("x-envoy-overloaded") == "true")
            #expect(hits.value == 3)
            try proxy.waitForLog("the service's breaker is open")
            isBad.add()
            try eventually("a probe closes it") { try caller.exchange(Self.get).status == 200 }
            for _ in 0..<10 { #expect(try caller.exchange(Self.get).status == 200) }
        }
    }

    // MARK: Breakers of endpoints

    @Test("with the standard policy a bad endpoint costs no call, is probed, and comes back when it is well")
    func standardPolicy() throws {
        let isWell = Counter()
        let hits = Counter()
        let good = try Origin.answering(ok("good"))
        let bad = try Origin.http { _ in
            hits.add()
            return Array((isWell.value == 0 ? "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n" : ok("healed")).utf8)
        }
        try withCluster(
            [good.port, bad.port], action: { $0.retryPolicy = .standard },
            {
                $0.resilience = .standard
                $0.loadBalancing = .peakEWMA
            }
        ) { (proxy) throws in
            let caller = try proxy.connect()
            try eventually("it is ejected") {
                let status = try caller.exchange(Self.get).status
                #expect(status == 200)
                return proxy.log.contains("EJECT 127.0.0.1:\(bad.port)")
            }
            // An origin on loopback answers in no time: many calls, of which none fails.
            for _ in 0..<200 { #expect(try caller.exchange(Self.get).status == 200) }
            #expect(hits.value <= 8, "\(hits.value) attempts on a bad endpoint")
            isWell.add()
            try eventually("it is used again") { try caller.exchange(Self.get).bodyText == "healed" }
        }
    }

    @Test("calls with the same key go to the same endpoint", arguments: [LoadBalancing.ringHash, .maglev])
    func consistent(_ policy: LoadBalancing) throws {
        let origins = try (0..<4).map { number in try Origin.answering(ok("\(number)"), records: false) }
        try withCluster(origins.map(\.port), action: { $0.hashKeys = [.header("x-user"), .cookie("id")] }, { $0.loadBalancing = policy }) {
            (proxy) throws in
            let caller = try proxy.connect()
            var chosen: Set<String> = []
            for user in 0..<20 {
                let answers = try (0..<4).map { _ in
                    try caller.exchange("GET / HTTP/1.1\r\nHost: a\r\nX-User: user-\(user)\r\n\r\n").bodyText
                }
                #expect(Set(answers).count == 1)
                chosen.insert(answers[0])
                let cookies = try (0..<4).map { _ in
                    try caller.exchange("GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b; id=\(user)\r\n\r\n").bodyText
                }
                #expect(Set(cookies).count == 1)
            }
            #expect(chosen.count >= 3, "\(chosen)")
        }
    }
}
