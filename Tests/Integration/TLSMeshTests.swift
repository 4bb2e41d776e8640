import Foundation
import Glibc
import ProxyConfig
import TestSupport
import Testing

/// The whole path: a caller, his sidecar, mutual TLS, the callee's sidecar, the callee.
@Suite struct TLSMeshTests {
    private static let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    private let certificates = MeshCertificates.shared

    /// What the first sidecar speaks to the second.
    private static let ways: [(UpstreamProtocol, [String])] = [(.http1, ["http/1.1"]), (.http2, ["h2"]), (.auto, ["h2", "http/1.1"])]

    private func withSidecars(
        _ way: (UpstreamProtocol, [String]), to origin: Origin, log folder: TemporaryFolder,
        body: (_ first: Proxy, _ second: Proxy) throws -> Void
    ) throws {
        try withProxy({
            Config.http(
                listen: $0, to: [origin.port], admin: $1,
                manager: {
                    $0.forwardClientCertificate = .sanitizeSet(ClientCertificateDetails())
                    let line = "%DOWNSTREAM_PEER_URI_SAN%|%REQ(:AUTHORITY)%|%PROTOCOL%|%RESPONSE_CODE%\n"
                    $0.accessLogs = [AccessLog(path: folder.file("log"), format: .text(line))]
                }
            ).listening(certificates.downstream(clients: [MeshCertificates.clientURI]))
        }) { (second) throws in
            let tls = certificates.upstream(
                names: [MeshCertificates.serverURI], pair: certificates.client, sni: MeshCertificates.serverName, alpn: way.1)
            try withProxy({
                Config.http(listen: $0, to: [second.port], admin: $1, cluster: { $0.upstreamProtocol = way.0 }).calling(tls)
            }) { (first) throws in try body(first, second) }
        }
    }

