import Base
import HTTP
import ProxyConfig
import TestSupport
import Testing

@testable import Telemetry

/// A request head with these fields; names keep their case.
func requestHead(
    _ method: String = "GET", _ target: String = "/cart?id=7", authority: String = "cart.local:8080", _ fields: [(String, [UInt8])] = []
) -> Head {
    let head = Head()
    head.methodRange = head.append(method.utf8)
    head.target = head.append(target.utf8)
    head.authority = head.append(authority.utf8)
    for (name, value) in fields { head.appendField(name, value) }
    return head
}

func responseHead(_ status: Int, _ fields: [(String, [UInt8])] = []) -> Head {
    let head = Head()
    head.status = status
    for (name, value) in fields { head.appendField(name, value) }
    return head
}

extension Head {
    fileprivate func append(_ text: some Sequence<UInt8>) -> Range<Int> {
        let start = bytes.count
        bytes += text
        return start..<bytes.count
    }

    func appendField(_ name: String, _ value: [UInt8]) {
        let known = KnownField(Array(name.utf8).span)
        let nameRange = append(name.utf8)
        fields.append(Field(name: nameRange, value: append(value), known: known))
    }
}

/// A request that went well, with every field of the record set.
func fullRecord() -> AccessRecord {
    var record = AccessRecord()
    record.startTime = 1_795_370_220_123_456_789  // 2026-11-22T17:57:00.123456789Z
    record.request = requestHead(
        fields: [
            ("User-Agent", "curl/8"), ("x-forwarded-for", "192.0.2.1"), ("X-Team", "blue"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ])
    record.response = responseHead(200, [("Content-Type", Array("text/plain".utf8))])
    record.trailers = responseHead(0, [("grpc-status", Array("5".utf8)), ("X-Checksum", Array("abc".utf8))])
    record.protocolVersion = .http11
    record.status = 200
    record.details = .literal("via_upstream")
    record.connectionTerminationDetails = .literal("idle")
    record.bytesReceived = 12
    record.bytesSent = 3456
    record.duration = 25_900_000
    record.requestDuration = 1_000_000
    record.responseDuration = 20_000_000
    record.upstreamHost = SocketAddress("10.0.0.9:9000")
    record.upstreamLocalAddress = SocketAddress("10.0.0.1:40000")
    record.upstreamCluster = Array("cds_egress_m_cart_http_9000".utf8)
    record.upstreamTransportFailureReason = .bytes(Array("TLS error: 1".utf8))
    record.attempts = 2
    record.upstreamServiceTime = 19
    record.requestID = Array("b0a7".utf8)
    record.routeName = Array("cart-route".utf8)
    record.filterChainName = Array("inbound".utf8)
    record.downstreamRemoteAddress = SocketAddress("192.0.2.1:0")
    record.downstreamDirectRemoteAddress = SocketAddress("[2001:db8::1]:5000")
    record.downstreamLocalAddress = SocketAddress("10.0.0.1:15000")
    record.downstreamPeerURISAN = Array("spiffe://mesh/ns/a".utf8)
    record.requestedServerName = Array("cart.local".utf8)
    record.connectionID = 77
    return record
}

func requestHead(fields: [(String, String)]) -> Head {
    requestHead("GET", "/cart?id=7", authority: "cart.local:8080", fields.map { ($0.0, Array($0.1.utf8)) })
}

func render(_ format: AccessLog.Format, _ record: AccessRecord) throws -> String {
    let compiled = try AccessLogFormat(format, hostname: "host-1")
    var buffer = ByteBuffer()
    compiled.render(record, into: &buffer)
    return unsafe String(decoding: buffer.unsafeBytes, as: UTF8.self)
}

@Suite struct AccessLogFormatTests {
    /// Operator, its value for `fullRecord()`, its value for a record of which nothing is known.
    static let operators: [(String, String, String)] = [
        ("%START_TIME%", "2026-11-22T17:57:00.123Z", "1970-01-01T00:00:00.000Z"),
        ("%START_TIME(%s)%", "1795370220", "0"),
        ("%START_TIME(%Y/%m/%d %T.%3f)%", "2026/11/22 17:57:00.123", "1970/01/01 00:00:00.000"),
        ("%REQ(:METHOD)%", "GET", "-"),
        ("%REQ(:PATH)%", "/cart?id=7", "-"),
        ("%REQ(:AUTHORITY)%", "cart.local:8080", "-"),
        ("%REQ(HOST)%", "cart.local:8080", "-"),
        ("%REQ(:SCHEME)%", "http", "-"),
        ("%REQ(user-agent)%", "curl/8", "-"),
        ("%REQ(USER-AGENT):4%", "curl", "-"),
        ("%REQ(X-TEAM)%", "blue", "-"),
        ("%REQ(X-NONE?X-TEAM)%", "blue", "-"),
        ("%REQ(X-NONE?X-TEAM):2%", "bl", "-"),
        ("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/cart?id=7", "-"),
        ("%REQ(X-NONE)%", "-", "-"),
        ("%REQ(X-REQUEST-ID)%", "b0a7", "-"),
        ("%REQ_WITHOUT_QUERY(:PATH)%", "/cart", "-"),
        ("%RESP(CONTENT-TYPE)%", "text/plain", "-"),
        ("%RESP(:STATUS)%", "200", "-"),
        ("%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", "19", "-"),
        ("%TRAILER(x-checksum)%", "abc", "-"),
        ("%PROTOCOL%", "HTTP/1.1", "-"),
        ("%RESPONSE_CODE%", "200", "0"),
        ("%RESPONSE_CODE_DETAILS%", "via_upstream", "-"),
        ("%RESPONSE_FLAGS%", "-", "-"),
        ("%BYTES_RECEIVED%", "12", "0"),
        ("%BYTES_SENT%", "3456", "0"),
        ("%DURATION%", "25", "0"),
        ("%REQUEST_DURATION%", "1", "-"),
        ("%RESPONSE_DURATION%", "20", "-"),
        ("%RESPONSE_TX_DURATION%", "5", "-"),
        ("%UPSTREAM_HOST%", "10.0.0.9:9000", "-"),
        ("%UPSTREAM_REMOTE_ADDRESS%", "10.0.0.9:9000", "-"),
        ("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.9", "-"),
        ("%UPSTREAM_REMOTE_PORT%", "9000", "-"),
        ("%UPSTREAM_LOCAL_ADDRESS%", "10.0.0.1:40000", "-"),
        ("%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "10.0.0.1", "-"),
        ("%UPSTREAM_LOCAL_PORT%", "40000", "-"),
        ("%UPSTREAM_CLUSTER%", "cds_egress_m_cart_http_9000", "-"),
        ("%UPSTREAM_TRANSPORT_FAILURE_REASON%", "TLS error: 1", "-"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "2", "0"),
        ("%ROUTE_NAME%", "cart-route", "-"),
        ("%VIRTUAL_CLUSTER_NAME%", "-", "-"),
        ("%FILTER_CHAIN_NAME%", "inbound", "-"),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", "192.0.2.1:0", "-"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "192.0.2.1", "-"),
        ("%DOWNSTREAM_REMOTE_PORT%", "0", "-"),
        ("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%", "[2001:db8::1]:5000", "-"),
        ("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "2001:db8::1", "-"),
        ("%DOWNSTREAM_DIRECT_REMOTE_PORT%", "5000", "-"),
        ("%DOWNSTREAM_LOCAL_ADDRESS%", "10.0.0.1:15000", "-"),
        ("%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "10.0.0.1", "-"),
        ("%DOWNSTREAM_LOCAL_PORT%", "15000", "-"),
        ("%DOWNSTREAM_PEER_URI_SAN%", "spiffe://mesh/ns/a", "-"),
        ("%REQUESTED_SERVER_NAME%", "cart.local", "-"),
        ("%CONNECTION_ID%", "77", "0"),
        ("%CONNECTION_TERMINATION_DETAILS%", "idle", "-"),
        ("%HOSTNAME%", "host-1", "host-1"),
        ("%TRACE_ID%", "4bf92f3577b34da6a3ce929d0e0e4736", "-"),
        ("%GRPC_STATUS%", "NotFound", "-"),
        ("%GRPC_STATUS(SNAKE_STRING)%", "NOT_FOUND", "-"),
        ("%GRPC_STATUS(NUMBER)%", "5", "-"),
        ("%GRPC_STATUS_NUMBER%", "5", "-"),
        ("100%%", "100%", "100%"),
    ]

    @Test("each operator gives its value, and what is missing gives a dash or a zero", arguments: operators)
    func value(text: String, full: String, empty: String) throws {
        #expect(try render(.text("<" + text + ">"), fullRecord()) == "<" + full + ">")
        #expect(try render(.text("<" + text + ">"), AccessRecord()) == "<" + empty + ">")
    }

    @Test("the table above has every operator")
    func tableIsComplete() {
        for operation in LogOperator.allCases {
            #expect(Self.operators.contains { $0.0 == "%\(operation.rawValue)%" || $0.0.hasPrefix("%\(operation.rawValue)(") })
        }
    }

    @Test("the default format is Envoy's line")
    func standard() throws {
        var record = fullRecord()
        record.status = 503
        record.flags = [.upstreamConnectionFailure, .retryLimitExceeded]
        #expect(
            try render(.standard, record)
                == #"[2026-11-22T17:57:00.123Z] "GET /cart?id=7 HTTP/1.1" 503 UF,URX 12 3456 25 19 "192.0.2.1" "curl/8" "b0a7" "#
                + "\"cart.local:8080\" \"10.0.0.9:9000\"\n")
        #expect(
            try render(.standard, AccessRecord())
                == #"[1970-01-01T00:00:00.000Z] "- - -" 0 - 0 0 0 - "-" "-" "-" "-" "-""# + "\n")
    }

    @Test("text gets nothing at its end, JSON a newline, and JSON keys keep their order")
    func lineEnds() throws {
        #expect(try render(.text("a %BYTES_SENT%"), AccessRecord()) == "a 0")
        #expect(try render(.json([]), AccessRecord()) == "{}\n")
        let fields = [AccessLog.Field(key: "z", value: "%BYTES_SENT%"), AccessLog.Field(key: "a", value: "%PROTOCOL%")]
        #expect(try render(.json(fields), fullRecord()) == #"{"z":3456,"a":"HTTP/1.1"}"# + "\n")
    }

    @Test("in JSON an operator alone keeps its type and is null when missing; among text it is part of the string")
    func typedJSON() throws {
        let fields = [
            AccessLog.Field(key: "code", value: "%RESPONSE_CODE%"), AccessLog.Field(key: "took", value: "%RESPONSE_DURATION%"),
            AccessLog.Field(key: "text", value: "%RESPONSE_DURATION% ms"), AccessLog.Field(key: "host", value: "%UPSTREAM_HOST%"),
            AccessLog.Field(key: "quote\"", value: "a\"b\\c\n%%"), AccessLog.Field(key: "none", value: ""),
            AccessLog.Field(key: "team", value: "%REQ(X-TEAM?X-NONE)%"), AccessLog.Field(key: "time", value: "%START_TIME(%s)%"),
        ]
        let full = try JSON(render(.json(fields), fullRecord()).utf8)
        #expect(full["code"] == .number("200"))
        #expect(full["took"] == .number("20"))
        #expect(full["text"] == .string("20 ms"))
        #expect(full["host"] == .string("10.0.0.9:9000"))
        #expect(full["quote\""] == .string("a\"b\\c\n%"))
        #expect(full["none"] == .string(""))
        #expect(full["team"] == .string("blue"))
        #expect(full["time"] == .string("1795370220"))
        let empty = try JSON(render(.json(fields), AccessRecord()).utf8)
        #expect(empty["took"] == .null)
        #expect(empty["text"] == .string("- ms"))
        #expect(empty["host"] == .null)
        #expect(empty["team"] == .null)
    }

    @Test("T5: no byte of a header breaks a line, a pair of quotes or a JSON string")
    func escaping() throws {
        var record = AccessRecord()
        record.request = requestHead("G\"T", "/\n\u{7f}", [("x-any", Array(0...255)), ("traceparent", Array(repeating: 0x22, count: 60))])
        record.routeName = [0x0a, 0x22]
        let text = try render(.text("%REQ(:METHOD)%|%REQ(:PATH)%|%REQ(X-ANY)%|%ROUTE_NAME%|%TRACE_ID%"), record)
        #expect(text.utf8.allSatisfy { (0x20..<0x7f).contains($0) })
        #expect(text.hasPrefix(#"G\"T|/\n\x7f|\x00\x01"#))
        #expect(text.contains(##"\x1f !\"#$%&'()*"##))
        #expect(text.contains(#"[\\]"#))
        #expect(text.contains(#"\xfe\xff|\n\"|\""#))
        let fields = ["REQ(:METHOD)", "REQ(X-ANY)", "ROUTE_NAME", "TRACE_ID"].map { AccessLog.Field(key: $0, value: "%\($0)%") }
        let line = try render(.json(fields), record)
        #expect(line.utf8.dropLast().allSatisfy { $0 >= 0x20 && $0 != 0x7f })
        let json = try JSON(line.utf8)
        #expect(json["REQ(:METHOD)"] == .string("G\"T"))
        #expect(json["ROUTE_NAME"] == .string("\n\""))
        guard case .string(let any)? = json["REQ(X-ANY)"] else { throw JSON.Malformed(offset: 0) }
        #expect(Array(any.unicodeScalars.prefix(128)) == (0..<128).map { Unicode.Scalar($0) })
    }

    @Test(
        "UTF-8 in JSON: what is valid stays, anything else becomes U+FFFD, control characters are escaped",
        arguments: [
            (Array("é€😀".utf8), "é€😀"),
            ([0xc3], "\u{fffd}"),
            ([0xc0, 0xaf], "\u{fffd}\u{fffd}"),
            ([0xe0, 0x80, 0x80], "\u{fffd}\u{fffd}\u{fffd}"),
            ([0xed, 0xa0, 0x80], "\u{fffd}\u{fffd}\u{fffd}"),
            ([0xf4, 0x90, 0x80, 0x80], "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            ([0xf0, 0x9f, 0x98], "\u{fffd}\u{fffd}\u{fffd}"),
            ([0x61, 0xff, 0x62], "a\u{fffd}b"),
            ([0xc2, 0x85], "\u{85}"),
        ] as [([UInt8], String)])
    func utf8(value: [UInt8], expected: String) throws {
        var record = AccessRecord()
        record.request = requestHead("GET", "/", [("x", value)])
        let line = try render(.json([AccessLog.Field(key: "x", value: "%REQ(X)%")]), record)
        #expect(try JSON(line.utf8)["x"] == .string(expected))
    }

    @Test("T6: a local reply, a TCP connection and a broken request render in every format", arguments: [false, true])
    func sparseRecords(hasHead: Bool) throws {
        var record = AccessRecord()
        if hasHead {
            record.request = Head()
            record.response = Head()
            record.trailers = Head()
        }
        let fields = Self.operators.enumerated().map { AccessLog.Field(key: "k\($0.offset)", value: $0.element.0) }
        let json = try JSON(render(.json(fields), record).utf8)
        #expect(json["k0"] == .string("1970-01-01T00:00:00.000Z"))
        for (operation, _, empty) in Self.operators { #expect(try render(.text(operation), record) == empty) }
    }

    @Test(
        "wrong formats are refused with the operator as found",
        arguments: [
            ("%NO_SUCH%", "%NO_SUCH%"),
            ("a %req(x)% b", "%req(x)% b"),
            ("%REQ%", "%REQ%"),
            ("%REQ()%", "%REQ()%"),
            ("%REQ(A?B?C)%", "%REQ(A?B?C)%"),
            ("%REQ(A):0%", "%REQ(A):0%"),
            ("%REQ(A):x%", "%REQ(A):x%"),
            ("%PROTOCOL(x)%", "%PROTOCOL(x)%"),
            ("%PROTOCOL:3%", "%PROTOCOL:3%"),
            ("%START_TIME(%Q)%", "%START_TIME(%Q)%"),
            ("%START_TIME(%3x)%", "%START_TIME(%3x)%"),
            ("%GRPC_STATUS(x)%", "%GRPC_STATUS(x)%"),
            ("%DURATION", "%DURATION"),
            ("%REQ(A", "%REQ(A"),
            ("100%", "%"),
        ])
    func refused(text: String, found: String) throws {
        let path = FieldPath() / "accessLog"
        let error = #expect(throws: FieldError.self) { _ = try AccessLogFormat(.text(text), at: path) }
        #expect(error?.found == found)
        #expect(error?.path == path / "text")
        let inJSON = #expect(throws: FieldError.self) { _ = try AccessLogFormat(.json([.init(key: "k", value: text)]), at: path) }
        #expect(inJSON?.path == ((path / "json")[0] / "k"))
    }

    @Test(
        "gRPC status: from trailers first, else from the head; unknown numbers stay numbers, junk is missing",
        arguments: [
            ("0", nil, "OK"), (nil, "14", "Unavailable"), ("1", "14", "Canceled"), ("99", nil, "99"), ("x", nil, "-"),
            ("", "4", "DeadlineExceeded"),
        ] as [(String?, String?, String)])
    func grpcStatus(trailer: String?, head: String?, expected: String) throws {
        var record = AccessRecord()
        if let trailer { record.trailers = responseHead(0, [("grpc-status", Array(trailer.utf8))]) }
        record.response = responseHead(200, head.map { [("grpc-status", Array($0.utf8))] } ?? [])
        #expect(try render(.text("%GRPC_STATUS%"), record) == expected)
    }

    @Test(
        "times: calendar, week and fractions",
        arguments: [
            (0, "%F %T %a %A %j", "1970-01-01 00:00:00 Thu Thursday 001"),
            (951_782_400_000_000_000, "%F %j %b %B %a", "2000-02-29 060 Feb February Tue"),
            (951_868_800_000_000_000, "%F %j", "2000-03-01 061"),
            (1_735_603_199_999_999_999, "%D %H:%M:%S.%f %j", "12/30/24 23:59:59.999999999 365"),
            (4_102_444_799_000_000_000, "%F", "2099-12-31"),
            (-1, "%F %T.%3f %s", "1969-12-31 23:59:59.999 -1"),
            (5_000_000, "%1f %2f %3f %6f %9f %E6S", "0 00 005 005000 005000000 00.005000"),
            (0, "%y%m%d %e %z %Z %% %n%t", "700101  1 +0000 UTC % \n\t"),
        ] as [(Int64, String, String)])
    func times(time: Int64, format: String, expected: String) throws {
        var buffer = ByteBuffer()
        try #require(TimeFormat(format)).render(time, into: &buffer)
        #expect(unsafe String(decoding: buffer.unsafeBytes, as: UTF8.self) == expected)
    }

    @Test("addresses are written as Base writes them")
    func addresses() {
        var random = SeededRandom(seed: 3)
        for _ in 0..<500 {
            // Many groups are zero, so that gaps of every place and length occur.
            var groups = (0..<8).map { _ in random.below(3) == 0 ? UInt64(random.below(0x10000)) : 0 }
            if random.below(10) == 0 { groups = [0, 0, 0, 0, 0, 0xffff, 0x0a00, 0x0001] }
            let high = groups[..<4].reduce(0) { $0 << 16 | $1 }
            let low = groups[4...].reduce(0) { $0 << 16 | $1 }
            let address = SocketAddress(.v6(high, low), 443)
            var buffer = ByteBuffer()
            buffer.append(address)
            #expect(unsafe String(decoding: buffer.unsafeBytes, as: UTF8.self) == address.description)
        }
    }

    @Test("docs/access-log.md has a row for every operator, with its type, and for every response flag")
    func documented() throws {
        let rows = try Documentation.rows("access-log.md")
        for operation in LogOperator.allCases { #expect(rows[operation.rawValue] == (operation.isNumber ? "number" : "string")) }
        for (_, letters) in ResponseFlags.letters { #expect(rows["\(letters)"] != nil, "\(letters)") }
        #expect(rows.count == LogOperator.allCases.count + ResponseFlags.letters.count)
    }
}
