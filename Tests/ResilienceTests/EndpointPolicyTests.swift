import Base
import ProxyConfig
import Testing

@testable import Resilience

/// A detector with a breaker for each endpoint, and a clock that a test moves by hand.
private final class Endpoints {
    let detector: OutlierDetector
    let events = OutlierEventLog()
    var hosts: [HostHealth]
    var now = Instant(nanoseconds: 1_000_000_000)

    init(_ policy: EndpointPolicy, hosts count: Int) {
        detector = OutlierDetector(cluster: "colors", configuration: nil, events: events, now: now, seed: 1)
        hosts = detector.setHosts(OutlierFixture.addresses(count), now: now)
        detector.update(policy: policy, now: now)
    }

    func calls(_ host: Int, ok: Int = 0, failed: Int = 0, slow: Int = 0) {
        // Mixed, so that runs say nothing: one failure, then what comes on each.
        for _ in 0..<ok { detector.record(.ok, on: hosts[host], now: now) }
        for _ in 0..<failed { detector.record(.http5xx(status: 500), on: hosts[host], now: now) }
        for _ in 0..<slow { detector.record(.ok, on: hosts[host], elapsed: .seconds(6), now: now) }
    }

    func advance(_ span: Duration) { now = now + span }

    func sweep() {
        now = detector.nextSweep
        detector.sweep(now: now)
    }

    func probe(_ host: Int, _ outcome: AttemptOutcome) -> Bool {
        guard let ticket = detector.probe(hosts[host], now: now) else { return false }
        detector.record(outcome, on: hosts[host], ticket: ticket, now: now)
        return true
    }

    var ejected: [Int] { hosts.indices.filter { hosts[$0].isEjected } }
    var reasons: [OutlierEvent.Reason] { events.recent.map(\.reason) }
}

extension EndpointPolicy {
    fileprivate static func test(
        trip: BreakerPolicy.Trip = .init(minimumCalls: 20), probe: BreakerPolicy.Probe = .calls(.init(count: 2)), ramp: Ramp = .none,
        percent: UInt32 = 50, deviation: UInt32 = 0, successRate: SuccessRate? = nil, failurePercentage: FailurePercentage? = nil
    ) -> EndpointPolicy {
        EndpointPolicy(
            breaker: BreakerPolicy(
                trip: trip, open: .init(base: .seconds(2), longest: .seconds(30), jitterPercent: 0), probe: probe, ramp: ramp),
            maxEjectionPercent: percent, minimumDeviationPercent: deviation, successRate: successRate, failurePercentage: failurePercentage)
    }
}

@Suite("A breaker for each endpoint")
struct EndpointPolicyTests {
    @Test("every second call of a host fails: no run, but its rate ejects it, and only it")
    func rate() {
        let endpoints = Endpoints(.test(trip: .init(consecutiveErrors: 3)), hosts: 4)
        for _ in 0..<9 {
            for host in 0..<4 { endpoints.calls(host, ok: 1) }
            endpoints.calls(2, failed: 1)
        }
        #expect(endpoints.ejected == [])
        endpoints.calls(2, ok: 1, failed: 1)
        #expect(endpoints.ejected == [2])
        #expect(endpoints.reasons == [.failureRate])
    }

    @Test("slow calls eject as failures do")
    func slow() {
        let endpoints = Endpoints(.test(trip: .init(slowPercent: 50, minimumCalls: 10)), hosts: 4)
        for host in 0..<4 { endpoints.calls(host, ok: 10) }
        endpoints.calls(1, slow: 9)
        #expect(endpoints.ejected == [])
        endpoints.calls(1, slow: 1)
        #expect(endpoints.ejected == [1])
        #expect(endpoints.reasons == [.slowRate])
    }

    @Test("what a majority has in common ejects nobody, one event an interval says why; what two of five have ejects them")
    func common() {
        let endpoints = Endpoints(.test(trip: .init(consecutiveErrors: 3), deviation: 30), hosts: 5)
        for _ in 0..<20 {
            for host in 0..<5 { endpoints.calls(host, ok: 3, failed: 2) }
        }
        for _ in 0..<20 { endpoints.calls(0, failed: 5) }
        #expect(endpoints.ejected == [])
        #expect(endpoints.reasons == [.siblingsAlike])

        let two = Endpoints(.test(trip: .init(consecutiveErrors: 3), deviation: 30), hosts: 5)
        for _ in 0..<20 { for host in 2..<5 { two.calls(host, ok: 1) } }
        for _ in 0..<20 { for host in 0..<2 { two.calls(host, ok: 1, failed: 1) } }
        #expect(two.ejected == [0, 1])
    }

