import Foundation
import ProxyConfig
import TestSupport
import Testing

/// TCP and WebSocket through TLS on either side, or both.
@Suite struct TLSTunnelTests {
    /// Where there is TLS.
    enum Sides: String, CaseIterable, Sendable {
        case downstream
        case upstream
        case both

        var isDownstream: Bool { self != .upstream }
        var isUpstream: Bool { self != .downstream }
    }

    private let certificates = MeshCertificates.shared

    /// An origin that speaks TLS if the upstream side does.
    private func origin(_ sides: Sides, _ script: @escaping Origin.Script) throws -> Origin {
        let settings = certificates.endpoint(protocols: [])
        return try Origin(records: false) { connection in
            if sides.isUpstream { try connection.startTLS(.server, settings) }
            try script(connection)
        }
    }

    private func open(_ proxy: Proxy, _ sides: Sides) throws -> RawConnection {
        sides.isDownstream ? try .tls(to: proxy.port, certificates.caller()) : try proxy.connect()
    }

    private func with(_ sides: Sides, _ snapshot: @escaping (UInt16, UInt16) -> Snapshot, _ body: (Proxy) throws -> Void) throws {
        try withProxy(
            { port, admin in
                var snapshot = snapshot(port, admin)
                if sides.isDownstream { snapshot = snapshot.listening(certificates.downstream(alpn: [])) }
                if sides.isUpstream { snapshot = snapshot.calling(certificates.upstream(alpn: [])) }
                return snapshot
            }, body)
    }

    private func withTCP(_ sides: Sides, _ origin: Origin, _ body: (Proxy) throws -> Void) throws {
        try with(sides, { Config.tcp(listen: $0, to: [origin.port], admin: $1) }, body)
    }

    // MARK: TCP

    @Test("TCP: 30 MB pass each way, each side finishes alone by close_notify, and memory stays small", arguments: Sides.allCases)
    func large(sides: Sides) throws {
        let size = 30 << 20
        let origin = try origin(sides) { connection in
            guard try connection.readPattern(size).isIntact, try connection.receive().isEmpty else { return }
            try connection.sendPattern(size)
            connection.finishSending()
        }
        try withTCP(sides, origin) { (proxy) throws in
            let caller = try open(proxy, sides)
            try caller.sendPattern(size)
            caller.finishSending()
            #expect(try caller.readPattern(size) == (size, true))
            #expect(try caller.readToEnd() == ([], .closed))
            if let tls = caller.tls { #expect(!tls.wasTruncated) }
            #expect(proxy.residentBytes < 40 << 20)
        }
    }

    @Test("TCP: an origin that ends first still gets what the caller says", arguments: Sides.allCases)
    func originEndsFirst(sides: Sides) throws {
        let heard = Counter()
        let origin = try origin(sides) { connection in
            try connection.send("bye")
            connection.finishSending()
            heard.add(try connection.readToEnd().bytes.count)
        }
        try withTCP(sides, origin) { (proxy) throws in
            let caller = try open(proxy, sides)
            #expect(try caller.readToEnd() == (Array("bye".utf8), .closed))
            try caller.sendPattern(1 << 20)
            caller.finishSending()
            try eventually("the origin has all") { heard.value == 1 << 20 }
        }
    }

    @Test("TCP: a server that speaks first is heard before the caller says a word", arguments: Sides.allCases)
    func serverFirst(sides: Sides) throws {
        let origin = try origin(sides) { connection in
            try connection.send("220 ready\r\n")
            _ = try connection.read(until: "QUIT\r\n")
            try connection.send("221 bye\r\n")
        }
        try withTCP(sides, origin) { (proxy) throws in
            let caller = try open(proxy, sides)
            #expect(try caller.read(until: "\r\n") == Array("220 ready\r\n".utf8))
            try caller.send("QUIT\r\n")
            #expect(try caller.read(until: "\r\n") == Array("221 bye\r\n".utf8))
        }
    }

    @Test("TCP on a PERMISSIVE port: TLS and plaintext, the server or the caller first")
    func permissive() throws {
        let origin = try Origin { connection in
            try connection.send("220 ready\r\n")
            while true { try connection.send(try connection.receive()) }
        }
        try withProxy({
            Config.tcp(listen: $0, to: [origin.port], admin: $1).listening(certificates.downstream(alpn: []), .permissive)
        }) { (proxy) throws in
            for caller in [try proxy.connect(), try RawConnection.tls(to: proxy.port, certificates.caller())] {
                #expect(try caller.read(until: "\r\n") == Array("220 ready\r\n".utf8))
                try caller.send("hello\r\n")
                #expect(try caller.read(until: "\r\n") == Array("hello\r\n".utf8))
            }
            // A byte that could begin either.
            let caller = try proxy.connect()
            try caller.send([22])
            #expect(try caller.isSilent(for: .milliseconds(50)))
            try caller.send("x\r\n")
            #expect(try caller.read(until: "\r\n") == Array("220 ready\r\n".utf8))
            #expect(try caller.read(until: "\r\n") == [22] + Array("x\r\n".utf8))
        }
    }

    @Test("TCP: an end without close_notify goes on as one where the other side speaks TLS too", arguments: Sides.allCases)
    func truncated(sides: Sides) throws {
        for isByCaller in [true, false] where isByCaller ? sides.isDownstream : sides.isUpstream {
            let end = Ends()
            let origin = try origin(sides) { connection in
                if isByCaller {
                    let result = try connection.readToEnd()
                    end.set(result.end, isCut: connection.tls?.wasTruncated, result.bytes.count)
                } else {
                    try connection.send("half of it")
                    connection.finishSendingRaw()
                    _ = try connection.readToEnd()
                }
            }
            try withTCP(sides, origin) { (proxy) throws in
                let caller = try open(proxy, sides)
                if isByCaller {
                    try caller.send("half of it")
                    caller.finishSendingRaw()
                    try eventually("the origin sees an end") { end.value != nil }
                } else {
                    let result = try caller.readToEnd()
                    end.set(result.end, isCut: caller.tls?.wasTruncated, result.bytes.count)
                }
                #expect(end.value == .closed && end.count == 10)
                // Plaintext has no word for it.
                #expect(end.isCut == (sides == .both ? true : nil))
            }
        }
    }

    @Test("TCP: a reset of either side reaches the other", arguments: Sides.allCases)
    func reset(sides: Sides) throws {
        for isByCaller in [true, false] {
            let end = Ends()
            let heard = Counter()
            let origin = try origin(sides) { connection in
                _ = try connection.read(exactly: 1)
                heard.add()
                if isByCaller { end.set(try connection.readToEnd().end) } else { connection.reset() }
            }
            try withTCP(sides, origin) { (proxy) throws in
                let caller = try open(proxy, sides)
                try caller.send("x")
                if isByCaller {
                    try eventually("the origin has it") { heard.value == 1 }
                    caller.reset()
                    try eventually("the origin sees an end") { end.value != nil }
                    #expect(end.value == .reset)
                } else {
                    #expect(try caller.readToEnd().end == .reset)
                }
            }
        }
    }

    @Test("TCP: an endpoint that is not believed means a reset, and it hears nothing of what the caller says")
    func untrusted() throws {
        let settings = certificates.endpoint(certificates.strangerServer, protocols: [])
        let heard = Counter()
        let origin = try Origin { connection in
            try connection.startTLS(.server, settings)
            heard.add(try connection.readToEnd().bytes.count)
        }
        try withTCP(.upstream, origin) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send("secret")
            #expect(try caller.readToEnd() == ([], .reset))
        }
        #expect(heard.value == 0)
    }

