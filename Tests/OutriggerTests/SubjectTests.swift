import ArgumentParser
import MeshCompiler
import MeshModel
import Testing

@testable import outrigger

@Suite("Whose proxy it is")
struct SubjectTests {
    private func resources(_ nodes: [(String, String)], gateways: [(String, String)] = []) -> MeshResources {
        var resources = MeshResources()
        for (namespace, name) in nodes { resources.virtualNodes.insert(VirtualNode(meta: ResourceMeta(name: name, namespace: namespace))) }
        for (namespace, name) in gateways {
            resources.virtualGateways.insert(VirtualGateway(meta: ResourceMeta(name: name, namespace: namespace)))
        }
        return resources
    }

    private func name(_ arguments: [String], _ resources: MeshResources) throws -> String {
        let key = try SubjectOptions.parse(arguments).subject(in: resources).key
        return "\(key.kind.rawValue) \(key.namespace ?? "")/\(key.name)"
    }

    @Test(
        "A name alone, with its namespace either way round, or the mesh's own name",
        arguments: ["cart", "cart.shop", "shop/cart", "cart_shop"])
    func names(wanted: String) throws {
        #expect(try name(["--node", wanted], resources([("shop", "cart"), ("shop", "front")])) == "VirtualNode shop/cart")
        #expect(try name(["--gateway", wanted], resources([], gateways: [("shop", "cart")])) == "VirtualGateway shop/cart")
    }

    @Test("One name in two namespaces needs the namespace; an unknown one is told what there is")
    func unclear() throws {
        let two = resources([("a", "cart"), ("b", "cart")])
        #expect(try name(["--node", "cart.b"], two) == "VirtualNode b/cart")
        for (wanted, message) in [
            ("cart", "VirtualNode \"cart\" is not clear; there are\n  a/cart\n  b/cart"),
            ("nope", "there is no VirtualNode \"nope\"; there are\n  a/cart\n  b/cart"),
        ] {
            let failure = try #require(throws: Failure.self) { try name(["--node", wanted], two) }
            #expect(failure.message == message)
            #expect(failure.status == 1)
        }
    }

    @Test("Where there is one, nobody is asked; where there are more, the command line is wrong")
    func onlyOne() throws {
        #expect(try name([], resources([("a", "cart")])) == "VirtualNode a/cart")
        #expect(try name([], resources([], gateways: [("a", "edge")])) == "VirtualGateway a/edge")
        let failure = try #require(throws: Failure.self) { try name([], resources([("a", "cart")], gateways: [("a", "edge")])) }
        #expect(failure.status == 2)
        #expect(failure.message == "say whose proxy it is:\n  --node a/cart\n  --gateway a/edge")
    }
}
