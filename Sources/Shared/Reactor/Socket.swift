public import Base
import CLinux
import Glibc

/// An errno with its text.
public struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
    public var code: CInt

    public init(_ code: CInt) {
        self.code = code
    }

    public var description: String { unsafe String(cString: clinux_error_text(code)) }

    public static let wouldBlock = SystemError(EAGAIN)
    public static let tooManyDescriptors = SystemError(EMFILE)
    public static let brokenProtocol = SystemError(EPROTO)
    public static let timedOut = SystemError(ETIMEDOUT)

    /// No descriptor or memory left in the process or on the machine: waiting may help, trying again at once will not.
    public var isExhaustion: Bool { code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM }
    public var isWouldBlock: Bool { code == EAGAIN || code == EINTR }
}

/// What one read or write came to.
public enum Transfer: Equatable, Sendable {
    /// So many bytes, more than none.
    case bytes(Int)
    case wouldBlock
    /// Reading: the other side has sent its last byte.
    case end
    case failed(SystemError)
}

/// TCP socket calls with our types. Every socket is nonblocking and closed on exec, with TCP_NODELAY.
public enum Socket {
    /// A listening socket; the caller owns the descriptor. `reusePort`: several sockets share the address, the kernel spreads connections.
    public static func listen(on address: SocketAddress, backlog: CInt = 4096, reusePort: Bool) throws(SystemError) -> CInt {
        var address = clinux_address(address)
        let result = unsafe clinux_listen(&address, backlog, reusePort ? 1 : 0)
        guard result >= 0 else { throw SystemError(-result) }
        return result
    }

    /// Throws where another socket listens on the address, also one that would share it by SO_REUSEPORT.
    ///
    /// It binds and never listens, so that no caller is accepted by what is closed the next moment.
    public static func probe(_ address: SocketAddress) throws(SystemError) {
        var address = clinux_address(address)
        let result = unsafe clinux_probe(&address)
        guard result >= 0 else { throw SystemError(-result) }
    }

    /// The next waiting connection; `.wouldBlock` where there is none.
    public static func accept(_ listener: CInt) throws(SystemError) -> (descriptor: CInt, peer: SocketAddress) {
        var peer = clinux_address()
        let result = unsafe clinux_accept(listener, &peer)
        guard result >= 0 else { throw SystemError(-result) }
        return (result, SocketAddress(peer))
    }

    /// Begins to connect; done when the descriptor becomes writable, unless `isConnected` already.
    public static func connect(to address: SocketAddress) throws(SystemError) -> (descriptor: CInt, isConnected: Bool) {
        var address = clinux_address(address)
        var connected: CInt = 0
        let result = unsafe clinux_connect(&address, &connected)
        guard result >= 0 else { throw SystemError(-result) }
        return (result, connected == 1)
    }

    /// The pending error of a socket (SO_ERROR), nil if none: tells whether a connect succeeded.
    public static func pendingError(_ descriptor: CInt) -> SystemError? {
        let result = clinux_socket_error(descriptor)
        return result == 0 ? nil : SystemError(-result)
    }

    public static func localAddress(_ descriptor: CInt) -> SocketAddress? {
        var address = clinux_address()
        return unsafe clinux_local_address(descriptor, &address) == 0 ? SocketAddress(address) : nil
    }

    public static func peerAddress(_ descriptor: CInt) -> SocketAddress? {
        var address = clinux_address()
        return unsafe clinux_peer_address(descriptor, &address) == 0 ? SocketAddress(address) : nil
    }

    /// Bytes that were written and that the other side has not acknowledged; 0 where nobody knows.
    public static func unacknowledged(_ descriptor: CInt) -> Int {
        max(0, Int(clinux_unacknowledged(descriptor)))
    }

    public static func read(_ descriptor: CInt, into room: UnsafeMutableRawBufferPointer) -> Transfer {
        let result = unsafe clinux_read(descriptor, room.baseAddress, room.count)
        return result == 0 ? .end : transfer(result)
    }

    public static func write(_ descriptor: CInt, _ bytes: UnsafeRawBufferPointer) -> Transfer {
        unsafe transfer(clinux_write(descriptor, bytes.baseAddress, bytes.count))
    }

    /// Three pieces in one call; empty ones are skipped.
    public static func write(
        _ descriptor: CInt, _ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer, _ third: UnsafeRawBufferPointer
    ) -> Transfer {
        unsafe transfer(
            clinux_write3(descriptor, first.baseAddress, first.count, second.baseAddress, second.count, third.baseAddress, third.count))
    }

    private static func transfer(_ result: Int) -> Transfer {
        if result >= 0 { return .bytes(result) }
        let error = SystemError(CInt(-result))
        return error.isWouldBlock ? .wouldBlock : .failed(error)
    }

    /// Whether an idle connection is still open and silent, as it should be. Costs a system call.
    public static func isAliveAndSilent(_ descriptor: CInt) -> Bool {
        clinux_peek(descriptor) == -EAGAIN
    }

    /// Whether bytes wait to be read. Costs a system call.
    public static func hasInput(_ descriptor: CInt) -> Bool {
        clinux_peek(descriptor) == 1
    }

    /// Sends FIN; reading goes on.
    public static func shutdownWrite(_ descriptor: CInt) {
        _ = clinux_shutdown_write(descriptor)
    }

    /// Makes the close that follows send RST, so that the other side cannot take a cut message for a whole one.
    public static func resetOnClose(_ descriptor: CInt) {
        clinux_reset_on_close(descriptor)
    }

    /// Closes a descriptor that no `EventLoop` has.
    public static func close(_ descriptor: CInt) {
        clinux_close(descriptor)
    }
}

extension clinux_address {
    fileprivate init(_ address: SocketAddress) {
        self.init()
        port = address.port
        func put(_ value: UInt64, at offset: Int, width: Int) {
            for index in 0..<width {
                unsafe withUnsafeMutableBytes(of: &bytes) {
                    unsafe $0[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * (width - 1 - index)))
                }
            }
        }
        switch address.ip {
        case .v4(let bits):
            family = 4
            put(UInt64(bits), at: 0, width: 4)
        case .v6(let high, let low):
            family = 6
            put(high, at: 0, width: 8)
            put(low, at: 8, width: 8)
        }
    }
}

extension SocketAddress {
    fileprivate init(_ address: clinux_address) {
        func get(at offset: Int, width: Int) -> UInt64 {
            unsafe withUnsafeBytes(of: address.bytes) { bytes in
                var value: UInt64 = 0
                for index in offset..<offset + width { value = value << 8 | UInt64(unsafe bytes[index]) }
                return value
            }
        }
        let ip: IPAddress
        if address.family == 4 {
            ip = .v4(UInt32(get(at: 0, width: 4)))
        } else {
            let (high, low) = (get(at: 0, width: 8), get(at: 8, width: 8))
            // A dual-stack socket shows IPv4 callers mapped; they are the same callers.
            ip = high == 0 && low >> 32 == 0xffff ? .v4(UInt32(truncatingIfNeeded: low)) : .v6(high, low)
        }
        self.init(ip, address.port)
    }
}
