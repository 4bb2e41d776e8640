import Base
import Fuzzing
import HTTP
import HTTP1
import HTTP2

@c(LLVMFuzzerInitialize)
public func initialize(_ count: UnsafeMutablePointer<CInt>?, _ words: UnsafeMutableRawPointer?) -> CInt {
    HTTP2Entry.initialize()
}

@c(LLVMFuzzerTestOneInput)
public func test(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    unsafe HTTP2Entry.run(data, count)
}

/// A session of HTTP/2 under an owner who does anything that owners do, and its heads translated to HTTP/1: a kind, a shape of the cuts,
/// a seed of the owner's choices, then bytes of the connection, or short records that become frames.
enum HTTP2Entry: FuzzEntry {
    struct Kind: OptionSet {
        var rawValue: UInt8

        static let client = Kind(rawValue: 1)
        /// The rest is type, flags, stream, length and payload, a byte each but the payload: frames that are whole, whatever is changed.
        static let framed = Kind(rawValue: 2)
        static let extendedConnect = Kind(rawValue: 4)
        /// Limits so low that they are reached.
        static let tight = Kind(rawValue: 8)
        static let raw = Kind(rawValue: 16)
    }

    static func test(_ input: [UInt8]) {
        var reader = InputReader(input)
        let kind = Kind(rawValue: reader.byte())
        let shape = reader.byte()
        let owner = Owner(kind, seed: reader.byte())
        var bytes: [UInt8] = []
        if !kind.contains(.raw) {
            if !kind.contains(.client) { bytes += Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) }
            bytes += frame(type: 4, flags: 0, stream: 0, [])
        }
        if kind.contains(.framed) {
            while !reader.isEmpty {
                let type = reader.byte() % 12
                let flags = reader.byte()
                let stream = reader.byte()
                bytes += frame(type: type, flags: flags, stream: stream, reader.bytes(Int(reader.byte())))
            }
        } else {
            bytes += reader.remainder()
        }
        var cutter = InputReader([shape])
        var start = 0
        for end in cutter.cuts(bytes.count) + [bytes.count] {
            owner.receive(Array(bytes[start..<end]))
            start = end
        }
        owner.close()
    }

    private static func frame(type: UInt8, flags: UInt8, stream: UInt8, _ payload: [UInt8]) -> [UInt8] {
        [0, 0, UInt8(payload.count), type, flags, 0, 0, 0, stream] + payload
    }

    // MARK: Seeds

    /// What a client sends for some requests, and what a server sends for its responses, as whole connections and as records.
    static func seeds() -> [[UInt8]] {
        let pool = HTTP2Pool()
        let heads = requests()
        let client = HTTP2Session(role: .client, pool: pool)
        for (index, head) in heads.enumerated() {
            guard let stream = client.request(head, endStream: index % 3 == 0, context: nil) else { continue }
            guard index % 3 > 0 else { continue }
            unsafe Array("hello".utf8).withUnsafeBytes { unsafe client.send(stream, $0) }
            client.end(stream, trailers: index % 3 == 2 ? head : nil)
        }
        client.ping()
        var output = ByteBuffer()
        _ = client.flush(into: &output, limit: 1 << 20)
        let fromClient = unsafe Array(output.unsafeBytes)

        let server = HTTP2Session(role: .server, pool: pool)
        unsafe _ = try? fromClient.withUnsafeBytes { unsafe try server.receive($0, now: Instant(nanoseconds: 0)) }
        for case .head(let stream, _) in server.events {
            let early = Head()
            early.status = 103
            server.respondInterim(stream, early)
            let head = Head()
            head.status = 200
            head.append(name: "content-type", value: "application/grpc".utf8, known: .contentType)
            server.respond(stream, head, endStream: stream.id % 3 == 0)
            unsafe Array("hello".utf8).withUnsafeBytes { unsafe server.send(stream, $0) }
            server.end(stream, trailers: head)
        }
        server.removeEvents()
        server.announceShutdown()
        var answer = ByteBuffer()
        _ = server.flush(into: &answer, limit: 1 << 20)
        server.goAway(.noError)
        _ = server.flush(into: &answer, limit: 1 << 20)
        let fromServer = unsafe Array(answer.unsafeBytes)

        var seeds: [[UInt8]] = []
        for (role, bytes) in [(Kind(), Array(fromClient.dropFirst(24))), (.client, fromServer)] {
            let records = records(bytes)
            for extra in [Kind(), .tight, .extendedConnect] {
                let kind = role.union(extra)
                seeds.append([kind.rawValue, 0, 7] + bytes)
                seeds.append([kind.union(.framed).rawValue, 0, 9] + records.flatMap(\.self))
                // Each frame alone: small inputs are changed faster.
                for record in records { seeds.append([kind.union(.framed).rawValue, 0, 3] + record) }
            }
        }
        seeds.append([Kind.raw.rawValue, 5, 1] + fromClient)
        return seeds
    }

    private static func requests() -> [Head] {
        let fields: [(StaticString, String, KnownField)] = [
            ("accept", "*/*", .other), ("cookie", "a=b", .other), ("content-length", "5", .contentLength), ("te", "trailers", .te),
        ]
        return ["GET", "POST", "PUT", "OPTIONS", "HEAD"].enumerated().map { index, method in
            let head = Head()
            head.bytes = Array("\(method)/path?queryexample.com:80".utf8)
            head.methodRange = 0..<method.utf8.count
            head.method = Method(Array(method.utf8).span)
            head.target = method.utf8.count..<method.utf8.count + 11
            head.authority = head.target.upperBound..<head.bytes.count
            for (name, value, known) in fields.prefix(index) { head.append(name: name, value: value.utf8, known: known) }
            return head
        }
    }

    /// Frames in the short form; those that are too long for it are left out.
    private static func records(_ bytes: [UInt8]) -> [[UInt8]] {
        var records: [[UInt8]] = []
        var position = 0
        while position + 9 <= bytes.count {
            let length = Int(bytes[position]) << 16 | Int(bytes[position + 1]) << 8 | Int(bytes[position + 2])
            let payload = bytes[position + 9..<position + 9 + length]
            if length < 256 {
                records.append([bytes[position + 3], bytes[position + 4], bytes[position + 8], UInt8(length)] + payload)
            }
            position += 9 + length
        }
        return records
    }
}
