/// An HTTP server on one event loop: HTTP/1.1 and HTTP/2 on one port, plaintext and TLS; handlers answer, streaming both ways.
public import Base
internal import HTTPTransport
public import Reactor
public import Transport

/// Listens, and gives each request to its handler as an `HTTPExchange`. Confined to its loop's thread. From `listen` on its loop
/// keeps it, until `close` or the end of `drain`.
public final class HTTPServer {
    public let loop: EventLoop
    public let limits: HTTPServerLimits
    public private(set) var counters = HTTPServerCounters()
    /// Told of what goes wrong beyond a single exchange, for logs. Callers decide how often: log with a bound.
    public var onIncident: ((HTTPServerIncident) -> Void)?

    /// Response bytes that wait for callers to read, of all connections.
    public internal(set) var queuedBytes = 0

    let handler: (HTTPExchange) -> Void
    let buffers = LinkBuffers()
    private var listeners: [Listener] = []
    private var connections: [ServerConnection] = []
    private(set) var isDraining = false
    private var onEmpty: (() -> Void)?
    private var dateSecond: Int64 = -1
    private var dateText = ""

    /// - Parameter handler: called once a request, when its head is complete. It answers then or later.
    public init(loop: EventLoop, limits: HTTPServerLimits = HTTPServerLimits(), handler: @escaping (HTTPExchange) -> Void) {
        self.loop = loop
        self.limits = limits
        self.handler = handler
    }

    /// Opens a port; may be called several times.
    ///
    /// Plaintext callers speak HTTP/2 by prior knowledge or HTTP/1.1; their first bytes tell. TLS callers choose by ALPN, and whether
    /// they must show a certificate the context says.
    ///
    /// - Parameter address: port 0 lets the kernel choose.
    /// - Returns: the address that is listened on.
    @discardableResult
    public func listen(on address: SocketAddress, tls: TLSContext? = nil) throws(SystemError) -> SocketAddress {
        let descriptor = try Socket.listen(on: address, backlog: 4096, reusePort: false)
        let listener = Listener(adopting: descriptor, server: self, tls: tls)
        do {
            try loop.add(listener, isListener: true)
        } catch {
            Socket.close(descriptor)
            throw error
        }
        listeners.append(listener)
        return Socket.localAddress(descriptor) ?? address
    }

    /// What new connections of every TLS port get; open ones keep theirs.
    public func replaceTLS(_ context: TLSContext) {
        for listener in listeners where listener.tls != nil { listener.tls = context }
    }

    public var openConnections: Int { connections.count }

    /// Takes no new connection; open ones end with what they are doing. HTTP/2 callers are told by GOAWAY and open no more streams;
    /// streams that do not end by themselves are the handler's to end, or `close` ends them.
    ///
    /// - Parameter onEmpty: called once, later, when the last connection is gone.
    public func drain(onEmpty: (() -> Void)? = nil) {
        self.onEmpty = onEmpty ?? self.onEmpty
        guard !isDraining else { return }
        isDraining = true
        closeListeners()
        for connection in connections { connection.drain() }
        if connections.isEmpty { tellEmpty() }
    }

    /// Ends everything now. Open exchanges hear `.serverClosed`.
    public func close() {
        isDraining = true
        closeListeners()
        for connection in connections { connection.end(.serverClosed, reset: true) }
    }

    private func closeListeners() {
        for listener in listeners { loop.close(listener) }
        listeners.removeAll()
    }

    // MARK: Connections

    fileprivate func accepted(_ descriptor: CInt, _ peer: SocketAddress, _ tls: TLSContext?) {
        if connections.count >= limits.maxConnections {
            guard let oldest = connections.filter(\.isIdle).min(by: { $0.idleSince < $1.idleSince }) else {
                counters.refusedConnections += 1
                Socket.close(descriptor)
                return report(.tooManyConnections, peer, "refused: \(limits.maxConnections) connections are open and none is idle")
            }
            oldest.close()
        }
        let connection = ServerConnection(adopting: descriptor, peer: peer, tls: tls, server: self)
        do {
            try loop.add(connection)
        } catch {
            return Socket.close(descriptor)
        }
        counters.connections += 1
        connection.listIndex = connections.count
        connections.append(connection)
        connection.start()
    }

