import ArgumentParser
import ControlAPI
import Foundation
import TestSupport
import Testing

@testable import outrigger

@Suite("Commands that change the mesh")
struct ChangeTests {
    private let client = FakeControlPlane()
    private let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
        try folder.replace("mesh.yaml", with: Array("kind: Mesh\n".utf8))
    }

    private var file: String { folder.file("mesh.yaml") }

    @Test("apply sends the files as they are, with what was said about them")
    func apply() throws {
        try client.on("POST /v1/apply", Sample.applied)
        let paper = try run(["apply", "-f", file, "--strict", "-n", "shop", "--reason", "why not"], client)
        let sent = try client.body(ApplyRequest.self)
        #expect(
            sent == ApplyRequest(files: [SourceText(name: file, text: "kind: Mesh\n")], namespace: "shop", strict: true, reason: "why not"))
        #expect(paper.out == "VirtualNode/cart created\nVirtualRouter/color configured\nMesh/m unchanged\n")
        #expect(paper.notes == "revision 3\n")
    }

    @Test("what changes nothing says so; what was only tried says so, too")
    func dryRun() throws {
        try client.on(
            "POST /v1/apply", ChangeResult(revision: 3, isDryRun: true, changes: [Sample.change("VirtualNode", "cart", .deleted)]))
        #expect(try run(["apply", "-f", file, "--dry-run"], client).out == "VirtualNode/cart deleted (dry run)\n")
        #expect(try client.body(ApplyRequest.self).dryRun == true)
        try client.on("POST /v1/apply", ChangeResult(revision: 3, changes: []))
        #expect(try run(["apply", "-f", file], client).out == "nothing to change\n")
    }

    @Test("the namespace is that of the command, then the context's")
    func namespace() throws {
        try client.on("POST /v1/apply", Sample.applied)
        try run(["apply", "-f", file], client, namespace: "kitchen")
        try run(["apply", "-f", file, "-n", "shop"], client, namespace: "kitchen")
        #expect(try client.body(ApplyRequest.self, of: 0).namespace == "kitchen")
        #expect(try client.body(ApplyRequest.self, of: 1).namespace == "shop")
    }

    @Test("a refusal prints each diagnostic as a line with its place, and ends with status 1")
    func refusal() throws {
        let problem = Problem(
            "invalid-resources", status: 422, title: "The resources are not valid", detail: "2 errors",
            diagnostics: [
                DiagnosticMessage(severity: "error", file: "a.yaml", line: 7, column: 13, message: "a.yaml:7:13: VirtualNode/cart: bad"),
                DiagnosticMessage(severity: "error", file: "b.yaml", line: 2, message: "VirtualNode/b: worse"),
            ])
        try client.on("POST /v1/apply", problem, status: 422)
        let paper = Paper()
        let failure = try #require(throws: Failure.self) { try run(["apply", "-f", file], client, paper) }
        #expect(paper.notes == "a.yaml:7:13: VirtualNode/cart: bad\nb.yaml:2: VirtualNode/b: worse\n")
        #expect(failure.message == "The resources are not valid: 2 errors")
        #expect(failure.status == 1)
    }

    @Test("a file that is not there is told before anything is sent")
    func missingFile() throws {
        let paper = Paper()
        let failure = try #require(throws: Failure.self) { try run(["apply", "-f", folder.file("none.yaml")], client, paper) }
        #expect(failure.message == "the files cannot be read: 1 error")
        #expect(paper.notes.hasSuffix("none.yaml: cannot be read: No such file or directory\n"))
        #expect(client.calls.isEmpty)
    }

    @Test("a refused connection says which address it was and what to start; a token that is missing, where it belongs")
    func unreachable() throws {
        client.failure = ControlFailure(reason: "connection refused", isUnreachable: true)
        let failure = try #require(throws: Failure.self) { try run(["apply", "-f", file], client) }
        #expect(failure.message.hasPrefix("no control plane answers at 127.0.0.1:15010: connection refused\n"))
        #expect(failure.message.contains("outriggerd --data-dir"))
        client.failure = nil
        try client.on("POST /v1/apply", Problem(status: 401, title: "No token"), status: 401)
        #expect(try #require(throws: Failure.self) { try run(["apply", "-f", file], client) }.message.contains("OUTRIGGER_TOKEN"))
        client.on("POST /v1/apply", text: "<html>", status: 502)
        #expect(try #require(throws: Failure.self) { try run(["apply", "-f", file], client) }.message.contains("status 502"))
        client.on("POST /v1/apply", text: "{}")
        #expect(try #require(throws: Failure.self) { try run(["apply", "-f", file], client) }.message.contains("not what this version"))
    }

    @Test(
        "delete takes files, or kinds with names",
        arguments: [
            (["vn", "cart", "front"], [Sample.name("VirtualNode", "cart", "default"), Sample.name("VirtualNode", "front", "default")]),
            (["vs/a", "Mesh/m"], [Sample.name("VirtualService", "a", "default"), Sample.name("Mesh", "m", nil)]),
            (["virtualrouters", "r", "-n", "shop"], [Sample.name("VirtualRouter", "r", "shop")]),
        ])
    func delete(words: [String], names: [ResourceName]) throws {
        let gone = ChangeResult(
            revision: 4, changes: [Sample.change("VirtualNode", "cart", .deleted), Sample.change("Mesh", "m", .unchanged)])
        try client.on("POST /v1/delete", gone)
        #expect(try run(["delete"] + words, client).out == "VirtualNode/cart deleted\nMesh/m is not there\n")
        #expect(try client.body(DeleteRequest.self).resources == names)
    }

    @Test("rollback names the revision, the reason and the stages")
    func rollback() throws {
        try client.on("POST /v1/rollback", Sample.applied)
        try run(["rollback", "2", "--reason", "slow", "--rollout", "canary=1,25%,100%", "--pause", "1m", "--max-errors", "2.5%"], client)
        let plan = RolloutPlan(stages: ["1", "25%", "100%"], pauseSeconds: 60, maxErrorPercent: 2.5)
        #expect(try client.body(RollbackRequest.self) == RollbackRequest(revision: 2, reason: "slow", rollout: plan))
    }

    @Test(
        "a wrong command line is a usage error",
        arguments: [
            ["apply"], ["apply", "-f", "x", "--pause", "3s"], ["apply", "-f", "x", "--rollout", "1,25%"],
            ["apply", "-f", "x", "--rollout", "50%,25%,100%"], ["apply", "-f", "x", "--rollout", "25%,1,100%"],
            ["apply", "-f", "x", "--rollout", "1,,100%"], ["apply", "-f", "x", "--rollout", "100%", "--pause", "3"],
            ["apply", "-f", "x", "--rollout", "100%", "--max-errors", "lots"], ["apply", "-f", "x", "--dry-run", "--wait"], ["delete"],
            ["delete", "vn"], ["delete", "vn", "a", "-f", "x"], ["delete", "all"], ["delete", "vx", "a"], ["delete", "vn/a", "b"],
            ["rollback", "-1"], ["rollback"], ["diff"], ["diff", "1", "2", "3"], ["diff", "1", "-f", "x"], ["history", "--limit", "0"],
            ["get"], ["get", "nothing"], ["get", "vn", "--at", "yesterday"], ["get", "vn", "-n", "a", "-A"],
            ["get", "vn", "--at", "3", "--watch"], ["describe", "vn"], ["describe", "vn", "a", "b"], ["token", "create"],
            ["token", "create", "--role", "king"], ["token", "create", "--role", "read", "--node", "a"], ["explain", "GET", "http://x"],
            ["explain", "--from", "a"], ["explain", "--from", "a", "GET", "http://x", "-H", "nothing"], ["top", "--window", "0s"],
            ["status", "--interval", "0s"], ["status", "--interval", "soon"],
            ["completion", "tcsh"],
        ])
    func usage(line: [String]) {
        let error = #expect(throws: (any Error).self) { _ = try OutriggerCommand.parseAsRoot(line) }
        #expect(error.map { OutriggerCommand.exitCode(for: $0) } == .validationFailure)
    }
}