    @Test("when its time is over it gets one probe after the other; a failed one costs a longer time, two good ones let it in")
    func probes() {
        let endpoints = Endpoints(.test(trip: .init(consecutiveErrors: 3)), hosts: 4)
        endpoints.calls(0, failed: 3)
        #expect(endpoints.ejected == [0])
        #expect(!endpoints.probe(0, .ok))
        #expect((endpoints.detector.nextChange(of: endpoints.hosts[0]) - endpoints.now).seconds == 2)
        endpoints.advance(.seconds(2))
        let epoch = endpoints.detector.epoch
        endpoints.detector.advance(endpoints.hosts[0], now: endpoints.now)
        #expect(endpoints.hosts[0].state.phase == .halfOpen && endpoints.detector.epoch != epoch)
        // Calls that are no probes (panic, or begun long ago) say nothing.
        endpoints.calls(0, ok: 50, failed: 50)
        #expect(endpoints.hosts[0].state.phase == .halfOpen)
        #expect(endpoints.probe(0, .timeout))
        #expect((endpoints.detector.nextChange(of: endpoints.hosts[0]) - endpoints.now).seconds == 4)
        endpoints.advance(.seconds(4))
        #expect(endpoints.probe(0, .ok))
        #expect(endpoints.ejected == [0])
        #expect(endpoints.probe(0, .ok))
        #expect(endpoints.ejected == [])
        #expect(endpoints.detector.statistics.active == 0)
        #expect(endpoints.reasons == [.consecutiveErrors, .ejectionTimeOver, .probeFailed, .ejectionTimeOver, .probesPassed])
    }

    @Test("one probe at a time; one that says nothing gives its place back")
    func oneProbe() throws {
        let endpoints = Endpoints(.test(trip: .init(consecutiveErrors: 3)), hosts: 4)
        endpoints.calls(0, failed: 3)
        endpoints.advance(.seconds(2))
        let host = endpoints.hosts[0]
        let ticket = try #require(endpoints.detector.probe(host, now: endpoints.now))
        #expect(endpoints.detector.probe(host, now: endpoints.now) == nil)
        endpoints.detector.record(.clientCancel(slow: false), on: host, ticket: ticket, now: endpoints.now)
        #expect(endpoints.detector.probe(host, now: endpoints.now) != nil)
    }

    @Test("a check that passes ends the waiting: with probes they begin, App Mesh's endpoint is in at once")
    func check() {
        let endpoints = Endpoints(.test(trip: .init(consecutiveErrors: 3)), hosts: 4)
        endpoints.calls(0, failed: 3)
        endpoints.detector.checkPassed(endpoints.hosts[0], now: endpoints.now)
        #expect(endpoints.hosts[0].state.phase == .halfOpen)
        endpoints.detector.checkPassed(endpoints.hosts[1], now: endpoints.now)
        #expect(endpoints.hosts[1].state == .closed)

        let fixture = OutlierFixture(.app(), hosts: 2)
        fixture.fail(0)
        fixture.detector.checkPassed(fixture.hosts[0], now: fixture.now)
        #expect(fixture.ejected == [] && fixture.detector.statistics.active == 0)
    }

    @Test("App Mesh's endpoint is not moved by workers: only a sweep brings it back")
    func appMeshReturnsAtSweeps() {
        var fixture = OutlierFixture(.app(), hosts: 2)
        fixture.fail(0)
        fixture.advance(.seconds(1000))
        #expect(fixture.detector.nextChange(of: fixture.hosts[0]) == .never)
        fixture.detector.advance(fixture.hosts[0], now: fixture.now)
        #expect(fixture.detector.probe(fixture.hosts[0], now: fixture.now) == nil)
        #expect(fixture.ejected == [0])
    }

