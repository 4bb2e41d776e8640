import ControlAPI
import Foundation
import TestSupport
import Testing

/// Proxies with certificates of their mesh: who gets one, and what they speak with each other.
@Suite struct MeshIdentityTests {
    private static let inbound: UInt16 = 15000

    /// A mesh whose applications answer with the identity of their caller, or `nobody`.
    private final class Lab {
        let mesh: ManagedMesh
        private var apps: [Origin] = []

        init(_ arguments: [String] = [], policy: String = "") throws {
            mesh = try ManagedMesh(arguments: arguments)
            try mesh.apply(ColorMesh(nodes: ["red", "blue"]).yaml)
            if !policy.isEmpty { try set(policy) }
            try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: true)
        }

        deinit {
            for app in apps { app.stop() }
            mesh.end()
        }

        var state: String { mesh.folder.file("state") }

        func set(_ policy: String) throws {
            try mesh.apply(
                """
                apiVersion: outrigger/v1
                kind: MeshPolicy
                metadata: { name: lab }
                spec: { meshRef: { name: lab }, mtls: { \(policy) } }
                """, file: "policy.yaml")
        }

        func app(_ number: Int) throws {
            let app = try Origin.http(port: 8080, at: mesh.address(number), records: false) { request in
                let shown = request.value("x-forwarded-client-cert") ?? ""
                let uri = shown.split(separator: ";").first { $0.hasPrefix("URI=") }?.dropFirst(4)
                return Array(ok(uri.map(String.init) ?? "nobody").utf8)
            }
            apps.append(app)
        }

        func token(_ node: String) throws -> String {
            let request = TokenRequest(purpose: .join, subject: ResourceName(kind: "VirtualNode", namespace: "lab", name: node))
            let created: TokenCreated = try mesh.post("/v1/tokens", request)
            return created.token
        }

        /// A proxy that joins.
        @discardableResult
        func join(_ node: String, _ number: Int) throws -> MeshProxy {
            try mesh.start(node, number, arguments: ["--state", "\(state)/", "--join-token", try token(node)])
        }

        /// Waits until so many requests in a row are answered by applications that know their caller as `identity`.
        func waitForCaller(_ identity: String, _ front: MeshProxy) throws {
            var last: [String] = []
            try eventually("the caller is \(identity), not \(last); front said:\n\(front.log)\noutriggerd said:\n\(mesh.log)") {
                last = try (0..<6).map { _ in try mesh.ask(front).bodyText }
                return Set(last) == [identity]
            }
        }

        /// The serial of the certificate that a proxy's listener shows.
        func serial(_ number: Int) throws -> String {
            let look = "openssl s_client -connect \(mesh.address(number)):\(inbound) -alpn h2 </dev/null 2>/dev/null"
            return try Program.run("sh", ["-c", "\(look) | openssl x509 -noout -serial"]).output
        }

