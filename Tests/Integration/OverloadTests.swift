import Base
import Foundation
import Glibc
import ProxyConfig
import TestSupport
import Testing

/// A proxy that runs out of descriptors or memory, callers that hardly move, and a worker that is stuck (attack cases T8 to T10, T20).
@Suite(.serialized) struct OverloadTests {
    private static let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    /// This process needs a descriptor for each caller too.
    private static func raiseLimit() {
        var limit = rlimit()
        unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = limit.rlim_max
        unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    // MARK: Descriptors

    @Test("10 000 idle callers with descriptors for 400: the oldest go, new ones are served, and so is the admin interface")
    func idleCrowd() throws {
        Self.raiseLimit()
        let origin = try Origin.answering(ok(), records: false)
        try withProxy(limits: ["prlimit", "--nofile=512"], { Config.http(listen: $0, to: [origin.port], admin: $1) }) { (proxy) throws in
            var crowd: [RawConnection] = []
            for number in 0..<10_000 {
                crowd.append(try proxy.connect())
                // Descriptors of those that were closed are not needed here either.
                if crowd.count > 2000 { crowd.removeFirst(1000) }
                if number % 500 == 0 { #expect(try proxy.exchange(Self.get).status == 200, "caller \(number)") }
            }
            #expect(try proxy.exchange(Self.get).status == 200)
            #expect(try proxy.adminText("/ready") == "LIVE\n")
            #expect(proxy.program.descriptorCount < 460)
            try eventually("closed ones are counted") { try proxy.count("overload_idle_closed_total") > 9000 }
            #expect(try proxy.count("overload_requests_refused_total") == 0)
            // The youngest are still there.
            #expect(try crowd[crowd.count - 1].exchange(Self.get).status == 200)
        }
    }

    @Test("nobody is idle: who comes waits in the kernel's queue, without a spin, and the admin interface answers")
    func busyCrowd() throws {
        let origin = try Origin.answering(ok())
        try withProxy(limits: ["prlimit", "--nofile=128"], { Config.http(listen: $0, to: [origin.port], admin: $1) }) { (proxy) throws in
            // Heads that are not complete: busy, and without an endpoint.
            var crowd = try (0..<150).map { _ in
                let caller = try proxy.connect()
                try caller.send("GET / HTTP/1.1\r\nHost: a\r\n")
                return caller
            }
            try eventually("nobody is let in") { try proxy.count("accept_paused") > 0 }
            let turns = try proxy.count("loop_turns_total")
            usleep(300_000)
            #expect(try proxy.count("loop_turns_total") - turns < 100)
            #expect(try proxy.adminText("/ready") == "LIVE\n")
            let waiting = crowd.removeLast()
            try waiting.send("\r\n")
            #expect(try waiting.isSilent(for: .milliseconds(200)))
            crowd = []
            #expect(try waiting.readResponse().status == 200)
            try eventually("it lets in again") { try proxy.exchange(Self.get).status == 200 }
        }
    }

    // MARK: Memory

    @Test(
        "callers that take nothing fill the memory: new requests get 503 with both words before it is full, and 200 when they are gone",
        .disabled(if: ProcessInfo.processInfo.environment["OUTRIGGER_SANITIZER"] != nil, "a sanitizer's memory is not the proxy's"))
    func memory() throws {
        Self.raiseLimit()
        let large = [UInt8](repeating: 0x61, count: 8 << 20)
        let origin = try Origin(records: false) { connection in
            while let request = try connection.readRequest(within: .seconds(60)) {
                if request.target == "/large" {
                    try connection.send("HTTP/1.1 200 OK\r\nContent-Length: \(large.count)\r\n\r\n")
                    try? connection.send(large, within: .seconds(60))
                } else {
                    try connection.send(ok())
                }
            }
        }
        try withProxy(to: origin) { (proxy) throws in
            #expect(try proxy.exchange(Self.get).status == 200)
            var snapshot = try proxy.written()
            let limit = proxy.program.residentBytes + 24 << 20
            snapshot.process.overload.maxMemoryBytes = limit
            try proxy.apply(snapshot)
            var stuck: [RawConnection] = []
            var refusal: HTTPMessage?
            while refusal == nil, stuck.count < 3000 {
                for _ in 0..<20 {
                    let caller = try proxy.connect(receiveBuffer: 4096)
                    try caller.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
                    stuck.append(caller)
                }
                usleep(20_000)
                let answer = try proxy.exchange(Self.get)
                if answer.status != 200 { refusal = answer }
            }
            let answer = try #require(refusal)
            #expect(answer.status == 503)
            #expect(answer.value("x-envoy-overloaded") == "true")
            #expect(answer.value("x-outrigger-overloaded") == "true")
            #expect(answer.value("connection") == "close")
            #expect(answer.value("x-outrigger-details") == "OM overload")
            #expect(try proxy.adminText("/ready") == "LIVE\n")
            #expect(proxy.residentBytes < limit + 16 << 20)
            stuck = []
            try eventually("it serves again", within: .seconds(60)) { try proxy.exchange(Self.get).status == 200 }
        }
    }

    // MARK: Bodies that hardly move

    @Test(
        "a byte now and then is worth no more than silence: a request's body ends with 408, a response's with a reset; one that moves lives"
    )
    func slowBodies() throws {
        let origin = try Origin(records: false) { connection in
            while let request = try connection.readRequest(within: .seconds(60)) {
                if request.target == "/large" {
                    let body = [UInt8](repeating: 0x61, count: 8 << 20)
                    try connection.send("HTTP/1.1 200 OK\r\nContent-Length: \(body.count)\r\n\r\n")
                    try? connection.send(body, within: .seconds(60))
                } else {
                    try connection.send(ok())
                }
            }
        }
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1, action: { $0.idleTimeout = .seconds(4) }) }) {
            (proxy) throws in
            let giver = try proxy.connect()
            try giver.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
            let mover = try proxy.connect()
            try mover.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
            let taker = try proxy.connect(receiveBuffer: 4096)
            try taker.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            var moved = 0
            var answer: HTTPMessage?
            var end: RawConnection.End?
            for _ in 0..<120 where answer == nil || end == nil {
                try? giver.send("x")
                if try !giver.isSilent(for: .milliseconds(100)), answer == nil { answer = try giver.readResponse() }
                try mover.send([UInt8](repeating: 0x62, count: 2000))
                moved += 2000
                if end == nil {
                    do {
                        if try taker.receiveRaw(max: 100, within: .seconds(5)).isEmpty { end = .closed }
                    } catch {
                        end = .reset
                    }
                }
                usleep(200_000)
            }
            #expect(answer?.status == 408)
            #expect(answer?.value("x-outrigger-details") == "SI request_body_too_slow")
            #expect(end != nil)
            try mover.send([UInt8](repeating: 0x62, count: 1_000_000 - moved))
            let last = try mover.readResponse()
            #expect(last.status == 200, "\(last.headText)")
        }
    }

    // MARK: A stuck worker

    /// Stops a worker in the middle of a turn of its loop.
    private static func hold(_ proxy: Proxy, worker: Int, seconds: Int) throws -> Program {
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/Peers/hold_thread.py"
        let holder = try Program("python3", [script, "\(proxy.program.pid)", "worker-\(worker)", "\(seconds)"])
        try eventually("the worker is traced; it said: \(holder.errors)") { holder.output.contains("attached") }
        return holder
    }

    private static func snapshot(_ port: UInt16, _ admin: UInt16, _ origin: Origin, stuckTime: Duration) -> Snapshot {
        Config.http(
            listen: port, to: [origin.port], admin: admin,
            process: {
                $0.workers = 1
                $0.overload.stuckTime = stuckTime
            })
    }

    #if arch(x86_64)
        @Test("a worker that is stuck for 2 s is told, and goes on if it can")
        func stuckWorker() throws {
            let origin = try Origin.answering(ok())
            try withProxy({ Self.snapshot($0, $1, origin, stuckTime: .seconds(60)) }) { (proxy) throws in
                let holder = try Self.hold(proxy, worker: 0, seconds: 5)
                let caller = try proxy.connect()
                try caller.send(Self.get)
                try proxy.waitForLog("worker 0 has not returned to its loop for")
                #expect(proxy.log.contains("busy with descriptor"), "\(proxy.log)")
                #expect(try proxy.adminText("/ready") == "LIVE\n")
                #expect(try proxy.count("server.watchdog_mega_miss") == 1)
                #expect(try caller.readResponse().status == 200)
                try proxy.waitForLog("worker 0 goes on after")
                try holder.wait()
            }
        }

        @Test("one that stays stuck ends the process with status 70, for others to start it again")
        func hopelessWorker() throws {
            let origin = try Origin.answering(ok())
            let proxy = try Proxy { Self.snapshot($0, $1, origin, stuckTime: .seconds(3)) }
            defer { proxy.program.end() }
            // When it lets go, there is nothing left to go on.
            let holder = try Self.hold(proxy, worker: 0, seconds: 8)
            defer { holder.end() }
            try proxy.connect().send(Self.get)
            #expect(try proxy.program.wait().status == 70)
            #expect(proxy.log.contains("ending with status 70"), "\(proxy.log)")
        }
    #endif
}
