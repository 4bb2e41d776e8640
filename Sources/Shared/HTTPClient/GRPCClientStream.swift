public import HTTP
import HTTP2

/// A gRPC call on the caller's side: messages out and in, and one status at the end. Any of the four kinds of calls.
public final class GRPCClientStream {
    /// The server has sent its head: the call has reached somebody who serves it.
    public var onHead: (() -> Void)?
    /// The server's messages, in order.
    public var onMessage: (([UInt8]) -> Void)?
    /// The call is over; once, and the last that is called. OK too is a status here. A call that never reached the server, or whose
    /// connection broke, ends with UNAVAILABLE and the connection's words.
    public var onFinished: ((GRPC.Failure) -> Void)?
    /// What was sent has left, or less than 16 KiB of it waits.
    public var onDrained: (() -> Void)?

    private let stream: HTTPClientStream
    private var reader: GRPC.MessageReader
    private var head: HTTPResponseHead?
    private var isOver = false

    /// Begins a call. Set the callbacks at once.
    ///
    /// - Parameters:
    ///   - path: `/package.Service/Method`.
    ///   - headers: metadata; names in lower case.
    ///   - maxMessageBytes: of a message of the server; a larger one ends the call with RESOURCE_EXHAUSTED.
    public init(
        _ connection: HTTPClientConnection, path: String, authority: String, headers: [(String, String)] = [],
        maxMessageBytes: Int = 64 << 20
    ) {
        reader = GRPC.MessageReader(maxMessageBytes: maxMessageBytes)
        stream = connection.request(
            method: "POST", path: path, authority: authority,
            headers: [("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "grpc-outrigger")] + headers,
            endStream: false)
        // The stream keeps the call by this one until it is over.
        stream.onFailed = { [self] in failed($0) }
        stream.onHead = { [unowned self] in received($0) }
        stream.onBody = { [unowned self] in received($0) }
        stream.onEnd = { [unowned self] in ended($0) }
        stream.onDrained = { [unowned self] in onDrained?() }
    }

    public var isOpen: Bool { !isOver }

    /// Bytes of messages that the server has not taken yet.
    public var queuedBytes: Int { stream.queuedBytes }

    /// While true, the server's messages wait, and the server too once its window is used up.
    public var isPaused: Bool {
        get { stream.isBodyPaused }
        set { stream.isBodyPaused = newValue }
    }

    public func send(_ message: [UInt8]) {
        guard !isOver else { return }
        stream.send(GRPC.frame(message))
    }

    /// No more messages follow.
    public func end() {
        stream.end()
    }

    /// Breaks the call off. Nothing is called any more.
    public func cancel() {
        guard !isOver else { return }
        over()
        stream.reset(.cancel)
    }

    // MARK: What the stream tells

    private func received(_ head: HTTPResponseHead) {
        guard !isOver else { return }
        self.head = head
        // Trailers only: the status stands in the head, and nothing follows.
        guard head.status == 200, head.header("grpc-status") == nil else { return }
        guard Self.isGRPC(head) else {
            let type = head.header("content-type") ?? "none"
            stream.reset(.cancel)
            return finish(GRPC.Status.unknown, "no gRPC response: expected content-type application/grpc, found \(type)")
        }
        onHead?()
    }

    private static func isGRPC(_ head: HTTPResponseHead) -> Bool {
        head.header("content-type").map { $0.lowercased().hasPrefix("application/grpc") } ?? false
    }

    private func received(_ piece: [UInt8]) {
        guard !isOver, let head, head.status == 200 else { return }
        reader.append(piece)
        do throws(GRPC.Failure) {
            while !isOver, let message = try reader.next() { onMessage?(message) }
        } catch {
            stream.reset(.cancel)
            finish(error.status, error.message)
        }
    }

    private func ended(_ trailers: HTTPTrailers) {
        guard !isOver, let head else { return }
        let fields = trailers.value("grpc-status") == nil ? head.fields : trailers.fields
        guard let text = fields.first(where: { $0.name == "grpc-status" })?.value else {
            if head.status != 200 { return finish(GRPC.status(ofHTTP: head.status), "the server answered with HTTP status \(head.status)") }
            return finish(GRPC.Status.unknown, "the response has no grpc-status")
        }
        let message = fields.first { $0.name == "grpc-message" }?.value ?? ""
        let status = UInt32(text) ?? GRPC.Status.unknown
        if status == GRPC.Status.ok, !reader.isBetweenMessages {
            return finish(GRPC.Status.internal, "the response ended within a message")
        }
        finish(status, GRPC.decodedMessage(message))
    }

    private func failed(_ failure: HTTPClientFailure) {
        switch failure.kind {
        case .reset(let code): finish(GRPC.status(ofReset: code.rawValue), failure.text)
        case .cutOff: finish(GRPC.Status.resourceExhausted, failure.text)
        case .protocolError: finish(GRPC.Status.internal, failure.text)
        case .closed: finish(GRPC.Status.cancelled, failure.text)
        case .connect, .tls, .timeout, .notHTTP2, .unprocessed, .connectionLost: finish(GRPC.Status.unavailable, failure.text)
        }
    }

    private func finish(_ status: UInt32, _ message: String) {
        guard !isOver else { return }
        let onFinished = self.onFinished
        over()
        onFinished?(GRPC.Failure(status, message))
    }

    private func over() {
        isOver = true
        onHead = nil
        onMessage = nil
        onFinished = nil
        onDrained = nil
    }
}