    // MARK: Upgrades

    private static let upgrade = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    private static let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

    @Test("after 101 bytes pass both ways, also those in the same segment, and each side may finish alone", arguments: Sides.allCases)
    func upgraded(sides: Sides) throws {
        for isByCaller in [true, false] {
            let size = 1 << 20
            let origin = try origin(sides) { connection in
                _ = try connection.read(until: "\r\n\r\n")
                try connection.send(Self.switching + "early")
                guard try connection.readPattern(size).isIntact else { return }
                if isByCaller {
                    guard try connection.receive().isEmpty else { return }
                    try connection.sendPattern(size)
                } else {
                    try connection.sendPattern(size)
                    connection.finishSending()
                    _ = try connection.readToEnd()
                }
            }
            try with(sides, { Config.http(listen: $0, to: [origin.port], admin: $1) }) { (proxy) throws in
                let caller = try open(proxy, sides)
                try caller.send(Self.upgrade)
                #expect(try caller.readResponse().status == 101)
                #expect(try caller.read(exactly: 5) == Array("early".utf8))
                try caller.sendPattern(size)
                if isByCaller { caller.finishSending() }
                #expect(try caller.readPattern(size) == (size, true))
                #expect(try caller.readToEnd() == ([], .closed))
            }
        }
    }

    private final class Ends: @unchecked Sendable {
        private let lock = NSLock()
        private var state: (end: RawConnection.End, isCut: Bool?, count: Int)?

        func set(_ end: RawConnection.End, isCut: Bool? = nil, _ count: Int = 0) { lock.withLock { state = (end, isCut, count) } }
        var value: RawConnection.End? { lock.withLock { state?.end } }
        var isCut: Bool? { lock.withLock { state?.isCut } }
        var count: Int { lock.withLock { state?.count ?? 0 } }
    }
}
