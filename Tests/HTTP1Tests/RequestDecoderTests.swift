import Base
import HTTP
import HTTP1
import Testing

@Suite struct RequestDecoderTests {
    @Test("a request is taken apart as the RFC says", arguments: acceptedRequests)
    func accepts(_ input: String, _ expected: [String]) {
        #expect(Transcript.requests(input) == expected)
    }

    @Test("an attack is refused by its name, wherever it is cut", arguments: refusedHeads.map { ($0.0, $0.1) })
    func refuses(_ input: String, _ details: String) {
        #expect(Transcript.requests(input) == ["http1.\(details)"])
        #expect(Transcript.requests(input, cutAt: Array(0..<input.utf8.count)) == ["http1.\(details)"], "byte by byte")
    }

    @Test("a bad body is refused by its name, wherever it is cut", arguments: refusedBodies)
    func refusesBody(_ body: String, _ details: String) {
        let input = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body
        #expect(Transcript.requests(input).last == "http1.\(details)")
        #expect(Transcript.requests(input, cutAt: Array(0..<input.utf8.count)).last == "http1.\(details)", "byte by byte")
    }

    @Test("any cut gives the same events", arguments: acceptedRequests.map(\.0))
    func cuts(_ input: String) {
        let whole = Transcript.requests(input)
        let count = input.utf8.count
        for cut in 0...count {
            #expect(Transcript.requests(input, cutAt: [cut]) == whole, "cut at \(cut)")
        }
        #expect(Transcript.requests(input, cutAt: Array(0..<count)) == whole, "byte by byte")
    }

    @Test("a request that breaks off is open, never complete", arguments: acceptedRequests.map(\.0))
    func breaksOff(_ input: String) {
        let count = input.utf8.count
        let ends = Transcript.requests(input).filter { $0.hasPrefix("end") }.count
        for length in 0..<count {
            let lines = Transcript.requests(Array(input.utf8.prefix(length)))
            #expect(lines.allSatisfy { !$0.hasPrefix("http1.") }, "\(length) bytes are not an error: \(lines)")
            #expect(lines.filter { $0.hasPrefix("end") }.count <= ends)
        }
        #expect(!Transcript.requests(Array(input.utf8.prefix(count - 1))).elementsEqual(Transcript.requests(input)))
    }

    @Test("every byte of a name, value and target is either allowed or refused, in each lane of the scan")
    func byteClasses() {
        let token = Set("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".utf8)
        for byte in UInt8.min...UInt8.max {
            for lane in 0..<34 {
                let pad = [UInt8](repeating: UInt8(ascii: "a"), count: lane)
                let tail = [UInt8](repeating: UInt8(ascii: "b"), count: 33 - lane)
                func accepts(_ before: String, _ after: String) -> Bool {
                    Transcript.requests(Array(before.utf8) + pad + [byte] + tail + Array(after.utf8)).last == "end "
                }
                // A colon would end the name and start its value.
                let isName = token.contains(byte) || (byte == UInt8(ascii: ":") && lane > 0)
                #expect(accepts("GET / HTTP/1.1\r\nHost: a\r\n", ": v\r\n\r\n") == isName, "name byte \(byte) in lane \(lane)")
                let isValue = byte == 9 || (byte >= 0x20 && byte != 0x7F)
                #expect(accepts("GET / HTTP/1.1\r\nHost: a\r\nX: ", "\r\n\r\n") == isValue, "value byte \(byte) in lane \(lane)")
                let isTarget = byte > 0x20 && byte < 0x7F && byte != UInt8(ascii: "#")
                #expect(accepts("GET /", " HTTP/1.1\r\nHost: a\r\n\r\n") == isTarget, "target byte \(byte) in lane \(lane)")
            }
        }
    }

