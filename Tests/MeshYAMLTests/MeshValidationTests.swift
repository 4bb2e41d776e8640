import MeshModel
import Testing

@testable import MeshYAML

/// What is wrong between resources, each at its place.
@Suite("What resources say about each other")
struct MeshValidationTests {
    /// Documents of kind and spec, in namespace `shop` of the only mesh; each on one line, so that `line` is its number.
    static func check(_ documents: (ResourceKind, String, String)...) -> [String] {
        var yaml = """
            {apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {mesh: demo}}}
            --- {apiVersion: appmesh.k8s.aws/v1beta2, kind: Mesh, metadata: {name: demo}, \
            spec: {namespaceSelector: {matchLabels: {mesh: demo}}}}

            """
        for (kind, name, spec) in documents {
            let metadata = kind.isNamespaced ? "{name: \(name), namespace: shop}" : "{name: \(name)}"
            yaml += "--- {apiVersion: \(kind.apiVersion), kind: \(kind.rawValue), metadata: \(metadata), spec: {\(spec)}}\n"
        }
        return Manifests.load(("a.yaml", yaml)).diagnostics.map { diagnostic in
            var diagnostic = diagnostic
            diagnostic.column = nil
            return diagnostic.description
        }
    }

    static func node(_ name: String, _ ports: (Int, String)..., more: String = "") -> (ResourceKind, String, String) {
        let listeners = ports.map { "{portMapping: {port: \($0.0), protocol: \($0.1)}}" }.joined(separator: ", ")
        return (.virtualNode, name, "listeners: [\(listeners)], serviceDiscovery: {dns: {hostname: \(name)}}\(more)")
    }

    static func router(_ name: String, _ ports: (Int, String)..., routes: String) -> (ResourceKind, String, String) {
        let listeners = ports.map { "{portMapping: {port: \($0.0), protocol: \($0.1)}}" }.joined(separator: ", ")
        return (.virtualRouter, name, "listeners: [\(listeners)], routes: [\(routes)]")
    }

    static func route(_ name: String, _ kind: String = "http", match: String = "", target: String = "virtualNodeRef: {name: n}, weight: 1")
        -> String
    {
        let match = kind == "http" ? "match: {prefix: /\(match)}, " : ""
        return "{name: \(name), \(kind)Route: {\(match)action: {weightedTargets: [{\(target)}]}}}"
    }

    @Test("a whole mesh has nothing wrong, in any order of its documents")
    func good() {
        let documents: [(ResourceKind, String, String)] = [
            (.sidecar, "front", "virtualNodeRef: {name: front}, inbound: [{port: 80, bind: \"0.0.0.0:15000\"}]"),
            Self.node(
                "front", (80, "http"),
                more: ", backends: [{virtualService: {virtualServiceRef: {name: s}}}], backendGroups: [{name: g}, {name: \"*\"}]"),
            (.backendGroup, "g", "virtualservices: [{name: s}]"),
            (.virtualService, "s", "provider: {virtualRouter: {virtualRouterRef: {name: r}}}"),
            Self.router("r", (80, "http"), routes: Self.route("one")),
            Self.node("n", (80, "http")),
            (.endpointSet, "n", "virtualNodeRef: {name: n}, endpoints: [{address: 10.0.0.1}]"),
            (.virtualGateway, "gw", "namespaceSelector: {}, listeners: [{portMapping: {port: 80, protocol: http}}]"),
            (
                .gatewayRoute, "all",
                "httpRoute: {match: {prefix: /}, action: {target: {virtualService: {virtualServiceRef: {name: s}}}}}"
            ),
        ]
        for turn in 0..<documents.count {
            let d = Array(documents[turn...] + documents[..<turn])
            #expect(Self.check(d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7], d[8]) == [])
        }
    }

