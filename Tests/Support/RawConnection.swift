import Foundation
import Glibc

/// A blocking TCP connection on loopback with a deadline for everything: a caller that can send any bytes in any pieces, or one
/// connection of an `Origin`. `startTLS` puts TLS on it: what is sent and received is plaintext from then on.
public final class RawConnection: @unchecked Sendable {
    public enum End: Equatable, Sendable {
        /// FIN: the other side has nothing more to say.
        case closed
        /// RST.
        case reset
    }

    private let lock = NSLock()
    private var descriptor: CInt
    private var log: [UInt8] = []
    private var count = 0
    private let records: Bool
    /// Read from the socket, but not yet asked for.
    private var pending: [UInt8] = []
    /// Nil = plaintext.
    public internal(set) var tls: TLSEnd?

    /// - Parameter records: keep every received byte for `received`.
    init(adopting descriptor: CInt, records: Bool) {
        self.descriptor = descriptor
        self.records = records
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
        var one: CInt = 1
        unsafe setsockopt(descriptor, CInt(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<CInt>.size))
    }

    /// Connects to a port of loopback.
    ///
    /// - Parameters:
    ///   - address: of 127.0.0.0/8.
    ///   - receiveBuffer: SO_RCVBUF; small ones make a slow reader felt soon.
    public convenience init(
        to port: UInt16, at address: String = "127.0.0.1", receiveBuffer: CInt? = nil, records: Bool = false
    ) throws {
        let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw TestFailure("socket: errno \(errno)") }
        if var size = receiveBuffer {
            unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<CInt>.size))
        }
        let result = unsafe loopback(port, at: address) { unsafe connect(descriptor, $0, $1) }
        guard result == 0 else {
            let problem = errno
            Glibc.close(descriptor)
            throw TestFailure("connect to \(address) port \(port): errno \(problem)")
        }
        self.init(adopting: descriptor, records: records)
    }

    deinit {
        close()
    }

    // MARK: Sending

    public func send(_ text: String, within limit: Duration = patience) throws {
        try send(Array(text.utf8), within: limit)
    }

    public func send(_ bytes: [UInt8], within limit: Duration = patience) throws {
        try sendRaw(tls?.seal(bytes) ?? bytes, within: limit)
    }

    /// Past TLS, if there is any.
    public func sendRaw(_ bytes: [UInt8], within limit: Duration = patience) throws {
        let deadline = ContinuousClock.now + limit
        var sent = 0
        while sent < bytes.count {
            let result = unsafe bytes.withUnsafeBytes { buffer in
                unsafe Glibc.send(descriptor, buffer.baseAddress! + sent, buffer.count - sent, CInt(MSG_NOSIGNAL))
            }
            if result > 0 {
                sent += result
            } else if errno == EAGAIN {
                guard try wait(for: Int16(POLLOUT), until: deadline) else {
                    throw TestFailure("sent \(sent) of \(bytes.count) bytes, then nothing was taken for \(limit)")
                }
            } else if errno != EINTR {
                throw TestFailure("sent \(sent) of \(bytes.count) bytes, then errno \(errno)")
            }
        }
    }

    /// Sends `count` bytes of the pattern without holding them all.
    @discardableResult
    public func sendPattern(_ count: Int, within limit: Duration = patience) throws -> Int {
        let block = Pattern.block
        var sent = 0
        while sent < count {
            let part = min(block.count, count - sent)
            try send(part == block.count ? block : Array(block[..<part]), within: limit)
            sent += part
        }
        return sent
    }

    /// As many bytes as the other side takes until it stops taking for `pause`.
    public func sendUntilStuck(_ bytes: [UInt8], pause: Duration, limit: Int) -> Int {
        var sent = 0
        while sent < limit {
            let result = unsafe bytes.withUnsafeBytes { buffer in
                unsafe Glibc.send(descriptor, buffer.baseAddress!, buffer.count, CInt(MSG_NOSIGNAL))
            }
            if result > 0 {
                sent += result
            } else if errno == EAGAIN {
                guard (try? wait(for: Int16(POLLOUT), until: ContinuousClock.now + pause)) == true else { return sent }
            } else if errno != EINTR {
                return sent
            }
        }
        return sent
    }

    /// FIN, with TLS behind a close_notify; reading goes on.
    public func finishSending() {
        if let tls { try? sendRaw(tls.sealEnd()) }
        _ = shutdown(descriptor, CInt(SHUT_WR))
    }

    /// FIN, with TLS one that anybody could have forged.
    public func finishSendingRaw() {
        _ = shutdown(descriptor, CInt(SHUT_WR))
    }

    // MARK: Receiving

    /// Every byte that came, if the connection records.
    public var received: [UInt8] { lock.withLock { log } }
    public var receivedCount: Int { lock.withLock { count } }

    /// What comes next, at least one byte; empty = the other side has ended with FIN, or by close_notify.
    ///
    /// - Throws: `ConnectionReset`, `TLSFailure`, or `TestFailure` at the deadline.
    public func receive(max: Int = 64 << 10, within limit: Duration = patience) throws -> [UInt8] {
        if !pending.isEmpty {
            defer { pending.removeFirst(min(max, pending.count)) }
            return Array(pending.prefix(max))
        }
        guard let tls else { return try receiveRaw(max: max, within: limit) }
        while true {
            switch try tls.open(max: max) {
            case .bytes(let bytes): return bytes
            case .end: return []
            case .needMore:
                let ciphertext = try receiveRaw(max: 64 << 10, within: limit)
                if ciphertext.isEmpty {
                    tls.wasTruncated = true
                    return []
                }
                tls.push(ciphertext)
                // An answer that the protocol asks for, or an alert, perhaps to somebody who has gone.
                let answer = tls.pull()
                if !answer.isEmpty { try? sendRaw(answer, within: limit) }
            }
        }
    }

    /// Past TLS, if there is any.
    public func receiveRaw(max: Int = 64 << 10, within limit: Duration = patience) throws -> [UInt8] {
        let deadline = ContinuousClock.now + limit
        while true {
            let room = max
            var result = 0
            let bytes = unsafe [UInt8](unsafeUninitializedCapacity: room) { buffer, filled in
                result = unsafe recv(descriptor, buffer.baseAddress, room, 0)
                filled = Swift.max(0, result)
            }
            if result >= 0 {
                lock.withLock {
                    count += result
                    if records { log += bytes }
                }
                return bytes
            }
            switch errno {
            case EAGAIN:
                guard try wait(for: Int16(POLLIN), until: deadline) else { throw TestFailure("nothing came within \(limit)") }
            case EINTR: break
            case ECONNRESET, EPIPE: throw ConnectionReset()
            default: throw TestFailure("recv: errno \(errno)")
            }
        }
    }

    /// Bytes that were read too far come again.
    public func unread(_ bytes: some Sequence<UInt8>) {
        pending = Array(bytes) + pending
    }

    /// Reads until the pattern has come; returns everything up to and with it.
    public func read(until pattern: String, within limit: Duration = patience) throws -> [UInt8] {
        let pattern = Array(pattern.utf8)
        var bytes: [UInt8] = []
        while true {
            let piece: [UInt8]
            do {
                piece = try receive(within: limit)
            } catch let failure as TestFailure {
                throw TestFailure("\(failure); waited for \(shown(pattern)) and had \(shown(bytes))")
            }
            guard !piece.isEmpty else { throw TestFailure("ended before \(shown(pattern)): \(shown(bytes))") }
            let searched = max(0, bytes.count - pattern.count)
            bytes += piece
            if let end = bytes[searched...].firstRange(of: pattern)?.upperBound {
                unread(bytes[end...])
                return Array(bytes[..<end])
            }
        }
    }

    public func read(exactly count: Int, within limit: Duration = patience) throws -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count)
        while bytes.count < count {
            let piece = try receive(max: count - bytes.count, within: limit)
            guard !piece.isEmpty else { throw TestFailure("ended after \(bytes.count) of \(count) bytes: \(shown(bytes))") }
            bytes += piece
        }
        return bytes
    }

    /// Everything until the other side ends, and how it ended.
    public func readToEnd(within limit: Duration = patience) throws -> (bytes: [UInt8], end: End) {
        var bytes: [UInt8] = []
        do {
            while true {
                let piece = try receive(within: limit)
                if piece.isEmpty { return (bytes, .closed) }
                bytes += piece
            }
        } catch is ConnectionReset {
            return (bytes, .reset)
        } catch let failure as TestFailure {
            throw TestFailure("\(failure), not even an end; had \(shown(bytes))")
        }
    }

    /// Counts bytes until the other side ends or `count` have come, and checks them against the pattern.
    public func readPattern(_ count: Int, within limit: Duration = patience) throws -> (count: Int, isIntact: Bool) {
        var seen = 0
        var isIntact = true
        while seen < count {
            let piece: [UInt8]
            do {
                piece = try receive(max: min(64 << 10, count - seen), within: limit)
            } catch is ConnectionReset {
                return (seen, isIntact)
            }
            if piece.isEmpty { break }
            if isIntact { isIntact = Pattern.matches(piece, at: seen) }
            seen += piece.count
        }
        return (seen, isIntact)
    }

    /// Whether nothing comes, no byte and no end, for a while.
    public func isSilent(for time: Duration) throws -> Bool {
        guard pending.isEmpty else { return false }
        return try !wait(for: Int16(POLLIN), until: ContinuousClock.now + time)
    }

    // MARK: Ending

    /// Close without reset, whatever was not read.
    public func close() {
        lock.withLock {
            guard descriptor >= 0 else { return }
            Glibc.close(descriptor)
            descriptor = -1
        }
    }

    public func reset() {
        lock.withLock {
            guard descriptor >= 0 else { return }
            var option = linger(l_onoff: 1, l_linger: 0)
            unsafe setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
            Glibc.close(descriptor)
            descriptor = -1
        }
    }

    /// Keeps the connection open and silent until the other side has reset it or the origin stops.
    public func stall() {
        var entry = pollfd(fd: descriptor, events: 0, revents: 0)
        while entry.revents == 0 { unsafe poll(&entry, 1, -1) }
    }

    /// Makes every call on it end, from another thread.
    func interrupt() {
        lock.withLock { if descriptor >= 0 { _ = shutdown(descriptor, CInt(SHUT_RDWR)) } }
    }

    private func wait(for events: Int16, until deadline: ContinuousClock.Instant) throws -> Bool {
        while true {
            let left = ContinuousClock.now.duration(to: deadline).milliseconds
            var entry = pollfd(fd: descriptor, events: events, revents: 0)
            let result = unsafe poll(&entry, 1, CInt(max(0, left)))
            if result > 0 { return true }
            if result == 0 { return false }
            guard errno == EINTR else { throw TestFailure("poll: errno \(errno)") }
        }
    }
}

