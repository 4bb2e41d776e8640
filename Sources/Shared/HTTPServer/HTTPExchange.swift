public import Base
import HTTP
public import HTTP2
import HTTPTransport
import Reactor
public import Transport

/// One request and its response.
///
/// The handler gets it when the request's head is complete, and sets `onBody` and the others then, or later: what has come until then is
/// kept, within the caller's window. It ends exactly once: by the handler (`respond`, `end`, `reset`), or by `onClosed`. After that every
/// call does nothing, and nothing is called any more.
public final class HTTPExchange {
    /// The request's method, `GET`.
    public let method: String
    /// Path and query as they came.
    public let target: String
    /// The path as it came, without its query.
    public let path: String
    /// Host and port that the caller named; empty where it named none.
    public let authority: String
    public let isHTTP2: Bool
    public let isTLS: Bool
    public let peer: SocketAddress
    /// Whom the caller's certificate names, verified; nil without one.
    public let identity: TLSPeer?
    /// When the head was complete.
    public let began: Instant
    let head: Head

    /// A piece of the body. The caller may send as much again once this has returned.
    public var onBody: (([UInt8]) -> Void)? { didSet { deliverLater() } }
    /// The request is complete.
    public var onEnd: (() -> Void)? { didSet { deliverLater() } }
    /// The exchange is over before the handler has ended it. At most once, and the last that is called.
    public var onClosed: ((HTTPClosure) -> Void)?
    /// What was sent has left, or less than 16 KiB of it waits.
    public var onDrained: (() -> Void)?
    /// While true, `onBody` and `onEnd` wait, and the caller once its window is used up.
    public var isBodyPaused = false { didSet { if !isBodyPaused { deliverLater() } } }
    /// For whoever handles the exchange, until it is over and `onClosed` has returned.
    public var context: AnyObject?

    private enum Response {
        case none
        case begun
        case ended
    }

    private var response = Response.none
    /// Nil once it is over.
    private(set) var service: Service?
    private(set) var requestIsComplete = false
    private var endIsTold = false
    /// Came while nobody took it. Its window stays closed for as much.
    private var held: [UInt8] = []
    private var willDeliver = false
    /// HTTP/2: its stream.
    var wire: HTTP2Stream?
    /// Its place in the service's list.
    var index = -1
    /// What `collectBody` waits for is late at this time.
    var bodyDeadline = Instant.never
    /// For who reads nothing: what had been sent when it was last looked at, and when that was.
    var sentBytes = 0
    var stalledSince = Instant.never
    /// More waits than may; it is cut off at the turn's end.
    var isOverQueue = false

    init(_ head: Head, service: Service) {
        self.head = head
        self.service = service
        let connection = service.connection
        method = head.string(head.methodRange)
        target = head.string(head.target)
        path = head.string(head.path)
        authority = head.string(head.authority)
        isHTTP2 = head.isHTTP2
        isTLS = connection.tls != nil
        peer = connection.peer
        identity = connection.identity
        began = connection.loop.now
    }

    // MARK: Request

    /// Whether the caller is on this machine.
    public var isLoopback: Bool { peer.ip.isLoopback }

    /// The value of the first field of this name, in any case.
    public func header(_ name: String) -> String? { head.value(name) }

    /// The values of all fields of this name, in any case.
    public func headers(_ name: String) -> [String] { head.values(name) }

    /// All fields as they came.
    public var fields: [(name: String, value: String)] { head.fields.map { (head.string($0.name), head.string($0.value)) } }

    /// Whether the request is a gRPC call.
    public var isGRPC: Bool { GRPC.isGRPC(head) }

    /// The path's segments, decoded: `/v1/a%2Fb/` gives `v1`, `a/b` and an empty one. Nil where an escape is malformed or what is escaped
    /// is no UTF-8.
    public var pathSegments: [String]? { URLText.segments(path) }

    /// The query's items, decoded: `a=1&b` gives `a`, `1` and `b`, an empty text. Nil where an escape is malformed or what is escaped is
    /// no UTF-8.
    public var query: [(name: String, value: String)]? { URLText.query(head.string(head.query)) }

    /// Gathers the body and gives it whole. Instead of `onBody` and `onEnd`.
    ///
    /// - Parameter limit: in bytes; a longer body is answered 413, and one that stops coming for `bodyTimeout` 408, with a problem document.
    ///   `onClosed` is called then, and `then` is not.
    public func collectBody(limit: Int, then: @escaping ([UInt8]) -> Void) {
        guard let service else { return }
        if let length = head.value("content-length").flatMap({ Int($0) }), length > limit { return refuseBody(limit) }
        var body: [UInt8] = []
        let time = service.connection.server.limits.bodyTimeout
        bodyDeadline = service.connection.loop.now + time
        service.bodyIsAwaited(until: bodyDeadline)
        onBody = { [unowned self] piece in
            guard body.count + piece.count <= limit else { return refuseBody(limit) }
            body += piece
            if let service = self.service { bodyDeadline = service.connection.loop.now + time }
        }
        onEnd = { [unowned self] in
            bodyDeadline = .never
            then(body)
        }
    }

    private func refuseBody(_ limit: Int) {
        let onClosed = self.onClosed
        respond(problem: 413, "The body has more than \(limit) bytes; no more are taken here.")
        onClosed?(.bodyTooLarge(limit: limit))
    }