    @Test("what is not there is said, at the reference, and is no error")
    func dangling() {
        #expect(
            Self.check(
                Self.node(
                    "a", (80, "http"), more: ", backends: [{virtualService: {virtualServiceRef: {name: s}}}], backendGroups: [{name: g}]"),
                (.virtualService, "t", "provider: {virtualNode: {virtualNodeRef: {name: n, namespace: other}}}"),
                (.backendGroup, "h", "virtualservices: [{name: s}]"),
                (.sidecar, "c", "virtualNodeRef: {name: x}"),
                (.endpointSet, "e", "virtualNodeRef: {name: x}, endpoints: [{address: 10.0.0.1}]")
            ) == [
                "a.yaml:3: warning: VirtualNode/a spec.backends[0].virtualService.virtualServiceRef: unresolved reference: "
                    + "VirtualService/s in namespace \"shop\" is unknown",
                "a.yaml:3: warning: VirtualNode/a spec.backendGroups[0]: unresolved reference: BackendGroup/g in namespace "
                    + "\"shop\" is unknown",
                "a.yaml:4: warning: VirtualService/t spec.provider.virtualNode.virtualNodeRef: unresolved reference: VirtualNode/n "
                    + "in namespace \"other\" is unknown",
                "a.yaml:5: warning: BackendGroup/h spec.virtualservices[0]: unresolved reference: VirtualService/s in namespace "
                    + "\"shop\" is unknown",
                "a.yaml:6: warning: Sidecar/c spec.virtualNodeRef: unresolved reference: VirtualNode/x in namespace \"shop\" is "
                    + "unknown",
                "a.yaml:7: warning: EndpointSet/e spec.virtualNodeRef: unresolved reference: VirtualNode/x in namespace \"shop\" "
                    + "is unknown",
            ])
    }

    @Test("a resource that is broken is still there for others")
    func brokenIsThere() {
        #expect(
            Self.check((.virtualService, "t", "provider: {virtualNode: {virtualNodeRef: {name: n}}}"), (.virtualNode, "n", "awsName: 1"))
                == [
                    "a.yaml:4: VirtualNode/n spec.awsName: expected a string that is not empty, found the number 1 without quotes"
                ])
    }

    @Test("where not all could be read, nothing is called missing")
    func incomplete() {
        let service = """
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: VirtualService
            metadata: {name: s}
            spec: {provider: {virtualNode: {virtualNodeRef: {name: n}}}}

            """
        #expect(Manifests.diagnose(service + "---\n{").count == 1)
        // Here it is a Mesh that has an error, and it may be the one that selects the namespace.
        let mesh = Manifests.mesh.replacing("{namespaceSelector: {}}", with: "{egressFilter: {}}")
        let node = "---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualNode\nmetadata: {name: n}\n"
        #expect(Manifests.diagnose(service + node + "---\n" + mesh).map { $0.contains("egressFilter.type") } == [true])
    }

    @Test("the same kind, namespace and name twice is an error that names both places")
    func duplicates() {
        #expect(
            Self.check(Self.node("a", (80, "http")), Self.node("a", (80, "http"))) == [
                "a.yaml:4: VirtualNode/a: already defined at a.yaml:3:5"
            ])
        let node =
            Manifests.mesh
            + "---\napiVersion: appmesh.k8s.aws/v1beta2\nkind: VirtualService\nmetadata: {name: a, namespace: NS}\nspec: {}\n"
        let one = node.replacing("NS", with: "one")
        let two = node.replacing("NS", with: "two").dropFirst(Manifests.mesh.count)
        let errors = Manifests.load(("1.yaml", one), ("2.yaml", String(two)), ("3.yaml", String(two))).diagnostics
        #expect(errors.map(\.description) == ["3.yaml:2:1: VirtualService/a: already defined at 2.yaml:2:1"])
    }

    @Test("duplicate backends and routes are refused with App Mesh's words")
    func duplicatesWithin() {
        let backends =
            ", backends: [{virtualService: {virtualServiceRef: {name: s}}}, {virtualService: {virtualServiceRef: {name: s, "
            + "namespace: shop}}}]"
        #expect(
            Self.check(Self.node("n", (80, "http"), more: backends), (.virtualService, "s", "")) == [
                "a.yaml:3: VirtualNode/n spec.backends[1].virtualService: VirtualNode-n has duplicate VirtualServiceReferences s"
            ])
        #expect(
            Self.check(Self.node("n", (80, "http")), Self.router("r", (80, "http"), routes: Self.route("x") + ", " + Self.route("x"))) == [
                "a.yaml:4: VirtualRouter/r spec.routes[1].name: VirtualRouter-r has duplicate route entries for x"
            ])
        #expect(
            Self.check(Self.node("n", (80, "http"), (80, "tcp"))) == [
                "a.yaml:3: VirtualNode/n spec.listeners[1].portMapping.port: port 80 is already that of spec.listeners[0].portMapping.port"
            ])
    }

    @Test("membership: App Mesh's words for none and for several")
    func membership() {
        let head = "apiVersion: appmesh.k8s.aws/v1beta2\nkind: "
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {mesh: other}}\n---\n"
        let mesh = "\(head)Mesh\nmetadata: {name: one}\nspec: {namespaceSelector: {matchLabels: {mesh: one}}}\n---\n"
        let service = "\(head)VirtualService\nmetadata: {name: s, namespace: shop}\n---\n"
        let other = service.replacing("name: s,", with: "name: t,")
        #expect(
            Manifests.diagnose(namespace + mesh + service + other) == [
                "app.yaml:10:1: VirtualService/s: failed to find matching mesh for namespace: shop, expecting 1 but found 0 (and 1 "
                    + "more resources of that namespace)"
            ])
        let all = "\(head)Mesh\nmetadata: {name: all}\nspec: {namespaceSelector: {}}\n---\n"
        #expect(
            Manifests.diagnose(namespace.replacing("other", with: "one") + mesh + all + service) == [
                "app.yaml:15:1: VirtualService/s: found multiple matching meshes for namespace: shop, expecting 1 but found 2: all,one"
            ])
        // A mesh without selector selects nothing, not even what nobody declared.
        let none = "\(head)Mesh\nmetadata: {name: none}\n---\n"
        #expect(
            Manifests.diagnose(none + service) == [
                "app.yaml:5:1: VirtualService/s: failed to find matching mesh for namespace: shop, expecting 1 but found 0"
            ])
    }

    @Test("a reference stays inside of its mesh")
    func otherMesh() {
        let head = "apiVersion: appmesh.k8s.aws/v1beta2\nkind: "
        var yaml = ""
        for name in ["one", "two"] {
            yaml += "apiVersion: v1\nkind: Namespace\nmetadata: {name: \(name), labels: {mesh: \(name)}}\n---\n"
            yaml += "\(head)Mesh\nmetadata: {name: \(name)}\nspec: {namespaceSelector: {matchLabels: {mesh: \(name)}}}\n---\n"
        }
        yaml += "\(head)VirtualNode\nmetadata: {name: n, namespace: two}\n---\n"
        yaml +=
            "\(head)VirtualService\nmetadata: {name: s, namespace: one}\nspec: {provider: {virtualNode: {virtualNodeRef: {name: n, "
            + "namespace: two}}}}\n"
        #expect(
            Manifests.diagnose(yaml) == [
                "app.yaml:26:49: VirtualService/s spec.provider.virtualNode.virtualNodeRef: expected a reference inside of "
                    + "Mesh/one, found VirtualNode/n in namespace \"two\", of Mesh/two"
            ])
    }

    @Test("ports of routes and targets: needed where there are several, and always one that is there")
    func ports() {
        let two = Self.node("n", (80, "http"), (81, "http"))
        #expect(
            Self.check(two, Self.router("r", (80, "http"), (81, "http"), routes: Self.route("x"))) == [
                "a.yaml:4: VirtualRouter/r spec.routes[0].httpRoute.match.port: required, as there are several of the router's "
                    + "ports: 80, 81",
                "a.yaml:4: VirtualRouter/r spec.routes[0].httpRoute.action.weightedTargets[0].port: required, as there are several "
                    + "of VirtualNode/n's ports: 80, 81",
            ])
        #expect(
            Self.check(
                two,
                Self.router(
                    "r", (80, "http"),
                    routes: Self.route("x", match: ", port: 82", target: "virtualNodeRef: {name: n}, weight: 1, port: 83"))
            ) == [
                "a.yaml:4: VirtualRouter/r spec.routes[0].httpRoute.match.port: expected the router's port 80, found 82",
                "a.yaml:4: VirtualRouter/r spec.routes[0].httpRoute.action.weightedTargets[0].port: expected one of "
                    + "VirtualNode/n's ports 80, 81, found 83",
            ])
    }

    @Test("protocols that do not fit, and weights that sum to nothing, warn")
    func protocols() {
        #expect(
            Self.check(Self.node("n", (80, "tcp")), Self.router("r", (80, "http"), routes: Self.route("x"))) == [
                "a.yaml:4: warning: VirtualRouter/r spec.routes[0].httpRoute.action.weightedTargets[0]: VirtualNode/n listens with "
                    + "protocol tcp, the route is for http: what happens is not defined"
            ])
        #expect(
            Self.check(Self.node("n", (80, "tcp")), Self.router("r", (80, "http"), routes: Self.route("x", "tcp"))) == [
                "a.yaml:4: warning: VirtualRouter/r spec.routes[0].tcpRoute: the router listens with protocol http, the route is "
                    + "for tcp: what happens is not defined"
            ])
        #expect(
            Self.check(
                Self.node("n", (80, "http")),
                Self.router("r", (80, "http"), routes: Self.route("x", target: "virtualNodeRef: {name: n}, weight: 0"))) == [
                    "a.yaml:4: warning: VirtualRouter/r spec.routes[0].httpRoute.action.weightedTargets: every weight is 0: no "
                        + "request of this route can be answered"
                ])
    }

    static let gatewayRoute = "httpRoute: {match: {prefix: /}, action: {target: {virtualService: {virtualServiceRef: {name: s}}}}}"

    static func gateway(_ name: String, _ ports: (Int, String)..., selector: String = "") -> (ResourceKind, String, String) {
        let listeners = ports.map { "{portMapping: {port: \($0.0), protocol: \($0.1)}}" }.joined(separator: ", ")
        return (.virtualGateway, name, "namespaceSelector: {}, listeners: [\(listeners)]\(selector)")
    }

    @Test("a gateway route belongs to one gateway")
    func gateways() {
        let route = (ResourceKind.gatewayRoute, "x", Self.gatewayRoute)
        let service = (ResourceKind.virtualService, "s", "")
        #expect(
            Self.check(route, service) == [
                "a.yaml:3: warning: GatewayRoute/x: failed to find matching virtualGateway for gatewayRoute: x, expecting 1 but found 0"
            ])
        #expect(
            Self.check(route, service, Self.gateway("a", (80, "http")), Self.gateway("b", (80, "http"))) == [
                "a.yaml:3: GatewayRoute/x: found multiple matching virtualGateways for gatewayRoute: x, expecting 1 but found 2: a,b"
            ])
        // The route has no labels, so the second gateway does not want it.
        let other = Self.gateway("b", (80, "http"), selector: ", gatewayRouteSelector: {matchLabels: {a: b}}")
        #expect(Self.check(route, service, Self.gateway("a", (80, "http")), other) == [])
        #expect(
            Self.check(route, service, Self.gateway("a", (80, "grpc"))) == [
                "a.yaml:3: warning: GatewayRoute/x spec.httpRoute: VirtualGateway/a listens with protocol grpc, the route is for "
                    + "http: it matches nothing"
            ])
        #expect(
            Self.check(route, service, Self.gateway("a", (80, "http"), (81, "http"))) == [
                "a.yaml:3: warning: GatewayRoute/x spec.httpRoute.match.port: required, as there are several of VirtualGateway/a's "
                    + "ports: 80, 81"
            ])
        #expect(
            Self.check(Self.gateway("a")) == [
                "a.yaml:3: warning: VirtualGateway/a spec.listeners: a gateway without listeners lets nothing in"
            ])
    }

    @Test("a gateway route's target port is one of its service's")
    func gatewayTargets() {
        let route = Self.gatewayRoute.replacing("{name: s}}", with: "{name: s}}, port: 99")
        #expect(
            Self.check(
                (.gatewayRoute, "x", route), Self.gateway("a", (80, "http")),
                (.virtualService, "s", "provider: {virtualNode: {virtualNodeRef: {name: n}}}"),
                Self.node("n", (80, "http"))
            ) == ["a.yaml:3: GatewayRoute/x spec.httpRoute.action.target.port: expected VirtualService/s's port 80, found 99"])
    }

    @Test("mesh names are unique in their mesh, hosts without regard to case")
    func meshNames() {
        #expect(
            Self.check(
                (.virtualService, "s", "awsName: Shop.example"), (.virtualService, "t", "awsName: shop.example"),
                (.virtualNode, "n", "awsName: m_shop"),
                (.virtualNode, "m", "")
            ) == [
                "a.yaml:4: VirtualService/t spec.awsName: the mesh name \"shop.example\" is already that of VirtualService/s in "
                    + "namespace \"shop\" at a.yaml:3:5",
                "a.yaml:5: VirtualNode/n spec.awsName: the mesh name \"m_shop\" is already that of VirtualNode/m in namespace "
                    + "\"shop\" at a.yaml:6:5",
            ])
    }

    @Test("a node has one Sidecar, whose ports are the node's and whose addresses differ")
    func sidecars() {
        let node = Self.node("n", (80, "http"), more: ", backends: [{virtualService: {virtualServiceRef: {name: s}}}]")
        let service = (ResourceKind.virtualService, "s", "provider: {virtualNode: {virtualNodeRef: {name: n}}}")
        #expect(
            Self.check(node, service, (.sidecar, "a", "virtualNodeRef: {name: n}"), (.sidecar, "b", "virtualNodeRef: {name: n}")) == [
                "a.yaml:6: Sidecar/b spec.virtualNodeRef: VirtualNode/n has a Sidecar already: Sidecar/a in namespace \"shop\" at "
                    + "a.yaml:5:5"
            ])
        #expect(
            Self.check(
                node, service,
                (
                    .sidecar, "a",
                    "virtualNodeRef: {name: n}, inbound: [{port: 81, bind: \"0.0.0.0:15000\"}], outbound: {http: {bind: "
                        + "\"127.0.0.1:15000\"}}"
                )
            ) == [
                "a.yaml:5: Sidecar/a spec.inbound[0].port: expected VirtualNode/n's port 80, found 81",
                "a.yaml:5: Sidecar/a spec.outbound.http.bind: 127.0.0.1:15000 is already taken by spec.inbound[0].bind (0.0.0.0:15000)",
            ])
        let tcp = "virtualNodeRef: {name: n}, outbound: {tcp: [{virtualService: {name: NAME}, bind: \"127.0.0.1:1\", port: 81}]}"
        #expect(
            Self.check(node, service, (.virtualService, "t", ""), (.sidecar, "a", tcp.replacing("NAME", with: "t"))) == [
                "a.yaml:6: warning: Sidecar/a spec.outbound.tcp[0].virtualService: VirtualService/t is not among the backends of "
                    + "VirtualNode/n"
            ])
        #expect(
            Self.check(node, service, (.sidecar, "a", tcp.replacing("NAME", with: "s"))) == [
                "a.yaml:5: Sidecar/a spec.outbound.tcp[0].port: expected VirtualService/s's port 80, found 81"
            ])
        let arns = "virtualNodeRef: {name: n}, authorities: [{arn: a, certificateChain: /a}, {arn: a, certificateChain: /b}]"
        #expect(
            Self.check(node, service, (.sidecar, "a", arns)) == ["a.yaml:5: Sidecar/a spec.authorities[1].arn: already mapped above: a"])
        #expect(
            Self.check(
                Self.gateway("g", (80, "http")),
                (.sidecar, "a", "virtualGatewayRef: {name: g}, inbound: [{port: 80, app: \"127.0.0.1:1\", appTLS: {}}]")) == [
                    "a.yaml:4: warning: Sidecar/a spec.inbound[0].app: without effect: there is no application beside a gateway",
                    "a.yaml:4: warning: Sidecar/a spec.inbound[0].appTLS: without effect: there is no application beside a gateway",
                ])
    }

    @Test("an address that is given twice gets two shares, and that is said")
    func endpointSets() {
        let set = "virtualNodeRef: {name: n}, endpoints: [{address: 10.0.0.1}, {address: 10.0.0.1, port: 81}]"
        #expect(
            Self.check(Self.node("n", (80, "http")), (.endpointSet, "a", set), (.endpointSet, "b", set.replacing(", port: 81", with: "")))
                == [
                    "a.yaml:5: warning: EndpointSet/b spec.endpoints[0].address: already given in EndpointSet/a in namespace "
                        + "\"shop\" at a.yaml:4:5; it gets two shares",
                    "a.yaml:5: warning: EndpointSet/b spec.endpoints[1].address: already given in EndpointSet/a in namespace "
                        + "\"shop\" at a.yaml:4:5; it gets two shares",
                ])
    }

    @Test("a label selector is Kubernetes'")
    func selectors() {
        func requirement(_ operation: LabelSelector.Requirement.Operator, _ values: [String] = []) -> LabelSelector {
            LabelSelector(matchExpressions: [LabelSelector.Requirement(key: "a", operator: operation, values: values)])
        }
        let rows: [(LabelSelector, [String: String], Bool)] = [
            (LabelSelector(), [:], true), (LabelSelector(matchLabels: ["a": "b"]), ["a": "b", "c": "d"], true),
            (LabelSelector(matchLabels: ["a": "b"]), ["a": "c"], false), (LabelSelector(matchLabels: ["a": "b"]), [:], false),
            (requirement(.in, ["b", "c"]), ["a": "c"], true), (requirement(.in, ["b"]), [:], false),
            (requirement(.notIn, ["b"]), ["a": "b"], false), (requirement(.notIn, ["b"]), [:], true),
            (requirement(.exists), ["a": ""], true),
            (requirement(.exists), [:], false), (requirement(.doesNotExist), [:], true), (requirement(.doesNotExist), ["a": ""], false),
        ]
        for (selector, labels, expected) in rows { #expect(selector.matches(labels) == expected, "\(selector) \(labels)") }
    }
}
