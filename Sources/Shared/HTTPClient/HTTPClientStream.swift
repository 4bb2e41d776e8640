import HTTP
public import HTTP2

/// One request and its response. Ends exactly once: by `onEnd`, by `onFailed`, or by the owner's `reset`.
public final class HTTPClientStream {
    /// The final response's head.
    public var onHead: ((HTTPResponseHead) -> Void)?
    /// A piece of the body. The server may send as much again once this has returned.
    public var onBody: (([UInt8]) -> Void)?
    /// The response is complete. What of the request was not ended yet is not sent any more.
    public var onEnd: ((_ trailers: HTTPTrailers) -> Void)?
    /// There is no response, or not a whole one.
    public var onFailed: ((HTTPClientFailure) -> Void)?
    /// What was sent has left, or less than 16 KiB of it waits.
    public var onDrained: (() -> Void)?
    /// While true, `onBody` and `onEnd` wait, and the server once its window is used up.
    public var isBodyPaused = false { didSet { if !isBodyPaused { deliver() } } }

    private var link: ClientLink?
    private(set) var wire: HTTP2Stream?
    private(set) var hasEnded = false
    private var held: [UInt8] = []
    private var trailers = HTTPTrailers()
    private var isOver = false
    var endIsHeld = false
    var index = -1
    var isOverQueue = false

    init() {}

    func begin(_ link: ClientLink, _ wire: HTTP2Stream, endStream: Bool) {
        self.link = link
        self.wire = wire
        hasEnded = endStream
    }

    /// Whether it goes on.
    public var isOpen: Bool { wire != nil }

    /// Bytes of the request that the server has not taken yet.
    public var queuedBytes: Int { wire?.queuedBytes ?? 0 }

    /// A piece of the request's body. If more than `maxQueuedBytes` wait then, the stream fails, later in this turn.
    public func send(_ bytes: [UInt8]) {
        guard let link, let wire, !hasEnded, !bytes.isEmpty else { return }
        link.send(self, wire, bytes)
    }

    /// The request is complete.
    public func end() {
        guard let link, let wire, !hasEnded else { return }
        hasEnded = true
        link.end(wire)
    }

    /// Breaks off. Nothing is called any more.
    public func reset(_ code: HTTP2ErrorCode = .cancel) {
        guard !isOver else { return }
        if let link, let wire { link.reset(self, wire, code) }
        over()
    }

    // MARK: What the connection tells

    func receivedHead(_ head: Head) {
        onHead?(HTTPResponseHead(head))
    }

    /// - Returns: whether the bytes were taken; they are kept if not.
    func receivedBody(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard held.isEmpty, !isBodyPaused else {
            unsafe held.append(contentsOf: bytes)
            return false
        }
        onBody?(unsafe Array(bytes))
        return true
    }

    func receivedTrailers(_ head: Head) {
        trailers = HTTPTrailers(head)
    }

    var heldBytes: Int { held.count }

    private func deliver() {
        guard let link, let wire else { return }
        if !held.isEmpty {
            let piece = held
            held = []
            onBody?(piece)
            link.consumed(wire, piece.count)
        }
        if !isBodyPaused, !isOver { link.deliveredAll(self) }
    }

    func drained() {
        onDrained?()
    }

    func detached() {
        link = nil
        wire = nil
    }

    func tellEnd() {
        guard !isOver else { return }
        let onEnd = self.onEnd
        let trailers = self.trailers
        over()
        onEnd?(trailers)
    }

    func failed(_ failure: HTTPClientFailure) {
        guard !isOver else { return }
        let onFailed = self.onFailed
        over()
        onFailed?(failure)
    }

    private func over() {
        isOver = true
        link = nil
        wire = nil
        onHead = nil
        onBody = nil
        onEnd = nil
        onFailed = nil
        onDrained = nil
        held = []
    }
}

/// The head of a response.
public struct HTTPResponseHead: Sendable {
    public let status: Int
    /// Names in lower case.
    public let fields: [(name: String, value: String)]

    init(_ head: Head) {
        status = head.status
        fields = HTTPTrailers(head).fields
    }

    /// The value of the first field of this name, which is in lower case.
    public func header(_ name: String) -> String? { fields.first { $0.name == name }?.value }
}

/// What follows a body.
public struct HTTPTrailers: Sendable {
    /// Names in lower case.
    public let fields: [(name: String, value: String)]

    init() {
        fields = []
    }

    init(_ head: Head) {
        fields = head.fields.map { (head.string($0.name).lowercased(), head.string($0.value)) }
    }

    /// The value of the first field of this name, which is in lower case.
    public func value(_ name: String) -> String? { fields.first { $0.name == name }?.value }
}
