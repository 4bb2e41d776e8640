import Base
import ProxyConfig
import Resilience
import Testing

@Suite("Active health checks: what results say together")
struct HealthCheckStateTests {
    static func rules(
        interval: Duration = .seconds(10), healthy: UInt32 = 2, unhealthy: UInt32 = 3
    ) -> HealthCheckState.Rules {
        HealthCheckState.Rules(
            HealthCheck(kind: .tcp, interval: interval, timeout: .seconds(2), healthyThreshold: healthy, unhealthyThreshold: unhealthy))
    }

    /// `+` passed, `-` answered otherwise, `x` unreachable, `t` timed out; then what the endpoint is after each: `p` or `f`.
    @Test(
        "the first result decides; later so many others in a row, whatever kind of failure (2 to come back, 3 to go)",
        arguments: [
            ("+", "p"), ("-", "f"), ("x", "f"), ("t", "f"),
            ("+-", "pp"), ("+--", "ppp"), ("+---", "pppf"), ("+-xt", "pppf"), ("+--+--", "pppppp"), ("+----", "pppff"),
            ("-+", "ff"), ("-++", "ffp"), ("-+-+", "ffff"), ("-+-++", "ffffp"), ("---++", "ffffp"),
            ("+---+++---", "pppffppppf"),
        ] as [(String, String)])
    func thresholds(results: String, standings: String) {
        var state = HealthCheckState(Self.rules())
        var before = HealthCheckState.Standing.unknown
        for (index, (result, expected)) in zip(results, standings).enumerated() {
            let outcome = state.take(Self.results[result]!)
            #expect(outcome.standing == (expected == "p" ? .passing : .failing), "after \(index + 1) of \(results)")
            #expect(outcome.isChange == (outcome.standing != before) && outcome.isFirst == (index == 0))
            #expect(state.standing == outcome.standing && state.checks == UInt64(index + 1))
            before = outcome.standing
        }
    }

    static let results: [Character: HealthCheckResult] = ["+": .passed, "-": .unwell, "x": .unreachable, "t": .timedOut]

    @Test("new thresholds hold for what was counted before them")
    func newRules() {
        var state = HealthCheckState(Self.rules(unhealthy: 5))
        for result in [.passed, .unwell, .unwell] as [HealthCheckResult] { _ = state.take(result) }
        #expect(state.standing == .passing && state.contrary == 2)
        state.rules = Self.rules(unhealthy: 2)
        #expect(state.take(.timedOut).standing == .failing)
    }

    @Test(
        "the first check is soon, the second spreads over half an interval, the others keep to it by a tenth",
        arguments: [
            (0, 10_000, 0...2000), (0, 4000, 0...1000), (0, 300_000, 0...2000),
            (1, 10_000, 5000...10_000), (2, 10_000, 9000...11_000), (100, 300_000, 270_000...330_000),
        ] as [(Int, Int64, ClosedRange<Int64>)])
    func next(checks: Int, interval: Int64, milliseconds: ClosedRange<Int64>) {
        var state = HealthCheckState(Self.rules(interval: .milliseconds(interval)))
        for _ in 0..<checks { _ = state.take(.passed) }
        let now = Instant(nanoseconds: 5_000_000_000)
        var random = SeededRandom(seed: 7)
        let waits = (0..<1000).map { _ in (state.nextCheck(now: now, draw: random.next()) - now).milliseconds }
        #expect(waits.allSatisfy(milliseconds.contains))
        // All of the range is used: the checks of many sidecars do not fall together.
        let width = milliseconds.upperBound - milliseconds.lowerBound
        #expect(waits.min()! < milliseconds.lowerBound + width / 50 && waits.max()! > milliseconds.upperBound - width / 50)
        #expect(state.nextCheck(now: now, draw: 0) - now == .milliseconds(milliseconds.lowerBound))
        #expect(state.nextCheck(now: now, draw: .max) - now <= .milliseconds(milliseconds.upperBound))
    }

    @Test("limits: no interval is too short or too long to reckon with, no threshold is 0")
    func limits() {
        let least = HealthCheckState.Rules(
            HealthCheck(kind: .tcp, interval: .nanoseconds(1), timeout: .zero, healthyThreshold: 0, unhealthyThreshold: 0))
        #expect(least.interval == .milliseconds(10) && least.timeout == .milliseconds(1))
        #expect(least.healthyThreshold == 1 && least.unhealthyThreshold == 1)
        let most = HealthCheckState.Rules(
            HealthCheck(
                kind: .tcp, interval: .seconds(Int64.max), timeout: .seconds(Int64.max), healthyThreshold: .max, unhealthyThreshold: .max))
        #expect(most.interval == .seconds(86_400) && most.timeout == .seconds(86_400))
    }
}

