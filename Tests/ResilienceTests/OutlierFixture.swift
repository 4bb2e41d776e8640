import Base
import ProxyConfig
import Resilience

/// A detector with its hosts, and a clock that a test moves by hand.
struct OutlierFixture {
    let detector: OutlierDetector
    let events = OutlierEventLog()
    var hosts: [HostHealth]
    var now = Instant(nanoseconds: 1_000_000_000)

    init(_ configuration: OutlierDetection?, hosts count: Int, jitterPercent: UInt32 = 0, seed: UInt64 = 1) {
        detector = OutlierDetector(
            cluster: "colors", configuration: configuration, events: events, now: now, seed: seed, jitterPercent: jitterPercent)
        hosts = detector.setHosts(Self.addresses(count), now: now)
    }

    static func addresses(_ count: Int) -> [SocketAddress] {
        (0..<count).map { SocketAddress(.v4(0x0a00_0001 + UInt32($0)), 8080) }
    }

    mutating func advance(_ span: Duration) {
        now = now + span
    }

    func record(_ outcomes: AttemptOutcome..., on host: Int) {
        for outcome in outcomes { detector.record(outcome, on: hosts[host], now: now) }
    }

    func fail(_ host: Int, times: Int = 5) {
        for _ in 0..<times { detector.record(.http5xx(status: 500), on: hosts[host], now: now) }
    }

    var ejected: [Int] { hosts.indices.filter { hosts[$0].isEjected } }
    var actions: [OutlierEvent.Action] { events.recent.map(\.action) }

    /// Runs the sweeps that are due until `host` is back; the time since `start`.
    mutating func sweepUntilBack(_ host: Int, since start: Instant) -> Duration {
        while hosts[host].isEjected {
            now = detector.nextSweep
            detector.sweep(now: now)
        }
        return (now - start).duration
    }
}

extension OutlierDetection {
    static func app(
        _ threshold: UInt32 = 5, interval: Duration = .seconds(10), base: Duration = .seconds(30), longest: Duration = .seconds(300),
        percent: UInt32 = 100, enforcing: UInt32 = 100
    ) -> OutlierDetection {
        OutlierDetection(
            consecutive5xx: threshold, interval: interval, baseEjectionTime: base, maxEjectionTime: longest, maxEjectionPercent: percent,
            enforcingPercent: enforcing)
    }
}
