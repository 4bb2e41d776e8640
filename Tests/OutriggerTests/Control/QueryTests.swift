import ArgumentParser
import ControlAPI
import Foundation
import TestSupport
import Testing

@testable import outrigger

@Suite("Commands that look at the mesh")
struct QueryTests {
    private let client = FakeControlPlane()

    private static let node = """
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualNode
        metadata: {name: cart}
        spec:
          listeners: [{portMapping: {port: 8080, protocol: http}}]
          serviceDiscovery: {dns: {hostname: cart.example}}
          backends: [{virtualService: {virtualServiceRef: {name: gone}}}]
        """
    private static let service = """
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualService
        metadata: {name: cart}
        spec: {provider: {virtualNode: {virtualNodeRef: {name: cart}}}}
        """

    @Test("get: columns by what is asked for")
    func tables() throws {
        try client.on(
            "GET /v1/resources", ResourceList(revision: 3, items: [Sample.item("VirtualNode", "cart"), Sample.item("VirtualNode", "web")]))
        #expect(
            try run(["get", "vn", "-n", "shop"], client).out == """
                NAME   GENERATION   REVISION   CHANGED
                cart            2          3       30s
                web             2          3       30s

                """)
        #expect(client.calls[0].path == "/v1/resources?kind=VirtualNode&namespace=shop")
        #expect(try run(["get", "all", "-A", "-o", "wide"], client).out.hasPrefix("NAMESPACE   KIND          NAME   GENERATION"))
        #expect(client.calls[1].path == "/v1/resources")
        #expect(try run(["get", "vn", "-n", "shop", "-o", "name"], client).out == "VirtualNode/cart\nVirtualNode/web\n")
    }

    @Test("get all of one namespace leaves out the others, and keeps what has none")
    func allOfOne() throws {
        let items = [Sample.item("Mesh", "m", nil), Sample.item("VirtualNode", "cart"), Sample.item("VirtualNode", "far", "other")]
        try client.on("GET /v1/resources", ResourceList(revision: 3, items: items))
        #expect(try run(["get", "all", "-n", "shop", "-o", "name"], client).out == "Mesh/m\nVirtualNode/cart\n")
    }

    @Test("get -o json is the API's own message, -o yaml the author's text")
    func documents() throws {
        let list = ResourceList(revision: 3, items: [Sample.item("VirtualNode", "cart", document: "# mine\nkind: VirtualNode\n")])
        try client.on("GET /v1/resources", list)
        let json = try run(["get", "vn", "-n", "shop", "-o", "json"], client).out
        #expect(try ControlJSON.decode(ResourceList.self, json.utf8) == list)
        #expect(
            try run(["get", "vn", "-n", "shop", "-o", "yaml"], client).out
                == "# VirtualNode/cart in namespace \"shop\", generation 2, revision 3\n# mine\nkind: VirtualNode\n")
    }

    @Test(
        "get --at is a revision or a time",
        arguments: [("17", "revision=17"), ("2026-11-23T14:00:00Z", "time=2026-11-23T14%3A00%3A00Z")])
    func past(moment: String, query: String) throws {
        try client.on("GET /v1/resources", ResourceList(revision: 1, items: []))
        try run(["get", "mesh", "--at", moment], client)
        #expect(client.calls[0].path == "/v1/resources?kind=Mesh&\(query)")
    }

    @Test("get of a name that is not there ends with status 1")
    func missing() throws {
        try client.on("GET /v1/resources", ResourceList(revision: 3, items: []))
        let failure = try #require(throws: Failure.self) { try run(["get", "vn", "cart"], client) }
        #expect(failure.message == "VirtualNode/cart is not in namespace \"default\"")
        #expect(try run(["get", "vn"], client).notes == "nothing found (-A looks into all namespaces)\n")
    }

    @Test("get --watch goes on with what changes, and only that")
    func watch() throws {
        let (cart, web) = (Sample.item("VirtualNode", "cart"), Sample.item("VirtualNode", "web"))
        let next = Sample.item("VirtualNode", "web", revision: 4)
        try client.on(
            "GET /v1/resources", ResourceList(revision: 3, items: [cart, web]), ResourceList(revision: 3, items: [cart, web]),
            ResourceList(revision: 4, items: [next]))
        let paper = Paper()
        paper.patience = 2
        try run(["get", "vn", "-n", "shop", "--watch"], client, paper)
        let lines = paper.out.split(separator: "\n").map { $0.split(separator: " ").joined(separator: " ") }
        #expect(lines == ["NAME GENERATION REVISION CHANGED", "cart 2 3 30s", "web 2 3 30s", "web 2 4 34s", "VirtualNode/cart deleted"])
    }

    @Test("describe: the resource, its history, who uses it and whom it uses, its proxies and warnings")
    func describe() throws {
        try client.on(
            "GET /v1/resources",
            ResourceList(
                revision: 3,
                items: [
                    Sample.item("VirtualNode", "cart", document: Self.node), Sample.item("VirtualService", "cart", document: Self.service),
                ]))
        try client.on(
            "GET /v1/history",
            [
                HistoryItem(
                    revision: 3, sequence: 9, time: "2026-11-23T13:59:30.000Z", actor: "ann", reason: "more",
                    changes: [Sample.change("VirtualNode", "cart", .configured), Sample.change("VirtualNode", "web", .created)]),
                HistoryItem(revision: 2, sequence: 5, time: "2026-11-23T13:00:00.000Z", actor: "bob", changes: []),
            ])
        try client.on("GET /v1/status", Sample.status([Sample.node("cart", rejection: "aaaa: no"), Sample.node("web")]))
        let page = try run(["describe", "vn/cart", "-n", "shop"], client).out
        for line in [
            "Generation:   2", "Changed:      2026-11-23 13:59:30 (30s ago)", "Uses:\n  VirtualService shop/gone (not there)",
            "Used by:\n  VirtualService shop/cart", "3   2026-11-23 13:59:30   ann     configured   more", "refused: aaaa: no",
            "VirtualService/gone in namespace \"shop\" is unknown: calls to it get 404", "Document:\n  apiVersion: appmesh",
        ] {
            #expect(page.contains(line), "no \"\(line)\" in\n\(page)")
        }
        #expect(!page.contains("bob"))
    }

    @Test("diff shows unified diffs, and --exit-code tells scripts")
    func diff() throws {
        let difference = ResourceDifference(change: Sample.change("VirtualNode", "cart", .configured), text: "@@ -1 +1 @@\n-a: 1\n+a: 2\n")
        try client.on("GET /v1/diff", [difference])
        #expect(
            try run(["diff", "2", "3"], client).out == "VirtualNode shop/cart configured\n@@ -1 +1 @@\n-a: 1\n+a: 2\n")
        #expect(client.calls[0].path == "/v1/diff?from=2&to=3")
        try run(["diff", "2"], client)
        #expect(client.calls[1].path == "/v1/diff?from=2")
        #expect(try #require(throws: Failure.self) { try run(["diff", "2", "--exit-code"], client) }.status == 1)
        let colored = Diff.text(difference, Paper().session(client, usesColor: true).screen)
        #expect(colored.contains("\u{1b}[32m+a: 2\u{1b}[0m"))
        try client.on("GET /v1/diff", [ResourceDifference]())
        #expect(try run(["diff", "2", "--exit-code"], client).notes == "no differences\n")
    }

    @Test("history: newest first, changes short")
    func history() throws {
        let many = ["a", "b", "c", "d"].map { Sample.change("VirtualNode", $0, .created) } + [Sample.change("Mesh", "m", .deleted)]
        try client.on(
            "GET /v1/history",
            [
                HistoryItem(revision: 12, sequence: 30, time: "2026-11-23T13:00:00.000Z", actor: "ann", reason: "why", changes: many),
                HistoryItem(
                    revision: 3, sequence: 9, time: "2026-11-23T12:00:00.000Z", actor: "b",
                    changes: [Sample.change("VirtualNode", "a", .configured), Sample.change("Mesh", "m", .unchanged)]),
            ])
        #expect(
            try run(["history"], client).out == """
                REVISION   TIME                  ACTOR   CHANGES          REASON
                      12   2026-11-23 13:00:00   ann     +4 -1            why
                       3   2026-11-23 12:00:00   b       ~VirtualNode/a

                """)
    }

    @Test("events come in pieces and are shown line by line; json is passed on; --follow takes up where it was")
    func events() throws {
        let lines = try [1, 2].map { number in
            let event = EventItem(
                sequence: number, time: "2026-11-23T13:00:00.000Z", actor: "ann", kind: "resourceApplied", summary: "é \(number)")
            return String(decoding: try ControlJSON.encode(event), as: UTF8.self)
        }
        client.on("GET /v1/events", text: lines.joined(separator: "\n") + "\n")
        #expect(
            try run(["events"], client).out
                == "2026-11-23 13:00:00  1  ann  é 1\n2026-11-23 13:00:00  2  ann  é 2\n")
        #expect(try run(["events", "-o", "json"], client).out == lines.joined(separator: "\n") + "\n")
        let paper = Paper()
        paper.patience = 1
        try run(["events", "--follow", "--after", "0"], client, paper)
        #expect(client.calls.suffix(2).map(\.path) == ["/v1/events?after=0&follow=true", "/v1/events?after=2&follow=true"])
        #expect(client.calls.last?.timeout == nil)
        client.lost = [client.calls.count + 1]
        let patient = Paper()
        patient.patience = 2
        try run(["events", "--follow"], client, patient)
        #expect(patient.notes.hasSuffix("connection refused; trying again\n"))
        #expect(patient.out.components(separatedBy: "\n").count == 5)
    }

    @Test("explain sends the question, and marks values that nobody wrote down")
    func explain() throws {
        let step = Explanation.Step(what: "route", name: "r", text: "one\nwarning: two", silentDefaults: ["timeout: 15s"])
        try client.on("POST /v1/explain", Explanation(steps: [step], localReply: "404: no"))
        let paper = try run(["explain", "--from", "front", "POST", "http://a/b", "-H", "x: y:z", "-H", ":authority:c"], client)
        #expect(paper.out == "route r\n  one\n  warning: two\n  ~ timeout: 15s\n=> 404: no\n")
        #expect(
            try client.body(ExplainRequest.self)
                == ExplainRequest(
                    from: "front", method: "POST", url: "http://a/b",
                    headers: [HeaderField(name: "x", value: "y:z"), HeaderField(name: ":authority", value: "c")]))
    }

    @Test("explain's method is GET, and a gRPC call's POST", arguments: [("http://a/b", "GET"), ("grpc://a/s/m", "POST"), ("a", "GET")])
    func explainMethod(url: String, method: String) throws {
        try client.on("POST /v1/explain", Explanation(steps: []))
        try run(["explain", "--from", "front", url], client)
        #expect(try client.body(ExplainRequest.self).method == method)
    }

    @Test("explain -f needs no control plane")
    func offline() throws {
        let folder = try TemporaryFolder()
        let mesh = "apiVersion: appmesh.k8s.aws/v1beta2\nkind: Mesh\nmetadata: {name: m}\nspec: {namespaceSelector: {}}"
        let front =
            "apiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualNode\nmetadata: {name: front}\nspec: "
            + "{backends: [{virtualService: {virtualServiceRef: {name: cart}}}]}"
        let text = [mesh, Self.node, Self.service, front].joined(separator: "\n---\n")
        try folder.replace("mesh.yaml", with: Array(text.utf8))
        let command = try ExplainCommand.parse(["-f", folder.file("mesh.yaml"), "--from", "front", "http://cart.default/"])
        let explanation = try command.offline(standardInput: nil)
        #expect(explanation.steps.first { $0.what == "endpoint" }?.text.hasSuffix("cart.example:8080") == true)
        let wrong = try ExplainCommand.parse(["-f", folder.file("mesh.yaml"), "--from", "nobody", "http://cart.default/"])
        #expect(try #require(throws: Failure.self) { try wrong.offline(standardInput: nil) }.message.hasPrefix("no VirtualNode"))
    }

    @Test("a token goes to standard output alone")
    func token() throws {
        try client.on("POST /v1/tokens", TokenCreated(id: "7", token: "secret", expires: "2026-11-23T15:00:00.000Z"))
        let paper = try run(["token", "create", "--node", "cart.shop", "--ttl", "1h30m"], client)
        #expect(paper.out == "secret\n")
        #expect(
            try client.body(TokenRequest.self)
                == TokenRequest(purpose: .join, subject: Sample.name("VirtualNode", "cart"), secondsToLive: 5400))
        try run(["token", "create", "--role", "read"], client)
        #expect(try client.body(TokenRequest.self, of: 1) == TokenRequest(purpose: .api, role: .read))
        try client.on("DELETE /v1/tokens/a%2Fb", ["x"])
        try run(["token", "revoke", "a/b"], client)
        #expect(client.calls.last?.method == "DELETE")
    }

    @Test("rollouts: the newest is meant where none is named; --watch ends with its end")
    func rollouts() throws {
        try client.on("GET /v1/rollouts", [Sample.rollout("running"), Sample.rollout("completed", stage: 2)])
        #expect(try run(["rollout", "status"], client).out == "rollout 3 to revision 3: running, stage 1 of 3 (1), 1 of 4 proxies\n")
        try client.on("GET /v1/rollouts/3", Sample.rollout("running", stage: 1), Sample.rollout("compensated", stage: 1, reason: "5xx"))
        let paper = Paper()
        paper.patience = 5
        #expect(throws: Failure.self) { try run(["rollout", "status", "--watch"], client, paper) }
        #expect(paper.out.hasSuffix("compensated, stage 2 of 3 (25%), 1 of 4 proxies: 5xx\n"))
        try client.on("POST /v1/rollouts/3/stop", Sample.rollout("stopped"))
        #expect(try run(["rollout", "stop"], client).out.contains("stopped"))
        let rows = try run(["rollout", "list"], client).out.split(separator: "\n").map { $0.split(separator: " ").joined(separator: " ") }
        #expect(rows[1] == "3 3 running 1 of 3 (1) 1/4 2026-11-23 13:59:00")
    }
}