    @Test("with a ramp an endpoint comes back on it and counts; new addresses begin on it unless most are new")
    func ramp() {
        let endpoints = Endpoints(
            .test(trip: .init(consecutiveErrors: 3), probe: .calls(.init(count: 1)), ramp: Ramp(duration: .seconds(10))), hosts: 4)
        endpoints.calls(0, failed: 3)
        endpoints.advance(.seconds(2))
        #expect(endpoints.probe(0, .ok))
        #expect(endpoints.hosts[0].state == BreakerState(.ramping, at: endpoints.now))
        endpoints.calls(0, failed: 3)
        #expect(endpoints.ejected == [0])
        endpoints.advance(.seconds(4))
        #expect(endpoints.probe(0, .ok))
        endpoints.advance(.seconds(10))
        endpoints.detector.advance(endpoints.hosts[0], now: endpoints.now)
        #expect(endpoints.hosts[0].state == .closed)

        let joined = endpoints.detector.setHosts(OutlierFixture.addresses(6), now: endpoints.now)
        #expect(joined.map { $0.state.phase == .ramping } == [false, false, false, false, true, true])
        let many = endpoints.detector.setHosts(OutlierFixture.addresses(40), now: endpoints.now)
        #expect(many[6...].allSatisfy { $0.state == .closed })
    }

    @Test("by hand: forced open takes no place of the percentage, disabled counts nothing, both end by themselves at a sweep")
    func byHand() {
        let endpoints = Endpoints(.test(trip: .init(consecutiveErrors: 3), percent: 25), hosts: 4)
        let addresses = OutlierFixture.addresses(5)
        let until = endpoints.now + Duration.seconds(15)
        #expect(endpoints.detector.force(.forcedOpen, addresses[0], until: until, now: endpoints.now))
        #expect(endpoints.detector.force(.disabled, addresses[1], until: until, now: endpoints.now))
        #expect(!endpoints.detector.force(.disabled, addresses[4], until: until, now: endpoints.now))
        endpoints.calls(1, failed: 50)
        endpoints.calls(2, failed: 3)
        #expect(endpoints.ejected == [0, 2])
        #expect(endpoints.detector.statistics.active == 1)
        endpoints.sweep()
        #expect(endpoints.hosts[0].state.phase == .forcedOpen)
        endpoints.sweep()
        #expect(endpoints.hosts[0].state == .closed && endpoints.hosts[1].state == .closed)
        #expect(endpoints.detector.statistics.active == 1)
    }

    @Test("a policy that only observes tells and ejects nobody")
    func observing() {
        var policy = EndpointPolicy.test(trip: .init(consecutiveErrors: 3))
        policy.breaker.mode = .observe
        let endpoints = Endpoints(policy, hosts: 4)
        endpoints.calls(0, failed: 9)
        #expect(endpoints.ejected == [])
        #expect(endpoints.reasons == [.observeOnly])
    }

    @Test("RESOURCE_EXHAUSTED counts in the rate and not in a run; an overloaded next hop is no fault of the endpoint")
    func overload() {
        let endpoints = Endpoints(.test(trip: .init(consecutiveErrors: 3, minimumCalls: 20)), hosts: 4)
        for _ in 0..<100 { endpoints.detector.record(.overloadRemote, on: endpoints.hosts[0], now: endpoints.now) }
        for _ in 0..<19 { endpoints.detector.record(.grpcError(code: 8), on: endpoints.hosts[0], now: endpoints.now) }
        #expect(endpoints.ejected == [])
        endpoints.detector.record(.grpcError(code: 8), on: endpoints.hosts[0], now: endpoints.now)
        #expect(endpoints.reasons == [.failureRate])
    }
}

@Suite("Sweeps that compare rates")
struct RateComparisonTests {
    static func rates(_ success: [Int], calls: UInt32 = 1000) -> [HostRate] {
        success.enumerated().map { HostRate(host: $0, calls: calls, failures: calls * UInt32(100 - $1) / 100) }
    }

    @Test("the vector of Envoy's source: 50, 100, 100, 100, 100: mean 90, threshold 52, the first is out")
    func envoyVector() {
        let found = EndpointPolicy.SuccessRate().outliers(among: Self.rates([50, 100, 100, 100, 100]))
        #expect(found.hosts.map(\.host) == [0])
        #expect(abs(found.mean - 90) < 1e-9 && abs(found.threshold - 52) < 1e-9)
    }