    @Test("two sidecars: the callee learns who calls, whatever the caller claims; log and metrics know him too", arguments: ways.indices)
    func identity(way: Int) throws {
        let folder = try TemporaryFolder()
        let origin = try Origin.http { request in
            let fields = request.values("x-forwarded-client-cert").joined(separator: " AND ")
            return Array(ok("\(fields)|\(request.value("x-forwarded-proto") ?? "")").utf8)
        }
        try withSidecars(Self.ways[way], to: origin, log: folder) { (first, second) throws in
            let caller = try first.connect()
            for _ in 0..<20 {
                let answer = try caller.exchange(
                    "GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-client-cert: By=x;URI=spiffe://mesh/admin\r\n\r\n")
                let parts = answer.bodyText.split(separator: "|", omittingEmptySubsequences: false)
                #expect(answer.status == 200 && parts.count == 2, "\(answer.headText)\(answer.bodyText)")
                #expect(parts.first?.contains("URI=\(MeshCertificates.clientURI)") == true, "\(answer.bodyText)")
                #expect(parts.first?.hasPrefix("By=\(MeshCertificates.serverURI);Hash=") == true && !answer.bodyText.contains("admin"))
            }
            try eventually("the log is written") { folder.text("log").split(separator: "\n").count == 20 }
            let version = way == 0 ? "HTTP/1.1" : "HTTP/2"
            #expect(
                folder.text("log").split(separator: "\n").allSatisfy { $0 == "\(MeshCertificates.clientURI)|a|\(version)|200" },
                "\(folder.text("log"))")
            #expect(try second.count("ssl.handshake") >= 1)
            #expect(try first.count("ssl.handshake") == second.count("ssl.handshake"))
        }
    }

    @Test("two sidecars: bodies, an error and an end of the connection go through as they are", arguments: ways.indices)
    func exchange(way: Int) throws {
        let size = 5 << 20
        let origin = try Origin(records: false) { connection in
            while true {
                let head = String(decoding: try connection.read(until: "\r\n\r\n"), as: UTF8.self)
                if head.hasPrefix("POST") {
                    guard try connection.readPattern(size) == (size, true) else { return }
                    try connection.send("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
                    try connection.sendPattern(size)
                } else if head.hasPrefix("GET /cut") {
                    try connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                    return
                } else {
                    try connection.send("HTTP/1.1 418 Teapot\r\nContent-Length: 5\r\n\r\nshort")
                }
            }
        }
        try withSidecars(Self.ways[way], to: origin, log: try TemporaryFolder()) { (first, _) throws in
            let caller = try first.connect()
            try caller.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \(size)\r\n\r\n")
            try caller.sendPattern(size)
            #expect(String(decoding: try caller.read(until: "\r\n\r\n"), as: UTF8.self).hasPrefix("HTTP/1.1 200"))
            #expect(try caller.readPattern(size) == (size, true))
            let teapot = try caller.exchange(Self.request)
            #expect(teapot.status == 418 && teapot.bodyText == "short")
            try caller.send("GET /cut HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            let text = String(decoding: try caller.readToEnd().bytes, as: UTF8.self)
            // Where head and reset come together, nothing of the answer has gone on yet.
            #expect(
                text.hasSuffix("half") && text.lowercased().contains("content-length: 100") || text.hasPrefix("HTTP/1.1 503"), "\(text)")
        }
    }

    @Test("load through two sidecars while both take new snapshots: no request fails", arguments: ways.indices)
    func swaps(way: Int) throws {
        let origin = try Origin.answering(ok(), records: false)
        try withSidecars(Self.ways[way], to: origin, log: try TemporaryFolder()) { (first, second) throws in
            let load = Load(port: first.port)
            try load.wait(for: 100)
            for round in 0..<3 {
                for proxy in [first, second] {
                    var snapshot = try proxy.written()
                    snapshot.routeConfigurations[0].virtualHosts[0].routes[0].name = "round-\(round)"
                    try proxy.apply(snapshot)
                    try load.wait(for: 50)
                }
            }
            let tally = try load.stop()
            #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))")
        }
    }

    @Test("a thousand idle connections with mutual TLS cost a bounded amount of memory", arguments: [["http/1.1"], ["h2"]])
    func idleMemory(protocols: [String]) throws {
        let origin = try Origin.answering(ok(), records: false)
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1).listening(certificates.downstream(clients: [])) }) {
            (proxy) throws in
            let settings = certificates.caller(certificates.client, protocols: protocols)
            func open() throws -> RawConnection {
                let caller = try RawConnection.tls(to: proxy.port, settings)
                if protocols == ["h2"] {
                    try caller.send(Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [0, 0, 0, 4, 0, 0, 0, 0, 0])
                    // Our SETTINGS' acknowledgement comes behind theirs.
                    _ = try caller.read(until: "\0\0\0\u{4}\u{1}\0\0\0\0")
                } else {
                    #expect(try caller.exchange(Self.request).bodyText == "ok")
                }
                return caller
            }
            var callers = try (0..<100).map { _ in try open() }
            let before = proxy.residentBytes
            callers += try (0..<1000).map { _ in try open() }
            let each = (proxy.residentBytes - before) / 1000
            // Measured in a debug build; OpenSSL's own share is some 18 KB.
            #expect(each < 64 << 10, "\(each) bytes a connection")
            #expect(callers.count == 1100)
        }
    }

    // MARK: From App Mesh's resources

    @Test(
        "outrigger run: two nodes from one mesh with mutual TLS talk, over HTTP/2 by ALPN; a third without a certificate does not",
        arguments: ["http", "http2"])
    func appMesh(portProtocol: String) throws {
        let origin: Origin
        let isHTTP2 = portProtocol == "http2"
        // An application that speaks HTTP/2 is not what this is about: nginx speaks it in plaintext.
        let nginx = isHTTP2 ? try NginxPeer(tls: nil) : nil
        origin = try Origin.http { request in Array(ok(request.value("x-forwarded-client-cert") ?? "nobody").utf8) }
        let mesh = YAML(
            certificates: certificates, portProtocol: portProtocol, application: nginx?.port ?? origin.port, inbound: try Ports.free(),
            outbound: try Ports.free(), strangerOutbound: try Ports.free(), calleeOutbound: try Ports.free(),
            admins: try (0..<3).map { _ in try Ports.free() })
        let folder = try TemporaryFolder()
        try folder.replace("mesh.yaml", with: Array(mesh.text.utf8))
        let outrigger = "\(Proxy.binaries)/outrigger"

        let valid = try Program.run(outrigger, ["validate", "-f", folder.path])
        #expect(valid.status == 0, "\(valid)")
        let rendered = try Program.run(outrigger, ["render", "-f", folder.path, "--node", "cart"])
        #expect(rendered.status == 0 && rendered.output.contains(certificates.server.chain), "\(rendered)")
        #expect(!rendered.output.contains("PRIVATE KEY"))

        let programs = try ["cart", "web", "stranger"].map { try Program(outrigger, ["run", "-f", folder.path, "--node", $0]) }
        defer {
            for program in programs {
                program.signal(SIGTERM)
                program.signal(SIGTERM)
                _ = try? program.wait()
                program.end()
            }
        }
        for (program, admin) in zip(programs, mesh.admins) {
            try eventually("a sidecar serves: \(program.errors)\(program.output)") {
                if let status = program.exitStatus() { throw TestFailure("status \(status): \(program.errors)") }
                let ready = try? RawConnection(to: admin).exchange("GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
                return ready?.status == 200
            }
        }
        let host = "Host: cart.shop\r\n"
        let caller = try RawConnection(to: mesh.outbound)
        for _ in 0..<3 {
            let answer = try caller.exchange("GET / HTTP/1.1\r\n\(host)\r\n")
            #expect(answer.status == 200, "\(answer.headText)\(answer.bodyText)\(nginx?.log ?? "")")
            if !isHTTP2 { #expect(answer.bodyText.contains("URI=\(MeshCertificates.clientURI)"), "\(answer.bodyText)") }
        }
        let stats = try RawConnection(to: mesh.admins[0]).exchange("GET /stats?usedonly HTTP/1.1\r\nHost: localhost\r\n\r\n").bodyText
        #expect(stats.contains("downstream_cx_http2_total"), "\(stats)")
        let refused = try RawConnection(to: mesh.strangerOutbound).exchange("GET / HTTP/1.1\r\n\(host)\r\n")
        #expect(refused.status == 503, "\(refused.headText)\(refused.bodyText)")
        // Plaintext past the sidecars.
        let plain = try RawConnection(to: mesh.inbound)
        try plain.send(Self.request)
        #expect(try plain.readToEnd().bytes.isEmpty)
    }

    private struct YAML {
        var certificates: MeshCertificates
        var portProtocol: String
        var application: UInt16
        var inbound: UInt16
        var outbound: UInt16
        var strangerOutbound: UInt16
        var calleeOutbound: UInt16
        var admins: [UInt16]

        private var route: String { portProtocol == "http2" ? "http2Route" : "httpRoute" }

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
                    certificate:
                      file: { certificateChain: "\(certificates.client.chain)", privateKey: "\(certificates.client.key)" }
                    validation:
                      trust: { file: { certificateChain: "\(certificates.mesh.certificate)" } }
                      subjectAlternativeNames: { match: { exact: [ "\(MeshCertificates.serverURI)" ] } }
            ---
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: VirtualNode
            metadata: { name: stranger, namespace: shop }
            spec:
              backends:
                - virtualService:
                    virtualServiceRef: { name: cart }
                    clientPolicy:
                      tls:
                        validation:
                          trust: { file: { certificateChain: "\(certificates.mesh.certificate)" } }
                          subjectAlternativeNames: { match: { exact: [ "\(MeshCertificates.serverURI)" ] } }
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
                  \(route):
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
                    certificate:
                      file: { certificateChain: "\(certificates.server.chain)", privateKey: "\(certificates.server.key)" }
                    validation:
                      trust: { file: { certificateChain: "\(certificates.mesh.certificate)" } }
                      subjectAlternativeNames: { match: { exact: [ "\(MeshCertificates.clientURI)" ] } }
              serviceDiscovery: { awsCloudMap: { namespaceName: shop, serviceName: cart } }
            ---
            apiVersion: outrigger/v1
            kind: EndpointSet
            metadata: { name: cart, namespace: shop }
            spec:
              virtualNodeRef: { name: cart }
              endpoints: [ { address: 127.0.0.1, port: \(inbound) } ]
            ---
            apiVersion: outrigger/v1
            kind: Sidecar
            metadata: { name: cart, namespace: shop }
            spec:
              virtualNodeRef: { name: cart }
              inbound: [ { port: 8080, bind: "127.0.0.1:\(inbound)", app: "127.0.0.1:\(application)" } ]
              outbound: { http: { bind: "127.0.0.1:\(calleeOutbound)" } }
              admin: { address: "127.0.0.1:\(admins[0])" }
            ---
            apiVersion: outrigger/v1
            kind: Sidecar
            metadata: { name: web, namespace: shop }
            spec:
              virtualNodeRef: { name: web }
              outbound: { http: { bind: "127.0.0.1:\(outbound)" } }
              admin: { address: "127.0.0.1:\(admins[1])" }
            ---
            apiVersion: outrigger/v1
            kind: Sidecar
            metadata: { name: stranger, namespace: shop }
            spec:
              virtualNodeRef: { name: stranger }
              outbound: { http: { bind: "127.0.0.1:\(strangerOutbound)" } }
              admin: { address: "127.0.0.1:\(admins[2])" }

            """
        }
    }
}
