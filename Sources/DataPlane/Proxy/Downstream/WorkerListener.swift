import Base
import HTTP
import ProxyConfig
import Reactor
import Routing
import Telemetry

/// What a worker does with a listener's connections.
enum WorkerFilter {
    case http(WorkerHTTPFilter)
    case tcp(WorkerTCPFilter)
}

/// A listening socket of one worker, and the connections that came through it.
final class WorkerListener: EventSource {
    @safe unowned(unsafe) let worker: Worker
    private(set) var shared: RuntimeListener
    private(set) var filter: WorkerFilter
    private let stats: ListenerStats
    /// The listener is not in the configuration any more, or the proxy drains.
    private(set) var isClosing = false
    private var connections: [Connection] = []

    /// Accepted in one turn before others get theirs.
    private static let acceptsPerTurn = 64
    /// A quarter of it is what the idle connections of a removed listener have left: a request that is on its way is still answered.
    private static let removalTime = Nanoseconds.seconds(4)
    /// After running out of descriptors: how long before the next try.
    private static let acceptPause = Nanoseconds.milliseconds(100)

    init(adopting socket: CInt, shared: RuntimeListener, filter: WorkerFilter, worker: Worker) {
        self.worker = worker
        self.shared = shared
        self.filter = filter
        if case .http(let http) = filter { httpFilter = http }
        stats = worker.registry.listener(shared.configuration.address, worker: worker.index)
        super.init(adopting: socket)
    }

    var address: SocketAddress { shared.configuration.address }
    var name: String { shared.configuration.name }

    /// The HTTP filter that new requests get: the current one, or, on a listener that has become a TCP one, the last.
    private(set) var httpFilter: WorkerHTTPFilter?

    /// New connections and new requests get the new filter; a request that is under way keeps the one it began with.
    func adopt(_ shared: RuntimeListener, _ filter: WorkerFilter) {
        self.shared = shared
        // Connections of the other kind go on as they are, without new requests.
        switch (self.filter, filter) {
        case (.http, .tcp), (.tcp, .http): drainConnections(within: .zero)
        default: break
        }
        self.filter = filter
        if case .http(let http) = filter { httpFilter = http }
    }

    override func ready(_ readiness: Readiness) {
        for _ in 0..<Self.acceptsPerTurn {
            do {
                let (descriptor, peer) = try Socket.accept(self.descriptor)
                worker.stats.acceptedTotal.increment()
                stats.downstreamCxTotal.increment()
                serve(descriptor, peer)
            } catch {
                if error.isExhaustion {
                    // Keep serving what is open; waiting connections stay in the kernel's queue meanwhile.
                    worker.loop.pauseListener(self)
                    worker.loop.setDeadline(self, worker.loop.now + Self.acceptPause)
                    worker.acceptPaused(self, error)
                }
                return
            }
        }
    }

    override func deadlineReached(now: Instant) {
        worker.loop.resumeListener(self)
    }

    private func serve(_ descriptor: CInt, _ peer: SocketAddress) {
        let connection: Connection
        switch filter {
        case .http(let filter):
            connection = HTTP1Downstream(adopting: descriptor, peer: peer, listener: self, filter: filter)
        case .tcp(let filter):
            connection = TCPDownstream(adopting: descriptor, peer: peer, listener: self, filter: filter)
        }
        do {
            try worker.loop.add(connection)
        } catch {
            return connection.close(reset: true)
        }
        if let downstream = connection as? TCPDownstream { downstream.begin() }
    }

    // MARK: The connections that came through it

    func opened(_ connection: Connection) {
        connection.listIndex = connections.count
        connections.append(connection)
        stats.downstreamCxActive.increment()
        worker.connectionOpened()
    }

    func closed(_ connection: Connection) {
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
        worker.loop.close(self)
        drainConnections(within: Nanoseconds(count: max(0, time.count) / 4))
    }

    private func drainConnections(within time: Nanoseconds) {
        for connection in connections {
            guard let connection = connection as? HTTP1Downstream else { continue }
            let spread = time.count > 0 ? Int64(worker.random.below(Int(time.count))) : 0
            connection.drain(after: Nanoseconds(count: spread))
        }
    }

    /// The configuration has no such listener any more.
    func remove() {
        drain(within: Self.removalTime)
    }
}
