import Base
import HTTP
import HTTP1
import Testing

@Suite struct ResponseDecoderTests {
    @Test("RFC 9112 section 6.3: where a response ends", arguments: acceptedResponses)
    func accepts(_ input: String, _ methods: [Method], _ expected: [String]) {
        let eof = expected.last == "complete"
        #expect(Transcript.responses(input, to: methods, upgrade: true, eof: eof) == expected)
    }

    @Test("any cut gives the same events", arguments: acceptedResponses)
    func cuts(_ input: String, _ methods: [Method], _ expected: [String]) {
        let eof = expected.last == "complete"
        let count = input.utf8.count
        for cut in 0...count {
            #expect(Transcript.responses(input, to: methods, upgrade: true, eof: eof, cutAt: [cut]) == expected, "cut at \(cut)")
        }
        #expect(Transcript.responses(input, to: methods, upgrade: true, eof: eof, cutAt: Array(0..<count)) == expected, "byte by byte")
    }

    @Test("a bad response is refused by its name", arguments: refusedResponses)
    func refuses(_ input: String, _ details: String) {
        #expect(Transcript.responses(input).last == "http1.\(details)")
        #expect(Transcript.responses(input, cutAt: Array(0..<input.utf8.count)).last == "http1.\(details)", "byte by byte")
    }

    @Test("the end of the connection completes only what ends with it")
    func endOfConnection() {
        func last(_ input: String) -> String? { Transcript.responses(input, eof: true).last }
        #expect(last("HTTP/1.1 200 OK\r\n\r\nabc") == "complete")
        #expect(last("HTTP/1.1 200 OK\r\n\r\n") == "complete")
        #expect(last("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") == "nothing open")
        #expect(last("") == "http1.truncated")
        #expect(last("HTTP/1.1 200 OK\r\n") == "http1.truncated")
        #expect(last("HTTP/1.1 103 Early Hints\r\n\r\n") == "http1.truncated")
        #expect(last("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc") == "http1.truncated")
        #expect(last("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n") == "http1.truncated")
        #expect(last("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n") == "http1.truncated")
    }

    @Test("S13: bytes that nobody asked for are an error, before and after a response")
    func unasked() {
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
        #expect(Transcript.responses(response, to: []) == ["http1.unexpected_bytes"])
        #expect(Transcript.responses(response + response).last == "http1.unexpected_bytes")
        #expect(Transcript.responses(response + "\r\n").last == "http1.unexpected_bytes")
        #expect(Transcript.responses(response + response, to: [.get, .get]).count == 4)
        #expect(Transcript.responses("HTTP/1.1 204 No Content\r\n\r\nbody").last == "http1.unexpected_bytes")
    }

    @Test("a protocol is switched only by request")
    func upgrade() {
        let response = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\u{1}raw"
        #expect(Transcript.responses(response, upgrade: false) == ["http1.unexpected_upgrade"])
        #expect(
            Transcript.responses(response, upgrade: true) == [
                "101 Switching Protocols [Connection: upgrade|Upgrade: websocket] tunnel close", "left 4",
            ])
        #expect(Transcript.responses("HTTP/1.1 101 X\r\n\r\n", upgrade: true) == ["http1.unexpected_upgrade"])
    }

    @Test("interim responses are bounded")
    func interim() {
        let progress = "HTTP/1.1 102 Processing\r\n\r\n"
        let final = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        #expect(Transcript.responses(String(repeating: progress, count: 64) + final).last == "end ")
        #expect(Transcript.responses(String(repeating: progress, count: 65) + final).last == "http1.too_many_interim_responses")
    }
}

