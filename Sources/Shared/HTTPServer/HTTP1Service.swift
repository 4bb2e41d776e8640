import Base
import HTTP
import HTTP1
import HTTP2
import HTTPTransport
import Reactor

/// HTTP/1.1: one exchange after the other. What comes behind a request waits until it is answered.
final class HTTP1Service: Service {
    private var decoder: RequestDecoder
    private var head: Head?
    private let trailers = Head()
    /// Read and not decoded. Owns memory only while something is there.
    private var input = ByteBuffer()
    private var exchange: HTTPExchange?
    /// Between the head and the end of a request's body.
    private var isInBody = false
    /// Nothing more of the current request follows, as far as its head or its end says.
    private var requestIsComplete = true
    private var keepsAlive = true
    private var awaitsContinue = false
    private var minorVersion = 1
    private var heldBytes = 0
    private var framing = Framing.none
    private var isHeadRequest = false
    private var isDecoding = false
    private var closesWhenFlushed = false
    private var isOverQueue = false
    private var headDeadline = Instant.never

    /// Read ahead of what can be decoded; then reading stops.
    private static let readAheadBytes = 128 * 1024
    /// Of answers to pipelined requests that the caller does not read; then no more requests are taken.
    private static let answeredAheadBytes = 64 * 1024
    private static let lowWaterBytes = HTTP2Session.lowWaterBytes

    override init(_ connection: ServerConnection) {
        let limits = connection.server.limits
        decoder = RequestDecoder(
            limits: MessageLimits(maxHeadBytes: limits.maxHeadBytes, maxFields: limits.maxFields, maxTargetBytes: limits.maxHeadBytes / 2))
        super.init(connection)
    }

    override var isIdle: Bool { exchange == nil && input.isEmpty && !isInBody && !closesWhenFlushed && connection.unsentBytes == 0 }

    // MARK: Requests in

    override func received(_ bytes: UnsafeRawBufferPointer) {
        guard !closesWhenFlushed else { return }
        unsafe input.append(copying: bytes)
        decode()
    }

    private var mayDecode: Bool {
        guard !connection.isClosed, !closesWhenFlushed, heldBytes == 0 else { return false }
        return isInBody || (exchange == nil && connection.unsentBytes < Self.answeredAheadBytes)
    }

    private func decode() {
        guard !isDecoding else { return }
        isDecoding = true
        defer { isDecoding = false }
        while mayDecode, decodeOne() {}
        guard !connection.isClosed else { return }
        if input.isEmpty { input.release() }
        if input.count > Self.readAheadBytes { connection.pauseReading() } else { connection.resumeReading() }
        let isPartial = exchange == nil && !isInBody && !input.isEmpty && mayDecode
        if !isPartial { headDeadline = .never } else if headDeadline == .never { headDeadline = now + limits.headTimeout }
        connection.arm()
    }

    /// False if more must come first.
    private func decodeOne() -> Bool {
        let head = self.head ?? Head()
        self.head = head
        var position = 0
        do {
            let event = try decoder.next(input.bytes, at: &position, head: head, trailers: trailers)
            switch event {
            case .needMore:
                input.consume(position)
                if decoder.isIdle { self.head = nil }
                return false
            case .interim: break
            case .head:
                input.consume(position)
                self.head = nil
                began(head)
            case .body(let range):
                let piece = unsafe UnsafeRawBufferPointer(rebasing: input.unsafeBytes[range])
                if let exchange, unsafe !exchange.receivedBody(piece) { heldBytes += range.count }
                // The handler may have broken off, and then there is no input any more.
                guard !connection.isClosed else { return false }
                input.consume(position)
            case .end:
                input.consume(position)
                isInBody = false
                requestIsComplete = true
                exchange?.receivedEnd()
            }
            return true
        } catch {
            refuse(error, head)
            return false
        }
    }

    private func began(_ head: Head) {
        isInBody = true
        requestIsComplete = decoder.framing == .none || decoder.framing == .length(0)
        keepsAlive = decoder.keepsAlive && !server.isDraining
        awaitsContinue = decoder.expectsContinue && !requestIsComplete
        minorVersion = head.minorVersion
        isHeadRequest = head.method == .head
        isOverQueue = false
        server.count(\.requests)
        head.scheme = connection.tls == nil ? .http : .https
        let exchange = HTTPExchange(head, service: self)
        self.exchange = exchange
        server.handler(exchange)
        sendContinue()
    }

    /// Once somebody wants the body.
    private func sendContinue() {
        guard awaitsContinue, let exchange, exchange.wantsBody, !exchange.hasResponded else { return }
        awaitsContinue = false
        MessageEncoder.encodeContinue(into: &connection.output)
        connection.flushLater()
    }

