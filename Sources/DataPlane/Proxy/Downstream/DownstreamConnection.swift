import Base
import ProxyConfig
import Reactor
import Transport

/// An accepted socket on its way to the connection object that serves it.
struct AcceptedSocket {
    let descriptor: CInt
    let peer: SocketAddress
    let listener: WorkerListener
    let opened: Instant
}

/// A caller's connection, whatever it speaks.
class DownstreamConnection: Connection {
    final let listener: WorkerListener
    final let peer: SocketAddress
    /// The caller's address without its port, for `x-forwarded-for`.
    final private(set) lazy var peerText = Array(peer.ip.description.utf8)
    final private(set) lazy var local = Socket.localAddress(descriptor) ?? SocketAddress(.anyV4, 0)
    /// Whom the client certificate names, verified; nil without one. Parsed when first asked for.
    final private(set) lazy var identity = tls?.peer
    private final var writtenElement: (details: ClientCertificateDetails, text: [UInt8])?
    /// When it was accepted.
    final let accepted: Instant
    /// Its place in the listener's list.
    final var listIndex = 0

    init(_ socket: AcceptedSocket) {
        listener = socket.listener
        peer = socket.peer
        accepted = socket.opened
        super.init(adopting: socket.descriptor, worker: socket.listener.worker)
    }

    /// What `x-forwarded-client-cert` says of the caller; nil without a certificate. Written once for all requests.
    final func certificateElement(_ details: ClientCertificateDetails) -> [UInt8]? {
        guard let tls else { return nil }
        if let writtenElement, writtenElement.details == details { return writtenElement.text }
        guard let identity else { return nil }
        let text = identity.xfccElement(by: tls.context.certificates.first?.uriNames ?? [], details: details)
        writtenElement = (details, text)
        return text
    }

    /// The proxy drains, or the listener goes. `spread` staggers what happens to idle connections.
    func drain(after spread: Nanoseconds) {}

    // MARK: Overload

    /// Since when nothing is under way on it, so that nobody misses it; nil = something is.
    var idleSince: Instant? { nil }

    /// Bytes have come that nobody has read: it is idle no longer.
    final var hasUnreadInput: Bool { Socket.hasInput(descriptor) }

    /// Closes at once a connection that is idle.
    func closeIdle() {
        close()
    }

    /// Bytes that wait here for the caller to take them, or for their turn.
    var bufferedBytes: Int { output.count + (tls?.outgoing.count ?? 0) }

    /// Lets go of the bytes of the stream that holds the most; returns how many.
    func resetHeaviest() -> Int {
        let bytes = bufferedBytes
        if bytes > 0 { close(reset: true) }
        return bytes
    }

    /// Whether a body has hardly moved for so long that it counts as idle. Asked at regular times while streams are open.
    func hasSlowBody(elapsed: Nanoseconds, rate: Int) -> Bool { false }

    func endSlowBodies() {}

    override func close(reset: Bool = false) {
        guard !isClosed else { return }
        super.close(reset: reset)
        listener.closed(self)
    }
}
