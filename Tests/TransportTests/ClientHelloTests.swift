import Base
import ProxyConfig
import TestSupport
import Testing
import Transport

@Suite("ClientHello")
struct ClientHelloTests {
    private func read(_ bytes: [UInt8]) -> ClientHello.Reading {
        unsafe bytes.withUnsafeBytes { unsafe ClientHello.read($0) }
    }

    /// A hello in one record, from its extensions.
    private func hello(_ extensions: [UInt8]?, sessionID: Int = 32) -> [UInt8] {
        var body: [UInt8] = [3, 3] + [UInt8](repeating: 9, count: 32)
        body += counted([UInt8](repeating: 1, count: sessionID), lengthBytes: 1)
        body += counted([0x13, 0x01], lengthBytes: 2) + counted([0], lengthBytes: 1)
        if let extensions { body += counted(extensions, lengthBytes: 2) }
        return record([1] + counted(body, lengthBytes: 3))
    }

    private func record(_ fragment: [UInt8]) -> [UInt8] { [22, 3, 1] + counted(fragment, lengthBytes: 2) }

    private func counted(_ bytes: [UInt8], lengthBytes: Int) -> [UInt8] {
        (0..<lengthBytes).reversed().map { UInt8(truncatingIfNeeded: bytes.count >> (8 * $0)) } + bytes
    }

    private func extension_(_ type: UInt8, _ content: [UInt8]) -> [UInt8] { [0, type] + counted(content, lengthBytes: 2) }

    private func names(_ name: String, type: UInt8 = 0) -> [UInt8] {
        extension_(0, counted([type] + counted(Array(name.utf8), lengthBytes: 2), lengthBytes: 2))
    }

    private func protocols(_ names: [String]) -> [UInt8] {
        extension_(16, counted(names.flatMap { counted(Array($0.utf8), lengthBytes: 1) }, lengthBytes: 2))
    }

    /// What OpenSSL says as a client.
    private func real() throws -> [UInt8] {
        let context = try TLSContext.client(UpstreamTLS(validation: nil, alpn: ["h2", "http/1.1"]))
        let session = TLSSession(client: context, serverName: "Cart.Local")
        _ = session.handshake()
        return session.taken()
    }

    private let expected = ClientHello.Reading.complete(ClientHello(serverName: "cart.local", protocols: ["h2", "http/1.1"]))

    @Test("a real client's, whole and followed by more")
    func whole() throws {
        let bytes = try real()
        #expect(read(bytes) == expected)
        #expect(read(bytes + [20, 3, 3, 0, 1, 1]) == expected)
    }

