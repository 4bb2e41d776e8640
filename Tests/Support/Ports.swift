import Foundation
import Glibc
import Synchronization

/// Ports that nobody uses, below the range from which the kernel takes its own. None is given out twice, also not to another process
/// that runs such tests.
public enum Ports {
    /// The first port of a block is bound by the process to which the block belongs, until it ends.
    private static let blockSize: UInt16 = 250
    private static let blocks: [UInt16] = Array(stride(from: 20000, to: 32000, by: Int(blockSize))).map { UInt16($0) }

    private struct State {
        var next: UInt16 = 0
        var end: UInt16 = 0
        var owners: [CInt] = []
    }

    private static let state = Mutex(State())

    public static func free() throws -> UInt16 {
        try state.withLock { state in
            while true {
                while state.next < state.end {
                    let port = state.next
                    state.next += 1
                    if let descriptor = bound(to: port) {
                        close(descriptor)
                        return port
                    }
                }
                try takeBlock(&state)
            }
        }
    }

    private static func takeBlock(_ state: inout State) throws {
        for first in blocks.shuffled() {
            guard let descriptor = bound(to: first) else { continue }
            state.owners.append(descriptor)
            (state.next, state.end) = (first + 1, first + blockSize)
            return
        }
        throw TestFailure("no free ports")
    }

    private static func bound(to port: UInt16) -> CInt? {
        let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard unsafe loopback(port, { unsafe bind(descriptor, $0, $1) }) == 0 else {
            close(descriptor)
            return nil
        }
        return descriptor
    }
}