@Suite("Active health checks: what they do to endpoints")
struct CheckedEndpointTests {
    /// A detector whose endpoints are checked, each with what its checks said so far. Two results change an endpoint.
    struct Checked {
        var fixture: OutlierFixture
        var states: [HealthCheckState]

        init(_ configuration: OutlierDetection? = nil, hosts: Int) {
            fixture = OutlierFixture(configuration, hosts: hosts)
            states = Self.fresh(hosts)
            for host in fixture.hosts { fixture.detector.beginChecks(of: host) }
        }

        static func fresh(_ count: Int) -> [HealthCheckState] {
            Array(repeating: HealthCheckState(HealthCheckStateTests.rules(unhealthy: 2)), count: count)
        }

        mutating func check(_ host: Int, _ results: HealthCheckResult..., seen: String = "") {
            for result in results {
                fixture.detector.checked(fixture.hosts[host], states[host].take(result), seen: seen, now: fixture.now)
            }
        }

        /// Another member, which is checked too.
        mutating func join() {
            fixture.hosts = fixture.detector.setHosts(OutlierFixture.addresses(fixture.hosts.count + 1), now: fixture.now)
            states += Self.fresh(1)
            fixture.detector.beginChecks(of: fixture.hosts[fixture.hosts.count - 1])
        }

        var routable: [Int] { fixture.hosts.indices.filter { fixture.hosts[$0].isRoutable } }
        var epoch: UInt64 { fixture.detector.epoch }
    }

    @Test("before the first result an endpoint is called; a failing one is not, until it passes again")
    func outAndIn() {
        var endpoints = Checked(hosts: 3)
        #expect(endpoints.routable == [0, 1, 2])
        endpoints.check(0, .passed)
        endpoints.check(1, .unwell, seen: "status 500")
        #expect(endpoints.routable == [0, 2] && endpoints.fixture.hosts[1].checks == .failing)
        endpoints.check(0, .timedOut)
        #expect(endpoints.routable == [0, 2])
        endpoints.check(0, .unreachable, seen: "connection refused")
        endpoints.check(1, .passed, .passed, seen: "status 200")
        #expect(endpoints.routable == [1, 2])

        let events = endpoints.fixture.events.drain()
        #expect(events.map(\.action) == [.checkFailed, .checkFailed, .checkPassed])
        #expect(events.map(\.reason) == [.firstCheck, .unhealthyThreshold, .healthyThreshold])
        #expect(events.map(\.host?.seen) == ["status 500", "connection refused", "status 200"])
        #expect(
            OutlierEventTests.json(events[0])
                == #"{"type":"HEALTH_CHECK","timestamp":"1970-01-01T00:00:01.000Z","cluster_name":"colors","action":"HEALTH_CHECK_FAILED","#
                + #""enforced":true,"reason":"first_check","upstream_url":"10.0.0.2:8080","num_ejections":0,"seen":"status 500","#
                + #""last_outcomes":[]}"#)
    }

    @Test("workers hear of what changes for them, and of nothing else")
    func epochs() {
        var endpoints = Checked(hosts: 2)
        endpoints.check(0, .passed)
        var epoch = endpoints.epoch
        endpoints.check(0, .passed, .unwell)
        #expect(endpoints.epoch == epoch)
        endpoints.check(0, .unwell)
        #expect(endpoints.epoch > epoch)
        epoch = endpoints.epoch
        endpoints.check(0, .unwell, .passed, .unwell)
        #expect(endpoints.epoch == epoch)
        endpoints.check(0, .passed, .passed)
        #expect(endpoints.epoch > epoch)
    }

    @Test("a newcomer waits for its first check only beside an endpoint that passes its own")
    func newcomers() {
        var endpoints = Checked(hosts: 1)
        endpoints.join()
        #expect(endpoints.routable == [0, 1])
        endpoints.check(0, .passed)
        endpoints.join()
        #expect(endpoints.routable == [0, 1] && endpoints.fixture.hosts[2].checks == .waiting)
        endpoints.check(2, .passed)
        #expect(endpoints.routable == [0, 1, 2] && endpoints.fixture.actions == [.checkPassed])

        endpoints.join()
        #expect(endpoints.routable == [0, 1, 2])
        endpoints.check(3, .unwell)
        #expect(endpoints.routable == [0, 1, 2] && endpoints.fixture.hosts[3].checks == .failing)
    }

    @Test("when the last one that passed fails or leaves, nobody waits")
    func nobodyWaits() {
        var endpoints = Checked(hosts: 1)
        endpoints.check(0, .passed)
        endpoints.join()
        #expect(endpoints.routable == [0])
        endpoints.check(0, .unwell, .unwell)
        #expect(endpoints.routable == [1])

        var others = Checked(hosts: 1)
        others.check(0, .passed)
        others.join()
        others.fixture.hosts = others.fixture.detector.setHosts([OutlierFixture.addresses(2)[1]], now: others.fixture.now)
        #expect(others.fixture.hosts.map(\.isRoutable) == [true])
    }

