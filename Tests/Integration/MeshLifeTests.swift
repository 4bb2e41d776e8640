import ControlAPI
import Foundation
import TestSupport
import Testing

/// A mesh at work: `outriggerd`, its proxies, and applications beside them.
@Suite struct MeshLifeTests {
    @Test("apply, routing by registration, an ejection that everybody can see, and its figures")
    func life() throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        let applied = try mesh.apply(ColorMesh(ejectsAfter: 5).yaml, reason: "begin")
        #expect(applied.revision == 1 && applied.changes.count == 6 && applied.changes.allSatisfy { $0.action == .created })
        let apps = try (2...4).map { try mesh.app($0, saying: "red-\($0)") }
        let front = try mesh.start("front", 1)
        for number in 2...4 { try mesh.start("red", number) }
        try mesh.settle()
        var seen: Set<String> = []
        try eventually("all three answer, not \(seen)") {
            let answer = try mesh.ask(front)
            if answer.status == 200 { seen.insert(answer.bodyText) }
            return seen.count == 3
        }

        apps[0].status = 500
        var outliers: [OutlierItem] = []
        try eventually("the bad one is ejected; \(outliers)\n\(front.log)") {
            _ = try mesh.ask(front)
            outliers = try mesh.get("/v1/outliers")
            return !outliers.isEmpty
        }
        #expect(outliers.map(\.service) == ["lab/red"] && outliers.map(\.endpoint) == ["\(mesh.address(2)):15000"])
        #expect(outliers[0].ejectedBy == ["lab/front front-1"] && outliers[0].callers == 1 && !outliers[0].reason.isEmpty)
        for _ in 0..<20 { #expect(try mesh.ask(front).status == 200) }
        var services: [ServiceItem] = []
        try eventually("the service's figures: \(services)") {
            services = try mesh.get("/v1/services?window=30")
            return services.count == 1 && services[0].ejected == 1 && services[0].errorPercent > 0 && services[0].requestsPerSecond > 0
        }
        #expect(services[0].service == "lab/red" && services[0].endpoints == 3 && services[0].callers == 1)
        #expect(services[0].p99Milliseconds.map { $0 > 0 } == true)
        func figure(_ name: String, _ labels: String) throws -> Double { try mesh.metric("outrigger_mesh_\(name){\(labels)}") ?? 0 }
        let edge = #"caller="lab/front",service="lab/red""#
        try eventually("all are counted") { try figure("requests_total", edge) >= 25 }
        let errors = try figure("errors_total", edge)
        #expect(try errors >= 5 && errors < figure("requests_total", edge))
        #expect(try figure("request_duration_seconds_count", edge) >= 25)
        #expect(try figure("ejected_endpoints", #"service="lab/red""#) == 1)
        #expect(try mesh.metric("outrigger_mesh_ejections_total") == 1)
        #expect(try mesh.metric(#"outrigger_mesh_proxies{state="live"}"#) == 4)
    }

    @Test("an instance drains under load, and another comes, without a failed request; one that is killed leaves after a while")
    func leaving() throws {
        let mesh = try ManagedMesh(lostAfter: 1)
        defer { mesh.end() }
        try mesh.apply(ColorMesh().yaml)
        for number in 2...4 { _ = try mesh.app(number, saying: "red-\(number)") }
        let front = try mesh.start("front", 1)
        let first = try mesh.start("red", 2)
        try mesh.start("red", 3)
        try mesh.settle()
        try mesh.waitForAnswer(front, "red-2")
        try mesh.waitForAnswer(front, "red-3")
        let load = mesh.load(front)
        try load.wait(for: 50)
        #expect(try first.stop() == 0)
        try load.wait(for: 50)
        let last = try mesh.start("red", 4)
        try mesh.settle()
        try mesh.waitForAnswer(front, "red-4")
        let tally = try load.stop()
        #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))\n\(front.log)\n\(first.log)\n\(mesh.log)")
        try eventually("red-2 has left; outriggerd said:\n\(mesh.log)") {
            try mesh.status().nodes.contains { $0.instance == "red-2" && $0.state == "left" && !$0.isConnected }
        }

        last.program.end()
        try eventually("red-4 leaves; outriggerd said:\n\(mesh.log)") {
            try mesh.status().nodes.contains { $0.instance == "red-4" && $0.state == "left" }
        }
        let events = try mesh.call("GET", "/v1/events?limit=1000").bodyText
        #expect(events.contains("red-4 left: its stream was lost for 1 s"), "\(events)")
        // Nobody calls it any more.
        try mesh.settle()
        for _ in 0..<20 { #expect(try mesh.ask(front).bodyText == "red-3") }
    }

    @Test("outriggerd is killed and begins again under load: no request fails, nothing that was acknowledged is lost, proxies come back")
    func daemonKilled() throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        try mesh.apply(ColorMesh(nodes: ["red", "blue"]).yaml)
        for (number, node) in [(2, "red"), (3, "red"), (4, "blue")] {
            _ = try mesh.app(number, saying: node)
            try mesh.start(node, number)
        }
        let front = try mesh.start("front", 1)
        try mesh.settle()
        try mesh.waitForAnswer(front, "red")
        let load = mesh.load(front)
        var revisions: [Int] = [1]
        for round in 0..<4 {
            try load.wait(for: 30)
            let target = round % 2 == 0 ? "blue" : "red"
            // Acknowledged, and killed in the next moment.
            let applied = try mesh.apply(ColorMesh(nodes: ["red", "blue"], targets: [(target, 1)]).router, reason: "round \(round)")
            mesh.killDaemon()
            revisions.append(applied.revision)
            try load.wait(for: 30)
            try mesh.startDaemon()
            #expect(try mesh.status().revision == applied.revision)
            let held: ResourceList = try mesh.get("/v1/resources?kind=VirtualRouter&name=colors")
            #expect(held.items.first?.document.contains("name: \(target)") == true)
            try mesh.settle()
            try mesh.waitForAnswer(front, target)
        }
        #expect(revisions == Array(1...5))
        let tally = try load.stop()
        #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))\n\(front.log)\n\(mesh.log)")
        let history: [HistoryItem] = try mesh.get("/v1/history")
        #expect(history.map(\.revision) == [5, 4, 3, 2, 1] && history[0].reason == "round 3")
        // A configuration is as old as the connection was lost, not more.
        try eventually("the age of what they run falls") {
            try mesh.status().nodes.allSatisfy { $0.configAge.map { $0 < 2 } == true }
        }
        #expect(try mesh.metric("outrigger_mesh_proxies_outdated") == 0)
    }
}