    @Test("S18: limits are exact, and the error names limit and field")
    func limits() throws {
        let limits = MessageLimits(maxHeadBytes: 512, maxFields: 3, maxTargetBytes: 32)
        func request(target: Int = 1, fields: Int = 1, value: Int = 1) -> String {
            "GET /" + String(repeating: "t", count: target - 1) + " HTTP/1.1\r\nHost: a\r\n"
                + (1..<fields).map { "X-\($0): " + String(repeating: "v", count: value) + "\r\n" }.joined() + "\r\n"
        }
        let rows: [(String, String, Int)] = [
            (request(target: 32), "end ", 0),
            (request(target: 33), "http1.url_too_long", 414),
            (request(target: 5000), "http1.url_too_long", 414),
            (request(fields: 3), "end ", 0),
            (request(fields: 4), "http1.too_many_headers", 431),
            (request(fields: 2, value: 512 - 34), "end ", 0),
            (request(fields: 2, value: 512 - 33), "http1.headers_too_large", 431),
            (request(fields: 2, value: 70_000), "http1.headers_too_large", 431),
        ]
        for (input, last, status) in rows {
            #expect(Transcript.requests(input, limits: limits).last == last, "\(input.prefix(60))")
            #expect(
                Transcript.requests(input, cutAt: Array(0..<min(600, input.utf8.count)), limits: limits).last == last, "\(input.prefix(60))"
            )
            guard let error = refusal(of: input, limits) else { continue }
            #expect(error.error.status == status)
            #expect(error.error.limit > 0)
        }
        let large = try #require(refusal(of: request(fields: 3, value: 400), limits))
        #expect(large.error.message(large.head) == "http1.headers_too_large (limit 512, field X-1)")
        let open = try #require(refusal(of: request(fields: 2, value: 9000), limits))
        #expect(open.error.message(open.head) == "http1.headers_too_large (limit 512, field X-1)")
        let many = try #require(refusal(of: request(fields: 9), limits))
        #expect(many.error.message(many.head) == "http1.too_many_headers (limit 3, field X-3)")
        #expect(many.head.string(many.head.target) == "/", "the access log knows what was refused")
    }

    @Test("each refusal has its status, each reason its name")
    func statuses() {
        let rows = [
            ("GET / HTTP/2.0\r\n", 505), ("GET / HTTP/1.1\r\n\r\n", 400), (String(repeating: "M", count: 33) + " / HTTP/1.1\r\n", 501),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        ]
        for (input, status) in rows {
            #expect(refusal(of: input)?.error.status == status, "\(input)")
        }
        var seen = Set<String>()
        for reason in HTTP1Error.Reason.allCases {
            #expect(seen.insert("\(HTTP1Error(reason).details)").inserted, "\(reason) shares its name")
        }
    }

    @Test("S19: a thousand pipelined requests come out in order, in one buffer or in many")
    func pipelining() {
        var input = ""
        for index in 0..<1000 {
            input +=
                index % 2 == 0
                ? "GET /\(index) HTTP/1.1\r\nHost: a\r\n\r\n" : "POST /\(index) HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        }
        let lines = Transcript.requests(input)
        #expect(lines.count == 2000)
        for index in 0..<1000 {
            #expect(lines[2 * index].contains(" /\(index) 1.1"))
            #expect(lines[2 * index + 1] == (index % 2 == 0 ? "end " : "end abc"))
        }
        #expect(Transcript.requests(input, cutAt: Array(stride(from: 0, to: input.utf8.count, by: 37))) == lines)
    }

    @Test("a decoder that has refused goes on refusing, and says the same")
    func staysFailed() throws {
        var decoder = RequestDecoder()
        let head = Head()
        let bad = Array("GET / HTTP/1.1\n".utf8)
        let good = Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
        var errors: [HTTP1Error] = []
        for bytes in [bad, good] {
            var position = 0
            do throws(HTTP1Error) {
                _ = try decoder.next(unsafe bytes.span.bytes, at: &position, head: head, trailers: Head())
            } catch {
                errors.append(error)
            }
        }
        #expect(errors.map(\.reason) == [.bareLineEnd, .bareLineEnd])
    }

    @Test("a decoder is idle between requests only")
    func idle() throws {
        var decoder = RequestDecoder()
        let bytes = Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
        #expect(decoder.isIdle)
        var position = 0
        let head = Head()
        let part = Array(bytes[..<7])
        #expect(try decoder.next(unsafe part.span.bytes, at: &position, head: head, trailers: Head()) == .needMore)
        #expect(!decoder.isIdle)
        #expect(try decoder.next(unsafe bytes.span.bytes, at: &position, head: head, trailers: Head()) == .head)
        #expect(!decoder.isIdle)
        #expect(try decoder.next(unsafe bytes.span.bytes, at: &position, head: head, trailers: Head()) == .end)
        #expect(decoder.isIdle)
    }

    private func refusal(of input: String, _ limits: MessageLimits = MessageLimits()) -> (error: HTTP1Error, head: Head)? {
        var decoder = RequestDecoder(limits: limits)
        let head = Head()
        var position = 0
        let bytes = Array(input.utf8)
        do throws(HTTP1Error) {
            _ = try decoder.next(unsafe bytes.span.bytes, at: &position, head: head, trailers: Head())
            return nil
        } catch {
            return (error, head)
        }
    }
}

