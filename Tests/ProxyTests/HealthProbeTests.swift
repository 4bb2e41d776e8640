import Balancing
import Base
import HTTPTransport
import ProxyConfig
import Reactor
import Resilience
import TestSupport
import Testing

@testable import Proxy

@Suite struct HealthProbeTests {
    @Test(
        "grpc.health.v1.HealthCheckResponse, byte by byte",
        arguments: [
            ([], .unknown), ([8, 0], .unknown), ([8, 1], .serving), ([8, 2], .notServing), ([8, 3], .serviceUnknown), ([8, 9], .unknown),
            // Not the shortest form, and twice: the last counts.
            ([8, 0x81, 0], .serving), ([8, 2, 8, 1], .serving),
            // Fields that we do not know, of every wire type.
            ([0x10, 5, 8, 1], .serving), ([0x12, 2, 8, 2, 8, 1], .serving), ([0x19, 1, 2, 3, 4, 5, 6, 7, 8, 8, 1], .serving),
            ([0x1D, 1, 2, 3, 4, 8, 1], .serving),
            // Cut, endless, of wire types that are no more, or of field 0.
            ([8], nil), ([8, 0x80], nil), ([0x12, 3, 8, 1], nil), ([0x19, 1], nil), ([0x1D, 1], nil), ([0x0B], nil), ([0, 1], nil),
            ([8] + Array(repeating: 0x80, count: 10) + [1], nil),
        ] as [([UInt8], GRPCHealth.Status?)])
    func response(bytes: [UInt8], expected: GRPCHealth.Status?) {
        #expect(GRPCHealth.status(bytes) == expected)
    }

    /// A cluster of one endpoint, and what probes of it are made of.
    private final class Probing {
        let loop = EventLoop()
        let cluster: RuntimeCluster
        let host: Host
        var ends: [ProbeEnd] = []

        init(_ port: UInt16) {
            let address = SocketAddress(.loopbackV4, port)
            let detector = OutlierDetector(
                cluster: "a", configuration: nil, events: OutlierEventLog(), now: Instant(nanoseconds: 0), seed: 1)
            let seed = HostSeed(address: address, hostname: "", weight: 1, priority: 0, locality: Locality())
            let hosts = HostSeed.hosts([seed], detector: detector, isResolved: true, now: Instant(nanoseconds: 0))
            cluster = RuntimeCluster(
                configuration: Cluster(name: "a", discovery: .eds(serviceName: "a")), detector: detector,
                balancing: BalancingRules(policy: .roundRobin), hosts: hosts)
            host = hosts.hosts[0]
        }

        func probe(_ request: ProbeRequest, timeout: Nanoseconds) -> Probe {
            Probe(loop: loop, cluster: cluster, host: host, request: request, timeout: timeout, buffers: .init(bytes: 4096)) {
                self.ends.append($0)
            }
        }

        func turn(until condition: () -> Bool) {
            let end = Clock.now() + .seconds(60)
            while !condition(), Clock.now() < end { loop.turn(maximumWait: .milliseconds(20)) }
        }
    }

    @Test(
        "no more probes than the limit are under way; one that hangs ends by its timeout and makes room; one that is cancelled never begins"
    )
    func bounded() throws {
        let silent = try Origin { $0.stall() }
        let probing = Probing(silent.port)
        let slots = ProbeSlots(limit: 2)
        let request = ProbeRequest.http(host: "a", path: "/", http2: false)
        let probes = (0..<5).map { _ in probing.probe(request, timeout: .milliseconds(100)) }
        for probe in probes { slots.run(probe) }
        probes[4].cancel()
        var most = 0
        probing.turn {
            most = max(most, slots.running)
            return probing.ends.count == 4
        }
        #expect(most == 2 && slots.running == 0)
        #expect(probing.ends.map(\.result) == Array(repeating: .timedOut, count: 4))
        #expect(probing.ends.map(\.seen) == Array(repeating: "no answer within 100 ms", count: 4))
        #expect(silent.connections.count <= 4)
        silent.stop()
    }

    @Test("thousands of probes that fail at once wait for each other in no depth")
    func manyFailures() throws {
        let probing = Probing(try Ports.free())
        let slots = ProbeSlots()
        let probes = (0..<5000).map { _ in probing.probe(.connection, timeout: .seconds(60)) }
        for probe in probes { slots.run(probe) }
        probing.turn { probing.ends.count == 5000 }
        #expect(probing.ends.count == 5000 && slots.running == 0)
        #expect(probing.ends.allSatisfy { $0.result == .unreachable && $0.seen == "connection refused" })
    }

    @Test("a probe that is cancelled under way closes its connection and tells nothing")
    func cancelled() throws {
        let silent = try Origin { connection in _ = try connection.readToEnd() }
        let probing = Probing(silent.port)
        let slots = ProbeSlots(limit: 1)
        let probe = probing.probe(.http(host: "a", path: "/", http2: true), timeout: .seconds(60))
        slots.run(probe)
        probing.turn { silent.connections.first.map { $0.receivedCount > 0 } ?? false }
        probe.cancel()
        #expect(slots.running == 0 && probing.ends.isEmpty && probe.connection == nil)
        silent.stop()
    }
}

@Suite struct ReconnectionTests {
    @Test("an endpoint that could not be connected to is connected to until it opens, as its policy says; then its probes begin")
    func reconnects() throws {
        let (port, loop, events) = (try Ports.free(), EventLoop(), OutlierEventLog())
        let detector = OutlierDetector(cluster: "a", configuration: nil, events: events, now: loop.now, seed: 1)
        var policy = StandardPolicy().endpoint
        policy.breaker.open.base = .seconds(3600)
        policy.breaker.open.longest = .seconds(3600)
        policy.connectionProbeInterval = .milliseconds(20)
        policy.minimumDeviationPercent = 0
        policy.breaker.ramp.duration = .zero
        detector.update(policy: policy, now: loop.now)
        let seeds = [port, try Ports.free()].map {
            HostSeed(address: SocketAddress(.loopbackV4, $0), hostname: "", weight: 1, priority: 0, locality: Locality())
        }
        let cluster = RuntimeCluster(
            configuration: Cluster(name: "a", discovery: .eds(serviceName: "a")), detector: detector,
            balancing: BalancingRules(policy: .roundRobin),
            hosts: HostSeed.hosts(seeds, detector: detector, isResolved: true, now: loop.now))
        let host = cluster.hosts.hosts[0].health
        let prober = HealthProber(loop: loop, seed: 1)
        for _ in 0..<3 { detector.record(.connectFailure, on: host, now: loop.now) }
        #expect(host.state.phase == .open)
        prober.ejected(in: cluster)

        func turn(_ milliseconds: Int64) {
            let end = Clock.now() + .milliseconds(milliseconds)
            while Clock.now() < end { loop.turn(maximumWait: .milliseconds(5)) }
        }
        turn(100)
        #expect(host.state.phase == .open)
        let server = try Origin(port: port) { _ in }
        let patience = Clock.now() + .seconds(60)
        while host.state.phase == .open, Clock.now() < patience { loop.turn(maximumWait: .milliseconds(5)) }
        #expect(host.state.phase == .halfOpen)
        #expect(events.recent.map(\.reason) == [.consecutiveErrors, .checkPassed])
        // Nobody is left: it ends by itself.
        let connections = server.connections.count
        turn(200)
        #expect(server.connections.count <= connections + 1)
        server.stop()
    }
}
