import MeshModel
import Testing

@testable import MeshYAML

/// The table of gaps that tutorials leave, row by row.
@Suite("The tutorial form")
struct TutorialFormTests {
    static let listener = """
        spec:
          listeners:
          - outlierDetection: {maxServerErrors: 5, interval: 30s, baseEjectionDuration: 15s, maxEjectionPercent: 50}

        """
    static let node = "apiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualNode\n" + listener

    @Test("the shortest file loads: named after the file, in namespace default of mesh default")
    func shortest() throws {
        let result = Manifests.load(("dir/app.yaml", Self.node))
        #expect(
            result.diagnostics.map(\.description) == [
                "dir/app.yaml:1:1: warning: VirtualNode/app metadata.name: missing, using \"app\" from the file name",
                "dir/app.yaml:1:1: warning: VirtualNode/app: no Mesh selects namespace \"default\", using implicit mesh "
                    + "\"default\" (egress ALLOW_ALL)",
                "dir/app.yaml:5:5: warning: VirtualNode/app spec.listeners[0].portMapping: missing: policies apply to all ports of "
                    + "VirtualNode \"app\"",
            ])
        let node = try #require(result.resources.virtualNodes.first)
        #expect(node.meta == ResourceMeta(name: "app", namespace: "default"))
        #expect(
            node.listeners == [
                VirtualNode.Listener(
                    outlierDetection: OutlierDetectionPolicy(
                        maxServerErrors: 5, interval: .seconds(30), baseEjectionDuration: .seconds(15), maxEjectionPercent: 50))
            ])
        #expect(result.resources.membership(ofNamespace: "default").mesh?.egressFilter == .allowAll)
    }

    @Test("a name and a namespace may be given from outside")
    func givenNames() throws {
        let options = LoadOptions(defaultNamespace: "shop", defaultName: "cart")
        let result = Manifests.load(("app.yaml", Self.node), options: options)
        #expect(result.resources.virtualNodes.first?.key == ResourceKey(kind: .virtualNode, namespace: "shop", name: "cart"))
        #expect(!result.diagnostics.contains { $0.description.contains("metadata.name") })
    }

    @Test("one unnamed document of a kind and file, no more")
    func severalUnnamed() {
        let errors = Manifests.load(("app.yaml", Self.node + "---\n" + Self.node)).diagnostics.filter { $0.severity == .error }
        #expect(
            errors.map(\.description) == [
                "app.yaml:7:1: VirtualNode metadata.name: required when a file holds more than one unnamed VirtualNode"
            ])
        #expect(errors.first?.document == 2)
        let other = "---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualService\nspec: {}\n"
        #expect(!Manifests.load(("app.yaml", Self.node + other)).hasErrors)
    }

    @Test("standard input and odd file names give no name")
    func noName() {
        #expect(
            Manifests.load(("-", Self.node)).diagnostics.map(\.description).first
                == "-:1:1: VirtualNode metadata.name: required on standard input (or give a name with --name)")
        #expect(
            Manifests.load(("My App.yaml", Self.node)).diagnostics.map(\.description).first
                == "My App.yaml:1:1: VirtualNode metadata.name: required: the file's name \"My App\" cannot be a resource's name")
    }

    @Test("no Mesh of that namespace: the only mesh that could select it; two: refused with App Mesh's words")
    func meshes() {
        let one =
            "apiVersion: appmesh.k8s.aws/v1beta2\nkind: Mesh\nmetadata: {name: one}\nspec: {namespaceSelector: {matchLabels: "
            + "{mesh: one}}}\n---\n"
        let assumed = Manifests.load(("app.yaml", one + Self.node))
        #expect(!assumed.hasErrors)
        #expect(assumed.resources.membership(ofNamespace: "default").mesh?.meta.name == "one")
        #expect(assumed.diagnostics.contains { $0.description.contains("no file declares Namespace \"default\"") })

        let two = one.replacing("one", with: "two")
        #expect(
            Manifests.diagnose(one + two + Self.node).contains(
                "app.yaml:11:1: VirtualNode/app: found multiple matching meshes for namespace: default, expecting 1 but found 2: one,two"))
    }

    @Test("a missing portMapping: accepted for the only listener, refused among several")
    func portMappings() {
        let spec = "listeners:\n- portMapping: {port: 80, protocol: http}\n- healthCheck:\nserviceDiscovery: {dns: {hostname: a}}"
        #expect(
            Manifests.problems(.virtualNode, spec) == [
                "spec.listeners[1].portMapping: required when a VirtualNode has more than one listener"
            ])
    }

    @Test("listeners need addresses: from DNS, or from an EndpointSet")
    func serviceDiscovery() {
        let node = """
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: VirtualNode
            metadata: {name: app}
            spec: {listeners: [{portMapping: {port: 80, protocol: http}}]}

            """
        #expect(
            Manifests.load(("app.yaml", Manifests.mesh + "---\n" + node)).diagnostics.map(\.description) == [
                """
                app.yaml:9:7: VirtualNode/app spec.serviceDiscovery: required when listeners are given (VirtualNode "app"), \
                unless an EndpointSet lists the node's addresses
                """
            ])
        let set = """
            apiVersion: outrigger/v1
            kind: EndpointSet
            metadata: {name: app}
            spec: {virtualNodeRef: {name: app}, endpoints: [{address: 10.0.0.1}]}
            """
        #expect(Manifests.diagnose(Manifests.mesh + "---\n" + node + "---\n" + set) == [])
    }

    @Test(
        "numbers out of range and missing fields",
        arguments: [
            ("maxServerErrors: 5", "maxServerErrors: 0", ".maxServerErrors: expected an integer of at least 1, found 0"),
            ("maxEjectionPercent: 50", "maxEjectionPercent: 150", ".maxEjectionPercent: expected an integer from 0 through 100, found 150"),
            ("maxEjectionPercent: 50", "maxEjectionPercent: -1", ".maxEjectionPercent: expected an integer from 0 through 100, found -1"),
            (
                "interval: 30s, ", "",
                ".interval: expected a duration such as 30s or {unit: s, value: 30} (required), found nothing"
            ),
            (", maxEjectionPercent: 50", "", ".maxEjectionPercent: expected an integer from 0 through 100 (required), found nothing"),
            ("maxServerErrors: 5, ", "", ".maxServerErrors: expected an integer of at least 1 (required), found nothing"),
            (
                "baseEjectionDuration: 15s, ", "",
                ".baseEjectionDuration: expected a duration such as 30s or {unit: s, value: 30} (required), found nothing"
            ),
            ("interval: 30s", "interval: \"30\"", ".interval: \"30\" has no unit (use 30s or {unit: s, value: 30})"),
        ] as [(String, String, String)])
    func outlierDetection(good: String, bad: String, expected: String) {
        let result = Manifests.load(("app.yaml", Self.node.replacing(good, with: bad)))
        let errors = result.diagnostics.filter { $0.severity == .error }
        #expect(errors.map { "\($0.path): \($0.problem)" } == ["spec.listeners[0].outlierDetection" + expected])
        #expect(result.resources.all.isEmpty)
    }

    @Test("v1beta1 is refused with the way out")
    func v1beta1() {
        let yaml = "apiVersion: appmesh.k8s.aws/v1beta1\nkind: VirtualService\nmetadata: {name: a}\nspec: {meshName: m}\n"
        #expect(
            Manifests.diagnose(yaml) == [
                """
                app.yaml:1:13: VirtualService apiVersion: apiVersion appmesh.k8s.aws/v1beta1 is not supported; the v1beta2 form of this \
                VirtualService needs a separate VirtualRouter
                """
            ])
        #expect(
            Manifests.diagnose(yaml.replacing("VirtualService", with: "Mesh")) == [
                "app.yaml:1:13: Mesh apiVersion: apiVersion appmesh.k8s.aws/v1beta1 is not supported; write it as appmesh.k8s.aws/v1beta2"
            ])
    }
}
