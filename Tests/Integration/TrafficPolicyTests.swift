import Glibc
import TestSupport
import Testing

/// A TrafficPolicy from its YAML to the wire: what callers see is what it says.
@Suite struct TrafficPolicyTests {
    private static let executable = "\(Proxy.binaries)/outrigger"

    /// `front` calls `colors`, of which each route has a policy of its own.
    private static func mesh(_ endpoints: [UInt16], copies: UInt16, outbound: UInt16, admin: UInt16) -> String {
        """
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: Mesh
        metadata: { name: lab }
        spec: { namespaceSelector: {} }
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualNode
        metadata: { name: front, namespace: lab }
        spec:
          backends: [ { virtualService: { virtualServiceRef: { name: colors } } } ]
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualService
        metadata: { name: colors, namespace: lab }
        spec: { provider: { virtualRouter: { virtualRouterRef: { name: colors } } } }
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualRouter
        metadata: { name: colors, namespace: lab }
        spec:
          listeners: [ { portMapping: { port: 8080, protocol: http } } ]
          routes:
        \(["few", "broken", "copied"].map(route).joined(separator: "\n"))
        \(route("all", prefix: "/"))
        \(node("colors", endpoints))
        \(node("next", [copies]))
        ---
        apiVersion: outrigger/v1
        kind: Sidecar
        metadata: { name: front, namespace: lab }
        spec:
          virtualNodeRef: { name: front }
          outbound: { http: { bind: "127.0.0.1:\(outbound)" } }
          admin: { address: "127.0.0.1:\(admin)" }
        \(policy("colors", "{ kind: VirtualNode, name: colors }", """
          resilience: standard
          headers:
            request: { set: { x-load: "100%" } }
            response: { set: { x-seen-by: policy }, remove: [ x-inner ] }
        """))
        \(policy("few", onRoute("few"), "  rateLimit: { requests: 2, per: 1h }"))
        \(policy("broken", onRoute("broken"), """
          fault: { abort: { httpStatus: 418, percent: 100 }, headers: [ { name: x-chaos } ] }
        """))
        \(policy("copied", onRoute("copied"), "  mirror: [ { virtualNode: { name: next } } ]"))

        """
    }

    private static func route(_ name: String) -> String { route(name, prefix: "/\(name)") }

    private static func route(_ name: String, prefix: String) -> String {
        let action = "action: { weightedTargets: [ { virtualNodeRef: { name: colors }, weight: 1 } ] }"
        return "    - { name: \(name), httpRoute: { match: { prefix: \(prefix) }, \(action) } }"
    }

    private static func node(_ name: String, _ ports: [UInt16]) -> String {
        """
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualNode
        metadata: { name: \(name), namespace: lab }
        spec:
          listeners: [ { portMapping: { port: 8080, protocol: http } } ]
          serviceDiscovery: { awsCloudMap: { namespaceName: lab, serviceName: \(name) } }
        ---
        apiVersion: outrigger/v1
        kind: EndpointSet
        metadata: { name: \(name), namespace: lab }
        spec:
          virtualNodeRef: { name: \(name) }
          endpoints: [ \(ports.map { "{ address: 127.0.0.1, port: \($0) }" }.joined(separator: ", ")) ]
        """
    }

    private static func policy(_ name: String, _ target: String, _ spec: String) -> String {
        """
        ---
        apiVersion: outrigger/v1
        kind: TrafficPolicy
        metadata: { name: \(name), namespace: lab }
        spec:
          targetRef: \(target)
        \(spec)
        """
    }

    private static func onRoute(_ name: String) -> String { "{ kind: VirtualService, name: colors, route: \(name) }" }

    @Test("retries, rate limit, fault, copies and headers are what the files say")
    func all() throws {
        let good = try Origin.http { request in Array(ok(request.value("x-load") ?? "none", fields: "X-Inner: secret\r\n").utf8) }
        let bad = try Origin.answering("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
        let copies = Counter()
        let next = try Origin.http { _ in
            copies.add()
            return Array(ok().utf8)
        }
        let (outbound, admin) = (try Ports.free(), try Ports.free())
        let folder = try TemporaryFolder()
        let text = Self.mesh([good.port, bad.port], copies: next.port, outbound: outbound, admin: admin)
        try folder.replace("mesh.yaml", with: Array(text.utf8))
        let checked = try Program.run(Self.executable, ["validate", "-f", folder.path])
        #expect(
            checked.status == 0 && checked.output.contains("TrafficPolicy 4") && !checked.errors.contains("TrafficPolicy"), "\(checked)")
        let script = "exec '\(Self.executable)' render -f '\(folder.path)' --node front -o snapshot > '\(folder.file("snapshot"))'"
        #expect(try Program.run("sh", ["-c", script]).status == 0)
        let proxy = try Program(Proxy.executable, ["--snapshot", folder.file("snapshot")])
        defer { proxy.end() }
        try eventually("the proxy serves; it said \(proxy.errors)") { (try? RawConnection(to: outbound)) != nil }

        func get(_ path: String, _ more: String = "") throws -> HTTPMessage {
            try RawConnection(to: outbound).exchange("GET \(path) HTTP/1.1\r\nHost: colors.lab\r\n\(more)\r\n")
        }
        // One of both endpoints fails always: no caller sees it.
        for _ in 0..<20 {
            let answer = try get("/")
            #expect(answer.status == 200 && answer.bodyText == "100%")
            #expect(answer.value("x-seen-by") == "policy" && answer.value("x-inner") == nil)
        }
        #expect(try (0..<4).map { _ in try get("/few").status } == [200, 200, 429, 429])
        #expect(try get("/broken").status == 200)
        #expect(try get("/broken", "X-Chaos: 1\r\n").status == 418)
        #expect(try get("/copied").status == 200)
        try eventually("the copy has come: \(copies.value)") { copies.value == 1 }
    }
}
