import Base
import Fuzzing
import HTTP
import HTTP1

@c(LLVMFuzzerInitialize)
public func initialize(_ count: UnsafeMutablePointer<CInt>?, _ words: UnsafeMutableRawPointer?) -> CInt {
    HTTP1Entry.initialize()
}

@c(LLVMFuzzerTestOneInput)
public func test(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    unsafe HTTP1Entry.run(data, count)
}

/// Both decoders and the encoder of HTTP/1: a kind, a shape of the cuts, then the bytes of a connection.
enum HTTP1Entry: FuzzEntry {
    static func test(_ input: [UInt8]) {
        var reader = InputReader(input)
        let kind = reader.byte()
        // A line is judged once its end is there; without one, how early its fault is seen depends on the cut.
        let bytes = Array(input.dropFirst(2)) + Array("\r\n\r\n".utf8)
        let cuts = reader.cuts(bytes.count)
        if kind & 1 == 0 {
            compare(Requests(), bytes, cuts)
        } else {
            compare(Responses(kind), bytes, cuts)
        }
    }

    /// Any cut must give the same messages and the same refusal.
    private static func compare(_ side: some Side, _ bytes: [UInt8], _ cuts: [Int]) {
        let expected = decode(side, bytes, [])
        guard !cuts.isEmpty else { return }
        let found = decode(side, bytes, cuts)
        require(found == expected, "cut at \(cuts):\n\(found)\nwhole:\n\(expected)")
    }

    static func seeds() -> [[UInt8]] {
        let requests = [
            "GET / HTTP/1.1\r\nHost: a\r\n", "POST http://b:80/c?d HTTP/1.1\r\nHost: a\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n",
            "OPTIONS * HTTP/1.0\r\n",
        ]
        let responses = [
            "HTTP/1.1 200 OK\r\n", "HTTP/1.0 304 Not Modified\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 \r\n",
            "HTTP/1.1 101 Switching Protocols\r\n",
        ]
        let rests = [
            "\r\n", "Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nX: y\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\nTrailer: a\r\n\r\n",
            "Connection: close, x, te\r\nX: 1\r\nTE: trailers, gzip\r\n\r\n", "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "Content-Length: 5, 6\r\n\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "X: a\r\n b\r\n\r\n", "X : a\r\n\r\n",
            "Keep-Alive: 1\r\nProxy-Connection: x\r\nHTTP2-Settings: AA\r\n\r\n",
        ]
        var seeds: [[UInt8]] = []
        for rest in rests {
            for start in requests { seeds.append([0, 1] + Array((start + rest).utf8)) }
            for (index, start) in responses.enumerated() { seeds.append([UInt8(1 + 2 * index), 5] + Array((start + rest).utf8)) }
        }
        return seeds
    }
}

/// One of the two decoders, with the laws that hold for what it found.
private protocol Side {
    mutating func next(_ bytes: RawSpan, _ position: inout Int, _ head: Head, _ trailers: Head) throws(HTTP1Error) -> Event
    /// What the decoder says of a head; encodes it and reads it again.
    func facts(_ head: Head) -> String
    /// Nothing of what follows is HTTP/1.
    var isTunnel: Bool { get }
    mutating func messageEnded()
}

private struct Requests: Side {
    var decoder = RequestDecoder()

    mutating func next(_ bytes: RawSpan, _ position: inout Int, _ head: Head, _ trailers: Head) throws(HTTP1Error) -> Event {
        try decoder.next(bytes, at: &position, head: head, trailers: trailers)
    }

    var isTunnel: Bool { false }

    func messageEnded() {}

    func facts(_ head: Head) -> String {
        // HTTP/1.0 may come without a host; such a request is not sent on without one.
        if !head.authority.isEmpty { requireOneRequest(head, framing: decoder.framing, upgrade: decoder.wantsUpgrade) }
        return "\(head.string(head.methodRange)) \(head.string(head.target)) \(head.minorVersion) \(head.string(head.authority)) "
            + "\(decoder.framing) \(decoder.keepsAlive) \(decoder.expectsContinue) \(decoder.wantsUpgrade)"
    }
}

private struct Responses: Side {
    var decoder = ResponseDecoder()
    private let minorVersion: Int

    /// - Parameter kind: which requests are answered.
    init(_ kind: UInt8) {
        let method: Method = [.get, .head, .connect, .post][Int(kind >> 1 & 3)]
        let asksUpgrade = kind & 8 != 0 && method != .connect
        minorVersion = Int(kind >> 4 & 1)
        decoder.expectResponse(to: method, upgrade: asksUpgrade)
    }

    mutating func next(_ bytes: RawSpan, _ position: inout Int, _ head: Head, _ trailers: Head) throws(HTTP1Error) -> Event {
        try decoder.next(bytes, at: &position, head: head, trailers: trailers)
    }

    var isTunnel: Bool { decoder.isTunnel }

    mutating func messageEnded() {
        decoder.expectResponse(to: .get)
    }

    func facts(_ head: Head) -> String {
        var output = ByteBuffer()
        let framing = MessageEncoder.encodeResponseHead(
            head, framing: decoder.framing, keepAlive: decoder.keepsAlive, toMinorVersion: minorVersion, upgrade: decoder.isTunnel,
            into: &output)
        var again = ResponseDecoder(limits: .roomy)
        again.expectResponse(to: .get, upgrade: decoder.isTunnel)
        let copy = Head()
        var position = 0
        do throws(HTTP1Error) {
            let event = try again.next(output.bytes, at: &position, head: copy, trailers: Head())
            require(event == .head || event == .interim, "a head was encoded, \(event) was read")
        } catch {
            fatalError("encoded, and then refused as \(error.details): \(output.text)")
        }
        require(copy.status == head.status && position == output.count, "one head was encoded, another was read")
        require(framing != .chunked || minorVersion == 1, "chunks for HTTP/1.0")
        return "\(head.status) \(head.string(head.reason)) \(decoder.framing) \(decoder.keepsAlive) \(decoder.isTunnel)"
    }
}

/// All that a decoder says of the bytes up to each cut in turn; what was not consumed is given again, as a connection does.
private func decode(_ side: some Side, _ bytes: [UInt8], _ cuts: [Int]) -> String {
    var side = side
    let head = Head()
    let trailers = Head()
    var lines: [String] = []
    var body: [UInt8] = []
    var start = 0
    for end in cuts + [bytes.count] {
        // A copy of its own, so that the sanitizer sees a read beyond the cut.
        let piece = Array(bytes[start..<end])
        var position = 0
        do throws(HTTP1Error) {
            reading: while true {
                let before = position
                let event = try side.next(unsafe piece.span.bytes, &position, head, trailers)
                require(position >= before && position <= piece.count, "position \(before) became \(position) of \(piece.count)")
                switch event {
                case .needMore: break reading
                case .interim: lines.append("interim \(head.status)")
                case .head:
                    lines.append(side.facts(head) + fields(head))
                    if side.isTunnel { return lines.joined(separator: "\n") }
                case .body(let range):
                    body += piece[range]
                case .end:
                    lines.append("end \(body)\(fields(trailers))")
                    body = []
                    side.messageEnded()
                }
            }
        } catch {
            return lines.joined(separator: "\n") + "\n\(error.details)"
        }
        start += position
    }
    return lines.joined(separator: "\n")
}

private func fields(_ head: Head) -> String {
    head.fields.map { "|\(head.string($0.name)): \(head.string($0.value))" }.joined()
}