@Suite("Waiting until proxies run a change")
struct WaitTests {
    private func progress(_ status: MeshStatus, rollout: RolloutItem? = nil) -> AppliedProgress {
        AppliedProgress(status, revision: 3, rollout: rollout)
    }

    @Test("done is when every connected proxy has applied what it should run")
    func done() {
        #expect(progress(Sample.status([Sample.node("a"), Sample.node("b")])).state == .done)
        #expect(progress(Sample.status([])).state == .done)
        #expect(progress(Sample.status([Sample.node("a"), Sample.node("b", applied: "old")])).state == .waiting)
        #expect(progress(Sample.status([Sample.node("a", wanted: nil)])).state == .waiting)
        #expect(progress(Sample.status([Sample.node("a"), Sample.node("b", applied: "old", isConnected: false)])).state == .done)
        #expect(progress(Sample.status([Sample.node("a"), Sample.node("b", applied: nil)])).line == "1 of 2 proxies applied")
    }

    @Test("agents that do not say what they run are done when they have accepted it")
    func otherAgents() {
        #expect(progress(Sample.status([Sample.node("a", applied: nil, agent: "envoy 1.30")])).state == .done)
        #expect(progress(Sample.status([Sample.node("a", acknowledged: "old", applied: nil, agent: "envoy 1.30")])).state == .waiting)
        #expect(progress(Sample.status([Sample.node("a", applied: nil)])).state == .waiting)
    }