let acceptedResponses: [(String, [Method], [String])] = [
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", [.get], ["200 OK [Content-Length: 2] length(2)", "end hi"]),
    ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", [.get], ["200  [Content-Length: 0] length(0)", "end "]),
    ("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", [.get], ["200  [Content-Length: 0] length(0)", "end "]),
    ("HTTP/1.1 404 Gibt's n\u{E4}t\r\nContent-Length: 0\r\n\r\n", [.get], ["404 Gibt's n\u{E4}t [Content-Length: 0] length(0)", "end "]),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nA: b\r\n\r\n", [.post],
        ["200 OK [Transfer-Encoding: chunked] chunked", "end hi [A: b]"]
    ),
    ("HTTP/1.1 200 OK\r\n\r\nhi", [.get], ["200 OK [] untilClose close", "open hi", "complete"]),
    ("HTTP/1.0 200 OK\r\n\r\nhi", [.get], ["200 OK [] untilClose close", "open hi", "complete"]),
    ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", [.get], ["200 OK [Content-Length: 2] length(2) close", "end hi"]),
    (
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", [.get],
        ["200 OK [Connection: keep-alive|Content-Length: 2] length(2)", "end hi"]
    ),
    (
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", [.get],
        ["200 OK [Connection: close|Content-Length: 0] length(0) close", "end "]
    ),
    // S11: no body, whatever the fields say.
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", [.head, .get],
        ["200 OK [Content-Length: 9] none", "end ", "200 OK [Content-Length: 1] length(1)", "end x"]
    ),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", [.head], ["200 OK [Transfer-Encoding: chunked] none", "end "]),
    ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", [.get], ["304 Not Modified [Content-Length: 9] none", "end "]),
    ("HTTP/1.1 204 No Content\r\nContent-Length: 9\r\nA: b\r\n\r\n", [.get], ["204 No Content [A: b] none", "end "]),
    ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", [.get], ["204 No Content [] none", "end "]),
    (
        "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        [.post],
        [
            "100 Continue [] interim", "103 Early Hints [Link: x] interim", "200 OK [Content-Length: 1] length(1)", "end x",
        ]
    ),
    ("HTTP/1.1 200 Connected\r\nContent-Length: 3\r\n\r\nraw", [.connect], ["200 Connected [] tunnel close", "left 3"]),
    ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", [.connect], ["403 Forbidden [Content-Length: 2] length(2)", "end no"]),
]

let refusedResponses: [(String, String)] = {
    func ok(_ fields: String, _ body: String = "") -> String { "HTTP/1.1 200 OK\r\n\(fields)\r\n\r\n\(body)" }
    return [
        ("HTTP/1.1 99 X\r\n\r\n", "invalid_status_line"),
        ("HTTP/1.1 099 X\r\n\r\n", "invalid_status_line"),
        ("HTTP/1.1 600 X\r\n\r\n", "invalid_status_line"),
        ("HTTP/1.1 2000 X\r\n\r\n", "invalid_status_line"),
        ("HTTP/1.1 20x X\r\n\r\n", "invalid_status_line"),
        ("HTTP/1.1  200 X\r\n\r\n", "invalid_status_line"),
        ("HTTP/1.1 200 X\0\r\n\r\n", "invalid_status_line"),
        ("HTTP/1.1 200 X\n\r\n", "bare_line_end"),
        ("HTTP/1.1 200\n\n              ", "bare_line_end"),
        ("HTTP/2.0 200 X\r\n\r\n", "unsupported_version"),
        ("ICY 200 OK\r\n\r\n", "invalid_status_line"),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", "invalid_status_line"),
        (ok("Content-Length: 5\r\nTransfer-Encoding: chunked"), "content_length_and_chunked_not_allowed"),
        (ok("Content-Length: 5\r\nContent-Length: 5"), "repeated_content_length"),
        (ok("Content-Length: 5, 5"), "invalid_content_length"),
        (ok("Content-Length: "), "invalid_content_length"),
        (ok("Transfer-Encoding: gzip"), "unsupported_transfer_encoding"),
        (ok("Transfer-Encoding: chunked, chunked"), "invalid_transfer_encoding"),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_encoding_not_allowed"),
        (ok("X: a\n"), "bare_line_end"),
        (ok("X : a"), "space_before_colon"),
        (ok("X: a\r\n b"), "folded_header"),
        (ok("X: " + String(repeating: "x", count: 70_000)), "headers_too_large"),
        (ok("Transfer-Encoding: chunked", "5\nhello"), "bare_line_end"),
        (ok("Transfer-Encoding: chunked", "0x5\r\nhello"), "invalid_chunk_size"),
        (ok("Transfer-Encoding: chunked", "0\r\nContent-Length: 5\r\n\r\n"), "forbidden_trailer"),
    ]
}()
