import ControlAPI
import Foundation
import Glibc
import TestSupport
import Testing

/// Changes that reach the proxies in stages.
@Suite struct MeshRolloutTests {
    /// Four front ends that call red; blue and bad are there as well. Nobody answers at bad.
    private final class Stage {
        let mesh: ManagedMesh
        let fronts: [MeshProxy]
        let loads: [Load]
        private let apps: [MeshApp]

        static let colors = ["red", "blue", "bad"]
        static func router(to node: String) -> String { ColorMesh(nodes: colors, targets: [(node, 1)]).router }

        init(loaded: Bool = true) throws {
            let mesh = try ManagedMesh()
            self.mesh = mesh
            try mesh.apply(ColorMesh(nodes: Self.colors).yaml)
            apps = try zip(10...12, Self.colors).map { try mesh.app($0, saying: $1) }
            apps[2].status = 500
            for (number, color) in zip(10...12, Self.colors) { try mesh.start(color, number) }
            fronts = try (1...4).map { try mesh.start("front", $0) }
            try mesh.settle()
            for front in fronts { try mesh.waitForAnswer(front, "red") }
            loads = loaded ? fronts.map { mesh.load($0, callers: 1) } : []
        }

        func rollout(_ id: String) throws -> RolloutItem { try mesh.get("/v1/rollouts/\(id)") }

        /// The rollout, when it has come to its end.
        func end(_ id: String) throws -> RolloutItem {
            var last: RolloutItem?
            try eventually("rollout \(id) ends; it is \(last.map { "\($0)" } ?? "unknown"); outriggerd said:\n\(mesh.log)") {
                last = try? rollout(id)
                return last.map { $0.state != "running" } ?? false
            }
            return last!
        }

        /// The events of a rollout, of those kinds that end one.
        func ends() throws -> [String] {
            let lines = try mesh.call("GET", "/v1/events?after=0&limit=10000").bodyText.split(separator: "\n")
            return try lines.map { try JSONDecoder().decode(EventItem.self, from: Data($0.utf8)).kind }
                .filter { ["rollout.completed", "rollout.compensated", "rollout.stopped"].contains($0) }
        }

        func bodies() throws -> [String] { try fronts.map { try mesh.ask($0).bodyText } }
    }

    @Test("a good change goes on from stage to stage, and is complete")
    func completes() throws {
        let stage = try Stage()
        defer { stage.mesh.end() }
        let plan = RolloutPlan(stages: ["1", "50%", "100%"], pauseSeconds: 1)
        let result = try stage.mesh.apply(Stage.router(to: "blue"), rollout: plan)
        #expect(result.revision == 2 && result.rollout == "2")
        // While it runs, nothing else may change.
        let other = try stage.mesh.problem(
            stage.mesh.send(
                "/v1/apply", ApplyRequest(files: [SourceText(name: "red.yaml", text: Stage.router(to: "red"))])))
        #expect(other.status == 409 && other.detail?.contains("outrigger rollout stop 2") == true)
        var reached: Set<Int> = []
        try eventually("it ends") {
            let rollout = try stage.rollout("2")
            reached.insert(rollout.reached)
            return rollout.state != "running"
        }
        let end = try stage.rollout("2")
        #expect(end.state == "completed" && end.from == 1 && end.reason == nil && end.reached == 7 && end.of == 7, "\(end)")
        #expect(reached.count >= 2 && reached.isSuperset(of: [1]), "\(reached)")
        #expect(try stage.bodies() == Array(repeating: "blue", count: 4))
        for load in stage.loads {
            let tally = try load.stop()
            #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))")
        }
        #expect(try stage.ends() == ["rollout.completed"])
        #expect(try stage.mesh.status().revision == 2)
    }

