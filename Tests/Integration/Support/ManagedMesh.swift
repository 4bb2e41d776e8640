import ControlAPI
import Foundation
import Glibc
import Synchronization
import TestSupport

/// The built `outriggerd` with a log, a port and addresses of its own, and the proxies that a test starts under it.
///
/// Every instance has an address in 127.A.B.0/24, where A and B are the bytes of outriggerd's port: no two tests have the same port.
final class ManagedMesh {
    let folder: TemporaryFolder
    let port: UInt16
    private let arguments: [String]
    private(set) var daemon: Program
    /// What earlier processes said.
    private var earlierLog = ""
    private(set) var proxies: [String: MeshProxy] = [:]
    private var apps: [String: MeshApp] = [:]

    static var executable: String { "\(Proxy.binaries)/outriggerd" }

    /// Starts outriggerd and waits until it answers.
    init(lostAfter: Double = 3, arguments: [String] = []) throws {
        let folder = try TemporaryFolder()
        let port = try Ports.free()
        self.folder = folder
        self.port = port
        self.arguments =
            [
                "--data-dir", folder.file("data"), "--listen", "127.0.0.1:\(port)", "--lost-after", "\(lostAfter)", "--report-interval",
                "0.2",
            ]
            + arguments
        daemon = try Program(Self.executable, self.arguments)
        try waitUntilReady()
    }

    deinit {
        end()
    }

    /// Ends everything, by force.
    func end() {
        for proxy in proxies.values { proxy.program.end() }
        for app in apps.values { app.origin.stop() }
        daemon.end()
    }

    // MARK: outriggerd

    /// Everything it said.
    var log: String { earlierLog + daemon.errors }

    /// SIGKILL.
    func killDaemon() {
        daemon.end()
        earlierLog += daemon.errors
    }

    /// - Parameter more: besides those that it always has.
    func startDaemon(arguments more: [String] = []) throws {
        daemon = try Program(Self.executable, arguments + more)
        try waitUntilReady()
    }

    /// SIGTERM, and a start with more arguments.
    func startAgain(arguments more: [String]) throws {
        daemon.signal(SIGTERM)
        _ = try daemon.wait()
        earlierLog += daemon.errors
        try startDaemon(arguments: more)
    }

    /// Another outriggerd on the same folder, to its end.
    func runAnotherDaemon(arguments more: [String] = []) throws -> Program.Result {
        try Program.run(Self.executable, ["--data-dir", folder.file("data"), "--listen", "127.0.0.1:\(try Ports.free())"] + more)
    }

    private func waitUntilReady() throws {
        try eventually("outriggerd is ready; it said:\n\(log)") {
            if let status = daemon.exitStatus() { throw TestFailure("outriggerd ended with \(status):\n\(log)") }
            return (try? call("GET", "/ready"))?.status == 200
        }
    }

    func waitForLog(_ text: String) throws {
        try eventually("outriggerd says \"\(text)\"; it said:\n\(log)") { log.contains(text) }
    }

    // MARK: REST

    func call(_ method: String, _ path: String, _ body: [UInt8]? = nil, headers: [String] = []) throws -> HTTPMessage {
        var head = "\(method) \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        for header in headers { head += "\(header)\r\n" }
        if let body { head += "Content-Length: \(body.count)\r\n" }
        let connection = try RawConnection(to: port)
        try connection.send(Array("\(head)\r\n".utf8) + (body ?? []))
        return try connection.readResponse(to: method)
    }

    func get<Answer: Decodable>(_ path: String, as _: Answer.Type = Answer.self) throws -> Answer {
        try decode(try call("GET", path), "GET \(path)")
    }

    func post<Answer: Decodable>(_ path: String, _ body: some Encodable, as _: Answer.Type = Answer.self) throws -> Answer {
        try decode(try send(path, body), "POST \(path)")
    }

    /// The answer as it is.
    func send(_ path: String, _ body: some Encodable) throws -> HTTPMessage {
        try call("POST", path, Array(try JSONEncoder().encode(body)), headers: ["Content-Type: application/json"])
    }

    /// What a call that must not succeed is told.
    func problem(_ answer: HTTPMessage) throws -> Problem {
        guard answer.status >= 400, answer.value("content-type") == "application/problem+json" else {
            throw TestFailure("expected a problem, found \(answer.headText)\(answer.bodyText)")
        }
        return try JSONDecoder().decode(Problem.self, from: Data(answer.body))
    }

