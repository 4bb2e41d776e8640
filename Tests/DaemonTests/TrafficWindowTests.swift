import Base
import MeshModel
import Projections
import Testing
import XDSWire

@testable import Daemon

@Suite("What the fleet saw, summed")
struct TrafficWindowTests {
    private static let caller = ObjectKey(.init(kind: .virtualNode, namespace: "shop", name: "front"))
    private static let other = ObjectKey(.init(kind: .virtualNode, namespace: "shop", name: "admin"))

    private func at(_ seconds: Double) -> Instant { Instant(nanoseconds: Int64(seconds * 1e9)) }

    private func report(_ requests: UInt64, errors: UInt64 = 0, started: Int64 = 1, events: [String] = []) -> NodeReport {
        NodeReport(
            state: .live, startedAt: started, reportedAt: 0,
            clusters: [
                ClusterReport(name: "cart", requests: requests, serverErrors: errors),
                ClusterReport(name: "app", requests: requests * 100),
            ],
            outlierEvents: events.map { OutlierEventReport(at: 0, cluster: "cart", action: $0, reason: "") })
    }

    private func service(_ cluster: String) -> String? { cluster == "app" ? nil : "shop/\(cluster)" }

    private func add(_ window: inout TrafficWindow, _ reports: [(Double, NodeReport)], from caller: ObjectKey = Self.caller) {
        var earlier: NodeReport?
        for (time, report) in reports {
            window.add(report, after: earlier, from: caller, now: at(time), service: service)
            earlier = report
        }
    }

    @Test("reports are absolute: what counts is the difference, and the application beside a proxy is no service")
    func differences() {
        var window = TrafficWindow()
        add(&window, [(1, report(10, errors: 1)), (2, report(25, errors: 3)), (3, report(25, errors: 3))])
        #expect(window.totals.count == 1)
        let total = window.totals[TrafficWindow.Edge(caller: Self.caller, service: "shop/cart")]
        #expect(total?.requests == 25 && total?.errors == 3)
    }

    @Test("a process that begins again counts from nothing, whether its numbers are smaller or not", arguments: [5, 40] as [UInt64])
    func restart(requests: UInt64) {
        var window = TrafficWindow()
        add(&window, [(1, report(30)), (2, report(requests, started: 2))])
        #expect(window.totals.values.first?.requests == 30 + requests)
    }

    @Test("callers have sums of their own; a service is all of them")
    func callers() {
        var window = TrafficWindow()
        add(&window, [(1, report(10))])
        add(&window, [(2, report(7, errors: 7))], from: Self.other)
        #expect(window.totals.count == 2)
        let recent = window.recent(30, now: at(3))
        #expect(recent.services["shop/cart"]?.requests == 17 && recent.services["shop/cart"]?.errors == 7)
    }

    @Test("rates are of the time that was asked for; what is older than a minute is gone from them, never from the totals")
    func window() {
        var window = TrafficWindow()
        add(&window, [(1, report(100)), (31, report(160)), (58, report(163))])
        #expect(window.recent(10, now: at(59)).services["shop/cart"]?.requests == 3)
        #expect(window.recent(30, now: at(59)).services["shop/cart"]?.requests == 63)
        add(&window, [(120, report(1, started: 9))])
        #expect(window.recent(50, now: at(121)).services["shop/cart"]?.requests == 1)
        #expect(window.totals.values.first?.requests == 164)
        let recent = window.recent(30, now: at(121))
        #expect(recent.seconds > 30 && recent.seconds < 36)
    }

    @Test("ejections are counted as they are reported, returns are not")
    func ejections() {
        var window = TrafficWindow()
        add(&window, [(1, report(1, events: ["EJECT", "UNEJECT", "EJECT"])), (40, report(2, events: ["EJECT"]))])
        #expect(window.ejections == 3)
        #expect(window.recent(10, now: at(41)).ejections == 1)
    }
}
