import Balancing
import Base
import ProxyConfig
import Reactor
import Resilience
import Telemetry
import Transport

/// What a stream gets that asks an endpoint for a connection.
enum Lease {
    case ready(any UpstreamSide)
    /// The protocol is being negotiated; the stream hears of it by `connectionIsReady` or `connectionFailed`.
    case wait(StreamWaiter)
    /// The cluster has as many connections as it may, and as many wait for one.
    case full
}

/// An endpoint as one worker sees it: its connections and counters.
final class WorkerHost {
    private(set) var shared: Host
    /// In the cluster's table.
    private(set) var index: Int
    /// Keeps the cluster for as long as a connection needs it; `WorkerCluster.leave` ends the cycle.
    let cluster: WorkerCluster
    let stats: HostStats
    private(set) var isGone = false
    /// Counts the times that connections of before were retired: those in use then take no request after the one they carry.
    private(set) var generation = 0
    /// HTTP/1: most recently used last, and used first: the others grow old and are closed.
    private var idle: [HTTP1Upstream] = []
    /// HTTP/2: those that take new streams, the oldest first: it fills up before the next one is used.
    private var multiplexed: [HTTP2Upstream] = []
    /// What the endpoint's last SETTINGS allowed: a new connection keeps to it before its own come, or a burst would be refused again.
    var lastStreamLimit = Int.max
    /// Whose protocol is not known yet (ALPN, or TLS that is not enforced).
    private var negotiating: NegotiatingUpstream?
    /// What the last negotiation came to.
    private var lastNegotiated: UpstreamProtocol?
    /// An endpoint that speaks no TLS, and need not, is asked again after a while.
    private var plaintextUntil = Instant(nanoseconds: 0)
    private static let plaintextTime = Nanoseconds.seconds(60)
    /// The newest session ticket, with the context that it belongs to: another context would check another trust.
    private var connectionCount = 0
    /// Streams that wait for a connection to be free, for no other may be opened; the first one first.
    private var pending: [StreamWaiter] = []
    private var resumption: (context: TLSContext, ticket: TLSResumption)?

    /// When it came to a cluster that had others; `.never` for the first ones.
    private let joined: Instant

    init(_ shared: Host, index: Int, cluster: WorkerCluster, joined: Instant) {
        self.shared = shared
        self.index = index
        self.cluster = cluster
        self.joined = joined
        stats = cluster.worker.registry.host(cluster: cluster.shared.name, address: shared.address, worker: cluster.worker.index)
    }

    /// Of a new endpoint.
    var rampEnd: Instant {
        joined == .never ? Instant(nanoseconds: 0) : joined + Nanoseconds(cluster.shared.balancing.ramp.duration)
    }

    /// What the balancer may give it.
    func standing(now: Instant) -> EndpointTable.Standing {
        if shared.health.isFailingChecks { return .unavailable }
        let state = shared.health.state
        switch state.phase {
        case .closed, .disabled, .observing: return now < rampEnd ? .ramping(since: joined) : .available
        case .ramping: return .ramping(since: state.instant)
        case .halfOpen: return .probing
        case .open, .forcedOpen, .departed: return .unavailable
        }
    }

    func adopt(_ shared: Host, index: Int) {
        let wasPlaintext = self.shared.isPlaintext
        self.shared = shared
        self.index = index
        if shared.isPlaintext != wasPlaintext { retireConnections() }
    }

    /// Known not to speak TLS, and allowed not to.
    private var isSpared: Bool { shared.isPlaintext && cluster.shared.configuration.tls?.sparesPlaintextEndpoints == true }

    /// The endpoint is no longer a member: no new request gets here, what is under way ends in peace.
    func leave() {
        isGone = true
        let closing = idle
        idle = []
        for connection in closing { connection.close() }
        let draining = multiplexed
        multiplexed = []
        for connection in draining { connection.drain() }
        resumption = nil
        while let waiter = pending.first {
            dropPending(waiter)
            waiter.stream?.hostLeft()
        }
    }

    /// The cluster's protocol or TLS is another: what is open goes on with what it has, and no new request gets there.
    func retireConnections() {
        generation += 1
        let closing = idle
        idle = []
        for connection in closing { connection.close() }
        let draining = multiplexed
        multiplexed = []
        for connection in draining { connection.drain() }
        resumption = nil
        lastNegotiated = nil
    }

