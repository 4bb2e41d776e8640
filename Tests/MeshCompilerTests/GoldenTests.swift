import Foundation
import MeshModel
import MeshYAML
import ProxyConfig
import Testing
import XDSWire

@testable import MeshCompiler

/// The meshes under mesh-config/ and what each of their proxies runs. Set OUTRIGGER_UPDATE_GOLDEN=1 to write the files anew, and
/// read the difference before it is committed.
@Suite("Golden snapshots")
struct GoldenTests {
    struct Proxy: Sendable, CustomTestStringConvertible {
        var mesh: String
        var subject: MeshCompiler.Subject

        var testDescription: String { "\(mesh): \(subject.key.qualified)" }
        var file: String { "\(mesh)/\(subject.key.kind.rawValue)-\(subject.key.namespace ?? "")-\(subject.key.name).yaml" }
    }

    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path
    private static let golden = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Golden").path

    static let meshes: [String] = {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "\(root)/mesh-config")) ?? []
        return names.filter { !$0.hasPrefix(".") && !$0.hasSuffix(".md") }.sorted()
    }()

    private static func load(_ mesh: String) -> LoadResult { MeshLoader.load(paths: ["\(root)/mesh-config/\(mesh)"]) }

    static let proxies: [Proxy] = meshes.flatMap { mesh in
        let resources = load(mesh).resources
        return resources.virtualNodes.map { Proxy(mesh: mesh, subject: .virtualNode($0.key)) }
            + resources.virtualGateways.map { Proxy(mesh: mesh, subject: .virtualGateway($0.key)) }
    }

    @Test("Every example mesh is valid, without even a warning", arguments: meshes)
    func valid(mesh: String) {
        #expect(Self.load(mesh).diagnostics.map(\.description) == [])
    }

    @Test("Every proxy runs what its file says", arguments: proxies)
    func rendered(proxy: Proxy) throws {
        let node = try Fixture.compile(Self.load(proxy.mesh).resources, proxy.subject)
        // Not the real version: that changes with the wire form too.
        let text = node.yaml(version: "any")
        let path = "\(Self.golden)/\(proxy.file)"
        if ProcessInfo.processInfo.environment["OUTRIGGER_UPDATE_GOLDEN"] != nil {
            try FileManager.default.createDirectory(atPath: "\(Self.golden)/\(proxy.mesh)", withIntermediateDirectories: true)
            try text.write(toFile: path, atomically: true, encoding: .utf8)
        }
        #expect(try String(contentsOfFile: path, encoding: .utf8) == text)
    }

    @Test("There is no file without a proxy")
    func noLeftovers() {
        let files = FileManager.default.enumerator(atPath: Self.golden)?.compactMap { $0 as? String }.filter { $0.hasSuffix(".yaml") } ?? []
        #expect(Set(files) == Set(Self.proxies.map(\.file)))
    }

    @Test("The order of the files makes no difference", arguments: meshes)
    func deterministic(mesh: String) throws {
        let files = Self.load(mesh).files
        let documents = try files.flatMap { try String(contentsOfFile: $0, encoding: .utf8).components(separatedBy: "\n---\n") }
        let forward = MeshLoader.load(paths: ["-"], standardInput: documents.joined(separator: "\n---\n")).resources
        let backward = MeshLoader.load(paths: ["-"], standardInput: documents.reversed().joined(separator: "\n---\n")).resources
        for proxy in Self.proxies where proxy.mesh == mesh {
            let (first, second) = (try Fixture.compile(forward, proxy.subject), try Fixture.compile(backward, proxy.subject))
            #expect(SnapshotFile.encode(first.snapshot) == SnapshotFile.encode(second.snapshot))
            #expect(first.yaml(version: "") == second.yaml(version: ""))
        }
    }

    @Test("A snapshot file holds the snapshot", arguments: proxies)
    func file(proxy: Proxy) throws {
        let node = try Fixture.compile(Self.load(proxy.mesh).resources, proxy.subject)
        #expect(try SnapshotFile.decode(SnapshotFile.encode(node.snapshot)) == node.snapshot)
    }

    @Test("Each rendering is YAML and JSON that a parser takes", arguments: proxies)
    func wellFormed(proxy: Proxy) throws {
        let node = try Fixture.compile(Self.load(proxy.mesh).resources, proxy.subject)
        let object = try JSONSerialization.jsonObject(with: Data(node.json(version: "v").utf8)) as? [String: Any]
        #expect((object?["notes"] as? [Any])?.count == node.notes.count)
        #expect((object?["clusters"] as? [Any])?.count == node.snapshot.clusters.count)
    }
}

@Suite("Manifests that users of App Mesh had", .enabled(if: Manifests.arePresent, "appmesh-examples is not beside the repository"))
struct ExampleManifestTests {
    @Test("have a snapshot for every node and gateway, which survives its file", arguments: Manifests.names)
    func compile(name: String) throws {
        let result = MeshLoader.load(paths: ["-"], standardInput: try Manifests.text(name), options: LoadOptions(defaultName: "app"))
        #expect(result.diagnostics.filter { $0.severity == .error }.map(\.description) == [])
        let resources = result.resources
        let subjects =
            resources.virtualNodes.map { MeshCompiler.Subject.virtualNode($0.key) }
            + resources.virtualGateways.map { MeshCompiler.Subject.virtualGateway($0.key) }
        for subject in subjects {
            let node = try Fixture.compile(resources, subject)
            #expect(try SnapshotFile.decode(SnapshotFile.encode(node.snapshot)) == node.snapshot)
            #expect(!node.yaml(version: "").isEmpty)
        }
    }
}

/// The manifests that users of App Mesh had; they are kept beside the repository.
enum Manifests {
    static let directory: String = {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        return ProcessInfo.processInfo.environment["APPMESH_EXAMPLES"]
            ?? root.deletingLastPathComponent().appendingPathComponent("shared/appmesh-examples").path
    }()

    static let names = ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []).filter { $0.contains(".yaml") }.sorted()
    static var arePresent: Bool { !names.isEmpty }

    /// The text with its variables set, as the shell did for their users.
    static func text(_ name: String) throws -> String {
        var text = try String(contentsOfFile: "\(directory)/\(name)", encoding: .utf8)
        for (name, value) in ["APP_NAMESPACE": "demo", "MESH_NAME": "demo", "CLOUDMAP_NAMESPACE": "demo.svc.cluster.local"] {
            text = text.replacingOccurrences(of: "${\(name)}", with: value)
        }
        return text.replacing(#/\$\{[A-Z_]*\}/#, with: "value")
    }
}
