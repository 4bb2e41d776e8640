import Base
import Reactor
import Telemetry

/// The admin interface: HTTP/1.1 on the supervisor's loop, so that no scrape costs a request its time (docs/admin.md).
final class AdminServer {
    let loop: EventLoop
    private let view: () -> AdminView
    private let perform: (AdminAction) -> Void
    private var listener: AdminListener!
    private var connections: [AdminConnection] = []
    private let pause: LoopTimer

    /// A few people, a Prometheus or two, and the probes of an orchestrator keep ten. At the limit the one that has been idle longest
    /// makes room; if none is idle, the new one is closed.
    static let maxConnections = 64
    /// After running out of descriptors: how long before the next try.
    private static let acceptPause = Nanoseconds.milliseconds(200)

    /// - Parameters:
    ///   - view: what the pages show, asked for once a request.
    ///   - perform: does what a request ordered, after its answer was written.
    /// - Throws: the address cannot be listened on.
    init(
        loop: EventLoop, address: SocketAddress, view: @escaping () -> AdminView, perform: @escaping (AdminAction) -> Void
    ) throws(SystemError) {
        self.loop = loop
        self.view = view
        self.perform = perform
        let socket = try Socket.listen(on: address, backlog: 128, reusePort: false)
        var resume: () -> Void = {}
        pause = LoopTimer { _ in resume() }
        listener = AdminListener(adopting: socket, server: self)
        do {
            try loop.add(listener, isListener: true)
        } catch {
            Socket.close(socket)
            throw error
        }
        resume = { [unowned self] in loop.resumeListener(listener) }
    }

    convenience init(supervisor: Supervisor, address: SocketAddress) throws(SystemError) {
        try self.init(
            loop: supervisor.loop, address: address, view: { [unowned supervisor] in supervisor.adminView },
            perform: { [unowned supervisor] action in supervisor.perform(action) })
    }

    /// Where it listens: the port that the kernel chose, if it was left to it.
    var address: SocketAddress? { Socket.localAddress(listener.descriptor) }

    /// Takes no more callers; those that are there get their answers, at the latest with the process.
    func close() {
        loop.close(listener)
        loop.cancelDeadline(pause)
        for connection in connections where connection.isIdle { connection.close() }
    }

    fileprivate func acceptAll() {
        while true {
            do {
                let (descriptor, _) = try Socket.accept(listener.descriptor)
                open(descriptor)
            } catch {
                if error.isWouldBlock { return }
                guard error.isExhaustion else { continue }  // The caller has gone already: the next one.
                loop.pauseListener(listener)
                return loop.setDeadline(pause, loop.now + Self.acceptPause)
            }
        }
    }

    private func open(_ descriptor: CInt) {
        if connections.count >= Self.maxConnections {
            guard let oldest = connections.filter(\.isIdle).min(by: { $0.idleSince < $1.idleSince }) else {
                return Socket.close(descriptor)
            }
            oldest.close()
        }
        let connection = AdminConnection(adopting: descriptor, server: self)
        do {
            try loop.add(connection)
        } catch {
            return Socket.close(descriptor)
        }
        connections.append(connection)
        connection.start()
    }

    func closed(_ connection: AdminConnection) {
        connections.removeAll { $0 === connection }
    }

    func respond(to request: AdminRequest) -> AdminResponse {
        AdminPage.respond(to: request, view: view)
    }

    func carryOut(_ action: AdminAction) {
        perform(action)
    }
}

private final class AdminListener: EventSource {
    private unowned let server: AdminServer

    init(adopting descriptor: CInt, server: AdminServer) {
        self.server = server
        super.init(adopting: descriptor)
    }

    override func ready(_ readiness: Readiness) {
        server.acceptAll()
    }
}
