import COpenSSL
import Synchronization

/// A session that a server gave, to connect to it again without a full handshake. Good for the context and the name of the connection
/// that it came by, and for one connection if it is of TLS 1.3: a ticket that is shown twice would make both recognizable.
@safe public final class TLSResumption: Sendable {
    let context: TLSContext
    let serverName: String?
    // OpenSSL counts its references atomically; nothing changes in it.
    nonisolated(unsafe) let ticket: OpaquePointer
    private let isTaken = Atomic(false)

    init(_ ticket: OpaquePointer, context: TLSContext, serverName: String?) {
        unsafe copenssl_ticket_retain(ticket)
        unsafe self.ticket = ticket
        self.context = context
        self.serverName = serverName
    }

    deinit {
        unsafe copenssl_ticket_free(ticket)
    }

    /// False once it has been used and is not to be used again: drop it.
    public var isUsable: Bool { !isTaken.load(ordering: .relaxed) }

    func take() -> Bool {
        guard unsafe copenssl_ticket_is_single_use(ticket) != 0 else { return true }
        return !isTaken.exchange(true, ordering: .relaxed)
    }
}