/// The other side sent RST.
public struct ConnectionReset: Error {}

/// Bytes whose place in the stream can be told from their value.
public enum Pattern {
    /// What is lost or doubled in other amounts than this is seen.
    private static let period = 64 << 10

    public static func byte(at offset: Int) -> UInt8 {
        let place = offset % period
        return UInt8(truncatingIfNeeded: place ^ place >> 8)
    }

    public static func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map(byte(at:))
    }

    public static let block = bytes(period)

    static func matches(_ piece: [UInt8], at offset: Int) -> Bool {
        unsafe piece.withUnsafeBytes { piece in
            unsafe block.withUnsafeBytes { block in
                var index = 0
                while index < piece.count {
                    let start = (offset + index) % period
                    let count = min(piece.count - index, period - start)
                    guard unsafe memcmp(piece.baseAddress! + index, block.baseAddress! + start, count) == 0 else { return false }
                    index += count
                }
                return true
            }
        }
    }
}

/// Calls with the address of a port on 127.0.0.1.
func loopback(_ port: UInt16, at host: String = "127.0.0.1", _ body: (UnsafePointer<sockaddr>, socklen_t) -> CInt) -> CInt {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = unsafe inet_addr(host)
    return unsafe withUnsafePointer(to: &address) { pointer in
        unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
}
