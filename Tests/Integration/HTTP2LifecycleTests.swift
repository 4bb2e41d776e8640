import Glibc
import ProxyConfig
import Synchronization
import TestSupport
import Testing

/// How connections of HTTP/2 begin, fill up, grow old and end, and what becomes of their streams.
@Suite struct HTTP2LifecycleTests {
    private static let toHTTP2 = Pairing(downstream: .http2, upstream: .http2)
    private static let toHTTP1 = Pairing(downstream: .http2, upstream: .http1)

    private static func oneWorker(
        _ port: UInt16, _ admin: UInt16, to ports: [UInt16], manager: (inout HTTPConnectionManager) -> Void = { _ in },
        cluster: (inout Cluster) -> Void = { _ in }
    ) -> Snapshot {
        Config.http(
            listen: port, to: ports, admin: admin, process: { $0.workers = 1 }, manager: manager,
            cluster: {
                $0.upstreamProtocol = .http2
                cluster(&$0)
            })
    }

    // MARK: The end of a connection of a caller

    @Test("SIGTERM: GOAWAY in two steps, what is opened between them is answered, open streams finish, and the status is 0")
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
        let idle = try HTTP2Peer(to: proxy.port)
        #expect(try idle.exchange().status == 200)
        let busy = try HTTP2Peer(to: proxy.port)
        // The round trip between the two steps waits for this answer.
        busy.answersPings = false
        let slow = try busy.request("GET", "/slow")
        try eventually("the request is at the origin") { origin.receivedText.contains("/slow") }