    @Test("k of n equally bad hosts stand out if and only if (n - k) / k is more than the square of the factor")
    func closedForm() {
        for thousandths in [500, 1000, 1900, 3000] as [UInt32] {
            let rule = EndpointPolicy.SuccessRate(deviationThousandths: thousandths, minimumHosts: 1)
            let square = Double(thousandths) * Double(thousandths) / 1e6
            for n in 1...40 {
                for k in 1...n {
                    // At equality rounding decides.
                    guard abs(Double(n - k) / Double(k) - square) > 1e-6 else { continue }
                    let success = (0..<n).map { $0 < k ? 40 : 100 }
                    let found = rule.outliers(among: Self.rates(success)).hosts.map(\.host)
                    let expected = Double(n - k) / Double(k) > square ? Array(0..<k) : []
                    #expect(found == expected, "\(k) of \(n), factor \(thousandths)")
                }
            }
        }
    }

    @Test("few hosts, few calls, few failures or a small deviation: nobody stands out")
    func minima() {
        let rule = EndpointPolicy.SuccessRate()
        #expect(rule.outliers(among: Self.rates([50, 100, 100, 100])).hosts.isEmpty)
        #expect(rule.outliers(among: Self.rates([50, 100, 100, 100, 100], calls: 99)).hosts.isEmpty)
        // One error in a hundred is the greatest deviation there is, and no reason: the complaint of envoyproxy/envoy#18752.
        #expect(rule.outliers(among: Self.rates([99, 100, 100, 100, 100, 100])).hosts.isEmpty)
        #expect(rule.outliers(among: Self.rates([93, 100, 100, 100, 100, 100])).hosts.map(\.host) == [0])
        let few = EndpointPolicy.SuccessRate(minimumCalls: 10, minimumFailures: 5)
        #expect(few.outliers(among: Self.rates([60, 100, 100, 100, 100, 100], calls: 10)).hosts.isEmpty)
        #expect(few.outliers(among: Self.rates([50, 100, 100, 100, 100, 100], calls: 10)).hosts.map(\.host) == [0])
    }

    @Test("failure percentage: at the threshold or more, the worst first")
    func failurePercentage() {
        let found = EndpointPolicy.FailurePercentage().outliers(among: Self.rates([15, 16, 0, 100, 10]))
        #expect(found.map(\.host) == [2, 4, 0])
    }

    @Test("the places that the percentage allows go to the worst, and what is counted begins anew with each sweep")
    func worstFirst() {
        let endpoints = Endpoints(
            .test(
                trip: .init(failurePercent: nil), probe: .none, percent: 40,
                failurePercentage: .init(percent: 50)), hosts: 5)
        for (host, failed) in [60, 0, 70, 0, 90].enumerated() { endpoints.calls(host, ok: 100 - failed, failed: failed) }
        endpoints.sweep()
        #expect(endpoints.ejected == [2, 4])
        let named = Dictionary(uniqueKeysWithValues: endpoints.detector.statistics.named.map { ("\($0.name)", $0.value) })
        #expect(named["ejections_detected_failure_percentage"] == 3)
        #expect(named["ejections_enforced_failure_percentage"] == 2)
        #expect(named["ejections_detected_consecutive_5xx"] == 0)
        // Two seconds later both are back, and nobody called: nothing to say.
        endpoints.sweep()
        #expect(endpoints.ejected == [])
    }

    @Test("an event says which comparison it was, in Envoy's words")
    func event() {
        let endpoints = Endpoints(
            .test(trip: .init(failurePercent: nil), probe: .none, successRate: .init(minimumCalls: 50)), hosts: 6)
        for host in 0..<6 { endpoints.calls(host, ok: host == 3 ? 40 : 100, failed: host == 3 ? 60 : 0) }
        endpoints.sweep()
        #expect(endpoints.ejected == [3])
        var line = ByteBuffer()
        endpoints.events.recent[0].writeJSON(into: &line, wallClock: .zero)
        let text = unsafe line.withUnsafeBytes { unsafe String(decoding: $0, as: UTF8.self) }
        #expect(text.contains("\"type\":\"SUCCESS_RATE\"") && text.contains("\"eject_success_rate_event\":{}"), "\(text)")
    }
}
