// swift-tools-version: 6.2
import PackageDescription

/// Every Swift target: Swift 6 language mode, strict memory safety, explicit `any`, imports internal unless said otherwise.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableExperimentalFeature("Lifetimes"),
]

/// The data plane and what it stands on. Exclusivity checks stay on in debug and sanitizer builds, where they find bugs;
/// in release they cost up to 5,000 instructions a request (docs/decisions/0002-release-flags.md).
let lean: [SwiftSetting] = strict + [.unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release))]

func shared(_ name: String, _ dependencies: [Target.Dependency] = [], _ settings: [SwiftSetting] = lean) -> Target {
    .target(name: name, dependencies: dependencies, path: "Sources/Shared/\(name)", swiftSettings: settings)
}

func dataPlane(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, path: "Sources/DataPlane/\(name)", swiftSettings: lean)
}

/// Configuration and the control plane, compiled for size, which takes a fifth less time: they are not on the way of a request
/// (docs/decisions/0002-release-flags.md).
let small: [SwiftSetting] = strict + [.unsafeFlags(["-Osize"], .when(configuration: .release))]

/// The commands themselves, not what they call: they read arguments and print tables.
let commands: [SwiftSetting] = strict + [.unsafeFlags(["-Onone"], .when(configuration: .release))]

func controlPlane(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, path: "Sources/ControlPlane/\(name)", swiftSettings: small)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies + ["TestSupport"], path: "Tests/\(name)", exclude: exclude, swiftSettings: strict)
}

