import Base
import CertificateAuthority
import ControlAPI
import Foundation
import HTTPServer
import MeshModel
import MeshYAML
import Projections
import Reactor
import TestSupport
import Testing

@testable import Daemon
@testable import EventStore

/// A control plane on a loop that the test turns.
private final class Plane {
    let loop = EventLoop()
    let log: SQLiteEventLog
    let journal: Journal
    let controller: Controller
    private let server: HTTPServer
    let port: UInt16

    init(_ folder: TemporaryFolder) throws {
        log = try SQLiteEventLog(directory: folder.path)
        journal = try Journal(log: log, store: try Workshop(name: "store", loop: loop)) { .now }
        controller = Controller(
            loop: loop, journal: journal, workshop: try Workshop(name: "compiler", loop: loop), options: Controller.Options())
        let authority = try CertificateAuthority(directory: folder.file("ca"), now: UnixTime.now.milliseconds / 1000)
        let api = APIServer(controller, joins: try JoinService(controller, authority, changesRoot: false))
        server = HTTPServer(loop: loop) { api.handle($0) }
        port = try server.listen(on: SocketAddress("127.0.0.1:0")!, tls: nil).port
    }

    func close() {
        server.close()
        journal.close()
    }

    func turn(until isDone: () -> Bool) throws { try loop.turn(until: isDone) }

    func apply(_ text: String) throws -> Result<ChangeResult, Problem> {
        var answer: Result<ChangeResult, Problem>?
        let command = CommandQueue.Command.apply(
            [ManifestFile(name: "a.yaml", bytes: Array(text.utf8))], strict: false, namespace: "default")
        controller.commands.submit(.init(command: command, actor: "test", reason: "", isDryRun: false, rollout: nil)) { answer = $0 }
        try turn { answer != nil }
        return answer!
    }
}

@Suite("What callers and the machine can do to it")
struct BoundsTests {
    private static func node(_ name: String, hostname: String) -> String {
        """
        apiVersion: appmesh.k8s.aws/v1beta2
        kind: VirtualNode
        metadata: {name: \(name), annotations: {note: "\(String(repeating: "x", count: 2000))"}}
        spec: {listeners: [{portMapping: {port: 8080, protocol: http}}], serviceDiscovery: {dns: {hostname: \(hostname)}}}
        """
    }

    @Test("with a full disk commands are refused with the reason, reads go on, and there being room again is enough")
    func fullDisk() throws {
        let folder = try TemporaryFolder()
        let plane = try Plane(folder)
        defer { plane.close() }
        guard case .success = try plane.apply(Self.node("first", hostname: "a.example")) else { throw TestFailure("not applied") }
        try plane.log.limitPages(1)
        var problem: Problem?
        var taken = 1
        while problem == nil, taken < 100 {
            switch try plane.apply(Self.node("n\(taken)", hostname: "a.example")) {
            case .success: taken += 1
            case .failure(let found): problem = found
            }
        }
        let found = try #require(problem)
        #expect(found.status == 507 && found.detail?.contains("the disk is full, nothing was recorded") == true, "\(found)")
        // Nothing of it is true, and what was asked before is answered.
        let queries = MeshQueries(plane.controller)
        #expect(queries.status().revision == taken && queries.history(limit: 1000).count == taken)
        #expect(plane.controller.mesh.virtualNodes.count == taken)
        #expect(try plane.log.events(after: 0, limit: .max).last?.sequence == plane.journal.models.sequence)
        guard case .failure = try plane.apply(Self.node("again", hostname: "a.example")) else { throw TestFailure("it was taken") }

        try plane.log.limitPages(nil)
        guard case .success(let result) = try plane.apply(Self.node("again", hostname: "a.example")) else {
            throw TestFailure("still full")
        }
        #expect(result.revision == taken + 1 && queries.status().revision == taken + 1)
        try plane.log.verify()
    }

    @Test("who follows the events and does not read is cut off when much is unread; others go on")
    func followerThatDoesNotRead() throws {
        let folder = try TemporaryFolder()
        let plane = try Plane(folder)
        defer { plane.close() }
        let silent = try RawConnection(to: plane.port)
        let reading = try RawConnection(to: plane.port)
        for connection in [silent, reading] {
            try connection.send(Array("GET /v1/events?follow=true&after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n".utf8))
        }
        try plane.turn { plane.controller.followerCount == 2 }
        let reader = Threads.start(1) { _ in
            _ = try? reading.readToEnd(within: .seconds(60))
        }
        let key = ObjectKey(MeshModel.ResourceKey(kind: .virtualNode, namespace: "shop", name: "cart"))
        let event = MeshEvent.nodeLeft(
            InstanceChange(instance: InstanceKey(node: key, instance: "a"), reason: String(repeating: "x", count: 10_000)))
        // What the kernel's buffers take is several MiB.
        for _ in 0..<200 where plane.controller.followerCount == 2 {
            var isDone = false
            plane.journal.record(Array(repeating: event, count: 50), actor: "test") { _ in isDone = true }
            try plane.turn { isDone }
            for _ in 0..<20 { plane.loop.turn(maximumWait: .milliseconds(1)) }
        }
        #expect(plane.controller.followerCount == 1)
        plane.close()
        try reader.join()
    }

    @Test("lines that callers cause are written up to a number, and then counted")
    func lineLimit() {
        var limit = LineLimit()
        func admitted(_ count: Int, _ now: Instant) -> Int { (0..<count).count { _ in limit.admits(now: now) } }
        var now = Instant(nanoseconds: 5)
        #expect(admitted(LineLimit.lines, now) == LineLimit.lines)
        #expect(limit.deadline == .never)
        #expect(admitted(1000, now + .milliseconds(1)) == 0)
        #expect(limit.deadline == now + LineLimit.span)
        now = limit.deadline
        let skipped = limit.expired(now: now)
        #expect(skipped == 1000 && limit.deadline == .never)
        #expect(admitted(1, now) == 1)
        // A quiet span begins anew without a word.
        #expect(admitted(LineLimit.lines + 1, now + LineLimit.span) == LineLimit.lines)
    }

    @Test("the count is written when the span is over")
    func limitedLog() throws {
        let loop = EventLoop()
        var lines: [String] = []
        let log = LimitedLog(loop) { lines.append("\($0): \($1)") }
        for number in 0..<25 { log.warning("http", "line \(number)") }
        log.warning("xds", "another")
        #expect(lines.count == LineLimit.lines + 1 && lines.last == "xds: another")
    }
}
