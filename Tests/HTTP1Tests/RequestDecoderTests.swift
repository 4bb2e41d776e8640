import Base
import HTTP
import HTTP1
import Testing

@Suite struct RequestDecoderTests {
    @Test("a request is taken apart as the RFC says", arguments: acceptedRequests)
    func accepts(_ input: String, _ expected: [String]) {
        #expect(Transcript.requests(input) == expected)
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
}

let acceptedRequests: [(String, [String])] = [
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", ["GET / 1.1 @a [Host: a] none", "end "]),
    (
        "POST /x?y=1 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\n\r\nhello",
        ["POST /x?y=1 1.1 @a:80 [Host: a:80|Content-Length: 5] length(5)", "end hello"]
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n",
        ["POST / 1.1 @a [Host: a|Transfer-Encoding: chunked] chunked", "end hello world [X-Sum: 1]"]
    ),
]
