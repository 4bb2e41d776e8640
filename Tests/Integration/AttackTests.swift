import Foundation
import ProxyConfig
import TestSupport
import Testing

/// Attack cases S1 to S19 of the reference, end to end: the right status, the connection closed, and not one byte for the origin.
@Suite struct AttackTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var name: String
        var request: String
        var status: Int

        init(_ name: String, _ request: String, _ status: Int = 400) {
            self.name = name
            self.request = request
            self.status = status
        }

        var testDescription: String { name }
    }

    private static func get(_ fields: String) -> String { "GET / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n" }
    private static func post(_ fields: String, _ body: String = "0\r\n\r\n") -> String {
        "POST / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n\(body)"
    }
    private static func chunked(_ body: String) -> String { post("Transfer-Encoding: chunked\r\n", body) }

    static let refused: [Case] = [
        Case("S1 length and chunks", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")),
        Case("S1 chunks and length", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")),
        Case("S2 two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello")),
        Case("S2 the same length twice", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")),
        Case("S2 lengths in a list", post("Content-Length: 5, 6\r\n", "hello")),
        Case("S2 the same length in a list", post("Content-Length: 5,5\r\n", "hello")),
        Case("S3 empty length", post("Content-Length: \r\n", "hello")),
        Case("S3 plus sign", post("Content-Length: +5\r\n", "hello")),
        Case("S3 minus zero", post("Content-Length: -0\r\n", "")),
        Case("S3 hexadecimal length", post("Content-Length: 0x5\r\n", "hello")),
        Case("S3 twenty digits", post("Content-Length: 18446744073709551617\r\n", "hello")),
        Case("S3 NUL in the length", post("Content-Length: 5\0\r\n", "hello")),
        Case("S4 xchunked", post("Transfer-Encoding: xchunked\r\n"), 501),
        Case("S4 chunked is not last", post("Transfer-Encoding: chunked, identity\r\n")),
        Case("S4 chunked twice", post("Transfer-Encoding: chunked, chunked\r\n")),
        Case("S4 two fields of chunked", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")),
        Case("S4 vertical tab", post("Transfer-Encoding: \u{b}chunked\r\n")),
        Case("S4 folded", post("Transfer-Encoding:\r\n chunked\r\n")),
        Case("S5 chunks in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Case("S6 bare LF behind the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        Case("S6 bare LF behind a field", "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
        Case("S6 bare LF at the end of the head", "GET / HTTP/1.1\r\nHost: a\r\n\n"),
        Case("S6 bare CR in a value", get("X: a\rb\r\n")),
        Case("S6 bare CR behind the version", "GET / HTTP/1.1\rHost: a\r\n\r\n"),
        Case("S6 folded field", get("X: a\r\n b\r\n")),
        Case("S6 LF in chunk lines", chunked("5\nhello\r\n0\r\n\r\n")),
        Case("S6 LF in trailers", chunked("0\r\nX: a\n\r\n")),
        Case("S7 LF in a chunk extension", chunked("5;a\nb\r\nhello\r\n0\r\n\r\n")),
        Case("S7 CR in a chunk extension", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n")),
        Case("S7 chunk extension of 300 bytes", chunked("5;" + String(repeating: "a", count: 300) + "\r\nhello\r\n0\r\n\r\n")),
        Case("S7 quoted chunk extension", chunked("5;a=\"b\"\r\nhello\r\n0\r\n\r\n")),
        Case("S7 bytes beyond the chunk", chunked("5\r\nhelloX\r\n0\r\n\r\n")),
        Case("S8 0x before the size", chunked("0x5\r\nhello\r\n0\r\n\r\n")),
        Case("S8 plus before the size", chunked("+5\r\nhello\r\n0\r\n\r\n")),
        Case("S8 space before the size", chunked(" 5\r\nhello\r\n0\r\n\r\n")),
        Case("S8 size of 2^64", chunked("10000000000000000\r\nhello\r\n0\r\n\r\n")),
        Case("S8 too many zeros", chunked("00000000000000005\r\nhello\r\n0\r\n\r\n")),
        Case("S8 empty size", chunked("\r\nhello\r\n0\r\n\r\n")),
        Case("S9 length in trailers", chunked("0\r\nContent-Length: 5\r\n\r\n")),
        Case("S9 encoding in trailers", chunked("0\r\nTransfer-Encoding: chunked\r\n\r\n")),
        Case("S9 host in trailers", chunked("0\r\nHost: b\r\n\r\n")),
        Case("S9 connection in trailers", chunked("0\r\nConnection: close\r\n\r\n")),
        Case("S10 space before the colon", get("X : a\r\n")),
        Case("S10 space before the colon of a length", post("Content-Length : 5\r\n", "hello")),
        Case("S10 empty name", get(": a\r\n")),
        Case("S10 NUL in a name", get("X\0Y: a\r\n")),
        Case("S10 control in a name", get("X\u{1}: a\r\n")),
        Case("S10 UTF-8 in a name", get("Xé: a\r\n")),
        Case("S10 no colon", get("X\r\n")),
        Case("S10 NUL in a value", get("X: a\0b\r\n")),
        Case("S17 no host", "GET / HTTP/1.1\r\nX: a\r\n\r\n"),
        Case("S17 empty host", "GET / HTTP/1.1\r\nHost: \r\n\r\n"),
        Case("S17 two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        Case("S17 host with @", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"),
        Case("S17 host with #", "GET / HTTP/1.1\r\nHost: a#b\r\n\r\n"),
        Case("S17 host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        Case("S17 port that is none", "GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n"),
        Case("S17 user in an absolute target", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        Case("S17 other scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        Case("S18 target beyond 8 KiB", "GET /" + String(repeating: "a", count: 8192) + " HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        Case("S18 101 fields", get((0..<100).map { "X-\($0): a\r\n" }.joined()), 431),
        Case("S18 one value of 64 KiB", get("X-Large: " + String(repeating: "a", count: 65536) + "\r\n"), 431),
        Case("S18 64 KiB in all", get((0..<70).map { "X-\($0): " + String(repeating: "a", count: 1000) + "\r\n" }.joined()), 431),
        Case("method that is none", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        Case("method of 40 letters", String(repeating: "A", count: 40) + " / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        Case("two spaces in the request line", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        Case("HTTP/2 in text", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        Case("HTTP/0.9", "GET /\r\n\r\n"),
        Case("a TLS hello", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{FC}\u{3}\u{3}"),
    ]

    @Test("the preface of HTTP/2 on a listener that speaks HTTP/1 only is a request of an unknown version")
    func prefaceWithoutHTTP2() throws {
        let origin = try Origin.answering(ok())
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1, manager: { $0.codec = .http1 }) }) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            #expect(try caller.readResponse().status == 505)
        }
        #expect(origin.connections.isEmpty)
    }

    @Test("a malformed request is refused, the connection closes, and the origin gets nothing, not even from what follows it")
    func malformed() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            for attack in Self.refused {
                let caller = try proxy.connect()
                // What stands behind the attack is what a smuggler wants to have read as a request.
                try caller.send(attack.request + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
                guard let (bytes, end) = try? caller.readToEnd() else {
                    Issue.record("\(attack.name): the connection stays open")
                    continue
                }
                let answer = String(decoding: bytes, as: UTF8.self)
                #expect(answer.hasPrefix("HTTP/1.1 \(attack.status) "), "\(attack.name): \(shown(bytes))")
                #expect(answer.ranges(of: "HTTP/1.1 ").count == 1, "\(attack.name): more than one answer: \(shown(bytes))")
                #expect(answer.lowercased().contains("connection: close"), "\(attack.name): \(shown(bytes))")
                #expect(end == .closed, "\(attack.name): reset")
            }
        }
        #expect(origin.received.isEmpty, "\(shown(origin.received))")
    }

    @Test("the same attacks, one byte at a time, meet the same answers", arguments: [3, 17, 30, 45, 60])
    func cutInPieces(index: Int) throws {
        let origin = try Origin.answering(ok())
        let attack = Self.refused[index]
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            for byte in Array(attack.request.utf8) { try? caller.send([byte]) }
            let bytes = try caller.readToEnd().bytes
            #expect(String(decoding: bytes, as: UTF8.self).hasPrefix("HTTP/1.1 \(attack.status) "), "\(attack.name): \(shown(bytes))")
        }
        // A body that turns bad after its head was sent on can only be cut short: never is it whole.
        #expect(!origin.receivedText.contains("0\r\n\r\n"), "\(shown(origin.received))")
    }

    @Test("what a refusal says names the limit and the largest field")
    func limitsAreNamed() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            let tooLarge = try proxy.exchange(Self.get("X-Large: " + String(repeating: "a", count: 65536) + "\r\n"))
            #expect(tooLarge.status == 431)
            #expect(tooLarge.bodyText.contains("65536") && tooLarge.bodyText.contains("X-Large"), "\(tooLarge.bodyText)")
            let tooMany = try proxy.exchange(Self.get((0..<100).map { "X-\($0): a\r\n" }.joined()))
            #expect(tooMany.bodyText.contains("100"), "\(tooMany.bodyText)")
            let tooLong = try proxy.exchange("GET /" + String(repeating: "a", count: 9000) + " HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(tooLong.status == 414)
            #expect(tooLong.bodyText.contains("8192"), "\(tooLong.bodyText)")
            #expect(tooLong.value("x-outrigger-details")?.contains("DPE") == true, "\(tooLong.headText)")
        }
    }

    @Test("the largest head that the limits allow passes whole")
    func largestHead() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            let value = String(repeating: "a", count: 60000)
            #expect(try proxy.exchange(Self.get("X-Large: \(value)\r\n")).status == 200)
            #expect(origin.receivedText.contains("X-Large: \(value)\r\n"))
            #expect(try proxy.exchange(Self.get((0..<99).map { "X-\($0): a\r\n" }.joined())).status == 200)
            #expect(try proxy.exchange("GET /" + String(repeating: "b", count: 8191) + " HTTP/1.1\r\nHost: a\r\n\r\n").status == 200)
        }
    }

    @Test("what one caller or origin left half said appears in nobody else's message")
    func halfSaid() throws {
        let cut = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Half: trailer\r\nX-More: trailer\r\n"
        let origin = try Origin { connection in
            while let request = try connection.readRequest() {
                if request.target == "/cut" { return try connection.send(cut) }
                try connection.send("HTTP/1.1 200 OK\r\n\r\nok")
                return
            }
        }
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1, process: { $0.workers = 1 }) }) { (proxy) throws in
            for _ in 0..<20 {
                let half = try proxy.connect()
                try half.send("GET /half HTTP/1.1\r\nHost: a\r\nX-Half: head\r\nX-More: head\r\nX-Most: head\r\n")
                half.finishSending()
                _ = try half.readToEnd()
                let cut = try proxy.connect()
                try cut.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n")
                _ = try cut.readToEnd()
                let good = try proxy.exchange("GET /good HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(good.bodyText == "ok" && good.trailers.isEmpty, "\(good)")
            }
        }
        for line in origin.receivedText.components(separatedBy: "\r\n") where !line.isEmpty {
            let isExpected = [
                "GET /cut ", "GET /good ", "Host: a", "x-forwarded-proto: ", "x-request-id: ", "x-envoy-expected-rq-timeout-ms: ",
            ].contains { line.hasPrefix($0) }
            #expect(isExpected, "\(line)")
        }
    }

    @Test("S4: chunked in any case is chunked")
    func chunkedAnyCase() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            #expect(try proxy.exchange(Self.post("transfer-encoding: CHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n")).status == 200)
        }
        #expect(origin.receivedText.lowercased().ranges(of: "transfer-encoding: chunked").count == 1)
    }

    @Test("S7: chunk extensions are not passed on")
    func extensionsAreDropped() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            let answer = try proxy.exchange(Self.chunked("5;name=value\r\nhello\r\n0;last\r\n\r\n"))
            #expect(answer.status == 200)
        }
        #expect(origin.receivedText.hasSuffix("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "\(shown(origin.received))")
    }

    @Test("S11: bodies of GET and HEAD requests are framed as they say, and the next request is read from behind them")
    func bodiesOfGet() throws {
        let origin = try Origin.http { request in Array(ok(request.target + request.bodyText).utf8) }
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
            try caller.send(
                "GET /one HTTP/1.1\r\nHost: a\r\nContent-Length: \(smuggled.utf8.count)\r\n\r\n\(smuggled)"
                    + "GET /two HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(try caller.readResponse().bodyText == "/one" + smuggled)
            #expect(try caller.readResponse().bodyText == "/two")
        }
    }

    @Test("S11: a body behind 204, 304 or an answer to HEAD is never given to anyone", arguments: [204, 304])
    func bodyBehind204(status: Int) throws {
        // The origin's extra bytes look like an answer to the next request.
        let poison = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned"
        let origin = try Origin { connection in
            while let request = try connection.readRequest() {
                if request.target == "/poison" {
                    try connection.send("HTTP/1.1 \(status) X\r\nETag: \"a\"\r\n\r\n" + poison)
                } else {
                    try connection.send(ok("clean"))
                }
            }
        }
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            for _ in 0..<20 {
                let first = try caller.exchange("GET /poison HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(first.status == status || first.status == 502)
                if first.saysClose { break }
                #expect(try caller.exchange("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").bodyText == "clean")
            }
        }
    }

    @Test("S13: bytes that an origin sends unasked never answer a request, and their connection is not used again")
    func unsolicited() throws {
        let poison = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned"
        let origin = try Origin { connection in
            while try connection.readRequest() != nil {
                // Two answers to one request: the second belongs to nobody.
                try connection.send(ok("clean") + poison)
            }
        }
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            for _ in 0..<50 {
                #expect(try caller.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").bodyText == "clean")
            }
        }
        #expect(origin.connections.count == 50)
    }

    @Test("S13: an origin that speaks first on an idle connection loses it")
    func speaksWhileIdle() throws {
        let closed = Counter()
        let origin = try Origin { connection in
            _ = try connection.readRequest()
            try connection.send(ok("clean"))
            // Behind the answer, once the proxy has put the connection aside.
            try connection.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned")
            if try connection.readToEnd().bytes.isEmpty { closed.add() }
        }
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            for count in 1...20 {
                #expect(try caller.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").bodyText == "clean")
                try eventually("connection \(count) is closed") { closed.value == count }
            }
        }
    }

    @Test("S9: what only a head may say is not taken from trailers; what trailers may say goes on")
    func trailers() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            let request = Self.chunked("0\r\nAuthorization: Basic eA==\r\nX-Checksum: 1\r\n\r\n")
            #expect(try proxy.exchange(request).status == 200)
        }
        #expect(!origin.receivedText.contains("Authorization"))
        #expect(origin.receivedText.hasSuffix("\r\n\r\n0\r\nX-Checksum: 1\r\n\r\n"), "\(shown(origin.received))")
    }

    @Test("S17: the authority of an absolute target wins over Host, which is rewritten")
    func absoluteForm() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: origin) { (proxy) throws in
            #expect(try proxy.exchange("GET http://right.test/path?q=1 HTTP/1.1\r\nHost: wrong.test\r\n\r\n").status == 200)
        }
        let text = origin.receivedText
        #expect(text.hasPrefix("GET /path?q=1 HTTP/1.1\r\n"), "\(text)")
        #expect(text.lowercased().contains("host: right.test\r\n") && !text.contains("wrong.test"), "\(text)")
    }

    @Test("S19: 1000 pipelined requests are answered in order")
    func pipelined() throws {
        let origin = try Origin.http { request in Array(ok(request.target).utf8) }
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            let requests = (0..<1000).map { "GET /\($0) HTTP/1.1\r\nHost: a\r\n\r\n" }.joined()
            let sending = Threads.start(1) { _ in try caller.send(requests) }
            for index in 0..<1000 { #expect(try caller.readResponse().bodyText == "/\(index)") }
            try sending.join()
        }
    }

    @Test("S19: a caller that pipelines and reads nothing does not fill the proxy's memory")
    func pipelinedWithoutReading() throws {
        let body = String(repeating: "x", count: 50_000)
        // Two origins, so that one that is held back does not hide that nobody holds back the other.
        let origins = try (0..<2).map { _ in try Origin.answering(ok(body), records: false) }
        try withProxy(to: origins[0], origins[1]) { (proxy) throws in
            let caller = try proxy.connect(receiveBuffer: 4096)
            let before = proxy.residentBytes
            // Answers of 200 MB, if all were made.
            let requests = Array(String(repeating: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", count: 4000).utf8)
            let sending = Threads.start(1) { _ in try? caller.send(requests, within: .seconds(2)) }
            try sending.join()
            #expect(proxy.residentBytes - before < 20 << 20, "grew by \((proxy.residentBytes - before) >> 20) MB")
            // Then it reads, and gets them all.
            for _ in 0..<500 { #expect(try caller.readResponse().body.count == body.utf8.count) }
            // What it held back meanwhile serves others.
            for _ in 0..<10 { #expect(try proxy.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 200) }
        }
    }

    /// Requests that parsers are known to read differently, each with a second one that must stay a part of the first or never arrive.
    static let pairs: [Case] = [
        Case("CL.TE", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled"),
        Case("TE.CL", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nG\r\n0\r\n\r\n"),
        Case("TE.TE tab", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n"),
        Case("TE space", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        Case("TE quoted", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
        Case("TE of another kind", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        Case("CL with list", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 44\r\n\r\n"),
        Case("LF.CRLF", "POST / HTTP/1.1\r\nHost: a\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Case("chunk TERM.EXT", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;\nxx\r\n0\r\n\r\n"),
        Case("chunk SPILL", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello12\r\n0\r\n\r\n"),
    ]

    @Test("smuggling pairs reach neither a lenient origin nor a strict one")
    func smuggling() throws {
        // Lenient: takes whatever comes for a request per empty line and answers each, so that every smuggled head would be seen.
        let lenient = try Origin { connection in
            while true {
                _ = try connection.read(until: "\r\n\r\n")
                try connection.send(ok("lenient"))
            }
        }
        // Strict: closes on anything that it would not have written itself.
        let strict = try Origin { connection in
            while let request = try connection.readRequest() {
                guard request.values("content-length").count + request.values("transfer-encoding").count <= 1 else { return }
                try connection.send(ok("strict"))
            }
        }
        for origin in [lenient, strict] {
            try withProxy(to: origin) { (proxy) throws in
                // A good request first, so that an upstream connection rests in the pool, ready to be poisoned.
                #expect(try proxy.exchange("GET /good HTTP/1.1\r\nHost: a\r\n\r\n").status == 200)
                for attack in Self.pairs {
                    let caller = try proxy.connect()
                    try caller.send(attack.request + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
                    let bytes = try caller.readToEnd().bytes
                    #expect(
                        String(decoding: bytes, as: UTF8.self).hasPrefix("HTTP/1.1 \(attack.status) "), "\(attack.name): \(shown(bytes))")
                    #expect(try proxy.exchange("GET /good HTTP/1.1\r\nHost: a\r\n\r\n").status == 200, "\(attack.name) poisoned the next")
                }
            }
            let text = origin.receivedText
            #expect(text.ranges(of: "GET /good ").count == 1 + Self.pairs.count && !text.contains("smuggled") && !text.contains("POST"))
        }
    }

    struct Mishap: Sendable, CustomTestStringConvertible {
        var name: String
        var answer: String
        /// 502, unless the head was good and only the body breaks.
        var status = 502

        var testDescription: String { name }
    }

    static let badAnswers: [Mishap] = [
        Mishap(name: "no status line", answer: "hello\r\n\r\n"),
        Mishap(name: "length and chunks", answer: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Mishap(name: "two lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        Mishap(name: "bare LF", answer: "HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        Mishap(name: "folded field", answer: "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
        Mishap(name: "NUL in a value", answer: "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"),
        Mishap(name: "space before a colon", answer: "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"),
        Mishap(name: "101 that nobody asked for", answer: "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"),
        Mishap(name: "HTTP/2 settings", answer: "\0\0\u{12}\u{4}\0\0\0\0\0\0\u{3}\0\0\0\u{64}"),
        Mishap(name: "endless interim answers", answer: String(repeating: "HTTP/1.1 102 Processing\r\n\r\n", count: 100)),
        Mishap(name: "head of 70 KiB", answer: "HTTP/1.1 200 OK\r\nX: " + String(repeating: "a", count: 70000) + "\r\n\r\n"),
    ]

    @Test("a malformed answer is a 502 that names the cause, and its connection is not used again", arguments: badAnswers)
    func malformedAnswer(mishap: Mishap) throws {
        let origin = try Origin.http { request in Array((request.target == "/good" ? ok("good") : mishap.answer).utf8) }
        try withProxy(to: origin) { (proxy) throws in
            let caller = try proxy.connect()
            try caller.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n")
            var answer = try caller.readResponse()
            while (100..<200).contains(answer.status) { answer = try caller.readResponse() }
            #expect(answer.status == mishap.status, "\(answer.headText)")
            #expect(answer.value("x-outrigger-details")?.contains("UPE") == true, "\(answer.headText)")
            #expect(try caller.exchange("GET /good HTTP/1.1\r\nHost: a\r\n\r\n").bodyText == "good")
        }
        #expect(origin.connections.count == 2)
    }
}