/// Requests and what must come out of them.
let acceptedRequests: [(String, [String])] = [
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", ["GET / 1.1 @a [Host: a] none", "end "]),
    ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", ["GET / 1.1 @a [Host: a] none", "end "]),
    (
        "POST /x?y=1 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\n\r\nhello",
        ["POST /x?y=1 1.1 @a:80 [Host: a:80|Content-Length: 5] length(5)", "end hello"]
    ),
    // Spaces around values, empty values, odd but legal names, bytes above ASCII.
    (
        "GET / HTTP/1.1\r\nHost:a\r\nX: \t b \t\r\nY:\r\nZ: \r\n!#$%&'*+-.^_`|~: ~\r\nW: \u{E4}\r\n\r\n",
        ["GET / 1.1 @a [Host: a|X: b|Y: |Z: |!#$%&'*+-.^_`|~: ~|W: \u{E4}] none", "end "]
    ),
    // S4: chunked in any case; S7: extensions dropped; trailers.
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cHuNked\r\n\r\n5\r\nhello\r\n006;x=y; z\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n",
        ["POST / 1.1 @a [Host: a|Transfer-Encoding: cHuNked] chunked", "end hello world [X-Sum: 1]"]
    ),
    (
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000001\r\nx\r\nA\r\n0123456789\r\n0;last\r\n\r\n"
            + "GET /next HTTP/1.1\r\nHost: b\r\n\r\n",
        [
            "PUT / 1.1 @a [Host: a|Transfer-Encoding: chunked] chunked", "end x0123456789", "GET /next 1.1 @b [Host: b] none", "end ",
        ]
    ),
    // S9: fields that must not come late are dropped.
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: x\r\nX-Forwarded-For: 1\r\nGrpc-Status: 0\r\n"
            + "Cookie: c\r\nContent-Type: t\r\nExpect: 100-continue\r\nETag: e\r\n\r\n",
        ["POST / 1.1 @a [Host: a|Transfer-Encoding: chunked] chunked", "end  [Grpc-Status: 0|ETag: e]"]
    ),
    // Trailers that were all dropped leave nothing for the next message.
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nCookie: 1\r\n\r\n"
            + "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n\r\n"
            + "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        [
            "POST / 1.1 @a [Host: a|Transfer-Encoding: chunked] chunked", "end ",
            "POST / 1.1 @a [Host: a|Transfer-Encoding: chunked] chunked", "end  [X: 1]", "GET / 1.1 @a [Host: a] none", "end ",
        ]
    ),
    // S11: a body is a body on every method.
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", ["GET / 1.1 @a [Host: a|Content-Length: 2] length(2)", "end hi"]),
    ("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nh", ["HEAD / 1.1 @a [Host: a|Content-Length: 1] length(1)", "end h"]),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", ["POST / 1.1 @a [Host: a|Content-Length: 0] length(0)", "end "]),
    // S12: only the real expectation is one; others go on as they are.
    (
        "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
        ["PUT / 1.1 @a [Host: a|Expect: 100-Continue|Content-Length: 1] length(1) expects", "end x"]
    ),
    (
        "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x\r\nContent-Length: 1\r\n\r\nx",
        ["PUT / 1.1 @a [Host: a|Expect: 100-continue, x|Content-Length: 1] length(1)", "end x"]
    ),
    // Persistence.
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", ["GET / 1.1 @a [Host: a|Connection: Close] none close", "end "]),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, ,close\r\n\r\n", ["GET / 1.1 @a [Host: a|Connection: x, ,close] none close", "end "]),
    ("GET / HTTP/1.0\r\n\r\n", ["GET / 1.0 @ [] none close", "end "]),
    ("GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n", ["GET / 1.0 @a [Host: a|Connection: Keep-Alive] none", "end "]),
    (
        "GET / HTTP/1.0\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n",
        ["GET / 1.0 @ [Connection: close|Connection: keep-alive] none close", "end "]
    ),
    // Upgrade, and what only looks like one.
    (
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
        ["GET /ws 1.1 @a [Host: a|Connection: keep-alive, Upgrade|Upgrade: websocket] none upgrade", "end "]
    ),
    ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", ["GET / 1.1 @a [Host: a|Upgrade: websocket] none", "end "]),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket, H2C\r\n\r\n",
        ["GET / 1.1 @a [Host: a|Connection: upgrade|Upgrade: websocket, H2C] none", "end "]
    ),
    // S17: target forms; the authority of the target wins.
    ("GET http://b:81/p?q HTTP/1.1\r\nHost: a\r\n\r\n", ["GET /p?q 1.1 @b:81 [Host: a] none", "end "]),
    ("GET http://b/ HTTP/1.1\r\nHost:\r\n\r\n", ["GET / 1.1 @b [Host: ] none", "end "]),
    ("GET HTTPS://b HTTP/1.1\r\nHost: b\r\n\r\n", ["GET / 1.1 @b [Host: b] none", "end "]),
    ("GET http://b?q HTTP/1.1\r\nHost: b\r\n\r\n", ["GET /?q 1.1 @b [Host: b] none", "end "]),
    ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", ["OPTIONS * 1.1 @a [Host: a] none", "end "]),
    ("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n", ["OPTIONS * 1.1 @b [Host: a] none", "end "]),
    ("CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n", ["CONNECT  1.1 @b:443 [Host: a] none", "end "]),
    ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", ["GET / 1.1 @[::1]:80 [Host: [::1]:80] none", "end "]),
    (
        "GET / HTTP/1.1\r\nHost: a_b.c-d~e%41!$&'()*+,;=\r\n\r\n",
        ["GET / 1.1 @a_b.c-d~e%41!$&'()*+,;= [Host: a_b.c-d~e%41!$&'()*+,;=] none", "end "]
    ),
    // T1: the path's own matters are somebody else's.
    ("GET /a//../%2f\\\"<>^`{|};@: HTTP/1.1\r\nHost: a\r\n\r\n", ["GET /a//../%2f\\\"<>^`{|};@: 1.1 @a [Host: a] none", "end "]),
    ("PURGE / HTTP/1.1\r\nHost: a\r\n\r\n", ["PURGE / 1.1 @a [Host: a] none", "end "]),
]

