import Foundation
import Glibc
import TestSupport
import Testing

/// The built `outrigger`: what it says of a mesh, and what it runs.
@Suite struct CommandTests {
    private static var executable: String { "\(Proxy.binaries)/outrigger" }
    private static let get = "GET / HTTP/1.1\r\nHost: colors.lab\r\n\r\n"

    /// A front end that calls a service of some endpoints.
    private struct Mesh {
        var endpoints: [UInt16]
        var outbound: UInt16 = 15001
        var admin: UInt16 = 9901
        var prefix = "/"
        /// Of the route.
        var target = "colors"

        var yaml: String {
            """
            apiVersion: v1
            kind: Namespace
            metadata: { name: lab, labels: { mesh: lab } }
            ---
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: Mesh
            metadata: { name: lab }
            spec: { namespaceSelector: { matchLabels: { mesh: lab } } }
            ---
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: VirtualNode
            metadata: { name: frontend, namespace: lab }
            spec:
              backends: [ { virtualService: { virtualServiceRef: { name: colors } } } ]
            ---
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: VirtualService
            metadata: { name: colors, namespace: lab }
            spec:
              awsName: colors.lab
              provider: { virtualRouter: { virtualRouterRef: { name: colors } } }
            ---
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: VirtualRouter
            metadata: { name: colors, namespace: lab }
            spec:
              listeners: [ { portMapping: { port: 8080, protocol: http } } ]
              routes:
                - name: all
                  httpRoute:
                    match: { prefix: "\(prefix)" }
                    action: { weightedTargets: [ { virtualNodeRef: { name: \(target) }, weight: 1 } ] }
            ---
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: VirtualNode
            metadata: { name: colors, namespace: lab }
            spec:
              listeners: [ { portMapping: { port: 8080, protocol: http } } ]
              serviceDiscovery: { awsCloudMap: { namespaceName: lab, serviceName: colors } }
            ---
            apiVersion: outrigger/v1
            kind: EndpointSet
            metadata: { name: colors, namespace: lab }
            spec:
              virtualNodeRef: { name: colors }
              endpoints: [ \(endpoints.map { "{ address: 127.0.0.1, port: \($0) }" }.joined(separator: ", ")) ]
            ---
            apiVersion: outrigger/v1
            kind: Sidecar
            metadata: { name: frontend, namespace: lab }
            spec:
              virtualNodeRef: { name: frontend }
              outbound: { http: { bind: "127.0.0.1:\(outbound)" } }
              admin: { address: "127.0.0.1:\(admin)" }

            """
        }
    }

