import Base
import HTTPTransport
import Reactor
import Transport

/// A caller's connection: opens TLS, finds out which HTTP it speaks, and hands its bytes to the service for that.
final class ServerConnection: Link {
    private enum Phase {
        /// TLS.
        case opening
        /// The first bytes are awaited: HTTP/2's connection preface, or HTTP/1.
        case undecided
        case serving(Service)
        /// Everything is said; the caller's end is awaited.
        case lingering
    }

    let server: HTTPServer
    let peer: SocketAddress
    /// Its place in the server's list; -1 = not there.
    var listIndex = -1
    /// Since when nothing of a request is there.
    private(set) var idleSince: Instant
    /// Whom the caller's certificate names. Parsed once.
    private(set) lazy var identity = tls?.peer

    private var phase = Phase.opening
    private var stash = ByteBuffer()
    private let accepted: Instant
    /// The caller reads nothing of what waits for it.
    private var stallDeadline = Instant.never

    private var lingerDeadline = Instant.never
    /// What the server counts as waiting for this connection.
    private var countedQueue = 0

    init(adopting descriptor: CInt, peer: SocketAddress, tls: TLSContext?, server: HTTPServer) {
        self.peer = peer
        self.server = server
        idleSince = server.loop.now
        accepted = server.loop.now
        super.init(adopting: descriptor, tls: tls.map { TLSSession(server: $0) }, loop: server.loop, buffers: server.buffers)
        arm()
    }

    var isIdle: Bool {
        switch phase {
        case .opening, .lingering: true
        case .undecided: stash.isEmpty
        case .serving(let service): service.isIdle
        }
    }

    func becameIdle() {
        idleSince = loop.now
    }

    // MARK: Which HTTP

    override func opened() {
        phase = .undecided
        if let tls {
            switch tls.negotiatedProtocol {
            case .h2: serve(HTTP2Service(self))
            case .http1: serve(HTTP1Service(self))
            // The caller offered nothing by ALPN: its first bytes tell.
            case .none, .other: break
            }
        }
        if server.isDraining { drain() }
        arm()
    }

    private func serve(_ service: Service) {
        phase = .serving(service)
    }

    override func received(_ bytes: UnsafeRawBufferPointer) {
        switch phase {
        case .serving(let service): unsafe service.received(bytes)
        case .undecided:
            unsafe stash.append(copying: bytes)
            decide()
        case .opening, .lingering: return
        }
        if !isClosed { arm() }
    }

    /// The connection preface of RFC 9113 section 3.4 begins like no request of HTTP/1.
    private static let preface: [UInt8] = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    private func decide() {
        let count = min(stash.count, Self.preface.count)
        let fits = unsafe stash.unsafeBytes[..<count].elementsEqual(Self.preface[..<count])
        guard !fits || count == Self.preface.count else { return }
        var bytes = ByteBuffer()
        swap(&bytes, &stash)
        let service = fits ? HTTP2Service(self) : HTTP1Service(self)
        serve(service)
        unsafe service.received(bytes.unsafeBytes)
        // What came with these bytes is still answered.
        if server.isDraining, !isClosed { service.drain() }
    }

    override func receivedEnd(isCut: Bool) {
        switch phase {
        case .serving(let service): service.receivedEnd()
        case .opening, .undecided, .lingering: close()
        }
    }

    /// Keeps the server's sum of what waits up to date.
    func countQueued(_ bytes: Int) {
        server.queuedBytes += bytes - countedQueue
        countedQueue = bytes
    }

    override func broke(_ failure: LinkFailure) {
        if case .opening = phase {
            if case .tls(let error) = failure {
                server.report(.handshakeFailed, peer, "TLS handshake failed: \(error)")
                if error == .notTLS { sayTLS() }
                // For what says why to be read.
                return linger()
            }
            return close()
        }
        end(.connectionLost("the connection broke: \(failure)"), reset: true)
    }

    /// In plaintext, to a caller who speaks plaintext; most likely it is HTTP.
    private func sayTLS() {
        let answer: StaticString = "HTTP/1.0 400 This port speaks TLS\r\nconnection: close\r\n\r\nThis port speaks TLS: use https.\n"
        // If it fails, nobody is there to read it.
        _ = unsafe Socket.write(descriptor, UnsafeRawBufferPointer(start: answer.utf8Start, count: answer.utf8CodeUnitCount))
    }

    // MARK: Writing

    override func flushDue() {
        guard case .serving(let service) = phase else { return flush() }
        service.runDeliveries()
        guard !isClosed else { return }
        service.flushDue()
        noteProgress()
    }

    override func drained() {
        if case .lingering = phase { lingerDeadline = loop.now + server.limits.lingerTime }
        noteProgress()
        if case .serving(let service) = phase { service.drained() }
    }

    override func progressed() {
        if stallDeadline != .never { stallDeadline = loop.now + server.limits.writeTimeout }
        if case .serving(let service) = phase { service.drained() }
    }

    private func noteProgress() {
        guard !isClosed else { return }
        if unsentBytes == 0 {
            stallDeadline = .never
        } else if stallDeadline == .never {
            stallDeadline = loop.now + server.limits.writeTimeout
        }
        arm()
    }

    // MARK: Time

    /// Sees to it that the next deadline is kept. Needed where one has come nearer; what has moved away is found out by the timer.
    func arm() {
        guard !isClosed else { return }
        let next: Instant
        switch phase {
        case .opening: next = accepted + server.limits.headTimeout
        case .undecided: next = stash.isEmpty ? idleSince + server.limits.idleTimeout : accepted + server.limits.headTimeout
        case .serving(let service): next = min(service.deadline, stallDeadline)
        case .lingering: next = min(stallDeadline, lingerDeadline)
        }
        if next != .never { loop.setDeadline(self, next) }
    }

    override func deadlineReached(now: Instant) {
        switch phase {
        case .opening:
            server.report(.timedOut, peer, "TLS handshake not done in time")
            close(reset: true)
        case .undecided where !stash.isEmpty:
            server.report(.timedOut, peer, "sent too little to tell its protocol by in time")
            close(reset: true)
        case .undecided: close()
        case .lingering where now < stallDeadline: now >= lingerDeadline ? close() : arm()
        case .serving(let service) where now < stallDeadline:
            service.deadlineReached(now: now)
            arm()
        case .serving, .lingering:
            server.report(.cutOff, peer, "read nothing for \(server.limits.writeTimeout.seconds) s; \(unsentBytes) bytes were waiting")
            end(.cutOff(waitingBytes: unsentBytes), reset: true)
        }
    }

    // MARK: The end

    func drain() {
        switch phase {
        case .serving(let service): service.drain()
        case .undecided where stash.isEmpty: close()
        case .opening, .undecided, .lingering: break
        }
    }

    /// Says what is still to be said, sends the end, and waits a little for the caller's.
    func linger() {
        guard !isClosed else { return }
        if case .lingering = phase { return }
        phase = .lingering
        finish()
        // Else it begins when all has left.
        if unsentBytes == 0 { lingerDeadline = loop.now + server.limits.lingerTime }
        noteProgress()
    }

    /// Tells every exchange, and closes.
    func end(_ closure: HTTPClosure, reset: Bool) {
        guard !isClosed else { return }
        let before = phase
        phase = .lingering
        close(reset: reset)
        if case .serving(let service) = before { service.abandon(closure) }
    }

    override func closed() {
        stash.release()
        server.closed(self)
    }
}