/// Heads that are refused, with the reason. Third: the case of the catalogue of attacks.
let refusedHeads: [(String, String, String)] = {
    func get(_ fields: String) -> String { "GET / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n\r\n" }
    func host(_ value: String) -> String { "GET / HTTP/1.1\r\nHost: \(value)\r\n\r\n" }
    func line(_ line: String) -> String { "\(line)\r\nHost: a\r\n\r\n" }
    return [
        (get("Content-Length: 5\r\nTransfer-Encoding: chunked"), "content_length_and_chunked_not_allowed", "S1"),
        (get("Transfer-Encoding: chunked\r\nContent-Length: 0"), "content_length_and_chunked_not_allowed", "S1"),
        (get("Content-Length: 5\r\nContent-Length: 6"), "repeated_content_length", "S2"),
        (get("Content-Length: 5\r\ncontent-length: 5"), "repeated_content_length", "S2"),
        (get("Content-Length: 5, 6"), "invalid_content_length", "S2"),
        (get("Content-Length: 5,5"), "invalid_content_length", "S2"),
        (get("Content-Length: 5, 5"), "invalid_content_length", "S2"),
        (get("Content-Length:"), "invalid_content_length", "S3"),
        (get("Content-Length: "), "invalid_content_length", "S3"),
        (get("Content-Length: +5"), "invalid_content_length", "S3"),
        (get("Content-Length: -0"), "invalid_content_length", "S3"),
        (get("Content-Length: 0x5"), "invalid_content_length", "S3"),
        (get("Content-Length: 5 "), "invalid_content_length", "S3"),
        (get("Content-Length: 5\t"), "invalid_content_length", "S3"),
        (get("Content-Length: 1 2"), "invalid_content_length", "S3"),
        (get("Content-Length: 00000000000000000005"), "invalid_content_length", "S3"),
        (get("Content-Length: 9223372036854775808"), "invalid_content_length", "S3"),
        (get("Content-Length: 99999999999999999999"), "invalid_content_length", "S3"),
        (get("Content-Length: 5\0"), "invalid_characters", "S3"),
        (get("Transfer-Encoding: xchunked"), "unsupported_transfer_encoding", "S4"),
        (get("Transfer-Encoding: gzip, deflate"), "unsupported_transfer_encoding", "S4"),
        (get("Transfer-Encoding: identity"), "unsupported_transfer_encoding", "S4"),
        (get("Transfer-Encoding: chunked, identity"), "invalid_transfer_encoding", "S4"),
        (get("Transfer-Encoding: gzip, chunked"), "invalid_transfer_encoding", "S4"),
        (get("Transfer-Encoding: chunked, chunked"), "invalid_transfer_encoding", "S4"),
        (get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), "invalid_transfer_encoding", "S4"),
        (get("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"), "invalid_transfer_encoding", "S4"),
        (get("Transfer-Encoding: chunked "), "invalid_transfer_encoding", "S4"),
        (get("Transfer-Encoding: chunked,"), "invalid_transfer_encoding", "S4"),
        (get("Transfer-Encoding: \"chunked\""), "invalid_transfer_encoding", "S4"),
        (get("Transfer-Encoding:"), "invalid_transfer_encoding", "S4"),
        (get("Transfer-Encoding: \u{0B}chunked"), "invalid_characters", "S4"),
        (get("Transfer-Encoding:\r\n chunked"), "invalid_transfer_encoding", "S4: the empty value is met first"),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_encoding_not_allowed", "S5"),
        ("GET / HTTP/1.1\nHost: a\n\n", "bare_line_end", "S6"),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", "bare_line_end", "S6"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", "bare_line_end", "S6"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\rX\r\n", "bare_line_end", "S6"),
        ("GET / HTTP/1.1\rHost: a\r\n\r\n", "bare_line_end", "S6"),
        (get("X: a\rb"), "bare_line_end", "S6"),
        (get("X: a\nb"), "bare_line_end", "S6"),
        (get("X: a\r\n b"), "folded_header", "S6"),
        (get("X: a\r\n\tb: c"), "folded_header", "S6"),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "folded_header", "S6"),
        ("\nGET / HTTP/1.1\r\n", "invalid_request_line", "S6"),
        ("\r\n\r\nGET / HTTP/1.1\r\n", "invalid_request_line", "S6"),
        (get("X : a"), "space_before_colon", "S10"),
        (get("Content-Length : 5"), "space_before_colon", "S10"),
        (get("X\t: a"), "space_before_colon", "S10"),
        (get(": a"), "invalid_header_name", "S10"),
        (get("X"), "invalid_header_name", "S10"),
        (get("X\0: a"), "invalid_header_name", "S10"),
        (get("X\u{1}: a"), "invalid_header_name", "S10"),
        (get("X\u{E4}: a"), "invalid_header_name", "S10"),
        (get("(x): a"), "invalid_header_name", "S10"),
        (get("X: \u{7F}"), "invalid_characters", "S10"),
        (get("Host: a"), "repeated_host_header", "S17"),
        (get("host: b"), "repeated_host_header", "S17"),
        ("GET / HTTP/1.1\r\n\r\n", "missing_host_header", "S17"),
        (host(""), "invalid_host", "S17"),
        (host("a@b"), "invalid_host", "S17"),
        (host("a#b"), "invalid_host", "S17"),
        (host("a/b"), "invalid_host", "S17"),
        (host("a b"), "invalid_host", "S17"),
        (host("a:b"), "invalid_host", "S17"),
        (host("a:80:80"), "invalid_host", "S17"),
        (host("a:"), "invalid_host", "S17"),
        (host(":80"), "invalid_host", "S17"),
        (host("a:65536"), "invalid_host", "S17"),
        (host("a:000080"), "invalid_host", "S17"),
        (host("a:+80"), "invalid_host", "S17"),
        (host("a%zz"), "invalid_host", "S17"),
        (host("a%4"), "invalid_host", "S17"),
        (host("[::1"), "invalid_host", "S17"),
        (host("[]"), "invalid_host", "S17"),
        (host("[::1]x"), "invalid_host", "S17"),
        (host("::1"), "invalid_host", "S17"),
        (host("[fe80::1%25eth0]"), "invalid_host", "S17"),
        (host("\u{E4}"), "invalid_host", "S17"),
        ("GET http://b@c/ HTTP/1.1\r\nHost: a\r\n\r\n", "invalid_url", "S17"),
        ("GET http:///p HTTP/1.1\r\nHost: a\r\n\r\n", "invalid_url", "S17"),
        ("GET http://b/ HTTP/1.1\r\nHost: a@b\r\n\r\n", "invalid_host", "S17"),
        ("GET http://b/ HTTP/1.1\r\n\r\n", "missing_host_header", "S17"),
        (line("GET ftp://b/ HTTP/1.1"), "invalid_url", "S17"),
        (line("GET b:80 HTTP/1.1"), "invalid_url", "S17"),
        (line("GET * HTTP/1.1"), "invalid_url", "S17"),
        (line("OPTIONS ** HTTP/1.1"), "invalid_url", "S17"),
        (line("CONNECT b HTTP/1.1"), "invalid_url", "S17"),
        (line("CONNECT /p HTTP/1.1"), "invalid_url", "S17"),
        ("CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\nContent-Length: 1\r\n\r\n", "content_length_not_allowed", "S16"),
        ("CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_encoding_not_allowed", "S16"),
        (line("GET /#f HTTP/1.1"), "invalid_url", "T1"),
        (line("GET /\u{1} HTTP/1.1"), "invalid_url", "T1"),
        (line("GET /\0 HTTP/1.1"), "invalid_url", "T1"),
        (line("GET /\t HTTP/1.1"), "invalid_url", "T1"),
        (line("GET /\u{7F} HTTP/1.1"), "invalid_url", "T1"),
        (line("GET /\u{E4} HTTP/1.1"), "invalid_url", "T1"),
        (line("GET /"), "invalid_request_line", "start line"),
        (line("GET  / HTTP/1.1"), "invalid_request_line", "start line"),
        (line("GET /  HTTP/1.1"), "invalid_request_line", "start line"),
        (line("GET / HTTP/1.1 "), "invalid_request_line", "start line"),
        (line("GET / http/1.1"), "invalid_request_line", "start line"),
        (line("GET / HTTP/11.1"), "invalid_request_line", "start line"),
        (line("GET / HTTP/1.1x"), "invalid_request_line", "start line"),
        (line(" GET / HTTP/1.1"), "invalid_request_line", "start line"),
        (line("G(T / HTTP/1.1"), "invalid_request_line", "start line"),
        (line("GET / HTTP/1.2"), "unsupported_version", "start line"),
        (line("GET / HTTP/0.9"), "unsupported_version", "start line"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "unsupported_version", "the preface of HTTP/2"),
        ("\u{16}\u{3}\u{1}\0", "invalid_request_line", "the hello of TLS"),
    ]
}()

