import Base
import Glibc
import Reactor

/// A name server on a loopback port, UDP and TCP, on the loop of the test.
final class NameServer {
    enum Record {
        case a(String, ttl: UInt32 = 60)
        case aaaa(String, ttl: UInt32 = 60)
        /// What follows belongs to the name that it points at.
        case alias(String, ttl: UInt32 = 60)
    }

    enum Reply {
        /// Those of the wanted type are sent; none of them means that there is no such record.
        case records([Record])
        /// NXDOMAIN 3, SERVFAIL 2, REFUSED 5.
        case code(UInt8)
        case silence
        case garbage
    }

    struct Question: Equatable {
        var name: String
        var type: UInt16
        var overTCP: Bool
    }

    let address: SocketAddress
    /// By name, or by name and type: `x.test` or `x.test/28`. What is not here does not exist.
    var zone: [String: Reply] = [:]
    private(set) var questions: [Question] = []

    private let loop: EventLoop
    private var sources: [EventSource] = []

    static let a: UInt16 = 1
    static let aaaa: UInt16 = 28

    init(loop: EventLoop) throws {
        self.loop = loop
        // The kernel chooses the UDP port; the TCP port of the same number may be taken: choose again.
        while true {
            let udp = socket(AF_INET, CInt(SOCK_DGRAM.rawValue), 0)
            precondition(udp >= 0)
            var any = sockaddr_in()
            any.sin_family = sa_family_t(AF_INET)
            any.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            let size = socklen_t(MemoryLayout<sockaddr_in>.size)
            let bound = unsafe withUnsafePointer(to: &any) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe bind(udp, $0, size) }
            }
            precondition(bound == 0)
            let flags = fcntl(udp, F_GETFL)
            _ = fcntl(udp, F_SETFL, flags | O_NONBLOCK)
            guard let local = Socket.localAddress(udp), let tcp = try? Socket.listen(on: local, reusePort: false) else {
                Glibc.close(udp)
                continue
            }
            address = local
            let udpSource = Datagrams(adopting: udp)
            let tcpSource = Acceptor(adopting: tcp)
            sources = [udpSource, tcpSource]
            try loop.add(udpSource)
            try loop.add(tcpSource, isListener: true)
            udpSource.answer = { [unowned self] in reply(to: $0, overTCP: false) }
            tcpSource.accepted = { [unowned self] descriptor in
                let connection = LengthPrefixed(adopting: descriptor, loop: self.loop)
                connection.answer = { [unowned self] in reply(to: $0, overTCP: true) }
                try? self.loop.add(connection)
                sources.append(connection)
            }
            return
        }
    }

    func close() {
        for source in sources { loop.close(source) }
    }

    private func reply(to query: [UInt8], overTCP: Bool) -> [UInt8]? {
        var position = 12
        var labels: [String] = []
        while query[position] != 0 {
            let length = Int(query[position])
            labels.append(String(decoding: query[position + 1..<position + 1 + length], as: UTF8.self))
            position += 1 + length
        }
        let name = labels.joined(separator: ".")
        let type = UInt16(query[position + 1]) << 8 | UInt16(query[position + 2])
        let question = Array(query[12..<position + 5])
        questions.append(Question(name: name, type: type, overTCP: overTCP))
        switch zone["\(name)/\(type)"] ?? zone[name] ?? .code(3) {
        case .silence: return nil
        case .garbage: return Array(query[..<2]) + [0x81, 0x80, 0, 1, 0, 5, 0, 0, 0, 0] + question + [0xc0]
        case .code(let code): return Array(query[..<2]) + [0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0] + question
        case .records(let records):
            var answers: [UInt8] = []
            var count = 0
            var owner = Self.encoded(name)
            for record in records {
                let data: [UInt8]
                let kind: UInt16
                let life: UInt32
                switch record {
                case .a(let text, let ttl):
                    guard type == Self.a, case .v4(let bits)? = IPAddress(text) else { continue }
                    (kind, life, data) = (Self.a, ttl, bits.bytes)
                case .aaaa(let text, let ttl):
                    guard type == Self.aaaa, case .v6(let high, let low)? = IPAddress(text) else { continue }
                    (kind, life, data) = (Self.aaaa, ttl, high.bytes + low.bytes)
                case .alias(let target, let ttl): (kind, life, data) = (5, ttl, Self.encoded(target))
                }
                answers += owner + kind.bytes + [0, 1] + life.bytes + UInt16(data.count).bytes + data
                count += 1
                if kind == 5 { owner = data }
            }
            if !overTCP, 12 + question.count + answers.count > 512 {
                return Array(query[..<2]) + [0x83, 0x80, 0, 1, 0, 0, 0, 0, 0, 0] + question  // Truncated: come again over TCP.
            }
            return Array(query[..<2]) + [0x81, 0x80, 0, 1] + UInt16(count).bytes + [0, 0, 0, 0] + question + answers
        }
    }

    private static func encoded(_ name: String) -> [UInt8] {
        name.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
    }
}

extension FixedWidthInteger {
    fileprivate var bytes: [UInt8] {
        (0..<Self.bitWidth / 8).map { UInt8(truncatingIfNeeded: self >> (Self.bitWidth - 8 - 8 * $0)) }
    }
}

private final class Datagrams: EventSource {
    var answer: ([UInt8]) -> [UInt8]? = { _ in nil }

    override func ready(_ readiness: Readiness) {
        while true {
            var room = [UInt8](repeating: 0, count: 2048)
            var sender = sockaddr_storage()
            var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let count = unsafe withUnsafeMutablePointer(to: &sender) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe recvfrom(descriptor, &room, 2048, 0, $0, &size) }
            }
            guard count > 12 else { return }
            guard let reply = answer(Array(room[..<count])) else { continue }
            _ = unsafe withUnsafePointer(to: &sender) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe sendto(descriptor, reply, reply.count, 0, $0, size)
                }
            }
        }
    }
}

private final class Acceptor: EventSource {
    var accepted: (CInt) -> Void = { _ in }

    override func ready(_ readiness: Readiness) {
        while let (descriptor, _) = try? Socket.accept(descriptor) { accepted(descriptor) }
    }
}

private final class LengthPrefixed: EventSource {
    var answer: ([UInt8]) -> [UInt8]? = { _ in nil }
    private let loop: EventLoop
    private var received: [UInt8] = []

    init(adopting descriptor: CInt, loop: EventLoop) {
        self.loop = loop
        super.init(adopting: descriptor)
    }

    override func ready(_ readiness: Readiness) {
        var room = [UInt8](repeating: 0, count: 2048)
        while case .bytes(let count) = unsafe room.withUnsafeMutableBytes({ unsafe Socket.read(descriptor, into: $0) }) {
            received += room[..<count]
        }
        while received.count >= 2 {
            let length = Int(received[0]) << 8 | Int(received[1])
            guard received.count >= 2 + length else { return }
            let query = Array(received[2..<2 + length])
            received.removeFirst(2 + length)
            guard let reply = answer(query) else { continue }
            let message = UInt16(reply.count).bytes + reply
            // The length alone first: its reader must come back for the rest without being told.
            _ = unsafe message[..<2].withUnsafeBytes { unsafe Socket.write(descriptor, $0) }
            _ = unsafe message[2...].withUnsafeBytes { unsafe Socket.write(descriptor, $0) }
        }
    }
}
