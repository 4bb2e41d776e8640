import Foundation
import TestSupport
import Testing
import XDSWire

/// The proxy under a control plane that is not ours.
@Suite(.enabled(if: !Peers.venv.isEmpty, "needs $OUTRIGGER_TOOLS_VENV with grpcio and xds-protos; scripts/test makes it"))
struct ManagedProxyTests {
    typealias Plane = ForeignControlPlane

    private static let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

    private func body(_ port: UInt16) throws -> String? {
        let answer = try RawConnection(to: port).exchange(Self.get)
        return answer.status == 200 ? answer.bodyText : "\(answer.status)"
    }

    private func waitForBody(_ text: String, _ port: UInt16, _ proxy: ManagedProxy) throws {
        var last: String?
        try eventually("\(text) is answered, not \(last ?? "nothing"); the proxy said:\n\(proxy.log)") {
            last = try? body(port)
            return last == text
        }
    }

    /// A control plane that serves one listener before one origin.
    private func plane(_ listen: UInt16, to origin: Origin) throws -> Plane {
        let plane = try Plane()
        try plane.serve(
            ("Cluster", [Plane.cluster("a")]), ("ClusterLoadAssignment", [Plane.endpoints("a", origin.port)]),
            ("Listener", [Plane.listener("in", listen)]), ("RouteConfiguration", [Plane.routes(to: "a")]))
        return plane
    }

