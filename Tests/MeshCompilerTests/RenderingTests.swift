import ConfigText
import MeshModel
import ProxyConfig
import Testing

@testable import MeshCompiler

@Suite("Rendering")
struct RenderingTests {
    @Test(
        "A string is plain where YAML reads it back as itself, else quoted",
        arguments: [
            ("a", "a"), ("a.b:80", "a.b:80"), ("127.0.0.1:80", "127.0.0.1:80"), ("80", "\"80\""), ("1.5", "\"1.5\""), ("1e3", "\"1e3\""),
            ("0x1f", "\"0x1f\""), ("12:30", "\"12:30\""), ("true", "\"true\""), ("No", "\"No\""), ("", "\"\""), ("*", "\"*\""),
            ("a b", "\"a b\""),
            ("a: b", "\"a: b\""), ("a:", "\"a:\""), ("#a", "\"#a\""), ("-", "\"-\""), ("15s", "15s"), ("0.250s", "0.250s"),
            ("%A%\n", "\"%A%\\n\""), ("~", "\"~\""),
            ("\u{1}", "\"\\u0001\""), ("/", "/"), (":method", ":method"),
        ])
    func scalars(string: String, expected: String) {
        var writer = YAMLWriter()
        writer.write(.map([("k", .text(string))]))
        #expect(writer.text == "k: \(expected)\n")
    }

    @Test("Remarks stand at their lines, lists of maps at their dashes")
    func layout() {
        let document = Document.map([
            ("a", .list([.map([("name", .text("x")), ("b", .number(1))]), .map([("c", .list([.text("d")]))])])), ("e", .list([])),
            ("f", .map([])),
            ("g", .map([("h", .flag(true))])),
        ])
        var writer = YAMLWriter(remarks: ["a[x].b": "one", "a[1].c[0]": "two", "g": "three", "nowhere": "four"])
        writer.write(document)
        #expect(
            writer.text == """
                a:
                  - name: x
                    b: 1  # one
                  - c:
                      - d  # two
                e: []
                f: {}
                g:  # three
                  h: true

                """)
        #expect(writer.usedRemarks == ["a[x].b", "a[1].c[0]", "g"])
    }

    @Test(
        "Durations are written to the millisecond",
        arguments: [(Duration.seconds(15), "15s"), (.milliseconds(250), "0.250s"), (.milliseconds(61_005), "61.005s"), (.zero, "0s")])
    func durations(value: Duration, expected: String) {
        #expect(duration(value) == expected)
    }

    @Test("Every silent default that a snapshot of routes and clusters shows is marked, and none is lost")
    func marks() throws {
        let node = try Fixture.compile([
            Fixture.caller, Fixture.service, Fixture.router(Fixture.route("r", "prefix: /")), Fixture.node("a"),
        ])
        let yaml = node.yaml(version: "v")
        for note in node.notes where note.kind == .silentDefault { #expect(yaml.contains("# \(note.text)"), "\(note)") }
        #expect(yaml.contains("timeout: 15s  # App Mesh default\n"))
        #expect(yaml.contains("# mesh.egress_filter: DROP_ALL  # App Mesh default"))
    }
}

@Suite("What stops a compilation")
struct CompileErrorTests {
    @Test("An unknown node; a namespace that no mesh or more than one selects")
    func errors() throws {
        #expect(try Fixture.errors([], node: "x") == ["VirtualNode/x : no such resource in namespace \"default\""])
        let namespaces = "kind: Namespace\nmetadata: {name: default}"
        let node = Fixture.node("a")
        // The loader refuses both; a control plane that meets them between two commands must not crash.
        var resources = try Fixture.load([namespaces, node])
        let key = resources.virtualNodes[0].key
        resources.meshes.insert(.init(meta: .init(name: "n", namespace: ""), namespaceSelector: .init()))
        guard case .failure(let two) = MeshCompiler.compile(resources, for: .virtualNode(key)) else { throw Unexpected(text: "compiled") }
        #expect(two.errors.map(\.message) == ["found multiple matching meshes for namespace: default, expecting 1 but found 2: m,n"])
    }
}
