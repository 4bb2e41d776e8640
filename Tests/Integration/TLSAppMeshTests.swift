import Glibc
import TestSupport
import Testing

/// `outrigger run` for the nodes and the gateway of one mesh with mutual TLS, from App Mesh's resources.
@Suite struct TLSAppMeshTests {
    private let certificates = MeshCertificates.shared

    @Test(
        "two nodes talk with mutual TLS and HTTP/2, a gateway lets in strangers, a node without a certificate does not get through",
        arguments: [("http", false), ("http", true), ("http2", false)])
    func mesh(portProtocol: String, appTLS: Bool) throws {
        let answer: @Sendable (HTTPMessage) -> String = { request in
            ok("\(request.value("x-forwarded-client-cert") ?? "nobody")|\(request.value("x-forwarded-proto") ?? "")")
        }
        // nginx speaks HTTP/2 in plaintext; who calls it, it does not say.
        let nginx = portProtocol == "http2" ? try NginxPeer(tls: nil) : nil
        let origin =
            appTLS
            ? try Origin.https(certificates.endpoint()) { request, _ in answer(request) } : try Origin.http { Array(answer($0).utf8) }
        let mesh = Resources(
            certificates: certificates, portProtocol: portProtocol, appTLS: appTLS, application: nginx?.port ?? origin.port,
            ports: try (0..<10).map { _ in try Ports.free() })
        let folder = try TemporaryFolder()
        try folder.replace("mesh.yaml", with: Array(mesh.text.utf8))
        let outrigger = "\(Proxy.binaries)/outrigger"

        let valid = try Program.run(outrigger, ["validate", "-f", folder.path])
        #expect(valid.status == 0, "\(valid)")
        let rendered = try Program.run(outrigger, ["render", "-f", folder.path, "--node", "cart"])
        #expect(rendered.status == 0 && rendered.output.contains(certificates.server.chain), "\(rendered)")

        let subjects = [["--node", "cart"], ["--node", "web"], ["--node", "stranger"], ["--gateway", "edge"]]
        let programs = try subjects.map { try Program(outrigger, ["run", "-f", folder.path] + $0) }
        defer {
            for program in programs {
                program.signal(SIGTERM)
                program.signal(SIGTERM)
                _ = try? program.wait()
                program.end()
            }
        }
        for (program, admin) in zip(programs, mesh.admins) {
            try eventually("a proxy serves: \(program.errors)\(program.output)") {
                if let status = program.exitStatus() { throw TestFailure("status \(status): \(program.errors)") }
                return (try? RawConnection(to: admin).exchange("GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n").status) == 200
            }
        }

        let request = "GET / HTTP/1.1\r\nHost: cart.shop\r\nx-forwarded-client-cert: URI=spiffe://mesh/admin\r\n\r\n"
        let callers = [
            try RawConnection(to: mesh.outbound), try RawConnection.tls(to: mesh.gateway, certificates.caller(protocols: ["http/1.1"])),
        ]
        // What a caller of the mesh's own is told was plaintext stays so; the gateway says what a stranger spoke.
        for (caller, scheme) in zip(callers, ["http", "https"]) {
            for _ in 0..<3 {
                let answer = try caller.exchange(request)
                #expect(answer.status == 200, "\(answer.headText)\(answer.bodyText)\(nginx?.log ?? "")")
                guard nginx == nil else { continue }
                #expect(answer.bodyText.contains("URI=\(MeshCertificates.clientURI);"), "\(answer.bodyText)")
                #expect(answer.bodyText.hasSuffix("|\(scheme)") && !answer.bodyText.contains("admin"), "\(answer.bodyText)")
            }
        }
        let stats = try RawConnection(to: mesh.admins[0]).exchange("GET /stats?usedonly HTTP/1.1\r\nHost: localhost\r\n\r\n").bodyText
        #expect(stats.contains("downstream_cx_http2_total") && stats.contains("ssl.handshake"), "\(stats)")

        let refused = try RawConnection(to: mesh.strangerOutbound).exchange(request)
        #expect(refused.status == 503, "\(refused.headText)\(refused.bodyText)")
        // Plaintext past the sidecars.
        let plain = try RawConnection(to: mesh.inbound)
        try plain.send(request)
        #expect(try plain.readToEnd().bytes.isEmpty)
    }
}

/// A node `cart` that is called by `web`, by `stranger`, who has no certificate, and by the gateway `edge`.
private struct Resources {
    var certificates: MeshCertificates
    var portProtocol: String
    var appTLS: Bool
    var application: UInt16
    var ports: [UInt16]

    var inbound: UInt16 { ports[0] }
    var outbound: UInt16 { ports[1] }
    var strangerOutbound: UInt16 { ports[2] }
    var gateway: UInt16 { ports[3] }
    var admins: [UInt16] { Array(ports[5..<9]) }

