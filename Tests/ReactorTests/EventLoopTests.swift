import Base
import Glibc
import Reactor
import Testing

private final class Collector: EventSource {
    var received: [UInt8] = []
    var sawEnd = false

    override func ready(_ readiness: Readiness) {
        var room = [UInt8](repeating: 0, count: 64)
        while true {
            switch unsafe room.withUnsafeMutableBytes({ unsafe Socket.read(descriptor, into: $0) }) {
            case .bytes(let count): received += room[..<count]
            case .end:
                sawEnd = true
                return
            case .wouldBlock, .failed: return
            }
        }
    }
}

private final class Counter: EventSource {
    var count = 0

    override func ready(_ readiness: Readiness) {
        count += 1
    }
}

@Suite struct EventLoopTests {
    @Test("Bytes sent over a connection arrive, and then its end")
    func connection() throws {
        let loop = EventLoop()
        let listener = try Socket.listen(on: SocketAddress(.loopbackV4, 0), reusePort: false)
        defer { Socket.close(listener) }
        let address = try #require(Socket.localAddress(listener))
        let (near, _) = try Socket.connect(to: address)
        var accepted: (descriptor: CInt, peer: SocketAddress)?
        while accepted == nil { accepted = try? Socket.accept(listener) }
        let far = Collector(adopting: try #require(accepted).descriptor)
        try loop.add(far)
        let text: [UInt8] = Array("hello".utf8)
        #expect(unsafe text.withUnsafeBytes { unsafe Socket.write(near, $0) } == .bytes(5))
        while far.received.count < 5 { loop.turn(maximumWait: .seconds(5)) }
        #expect(far.received == text)
        Socket.close(near)
        while !far.sawEnd { loop.turn(maximumWait: .seconds(5)) }
        loop.close(far)
        #expect(far.isClosed)
    }

    @Test("A watched descriptor is reported until it is forgotten, and stays open")
    func watch() throws {
        let loop = EventLoop()
        let listener = try Socket.listen(on: SocketAddress(.loopbackV4, 0), reusePort: false)
        defer { Socket.close(listener) }
        let (near, _) = try Socket.connect(to: try #require(Socket.localAddress(listener)))
        defer { Socket.close(near) }
        let source = Counter(adopting: near)
        try loop.watch(source, for: .writable)
        for _ in 0..<2 { loop.turn(maximumWait: .seconds(5)) }
        #expect(source.count == 2, "level-triggered: it is told again")
        try loop.watch(source, for: .readable)
        loop.turn(maximumWait: .zero)
        #expect(source.count == 2, "nothing to read, and writing is of no interest any more")
        try loop.watch(source, for: .writable)
        loop.forget(source)
        loop.turn(maximumWait: .zero)
        #expect(source.count == 2 && source.isClosed)
        #expect(Socket.localAddress(near) != nil, "its owner still has it")
    }

    @Test("A message posted from another thread wakes the loop")
    func mailbox() throws {
        let loop = EventLoop()
        let mailbox = try Mailbox<Int>()
        var received: [Int] = []
        try mailbox.attach(to: loop) { received.append($0) }
        mailbox.post(1)
        mailbox.post(2)
        while received.count < 2 { loop.turn(maximumWait: .seconds(5)) }
        #expect(received == [1, 2])
    }

    @Test("A second socket on a port in use is refused with the system's words")
    func portInUse() throws {
        let first = try Socket.listen(on: SocketAddress(.loopbackV4, 0), reusePort: false)
        defer { Socket.close(first) }
        let address = try #require(Socket.localAddress(first))
        #expect(throws: SystemError(EADDRINUSE)) { try Socket.listen(on: address, reusePort: false) }
        #expect("\(SystemError(EADDRINUSE))" == "Address already in use")
    }
}
