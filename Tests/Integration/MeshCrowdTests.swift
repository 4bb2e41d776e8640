import ControlAPI
import Foundation
import TestSupport
import Testing

/// Fifty proxies under one outriggerd. `OUTRIGGER_SANITIZER` leaves it out: fifty slow processes say nothing that one does not.
@Suite(.enabled(if: ProcessInfo.processInfo.environment["OUTRIGGER_SANITIZER"] == nil))
struct MeshCrowdTests {
    @Test("a change reaches all whom it concerns and nobody else, and an outriggerd that is killed costs no request")
    func fifty() throws {
        let mesh = try ManagedMesh(lostAfter: 60, arguments: ["--report-interval", "1"])
        defer { mesh.end() }
        let colors = ["red", "blue"]
        try mesh.apply(ColorMesh(nodes: colors).yaml)
        for (index, color) in colors.enumerated() {
            _ = try mesh.app(200 + index, saying: color)
            try mesh.start(color, 200 + index)
        }
        let fronts = try (1...48).map { try mesh.start("front", $0) }
        try mesh.settle()
        for front in [fronts[0], fronts[47]] { try mesh.waitForAnswer(front, "red") }
        let before = try mesh.status().nodes
        #expect(before.count == 50)

        let change = try mesh.apply(ColorMesh(nodes: colors, targets: [("blue", 1)]).router)
        // What they want is known when it is compiled.
        try eventually("revision \(change.revision) is compiled") { try mesh.status().compiledRevision == change.revision }
        try mesh.settle()
        let after = Dictionary(uniqueKeysWithValues: try mesh.status().nodes.map { ($0.instance, $0) })
        for node in before {
            let now = try #require(after[node.instance])
            let isConcerned = node.instance.hasPrefix("front")
            #expect((now.applied != node.applied) == isConcerned, "\(node.instance)")
            #expect(now.applied == now.wanted && (isConcerned || now.appliedAt == node.appliedAt), "\(node.instance)")
        }
        for front in [fronts[0], fronts[47]] { try mesh.waitForAnswer(front, "blue") }

        let loads = [fronts[3], fronts[30]].map { mesh.load($0, callers: 1) }
        for load in loads { try load.wait(for: 20) }
        mesh.killDaemon()
        for load in loads { try load.wait(for: 20) }
        try mesh.startDaemon()
        try mesh.settle()
        #expect(try mesh.status().nodes.allSatisfy { $0.applied == after[$0.instance]?.applied })
        for load in loads {
            let tally = try load.stop()
            #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))")
        }
    }
}