    private func decode<Answer: Decodable>(_ answer: HTTPMessage, _ what: String) throws -> Answer {
        guard (200..<300).contains(answer.status) else { throw TestFailure("\(what): \(answer.headText)\(answer.bodyText)") }
        return try JSONDecoder().decode(Answer.self, from: Data(answer.body))
    }

    @discardableResult
    func apply(
        _ yaml: String, file: String = "mesh.yaml", reason: String? = nil, dryRun: Bool? = nil, rollout: RolloutPlan? = nil
    ) throws -> ChangeResult {
        try post(
            "/v1/apply",
            ApplyRequest(files: [SourceText(name: file, text: yaml)], dryRun: dryRun, reason: reason, rollout: rollout))
    }

    func status() throws -> MeshStatus { try get("/v1/status") }

    /// A sample of `/metrics`, named as Prometheus reads it, labels too.
    func metric(_ line: String) throws -> Double? {
        let text = try call("GET", "/metrics").bodyText
        return text.split(separator: "\n").first { $0.hasPrefix("\(line) ") }.flatMap { Double($0.dropFirst(line.count + 1)) }
    }

    // MARK: Instances

    func address(_ number: Int) -> String { "127.\(port >> 8).\(port & 255).\(number)" }

    /// The application of an instance.
    func app(_ number: Int, saying text: String) throws -> MeshApp {
        let app = try MeshApp(address(number), saying: text)
        apps[app.address] = app
        return app
    }

    /// Starts a proxy; does not wait.
    ///
    /// - Parameter number: of the instance's address.
    @discardableResult
    func start(
        _ node: String, _ number: Int, instance: String? = nil, mesh: String = "lab", arguments: [String] = []
    ) throws -> MeshProxy {
        let instance = instance ?? "\(node)-\(number)"
        let proxy = try MeshProxy(
            node: node, instance: instance, address: address(number),
            [
                "--control-plane", "127.0.0.1:\(port)", "--node", "lab/\(node)", "--mesh", mesh, "--instance", instance, "--workers", "1",
                "--host-address", address(number), "--admin-address", "\(address(number)):9901",
                // Nobody is there: what is not registered has no endpoint.
                "--dns-servers", address(254),
            ] + arguments)
        proxies[instance] = proxy
        return proxy
    }

    /// Waits until all proxies that run are live and run what they should.
    func settle() throws {
        let running = proxies.values.filter { $0.program.exitStatus() == nil }
        var last: [NodeItem] = []
        func state() -> String {
            let nodes = last.map { "\($0.instance) \($0.state) wants \($0.wanted ?? "-") runs \($0.applied ?? "-") \($0.rejection ?? "")" }
            return nodes.joined(separator: "\n") + "\noutriggerd said:\n\(log)\n"
                + running.map { "\($0.instance) said:\n\($0.log)" }.joined(separator: "\n")
        }
        try eventually("\(running.count) proxies are settled: \(state())", every: .milliseconds(30)) {
            last = try status().nodes
            return running.allSatisfy { proxy in
                last.contains {
                    $0.instance == proxy.instance && $0.isConnected && $0.state == "live" && $0.wanted != nil && $0.applied == $0.wanted
                }
            }
        }
    }

    /// The answer to a request of the application beside a proxy.
    func ask(_ proxy: MeshProxy, host: String = "colors.lab") throws -> HTTPMessage {
        try proxy.connect().exchange("GET / HTTP/1.1\r\nHost: \(host)\r\nConnection: close\r\n\r\n")
    }

    /// Waits until requests are answered with this body, or with any of them.
    func waitForAnswer(_ proxy: MeshProxy, _ bodies: String..., host: String = "colors.lab") throws {
        var last = "nothing"
        try eventually("\(bodies) is answered, not \(last); \(proxy.instance) said:\n\(proxy.log)\noutriggerd said:\n\(log)") {
            guard let answer = try? ask(proxy, host: host) else { return false }
            last = "\(answer.status) \(answer.bodyText)"
            return answer.status == 200 && bodies.contains(answer.bodyText)
        }
    }

