import ArgumentParser
import Foundation
import TestSupport
import Testing

@testable import outrigger

@Suite("Contexts and addresses")
struct ContextTests {
    private let folder: TemporaryFolder
    private let path: String
    private let environment: [String: String]

    init() throws {
        folder = try TemporaryFolder()
        environment = ["XDG_CONFIG_HOME": folder.path]
        path = ProfileFile.path(environment)
    }

    private func profile(_ arguments: [String], _ more: [String: String] = [:]) throws -> ControlProfile {
        try ControlOptions.parse(arguments).profile(environment.merging(more) { $1 })
    }

    private func write(_ file: ProfileFile) throws { try file.save(path) }

    @Test("the file is for its owner alone, and comes back as it was written")
    func file() throws {
        #expect(path == "\(folder.path)/outrigger/config.yaml")
        #expect(ProfileFile.path(["HOME": "/srv/a"]) == "/srv/a/.config/outrigger/config.yaml")
        #expect(try ProfileFile.load(path) == ProfileFile())
        let profile = ControlProfile(
            address: "a:1", authority: "/ca", serverName: "n", certificate: "/c", key: "/k", token: "t: x", namespace: "s")
        let file = ProfileFile(current: "prod", contexts: ["prod": profile, "dev": ControlProfile(address: "b:2")])
        try write(file)
        #expect(try ProfileFile.load(path) == file)
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        #expect(attributes[.posixPermissions] as? Int == 0o600)
        try Data("contexts: {a: {token: t}}\n".utf8).write(to: URL(fileURLWithPath: path))
        let failure = try #require(throws: Failure.self) { try ProfileFile.load(path) }
        #expect(failure.message.contains("contexts.a.address is missing"))
        try Data().write(to: URL(fileURLWithPath: path))
        #expect(try ProfileFile.load(path) == ProfileFile())
    }

    @Test("what is named goes before the environment, that before the context in use, that before the usual address")
    func precedence() throws {
        #expect(try profile([]) == ControlProfile(address: "127.0.0.1:15010"))
        let prod = ControlProfile(address: "prod:1", authority: "/ca", token: "secret")
        try write(ProfileFile(current: "prod", contexts: ["prod": prod, "dev": ControlProfile(address: "dev:1")]))
        #expect(try profile([]) == prod)
        #expect(try profile([], ["OUTRIGGER_CONTROL_PLANE": "env:1"]).address == "env:1")
        #expect(try profile(["--control-plane", "arg:1"], ["OUTRIGGER_CONTROL_PLANE": "env:1"]).address == "arg:1")
        #expect(try profile(["--context", "dev"], ["OUTRIGGER_CONTROL_PLANE": "env:1"]).address == "dev:1")
        #expect(try profile(["--context", "dev"], ["OUTRIGGER_TOKEN": "mine"]).token == "mine")
        #expect(try profile(["--ca", "/other"]).authority == "/other")
        let failure = try #require(throws: Failure.self) { try profile(["--context", "none"]) }
        #expect(failure.message == "there is no context \"none\"; there are dev, prod")
    }

    @Test("a context's token never goes to an address that was named without the context")
    func tokenStays() throws {
        try write(ProfileFile(current: "prod", contexts: ["prod": ControlProfile(address: "prod:1", token: "secret")]))
        #expect(try profile(["--control-plane", "elsewhere:1"]).token == nil)
        #expect(try profile([], ["OUTRIGGER_CONTROL_PLANE": "elsewhere:1"]).token == nil)
        #expect(try profile(["--context", "prod", "--control-plane", "elsewhere:1"]).token == "secret")
    }

    @Test("set makes a context or changes what is named of one; the first is in use")
    func set() throws {
        var file = ProfileFile()
        try ContextSet.parse(["a", "--address", "h:1", "--ca", "/x/../ca", "-n", "shop"]).change(&file, token: "t")
        #expect(
            file
                == ProfileFile(
                    current: "a", contexts: ["a": ControlProfile(address: "h:1", authority: "/ca", token: "t", namespace: "shop")]))
        try ContextSet.parse(["b", "--address", "h:2"]).change(&file, token: nil)
        #expect(file.current == "a")
        try ContextSet.parse(["a", "--address", "h:3", "--use"]).change(&file, token: nil)
        #expect(file.contexts["a"]?.address == "h:3")
        #expect(file.contexts["a"]?.token == "t")
        #expect(try #require(throws: Failure.self) { try ContextSet.parse(["c"]).change(&file, token: nil) }.status == 2)
        #expect(ContextList.table(file).text().contains("*   a      h:3       shop        yes     /ca"))
    }

    @Test(
        "addresses: plaintext on this machine, TLS elsewhere",
        arguments: [
            ("127.0.0.1:15010", false, "127.0.0.1:15010", false), ("localhost", false, "localhost:15010", false),
            ("[::1]:80", false, "[::1]:80", false), ("mesh.example:1", false, "mesh.example:1", true),
            ("http://mesh.example:1/", false, "mesh.example:1", false), ("https://127.0.0.1:1", false, "127.0.0.1:1", true),
            ("127.0.0.1:1", true, "127.0.0.1:1", true), ("10.0.0.1", false, "10.0.0.1:15010", true), ("::1", false, "[::1]:15010", false),
        ])
    func addresses(text: String, hasAuthority: Bool, shown: String, usesTLS: Bool) throws {
        let address = try ControlAddress(text, hasAuthority: hasAuthority)
        #expect(address.description == shown)
        #expect(address.usesTLS == usesTLS)
    }

    @Test("what is no address is a usage error", arguments: ["", "a:b", "a:0", "ftp://a", "http://", "a/b", "[::1", "a:1:2", "u@h:1"])
    func noAddress(text: String) throws {
        let failure = try #require(throws: Failure.self) { try ControlAddress(text, hasAuthority: false) }
        #expect(failure.status == 2)
    }

    @Test("a token does not travel in clear text, and a certificate needs a name to check")
    func safety() throws {
        let clear = try #require(throws: Failure.self) { try HTTPControlClient(ControlProfile(address: "http://10.0.0.1:1", token: "t")) }
        #expect(clear.message.contains("clear text"))
        let nameless = try #require(throws: Failure.self) {
            try HTTPControlClient(ControlProfile(address: "https://10.0.0.1:1", authority: "/ca"))
        }
        #expect(nameless.message.contains("--server-name"))
        let half = ControlProfile(address: "https://localhost:1", authority: "/ca", certificate: "/c")
        #expect(try #require(throws: Failure.self) { try HTTPControlClient(half) }.message.contains("--key"))
        let missing = ControlProfile(address: "https://localhost:1", authority: folder.file("none"))
        #expect(try #require(throws: Failure.self) { try HTTPControlClient(missing) }.message.contains("none"))
    }

    @Test("nobody listens: the reason is told as such")
    func refused() throws {
        // Port 1 of the loopback interface is nobody's.
        let client = try HTTPControlClient(ControlProfile(address: "127.0.0.1:1"))
        let failure = try #require(throws: ControlFailure.self) { try client.call(ControlCall(path: "/v1/status"), onPiece: nil) }
        #expect(failure.isUnreachable)
    }

    @Test("each shell has its script")
    func completion() {
        for shell in [CompletionShell.bash, .zsh, .fish] {
            #expect(OutriggerCommand.completionScript(for: shell).contains("rollback"))
        }
    }
}