    private var isHTTP2: Bool { portProtocol == "http2" }
    private var trust: String { "{ file: { certificateChain: \"\(certificates.mesh.certificate)\" } }" }
    private func certificate(_ pair: TestCertificates.Pair) -> String {
        "{ file: { certificateChain: \"\(pair.chain)\", privateKey: \"\(pair.key)\" } }"
    }

    private func validation(_ name: String) -> String {
        "{ trust: \(trust), subjectAlternativeNames: { match: { exact: [ \"\(name)\" ] } } }"
    }

    private var app: String {
        guard appTLS else { return "" }
        return ", appTLS: { serverName: \(MeshCertificates.serverName), validation: { trust: \(trust) } }"
    }

    private func sidecar(_ name: String, admin: Int, kind: String = "Node", _ rest: String) -> String {
        """
        ---
        apiVersion: outrigger/v1
        kind: Sidecar
        metadata: { name: \(name), namespace: shop }
        spec:
          virtual\(kind)Ref: { name: \(name) }
          admin: { address: "127.0.0.1:\(ports[5 + admin])" }
          \(rest)

        """
    }

    var text: String {
        """
        apiVersion: v1
        kind: Namespace
        metadata: { name: shop, labels: { mesh: shop } }
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: Mesh
        metadata: { name: shop }
        spec: { namespaceSelector: { matchLabels: { mesh: shop } } }
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualNode
        metadata: { name: web, namespace: shop }
        spec:
          backends: [ { virtualService: { virtualServiceRef: { name: cart } } } ]
          backendDefaults:
            clientPolicy:
              tls:
                certificate: \(certificate(certificates.client))
                validation: \(validation(MeshCertificates.serverURI))
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualNode
        metadata: { name: stranger, namespace: shop }
        spec:
          backends:
            - virtualService:
                virtualServiceRef: { name: cart }
                clientPolicy: { tls: { validation: \(validation(MeshCertificates.serverURI)) } }
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualService
        metadata: { name: cart, namespace: shop }
        spec:
          awsName: cart.shop
          provider: { virtualRouter: { virtualRouterRef: { name: cart } } }
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualRouter
        metadata: { name: cart, namespace: shop }
        spec:
          listeners: [ { portMapping: { port: 8080, protocol: \(portProtocol) } } ]
          routes:
            - name: all
              \(isHTTP2 ? "http2Route" : "httpRoute"):
                match: { prefix: "/" }
                action: { weightedTargets: [ { virtualNodeRef: { name: cart }, weight: 1 } ] }
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualNode
        metadata: { name: cart, namespace: shop }
        spec:
          listeners:
            - portMapping: { port: 8080, protocol: \(portProtocol) }
              tls:
                mode: STRICT
                certificate: \(certificate(certificates.server))
                validation: \(validation(MeshCertificates.clientURI))
          serviceDiscovery: { awsCloudMap: { namespaceName: shop, serviceName: cart } }
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualGateway
        metadata: { name: edge, namespace: shop }
        spec:
          namespaceSelector: { matchLabels: { mesh: shop } }
          listeners:
            - portMapping: { port: 8443, protocol: http }
              tls: { mode: STRICT, certificate: \(certificate(certificates.server)) }
          backendDefaults:
            clientPolicy:
              tls:
                certificate: \(certificate(certificates.client))
                validation: \(validation(MeshCertificates.serverURI))
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: GatewayRoute
        metadata: { name: cart, namespace: shop }
        spec:
          \(isHTTP2 ? "http2Route" : "httpRoute"):
            match: { prefix: "/" }
            action: { target: { virtualService: { virtualServiceRef: { name: cart } } } }
        ---
        apiVersion: outrigger/v1
        kind: EndpointSet
        metadata: { name: cart, namespace: shop }
        spec:
          virtualNodeRef: { name: cart }
          endpoints: [ { address: 127.0.0.1, port: \(inbound) } ]

        """
            + sidecar(
                "cart", admin: 0,
                """
                inbound: [ { port: 8080, bind: "127.0.0.1:\(inbound)", app: "127.0.0.1:\(application)"\(app) } ]
                  outbound: { http: { bind: "127.0.0.1:\(ports[4])" } }
                """)
            + sidecar("web", admin: 1, "outbound: { http: { bind: \"127.0.0.1:\(outbound)\" } }")
            + sidecar("stranger", admin: 2, "outbound: { http: { bind: \"127.0.0.1:\(strangerOutbound)\" } }")
            + sidecar("edge", admin: 3, kind: "Gateway", "inbound: [ { port: 8443, bind: \"127.0.0.1:\(gateway)\" } ]")
    }
}
