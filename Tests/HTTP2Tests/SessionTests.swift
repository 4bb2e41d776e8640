import Base
import HTTP
import HTTP2
import Testing

@Suite struct SessionTests {
    @Test("a request and its response cross, with bodies and trailers")
    func exchange() throws {
        let pair = Pair()
        pair.server.handler = { server, event in
            if case .end(let stream) = event {
                server.session.respond(stream, responseHead(200, [("Content-Type", "text/plain")]), endStream: false)
                server.send(stream, "hello")
                server.session.end(stream, trailers: trailers([("grpc-status", "0")]))
            }
        }
        pair.request(requestHead("POST", "/a?b=c", [("X-One", "1")]), body: "body", trailers: trailers([("x-sum", "7")]))
        pair.exchange()
        #expect(pair.server.lines == ["head 1 POST http://shop.test/a?b=c | x-one: 1", "trailers 1 x-sum: 7", "end 1"])
        #expect(pair.server.bodies[1] == Array("body".utf8))
        #expect(pair.client.lines == ["head 1 200 | content-type: text/plain", "trailers 1 grpc-status: 0", "end 1"])
        #expect(pair.client.bodies[1] == Array("hello".utf8))
        #expect(pair.client.session.openStreams == 0)
        #expect(pair.server.session.openStreams == 0)
    }
}
