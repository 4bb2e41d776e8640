import ControlAPI
import Foundation
import Glibc
import TestSupport
import Testing

/// `outriggerd` with those that do not behave, and with a log that it cannot use.
@Suite struct MeshFleetTests {
    @Test("a second proxy of the same name is refused with words, and the first stays where it is; a restart of one is none")
    func duplicates() throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        try mesh.apply(ColorMesh().yaml)
        for number in 2...3 { _ = try mesh.app(number, saying: "red-\(number)") }
        let front = try mesh.start("front", 1)
        let first = try mesh.start("red", 2, instance: "one")
        try mesh.settle()
        try mesh.waitForAnswer(front, "red-2")
        let load = mesh.load(front, callers: 1)
        let second = try mesh.start("red", 3, instance: "one")
        try mesh.waitForLog("calls itself \\\"one\\\" already, at \(mesh.address(2)); give each an --instance")
        try second.waitForLog("already, at \(mesh.address(2)); give each an --instance")
        // Several reports of both.
        for _ in 0..<10 {
            usleep(100_000)
            let nodes = try mesh.status().nodes.filter { $0.instance == "one" }
            #expect(nodes.map(\.address) == [mesh.address(2)])
        }
        let events = try mesh.call("GET", "/v1/events?limit=1000").bodyText
        #expect(events.contains("one registered at \(mesh.address(2))") && !events.contains("at \(mesh.address(3))"), "\(events)")
        #expect(try mesh.ask(front).bodyText == "red-2")
        second.program.end()
        let tally = try load.stop()
        #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))")

        // The same again after a crash, at another address: its old stream is closed, or silent.
        first.program.end()
        try mesh.start("red", 3, instance: "one")
        try mesh.waitForAnswer(front, "red-3")
        try eventually("it is known by its new address") {
            try mesh.status().nodes.contains { $0.instance == "one" && $0.address == mesh.address(3) && $0.isConnected }
        }
    }

    @Test("who asks for much and reads nothing is cut off, and takes bounded memory")
    func neverReads() throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        let lines = String(repeating: "# " + String(repeating: "x", count: 98) + "\n", count: 10_000)
        try mesh.apply("\(lines)\(ColorMesh().yaml)".replacing("metadata: { name: red,", with: "metadata: \(lines)  { name: red,"))
        try mesh.start("front", 1)
        try mesh.settle()
        let answer = try mesh.call("GET", "/v1/resources").body.count
        try #require(answer > 1_000_000, "\(answer)")
        let before = mesh.daemon.residentBytes
        let descriptors = mesh.daemon.descriptorCount
        var peers: [HTTP2Peer] = []
        for _ in 0..<3 {
            let peer = try HTTP2Peer(to: mesh.port, receiveBuffer: 4096)
            peer.opensWindows = false
            peers.append(peer)
            // More than 300 MB, if somebody held them.
            for _ in 0..<100 { _ = try? peer.request("GET", "/v1/resources") }
        }
        try eventually("they are cut off; outriggerd said:\n\(mesh.log)") { mesh.daemon.descriptorCount <= descriptors }
        #expect(try mesh.call("GET", "/ready").status == 200)
        try mesh.settle()
        if ProcessInfo.processInfo.environment["OUTRIGGER_SANITIZER"] == nil {
            let grown = try peakMemory(mesh.daemon) - before
            #expect(grown < 300 << 20, "\(grown >> 20) MiB")
        }
        peers = []
        #expect(try mesh.apply(ColorMesh(nodes: ["red", "blue"]).node("blue")).revision == 2)
    }

    /// The most that was resident, in bytes.
    private func peakMemory(_ program: Program) throws -> Int {
        let status = try String(contentsOfFile: "/proc/\(program.pid)/status", encoding: .utf8)
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") } ?? ""
        return (Int(line.split(separator: " ").dropFirst().first ?? "") ?? .max >> 10) << 10
    }

    @Test("a second outriggerd on the same folder is refused and told who has it")
    func secondDaemon() throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        try mesh.apply(ColorMesh().yaml)
        let second = try mesh.runAnotherDaemon()
        #expect(second.status == 1)
        let words = "is in use by process \(mesh.daemon.pid): one outriggerd for each data directory"
        #expect(second.errors.contains(words), "\(second.errors)")
        #expect(try mesh.apply(ColorMesh(nodes: ["red", "blue"]).yaml).revision == 2)
        // A folder that nobody can write.
        let third = try Program.run(ManagedMesh.executable, ["--data-dir", "/proc/nothing"])
        #expect(third.status == 1 && third.errors.contains("cannot start"), "\(third.errors)")
    }

    @Test("a log that is not what was written is refused with words, and left as it is")
    func corrupt() throws {
        let mesh = try ManagedMesh()
        defer { mesh.end() }
        try mesh.apply(ColorMesh().yaml)
        mesh.daemon.signal(SIGTERM)
        #expect(try mesh.daemon.wait().status == 0)
        let path = mesh.folder.file("data/events.sqlite")
        let program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA wal_checkpoint(TRUNCATE)')"
        #expect(try Program.run("python3", ["-c", program, path]).status == 0)
        let good = try #require(FileManager.default.contents(atPath: path))
        var flipped = good
        let place = try #require(good.range(of: Data("\"name\":\"red\"".utf8)) ?? good.range(of: Data("red".utf8)))
        flipped[place.lowerBound + 1] ^= 0x20
        for (bad, words) in [(flipped, "is corrupt"), (Data(good.prefix(5000)), "events.sqlite"), (Data("no log\n".utf8), "events.sqlite")]
        {
            try bad.write(to: URL(fileURLWithPath: path))
            let result = try mesh.runAnotherDaemon(arguments: ["--verify"])
            #expect(result.status == 1 && result.errors.contains("cannot start") && result.errors.contains(words), "\(result.errors)")
            #expect(FileManager.default.contents(atPath: path) == bad)
        }
        try good.write(to: URL(fileURLWithPath: path))
        try mesh.startDaemon(arguments: ["--verify"])
        #expect(try mesh.status().revision == 1)
    }
}
