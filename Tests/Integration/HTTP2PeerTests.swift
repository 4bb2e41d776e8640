import TestSupport
import Testing

/// The tests' own HTTP/2 understands and is understood by that of others, or what the other tests say means nothing.
@Suite struct HTTP2PeerTests {
    @Test("RFC 7541 appendix C: literals, the dynamic table and its evictions, Huffman codes")
    func hpack() throws {
        var plain = HPACK.Decoder()
        #expect(try text(&plain, "828684410f7777772e6578616d706c652e636f6d") == "GET http / www.example.com")
        #expect(try text(&plain, "828684be58086e6f2d6361636865") == "GET http / www.example.com no-cache")
        var huffman = HPACK.Decoder()
        #expect(try text(&huffman, "828684418cf1e3c2e5f23a6ba0ab90f4ff") == "GET http / www.example.com")
        #expect(try text(&huffman, "828684be5886a8eb10649cbf") == "GET http / www.example.com no-cache")
        #expect(
            try text(&huffman, "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf")
                == "GET https /index.html www.example.com custom-value")
        var evicting = HPACK.Decoder()
        _ = try evicting.decode(HPACK.tableSize(256))
        #expect(
            try text(
                &evicting, "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3")
                == "302 private Mon, 21 Oct 2013 20:13:21 GMT https://www.example.com")
        #expect(
            try text(&evicting, "4883640effc1c0bf") == "307 private Mon, 21 Oct 2013 20:13:21 GMT https://www.example.com")
        #expect(throws: TestFailure.self) { try evicting.decode(HPACK.indexed(66)) }
    }

    private func text(_ decoder: inout HPACK.Decoder, _ hex: String) throws -> String {
        let digits = Array(hex)
        let block = stride(from: 0, to: digits.count, by: 2).compactMap { UInt8(String(digits[$0...$0 + 1]), radix: 16) }
        return try decoder.decode(block).map(\.value).joined(separator: " ")
    }

    @Test("what it writes it reads")
    func roundTrip() throws {
        var decoder = HPACK.Decoder()
        let fields: [HTTP2Field] = [(":path", "/"), ("x-empty", ""), ("x-long", String(repeating: "ä", count: 5000)), ("X\r\nY", "\0")]
        let read = try decoder.decode(HPACK.encode(fields))
        #expect(read.map(\.name) == fields.map(\.name) && read.map(\.value) == fields.map(\.value))
    }

    @Test("curl calls it", arguments: [0, 1, 200_000])
    func curl(size: Int) throws {
        let origin = try Origin.http2 { HTTP2Answer(body: $0.body, trailers: [("x-sum", "1")]) }
        let folder = try TemporaryFolder()
        try folder.replace("body", with: Pattern.bytes(size))
        let answer = try Program.run(
            "curl",
            [
                "-sS", "--noproxy", "*", "--http2-prior-knowledge", "--data-binary", "@\(folder.file("body"))", "-o", folder.file("answer"),
                "-w", "%{response_code} %{http_version} %{size_download}", "http://127.0.0.1:\(origin.port)/",
            ])
        #expect(answer.output == "200 2 \(size)", "\(answer.errors)")
    }

    @Test("it calls nghttpd", .enabled(if: Program.exists("nghttpd"), "needs nghttpd"))
    func nghttpd() throws {
        let folder = try TemporaryFolder()
        try folder.replace("large", with: Pattern.bytes(3_000_000))
        let (server, port) = try Servers.nghttpd(folder, ["--echo-upload", "--trailer", "x-sum: 1"])
        defer { server.end() }
        let peer = try HTTP2Peer(to: port)
        let large = try peer.exchange("GET", "/large")
        #expect(large.status == 200 && large.isWhole && large.isPattern && large.bodyCount == 3_000_000)
        let echo = try peer.exchange("POST", "/", body: Pattern.bytes(500_000), trailers: [("x-up", "1")])
        #expect(echo.isWhole && echo.body == Pattern.bytes(500_000) && echo.trailer("x-sum") == "1")
        try peer.settle()
        try peer.roundTrip()
    }
}