    @Test("every beginning of it needs more")
    func everyBeginning() throws {
        let bytes = try real()
        for count in 0..<bytes.count { #expect(read(Array(bytes[..<count])) == .needMore, "\(count) bytes") }
    }

    @Test("cut into records of any length it is the same, and every beginning needs more", arguments: [1, 2, 3, 4, 5, 7, 64, 100, 255])
    func records(of length: Int) throws {
        let message = Array(try real().dropFirst(5))
        var bytes: [UInt8] = []
        for start in stride(from: 0, to: message.count, by: length) {
            bytes += record(Array(message[start..<min(start + length, message.count)]))
        }
        #expect(read(bytes) == expected)
        for count in 0..<bytes.count { #expect(read(Array(bytes[..<count])) == .needMore, "\(count) bytes") }
    }

    @Test("two records, cut at every place")
    func twoRecords() throws {
        let message = Array(try real().dropFirst(5))
        for cut in 1..<message.count {
            let bytes = record(Array(message[..<cut])) + record(Array(message[cut...]))
            #expect(read(bytes) == expected, "cut at \(cut)")
            #expect(read(Array(bytes.dropLast())) == .needMore, "cut at \(cut)")
        }
    }

    @Test("without extensions, without a name, with unknown extensions")
    func sparse() {
        #expect(read(hello(nil)) == .complete(ClientHello()))
        #expect(read(hello([])) == .complete(ClientHello()))
        #expect(read(hello([], sessionID: 0)) == .complete(ClientHello()))
        #expect(read(hello(extension_(99, [1, 2, 3]) + names("a.b") + extension_(98, []))) == .complete(ClientHello(serverName: "a.b")))
        #expect(read(hello(protocols(["h2"]))) == .complete(ClientHello(serverName: nil, protocols: ["h2"])))
    }

    @Test(
        "what starts otherwise is no TLS",
        arguments: ["GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n", "SSH-2.0\r\n", "\u{0}", "\u{16}G", "\u{17}\u{3}\u{3}"])
    func notTLS(text: String) {
        #expect(read(Array(text.utf8)) == .notTLS)
    }

    @Test("an extension that is cut, doubled, empty or overlong refuses the hello")
    func malformedExtensions() {
        let bad: [[UInt8]] = [
            names("a") + names("b"),
            protocols(["h2"]) + protocols(["h2"]),
            names(""),
            names("a", type: 1),
            names("a b"), names("a\u{0}b"), names("caf\u{e9}"), names(String(repeating: "a", count: 256)),
            extension_(0, []), extension_(0, [0]), extension_(0, [0, 0]), extension_(0, [0, 5, 0, 0, 1, 97]),
            extension_(0, [0, 4, 0, 0, 1, 97, 0]),
            extension_(0, counted([0, 0, 1, 97, 0, 0, 1, 98], lengthBytes: 2)),
            extension_(16, []), extension_(16, [0, 0]), extension_(16, [0, 1, 0]), extension_(16, [0, 3, 3, 104, 50]),
            extension_(16, [0, 3, 2, 104, 50, 0]),
            [0], [0, 99, 0], [0, 99, 0, 1],
        ]
        for extensions in bad { #expect(read(hello(extensions)) == .malformed, "\(extensions)") }
    }

    @Test("a hello whose parts do not fill it is refused")
    func malformedBody() {
        let good = hello(names("a"))
        // One byte more or less than the extensions say.
        var longer = good + [0]
        longer[8] += 1
        longer[4] += 1
        #expect(read(longer) == .malformed)
        var shorter = Array(good.dropLast())
        shorter[8] -= 1
        shorter[4] -= 1
        #expect(read(shorter) == .malformed)
        #expect(read(record([1, 0, 0, 0])) == .malformed)
        #expect(read(record([1, 0, 0, 2, 3, 3])) == .malformed)
    }

    @Test("records that no hello begins with, or that mix with it, are refused")
    func malformedRecords() {
        let message = Array(hello(names("a")).dropFirst(5))
        #expect(read(record([2, 0, 0, 2, 3, 3])) == .malformed, "a ServerHello")
        #expect(read([22, 3, 1, 0, 0]) == .malformed, "an empty record")
        #expect(read([22, 3, 1, 0x40, 1]) == .malformed, "a record of more than 16 KiB")
        #expect(read(record(Array(message[..<9])) + [21, 3, 1, 0, 2, 1, 0]) == .malformed, "an alert in between")
        #expect(read(record(Array(message[..<9])) + [22, 4, 1, 0, 2, 1, 0]) == .malformed, "another version in between")
    }

    @Test("more than 16 KiB are refused as soon as that is said")
    func tooLong() {
        #expect(read([22, 3, 1, 0, 4, 1, 0, 0x40, 0x00]) == .malformed)
        #expect(read([22, 3, 1, 0, 4, 1, 0, 0x3f, 0xfc]) == .needMore)
        #expect(read([22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]) == .malformed)
    }

    @Test("random bytes, and real hellos with random changes, never do harm, and a beginning never knows more than the whole")
    func random() throws {
        var random = SeededRandom(seed: 11)
        let original = try real()
        for round in 0..<5000 {
            var bytes = original
            if round % 4 == 0 { bytes = (0..<random.below(600)).map { _ in UInt8(truncatingIfNeeded: random.next()) } }
            for _ in 0..<random.below(6) where !bytes.isEmpty {
                bytes[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next())
            }
            let whole = read(bytes)
            let part = read(Array(bytes[..<random.below(bytes.count + 1)]))
            #expect(part == whole || part == .needMore, "round \(round)")
        }
    }
}
