import Base
import MeshModel
import MeshYAML
import Testing

@testable import MeshCompiler

@Suite("What a change can touch")
struct MeshIndexTests {
    @Test("What no change of the mesh has touched compiles to the same again, notes with their places included")
    func untouchedStaysTheSame() throws {
        var (untouched, different, touchedInVain) = (0, 0, 0)
        for seed in 1...20 as ClosedRange<UInt64> {
            var mesh = ChangingMesh(seed: seed)
            for _ in 1...30 { try mesh.change() }
            var index = MeshIndex(mesh.resources)
            var known = Self.compileAll(index)
            for step in 1...25 {
                for _ in 0..<Int.random(in: 1...3, using: &mesh.random) { try mesh.change() }
                let next = MeshIndex(mesh.resources)
                let changes = MeshChanges(from: index, to: next)
                let now = Self.compileAll(next)
                for (subject, outcome) in now {
                    guard let before = known[subject] else { continue }
                    let isSame = before.result == outcome.result
                    if !changes.touch(before.readings) {
                        untouched += 1
                        #expect(isSame, "seed \(seed), step \(step), \(subject)")
                        #expect(before.readings == outcome.readings, "seed \(seed), step \(step), \(subject)")
                    } else if isSame {
                        touchedInVain += 1
                    } else {
                        different += 1
                    }
                }
                (index, known) = (next, now)
            }
        }
        // That it finds something to be untouched, and not only that, is what it is for.
        #expect(untouched > 500 && different > 250 && touchedInVain < untouched, "\(untouched), \(different), \(touchedInVain)")
    }

    private static func compileAll(_ index: MeshIndex) -> [MeshCompiler.Subject: CompileOutcome] {
        let options = CompileOptions(registeredNodes: [Fixture.key("a"), Fixture.key("b")], hasIdentity: true)
        var outcomes: [MeshCompiler.Subject: CompileOutcome] = [:]
        for subject in ChangingMesh.subjects { outcomes[subject] = MeshCompiler.compile(index, for: subject, options: options) }
        return outcomes
    }

    private static let callers = """
        kind: VirtualNode
        metadata: {name: calls}
        spec: {backends: [{virtualService: {virtualServiceRef: {name: svc}}}]}
        """
    private static let lonely = "kind: VirtualNode\nmetadata: {name: lonely}\nspec: {}"
    private static let other = """
        kind: VirtualService
        metadata: {name: other}
        spec: {provider: {virtualNode: {virtualNodeRef: {name: b}}}}
        """

    private static func policy(_ target: String) -> String {
        "kind: TrafficPolicy\nmetadata: {name: p}\nspec: {targetRef: {kind: \(target)}, timeout: 5s}"
    }

    @Test(
        "A change concerns those who look at it",
        arguments: [
            ("a node that is called", Fixture.node("a", "timeout: {http: {idle: {unit: s, value: 9}}}"), true),
            ("a node that is not called", Fixture.node("b", "timeout: {http: {idle: {unit: s, value: 9}}}"), false),
            ("a service that is no backend", "kind: VirtualService\nmetadata: {name: third}\nspec: {}", false),
            ("the sidecar of the caller", "kind: Sidecar\nmetadata: {name: x}\nspec: {virtualNodeRef: {name: calls}, workers: 3}", true),
            ("the sidecar of the callee", "kind: Sidecar\nmetadata: {name: x}\nspec: {virtualNodeRef: {name: a}, workers: 3}", false),
            (
                "endpoints of the callee",
                "kind: EndpointSet\nmetadata: {name: e}\nspec: {virtualNodeRef: {name: a}, endpoints: [{address: 10.0.0.1}]}", true
            ),
            ("the policy of the callee", "\(Self.policy("VirtualNode, name: a"))", true),
            ("the policy of the service", "\(Self.policy("VirtualService, name: svc"))", true),
            ("the policy of another", "\(Self.policy("VirtualNode, name: b"))", false),
            (
                "endpoints of another",
                "kind: EndpointSet\nmetadata: {name: e}\nspec: {virtualNodeRef: {name: b}, endpoints: [{address: 10.0.0.1}]}", false
            ),
        ])
    func concerned(what: String, document: String, isConcerned: Bool) throws {
        let documents = [
            Self.callers, Self.lonely, Self.other, Fixture.service, Fixture.router(Fixture.route("r", "prefix: /")), Fixture.node("a"),
            Fixture.node("b"),
        ]
        let before = MeshIndex(try Fixture.load(documents))
        var resources = before.resources
        let new = try Fixture.load([document])
        for resource in new.all where resource.key.kind != .mesh { resources.insert(resource) }
        let changes = MeshChanges(from: before, to: MeshIndex(resources))
        let readings = MeshCompiler.compile(before, for: .virtualNode(Fixture.key("calls"))).readings
        #expect(changes.touch(readings) == isConcerned)
        #expect(!changes.isEmpty && !changes.touch(MeshCompiler.compile(before, for: .virtualNode(Fixture.key("lonely"))).readings))
        #expect(MeshChanges(from: before, to: MeshIndex(before.resources)).isEmpty)
    }
}

