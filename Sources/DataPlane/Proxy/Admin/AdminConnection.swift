import Base
import HTTP
import HTTP1
import Reactor

/// One caller of the admin interface. Answers its requests one by one, in order; while an answer waits to be written, nothing is read.
final class AdminConnection: EventSource {
    private unowned let server: AdminServer
    private var decoder = RequestDecoder(limits: MessageLimits(maxHeadBytes: AdminConnection.maxRequestBytes))
    private let head = Head()
    private let trailers = Head()
    private var input = ByteBuffer()
    private var output = ByteBuffer()
    private var bodyBytes = 0
    private var phase = Phase.idle
    private var readReady = false
    private var keepsAlive = true
    private var action: AdminAction?
    /// Since when nothing of a request is there.
    private(set) var idleSince: Instant

    private enum Phase {
        case idle
        /// A request is being read.
        case reading
        /// An answer is being written.
        case writing
        /// The last answer is written and our side is closed: what still comes is dropped until the caller closes too, or a reset
        /// would take the answer from it.
        case lingering
    }

    /// Of a head, and of a body: no page needs more, and what is more is answered 431 or 413.
    static let maxRequestBytes = 64 * 1024
    /// For a request to come, or to be complete, and for an answer to make way.
    static let timeout = Nanoseconds.seconds(60)
    private static let lingerTime = Nanoseconds.seconds(2)
    private static let readBytes = 16 * 1024
    /// Then others on the loop have their turn.
    private static let stepsPerTurn = 16

    init(adopting descriptor: CInt, server: AdminServer) {
        self.server = server
        idleSince = server.loop.now
        super.init(adopting: descriptor)
    }

    var isIdle: Bool { phase == .idle }

    func start() {
        server.loop.setDeadline(self, server.loop.now + Self.timeout)
    }

    func close() {
        guard !isClosed else { return }
        server.loop.close(self)
        server.closed(self)
    }

    override func ready(_ readiness: Readiness) {
        if !readiness.isDisjoint(with: [.readable, .readClosed, .hangup, .error]) { readReady = true }
        for _ in 0..<Self.stepsPerTurn {
            guard !isClosed, step() else { return }
        }
        server.loop.callAgain(self)
    }

    override func deadlineReached(now: Instant) {
        close()
    }

    /// Goes on by one step; false where the next one needs an event.
    private func step() -> Bool {
        switch phase {
        case .writing: return write()
        case .lingering:
            input.removeAll()
            return read()
        case .idle, .reading: return decode() || read()
        }
    }

    // MARK: Requests in

    private func read() -> Bool {
        guard readReady else { return false }
        let room = unsafe input.unsafeRoom(atLeast: Self.readBytes)
        switch unsafe Socket.read(descriptor, into: room) {
        case .bytes(let count):
            input.didAppend(count)
            return true
        case .wouldBlock:
            readReady = false
            return false
        case .end, .failed:
            close()
            return false
        }
    }

    /// Decodes what is there; false if that is not enough for an answer.
    private func decode() -> Bool {
        while true {
            var position = 0
            do {
                let event = try decoder.next(input.bytes, at: &position, head: head, trailers: trailers)
                switch event {
                case .needMore:
                    input.consume(position)
                    if phase == .idle, !input.isEmpty { phase = .reading }
                    if input.isEmpty { input.release() }
                    return false
                case .interim: break
                case .head:
                    phase = .reading
                    bodyBytes = 0
                    keepsAlive = decoder.keepsAlive
                    if decoder.expectsContinue { MessageEncoder.encodeContinue(into: &output) }
                case .body(let range):
                    bodyBytes += range.count
                    guard bodyBytes <= Self.maxRequestBytes else {
                        refuse(AdminResponse(status: 413, "The body has more than \(Self.maxRequestBytes) bytes; no page takes one.\n"))
                        return true
                    }
                case .end:
                    input.consume(position)
                    send(server.respond(to: AdminRequest(head)), isHead: head.method == .head)
                    return true
                }
                input.consume(position)
            } catch {
                refuse(AdminResponse(status: error.status, error.message(head) + "\n"))
                return true
            }
        }
    }

    // MARK: Answers out

    private func refuse(_ response: consuming AdminResponse) {
        keepsAlive = false
        input.removeAll()
        send(response, isHead: false)
    }

    private func send(_ response: consuming AdminResponse, isHead: Bool) {
        let answer = Head()
        answer.status = response.status
        answer.append(name: "content-type", value: response.contentType.utf8)
        answer.append(name: "cache-control", value: "no-cache, max-age=0".utf8)
        answer.append(name: "x-content-type-options", value: "nosniff".utf8)
        answer.append(name: "date", value: response.date.utf8)
        if let allow = response.allow { answer.append(name: "allow", value: allow.utf8) }
        MessageEncoder.encodeResponseHead(
            answer, framing: .length(Int64(response.body.count)), keepAlive: keepsAlive, toMinorVersion: head.minorVersion, into: &output)
        if !isHead { output.append(response.body.bytes) }
        action = response.action
        phase = .writing
        server.loop.setDeadline(self, server.loop.now + Self.timeout)
    }

    private func write() -> Bool {
        switch unsafe Socket.write(descriptor, output.unsafeBytes) {
        case .bytes(let count):
            output.consume(count)
            server.loop.setDeadline(self, server.loop.now + Self.timeout)
        case .wouldBlock: return false
        case .end, .failed:
            carryOutAction()
            close()
            return false
        }
        guard output.isEmpty else { return true }
        output.release()
        carryOutAction()
        guard keepsAlive else {
            Socket.shutdownWrite(descriptor)
            phase = .lingering
            server.loop.setDeadline(self, server.loop.now + Self.lingerTime)
            return true
        }
        phase = .idle
        idleSince = server.loop.now
        return true
    }

    /// What the request ordered: done even where the caller did not wait for the answer.
    private func carryOutAction() {
        guard let action else { return }
        self.action = nil
        server.carryOut(action)
    }
}
