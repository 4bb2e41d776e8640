import Base
import Glibc
import ProxyConfig
import Synchronization
import TestSupport
import Testing

/// What a route does to its requests beside sending them on: rate limits, faults, header changes, copies.
@Suite(.serialized) struct RoutePolicyTests {
    private static let get = "GET / HTTP/1.1\r\nHost: shop.local\r\n\r\n"

    private func withRoute(
        to origin: Origin, others: [Cluster] = [], route: @escaping (inout Route) -> Void = { _ in },
        action: @escaping (inout ForwardAction) -> Void = { _ in }, _ body: (Proxy) throws -> Void
    ) throws {
        try withProxy(
            { port, admin in
                var snapshot = Config.http(listen: port, to: [origin.port], admin: admin, action: action)
                route(&snapshot.routeConfigurations[0].virtualHosts[0].routes[0])
                snapshot.clusters += others
                return snapshot
            }, body)
    }

    @Test("a rate limit passes its burst, and tells the others when to come again")
    func rateLimit() throws {
        let hits = Counter()
        let origin = try Origin.http { _ in
            hits.add()
            return Array(ok().utf8)
        }
        try withRoute(to: origin, route: { $0.rateLimit = LocalRateLimit(burst: 3, requests: 1, interval: .seconds(600)) }) {
            (proxy) throws in
            let answers = try (0..<10).map { _ in try proxy.exchange(Self.get) }
            #expect(answers.map(\.status) == [200, 200, 200] + Array(repeating: 429, count: 7))
            #expect(answers[9].value("x-outrigger-details") == "RL local_rate_limited")
            #expect((1...600).contains(Int(answers[9].value("retry-after") ?? "") ?? 0))
        }
        #expect(hits.value == 3)
    }

    @Test("an abort answers what was ordered, where its headers are; other requests go on")
    func abort() throws {
        let origin = try Origin.answering(ok())
        let fault = FaultInjection(abort: .http(status: 418), headers: [HeaderMatcher(name: "x-test", condition: .exact("yes"))])
        try withRoute(to: origin, route: { $0.fault = fault }) { (proxy) throws in
            #expect(try proxy.exchange(Self.get).status == 200)
            let aborted = try proxy.exchange("GET / HTTP/1.1\r\nHost: a\r\nX-Test: yes\r\n\r\n")
            #expect(aborted.status == 418 && aborted.value("x-outrigger-details") == "FI fault_filter_abort")
        }
    }

    @Test("a share of the requests is aborted: about so many")
    func share() throws {
        let origin = try Origin.answering(ok(), records: false)
        try withRoute(to: origin, route: { $0.fault = FaultInjection(abort: .http(status: 503), abortShare: Share(percent: 25)) }) {
            (proxy) throws in
            let caller = try proxy.connect()
            let aborted = try (0..<1000).count { _ in try caller.exchange(Self.get).status == 503 }
            // Six standard deviations.
            #expect((168...332).contains(aborted), "\(aborted) of 1000")
        }
    }

    @Test("a delay holds a request, its body too, and lets it go on")
    func delay() throws {
        let bodies = Mutex<[String]>([])
        let origin = try Origin.http { request in
            bodies.withLock { $0.append(request.bodyText) }
            return Array(ok().utf8)
        }
        try withRoute(to: origin, route: { $0.fault = FaultInjection(delay: .milliseconds(300)) }) { (proxy) throws in
            let start = ContinuousClock.now
            let answer = try proxy.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            #expect(answer.status == 200 && ContinuousClock.now - start >= .milliseconds(300))
        }
        #expect(bodies.withLock { $0 } == ["hello"])
    }

    @Test("a caller that leaves during a delay never reaches the endpoint")
    func delayLeft() throws {
        let origin = try Origin.answering(ok())
        try withRoute(to: origin, route: { $0.fault = FaultInjection(delay: .seconds(1)) }) { (proxy) throws in
            for _ in 0..<5 {
                let caller = try proxy.connect()
                try caller.send(Self.get)
                caller.reset()
            }
            #expect(try proxy.exchange(Self.get).status == 200)
        }
        #expect(origin.connections.count == 1)
    }

