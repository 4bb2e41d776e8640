import Base
import HTTP
import ProxyConfig
import Reactor
import Resilience
import Telemetry
import Transport

/// A listener's TCP configuration as one worker uses it.
final class WorkerTCPFilter {
    let shared: RuntimeTCPFilter
    /// All clusters of the snapshot, by place.
    let clusters: [WorkerCluster]
    let stats: TCPStats
    let logs: AccessLogBatches
    let idleTimeout: Nanoseconds?

    init(_ shared: RuntimeTCPFilter, clusters: [WorkerCluster], worker: Worker) {
        self.shared = shared
        self.clusters = clusters
        stats = worker.registry.tcp(statPrefix: shared.configuration.statPrefix, worker: worker.index)
        logs = AccessLogBatches(shared.accessLogs, worker: worker)
        idleTimeout = shared.configuration.idleTimeout.map(Nanoseconds.init)
    }
}

/// A caller's connection that is passed on byte for byte. Either side may finish writing while the other goes on (half-close); both
/// are closed when both have finished, when one breaks, or after the idle timeout.
final class TCPDownstream: DownstreamConnection {
    let filter: WorkerTCPFilter
    private var upstream: TCPUpstream?
    private var lastActivity: Instant
    private(set) var flags: ResponseFlags = []
    private(set) var details: StaticString = ""
    var transportFailure = LogText.none
    private(set) var cluster: WorkerCluster?
    private(set) var host: WorkerHost?

    init(_ socket: AcceptedSocket, filter: WorkerTCPFilter) {
        self.filter = filter
        lastActivity = socket.opened
        super.init(socket)
        filter.stats.downstreamCxTotal.increment()
        filter.stats.downstreamCxActive.increment()
    }

    /// Chooses the cluster and endpoint and begins to connect. Servers that speak first need it before the caller's first byte.
    func begin() {
        guard let index = filter.shared.choose(random: worker.random.next()) else {
            filter.stats.downstreamCxNoRoute.increment()
            return refuse(.noRoute, "no_route")
        }
        let cluster = filter.clusters[index]
        self.cluster = cluster
        if cluster.unsupported != nil { return refuse(.upstreamProtocolError, "upstream_tls_not_ready") }
        guard let host = cluster.pick() else {
            cluster.stats.upstreamCxNoneHealthy.increment()
            return refuse(cluster.noHostFlag, cluster.noHostDetails)
        }
        self.host = host
        if let idle = filter.idleTimeout { worker.loop.setDeadline(self, worker.loop.now + idle) }
        connect(to: host)
    }

    private func connect(to host: WorkerHost) {
        guard cluster?.mayOpenTunnel != false else {
            cluster?.stats.upstreamCxOverflow.increment()
            return refuse(.upstreamOverflow, "upstream_cx_overflow")
        }
        do throws(SystemError) {
            let (socket, isConnected) = try WorkerHost.connect(to: host.shared.address, worker)
            let upstream = TCPUpstream(adopting: socket, host: host, downstream: self, isConnected: isConnected)
            self.upstream = upstream
            do {
                try worker.loop.add(upstream)
            } catch {
                upstream.close()
                throw error
            }
            if isConnected { upstream.connected() }
        } catch {
            host.openFailed(.system(error))
            // Without a descriptor for it the endpoint was never asked: no fault of its own.
            host.cluster.record(error.isExhaustion ? .overloadLocal : .connectFailure, on: host)
            refuse(.upstreamConnectionFailure, "upstream_connect_failed")
        }
    }

    /// The endpoint speaks no TLS, and need not (clientPolicy.tls.enforce: false): begins again, with what the caller has sent so far.
    func connectAgain(carrying held: borrowing ByteBuffer) {
        guard let host else { return }
        upstream?.close()
        connect(to: host)
        unsafe upstream?.send(held.unsafeBytes)
        upstream?.flush()
    }

    private func refuse(_ flags: ResponseFlags, _ details: StaticString) {
        self.flags.insert(flags)
        self.details = details
        close(reset: true)
    }

    override func received(_ bytes: UnsafeRawBufferPointer) {
        touch()
        guard let upstream else { return }
        unsafe upstream.send(bytes)
        upstream.flush()
        if upstream.isCongested {
            filter.stats.downstreamFlowControlPausedReadingTotal.increment()
            pauseReading()
        }
    }

    func sendDown(_ bytes: UnsafeRawBufferPointer) {
        touch()
        unsafe send(bytes)
        flush()
    }

    private func touch() {
        lastActivity = worker.loop.now
    }

    override func receivedEnd() {
        if wasTruncated { details = "downstream_tls_truncated" }
        upstream?.finishWriting(cut: wasTruncated)
        closeIfBothEnded()
    }

    /// `cut`: nobody knows whether that was all (RFC 8446 section 6.1); the caller is told so as far as he speaks TLS.
    func upstreamEnded(cut: Bool) {
        if cut { details = "upstream_tls_truncated" }
        finishWriting(cut: cut)
        closeIfBothEnded()
    }

    func upstreamDrained() {
        guard isReadPaused else { return }
        filter.stats.downstreamFlowControlResumedReadingTotal.increment()
        resumeReading()
    }

