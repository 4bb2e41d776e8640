import Foundation
import Glibc
import Synchronization

/// A TCP server on loopback that does to each connection what its script says, and remembers what came.
///
/// The script runs on a thread of the connection's own; when it returns, the connection is closed. `RawConnection.stall` keeps it open
/// until the origin stops.
public final class Origin: Sendable {
    public typealias Script = @Sendable (RawConnection) throws -> Void

    public let port: UInt16
    private let state: State

    /// - Parameters:
    ///   - port: 0 = the kernel chooses.
    ///   - address: of 127.0.0.0/8.
    ///   - records: whether every received byte is kept; say no where there are many.
    public init(port: UInt16 = 0, at address: String = "127.0.0.1", records: Bool = true, _ script: @escaping Script) throws {
        let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        var one: CInt = 1
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<CInt>.size))
        var bound = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        guard unsafe loopback(port, at: address, { unsafe bind(descriptor, $0, $1) }) == 0, listen(descriptor, 1024) == 0,
            unsafe withUnsafeMutablePointer(
                to: &bound,
                { pointer in
                    unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe getsockname(descriptor, $0, &size) }
                }) == 0
        else {
            let problem = errno
            close(descriptor)
            throw TestFailure("listen on port \(port): errno \(problem)")
        }
        self.port = UInt16(bigEndian: bound.sin_port)
        state = State(descriptor)
        let state = state
        Thread.detachNewThread {
            while let accepted = state.accept(records: records) {
                Thread.detachNewThread {
                    try? script(accepted)
                    accepted.close()
                }
            }
            state.acceptEnded()
        }
    }

    deinit {
        state.stop()
    }

    /// Every connection so far, in the order they came.
    public var connections: [RawConnection] { state.withConnections { $0 } }
    /// Every byte of every connection.
    public var received: [UInt8] { connections.flatMap(\.received) }
    public var receivedText: String { String(decoding: received, as: UTF8.self) }

    /// Refuses new connections and ends the open ones. Returns when the port is free.
    public func stop() {
        state.stop()
    }

    private final class State: @unchecked Sendable {
        private let condition = NSCondition()
        private var listener: CInt
        private var connections: [RawConnection] = []
        private var isStopped = false
        private var isAccepting = true

        init(_ listener: CInt) {
            self.listener = listener
        }

        func accept(records: Bool) -> RawConnection? {
            var entry = pollfd(fd: listener, events: Int16(POLLIN), revents: 0)
            unsafe poll(&entry, 1, -1)
            let descriptor = spawning.withLock { _ in
                let descriptor = Glibc.accept(listener, nil, nil)
                if descriptor >= 0 { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
                return descriptor
            }
            condition.lock()
            defer { condition.unlock() }
            guard descriptor >= 0 else { return nil }
            let connection = RawConnection(adopting: descriptor, records: records)
            if isStopped {
                connection.reset()
                return nil
            }
            connections.append(connection)
            return connection
        }

        func acceptEnded() {
            condition.lock()
            isAccepting = false
            close(listener)
            condition.broadcast()
            condition.unlock()
        }

        func withConnections<Result>(_ body: ([RawConnection]) -> Result) -> Result { withLock { body(connections) } }

        private func withLock<Result>(_ body: () -> Result) -> Result {
            condition.lock()
            defer { condition.unlock() }
            return body()
        }

        func stop() {
            condition.lock()
            if !isStopped {
                isStopped = true
                _ = shutdown(listener, CInt(SHUT_RDWR))
                for connection in connections { connection.interrupt() }
            }
            while isAccepting { condition.wait() }
            condition.unlock()
        }
    }
}