/// Chunked bodies that are refused.
let refusedBodies: [(String, String)] = [
    // S6, in chunk lines and trailers
    ("5\nhello\r\n0\r\n\r\n", "bare_line_end"),
    ("5\rhello\r\n0\r\n\r\n", "bare_line_end"),
    ("5\r\nhello\n0\r\n\r\n", "missing_chunk_end"),
    ("5\r\nhello\r0\r\n\r\n", "missing_chunk_end"),
    ("5\r\nhello!\r\n0\r\n\r\n", "missing_chunk_end"),
    ("0\n\r\n", "bare_line_end"),
    ("0\r\n\n", "bare_line_end"),
    ("0\r\nX: 1\n\r\n", "bare_line_end"),
    ("0\r\nX: 1\r\n 2\r\n\r\n", "folded_header"),
    ("0\r\nX : 1\r\n\r\n", "space_before_colon"),
    // S7
    ("5;a\nhello\r\n0\r\n\r\n", "bare_line_end"),
    ("5;\nX\r\nhello\r\n0\r\n\r\n", "bare_line_end"),
    ("5;a\rb\r\nhello\r\n", "bare_line_end"),
    ("5;a=\"b\"\r\nhello\r\n0\r\n\r\n", "invalid_chunk_extension"),
    ("5;a=\"\r\nX\"\r\nhello\r\n", "invalid_chunk_extension"),
    ("5;\0\r\nhello\r\n", "invalid_chunk_extension"),
    ("5;\u{E4}\r\nhello\r\n", "invalid_chunk_extension"),
    ("5;" + String(repeating: "x", count: 257) + "\r\nhello\r\n", "chunk_extension_too_long"),
    ("5 ;a\r\nhello\r\n", "invalid_chunk_size"),
    // S8
    ("0x5\r\nhello\r\n", "invalid_chunk_size"),
    ("+5\r\nhello\r\n", "invalid_chunk_size"),
    (" 5\r\nhello\r\n", "invalid_chunk_size"),
    ("5 \r\nhello\r\n", "invalid_chunk_size"),
    ("-1\r\nhello\r\n", "invalid_chunk_size"),
    ("\r\nhello\r\n", "invalid_chunk_size"),
    (";a\r\nhello\r\n", "invalid_chunk_size"),
    ("g\r\nhello\r\n", "invalid_chunk_size"),
    ("10000000000000005\r\nhello\r\n", "invalid_chunk_size"),
    ("ffffffffffffffff\r\nhello\r\n", "invalid_chunk_size"),
    ("8000000000000000\r\nhello\r\n", "invalid_chunk_size"),
    ("00000000000000005\r\nhello\r\n", "invalid_chunk_size"),
    // S9
    ("0\r\nContent-Length: 5\r\n\r\n", "forbidden_trailer"),
    ("0\r\nTransfer-Encoding: chunked\r\n\r\n", "forbidden_trailer"),
    ("0\r\nHost: b\r\n\r\n", "forbidden_trailer"),
    ("0\r\nConnection: close\r\n\r\n", "forbidden_trailer"),
    ("0\r\nX: " + String(repeating: "x", count: 70_000) + "\r\n\r\n", "trailers_too_large"),
    ("0\r\n" + String(repeating: "X: y\r\n", count: 101) + "\r\n", "too_many_headers"),
]