    @Test("a passing check brings an ejected endpoint back, if the endpoint passes its checks")
    func uneject() {
        var endpoints = Checked(.app(), hosts: 2)
        endpoints.check(0, .passed)
        endpoints.fixture.fail(0)
        #expect(endpoints.routable == [1])
        endpoints.check(0, .unwell)
        #expect(endpoints.fixture.hosts[0].isEjected)
        endpoints.check(0, .passed)
        #expect(endpoints.routable == [0, 1])
        #expect(endpoints.fixture.events.recent.map(\.reason) == [.consecutiveErrors, .checkPassed])
        #expect(endpoints.fixture.detector.statistics.active == 0)

        // One that fails them comes back when enough have passed, not before.
        endpoints.check(0, .unwell, .unwell)
        endpoints.fixture.fail(0)
        #expect(endpoints.fixture.hosts[0].isEjected)
        endpoints.check(0, .passed)
        #expect(endpoints.fixture.hosts[0].isEjected)
        endpoints.check(0, .passed)
        #expect(endpoints.routable == [0, 1])
    }

    @Test("what is forced out by hand stays out")
    func forced() {
        var endpoints = Checked(.app(), hosts: 1)
        let address = endpoints.fixture.hosts[0].address
        endpoints.fixture.detector.force(.forcedOpen, address, until: .never, now: endpoints.fixture.now)
        endpoints.check(0, .passed, .passed)
        #expect(endpoints.routable == [])
    }

    @Test("back from failing its checks, an endpoint is on the ramp, if the policy has one")
    func ramp() {
        var endpoints = Checked(hosts: 4)
        var policy = StandardPolicy().endpoint
        endpoints.fixture.detector.update(policy: policy, now: endpoints.fixture.now)
        endpoints.check(0, .unwell)
        endpoints.fixture.advance(.seconds(20))
        endpoints.check(0, .passed, .passed)
        #expect(endpoints.fixture.hosts[0].state == BreakerState(.ramping, at: endpoints.fixture.now))
        endpoints.check(1, .unwell)
        endpoints.check(2, .unwell)
        endpoints.check(1, .passed, .passed)
        endpoints.check(2, .passed, .passed)
        // The third would make most of them ramp.
        #expect(endpoints.fixture.hosts.map(\.state.phase) == [.ramping, .ramping, .closed, .closed])

        policy.breaker.ramp.duration = .zero
        endpoints.fixture.detector.update(policy: policy, now: endpoints.fixture.now)
        endpoints.check(3, .unwell)
        endpoints.check(3, .passed, .passed)
        #expect(endpoints.fixture.hosts[3].state == .closed)
    }

    @Test("an address that left is told nothing, and comes back unchecked")
    func departed() {
        var endpoints = Checked(.app(), hosts: 2)
        endpoints.fixture.fail(0)
        endpoints.check(0, .unwell)
        let (gone, addresses) = (endpoints.fixture.hosts[0], OutlierFixture.addresses(2))
        _ = endpoints.fixture.detector.setHosts([addresses[1]], now: endpoints.fixture.now)
        let epoch = endpoints.epoch
        endpoints.check(0, .passed, .passed)
        endpoints.fixture.detector.endChecks(of: gone)
        #expect(endpoints.epoch == epoch && gone.checks == .failing)
        let hosts = endpoints.fixture.detector.setHosts(addresses, now: endpoints.fixture.now)
        #expect(hosts[0] === gone && hosts[0].checks == .none && hosts[0].isRoutable)
    }

    @Test("without checks an endpoint that failed them is called again")
    func ends() {
        var endpoints = Checked(hosts: 2)
        endpoints.check(0, .unwell)
        let epoch = endpoints.epoch
        for host in endpoints.fixture.hosts { endpoints.fixture.detector.endChecks(of: host) }
        #expect(endpoints.routable == [0, 1] && endpoints.epoch > epoch)
    }

    @Test("what checks have said of an address holds under another detector")
    func otherDetector() {
        var endpoints = Checked(hosts: 2)
        endpoints.check(0, .passed)
        endpoints.check(1, .unwell)
        let other = OutlierFixture(.app(), hosts: 2)
        for (host, before) in zip(other.hosts, endpoints.fixture.hosts) { other.detector.beginChecks(of: host, as: before.checks) }
        #expect(other.hosts.map(\.checks) == [.passing, .failing])
    }

    @Test("how often to connect to endpoints that could not be connected to is the policy's")
    func connectionProbes() {
        let fixture = OutlierFixture(.app(), hosts: 1)
        #expect(fixture.detector.connectionProbeInterval == nil)
        fixture.detector.update(policy: StandardPolicy().endpoint, now: fixture.now)
        #expect(fixture.detector.connectionProbeInterval == .milliseconds(500))
    }
}