    @Test("as long as the revision is not compiled, what proxies want is the old one")
    func compiling() {
        #expect(progress(Sample.status([Sample.node("a")], compiled: 2)).state == .waiting)
        #expect(progress(Sample.status([Sample.node("a")], compiled: 2)).line == "compiling revision 3")
    }

    @Test("a refusal fails, and names the proxy")
    func refused() {
        let status = Sample.status([Sample.node("a", rejection: "aaaa: clusters[0]: bad")])
        #expect(progress(status).state == .failed(["shop/a (host-1) refused: aaaa: clusters[0]: bad"]))
    }

    @Test("a rollout is done when it has completed, and failed when it went back")
    func rollout() {
        let status = Sample.status([Sample.node("a")])
        #expect(progress(status, rollout: Sample.rollout("running")).state == .waiting)
        #expect(progress(status, rollout: Sample.rollout("completed", stage: 2)).state == .done)
        let back = progress(status, rollout: Sample.rollout("compensated", stage: 1, reason: "7% errors"))
        #expect(back.state == .failed(["rollout 3 is compensated: 7% errors"]))
    }

    private func apply(_ client: FakeControlPlane, _ paper: Paper, _ more: [String] = []) throws {
        let folder = try TemporaryFolder()
        try folder.replace("mesh.yaml", with: Array("kind: Mesh\n".utf8))
        try run(["apply", "-f", folder.file("mesh.yaml"), "--wait"] + more, client, paper)
    }

    @Test("the command tells each change of progress once, and ends well")
    func command() throws {
        let client = FakeControlPlane()
        let paper = Paper()
        paper.patience = 10
        try client.on("POST /v1/apply", Sample.applied)
        let waiting = Sample.status([Sample.node("a"), Sample.node("b", applied: "old")])
        try client.on(
            "GET /v1/status", Sample.status([Sample.node("a")], compiled: 2), waiting, waiting,
            Sample.status([Sample.node("a"), Sample.node("b")]))
        try apply(client, paper)
        #expect(paper.notes == "revision 3\ncompiling revision 3\n1 of 2 proxies applied\n2 of 2 proxies applied\n")
    }

    @Test("a control plane that does not say what is compiled is looked at twice")
    func unsaid() throws {
        let client = FakeControlPlane()
        let paper = Paper()
        paper.patience = 10
        try client.on("POST /v1/apply", Sample.applied)
        try client.on("GET /v1/status", Sample.status([Sample.node("a")], compiled: nil))
        try apply(client, paper)
        #expect(client.calls.count { $0.path == "/v1/status" } == 2)
    }

    @Test("a control plane that is away for a moment is waited for")
    func away() throws {
        let client = FakeControlPlane()
        let paper = Paper()
        paper.patience = 10
        client.lost = [1, 2]
        try client.on("POST /v1/apply", Sample.applied)
        try client.on("GET /v1/status", Sample.status([Sample.node("a")]))
        try apply(client, paper)
        #expect(paper.notes.hasSuffix("trying again\n1 of 1 proxy applied\n"))
    }

    @Test("time that is up ends with status 1 and the names of those that are missing")
    func timeout() throws {
        let client = FakeControlPlane()
        let paper = Paper()
        paper.patience = 1000
        try client.on("POST /v1/apply", Sample.applied)
        try client.on("GET /v1/status", Sample.status([Sample.node("a"), Sample.node("b", applied: "old")]))
        let failure = try #require(throws: Failure.self) { try apply(client, paper, ["--wait-timeout", "5s"]) }
        #expect(failure.message == "not applied within 5s: shop/b (host-1)")
        #expect(client.calls.count < 30)
    }
}