    /// A connection for one attempt: one that is open, or a new one on its way.
    ///
    /// - Parameters:
    ///   - mustBeNew: do not use an idle connection at all.
    ///   - mustBeAlive: look at an idle HTTP/1 connection before it is used; costs a system call.
    func lease(for stream: Stream, mustBeNew: Bool, mustBeAlive: Bool) throws(SystemError) -> Lease {
        if !mustBeNew {
            for connection in multiplexed where connection.takesStreams { return .ready(connection.makeSide()) }
            while let connection = idle.popLast() {
                connection.isIdle = false
                if mustBeAlive, !Socket.isAliveAndSilent(connection.descriptor) {
                    connection.close()
                    continue
                }
                return .ready(connection)
            }
        }
        guard mayOpen else { return awaitConnection(stream) }
        if cluster.negotiates, !isSpared { return .wait(try negotiate(for: stream)) }
        switch cluster.shared.configuration.upstreamProtocol {
        case .http2: return .ready(try openMultiplexed().makeSide())
        case .http1, .tcp, .auto:
            return .ready(try open { HTTP1Upstream(adopting: $0, host: self, isConnected: $1, worker: cluster.worker) })
        }
    }

    // MARK: Where connections are limited (max_connections)

    /// A worker that has no connection may always open one: the others' would never serve its requests.
    private var mayOpen: Bool {
        guard let most = cluster.shared.configuration.circuitBreakers.maxConnections else { return true }
        return connectionCount == 0 || cluster.shared.usage.connections.value < Int(most)
    }

    private func awaitConnection(_ stream: Stream) -> Lease {
        cluster.stats.upstreamCxOverflow.increment()
        // Those whose caller went away need no connection.
        while let first = pending.first, first.stream == nil { dropPending(first) }
        guard cluster.shared.usage.pending.take(limit: cluster.shared.configuration.circuitBreakers.maxPendingRequests) else {
            return .full
        }
        let waiter = StreamWaiter(stream)
        pending.append(waiter)
        cluster.stats.upstreamRqPendingTotal.increment()
        cluster.stats.upstreamRqPendingActive.increment()
        return .wait(waiter)
    }

    private func dropPending(_ waiter: StreamWaiter) {
        pending.removeFirst()
        cluster.shared.usage.pending.give()
        cluster.stats.upstreamRqPendingActive.decrement()
    }

    /// A connection is free, or there is room for another one: whoever waited longest gets it.
    func servePending() {
        while !isGone, let waiter = pending.first {
            guard let stream = waiter.stream else {
                dropPending(waiter)
                continue
            }
            guard mayOpen || !idle.isEmpty || multiplexed.contains(where: \.takesStreams) else { return }
            dropPending(waiter)
            do {
                switch try lease(for: stream, mustBeNew: false, mustBeAlive: true) {
                case .ready(let side): stream.connectionIsReady(side)
                case .wait(let other): stream.waitsAgain(other)
                case .full: stream.connectionIsFull()
                }
            } catch {
                openFailed(.system(error))
                stream.connectionFailed(.connect(error))
            }
        }
    }

    func connectionBegan() {
        connectionCount += 1
        cluster.shared.usage.connections.add()
        cluster.stats.upstreamCxTotal.increment()
        cluster.stats.upstreamCxActive.increment()
        stats.cxTotal.increment()
        stats.cxActive.increment()
    }

    func connectionEnded() {
        connectionCount -= 1
        cluster.shared.usage.connections.give()
        cluster.stats.upstreamCxActive.decrement()
        stats.cxActive.decrement()
        servePending()
    }

    private func openMultiplexed() throws(SystemError) -> HTTP2Upstream {
        let connection = try open { HTTP2Upstream(adopting: $0, host: self, isConnected: $1, worker: cluster.worker) }
        multiplexed.append(connection)
        return connection
    }

