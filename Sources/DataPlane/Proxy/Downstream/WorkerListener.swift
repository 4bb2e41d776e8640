import Base
import HTTP
import ProxyConfig
import Reactor
import Routing
import Telemetry
import Transport

/// What a worker does with a connection.
enum WorkerFilter {
    case http(WorkerHTTPFilter)
    case tcp(WorkerTCPFilter)
}

/// A filter chain as one worker uses it. Connections keep theirs; a new snapshot changes what is in it.
final class WorkerFilterChain {
    private(set) var shared: RuntimeFilterChain
    private(set) var filter: WorkerFilter
    /// What new requests get: the current filter, or, on a chain that has become a TCP one or is gone, the last.
    private(set) var httpFilter: WorkerHTTPFilter?

    init(_ shared: RuntimeFilterChain, _ filter: WorkerFilter) {
        self.shared = shared
        self.filter = filter
        if case .http(let http) = filter { httpFilter = http }
    }

    /// - Returns: whether it speaks what it spoke.
    func adopt(_ shared: RuntimeFilterChain, _ filter: WorkerFilter) -> Bool {
        let isSameKind: Bool
        switch (self.filter, filter) {
        case (.http, .http), (.tcp, .tcp): isSameKind = true
        case (.http, .tcp), (.tcp, .http): isSameKind = false
        }
        self.shared = shared
        self.filter = filter
        if case .http(let http) = filter { httpFilter = http }
        return isSameKind
    }
}

/// A listening socket of one worker, and the connections that came through it.
final class WorkerListener: EventSource {
    @safe unowned(unsafe) let worker: Worker
    private(set) var shared: RuntimeListener
    private var chains: [WorkerFilterChain]
    /// What every connection gets, where no byte of it is needed to choose.
    private var onlyChain: WorkerFilterChain?
    private let stats: ListenerStats
    /// The listener is not in the configuration any more, or the proxy drains.
    private(set) var isClosing = false
    private var connections: [DownstreamConnection] = []
    private var isPaused = false

    /// Accepted in one turn before others get theirs.
    private static let acceptsPerTurn = 64
    /// A quarter of it is what the idle connections of a removed listener have left: a request that is on its way is still answered.
    private static let removalTime = Nanoseconds.seconds(4)
    /// After running out of descriptors: how long before the next try.
    private static let acceptPause = Nanoseconds.milliseconds(100)

    init(adopting socket: CInt, shared: RuntimeListener, filters: [WorkerFilter], worker: Worker) {
        self.worker = worker
        self.shared = shared
        chains = zip(shared.chains, filters).map { WorkerFilterChain($0, $1) }
        stats = worker.registry.listener(shared.configuration.address, worker: worker.index)
        super.init(adopting: socket)
        findOnlyChain()
    }

    var address: SocketAddress { shared.configuration.address }
    var name: String { shared.configuration.name }

    /// New connections and new requests get the new filters; a request that is under way keeps the one it began with.
    func adopt(_ shared: RuntimeListener, _ filters: [WorkerFilter]) {
        self.shared = shared
        let before = chains
        var isSameKind = true
        chains = zip(shared.chains, filters).map { shared, filter in
            guard let chain = before.first(where: { $0.shared.configuration.name == shared.configuration.name }) else {
                return WorkerFilterChain(shared, filter)
            }
            if !chain.adopt(shared, filter) { isSameKind = false }
            return chain
        }
        findOnlyChain()
        // Connections of another kind, or of a chain that is gone, go on as they are, without new requests.
        let areAllThere = before.allSatisfy { old in chains.contains { $0 === old } }
        if !isSameKind || !areAllThere { drainConnections(within: .zero) }
    }

    private func findOnlyChain() {
        onlyChain = chains.count == 1 && chains[0].shared.needsNoBytes ? chains[0] : nil
    }

    /// The most specific chain that fits; nil: none does. `hello` is nil for plaintext.
    func chain(for hello: ClientHello?) -> WorkerFilterChain? {
        var best: (chain: WorkerFilterChain, rank: Int)?
        for chain in chains {
            guard let rank = chain.shared.rank(hello), rank > best?.rank ?? -1 else { continue }
            best = (chain, rank)
        }
        return best?.chain
    }

    override func ready(_ readiness: Readiness) {
        for _ in 0..<Self.acceptsPerTurn {
            if worker.overload.isFull, !isClosing { return pause(nil) }
            do {
                let (descriptor, peer) = try Socket.accept(self.descriptor)
                worker.stats.acceptedTotal.increment()
                stats.downstreamCxTotal.increment()
                serve(descriptor, peer)
                if descriptor >= worker.overload.order.descriptorLine { _ = worker.makeRoom() }
            } catch {
                if error.isExhaustion { pause(error) }
                return
            }
        }
    }

