import Base
import MeshModel
import Testing

@testable import MeshYAML

@Suite("YAML as people write it, and as they should not")
struct YAMLStreamTests {
    @Test(
        "what is no YAML is refused at its place",
        arguments: [
            ("a: 1\n\tb: 2\n", "app.yaml:2:1: a tab; YAML indents with spaces only"),
            ("a: b: c\n", "app.yaml:1:5: a second \": \" in one value: check the indentation, or put the value in quotes"),
            ("a: @b\n", "app.yaml:1:4: \"@\" cannot start a value; put it in quotes"),
            ("a: [1, 2\n", "app.yaml:2:1: expected \",\" or \"]\", in what starts at line 1"),
            ("a: {b: 1\n", "app.yaml:2:1: expected \",\" or \"}\", in what starts at line 1"),
            ("a:\n  - 1\n b: 2\n", "app.yaml:3:2: expected a key here: check the indentation, in what starts at line 1"),
            ("a: \"b\n", "app.yaml:2:1: the file ends inside of a value, in what starts at line 1"),
            ("a: *b\n", "app.yaml:1:4: an alias without its anchor"),
            ("a: 1\nb: 2\na: 3\n", "app.yaml:1:1: the mapping has the key \"a\" more than once"),
            ("a: \u{1}\n", "app.yaml:1:4: the character U+1 is not allowed"),
            ("- [a]: 1\n", "app.yaml:1:3: a key must be a scalar, not a list or a mapping"),
        ] as [(String, String)])
    func malformed(yaml: String, expected: String) {
        #expect(Manifests.diagnose(yaml).first == expected)
    }

    @Test(
        "a document that is no resource is refused",
        arguments: [
            ("hello\n", "app.yaml:1:1: expected a Kubernetes resource (a mapping), found hello"),
            ("- a\n", "app.yaml:1:1: expected a Kubernetes resource (a mapping), found a list"),
            ("kind: VirtualNode\n", "app.yaml:1:1: VirtualNode apiVersion: expected a string (required), found nothing"),
            ("apiVersion: v1\n", "app.yaml:1:1: kind: expected a string (required), found nothing"),
        ] as [(String, String)])
    func notAResource(yaml: String, expected: String) {
        #expect(Manifests.diagnose(yaml) == [expected])
    }

    @Test("empty documents count, and say nothing")
    func emptyDocuments() {
        let stream = YAMLStream(Array("---\n# nothing\n---\na: 1\n---\n~\n---\nb: 2\n---\n".utf8), file: "app.yaml")
        #expect(stream.documents.map(\.number) == [2, 4])
        #expect(stream.diagnostics.isEmpty)
        #expect(Manifests.diagnose("").isEmpty)
    }

