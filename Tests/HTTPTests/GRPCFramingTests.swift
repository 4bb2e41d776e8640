import HTTP
import Testing

@Suite("gRPC framing")
struct GRPCFramingTests {
    private static let messages: [[UInt8]] = [[], [1], Array("hello".utf8), [UInt8](repeating: 7, count: 300), [0, 0, 0, 0, 0]]

    private func read(_ pieces: [[UInt8]], maxMessageBytes: Int = 1000) throws(GRPC.Failure) -> [[UInt8]] {
        var reader = GRPC.MessageReader(maxMessageBytes: maxMessageBytes)
        var found: [[UInt8]] = []
        for piece in pieces {
            reader.append(piece)
            while let message = try reader.next() { found.append(message) }
        }
        return found
    }

    @Test("a message is a zero, its length in four bytes, and itself")
    func frame() {
        #expect(GRPC.frame([]) == [0, 0, 0, 0, 0])
        #expect(GRPC.frame([9, 8]) == [0, 0, 0, 0, 2, 9, 8])
        #expect(GRPC.frame([UInt8](repeating: 1, count: 0x1_0203)).prefix(5) == [0, 0, 1, 2, 3])
    }

    @Test("messages are the same however the body is cut")
    func anySplit() throws {
        let body = Self.messages.flatMap(GRPC.frame)
        for cut in 0...body.count {
            #expect(try read([Array(body[..<cut]), Array(body[cut...])]) == Self.messages, "cut at \(cut)")
        }
        for size in 1...12 {
            let pieces = stride(from: 0, to: body.count, by: size).map { Array(body[$0..<min($0 + size, body.count)]) }
            #expect(try read(pieces) == Self.messages, "in pieces of \(size)")
        }
    }

    @Test("between messages nothing is held, within one the body must not end")
    func between() throws {
        var reader = GRPC.MessageReader(maxMessageBytes: 10)
        #expect(reader.isBetweenMessages)
        reader.append([0, 0, 0])
        #expect(try reader.next() == nil && !reader.isBetweenMessages)
        reader.append([0, 1])
        #expect(try reader.next() == nil && !reader.isBetweenMessages)
        reader.append([5, 0])
        #expect(try reader.next() == [5] && !reader.isBetweenMessages)
        reader.append([0, 0, 0, 0])
        #expect(try reader.next() == [] && reader.isBetweenMessages)
        #expect(try reader.next() == nil)
    }

    @Test("what cannot be read says why")
    func refusals() {
        #expect(throws: GRPC.Failure(GRPC.Status.resourceExhausted, "a message of 11 bytes: at most 10 are taken")) {
            try read([[0, 0, 0, 0, 11]], maxMessageBytes: 10)
        }
        #expect(throws: GRPC.Failure(GRPC.Status.resourceExhausted, "a message of 4294967295 bytes: at most 10 are taken")) {
            try read([[0, 255, 255, 255, 255]], maxMessageBytes: 10)
        }
        #expect(throws: GRPC.Failure(GRPC.Status.unimplemented, "compressed messages are not supported: expected flag 0, found 1")) {
            try read([[1, 0, 0, 0, 0]])
        }
        #expect(throws: GRPC.Failure(GRPC.Status.internal, "a message begins with flag 80: expected 0")) {
            try read([Array("POST /".utf8)])
        }
        // What came before is good.
        var reader = GRPC.MessageReader(maxMessageBytes: 10)
        reader.append([0, 0, 0, 0, 1, 42, 1, 0, 0, 0, 0])
        #expect((try? reader.next()) == [42])
        #expect(throws: GRPC.Failure.self) { try reader.next() }
    }

    @Test("grpc-message there and back", arguments: ["", "plain", "100%", "größer\n", "%41", "\u{1F6A3} 100 %", "a%2"])
    func message(text: String) {
        let value = GRPC.encodedMessage(text)
        #expect(value.utf8.allSatisfy { $0 >= 0x20 && $0 <= 0x7E })
        #expect(GRPC.decodedMessage(value) == text)
    }

    @Test("a value that another wrote badly is shown as it is", arguments: [("%", "%"), ("%4", "%4"), ("%zz", "%zz"), ("a%41", "aA")])
    func decode(value: String, text: String) {
        #expect(GRPC.decodedMessage(value) == text)
    }

    @Test("resets and codes as the gRPC project maps them")
    func codes() {
        let expected: [UInt32: UInt32] = [0: 13, 1: 13, 2: 13, 3: 13, 4: 13, 6: 13, 7: 14, 8: 1, 9: 13, 10: 13, 11: 8, 12: 7]
        for (reset, code) in expected { #expect(GRPC.status(ofReset: reset) == code, "reset \(reset)") }
        #expect(GRPC.name(ofStatus: 0) == "OK" && GRPC.name(ofStatus: 16) == "UNAUTHENTICATED" && GRPC.name(ofStatus: 17) == "code 17")
        #expect("\(GRPC.Failure(GRPC.Status.unavailable, "gone"))" == "UNAVAILABLE: gone")
    }
}

@Suite("Heads of text")
struct HeadTextTests {
    @Test("a field is found by its name in any case, and its value begins no other line")
    func fields() {
        let head = Head()
        head.append(field: "X-Name", "a\r\nb: c\u{0}\u{7F}\td")
        head.append(field: "Content-Length", "5")
        head.append(field: "x-name", "")
        #expect(head.values("x-NAME") == ["a  b: c  \td", ""])
        #expect(head.value("content-length") == "5" && head.contains(.contentLength) && head.value("none") == nil)
        #expect(head.string(head.fields[0].name) == "x-name")
    }

    @Test("a request's target holds nothing that ends it")
    func request() {
        let head = Head()
        head.setRequest(method: "DELETE", scheme: .https, authority: "a b:1", target: "/ä b?c\r\n")
        #expect(head.method == .delete && head.string(head.methodRange) == "DELETE" && head.scheme == .https)
        #expect(head.string(head.target) == "/%C3%A4%20b?c%0D%0A" && head.string(head.authority) == "a%20b:1")
        let root = Head()
        root.setRequest(method: "GET", scheme: .http, authority: "a", target: "")
        #expect(root.string(root.target) == "/")
    }
}
