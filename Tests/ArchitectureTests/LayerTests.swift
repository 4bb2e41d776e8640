import Testing

/// The arrows of the design: a module imports what its row names, and nothing else. A new module is a new row.
private let arrows: [(module: String, folder: String, mayImport: Set<String>)] = [
    // What both planes stand on.
    ("Base", "Shared", ["Glibc", "Synchronization"]),
    ("HTTP", "Shared", ["Base"]),
    ("HTTP1", "Shared", ["HTTP", "Base"]),
    ("HTTP2", "Shared", ["CNghttp2", "HTTP", "Base", "Glibc"]),
    ("ProxyConfig", "Shared", ["Base"]),
    ("ConfigText", "Shared", ["ProxyConfig", "Base"]),
    ("XDSWire", "Shared", ["ProxyConfig", "Base"]),
    ("Reactor", "Shared", ["CLinux", "Base", "Glibc", "Synchronization"]),
    ("Transport", "Shared", ["COpenSSL", "ProxyConfig", "Base", "Glibc", "Synchronization"]),
    ("HTTPTransport", "Shared", ["HTTP2", "Transport", "Reactor", "Base"]),
    ("HTTPServer", "Shared", ["HTTPTransport", "HTTP1", "HTTP2", "HTTP", "Transport", "Reactor", "Base"]),
    ("HTTPClient", "Shared", ["HTTPTransport", "HTTP2", "HTTP", "Transport", "Reactor", "Base"]),

    // Decides; no I/O, no clock of its own.
    ("Routing", "DataPlane", ["HTTP", "ProxyConfig", "Base"]),
    ("Balancing", "DataPlane", ["ProxyConfig", "Base"]),
    ("Resilience", "DataPlane", ["ProxyConfig", "Base", "Synchronization"]),
    ("XDSClient", "DataPlane", ["XDSWire", "ProxyConfig", "Base"]),
    // Counts and writes logs.
    ("Telemetry", "DataPlane", ["HTTP", "ProxyConfig", "Base", "Glibc", "Synchronization"]),
    ("Resolver", "DataPlane", ["CCares", "Reactor", "Base", "Glibc", "Synchronization"]),
    // Joins them.
    (
        "Proxy", "DataPlane",
        [
            "HTTP1", "HTTP2", "HTTP", "HTTPClient", "HTTPTransport", "Transport", "Reactor", "Resolver", "Routing", "Balancing",
            "Resilience", "Telemetry", "XDSClient", "XDSWire", "ConfigText", "ProxyConfig", "Base", "Glibc", "Synchronization",
        ]
    ),
    ("outrigger-proxy", "DataPlane", ["Proxy", "Glibc"]),

    // The mesh.
    ("MeshModel", "ControlPlane", ["ProxyConfig", "Base"]),
    ("MeshYAML", "ControlPlane", ["MeshModel", "Routing", "ProxyConfig", "Base", "Yams", "Foundation", "Glibc"]),
    ("MeshCompiler", "ControlPlane", ["MeshModel", "ConfigText", "ProxyConfig", "Base", "Synchronization"]),

    // The control plane.
    ("EventStore", "ControlPlane", ["COpenSSL", "GRDB", "Foundation", "Glibc", "Synchronization"]),
    ("Projections", "ControlPlane", ["EventStore", "MeshYAML", "MeshModel", "Base", "Foundation"]),
    ("ControlAPI", "ControlPlane", []),
    ("XDSServer", "ControlPlane", ["XDSWire", "ProxyConfig", "Base"]),
    (
        "Explain", "ControlPlane",
        ["MeshCompiler", "MeshModel", "ControlAPI", "ConfigText", "ProxyConfig", "Routing", "HTTP", "Base"]
    ),
    ("Rollout", "ControlPlane", ["Base"]),
    ("CertificateAuthority", "ControlPlane", ["COpenSSL", "Glibc"]),
    (
        "Daemon", "ControlPlane",
        [
            "ControlAPI", "Explain", "EventStore", "Projections", "XDSServer", "Rollout", "CertificateAuthority", "MeshCompiler",
            "MeshYAML",
            "MeshModel", "HTTPServer", "HTTP2", "HTTP", "Transport", "Reactor", "Telemetry", "XDSWire", "ProxyConfig", "Base",
            "ArgumentParser",
            "Foundation",
        ]
    ),
    ("outriggerd", "ControlPlane", ["Daemon"]),
    (
        "outrigger", "CLI",
        [
            "CSpawn", "Explain", "ControlAPI", "HTTPClient", "Transport", "MeshYAML", "MeshCompiler", "MeshModel", "ConfigText", "XDSWire",
            "ProxyConfig", "Base", "ArgumentParser", "Yams", "Foundation", "Glibc",
        ]
    ),
]