    @Test("a syntax error ends its document, not the file")
    func errorsInSeveralDocuments() {
        let yaml = "a: [\n---\napiVersion: v1\nkind: Service\n---\nb: b: b\n--- \nhello\n"
        #expect(
            Manifests.diagnose(yaml) == [
                "app.yaml:2:1: expected a value here, in what starts at line 2",
                "app.yaml:6:5: a second \": \" in one value: check the indentation, or put the value in quotes",
                "app.yaml:8:1: expected a Kubernetes resource (a mapping), found hello",
            ])
    }

    @Test("CRLF, a byte order mark and JSON change nothing")
    func spellings() throws {
        let yaml = Manifests.mesh
        let json = """
            {"apiVersion": "appmesh.k8s.aws/v1beta2", "kind": "Mesh", "metadata": {"name": "demo"}, "spec": {"namespaceSelector": {}}}
            """
        let expected = Manifests.load(("app.yaml", yaml)).resources.all
        #expect(expected.count == 1)
        for text in [yaml.replacing("\n", with: "\r\n"), "\u{feff}" + yaml, json] {
            let result = Manifests.load(("app.yaml", text))
            #expect(result.diagnostics.map(\.description) == [])
            #expect(result.resources.all == expected)
        }
        // The mark is no column.
        #expect(Manifests.diagnose("\u{feff}hello") == ["app.yaml:1:1: expected a Kubernetes resource (a mapping), found hello"])
    }

    @Test("aliases and merge keys stand for what they repeat")
    func aliases() throws {
        let yaml = """
            x: &a {k: 1, l: 2}
            y: {<<: *a, l: 3}
            z: *a
            """
        let root = try #require(YAMLStream(Array(yaml.utf8), file: "app.yaml").documents.first?.root)
        #expect(root["y"]?["k"]?.text == "1")
        #expect(root["y"]?["l"]?.text == "3")
        #expect(root["z"]?["l"]?.text == "2")
    }

    @Test("an alias bomb is refused, as a value and as a key")
    func aliasBombs() {
        var values = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        for level in 1...30 { values += "a\(level): &a\(level) [*a\(level - 1), *a\(level - 1), *a\(level - 1), *a\(level - 1)]\n" }
        #expect(Manifests.diagnose(values).first?.contains("more than 300000 values") == true)
        for key in ["? *a30\n: x\n", "*a30 : x\n", "[*a30]: x\n", "{k: *a30}: x\n", "[*a30] # why\n  : x\n", "k: {?[*a30] : x}\n"] {
            #expect(Manifests.diagnose(values + key).first?.contains("aliases must not have keys") == true, "\(key)")
        }
        // An address is no list.
        #expect(Manifests.diagnose("a: &a 1\nb: *a\nc: \"[::1]:8080\"\nd: why?").allSatisfy { !$0.contains("aliases") })
    }

    @Test("nesting and documents have a bound")
    func bounds() {
        let deep = String(repeating: "[", count: 101) + String(repeating: "]", count: 101)
        #expect(Manifests.diagnose(deep).first == "app.yaml:1:101: more than 100 levels of lists and mappings")
        let deeper = String(repeating: "[", count: 200_000)
        #expect(Manifests.diagnose(deeper) == ["app.yaml:1:1: more than 100 levels of lists and mappings"])
        let blocks = String(repeating: "- ", count: 5_000) + "x"
        #expect(Manifests.diagnose(blocks).count == 1)
        #expect(Manifests.diagnose(String(repeating: "--- 1\n", count: 10_001)).contains("app.yaml: more than 10000 documents"))
        let long = [UInt8](repeating: 0x20, count: YAMLStream.maxBytes + 1)
        #expect(YAMLStream(long, file: "app.yaml").diagnostics.map(\.description) == ["app.yaml: the file has more than 16 MiB"])
    }

    @Test("bytes that are not UTF-8 are refused")
    func encodings() {
        #expect(
            YAMLStream([0x61, 0x0a, 0x62, 0xff], file: "app.yaml").diagnostics.map(\.description) == [
                "app.yaml:2:2: a byte that is not UTF-8"
            ])
        #expect(
            YAMLStream([0xff, 0xfe, 0x61, 0], file: "app.yaml").diagnostics.map(\.description) == [
                "app.yaml: the file is in UTF-16; save it as UTF-8"
            ])
    }

    @Test("no beginning of a manifest, and no flipped bit, makes it crash", .enabled(if: Examples.arePresent))
    func damagedManifests() throws {
        var random = SeededRandom(seed: 7)
        for name in ["multiple-listeners.yaml", "tls-file-based.yaml.template", "envoy-logging-custom-format.yaml.template"] {
            let text = Array(try Examples.text(name).utf8)
            for length in stride(from: 0, through: text.count, by: 97) {
                _ = MeshLoader.load([MeshLoader.Source(file: name, bytes: Array(text[..<length]))], options: LoadOptions())
            }
            for _ in 0..<60 {
                var damaged = text
                for _ in 0..<4 { damaged[random.below(text.count)] = UInt8(truncatingIfNeeded: random.next()) & 0x7f }
                _ = MeshLoader.load([MeshLoader.Source(file: name, bytes: damaged)], options: LoadOptions())
            }
        }
    }
}
