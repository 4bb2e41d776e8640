// swift-tools-version: 6.2
import PackageDescription

// A package of its own, because all of it is built with `-sanitize=fuzzer,address` (scripts/fuzz), and the main build stays as it is.
// Modules/ holds links to the modules under test.

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableExperimentalFeature("Lifetimes"),
    // Built for speed, but every assertion counts. `--sanitize fuzzer` alone changes how the program is linked; this counts edges.
    .unsafeFlags(["-assert-config", "Debug", "-sanitize=fuzzer"]),
]

func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, path: "Modules/\(name)", swiftSettings: strict)
}

func entry(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(
        name: name, dependencies: ["Fuzzing"] + dependencies, path: "Sources/\(name)",
        // libFuzzer has the `main`.
        swiftSettings: strict + [.unsafeFlags(["-parse-as-library"])])
}

let package = Package(
    name: "outrigger-fuzz",
    platforms: [.macOS(.v26)],
    targets: [
        .target(name: "Fuzzing", dependencies: ["HTTP1", "HTTP", "Base"], path: "Sources/Fuzzing", swiftSettings: strict),

        module("Base"),
        module("HTTP", ["Base"]),
        module("HTTP1", ["HTTP", "Base"]),
        .systemLibrary(name: "CNghttp2", path: "Modules/CNghttp2", pkgConfig: "libnghttp2"),
        module("HTTP2", ["CNghttp2", "HTTP", "Base"]),
        module("ProxyConfig", ["Base"]),
        .target(
            name: "COpenSSL", path: "Modules/COpenSSL", cSettings: [.unsafeFlags(["-fsanitize=fuzzer-no-link"])],
            linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
        module("Transport", ["COpenSSL", "ProxyConfig", "Base"]),

        entry("fuzz-http1", ["HTTP1", "HTTP", "Base"]),
        entry("fuzz-http2", ["HTTP2", "HTTP1", "HTTP", "Base"]),
        entry("fuzz-client-hello", ["Transport", "ProxyConfig", "Base"]),
    ],
    swiftLanguageModes: [.v6]
)