    @Test("a change that makes requests fail is taken back, and only the proxies of its stage ever had it")
    func compensates() throws {
        let stage = try Stage()
        defer { stage.mesh.end() }
        let plan = RolloutPlan(stages: ["4", "100%"], pauseSeconds: 30)
        // In the order of names: the proxies of bad, blue and two front ends, front-1 among them.
        let result = try stage.mesh.apply(Stage.router(to: "bad"), rollout: plan)
        let end = try stage.end(try #require(result.rollout))
        #expect(end.state == "compensated" && end.reason?.contains("requests failed") == true && end.reached == 4, "\(end)")
        for front in stage.fronts { try stage.mesh.waitForAnswer(front, "red") }
        let tallies = try stage.loads.map { try $0.stop() }
        #expect(tallies.map { $0.count(500) > 0 } == [true, true, false, false], "\(tallies.map(\.statuses))")
        #expect(tallies.allSatisfy { $0.broken.isEmpty && $0.total == $0.count(200) + $0.count(500) })
        #expect(try stage.ends() == ["rollout.compensated"])
        // It is undone by a revision of its own.
        let history: [HistoryItem] = try stage.mesh.get("/v1/history")
        #expect(history.map(\.revision) == [3, 2, 1] && history[0].reason?.contains("rollout of revision 2 taken back") == true)
        let held: ResourceList = try stage.mesh.get("/v1/resources?kind=VirtualRouter")
        #expect(held.items[0].document.contains("name: red"))
        try stage.mesh.settle()
    }

    @Test("one that is stopped is taken back where it is")
    func stops() throws {
        let stage = try Stage()
        defer { stage.mesh.end() }
        try stage.mesh.apply(Stage.router(to: "blue"), rollout: RolloutPlan(stages: ["5", "100%"], pauseSeconds: 600))
        // bad-12, blue-11, front-1, front-2, front-3.
        for front in stage.fronts.prefix(3) { try stage.mesh.waitForAnswer(front, "blue") }
        #expect(try stage.bodies()[3] == "red")
        // Who comes while it runs gets what was before.
        let late = try stage.mesh.start("front", 5)
        try stage.mesh.settle()
        try stage.mesh.waitForAnswer(late, "red")
        #expect(try stage.mesh.call("POST", "/v1/rollouts/77/stop").status == 404)
        #expect(try stage.mesh.call("POST", "/v1/rollouts/2/stop").status == 200)
        let end = try stage.end("2")
        #expect(end.state == "stopped" && end.reason == "stopped by local", "\(end)")
        for front in stage.fronts + [late] { try stage.mesh.waitForAnswer(front, "red") }
        for load in stage.loads {
            let tally = try load.stop()
            #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))")
        }
        #expect(try stage.ends() == ["rollout.stopped"])
        #expect(try stage.mesh.call("POST", "/v1/rollouts/2/stop").status == 404)
    }

    @Test(
        "an outriggerd that is killed in the middle goes on where it was, and the rollout ends in exactly one way",
        arguments: [0, 1, 2, 3])
    func restarts(kills: Int) throws {
        let stage = try Stage()
        defer { stage.mesh.end() }
        let good = kills % 2 == 0
        let plan = RolloutPlan(stages: ["3", "5", "100%"], pauseSeconds: good ? 2 : 20)
        let result = try stage.mesh.apply(Stage.router(to: good ? "blue" : "bad"), rollout: plan)
        #expect(result.rollout == "2")
        for kill in 0...kills {
            // At once, and when some have it.
            if kill > 0 { try stage.mesh.waitForAnswerOrEnd(stage.fronts[0], not: "red", "2") }
            stage.mesh.killDaemon()
            try stage.mesh.startDaemon()
        }
        let end = try stage.end("2")
        #expect(end.state == (good ? "completed" : "compensated"), "\(end)\n\(stage.mesh.log)")
        for front in stage.fronts { try stage.mesh.waitForAnswer(front, good ? "blue" : "red") }
        let tallies = try stage.loads.map { try $0.stop() }
        #expect(tallies.allSatisfy { $0.broken.isEmpty }, "\(tallies.map(\.broken))")
        for (front, tally) in zip(stage.fronts, tallies) where good {
            #expect(tally.failures == 0, "\(tally.statuses) \(tally.refusals)\n\(front.log)\n\(stage.mesh.log)")
        }
        // Never more than the stages that had begun.
        if !good { #expect(tallies[3].count(500) == 0, "\(tallies.map(\.statuses))") }
        let ends = try stage.ends()
        #expect(ends.count == 1, "\(ends)")
        try stage.mesh.settle()
    }
}

extension ManagedMesh {
    /// Waits until a change has reached a proxy, or its rollout is over.
    fileprivate func waitForAnswerOrEnd(_ proxy: MeshProxy, not body: String, _ rollout: String) throws {
        try eventually("\(proxy.instance) has the change; outriggerd said:\n\(log)") {
            if try get("/v1/rollouts/\(rollout)", as: RolloutItem.self).state != "running" { return true }
            return try ask(proxy).bodyText != body
        }
    }
}
