import Base
import HTTP
import HTTP1
import Testing

@Suite struct MessageEncoderTests {
    @Test("a request goes on without what belongs to the hop, in its order and case", arguments: forwardedRequests)
    func request(_ input: String, _ expected: String) throws {
        #expect(try forwarded(input) == expected)
    }

    @Test("T3: nominating an end-to-end field does not remove it")
    func nominations() throws {
        let names = ["x-forwarded-for", "Authorization", "cookie", "X-Envoy-Attempt-Count", "x-request-id", "content-type", "traceparent"]
        let fields = names.map { "\($0): v\r\n" }.joined()
        let input = "GET / HTTP/1.1\r\nHost: a\r\nConnection: \(names.joined(separator: ", ")), host, x-hop\r\n\(fields)X-Hop: 1\r\n\r\n"
        #expect(try forwarded(input) == "GET / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n")
    }

    @Test("an upgrade goes on where it is allowed, and leaves no trace where it is not")
    func upgrade() throws {
        let input = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nTE: trailers\r\n\r\n"
        #expect(
            try forwarded(input, upgrade: true)
                == "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, te\r\nUpgrade: websocket\r\nTE: trailers\r\n\r\n")
        #expect(try forwarded(input) == "GET / HTTP/1.1\r\nHost: a\r\nConnection: te\r\nTE: trailers\r\n\r\n")
    }

    @Test("framing fields say what the body will be, whatever came")
    func framing() throws {
        let length = "POST / HTTP/1.1\r\nContent-LENGTH: 05\r\nHost: a\r\n\r\n"
        #expect(try forwarded(length) == "POST / HTTP/1.1\r\nContent-LENGTH: 05\r\nHost: a\r\n\r\n")
        #expect(try forwarded(length, framing: .length(7)) == "POST / HTTP/1.1\r\nContent-LENGTH: 7\r\nHost: a\r\n\r\n")
        #expect(try forwarded(length, framing: .chunked) == "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        #expect(try forwarded(length, framing: Framing.none) == "POST / HTTP/1.1\r\nHost: a\r\n\r\n")
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nHost: a\r\n\r\n"
        #expect(try forwarded(chunked) == chunked)
        #expect(try forwarded(chunked, framing: .length(7)) == "POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 7\r\n\r\n")
    }

    @Test("what the proxy changed in a head is what goes out")
    func changedHead() throws {
        let input = "GET /old HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\n\r\n"
        let removed = try forwarded(input) { head in head.fields.remove(at: 2) }
        #expect(removed == "GET /old HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nX-Three: 3\r\n\r\n")
        let reordered = try forwarded(input) { head in head.fields.swapAt(1, 3) }
        #expect(reordered == "GET /old HTTP/1.1\r\nHost: a\r\nX-Three: 3\r\nX-Two: 2\r\nX-One: 1\r\n\r\n")
        let changed = try forwarded(input) { head in
            head.append(name: "x-new", value: "n".utf8)
            let start = head.bytes.count
            head.bytes += Array("/new".utf8) + Array("b:1".utf8) + Array("two".utf8)
            head.target = start..<start + 4
            head.authority = start + 4..<start + 7
            let field = head.fields[2]
            head.fields[2] = Head.Field(name: field.name, value: start + 7..<start + 10, known: .other)
            head.fields[3].valueEnd -= 1
        }
        #expect(changed == "GET /new HTTP/1.1\r\nHost: b:1\r\nX-One: 1\r\nX-Two: two\r\nX-Three: \r\nx-new: n\r\n\r\n")
    }

    @Test("a head that never was HTTP/1 text is written line by line, Host first")
    func fromFields() {
        let head = Head()
        head.bytes = Array("GET/pathexample".utf8)
        head.methodRange = 0..<3
        head.method = .get
        head.target = 3..<8
        head.authority = 8..<15
        head.isHTTP2 = true
        head.append(name: "accept", value: "*/*".utf8)
        head.append(name: "te", value: "trailers".utf8, known: .te)
        head.append(name: "content-length", value: "3".utf8, known: .contentLength)
        var output = ByteBuffer()
        MessageEncoder.encodeRequestHead(head, framing: .chunked, into: &output)
        #expect(
            text(output)
                == "GET /path HTTP/1.1\r\nhost: example\r\naccept: */*\r\nte: trailers\r\ntransfer-encoding: chunked\r\nconnection: te\r\n\r\n"
        )
    }

    @Test("a response goes to its caller in the caller's version", arguments: forwardedResponses)
    func response(_ input: String, _ minorVersion: Int, _ keepAlive: Bool, _ expected: String, _ framing: Framing) throws {
        var decoder = ResponseDecoder()
        decoder.expectResponse(to: .get)
        let head = Head()
        var position = 0
        let bytes = Array(input.utf8)
        #expect(try decoder.next(unsafe bytes.span.bytes, at: &position, head: head, trailers: Head()) == .head)
        var output = ByteBuffer()
        let sent = MessageEncoder.encodeResponseHead(
            head, framing: decoder.framing, keepAlive: keepAlive, toMinorVersion: minorVersion, into: &output)
        #expect(text(output) == expected)
        #expect(sent == framing)
    }

    @Test("a switch of protocols and other interim responses go on")
    func interim() throws {
        let head = Head()
        var decoder = ResponseDecoder()
        decoder.expectResponse(to: .get, upgrade: true)
        let bytes = Array(
            ("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: 1\r\n\r\n"
                + "HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: k\r\n\r\n").utf8)
        var position = 0
        var output = ByteBuffer()
        #expect(try decoder.next(unsafe bytes.span.bytes, at: &position, head: head, trailers: Head()) == .interim)
        MessageEncoder.encodeInterimHead(head, into: &output)
        #expect(text(output) == "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        output.removeAll()
        #expect(try decoder.next(unsafe bytes.span.bytes, at: &position, head: head, trailers: Head()) == .head)
        MessageEncoder.encodeResponseHead(head, framing: decoder.framing, keepAlive: true, toMinorVersion: 1, upgrade: true, into: &output)
        #expect(text(output) == "HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: k\r\n\r\n")
        output.removeAll()
        MessageEncoder.encodeContinue(into: &output)
        #expect(Transcript.responses(text(output)) == ["100 Continue [] interim"])
    }

    @Test("chunks and trailers decode to what was encoded")
    func chunks() {
        let trailers = Head()
        trailers.append(name: "x-sum", value: "1".utf8)
        trailers.append(name: "content-length", value: "1".utf8, known: .contentLength)
        trailers.append(name: "grpc-status", value: "0".utf8, known: .grpcStatus)
        var output = ByteBuffer()
        output.append("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        var sent = ""
        for size in [1, 15, 16, 255, 4096] {
            let piece = String(repeating: "x", count: size)
            MessageEncoder.encodeChunkHeader(size, into: &output)
            output.append(piece)
            MessageEncoder.encodeChunkEnd(into: &output)
            sent += piece
        }
        MessageEncoder.encodeLastChunk(trailers, into: &output)
        #expect(
            Transcript.responses(text(output)) == [
                "200 OK [Transfer-Encoding: chunked] chunked", "end \(sent) [x-sum: 1|grpc-status: 0]",
            ])
        output.removeAll()
        MessageEncoder.encodeLastChunk(into: &output)
        #expect(text(output) == "0\r\n\r\n")
    }

    @Test("what is encoded decodes to itself, and encodes to itself", arguments: acceptedRequests.map(\.0))
    func roundTrip(_ input: String) throws {
        let once = try forwarded(input, upgrade: true)
        guard !once.contains("host: \r\n") else { return }  // A 1.0 caller without Host: the proxy must name one.
        #expect(try forwarded(once, upgrade: true) == once)
        let before = try #require(Transcript.requests(input).first).split(separator: " ")
        let after = try #require(Transcript.requests(once).first).split(separator: " ")
        #expect(before[0] == after[0], "the method")
        #expect(before[1] == after[1], "the target")
    }

    /// What an upstream gets for this request.
    private func forwarded(_ input: String, upgrade: Bool = false, framing: Framing? = nil, change: (Head) -> Void = { _ in }) throws
        -> String
    {
        var decoder = RequestDecoder()
        let head = Head()
        var position = 0
        let bytes = Array(input.utf8)
        let event = try decoder.next(unsafe bytes.span.bytes, at: &position, head: head, trailers: Head())
        try #require(event == .head)
        change(head)
        var output = ByteBuffer()
        MessageEncoder.encodeRequestHead(head, framing: framing ?? decoder.framing, upgrade: upgrade && decoder.wantsUpgrade, into: &output)
        return text(output)
    }

    private func text(_ buffer: borrowing ByteBuffer) -> String {
        unsafe buffer.withUnsafeBytes { unsafe String(decoding: $0, as: UTF8.self) }
    }
}