/// A small mesh that becomes another one at random: resources come, go and are written anew, with and without sense.
struct ChangingMesh {
    private(set) var resources = MeshResources()
    var random: SeededRandom

    private static let nodes = ["a", "b", "c", "d"]
    private static let namespaces = ["default", "other"]

    /// All whose proxies there may be.
    static let subjects: [MeshCompiler.Subject] =
        namespaces.flatMap { namespace in
            nodes.map { .virtualNode(ResourceKey(kind: .virtualNode, namespace: namespace, name: $0)) }
                + ["g", "h"].map { .virtualGateway(ResourceKey(kind: .virtualGateway, namespace: namespace, name: $0)) }
        }

    init(seed: UInt64) {
        random = SeededRandom(seed: seed)
    }

    mutating func change() throws {
        let document = makeDocument()
        let loaded = MeshLoader.load(paths: ["-"], standardInput: document)
        guard let resource = loaded.resources.all.first else {
            if let namespace = loaded.resources.namespaces.first {
                resources.namespaces[namespace.key] = Bool.random(using: &random) ? namespace.value : nil
            }
            return
        }
        if Int.random(in: 0..<4, using: &random) == 0 { return resources.remove(resource.key) }
        resources.insert(resource)
        resources.places.set(try #require(loaded.resources.places.places(in: resource.key)), for: resource.key)
    }

    private mutating func pick(_ words: [String]) -> String { words.randomElement(using: &random)! }
    private mutating func node() -> String { "{virtualNodeRef: {name: \(pick(Self.nodes))}}" }
    private mutating func service() -> String {
        "{virtualServiceRef: {name: \(pick(["s", "t", "u"]))\(pick(["", "", ", namespace: other"]))}}"
    }

    private mutating func makeDocument() -> String {
        let kind = pick([
            "Mesh", "Namespace", "VirtualNode", "VirtualNode", "VirtualNode", "VirtualService", "VirtualService", "VirtualRouter",
            "VirtualRouter",
            "BackendGroup", "Sidecar", "EndpointSet", "VirtualGateway", "GatewayRoute", "MeshPolicy", "TrafficPolicy",
        ])
        var name = pick(Self.nodes)
        let spec: String
        switch kind {
        case "Mesh":
            name = pick(["m", "m", "m", "n"])
            let selector = pick(["{}", "{}", "{matchLabels: {mesh: x}}"])
            spec = "{namespaceSelector: \(selector), egressFilter: {type: \(pick(["ALLOW_ALL", "DROP_ALL"]))}}"
        case "MeshPolicy":
            name = "p"
            spec = "{meshRef: {name: m}, mtls: {mode: \(pick(["STRICT", "PERMISSIVE", "DISABLED"]))}}"
        case "TrafficPolicy":
            let target = pick([
                "{kind: VirtualNode, name: \(pick(Self.nodes))}", "{kind: VirtualService, name: s, namespace: \(pick(Self.namespaces))}",
                "{kind: VirtualRouter, name: a}", "{kind: GatewayRoute, name: a}",
            ])
            let parts = target.contains("Node") || target.contains("Service") ? ["resilience: standard", "limits: {maxRequests: 5}"] : []
            let part = pick(
                parts + [
                    "rateLimit: {requests: 5}", "fault: {abort: {httpStatus: 503, percent: 5}}", "retries: none",
                    "mirror: [{virtualNode: {name: \(pick(Self.nodes))}}]", "headers: {request: {remove: [x-a]}}",
                ])
            let callers = pick(["", "callers: [{name: \(pick(Self.nodes))}], "])
            spec = "{targetRef: \(target), \(callers)\(part)}"
        case "Namespace":
            let namespace = pick(Self.namespaces)
            return "apiVersion: v1\nkind: Namespace\nmetadata: {name: \(namespace), labels: {mesh: \(pick(["x", "y"]))}}"
        case "VirtualNode":
            let listeners = pick([
                "", "listeners: [{portMapping: {port: 8080, protocol: http}}], ",
                "listeners: [{portMapping: {port: 9090, protocol: grpc}}, {portMapping: {port: 91, protocol: tcp}}], ",
                "listeners: [{timeout: {http: {perRequest: {unit: s, value: 5}}}}], ",
            ])
            let discovery = pick(["", "serviceDiscovery: {dns: {hostname: \(name).example}}, "])
            let groups = pick(["", "", "backendGroups: [{name: '*'}], ", "backendGroups: [{name: a}], "])
            spec = "{\(listeners)\(discovery)\(groups)backends: [{virtualService: \(service())}]}"
        case "VirtualService":
            name = pick(["s", "t", "u"])
            spec = pick([
                "{}", "{provider: {virtualNode: \(node())}}",
                "{provider: {virtualRouter: {virtualRouterRef: {name: \(pick(["r", "q"]))}}}}",
            ])
        case "VirtualRouter":
            name = pick(["r", "q"])
            let target = "{virtualNodeRef: {name: \(pick(Self.nodes))}, weight: \(pick(["0", "1", "2"]))\(pick(["", ", port: 8080"]))}"
            let route = "httpRoute: {match: {prefix: /\(pick(["", "x"]))}, action: {weightedTargets: [\(target)]}}"
            spec = "{listeners: [{portMapping: {port: 8080, protocol: http}}], routes: [{name: one, \(route)}]}"
        case "BackendGroup":
            name = "a"
            spec = "{virtualservices: [{name: \(pick(["s", "t", "u"]))}]}"
        case "Sidecar":
            spec = "{virtualNodeRef: {name: \(pick(Self.nodes))}, workers: \(pick(["1", "2"]))}"
        case "EndpointSet":
            spec = "{virtualNodeRef: {name: \(pick(Self.nodes))}, endpoints: [{address: 10.0.0.\(pick(["1", "2"])), port: 8080}]}"
        case "VirtualGateway":
            name = pick(["g", "h"])
            let selector = pick(["", "gatewayRouteSelector: {matchLabels: {to: \(name)}}, "])
            spec =
                "{namespaceSelector: \(pick(["{}", "{matchLabels: {mesh: x}}"])), \(selector)listeners: [{portMapping: {port: 8088, protocol: http}}]}"
        default:
            spec = "{httpRoute: {match: {prefix: /\(name)}, action: {target: {virtualService: \(service())}}}}"
        }
        let group = ["Sidecar", "EndpointSet", "MeshPolicy", "TrafficPolicy"].contains(kind) ? "outrigger/v1" : "appmesh.k8s.aws/v1beta2"
        let namespace = ["Mesh", "MeshPolicy"].contains(kind) ? "" : ", namespace: \(pick(Self.namespaces))"
        let lines = String(repeating: "#\n", count: Int.random(in: 0...2, using: &random))
        return
            "\(lines)apiVersion: \(group)\nkind: \(kind)\nmetadata: {name: \(name)\(namespace), labels: {to: \(pick(["g", "h"]))}}\nspec: \(spec)"
    }
}