    private func folder(_ text: String) throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        try folder.replace("mesh.yaml", with: Array(text.utf8))
        return folder
    }

    private func outrigger(_ arguments: String...) throws -> Program.Result {
        try Program.run(Self.executable, arguments)
    }

    // MARK: validate

    @Test("validate: a valid mesh is status 0")
    func valid() throws {
        let folder = try folder(Mesh(endpoints: [9001]).yaml)
        let result = try outrigger("validate", "-f", folder.path)
        #expect(result.status == 0 && result.output.contains("valid"), "\(result)")
    }

    @Test("validate: every error of a file at once, with file, line, column, resource and field; status 1")
    func invalid() throws {
        let text = Mesh(endpoints: [9001], target: "nobody").yaml.replacing("weight: 1", with: "weight: 1000")
        let folder = try folder(text.replacing("port: 8080, protocol: http", with: "port: 80800, protocol: http"))
        let result = try outrigger("validate", "-f", folder.file("mesh.yaml"))
        #expect(result.status == 1)
        let lines = result.errors.split(separator: "\n").filter { $0.contains("error") || $0.contains("expected") }
        for part in ["80800", "1000"] { #expect(lines.contains { $0.contains(part) }, "\(part) in \(result.errors)") }
        let place = "\(folder.file("mesh.yaml")):"
        #expect(lines.allSatisfy { $0.contains(place) && $0.contains(try! Regex(":[0-9]+:[0-9]+: ")) }, "\(result.errors)")
        #expect(result.errors.contains("VirtualRouter/"), "\(result.errors)")
    }

    @Test("validate: a reference to what is in none of the files is a warning that names it")
    func missingReference() throws {
        let folder = try folder(Mesh(endpoints: [9001], target: "nobody").yaml)
        let result = try outrigger("validate", "-f", folder.path)
        #expect(result.status == 0 && result.errors.contains("warning") && result.errors.contains("nobody"), "\(result)")
    }

    @Test("validate -o json: the same for machines")
    func invalidJSON() throws {
        let folder = try folder(Mesh(endpoints: [9001], prefix: "7x").yaml)
        let result = try outrigger("validate", "-f", folder.path, "-o", "json")
        #expect(result.status == 1)
        let object = try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any]
        #expect(object?["valid"] as? Bool == false)
        let first = (object?["diagnostics"] as? [[String: Any]])?.first { $0["severity"] as? String == "error" }
        #expect(first?["line"] is Int && first?["resource"] is String && first?["message"] is String, "\(result.output)")
    }

    @Test(
        "malformed YAML, unreadable and missing files are status 1 and say where",
        arguments: [("a: [1", "mesh.yaml:"), ("a: b: c", "mesh.yaml:"), ("\t", "mesh.yaml:")])
    func malformed(text: String, part: String) throws {
        let folder = try folder(text)
        let result = try outrigger("validate", "-f", folder.file("mesh.yaml"))
        #expect(result.status == 1 && result.errors.contains(part), "\(result)")
        let missing = try outrigger("validate", "-f", folder.file("none.yaml"))
        #expect(missing.status == 1 && missing.errors.contains("none.yaml"), "\(missing)")
    }

    @Test(
        "a wrong command line is status 2",
        arguments: [["validate"], ["nonsense"], ["render", "-f"], ["run", "-f", "/dev/null", "--what"]])
    func usage(arguments: [String]) throws {
        let result = try Program.run(Self.executable, arguments)
        #expect(result.status == 2, "\(result)")
        #expect(!result.errors.isEmpty)
    }

    // MARK: render

    @Test("render: the forms are there, and an unknown node is status 1 with what there is")
    func render() throws {
        let folder = try folder(Mesh(endpoints: [9001]).yaml)
        let text = try outrigger("render", "-f", folder.path, "--node", "frontend")
        #expect(text.status == 0 && text.output.contains("127.0.0.1:15001") && text.output.contains("App Mesh default"), "\(text)")
        let json = try outrigger("render", "-f", folder.path, "--node", "frontend", "-o", "json")
        #expect(try JSONSerialization.jsonObject(with: Data(json.output.utf8)) is [String: Any])
        let unknown = try outrigger("render", "-f", folder.path, "--node", "nobody")
        #expect(unknown.status == 1 && unknown.errors.contains("frontend"), "\(unknown)")
    }

    @Test("render -o snapshot: the proxy runs what it wrote")
    func renderSnapshot() throws {
        let origin = try Origin.answering(ok())
        let mesh = Mesh(endpoints: [origin.port], outbound: try Ports.free(), admin: try Ports.free())
        let folder = try folder(mesh.yaml)
        let script = "exec '\(Self.executable)' render -f '\(folder.path)' --node frontend -o snapshot > '\(folder.file("snapshot"))'"
        #expect(try Program.run("sh", ["-c", script]).status == 0)
        let proxy = try Program(Proxy.executable, ["--snapshot", folder.file("snapshot")])
        defer { proxy.end() }
        try eventually("the proxy serves; it said \(proxy.errors)") {
            (try? RawConnection(to: mesh.outbound).exchange(Self.get).status) == 200
        }
    }

    // MARK: run

    /// Runs a mesh and waits until it serves.
    private func withRun(_ mesh: Mesh, _ body: (TemporaryFolder, Program) throws -> Void) throws {
        let folder = try folder(mesh.yaml)
        let run = try Program(Self.executable, ["run", "-f", folder.path, "--node", "frontend"])
        defer {
            run.signal(SIGTERM)
            run.signal(SIGTERM)
            _ = try? run.wait()
            run.end()
        }
        try eventually("it serves; it said \(run.errors)") { (try? RawConnection(to: mesh.outbound).exchange(Self.get).status) != nil }
        try body(folder, run)
    }

    @Test("run: an edit is applied under load without a failed request, and a broken edit changes nothing")
    func runWithEdits() throws {
        let first = try Origin.answering(ok("first"), records: false)
        let second = try Origin.answering(ok("second"), records: false)
        var mesh = Mesh(endpoints: [first.port], outbound: try Ports.free(), admin: try Ports.free())
        try withRun(mesh) { (folder, run) throws in
            let load = Load(port: mesh.outbound, callers: 1) { _ in Self.get }
            try load.wait(for: 50)
            mesh.endpoints = [second.port]
            try folder.replace("mesh.yaml", with: Array(mesh.yaml.utf8))
            try eventually("the edit is applied") { try RawConnection(to: mesh.outbound).exchange(Self.get).bodyText == "second" }
            try folder.replace("mesh.yaml", with: Array(mesh.yaml.replacing("prefix: \"/\"", with: "prefix: 7x").utf8))
            try eventually("the broken edit is told; it said \(run.errors)") { run.errors.contains("keeping the last good") }
            try load.wait(for: 50)
            #expect(run.errors.contains("mesh.yaml:"), "\(run.errors)")
            mesh.endpoints = [first.port]
            try folder.replace("mesh.yaml", with: Array(mesh.yaml.utf8))
            try eventually("the next good edit is applied") { try RawConnection(to: mesh.outbound).exchange(Self.get).bodyText == "first" }
            let tally = try load.stop()
            #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))")
        }
    }

    @Test("run: a killed proxy is started again; SIGTERM ends both with status 0")
    func runRestarts() throws {
        let origin = try Origin.answering(ok(), records: false)
        let mesh = Mesh(endpoints: [origin.port], outbound: try Ports.free(), admin: try Ports.free())
        try withRun(mesh) { (_, run) throws in
            let children = try String(contentsOfFile: "/proc/\(run.pid)/task/\(run.pid)/children", encoding: .utf8)
            let child = try #require(pid_t(children.trimmingCharacters(in: .whitespaces)))
            kill(child, SIGKILL)
            try eventually("the death is told; it said \(run.errors)") { run.errors.contains("was ended by signal 9") }
            try eventually("it serves again; it said \(run.errors)") {
                (try? RawConnection(to: mesh.outbound).exchange(Self.get).status) == 200
            }
            run.signal(SIGTERM)
            #expect(try run.wait().status == 0, "\(run.errors)")
            #expect((try? RawConnection(to: mesh.outbound)) == nil)
        }
    }

    @Test("run: where it is killed, its proxy finishes what is open and ends too")
    func runKilled() throws {
        let mayAnswer = Counter()
        let origin = try Origin.http(records: false) { request in
            if request.target == "/slow" { try eventually("the test says so") { mayAnswer.value == 1 } }
            return Array(ok("done").utf8)
        }
        let mesh = Mesh(endpoints: [origin.port], outbound: try Ports.free(), admin: try Ports.free())
        try withRun(mesh) { (_, run) throws in
            let children = try String(contentsOfFile: "/proc/\(run.pid)/task/\(run.pid)/children", encoding: .utf8)
            let child = try #require(pid_t(children.trimmingCharacters(in: .whitespaces)))
            defer { kill(child, SIGKILL) }
            let caller = try RawConnection(to: mesh.outbound)
            try caller.send("GET /slow HTTP/1.1\r\nHost: colors.lab\r\n\r\n")
            try eventually("the request is at the origin") { origin.connections.contains { $0.receivedCount > 0 } }
            kill(run.pid, SIGKILL)
            try eventually("nobody listens any more") { (try? RawConnection(to: mesh.outbound)) == nil }
            mayAnswer.add()
            #expect(try caller.readResponse().bodyText == "done")
            // It is nobody's child that we know: gone, or dead and not yet taken note of.
            try eventually("the proxy is gone") {
                (try? String(contentsOfFile: "/proc/\(child)/stat", encoding: .utf8))?.contains(") Z ") ?? true
            }
        }
    }

    @Test("run: a mesh with errors does not start, status 1")
    func runInvalid() throws {
        let folder = try folder(Mesh(endpoints: [9001], prefix: "7x").yaml)
        let result = try outrigger("run", "-f", folder.path, "--node", "frontend")
        #expect(result.status == 1 && result.errors.contains("7x"), "\(result)")
    }
}
