import Foundation
import MeshModel
import Testing

@testable import MeshYAML

@Suite("Files, directories and standard input")
struct MeshLoaderTests {
    /// Files of a directory that lives as long as the test.
    private final class Folder {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("mesh-loader-\(UUID().uuidString)").path

        init(_ files: [String: String]) throws {
            for (name, text) in files {
                let url = URL(fileURLWithPath: "\(path)/\(name)")
                try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
                try text.write(to: url, atomically: false, encoding: .utf8)
            }
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        }

        deinit { try? FileManager.default.removeItem(atPath: path) }
    }

    private static func service(_ name: String) -> String {
        "apiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualService\nmetadata: {name: \(name)}\nspec: {}\n"
    }

    @Test("a directory is walked in the order of names, for YAML and JSON only; a file that is named twice is read once")
    func directories() throws {
        let folder = try Folder([
            "b.yml": Self.service("b"), "a.yaml": Self.service("a"), "c/d.yaml": Self.service("d"),
            "c.json":
                #"{"apiVersion": "appmesh.k8s.aws/v1beta2", "kind": "Mesh", "metadata": {"name": "m"}, "spec": {"namespaceSelector": {}}}"#,
            "e.txt": ":", "f.yaml.bak": ":", ".hidden.yaml": ":",
        ])
        let result = MeshLoader.load(paths: [folder.path, folder.path + "/a.yaml"])
        #expect(result.diagnostics.map(\.description) == [])
        #expect(result.files == ["a.yaml", "b.yml", "c/d.yaml", "c.json"].map { "\(folder.path)/\($0)" })
        #expect(result.resources.virtualServices.map(\.meta.name) == ["a", "b", "d"])
    }

    @Test("what cannot be read says why, and the rest is read")
    func unreadable() throws {
        let folder = try Folder(["a.yaml": Manifests.mesh])
        let empty = try Folder([:])
        let result = MeshLoader.load(paths: ["\(folder.path)/none.yaml", empty.path, folder.path])
        #expect(
            result.diagnostics.map(\.description) == [
                "\(empty.path): the directory has no *.yaml, *.yml, *.json",
                "\(folder.path)/none.yaml: cannot be read: No such file or directory",
            ])
        #expect(result.hasErrors)
        #expect(result.resources.meshes.count == 1)
    }

    @Test("- is standard input")
    func standardInput() {
        let result = MeshLoader.load(paths: ["-"], standardInput: Manifests.mesh + "spec2: 1")
        #expect(result.diagnostics.map(\.description) == ["-:5:1: warning: Mesh/demo spec2: unknown field, ignored; did you mean spec?"])
        #expect(result.resources.meshes.count == 1)
        #expect(MeshLoader.load(paths: ["-"]).diagnostics.map(\.description) == ["-: there is no standard input to read"])
    }

    @Test("nothing is taken from a file with an error, everything from the others")
    func brokenFiles() {
        let broken = Self.service("b") + "---\n" + Self.service("c") + "---\n" + Self.service("C")
        let result = Manifests.load(("a.yaml", Manifests.mesh), ("b.yaml", broken), ("d.yaml", Self.service("d")))
        #expect(result.diagnostics.map(\.file) == ["b.yaml"])
        #expect(result.resources.virtualServices.map(\.meta.name) == ["d"])
        #expect(result.resources.places.location(in: ResourceKey(kind: .virtualService, namespace: "default", name: "b")) == nil)
    }

    @Test("for machines, a diagnostic is an object whose absent parts are left out")
    func json() throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let diagnostics = Manifests.load(("app.yaml", Manifests.mesh.replacing("{}", with: "7"))).diagnostics
        #expect(
            String(decoding: try encoder.encode(diagnostics), as: UTF8.self)
                == #"[{"column":27,"document":1,"expected":"a mapping","file":"app.yaml","found":"7","line":4,"#
                + #""message":"expected a mapping, found 7","path":"spec.namespaceSelector","resource":"Mesh/demo","severity":"error"}]"#
        )
    }

    @Test("a mesh of thousands of resources loads in order")
    func large() {
        let text = (0..<2000).reversed().map { Self.service("s\($0)") }.joined(separator: "---\n")
        let result = Manifests.load(("app.yaml", Manifests.mesh + "---\n" + text))
        #expect(result.diagnostics.isEmpty)
        #expect(result.resources.virtualServices.map(\.key) == result.resources.virtualServices.map(\.key).sorted())
        #expect(result.resources.virtualServices.count == 2000)
    }

    @Test(
        "the field that was meant",
        arguments: [
            ("listener", "listeners"), ("Listeners", "listeners"), ("lsiteners", "listeners"), ("serviceDiscovry", "serviceDiscovery"),
            ("xyz", nil), ("", nil),
        ] as [(String, String?)])
    func spelling(word: String, expected: String?) {
        #expect(Spelling.nearest(to: word, among: ["listeners", "serviceDiscovery", "awsName"]) == expected)
    }
}
