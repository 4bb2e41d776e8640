import Base
import Glibc
import Reactor
import Telemetry
import Testing

@testable import Proxy

/// The server on a loop and real sockets of the loopback interface.
final class AdminServerTests {
    private let loop = EventLoop()
    private let proxy: AdminFixture
    private var server: AdminServer!
    private var actions: [AdminAction] = []

    init() throws {
        // As the program does at its start: a caller that has gone is an error of the write, not the end of the process.
        _ = signal(SIGPIPE, SIG_IGN)
        proxy = try AdminFixture()
        server = try AdminServer(
            loop: loop, address: SocketAddress(.loopbackV4, 0), view: { [unowned self] in proxy.view },
            perform: { [unowned self] in actions.append($0) })
    }

    /// A caller that the test moves on by hand.
    private final class Caller {
        let descriptor: CInt
        private(set) var received: [UInt8] = []
        private(set) var isEnded = false

        init(to address: SocketAddress) throws {
            descriptor = try Socket.connect(to: address).descriptor
        }

        deinit {
            Socket.close(descriptor)
        }

        /// How many bytes went out.
        func write(_ bytes: some Sequence<UInt8>) -> Int {
            let bytes = Array(bytes)
            return unsafe bytes.withUnsafeBytes {
                if case .bytes(let count) = unsafe Socket.write(descriptor, $0) { count } else { 0 }
            }
        }

        func read() {
            var room = [UInt8](repeating: 0, count: 1 << 16)
            while !isEnded {
                switch unsafe room.withUnsafeMutableBytes({ unsafe Socket.read(descriptor, into: $0) }) {
                case .bytes(let count): received += room[..<count]
                case .wouldBlock: return
                case .end, .failed: isEnded = true
                }
            }
        }

        var text: String { String(decoding: received, as: UTF8.self) }
        var statuses: [Substring] { text.split(separator: "HTTP/1.1 ", omittingEmptySubsequences: true).map { $0.prefix(3) } }
    }

