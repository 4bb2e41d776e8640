import Base
import MeshCompiler
import MeshModel
import MeshYAML
import Projections
import ProxyConfig
import Testing
import XDSWire

@testable import Daemon

@Suite("Whose proxy a client is")
struct SubjectTests {
    private static let text = """
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualNode
        metadata: {name: cart, namespace: shop}
        spec: {}
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualNode
        metadata: {name: cart, namespace: test}
        spec: {}
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualNode
        metadata: {name: pay, namespace: shop}
        spec: {awsName: payment}
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualGateway
        metadata: {name: edge, namespace: shop}
        spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}
        """

    private func found(_ client: ClientNode) -> String? {
        let mesh = MeshLoader.load(paths: ["-"], standardInput: Self.text).resources
        return SubjectIndex(mesh).subject(of: client).map { "\($0.key.kind.rawValue) \($0.key.namespace ?? "")/\($0.key.name)" }
    }

    @Test(
        "by namespace and name, by a name that is clear, or by the name in the mesh",
        arguments: [
            ("cart", "shop", "VirtualNode shop/cart"), ("cart", "test", "VirtualNode test/cart"), ("cart", "", nil),
            ("pay", "", "VirtualNode shop/pay"), ("payment", "", "VirtualNode shop/pay"), ("cart_shop", "", "VirtualNode shop/cart"),
            ("cart.test", "", "VirtualNode test/cart"),
            ("edge", "", "VirtualGateway shop/edge"), ("cart", "elsewhere", nil), ("nobody", "", nil),
        ] as [(String, String, String?)])
    func byName(name: String, namespace: String, expected: String?) {
        #expect(found(ClientNode(name: name, namespace: namespace)) == expected)
    }

    @Test("App Mesh's proxies and gRPC clients name the mesh-side name and say what they are")
    func byNode() {
        #expect(found(ClientNode(Node(mesh: "m", role: .virtualNode, name: "payment"))) == "VirtualNode shop/pay")
        #expect(found(ClientNode(Node(mesh: "m", role: .virtualGateway, name: "edge_shop"))) == "VirtualGateway shop/edge")
        #expect(found(ClientNode(Node(mesh: "m", role: .virtualGateway, name: "payment"))) == nil)
    }

    @Test(
        "the node that a cluster stands for is the longest name in it, which may hold underscores",
        arguments: [
            ("cds_egress_m_payment_http_8080", "pay"), ("cds_egress_my_mesh_cart_shop_http_8080", "cart"),
            ("cds_egress_m_payment_http_8080_cart.shop", "pay"), ("cds_egress_payment_other_http_8080", nil),
            ("cds_egress_m_payment", nil), ("cds_egress_m_" + String(repeating: "_", count: 4000) + "payment_http_80", nil),
        ] as [(String, String?)])
    func byCluster(cluster: String, node: String?) {
        let mesh = MeshLoader.load(paths: ["-"], standardInput: Self.text).resources
        #expect(SubjectIndex(mesh).node(ofEgressCluster: cluster)?.name == node)
    }

    @Test("proxies of ours without an instance are one; others go by their id")
    func instances() {
        let subject = MeshCompiler.Subject.virtualNode(.init(kind: .virtualNode, namespace: "shop", name: "cart"))
        #expect(ClientNode(name: "cart", instance: "a").instanceKey(of: subject).instance == "a")
        #expect(ClientNode(name: "cart").instanceKey(of: subject).instance == "-")
        var envoy = ClientNode(Node(mesh: "m", role: .virtualNode, name: "cart_shop"))
        envoy.userAgentName = "envoy"
        #expect(envoy.instanceKey(of: subject).instance == "mesh/m/virtualNode/cart_shop")
    }
}
