// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that nobody who builds outrigger builds this. Modules/ holds links to the modules that it stands on.

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
    name: "outrigger-scale-benchmark",
    platforms: [.macOS(.v26)],
    targets: [
        .target(name: "CLinux", path: "Modules/CLinux"),
        .target(name: "COpenSSL", path: "Modules/COpenSSL", linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
        .systemLibrary(name: "CNghttp2", path: "Modules/CNghttp2", pkgConfig: "libnghttp2"),
        module("Base"),
        module("HTTP", ["Base"]),
        module("HTTP2", ["CNghttp2", "HTTP", "Base"]),
        module("ProxyConfig", ["Base"]),
        module("XDSWire", ["ProxyConfig", "Base"]),
        module("Reactor", ["CLinux", "Base"]),
        module("Transport", ["COpenSSL", "ProxyConfig", "Base"]),
        module("HTTPTransport", ["HTTP2", "Transport", "Reactor", "Base"]),
        module("HTTPClient", ["HTTPTransport", "HTTP2", "HTTP", "Transport", "Reactor", "Base"]),
        module("XDSClient", ["XDSWire", "ProxyConfig", "Base"]),
        .executableTarget(
            name: "scale", dependencies: ["XDSClient", "XDSWire", "HTTPClient", "HTTP", "ProxyConfig", "Reactor", "Base"],
            path: "Sources/scale", swiftSettings: strict),
    ],
    swiftLanguageModes: [.v6]
)
