import Foundation
import Glibc
import Synchronization

/// Ports that nobody uses, below the range from which the kernel takes its own. No port is given out twice by one process.
public enum Ports {
    private static let first: UInt16 = 20000
    private static let count: UInt16 = 12000
    private static let next = Mutex(UInt16.random(in: 0..<count))

    public static func free() throws -> UInt16 {
        for _ in 0..<count {
            let port = next.withLock { next in
                next = (next + 1) % count
                return first + next
            }
            let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
            defer { Glibc.close(descriptor) }
            if unsafe loopback(port, { unsafe bind(descriptor, $0, $1) }) == 0 { return port }
        }
        throw TestFailure("no free port")
    }
}