let package = Package(
    name: "outrigger",
    platforms: [.macOS(.v26)],  // Says only which standard library we use; the product runs on Linux.
    products: [
        .executable(name: "outrigger-proxy", targets: ["outrigger-proxy"]),
        .executable(name: "outriggerd", targets: ["outriggerd"]),
        .executable(name: "outrigger", targets: ["outrigger"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        // C shims.
        .target(name: "CLinux", path: "Sources/C/CLinux"),
        .target(name: "CSpawn", path: "Sources/C/CSpawn"),
        .target(
            name: "COpenSSL", path: "Sources/C/COpenSSL", linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
        .systemLibrary(name: "CCares", path: "Sources/C/CCares", pkgConfig: "libcares", providers: [.apt(["libc-ares-dev"])]),
        .systemLibrary(name: "CNghttp2", path: "Sources/C/CNghttp2", pkgConfig: "libnghttp2", providers: [.apt(["libnghttp2-dev"])]),

        // What both planes stand on.
        shared("Base"),
        shared("HTTP", ["Base"]),
        shared("HTTP1", ["HTTP", "Base"]),
        shared("HTTP2", ["CNghttp2", "HTTP", "Base"]),
        shared("ProxyConfig", ["Base"]),
        shared("XDSWire", ["ProxyConfig", "Base"], small),
        shared("ConfigText", ["ProxyConfig", "Base"], small),
        shared("Reactor", ["CLinux", "Base"]),
        shared("Transport", ["COpenSSL", "ProxyConfig", "Base"]),
        shared("HTTPTransport", ["HTTP2", "Transport", "Reactor", "Base"]),
        shared("HTTPServer", ["HTTPTransport", "HTTP1", "HTTP2", "HTTP", "Transport", "Reactor", "Base"]),
        shared("HTTPClient", ["HTTPTransport", "HTTP2", "HTTP", "Transport", "Reactor", "Base"]),

        // The data plane: decisions first, then what touches sockets, then what joins them.
        dataPlane("Routing", ["HTTP", "ProxyConfig", "Base"]),
        dataPlane("Balancing", ["ProxyConfig", "Base"]),
        dataPlane("Resilience", ["ProxyConfig", "Base"]),
        dataPlane("Telemetry", ["HTTP", "ProxyConfig", "Base"]),
        dataPlane("Resolver", ["CCares", "Reactor", "Base"]),
        dataPlane("XDSClient", ["XDSWire", "ProxyConfig", "Base"]),
        dataPlane(
            "Proxy",
            [
                "HTTP1", "HTTP2", "HTTP", "HTTPClient", "HTTPTransport", "Transport", "Reactor", "Resolver", "Routing", "Balancing",
                "Resilience", "Telemetry", "XDSClient", "XDSWire", "ConfigText", "ProxyConfig", "Base",
            ]),
        .executableTarget(
            name: "outrigger-proxy", dependencies: ["Proxy"], path: "Sources/DataPlane/outrigger-proxy", swiftSettings: lean,
            linkerSettings: [.unsafeFlags(["-static-stdlib"], .when(configuration: .release))]),

        // The mesh: its resources, their YAML, and the compiler from App Mesh to snapshots.
        controlPlane("MeshModel", ["ProxyConfig", "Base"]),
        controlPlane("MeshYAML", ["MeshModel", "Routing", "ProxyConfig", "Base", .product(name: "Yams", package: "Yams")]),
        controlPlane("MeshCompiler", ["MeshModel", "ConfigText", "ProxyConfig", "Base"]),

        // The control plane: the log of events, and what is folded from it.
        controlPlane("EventStore", ["COpenSSL", .product(name: "GRDB", package: "GRDB.swift")]),
        controlPlane("Projections", ["EventStore", "MeshYAML", "MeshModel", "Base"]),
        controlPlane("ControlAPI"),
        controlPlane("Explain", ["MeshCompiler", "MeshModel", "ControlAPI", "ConfigText", "ProxyConfig", "Routing", "HTTP", "Base"]),
        controlPlane("Rollout", ["Base"]),
        controlPlane("CertificateAuthority", ["COpenSSL"]),
        controlPlane("XDSServer", ["XDSWire", "ProxyConfig", "Base"]),
        controlPlane(
            "Daemon",
            [
                "ControlAPI", "Explain", "EventStore", "Projections", "XDSServer", "Rollout", "CertificateAuthority", "MeshCompiler",
                "MeshYAML", "MeshModel", "HTTPServer", "HTTP2", "HTTP", "Transport", "Reactor", "Telemetry", "XDSWire", "ProxyConfig",
                "Base",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),
        .executableTarget(
            name: "outriggerd", dependencies: ["Daemon"], path: "Sources/ControlPlane/outriggerd", swiftSettings: small),
        .executableTarget(
            name: "outrigger",
            dependencies: [
                "CSpawn", "Explain", "ControlAPI", "HTTPClient", "Transport", "MeshYAML", "MeshCompiler", "MeshModel", "XDSWire",
                "ConfigText", "ProxyConfig", "Base",
                .product(name: "ArgumentParser", package: "swift-argument-parser"), .product(name: "Yams", package: "Yams"),
            ],
            path: "Sources/CLI/outrigger", swiftSettings: commands),

        // Tests mirror the folders above.
        .target(name: "CTestTLS", path: "Tests/CTestTLS", linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
        .target(name: "TestSupport", dependencies: ["CTestTLS", "Base"], path: "Tests/Support", swiftSettings: strict),
        tests("BaseTests", ["Base"]),
        tests("HTTPTests", ["HTTP", "Base"]),
        tests("HTTP1Tests", ["HTTP1", "HTTP", "Base"]),
        tests("HTTP2Tests", ["HTTP2", "HTTP", "Base"]),
        tests("ReactorTests", ["Reactor", "Base"]),
        tests("TransportTests", ["Transport", "ProxyConfig", "Base"]),
        tests(
            "HTTPServerTests",
            ["HTTPServer", "HTTPClient", "HTTPTransport", "HTTP", "HTTP2", "Transport", "Reactor", "ProxyConfig", "Base"]),
        tests("XDSWireTests", ["XDSWire", "ProxyConfig", "Base"], exclude: ["check_with_xds_protos.py"]),
        tests("RoutingTests", ["Routing", "HTTP", "ProxyConfig", "Base"]),
        tests("BalancingTests", ["Balancing", "Resilience", "ProxyConfig", "Base"]),
        tests("ResilienceTests", ["Resilience", "ProxyConfig", "Base"]),
        .target(
            name: "SimulatedMesh", dependencies: ["Balancing", "Resilience", "ProxyConfig", "Base"], path: "Tests/SimulatedMesh",
            swiftSettings: lean),
        .executableTarget(name: "simulate", dependencies: ["SimulatedMesh"], path: "Tests/Simulate", swiftSettings: strict),
        tests("Simulation", ["SimulatedMesh"]),
        tests("TelemetryTests", ["Telemetry", "HTTP", "ProxyConfig", "Base"]),
        tests(
            "AdminTests",
            ["Proxy", "HTTP", "Reactor", "Resilience", "Telemetry", "ProxyConfig", "Base"]),
        tests("ResolverTests", ["Resolver", "Reactor", "Base"]),
        tests("XDSClientTests", ["XDSClient", "XDSWire", "ProxyConfig", "Base"]),
        tests("MeshYAMLTests", ["MeshYAML", "MeshModel", "ProxyConfig", "Base"]),
        tests("XDSServerTests", ["XDSServer", "XDSClient", "XDSWire", "ProxyConfig", "Base"]),
        tests(
            "MeshCompilerTests", ["MeshCompiler", "MeshYAML", "MeshModel", "XDSWire", "ConfigText", "ProxyConfig", "Base"],
            exclude: ["Golden"]),
        tests(
            "ExplainTests",
            ["Explain", "ControlAPI", "MeshCompiler", "MeshYAML", "MeshModel", "ProxyConfig", "Routing", "HTTP", "Base"]),
        tests(
            "OutriggerTests",
            [
                "outrigger", "ControlAPI", "MeshCompiler", "MeshModel", "ProxyConfig", "Base",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]),
        tests(
            "ProxyTests",
            [
                "Proxy", "Balancing", "HTTPTransport", "Transport", "Telemetry", "Resolver", "Reactor", "Resilience", "XDSWire",
                "ProxyConfig", "Base",
            ]),
        tests("RolloutTests", ["Rollout", "Base"]),
        tests("CertificateAuthorityTests", ["CertificateAuthority", "Transport", "ProxyConfig"]),
        .executableTarget(name: "event-appender", dependencies: ["EventStore"], path: "Tests/EventAppender", swiftSettings: strict),
        tests("EventStoreTests", ["event-appender", "EventStore", "Base", .product(name: "GRDB", package: "GRDB.swift")]),
        tests("ProjectionsTests", ["Projections", "EventStore", "MeshYAML", "MeshModel", "Base"]),
        tests(
            "DaemonTests",
            [
                "Daemon", "CertificateAuthority", "ControlAPI", "EventStore", "Projections", "MeshCompiler", "MeshYAML", "MeshModel",
                "HTTPServer", "HTTPClient", "Transport", "Reactor", "XDSWire", "ProxyConfig", "Base",
            ]),
        tests("ArchitectureTests", []),
        tests("Integration", ["ControlAPI", "XDSWire", "ProxyConfig", "Base"], exclude: ["Peers"]),
    ],
    swiftLanguageModes: [.v6]
)

// The sanitizers look at the data plane and what it shares: without the rest their builds take half the time (scripts/sanitize).
if Context.environment["OUTRIGGER_DATA_PLANE_ONLY"] != nil {
    let dropped = Set(package.targets.filter(isOutside).map(\.name))
    package.targets.removeAll { dropped.contains($0.name) || $0.isTest && $0.dependencies.contains { isOne(of: dropped, $0) } }
    package.products.removeAll { dropped.contains($0.name) }
}

/// Of the control plane or the CLI, or the simulator, which has no pointer of its own. `ControlAPI` stays: the integration tests read
/// with it, and it stands on nothing.
func isOutside(_ target: Target) -> Bool {
    guard let path = target.path, target.name != "ControlAPI" else { return false }
    return path.hasPrefix("Sources/ControlPlane/") || path.hasPrefix("Sources/CLI/")
        || ["event-appender", "SimulatedMesh", "simulate"].contains(target.name)
}

func isOne(of names: Set<String>, _ dependency: Target.Dependency) -> Bool {
    if case .byNameItem(let name, _) = dependency { names.contains(name) } else { false }
}
