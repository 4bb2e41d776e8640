import Base
import Glibc
import ProxyConfig
import Synchronization
import TestSupport
import Testing

/// Upstreams that fail: the keep-alive race, endpoints that die, and outlier detection with AWS's walkthrough numbers.
@Suite(.serialized) struct FailureTests {
    private static let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    // MARK: The keep-alive race

    @Test("an origin that closes idle connections at random moments fails no GET")
    func keepAliveRace() throws {
        let seed = Counter()
        let origin = try Origin(records: false) { connection in
            seed.add()
            var random = SeededRandom(seed: UInt64(seed.value))
            while true {
                // After each answer the connection rests up to two milliseconds, then closes, request or not.
                guard try connection.readRequest(within: .seconds(10)) != nil else { return }
                try connection.send(ok())
                if random.below(4) == 0 {
                    let time = ContinuousClock.now + .microseconds(random.below(2000))
                    while ContinuousClock.now < time {}
                    if random.below(2) == 0 { connection.reset() }
                    return
                }
            }
        }
        try withProxy(to: origin) { (proxy) throws in
            let load = Load(port: proxy.port, callers: 4, requestsPerConnection: 1000)
            try load.wait(for: 5000)
            let tally = try load.stop()
            #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))")
        }
    }

    @Test("a POST is never sent twice, whatever the origin does to the connection")
    func postOnce() throws {
        let bodies = Mutex<[String: Int]>([:])
        let seed = Counter()
        let origin = try Origin(records: false) { connection in
            seed.add()
            var random = SeededRandom(seed: UInt64(seed.value))
            while let request = try connection.readRequest(within: .seconds(10)) {
                bodies.withLock { $0[request.bodyText, default: 0] += 1 }
                // Some get no answer at all, and some connections close right behind one.
                if random.below(5) == 0 { return }
                try connection.send(ok())
                if random.below(3) == 0 { return }
            }
        }
        try withProxy(to: origin) { (proxy) throws in
            let load = Load(port: proxy.port, callers: 1, requestsPerConnection: 1000) { number in
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \("\(number)".utf8.count)\r\n\r\n\(number)"
            }
            try load.wait(for: 1500)
            let tally = try load.stop()
            #expect(
                tally.broken.isEmpty && tally.count(200) + tally.count(503) == tally.total, "\(tally.statuses) \(tally.broken.prefix(3))")
        }
        #expect(bodies.withLock { $0.values.allSatisfy { $0 == 1 } })
    }

    // MARK: Death

    /// A server in a process of its own, to be killed.
    private func startServer(_ folder: TemporaryFolder, port: UInt16) throws -> Program {
        try folder.replace(
            "nginx-\(port).conf",
            with: Array(
                """
                daemon off; master_process off; error_log stderr; pid \(folder.file("\(port).pid"));
                events { worker_connections 1000; }
                http { access_log off; client_body_temp_path \(folder.path); proxy_temp_path \(folder.path);
                  fastcgi_temp_path \(folder.path); uwsgi_temp_path \(folder.path); scgi_temp_path \(folder.path);
                  server { listen 127.0.0.1:\(port); location / { return 200 "\(port)"; } } }
                """.utf8))
        let program = try Program("/usr/sbin/nginx", ["-c", folder.file("nginx-\(port).conf"), "-p", folder.path], in: folder)
        try eventually("nginx accepts; it said \(program.errors)") { (try? RawConnection(to: port)) != nil }
        return program
    }

    @Test(
        "kill -9 of one of two upstreams under load of wrk: failures end with its ejection, and a new one is used again",
        .enabled(if: Program.exists("nginx") && Program.exists("wrk"), "needs nginx and wrk"))
    func killUpstream() throws {
        let folder = try TemporaryFolder()
        let ports = [try Ports.free(), try Ports.free()]
        let staying = try startServer(folder, port: ports[0])
        defer { staying.end() }
        var dying = try startServer(folder, port: ports[1])
        defer { dying.end() }
        try withProxy({ port, admin in
            Config.http(
                listen: port, to: ports, admin: admin,
                cluster: {
                    $0.outlierDetection = OutlierDetection(
                        consecutive5xx: 5, interval: .milliseconds(500), baseEjectionTime: .seconds(1), maxEjectionPercent: 100)
                })
        }) { (proxy) throws in
            let wrk = try Program("wrk", ["-t1", "-c8", "-d3s", "http://127.0.0.1:\(proxy.port)/"])
            defer { wrk.end() }
            let load = Load(port: proxy.port, callers: 1)
            try load.wait(for: 20)
            dying.signal(SIGKILL)
            try proxy.waitForLog("EJECT 127.0.0.1:\(ports[1])")
            let atEjection = load.sofar.failures
            try load.wait(for: 50)
            let result = try wrk.wait()
            #expect(result.output.contains("requests in"), "\(result.output)")
            let tally = try load.stop()
            // Behind the ejection only what comes with its end, when the endpoint is tried again: five errors for each worker's try.
            #expect(tally.failures - atEjection <= 40 && tally.count(200) > 50, "\(tally.statuses)")
            #expect(tally.broken.isEmpty, "\(tally.broken.prefix(3))")

            dying = try startServer(folder, port: ports[1])
            let caller = try proxy.connect()
            try eventually("the new one serves") {
                try (0..<10).contains { _ in try caller.exchange(Self.get).bodyText == "\(ports[1])" }
            }
            var failures = 0
            for _ in 0..<100 { if try caller.exchange(Self.get).status != 200 { failures += 1 } }
            #expect(failures == 0)
        }
    }

    @Test("a connect that nobody answers ends after the connect timeout, as a 503 that says so")
    func connectTimeout() throws {
        // A queue of one that is full: the kernel drops what else wants to connect.
        let port = try Ports.free()
        let script =
            "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', \(port))); s.listen(0); print('up', flush=True); time.sleep(600)"
        let server = try Program("python3", ["-c", script])
        defer { server.end() }
        try eventually("the server is up; it said \(server.errors)") { server.output.contains("up") }
        let filling = try RawConnection(to: port)
        defer { filling.close() }
        try withProxy({ Config.http(listen: $0, to: [port], admin: $1, cluster: { $0.connectTimeout = .milliseconds(300) }) }) {
            (proxy) throws in
            let answer = try proxy.exchange(Self.get)
            #expect(answer.status == 503)
            #expect(answer.value("x-outrigger-details")?.contains("UF upstream_reset_before_response_started{connection_timeout}") == true)
        }
    }

    @Test("TCP: refused connects eject an endpoint too, and its callers then reach the other one")
    func tcpEjection() throws {
        let good = try Origin { connection in try connection.send("hello") }
        let dead = try Ports.free()
        try withProxy({ port, admin in
            Config.tcp(
                listen: port, to: [dead, good.port], admin: admin,
                cluster: {
                    $0.outlierDetection = OutlierDetection(
                        consecutive5xx: 3, interval: .seconds(600), baseEjectionTime: .seconds(600), maxEjectionTime: .seconds(600),
                        maxEjectionPercent: 100)
                })
        }) { (proxy) throws in
            try eventually("the dead one is ejected") {
                _ = try? proxy.connect().readToEnd()
                return proxy.log.contains("EJECT 127.0.0.1:\(dead)")
            }
            for _ in 0..<20 { #expect(try proxy.connect().readToEnd() == (Array("hello".utf8), .closed)) }
        }
    }

    @Test("a cluster of a name serves its addresses, through swaps that change what is beside it")
    func names() throws {
        let origin = try Origin.answering(ok(), records: false)
        func snapshot(_ port: UInt16, _ admin: UInt16) -> Snapshot {
            Config.http(
                listen: port, to: [], admin: admin,
                cluster: {
                    let endpoint = Endpoint(host: .name("localhost"), port: origin.port)
                    $0.discovery = .dns(
                        ClusterLoadAssignment(clusterName: "origin", localities: [LocalityEndpoints(endpoints: [endpoint])]),
                        DNSOptions(family: .v4Only))
                })
        }
        try withProxy(snapshot) { (proxy) throws in
            try eventually("the name is resolved") { try proxy.exchange(Self.get).status == 200 }
            let load = Load(port: proxy.port, callers: 2)
            for swap in 0..<20 {
                var next = snapshot(proxy.port, proxy.admin)
                next.clusters[0].connectTimeout = .milliseconds(1000 + swap)
                try proxy.apply(next)
            }
            try load.wait(for: 50)
            let tally = try load.stop()
            #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))")
        }
    }

    // MARK: The walkthrough

    /// Sends 200 requests, one after the other, on one connection.
    private func send200(_ proxy: Proxy) throws -> (good: Int, bad: Int) {
        let caller = try proxy.connect()
        var good = 0
        for _ in 0..<200 { if try caller.exchange(Self.get).status == 200 { good += 1 } }
        return (good, 200 - good)
    }

    /// Four origins, of which each fails while its place is in `broken`.
    private func withFour(
        detection: OutlierDetection?, panic: Double = 50, _ body: (Proxy, _ broken: Broken, _ hits: [Counter]) throws -> Void
    ) throws {
        let broken = Broken()
        let hits = (0..<4).map { _ in Counter() }
        let origins = try (0..<4).map { place in
            try Origin.http(records: false) { _ in
                hits[place].add()
                return Array((broken.contains(place) ? "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n" : ok()).utf8)
            }
        }
        try withProxy({ port, admin in
            Config.http(
                listen: port, to: origins.map(\.port), admin: admin, process: { $0.workers = 1 },
                cluster: {
                    $0.outlierDetection = detection
                    $0.panicThresholdPercent = panic
                })
        }) { (proxy) throws in try body(proxy, broken, hits) }
    }

    final class Broken: Sendable {
        private let places = Mutex<Set<Int>>([])
        func contains(_ place: Int) -> Bool { places.withLock { $0.contains(place) } }
        func set(_ places: Set<Int>) { self.places.withLock { $0 = places } }
    }

    /// AWS's settings, with intervals that no test waits for.
    private static let walkthrough = OutlierDetection(
        consecutive5xx: 5, interval: .seconds(600), baseEjectionTime: .seconds(600), maxEjectionTime: .seconds(600),
        maxEjectionPercent: 100)

    @Test("walkthrough: without detection one bad host of four fails a quarter of the requests")
    func withoutDetection() throws {
        try withFour(detection: nil) { (proxy, broken, _) throws in
            broken.set([2])
            #expect(try send200(proxy) == (150, 50))
        }
    }

    @Test("walkthrough: with detection it fails five requests, then none")
    func withDetection() throws {
        try withFour(detection: Self.walkthrough) { (proxy, broken, hits) throws in
            broken.set([2])
            #expect(try send200(proxy) == (195, 5))
            #expect(hits[2].value == 5)
            #expect(try send200(proxy) == (200, 0))
            // A second one: five more failures, then half of the hosts carry all.
            broken.set([1, 2])
            #expect(try send200(proxy) == (195, 5))
            #expect(try send200(proxy) == (200, 0))
        }
    }

    @Test("walkthrough: three bad hosts of four are panic: all are asked, and three quarters fail")
    func panic() throws {
        try withFour(detection: Self.walkthrough) { (proxy, broken, _) throws in
            broken.set([1, 2, 3])
            _ = try send200(proxy)
            try proxy.waitForLog("PANIC")
            let (good, bad) = try send200(proxy)
            #expect(good == 50 && bad == 150, "\(good)/\(bad)")
            #expect(proxy.log.ranges(of: "EJECT 127.0.0.1").count == 3, "\(proxy.log)")
        }
    }

    @Test("an ejected host that is well again comes back and gets its share")
    func comesBack() throws {
        let quick = OutlierDetection(
            consecutive5xx: 5, interval: .milliseconds(200), baseEjectionTime: .milliseconds(400), maxEjectionPercent: 100)
        try withFour(detection: quick) { (proxy, broken, hits) throws in
            broken.set([2])
            _ = try send200(proxy)
            broken.set([])
            // On a slow machine it came and went while it was bad: what counts is the last return.
            try eventually("the host is back; the log says \(proxy.log)") {
                let ejections = proxy.log.ranges(of: "[outlier] EJECT").count
                return ejections > 0 && proxy.log.ranges(of: "[outlier] UNEJECT").count == ejections
            }
            let before = hits[2].value
            #expect(try send200(proxy) == (200, 0))
            #expect((45...55).contains(hits[2].value - before), "\(hits[2].value - before)")
        }
    }
}