    override func drained() {
        if upstream?.isReadPaused == true { upstream?.resumeReading() }
        closeIfBothEnded()
    }

    /// All bytes of both directions have arrived and been passed on.
    func closeIfBothEnded() {
        guard !isClosed, let upstream, sawEnd, upstream.sawEnd, sentEnd, upstream.sentEnd else { return }
        close()
    }

    func upstreamFailed(_ flags: ResponseFlags, _ details: StaticString) {
        self.flags.insert(flags)
        self.details = details
        close(reset: true)
    }

    override func failed(_ error: SystemError) {
        flags.insert(.downstreamConnectionTermination)
        details = "downstream_remote_disconnect"
        // With RST to the endpoint too, which must not take what it has for all that the caller wanted to say.
        close(reset: true)
    }

    override func deadlineReached(now: Instant) {
        guard let idle = filter.idleTimeout else { return }
        if lastActivity + idle > now { return worker.loop.setDeadline(self, lastActivity + idle) }
        filter.stats.idleTimeout.increment()
        flags.insert(.streamIdleTimeout)
        details = "idle_timeout"
        close()
    }

    override func close(reset: Bool = false) {
        guard !isClosed else { return }
        filter.stats.downstreamCxActive.decrement()
        filter.stats.downstreamCxRxBytesTotal.add(bytesRead)
        filter.stats.downstreamCxTxBytesTotal.add(bytesWritten)
        if !filter.logs.isEmpty { log(duration: worker.loop.now - accepted) }
        super.close(reset: reset)
        if let upstream {
            self.upstream = nil
            upstream.close(reset: reset)
        }
    }
}

/// The connection to an endpoint that belongs to one caller's connection.
final class TCPUpstream: Connection {
    private let host: WorkerHost
    private unowned let downstream: TCPDownstream
    private let started: Instant
    private var isAnswered = false

    init(adopting descriptor: CInt, host: WorkerHost, downstream: TCPDownstream, isConnected: Bool) {
        self.host = host
        self.downstream = downstream
        started = downstream.worker.loop.now
        super.init(adopting: descriptor, worker: downstream.worker)
        isConnecting = !isConnected
        if let session = host.makeTLS() { useTLS(session) }
        host.connectionBegan()
        host.cluster.started(host)
        worker.loop.setDeadline(self, isConnected && tls == nil ? .never : worker.loop.now + host.cluster.connectTimeout)
    }

    override func opened(_ failure: OpenFailure?) {
        worker.loop.setDeadline(self, .never)
        if let failure {
            if case .tls(.notTLS) = failure, host.fallsBackToPlaintext() {
                var held = ByteBuffer()
                swap(&held, &output)
                return downstream.connectAgain(carrying: held)
            }
            host.openFailed(failure)
            downstream.transportFailure = UpstreamFailure(failure).transportReason
            return connectFailed(.connectFailure, "upstream_connect_failed")
        }
        if let tls { host.handshakeDone(tls) }
        host.cluster.stats.upstreamCxConnect.record(nanoseconds: (worker.loop.now - started).count)
        host.cluster.record(.ok, on: host, waited: worker.loop.now - started)
        answered(worker.loop.now - started)
        flush()
    }

    /// What balancing goes by is how long a connection takes to open.
    private func answered(_ latency: Nanoseconds?) {
        guard !isAnswered else { return }
        isAnswered = true
        host.cluster.answered(host, started: started, latency: latency)
    }

    private func connectFailed(_ outcome: AttemptOutcome, _ details: StaticString) {
        host.cluster.record(outcome, on: host, waited: worker.loop.now - started)
        downstream.upstreamFailed(.upstreamConnectionFailure, details)
    }

    override func received(_ bytes: UnsafeRawBufferPointer) {
        unsafe downstream.sendDown(bytes)
        if !isClosed, downstream.isCongested { pauseReading() }
    }

    override func receivedEnd() {
        downstream.upstreamEnded(cut: wasTruncated)
    }

    override func drained() {
        downstream.upstreamDrained()
        downstream.closeIfBothEnded()
    }

    override func failed(_ error: SystemError) {
        host.cluster.stats.upstreamCxDestroyRemoteWithActiveRq.increment()
        downstream.upstreamFailed(.upstreamConnectionTermination, "upstream_remote_disconnect")
    }

    override func deadlineReached(now: Instant) {
        guard isConnecting || isHandshaking else { return }
        host.cluster.stats.upstreamCxConnectTimeout.increment()
        host.cluster.stats.upstreamCxConnectFail.increment()
        host.stats.cxConnectFail.increment()
        connectFailed(.connectTimeout, "upstream_connect_timeout")
    }

    override func close(reset: Bool = false) {
        guard !isClosed else { return }
        let stats = host.cluster.stats
        stats.upstreamCxDestroy.increment()
        stats.upstreamCxRxBytesTotal.add(bytesRead)
        stats.upstreamCxTxBytesTotal.add(bytesWritten)
        stats.upstreamCxLength.record(nanoseconds: (worker.loop.now - started).count)
        answered(nil)
        host.cluster.finished(host)
        super.close(reset: reset)
        host.connectionEnded()
    }
}
