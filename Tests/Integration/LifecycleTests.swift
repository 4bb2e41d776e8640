import Base
import Foundation
import Glibc
import ProxyConfig
import TestSupport
import Testing
import XDSWire

/// How the process starts, ends, and lives with a machine that gives it too little.
@Suite struct LifecycleTests {
    private static let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    // MARK: The end

    @Test("SIGTERM: the open request finishes, idle connections close, new ones are refused, and the status is 0")
    func drain() throws {
        let mayAnswer = Counter()
        let origin = try Origin { connection in
            while let request = try connection.readRequest() {
                if request.target == "/slow" { try eventually("the test says so") { mayAnswer.value == 1 } }
                try connection.send(ok(request.target))
            }
        }
        let proxy = try Proxy { Config.http(listen: $0, to: [origin.port], admin: $1, process: { $0.drainTime = .seconds(20) }) }
        defer { proxy.program.end() }
        let idle = try proxy.connect()
        #expect(try idle.exchange(Self.get).status == 200)
        let busy = try proxy.connect()
        try busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        try eventually("the request is at the origin") { origin.receivedText.contains("/slow") }

        proxy.program.signal(SIGTERM)
        try proxy.waitForLog("draining")
        #expect(try idle.readToEnd() == ([], .closed))
        try eventually("new connections are refused") { (try? proxy.connect()) == nil }
        #expect(proxy.program.exitStatus() == nil)
        mayAnswer.add()
        let answer = try busy.readResponse()
        #expect(answer.bodyText == "/slow" && answer.saysClose, "\(answer.headText)")
        busy.close()
        #expect(try proxy.program.wait().status == 0)
        #expect(proxy.log.contains("drained;"), "\(proxy.log)")
    }

    @Test("SIGTERM: what does not finish within the drain time is cut, and the status is still 0")
    func drainDeadline() throws {
        let origin = try Origin { connection in connection.stall() }
        let proxy = try Proxy(arguments: ["--drain-time", "1"]) { Config.http(listen: $0, to: [origin.port], admin: $1) }
        defer { proxy.program.end() }
        let caller = try proxy.connect()
        try caller.send(Self.get)
        try eventually("the request is at the origin") { origin.connections.count == 1 }
        #expect(try proxy.stop() == 0)
        #expect(try caller.readToEnd().bytes.isEmpty)
    }

    @Test("a second SIGTERM ends at once")
    func secondSignal() throws {
        let origin = try Origin { connection in connection.stall() }
        let proxy = try Proxy(arguments: ["--drain-time", "600"]) { Config.http(listen: $0, to: [origin.port], admin: $1) }
        defer { proxy.program.end() }
        let caller = try proxy.connect()
        try caller.send(Self.get)
        try eventually("the request is at the origin") { origin.connections.count == 1 }
        proxy.program.signal(SIGTERM)
        try proxy.waitForLog("draining")
        #expect(proxy.program.exitStatus() == nil)
        #expect(try proxy.stop() == 0)
    }

    @Test("no request fails that was sent before the end, while the proxy drains under load")
    func drainUnderLoad() throws {
        let origin = try Origin.answering(ok(), records: false)
        let proxy = try Proxy { Config.http(listen: $0, to: [origin.port], admin: $1) }
        defer { proxy.program.end() }
        let answered = Counter()
        let port = proxy.port
        let load = Threads.start(4) { _ in
            while true {
                // Refused or closed before a request is how a drain looks; a request that got no answer is a fault.
                guard let caller = try? RawConnection(to: port) else { return }
                var isOpen = true
                while isOpen {
                    guard (try? caller.send(Self.get)) != nil, let answer = try? caller.readResponse() else { return }
                    answered.add()
                    isOpen = !answer.saysClose
                }
            }
        }
        try eventually("load runs") { answered.value > 200 }
        #expect(try proxy.stop() == 0)
        try load.join()
    }

    // MARK: Logs

    private func logged(_ origin: Origin, _ path: String, format: AccessLog.Format = .text("%REQ(:PATH)%\n")) -> (UInt16, UInt16) ->
        Snapshot
    {
        {
            Config.http(
                listen: $0, to: [origin.port], admin: $1, manager: { $0.accessLogs = [AccessLog(path: path, format: format)] })
        }
    }