/// Nothing on the Foundation-free side may need more than the C library and the standard library.
private let system: Set<String> = ["Glibc", "Synchronization", "Swift"]

/// A C library has one owner; no other module sees its types. Of OpenSSL, EventStore calls the digest and no more.
private let owners = [
    ("CLinux", ["Sources/Shared/Reactor/"]), ("CNghttp2", ["Sources/Shared/HTTP2/"]),
    ("COpenSSL", ["Sources/Shared/Transport/", "Sources/ControlPlane/EventStore/", "Sources/ControlPlane/CertificateAuthority/"]),
    ("CCares", ["Sources/DataPlane/Resolver/"]), ("CSpawn", ["Sources/CLI/outrigger/"]),
]

@Suite("Layers")
struct LayerTests {
    @Test("a module imports only what the design's arrows allow", arguments: arrows.indices)
    func arrowsHold(row: Int) throws {
        let (module, folder, mayImport) = arrows[row]
        let imports = try Repository.imports(in: "Sources/\(folder)/\(module)")
        for found in imports where !mayImport.contains(found.module) {
            Issue.record("\(found): \(module) may import \(mayImport.sorted().joined(separator: ", "))")
        }
    }

    @Test("every folder of Sources is a module of the table, and a target of its name in Package.swift")
    func everyFolderIsAModule() throws {
        let package = try #require(try Repository.files(in: "Package.swift", endings: []).first).text
        for layer in ["Shared", "DataPlane", "ControlPlane", "CLI"] {
            for module in try Repository.modules(in: layer) {
                #expect(arrows.contains { $0.module == module && $0.folder == layer }, "Sources/\(layer)/\(module) is in no row")
                // `shared("Base"` knows its folder; `.executableTarget(name: "outrigger"` says `path:`.
                let maker = ["Shared": "shared", "DataPlane": "dataPlane", "ControlPlane": "controlPlane"][layer]
                let isTarget =
                    maker.map { package.contains(try! Regex("\($0)\\(\\s*\"\(module)\"")) } ?? false
                    || package.contains("path: \"Sources/\(layer)/\(module)\"")
                #expect(isTarget, "Sources/\(layer)/\(module) is no target of that name")
            }
        }
        for (module, folder, _) in arrows {
            #expect(Repository.exists("Sources/\(folder)/\(module)"), "the row \(module) has no folder Sources/\(folder)/\(module)")
        }
    }

    @Test("nothing that a request passes imports Foundation, Dispatch, a package, or the mesh", arguments: ["Shared", "DataPlane"])
    func leanSideIsLean(layer: String) throws {
        let own = Set(arrows.filter { $0.folder == "Shared" || $0.folder == "DataPlane" }.map(\.module) + owners.map(\.0))
        for found in try Repository.imports(in: "Sources/\(layer)") {
            let isAllowed = own.contains(found.module) || system.contains(found.module)
            #expect(isAllowed, "\(found): not on the side without Foundation")
        }
        // What is shared does not know the data plane either.
        let above = Set(arrows.filter { $0.folder != "Shared" }.map(\.module))
        for found in layer == "Shared" ? try Repository.imports(in: "Sources/Shared") : [] {
            #expect(!above.contains(found.module), "\(found): upwards")
        }
    }

    @Test("a C library has one owner", arguments: owners)
    func oneOwner(library: String, folders: [String]) throws {
        for found in try Repository.imports(in: "Sources") where found.module == library {
            #expect(folders.contains { found.path.hasPrefix($0) }, "\(found): only \(folders) see \(library)")
        }
    }

    @Test("the table has no circle")
    func noCircle() {
        var rest = Dictionary(uniqueKeysWithValues: arrows.map { ($0.module, $0.mayImport) })
        while true {
            let free = rest.filter { _, imports in imports.allSatisfy { rest[$0] == nil } }.keys
            if free.isEmpty { break }
            for module in free { rest[module] = nil }
        }
        #expect(rest.isEmpty, "\(rest.keys.sorted()) import each other")
    }
}
