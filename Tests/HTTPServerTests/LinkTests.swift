import Base
import Glibc
import HTTPTransport
import Reactor
import TestSupport
import Testing

@Suite("A link")
struct LinkTests {
    private final class Recording: Link {
        var flushes = 0

        override func opened() { flushLater() }
        override func flushDue() { flushes += 1 }
    }

    @Test("what was to be flushed before the connection stood is flushed then: no network but loopback connects within one turn")
    func slowConnect() throws {
        let loop = EventLoop()
        let (descriptor, _) = try Socket.connect(to: SocketAddress(.loopbackV4, try Ports.free()))
        let link = Recording(adopting: descriptor, isConnected: false, tls: nil, loop: loop, buffers: LinkBuffers())
        defer { loop.close(link) }
        link.start()
        link.flushLater()
        // Not added to the loop: the turn comes, and no event with it.
        loop.turn(maximumWait: .zero)
        #expect(link.flushes == 0)
        // Whether it stands is asked of the socket, which has no error any more once that was read.
        _ = Socket.pendingError(descriptor)
        link.ready(.writable)
        loop.turn(maximumWait: .zero)
        #expect(link.flushes == 1)
    }
}