    /// The body that `collectBody` waits for has stopped coming.
    func bodyIsLate() {
        let onClosed = self.onClosed
        if response == .none { respond(problem: 408, "The request's body stopped coming.") } else { reset(.cancel) }
        onClosed?(.timedOut)
    }

    // MARK: Response

    /// Whether the exchange goes on.
    public var isOpen: Bool { service != nil }

    /// Whether a response was begun.
    public var hasResponded: Bool { response != .none }

    /// Bytes of the response that the caller has not taken yet.
    public var queuedBytes: Int { service?.queuedBytes(self) ?? 0 }

    /// The whole response. Content-Length and Date are added. A body for HEAD, 204 or 304 is left out.
    ///
    /// - Parameter headers: names are tokens; bytes of values that no field may have become spaces.
    public func respond(status: Int, headers: [(String, String)] = [], body: [UInt8] = []) {
        guard let service, response == .none else { return }
        response = .ended
        service.respond(self, makeHead(status, headers), body: body)
        over()
    }

    /// A problem document (RFC 9457).
    public func respond(problem status: Int, _ detail: String, headers: [(String, String)] = []) {
        let text = #"{"status":\#(status),"title":"\#(reasonPhrase(status))","detail":\#(URLText.json(detail))}"# + "\n"
        respond(status: status, headers: [("content-type", "application/problem+json")] + headers, body: Array(text.utf8))
    }

    /// Begins a response whose body follows by `send` and ends with `end`. In HTTP/1.1 it goes in chunks.
    public func begin(status: Int, headers: [(String, String)] = []) {
        guard let service, response == .none else { return }
        response = .begun
        service.begin(self, makeHead(status, headers))
    }

    /// A piece of the body. If more than `maxQueuedBytes` wait then, the caller is cut off: `onClosed` is called, later in this turn.
    public func send(_ bytes: [UInt8]) {
        guard let service, response == .begun, !bytes.isEmpty else { return }
        service.send(self, bytes)
    }

    /// Ends the response.
    ///
    /// - Parameter trailers: for HTTP/1.1 too, where the body is chunked. Before `begin` they cannot be sent.
    public func end(trailers: [(String, String)] = []) {
        guard let service, response == .begun else { return }
        response = .ended
        service.end(self, trailers: trailers.isEmpty ? nil : Self.head(trailers))
        over()
    }

    /// Breaks off: the caller sees that this is no whole response. HTTP/1.1: the connection is reset.
    public func reset(_ code: HTTP2ErrorCode = .internalError) {
        guard let service else { return }
        service.reset(self, code)
        over()
    }

    private func makeHead(_ status: Int, _ headers: [(String, String)]) -> Head {
        let answer = Self.head(headers)
        answer.status = status
        if !answer.contains(.date), let service { answer.append(field: "date", service.connection.server.date) }
        return answer
    }

    private static func head(_ fields: [(String, String)]) -> Head {
        let head = Head()
        for (name, value) in fields { head.append(field: name, value) }
        return head
    }

    // MARK: What the service tells

    /// - Returns: whether the bytes were taken; they are kept if not.
    func receivedBody(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard service != nil else { return true }
        guard held.isEmpty, !isBodyPaused, onBody != nil || onEnd != nil else {
            unsafe held.append(contentsOf: bytes)
            return false
        }
        onBody?(unsafe Array(bytes))
        return true
    }

    func receivedEnd() {
        guard !requestIsComplete else { return }
        requestIsComplete = true
        tellEnd()
    }

    private func tellEnd() {
        guard requestIsComplete, !endIsTold, held.isEmpty, !isBodyPaused, let onEnd, service != nil else { return }
        endIsTold = true
        onEnd()
    }

    private func deliverLater() {
        guard let service, !willDeliver, onBody != nil || onEnd != nil else { return }
        willDeliver = true
        service.deliverLater(self)
    }

    /// Gives out what was held, now that somebody takes it.
    func deliver() {
        willDeliver = false
        guard let service, !isBodyPaused else { return }
        if !held.isEmpty {
            let piece = held
            held = []
            onBody?(piece)
            service.consumed(self, piece.count)
        }
        tellEnd()
    }

    var heldBytes: Int { held.count }

    /// Somebody asked for the body: a caller that waits for `100 Continue` gets it.
    var wantsBody: Bool { onBody != nil || onEnd != nil }

    func drained() {
        onDrained?()
    }

    /// The exchange is over, and not by the handler.
    func closed(_ closure: HTTPClosure) {
        guard service != nil else { return }
        let onClosed = self.onClosed
        let context = self.context
        over()
        self.context = context
        onClosed?(closure)
        self.context = nil
    }

    private func over() {
        service = nil
        onBody = nil
        onEnd = nil
        onClosed = nil
        onDrained = nil
        held = []
        context = nil
        bodyDeadline = .never
    }
}

/// The title of a problem.
func reasonPhrase(_ status: Int) -> String {
    switch status {
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 408: "Request Timeout"
    case 409: "Conflict"
    case 412: "Precondition Failed"
    case 413: "Content Too Large"
    case 414: "URI Too Long"
    case 415: "Unsupported Media Type"
    case 422: "Unprocessable Content"
    case 429: "Too Many Requests"
    case 431: "Request Header Fields Too Large"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 503: "Service Unavailable"
    case 505: "HTTP Version Not Supported"
    default: "Status \(status)"
    }
}
