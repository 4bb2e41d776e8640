import Base
import HTTP
import Testing

@Suite("gRPC")
struct GRPCTests {
    @Test(
        "the content types that are gRPC",
        arguments: [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc+json", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc ; charset=utf-8", true),
            ("Application/GRPC", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpc-web-text", false),
            ("application/grpcx", false),
            ("application/grp", false),
            ("application/json", false),
            ("", false),
        ])
    func contentTypes(value: String, isGRPC: Bool) {
        #expect(GRPC.isGRPC(head("content-type", .contentType, value)) == isGRPC)
        #expect(!GRPC.isGRPC(head("accept", .other, value)))
    }

    @Test(
        "grpc-timeout is one to eight digits and a unit",
        arguments: [
            ("1n", 1),
            ("250u", 250_000),
            ("100m", 100_000_000),
            ("5S", 5_000_000_000),
            ("2M", 120_000_000_000),
            ("1H", 3_600_000_000_000),
            ("0S", 0),
            ("00000007m", 7_000_000),
            ("99999999n", 99_999_999),
            ("99999999M", 5_999_999_940_000_000_000),
            ("99999999H", .max),  // 11,400 years.
            ("2562047H", 9_223_369_200_000_000_000),
            ("2562048H", .max),
            ("123456789n", nil),
            ("S", nil),
            ("", nil),
            ("5", nil),
            ("5s", nil),
            ("5h", nil),
            ("-1S", nil),
            ("+1S", nil),
            ("1.5S", nil),
            (" 1S", nil),
            ("1 S", nil),
            ("1SS", nil),
            ("1S ", nil),
            ("0x1S", nil),
        ] as [(String, Int64?)])
    func timeouts(value: String, nanoseconds: Int64?) {
        let expected = nanoseconds.map { Nanoseconds(count: $0) }
        #expect(parse(value) == expected)
        #expect(GRPC.timeout(of: head("grpc-timeout", .grpcTimeout, value)) == expected)
    }

    @Test("a request without grpc-timeout has none")
    func noTimeout() {
        #expect(GRPC.timeout(of: Head()) == nil)
    }

    @Test(
        "a timeout is written in the finest unit that eight digits hold, and cut off",
        arguments: [
            (1, "1n"),
            (99_999_999, "99999999n"),
            (100_000_000, "100000u"),
            (100_000_999, "100000u"),
            (99_999_999_999, "99999999u"),
            (100_000_000_000, "100000m"),
            (99_999_999_999_999, "99999999m"),
            (100_000_000_000_000, "100000S"),
            (100_000_000_000_000_000, "1666666M"),
            (.max, "2562047H"),
            (0, "1n"),
            (-5, "1n"),
        ] as [(Int64, String)])
    func written(nanoseconds: Int64, expected: String) {
        #expect(write(nanoseconds) == expected)
    }

    @Test("what is written reads as no more than what was meant, and as at most one part in 100,000 less")
    func writtenAndRead() throws {
        var count: Int64 = 1
        while count < Int64.max / 3 {
            for sample in [count - 1, count, count + 1] where sample > 0 {
                let text = write(sample)
                let read = try #require(parse(text), "\(text)")
                #expect(text.utf8.count <= 9)
                #expect(read.count <= sample, "\(sample) → \(text)")
                // A number starts again at 100,000 where a coarser unit begins.
                #expect(sample - read.count <= sample / 100_000, "\(sample) → \(text)")
            }
            count *= 3
        }
    }

    @Test("writing appends")
    func appends() {
        var output = Array("x".utf8)
        GRPC.writeTimeout(.seconds(1), into: &output)
        GRPC.encodeMessage(Array("y".utf8).span, into: &output)
        #expect(String(decoding: output, as: UTF8.self) == "x1000000uy")
    }

    @Test(
        "grpc-status is a number of 32 bits, and UNKNOWN where it is anything else",
        arguments: [
            ("0", 0),
            ("14", 14),
            ("014", 14),
            ("4294967295", 4_294_967_295),
            ("4294967296", 2),
            ("99999999999999999999", 2),
            ("", 2),
            ("-1", 2),
            ("1 4", 2),
            ("OK", 2),
        ] as [(String, UInt32)])
    func statuses(value: String, code: UInt32) {
        #expect(GRPC.status(in: head("grpc-status", .grpcStatus, value)) == code)
    }

    @Test("a head without grpc-status has none")
    func noStatus() {
        #expect(GRPC.status(in: head("content-type", .contentType, "application/grpc")) == nil)
    }

    @Test(
        "HTTP to gRPC Status Code Mapping",
        arguments: [
            (400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (502, 14), (503, 14), (504, 14),
            (200, 2), (204, 2), (301, 2), (405, 2), (409, 2), (418, 2), (431, 2), (500, 2), (501, 2), (505, 2),
        ] as [(Int, UInt32)])
    func httpStatuses(status: Int, code: UInt32) {
        #expect(GRPC.status(ofHTTP: status) == code)
    }

    @Test(
        "our own replies to gRPC callers",
        arguments: [
            (404, .noRoute, 12),
            (400, .downstreamProtocolError, 13),
            (408, .streamIdleTimeout, 4),
            (504, .upstreamRequestTimeout, 4),
            (413, [], 8),
            (414, [], 8),
            (429, [], 8),
            (431, .downstreamProtocolError, 8),
            (501, [], 12),
            (502, .upstreamProtocolError, 14),
            (503, [], 14),
            (503, .noHealthyUpstream, 14),
            (503, .upstreamConnectionFailure, 14),
            (503, .breakerOpen, 14),
            (503, .upstreamOverflow, 8),
            (503, [.upstreamOverflow, .retryLimitExceeded], 8),
            (503, .overloadManager, 8),
            (401, [], 16),
            (403, [], 7),
            (500, [], 2),
            (200, [], 2),
        ] as [(Int, ResponseFlags, UInt32)])
    func localReplies(status: Int, flags: ResponseFlags, code: UInt32) {
        #expect(GRPC.status(ofLocalReply: status, flags: flags) == code)
    }

    @Test(
        "grpc-message keeps printable ASCII and escapes the rest",
        arguments: [
            ("no route: nothing is known here", "no route: nothing is known here"),
            ("100%", "100%25"),
            ("a\r\nb\0", "a%0D%0Ab%00"),
            ("~\u{7F}", "~%7F"),
            ("größe", "gr%C3%B6%C3%9Fe"),
            ("", ""),
        ])
    func messages(text: String, expected: String) {
        var output: [UInt8] = []
        GRPC.encodeMessage(Array(text.utf8).span, into: &output)
        #expect(String(decoding: output, as: UTF8.self) == expected)
    }

    private func head(_ name: StaticString, _ known: KnownField, _ value: String) -> Head {
        let head = Head()
        head.append(name: "x-other", value: "application/grpc 1S 5".utf8)
        head.append(name: name, value: value.utf8, known: known)
        return head
    }

    private func parse(_ text: String) -> Nanoseconds? {
        GRPC.parseTimeout(Array(text.utf8).span)
    }

    private func write(_ nanoseconds: Int64) -> String {
        var output: [UInt8] = []
        GRPC.writeTimeout(Nanoseconds(count: nanoseconds), into: &output)
        return String(decoding: output, as: UTF8.self)
    }
}