    override func deadlineReached(now: Instant) {
        guard !worker.overload.isFull || worker.hasRoomAgain() else {
            return worker.loop.setDeadline(self, now + Self.acceptPause)
        }
        resume()
    }

    /// What is open is served; new connections stay in the kernel's queue meanwhile.
    private func pause(_ error: SystemError?) {
        worker.loop.pauseListener(self)
        worker.loop.setDeadline(self, worker.loop.now + Self.acceptPause)
        worker.stats.acceptPauses.increment()
        if !isPaused { worker.stats.acceptPaused.increment() }
        isPaused = true
        if let error { worker.acceptFailed(self, error) }
    }

    private func resume() {
        guard isPaused else { return }
        isPaused = false
        worker.stats.acceptPaused.decrement()
        worker.loop.resumeListener(self)
    }

    func forEachConnection(_ body: (DownstreamConnection) -> Void) {
        connections.forEach(body)
    }

    private func serve(_ descriptor: CInt, _ peer: SocketAddress) {
        let socket = AcceptedSocket(descriptor: descriptor, peer: peer, listener: self, opened: worker.loop.now)
        let connection: DownstreamConnection
        switch onlyChain?.filter {
        case .http(let filter) where filter.shared.configuration.codec == .http1:
            connection = HTTP1Downstream(socket, chain: onlyChain!, filter: filter)
        case .http(let filter) where filter.shared.configuration.codec == .http2:
            connection = HTTP2Downstream(socket, chain: onlyChain!, filter: filter)
        case .tcp(let filter): connection = TCPDownstream(socket, filter: filter)
        default: connection = AcceptedConnection(socket, chain: onlyChain)
        }
        opened(connection)
        do {
            try worker.loop.add(connection)
        } catch {
            return connection.close(reset: true)
        }
        if let downstream = connection as? TCPDownstream { downstream.begin() }
    }

    // MARK: Before a connection serves

    func handshakeDone(_ session: TLSSession) {
        stats.ssl.handshake.increment()
        if session.wasResumed { stats.ssl.sessionReused.increment() }
    }

    func handshakeFailed(_ failure: OpenFailure, peer: SocketAddress) {
        stats.ssl.connectionError.increment()
        guard case .tls(let error) = failure else { return }
        if error.isVerification { stats.ssl.failVerifyError.increment() }
        worker.report(name, peer, "TLS handshake failed: \(error)")
    }

    func refused(peer: SocketAddress, _ reason: StaticString) {
        stats.noFilterChainMatch.increment()
        worker.report(name, peer, "\(reason)")
    }

    func openingTimedOut(peer: SocketAddress, inHandshake: Bool) {
        stats.downstreamPreCxTimeout.increment()
        worker.report(name, peer, inHandshake ? "TLS handshake not done in time" : "sent nothing to tell its protocol by in time")
    }

    // MARK: The connections that came through it

    private func opened(_ connection: DownstreamConnection) {
        connection.listIndex = connections.count
        connections.append(connection)
        stats.downstreamCxActive.increment()
        worker.connectionOpened()
    }

    /// The same connection, served by another object from now on.
    func replace(_ connection: DownstreamConnection, with successor: DownstreamConnection) {
        successor.listIndex = connection.listIndex
        connections[connection.listIndex] = successor
        if isClosing { successor.drain(after: .zero) }
    }

    func closed(_ connection: DownstreamConnection) {
        let index = connection.listIndex
        let last = connections.removeLast()
        if index < connections.count {
            connections[index] = last
            last.listIndex = index
        }
        stats.downstreamCxActive.decrement()
        stats.downstreamCxDestroy.increment()
        stats.downstreamCxRxBytesTotal.add(connection.bytesRead)
        stats.downstreamCxTxBytesTotal.add(connection.bytesWritten)
        worker.connectionClosed()
    }

    /// Takes no new connection; open ones end with their request, idle ones spread over a part of the time that is left.
    func drain(within time: Nanoseconds) {
        isClosing = true
        // The kernel has connected them already, and would reset them with the socket.
        ready(.readable)
        resume()
        worker.loop.close(self)
        drainConnections(within: Nanoseconds(count: max(0, time.count) / 4))
    }

    private func drainConnections(within time: Nanoseconds) {
        for connection in connections {
            let spread = time.count > 0 ? Int64(worker.random.below(Int(time.count))) : 0
            connection.drain(after: Nanoseconds(count: spread))
        }
    }

    /// The configuration has no such listener any more.
    func remove() {
        drain(within: Self.removalTime)
    }
}
