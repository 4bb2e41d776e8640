import Foundation
import MeshModel
import Testing

@testable import MeshYAML

/// Reads YAML texts as if they were files.
enum Manifests {
    static func load(_ files: (String, String)..., options: LoadOptions = LoadOptions()) -> LoadResult {
        MeshLoader.load(files.map { MeshLoader.Source(file: $0.0, bytes: Array($0.1.utf8)) }, options: options)
    }

    /// What is said about one file `app.yaml`.
    static func diagnose(_ yaml: String, options: LoadOptions = LoadOptions()) -> [String] {
        load(("app.yaml", yaml), options: options).diagnostics.map(\.description)
    }

    /// A Mesh that selects every namespace, so that tests of other kinds need not speak of it.
    static let mesh = """
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: Mesh
        metadata: {name: demo}
        spec: {namespaceSelector: {}}

        """

    /// What is said about `spec` as that of a resource named `it`, without places and without `Kind/it `.
    static func problems(_ kind: ResourceKind, _ spec: String) -> [String] {
        let head = """
            apiVersion: \(kind.apiVersion)
            kind: \(kind.rawValue)
            metadata: {name: it}
            spec:

            """
        let body = spec.split(separator: "\n").map { "  \($0)" }.joined(separator: "\n")
        let text = kind == .mesh ? head + body : mesh + "---\n" + head + body
        return load(("app.yaml", text)).diagnostics
            .filter {
                !$0.description.contains("unresolved reference") && !$0.description.contains("failed to find matching virtualGateway")
            }
            .map { diagnostic in
                (diagnostic.severity == .warning ? "warning: " : "") + "\(diagnostic.path): \(diagnostic.problem)"
            }
    }
}

/// The meshes that this repository shows.
enum OurMeshes {
    static let directory = Examples.root.appendingPathComponent("mesh-config").path
    static let names = ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []).filter { !$0.contains(".") }.sorted()
}

/// The manifests that users of App Mesh had; they are kept beside the repository.
enum Examples {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    static let directory =
        ProcessInfo.processInfo.environment["APPMESH_EXAMPLES"]
        ?? root.deletingLastPathComponent().appendingPathComponent("shared/appmesh-examples").path

    static let names: [String] = {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        return names.filter { $0.contains(".yaml") }.sorted()
    }()

    static var arePresent: Bool { !names.isEmpty }

    /// The text with its variables set, as the shell did for their users.
    static func text(_ name: String) throws -> String {
        var text = try String(contentsOfFile: "\(directory)/\(name)", encoding: .utf8)
        let values = [
            "APP_NAMESPACE": "demo", "MESH_NAME": "demo", "CLOUDMAP_NAMESPACE": "demo.svc.cluster.local",
            "FRONTEND_CERT_CHAIN": "ca_1_cert.pem",
            "FRONTEND_APP_CERT": "front-tls", "SVID_CA_TRUST_DOMAIN": "spiffe://example.org",
        ]
        for (name, value) in values { text = text.replacingOccurrences(of: "${\(name)}", with: value) }
        text = text.replacing(#/\$\{[A-Z_]*SVID\}/#, with: "spiffe://example.org/front")
        return text.replacing(#/\$\{[A-Z_]*IMAGE\}/#, with: "example/image:1")
    }
}