        func stat(_ proxy: MeshProxy, _ name: String) throws -> Int {
            let lines = try proxy.page("/stats").bodyText.split(separator: "\n").filter { $0.contains(name) }
            return lines.compactMap { Int($0.split(separator: " ").last ?? "") }.reduce(0, +)
        }
    }

    private static let front = "spiffe://lab/ns/lab/vn/front"

    private func isServed(_ lab: Lab, _ number: Int) -> Bool {
        let answer = try? RawConnection(to: Self.inbound, at: lab.mesh.address(number))
            .exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return answer?.status == 200
    }

    @Test("under load a proxy joins with a token and is called with TLS, beside one without a certificate; no request fails")
    func joining() throws {
        let lab = try Lab()
        for number in 2...3 { try lab.app(number) }
        let front = try lab.join("front", 1)
        let plain = try lab.mesh.start("red", 2)
        try lab.mesh.settle()
        try lab.waitForCaller("nobody", front)
        let load = lab.mesh.load(front)
        try load.wait(for: 100)
        let red = try lab.join("red", 3)
        var callers: Set<String> = []
        try eventually("both are called, each as it can be: \(callers)") {
            callers.insert(try lab.mesh.ask(front).bodyText)
            return callers == ["nobody", Self.front]
        }
        try load.wait(for: 100)
        // The one without leaves.
        #expect(try plain.stop() == 0)
        try lab.waitForCaller(Self.front, front)
        try load.wait(for: 100)
        let tally = try load.stop()
        #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3)) \(tally.refusals.prefix(2))")
        // Who is not of the mesh is served, too.
        #expect(isServed(lab, 3))
        #expect(try lab.stat(red, "ssl.connection_error") == 0)
        #expect(!front.log.contains("not delivered") && !red.log.contains("not delivered"), "\(red.log)")
    }

    @Test("under load the mesh goes from no TLS to PERMISSIVE, to STRICT, and back; STRICT serves nobody from outside; no request fails")
    func policies() throws {
        let lab = try Lab(policy: "mode: DISABLED")
        for number in 2...3 { try lab.app(number) }
        let front = try lab.join("front", 1)
        for number in 2...3 { try lab.join("red", number) }
        try lab.mesh.settle()
        try lab.waitForCaller("nobody", front)
        let load = lab.mesh.load(front)
        for (mode, caller, isOpen) in [
            ("PERMISSIVE", Self.front, true), ("STRICT", Self.front, false), ("PERMISSIVE", Self.front, true), ("DISABLED", "nobody", true),
            ("PERMISSIVE", Self.front, true),
        ] {
            try lab.set("mode: \(mode)")
            try lab.mesh.settle()
            try lab.waitForCaller(caller, front)
            try load.wait(for: 50)
            #expect(isServed(lab, 2) == isOpen, "\(mode)")
        }
        let tally = try load.stop()
        #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3)) \(tally.refusals.prefix(2))")
    }

    @Test("under load certificates are renewed, and another root follows; a proxy that starts again keeps its certificate")
    func renewal() throws {
        let lab = try Lab(["--certificate-life", "60"])
        for number in 2...3 { try lab.app(number) }
        let front = try lab.join("front", 1)
        for number in 2...3 { try lab.join("red", number) }
        try lab.mesh.settle()
        try lab.waitForCaller(Self.front, front)
        let first = try lab.serial(2)
        #expect(first.hasPrefix("serial="), "\(first)")

        // With what it has on disk, and no token.
        #expect(try lab.mesh.proxies["red-2"]?.stop() == 0)
        try lab.mesh.start("red", 2, arguments: ["--state", "\(lab.state)/"])
        try lab.mesh.settle()
        try eventually("it listens with TLS") { (try? lab.serial(2))?.hasPrefix("serial=") == true }
        #expect(try lab.serial(2) == first)

        let load = lab.mesh.load(front)
        try lab.mesh.startAgain(arguments: ["--new-authority"])
        try eventually("it has another certificate", within: .seconds(60)) { try lab.serial(2) != first }
        try lab.mesh.waitForLog("red-2 renewed")
        try lab.mesh.waitForLog("front-1 renewed")
        try load.wait(for: 100)
        try lab.waitForCaller(Self.front, front)
        let tally = try load.stop()
        #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3)) \(tally.refusals.prefix(2))")
        #expect(try lab.stat(front, "ssl.connection_error") == 0)
    }

    @Test("who shows the certificate of another node is not believed, and who shows a stranger's is not let in")
    func spoofing() throws {
        let lab = try Lab(policy: "mode: STRICT")
        try lab.app(2)
        let front = try lab.join("front", 1)
        try lab.join("blue", 3)
        try lab.mesh.settle()
        // Blue's key, at an address that is called as red.
        let blue = try FileManager.default.contentsOfDirectory(atPath: lab.state).first { $0.contains("blue") && $0.contains("identity") }
        let file = "\(lab.state)/\(try #require(blue))"
        let settings = TLSSettings(pair: TestCertificates.Pair(chain: file, key: file), protocols: ["http/1.1"])
        let impostor = try Origin.https(settings, port: try Ports.free()) { _, _ in ok("blue") }
        defer { impostor.stop() }
        try lab.mesh.apply(
            """
            apiVersion: outrigger/v1
            kind: EndpointSet
            metadata: { name: red, namespace: lab }
            spec: { virtualNodeRef: { name: red }, endpoints: [ { address: "127.0.0.1:\(impostor.port)" } ] }
            """, file: "set.yaml")
        try lab.mesh.settle()
        try eventually("it is refused for its name; front said:\n\(front.log)") {
            _ = try? lab.mesh.ask(front)
            return try lab.stat(front, "ssl.fail_verify_error") > 0
        }
        #expect(try lab.mesh.ask(front).status == 503)

        let stranger = MeshCertificates.shared.strangerClient
        let caller = try RawConnection(to: Self.inbound, at: lab.mesh.address(3))
        #expect(throws: (any Error).self) {
            try caller.startTLS(.client, TLSSettings(pair: stranger, protocols: ["http/1.1"]))
            _ = try caller.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        }
    }
}