        proxy.program.signal(SIGTERM)
        try busy.wait("the first GOAWAY") { busy.goAways.count == 1 }
        #expect(busy.goAways[0] == (0x7fff_ffff, .noError))
        // It was on its way when the GOAWAY came: not lost.
        #expect(try busy.exchange("GET", "/between").bodyText == "/between")
        try busy.wait("a PING behind it") { !busy.pings.isEmpty }
        try busy.send(.ping(busy.pings[0], isAnswer: true))
        try busy.wait("the second GOAWAY") { busy.goAways.count == 2 }
        #expect(busy.goAways[1] == (slow + 2, .noError), "\(busy.goAways)")
        // What comes behind it is not processed: no answer, and it does not keep the connection open.
        _ = try busy.request("GET", "/behind")
        mayAnswer.add()
        let answer = try busy.response(slow)
        #expect(answer.isWhole && answer.bodyText == "/slow")
        #expect(try busy.readToEnd() == .closed)
        #expect(try idle.readToEnd() == .closed)
        #expect(idle.goAways.last?.code == .noError)
        #expect(try proxy.program.wait().status == 0)
        #expect(!origin.receivedText.contains("/behind"))
    }

    @Test("SIGTERM: what does not finish within the drain time is cut, and the status is still 0")
    func drainDeadline() throws {
        let origin = try Origin { connection in connection.stall() }
        let proxy = try Proxy(arguments: ["--drain-time", "1"]) { Config.http(listen: $0, to: [origin.port], admin: $1) }
        defer { proxy.program.end() }
        let caller = try HTTP2Peer(to: proxy.port)
        let stream = try caller.request()
        try eventually("the request is at the origin") { origin.connections.count == 1 }
        #expect(try proxy.stop() == 0)
        _ = try caller.readToEnd()
        #expect(caller.streams[stream]?.isWhole != true)
    }

    @Test("no stream fails that the last GOAWAY does not disown, while the proxy drains under load", arguments: Wire.allCases)
    func drainUnderLoad(upstream: Wire) throws {
        let origin = try Origin.speaking(upstream) { _ in Reply("ok") }
        let proxy = try Proxy { port, admin in
            Config.http(
                listen: port, to: [origin.port], admin: admin,
                cluster: { $0.upstreamProtocol = upstream == .http2 ? .http2 : .http1 })
        }
        defer { proxy.program.end() }
        let answered = Counter()
        let port = proxy.port
        let load = Threads.start(4) { _ in
            while true {
                // Refused before a request is how a drain looks.
                guard let caller = try? HTTP2Peer(to: port) else { return }
                var open: [UInt32] = []
                do {
                    while caller.goAways.isEmpty {
                        while open.count < 8 { open.append(try caller.request()) }
                        try caller.wait("an answer") { open.contains { caller.streams[$0]?.end.isOpen == false } }
                        open.removeAll { caller.streams[$0]?.end.isOpen == false }
                    }
                    _ = try caller.readToEnd()
                } catch {
                    _ = try? caller.readToEnd()
                }
                let last = caller.goAways.last?.lastStream ?? 0
                for (stream, message) in caller.streams where stream <= last {
                    guard message.isWhole, message.status == 200 else { throw TestFailure("stream \(stream) of \(last): \(message)") }
                    answered.add()
                }
                // What was asked and never heard of is in nobody's table.
                for stream in open where stream <= last && caller.streams[stream] == nil && last < 0x7fff_ffff {
                    throw TestFailure("stream \(stream) of \(last) got nothing")
                }
            }
        }
        try eventually("load runs") { try proxy.stat(#"envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="egress"}"#) > 300 }
        #expect(try proxy.stop() == 0)
        try load.join()
        #expect(answered.value > 300)
    }

    @Test(
        "snapshots change under h2load, and no request fails", .enabled(if: Program.exists("h2load"), "needs h2load"),
        arguments: Wire.allCases)
    func swapsUnderLoad(upstream: Wire) throws {
        let servers = try (0..<2).map { _ in try Servers.nginx(http2: upstream == .http2) }
        defer { servers.forEach { $0.program.end() } }
        func snapshot(_ port: UInt16, _ admin: UInt16, _ swap: Int) -> Snapshot {
            let name = "origin-\(swap % 5)"
            var snapshot = Config.http(listen: port, to: [], admin: admin)
            var cluster = Config.cluster(name, [servers[swap % 2].port])
            cluster.upstreamProtocol = upstream == .http2 ? .http2 : .http1
            snapshot.clusters = [cluster]
            snapshot.routeConfigurations = [Config.routes([Config.route("r\(swap)", prefix: "/", to: name)])]
            return snapshot
        }
        try withProxy({ snapshot($0, $1, 0) }) { (proxy) throws in
            let load = try Program("h2load", ["-D4", "-c8", "-m10", "http://127.0.0.1:\(proxy.port)/"])
            defer { load.end() }
            for swap in 1...40 { try proxy.apply(snapshot(proxy.port, proxy.admin, swap)) }
            let result = HTTP2ProgramTests.LoadResult(try load.wait(within: .seconds(60)).output)
            #expect(result.good > 500 && result.failed == 0 && result.errored == 0 && result.text.contains(", 0 5xx"), "\(result.text)")
        }
    }

    @Test("an idle connection is told GOAWAY and closed; one with a stream is not")
    func idle() throws {
        let origin = try Origin { connection in
            _ = try connection.readRequest()
            _ = try connection.isSilent(for: .milliseconds(1200))
            try connection.send(ok("late"))
        }
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1, manager: { $0.idleTimeout = .milliseconds(400) }) }) {
            (proxy) throws in
            // On a busy machine the request may come too late.
            var caller = try HTTP2Peer(to: proxy.port)
            try eventually("a request is in time") {
                if (try? caller.exchange().bodyText) == "late" { return true }
                caller = try HTTP2Peer(to: proxy.port)
                return false
            }
            #expect(try caller.readToEnd() == .closed)
            #expect(caller.goAways.last?.code == .noError)
        }
    }

    @Test("a connection that has reached its age is left in peace: GOAWAY, its streams finish, and the next one is new")
    func age() throws {
        let origin = try Origin { connection in
            while let request = try connection.readRequest() {
                if request.target == "/slow" { _ = try connection.isSilent(for: .milliseconds(1500)) }
                try connection.send(ok())
            }
        }
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1, manager: { $0.maxConnectionAge = .milliseconds(600) }) }) {
            (proxy) throws in
            // On a busy machine the request may come too late.
            try eventually("a stream is open when its connection has reached its age") {
                let caller = try HTTP2Peer(to: proxy.port)
                guard let slow = try? caller.request("GET", "/slow"), let answer = try? caller.response(slow), answer.isWhole,
                    !caller.goAways.isEmpty
                else { return false }
                #expect(caller.goAways[0] == (0x7fff_ffff, .noError))
                #expect(try caller.readToEnd() == .closed)
                return true
            }
            #expect(try HTTP2Peer(to: proxy.port).exchange().isWhole)
        }
    }

    @Test("a caller who does not answer PING is given up while a stream is open; one who does is not")
    func keepalive() throws {
        let origin = try Origin { connection in
            _ = try connection.readRequest()
            _ = try connection.isSilent(for: .seconds(3))
            try connection.send(ok())
        }
        let keepalive = HTTP2Keepalive(interval: .milliseconds(200), timeout: .seconds(1))
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1, manager: { $0.http2.keepalive = keepalive }) }) {
            (proxy) throws in
            // On a busy machine an answer may come too late.
            try eventually("all PINGs are answered in time") {
                let alive = try HTTP2Peer(to: proxy.port)
                return (try? alive.exchange().isWhole) == true && !alive.pings.isEmpty
            }
            let dead = try HTTP2Peer(to: proxy.port)
            dead.answersPings = false
            let lost = try dead.request()
            _ = try dead.readToEnd()
            #expect(dead.streams[lost]?.isWhole != true && !dead.pings.isEmpty)
        }
    }

    @Test("a caller's GOAWAY ends nothing: his streams are answered")
    func callerLeaves() throws {
        let mayAnswer = Counter()
        let origin = try Origin { connection in
            _ = try connection.readRequest()
            try eventually("the test says so") { mayAnswer.value == 1 }
            try connection.send(ok())
        }
        try withProxy(to: origin) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            let stream = try caller.request()
            try caller.send(.goAway(lastStream: 0, .noError))
            try eventually("the request is at the origin") { origin.connections.count == 1 }
            mayAnswer.add()
            #expect(try caller.response(stream).isWhole)
        }
    }

    @Test("a caller whose connection ends frees all endpoints of his streams", arguments: Wire.allCases)
    func callerGone(upstream: Wire) throws {
        let asked = Counter()
        let freed = Counter()
        let origin =
            try upstream == .http1
            ? Origin { connection in
                _ = try connection.readRequest()
                asked.add()
                _ = try connection.readToEnd()
                freed.add()
            }
            : Origin { connection in
                let peer = try HTTP2Peer(.server, over: connection)
                for _ in 0..<5 {
                    _ = try peer.nextRequest()
                    asked.add()
                }
                try peer.wait("five resets") { peer.streams.values.filter { $0.end == .reset(.cancel) }.count == 5 }
                freed.add(5)
            }
        try Pairing(downstream: .http2, upstream: upstream).withProxy(to: [origin.port]) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            for _ in 0..<5 { try caller.request() }
            try eventually("all are asked") { asked.value == 5 }
            caller.connection.reset()
            try eventually("all are free") { freed.value == 5 }
        }
    }

    // MARK: Connections to endpoints

    @Test("50 streams at once share one connection to their endpoint")
    func multiplexed() throws {
        let all = Counter()
        let origin = try Origin { connection in
            let peer = try HTTP2Peer(.server, over: connection)
            var open: [UInt32] = []
            while open.count < 50, let stream = try peer.nextRequest() { open.append(stream) }
            all.add(open.count)
            for stream in open.reversed() { try peer.answer(stream, body: Array("\(stream)".utf8)) }
            _ = try peer.readToEnd()
        }
        try withProxy({ Self.oneWorker($0, $1, to: [origin.port]) }) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            let streams = try (0..<50).map { _ in try caller.request() }
            for stream in streams { #expect(try caller.response(stream).isWhole) }
        }
        #expect(origin.connections.count == 1 && all.value == 50)
    }

    @Test("an endpoint's limit of streams is obeyed, and more connections are opened instead", arguments: [1, 3, 10])
    func streamLimit(limit: Int) throws {
        let open = Counter()
        let exceeded = Counter()
        let origin = try Origin { connection in
            let peer = try HTTP2Peer(.server, over: connection, settings: [.maxConcurrentStreams: UInt32(limit)])
            var mine: [UInt32] = []
            while peer.end == nil {
                _ = try? peer.step(within: .milliseconds(20))
                while let stream = peer.pendingRequest() {
                    guard mine.count == limit else {
                        mine.append(stream)
                        open.add()
                        continue
                    }
                    // Before it knew, the proxy may have opened more: those are refused (RFC 9113 section 5.1.2).
                    if peer.isAcknowledged { exceeded.add() }
                    try peer.send(.reset(stream, .refusedStream))
                }
                // None is answered before all are open somewhere.
                guard open.value >= 30 else { continue }
                for stream in mine { try peer.answer(stream, body: Array("ok".utf8)) }
                mine = []
            }
        }
        try withProxy({ Self.oneWorker($0, $1, to: [origin.port]) }) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            let streams = try (0..<30).map { _ in try caller.request() }
            for stream in streams {
                let answer = try caller.response(stream)
                #expect(answer.status == 200 && answer.isWhole, "\(answer)")
            }
        }
        #expect(exceeded.value == 0 && origin.connections.count >= 30 / limit)
    }

    @Test(
        "nghttpd with one stream a connection serves h2load, whose callers have ten",
        .enabled(if: Program.exists("h2load") && Program.exists("nghttpd")))
    func oneStreamAtATime() throws {
        let folder = try TemporaryFolder()
        try folder.replace("index.html", with: Array("ok".utf8))
        let (server, port) = try Servers.nghttpd(folder, ["-m", "1"])
        defer { server.end() }
        try Self.toHTTP2.withProxy(to: [port]) { (proxy) throws in
            let output = try Program.run("h2load", ["-n2000", "-c4", "-m10", "http://127.0.0.1:\(proxy.port)/"], within: .seconds(60))
                .output
            let result = HTTP2ProgramTests.LoadResult(output)
            #expect(result.good == 2000 && result.failed == 0, "\(output)")
        }
    }

    @Test("our own limit of streams is announced, and who passes it is refused those above it")
    func ownLimit() throws {
        let origin = try Origin { connection in connection.stall() }
        try withProxy({ Self.oneWorker($0, $1, to: [origin.port], manager: { $0.http2.maxConcurrentStreams = 5 }) }) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            // As long as he has not acknowledged the limit he may not know it; who passes it later has lost his connection.
            caller.acknowledgesSettings = false
            let streams = try (0..<8).map { _ in try caller.request() }
            for stream in streams[5...] { #expect(try caller.response(stream).end == .reset(.refusedStream)) }
            for stream in streams[..<5] { #expect(caller.streams[stream]?.end.isOpen ?? true) }
            #expect(caller.goAways.isEmpty && caller.settings[.maxConcurrentStreams] == 5)
        }
    }

    /// Answers every request but those that `refuse` picks, by their number on the connection from 0.
    private func refusing(
        _ connections: Counter, asked: Counter = Counter(),
        _ refuse: @escaping @Sendable (HTTP2Peer, UInt32, _ connection: Int) throws -> Bool
    ) throws -> Origin {
        try Origin { connection in
            connections.add()
            let number = connections.value
            let peer = try HTTP2Peer(.server, over: connection)
            while let stream = try peer.nextRequest(within: .seconds(600)) {
                asked.add()
                if try refuse(peer, stream, number) { continue }
                let request = try peer.whole(stream)
                try peer.answer(stream, body: Array("ok".utf8) + request.body)
            }
        }
    }

    @Test("streams above the last one of a GOAWAY are asked again elsewhere, and no caller hears of it", arguments: ["GET", "POST"])
    func goAwayOfEndpoint(method: String) throws {
        let connections = Counter()
        let origin = try refusing(connections) { peer, stream, number in
            guard number == 1, stream >= 5 else { return false }
            try peer.send(.goAway(lastStream: 3, .noError))
            return true
        }
        try withProxy({ Self.oneWorker($0, $1, to: [origin.port]) }) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            for count in 0..<6 {
                let answer = try caller.exchange(method, "/\(count)", body: method == "POST" ? Array("body".utf8) : nil)
                #expect(answer.status == 200 && answer.isWhole, "\(count): \(answer)")
                #expect(answer.bodyText == (method == "POST" ? "okbody" : "ok"))
            }
        }
        #expect(connections.value == 2)
    }

    @Test("a GOAWAY that disowns nothing lets its streams finish, and new ones go elsewhere")
    func gracefulEndpoint() throws {
        let connections = Counter()
        let mayAnswer = Counter()
        let origin = try Origin { connection in
            connections.add()
            let isFirst = connections.value == 1
            let peer = try HTTP2Peer(.server, over: connection)
            while let stream = try peer.nextRequest(within: .seconds(60)) {
                if isFirst {
                    try peer.send(.goAway(lastStream: 0x7fff_ffff, .noError))
                    try peer.roundTrip()
                    try peer.send(.goAway(lastStream: stream, .noError))
                    try eventually("the test says so") { mayAnswer.value == 1 }
                }
                try peer.answer(stream, body: Array((isFirst ? "old" : "new").utf8))
            }
        }
        try withProxy({ Self.oneWorker($0, $1, to: [origin.port]) }) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            let old = try caller.request()
            try eventually("the next ones have a connection of their own") {
                try caller.exchange(within: .seconds(5)).bodyText == "new"
            }
            mayAnswer.add()
            #expect(try caller.response(old).bodyText == "old")
        }
        #expect(connections.value == 2)
    }

    @Test("REFUSED_STREAM is asked again, and no endpoint is blamed for it", arguments: ["GET", "POST"])
    func refusedStream(method: String) throws {
        let connections = Counter()
        let refused = Counter()
        let origin = try refusing(connections) { peer, stream, _ in
            guard stream % 4 == 3 else { return false }
            refused.add()
            try peer.send(.reset(stream, .refusedStream))
            return true
        }
        try withProxy({
            Self.oneWorker(
                $0, $1, to: [origin.port],
                cluster: { $0.outlierDetection = OutlierDetection(consecutive5xx: 1, interval: .seconds(600), maxEjectionPercent: 100) })
        }) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            for _ in 0..<20 {
                #expect(try caller.exchange(method, "/", body: method == "POST" ? Array("body".utf8) : nil).status == 200)
            }
            #expect(refused.value >= 10 && !proxy.log.contains("EJECT"), "\(refused.value) \(proxy.log)")
        }
    }

    @Test("an endpoint that refuses everything is not asked for ever")
    func refusesAll() throws {
        let asked = Counter()
        let origin = try refusing(Counter(), asked: asked) { peer, stream, _ in
            try peer.send(.reset(stream, .refusedStream))
            return true
        }
        try withProxy({ Self.oneWorker($0, $1, to: [origin.port]) }) { (proxy) throws in
            let answer = try HTTP2Peer(to: proxy.port).exchange()
            #expect(answer.status == 503 && answer.isWhole, "\(answer)")
            #expect((1...10).contains(asked.value), "\(asked.value)")
        }
    }

    @Test("a reset that does not say REFUSED_STREAM is not asked again", arguments: [HTTP2Code.internalError, .cancel, .noError])
    func resetByEndpoint(code: HTTP2Code) throws {
        let asked = Counter()
        let origin = try refusing(Counter(), asked: asked) { peer, stream, _ in
            try peer.send(.reset(stream, code))
            return true
        }
        try withProxy({ Self.oneWorker($0, $1, to: [origin.port]) }) { (proxy) throws in
            let answer = try HTTP2Peer(to: proxy.port).exchange("POST", "/", body: [120])
            #expect(answer.status == 503 && answer.isWhole, "\(answer)")
            #expect(answer.value("x-outrigger-details")?.contains("UR ") == true, "\(answer.fields)")
            #expect(asked.value == 1)
        }
    }

    @Test("an endpoint that does not answer PING is given up while a stream is open")
    func keepaliveOfEndpoint() throws {
        let origin = try Origin { connection in
            let peer = try HTTP2Peer(.server, over: connection)
            peer.answersPings = false
            _ = try peer.readToEnd()
        }
        let keepalive = HTTP2Keepalive(interval: .milliseconds(200), timeout: .milliseconds(300))
        try withProxy({ Self.oneWorker($0, $1, to: [origin.port], cluster: { $0.http2.keepalive = keepalive }) }) { (proxy) throws in
            let answer = try HTTP2Peer(to: proxy.port).exchange()
            #expect(answer.status == 503 && answer.isWhole, "\(answer)")
        }
    }

    @Test("a connection to an endpoint that has reached its age takes no more requests, and none fails")
    func ageOfUpstream() throws {
        let connections = Counter()
        let ended = Counter()
        let origin = try Origin { connection in
            connections.add()
            let peer = try HTTP2Peer(.server, over: connection)
            while let stream = try peer.nextRequest(within: .seconds(60)) {
                _ = try peer.whole(stream)
                try peer.answer(stream, body: Array("ok".utf8))
            }
            ended.add()
        }
        try withProxy({ Self.oneWorker($0, $1, to: [origin.port], cluster: { $0.maxConnectionAge = .milliseconds(300) }) }) {
            (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            try eventually("three connections were used up") {
                let answer = try caller.exchange()
                #expect(answer.status == 200 && answer.isWhole)
                return ended.value >= 3
            }
            #expect(connections.value >= 3)
        }
    }

    @Test("an idle connection to an endpoint is closed")
    func idleUpstream() throws {
        let ended = Counter()
        let origin = try Origin { connection in
            let peer = try HTTP2Peer(.server, over: connection)
            while let stream = try peer.nextRequest(within: .seconds(60)) { try peer.answer(stream) }
            ended.add()
        }
        try withProxy({ Self.oneWorker($0, $1, to: [origin.port], cluster: { $0.idleTimeout = .milliseconds(300) }) }) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            #expect(try caller.exchange().status == 200)
            try eventually("it is closed") { ended.value == 1 }
            #expect(try caller.exchange().status == 200)
        }
    }

    @Test("an endpoint that closes an idle connection costs nobody a request")
    func idleRace() throws {
        let origin = try Origin { connection in
            let peer = try HTTP2Peer(.server, over: connection)
            guard let stream = try peer.nextRequest(within: .seconds(60)) else { return }
            _ = try peer.whole(stream)
            try peer.answer(stream, body: Array("ok".utf8))
            // No GOAWAY: it is just gone.
        }
        try withProxy({ Self.oneWorker($0, $1, to: [origin.port]) }) { (proxy) throws in
            let caller = try HTTP2Peer(to: proxy.port)
            for count in 0..<50 {
                let answer = try caller.exchange()
                #expect(answer.status == 200, "\(count): \(answer)")
            }
        }
    }
}
