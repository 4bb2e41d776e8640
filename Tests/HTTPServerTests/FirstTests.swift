import Base
import HTTPClient
import HTTPServer
import Reactor
import Testing

@Suite struct First {
    @Test func roundTrip() throws {
        let loop = EventLoop()
        let server = HTTPServer(loop: loop) { exchange in
            exchange.collectBody(limit: 10) { body in exchange.respond(status: 200, body: Array("hello ".utf8) + body) }
        }
        let address = try server.listen(on: SocketAddress(.loopbackV4, 0))
        let client = HTTPClientConnection(loop: loop, address: address)
        client.open()
        let stream = client.request(method: "POST", path: "/x", authority: "a", endStream: false)
        var got: [UInt8] = []
        var done = false
        stream.onBody = { got += $0 }
        stream.onEnd = { _ in done = true }
        stream.onFailed = {
            Issue.record("\($0)"); done = true
        }
        stream.send(Array("you".utf8))
        stream.end()
        for _ in 0..<50 where !done { loop.turn(maximumWait: .milliseconds(200)) }
        #expect(String(decoding: got, as: UTF8.self) == "hello you")
        client.close()
        server.close()
        loop.turn(maximumWait: .zero)
    }
}