    @Test("headers of requests and responses are removed, set and added; our own answers get the response's too")
    func headers() throws {
        let heads = Mutex<[String]>([])
        let origin = try Origin.http { request in
            heads.withLock { $0.append(request.headText.lowercased()) }
            return Array(ok(fields: "X-Secret: 1\r\nX-Kept: 2\r\n").utf8)
        }
        try withRoute(
            to: origin,
            route: {
                $0.requestHeaders = HeaderChanges(
                    remove: ["x-gone"], set: [.init(name: "x-team", value: "red")], add: [.init(name: "x-tag", value: "b")])
                $0.responseHeaders = HeaderChanges(remove: ["x-secret"], set: [.init(name: "x-served-by", value: "mesh")])
            }
        ) { (proxy) throws in
            let answer = try proxy.exchange("GET / HTTP/1.1\r\nHost: a\r\nX-Gone: 1\r\nX-Team: blue\r\nX-Tag: a\r\n\r\n")
            #expect(answer.value("x-secret") == nil && answer.value("x-kept") == "2" && answer.value("x-served-by") == "mesh")
            origin.stop()
            let failed = try proxy.exchange(Self.get)
            #expect(failed.status == 503 && failed.value("x-served-by") == "mesh")
        }
        let head = try #require(heads.withLock { $0.first })
        #expect(!head.contains("x-gone") && head.contains("x-team: red") && !head.contains("blue"))
        #expect(head.contains("x-tag: a") && head.contains("x-tag: b"))
    }

    @Test("a mirror gets copies, bodies too; what it answers nobody sees")
    func mirror() throws {
        let copies = Mutex<[String]>([])
        let origin = try Origin.http { request in Array(ok("real \(request.bodyText)").utf8) }
        let mirror = try Origin.http { request in
            copies.withLock { $0.append("\(request.value("host") ?? "") \(request.bodyText)") }
            return Array("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n".utf8)
        }
        try withRoute(
            to: origin, others: [Config.cluster("copy", [mirror.port])], action: { $0.mirrors = [RequestMirror(cluster: "copy")] }
        ) { (proxy) throws in
            let caller = try proxy.connect()
            for number in 0..<5 {
                let answer = try caller.exchange("POST / HTTP/1.1\r\nHost: shop.local:80\r\nContent-Length: 1\r\n\r\n\(number)")
                #expect(answer.status == 200 && answer.bodyText == "real \(number)")
            }
            try eventually("all copies came; \(copies.withLock { $0 })", within: .seconds(10)) { copies.withLock { $0.count } == 5 }
            #expect(copies.withLock { $0.sorted() } == (0..<5).map { "shop.local:80 \($0)" })
            #expect(try proxy.stat("envoy_cluster_upstream_rq_mirrored{envoy_cluster_name=\"copy\"}") == 5)
        }
    }

    @Test("a mirror that never answers, or is not there, changes nothing")
    func deadMirror() throws {
        let origin = try Origin.answering(ok(), records: false)
        let silent = try Origin(records: false) { connection in connection.stall() }
        let body = String(repeating: "x", count: 3_000_000)
        try withRoute(
            to: origin, others: [Config.cluster("silent", [silent.port]), Config.cluster("dead", [try Ports.free()])],
            action: { $0.mirrors = [RequestMirror(cluster: "silent"), RequestMirror(cluster: "dead")] }
        ) { (proxy) throws in
            let caller = try proxy.connect()
            for _ in 0..<3 {
                let answer = try caller.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \(body.count)\r\n\r\n\(body)")
                #expect(answer.status == 200)
            }
            for _ in 0..<20 { #expect(try caller.exchange(Self.get).status == 200) }
        }
    }
}
