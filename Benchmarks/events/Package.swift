// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that nobody who builds outrigger builds this. Modules/ holds links to the modules under test.

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableExperimentalFeature("Lifetimes"),
]

func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, path: "Modules/\(name)", swiftSettings: strict)
}

let package = Package(
    name: "outrigger-events-benchmark",
    platforms: [.macOS(.v26)],
    dependencies: [
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        .target(name: "COpenSSL", path: "Modules/COpenSSL", linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
        module("Base"),
        module("HTTP", ["Base"]),
        module("ProxyConfig", ["Base"]),
        module("Routing", ["HTTP", "ProxyConfig", "Base"]),
        module("MeshModel", ["Base"]),
        module("MeshYAML", ["MeshModel", "Routing", "Base", .product(name: "Yams", package: "Yams")]),
        module("EventStore", ["COpenSSL", .product(name: "GRDB", package: "GRDB.swift")]),
        module("Projections", ["EventStore", "MeshYAML", "MeshModel", "Base"]),
        .executableTarget(
            name: "events", dependencies: ["Projections", "EventStore", "MeshYAML", "MeshModel"], path: "Sources/events",
            swiftSettings: strict),
    ],
    swiftLanguageModes: [.v6]
)
