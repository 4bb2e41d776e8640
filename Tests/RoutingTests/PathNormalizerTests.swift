import Base
import HTTP
import Testing

@testable import Routing

@Suite("The normal form of a path")
struct PathNormalizerTests {
    @Test(
        "One normal form for routing, policy and forwarding (case T1)",
        arguments: [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            // Slashes are merged before dot segments go.
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/a//../b", "/b"),
            // Dot segments, RFC 3986 section 5.2.4.
            ("/.", "/"),
            ("/..", "/"),
            ("/./a", "/a"),
            ("/../a", "/a"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/a/b/c/./../../g", "/a/g"),
            ("/a/../../../b", "/b"),
            ("/.a", "/.a"),
            ("/..a", "/..a"),
            ("/a/...", "/a/..."),
            ("/a./b", "/a./b"),
            ("/.well-known/x", "/.well-known/x"),
            // Escapes.
            ("/%2e%2E/a", "/a"),
            ("/a/%2e%2e/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/%41%7a%30%2D%5f%7E", "/Az0-_~"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2f..%2fb", "/a%2F..%2Fb"),
            ("/a%5cb", "/a%5Cb"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/%3b%c3%a9", "/%3B%C3%A9"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            // Parameters are ordinary bytes.
            ("/a;x=1/b", "/a;x=1/b"),
            ("/a..;x/b", "/a..;x/b"),
            // The query stays as it is.
            ("/a?b", "/a?b"),
            ("/a/..?x=/../%2e//\\", "/?x=/../%2e//\\"),
            ("//?", "/?"),
            ("/a?%zz%00%", "/a?%zz%00%"),
            ("/?\u{e9}", "/?\u{e9}"),
            // The empty path of an absolute form.
            ("", "/"),
            ("?q", "/?q"),
        ] as [(String, String)])
    func normalForm(target: String, expected: String) throws {
        let head = request(target)
        try PathNormalizer.normalize(head)
        #expect(head.string(head.target) == expected)
        let count = head.bytes.count
        try PathNormalizer.normalize(head)
        #expect(head.string(head.target) == expected, "the normal form of a normal form is itself")
        #expect(head.bytes.count == count, "and costs no bytes")
    }

    @Test(
        "What no path may hold is refused, and the head stays as it was",
        arguments: [
            ("/a%00", .encodedNUL),
            ("/a\0", .controlByte),
            ("/a b", .controlByte),
            ("/a\u{7f}", .controlByte),
            ("/a\r\nx", .controlByte),
            ("/a?b\0", .controlByte),
            ("/a?b c", .controlByte),
            ("/a?0123456789abcdefghi\u{7f}jklmnopqr", .controlByte),
            ("/a?0123456789abcdefghi#jklmnopqrst", .fragment),
            ("/a#b", .fragment),
            ("/#", .fragment),
            ("/a?b#c", .fragment),
            ("/a\\b", .backslash),
            ("/a\\..\\b", .backslash),
            ("/a%", .invalidEscape),
            ("/a%4", .invalidEscape),
            ("/a%4?a", .invalidEscape),
            ("/a%zz", .invalidEscape),
            ("/a/..;/b", .dotSegmentParameter),
            ("/a/%2e%2e;x/b", .dotSegmentParameter),
            ("/.;", .dotSegmentParameter),
            ("a/b", .notAbsolute),
            ("*", .notAbsolute),
            ("http://a/", .notAbsolute),
        ] as [(String, PathError)])
    func refused(target: String, expected: PathError) {
        let head = request(target)
        let (before, range) = (head.bytes, head.target)
        #expect(throws: expected) { try PathNormalizer.normalize(head) }
        #expect(head.bytes == before)
        #expect(head.target == range)
    }

    @Test(
        "The authority of CONNECT and the asterisk of OPTIONS stay as they are",
        arguments: [("CONNECT", "a:443"), ("CONNECT", ""), ("OPTIONS", "*")])
    func noPath(method: String, target: String) throws {
        let head = request(target, method: method)
        try PathNormalizer.normalize(head)
        #expect(head.string(head.target) == target)
    }

    @Test("An odd byte is found wherever it stands, with and without bytes after the target")
    func everyPosition() throws {
        for length in 1...40 {
            for place in 1...length {
                for (odd, expected) in [("%41", "A"), ("/", ""), ("%c3", "%C3")] {
                    for tail in ["", "/..//.."] {
                        let plain = String(repeating: "x", count: place - 1)
                        let rest = String(repeating: "y", count: length - place)
                        // A second slash merges with the one before it.
                        let head = request("/\(plain)/\(odd)\(rest)")
                        head.bytes.removeLast(head.bytes.count - head.target.upperBound)
                        head.bytes += Array(tail.utf8)
                        try PathNormalizer.normalize(head)
                        let start = plain.isEmpty ? "/" : "/\(plain)/"
                        #expect(head.string(head.target) == "\(start)\(expected)\(rest)", "length \(length), place \(place), \(odd)")
                    }
                }
            }
        }
    }

    @Test("Bytes after a normal target change nothing")
    func bytesAfter() throws {
        for tail in ["", "/", ".", "./", "%", "\\", "?#"] {
            for target in ["/", "/a/", "/abcdefghijklmno", "/abcdefghijklmnop/", "/a?b"] {
                let head = request(target)
                head.bytes.removeLast(head.bytes.count - head.target.upperBound)
                head.bytes += Array((tail + "/../aaaaaaaaaaaaaaaaaaaaaa").utf8)
                let before = head.bytes
                try PathNormalizer.normalize(head)
                #expect(head.string(head.target) == target)
                #expect(head.bytes == before)
            }
        }
    }

    @Test("No normal form holds what normalisation takes away")
    func laws() {
        let pieces = ["/", "/", "a", ".", "..", "%2e", "%2f", "%5C", "%41", ";", "?", "%zz", "\\", "é", "b"]
        for seed in 0..<4000 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            let target = "/" + (0..<random.below(12)).map { _ in pieces[random.below(pieces.count)] }.joined()
            let head = request(target)
            guard (try? PathNormalizer.normalize(head)) != nil else { continue }
            let path = head.string(head.path)
            #expect(path.utf8.first == UInt8(ascii: "/"), "seed \(seed): \(target)")
            #expect(path.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f }, "seed \(seed): \(target)")
            #expect(!path.contains("//") && !path.contains("/./") && !path.contains("/../"), "seed \(seed): \(target)")
            #expect(!path.hasSuffix("/.") && !path.hasSuffix("/.."), "seed \(seed): \(target)")
            let once = head.string(head.target)
            #expect(throws: Never.self) { try PathNormalizer.normalize(head) }
            #expect(head.string(head.target) == once, "seed \(seed): \(target)")
        }
    }
}
