import Base
import HTTP
import HTTP2
import HTTPTransport
import Reactor

/// What a connection speaks: carries exchanges, and makes bytes of what they say. Its subclasses are the two versions of HTTP.
class Service {
    /// It owns this object.
    unowned final let connection: ServerConnection
    private final var deliveries: [HTTPExchange] = []

    init(_ connection: ServerConnection) {
        self.connection = connection
    }

    final var server: HTTPServer { connection.server }
    final var limits: HTTPServerLimits { connection.server.limits }
    final var now: Instant { connection.loop.now }

    /// No exchange is open and nothing of a request has come.
    var isIdle: Bool { true }

    // MARK: The connection tells

    func received(_ bytes: UnsafeRawBufferPointer) {}
    func receivedEnd() {}
    /// Writes what is to be written; once in a turn.
    func flushDue() {}
    /// The kernel has taken what was waiting.
    func drained() {}
    func deadlineReached(now: Instant) {}
    /// The earliest time at which `deadlineReached` should be called.
    var deadline: Instant { .never }
    func drain() {}
    /// The connection is over: every exchange is.
    func abandon(_ closure: HTTPClosure) {}

    // MARK: Exchanges ask

    func respond(_ exchange: HTTPExchange, _ head: Head, body: [UInt8]) {}
    func begin(_ exchange: HTTPExchange, _ head: Head) {}
    func send(_ exchange: HTTPExchange, _ bytes: [UInt8]) {}
    func end(_ exchange: HTTPExchange, trailers: Head?) {}
    func reset(_ exchange: HTTPExchange, _ code: HTTP2ErrorCode) {}
    func queuedBytes(_ exchange: HTTPExchange) -> Int { 0 }
    /// Bytes of the request that were held back are taken now.
    func consumed(_ exchange: HTTPExchange, _ count: Int) {}
    /// Its `bodyDeadline` is set.
    func bodyIsAwaited(until deadline: Instant) { connection.arm() }

    /// Calls `deliver` once everything else of this turn is done.
    final func deliverLater(_ exchange: HTTPExchange) {
        deliveries.append(exchange)
        connection.flushLater()
    }

    final func runDeliveries() {
        guard !deliveries.isEmpty else { return }
        let waiting = deliveries
        deliveries.removeAll()
        for exchange in waiting { exchange.deliver() }
    }
}
