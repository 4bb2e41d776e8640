import ControlAPI
import Foundation
import TestSupport
import Testing

/// What users tell `outriggerd` by its REST API, and what is refused.
@Suite struct MeshCommandTests {
    /// What a refused command must leave as it is.
    private struct Held: Equatable {
        var revision: Int
        var events: Int
        var resources: ResourceList
        var running: [String?]

        init(_ mesh: ManagedMesh) throws {
            let status = try mesh.status()
            revision = status.revision
            let lines = try mesh.call("GET", "/v1/events?limit=10000").bodyText.split(separator: "\n")
            events = try lines.map { try JSONDecoder().decode(EventItem.self, from: Data($0.utf8)) }.count { $0.actor == "local" }
            resources = try mesh.get("/v1/resources")
            running = status.nodes.map(\.applied)
        }
    }

    @Test("a file that is not valid is refused with file, line and column, and nothing changes")
    func invalid() throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        try mesh.apply(ColorMesh().yaml)
        let front = try mesh.start("front", 1)
        try mesh.settle()
        let held = try Held(mesh)
        let router = ColorMesh().router
        /// Text that is wrong, and where: at this part of it.
        func wrong(_ good: String, _ found: String) -> (String, String) {
            let text = router.replacing(good, with: found)
            let line = text.split(separator: "\n", omittingEmptySubsequences: false).enumerated().first { $0.element.contains(found) }!
            let value = found.split(separator: " ").last!
            let before = line.element[..<line.element.range(of: found)!.upperBound]
            let column = before.count - value.count + 1
            return (text, "bad.yaml:\(line.offset + 1):\(column): ")
        }
        let files = [
            ("kind: [\n", "bad.yaml:2:1: "), wrong("kind: VirtualRouter", "kind: VirtualRooter"), wrong("prefix: /", "prefix: colors"),
            wrong("weight: 1", "weight: one"), wrong("port: 8080", "port: 80800"), wrong("protocol: http", "protocol: ftp"),
        ]
        for (text, place) in files {
            for dryRun in [false, true] {
                let request = ApplyRequest(
                    files: [SourceText(name: "good.yaml", text: ColorMesh().node("green")), SourceText(name: "bad.yaml", text: text)],
                    dryRun: dryRun)
                let answer = try mesh.send("/v1/apply", request)
                let problem = try? mesh.problem(answer)
                #expect(answer.status == 422 && problem?.type == "urn:outrigger:problem:invalid-resources", "\(answer.bodyText)")
                let errors = problem?.diagnostics?.filter { $0.severity == "error" } ?? []
                #expect(errors.contains { $0.message.hasPrefix(place) && $0.file == "bad.yaml" }, "\(place): \(errors.map(\.message))")
            }
        }
        #expect(try Held(mesh) == held)
        #expect(front.program.exitStatus() == nil)
    }

    @Test("a mesh that a node cannot run leaves its proxies with what they have, is a fault, and ends with its cause")
    func fault() throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        try mesh.apply(ColorMesh(nodes: ["red", "blue"]).yaml)
        for (number, node) in [(2, "red"), (3, "blue")] {
            _ = try mesh.app(number, saying: node)
            try mesh.start(node, number)
        }
        let front = try mesh.start("front", 1)
        try mesh.settle()
        try mesh.waitForAnswer(front, "red")
        let sidecar = """
            apiVersion: outrigger/v1
            kind: Sidecar
            metadata: { name: front, namespace: lab }
            spec:
              virtualNodeRef: { name: front }
              outbound: { http: { bind: "\(mesh.address(1)):9901" } }

            """
        try mesh.apply(sidecar, file: "sidecar.yaml")
        // A change that is good comes along, and waits with it; others get theirs.
        try mesh.apply(ColorMesh(targets: [("blue", 1)]).router)
        var faults: [DiagnosticMessage] = []
        try eventually("the fault is shown") {
            faults = try mesh.status().faults
            return !faults.isEmpty
        }
        #expect(faults.count == 1 && faults[0].message.contains("would both bind \(mesh.address(1)):9901"), "\(faults.map(\.message))")
        #expect(try mesh.metric("outriggerd_faults") == 1)
        for _ in 0..<10 { #expect(try mesh.ask(front).bodyText == "red") }

        let gone: ChangeResult = try mesh.post(
            "/v1/delete", DeleteRequest(resources: [ResourceName(kind: "Sidecar", namespace: "lab", name: "front")]))
        #expect(gone.changes.map(\.action) == [.deleted])
        try mesh.waitForAnswer(front, "blue")
        #expect(try mesh.status().faults.isEmpty)
    }

    @Test("dry run, history, diff, what was at a revision and at a time, rollback")
    func past() throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        let (red, blue) = (ColorMesh(nodes: ["red", "blue"]), ColorMesh(nodes: ["red", "blue"], targets: [("blue", 1)]))
        let first = try mesh.apply(red.yaml, reason: "begin")
        let dry = try mesh.apply(blue.router, dryRun: true)
        #expect(dry.isDryRun && dry.revision == 1 && dry.changes.map(\.action) == [.configured])
        #expect(try mesh.status().revision == 1)
        let again = try mesh.apply(red.yaml)
        #expect(again.revision == first.revision && again.changes.allSatisfy { $0.action == .unchanged })
        let compared: [ResourceDifference] = try mesh.post(
            "/v1/diff", ApplyRequest(files: [SourceText(name: "blue.yaml", text: blue.router)]))
        #expect(compared.count == 1 && compared[0].text.contains("\n+") && compared[0].text.contains("blue"), "\(compared)")

        let second = try mesh.apply(blue.router, reason: "to blue")
        #expect(second.revision == 2)
        var history: [HistoryItem] = try mesh.get("/v1/history?limit=10")
        #expect(history.map(\.revision) == [2, 1] && history.map(\.reason) == ["to blue", "begin"])
        #expect(history[0].changes.map(\.resource.name) == ["colors"] && history[0].actor == "local")
        let difference: [ResourceDifference] = try mesh.get("/v1/diff?from=1&to=2")
        #expect(difference.map(\.change.resource.kind) == ["VirtualRouter"] && difference[0].text.contains("blue"))

        func router(_ query: String) throws -> String {
            let list: ResourceList = try mesh.get("/v1/resources?kind=VirtualRouter\(query)")
            return list.items.first?.document ?? "nothing"
        }
        #expect(try router("").contains("blue") && router("&revision=1").contains("red") && router("&revision=2").contains("blue"))
        #expect(try router("&time=\(history[1].time)").contains("red") && router("&time=\(history[0].time)").contains("blue"))
        #expect(try router("&time=2020-01-01T00:00:00Z") == "nothing")
        #expect(try mesh.call("GET", "/v1/resources?revision=3").status == 404)
        #expect(try mesh.call("GET", "/v1/resources?revision=x").status == 400)
        #expect(try mesh.call("GET", "/v1/resources?time=yesterday").status == 400)
        #expect(try mesh.call("GET", "/v1/diff?from=1&to=99").status == 404)

        let back: ChangeResult = try mesh.post("/v1/rollback", RollbackRequest(revision: 1))
        #expect(back.revision == 3 && back.changes.map(\.action) == [.configured])
        #expect(try router("") == router("&revision=1"))
        #expect(try mesh.problem(mesh.send("/v1/rollback", RollbackRequest(revision: 77))).status == 404)
        history = try mesh.get("/v1/history")
        #expect(history.map(\.revision) == [3, 2, 1])
    }

    @Test("who follows the events hears of each as it is recorded, and of those before that he asks for")
    func follow() throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        try mesh.apply(ColorMesh().yaml)
        let follower = try RawConnection(to: mesh.port)
        try follower.send("GET /v1/events?after=0&follow=true HTTP/1.1\r\nHost: localhost\r\n\r\n")
        _ = try follower.read(until: "VirtualNode/lab/red applied")
        try mesh.apply(ColorMesh(nodes: ["red", "blue"]).node("blue"), file: "blue.yaml")
        _ = try follower.read(until: "VirtualNode/lab/blue applied from blue.yaml")
        mesh.killDaemon()
        try mesh.startDaemon()
        let lines = try mesh.call("GET", "/v1/events?after=0&limit=1000").bodyText.split(separator: "\n")
        let events = try lines.map { try JSONDecoder().decode(EventItem.self, from: Data($0.utf8)) }
        #expect(events.map(\.sequence) == Array(1...events.count) && events.contains { $0.summary.contains("blue.yaml") })
    }

    @Test("tokens: each may do what its role says, a revoked one nothing; without one nothing where it is needed")
    func tokens() throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        func token(_ role: AccessRole) throws -> TokenCreated {
            try mesh.post("/v1/tokens", TokenRequest(purpose: .api, role: role))
        }
        let tokens = try AccessRole.allCases.map { try token($0) }
        #expect(tokens.allSatisfy { $0.token.hasPrefix("otr_") } && Set(tokens.map(\.token)).count == 3)
        let node = ResourceName(kind: "VirtualNode", namespace: "lab", name: "red")
        let join: TokenCreated = try mesh.post("/v1/tokens", TokenRequest(purpose: .join, subject: node))
        mesh.killDaemon()
        try mesh.startDaemon(arguments: ["--require-token"])
        func status(_ method: String, _ path: String, _ token: String?, _ body: String? = nil) throws -> Int {
            try mesh.call(method, path, body.map { Array($0.utf8) }, headers: token.map { ["Authorization: Bearer \($0)"] } ?? []).status
        }
        let apply = #"{"files": []}"#
        let make = #"{"purpose": "api", "role": "read"}"#
        let calls: [(String, String, String?, [Int])] = [
            ("GET", "/v1/status", nil, [200, 200, 200]), ("GET", "/metrics", nil, [200, 200, 200]),
            ("POST", "/v1/apply", apply, [403, 200, 200]), ("POST", "/v1/rollouts/1/stop", nil, [403, 404, 404]),
            ("GET", "/v1/tokens", nil, [403, 403, 200]), ("POST", "/v1/tokens", make, [403, 403, 201]),
        ]
        for (method, path, body, expected) in calls {
            #expect(try tokens.map { try status(method, path, $0.token, body) } == expected, "\(method) \(path)")
            #expect(try status(method, path, nil, body) == 401, "\(method) \(path)")
            #expect(try status(method, path, "otr_nobody", body) == 401, "\(method) \(path)")
            #expect(try status(method, path, join.token, body) == 403, "\(method) \(path)")
        }
        let refused = try mesh.call("GET", "/v1/status")
        #expect(refused.value("www-authenticate") == "Bearer")
        #expect(try mesh.call("GET", "/v1/status", headers: ["Authorization: Basic YTpi"]).status == 401)
        #expect(try status("DELETE", "/v1/tokens/\(tokens[0].id)", tokens[2].token) == 200)
        #expect(try status("GET", "/v1/status", tokens[0].token) == 401)
        #expect(try status("DELETE", "/v1/tokens/nobody", tokens[2].token) == 404)
        // Secrets are in none of what is kept.
        let kept = (try? FileManager.default.contentsOfDirectory(atPath: mesh.folder.file("data"))) ?? []
        #expect(kept.contains("events.sqlite"))
        for file in kept {
            let bytes = FileManager.default.contents(atPath: mesh.folder.file("data/\(file)")) ?? Data()
            for token in tokens + [join] { #expect(bytes.range(of: Data(token.token.utf8)) == nil, "\(file)") }
        }
        // Proxies need none.
        #expect(try status("GET", "/ready", nil) == 200)
    }

    @Test("what is not understood is answered with words and the right status")
    func misunderstood() throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        func body(_ text: String) -> [UInt8] { Array(text.utf8) }
        let calls: [(String, String, String?, Int, String)] = [
            ("POST", "/v1/apply", "{", 400, "bad-body"), ("POST", "/v1/apply", "", 400, "bad-body"),
            ("POST", "/v1/apply", #"{"files": 1}"#, 400, "bad-body"), ("POST", "/v1/apply", "\u{0}\u{1}ÿ", 400, "bad-body"),
            ("POST", "/v1/apply", String(repeating: "[", count: 100_000), 400, "bad-body"),
            ("POST", "/v1/rollback", #"{"revision": "one"}"#, 400, "bad-body"),
            ("POST", "/v1/rollback", #"{"revision": -1}"#, 404, "unknown-revision"),
            ("POST", "/v1/delete", #"{"resources": [{"kind": "Nothing", "name": "a"}]}"#, 400, "bad-body"),
            ("POST", "/v1/tokens", #"{"purpose": "api", "role": "king"}"#, 400, "bad-body"),
            ("POST", "/v1/tokens", #"{"purpose": "join"}"#, 400, "bad-body"),
            ("POST", "/v1/tokens", #"{"purpose": "api", "role": "read", "secondsToLive": 1e300}"#, 400, "bad-body"),
            ("POST", "/v1/apply", #"{"files": [], "rollout": {"stages": ["some"], "pauseSeconds": 1}}"#, 400, "bad-body"),
            ("POST", "/v1/apply", #"{"files": [], "rollout": {"stages": ["1"], "pauseSeconds": 1e300}}"#, 400, "bad-body"),
            ("GET", "/v1/history?limit=-1", nil, 400, "bad-query"), ("GET", "/v1/events?after=99999999999999999999", nil, 400, "bad-query"),
            ("GET", "/v1/nothing", nil, 404, "not-found"), ("GET", "/nothing", nil, 404, "not-found"),
            ("GET", "/v1/rollouts/7", nil, 404, "not-found"), ("GET", "/v1/compiled?node=nobody", nil, 404, "not-found"),
            ("PUT", "/v1/apply", "{}", 405, "no-method"), ("DELETE", "/v1/status", nil, 405, "no-method"),
            ("POST", "/v1/explain", #"{"from": "nobody", "method": "GET", "url": "http://a/", "headers": []}"#, 404, "not-found"),
        ]
        for (method, path, text, status, name) in calls {
            let answer = try mesh.call(method, path, text.map(body), headers: ["Content-Type: application/json"])
            let problem = try? mesh.problem(answer)
            #expect(answer.status == status, "\(method) \(path) \(text?.prefix(50) ?? ""): \(answer.headText)\(answer.bodyText)")
            #expect(problem?.type == "urn:outrigger:problem:\(name)" && problem?.detail?.isEmpty == false, "\(answer.bodyText)")
        }
        #expect(try mesh.call("GET", "/v1/%zz").status == 400)
        let answer = try mesh.call("GET", "/openapi.json")
        #expect(try JSONSerialization.jsonObject(with: Data(answer.body)) is [String: Any])
        #expect(try mesh.status().revision == 0)
    }

    @Test("garbage on the port hurts nobody but its sender: bytes, HTTP/2, gRPC and protobuf that are none")
    func garbage() throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        try mesh.apply(ColorMesh().yaml)
        _ = try mesh.app(2, saying: "red")
        try mesh.start("red", 2)
        let front = try mesh.start("front", 1)
        try mesh.settle()
        try mesh.waitForAnswer(front, "red")
        let load = mesh.load(front, callers: 1)
        var random = SystemRandomNumberGenerator()
        for round in 0..<40 {
            let connection = try RawConnection(to: mesh.port)
            var bytes = (0..<Int.random(in: 1..<5000)).map { _ in UInt8.random(in: 0...255, using: &random) }
            if round % 2 == 0 { bytes = HTTP2Peer.preface + bytes }
            try? connection.send(bytes)
            connection.close()
        }
        let paths = [
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources", "/outrigger.v1.Reports/Stream",
        ]
        let grpc: [HTTP2Field] = [("content-type", "application/grpc"), ("te", "trailers")]
        func message(_ bytes: [UInt8]) -> [UInt8] { [0, 0, 0, UInt8(bytes.count >> 8), UInt8(bytes.count & 255)] + bytes }
        for path in paths {
            let peer = try HTTP2Peer(to: mesh.port)
            for _ in 0..<20 {
                let bytes = (0..<Int.random(in: 1..<300)).map { _ in UInt8.random(in: 0...255, using: &random) }
                let answer = try peer.exchange("POST", path, fields: grpc, body: message(bytes))
                let status = answer.trailer("grpc-status") ?? answer.value("grpc-status")
                #expect(answer.status == 200 && status != nil, "\(path) \(bytes): \(answer.status) \(answer.fields)")
            }
            // A field of the right number and the wrong type, a length beyond the end, a message larger than any may be.
            for body in [message([0x08, 0x01]), message([0x12, 0x7F, 0x00]), [0, 0xFF, 0xFF, 0xFF, 0xFF, 1], [7, 0, 0, 0, 1, 1]] {
                let answer = try peer.exchange("POST", path, fields: grpc, body: body)
                let status = answer.trailer("grpc-status") ?? answer.value("grpc-status") ?? "none"
                #expect(status != "0" && status != "none", "\(path) \(body): \(answer.status) \(status)")
            }
            #expect(try peer.exchange("POST", path, fields: [("content-type", "application/json")], body: [1]).status == 415)
            #expect(try peer.exchange("GET", path, fields: grpc).status == 405)
            #expect(try mesh.call("POST", path, [], headers: ["Content-Type: application/grpc"]).status == 505)
        }
        let unknown = try HTTP2Peer(to: mesh.port).exchange("POST", "/a.B/C", fields: grpc, body: message([]))
        #expect((unknown.trailer("grpc-status") ?? unknown.value("grpc-status")) == "12")
        try mesh.settle()
        let tally = try load.stop()
        #expect(tally.failures == 0 && tally.total > 0)
        #expect(mesh.daemon.exitStatus() == nil)
    }
}
