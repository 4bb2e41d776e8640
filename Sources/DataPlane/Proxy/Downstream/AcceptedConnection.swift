import Base
import ProxyConfig
import Reactor
import Telemetry
import Transport

/// A caller's connection of which is not yet known what it speaks: looks at the first bytes, finds the filter chain, opens TLS, and hands
/// over to the object that serves the protocol.
///
/// Only where something is to be found out: a listener with one plaintext chain and one protocol has none of these.
final class AcceptedConnection: DownstreamConnection {
    private enum Phase {
        /// TLS or plaintext?
        case hello
        /// Of the chain that was chosen.
        case handshake
        /// HTTP/2's connection preface, or HTTP/1?
        case preface
    }

    private var phase = Phase.hello
    private var stash = ByteBuffer()
    private var chain: WorkerFilterChain?

    /// For everything until the protocol is known (attack case T8).
    private static let openingTime = Nanoseconds.seconds(10)
    /// How long a caller of a TCP service may take to begin with TLS, where plaintext is allowed too.
    private static let serverFirstTime = Nanoseconds.milliseconds(500)
    /// For the alert that says why to be read.
    private static let alertTime = Nanoseconds.seconds(1)
    private var hasFailed = false
    private var hasBytes = false

    /// - Parameter chain: the one that all connections get, where no byte is needed to choose it.
    init(_ socket: AcceptedSocket, chain: WorkerFilterChain?) {
        super.init(socket)
        self.chain = chain
        if chain != nil { phase = .preface }
        worker.loop.setDeadline(self, worker.loop.now + silentTime)
    }

    /// Until the first byte. A silent connection is an idle one where plaintext HTTP is spoken; a TCP service may have to speak first.
    private var silentTime: Nanoseconds {
        switch (chain ?? listener.chain(for: nil))?.filter {
        case .http(let filter): filter.idleTimeout
        case .tcp: Self.serverFirstTime
        case nil: Self.openingTime
        }
    }

    override func received(_ bytes: UnsafeRawBufferPointer) {
        if !hasBytes {
            hasBytes = true
            worker.loop.setDeadline(self, worker.loop.now + Self.openingTime)
        }
        if stash.isEmpty {
            unsafe look(at: bytes)
        } else {
            var held = ByteBuffer()
            swap(&held, &stash)
            unsafe held.append(copying: bytes)
            unsafe look(at: held.unsafeBytes)
        }
    }

    /// What is not enough to decide goes back to the stash.
    private func look(at bytes: UnsafeRawBufferPointer) {
        switch phase {
        case .hello: unsafe lookForTLS(bytes)
        case .preface: unsafe lookForPreface(bytes)
        // The transport hands out nothing before the handshake is done, and then the phase is another.
        case .handshake: break
        }
    }

    private func lookForTLS(_ bytes: UnsafeRawBufferPointer) {
        switch unsafe ClientHello.read(bytes) {
        case .needMore:
            unsafe stash.append(copying: bytes)
        case .notTLS:
            guard let chain = listener.chain(for: nil) else { return refuse("plaintext on a port that takes TLS only") }
            self.chain = chain
            unsafe servePlaintext(chain, bytes)
        case .malformed:
            refuse("malformed ClientHello")
        case .complete(let hello):
            guard let chain = listener.chain(for: hello) else { return refuse("no filter chain for this server name or protocol") }
            guard let context = chain.shared.tls?.context else {
                // A chain without TLS of its own: TLS goes through it untouched.
                guard chain.shared.tls == nil else { return refuse("the certificate is not there") }
                self.chain = chain
                return unsafe servePlaintext(chain, bytes)
            }
            self.chain = chain
            phase = .handshake
            useTLS(TLSSession(server: context))
            unsafe beginTLS(with: bytes)
        }
    }

