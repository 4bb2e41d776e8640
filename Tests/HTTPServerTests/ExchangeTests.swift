import Base
import HTTP2
import HTTPClient
import HTTPServer
import HTTPTransport
import Reactor
import TestSupport
import Testing

@Suite("Exchanges")
struct ExchangeTests {
    static let sizes = [0, 1, 5, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 300_000, 1_500_000]

    @Test("a body of any size goes there and back over HTTP/2", arguments: [false, true])
    func bodiesOverHTTP2(isTLS: Bool) throws {
        let tls = isTLS ? try TestTLS() : nil
        let harness = try Harness(tls: tls?.server())
        let client = harness.client(tls: try tls?.client())
        for size in Self.sizes {
            for pieces in [Int.max, 10_007] {
                let sent = bytes(size)
                let answer = try harness.call(client, "POST", "/echo", body: sent, pieces: pieces)
                #expect(answer.head?.status == 200, "\(size) bytes: \(answer.failure?.text ?? "")")
                #expect(answer.body == sent, "\(size) bytes in pieces of \(pieces)")
                #expect(answer.head?.header("content-length") == "\(size)")
            }
        }
        client.close()
    }

    @Test("a body of any size goes there and back over HTTP/1.1, with a length and in chunks", arguments: [false, true])
    func bodiesOverHTTP1(isTLS: Bool) throws {
        let tls = isTLS ? try TestTLS() : nil
        let harness = try Harness(tls: tls?.server())
        let peer = try harness.peer(tls: try tls?.client(alpn: ["http/1.1"]))
        for size in Self.sizes {
            for isChunked in [false, true] {
                let sent = bytes(size)
                peer.bytes = []
                if isChunked {
                    peer.send("POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
                    var rest = sent[...]
                    while !rest.isEmpty {
                        let piece = rest.prefix(9_001)
                        peer.send(Array("\(String(piece.count, radix: 16))\r\n".utf8) + piece + Array("\r\n".utf8))
                        rest = rest.dropFirst(9_001)
                        harness.turn(1)
                    }
                    peer.send("0\r\n\r\n")
                } else {
                    peer.send(Array("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: \(size)\r\n\r\n".utf8) + sent)
                }
                try harness.drive("\(size) bytes, chunked \(isChunked): \(peer.bytes.count) came") {
                    peer.isOver || (peer.bytes.count >= size && (responseBody(peer.bytes)?.count ?? -1) >= size)
                }
                #expect(responseBody(peer.bytes) == sent, "\(size) bytes, chunked \(isChunked)")
            }
        }
        peer.close()
    }

    /// What stands behind the head.
    private func responseBody(_ bytes: [UInt8]) -> [UInt8]? {
        let end = Array("\r\n\r\n".utf8)
        guard bytes.count >= 4, let index = (0...bytes.count - 4).first(where: { Array(bytes[$0..<$0 + 4]) == end }) else { return nil }
        return Array(bytes[(index + 4)...])
    }

    @Test("a request over HTTP/1.1 may be cut anywhere")
    func anySplit() throws {
        let harness = try Harness()
        let request = Array("POST /a/b?c=d HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello".utf8)
        for cut in 1..<request.count {
            let peer = try harness.peer()
            peer.send(Array(request[..<cut]))
            harness.turn()
            peer.send(Array(request[cut...]))
            try harness.drive("an answer, cut at \(cut)") { peer.text.hasSuffix("hello") || peer.isOver }
            #expect(peer.text.hasPrefix("HTTP/1.1 200 OK\r\nx-path: /a/b\r\n"), "cut at \(cut): \(peer.text)")
            peer.close()
        }
    }

    @Test("HTTP/2's beginning may come byte by byte")
    func prefaceInPieces() throws {
        let session = HTTP2Session(role: .client, pool: HTTP2Pool())
        var opening = ByteBuffer()
        _ = session.flush(into: &opening, limit: .max)
        let sent = unsafe Array(opening.unsafeBytes)
        let harness = try Harness()
        let peer = try harness.peer()
        for byte in sent {
            peer.send([byte])
            harness.turn(2)
        }
        // The server's SETTINGS: a frame of type 4 on stream 0.
        try harness.drive("SETTINGS") { peer.bytes.count >= 9 }
        #expect(peer.bytes[3] == 4)
        #expect(harness.server.counters.http2Connections == 1)
        peer.close()
    }

    @Test("requests that are sent at once are answered one after the other, and the connection stays")
    func pipelining() throws {
        var seen: [String] = []
        var waiting: [HTTPExchange] = []
        let harness = try Harness { exchange in
            seen.append(exchange.path)
            waiting.append(exchange)
        }
        let peer = try harness.peer()
        peer.send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\nGET /3 HTTP/1.1\r\nhost: a\r\n\r\n")
        for number in 1...3 {
            try harness.drive("request \(number)") { waiting.count == number }
            harness.turn()
            #expect(seen.count == number, "the next one waits for the answer")
            waiting[number - 1].respond(status: 200, body: Array("<\(number)>".utf8))
        }
        try harness.drive("answers") { peer.text.contains("<3>") }
        #expect(peer.text.components("HTTP/1.1 200 OK") == 3)
        #expect(!peer.isOver)
        peer.close()
    }

    @Test("a head is read as it is meant", arguments: [true, false])
    func requestHead(isHTTP2: Bool) throws {
        var exchange: HTTPExchange?
        let harness = try Harness {
            exchange = $0
            $0.respond(status: 204)
        }
        let target = "/v1/a%2Fb/%C3%A9/?name=x+y&flag&sum=1%2B1"
        if isHTTP2 {
            let client = harness.client()
            let answer = try harness.call(client, "PUT", target, headers: [("X-One", "1"), ("x-one", "2"), ("line", "a\r\nb")])
            #expect(answer.head?.status == 204)
            #expect(answer.head?.header("date")?.hasSuffix(" GMT") == true)
            client.close()
        } else {
            let peer = try harness.peer()
            peer.send("PUT \(target) HTTP/1.1\r\nHost: test\r\nX-One: 1\r\nx-one: 2\r\nline: a  b\r\nconnection: close\r\n\r\n")
            try harness.drive("an answer") { peer.isOver }
            #expect(peer.text.hasPrefix("HTTP/1.1 204 No Content\r\n") && peer.text.hasSuffix("connection: close\r\n\r\n"), "\(peer.text)")
            #expect(!peer.text.contains("content-length"))
            peer.close()
        }
        let seen = try #require(exchange)
        #expect(seen.method == "PUT" && seen.path == "/v1/a%2Fb/%C3%A9/" && seen.target == target && seen.authority == "test")
        #expect(seen.pathSegments == ["v1", "a/b", "é", ""])
        #expect(seen.query?.map { "\($0.name)=\($0.value)" } == ["name=x y", "flag=", "sum=1+1"])
        #expect(seen.header("X-ONE") == "1" && seen.headers("x-one") == ["1", "2"] && seen.header("none") == nil)
        #expect(seen.header("line") == "a  b")
        #expect(seen.isHTTP2 == isHTTP2 && seen.isLoopback && !seen.isTLS && seen.identity == nil)
    }

    @Test("a target with a broken escape is told as such", arguments: ["/a%2", "/a%zz", "/%ff", "/?a=%", "/?%e2%28%a1=1"])
    func brokenEscapes(target: String) throws {
        var isRefused = false
        let harness = try Harness {
            isRefused = $0.pathSegments == nil || $0.query == nil
            $0.respond(status: 400)
        }
        let client = harness.client()
        _ = try harness.call(client, "GET", target)
        #expect(isRefused)
        client.close()
    }

    @Test("HTTP/1.1 as the RFCs have it", arguments: requests.indices)
    func rules(row: Int) throws {
        let (name, request, answer) = Self.requests[row]
        let harness = try Harness()
        let peer = try harness.peer()
        peer.send(request)
        try harness.drive("the end after \(name)") { peer.isOver }
        #expect(peer.text.hasPrefix(answer), "\(name): \(peer.text.prefix(200))")
        peer.close()
        try harness.drive("no connection") { harness.server.openConnections == 0 }
    }

    private static let requests = [
        ("no host", "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "),
        ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "HTTP/1.1 400 "),
        ("bare line ends", "GET / HTTP/1.1\nhost: a\n\n", "HTTP/1.1 400 "),
        ("two lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", "HTTP/1.1 400 "),
        ("a bad chunk", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", "HTTP/1.1 400 "),
        ("a version that is none", "GET / HTTP/2.0\r\nhost: a\r\n\r\n", "HTTP/1.1 505 "),
        ("a long target", "GET /\(String(repeating: "a", count: 40_000)) HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 414 "),
        ("a long field", "GET / HTTP/1.1\r\nhost: a\r\nx: \(String(repeating: "a", count: 70_000))\r\n\r\n", "HTTP/1.1 431 "),
        ("HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n"),
        ("HEAD", "HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\n"),
        ("an empty line first", "\r\nGET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\n"),
    ]

    @Test("a caller that waits for leave to send its body gets it once the body is wanted")
    func expectContinue() throws {
        var held: HTTPExchange?
        let harness = try Harness { held = $0 }
        let peer = try harness.peer()
        peer.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        try harness.drive("a request") { held != nil }
        harness.turn()
        #expect(peer.bytes.isEmpty)
        let exchange = try #require(held)
        exchange.collectBody(limit: 2) { exchange.respond(status: 200, body: $0) }
        try harness.drive("100") { peer.text == "HTTP/1.1 100 Continue\r\n\r\n" }
        peer.send("ok")
        try harness.drive("200") { peer.text.hasSuffix("\r\n\r\nok") }

        // Who is refused before gets no leave, and the connection ends, since a body might follow.
        peer.bytes = []
        held = nil
        peer.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        try harness.drive("a request") { held != nil }
        held?.respond(status: 401)
        try harness.drive("the end") { peer.isOver }
        #expect(peer.text.hasPrefix("HTTP/1.1 401 Unauthorized\r\n"))
        peer.close()
    }

    @Test("a response goes piece by piece, with trailers", arguments: [true, false])
    func streaming(isHTTP2: Bool) throws {
        var held: HTTPExchange?
        var drained = 0
        let harness = try Harness { held = $0 }
        if isHTTP2 {
            let client = harness.client()
            let answer = Answer(client.request(path: "/follow", authority: "a"))
            try harness.drive("a request") { held != nil }
            let exchange = try #require(held)
            exchange.onDrained = { drained += 1 }
            exchange.begin(status: 200, headers: [("content-type", "text/plain")])
            try harness.drive("a head") { answer.head != nil }
            for number in 1...3 {
                exchange.send(Array("\(number)\n".utf8))
                try harness.drive("piece \(number)") { answer.text.hasSuffix("\(number)\n") }
            }
            exchange.end(trailers: [("x-sum", "6")])
            try harness.drive("the end") { answer.isOver }
            #expect(answer.trailers?.value("x-sum") == "6")
            client.close()
        } else {
            let peer = try harness.peer()
            peer.send("GET /follow HTTP/1.1\r\nhost: a\r\n\r\n")
            try harness.drive("a request") { held != nil }
            let exchange = try #require(held)
            exchange.onDrained = { drained += 1 }
            exchange.begin(status: 200, headers: [("content-type", "text/plain")])
            for number in 1...3 {
                exchange.send(Array("\(number)\n".utf8))
                try harness.drive("piece \(number)") { peer.text.hasSuffix("2\r\n\(number)\n\r\n") }
            }
            exchange.end(trailers: [("x-sum", "6")])
            try harness.drive("the end") { peer.text.hasSuffix("0\r\nx-sum: 6\r\n\r\n") }
            #expect(!peer.isOver)
            peer.close()
        }
        #expect(drained >= 3)
        #expect(held?.isOpen == false && held?.queuedBytes == 0)
    }

    @Test("a body that nobody takes yet waits, within the caller's window", arguments: [true, false])
    func heldBody(isHTTP2: Bool) throws {
        var held: HTTPExchange?
        let harness = try Harness { held = $0 }
        let sent = bytes(2_000_000)
        let client = isHTTP2 ? harness.client() : nil
        let peer = isHTTP2 ? nil : try harness.peer()
        let stream = client?.request(method: "POST", path: "/", authority: "a", endStream: false)
        stream?.send(sent)
        stream?.end()
        peer?.send(Array("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \(sent.count)\r\n\r\n".utf8) + sent)
        try harness.drive("a request") { held != nil }
        harness.turn(20)
        let waiting = stream?.queuedBytes ?? peer!.unsentBytes
        // HTTP/1.1 has what the kernel holds of it besides.
        #expect(!isHTTP2 || waiting >= sent.count - harness.server.limits.streamWindow)
        let exchange = try #require(held)
        var received: [UInt8] = []
        var isComplete = false
        exchange.onBody = { [unowned exchange] piece in
            if received.isEmpty { exchange.isBodyPaused = true }
            received += piece
        }
        exchange.onEnd = { isComplete = true }
        try harness.drive("the first piece") { !received.isEmpty }
        let before = received.count
        harness.turn(20)
        #expect(received.count == before && !isComplete)
        exchange.isBodyPaused = false
        try harness.drive("the body, \(received.count) bytes so far") { isComplete }
        #expect(received == sent)
        exchange.respond(status: 204)
        harness.turn()
        client?.close()
        peer?.close()
    }

    @Test("a body that is too long is refused, and the handler hears of it", arguments: [true, false], [true, false])
    func tooLong(isHTTP2: Bool, saysLength: Bool) throws {
        var closures: [HTTPClosure] = []
        let harness = try Harness { exchange in
            exchange.onClosed = { closures.append($0) }
            exchange.collectBody(limit: 100) { _ in Issue.record("a body of more than 100 bytes") }
        }
        var text = ""
        if isHTTP2 {
            let client = harness.client()
            let headers = saysLength ? [("content-length", "101")] : []
            let answer = try harness.call(client, "POST", "/", headers: headers, body: bytes(101))
            #expect(answer.head?.status == 413)
            text = answer.text
            client.close()
        } else {
            let peer = try harness.peer()
            let length = saysLength ? "content-length: 101\r\n\r\n" : "transfer-encoding: chunked\r\n\r\n65\r\n"
            peer.send(Array("POST / HTTP/1.1\r\nhost: a\r\n\(length)".utf8) + bytes(101))
            try harness.drive("the end") { peer.isOver }
            #expect(peer.text.hasPrefix("HTTP/1.1 413 Content Too Large\r\n"))
            text = peer.text
            peer.close()
        }
        #expect(text.contains(#"{"status":413,"title":"Content Too Large","detail":"The body has more than 100 bytes"#))
        #expect(closures == [.bodyTooLarge(limit: 100)])
    }
}

extension String {
    func components(_ part: String) -> Int {
        var count = 0
        var rest = self[...]
        while let range = rest.firstRange(of: part) {
            count += 1
            rest = rest[range.upperBound...]
        }
        return count
    }
}