    /// The caller broke the rules: it is told, and the connection ends.
    private func refuse(_ error: HTTP1Error, _ head: Head) {
        let text = error.message(head)
        server.report(.protocolError, connection.peer, text)
        let open = exchange
        exchange = nil
        if open?.hasResponded ?? false { return connection.end(.protocolError(text), reset: true) }
        let answer = Head()
        answer.status = error.status
        answer.append(field: "content-type", "application/problem+json")
        answer.append(field: "date", server.date)
        let body = Array(
            (#"{"status":\#(error.status),"title":"\#(reasonPhrase(error.status))","detail":\#(URLText.json(text))}"# + "\n").utf8)
        MessageEncoder.encodeResponseHead(
            answer, framing: .length(Int64(body.count)), keepAlive: false, toMinorVersion: 1, into: &connection.output)
        connection.output.append(body)
        closesWhenFlushed = true
        input.release()
        connection.flushLater()
        open?.closed(.protocolError(text))
    }

    override func consumed(_ exchange: HTTPExchange, _ count: Int) {
        guard exchange === self.exchange else { return }
        heldBytes -= count
    }

    /// As most servers have it, a caller that sends its end has gone: one that waits for a stream of events is found so.
    override func receivedEnd() {
        if exchange != nil { return connection.end(.connectionLost("the caller has closed the connection"), reset: true) }
        connection.linger()
    }

    // MARK: Responses out

    override func respond(_ exchange: HTTPExchange, _ head: Head, body: [UInt8]) {
        guard exchange === self.exchange else { return }
        let hasNoBody = head.status == 204 || head.status == 304
        var framing = Framing.length(Int64(body.count))
        if isHeadRequest || hasNoBody {
            framing = .none
            if isHeadRequest, !hasNoBody, !head.contains(.contentLength) { head.append(field: "content-length", "\(body.count)") }
        }
        // What the caller still sends would have to be read first.
        if !requestIsComplete { keepsAlive = false }
        MessageEncoder.encodeResponseHead(
            head, framing: framing, keepAlive: keepsAlive, toMinorVersion: minorVersion, into: &connection.output)
        if framing != .none { connection.output.append(body) }
        responded()
    }

    override func begin(_ exchange: HTTPExchange, _ head: Head) {
        guard exchange === self.exchange else { return }
        let hasNoBody = isHeadRequest || head.status == 204 || head.status == 304
        framing = MessageEncoder.encodeResponseHead(
            head, framing: hasNoBody ? .none : .chunked, keepAlive: keepsAlive, toMinorVersion: minorVersion, into: &connection.output)
        if framing == .untilClose { keepsAlive = false }
        connection.flushLater()
    }

    override func send(_ exchange: HTTPExchange, _ bytes: [UInt8]) {
        guard exchange === self.exchange, framing != .none, !isOverQueue else { return }
        let waited = connection.unsentBytes > 0
        if framing == .chunked { MessageEncoder.encodeChunkHeader(bytes.count, into: &connection.output) }
        connection.output.append(bytes)
        if framing == .chunked { MessageEncoder.encodeChunkEnd(into: &connection.output) }
        connection.countQueued(connection.unsentBytes)
        isOverQueue = connection.unsentBytes > limits.maxQueuedBytes || (waited && server.queuedBytes > limits.maxTotalQueuedBytes)
        connection.flushLater()
    }

    override func end(_ exchange: HTTPExchange, trailers: Head?) {
        guard exchange === self.exchange else { return }
        if framing == .chunked { MessageEncoder.encodeLastChunk(trailers, into: &connection.output) }
        if !requestIsComplete { keepsAlive = false }
        responded()
    }

    private func responded() {
        exchange = nil
        heldBytes = 0
        if !keepsAlive || server.isDraining { closesWhenFlushed = true }
        connection.becameIdle()
        connection.flushLater()
    }

    override func reset(_ exchange: HTTPExchange, _ code: HTTP2ErrorCode) {
        guard exchange === self.exchange else { return }
        self.exchange = nil
        connection.end(.serverClosed, reset: true)
    }

    override func queuedBytes(_ exchange: HTTPExchange) -> Int {
        exchange === self.exchange ? connection.unsentBytes : 0
    }

    // MARK: Turns

    override func flushDue() {
        if isOverQueue, exchange != nil { return cutOff() }
        sendContinue()
        connection.flush()
        guard !connection.isClosed else { return }
        connection.countQueued(connection.unsentBytes)
        if closesWhenFlushed { return connection.linger() }
        decode()
    }

    private func cutOff() {
        let waiting = connection.unsentBytes
        server.report(.cutOff, connection.peer, "does not read; \(waiting) bytes were waiting")
        connection.end(.cutOff(waitingBytes: waiting), reset: true)
    }

    override func drained() {
        connection.countQueued(connection.unsentBytes)
        if connection.unsentBytes < Self.lowWaterBytes { exchange?.drained() }
        if isIdle {
            connection.becameIdle()
            connection.arm()
        }
        // Requests that waited for their predecessors' answers to be read.
        if !input.isEmpty { connection.flushLater() }
    }

    override var deadline: Instant {
        if headDeadline != .never { return headDeadline }
        if let exchange { return exchange.bodyDeadline }
        // While an answer is on its way, the connection sees to that.
        return isIdle ? connection.idleSince + limits.idleTimeout : .never
    }

    override func deadlineReached(now: Instant) {
        if now >= headDeadline {
            server.report(.timedOut, connection.peer, "a request's head did not come in time")
            closesWhenFlushed = true
            return connection.linger()
        }
        if let exchange {
            if now >= exchange.bodyDeadline { exchange.bodyIsLate() }
        } else if isIdle, now >= connection.idleSince + limits.idleTimeout {
            connection.close()
        }
    }

    override func drain() {
        keepsAlive = false
        if isIdle { connection.linger() }
    }

    override func abandon(_ closure: HTTPClosure) {
        let open = exchange
        exchange = nil
        input.release()
        open?.closed(closure)
    }
}