    @Test("SIGUSR1 reopens the access log after a rotation")
    func reopen() throws {
        let origin = try Origin.answering(ok())
        let folder = try TemporaryFolder()
        try withProxy(logged(origin, folder.file("log"))) { (proxy) throws in
            _ = try proxy.exchange("GET /before HTTP/1.1\r\nHost: a\r\n\r\n")
            try eventually("the line is written") { folder.text("log") == "/before\n" }
            try FileManager.default.moveItem(atPath: folder.file("log"), toPath: folder.file("old"))
            proxy.program.signal(SIGUSR1)
            try eventually("there is a new file") {
                _ = try proxy.exchange("GET /after HTTP/1.1\r\nHost: a\r\n\r\n")
                return folder.text("log").contains("/after\n")
            }
            #expect(folder.text("old").hasPrefix("/before\n"))
        }
    }

    @Test(
        "a log that cannot be written costs no request, and is told",
        arguments: ["/dev/full", "/nonexistent/folder/log", "/proc/self/mem/log"])
    func unwritableLog(path: String) throws {
        let origin = try Origin.answering(ok())
        try withProxy(logged(origin, path)) { (proxy) throws in
            let caller = try proxy.connect()
            for _ in 0..<100 { #expect(try caller.exchange(Self.get).status == 200) }
            try proxy.waitForLog(path)
        }
    }

    @Test("a log whose reader sleeps stops no request, nor the end", arguments: [true, false])
    func sleepingLogReader(isOpen: Bool) throws {
        let origin = try Origin.answering(ok())
        let folder = try TemporaryFolder()
        guard unsafe mkfifo(folder.file("fifo"), 0o600) == 0 else { throw TestFailure("mkfifo: errno \(errno)") }
        let reader = isOpen ? unsafe open(folder.file("fifo"), O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1
        defer { if reader >= 0 { close(reader) } }
        let proxy = try Proxy(logged(origin, folder.file("fifo"), format: .text(String(repeating: "x", count: 2000) + "\n")))
        defer { proxy.program.end() }
        let caller = try proxy.connect()
        for _ in 0..<500 { #expect(try caller.exchange(Self.get).status == 200) }
        caller.close()
        #expect(try proxy.stop() == 0)
    }

    // MARK: The start

    @Test("a port in use at the start ends the process with status 1 and names listener and address")
    func portInUse() throws {
        let taken = try Origin { _ in }
        let folder = try TemporaryFolder()
        let snapshot = Config.http(listen: taken.port, to: [1], admin: try Ports.free())
        try folder.replace("snapshot", with: SnapshotFile.encode(snapshot))
        let result = try Program.run(Proxy.executable, ["--snapshot", folder.file("snapshot")])
        #expect(result.status == 1)
        #expect(result.errors.contains("cannot listen on 127.0.0.1:\(taken.port)") && result.errors.contains("in use"), "\(result.errors)")
    }

    @Test("a second proxy on the same port does not take a share of the first one's callers")
    func secondProxy() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            let folder = try TemporaryFolder()
            let snapshot = Config.http(listen: proxy.port, to: [1], admin: try Ports.free())
            try folder.replace("snapshot", with: SnapshotFile.encode(snapshot))
            let result = try Program.run(Proxy.executable, ["--snapshot", folder.file("snapshot")])
            #expect(result.status == 1 && result.errors.contains("in use"), "\(result.errors)")
        }
    }

    @Test("an admin port in use at the start ends the process with status 1")
    func adminPortInUse() throws {
        let taken = try Origin { _ in }
        let folder = try TemporaryFolder()
        let snapshot = Config.http(listen: try Ports.free(), to: [1], admin: taken.port)
        try folder.replace("snapshot", with: SnapshotFile.encode(snapshot))
        let result = try Program.run(Proxy.executable, ["--snapshot", folder.file("snapshot")])
        #expect(result.status == 1)
        #expect(result.errors.contains("127.0.0.1:\(taken.port)"), "\(result.errors)")
    }

    @Test("a missing snapshot ends the process with status 1 and names the file")
    func missingSnapshot() throws {
        let folder = try TemporaryFolder()
        let result = try Program.run(Proxy.executable, ["--snapshot", folder.file("none")])
        #expect(result.status == 1 && result.errors.contains(folder.file("none")), "\(result.errors)")
        let nowhere = try Program.run(Proxy.executable, ["--snapshot", "/nonexistent/none"])
        #expect(nowhere.status == 1 && nowhere.errors.contains("/nonexistent"), "\(nowhere.errors)")
    }

    @Test(
        "a wrong command line is status 2 and shows the usage",
        arguments: [
            [], ["--snapshot"], ["--unknown"], ["--snapshot", "x", "--workers", "0"], ["--snapshot", "x", "--log-level", "loud"], ["file"],
        ])
    func wrongUsage(arguments: [String]) throws {
        let result = try Program.run(Proxy.executable, arguments)
        #expect(result.status == 2 && result.errors.contains("usage:"), "\(result.errors)")
    }

    // MARK: Too little, too much

    @Test("out of descriptors: what is open is served, what waits is taken up when there are some again")
    func descriptors() throws {
        let origin = try Origin.answering(ok())
        try withProxy(limits: ["prlimit", "--nofile=64"], { Config.http(listen: $0, to: [origin.port], admin: $1) }) { (proxy) throws in
            // Heads that are not complete: nothing that may be closed.
            let head = "GET / HTTP/1.1\r\nHost: a\r\n"
            let first = try proxy.connect()
            try first.send(head)
            var crowd = try (0..<100).map { _ in
                let caller = try proxy.connect()
                try caller.send(head)
                return caller
            }
            try eventually("nobody is let in") { try proxy.count("accept_paused") > 0 }
            try first.send("\r\n")
            #expect(try first.readResponse().status == 200)
            let waiting = crowd.removeLast()
            try waiting.send("\r\n")
            for caller in crowd { caller.close() }
            #expect(try waiting.readResponse().status == 200)
            #expect(try proxy.exchange(Self.get).status == 200)
        }
    }

    @Test("out of descriptors for the upstream side: no endpoint is blamed")
    func descriptorsUpstream() throws {
        let origin = try Origin.answering(ok())
        try withProxy(
            limits: ["prlimit", "--nofile=48"],
            {
                Config.http(
                    listen: $0, to: [origin.port], admin: $1,
                    cluster: { $0.outlierDetection = OutlierDetection(consecutive5xx: 2, maxEjectionPercent: 100) })
            }
        ) { (proxy) throws in
            var crowd = try (0..<60).map { _ in
                let caller = try proxy.connect()
                try caller.send("GET / HTTP/1.1\r\nHost: a\r\n")
                return caller
            }
            try eventually("nobody is let in") { try proxy.count("accept_paused") > 0 }
            for caller in crowd { try? caller.send("\r\n") }
            var failed = 0
            for caller in crowd.prefix(20) {
                if let answer = try? caller.readResponse(within: .seconds(2)), answer.status == 503 { failed += 1 }
            }
            #expect(failed > 2)
            crowd = []
            try eventually("it serves again") { try proxy.exchange(Self.get).status == 200 }
            #expect(!proxy.log.contains("EJECT"), "\(proxy.log)")
        }
    }

    @Test("10 000 connections of garbage leave nothing behind")
    func garbage() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            #expect(try proxy.exchange(Self.get).status == 200)
            let descriptors = proxy.program.descriptorCount
            let port = proxy.port
            try Threads.run(8) { thread in
                var random = SeededRandom(seed: UInt64(thread + 1))
                for round in 0..<1250 {
                    let caller = try RawConnection(to: port)
                    let count = random.below(200)
                    // Some begin like a request.
                    let start: [UInt8] = round % 3 == 0 ? Array("GET / HTTP/1.1\r\nHost: a\r\nX:".utf8) : []
                    try? caller.send(start + (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) })
                    if round % 2 == 0 { caller.reset() } else { caller.close() }
                }
            }
            try eventually("all are closed") { proxy.program.descriptorCount <= descriptors + 2 }
            #expect(try proxy.exchange(Self.get).status == 200)
            #expect(proxy.residentBytes < 60 << 20, "\(proxy.residentBytes >> 20) MB")
        }
        #expect(origin.receivedText.ranges(of: "HTTP/1.1\r\n").count == 2)
    }

    @Test("callers that go away while they wait take their upstream requests with them")
    func callersThatLeave() throws {
        let ended = Counter()
        let origin = try Origin { connection in
            _ = try connection.readRequest()
            _ = try connection.readToEnd()
            ended.add()
        }
        try withProxy(to: origin) { (proxy) throws in
            let callers = try (0..<50).map { _ in
                let caller = try proxy.connect()
                try caller.send(Self.get)
                return caller
            }
            try eventually("all are at the origin") { origin.connections.count == 50 }
            for caller in callers { caller.reset() }
            try eventually("all have ended") { ended.value == 50 }
        }
    }
}
