import ControlAPI
import Foundation
import TestSupport
import Testing

/// What the operator of an outriggerd does beside applying.
struct MeshCareTests {
    @Test("a copy is made while it runs, is whole, and starts in another place with all that was acknowledged before")
    func backup() throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        try mesh.apply(ColorMesh().yaml)
        try mesh.apply(ColorMesh(nodes: ["red", "blue"]).yaml, reason: "blue comes")
        let copy = mesh.folder.file("copy.sqlite")
        let made = try Program.run(ManagedMesh.executable, ["backup", "--data-dir", mesh.folder.file("data"), copy])
        #expect(made.status == 0 && made.output.contains("copy.sqlite: ") && made.output.contains(" events, the last of 20"), "\(made)")
        try mesh.apply(ColorMesh().router, reason: "after the copy")

        let other = mesh.folder.file("other")
        try FileManager.default.createDirectory(atPath: other, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
        try FileManager.default.copyItem(atPath: copy, toPath: "\(other)/events.sqlite")
        let restored = try ManagedMesh(arguments: ["--data-dir", other, "--verify"])
        defer { restored.end() }
        #expect(try restored.status().revision == 2)
        let history: [HistoryItem] = try restored.get("/v1/history")
        #expect(history.first?.reason == "blue comes")

        for arguments in [["--data-dir", mesh.folder.file("nowhere"), copy], ["--data-dir", other, "/proc/copy"]] {
            let refused = try Program.run(ManagedMesh.executable, ["backup"] + arguments)
            #expect(refused.status == 1 && !refused.errors.isEmpty, "\(refused)")
        }
        #expect(try FileManager.default.attributesOfItem(atPath: copy)[.posixPermissions] as? Int == 0o600)
    }

    @Test("what is shown of a node is what its proxy has, with that proxy's address; another can be asked for")
    func compiledForAnInstance() throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        try mesh.apply(ColorMesh().yaml)
        let nobody: CompiledText = try mesh.get("/v1/compiled?node=front")
        #expect(nobody.instance == nil && nobody.text.contains("127.0.0.1"))
        for number in [5, 6] { try mesh.start("front", number) }
        try mesh.settle()
        for number in [5, 6] {
            let shown: CompiledText = try mesh.get("/v1/compiled?node=front&instance=front-\(number)")
            #expect(shown.instance == "front-\(number)" && shown.text.contains(mesh.address(number)))
            let node = try #require(try mesh.status().nodes.first { $0.instance == "front-\(number)" })
            #expect(shown.version == node.applied)
        }
        #expect(try mesh.get("/v1/compiled?node=front", as: CompiledText.self).instance == "front-5")
        let unknown = try mesh.problem(try mesh.call("GET", "/v1/compiled?node=front&instance=front-7"))
        #expect(unknown.status == 404 && unknown.detail?.contains("front-5, front-6") == true)

        let request = ExplainRequest(from: "front", instance: "front-6", method: "GET", url: "http://colors.lab/")
        let explained: Explanation = try mesh.post("/v1/explain", request)
        #expect(explained.steps.first?.name.contains(mesh.address(6)) == true, "\(explained.steps.map(\.name))")
    }

    @Test("what is deleted can leave in stages, and comes back where that is stopped")
    func deleteInStages() throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        try mesh.apply(ColorMesh().yaml)
        for number in [5, 6] { try mesh.start("front", number) }
        try mesh.settle()
        let plan = RolloutPlan(stages: ["1", "100%"], pauseSeconds: 60)
        let key = ResourceName(kind: "VirtualRouter", namespace: "lab", name: "colors")
        let result: ChangeResult = try mesh.post("/v1/delete", DeleteRequest(resources: [key], rollout: plan))
        #expect(result.rollout == "2")
        let first = try mesh.status().nodes.map(\.applied)
        try eventually("one proxy of two runs without it") { Set(try mesh.status().nodes.map(\.applied)).count == 2 }
        let stopped = try mesh.call("POST", "/v1/rollouts/2/stop", [])
        #expect(stopped.status == 200)
        try eventually("it is back") {
            let held: ResourceList = try mesh.get("/v1/resources?kind=VirtualRouter&name=colors")
            return try held.items.count == 1 && mesh.status().nodes.map(\.applied) == first
        }
    }
}
