import Base
import Foundation
import Glibc
import ProxyConfig
import TestSupport
import Testing

/// Damaged traffic of many kinds at once, against the built program: it neither dies nor leaks, and good traffic goes on beside it.
@Suite(.serialized) struct StressTests {
    /// Messages as they should be, to be damaged.
    private static let requests = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world",
        "POST /y HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-T: 1\r\n\r\n",
        "PUT /z HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbytes of another protocol",
        "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/../b?c HTTP/1.1\r\nHost: b\r\n\r\n", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    ]
    private static let answers = [
        ok("body"), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-T: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nuntil the end", "HTTP/1.1 100 Continue\r\n\r\n" + ok(), "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbytes of another protocol",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 503 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    ]

    /// One to three messages behind each other, with some bytes changed, lost, doubled or added.
    private static func damaged(_ messages: [String], _ random: inout SeededRandom) -> [UInt8] {
        var bytes: [UInt8] = []
        for _ in 0...random.below(3) { bytes += Array(messages[random.below(messages.count)].utf8) }
        for _ in 0..<random.below(4) where !bytes.isEmpty {
            let place = random.below(bytes.count)
            switch random.below(5) {
            case 0: bytes[place] = UInt8(truncatingIfNeeded: random.next())
            case 1: bytes.remove(at: place)
            case 2: bytes.insert(Array("\r\n :;,0\u{0}\t".utf8)[random.below(9)], at: place)
            case 3: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + 20)], at: place)
            default: bytes.removeSubrange(place...)
            }
        }
        return bytes
    }

    @Test("damaged requests and answers, cut anywhere and ended anyhow, kill nothing and leave nothing open", arguments: [1, 2])
    func damage(seed: Int) throws {
        let number = Counter()
        let origin = try Origin(records: false) { connection in
            number.add()
            var random = SeededRandom(seed: UInt64(seed * 1_000_000 + number.value))
            while true {
                guard !(try connection.receive(within: .seconds(2))).isEmpty else { return }
                let answer = Self.damaged(Self.answers, &random)
                let cut = random.below(answer.count + 1)
                try connection.send(Array(answer[..<cut]))
                try connection.send(Array(answer[cut...]))
                switch random.below(6) {
                case 0: return
                case 1: return connection.reset()
                case 2: connection.finishSending()
                default: break
                }
            }
        }
        let good = try Origin.answering(ok("good"), records: false)
        try withProxy({ port, admin in
            var snapshot = Config.http(
                listen: port, to: [origin.port], admin: admin, manager: { $0.requestHeadersTimeout = .seconds(1) },
                action: { action in
                    action.timeout = .seconds(1)
                    action.idleTimeout = .seconds(1)
                })
            snapshot.clusters.append(Config.cluster("good", [good.port]))
            snapshot.routeConfigurations[0].virtualHosts[0].routes.insert(Config.route("good", prefix: "/good", to: "good"), at: 0)
            return snapshot
        }) { (proxy) throws in
            let before = proxy.program.descriptorCount
            let port = proxy.port
            let load = Load(port: port, callers: 1, path: "/good")
            try Threads.run(6) { thread in
                var random = SeededRandom(seed: UInt64(seed * 100 + thread))
                for _ in 0..<250 {
                    let caller = try RawConnection(to: port)
                    let bytes = Self.damaged(Self.requests, &random)
                    let cut = random.below(bytes.count + 1)
                    try? caller.send(Array(bytes[..<cut]))
                    try? caller.send(Array(bytes[cut...]))
                    switch random.below(4) {
                    case 0: caller.reset()
                    case 1: caller.finishSending()
                    case 2: _ = try? caller.receive(within: .milliseconds(50))
                    default: break
                    }
                }
            }
            let tally = try load.stop()
            #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))")
            try eventually("all is closed but for idle upstream connections; \(proxy.program.descriptorCount) are open, \(before) were") {
                proxy.program.descriptorCount <= before + 4
            }
            var active: [Substring] = []
            try eventually("nothing is active: \(active)") {
                let stats = try RawConnection(to: proxy.admin).exchange("GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n").bodyText
                active = stats.split(separator: "\n").filter { $0.contains("rq_active:") || $0.contains("upgrades_active:") }
                return !active.isEmpty && active.allSatisfy { $0.hasSuffix(": 0") }
            }
        }
    }
}
