import Base
import HTTP
import HTTP1
import Testing

@Suite struct MessageEncoderTests {
    /// What an upstream gets for this request.
    private func forwarded(_ input: String, upgrade: Bool = false, framing: Framing? = nil, change: (Head) -> Void = { _ in }) throws
        -> String
    {
        var decoder = RequestDecoder()
        let head = Head()
        var position = 0
        let bytes = Array(input.utf8)
        guard try decoder.next(unsafe bytes.span.bytes, at: &position, head: head, trailers: Head()) == .head else { return "no head" }
        change(head)
        var output = ByteBuffer()
        MessageEncoder.encodeRequestHead(head, framing: framing ?? decoder.framing, upgrade: upgrade, into: &output)
        return text(output)
    }

    private func text(_ buffer: borrowing ByteBuffer) -> String {
        unsafe buffer.withUnsafeBytes { unsafe String(decoding: $0, as: UTF8.self) }
    }

    @Test(
        "a request goes on without what belongs to the hop, in its order and case",
        arguments: [
            ("GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nx-TWO:2\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nx-TWO: 2\r\n\r\n"),
            (
                "GET / HTTP/1.1\r\nConnection: keep-alive, X-Gone\r\nhOST: a\r\nX-Gone: 1\r\nKeep-Alive: 5\r\nAccept: *\r\n\r\n",
                "GET / HTTP/1.1\r\nhOST: a\r\nAccept: *\r\n\r\n"
            ),
            ("GET http://b:8/p HTTP/1.1\r\nA: 1\r\nHost: a\r\nB: 2\r\n\r\n", "GET /p HTTP/1.1\r\nA: 1\r\nHost: b:8\r\nB: 2\r\n\r\n"),
            ("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nhost: \r\n\r\n"),
        ])
    func request(_ input: String, _ expected: String) throws {
        #expect(try forwarded(input) == expected)
    }
}