    private func connect() throws -> Caller {
        let caller = try Caller(to: #require(server.address))
        turn(2)
        return caller
    }

    private func turn(_ count: Int) {
        for _ in 0..<count { loop.turn(maximumWait: .milliseconds(1)) }
    }

    /// Sends all of it, then turns the loop until the condition holds; a test that waits in vain ends by the bound.
    private func exchange(_ caller: Caller, _ text: String, until isDone: (Caller) -> Bool) {
        var rest = Array(text.utf8)[...]
        for _ in 0..<2000 where !isDone(caller) {
            if !rest.isEmpty { rest = rest.dropFirst(caller.write(rest)) }
            turn(1)
            caller.read()
        }
    }

    private static let get = "GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n"

    @Test("requests of one connection are answered one by one, in order")
    func pipeline() throws {
        let caller = try connect()
        exchange(caller, Self.get + "GET /nope HTTP/1.1\r\nHost: [::1]\r\n\r\n" + Self.get) { $0.statuses.count == 3 }
        #expect(caller.statuses == ["200", "404", "200"])
        #expect(!caller.isEnded)
    }

    @Test("a request in single bytes is answered as one in a piece")
    func singleBytes() throws {
        let caller = try connect()
        for byte in Self.get.utf8 {
            #expect(caller.write([byte]) == 1)
            turn(1)
        }
        exchange(caller, "") { $0.text.hasSuffix("LIVE\n") }
        #expect(caller.statuses == ["200"])
    }

    @Test("HEAD gets the head of GET and no body")
    func head() throws {
        let caller = try connect()
        exchange(caller, "HEAD /ready HTTP/1.1\r\nHost: localhost\r\n\r\n") { $0.text.hasSuffix("\r\n\r\n") }
        #expect(caller.text.contains("content-length: 5\r\n"))
        #expect(caller.text.hasSuffix("\r\n\r\n"))
    }

    @Test("the connection closes when the caller says so, and for HTTP/1.0")
    func close() throws {
        for request in ["GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "GET /ready HTTP/1.0\r\n\r\n"] {
            let caller = try connect()
            exchange(caller, request) { $0.isEnded }
            #expect(caller.isEnded && caller.text.hasSuffix("LIVE\n"))
        }
    }

    @Test(
        "what is no request is refused and the connection closed",
        arguments: [
            ("\u{16}\u{3}\u{1}\r\n\r\n", "400"), ("GET /\r\n\r\n", "400"), ("GET / HTTP/1.1\r\n\r\n", "400"),
            ("GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", "505"),
            ("POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
        ])
    func garbage(request: String, status: String) throws {
        let caller = try connect()
        exchange(caller, request) { $0.isEnded }
        #expect(caller.statuses.first.map(String.init) == status)
        #expect(caller.isEnded)
        #expect(actions.isEmpty)
    }

    @Test("random bytes and random cuts of requests never end the process, and the next caller is served")
    func randomBytes() throws {
        for seed in 0..<200 {
            var random = SeededRandom(seed: UInt64(seed))
            var bytes = Array("POST /logging?level=debug HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc\(Self.get)".utf8)
            for _ in 0..<random.below(4) { bytes[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next()) }
            bytes.removeLast(random.below(bytes.count))
            let caller = try Caller(to: #require(server.address))
            _ = caller.write(bytes)
            turn(2)
        }
        let caller = try connect()
        exchange(caller, Self.get) { $0.text.hasSuffix("LIVE\n") }
        #expect(caller.statuses == ["200"])
    }

    @Test("a head or a body beyond the limit is refused")
    func limits() throws {
        let long = try connect()
        exchange(long, "GET / HTTP/1.1\r\nHost: localhost\r\nX: " + String(repeating: "x", count: 70_000)) { $0.isEnded }
        #expect(long.statuses == ["431"])
        let heavy = try connect()
        let body = String(repeating: "x", count: 70_000)
        exchange(heavy, "POST /logging HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70000\r\n\r\n" + body) { $0.isEnded }
        #expect(heavy.statuses == ["413"])
    }

    @Test("an order is carried out once, after its answer was written")
    func order() throws {
        let caller = try connect()
        exchange(caller, "POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi") { !$0.received.isEmpty }
        #expect(caller.statuses == ["200"])
        #expect(actions == [.drain])
    }

    @Test("a caller that does not read is not read from; when it reads, it gets every answer")
    func backPressure() throws {
        // A page of 1 MiB, forty times: more than the kernel keeps between two sockets.
        let count = 40
        let large = try AdminFixture(listenerName: String(repeating: "x", count: 1 << 20))
        var served = 0
        server = try AdminServer(
            loop: loop, address: SocketAddress(.loopbackV4, 0),
            view: {
                served += 1
                return large.view
            }, perform: { _ in })
        let caller = try connect()
        let requests = String(repeating: "GET /listeners HTTP/1.1\r\nHost: localhost\r\n\r\n", count: count)
        #expect(caller.write(requests.utf8) == requests.utf8.count)
        turn(100)
        #expect(served > 0 && served < count)

        var silence = 0
        while silence < 50 {
            turn(1)
            let before = caller.received.count
            caller.read()
            silence = caller.received.count == before ? silence + 1 : 0
        }
        #expect(served == count)
        #expect(caller.received.count > count << 20)
        #expect(caller.received.count % count == 0, "an answer is cut")
    }

    @Test("one connection too many takes the place of the one that has been idle longest")
    func manyConnections() throws {
        let callers = try (0..<AdminServer.maxConnections).map { _ in try connect() }
        let last = try connect()
        exchange(last, Self.get) { $0.text.hasSuffix("LIVE\n") }
        #expect(last.statuses == ["200"])
        for caller in callers { caller.read() }
        #expect(callers.map(\.isEnded) == [true] + Array(repeating: false, count: callers.count - 1))
    }
}
