import Base
import MeshModel
import MeshYAML
import ProxyConfig
import Testing

@testable import MeshCompiler

/// Builds meshes from YAML texts and compiles them.
enum Fixture {
    static let mesh = """
        kind: Mesh
        metadata: {name: m}
        spec: {namespaceSelector: {}}
        """

    /// `calls` has the VirtualService `svc` (svc.default) as its backend.
    static let caller = """
        kind: VirtualNode
        metadata: {name: calls}
        spec: {backends: [{virtualService: {virtualServiceRef: {name: svc}}}]}
        """

    static let service = """
        kind: VirtualService
        metadata: {name: svc}
        spec: {provider: {virtualRouter: {virtualRouterRef: {name: router}}}}
        """

    static func node(_ name: String, _ rest: String = "", port: Int = 8080, protocol: String = "http") -> String {
        """
        kind: VirtualNode
        metadata: {name: \(name)}
        spec:
          serviceDiscovery: {dns: {hostname: \(name).example}}
          listeners: [{portMapping: {port: \(port), protocol: \(`protocol`)}\(rest.isEmpty ? "" : ", \(rest)")}]
        """
    }

    static func router(_ routes: String, port: Int = 8080, protocol: String = "http") -> String {
        """
        kind: VirtualRouter
        metadata: {name: router}
        spec:
          listeners: [{portMapping: {port: \(port), protocol: \(`protocol`)}}]
          routes: [\(routes)]
        """
    }

    static let toA = "weightedTargets: [{virtualNodeRef: {name: a}, weight: 1}]"

    /// A route to the node `a`, with more fields of the route in `rest`.
    static func route(_ name: String, _ match: String, priority: Int? = nil, _ rest: String = "") -> String {
        let first = priority.map { "priority: \($0), " } ?? ""
        let more = rest.isEmpty ? "" : ", \(rest)"
        return "{name: \(name), \(first)httpRoute: {match: {\(match)}, action: {\(toA)}\(more)}}"
    }

    static func load(_ documents: [String], mesh: String = Fixture.mesh) throws -> MeshResources {
        let ours = ["Sidecar", "EndpointSet", "MeshPolicy", "TrafficPolicy"]
        let text = ([mesh] + documents).filter { !$0.isEmpty }.map { document in
            let kind = document.split(separator: "\n").first { $0.hasPrefix("kind: ") }?.dropFirst(6) ?? ""
            let group = ours.contains(String(kind)) ? "outrigger/v1" : kind == "Namespace" ? "v1" : "appmesh.k8s.aws/v1beta2"
            return "apiVersion: \(group)\n\(document)"
        }.joined(separator: "\n---\n")
        let result = MeshLoader.load(paths: ["-"], standardInput: text)
        let errors = result.diagnostics.filter { $0.severity == .error }.map(\.description)
        try #require(errors == [], "\(text)")
        return result.resources
    }

    static func compile(
        _ documents: [String], node: String = "calls", mesh: String = Fixture.mesh, options: CompileOptions = CompileOptions()
    ) throws -> CompiledNode {
        try compile(load(documents, mesh: mesh), .virtualNode(key(node)), options)
    }

    static func key(_ node: String) -> ResourceKey { ResourceKey(kind: .virtualNode, namespace: "default", name: node) }

    static func compile(_ documents: [String], gateway: String) throws -> CompiledNode {
        try compile(load(documents), .virtualGateway(ResourceKey(kind: .virtualGateway, namespace: "default", name: gateway)))
    }

    static func compile(
        _ resources: MeshResources, _ subject: MeshCompiler.Subject, _ options: CompileOptions = CompileOptions()
    ) throws -> CompiledNode {
        try MeshCompiler.compile(resources, for: subject, options: options).get()
    }

    /// The errors of a node that cannot be compiled.
    static func errors(_ documents: [String], node: String = "calls") throws -> [String] {
        let key = ResourceKey(kind: .virtualNode, namespace: "default", name: node)
        guard case .failure(let failure) = MeshCompiler.compile(try load(documents), for: .virtualNode(key)) else { return [] }
        return failure.errors.map { "\($0.resource) \($0.path): \($0.message)" }
    }
}

extension CompiledNode {
    func cluster(_ name: String) throws -> Cluster {
        try #require(snapshot.clusters.first { $0.name == name }, "\(snapshot.clusters.map(\.name))")
    }

    func host(_ name: String) throws -> VirtualHost {
        let hosts = snapshot.routeConfigurations.flatMap(\.virtualHosts)
        return try #require(hosts.first { $0.name == name }, "\(hosts.map(\.name))")
    }

    func forward(_ host: String, _ route: String? = nil) throws -> ForwardAction {
        let routes = try self.host(host).routes
        let found = try #require(routes.first { route == nil || $0.name == route }, "\(routes.map(\.name))")
        guard case .forward(let action) = found.action else { throw Unexpected(text: "\(found.action)") }
        return action
    }

    /// Defaults as `path: value`, without those of the connection managers.
    var defaults: [String] {
        notes.filter { $0.kind == .silentDefault && !$0.path.contains("http_connection_manager") }.map { "\($0.path): \($0.value ?? "")" }
    }

    /// Warnings about resources; those about features of the proxy change with it.
    var remarks: [String] { warnings.filter { $0.path.contains("/") }.map { "\($0.path): \($0.text)" } }
}

struct Unexpected: Error { var text: String }
