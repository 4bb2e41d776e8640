import MeshModel
import Testing

@testable import MeshYAML

@Suite("Manifests that users of App Mesh had", .enabled(if: Examples.arePresent, "appmesh-examples is not beside the repository"))
struct ExampleManifestTests {
    @Test("load without an error", arguments: Examples.names)
    func load(name: String) throws {
        let result = Manifests.load((name, try Examples.text(name)))
        #expect(result.diagnostics.filter { $0.severity == .error }.map(\.description) == [])
        #expect(!result.resources.all.isEmpty)
    }
}

@Test("The meshes of mesh-config load without a word", arguments: OurMeshes.names)
func ourMeshes(name: String) {
    let result = MeshLoader.load(paths: ["\(OurMeshes.directory)/\(name)"])
    #expect(result.diagnostics.map(\.description) == [])
    #expect(!result.resources.virtualNodes.isEmpty)
}