    func closed(_ connection: ServerConnection) {
        guard connection.listIndex >= 0 else { return }
        connection.countQueued(0)
        let last = connections.removeLast()
        if connection.listIndex < connections.count {
            connections[connection.listIndex] = last
            last.listIndex = connection.listIndex
        }
        connection.listIndex = -1
        if isDraining, connections.isEmpty { tellEmpty() }
    }

    private func tellEmpty() {
        let onEmpty = self.onEmpty
        self.onEmpty = nil
        onEmpty?()
    }

    // MARK: What is counted and told

    func count(_ counter: WritableKeyPath<HTTPServerCounters, Int>) {
        counters[keyPath: counter] += 1
    }

    func report(_ kind: HTTPServerIncident.Kind, _ peer: SocketAddress?, _ text: @autoclosure () -> String) {
        switch kind {
        case .handshakeFailed: counters.handshakeFailures += 1
        case .protocolError: counters.protocolErrors += 1
        case .cutOff: counters.cutOff += 1
        case .timedOut, .acceptPaused, .tooManyConnections: break
        }
        onIncident?(HTTPServerIncident(kind: kind, peer: peer, text: text()))
    }

    /// For the Date field, written once a second.
    var date: String {
        let second = Clock.realtime() / 1_000_000_000
        if second != dateSecond {
            dateSecond = second
            dateText = HTTPDate.text(second)
        }
        return dateText
    }
}

private final class Listener: EventSource {
    private let server: HTTPServer
    var tls: TLSContext?

    /// After running out of descriptors: how long before the next try.
    private static let acceptPause = Nanoseconds.milliseconds(200)
    /// Then the connections that are open have their turn; the listener is level-triggered, so the rest is told again.
    private static let acceptsPerTurn = 64

    init(adopting descriptor: CInt, server: HTTPServer, tls: TLSContext?) {
        self.server = server
        self.tls = tls
        super.init(adopting: descriptor)
    }

    override func ready(_ readiness: Readiness) {
        for _ in 0..<Self.acceptsPerTurn {
            do {
                let (accepted, peer) = try Socket.accept(descriptor)
                server.accepted(accepted, peer, tls)
                guard !isClosed else { return }
            } catch {
                if error.isWouldBlock { return }
                guard error.isExhaustion else { continue }  // The caller has gone already: the next one.
                server.loop.pauseListener(self)
                server.report(.acceptPaused, nil, "no connection is accepted for a while: \(error)")
                return server.loop.setDeadline(self, server.loop.now + Self.acceptPause)
            }
        }
    }

    override func deadlineReached(now: Instant) {
        server.loop.resumeListener(self)
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7).
enum HTTPDate {
    private static let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    /// - Parameter seconds: since 1970, not negative.
    static func text(_ seconds: Int64) -> String {
        let day = Int(seconds / 86_400)
        let time = Int(seconds % 86_400)
        // Years that begin with March, in eras of 400 years from 0000-03-01: then leap days stand at the ends.
        let shifted = day + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let march = (5 * dayOfYear + 2) / 153
        let month = march < 10 ? march + 2 : march - 10
        let year = yearOfEra + era * 400 + (month < 2 ? 1 : 0)
        func two(_ number: Int) -> String { (number < 10 ? "0" : "") + "\(number)" }
        let clock = "\(two(time / 3600)):\(two(time / 60 % 60)):\(two(time % 60))"
        return "\(days[day % 7]), \(two(dayOfYear - (153 * march + 2) / 5 + 1)) \(months[month]) \(year) \(clock) GMT"
    }
}
