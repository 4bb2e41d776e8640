import MeshModel
import Testing

@testable import MeshYAML

@Suite("MeshPolicy")
struct MeshPolicyTests {
    private static let head = "apiVersion: outrigger/v1\nkind: MeshPolicy\nmetadata: {name: p}\nspec: "

    @Test("all fields")
    func fields() throws {
        let text =
            Self.head + """
                {meshRef: {name: demo}, mtls: {mode: STRICT, exceptions: [{virtualNodeRef: {name: db, namespace: shop}, mode: DISABLED}]}}
                """
        let policy = try #require(Manifests.load(("app.yaml", Manifests.mesh + "---\n" + text)).resources.meshPolicies.first)
        #expect(policy.key == ResourceKey(kind: .meshPolicy, namespace: nil, name: "p"))
        #expect(policy.mesh == "demo" && policy.mutualTLS == .strict)
        #expect(policy.exceptions == [.init(virtualNode: ObjectReference(name: "db", namespace: "shop"), mode: .disabled)])
    }

    @Test(
        "bad specs",
        arguments: [
            ("{}", ["spec.meshRef: expected a mapping (required), found nothing"]),
            (
                "{meshRef: {name: demo}, mtls: {mode: strict}}",
                ["spec.mtls.mode: expected one of PERMISSIVE, STRICT, DISABLED, found strict"]
            ),
            (
                "{meshRef: {name: demo}, mtls: {exceptions: [{virtualNodeRef: {name: a}, mode: STRICT}]}}",
                ["spec.mtls.exceptions[0].virtualNodeRef.namespace: expected a string that is not empty (required), found nothing"]
            ),
        ] as [(String, [String])])
    func bad(spec: String, problems: [String]) {
        let found = Manifests.problems(.meshPolicy, spec)
        #expect(found == problems)
    }

    @Test("two policies of one mesh, and two modes of one node, are refused; names that lead nowhere are told")
    func twice() {
        let spec = "{meshRef: {name: demo}, mtls: {exceptions: [\(Self.exception), \(Self.exception)]}}"
        let second = Self.head.replacing("name: p", with: "name: q") + "{meshRef: {name: demo}}"
        let said = Manifests.diagnose(Manifests.mesh + "---\n" + Self.head + spec + "\n---\n" + second)
        #expect(said.contains { $0.contains("has the policy p already") }, "\(said)")
        #expect(said.contains { $0.contains("is named before") }, "\(said)")
        #expect(said.contains { $0.contains("unresolved reference: VirtualNode/a") }, "\(said)")
    }

    private static let exception = "{virtualNodeRef: {name: a, namespace: shop}, mode: STRICT}"
}
