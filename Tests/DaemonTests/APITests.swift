import ControlAPI
import EventStore
import Foundation
import Projections
import Testing

@testable import Daemon

@Suite("The API's small parts")
struct APITests {
    @Test("times are RFC 3339 with milliseconds, and are read with and without a fraction")
    func times() throws {
        let time = UnixTime(milliseconds: 1_763_860_923_007)
        #expect(time.text == "2025-11-23T01:22:03.007Z")
        #expect(UnixTime(text: time.text) == time)
        #expect(UnixTime(text: "2025-11-23T01:22:03Z")?.milliseconds == 1_763_860_923_000)
        for text in ["", "yesterday", "2025-13-01T00:00:00Z", "12"] { #expect(UnixTime(text: text) == nil, "\(text)") }
    }

    @Test("the OpenAPI document is JSON, and every operation has an answer")
    func openAPI() throws {
        let document = try #require(try JSONSerialization.jsonObject(with: Data(OpenAPI.document.utf8)) as? [String: Any])
        let paths = try #require(document["paths"] as? [String: [String: [String: Any]]])
        #expect(paths.count >= 15)
        for (path, operations) in paths {
            for (method, operation) in operations { #expect(operation["responses"] != nil, "\(method) \(path)") }
        }
        #expect(paths["/v1/apply"]?["post"]?["requestBody"] != nil)
    }

    @Test("labels of metrics are escaped")
    func metrics() {
        var page = MetricsPage()
        page.family("m", "gauge", "Help.")
        page.sample("m", [("a", "x\"y\\z\nw"), ("b", "")], 1)
        page.sample("m", [], 2.5)
        #expect(page.text == "# HELP m Help.\n# TYPE m gauge\nm{a=\"x\\\"y\\\\z\\nw\",b=\"\"} 1\nm 2.5\n")
    }

    @Test("tokens are long, never the same, and known by their hash")
    func tokens() {
        let tokens = Set((0..<100).map { _ in Access.newToken() })
        #expect(tokens.count == 100)
        #expect(tokens.allSatisfy { $0.count == 56 && $0.hasPrefix("otr_") })
        #expect(Set(tokens.map(Access.hash)).count == 100)
        #expect(Access.hash("otr_a") == Access.hash("otr_a"))
    }

    @Test(
        "a resource is named by kind, namespace and name; a kind that nobody knows is none",
        arguments: [
            (ResourceName(kind: "VirtualNode", namespace: nil, name: "a"), "VirtualNode/default/a"),
            (ResourceName(kind: "VirtualNode", namespace: "shop", name: "a"), "VirtualNode/shop/a"),
            (ResourceName(kind: "Mesh", namespace: "shop", name: "m"), "Mesh/m"),
            (ResourceName(kind: "Namespace", namespace: nil, name: "n"), "Namespace/n"),
            (ResourceName(kind: "Pod", namespace: nil, name: "p"), nil),
        ] as [(ResourceName, String?)])
    func names(name: ResourceName, expected: String?) {
        #expect(ObjectKey(name, defaultNamespace: "default")?.description == expected)
    }
}
