import Base
import ProxyConfig
import Reactor
import Telemetry
import Transport

/// A connection on its way whose protocol the endpoint chooses: HTTP/2 or HTTP/1 by ALPN, or plaintext where TLS is wanted and not enforced.
///
/// Streams wait on it. When it knows, it hands its socket to the object that serves the protocol, and the streams get their sides.
final class NegotiatingUpstream: Connection {
    private let host: WorkerHost
    private let generation: Int
    private var waiters: [StreamWaiter] = []

    init(adopting descriptor: CInt, host: WorkerHost, isConnected: Bool, worker: Worker) {
        self.host = host
        generation = host.generation
        super.init(adopting: descriptor, worker: worker)
        isConnecting = !isConnected
        if let session = host.makeTLS() { useTLS(session) }
        worker.loop.setDeadline(self, worker.loop.now + host.cluster.connectTimeout)
    }

    func wait(_ stream: Stream) -> StreamWaiter {
        let waiter = StreamWaiter(stream)
        waiters.append(waiter)
        return waiter
    }

    override func opened(_ failure: OpenFailure?) {
        if let failure {
            if case .tls(.notTLS) = failure, host.fallsBackToPlaintext() { return startAgain() }
            return fail(UpstreamFailure(failure))
        }
        guard let tls else {
            // Plaintext after all, by what the configuration says.
            return host.cluster.shared.configuration.upstreamProtocol == .http2 ? serveMultiplexed() : serveHTTP1()
        }
        host.handshakeDone(tls)
        if tls.negotiatedProtocol == .h2 { serveMultiplexed() } else { serveHTTP1() }
    }

    private func serveMultiplexed() {
        let connection = HTTP2Upstream(adopting: descriptor, host: host, isConnected: true, worker: worker, opensTLS: false)
        let waiting = leave(as: connection, .http2)
        host.adopt(connection, generation)
        connection.start()
        for waiter in waiting {
            guard let stream = waiter.stream else { continue }
            if connection.takesStreams { stream.connectionIsReady(connection.makeSide()) } else { askAgain(stream) }
        }
    }

    /// One stream gets this connection; the others, who hoped to share it, open their own.
    private func serveHTTP1() {
        let connection = HTTP1Upstream(
            adopting: descriptor, host: host, isConnected: true, worker: worker, opensTLS: false, generation: generation)
        let waiting = leave(as: connection, .http1)
        connection.start()
        var isTaken = false
        for waiter in waiting {
            guard let stream = waiter.stream else { continue }
            if isTaken || connection.isClosed {
                askAgain(stream)
            } else {
                isTaken = true
                stream.connectionIsReady(connection)
            }
        }
        if !isTaken, !connection.isClosed { connection.release(requestWasSent: true) }
    }

    private func leave(as connection: Connection, _ result: UpstreamProtocol) -> [StreamWaiter] {
        let waiting = waiters
        waiters = []
        host.negotiated(self, result)
        connection.takeOver(from: self)
        return waiting
    }

    private func askAgain(_ stream: Stream) {
        do {
            switch try host.lease(for: stream, mustBeNew: true, mustBeAlive: false) {
            case .ready(let side): stream.connectionIsReady(side)
            case .wait(let waiter): stream.waitsAgain(waiter)
            case .full: stream.connectionIsFull()
            }
        } catch {
            host.openFailed(.system(error))
            stream.connectionFailed(.connect(error))
        }
    }

    /// The endpoint speaks no TLS, and need not.
    private func startAgain() {
        let waiting = waiters
        waiters = []
        host.negotiated(self, nil)
        close()
        for waiter in waiting { if let stream = waiter.stream { askAgain(stream) } }
    }

    private func fail(_ failure: UpstreamFailure) {
        switch failure {
        case .connect(let error): host.openFailed(.system(error))
        case .tls(let error): host.openFailed(.tls(error))
        default:
            host.cluster.stats.upstreamCxConnectTimeout.increment()
            host.cluster.stats.upstreamCxConnectFail.increment()
            host.stats.cxConnectFail.increment()
        }
        let waiting = waiters
        waiters = []
        host.negotiated(self, nil)
        close()
        for waiter in waiting { waiter.stream?.connectionFailed(failure) }
    }

    override func deadlineReached(now: Instant) {
        fail(.connectTimeout)
    }

    override func failed(_ error: SystemError) {
        fail(.connect(error))
    }
}
