import Base
import Resilience
import Testing

@Suite("What is told of a decision")
struct OutlierEventTests {
    static func json(_ event: OutlierEvent?, wallClock: Nanoseconds = .zero) -> String? {
        guard let event else { return nil }
        var line = ByteBuffer()
        event.writeJSON(into: &line, wallClock: wallClock)
        return unsafe line.withUnsafeBytes { unsafe String(decoding: $0, as: UTF8.self) }
    }

    @Test("an ejection and the return are events in Envoy's schema")
    func ejectAndReturn() {
        var fixture = OutlierFixture(.app(2), hosts: 2)
        fixture.record(.ok, .gateway(status: 503), .connectFailure, on: 0)
        _ = fixture.sweepUntilBack(0, since: fixture.now)
        let events = fixture.events.drain()
        // 2024-02-29T12:34:56.789Z is one second after the fixture's instant 0.
        let wallClock = Nanoseconds(count: 1_709_210_095_789_000_000)
        #expect(
            events.map { Self.json($0, wallClock: wallClock) } == [
                #"{"type":"CONSECUTIVE_5XX","timestamp":"2024-02-29T12:34:56.789Z","cluster_name":"colors","action":"EJECT","#
                    + #""enforced":true,"reason":"consecutive_errors","upstream_url":"10.0.0.1:8080","num_ejections":1,"#
                    + #""ejection_secs":30,"last_outcomes":["ok","503","connect_failure"],"eject_consecutive_event":{}}"#,
                #"{"type":"CONSECUTIVE_5XX","timestamp":"2024-02-29T12:35:26.789Z","cluster_name":"colors","action":"UNEJECT","#
                    + #""enforced":true,"reason":"ejection_time_over","upstream_url":"10.0.0.1:8080","num_ejections":1,"#
                    + #""secs_since_last_action":"30","last_outcomes":["ok","503","connect_failure"]}"#,
            ])
    }

    @Test("a refused ejection names its reason and how often it happened")
    func refused() {
        let fixture = OutlierFixture(.app(1, percent: 0), hosts: 1)
        fixture.record(.timeout, on: 0)
        #expect(
            Self.json(fixture.events.recent.first)
                == #"{"type":"CONSECUTIVE_5XX","timestamp":"1970-01-01T00:00:01.000Z","cluster_name":"colors","action":"SUPPRESSED","#
                + #""enforced":false,"reason":"detect_only","upstream_url":"10.0.0.1:8080","num_ejections":0,"#
                + #""refusals":1,"last_outcomes":["timeout"],"eject_consecutive_event":{}}"#)
    }

    @Test("panic is told once per change, whoever notices it, and an old view does not undo a newer one")
    func panic() {
        let fixture = OutlierFixture(.app(), hosts: 4)
        let detector = fixture.detector
        detector.recordPanic(false, priority: 0, available: 4, total: 4, epoch: 1, now: fixture.now)
        detector.recordPanic(true, priority: 0, available: 1, total: 4, epoch: 5, now: fixture.now)
        detector.recordPanic(true, priority: 0, available: 1, total: 4, epoch: 5, now: fixture.now)
        detector.recordPanic(false, priority: 0, available: 3, total: 4, epoch: 4, now: fixture.now)
        detector.recordPanic(true, priority: 1, available: 0, total: 2, epoch: 5, now: fixture.now)
        detector.recordPanic(false, priority: 0, available: 3, total: 4, epoch: 6, now: fixture.now)
        #expect(fixture.actions == [.panicOn, .panicOn, .panicOff])
        #expect(
            Self.json(fixture.events.recent.first)
                == #"{"type":"CONSECUTIVE_5XX","timestamp":"1970-01-01T00:00:01.000Z","cluster_name":"colors","action":"PANIC_ON","#
                + #""enforced":true,"reason":"available_below_threshold","priority":0,"available_hosts":1,"total_hosts":4}"#)
    }

    @Test("a cluster's name cannot break the line")
    func escaping() {
        let events = OutlierEventLog()
        let now = Instant(nanoseconds: 0)
        let detector = OutlierDetector(cluster: "a\"b\\c\nd\u{1f}é", configuration: nil, events: events, now: now, seed: 0)
        detector.recordPanic(true, priority: 0, available: 0, total: 0, epoch: 0, now: now)
        #expect(Self.json(events.recent.first)?.contains(#""cluster_name":"a\"b\\c\u000ad\u001fé""#) == true)
    }

    @Test(
        "the calendar",
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"), (951_782_399, "2000-02-28T23:59:59.000Z"), (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"), (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] as [(Int64, String)])
    func calendar(seconds: Int64, expected: String) {
        let fixture = OutlierFixture(.app(), hosts: 1)
        fixture.detector.recordPanic(true, priority: 0, available: 0, total: 1, epoch: 9, now: Instant(nanoseconds: 0))
        #expect(Self.json(fixture.events.recent.first, wallClock: .seconds(seconds))?.contains(expected) == true)
    }

    @Test("the log keeps the last 256 for the admin page and bounds what waits to be written")
    func bounds() {
        let fixture = OutlierFixture(.app(1), hosts: 1300)
        for host in 0..<1300 { fixture.fail(host, times: 1) }
        #expect(fixture.events.recent.map { $0.host?.address } == fixture.hosts[(1300 - 256)...].map(\.address))
        #expect(fixture.events.dropped == 1300 - 1024)
        #expect(fixture.events.drain().count == 1024)
        #expect(fixture.events.drain().isEmpty)
        #expect(fixture.events.recent.count == 256)
    }

    @Test("every statistic of Envoy's outlier detection has its name once, and ours have their values")
    func statistics() {
        let fixture = OutlierFixture(.app(1, percent: 50), hosts: 4)
        for host in 0..<3 { fixture.fail(host, times: 1) }
        let named = fixture.detector.statistics.named
        #expect(Set(named.map { "\($0.name)" }).count == 19)
        let values = Dictionary(uniqueKeysWithValues: named.map { ("\($0.name)", $0.value) })
        #expect(values["ejections_active"] == 2)
        #expect(values["ejections_enforced_total"] == 2)
        #expect(values["ejections_enforced_consecutive_5xx"] == 2)
        #expect(values["ejections_detected_consecutive_5xx"] == 3)
        #expect(values["ejections_overflow"] == 1)
        #expect(values["ejections_total"] == 2)
        #expect(values["ejections_detected_success_rate"] == 0)
    }
}
