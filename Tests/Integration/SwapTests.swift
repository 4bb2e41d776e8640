import Base
import Foundation
import Glibc
import ProxyConfig
import TestSupport
import Testing
import XDSWire

/// A new snapshot changes what new requests get, and nothing for those that are under way.
@Suite(.serialized) struct SwapTests {
    private static let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    @Test("200 swaps under load fail no request: routes, clusters, endpoints and listeners come and go")
    func swapsUnderLoad() throws {
        let origins = try ["one", "two", "three"].map { try Origin.answering(ok($0), records: false) }
        let proxy = try Proxy { Config.http(listen: $0, to: [origins[0].port], admin: $1) }
        defer { proxy.program.end() }
        let extra = try Ports.free()
        let load = Load(port: proxy.port, callers: 3)
        for swap in 1...200 {
            var snapshot = Config.http(listen: proxy.port, to: [origins[swap % 3].port], admin: proxy.admin)
            snapshot.routeConfigurations[0].virtualHosts[0].routes[0].name = "r\(swap)"
            // The endpoints of one cluster change, and every second time the route goes to another cluster instead.
            if swap % 2 == 0 {
                snapshot.clusters[0] = Config.cluster("other-\(swap)", [origins[swap % 3].port, origins[(swap + 1) % 3].port])
                snapshot.routeConfigurations = [Config.routes([Config.route("r\(swap)", prefix: "/", to: "other-\(swap)")])]
            }
            if swap % 5 < 2 { snapshot.listeners.append(Config.listener("extra", extra)) }
            try proxy.apply(snapshot)
            if swap % 5 < 2 { #expect(try RawConnection(to: extra).exchange(Self.get).status == 200) }
        }
        try load.wait(for: 100)
        let tally = try load.stop()
        #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))")
        #expect(tally.total > 200)
        #expect(!proxy.log.contains("refused"), "\(proxy.log)")
        #expect(try proxy.stop() == 0)
    }

    @Test("a removed listener refuses new connections, an added one takes them, and the others never notice")
    func listenersComeAndGo() throws {
        let origin = try Origin.answering(ok(), records: false)
        let second = try Ports.free()
        try withProxy(to: origin) { (proxy) throws in
            let one = Config.http(listen: proxy.port, to: [origin.port], admin: proxy.admin)
            var two = one
            two.listeners.append(Config.listener("second", second))
            #expect(throws: TestFailure.self) { try RawConnection(to: second) }
            let load = Load(port: proxy.port, callers: 1)
            for _ in 0..<5 {
                try proxy.write(two)
                try eventually("the second listener is there") { (try? RawConnection(to: second)) != nil }
                #expect(try RawConnection(to: second).exchange(Self.get).status == 200)
                try proxy.write(one)
                try eventually("the second listener is gone") { (try? RawConnection(to: second)) == nil }
            }
            #expect(try load.stop().failures == 0)
        }
    }

    @Test("snapshots that come faster than they are applied end with the last one")
    func burst() throws {
        let origin = try Origin.answering(ok(), records: false)
        let second = try Ports.free()
        try withProxy(to: origin) { (proxy) throws in
            let one = Config.http(listen: proxy.port, to: [origin.port], admin: proxy.admin)
            var two = one
            two.listeners.append(Config.listener("second", second))
            for _ in 0..<100 {
                try proxy.write(two)
                try proxy.write(one)
            }
            var last = two
            last.routeConfigurations[0].virtualHosts[0].name = "last"
            try proxy.apply(last)
            #expect(try RawConnection(to: second).exchange(Self.get).status == 200)
            #expect(!proxy.log.contains("refused"), "\(proxy.log)")
        }
    }

    @Test("the same snapshot again is no change: nothing is applied, and idle upstream connections stay")
    func identical() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            #expect(try caller.exchange(Self.get).status == 200)
            let same = Config.http(listen: proxy.port, to: [origin.port], admin: proxy.admin)
            for _ in 0..<5 { try proxy.write(same) }
            proxy.program.signal(SIGHUP)
            // A change behind the others: when it is applied, all of them have been looked at.
            var marker = same
            marker.clusters.append(Config.cluster("marker", [1]))
            try proxy.apply(marker)
            #expect(proxy.log.ranges(of: " applied by ").count == 2, "\(proxy.log)")
            #expect(try caller.exchange(Self.get).status == 200)
        }
        #expect(origin.connections.count == 1)
    }

    @Test("a listener that becomes TCP, and HTTP again, serves each new connection as what it is then")
    func kindChanges() throws {
        let origin = try Origin { connection in
            try connection.send(ok("origin"))
            _ = try connection.readToEnd()
        }
        try withProxy({ Config.tcp(listen: $0, to: [origin.port], admin: $1) }) { (proxy) throws in
            for round in 0..<3 {
                let raw = try proxy.connect()
                #expect(try raw.readResponse().bodyText == "origin")
                var http = Config.http(listen: proxy.port, to: [origin.port], admin: proxy.admin)
                http.routeConfigurations = [
                    Config.routes([
                        Route(
                            name: "r\(round)", match: RouteMatch(path: .prefix("/")),
                            action: .reply(DirectReply(status: 200, body: "proxy")))
                    ])
                ]
                try proxy.apply(http)
                let caller = try proxy.connect()
                #expect(try caller.exchange(Self.get).bodyText.hasPrefix("proxy"))
                // The TCP connection from before goes on as such.
                try raw.send("still here")
                try eventually("the origin hears it") { origin.receivedText.contains("still here") }
                var tcp = Config.tcp(listen: proxy.port, to: [origin.port], admin: proxy.admin)
                tcp.clusters.append(Config.cluster("round-\(round)", [1]))
                try proxy.apply(tcp)
                // And the HTTP connection ends, in order.
                #expect(try caller.readToEnd() == ([], .closed))
            }
        }
    }

    @Test("a websocket lives through swaps, even of its listener's routes and cluster")
    func tunnelSurvives() throws {
        let origin = try Origin { connection in
            _ = try connection.read(until: "\r\n\r\n")
            try connection.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            while true { try connection.send(try connection.receive()) }
        }
        let other = try Origin.answering(ok("other"))
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            #expect(try caller.readResponse().status == 101)
            for swap in 0..<20 {
                try caller.send("ping")
                #expect(try caller.read(exactly: 4) == Array("ping".utf8))
                var snapshot = Config.http(listen: proxy.port, to: [other.port], admin: proxy.admin)
                snapshot.clusters[0] = Config.cluster("swap-\(swap)", [other.port])
                snapshot.routeConfigurations = [Config.routes([Config.route("r", prefix: "/", to: "swap-\(swap)")])]
                try proxy.apply(snapshot)
            }
            try caller.send("ping")
            #expect(try caller.read(exactly: 4) == Array("ping".utf8))
            #expect(try proxy.exchange(Self.get).bodyText == "other")
        }
    }

    @Test("a long answer goes on from its cluster after that cluster is gone")
    func longAnswerSurvives() throws {
        let size = 20 << 20
        let isSwapped = Counter()
        let origin = try Origin(records: false) { connection in
            _ = try connection.readRequest()
            try connection.send("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
            try connection.sendPattern(1 << 16)
            try eventually("the swap is done") { isSwapped.value == 1 }
            try connection.sendPattern(size - 1 << 16)
        }
        let other = try Origin.answering(ok("other"))
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send(Self.get)
            _ = try caller.read(until: "\r\n\r\n")
            var snapshot = Config.http(listen: proxy.port, to: [other.port], admin: proxy.admin)
            snapshot.clusters[0] = Config.cluster("other", [other.port])
            snapshot.routeConfigurations = [Config.routes([Config.route("r", prefix: "/", to: "other")])]
            try proxy.apply(snapshot)
            isSwapped.add()
            #expect(try caller.readPattern(1 << 16).count == 1 << 16)
            #expect(try caller.readPattern(size - 1 << 16).count == size - 1 << 16)
            #expect(try caller.exchange(Self.get).bodyText == "other")
        }
    }

    @Test(
        "a bad snapshot is refused with its reason, and the old one keeps serving",
        arguments: [
            ("truncated", "cut off"), ("garbage", "snapshot file"), ("empty", "snapshot"), ("port", "in use"), ("route", "nowhere"),
        ])
    func badSnapshot(kind: String, reason: String) throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            var next = Config.http(listen: proxy.port, to: [origin.port], admin: proxy.admin)
            next.clusters.append(Config.cluster("new", [1]))
            let bytes: [UInt8]
            switch kind {
            case "truncated": bytes = Array(SnapshotFile.encode(next).dropLast(20))
            case "garbage": bytes = Pattern.bytes(5000)
            case "empty": bytes = []
            case "port":
                next.listeners.append(Config.listener("taken", origin.port))
                bytes = SnapshotFile.encode(next)
            default:
                next.listeners.append(Config.listener("lost", try Ports.free(), routes: "nowhere"))
                bytes = SnapshotFile.encode(next)
            }
            try proxy.folder.replace("snapshot", with: bytes)
            try proxy.waitForLog("refused, keeping version")
            #expect(proxy.log.contains(reason), "\(proxy.log)")
            #expect(try proxy.exchange(Self.get).status == 200)
            // And a good one after it is taken.
            next = Config.http(listen: proxy.port, to: [origin.port], admin: proxy.admin)
            next.clusters.append(Config.cluster("good", [1]))
            try proxy.apply(next)
        }
    }

    @Test("a snapshot that is written in place, in pieces, is taken when it is whole; one that goes missing changes nothing")
    func writtenInPlace() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            var next = Config.http(listen: proxy.port, to: [origin.port], admin: proxy.admin)
            next.clusters.append(Config.cluster("new", [1]))
            let bytes = SnapshotFile.encode(next)
            let handle = try #require(FileHandle(forWritingAtPath: proxy.folder.file("snapshot")))
            try handle.truncate(atOffset: 0)
            try handle.write(contentsOf: bytes[..<(bytes.count / 2)])
            proxy.program.signal(SIGHUP)
            try proxy.waitForLog("refused, keeping version")
            #expect(try proxy.exchange(Self.get).status == 200)
            try handle.write(contentsOf: bytes[(bytes.count / 2)...])
            try handle.close()
            try proxy.waitForLog("version \(SnapshotFile.version(of: next)) applied by")

            try FileManager.default.removeItem(atPath: proxy.folder.file("snapshot"))
            proxy.program.signal(SIGHUP)
            try eventually("the missing file is told") { proxy.log.contains("No such file") }
            #expect(try proxy.exchange(Self.get).status == 200)
            next.clusters.append(Config.cluster("newer", [1]))
            try proxy.apply(next)
        }
    }

    @Test("SIGHUP tries a refused snapshot again: a port may be free by now")
    func retryAfterRefusal() throws {
        let origin = try Origin.answering(ok())
        let taken = try Origin { _ in }
        try withProxy(to: origin) { (proxy) throws in
            var next = Config.http(listen: proxy.port, to: [origin.port], admin: proxy.admin)
            next.listeners.append(Config.listener("second", taken.port))
            try proxy.write(next)
            try proxy.waitForLog("refused, keeping version")
            taken.stop()
            proxy.program.signal(SIGHUP)
            try eventually("the second listener is there") { (try? RawConnection(to: taken.port).exchange(Self.get).status) == 200 }
        }
    }

    @Test("an ejected endpoint stays ejected through a swap that keeps its cluster")
    func ejectionSurvives() throws {
        let good = try Origin.answering(ok(), records: false)
        let bad = try Origin.answering("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", records: false)
        func snapshot(_ port: UInt16, _ admin: UInt16) -> Snapshot {
            Config.http(
                listen: port, to: [good.port, bad.port], admin: admin,
                cluster: {
                    $0.outlierDetection = OutlierDetection(
                        consecutive5xx: 3, interval: .seconds(600), baseEjectionTime: .seconds(600), maxEjectionTime: .seconds(600),
                        maxEjectionPercent: 100)
                })
        }
        try withProxy(snapshot) { (proxy) throws in
            let caller = try proxy.connect()
            try eventually("the bad one is ejected") {
                _ = try caller.exchange(Self.get)
                return proxy.log.contains("EJECT")
            }
            var next = snapshot(proxy.port, proxy.admin)
            next.clusters[0].connectTimeout = .seconds(2)
            try proxy.apply(next)
            for _ in 0..<50 { #expect(try caller.exchange(Self.get).status == 200) }
        }
    }
}
