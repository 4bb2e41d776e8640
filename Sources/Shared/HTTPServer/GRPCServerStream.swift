public import HTTP

/// A gRPC call on the server's side: messages in and out, and one status at the end. Any of the four kinds of calls.
///
/// It ends exactly once: by `finish`, or by `onClosed`. After that every call does nothing, and nothing is called any more.
public final class GRPCServerStream {
    public let exchange: HTTPExchange
    /// The caller's messages, in order.
    public var onMessage: (([UInt8]) -> Void)?
    /// The caller sends no more messages.
    public var onEnd: (() -> Void)?
    /// The call is over before `finish`: the caller is gone, has cancelled, was cut off, or sent what cannot be read (it was told then).
    public var onClosed: ((HTTPClosure) -> Void)?
    /// What was sent has left, or less than 16 KiB of it waits.
    public var onDrained: (() -> Void)?

    private var reader: GRPC.MessageReader
    private var isOver = false

    /// Takes the exchange over; nil if it is no gRPC call, and the caller is answered then: 415 for another content type, 405 for another
    /// method than POST, as gRPC has it. Set the callbacks at once.
    ///
    /// - Parameter maxMessageBytes: of a message of the caller; a larger one ends the call with RESOURCE_EXHAUSTED.
    public init?(_ exchange: HTTPExchange, maxMessageBytes: Int = 4 << 20) {
        self.exchange = exchange
        reader = GRPC.MessageReader(maxMessageBytes: maxMessageBytes)
        guard exchange.isGRPC else {
            exchange.respond(problem: 415, "gRPC is spoken here: expected content-type application/grpc, \(Self.found(exchange)).")
            return nil
        }
        guard exchange.isHTTP2 else {
            exchange.respond(problem: 505, "gRPC needs HTTP/2.")
            return nil
        }
        guard exchange.method == "POST" else {
            exchange.respond(problem: 405, "A gRPC call is a POST, found \(exchange.method).", headers: [("allow", "POST")])
            return nil
        }
        exchange.onBody = { [unowned self] in received($0) }
        exchange.onEnd = { [unowned self] in ended() }
        // These keep the call as long as the exchange is open; the exchange lets go of them when it is over.
        exchange.onClosed = { [self] in closed($0) }
        exchange.onDrained = { [unowned self] in onDrained?() }
    }

    private static func found(_ exchange: HTTPExchange) -> String {
        exchange.header("content-type").map { "found \($0)" } ?? "found none"
    }

    /// Answers a call that nobody serves, without a stream: UNIMPLEMENTED, or any other status.
    public static func refuse(_ exchange: HTTPExchange, _ status: UInt32, _ message: String) {
        exchange.respond(
            status: 200,
            headers: [
                ("content-type", "application/grpc"), ("grpc-status", "\(status)"), ("grpc-message", GRPC.encodedMessage(message)),
            ])
    }

    /// The path, `/package.Service/Method`.
    public var path: String { exchange.path }

    public var isOpen: Bool { !isOver }

    /// Bytes of messages that the caller has not taken yet.
    public var queuedBytes: Int { exchange.queuedBytes }

    /// While true, the caller's messages wait, and the caller too once its window is used up.
    public var isPaused: Bool {
        get { exchange.isBodyPaused }
        set { exchange.isBodyPaused = newValue }
    }

    /// Sends the response's head now, for a caller who waits for it before he says anything. Otherwise it goes with the first message.
    public func begin() {
        guard !isOver, !exchange.hasResponded else { return }
        exchange.begin(status: 200, headers: [("content-type", "application/grpc")])
    }

    /// Sends a message. A caller that does not read is cut off beyond the server's `maxQueuedBytes`, told by `onClosed`.
    public func send(_ message: [UInt8]) {
        guard !isOver else { return }
        begin()
        exchange.send(GRPC.frame(message))
    }

    /// Ends the call.
    public func finish(_ status: UInt32 = GRPC.Status.ok, _ message: String = "") {
        guard !isOver else { return }
        over()
        guard exchange.hasResponded else { return Self.refuse(exchange, status, message) }
        exchange.end(
            trailers: [("grpc-status", "\(status)")] + (message.isEmpty ? [] : [("grpc-message", GRPC.encodedMessage(message))]))
    }

    // MARK: What the exchange tells

    private func received(_ piece: [UInt8]) {
        reader.append(piece)
        do throws(GRPC.Failure) {
            while !isOver, let message = try reader.next() { onMessage?(message) }
        } catch {
            fail(error)
        }
    }

    private func ended() {
        guard !isOver else { return }
        if !reader.isBetweenMessages { return fail(GRPC.Failure(GRPC.Status.internal, "the call ended within a message")) }
        onEnd?()
    }

    private func fail(_ failure: GRPC.Failure) {
        let onClosed = self.onClosed
        finish(failure.status, failure.message)
        onClosed?(.protocolError(failure.description))
    }

    private func closed(_ closure: HTTPClosure) {
        guard !isOver else { return }
        let onClosed = self.onClosed
        over()
        onClosed?(closure)
    }

    private func over() {
        isOver = true
        onMessage = nil
        onEnd = nil
        onClosed = nil
        onDrained = nil
    }
}