let forwardedRequests = [
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nx-TWO:2\r\nX: \t3 \r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nx-TWO: 2\r\nX: 3\r\n\r\n"
    ),
    (
        "GET / HTTP/1.1\r\nConnection: keep-alive, X-Gone\r\nhOST: a\r\nX-Gone: 1\r\nKeep-Alive: 5\r\nAccept: *\r\nProxy-Connection: x\r\n\r\n",
        "GET / HTTP/1.1\r\nhOST: a\r\nAccept: *\r\n\r\n"
    ),
    ("GET http://b:8/p HTTP/1.1\r\nA: 1\r\nHost: a\r\nB: 2\r\n\r\n", "GET /p HTTP/1.1\r\nA: 1\r\nHost: b:8\r\nB: 2\r\n\r\n"),
    ("GET http://b?q HTTP/1.1\r\nHost: b\r\n\r\n", "GET /?q HTTP/1.1\r\nHost: b\r\n\r\n"),
    ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n"),
    ("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nhost: \r\n\r\n"),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("GET / HTTP/1.1\r\nHost: a\r\nTE: gzip, trailers\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nconnection: te\r\n\r\n"),
    ("GET / HTTP/1.1\r\nHost: a\r\nTE: gzip\r\nConnection: TE\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    ),
    (
        "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    ),
]

let forwardedResponses: [(String, Int, Bool, String, Framing)] = [
    (
        "HTTP/1.1 200 Fine\r\nServer: x\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\nA: b\r\n\r\n", 1, true,
        "HTTP/1.1 200 Fine\r\nServer: x\r\nContent-Length: 2\r\nA: b\r\n\r\n", .length(2)
    ),
    (
        "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n", 1, false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nconnection: close\r\n\r\n",
        .length(2)
    ),
    ("HTTP/1.1 299\r\nContent-Length: 2\r\n\r\n", 1, true, "HTTP/1.1 299 \r\nContent-Length: 2\r\n\r\n", .length(2)),
    (
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n", 1, true, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        .length(2)
    ),
    (
        "HTTP/1.1 200 OK\r\nConnection: x\r\nContent-Length: 2\r\n\r\n", 0, true,
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n", .length(2)
    ),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 1, true, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", .chunked),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0, true, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", .untilClose),
    ("HTTP/1.0 200 OK\r\n\r\n", 1, true, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", .chunked),
    ("HTTP/1.0 200 OK\r\n\r\n", 0, true, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", .untilClose),
    ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 1, true, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", .none),
    ("HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", 1, true, "HTTP/1.1 204 No Content\r\n\r\n", .none),
    (
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n", 1, true,
        "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n", .length(0)
    ),
]