    /// Requests of the application beside a proxy, one after the other, until it is stopped.
    func load(_ proxy: MeshProxy, callers: Int = 2, host: String = "colors.lab") -> Load {
        let address = proxy.address
        return Load(port: MeshProxy.outbound, callers: callers, connect: { try RawConnection(to: MeshProxy.outbound, at: address) }) { _ in
            "GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n"
        }
    }
}

/// A proxy under `outriggerd`, on an address of its own with the ports that are the default.
final class MeshProxy {
    static let outbound: UInt16 = 15001

    let node: String
    let instance: String
    let address: String
    let program: Program

    init(node: String, instance: String, address: String, _ arguments: [String]) throws {
        self.node = node
        self.instance = instance
        self.address = address
        program = try Program(Proxy.executable, arguments)
    }

    var log: String { program.errors }

    /// As the application beside it connects.
    func connect() throws -> RawConnection { try RawConnection(to: Self.outbound, at: address) }

    func page(_ path: String) throws -> HTTPMessage {
        try RawConnection(to: 9901, at: address).exchange("GET \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    }

    func waitForLog(_ text: String) throws {
        try eventually("\(instance) says \"\(text)\"; it said:\n\(log)") { log.contains(text) }
    }

    /// SIGTERM, and the exit status.
    func stop() throws -> Int32 {
        program.signal(SIGTERM)
        return try program.wait().status
    }
}

/// The application beside a proxy: says its name to every request, with the status that the test wants.
final class MeshApp: Sendable {
    let address: String
    let origin: Origin
    private let answer: Answer

    private final class Answer: Sendable {
        let status = Mutex(200)
    }

    init(_ address: String, saying text: String) throws {
        self.address = address
        let answer = Answer()
        self.answer = answer
        origin = try Origin.http(port: 8080, at: address, records: false) { _ in
            let status = answer.status.withLock { $0 }
            return Array("HTTP/1.1 \(status) Said\r\nContent-Length: \(text.utf8.count)\r\n\r\n\(text)".utf8)
        }
    }

    var status: Int {
        get { answer.status.withLock { $0 } }
        set { answer.status.withLock { $0 = newValue } }
    }
}

/// The YAML of the mesh `lab`: `front` calls the service colors.lab, which is routed to some of the nodes of the colours.
struct ColorMesh {
    /// All that exist.
    var nodes = ["red"]
    /// Node and weight.
    var targets = [("red", 1)]
    var prefix = "/"
    var `protocol` = "http"
    var ejectsAfter: Int?

    private static let head = """
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
        metadata: { name: front, namespace: lab }
        spec:
          backends: [ { virtualService: { virtualServiceRef: { name: colors } } } ]
        ---
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualService
        metadata: { name: colors, namespace: lab }
        spec:
          awsName: colors.lab
          provider: { virtualRouter: { virtualRouterRef: { name: colors } } }

        """

    var router: String {
        let list = targets.map { "{ virtualNodeRef: { name: \($0.0) }, weight: \($0.1) }" }.joined(separator: ", ")
        let route =
            `protocol` == "grpc"
            ? "grpcRoute: { match: {}, action: { weightedTargets: [ \(list) ] } }"
            : "httpRoute: { match: { prefix: \(prefix) }, action: { weightedTargets: [ \(list) ] } }"
        return """
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: VirtualRouter
            metadata: { name: colors, namespace: lab }
            spec:
              listeners: [ { portMapping: { port: 8080, protocol: \(`protocol`) } } ]
              routes:
                - name: all
                  \(route)

            """
    }

    func node(_ name: String) -> String {
        let detection = ejectsAfter.map {
            """
                  outlierDetection: { maxServerErrors: \($0), interval: 1s, baseEjectionDuration: 60s, maxEjectionPercent: 100 }

            """
        }
        return """
            apiVersion: appmesh.k8s.aws/v1beta2
            kind: VirtualNode
            metadata: { name: \(name), namespace: lab }
            spec:
              listeners:
                - portMapping: { port: 8080, protocol: \(`protocol`) }
            \(detection ?? "")
              serviceDiscovery: { awsCloudMap: { namespaceName: lab, serviceName: \(name) } }

            """
    }

    var yaml: String { Self.head + "---\n" + router + nodes.map { "---\n" + node($0) }.joined() }
}
