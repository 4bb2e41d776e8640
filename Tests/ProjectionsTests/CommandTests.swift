import EventStore
import MeshModel
import MeshYAML
import Testing

@testable import Projections

@Suite("Commands")
struct CommandTests {
    static func actions(_ plan: ChangePlan) -> [String] { plan.changes.map { "\($0.key) \($0.action)" } }

    @Test("apply creates, configures and leaves alone; each command that changes something is one revision")
    func apply() throws {
        var shop = Workshop()
        let first = try shop.apply(joined(Texts.mesh, Texts.node("cart"), Texts.node("web")))
        #expect(Self.actions(first) == ["Mesh/demo created", "VirtualNode/shop/cart created", "VirtualNode/shop/web created"])
        #expect(first.basedOn == 0 && first.revision == 1)
        #expect(shop.state.revision == 1)
        let second = try shop.apply(joined(Texts.node("cart", port: 9090), Texts.node("web"), Texts.node("pay")))
        #expect(
            Self.actions(second) == ["VirtualNode/shop/cart configured", "VirtualNode/shop/web unchanged", "VirtualNode/shop/pay created"])
        #expect(second.events.count == 2)
        #expect(shop.state.revision == 2)
        #expect(shop.state.objects[Texts.nodeKey("cart")]?.generation == 2)
        #expect(shop.state.objects[Texts.nodeKey("web")]?.generation == 1)
        #expect(shop.state.mesh.virtualNodes.count == 3)
    }

    @Test("what means the same is unchanged, however it is written, and makes no event")
    func unchanged() throws {
        var shop = Workshop()
        try shop.apply(joined(Texts.mesh, Texts.node("cart")))
        let same = [
            Texts.node("cart"), Texts.node("cart", note: "  # a comment"), Texts.node("cart").replacing("\n", with: "\r\n"),
            #"{"kind": "VirtualNode", "apiVersion": "appmesh.k8s.aws/v1beta2", "metadata": {"namespace": "shop", "name": "cart"}, "#
                + #""spec": {"serviceDiscovery": {"dns": {"hostname": "cart.local"}}, "#
                + #""listeners": [{"portMapping": {"protocol": "http", "port": 8080}}]}}"#,
        ]
        for text in same {
            let plan = try shop.apply(text)
            #expect(plan.events.isEmpty && Self.actions(plan) == ["VirtualNode/shop/cart unchanged"], "\(text)")
            #expect(plan.batch(actor: "user:alice", time: UnixTime(milliseconds: 0)) == nil)
        }
        #expect(shop.state.revision == 1)
        #expect(shop.state.objects[Texts.nodeKey("cart")]?.document == Texts.node("cart"))
    }

    @Test("users get back their own text, with its comments and its line in the file")
    func ownText() throws {
        var shop = Workshop()
        let node = "# The cart.\n" + Texts.node("cart", note: "  # all of it") + "# That was the cart.\n"
        try shop.apply("# Top\n" + Texts.mesh + "--- # the cart\n" + node + "...\n---\n" + Texts.node("web"), file: "dir/app.yaml")
        let cart = try #require(shop.state.objects[Texts.nodeKey("cart")])
        #expect(cart.document == " # the cart\n" + node)
        #expect(cart.file == "dir/app.yaml" && cart.line == 6)
        #expect(shop.state.objects[Texts.nodeKey("web")]?.document == Texts.node("web"))
        #expect(shop.state.objects[Texts.meshKey]?.document == "# Top\n" + Texts.mesh)
    }

    @Test("a warning about what was applied before names the line where it stood")
    func places() throws {
        var shop = Workshop()
        try shop.apply(Texts.mesh)
        try shop.apply("\n\n" + joined(Texts.node("cart"), Texts.service("cart", of: "cart")), file: "shop.yaml")
        let plan = Command.plan(delete: [Texts.nodeKey("cart")], from: shop.state)
        #expect(plan.warnings.map(\.file) == ["shop.yaml"])
        #expect(plan.warnings.first?.line == 16)
    }

    @Test("all errors of all files come at once, and nothing of the request is applied")
    func errors() throws {
        var shop = Workshop()
        try shop.apply(Texts.mesh)
        let files = [
            ("a.yaml", Texts.node("cart", port: 70000)), ("b.yaml", Texts.node("web") + "---\nkind: [\n"),
            ("c.yaml", joined(Texts.node("pay"), Texts.node("pay"))), ("d.yaml", Texts.node("good")),
        ].map { ManifestFile(name: $0.0, bytes: Array($0.1.utf8)) }
        guard case .failure(let refusal) = Command.plan(apply: files, onto: shop.state) else {
            Issue.record("it was planned")
            return
        }
        let errors = refusal.diagnostics.filter { $0.severity == .error }
        #expect(errors.map(\.file) == ["a.yaml", "b.yaml", "c.yaml"])
        #expect(errors[0].expected == "a port from 1 through 65535")
        #expect(errors[2].problem.description == "already defined at c.yaml:1:1")
    }

    @Test("rules between resources count for the mesh as a whole")
    func wholeMesh() throws {
        var shop = Workshop()
        try shop.apply(joined(Texts.mesh, Texts.node("cart"), Texts.service("cart", of: "cart")))
        // Two hosts of one name.
        let clash = Texts.service("other", of: "cart").replacing("awsName: other.local", with: "awsName: cart.local")
        #expect(throws: CommandRefusal.self) { try shop.apply(clash, file: "clash.yaml") }
        let plan = try shop.apply(Texts.service("lost", of: "nobody"), file: "lost.yaml")
        #expect(plan.warnings.map(\.file) == ["lost.yaml"])
        // Once what was missing comes, there is nothing left to say.
        #expect(try shop.apply(Texts.node("nobody"), file: "late.yaml").warnings == [])
    }

    @Test("unknown fields are warnings, and errors if asked for")
    func strict() throws {
        let files = [ManifestFile(name: "a.yaml", bytes: Array(joined(Texts.mesh, Texts.node("cart") + "color: red\n").utf8))]
        #expect(try Command.plan(apply: files, onto: DesiredState()).get().warnings.count == 1)
        #expect(throws: CommandRefusal.self) { try Command.plan(apply: files, onto: DesiredState(), strict: true).get() }
    }

    @Test("an object without a namespace is of the default one, also when its text is read again")
    func defaultNamespace() throws {
        let text = Texts.node("cart").replacing("  namespace: shop\n", with: "")
        let files = [ManifestFile(name: "a.yaml", bytes: Array(joined(Texts.mesh, text).utf8))]
        let plan = try Command.plan(apply: files, onto: DesiredState(), defaultNamespace: "blue").get()
        var shop = Workshop()
        try shop.run(plan)
        #expect(shop.state.unreadable.isEmpty)
        #expect(shop.state.mesh.virtualNodes.map(\.meta.namespace) == ["blue"])
    }

    @Test("namespaces are objects, too: their labels choose the mesh")
    func namespaces() throws {
        let mesh = Texts.mesh.replacing("{namespaceSelector: {}}", with: "{namespaceSelector: {matchLabels: {mesh: demo}}}")
        func namespace(_ label: String) -> String { "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {mesh: \(label)}}\n" }
        var shop = Workshop()
        try shop.apply(joined(mesh, namespace("demo"), Texts.node("cart")))
        #expect(shop.state.mesh.namespaces["shop"]?.labels == ["mesh": "demo"])
        #expect(throws: CommandRefusal.self) { try shop.apply(namespace("other")) }
        #expect(try Self.actions(shop.apply(namespace("demo"))) == ["Namespace/shop unchanged"])
        let plan = Command.plan(delete: [ObjectKey(namespace: "shop")], from: shop.state)
        try shop.run(plan)
        #expect(shop.state.mesh.namespaces["shop"] == nil)
    }

    @Test("delete takes what is there, says what is not, and warns of what leads nowhere then")
    func delete() throws {
        var shop = Workshop()
        try shop.apply(joined(Texts.mesh, Texts.node("cart"), Texts.service("cart", of: "cart")))
        let plan = Command.plan(delete: [Texts.nodeKey("cart"), Texts.nodeKey("ghost")], from: shop.state)
        #expect(Self.actions(plan) == ["VirtualNode/shop/cart deleted", "VirtualNode/shop/ghost notFound"])
        #expect(plan.warnings.count == 1 && plan.warnings[0].resource == "VirtualService/cart")
        try shop.run(plan)
        #expect(shop.state.objects[Texts.nodeKey("cart")] == nil)
        #expect(shop.state.mesh.virtualNodes.isEmpty)
        #expect(shop.state.revision == 2)
        #expect(Command.plan(delete: [Texts.nodeKey("ghost")], from: shop.state).events.isEmpty)
    }

    @Test("delete by file looks at names alone")
    func deleteFiles() throws {
        var shop = Workshop()
        try shop.apply(joined(Texts.mesh, Texts.node("cart"), Texts.node("web")))
        let text = joined(Texts.node("cart", port: 9), Texts.node("web", port: 70000))
        let plan = try Command.plan(delete: [ManifestFile(name: "a.yaml", bytes: Array(text.utf8))], from: shop.state).get()
        #expect(Self.actions(plan) == ["VirtualNode/shop/cart deleted", "VirtualNode/shop/web deleted"])
        let broken = [ManifestFile(name: "a.yaml", bytes: Array("a: [".utf8))]
        #expect(throws: CommandRefusal.self) { try Command.plan(delete: broken, from: shop.state).get() }
    }

    @Test("rollback brings a revision back by new events; rolled back itself, all is as before")
    func rollback() throws {
        var shop = Workshop()
        try shop.apply(joined(Texts.mesh, Texts.node("cart"), Texts.node("web")))
        let first = shop.state
        try shop.apply(joined(Texts.node("cart", port: 9090), Texts.node("pay")))
        try shop.run(Command.plan(delete: [Texts.nodeKey("web")], from: shop.state))
        let third = shop.state

        let plan = try Command.plan(rollbackTo: first, from: shop.state).get()
        #expect(Self.actions(plan) == ["VirtualNode/shop/cart configured", "VirtualNode/shop/web created", "VirtualNode/shop/pay deleted"])
        try shop.run(plan, reason: "pay is broken")
        #expect(shop.state.revision == 4)
        #expect(shop.state.objects.mapValues(\.document) == first.objects.mapValues(\.document))
        #expect(shop.models.history[4]?.rollbackTo == 1)
        #expect(shop.models.history[4]?.reason == "pay is broken")

        try shop.run(try Command.plan(rollbackTo: third, from: shop.state).get())
        #expect(shop.state.objects.mapValues(\.document) == third.objects.mapValues(\.document))
        #expect(shop.state.revision == 5)
        #expect(try Command.plan(rollbackTo: third, from: shop.state).get().events.isEmpty)
    }

    @Test("an apply of one of 5,000 documents parses that one")
    func parses() throws {
        var shop = Workshop()
        let names = (0..<5000).map { "node-\($0)" }
        try shop.apply(joined(Texts.mesh, names.map { Texts.node($0) }.joined(separator: "---\n")))
        let before = shop.state.documentsParsed
        #expect(before == 5001)
        try shop.apply(Texts.node("node-7", port: 9090))
        #expect(shop.state.documentsParsed == before + 1)
        #expect(shop.state.mesh.virtualNodes.count == 5000)
    }
}