    /// Streams share the connection that is on its way only where it will most likely carry them all.
    private func negotiate(for stream: Stream) throws(SystemError) -> StreamWaiter {
        if let negotiating, lastNegotiated != .http1 { return negotiating.wait(stream) }
        let connection = try open { NegotiatingUpstream(adopting: $0, host: self, isConnected: $1, worker: cluster.worker) }
        negotiating = connection
        return connection.wait(stream)
    }

    private func open<Upstream: Connection>(_ make: (CInt, Bool) -> Upstream) throws(SystemError) -> Upstream {
        let (descriptor, isConnected) = try Self.connect(to: shared.address, cluster.worker)
        let connection = make(descriptor, isConnected)
        do {
            try cluster.worker.loop.add(connection)
        } catch {
            connection.close()
            throw error
        }
        if isConnected { connection.connected() }
        return connection
    }

    /// The last descriptors are not for traffic.
    static func connect(to address: SocketAddress, _ worker: Worker) throws(SystemError) -> (descriptor: CInt, isConnected: Bool) {
        let opened = try Socket.connect(to: address)
        guard opened.descriptor < worker.overload.order.descriptorEnd else {
            Socket.close(opened.descriptor)
            throw .tooManyDescriptors
        }
        return opened
    }

    // MARK: What becomes of connections

    /// The negotiation is over: streams that join later need another.
    func negotiated(_ connection: NegotiatingUpstream, _ result: UpstreamProtocol?) {
        if negotiating === connection { negotiating = nil }
        if let result { lastNegotiated = result }
    }

    /// - Parameter generation: of the host when the connection began to open.
    func adopt(_ connection: HTTP2Upstream, _ generation: Int) {
        if isGone || generation != self.generation { connection.drain() } else { multiplexed.append(connection) }
    }

    /// It takes no new streams: GOAWAY, too old, or its stream numbers are used up.
    func retire(_ connection: HTTP2Upstream) {
        multiplexed.removeAll { $0 === connection }
    }

    func closeOldestIdle() {
        for connection in idle.prefix((idle.count + 1) / 2) { connection.close() }
    }

    func putIdle(_ connection: HTTP1Upstream) {
        connection.isIdle = true
        idle.append(connection)
        servePending()
    }

    /// A connection is closed; if it was idle, nobody may lease it any more.
    func closed(_ connection: HTTP1Upstream) {
        guard connection.isIdle, let position = idle.lastIndex(where: { $0 === connection }) else { return }
        idle.remove(at: position)
    }

    // MARK: TLS

    /// A session for a new connection; nil = plaintext.
    func makeTLS() -> TLSSession? {
        guard let context = cluster.shared.tls?.context, !isSpared else { return nil }
        // Not where the configuration has meanwhile begun to enforce TLS.
        if cluster.shared.configuration.tls?.isEnforced == false, plaintextUntil > cluster.worker.loop.now { return nil }
        var ticket: TLSResumption?
        if let resumption, resumption.context === context, resumption.ticket.isUsable { ticket = resumption.ticket }
        let name = cluster.shared.configuration.tls?.sni ?? (shared.hostname.isEmpty ? nil : shared.hostname)
        return TLSSession(client: context, serverName: name, resume: ticket)
    }

    /// The endpoint answered a ClientHello with something else. Whether that is to be lived with (clientPolicy.tls.enforce: false).
    func fallsBackToPlaintext() -> Bool {
        guard cluster.shared.configuration.tls?.isEnforced == false else { return false }
        plaintextUntil = cluster.worker.loop.now + Self.plaintextTime
        return true
    }

    func handshakeDone(_ session: TLSSession) {
        cluster.stats.ssl.handshake.increment()
        if session.wasResumed { cluster.stats.ssl.sessionReused.increment() }
    }

    /// Tickets come after the handshake; the connection asks when it has read something, and when it closes.
    func keepTicket(of session: TLSSession) {
        guard let context = cluster.shared.tls?.context, session.context === context, let ticket = session.resumption else { return }
        resumption = (context, ticket)
    }

    func openFailed(_ failure: OpenFailure) {
        cluster.stats.upstreamCxConnectFail.increment()
        stats.cxConnectFail.increment()
        guard case .tls(let error) = failure else { return }
        cluster.stats.ssl.connectionError.increment()
        if error.isVerification { cluster.stats.ssl.failVerifyError.increment() }
    }
}
