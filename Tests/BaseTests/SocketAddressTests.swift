import Base
import Testing

@Suite struct SocketAddressTests {
    @Test(
        "Addresses are read, and written in the one form of RFC 5952",
        arguments: [
            ("10.0.0.1", "10.0.0.1"),
            ("255.255.255.255", "255.255.255.255"),
            ("::", "::"),
            ("::1", "::1"),
            ("fe80::1", "fe80::1"),
            ("2001:DB8:0:0:8:800:200C:417A", "2001:db8::8:800:200c:417a"),
            ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
            ("2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
            ("1::", "1::"),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
        ])
    func reads(text: String, canonical: String) throws {
        let address = try #require(IPAddress(text))
        #expect(address.description == canonical)
        #expect(IPAddress(canonical) == address)
    }

    @Test(
        "What is no address is refused",
        arguments: [
            "", "10.0.0", "10.0.0.0.1", "10.0.0.256", "10.0.0.01", "0x0a.0.0.1", "10.0.0.1 ", "localhost", ":", ":::", "1::2::3",
            "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "12345::", "g::", "::1%lo", "1:2:3:4:5:6:7::8:9", ":1:2:3:4:5:6:7", "::+1",
        ])
    func refuses(text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test(
        "A port stands behind the colon; an IPv6 address stands in brackets",
        arguments: [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:65535", "[::1]:65535"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("127.0.0.1", nil),
            ("127.0.0.1:", nil),
            ("127.0.0.1:65536", nil),
            ("127.0.0.1:+1", nil),
            ("::1:80", nil),
            ("[::1:80", nil),
            ("host:80", nil),
        ] as [(String, String?)])
    func withPort(text: String, expected: String?) {
        #expect(SocketAddress(text)?.description == expected)
    }

    @Test(
        "Loopback is 127.0.0.0/8, ::1, and the first mapped into IPv6",
        arguments: [
            ("127.0.0.1", true), ("127.9.9.9", true), ("128.0.0.1", false), ("::1", true), ("::2", false), ("::ffff:127.0.0.1", true),
        ])
    func loopback(text: String, expected: Bool) throws {
        #expect(try #require(IPAddress(text)).isLoopback == expected)
    }

    @Test("Every address is read from what it is written as")
    func roundTrip() {
        var random = SeededRandom(seed: 7)
        for _ in 0..<2000 {
            // Zeros in runs, where the short form has its rules.
            func half() -> UInt64 {
                (0..<4).reduce(0) { bits, _ in bits << 16 | (random.below(2) == 0 ? 0 : UInt64(random.below(65536))) }
            }
            let six = IPAddress.v6(half(), half())
            #expect(IPAddress(six.description) == six, "\(six)")
            let four = IPAddress.v4(UInt32(truncatingIfNeeded: random.next()))
            #expect(IPAddress(four.description) == four, "\(four)")
        }
    }
}