    private func servePlaintext(_ chain: WorkerFilterChain, _ bytes: UnsafeRawBufferPointer) {
        switch chain.filter {
        case .tcp(let filter): unsafe become(TCPDownstream(socket, filter: filter), bytes)
        case .http(let filter):
            switch filter.shared.configuration.codec {
            case .http1: unsafe become(HTTP1Downstream(socket, chain: chain, filter: filter), bytes)
            case .http2: unsafe become(HTTP2Downstream(socket, chain: chain, filter: filter), bytes)
            case .auto:
                phase = .preface
                unsafe lookForPreface(bytes)
            }
        }
    }

    override func opened(_ failure: OpenFailure?) {
        guard let chain, let tls else { return close() }
        if let failure {
            listener.handshakeFailed(failure, peer: peer)
            hasFailed = true
            worker.loop.setDeadline(self, worker.loop.now + Self.alertTime)
            return discardInput()
        }
        listener.handshakeDone(tls)
        let nothing = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
        switch chain.filter {
        case .tcp(let filter): unsafe become(TCPDownstream(socket, filter: filter), nothing)
        case .http(let filter):
            switch (filter.shared.configuration.codec, tls.negotiatedProtocol) {
            case (.http2, _), (.auto, .h2): unsafe become(HTTP2Downstream(socket, chain: chain, filter: filter), nothing)
            case (.http1, _), (.auto, .http1): unsafe become(HTTP1Downstream(socket, chain: chain, filter: filter), nothing)
            // The caller offered nothing by ALPN: its first bytes tell.
            case (.auto, .none), (.auto, .other): phase = .preface
            }
        }
    }

    private func lookForPreface(_ bytes: UnsafeRawBufferPointer) {
        guard let chain, case .http(let filter) = chain.filter else { return close() }
        switch unsafe HTTP2Preface.compare(bytes) {
        case .unknown:
            unsafe stash.append(copying: bytes)
        case .yes: unsafe become(HTTP2Downstream(socket, chain: chain, filter: filter), bytes)
        case .no: unsafe become(HTTP1Downstream(socket, chain: chain, filter: filter), bytes)
        }
    }

    private var socket: AcceptedSocket {
        AcceptedSocket(descriptor: descriptor, peer: peer, listener: listener, opened: accepted)
    }

    private func become(_ successor: DownstreamConnection, _ bytes: UnsafeRawBufferPointer) {
        listener.replace(self, with: successor)
        successor.takeOver(from: self)
        // Before its bytes: they go to the endpoint that it chooses.
        if let tcp = successor as? TCPDownstream { tcp.begin() }
        if !successor.isClosed { unsafe successor.start(with: bytes) }
    }

    private func refuse(_ reason: StaticString) {
        listener.refused(peer: peer, reason)
        close(reset: true)
    }

    override func receivedEnd() { close() }
    override func failed(_ error: SystemError) { close() }

    override func deadlineReached(now: Instant) {
        if hasFailed { return close() }
        if !hasBytes, let chain = chain ?? listener.chain(for: nil) {
            guard let filter = chain.httpFilter else { return unsafe servePlaintext(chain, UnsafeRawBufferPointer(start: nil, count: 0)) }
            filter.stats.downstreamCxIdleTimeout.increment()
            return close()
        }
        listener.openingTimedOut(peer: peer, inHandshake: isHandshaking)
        close(reset: true)
    }

    /// The oldest of these are those that show nothing.
    override var idleSince: Instant? { accepted }

    override func drain(after spread: Nanoseconds) {
        worker.loop.setDeadline(self, min(worker.loop.now + spread, accepted + Self.openingTime))
    }
}

/// The bytes that a caller who knows that we speak HTTP/2 sends first (RFC 9113 section 3.4).
enum HTTP2Preface {
    enum Answer {
        case yes
        case no
        /// All bytes so far fit.
        case unknown
    }

    private static let text: StaticString = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

    static func compare(_ bytes: UnsafeRawBufferPointer) -> Answer {
        let count = min(bytes.count, text.utf8CodeUnitCount)
        for index in 0..<count where unsafe bytes[index] != text.utf8Start[index] { return .no }
        return count == text.utf8CodeUnitCount ? .yes : .unknown
    }
}