    @Test("configuration comes and is served; endpoints change alone; a bad change is refused with its place, and the old one serves")
    func life() throws {
        let (one, two) = (try Origin.answering(ok("one"), records: false), try Origin.answering(ok("two"), records: false))
        let listen = try Ports.free()
        let plane = try plane(listen, to: one)
        defer { plane.kill() }
        let proxy = try ManagedProxy(port: plane.port)
        defer { proxy.program.end() }
        try waitForBody("one", listen, proxy)
        try proxy.waitForPage("/ready", "LIVE") { $0.bodyText == "LIVE\n" }
        let first = plane.requests[0]
        #expect(first.nodeID == "mesh/shop/virtualNode/cart" && first.instance == "one")
        try plane.waitForACK("Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration")

        try plane.serve(("ClusterLoadAssignment", [Plane.endpoints("a", two.port)]))
        try plane.waitForACK("ClusterLoadAssignment")
        try waitForBody("two", listen, proxy)

        // A field that we cannot honour, found while decoding; then a pattern that cannot be compiled.
        try plane.serve(("Cluster", [Plane.cluster("a", more: #", "lb_policy": "CLUSTER_PROVIDED""#)]))
        let reason = try plane.waitForNACK("Cluster")
        #expect(reason.contains("Cluster/a lb_policy: expected"), "\(reason)")
        try plane.serve(("RouteConfiguration", [Plane.routes(to: "a", match: #""safe_regex": {"regex": "("}"#)]))
        let pattern = try plane.waitForNACK("RouteConfiguration")
        #expect(pattern.contains("expected"), "\(pattern)")
        #expect(try body(listen) == "two")
        let info = try proxy.page("/server_info").bodyText
        #expect(info.contains("last_rejected") && info.contains("expected"))
        #expect(try proxy.page("/stats").bodyText.contains("cluster_manager.cds.update_rejected: 1"))

        // A listener whose port is taken: the rest of what comes with it is taken.
        let taken = try Origin.answering(ok("taken"), records: false)
        try plane.serve(
            ("RouteConfiguration", [Plane.routes(to: "a")]), ("Cluster", [Plane.cluster("a")]),
            ("Listener", [Plane.listener("in", listen), Plane.listener("more", taken.port)]))
        let listeners = try plane.waitForNACK("Listener")
        #expect(listeners.contains("listener more: cannot listen on 127.0.0.1:\(taken.port)"), "\(listeners)")
        try plane.serve(("ClusterLoadAssignment", [Plane.endpoints("a", one.port)]))
        try waitForBody("one", listen, proxy)
        // The port is free again: SIGHUP tries what was refused.
        let port = taken.port
        taken.stop()
        proxy.program.signal(SIGHUP)
        try plane.waitForACK("Listener")
        try waitForBody("one", port, proxy)
        #expect(try proxy.stop() == 0)
    }

    @Test("without its control plane it serves on, starts from what it kept, says so, and comes back by itself")
    func lostControlPlane() throws {
        let (one, two) = (try Origin.answering(ok("one"), records: false), try Origin.answering(ok("two"), records: false))
        let (listen, folder) = (try Ports.free(), try TemporaryFolder())
        let plane = try plane(listen, to: one)
        defer { plane.kill() }
        let state = ["--state", folder.path]
        let proxy = try ManagedProxy(port: plane.port, arguments: state)
        defer { proxy.program.end() }
        try waitForBody("one", listen, proxy)
        let load = Load(port: listen, callers: 2)
        plane.kill()
        try proxy.waitForLog("lost the control plane")
        try load.wait(for: 50)
        #expect(try proxy.page("/stats").bodyText.contains("control_plane.connected_state: 0"))
        try plane.restart()
        try proxy.waitForPage("/server_info", "connected again") { $0.bodyText.contains("\"connected\": true") }
        // What it holds is said, and a change reaches it.
        #expect(plane.requests.contains { $0.kind == "Cluster" && $0.version == "1" && $0.nonce.isEmpty })
        try plane.serve(("ClusterLoadAssignment", [Plane.endpoints("a", two.port)]))
        try waitForBody("two", listen, proxy)
        let tally = try load.stop()
        #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))")
        plane.kill()
        #expect(try proxy.stop() == 0)

        let next = try ManagedProxy(port: plane.port, arguments: state)
        defer { next.program.end() }
        try waitForBody("two", listen, next)
        try next.waitForPage("/ready", "200 that says where the configuration is from") {
            $0.status == 200 && $0.bodyText.contains("the last good one") && $0.bodyText.contains("no control plane")
        }
        #expect(try next.page("/stats").bodyText.contains("config.from_disk: 1"))
        try plane.restart()
        try next.waitForLog("what runs comes from it now")
        #expect(try next.page("/ready").bodyText == "LIVE\n")
        try eventually("the report says so") { try plane.reports().last?.isLastGoodFromDisk == false }
        #expect(try plane.reports().contains { $0.isLastGoodFromDisk })
        #expect(try next.stop() == 0)
    }

    @Test("with neither a control plane nor anything kept it is not ready, says why, and goes on trying")
    func nothing() throws {
        let origin = try Origin.answering(ok("one"), records: false)
        let listen = try Ports.free()
        let plane = try plane(listen, to: origin)
        defer { plane.kill() }
        plane.kill()
        let proxy = try ManagedProxy(port: plane.port)
        defer { proxy.program.end() }
        try proxy.waitForPage("/ready", "503 with the reason") {
            $0.status == 503 && $0.bodyText.contains("no configuration yet") && $0.bodyText.contains("connection refused")
        }
        try plane.restart()
        try waitForBody("one", listen, proxy)
        try proxy.waitForPage("/ready", "200") { $0.status == 200 }
        #expect(try proxy.stop() == 0)
    }

    @Test("a route moves from cluster to cluster under load, in three steps and in one, and no request fails")
    func makeBeforeBreak() throws {
        let origins = try ["one", "two"].map { try Origin.answering(ok($0), records: false) }
        let listen = try Ports.free()
        let plane = try Plane()
        defer { plane.kill() }
        try plane.serve(
            ("Cluster", [Plane.cluster("a0")]), ("ClusterLoadAssignment", [Plane.endpoints("a0", origins[0].port)]),
            ("Listener", [Plane.listener("in", listen)]), ("RouteConfiguration", [Plane.routes(to: "a0")]))
        let proxy = try ManagedProxy(port: plane.port)
        defer { proxy.program.end() }
        try waitForBody("one", listen, proxy)
        let load = Load(port: listen, callers: 3)
        for step in 1...20 {
            let (old, new) = ("a\(step - 1)", "a\(step)")
            let endpoints = Plane.endpoints(new, origins[step % 2].port)
            let oldEndpoints = Plane.endpoints(old, origins[(step - 1) % 2].port)
            if step % 2 == 0 {
                try plane.serve(
                    ("Cluster", [Plane.cluster(old), Plane.cluster(new)]), ("ClusterLoadAssignment", [oldEndpoints, endpoints]))
                try plane.waitForACK("Cluster", "ClusterLoadAssignment")
                try plane.serve(("RouteConfiguration", [Plane.routes(to: new)]))
                try plane.waitForACK("RouteConfiguration")
                try plane.serve(("Cluster", [Plane.cluster(new)]))
            } else {
                // Everything at once, in the worst order.
                try plane.serve(
                    ("RouteConfiguration", [Plane.routes(to: new)]), ("Cluster", [Plane.cluster(new)]),
                    ("ClusterLoadAssignment", [endpoints]))
            }
            try waitForBody(step % 2 == 0 ? "one" : "two", listen, proxy)
        }
        try load.wait(for: 50)
        let tally = try load.stop()
        #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))")
        #expect(!proxy.log.contains("refused"), "\(proxy.log)")
        #expect(try proxy.stop() == 0)
    }

    @Test("a certificate comes as a secret, is renewed without a broken connection, and a bad one is refused while the old one serves")
    func secrets() throws {
        let mesh = MeshCertificates.shared
        let origin = try Origin.answering(ok("one"), records: false)
        let listen = try Ports.free()
        let plane = try Plane()
        defer { plane.kill() }
        try plane.serve(
            ("Cluster", [Plane.cluster("a")]), ("ClusterLoadAssignment", [Plane.endpoints("a", origin.port)]),
            ("Secret", [Plane.certificate("cert", mesh.server)]),
            ("Listener", [Plane.listener("in", listen, more: Plane.downstreamTLS("cert"))]),
            ("RouteConfiguration", [Plane.routes(to: "a")]))
        let proxy = try ManagedProxy(port: plane.port)
        defer { proxy.program.end() }
        try proxy.waitForLog("applied by")
        func connect() throws -> RawConnection { try RawConnection.tls(to: listen, mesh.caller()) }
        let kept = try connect()
        let keepAlive = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        #expect(try kept.exchange(keepAlive).bodyText == "one")

        let renewed = try mesh.mesh.issue("renewed", names: ["DNS:\(MeshCertificates.serverName)"])
        try plane.serve(("Secret", [Plane.certificate("cert", renewed)]))
        try plane.waitForACK("Secret")
        #expect(try proxy.page("/certs").bodyText.contains("renewed"))
        #expect(try connect().exchange(keepAlive).bodyText == "one")
        #expect(try kept.exchange(keepAlive).bodyText == "one")

        let mixed = TestCertificates.Pair(chain: mesh.server.chain, key: renewed.key)
        try plane.serve(("Secret", [Plane.certificate("cert", mixed)]))
        let reason = try plane.waitForNACK("Secret")
        #expect(reason.contains("expected the private key of the certificate in secret cert"), "\(reason)")
        #expect(try proxy.page("/certs").bodyText.contains("renewed"))
        #expect(try connect().exchange(keepAlive).bodyText == "one")
        #expect(try eventuallyReported(plane) { $0.certificates.first?.name == "secret cert" })
        #expect(try proxy.stop() == 0)
    }

    @Test("to the control plane by mutual TLS; a control plane of another authority is refused, and said so")
    func mutualTLS() throws {
        let mesh = MeshCertificates.shared
        let origin = try Origin.answering(ok("one"), records: false)
        let listen = try Ports.free()
        let plane = try Plane(files: ["ca.pem": mesh.mesh.certificate, "server.pem": mesh.server.chain, "server.key": mesh.server.key])
        defer { plane.kill() }
        try plane.serve(
            ("Cluster", [Plane.cluster("a")]), ("ClusterLoadAssignment", [Plane.endpoints("a", origin.port)]),
            ("Listener", [Plane.listener("in", listen)]), ("RouteConfiguration", [Plane.routes(to: "a")]))
        func arguments(_ authority: TestCertificates.Authority) -> [String] {
            [
                "--control-plane-ca", authority.certificate, "--client-certificate", mesh.client.chain, "--client-key", mesh.client.key,
                "--control-plane-name", MeshCertificates.serverURI,
            ]
        }
        let proxy = try ManagedProxy(port: plane.port, arguments: arguments(mesh.mesh))
        defer { proxy.program.end() }
        try waitForBody("one", listen, proxy)
        #expect(try proxy.stop() == 0)

        let other = try ManagedProxy(port: plane.port, arguments: arguments(mesh.stranger))
        defer { other.program.end() }
        try other.waitForPage("/ready", "503 for the certificate") { $0.status == 503 && $0.bodyText.contains("certificate") }
        #expect(plane.streams == 1)
    }

    @Test("reports say what is applied, count requests, and tell of draining before the port closes")
    func reports() throws {
        let origin = try Origin.answering(ok("one"), records: false)
        let listen = try Ports.free()
        let plane = try plane(listen, to: origin)
        defer { plane.kill() }
        let proxy = try ManagedProxy(port: plane.port, arguments: ["--drain-delay", "2"])
        defer { proxy.program.end() }
        try waitForBody("one", listen, proxy)
        for _ in 0..<9 { #expect(try body(listen) == "one") }
        let info = try proxy.page("/server_info").bodyText
        #expect(
            try eventuallyReported(plane) { report in
                guard let applied = report.applied, info.contains(applied.version), let cluster = report.clusters.first else {
                    return false
                }
                return report.state == .live && cluster.name == "a" && cluster.requests >= 10 && cluster.latency.count == cluster.requests
                    && cluster.endpoints.map(\.address) == ["127.0.0.1:\(origin.port)"] && cluster.endpoints[0].requests == cluster.requests
            })
        let reports = try plane.reports()
        #expect(reports.first?.node?.instance == "one" && reports.dropFirst().allSatisfy { $0.node == nil })
        #expect(reports.last.map { $0.process.residentMemory > 1 << 20 && $0.process.cpuSeconds > 0 } == true)
        proxy.program.signal(SIGTERM)
        #expect(try eventuallyReported(plane) { $0.state == .draining })
        #expect(try body(listen) == "one", "the port is open while callers hear of it")
        #expect(try proxy.page("/ready").status == 503)
        #expect(try proxy.program.wait().status == 0)
    }

    private func eventuallyReported(_ plane: Plane, _ condition: (NodeReport) -> Bool) throws -> Bool {
        var last: NodeReport?
        try eventually("a report; the last is \(String(describing: last))") {
            let reports = try plane.reports()
            last = reports.last
            return reports.contains(where: condition)
        }
        return true
    }
}
